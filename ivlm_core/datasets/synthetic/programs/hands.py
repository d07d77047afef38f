"""A hand as its grips see it: bones and skin in its own coordinates, the same for left and right, and simple solids.

*Hand coordinates*: origin at the wrist, x along the hand, y out of the palm, z towards the little finger, metres, the
hand's bones at their zero pose. The right hand is the left one's mirror image, so what fits one fits the other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ivlm_core.bodies import AnnyRig
from ivlm_core.datasets.synthetic.pose import Matrix, Poser, Side, Vector, basis, cross, unit

# Metres to the nearest surface, negative inside: (..., 3) → (...).
Distance = Callable[[NDArray[Any]], NDArray[np.float64]]
ALONG, PALM, LITTLE = np.eye(3)
MIRROR = np.diag([-1.0, 1.0, 1.0])


@dataclass(frozen=True, eq=False)
class Finger:
    """One finger's bones and skin in hand coordinates.

    Attributes
    ----------
    heads : (3, 3) heads of its three bones. tip : (3,) its end.
    axis : (3,) about which it bends.
    fixed : (V, 3) the share of each vertex that the finger's own bones do not move.
    blend : (V, 12) what its bones move: for each the weighted zero-pose position and the weight.
    segment : (V,) the bone, 0…2, that moves a vertex most.
    pads : indices of vertices on the side that touches what is held, thinned out.
    radius : half its thickness, metres.
    """

    heads: NDArray[np.float64]
    tip: Vector
    axis: Vector
    fixed: NDArray[np.float64]
    blend: NDArray[np.float64]
    segment: NDArray[np.intp]
    pads: NDArray[np.intp]
    radius: float

    def skin(self, turns: NDArray[np.float64], some: NDArray[np.intp] | slice = slice(None)) -> NDArray[np.float64]:
        """(K, P, 3) all or some vertices for K sets of its bones' turns (K, 3, 3, 3), each in its parent's frame."""
        chain = self._chain(turns)
        # One product for all three bones: [weighted positions, weights] times [turn; offset].
        moves = np.concatenate(
            [
                np.concatenate(
                    [orientation.transpose(0, 2, 1), (head - orientation @ self.heads[segment])[:, None]], axis=1
                )
                for segment, (orientation, head) in enumerate(chain)
            ],
            axis=1,
        )  # (K, 12, 3)
        skin: NDArray[np.float64] = self.fixed[some] + self.blend[some] @ moves
        return skin

    def axes(self, turns: NDArray[np.float64]) -> list[tuple[Vector, Vector]]:
        """Start and end of its three segments for one set of turns (3, 3, 3)."""
        ends = [*self.heads[1:], self.tip]
        return [
            (head[0], head[0] + orientation[0] @ (ends[segment] - self.heads[segment]))
            for segment, (orientation, head) in enumerate(self._chain(turns[None]))
        ]

    def _chain(self, turns: NDArray[np.float64]) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
        orientation, head = turns[:, 0], np.repeat(self.heads[:1], len(turns), axis=0)
        chain = [(orientation, head)]
        for segment in (1, 2):
            head = head + orientation @ (self.heads[segment] - self.heads[segment - 1])
            orientation = orientation @ turns[:, segment]
            chain.append((orientation, head))
        return chain


@dataclass(frozen=True, eq=False)
class Hand:
    """A person's hand in hand coordinates.

    Attributes
    ----------
    frame : (3, 3) the left hand's axes in the zero pose, as columns.
    fingers : 1 (thumb) … 5 (little finger).
    palm : (P, 3) zero-pose vertices of palm and back of the hand.
    length : from the wrist to the middle finger's first joint, metres.
    """

    frame: Matrix
    fingers: Mapping[int, Finger]
    palm: NDArray[np.float64]
    length: float

    @property
    def scale(self) -> float:
        """Size relative to the default adult's hand."""
        return self.length / 0.115


@lru_cache(maxsize=4)
def hand_of(rig: AnnyRig) -> Hand:
    """The hand of a body, kept for the bodies used last."""
    names = rig.joint_names
    joints = dict(zip(names, rig.joints.astype(np.float64), strict=True))
    wrist = joints["wrist.L"]
    along, palm = Poser(rig).zero_hand("L")
    frame = np.stack([along, palm, cross(along, palm)], axis=1)

    chosen, strongest = _hand_skin()
    rest = rig.rest_vertices[chosen].astype(np.float64)
    total = (rig.vertices[chosen] - wrist) @ frame
    fingers = {}
    for number in range(1, 6):
        own = [names.index(f"finger{number}-{segment}.L") for segment in (1, 2, 3)]
        skin = np.flatnonzero(np.isin(strongest, own))
        share = rig.weights[chosen[skin]][:, own].T.astype(np.float64)
        moved = [rest[skin] @ rig.bind[bone, :, :3].T + rig.bind[bone, :, 3] - wrist for bone in own]
        weighted = np.stack(moved) @ frame * share[..., None]
        heads = (np.stack([joints[names[bone]] for bone in own]) - wrist) @ frame
        segment = np.searchsorted(own, strongest[skin])
        last = total[skin][segment == 2]
        forward = unit(heads[2] - heads[1])
        tip = heads[2] + forward * float(((last - heads[2]) @ forward).max())
        # A finger bends towards the palm, the thumb the way it is bent already.
        bend = cross(heads[1] - heads[0], heads[2] - heads[1] if number == 1 else PALM)
        inner = cross(unit(bend), forward)
        start = heads[segment]
        inside = (total[skin] - start) @ inner > (0.0 if number > 1 else -0.004)
        middle = total[skin][segment == 1] - heads[1]
        middle = middle - (middle @ forward)[:, None] * forward
        fingers[number] = Finger(
            heads,
            tip,
            unit(bend),
            total[skin] - weighted.sum(axis=0),
            np.concatenate([weighted, share[..., None]], axis=2).transpose(1, 0, 2).reshape(len(skin), 12),
            segment,
            np.flatnonzero(inside)[:: 2 if number > 1 else 1],
            float(np.median(np.linalg.norm(middle, axis=1))),
        )
    finger_bones = [bone for bone, name in enumerate(names) if name.startswith("finger")]
    flat = total[~np.isin(strongest, finger_bones)]
    return Hand(frame, MappingProxyType(fingers), flat, float(fingers[3].heads[0, 0]))


@lru_cache(maxsize=1)
def _hand_skin() -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Vertices of the left hand, and the bone that moves each most; all bodies have the same."""
    rig = AnnyRig.load()
    bones = [
        bone
        for bone, name in enumerate(rig.joint_names)
        if name.endswith(".L") and name.startswith(("wrist", "metacarpal", "finger"))
    ]
    chosen = np.flatnonzero(rig.weights[:, bones].astype(np.float64).sum(axis=1) > 0.5)
    return chosen, rig.weights[chosen].argmax(axis=1)


def mirrored_axes(axes: Matrix, side: Side) -> Matrix:
    """Left-hand axes (columns) as they are on the given side; for the right hand x changes its sign."""
    return axes if side == "L" else MIRROR @ axes


def hand_axes(poser: Poser, side: Side) -> tuple[Vector, Matrix]:
    """Where the posed hand's coordinates are: the wrist (3,) and the axes (3, 3) as columns, in the body's frame."""
    frame = mirrored_axes(hand_of(poser.rig).frame, side)
    return poser.position(f"wrist.{side}"), poser.orientation(f"wrist.{side}") @ frame


def axes_for(side: Side, own: Sequence[Vector], wanted: Sequence[Any]) -> Matrix:
    """Axes (3, 3) of a hand whose direction `own[0]` (hand coordinates) points along `wanted[0]` and whose `own[1]`
    points along `wanted[1]` as far as that allows."""
    first, second = (np.asarray(direction, dtype=np.float64) for direction in wanted)
    if side == "R":
        first, second = MIRROR @ first, MIRROR @ second
    axes: Matrix = basis(first, second) @ basis(*own).T
    return mirrored_axes(axes, side)


def bar(point: Vector, axis: Vector, radius: float) -> Distance:
    """An endless cylinder."""

    def distance(points: NDArray[Any]) -> NDArray[np.float64]:
        from_axis = points - point
        from_axis = from_axis - (from_axis @ axis)[..., None] * axis
        result: NDArray[np.float64] = _length(from_axis) - radius
        return result

    return distance


def ball(centre: Vector, radius: float) -> Distance:
    def distance(points: NDArray[Any]) -> NDArray[np.float64]:
        result: NDArray[np.float64] = _length(points - centre) - radius
        return result

    return distance


def block(centre: Vector, axes: Matrix, half: Any) -> Distance:
    """A box with the given axes (columns) and half sizes (3,)."""
    half = np.asarray(half, dtype=np.float64)

    def distance(points: NDArray[Any]) -> NDArray[np.float64]:
        beyond = np.abs((points - centre) @ axes) - half
        outside = _length(np.maximum(beyond, 0.0))
        result: NDArray[np.float64] = outside + np.minimum(beyond.max(axis=-1), 0.0)
        return result

    return distance


def capsules(segments: Sequence[tuple[Vector, Vector]], radius: float) -> Distance:
    """Thick lines."""

    def distance(points: NDArray[Any]) -> NDArray[np.float64]:
        nearest = np.full(points.shape[:-1], np.inf)
        for start, end in segments:
            along = end - start
            share = np.clip((points - start) @ along / (along @ along), 0.0, 1.0)
            nearest = np.minimum(nearest, _length(points - start - share[..., None] * along))
        return nearest - radius

    return distance


def half_space(point: Vector, normal: Vector) -> Distance:
    """Everything on the side of a plane to which `normal` points."""

    def distance(points: NDArray[Any]) -> NDArray[np.float64]:
        result: NDArray[np.float64] = (point - points) @ normal
        return result

    return distance


def union(*solids: Distance) -> Distance:
    def distance(points: NDArray[Any]) -> NDArray[np.float64]:
        result: NDArray[np.float64] = np.minimum.reduce([solid(points) for solid in solids])
        return result

    return distance


def turns_about(axis: Vector, degrees: Any) -> NDArray[np.float64]:
    """(..., 3, 3) rotations about one axis by angles (...)."""
    x, y, z = axis
    skew = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    angle = np.radians(degrees)[..., None, None]
    rotations: NDArray[np.float64] = np.eye(3) + np.sin(angle) * skew + (1 - np.cos(angle)) * (skew @ skew)
    return rotations


def _length(vectors: NDArray[Any]) -> NDArray[np.float64]:
    length: NDArray[np.float64] = np.sqrt(np.einsum("...i,...i->...", vectors, vectors))
    return length
