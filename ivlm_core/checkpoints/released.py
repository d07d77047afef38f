"""The authors' released checkpoint format: its names, its sizes, its switches. No other file knows them.

A released directory holds the language model, SAM and our method's modules in sharded `.bin` or safetensors files, a
`config.json`, a LLaMA tokenizer, and never the CLIP tower, which comes apart. `plan` reads the names and shapes alone
and says what every tensor becomes; nothing is loaded before every key is accounted for.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ivlm_core.checkpoints.shards import Shape, ShardedTensors
from ivlm_core.config import (
    GenerationConfig,
    LanguageConfig,
    LiftConfig,
    LocalizeConfig,
    LoraConfig,
    Mode,
    Profile,
    SamConfig,
    TokenConfig,
    ViewsConfig,
    VisionConfig,
)
from ivlm_core.errors import CheckpointError, IvlmError, shown
from ivlm_core.storage import file_size

TOKEN_TYPES = ("Gen", "Gen-Hu-Obj", "Gen-Int")
SEPARATE_DECODERS = "-DifDe"
MAX_JSON_BYTES = 4 << 20

_SAM = "model.visual_model."
# Released prefix → native prefix; the longest that fits wins.
_PREFIXES = {
    "lm_head.": "reason.llava.lm_head.",
    "model.embed_tokens.": "reason.llava.model.language_model.embed_tokens.",
    "model.layers.": "reason.llava.model.language_model.layers.",
    "model.norm.": "reason.llava.model.language_model.norm.",
    "model.mm_projector.": "reason.llava.model.multi_modal_projector.",
    "model.text_hidden_fcs.0.": "reason.projection.",
    _SAM + "image_encoder.": "localize.image_encoder.",
    _SAM + "prompt_encoder.": "localize.prompt_encoder.",
    _SAM + "mask_decoder.": "localize.decoders.general.",
    _SAM + "human_mask_decoder.": "localize.decoders.human.",
    _SAM + "object_mask_decoder.": "localize.decoders.object.",
    "cam_pose_encoder.linear1.": "localize.featlift.linear.",
    "cam_pose_encoder.": "localize.featlift.",
    "attention_splitter.": "localize.splitter.",
}
# Rotary frequencies are recomputed from the configuration.
_DROPPED = re.compile(r"model\.layers\.\d+\.self_attn\.rotary_emb\.inv_freq")
_CLIP = "reason.llava.model.vision_tower."


@dataclass(frozen=True)
class Plan:
    """What a released checkpoint becomes.

    Attributes
    ----------
    profile : the sizes and switches read from it.
    names : released key → native name, of every tensor that is kept.
    clip_names : key of the CLIP tower's own files → native name.
    """

    profile: Profile
    names: Mapping[str, str]
    clip_names: Mapping[str, str]


def plan(source: Path, tensors: ShardedTensors, clip: Path, clip_tensors: ShardedTensors) -> Plan:
    """Read configuration and shapes of a released checkpoint.

    Raises
    ------
    CheckpointError : a configuration field or tensor that is missing, unknown or contradictory, by name.
    """
    config = read_json(source / "config.json")
    profile = _profile(source, config, tensors.shapes, read_json(clip / "config.json"))
    names, unknown = {}, []
    for key in tensors.shapes:
        if _DROPPED.fullmatch(key):
            continue
        if (name := native_name(key)) is None:
            unknown.append(key)
        else:
            names[key] = name
    if unknown:
        raise CheckpointError(
            str(source),
            f"holds tensors this format does not have: {', '.join(sorted(unknown)[:5])}"
            + (f" and {len(unknown) - 5} more" if len(unknown) > 5 else ""),
            "convert an unchanged released checkpoint",
        )
    clip_names = {
        key: _CLIP + key.removeprefix("vision_model.").removeprefix("model.")
        for key in clip_tensors.shapes
        # The tower's own files may hold the text half and a buffer of positions, which are not parameters here.
        if not key.endswith("position_ids") and not key.startswith(("text_", "logit_scale", "visual_projection"))
    }
    return Plan(profile, names, clip_names)


def native_name(key: str) -> str | None:
    """The native name of a released key, or None for one that the format does not have."""
    fitting = [prefix for prefix in _PREFIXES if key.startswith(prefix)]
    if not fitting:
        return None
    prefix = max(fitting, key=len)
    return _PREFIXES[prefix] + key.removeprefix(prefix)


def read_json(path: Path, limit: int = MAX_JSON_BYTES) -> dict[str, Any]:
    """A JSON object from a file of at most `limit` bytes.

    Raises
    ------
    CheckpointError : missing, too large, or no JSON object.
    """
    try:
        if file_size(path) > limit:
            raise CheckpointError(str(path), f"is larger than {limit >> 20} MB", "give the checkpoint's own file")
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(str(path), f"cannot be read: {error}", "give the checkpoint's own file") from error
    if not isinstance(content, dict):
        raise CheckpointError(str(path), "is no JSON object", "give the checkpoint's own file")
    return content


class _Config:
    """config.json with typed access; a wrong or missing field is named."""

    def __init__(self, path: Path, content: Mapping[str, Any]) -> None:
        self._path = path
        self._content = content

    def get(self, key: str, kind: type, default: Any = None) -> Any:
        """The value of `key`; without a default it must be there."""
        value = self._content.get(key)
        if value is None:
            value = default
        if kind is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise self.error(key, f"is {shown(value)}", f"it must be of type {kind.__name__}")
        return value

    def error(self, key: str, problem: str, remedy: str) -> CheckpointError:
        return CheckpointError(f"{self._path}: {key}", problem, remedy)


def _profile(source: Path, content: Mapping[str, Any], shapes: Mapping[str, Shape], clip: Mapping[str, Any]) -> Profile:
    config = _Config(source / "config.json", content)
    language = LanguageConfig(
        hidden_size=config.get("hidden_size", int),
        layers=config.get("num_hidden_layers", int),
        heads=config.get("num_attention_heads", int),
        intermediate_size=config.get("intermediate_size", int),
        max_positions=config.get("max_position_embeddings", int, 2048),
        vocabulary=_dimension(source, shapes, "model.embed_tokens.weight", 0),
        norm_eps=config.get("rms_norm_eps", float, 1e-5),
        rope_theta=config.get("rope_theta", float, 10000.0),
    )
    if config.get("num_key_value_heads", int, language.heads) != language.heads:
        raise config.error(
            "num_key_value_heads", "differs from num_attention_heads", "such checkpoints were never made"
        )
    vision = _vision(clip, config)
    localize, tokens = _method(config)
    if localize.featlift == "none" and any(key.startswith("cam_pose_encoder.") for key in shapes):
        raise config.error("multiview_cam_cond", "is off, yet there is a camera encoder", "restore its config.json")
    distance = 1.5 if "_BM" in config.get("oC_sam_view_type", str, "") else 2.0
    try:
        return Profile(
            name=source.resolve().name,
            language=language,
            vision=vision,
            sam=_sam(source, shapes),
            tokens=tokens,
            lora=LoraConfig(rank=0),
            generation=GenerationConfig(max_new_tokens=512, guided=False),
            localize=localize,
            lift=LiftConfig("scatter", object_vote_threshold=0.3),
            modes=_modes(config),
            views=ViewsConfig(object_distance=distance),
        )
    except IvlmError as error:
        raise CheckpointError(str(source), f"has impossible sizes: {error}", "restore its files") from error


def _vision(clip: Mapping[str, Any], config: _Config) -> VisionConfig:
    tower = _Config(Path("CLIP tower config.json"), clip.get("vision_config", clip))
    if tower.get("hidden_act", str, "quick_gelu") != "quick_gelu":
        raise tower.error("hidden_act", "is not quick_gelu", "use OpenAI's CLIP tower")
    if config.get("mm_vision_select_feature", str, "patch") != "patch":
        raise config.error("mm_vision_select_feature", "is not 'patch'", "such checkpoints were never made")
    vision = VisionConfig(
        image_size=tower.get("image_size", int),
        patch_size=tower.get("patch_size", int),
        hidden_size=tower.get("hidden_size", int),
        layers=tower.get("num_hidden_layers", int),
        heads=tower.get("num_attention_heads", int),
        intermediate_size=tower.get("intermediate_size", int),
        select_layer=config.get("mm_vision_select_layer", int, -2),
        image_fit="crop",
        projector="linear",
    )
    patches = (vision.image_size // vision.patch_size) ** 2
    expected = config.get("img_emb_len", int, patches - 1)
    if expected != patches - 1:
        raise config.error(
            "img_emb_len", f"is {expected}", f"this CLIP tower gives {patches} patches: give its own tower"
        )
    return vision


def _method(config: _Config) -> tuple[LocalizeConfig, TokenConfig]:
    """What the token type and camera encoder switch on (format §2 and §6)."""
    stated = config.get("token_type", str, "Gen")
    kind = stated.removesuffix(SEPARATE_DECODERS)
    if kind not in TOKEN_TYPES:
        raise config.error(
            "token_type", f"is {shown(stated)}", f"one of {', '.join(TOKEN_TYPES)}, with or without -DifDe"
        )
    featlift = config.get("cam_encoder_type", str, "simple")
    if featlift not in ("simple", "view_index", "vi_v1"):
        raise config.error("cam_encoder_type", f"is {shown(featlift)}", "simple, view_index or vi_v1")
    for optional in ("use_fusion", "use_uncertainty"):
        if config.get(optional, bool, False):
            raise config.error(optional, "is on", "no released checkpoint uses it and it is not supported")
    general = config.get("seg_token_idx", int)
    if kind == "Gen":
        tokens = TokenConfig("[SEG]", "[SEG]", "[SEG]", general, general, general)
    elif kind == "Gen-Int":
        shared = config.get("hseg_token_idx", int)
        tokens = TokenConfig("[ISEG]", "[ISEG]", "[SEG]", shared, shared, general)
    else:
        human, thing = config.get("hseg_token_idx", int), config.get("oseg_token_idx", int)
        tokens = TokenConfig("[HSEG]", "[OSEG]", "[SEG]", human, thing, general)
    return (
        LocalizeConfig(
            featlift=featlift if config.get("multiview_cam_cond", bool, False) else "none",
            view_tokens="all",
            views=config.get("multiview_channels", int, 4),
            decoders=("general", "human", "object") if stated.endswith(SEPARATE_DECODERS) else ("general",),
            splitter=kind != "Gen",
        ),
        tokens,
    )


def _modes(config: _Config) -> tuple[Mode, ...]:
    """What the loss weights and view tables say the checkpoint was trained for (format §2)."""
    human, thing = (config.get(f"{side}_loss_weight", float, 0.0) > 0 for side in ("hC", "oC"))
    modes: list[Mode] = ["joint"] if human and thing else []
    if human:
        modes += ["human", "binary"]
        if any(table in config.get("hC_sam_view_type", str, "") for table in ("FootGround", "wScene")):
            modes.append("scene")
    if thing:
        modes += ["affordance", "object_contact"]
    # A model of one view, or without either lifter, works on the picture itself.
    if config.get("multiview_channels", int, 4) == 1 or not modes:
        modes.append("image")
    return tuple(modes)


def _sam(source: Path, shapes: Mapping[str, Shape]) -> SamConfig:
    """SAM's sizes, which the released configuration never states, from the shapes of its tensors."""
    encoder, decoder = _SAM + "image_encoder.", _SAM + "mask_decoder."

    def dimension(name: str, axis: int) -> int:
        return _dimension(source, shapes, name, axis)

    embed, patch = dimension(encoder + "patch_embed.proj.weight", 0), dimension(encoder + "patch_embed.proj.weight", 2)
    grid, depth = dimension(encoder + "pos_embed", 1), _count(shapes, encoder + r"blocks\.(\d+)\.")
    reaches = [dimension(f"{encoder}blocks.{block}.attn.rel_pos_h", 0) for block in range(depth)]
    windowed = {(reach + 1) // 2 for reach in reaches if reach != 2 * grid - 1}
    if len(windowed) > 1:
        raise CheckpointError(str(source), f"has attention windows of sizes {sorted(windowed)}", "restore its files")
    return SamConfig(
        image_size=grid * patch,
        patch_size=patch,
        embed_dim=embed,
        depth=depth,
        heads=embed // dimension(f"{encoder}blocks.0.attn.rel_pos_h", 1),
        global_blocks=tuple(block for block, reach in enumerate(reaches) if reach == 2 * grid - 1),
        window_size=windowed.pop() if windowed else 0,
        mlp_ratio=dimension(f"{encoder}blocks.0.mlp.lin1.weight", 0) / embed,
        prompt_dim=dimension(encoder + "neck.0.weight", 0),
        decoder_depth=_count(shapes, decoder + r"transformer\.layers\.(\d+)\."),
        decoder_heads=8,
        decoder_mlp=dimension(decoder + "transformer.layers.0.mlp.lin1.weight", 0),
        iou_hidden=dimension(decoder + "iou_prediction_head.layers.0.weight", 0),
    )


def _dimension(source: Path, shapes: Mapping[str, Shape], name: str, axis: int) -> int:
    shape = shapes.get(name)
    if shape is None or len(shape) <= axis:
        raise CheckpointError(str(source), f"has no usable tensor {name}", "give all files of the checkpoint")
    return shape[axis]


def _count(shapes: Mapping[str, Shape], pattern: str) -> int:
    found = [int(match.group(1)) for name in shapes if (match := re.match(pattern, name))]
    return max(found, default=-1) + 1
