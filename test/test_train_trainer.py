"""The loop at toy size: it learns, resumes exactly, exports what the pipeline runs, and starts under DeepSpeed."""

from __future__ import annotations

import importlib.util
import json
import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from ivlm_core import Frame, ObjectQuery, Pipeline
from ivlm_core.bodies import PART_NAMES, AnnyRig
from ivlm_core.config import LanguageConfig, LoraConfig, Profile, SamConfig, VisionConfig, load_profile
from ivlm_core.errors import ConfigError
from ivlm_core.objects import library_mesh
from ivlm_core.train.export import export_model
from ivlm_core.train.recipe import Recipe, apply_variants
from ivlm_core.train.samples import TrainingSet
from ivlm_core.train.trainer import Trainer

RECIPE = Recipe(
    steps=6,
    batch=2,
    warmup=2,
    answers_from=0.2,
    masks_from=0.5,
    encoder_steps=1,
    learning_rate=3e-3,
    average=0.5,
    object_steps=3,
)


def toy_profile() -> Profile:
    return replace(
        load_profile("tiny"),
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
        localize=replace(load_profile("tiny").localize, vertex_branch=4, object_branch=4),
    )


def record(number: int) -> Any:
    rig = AnnyRig.load()
    side = ("left", "right")[number % 2]
    image = np.full((48, 64, 3), 60 + 100 * (number % 2), np.uint8)
    segments = np.full((48, 64), 2, np.uint8)
    contact = rig.part_labels == PART_NAMES.index(f"{side} hand")
    library = np.zeros(len(library_mesh("ball").vertices), np.float32)
    library[:40] = 1.0
    ball = SimpleNamespace(label="sports ball", mode=f"{side} hand", body_contact=contact, library_contact=library)
    joints = np.full((len(rig.joint_names), 2), 20.0, np.float32)
    nothing = SimpleNamespace(
        label="sports ball", mode="", body_contact=np.zeros_like(contact), library_contact=np.zeros_like(library)
    )
    return SimpleNamespace(
        image=image,
        segments=segments,
        joints_2d=joints,
        objects=(ball,) if number % 3 else (ball, nothing),
        body_pixels=lambda: np.full((len(contact), 2), (16 + 32 * (number % 2), 24), np.float32),
    )


@pytest.fixture(scope="module")
def data() -> TrainingSet:
    made = TrainingSet(toy_profile().vision, ["sports ball"])
    made.extend(record(number) for number in range(6))
    return made


def _trainer(data: TrainingSet, out: Path, recipe: Recipe = RECIPE, profile: Profile | None = None) -> Trainer:
    return Trainer(profile or toy_profile(), recipe, data, [record(1)], out, say=lambda line: None)


def test_scenes_left_out_leave_no_trace(data: TrainingSet, tmp_path: Path) -> None:
    recipe = replace(RECIPE, steps=2, data_fraction=0.5)
    part = _trainer(data, tmp_path / "part", recipe)
    assert len(part.data) == 3
    assert {index for epoch in range(3) for index in part._order(epoch)} == {0, 1, 2}
    chosen = np.random.default_rng([recipe.seed, 2]).permutation(len(data))[:3]
    for place, index in enumerate(chosen):
        np.testing.assert_array_equal(part.data.contacts(place), data.contacts(int(index)))
    alone = _trainer(data.subset(chosen), tmp_path / "alone", replace(recipe, data_fraction=1.0))
    for mine, others in zip(part.data.contact_statistics(4), data.subset(chosen).contact_statistics(4), strict=True):
        np.testing.assert_array_equal(mine, others)
    torch.testing.assert_close(part.learner.class_weights, alone.learner.class_weights, rtol=0, atol=0)


def test_an_interrupted_run_ends_as_if_it_had_not_been(data: TrainingSet, tmp_path: Path) -> None:
    whole = _trainer(data, tmp_path / "whole")
    whole.run()
    first = _trainer(data, tmp_path / "parts")
    learn = first._learn

    def killed(*step: Any) -> Any:
        if first.step == 4:
            first._save()
            raise KeyboardInterrupt
        return learn(*step)

    first._learn = killed  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        first.run()
    second = _trainer(data, tmp_path / "parts")
    second.run(resume=True)
    expected = whole.weights()
    for name, value in second.weights().items():
        torch.testing.assert_close(value, expected[name], rtol=0, atol=0, msg=name)
    with pytest.raises(ConfigError, match="resume"):
        _trainer(data, tmp_path / "parts").run()
    with pytest.raises(ConfigError, match="settings"):
        _trainer(data, tmp_path / "parts", replace(RECIPE, batch=3)).run(resume=True)


def test_it_learns_and_exports_what_the_pipeline_runs(data: TrainingSet, tmp_path: Path) -> None:
    trainer = _trainer(
        data, tmp_path / "run", replace(RECIPE, steps=50, average=0.0, answers_from=0.05, masks_from=0.3)
    )
    summary = trainer.run(log_seconds=0.0)
    losses = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    tokens = [line["loss/token"] for line in losses if "loss/token" in line]
    assert np.mean(tokens[-5:]) < 0.6 * np.mean(tokens[:3])
    assert summary["steps"] == 50
    assert list((tmp_path / "run" / "tensorboard").iterdir()) or not importlib.util.find_spec("tensorboard")
    size = export_model(tmp_path / "model", trainer.profile, trainer.weights(), trainer.tokenizer)
    assert size < 2_500_000
    pipeline = Pipeline.load(str(tmp_path / "model"), device="cpu", mode="human", cache_dir=tmp_path / "cache")
    assert not pipeline.profile.generation.guided
    result = pipeline.run(Frame(record(1).image), [ObjectQuery("sports ball")])
    assert len(result.human_contacts) + len(result.unanswered) == 1
    # What is exported over it replaces it.
    assert export_model(tmp_path / "model", trainer.profile, trainer.weights(), trainer.tokenizer) == size


@pytest.mark.parametrize(
    "names", [("no_mvloc",), ("no_vertex_branch", "whole_mask"), ("own_view_token", "no_parts_text", "no_camera")]
)
def test_ablations_run(data: TrainingSet, tmp_path: Path, names: tuple[str, ...]) -> None:
    profile, recipe = apply_variants(names, toy_profile(), replace(RECIPE, steps=2, answers_from=0, masks_from=0))
    summary = _trainer(data, tmp_path, recipe, profile).run()
    assert summary["steps"] == 2


def test_object_masks_begin_with_the_answers_and_leave_the_language_model_alone(
    data: TrainingSet, tmp_path: Path
) -> None:
    def gradients(early_objects: int, stage: Any) -> dict[str, torch.Tensor]:
        folder = tmp_path / f"{early_objects}-{stage}"
        trainer = _trainer(data, folder, replace(RECIPE, batch=6, early_objects=early_objects))
        trainer._prepare(False)
        trainer.learner(trainer._batch(0), stage)["total"].backward()
        named = trainer.learner.named_parameters()
        return {name: item.grad.clone() for name, item in named if item.grad is not None}

    def differ(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> set[str]:
        same = {name for name in first if name in second and torch.allclose(first[name], second[name], atol=1e-6)}
        return {*first, *second} - same

    learning = differ(gradients(0, "answers"), gradients(3, "answers"))
    assert learning
    assert all(name.startswith("model.localize.") for name in learning)
    # Once masks have joined, `objects_per_step` decides, and masks teach the language model, too.
    assert not differ(gradients(0, "masks"), gradients(3, "masks"))
    assert any(name.startswith("model.reason.") for name in differ(gradients(3, "answers"), gradients(3, "masks")))


def test_adapters_are_merged_into_the_weights(data: TrainingSet, tmp_path: Path) -> None:
    profile = replace(toy_profile(), lora=LoraConfig(rank=2, alpha=4, dropout=0.0))
    trainer = _trainer(data, tmp_path, replace(RECIPE, steps=3), profile)
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    trainer.run()
    after = trainer.weights()
    assert set(after) == set(before)
    query = "reason.llava.model.language_model.layers.0.self_attn.q_proj.weight"
    assert not torch.equal(after[query], before[query])
    assert trainer.recipe.answers_from == 0, "an encoder that stays as it is learns nothing from pictures alone"
    frozen = [name for name in before if "vision_tower" in name or "mlp.gate_proj" in name]
    assert all(torch.equal(after[name], before[name]) for name in frozen)


def test_a_loss_that_stays_nan_ends_the_run_with_a_message(data: TrainingSet, tmp_path: Path) -> None:
    trainer = _trainer(data, tmp_path, replace(RECIPE, steps=60, encoder_steps=0, answers_from=0, masks_from=1))
    with torch.no_grad():
        trainer.learner.reasoner.llava.lm_head.weight[0, 0] = float("nan")
    with pytest.raises(Exception, match="not finite"):
        trainer.run()


@pytest.mark.skipif(not importlib.util.find_spec("deepspeed"), reason="deepspeed is not installed")
def test_a_run_starts_under_deepspeed(tmp_path: Path) -> None:
    config = Path(__file__).parents[1] / "config" / "deepspeed.json"
    script = (
        "import sys; sys.path.insert(0, 'test')\n"
        # Its own kernel for several processes on one CPU would be compiled for minutes, and is not needed for one.
        "import deepspeed.ops; deepspeed.ops.__compatible_ops__ = {}\n"
        "from pathlib import Path\n"
        "from dataclasses import replace\n"
        "from test_train_trainer import RECIPE, TrainingSet, Trainer, record, toy_profile\n"
        "data = TrainingSet(toy_profile().vision, ['sports ball'])\n"
        "data.extend(record(number) for number in range(4))\n"
        f"trainer = Trainer(toy_profile(), replace(RECIPE, steps=2), data, [], Path({str(tmp_path)!r}),"
        f" deepspeed=Path({str(config)!r}))\n"
        "print(trainer.run()['steps'])\n"
    )
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = str(taken.getsockname()[1])
    # What `accelerate launch` sets.
    launched = {"LOCAL_RANK": "0", "RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        timeout=240,
        cwd=Path(__file__).parents[1],
        env={**os.environ, **launched, "DS_ACCELERATOR": "cpu"},
    )
    assert done.stdout.strip().endswith("2"), done.stderr[-2000:]
