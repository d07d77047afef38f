"""Closing a hand around a cylinder: where its axis goes, and how far every finger bends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ivlm_core.datasets.synthetic.pose import Poser, Side, Vector, turn, unit

# Skin may sink this deep into what it holds; flesh gives way and the skinned mesh does not.
SOFTNESS = 0.002
FINGER_ANGLES = np.arange(-10.0, 75.0, 5.0)
THUMB_SWINGS = np.arange(-40.0, 41.0, 10.0)
THUMB_BENDS = np.arange(-10.0, 41.0, 10.0)


@dataclass(frozen=True, eq=False)
class Grip:
    """Where a held cylinder is: `centre` (3,) metres relative to the body's origin, `axis` (3,) unit, upwards."""

    centre: Vector
    axis: Vector


def grip_cylinder(poser: Poser, side: Side, radius: float) -> Grip:
    """Close the posed hand around a cylinder that lies in its palm, across it, and say where the cylinder is.

    Fingers and thumb close until they touch: each takes the largest bend that sinks no more than `SOFTNESS` into the
    cylinder.

    Parameters
    ----------
    radius : metres.
    """
    along, palm = poser.zero_hand(side)
    hand = poser.orientation(f"wrist.{side}")
    along, palm = hand @ along, hand @ palm
    index, little = poser.position(f"finger2-1.{side}"), poser.position(f"finger5-1.{side}")
    axis = unit(index - little - along * ((index - little) @ along) - palm * ((index - little) @ palm))
    middle = poser.position(f"wrist.{side}") * 0.28 + poser.position(f"finger3-1.{side}") * 0.72
    vertices = poser.vertices()
    palm_vertices = vertices[finger_vertices(poser, side, "palm")] - middle
    near = (np.abs(palm_vertices @ along) < 0.03) & (np.abs(palm_vertices @ axis) < 0.03)
    skin = float(np.percentile(palm_vertices[near] @ palm, 90))
    centre = middle + palm * (skin + radius)

    depths: dict[int, list[float]] = {finger: [] for finger in (2, 3, 4, 5)}
    for angle in FINGER_ANGLES:
        poser.curl(side, float(angle))
        vertices = poser.vertices()
        for finger, found in depths.items():
            found.append(_depth(vertices[finger_vertices(poser, side, f"finger{finger}")], centre, axis, radius))
    for finger, found in depths.items():
        # Where a thick cylinder meets a half closed hand even the least bend is too deep; then that one stays.
        too_deep = np.flatnonzero(np.array(found) > SOFTNESS)
        last = int(too_deep[0]) - 1 if len(too_deep) else len(found) - 1
        poser.curl(side, float(FINGER_ANGLES[max(last, 0)]), (finger,))
    _close_thumb(poser, side, centre, axis, radius, along, palm)
    return Grip(centre, axis)


def finger_vertices(poser: Poser, side: Side, what: str) -> NDArray[np.intp]:
    """Indices of the vertices that one finger's bones (`finger1` … `finger5`), or the palm's, move most."""
    rig = poser.rig
    prefixes = ("wrist", "metacarpal") if what == "palm" else (what,)
    bones = [
        bone for bone, name in enumerate(rig.joint_names) if name.startswith(prefixes) and name.endswith(f".{side}")
    ]
    return np.flatnonzero(np.isin(rig.weights.argmax(axis=1), bones))


def _close_thumb(
    poser: Poser, side: Side, centre: Vector, axis: Vector, radius: float, along: Vector, palm: Vector
) -> None:
    """Swing the thumb about the hand's long axis until it lies on the cylinder's far side and just touches it."""
    bone = f"finger1-1.{side}"
    thumb = finger_vertices(poser, side, "finger1")
    parent = poser.orientation(f"wrist.{side}")
    best: tuple[float, NDArray[Any]] | None = None
    for swing in THUMB_SWINGS:
        for bend in THUMB_BENDS:
            orientation = turn(along, swing) @ turn(axis, bend) @ parent
            poser.orient(bone, orientation)
            vertices = poser.vertices()[thumb]
            depth = _depth(vertices, centre, axis, radius)
            tip = poser.position(f"finger1-3.{side}") - centre
            # Deeper than skin gives way is bad, floating is less bad, and the thumb belongs opposite the palm.
            cost = 20 * max(depth - SOFTNESS, 0.0) + 4 * max(-depth, 0.0) - 0.5 * float(tip @ palm)
            if best is None or cost < best[0]:
                best = (cost, orientation)
    assert best is not None
    poser.orient(bone, best[1])


def _depth(points: NDArray[Any], centre: Vector, axis: Vector, radius: float) -> float:
    """How deep the deepest of the points lies inside the endless cylinder, metres; negative: its distance from it."""
    from_axis = points - centre
    from_axis = from_axis - (from_axis @ axis)[:, None] * axis
    return float(radius - np.linalg.norm(from_axis, axis=1).min())
