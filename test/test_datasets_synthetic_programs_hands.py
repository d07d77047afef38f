"""A hand in its own coordinates: the same skin as the posed body's, and the same for left and right."""

from __future__ import annotations

import numpy as np
import pytest

from ivlm_core.bodies import AnnyRig, Phenotype, varied_rig
from ivlm_core.datasets.synthetic.pose import Poser, Side, turn
from ivlm_core.datasets.synthetic.programs.hands import (
    ALONG,
    LITTLE,
    PALM,
    axes_for,
    ball,
    bar,
    block,
    capsules,
    half_space,
    hand_axes,
    hand_of,
    turns_about,
    union,
)


@pytest.fixture(scope="module")
def rig() -> AnnyRig:
    return AnnyRig.load()


def test_axes_point_along_the_hand_out_of_the_palm_and_to_the_little_finger(rig: AnnyRig) -> None:
    poser = Poser(rig)
    for side in ("L", "R"):
        wrist, axes = hand_axes(poser, side)
        inside = {
            name: (poser.position(f"{name}.{side}") - wrist) @ axes for name in ("finger1-3", "finger3-3", "finger5-1")
        }
        assert inside["finger3-3"][0] > 0.15
        # The thumb's tip is on the palm's side, opposite to the little finger.
        assert inside["finger1-3"][1] > 0.02
        assert inside["finger1-3"][2] < -0.03
        assert inside["finger5-1"][2] > 0.03


def test_hand_coordinates_are_the_same_left_and_right(rig: AnnyRig) -> None:
    poser = Poser(rig)
    places = []
    for side in ("L", "R"):
        wrist, axes = hand_axes(poser, side)
        places.append(np.stack([(poser.position(f"finger{n}-2.{side}") - wrist) @ axes for n in range(1, 6)]))
    np.testing.assert_allclose(places[0], places[1], atol=1e-4)


def test_unbent_fingers_are_those_of_the_zero_pose(rig: AnnyRig) -> None:
    hand = hand_of(rig)
    wrist, axes = hand_axes(Poser(rig), "L")
    body = (rig.vertices - wrist) @ axes
    for finger in hand.fingers.values():
        skin = finger.skin(np.tile(np.eye(3), (1, 3, 1, 1)))[0]
        nearest = np.linalg.norm(skin[:, None] - body[None], axis=2).min(axis=1)
        assert nearest.max() < 1e-4


def test_hands_of_small_people_are_smaller() -> None:
    small, large = (hand_of(varied_rig(Phenotype(height=height))) for height in (0.1, 0.9))
    assert small.length < 0.9 * large.length
    assert small.scale < large.scale


@pytest.mark.parametrize("side", ["L", "R"])
def test_axes_for_points_the_hand_as_wanted(side: Side) -> None:
    wanted = np.array([0.6, 0.0, 0.8])
    axes = axes_for(side, (ALONG, PALM), (wanted, (0.0, 1.0, 0.0)))
    np.testing.assert_allclose(axes @ ALONG, wanted, atol=1e-12)
    np.testing.assert_allclose(axes @ PALM, [0, 1, 0], atol=1e-12)
    # A left hand's axes are right-handed, a right hand's its mirror image.
    assert np.linalg.det(axes) == pytest.approx(1 if side == "L" else -1)


def test_distances_to_solids() -> None:
    zero = np.zeros(3)
    points = np.array([[0.0, 0.0, 0.0], [0.03, 0.0, 0.0], [0.0, 0.04, 0.5]])
    np.testing.assert_allclose(bar(zero, LITTLE, 0.01)(points), [-0.01, 0.02, 0.03], atol=1e-12)
    np.testing.assert_allclose(ball(zero, 0.02)(points[:2]), [-0.02, 0.01], atol=1e-12)
    box = block(zero, np.eye(3), (0.01, 0.02, 1.0))
    np.testing.assert_allclose(box(points), [-0.01, 0.02, 0.02], atol=1e-12)
    np.testing.assert_allclose(half_space(zero, PALM)(points), [0, 0, -0.04], atol=1e-12)
    np.testing.assert_allclose(capsules([(zero, ALONG)], 0.01)(points[:2]), [-0.01, -0.01], atol=1e-12)
    np.testing.assert_allclose(union(box, ball(zero, 0.02))(points[:2]), [-0.02, 0.01], atol=1e-12)


def test_turns_about_an_axis() -> None:
    turned = turns_about(PALM, np.array([0.0, 30.0, 90.0]))
    for degrees, matrix in zip((0.0, 30.0, 90.0), turned, strict=True):
        np.testing.assert_allclose(matrix, turn(PALM, degrees), atol=1e-12)
