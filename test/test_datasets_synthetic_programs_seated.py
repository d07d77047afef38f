from __future__ import annotations

from functools import lru_cache

import numpy as np
import pytest

from ivlm_core.bodies import AnnyRig
from ivlm_core.datasets.synthetic import Scene
from ivlm_core.datasets.synthetic.contact import touches
from ivlm_core.datasets.synthetic.programs.compose import Choice, compose, draw_scene
from ivlm_core.datasets.synthetic.programs.stage import Unreachable, part

RIG = AnnyRig.load()
SEATS = ("chair", "bench", "couch", "bed", "suitcase")
HANDS = ("left hand", "right hand")
CASES = [
    ("chair", "sit"),
    ("chair", "sit, left hand on the seat"),
    ("chair", "sit, both hands on the arm rest"),
    ("bench", "sit, right hand on the arm rest"),
    ("couch", "sit, both hands on the seat"),
    ("couch", "sit, left hand on the arm rest"),
    ("bed", "sit, right hand on the seat"),
    ("suitcase", "sit"),
]


@lru_cache(maxsize=6)
def made(category: str, mode: str, seed: int) -> Scene:
    split = "unseen" if category == "bench" else "train"
    return compose(np.random.default_rng(seed), split, category, mode)


@pytest.mark.parametrize(("category", "mode"), CASES)
@pytest.mark.parametrize("seed", [0, 1])
def test_sitters_have_both_feet_on_the_floor(category: str, mode: str, seed: int) -> None:
    scene = made(category, mode, seed)
    for foot in ("left foot", "right foot"):
        assert abs(scene.body_vertices[part(RIG, foot), 1].min()) < 0.012
    assert scene.objects[0].vertices[:, 1].min() == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize(("category", "mode"), CASES)
@pytest.mark.parametrize("seed", [0, 1])
def test_seat_carries_buttocks_and_thighs(category: str, mode: str, seed: int) -> None:
    scene = made(category, mode, seed)
    touch = touches(scene)[0]
    assert touch.body[part(RIG, "hips", "left thigh", "right thigh")].sum() > (12 if category == "suitcase" else 25)
    assert 0.005 < touch.depth < 0.04
    hips = scene.joints[[RIG.joint_names.index(f"upperleg01.{side}") for side in "LR"]].mean(axis=0)
    knees = scene.joints[[RIG.joint_names.index(f"lowerleg01.{side}") for side in "LR"]].mean(axis=0)
    assert knees[2] - hips[2] > 0.18
    assert abs(knees[1] - hips[1]) < 0.3


@pytest.mark.parametrize(("category", "mode"), CASES)
@pytest.mark.parametrize("seed", [0, 1])
def test_only_the_hands_that_the_mode_names_touch_the_seat(category: str, mode: str, seed: int) -> None:
    """Accidental hands on seats are what made labels guessable; they are a mode or not there at all."""
    touch = touches(made(category, mode, seed))[0]
    for hand in HANDS:
        count = int(touch.body[part(RIG, hand)].sum())
        assert count > 30 if hand in mode or "both hands" in mode else count == 0, hand


def test_backrests_are_leant_on_or_left_alone() -> None:
    """Leaning presses the back against the rest; not leaning leaves a gap that can be seen."""
    gaps = []
    for seed in range(12):
        scene = made("chair", "sit", seed)
        chair = scene.objects[0]
        back = chair.shape.anchors["back"]
        trunk = scene.body_vertices[part(RIG, "torso")]
        height = chair.to_world(chair.shape.anchors["back top"].point[None])[0, 1]
        above_seat = trunk[(trunk[:, 1] < height) & (trunk[:, 1] > height - 0.25)]
        gaps.append(float(((above_seat - chair.to_world(back.point[None])[0]) @ back.direction).min()))
    leaning = np.array(gaps) < 0.005
    assert 0 < leaning.sum() < 12
    assert all(gap > -0.03 if leans else gap > 0.02 for gap, leans in zip(gaps, leaning, strict=True)), gaps


def test_seats_fit_the_sitters_legs() -> None:
    heights, legs = [], []
    for seed in range(8):
        scene = made("chair", "sit", seed)
        chair = scene.objects[0]
        heights.append(chair.to_world(chair.shape.anchors["seat"].point[None])[0, 1])
        legs.append(scene.joints[RIG.joint_names.index("lowerleg01.L"), 1])
    assert max(heights) - min(heights) > 0.02
    assert all(0.7 < height / leg < 1.1 for height, leg in zip(heights, legs, strict=True))


def test_impossible_seats_are_drawn_again() -> None:
    """A draw that does not work says so, and says nothing else."""
    outcomes = set()
    for draw in range(30):
        try:
            outcomes.add(len(draw_scene(3, draw, "train", Choice("suitcase", "sit")).objects) > 0)
        except Unreachable as error:
            assert "draw again" in str(error)
            outcomes.add(False)
    assert True in outcomes
