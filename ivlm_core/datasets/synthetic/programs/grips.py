"""Closing a hand around things: where they lie in the hand, and how far fingers and thumb bend to touch them.

A *hold* says where a thing lies in a hand, in hand coordinates (see `hands`), at no cost; `close` then bends the
fingers, about 6 ms. Both fit either hand.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ivlm_core.bodies import AnnyRig
from ivlm_core.datasets.synthetic.pose import CURL_SHARES, Matrix, Poser, Side, Vector, cross, turn, unit
from ivlm_core.datasets.synthetic.programs.hands import (
    ALONG,
    LITTLE,
    PALM,
    Distance,
    Finger,
    Hand,
    axes_for,
    ball,
    bar,
    block,
    capsules,
    half_space,
    mirrored_axes,
    turns_about,
    union,
)

# Skin may sink this deep into what it holds; flesh gives way and the skinned mesh does not.
SOFTNESS = 0.002
FINGERS = (2, 3, 4, 5)
# Degrees relative to the zero pose, in which every joint is bent by about ten degrees already.
OPEN, CLOSED = (-22.0, -14.0, -10.0), (80.0, 95.0, 60.0)
ARCHED = (-18.0, 22.0, 12.0)
STEPS, FINE_STEPS = 16, 8
# Degrees by which the thumb swings under the palm, lifts off it, and bends: what is tried, and then around the best.
THUMB_TRIES = np.array([*product(range(-30, 71, 20), range(-30, 31, 15), range(-20, 61, 20))], dtype=np.float64).T
THUMB_NUDGES = np.array([*product((-10, 0, 10), (-8, 0, 8), (-10, 0, 10))], dtype=np.float64).T
# Share of the spread each finger takes; positive turns towards the thumb.
SPREADS = MappingProxyType({2: 1.0, 3: 0.2, 4: -0.6, 5: -1.4})


@dataclass(frozen=True, eq=False)
class Hold:
    """Where a thing lies in a hand, in hand coordinates.

    Attributes
    ----------
    point, axis, normal : (3,) of the thing, `normal` unit and out of the palm into it. A bar: its middle, and the
        direction of its thumb's end. A ball: its centre, along the fingers. A slab in the palm: the middle of the face
        on the palm, and the direction of its top. A slab between thumb and fingers: the middle of its edge, and the
        direction from there into the slab. A surface: the point under the palm, along the fingers.
    solid : what fingers and thumb must not sink into. stop : what the fingers stop at besides.
    spread : degrees between the fingers. start : bend of the joints from which the fingers close, degrees.
    shares : how much each joint takes part.
    """

    point: Vector
    axis: Vector
    normal: Vector
    solid: Distance
    stop: Distance | None = None
    spread: float = 0.0
    start: tuple[float, float, float] = OPEN
    shares: tuple[float, float, float] = CURL_SHARES

    def axes(self, side: Side, axis: Any, normal: Any) -> Matrix:
        """The hand's axes (3, 3) when the thing's `axis` and, as far as that allows, its `normal` point like this."""
        return axes_for(side, (self.axis, self.normal), (axis, normal))

    def axes_from_normal(self, side: Side, normal: Any, axis: Any) -> Matrix:
        """As `axes`, but the thing's `normal` is exact and its `axis` points as far as that allows."""
        return axes_for(side, (self.normal, self.axis), (normal, axis))


@dataclass(frozen=True, eq=False)
class Grip:
    """A closed hand: finger bone without side ("finger2-1") → (3, 3) turn in its parent's frame, hand coordinates."""

    hand: Hand
    turns: Mapping[str, Matrix]

    def apply(self, poser: Poser, side: Side) -> None:
        """Bend the fingers of a posed hand accordingly."""
        frame = mirrored_axes(self.hand.frame, side)
        for stem, rotation in self.turns.items():
            bone = f"{stem}.{side}"
            poser.orient(bone, poser.orientation(_parent(poser.rig, bone)) @ frame @ rotation @ frame.T)

    def skin(self) -> NDArray[np.float64]:
        """(V, 3) vertices of palm and fingers as they are in this grip, hand coordinates."""
        fingers = [
            finger.skin(np.stack([self.turns.get(f"finger{number}-{i}", np.eye(3)) for i in (1, 2, 3)])[None])[0]
            for number, finger in self.hand.fingers.items()
        ]
        return np.concatenate([self.hand.palm, *fingers])


def hold_bar(hand: Hand, radius: float, slant: float = 12.0, halfway: bool = False) -> Hold:
    """A cylinder across the palm: bottle, racket, umbrella, handle.

    Parameters
    ----------
    radius : metres.
    slant : degrees by which the cylinder's thumb end leans towards the fingertips.
    halfway : leave the far half to the other hand.
    """
    tilt = np.radians(slant)
    axis = np.array([np.sin(tilt), 0.0, -np.cos(tilt)])
    # A bar lies where the fingers begin, so that both they and the thumb get round it.
    point = np.array([hand.length - 0.012 * hand.scale, 0.0, 0.0])
    point = point + PALM * _settled(hand, point, cross(axis, PALM), axis, radius)
    stop = half_space(point + PALM * 0.3 * radius, PALM) if halfway else None
    return Hold(point, axis, PALM, bar(point, axis, radius), stop)


def hold_ball(hand: Hand, radius: float, spread: float = 9.0) -> Hold:
    """A ball in the palm under spread fingers; balls larger than the hand rest against it."""
    centre = np.array([hand.length * 0.96, 0.0, 0.004 * hand.scale])
    depth = radius - SOFTNESS
    around = hand.palm - centre
    off = around[:, 0] ** 2 + around[:, 2] ** 2
    under = off < depth**2
    centre[1] = float((hand.palm[under, 1] + np.sqrt(depth**2 - off[under])).max())
    return Hold(centre, ALONG, PALM, ball(centre, radius), spread=spread)


def hold_slab(hand: Hand, width: float, height: float, thickness: float, slant: float = 50.0) -> Hold:
    """A phone or the like with its back in the palm, fingers around one long edge, the thumb at the other.

    Parameters
    ----------
    slant : degrees from along the fingers to the slab's top, which leans to the thumb's side.
    """
    tilt = np.radians(slant)
    top = np.array([np.cos(tilt), 0.0, -np.sin(tilt)])
    across = np.array([np.sin(tilt), 0.0, np.cos(tilt)])
    # The near edge lies in the fork of the thumb, or as far out as the fingers can still get round the other one.
    fork = hand.length * np.array([0.80, 0.0, -0.14])
    centre = fork + across * (0.5 * width - 0.004) + top * 0.02
    around = hand.palm - centre
    over = (np.abs(around @ across) < width / 2) & (np.abs(around @ top) < height / 2)
    back = float(hand.palm[over, 1].max()) - SOFTNESS
    centre[1] = back + thickness / 2
    solid = block(centre, np.stack([across, PALM, top], axis=1), (width / 2, thickness / 2, height / 2))
    return Hold(centre - PALM * thickness / 2, top, PALM, solid)


def hold_edge(
    hand: Hand,
    thickness: float,
    yaw: float = 0.0,
    rise: float = 14.0,
    deep: float = -0.08,
    lip: tuple[float, float] = (0.0, 0.0),
) -> Hold:
    """A flat thing by its edge, the fingers flat on one face, the thumb on the other: book, frisbee, board.

    Parameters
    ----------
    thickness : metres.
    yaw : degrees by which the direction into the thing is turned from along the fingers, towards the little finger.
    rise : degrees by which it rises out of the palm's plane.
    deep : how far the edge is from the knuckles to the finger tips, 0…1.
    lip : width and height, metres, of a rim along the edge on the fingers' side.
    """
    into = turn(PALM, -yaw) @ turn(LITTLE, rise) @ ALONG
    normal = turn(PALM, -yaw) @ turn(LITTLE, rise) @ PALM
    finger = hand.fingers[3]
    knuckle = finger.heads[0]
    out = float(np.linalg.norm(finger.tip - knuckle)) * deep
    below = thickness / 2 + lip[1]
    edge = knuckle + ALONG * out + PALM * (finger.radius + np.tan(np.radians(rise)) * out + below)
    axes = np.stack([into, normal, cross(into, normal)], axis=1)
    # What of the palm is under it carries it.
    above = (hand.palm - edge) @ axes
    under = (above[:, 0] > 0) & (np.abs(above[:, 2]) < 0.05 * hand.scale)
    if under.any():
        edge = edge + normal * max(0.0, float(above[under, 1].max()) + below - SOFTNESS)
    solid = block(edge + into * 0.1, axes, (0.1, thickness / 2, 0.2))
    if lip[1]:
        centre = edge + into * lip[0] / 2 - normal * (thickness + lip[1]) / 2
        solid = union(solid, block(centre, axes, (lip[0] / 2, lip[1] / 2, 0.2)))
    # A thin sheet must not slip between two steps of a closing finger.
    stop = block(edge + into * 0.1 + normal * 0.06, axes, (0.1, 0.06 + thickness / 2, 0.2))
    return Hold(edge, into, normal, solid, stop)


def hold_surface(hand: Hand, spread: float = 5.0) -> Hold:
    """A flat surface under the hand."""
    height = float(hand.palm[:, 1].max()) - SOFTNESS
    point = np.array([0.85 * hand.length, height, 0.0])
    return Hold(point, ALONG, PALM, half_space(point, PALM), spread=spread)


def hold_keys(hand: Hand, lift: float = 0.016, spread: float = 3.0) -> Hold:
    """A surface under the fingertips, the palm held above it."""
    height = float(hand.palm[:, 1].max()) + lift * hand.scale
    normal = unit(PALM + 0.12 * ALONG)
    point = np.array([1.35 * hand.length, height, 0.0])
    return Hold(point, ALONG, normal, half_space(point, normal), None, spread, ARCHED, (1.0, 0.25, 0.1))


def hold_rail(hand: Hand, thickness: float, depth: float = 0.12) -> Hold:
    """An upright edge, such as a backrest's, under the palm, with the fingers bent down behind it."""
    height = float(hand.palm[:, 1].max()) - SOFTNESS
    start = hand.length * 1.04 - thickness / 2
    point = np.array([start, height, 0.0])
    solid = block(point + PALM * depth / 2, np.eye(3), (thickness / 2, depth / 2, 0.3))
    return Hold(point, LITTLE * -1.0, PALM, solid)


def hold_under(hand: Hand, thickness: float) -> Hold:
    """A board with its face in the palm and its edge under the bent fingers.

    The point is on the edge of that face, the axis leads from there into the board.
    """
    height = float(hand.palm[:, 1].max()) - SOFTNESS
    point = np.array([hand.length + 0.018 * hand.scale, height, 0.0])
    solid = block(point + np.array([-0.15, thickness / 2, 0.0]), np.eye(3), (0.15, thickness / 2, 0.3))
    # There is a body behind the board, so the fingers do not come round further than its far face.
    stop = half_space(point + PALM * (thickness + 0.016 * hand.scale), PALM)
    return Hold(point, -ALONG, PALM, solid, stop)


def close(hand: Hand, hold: Hold, fingers: Sequence[int] = FINGERS, thumb: bool = True) -> Grip:
    """Bend fingers and thumb until they touch what the hand holds.

    Where a segment of a finger is stopped, those after it go on, so that fingers wrap around what they can.
    """
    solid = hold.solid if hold.stop is None else union(hold.solid, hold.stop)
    turns: dict[str, Matrix] = {}
    for number in fingers:
        finger = hand.fingers[number]
        aside = turn(PALM, hold.spread * SPREADS[number])
        degrees = _close_finger(finger, solid, aside, hold)
        for segment, matrix in enumerate(_finger_turns(finger, degrees[None], aside)[0], start=1):
            turns[f"finger{number}-{segment}"] = matrix
    if thumb:
        _close_thumb(hand, hold, turns)
    return Grip(hand, turns)


def _settled(hand: Hand, middle: Vector, across: Vector, axis: Vector, radius: float) -> float:
    """Height above `middle` at which a cylinder with this axis lies on the palm."""
    depth = radius - SOFTNESS
    around = hand.palm - middle
    off = around @ unit(across)
    # Beyond the hand's width there is nothing to lie on.
    under = (np.abs(off) < depth) & (np.abs(around @ axis) < 0.04 * hand.scale)
    return float((around[under, 1] + np.sqrt(depth**2 - off[under] ** 2)).max())


def _close_finger(finger: Finger, solid: Distance, aside: Matrix, hold: Hold) -> NDArray[np.float64]:
    """(3,) degrees of its joints."""
    degrees, shares, closed = np.array(hold.start), np.array(hold.shares), np.array(CLOSED)
    first = 0
    pads = finger.pads
    while first < 3:
        moving = np.where(np.arange(3) >= first, shares, 0.0)
        later = pads[finger.segment[pads] >= first]
        reach = float(((closed - degrees) / np.maximum(moving, 1e-9)).min())
        for steps in (STEPS, FINE_STEPS):
            tries = degrees + np.linspace(0.0, reach, steps)[:, None] * moving
            depth = -solid(finger.skin(_finger_turns(finger, tries, aside), later))  # (K, P)
            stopped = np.flatnonzero(depth.max(axis=1) > SOFTNESS)
            if len(stopped) == 0:
                return np.asarray(tries[-1])
            stop = int(stopped[0])
            segment = int(finger.segment[later[depth[stop].argmax()]])
            degrees = tries[max(stop - 1, 0)]
            reach = float(reach / (steps - 1)) if stop else 0.0
        first = segment + 1
    return degrees


def _finger_turns(finger: Finger, degrees: NDArray[np.float64], aside: Matrix) -> NDArray[np.float64]:
    """(K, 3, 3, 3) turns of its bones from (K, 3) degrees of bending, after `aside` has spread it."""
    turns = turns_about(finger.axis, degrees)
    turns[:, 0] = aside @ turns[:, 0]
    return turns


def _close_thumb(hand: Hand, hold: Hold, turns: dict[str, Matrix]) -> None:
    """Bring the thumb round to the thing's other side and bend it until it touches, clear of the fingers."""
    thumb = hand.fingers[1]
    pads = thumb.pads[thumb.segment[thumb.pads] > 0]
    tips = thumb.segment[pads] == 2
    neighbours = [
        (hand.fingers[number].axes(np.stack([turns[f"finger{number}-{i}"] for i in (1, 2, 3)])), number)
        for number in (2, 3)
        if f"finger{number}-1" in turns
    ]
    swings, lifts, bends = THUMB_TRIES
    for refine in (1.0, 0.5, 0.25):
        root = turns_about(ALONG, swings) @ turns_about(thumb.axis, lifts)
        later = turns_about(thumb.axis, bends)
        tries = np.stack([root, later, later], axis=1)
        skin = thumb.skin(tries, pads)
        away = hold.solid(skin)
        deep = np.maximum(-away.min(axis=1) - SOFTNESS, 0.0)
        gap = np.maximum(away[:, tips].min(axis=1), 0.0)
        # The palm is on the thing's near side, so the thumb belongs on the far one, but not at the price of a cramp.
        opposed = (skin[:, tips].mean(axis=1) - hold.point) @ hold.normal
        effort = (swings / 60) ** 2 + (lifts / 40) ** 2 + (bends / 50) ** 2
        cost = 40 * deep + 8 * gap - opposed + 0.004 * effort
        good = np.argsort(cost)[:12]
        for axes, number in neighbours:
            clear = capsules(axes, hand.fingers[number].radius)(skin[good])
            cost[good] += 40 * np.maximum(-clear.min(axis=1) - SOFTNESS, 0.0)
        best = int(good[cost[good].argmin()])
        swings, lifts, bends = np.array([swings[best], lifts[best], bends[best]])[:, None] + refine * THUMB_NUDGES
    for segment, matrix in enumerate(tries[best], start=1):
        turns[f"finger1-{segment}"] = matrix


def _parent(rig: AnnyRig, bone: str) -> str:
    return rig.joint_names[rig.parents[rig.joint_names.index(bone)]]
