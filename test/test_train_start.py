"""Runs that begin with a trained model: what they take, what they leave behind, and what learns how fast."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ivlm_core.bodies import PART_NAMES, AnnyRig
from ivlm_core.checkpoints import build_model
from ivlm_core.config import LanguageConfig, Profile, SamConfig, VisionConfig, load_profile
from ivlm_core.errors import ConfigError
from ivlm_core.objects import library_mesh
from ivlm_core.reason import ContactTokenizer
from ivlm_core.train.export import export_model
from ivlm_core.train.recipe import Recipe, apply_variants
from ivlm_core.train.samples import FIRST_LABEL, TrainingSet
from ivlm_core.train.start import TAKEN, Start, is_sight, read_start
from ivlm_core.train.trainer import Trainer

TINY = load_profile("tiny")
TOY = replace(
    TINY,
    language=LanguageConfig(hidden_size=32, layers=2, heads=2, intermediate_size=48, max_positions=256),
    vision=VisionConfig(
        image_size=32, patch_size=16, hidden_size=32, layers=1, heads=2, intermediate_size=48, select_layer=-1
    ),
    sam=SamConfig(
        image_size=64,
        patch_size=16,
        embed_dim=16,
        depth=1,
        heads=2,
        global_blocks=(0,),
        window_size=0,
        prompt_dim=32,
        decoder_depth=1,
        decoder_heads=2,
        decoder_mlp=32,
        iou_hidden=16,
    ),
    localize=replace(TINY.localize, vertex_branch=4),
)
BEGUN = Recipe(
    steps=4,
    batch=2,
    warmup=1,
    answers_from=0,
    masks_from=0,
    encoder_steps=0,
    frozen_sight=True,
    object_passes=0,
)


def record(number: int, touched: bool = True) -> Any:
    """A ball beside a hand, which touches it or not; the picture is the same."""
    rig = AnnyRig.load()
    hand = ("left hand", "right hand")[number % 2]
    image = np.full((48, 64, 3), 60 + 20 * number, np.uint8)
    segments = np.full((48, 64), 2, np.uint8)
    # Numbers behind those of the parts are the scene's objects.
    segments[10:30, 10 + 10 * (number % 2) : 40] = 2 + len(PART_NAMES)
    contact = (rig.part_labels == PART_NAMES.index(hand)) & touched
    library = np.zeros(len(library_mesh("ball").vertices), np.float32)
    library[:40] = touched
    ball = SimpleNamespace(
        label="sports ball", mode=hand if touched else "", body_contact=contact, library_contact=library
    )
    return SimpleNamespace(
        image=image,
        segments=segments,
        joints_2d=np.full((len(rig.joint_names), 2), 20.0, np.float32),
        objects=(ball,),
        body_pixels=lambda: np.full((len(contact), 2), (16 + 32 * (number % 2), 24), np.float32),
    )


def training_set(touched: bool = True) -> TrainingSet:
    made = TrainingSet(TOY.vision, ["sports ball"])
    made.extend(record(number, touched or not number) for number in range(4))
    return made


@pytest.fixture(scope="module")
def data() -> TrainingSet:
    return training_set()


def export(folder: Path, changed: str = "", profile: Profile = TOY) -> Path:
    """A model of random numbers, one of its tensors another."""
    tokenizer = ContactTokenizer(tokens=profile.tokens)
    state = build_model(replace(profile, seed=77), tokenizer, empty=False).state_dict()
    weights = {name: value + 1 if changed and name.startswith(changed) else value for name, value in state.items()}
    export_model(folder, profile, weights, tokenizer)
    return folder


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Start:
    return read_start(str(export(tmp_path_factory.mktemp("models") / "model")), TOY)


def trainer(data: TrainingSet, out: Path, recipe: Recipe, start: Start | None, profile: Profile = TOY) -> Trainer:
    return Trainer(profile, recipe, data, [], out, say=lambda line: None, start=start)


def prepared(data: TrainingSet, out: Path, recipe: Recipe, start: Start | None) -> dict[str, Tensor]:
    made = trainer(data, out, recipe, start)
    made._prepare(False)
    return {name: value.clone() for name, value in made.model.state_dict().items()}


def test_the_localizer_is_thrown_away_and_begins_anew_with_each_seed(
    data: TrainingSet, tmp_path: Path, start: Start
) -> None:
    first, again, other = (
        prepared(data, tmp_path / name, replace(BEGUN, seed=seed), start)
        for name, seed in (("first", 3), ("again", 3), ("other", 4))
    )
    trained = build_model(replace(TOY, seed=77), ContactTokenizer(tokens=TOY.tokens), empty=False).state_dict()
    new = {name for name in first if not name.startswith(TAKEN)}
    assert {name.split(".")[1] for name in new} == {"featlift", "decoders", "vertex_branch"}
    for name, value in first.items():
        torch.testing.assert_close(value, again[name], rtol=0, atol=0, msg=name)
        if name not in new:
            torch.testing.assert_close(value, start.tensors[name], rtol=0, atol=0, msg=name)
            torch.testing.assert_close(value, trained[name], rtol=1e-3, atol=1e-3, msg=name)
    weights = [name for name in new if first[name].ndim > 1 and first[name].unique().numel() > 2]
    drawn = [name for name in weights if not name.endswith("basis")]
    assert len(drawn) > 10
    for name in drawn:
        assert not torch.allclose(first[name], other[name]), name
        assert not torch.allclose(first[name], trained[name], atol=1e-2), name


def test_what_is_frozen_stays_and_what_was_begun_with_learns_slowly(
    data: TrainingSet, tmp_path: Path, start: Start
) -> None:
    moved = {}
    for share in (1.0, 0.25):
        recipe = replace(BEGUN, steps=1, start_rate=share, average=0.0)
        made = trainer(data, tmp_path / str(share), recipe, start)
        made._prepare(False)
        before = {name: value.clone() for name, value in made.model.state_dict().items()}
        made = trainer(data, tmp_path / f"{share}-run", recipe, start)
        made.run()
        after = made.model.state_dict()
        moved[share] = {name: (after[name] - before[name]).double() for name in before}
    frozen = [name for name in before if is_sight(name)]
    assert any("vision_tower" in name for name in frozen)
    assert any("projector" in name for name in frozen)
    assert not any(moved[0.25][name].any() for name in frozen)
    for part, ratio in (("reason.projection.0.weight", 0.25), ("localize.decoders.human.mask_tokens.weight", 1.0)):
        assert moved[1.0][part].any()
        assert float(moved[0.25][part].norm() / moved[1.0][part].norm()) == pytest.approx(ratio, rel=0.02)


def test_an_interrupted_run_ends_as_if_it_had_not_been(data: TrainingSet, tmp_path: Path, start: Start) -> None:
    recipe = replace(BEGUN, start_rate=0.5)
    whole = trainer(data, tmp_path / "whole", recipe, start)
    whole.run()
    first = trainer(data, tmp_path / "parts", recipe, start)
    learn = first._learn

    def killed(*step: Any) -> Any:
        if first.step == 2:
            first._save()
            raise KeyboardInterrupt
        return learn(*step)

    first._learn = killed  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        first.run()
    second = trainer(data, tmp_path / "parts", recipe, start)
    second.run(resume=True)
    expected = whole.weights()
    for name, value in second.weights().items():
        torch.testing.assert_close(value, expected[name], rtol=0, atol=0, msg=name)
    for other in (None, replace(start, digest="0" * 16)):
        with pytest.raises(ConfigError, match="settings"):
            trainer(data, tmp_path / "parts", recipe, other).run(resume=True)


def test_without_contact_no_label_of_contact_changes_anything(data: TrainingSet, tmp_path: Path) -> None:
    profile, recipe = apply_variants(("no_contact",), TOY, replace(BEGUN, steps=5, frozen_sight=False))
    assert {recipe.stage(step / 5) for step in range(5)} == {"pictures", "answers"}
    ends = []
    for name, scenes in (("touched", data), ("untouched", training_set(touched=False))):
        made = trainer(scenes, tmp_path / name, recipe, None, profile)
        before = {key: value.clone() for key, value in made.model.state_dict().items()}
        made.run()
        ends.append({key: value for key, value in made.weights().items() if key.startswith(TAKEN)})
    for key, value in ends[0].items():
        torch.testing.assert_close(value, ends[1][key], rtol=0, atol=0, msg=key)
    for part in ("llava.model.language_model.layers.0.self_attn.q_proj.weight", "llava.lm_head.weight"):
        learned = not torch.equal(ends[0][f"reason.{part}"], before[f"reason.{part}"])
        assert learned == (part != "llava.lm_head.weight")
    # With contact, the same two sets do make a difference.
    full = replace(recipe, contact=True)
    batches = []
    for name, scenes in (("with", data), ("without", training_set(touched=False))):
        made = trainer(scenes, tmp_path / name, full, None, profile)
        made._prepare(False)
        batches.append(made._batch(0))
    assert batches[0].packed.ids.shape != batches[1].packed.ids.shape or not torch.equal(
        batches[0].places, batches[1].places
    )


def test_a_named_object_is_where_its_segment_is(data: TrainingSet, tmp_path: Path) -> None:
    profile, recipe = apply_variants(("no_contact",), TOY, replace(BEGUN, frozen_sight=False))
    made = trainer(data, tmp_path, recipe, None, profile)
    sample = data.plain(0)
    batch = made.learner.batch([sample], made._conversation, np.random.default_rng(0))
    shown = batch.places[0].reshape(sample.classes.shape) > 0
    np.testing.assert_array_equal(shown.numpy(), sample.classes == FIRST_LABEL)
    assert 0 < shown.sum() < shown.numel()


def test_the_digest_is_of_what_is_taken(tmp_path: Path, start: Start) -> None:
    same = read_start(str(export(tmp_path / "decoder", "localize.decoders.human.")), TOY)
    other = read_start(str(export(tmp_path / "language", "reason.projection.0.bias")), TOY)
    assert same.digest == start.digest
    assert other.digest != start.digest
    # Which branch or FeatLift a run has is its own affair.
    bare = replace(TOY, localize=replace(TOY.localize, vertex_branch=0, featlift="none"))
    assert read_start(str(tmp_path / "decoder"), bare).digest == start.digest


def test_a_bad_start_is_one_error_that_names_the_option(tmp_path: Path) -> None:
    good = export(tmp_path / "good")
    (tmp_path / "empty").mkdir()
    damaged = export(tmp_path / "damaged")
    (damaged / "model.safetensors").write_bytes((good / "model.safetensors").read_bytes()[:2000])
    lacking = export(tmp_path / "lacking")
    (lacking / "model.safetensors").unlink()
    for source in ("no_such", str(tmp_path / "empty"), str(damaged), str(lacking)):
        with pytest.raises(ConfigError, match=r"--start-from: .*(no trained model|cannot be read)"):
            read_start(source, TOY)
    with pytest.raises(ConfigError, match="--start-from: tiny has another"):
        read_start("tiny", TOY)
