"""Hands on surfaces: resting on tables, seats and backrests, and typing on laptops and keyboards."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Literal

import numpy as np

from ivlm_core.datasets.synthetic.pose import Side, Vector, turn, unit
from ivlm_core.datasets.synthetic.programs.grips import hold_bar, hold_keys, hold_rail, hold_surface
from ivlm_core.datasets.synthetic.programs.hands import Distance, block, hand_of
from ivlm_core.datasets.synthetic.programs.reaching import EFFORT, around, grasp, look_at, several, sides_of, trunk_of
from ivlm_core.datasets.synthetic.programs.stage import LEFT, OUTWARD, SIDE_NAMES, UP, Stage, Unreachable

Action = Callable[[Stage, str, str], None]
LAP = ("left thigh", "right thigh")
# How deep a laptop presses into the thighs, metres.
LAP_SINK = 0.006
# Metres above a table that forearms keep while typing.
TABLE_ROOM = 0.024


def rest_hand(
    stage: Stage,
    side: Side,
    point: Any,
    normal: Any,
    fingers: Any,
    how: Literal["flat", "keys"] = "flat",
    swing: float = 25.0,
    effort: float = EFFORT,
    avoid: Distance | None = None,
) -> None:
    """Lay a hand on a surface, or its fingertips.

    Parameters
    ----------
    point : (3,) metres, body frame: where the palm's middle (the fingertips, for "keys") goes.
    normal : (3,) out of the surface. fingers : (3,) where they point, roughly.
    how : "flat", or "keys": arched fingers with only their tips on it.
    swing : degrees by which the fingers may turn away from `fingers` to spare the wrist.
    avoid : what the forearm keeps clear of, body frame.

    Raises
    ------
    Unreachable : the arm is too short or the wrist would break.
    """
    hand, rng = hand_of(stage.rig), stage.rng
    hold = hold_surface(hand, rng.uniform(1, 9)) if how == "flat" else hold_keys(hand, rng.uniform(0.012, 0.02))
    normal = unit(normal)
    along = np.asarray(fingers, dtype=np.float64)
    directions = [turn(normal, degrees) @ along for degrees in np.linspace(-swing, swing, 7)]
    # The normal is exact; the fingers follow as far as it allows.
    options = [(hold, np.asarray(point), hold.axes_from_normal(side, -normal, ahead)) for ahead in directions]
    grasp(stage, {side: options}, trunk_of(stage), effort, avoid)


def rest_on_edge(
    stage: Stage,
    side: Side,
    point: Any,
    along: Any,
    thickness: float,
    palm: Any = (0.0, -1.0, 0.0),
    effort: float = EFFORT,
) -> None:
    """Lay a hand over an upright edge, such as a backrest's, with the fingers bent down over its far side.

    Parameters
    ----------
    point : (3,) metres, body frame: on the middle of the edge. along : (3,) the edge's direction, either way.
    thickness : of the edge, metres. palm : where the palm faces, roughly.
    """
    hand = hand_of(stage.rig)
    hold = hold_rail(hand, thickness)
    options = [(hold, np.asarray(point), hold.axes(side, sign * unit(along), palm)) for sign in (1.0, -1.0)]
    grasp(stage, {side: options}, trunk_of(stage), effort)


def grip_handle(
    stage: Stage, side: Side, point: Any, along: Any, radius: float, palm: Any = None, effort: float = EFFORT
) -> None:
    """Close a hand around a bar that is where it is, such as a bicycle's grip.

    Parameters
    ----------
    point : (3,) metres, body frame: the middle of the bar. along : (3,) its direction to the thumb's end.
    radius : metres. palm : where the palm faces, within 60 degrees; None for whatever is easiest.
    """
    hold = hold_bar(hand_of(stage.rig), radius, stage.rng.uniform(4, 14))
    palms = around(along, 18, stage.rng.uniform(0, 20))
    if palm is not None:
        square = np.asarray(palm) - unit(along) * (np.asarray(palm) @ unit(along))
        palms = [direction for direction in palms if direction @ unit(square) > 0.5]
    options = [(hold, np.asarray(point), hold.axes(side, along, direction)) for direction in palms]
    grasp(stage, {side: options}, trunk_of(stage), effort)


def type_on(stage: Stage, label: str, mode: str) -> None:
    """Type on a laptop or keyboard on the table in front of the person, or on a laptop on the thighs."""
    sides = sides_of(mode)
    on_lap = "lap" in mode
    stage.take(*sides, *(["lap"] if on_lap else []))
    several(lambda: _type(stage, sides, label, mode, on_lap))


def _type(stage: Stage, sides: tuple[Side, ...], label: str, mode: str, on_lap: bool) -> None:
    rng = stage.rng
    shape = stage.shape(label)
    yaw = rng.uniform(-6, 6) if on_lap else rng.uniform(-14, 14)
    # The screen faces +z; who types sits on that side of it.
    rotation = turn(UP, 180 + yaw)
    base = shape.parts["base"].vertices @ rotation.T
    if on_lap:
        at, lean = _on_lap(stage, base)
        rotation = lean @ rotation
    else:
        at = _on_table(stage, shape.mesh.vertices @ rotation.T)
    up = rotation @ UP
    keys = shape.anchors["keys"].point
    parts = np.concatenate([mesh.vertices for name, mesh in shape.parts.items() if "key" in name])
    half = np.ptp(parts, axis=0) / 2
    for side in sides:
        # On the keys' own left, the typist's left hand.
        x = -OUTWARD[side] * rng.uniform(0.18, 0.5) * half[0]
        # The thumb is nearer than the fingertips and belongs on the keys, too.
        z = rng.uniform(-0.5, 0.3 if label == "laptop" else -0.05) * half[2]
        point = at + rotation @ (keys + np.array([x, 0.0, z]))
        fingers = rotation @ np.array([OUTWARD[side] * rng.uniform(0.0, 0.45), 0.0, -1.0])
        rest_hand(stage, side, point, up, fingers, "keys", swing=18.0, effort=14.0, avoid=_table(stage))
    names = [f"{SIDE_NAMES[side]} hand" for side in sides]
    if on_lap:
        names += [*LAP, "hips"]
    elif label == "laptop":
        names += [f"{SIDE_NAMES[side]} forearm" for side in sides]
    stage.place(shape, rotation, at, mode, names)
    look_at(stage, at + 0.1 * UP)


def _table(stage: Stage) -> Distance | None:
    """The table with the room above it in which a forearm would count as touching it."""
    top = stage.table_top
    if top is None:
        return None
    middle = np.array([(top.left + top.right) / 2, top.height, (top.near + top.far) / 2])
    half = np.array([(top.left - top.right) / 2, TABLE_ROOM, (top.far - top.near) / 2 + 0.02])
    return block(middle, np.eye(3), half)


def _on_table(stage: Stage, points: Any) -> Vector:
    """Where a thing with these turned vertices goes on the table in front of the person."""
    top, rng = stage.table_top, stage.rng
    if top is None:
        raise Unreachable("has no table")
    low, high = points.min(axis=0), points.max(axis=0)
    room = top.far - top.near - (high[2] - low[2])
    if room < 0.02:
        raise Unreachable("the table is too narrow for it")
    near = top.near + min(rng.uniform(0.04, 0.14), room - 0.01)
    return np.array([rng.uniform(-0.05, 0.05), top.height - low[1], near - low[2]])


def _on_lap(stage: Stage, base: Any) -> tuple[Vector, Any]:
    """Where a laptop with this turned base goes on the thighs, and how it leans with them."""
    rng = stage.rng
    if stage.posture != "sit":
        raise Unreachable("has no lap")
    width, _, depth = np.ptp(base, axis=0)
    belly = float(np.percentile(stage.points("torso", "hips")[:, 2], 99))
    near = belly + rng.uniform(0.03, 0.07)
    thighs = stage.points(*LAP)
    under = thighs[(thighs[:, 2] > near) & (thighs[:, 2] < near + depth) & (np.abs(thighs[:, 0]) < width / 2)]
    if len(under) < 12:
        raise Unreachable("the thighs are too far apart for it")
    # Thighs slope; the highest points under the near and the far half carry the base.
    middle = near + depth / 2
    halves = under[under[:, 2] < middle], under[under[:, 2] >= middle]
    if min(len(half) for half in halves) == 0:
        raise Unreachable("the thighs are too short for it")
    back, front = (float(half[:, 1].max()) for half in halves)
    lean = turn(LEFT, -float(np.clip(np.degrees(np.arctan2(front - back, depth / 2)), -12, 12)))
    normal = lean @ UP
    height = float(((under - np.array([0.0, 0.0, middle])) @ normal).max()) - float(base[:, 1].min()) - LAP_SINK
    return np.array([0.0, 0.0, middle]) + height * normal, lean


ACTIONS: Mapping[str, Action] = MappingProxyType({"laptop": type_on, "keyboard": type_on})
MODES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "laptop": ("lap, both hands", "table, left hand", "table, right hand", "table, both hands"),
        "keyboard": ("left hand", "right hand", "both hands"),
    }
)
