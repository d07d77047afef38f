from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ivlm_core.bodies import AnnyRig
from ivlm_core.datasets.synthetic.pose import Poser, Side, Unreachable, align, cross, turn, twist_about, unit
from ivlm_core.errors import InputError


@pytest.fixture
def poser() -> Poser:
    return Poser(AnnyRig.load())


def test_positions_agree_with_the_rig(poser: Poser) -> None:
    """The poser's own chain of bones gives the joints that the rig's skinning uses."""
    poser.bend("spine03", (1, 0, 0), 25)
    poser.leg("L", (0.2, -0.5, 1), (0, -1, -0.2))
    poser.reach("R", (-0.2, 0.2, 0.3), (-1, -1, 0))
    rig = poser.rig
    moved = rig.bone_transforms(poser.rotations())
    for bone in ("foot.L", "wrist.R", "finger3-3.R", "head", "toe1-1.L"):
        index = rig.joint_names.index(bone)
        expected = moved[index, :, :3] @ rig.joints[index] + moved[index, :, 3]
        np.testing.assert_allclose(poser.position(bone), expected, atol=1e-6)


@pytest.mark.parametrize("side", ["L", "R"])
def test_wrist_reaches_its_target_and_the_elbow_its_side(poser: Poser, side: Side) -> None:
    outward = 1 if side == "L" else -1
    target = np.array([0.25 * outward, 0.1, 0.3])
    poser.reach(side, target, (outward, -0.2, 0))
    np.testing.assert_allclose(poser.position(f"wrist.{side}"), target, atol=1e-6)
    middle = (poser.position(f"upperarm01.{side}") + target) / 2
    assert (poser.position(f"lowerarm01.{side}") - middle) @ np.array([outward, -0.2, 0]) > 0


def test_target_out_of_reach_is_refused(poser: Poser) -> None:
    with pytest.raises(InputError, match=r"wrist\.L: is .* m from the shoulder"):
        poser.reach("L", (2, 0, 0), (0, -1, 0))


@pytest.mark.parametrize("side", ["L", "R"])
def test_palm_normal_sign(poser: Poser, side: Side) -> None:
    """The thumb lies on the palm's side of the hand, on both hands, however the hand is turned."""
    poser.hand(side, fingers=(0, 0, 1), palm=(0, -1, 0))
    wrist, thumb = poser.position(f"wrist.{side}"), poser.position(f"finger1-3.{side}")
    knuckle = poser.position(f"finger3-1.{side}")
    np.testing.assert_allclose(unit(knuckle - wrist), [0, 0, 1], atol=1e-6)
    assert thumb[1] < wrist[1]
    # With palms down and fingers forward both thumbs point inwards.
    assert (thumb[0] - knuckle[0]) * (1 if side == "L" else -1) < 0


@pytest.mark.parametrize("side", ["L", "R"])
def test_curling_moves_finger_tips_towards_the_palm(poser: Poser, side: Side) -> None:
    _, palm = poser.zero_hand(side)
    before = [poser.position(f"finger{finger}-3.{side}") @ palm for finger in (2, 3, 4, 5)]
    poser.curl(side, 50)
    after = [poser.position(f"finger{finger}-3.{side}") @ palm for finger in (2, 3, 4, 5)]
    assert (np.array(after) - before > 0.005).all()


def test_knees_never_bend_forward(poser: Poser) -> None:
    """Sitting: the lower legs hang down from level thighs, and the mesh stays in one piece at the knee."""
    poser.leg("L", (0.1, 0, 1), (0, -1, 0))
    knee, ankle = poser.position("lowerleg01.L"), poser.position("foot.L")
    assert knee[2] > 0.4
    assert ankle[1] < knee[1] - 0.4
    edges = poser.vertices()[poser.rig.faces]
    zero = poser.rig.vertices[poser.rig.faces]
    stretch = np.linalg.norm(np.diff(edges, axis=1), axis=2) / np.maximum(
        np.linalg.norm(np.diff(zero, axis=1), axis=2), 2e-3
    )
    assert np.percentile(stretch, 99.9) < 3


@pytest.mark.parametrize("side", ["L", "R"])
def test_ankle_reaches_its_target_and_the_knee_its_side(poser: Poser, side: Side) -> None:
    outward = 1 if side == "L" else -1
    poser.bend("root", (1, 0, 0), 20)
    target = np.array([0.2 * outward, -0.6, 0.2])
    poser.step(side, target, (0.4 * outward, 0, 1))
    np.testing.assert_allclose(poser.position(f"foot.{side}"), target, atol=1e-6)
    middle = (poser.position(f"upperleg01.{side}") + target) / 2
    knee = poser.position(f"lowerleg01.{side}") - middle
    assert knee @ [0.4 * outward, 0, 1] > 0.1
    np.testing.assert_allclose(poser.orientation(f"foot.{side}"), np.eye(3))
    # The kneecap faces where the knee bends to.
    assert poser.orientation(f"lowerleg01.{side}")[:, 2] @ knee > 0


def test_targets_too_far_and_too_close_are_refused(poser: Poser) -> None:
    with pytest.raises(Unreachable, match=r"foot\.L: is .* m from the hip, the limb is"):
        poser.step("L", (0, -2, 0), (0, 0, 1))
    hip = poser.position("upperleg01.L")
    with pytest.raises(Unreachable, match=r"foot\.L: is only .* m from the hip"):
        poser.step("L", hip - np.array([0, 0.01, 0]), (0, 0, 1))


def test_some_points_are_the_same_as_all_of_them(poser: Poser) -> None:
    """Before and after the whole body was posed; and the joints are where the poser says one by one."""
    poser.bend("spine03", (1, 0, 0), 25)
    poser.curl("R", 40)
    some = np.arange(0, 13000, 37)
    before = poser.points(some)
    whole = poser.vertices()
    np.testing.assert_allclose(before, whole[some], atol=1e-6)
    assert poser.vertices() is whole
    joints = poser.joints()
    for name in ("root", "head", "finger3-3.R", "toe1-1.L"):
        np.testing.assert_allclose(joints[poser.rig.joint_names.index(name)], poser.position(name), atol=1e-9)
    poser.bend("spine03", (1, 0, 0), 0)
    assert np.abs(poser.points(some) - before).max() > 0.05


def test_length_is_that_of_the_chain(poser: Poser) -> None:
    upper, fore = poser.length("upperarm01.L", "lowerarm01.L"), poser.length("lowerarm01.L", "wrist.L")
    assert poser.length("upperarm01.L", "lowerarm01.L", "wrist.L") == pytest.approx(upper + fore)
    assert 0.4 < upper + fore < 0.7


@given(st.lists(st.floats(-3, 3), min_size=6, max_size=6))
def test_cross_is_numpys(values: list[float]) -> None:
    np.testing.assert_allclose(cross(values[:3], values[3:]), np.cross(values[:3], values[3:]), atol=1e-12)


def test_twist_is_the_turn_about_the_axis() -> None:
    axis = unit((1, 2, -1))
    swing = turn(np.cross(axis, (0, 0, 1)), 40)
    assert twist_about(swing @ turn(axis, 25), axis) == pytest.approx(25)
    assert twist_about(turn(axis, -170), axis) == pytest.approx(-170)


def test_align_maps_direction_and_side() -> None:
    rotation = align((1, 0, 0), (0, 2, 0), (0, 0, 3), (1, 0, 5))
    np.testing.assert_allclose(rotation @ [1, 0, 0], [0, 0, 1], atol=1e-12)
    np.testing.assert_allclose(rotation @ [0, 1, 0], [1, 0, 0], atol=1e-12)
    assert np.linalg.det(rotation) == pytest.approx(1)
