"""Bringing hands to places: exactly there, with arms and wrists as people can hold them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ivlm_core.bodies import AnnyRig, mirrored_vertices
from ivlm_core.datasets.synthetic.pose import Side, turn, twist_about, unit
from ivlm_core.datasets.synthetic.programs.hands import axes_for, hand_axes, hand_of
from ivlm_core.datasets.synthetic.programs.reaching import (
    MAX_TWIST,
    Trunk,
    around,
    before_chest,
    bring,
    chest_forward,
    from_shoulder,
    keep_clear,
    look_at,
    several,
    sides_of,
    trunk_of,
)
from ivlm_core.datasets.synthetic.programs.stage import SIDES, UP, Stage, Unreachable

ALONG, PALM = np.eye(3)[:2]


def stage() -> Stage:
    return Stage(np.random.default_rng(0), AnnyRig.load())


@settings(max_examples=25, deadline=None)
@given(
    side=st.sampled_from(SIDES),
    out=st.floats(-0.2, 0.5),
    up=st.floats(-0.7, 0.4),
    ahead=st.floats(0.3, 0.8),
    fingers=st.tuples(st.floats(-0.5, 0.5), st.floats(-0.5, 0.5), st.just(1.0)),
)
def test_hands_arrive_with_unbroken_wrists(
    side: Side, out: float, up: float, ahead: float, fingers: tuple[float, float, float]
) -> None:
    scene = stage()
    point = from_shoulder(scene, side, out, up, ahead)
    inwards = np.array([-1.0 if side == "L" else 1.0, 0.0, 0.0])
    axes = axes_for(side, (ALONG, PALM), (fingers, inwards))
    try:
        bring(scene, side, [(point, axes)], trunk_of(scene))
    except Unreachable:
        assume(False)
    wrist, posed = hand_axes(scene.poser, side)
    # The forearm's two bones are not quite in line.
    np.testing.assert_allclose(wrist, point, atol=2e-3)
    np.testing.assert_allclose(posed, axes, atol=1e-6)
    zero = {name: joint.astype(float) for name, joint in zip(scene.rig.joint_names, scene.rig.joints, strict=True)}
    forearm = unit(zero[f"wrist.{side}"] - zero[f"lowerarm01.{side}"])
    bent = scene.poser.orientation(f"lowerarm01.{side}").T @ scene.poser.orientation(f"wrist.{side}")
    assert abs(twist_about(bent, forearm)) < MAX_TWIST + 10
    # The hand goes on roughly along the forearm.
    assert bent @ forearm @ forearm > np.cos(np.radians(85))


def test_easiest_of_several_places_is_taken() -> None:
    scene = stage()
    point = from_shoulder(scene, "L", 0.1, -0.3, 0.6)
    natural, backwards = (axes_for("L", (ALONG, PALM), (along, (-1, 0, 0))) for along in ((0, 0, 1), (0, 0.3, -1)))
    assert bring(scene, "L", [(point, backwards), (point, natural)], trunk_of(scene)) == 1


def test_places_out_of_reach_are_refused() -> None:
    scene = stage()
    axes = axes_for("R", (ALONG, PALM), ((0, 0, 1), (1, 0, 0)))
    with pytest.raises(Unreachable, match="right hand"):
        bring(scene, "R", [(from_shoulder(scene, "R", 0, 0, 1.4), axes)], trunk_of(scene))


def test_broken_wrists_are_refused() -> None:
    scene = stage()
    point = from_shoulder(scene, "L", 0.0, -0.2, 0.8)
    axes = axes_for("L", (ALONG, PALM), ((0, 0, -1), (-1, 0, 0)))
    with pytest.raises(Unreachable):
        bring(scene, "L", [(point, axes)], trunk_of(scene))


def test_left_and_right_are_mirror_images() -> None:
    bodies = []
    for side, sign in (("L", 1.0), ("R", -1.0)):
        scene = stage()
        axes = axes_for(side, (ALONG, PALM), ((-0.3 * sign, 0.2, 1), (-sign, 0, 0)))
        bring(scene, side, [(from_shoulder(scene, side, 0.1, -0.4, 0.6), axes)], trunk_of(scene))
        bodies.append(scene.vertices())
    np.testing.assert_allclose(bodies[0][mirrored_vertices()] * (-1, 1, 1), bodies[1], atol=2e-3)


def test_trunk_knows_inside_from_outside() -> None:
    scene = stage()
    trunk = trunk_of(scene, head=False)
    points = scene.points("torso", "hips")
    middle, ahead = points.mean(axis=0), np.array([0.0, 0.0, 0.5])
    assert trunk.depth(middle) > 0.05
    assert trunk.depth(middle + ahead) < -0.2
    assert trunk.depth(middle + 10 * UP) == -1
    assert Trunk.of(points).depth(points.astype(float)).max() < 0.12
    with pytest.raises(Unreachable):
        keep_clear(trunk, middle[None])
    keep_clear(trunk, middle[None] + ahead)


def test_shoulder_points_are_outwards_up_and_ahead() -> None:
    scene = stage()
    for side, sign in (("L", 1.0), ("R", -1.0)):
        off = from_shoulder(scene, side, 0.3, 0.2, 0.1) - scene.poser.position(f"upperarm01.{side}")
        assert sign * off[0] > 0.1
        assert off[1] > 0.05
        assert off[2] > 0.02
    middle, left, ahead = before_chest(scene, 0.0, 0.0, 0.0)
    assert abs(middle[0]) < 1e-6
    assert left[0] > 0.99
    assert ahead[2] > 0.99


def test_lying_people_have_no_level_forward() -> None:
    scene = stage()
    scene.poser.orient("root", turn((1, 0, 0), -90))
    with pytest.raises(Unreachable, match="upright"):
        chest_forward(scene)
    # In front of a chest that faces the ceiling is above it.
    assert (before_chest(scene, 0, 0, 0.5)[0] - before_chest(scene, 0, 0, 0)[0])[1] > 0.2


def test_eyes_turn_to_what_is_looked_at() -> None:
    scene = stage()
    look_at(scene, scene.poser.position("head") + np.array([0.5, -0.5, 0.5]))
    face = scene.poser.orientation("head") @ [0, 0, 1]
    assert face[0] > 0.3
    assert face[1] < -0.3


def test_directions_around_an_axis() -> None:
    axis = unit((1, 2, 3))
    directions = np.array(around(axis, 8))
    np.testing.assert_allclose(directions @ axis, 0, atol=1e-12)
    np.testing.assert_allclose(directions.sum(axis=0), 0, atol=1e-12)


def test_sides_of_a_mode() -> None:
    assert sides_of("left hand") == ("L",)
    assert sides_of("under right arm") == ("R",)
    assert sides_of("both hands, lifting") == SIDES


def test_several_tries_stop_at_the_first_that_works() -> None:
    calls = []

    def works_third() -> int:
        calls.append(1)
        if len(calls) < 3:
            raise Unreachable("not yet")
        return len(calls)

    assert several(works_third) == 3
    calls.clear()
    with pytest.raises(Unreachable):
        several(works_third, 2)
    assert hand_of(AnnyRig.load()).length > 0.1
