"""What a mix of scenes is worth: hand-made contacts on the shipped body."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from ivlm_core.bodies import load_body
from ivlm_core.config import load_profile
from ivlm_core.evaluate import MaskPath
from ivlm_core.evaluate.priors import fit_priors, gather
from ivlm_core.evaluate.scene_mix import COLUMNS, scene_mix, scene_mix_markdown

BODY = load_body()
HANDS = {"left hand": BODY.part_labels == 7, "right hand": BODY.part_labels == 8}
SEAT = BODY.part_labels == 2


def scene(*objects: tuple[str, str, np.ndarray]) -> SimpleNamespace:
    made = [
        SimpleNamespace(label=label, mode=mode, body_contact=contact, library_contact=np.ones(3))
        for label, mode, contact in objects
    ]
    return SimpleNamespace(objects=tuple(made))


@pytest.fixture(scope="module")
def mix():
    scenes = [scene(("bottle", hand, contact)) for hand, contact in HANDS.items()] * 5
    scenes += [scene(("chair", "sit", SEAT), ("bottle", "", np.zeros_like(SEAT)))] * 10
    data = gather(scenes)
    path = MaskPath.of(load_profile("tiny"), BODY.mesh)
    return scene_mix(fit_priors(data, {path.size: path}), data, BODY, path)


def test_prior_marks_both_hands_and_the_oracle_the_right_one(mix):
    bottle, chair = mix["per_category"]["bottle"], mix["per_category"]["chair"]
    assert bottle["prior"] == pytest.approx(2 / 3, abs=0.01)
    assert [bottle["oracle"], chair["prior"], chair["oracle"]] == pytest.approx([1] * 3)
    assert mix["overall"]["prior"] == pytest.approx((2 / 3 + 1) / 2, abs=0.01)
    assert mix["per_mode"]["bottle: left hand"]["samples"] == 5


def test_masks_cost_a_little_and_never_help(mix):
    overall = mix["overall"]
    assert 0.9 * overall["prior"] < overall["prior_through_masks"] <= overall["prior"] + 1e-6
    assert 0.9 < overall["oracle_through_masks"] <= overall["ground_truth_through_masks"] + 1e-3


def test_samples_areas_and_untouched_objects_are_counted(mix):
    assert (mix["scenes"], mix["untouched"], mix["overall"]["samples"]) == (20, 10, 20)
    assert mix["per_category"]["bottle"]["modes"] == {"left hand": 5, "right hand": 5}
    chair = mix["per_category"]["chair"]
    assert chair["vertices"] == SEAT.sum()
    assert chair["area_cm2"] == pytest.approx(1e4 * BODY.vertex_area[SEAT].sum(), rel=1e-4)


def test_markdown_has_a_row_per_category(mix):
    lines = scene_mix_markdown(mix).splitlines()
    assert [line.split(" | ")[0] for line in lines[2:5]] == ["| bottle", "| chair", "| **all**"]
    assert lines[0].count("|") == len(COLUMNS) + 4
