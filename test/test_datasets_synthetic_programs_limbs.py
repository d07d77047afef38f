from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ivlm_core.bodies import AnnyRig, Phenotype, varied_rig
from ivlm_core.datasets.synthetic.pose import Side, turn
from ivlm_core.datasets.synthetic.programs.limbs import (
    CLEARANCE,
    arm_clearance,
    arm_length,
    bend_trunk,
    bent_arm,
    hanging_arm,
    idle_arm,
    leg_length,
    plant,
    pose_arm,
    raised_arm,
    rest_hand,
    stand_height,
    turn_head,
    upright,
)
from ivlm_core.datasets.synthetic.programs.stage import FORWARD, OUTWARD, SIDE_NAMES, SIDES, UP, Stage, Unreachable
from ivlm_core.objects import library_shape

BODIES = [
    AnnyRig.load(),
    varied_rig(Phenotype(gender=1.0, age=0.67, weight=0.8, height=0.3)),
    varied_rig(Phenotype(gender=0.0, age=0.8, weight=0.25, height=0.6)),
]


def stage_of(body: int, seed: int = 0) -> Stage:
    return Stage(np.random.default_rng(seed), BODIES[body])


@pytest.mark.parametrize("body", range(3))
@pytest.mark.parametrize("side", SIDES)
def test_planted_soles_are_where_they_should_be(body: int, side: Side) -> None:
    stage = stage_of(body)
    out = OUTWARD[side]
    floor = -0.9 * leg_length(stage)
    plant(stage, side, 0.2 * out, 0.1, floor, yaw=20.0 * out)
    foot = stage.points(f"{SIDE_NAMES[side]} foot")
    assert foot[:, 1].min() == pytest.approx(floor, abs=0.004)
    np.testing.assert_allclose(stage.poser.position(f"foot.{side}")[[0, 2]], [0.2 * out, 0.1], atol=1e-6)
    toes = foot[foot[:, 2].argmax()] - stage.poser.position(f"foot.{side}")
    assert 5 < np.degrees(np.arctan2(toes[0] * out, toes[2])) < 45


@pytest.mark.parametrize("body", range(3))
def test_floor_is_as_low_as_the_farther_foot_reaches(body: int) -> None:
    stage = stage_of(body)
    floor = stand_height(stage, {"L": (0.15, 0.0), "R": (-0.4, 0.1)}, stretch=0.98)
    for side, (x, z) in {"L": (0.15, 0.0), "R": (-0.4, 0.1)}.items():
        plant(stage, side, x, z, floor)
    hips = [stage.poser.position(f"upperleg01.{side}") for side in SIDES]
    ankles = [stage.poser.position(f"foot.{side}") for side in SIDES]
    reaches = [np.linalg.norm(hip - ankle) / leg_length(stage) for hip, ankle in zip(hips, ankles, strict=True)]
    assert max(reaches) == pytest.approx(0.98, abs=1e-3)
    with pytest.raises(Unreachable, match="right foot is too far away"):
        stand_height(stage, {"L": (0.1, 0.0), "R": (-1.5, 0.0)})


def test_trunk_bends_and_turns_by_what_is_asked() -> None:
    stage = stage_of(0)
    bend_trunk(stage, left_turn=40.0)
    forward = stage.poser.orientation("spine01") @ FORWARD
    assert np.degrees(np.arctan2(forward[0], forward[2])) == pytest.approx(40)
    bend_trunk(stage, forward=30.0)
    up = stage.poser.orientation("spine01") @ UP
    assert np.degrees(np.arctan2(up[2], up[1])) == pytest.approx(30)
    turn_head(stage, nod=20.0)
    up = stage.poser.orientation("head") @ UP
    assert np.degrees(np.arctan2(up[2], up[1])) == pytest.approx(50)


@given(
    st.sampled_from(SIDES),
    st.lists(st.floats(-1, 1), min_size=6, max_size=6).filter(
        lambda v: min(np.linalg.norm(v[:3]), np.linalg.norm(v[3:])) > 0.2
    ),
)
@settings(max_examples=40, deadline=None)
def test_arms_point_where_they_are_told(side: Side, directions: list[float]) -> None:
    """Upper arm and forearm follow their directions, unless they would fold onto each other."""
    stage = stage_of(0)
    upper, fore = (np.array(part) / np.linalg.norm(part) for part in (directions[:3], directions[3:]))
    try:
        pose_arm(stage, side, upper, fore, palm=turn(FORWARD, 90) @ np.cross(upper, fore) + 0.01 * UP)
    except Unreachable:
        assert upper @ fore < -0.9
        return
    heads = [stage.poser.position(f"{bone}.{side}") for bone in ("upperarm01", "lowerarm01", "wrist")]
    for wanted, start, end in ((upper, heads[0], heads[1]), (fore, heads[1], heads[2])):
        along = (end - start) / np.linalg.norm(end - start)
        assert along @ wanted > 0.98


@pytest.mark.parametrize("body", range(3))
@pytest.mark.parametrize("way", [hanging_arm, bent_arm, raised_arm])
def test_idle_arms_touch_nothing(body: int, way: object) -> None:
    for side in SIDES:
        stage = stage_of(body, 5)
        idle_arm(stage, side, ((1.0, way),))  # type: ignore[arg-type]
        assert arm_clearance(stage, side) >= CLEARANCE


def test_idle_arm_among_things_is_refused() -> None:
    stage = stage_of(0)
    stage.place(library_shape("box", width=3.0, height=3.0, depth=3.0), np.eye(3), np.zeros(3))
    with pytest.raises(Unreachable, match="finds no room"):
        idle_arm(stage, "L", ((1.0, hanging_arm), (1.0, bent_arm)))


@pytest.mark.parametrize("side", SIDES)
def test_resting_hand_lies_on_its_plane(side: Side) -> None:
    stage = stage_of(0)
    point = np.array([0.3 * OUTWARD[side], 0.1, 0.3])
    normal = turn((1, 0, 0), 15) @ UP
    rest_hand(stage, side, point, FORWARD, normal, curl=0.0)
    above = (stage.points(f"{SIDE_NAMES[side]} hand") - point) @ normal
    assert -0.012 < above.min() < 0.002
    assert (above < 0.02).mean() > 0.35
    with pytest.raises(Unreachable, match="the limb is"):
        rest_hand(stage, side, point + arm_length(stage) * FORWARD, FORWARD)


def test_upright_points_z_along_the_direction() -> None:
    rotation = upright(np.array([1.0, 0.7, 1.0]))
    np.testing.assert_allclose(rotation @ FORWARD, [np.sqrt(0.5), 0, np.sqrt(0.5)])
    np.testing.assert_allclose(rotation @ UP, UP)
    assert np.linalg.det(rotation) == pytest.approx(1)
