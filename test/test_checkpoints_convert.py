"""Every released configuration converts tensor for tensor, and whatever does not fit is named and leaves nothing."""

from __future__ import annotations

import json
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from ivlm_core import CheckpointError
from ivlm_core.checkpoints import build_model, convert_released, load_weights
from ivlm_core.checkpoints.released import native_name
from ivlm_core.config import LanguageConfig, LocalizeConfig, Profile, SamConfig, TokenConfig, VisionConfig, load_profile

TOKEN_TYPES = ["Gen", "Gen-DifDe", "Gen-Hu-Obj", "Gen-Hu-Obj-DifDe", "Gen-Int", "Gen-Int-DifDe"]
ENCODERS = ["simple", "view_index", "vi_v1", None]


def toy_profile(token_type: str, encoder: str | None, wide: bool = False) -> Profile:
    tokens = {
        "Gen": TokenConfig("[SEG]", "[SEG]", "[SEG]", 70, 70, 70),
        "Gen-Hu-Obj": TokenConfig("[HSEG]", "[OSEG]", "[SEG]", 71, 72, 70),
        "Gen-Int": TokenConfig("[ISEG]", "[ISEG]", "[SEG]", 71, 71, 70),
    }[token_type.removesuffix("-DifDe")]
    return Profile(
        name="toy",
        language=LanguageConfig(512, 4, 4, 6000, 640, vocabulary=80) if wide else LanguageConfig(32, 2, 4, 48, 640, 80),
        vision=VisionConfig(32, 8, 24, 2, 3, 40, image_fit="crop", projector="linear"),
        sam=SamConfig(64, 16, 24, 2, 3, (1,), window_size=3, prompt_dim=32, decoder_mlp=40, iou_hidden=16),
        tokens=tokens,
        localize=LocalizeConfig(
            featlift=encoder or "none",
            decoders=("general", "human", "object") if token_type.endswith("-DifDe") else ("general",),
            splitter=not token_type.startswith("Gen") or token_type.removesuffix("-DifDe") != "Gen",
        ),
        seed=5,
    )


def released_state(profile: Profile) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The state a released checkpoint of this profile holds, and that of its CLIP tower."""
    native = build_model(profile, None, empty=False).state_dict()
    backwards = {
        "reason.llava.lm_head.": "lm_head.",
        "reason.llava.model.language_model.": "model.",
        "reason.llava.model.multi_modal_projector.": "model.mm_projector.",
        "reason.projection.": "model.text_hidden_fcs.0.",
        "localize.image_encoder.": "model.visual_model.image_encoder.",
        "localize.prompt_encoder.": "model.visual_model.prompt_encoder.",
        "localize.decoders.general.": "model.visual_model.mask_decoder.",
        "localize.decoders.human.": "model.visual_model.human_mask_decoder.",
        "localize.decoders.object.": "model.visual_model.object_mask_decoder.",
        "localize.featlift.linear.": "cam_pose_encoder.linear1.",
        "localize.featlift.": "cam_pose_encoder.",
        "localize.splitter.": "attention_splitter.",
    }
    state, tower = {}, {}
    for name, tensor in native.items():
        if ".vision_tower." in name:
            inner = name.partition(".vision_tower.")[2].removeprefix("vision_model.")
            tower[f"vision_model.{inner}"] = tensor
            continue
        prefix = max((prefix for prefix in backwards if name.startswith(prefix)), key=len)
        state[backwards[prefix] + name.removeprefix(prefix)] = tensor
    for layer in range(profile.language.layers):
        state[f"model.layers.{layer}.self_attn.rotary_emb.inv_freq"] = torch.ones(4)
    return state, tower


def write_released(
    directory: Path,
    token_type: str = "Gen-Hu-Obj-DifDe",
    encoder: str | None = "vi_v1",
    container: str = "bin",
    wide: bool = False,
) -> dict[str, Tensor]:
    """A released checkpoint directory with its tower inside, as two shards (four when wide); returns its state."""
    profile = toy_profile(token_type, encoder, wide)
    state, tower = released_state(profile)
    clip = directory / "clip"
    clip.mkdir(parents=True)
    vision, language = profile.vision, profile.language
    (clip / "config.json").write_text(
        json.dumps(
            {
                "hidden_act": "quick_gelu",
                "image_size": vision.image_size,
                "patch_size": vision.patch_size,
                "hidden_size": vision.hidden_size,
                "num_hidden_layers": vision.layers,
                "num_attention_heads": vision.heads,
                "intermediate_size": vision.intermediate_size,
            }
        )
    )
    save_file(tower, clip / "model.safetensors")
    config = {
        "model_type": "llava",
        "hidden_size": language.hidden_size,
        "num_hidden_layers": language.layers,
        "num_attention_heads": language.heads,
        "intermediate_size": language.intermediate_size,
        "max_position_embeddings": language.max_positions,
        "mm_vision_tower": "clip",
        "img_emb_len": 15,
        "token_type": token_type,
        "seg_token_idx": 70,
        "hseg_token_idx": profile.tokens.human_id if "-" in token_type.removesuffix("-DifDe") else None,
        "oseg_token_idx": profile.tokens.object_id if "-" in token_type.removesuffix("-DifDe") else None,
        "multiview_channels": 4,
        "multiview_cam_cond": encoder is not None,
        "cam_encoder_type": encoder or "simple",
        "hC_loss_weight": 3,
        "oC_loss_weight": 3.0,
        "hC_sam_view_type": "4MV-Z_Vitru_FootGround",
        "oC_sam_view_type": "4MV-Z_HM_BM",
    }
    (directory / "config.json").write_text(json.dumps(config))
    write_shards(directory, state, container, 4 if wide else 2)
    return state


def write_shards(directory: Path, state: dict[str, Tensor], container: str = "bin", count: int = 2) -> None:
    for old in [*directory.glob("pytorch_model*"), *directory.glob("model*")]:
        old.unlink()
    stem, suffix = ("pytorch_model", "bin") if container != "safetensors" else ("model", "safetensors")
    names = sorted(state)
    # Cut after equal shares of the bytes, or of the names where there are two.
    sizes = np.cumsum([state[name].nbytes if count > 2 else 1 for name in names])
    cuts = [0, *np.searchsorted(sizes, sizes[-1] * np.arange(1, count) / count), len(names)]
    places = {}
    for number in range(1, count + 1):
        half = names[cuts[number - 1] : cuts[number]]
        file = f"{stem}-0000{number}-of-0000{count}.{suffix}"
        part = {name: state[name].clone() for name in half}
        if container == "safetensors":
            save_file(part, directory / file)
        else:
            torch.save(part, directory / file, _use_new_zipfile_serialization=container != "legacy")
        places |= dict.fromkeys(half, file)
    (directory / f"{stem}.{suffix}.index.json").write_text(json.dumps({"weight_map": places}))


@pytest.mark.parametrize("token_type", TOKEN_TYPES)
@pytest.mark.parametrize("encoder", ENCODERS)
def test_every_configuration_round_trips(tmp_path, token_type, encoder):
    write_released(tmp_path / "released", token_type, encoder)
    summary = convert_released(tmp_path / "released", tmp_path / "native")
    expected = toy_profile(token_type, encoder)
    found = load_profile(tmp_path / "native")
    assert (found.language, found.vision, found.sam) == (expected.language, expected.vision, expected.sam)
    assert (found.tokens, found.localize) == (expected.tokens, expected.localize)
    assert found.views.object_distance == 1.5
    assert set(found.modes) == {"joint", "human", "binary", "scene", "affordance", "object_contact"}
    model = build_model(found, None)
    load_weights(tmp_path / "native", model)
    original = build_model(expected, None, empty=False).state_dict()
    assert summary["tensors"] == len(original)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, original[name]), name


@pytest.mark.parametrize("container", ["bin", "legacy", "safetensors"])
def test_every_container_gives_the_same_model(tmp_path, container):
    write_released(tmp_path / "released", container=container)
    convert_released(tmp_path / "released", tmp_path / "native")
    model = build_model(load_profile(tmp_path / "native"), None)
    load_weights(tmp_path / "native", model)
    expected = build_model(toy_profile("Gen-Hu-Obj-DifDe", "vi_v1"), None, empty=False).state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in model.state_dict().items())


def test_dtype_is_kept_and_manifest_describes_every_tensor(tmp_path):
    state = write_released(tmp_path / "released")
    write_shards(tmp_path / "released", {name: tensor.bfloat16() for name, tensor in state.items()})
    convert_released(tmp_path / "released", tmp_path / "native")
    manifest = json.loads((tmp_path / "native" / "manifest.json").read_text())
    kept = manifest["tensors"]["reason.llava.lm_head.weight"]
    assert (kept["dtype"], kept["shape"]) == ("bfloat16", [80, 32])
    stored = [load_file(path) for path in sorted((tmp_path / "native").glob("model-*.safetensors"))]
    assert {name for shard in stored for name in shard} == set(manifest["tensors"])
    assert set(manifest["files"]) == {path.name for path in (tmp_path / "native").iterdir()} - {"manifest.json"}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda state: state.pop("model.norm.weight"), r"missing reason\.llava\.model\.language_model\.norm\.weight"),
        (lambda state: state.update({"model.layers.0.extra": torch.zeros(1)}), r"unexpected model\.layers\.0\.extra"),
        (lambda state: state.update({"surprise.weight": torch.zeros(1)}), r"surprise\.weight"),
        (
            lambda state: state.update({"lm_head.weight": torch.zeros(80, 31)}),
            r"lm_head\.weight has shape \(80, 31\), not \(80, 32\)",
        ),
        (lambda state: state.pop("cam_pose_encoder.view_transforms.3.weight"), r"view_transforms\.3\.weight"),
        (lambda state: state.pop("model.embed_tokens.weight"), r"model\.embed_tokens\.weight"),
    ],
)
def test_tensor_that_does_not_fit_is_named(tmp_path, change, named):
    state = write_released(tmp_path / "released")
    change(state)
    write_shards(tmp_path / "released", state)
    with pytest.raises(CheckpointError, match=named):
        convert_released(tmp_path / "released", tmp_path / "native")
    assert [path.name for path in tmp_path.iterdir()] == ["released"]


@pytest.mark.parametrize(
    ("field", "value", "named"),
    [
        ("token_type", "Magic", "token_type: is 'Magic'"),
        ("cam_encoder_type", "lens", "cam_encoder_type: is 'lens'"),
        ("hidden_size", "wide", "hidden_size: is 'wide'"),
        ("hidden_size", None, "hidden_size: is None"),
        ("seg_token_idx", None, "seg_token_idx"),
        ("img_emb_len", 255, "img_emb_len: is 255"),
        ("use_fusion", True, "use_fusion: is on"),
        ("multiview_cam_cond", False, "multiview_cam_cond: is off"),
        ("num_hidden_layers", 3, "missing reason.llava.model.language_model.layers.2"),
        ("mm_vision_tower", "../outside", "no CLIP vision tower"),
    ],
)
def test_wrong_configuration_is_named(tmp_path, field, value, named):
    write_released(tmp_path / "released")
    path = tmp_path / "released" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {field: value}))
    with pytest.raises(CheckpointError, match=named):
        convert_released(tmp_path / "released", tmp_path / "native")


def test_malicious_pickle_is_refused_and_not_run(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (tmp_path.joinpath("exploded").touch, ())

    write_released(tmp_path / "released")
    torch.save({"lm_head.weight": Bomb()}, tmp_path / "released" / "pytorch_model-00001-of-00002.bin")
    with pytest.raises(CheckpointError, match="nothing in it was run"):
        convert_released(tmp_path / "released", tmp_path / "native")
    (tmp_path / "released" / "pytorch_model-00001-of-00002.bin").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(CheckpointError):
        convert_released(tmp_path / "released", tmp_path / "native")
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize("keep", [0, 10, 2000, -100])
@pytest.mark.parametrize("container", ["bin", "safetensors"])
def test_truncated_shard(tmp_path, keep, container):
    write_released(tmp_path / "released", container=container)
    path = next(path for path in sorted((tmp_path / "released").iterdir()) if "00001-of" in path.name)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match=path.name):
        convert_released(tmp_path / "released", tmp_path / "native")
    assert not (tmp_path / "native").exists()


def test_missing_shard_and_index_that_points_outside(tmp_path):
    write_released(tmp_path / "released")
    index = tmp_path / "released" / "pytorch_model.bin.index.json"
    places = json.loads(index.read_text())
    (tmp_path / "released" / "pytorch_model-00002-of-00002.bin").unlink()
    with pytest.raises(CheckpointError, match="00002-of-00002"):
        convert_released(tmp_path / "released", tmp_path / "native")
    places["weight_map"]["lm_head.weight"] = "../../elsewhere.bin"
    index.write_text(json.dumps(places))
    with pytest.raises(CheckpointError, match="outside the directory"):
        convert_released(tmp_path / "released", tmp_path / "native")


def test_interrupted_conversion_leaves_no_directory(tmp_path):
    write_released(tmp_path / "released")

    def interrupt(done: int, total: int, name: str) -> None:
        if done == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert_released(tmp_path / "released", tmp_path / "native", progress=interrupt)
    assert [path.name for path in tmp_path.iterdir()] == ["released"]


def test_existing_target_is_kept(tmp_path):
    write_released(tmp_path / "released")
    (tmp_path / "native").mkdir()
    with pytest.raises(CheckpointError, match="exists already"):
        convert_released(tmp_path / "released", tmp_path / "native")


def test_tower_may_lie_elsewhere(tmp_path):
    write_released(tmp_path / "released")
    shutil.move(tmp_path / "released" / "clip", tmp_path / "clip")
    with pytest.raises(CheckpointError, match="--clip"):
        convert_released(tmp_path / "released", tmp_path / "native")
    assert convert_released(tmp_path / "released", tmp_path / "native", clip=tmp_path / "clip")["tensors"] > 100


@pytest.mark.parametrize("merge", [True, False])
def test_adapter_merges_or_stays_separate_and_means_the_same(tmp_path, merge):
    state = write_released(tmp_path / "released")
    torch.manual_seed(0)
    halves = {}
    for layer in range(2):
        for name in ("q_proj", "v_proj"):
            key = f"base_model.model.model.layers.{layer}.self_attn.{name}"
            halves[f"{key}.lora_A.weight"], halves[f"{key}.lora_B.weight"] = torch.randn(4, 32), torch.randn(32, 4)
    save_file(halves, tmp_path / "released" / "adapter_model.safetensors")
    (tmp_path / "released" / "adapter_config.json").write_text(
        json.dumps({"r": 4, "lora_alpha": 16, "target_modules": ["q_proj", "v_proj"], "peft_type": "LORA"})
    )
    summary = convert_released(tmp_path / "released", tmp_path / "native", merge_lora=merge)
    assert summary["adapter"] == ("merged" if merge else "separate")
    assert (tmp_path / "native" / "adapter_model.safetensors").exists() is not merge
    profile = load_profile(tmp_path / "native")
    assert profile.lora.rank == (0 if merge else 4)
    model = build_model(profile, None)
    load_weights(tmp_path / "native", model)
    loaded = model.state_dict()
    for layer in range(2):
        for name in ("q_proj", "v_proj", "k_proj"):
            released = f"model.layers.{layer}.self_attn.{name}.weight"
            expected = state[released]
            if name != "k_proj":
                key = f"base_model.model.model.layers.{layer}.self_attn.{name}"
                expected = expected + 4.0 * halves[f"{key}.lora_B.weight"] @ halves[f"{key}.lora_A.weight"]
            torch.testing.assert_close(loaded[native_name(released)], expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("key", "shape", "named"),
    [
        ("base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight", (4, 31), "q_proj"),
        ("base_model.model.model.layers.9.self_attn.q_proj.lora_A.weight", (4, 32), "one half|does not have"),
        ("nonsense.weight", (4, 32), "no LoRA weight"),
    ],
)
def test_adapter_that_does_not_fit_is_named(tmp_path, key, shape, named):
    write_released(tmp_path / "released")
    halves = {
        "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight": torch.zeros(4, 32),
        "base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight": torch.zeros(32, 4),
        key: torch.zeros(shape),
    }
    save_file(halves, tmp_path / "released" / "adapter_model.safetensors")
    (tmp_path / "released" / "adapter_config.json").write_text(
        json.dumps({"r": 4, "lora_alpha": 16, "target_modules": ["q_proj"]})
    )
    with pytest.raises(CheckpointError, match=named):
        convert_released(tmp_path / "released", tmp_path / "native")


# Converts checkpoints one after the other and tells for each by how many bytes the resident memory rose at most. The
# first one loads whatever is loaded on first use.
MEASURED = """
import json, sys
from pathlib import Path
from ivlm_core.cli import main

def resident(field):
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field + ":"))
    return int(line.split()[1]) * 1024

risen = []
for source, target in zip(sys.argv[1::2], sys.argv[2::2]):
    Path("/proc/self/clear_refs").write_text("5")
    before = resident("VmRSS")
    assert main(["convert", source, target, "--json"]) == 0
    risen.append(resident("VmHWM") - before)
print(json.dumps(risen))
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux's record of the peak")
def test_conversion_needs_no_more_memory_than_its_largest_shard(tmp_path):
    write_released(tmp_path / "small")
    pairs = [tmp_path / "small", tmp_path / "small-native"]
    state = write_released(tmp_path / "bin", wide=True)
    shutil.copytree(tmp_path / "bin", tmp_path / "safetensors", ignore=shutil.ignore_patterns("pytorch_model*"))
    write_shards(tmp_path / "safetensors", state, "safetensors", 4)
    for container in ("bin", "safetensors"):
        pairs += [tmp_path / container, tmp_path / f"{container}-native"]
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, *map(str, pairs)],
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
        cwd=Path(__file__).parents[1],
    )
    margin = 28 << 20
    for container, risen in zip(("bin", "safetensors"), json.loads(done.stdout.splitlines()[-1])[1:], strict=True):
        shards = [path.stat().st_size for path in (tmp_path / container).glob("*-of-00004.*")]
        assert len(shards) == 4
        assert sum(shards) > 2 * (max(shards) + margin), "reading everything at once would be noticed"
        assert risen <= max(shards) + margin, container
