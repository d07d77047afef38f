from __future__ import annotations

import numpy as np
import pytest

from ivlm_core.bodies import AnnyRig
from ivlm_core.datasets.synthetic.pose import Poser, Side, align, turn, twist_about, unit
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
