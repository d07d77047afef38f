"""Hands on surfaces lie on them, and typing hands type."""

from __future__ import annotations

from contextlib import suppress

import numpy as np
import pytest

from ivlm_core.bodies import AnnyRig, Phenotype, varied_rig
from ivlm_core.datasets.synthetic.contact import check_scene
from ivlm_core.datasets.synthetic.pose import Side
from ivlm_core.datasets.synthetic.programs.registry import SUPPORTS
from ivlm_core.datasets.synthetic.programs.stage import OUTWARD, SIDE_NAMES, SIDES, Stage, Unreachable
from ivlm_core.datasets.synthetic.programs.standing import stand
from ivlm_core.datasets.synthetic.programs.surfaces import ACTIONS, MODES, grip_handle, rest_hand, rest_on_edge
from ivlm_core.datasets.synthetic.scene import Scene

DRAWS = 6
UP = np.array([0.0, 1.0, 0.0])


def standing(seed: int = 0) -> Stage:
    stage = Stage(np.random.default_rng(seed), AnnyRig.load())
    stand(stage)
    return stage


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("normal", [(0, 1, 0), (0, 0.9, -0.4)])
def test_flat_hand_lies_on_a_plane(side: Side, normal: tuple[float, float, float]) -> None:
    stage = standing()
    up = np.array(normal) / np.linalg.norm(normal)
    point = np.array([OUTWARD[side] * 0.2, 0.12, 0.33])
    rest_hand(stage, side, point, up, (0, 0, 1), effort=14.0)
    hand = stage.points(f"{SIDE_NAMES[side]} hand")
    above = (hand - point) @ up
    assert -0.008 < above.min() < 0.002
    assert (above < 0.004).sum() > 60
    assert np.linalg.norm((hand[above < 0.004] - point).mean(axis=0)) < 0.1


@pytest.mark.parametrize("side", SIDES)
def test_only_fingertips_are_on_keys(side: Side) -> None:
    stage = standing()
    point = np.array([OUTWARD[side] * 0.1, 0.05, 0.42])
    rest_hand(stage, side, point, UP, (0, 0, 1), "keys")
    assert stage.poser.position(f"wrist.{side}")[1] > 0.05 + 0.03
    assert stage.points(f"{SIDE_NAMES[side]} hand")[:, 1].min() > 0.05 - 0.008


@pytest.mark.parametrize("side", SIDES)
def test_fingers_bend_over_an_edge(side: Side) -> None:
    stage = standing()
    point = np.array([OUTWARD[side] * 0.15, 0.1, 0.36])
    rest_on_edge(stage, side, point, (1, 0, 0), 0.03, effort=14.0)
    hand = stage.points(f"{SIDE_NAMES[side]} hand") - point
    over = (np.abs(hand[:, 2]) < 0.012) & (np.abs(hand[:, 0]) < 0.1)
    assert -0.008 < hand[over, 1].min() < 0.004
    beyond = hand[(hand[:, 2] > 0.015) & (np.abs(hand[:, 0]) < 0.1)]
    assert beyond[:, 1].min() < -0.015


@pytest.mark.parametrize("side", SIDES)
def test_handle_is_gripped_from_above(side: Side) -> None:
    stage = standing()
    point = np.array([OUTWARD[side] * 0.25, 0.15, 0.4])
    inwards = np.array([-OUTWARD[side], 0.0, 0.0])
    grip_handle(stage, side, point, inwards, 0.016, palm=(0, -1, 0))
    off = stage.points(f"{SIDE_NAMES[side]} hand") - point
    near = np.abs(np.hypot(off[:, 1], off[:, 2]) - 0.016) < 0.004
    assert near.sum() > 60
    assert np.hypot(off[:, 1], off[:, 2]).min() > 0.016 - 0.007
    # The thumb's side of the hand is at the inner end.
    thumb, little = (stage.poser.position(f"finger{number}-2.{side}") for number in (2, 5))
    assert (thumb - little) @ inwards > 0.03


def test_surfaces_out_of_reach_are_refused() -> None:
    with pytest.raises(Unreachable):
        rest_hand(standing(), "L", (0, 0, 1.5), UP, (0, 0, 1))


def typing(label: str, mode: str, ground: str) -> Scene:
    problems: list[str] = []
    for seed in range(DRAWS):
        rng = np.random.default_rng(seed)
        person = Phenotype.draw(rng)
        stage = Stage(rng, varied_rig(person), person.values)
        with suppress(Unreachable):
            SUPPORTS[ground](stage, ground, "sit")
            ACTIONS[label](stage, label, mode)
            for side in SIDES:
                if side in stage.free:
                    stage.idle(side)
            scene = stage.scene(label)
            problems = check_scene(scene)
            if not problems:
                return scene
    raise AssertionError(f"{label}, {mode}: no valid scene in {DRAWS} draws; last: {problems}")


@pytest.mark.parametrize(("label", "mode"), [(label, mode) for label, modes in MODES.items() for mode in modes])
def test_typing_hands_touch_the_keys(label: str, mode: str) -> None:
    ground = "chair" if "lap" in mode else "stand at table" if "both" in mode else "sit at table"
    scene = typing(label, mode, ground)
    placed = next(item for item in scene.objects if item.label == label)
    assert placed.mode == mode
    named = {side for side in ("left", "right") if side in mode or "both" in mode}
    assert {part.split()[0] for part in placed.parts if part.endswith("hand")} == named
    # Who types sees the front of it.
    assert placed.rotation[2, 2] < -0.8


def test_typing_needs_a_table_or_a_lap() -> None:
    with pytest.raises(Unreachable, match="table"):
        ACTIONS["keyboard"](standing(), "keyboard", "both hands")
    with pytest.raises(Unreachable, match="lap"):
        ACTIONS["laptop"](standing(), "laptop", "lap, both hands")
