"""Held things: in the hands that the mode names, as `check_scene` wants them, and never the same twice."""

from __future__ import annotations

from contextlib import suppress
from functools import lru_cache

import numpy as np
import pytest

from ivlm_core.bodies import Phenotype, varied_rig
from ivlm_core.datasets.synthetic.contact import check_scene
from ivlm_core.datasets.synthetic.pose import Side
from ivlm_core.datasets.synthetic.programs.held import ACTIONS, MODES
from ivlm_core.datasets.synthetic.programs.stage import Stage, Unreachable
from ivlm_core.datasets.synthetic.programs.standing import stand
from ivlm_core.datasets.synthetic.scene import Scene

DRAWS = 6
CASES = [(label, mode) for label, modes in MODES.items() for mode in modes]


def standing(seed: int) -> Stage:
    rng = np.random.default_rng(seed)
    person = Phenotype.draw(rng)
    stage = Stage(rng, varied_rig(person), person.values)
    stand(stage)
    return stage


@lru_cache(maxsize=64)
def valid(label: str, mode: str, first: int = 0) -> Scene:
    """The first valid scene of a few draws, the other arm idle."""
    problems: list[str] = []
    for seed in range(first, first + DRAWS):
        with suppress(Unreachable):
            stage = standing(seed)
            ACTIONS[label](stage, label, mode)
            for side in ("L", "R"):
                if side in stage.free:
                    stage.idle(side)
            scene = stage.scene(label)
            problems = check_scene(scene)
            if not problems:
                return scene
    raise AssertionError(f"{label}, {mode}: no valid scene in {DRAWS} draws; last: {problems}")


def test_every_action_has_modes() -> None:
    assert set(ACTIONS) == set(MODES)


@pytest.mark.parametrize(("label", "mode"), CASES)
def test_things_are_held_as_the_mode_says(label: str, mode: str) -> None:
    """`check_scene` counts what each hand touches; the mode decides which hands those are."""
    placed = valid(label, mode).objects[0]
    assert placed.label == label
    assert placed.mode == mode
    named = {side for side in ("left", "right") if side in mode or "both" in mode}
    assert {part.split()[0] for part in placed.parts if part.endswith("hand")} == named
    assert ("head" in placed.parts) == ("ear" in mode)


@pytest.mark.parametrize(("label", "left"), [(label, mode) for label, mode in CASES if "left" in mode])
def test_right_hands_do_what_left_hands_do(label: str, left: str) -> None:
    assert left.replace("left", "right") in MODES[label]


def test_hands_that_are_taken_are_refused() -> None:
    stage = standing(0)
    stage.take("L")
    with pytest.raises(Unreachable, match="not free"):
        ACTIONS["bottle"](stage, "bottle", "both hands")


@pytest.mark.parametrize("side", ["L", "R"])
def test_hands_are_taken(side: Side) -> None:
    stage = standing(1)
    ACTIONS["cup"](stage, "cup", {"L": "left hand", "R": "right hand"}[side])
    assert side not in stage.free
    assert len(stage.free & {"L", "R"}) == 1


def test_seed_decides_everything() -> None:
    bodies = []
    for seed in (3, 3, 4):
        stage = standing(seed)
        ACTIONS["tennis racket"](stage, "tennis racket", "left hand")
        bodies.append((stage.vertices(), stage.objects[0].vertices))
    np.testing.assert_array_equal(bodies[0][0], bodies[1][0])
    np.testing.assert_array_equal(bodies[0][1], bodies[1][1])
    assert not np.array_equal(bodies[0][0], bodies[2][0])


def test_umbrella_is_above_the_head() -> None:
    scene = valid("umbrella", "right hand")
    canopy = scene.objects[0].vertices[:, 1].max()
    assert canopy > scene.body_vertices[:, 1].max() + 0.02


def test_hands_on_a_bat_are_one_above_the_other() -> None:
    stage = standing(0)
    ACTIONS["baseball bat"](stage, "baseball bat", "both hands")
    bat = stage.objects[0]
    along = [
        (stage.points(f"{side} hand").mean(axis=0) - bat.translation) @ bat.rotation[:, 1] for side in ("left", "right")
    ]
    assert abs(along[0] - along[1]) > 0.06


def test_other_hands_of_a_bat_differ_from_draw_to_draw() -> None:
    upper = set()
    for seed in range(8):
        stage = standing(seed)
        with suppress(Unreachable):
            ACTIONS["baseball bat"](stage, "baseball bat", "both hands")
            axis = stage.objects[0].rotation[:, 1]
            upper.add(
                float((stage.points("left hand").mean(axis=0) - stage.points("right hand").mean(axis=0)) @ axis) > 0
            )
    assert upper == {True, False}


def test_lying_people_hold_no_cups() -> None:
    from ivlm_core.datasets.synthetic.pose import turn

    stage = standing(0)
    stage.poser.orient("root", turn((1, 0, 0), -90))
    for bone in ("spine04", "spine03", "spine02", "spine01"):
        stage.poser.bend(bone, (1, 0, 0), 0)
    with pytest.raises(Unreachable):
        ACTIONS["cup"](stage, "cup", "left hand")
