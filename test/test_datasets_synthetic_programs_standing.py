from __future__ import annotations

from functools import lru_cache

import numpy as np
import pytest

from ivlm_core.bodies import AnnyRig
from ivlm_core.datasets.synthetic.contact import touches
from ivlm_core.datasets.synthetic.programs.compose import compose
from ivlm_core.datasets.synthetic.programs.limbs import arm_clearance
from ivlm_core.datasets.synthetic.programs.stage import SIDES, Stage, part
from ivlm_core.datasets.synthetic.programs.standing import stand

RIG = AnnyRig.load()


@lru_cache
def standing(seed: int) -> Stage:
    stage = Stage(np.random.default_rng(seed), RIG)
    stand(stage)
    for side in SIDES:
        stage.idle(side)
    return stage


@pytest.mark.parametrize("seed", range(8))
def test_both_soles_are_level_on_the_floor(seed: int) -> None:
    stage = standing(seed)
    for foot in ("left foot", "right foot"):
        assert stage.points(foot)[:, 1].min() == pytest.approx(stage.floor, abs=0.004)


@pytest.mark.parametrize("seed", range(8))
def test_free_hands_touch_neither_trunk_nor_legs(seed: int) -> None:
    stage = standing(seed)
    for side in SIDES:
        assert arm_clearance(stage, side) > 0.025


def test_stances_differ() -> None:
    feet = np.array([standing(seed).poser.position("foot.L") for seed in range(8)])
    gaze = np.array([standing(seed).poser.orientation("head")[:, 2] for seed in range(8)])
    assert np.ptp(feet[:, 0]) > 0.06
    assert np.ptp(gaze[:, 0]) > 0.3


def test_balance_is_kept() -> None:
    """The middle of the body is above the feet."""
    for seed in range(8):
        stage = standing(seed)
        middle = stage.points("torso", "hips", "head").mean(axis=0)
        feet = stage.points("left foot", "right foot")
        assert feet[:, 0].min() < middle[0] < feet[:, 0].max()
        assert feet[:, 2].min() - 0.05 < middle[2] < feet[:, 2].max()


@pytest.mark.parametrize("hands", ["left hand", "right hand", "both hands"])
def test_hands_hold_the_backrest_from_behind(hands: str) -> None:
    verb = f"behind, {hands} on the backrest"
    scene = compose(np.random.default_rng(2), "train", "chair", verb)
    chair = scene.objects[0]
    top = chair.to_world(chair.shape.anchors["back top"].point[None])[0]
    seat = chair.to_world(chair.shape.anchors["seat"].point[None])[0]
    assert seat[2] > top[2] > scene.body_vertices[part(RIG, "hips"), 2].max()
    touch = touches(scene)[0].body
    for hand in ("left hand", "right hand"):
        held = hand in hands or hands == "both hands"
        assert touch[part(RIG, hand)].sum() > 40 if held else not touch[part(RIG, hand)].any()
