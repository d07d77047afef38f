"""Grips: fingers close on what they hold, from both sides, and never go through it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ivlm_core.bodies import AnnyRig, Phenotype, mirrored_vertices, varied_rig
from ivlm_core.datasets.synthetic.pose import Poser, Side
from ivlm_core.datasets.synthetic.programs.grips import (
    Hold,
    close,
    hold_ball,
    hold_bar,
    hold_edge,
    hold_keys,
    hold_rail,
    hold_slab,
    hold_surface,
    hold_under,
)
from ivlm_core.datasets.synthetic.programs.hands import Hand, hand_axes, hand_of

# Metres: how deep skin may be in what it holds, and how near it touches.
TOO_DEEP, TOUCHING = 0.0065, 0.004


@pytest.fixture(scope="module")
def hand() -> Hand:
    return hand_of(AnnyRig.load())


def distances(hand: Hand, hold: Hold) -> tuple[np.ndarray, np.ndarray]:
    """Metres from the closed hand's skin to the thing, and the skin itself, hand coordinates."""
    skin = close(hand, hold).skin()
    return hold.solid(skin), skin


@settings(max_examples=25, deadline=None)
@given(radius=st.floats(0.006, 0.055), slant=st.floats(0, 20), tall=st.floats(0.1, 0.9))
def test_bars_are_held_from_both_sides(radius: float, slant: float, tall: float) -> None:
    hand = hand_of(varied_rig(Phenotype(height=round(tall, 1))))
    hold = hold_bar(hand, radius, slant)
    distance, skin = distances(hand, hold)
    assert distance.min() > -TOO_DEEP
    around = skin[distance < TOUCHING] - hold.point
    around = around - np.outer(around @ hold.axis, hold.axis)
    around /= np.linalg.norm(around, axis=1, keepdims=True)
    assert (around @ around.T).min() < -0.3
    assert (around @ hold.normal).min() < -0.8


@pytest.mark.parametrize("radius", [0.012, 0.02, 0.035])
def test_every_finger_and_the_thumb_touch_a_bar(hand: Hand, radius: float) -> None:
    hold = hold_bar(hand, radius)
    grip = close(hand, hold)
    for number, finger in hand.fingers.items():
        turns = np.stack([grip.turns[f"finger{number}-{segment}"] for segment in (1, 2, 3)])
        assert hold.solid(finger.skin(turns[None])[0]).min() < (0.012 if number == 1 else 0.003), number


def test_second_hand_finds_the_far_half_of_a_bar_free(hand: Hand) -> None:
    whole, half = (hold_bar(hand, 0.04, halfway=halfway) for halfway in (False, True))
    far = []
    for hold in (whole, half):
        turns = close(hand, hold).turns
        tips = [
            hand.fingers[number].skin(np.stack([turns[f"finger{number}-{i}"] for i in (1, 2, 3)])[None])[0]
            for number in (2, 3, 4, 5)
        ]
        far.append(float((np.concatenate(tips) - hold.point)[:, 1].max()))
    assert far[1] < min(0.016, far[0])


@settings(max_examples=15, deadline=None)
@given(radius=st.floats(0.03, 0.14))
def test_balls_lie_under_palm_and_fingers(radius: float) -> None:
    hand = hand_of(AnnyRig.load())
    hold = hold_ball(hand, radius)
    distance, _ = distances(hand, hold)
    assert distance.min() > -TOO_DEEP
    assert (distance < TOUCHING).sum() > 60


@pytest.mark.parametrize("slant", [0, 30, 60, 90])
def test_phones_lie_in_the_palm(hand: Hand, slant: float) -> None:
    hold = hold_slab(hand, 0.073, 0.15, 0.009, slant)
    distance, _ = distances(hand, hold)
    assert distance.min() > -TOO_DEEP
    assert (distance < TOUCHING).sum() > 80


@settings(max_examples=20, deadline=None)
@given(thickness=st.floats(0.002, 0.04), yaw=st.floats(-30, 70))
def test_edges_are_between_thumb_and_fingers(thickness: float, yaw: float) -> None:
    hand = hand_of(AnnyRig.load())
    hold = hold_edge(hand, thickness, yaw)
    grip = close(hand, hold)
    assert hold.solid(grip.skin()).min() > -TOO_DEEP
    heights = {}
    for number in (1, 3):
        turns = np.stack([grip.turns[f"finger{number}-{segment}"] for segment in (1, 2, 3)])
        skin = hand.fingers[number].skin(turns[None])[0]
        near = skin[hold.solid(skin) < 0.012] - hold.point
        assert len(near), number
        heights[number] = float((near @ hold.normal).mean())
    # The thumb is on the far face, the middle finger on the near one.
    assert heights[3] < -thickness / 2 + TOO_DEEP
    assert heights[1] > heights[3]


def test_fingers_reach_into_the_rim_of_a_disc(hand: Hand) -> None:
    hold = hold_edge(hand, 0.0025, lip=(0.006, 0.028))
    distance, skin = distances(hand, hold)
    assert distance.min() > -TOO_DEEP
    inside = (skin - hold.point) @ hold.axis > 0.012
    under = (skin - hold.point) @ hold.normal < 0
    assert distance[inside & under].min() < TOUCHING


@pytest.mark.parametrize("make", [hold_surface, hold_keys])
def test_hands_rest_on_surfaces(hand: Hand, make: object) -> None:
    distance, _ = distances(hand, make(hand))  # type: ignore[operator]
    assert distance.min() > -TOO_DEEP
    assert (distance < TOUCHING).sum() > 60


def test_typing_palm_is_above_the_keys(hand: Hand) -> None:
    assert hold_keys(hand).solid(hand.palm).min() > 0.01


@pytest.mark.parametrize("thickness", [0.02, 0.045])
def test_fingers_bend_over_a_backrest(hand: Hand, thickness: float) -> None:
    hold = hold_rail(hand, thickness)
    distance, skin = distances(hand, hold)
    assert distance.min() > -TOO_DEEP
    over = skin[distance < TOUCHING] - hold.point
    assert over[:, 0].max() > thickness / 2
    assert over[:, 1].max() > 0.02


def test_fingers_come_round_the_edge_of_a_board(hand: Hand) -> None:
    hold = hold_under(hand, 0.03)
    distance, skin = distances(hand, hold)
    assert distance.min() > -TOO_DEEP
    assert (skin - hold.point)[distance < 0.01, 1].max() > 0.005
    # A body is behind the board.
    fingers = [number for number in hand.fingers if number > 1]
    grip = close(hand, hold)
    for number in fingers:
        turns = np.stack([grip.turns[f"finger{number}-{i}"] for i in (1, 2, 3)])
        assert (hand.fingers[number].skin(turns[None])[0] - hold.point)[:, 1].max() < 0.03 + 0.025


@pytest.mark.parametrize("side", ["L", "R"])
def test_applied_grip_is_what_was_solved(side: Side, hand: Hand) -> None:
    poser = Poser(AnnyRig.load())
    grip = close(hand, hold_bar(hand, 0.03))
    grip.apply(poser, side)
    wrist, axes = hand_axes(poser, side)
    posed = (poser.vertices() - wrist) @ axes
    nearest = np.linalg.norm(grip.skin()[::7, None] - posed[None], axis=2).min(axis=1)
    # Webs between fingers follow both neighbours in the body and only their own finger here.
    assert np.percentile(nearest, 97) < 0.002


def test_grips_mirror_exactly(hand: Hand) -> None:
    bodies = {}
    for side in ("L", "R"):
        poser = Poser(AnnyRig.load())
        close(hand, hold_bar(hand, 0.02)).apply(poser, side)
        bodies[side] = poser.vertices()
    np.testing.assert_allclose(bodies["L"][mirrored_vertices()] * (-1, 1, 1), bodies["R"], atol=5e-4)
