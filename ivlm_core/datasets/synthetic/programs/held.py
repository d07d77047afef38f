"""Holding things in one hand or both: bottles, cups, umbrellas, rackets, bats, balls and frisbees."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np

from ivlm_core.datasets.synthetic.pose import Side, Vector, align, unit
from ivlm_core.datasets.synthetic.programs.carried import carry_board, move_suitcase
from ivlm_core.datasets.synthetic.programs.grips import hold_ball, hold_bar, hold_edge, hold_surface
from ivlm_core.datasets.synthetic.programs.hands import hand_of
from ivlm_core.datasets.synthetic.programs.reaching import (
    Trunk,
    Way,
    around,
    before_chest,
    chest_forward,
    from_shoulder,
    grasp,
    keep_clear,
    look_at,
    several,
    sides_of,
    trunk_of,
)
from ivlm_core.datasets.synthetic.programs.reading import phone, read
from ivlm_core.datasets.synthetic.programs.stage import OUTWARD, SIDE_NAMES, SIDES, UP, Stage
from ivlm_core.objects import Anchor, Shape

Action = Callable[[Stage, str, str], None]
Range = tuple[float, float]
# Where a hand may be, from its shoulder in arm's lengths (outwards, up, ahead), and where the thing in it points.
Region = tuple[Range, Range, Range]
Pose = tuple[Region, Region]

IN_FRONT: Pose = (((-0.2, 0.25), (-0.55, -0.15), (0.42, 0.72)), ((-0.25, 0.25), (1.0, 1.0), (-0.2, 0.3)))
AT_FACE: Pose = (((-0.4, -0.15), (-0.05, 0.12), (0.45, 0.6)), ((-0.2, 0.1), (1.0, 1.0), (-0.3, 0.1)))
HANGING: Pose = (((0.22, 0.42), (-0.93, -0.75), (0.02, 0.3)), ((-0.1, 0.3), (-0.3, 0.4), (1.0, 1.0)))
BOTTLE: tuple[tuple[float, Pose], ...] = ((0.55, IN_FRONT), (0.2, AT_FACE), (0.25, HANGING))
CUP = ((0.7, IN_FRONT), (0.3, AT_FACE))
UMBRELLA = ((1.0, (((-0.25, 0.05), (-0.35, 0.0), (0.3, 0.55)), ((-0.3, 0.1), (1.0, 1.0), (-0.25, 0.05)))),)
SWUNG: tuple[tuple[float, Pose], ...] = (
    (0.35, (((-0.2, 0.3), (-0.45, -0.1), (0.45, 0.72)), ((-0.5, 0.4), (0.5, 1.0), (0.2, 0.9)))),
    (0.25, (((0.25, 0.5), (-0.85, -0.6), (0.1, 0.4)), ((-0.1, 0.5), (-0.5, 0.2), (1.0, 1.0)))),
    (0.25, (((0.45, 0.8), (-0.25, 0.25), (-0.05, 0.45)), ((0.0, 0.8), (0.6, 1.0), (-0.4, 0.4)))),
    (0.15, (((0.15, 0.5), (0.3, 0.65), (0.1, 0.45)), ((-0.3, 0.3), (1.0, 1.0), (-0.5, 0.4)))),
)
# From the shoulder of the upper hand's side.
SWUNG_BY_BOTH: tuple[tuple[float, Pose], ...] = (
    (0.45, (((-0.25, 0.05), (-0.35, 0.0), (0.38, 0.55)), ((0.1, 0.6), (1.0, 1.0), (-0.6, 0.0)))),
    (0.3, (((-0.55, -0.3), (-0.55, -0.3), (0.5, 0.65)), ((-0.5, 0.5), (-0.3, 0.7), (1.0, 1.0)))),
    (0.25, (((-0.5, -0.2), (-0.4, -0.1), (0.55, 0.72)), ((-1.0, 0.8), (0.1, 0.6), (0.5, 0.8)))),
)


def hold_upright(stage: Stage, label: str, mode: str) -> None:
    """A bottle or a cup in a hand, or in both."""
    sides = _take(stage, mode)
    shape, trunk = stage.shape(label), trunk_of(stage)
    anchor = shape.anchors["grip"]
    if len(sides) == 2:
        several(lambda: _between_hands(stage, shape, anchor, mode, trunk))
    else:
        poses = BOTTLE if label == "bottle" else CUP
        several(lambda: _in_hand(stage, sides[0], shape, anchor, poses, mode, trunk))


def hold_umbrella(stage: Stage, label: str, mode: str) -> None:
    """An open umbrella overhead, in a hand or in both."""
    sides = _take(stage, mode)
    _swing(stage, sides, stage.shape(label), UMBRELLA, UMBRELLA, mode)


def swing(stage: Stage, label: str, mode: str) -> None:
    """A racket or a bat in a hand or in both: ready, at rest, drawn back or raised."""
    sides = _take(stage, mode)
    _swing(stage, sides, stage.shape(label), SWUNG, SWUNG_BY_BOTH, mode)


def _swing(
    stage: Stage,
    sides: tuple[Side, ...],
    shape: Shape,
    one: tuple[tuple[float, Pose], ...],
    both: tuple[tuple[float, Pose], ...],
    mode: str,
) -> None:
    trunk = trunk_of(stage)
    if len(sides) == 1:
        several(lambda: _in_hand(stage, sides[0], shape, shape.anchors["grip"], one, mode, trunk))
    else:
        several(lambda: _one_above_the_other(stage, shape, both, mode, trunk))


def _in_hand(
    stage: Stage,
    side: Side,
    shape: Shape,
    anchor: Anchor,
    poses: tuple[tuple[float, Pose], ...],
    mode: str,
    trunk: Trunk,
) -> None:
    rng = stage.rng
    point, axis = _drawn(stage, side, poses)
    hold = hold_bar(hand_of(stage.rig), anchor.radius, rng.uniform(6, 20))
    palms = around(axis, 14, rng.uniform(0, 25))
    grasp(stage, {side: [(hold, point, hold.axes(side, axis, palm)) for palm in palms]}, trunk)
    palm = stage.poser.orientation(f"wrist.{side}") @ stage.poser.zero_hand(side)[1]
    _put(stage, shape, anchor, point, axis, palm, trunk, mode, [side])


def _one_above_the_other(
    stage: Stage, shape: Shape, poses: tuple[tuple[float, Pose], ...], mode: str, trunk: Trunk
) -> None:
    rng = stage.rng
    upper: Side = "L" if rng.random() < 0.5 else "R"
    lower: Side = "R" if upper == "L" else "L"
    point, axis = _drawn(stage, upper, poses)
    first, second = shape.anchors["grip second"], shape.anchors["grip"]
    hand = hand_of(stage.rig)
    # Hands as wide as this need more room than slim ones.
    apart = max(float(np.linalg.norm(first.point - second.point)), 0.088 * hand.scale)
    ways: dict[Side, list[Way]] = {}
    for side, anchor, at in ((upper, first, point), (lower, second, point - apart * axis)):
        hold = hold_bar(hand, anchor.radius, rng.uniform(4, 14))
        palms = around(axis, 18, rng.uniform(0, 20))
        ways[side] = [(hold, at, hold.axes(side, axis, palm)) for palm in palms]
    grasp(stage, ways, trunk)
    palm = stage.poser.orientation(f"wrist.{upper}") @ stage.poser.zero_hand(upper)[1]
    _put(stage, shape, second, point - apart * axis, axis, palm, trunk, mode, [*SIDES])


def _between_hands(stage: Stage, shape: Shape, anchor: Anchor, mode: str, trunk: Trunk) -> None:
    """A bottle or cup between both hands: both around it, or one around it and one below."""
    rng = stage.rng
    lead: Side = "L" if rng.random() < 0.5 else "R"
    other: Side = "R" if lead == "L" else "L"
    forward = chest_forward(stage)
    outward = np.cross(UP, forward) * OUTWARD[lead]
    point, _, _ = before_chest(stage, 0.0, rng.uniform(-0.5, -0.05), rng.uniform(0.45, 0.62))
    axis = unit(UP + rng.uniform(-0.15, 0.15) * outward + rng.uniform(-0.25, 0.2) * forward)
    hand = hand_of(stage.rig)
    under = rng.random() < 0.4
    hold = hold_bar(hand, anchor.radius, rng.uniform(0, 12), halfway=not under)
    stagger = 0.0 if under else 0.012
    ways: dict[Side, list[Way]] = {}
    for side, sign in ((lead, 1.0), (other, -1.0)):
        inward = -outward if side == lead else outward
        if side == other and under:
            low = float(((shape.mesh.vertices - anchor.point) @ anchor.direction).min())
            flat = hold_surface(hand)
            options = [
                (flat, point + low * axis, flat.axes(side, direction, axis))
                for direction in around(axis, 16, rng.uniform(0, 20))
            ]
        else:
            palms = [unit(inward + share * forward) for share in (-0.9, -0.6, -0.3, 0.0, 0.3)]
            options = [(hold, point + sign * stagger * axis, hold.axes(side, axis, palm)) for palm in palms]
        ways[side] = options
    grasp(stage, ways, trunk)
    _put(stage, shape, anchor, point, axis, forward, trunk, mode, [*SIDES])


def hold_the_ball(stage: Stage, label: str, mode: str) -> None:
    """A ball on or under a palm, or between both."""
    sides = _take(stage, mode)
    trunk = trunk_of(stage)
    if len(sides) == 2:
        several(lambda: _ball_between_hands(stage, label, mode, trunk))
    else:
        several(lambda: _ball_on_palm(stage, sides[0], label, mode, trunk))


def _ball_between_hands(stage: Stage, label: str, mode: str, trunk: Trunk) -> None:
    rng = stage.rng
    shape = stage.shape(label)
    radius = shape.anchors["centre"].radius
    chest_forward(stage)
    overhead = rng.random() < 0.2
    up = rng.uniform(0.55, 0.85) if overhead else rng.uniform(-0.7, 0.15)
    ahead = rng.uniform(0.1, 0.5) if overhead else rng.uniform(0.45, 0.85)
    centre, left, forward = before_chest(stage, rng.uniform(-0.12, 0.12), up, ahead)
    keep_clear(trunk, shape.mesh.vertices[::4] + centre)
    hold = hold_ball(hand_of(stage.rig), radius, rng.uniform(4, 12))
    tilt = rng.uniform(-0.2, 0.5)
    ways: dict[Side, list[Way]] = {}
    for side in SIDES:
        inward = -OUTWARD[side] * left
        palm = unit(inward + tilt * UP + rng.uniform(-0.1, 0.5) * forward)
        options = [(hold, centre, hold.axes(side, fingers, palm)) for fingers in around(palm, 16, rng.uniform(0, 20))]
        ways[side] = options
    grasp(stage, ways, trunk)
    _put_ball(stage, shape, centre, mode, [f"{SIDE_NAMES[side]} hand" for side in SIDES])


def _ball_on_palm(stage: Stage, side: Side, label: str, mode: str, trunk: Trunk) -> None:
    """Small balls in any hand; large ones on the palm of a raised hand or under one that bounces them."""
    rng = stage.rng
    small = rng.random() < 0.3
    shape = stage.shape(label, diameter=rng.uniform(0.064, 0.1)) if small else stage.shape(label)
    radius = shape.anchors["centre"].radius
    forward = chest_forward(stage)
    outward = np.cross(UP, forward) * OUTWARD[side]
    if small:
        region: Region = ((-0.2, 0.5), (-0.6, 0.4), (0.25, 0.75))
        palm = unit(rng.normal(size=3))
    elif rng.random() < 0.6:
        region = ((0.0, 0.4), (-0.45, 0.15), (0.45, 0.7))
        palm = unit(UP + rng.uniform(-0.6, 0.2) * outward + rng.uniform(-0.4, 0.5) * forward)
    else:
        region = ((0.05, 0.35), (-0.7, -0.45), (0.5, 0.75))
        palm = unit(-UP + rng.uniform(-0.5, 0.1) * outward + rng.uniform(-0.2, 0.4) * forward)
    hold = hold_ball(hand_of(stage.rig), radius, rng.uniform(3, 12))
    at = _point(stage, side, region)
    centre = at + palm * radius
    keep_clear(trunk, shape.mesh.vertices[::4] + centre)
    options = [(hold, centre, hold.axes(side, fingers, palm)) for fingers in around(palm, 16, rng.uniform(0, 20))]
    grasp(stage, {side: options}, trunk)
    _put_ball(stage, shape, centre, mode, [f"{SIDE_NAMES[side]} hand"])


def throw(stage: Stage, label: str, mode: str) -> None:
    """A frisbee by its rim, the thumb on top: in one hand, or in both in front of the body."""
    sides = _take(stage, mode)
    several(lambda: _by_the_rim(stage, sides, label, mode), 12)


def _by_the_rim(stage: Stage, sides: tuple[Side, ...], label: str, mode: str) -> None:
    rng, trunk, hand = stage.rng, trunk_of(stage), hand_of(stage.rig)
    shape = stage.shape(label)
    thick = float(np.ptp(shape.mesh.vertices[:, 1]))
    plate, rim = shape.sizes["plate"], shape.sizes["rim"]
    radius = shape.sizes["diameter"] / 2
    forward = chest_forward(stage)
    left = np.cross(UP, forward)
    top = unit(UP + rng.uniform(-0.5, 0.5) * left + rng.uniform(-0.9, 0.3) * forward)
    holds = [hold_edge(hand, plate, yaw, lip=(rim, thick - plate)) for yaw in (-30.0, -10.0, 10.0, 30.0)]
    ways: dict[Side, list[Way]] = {}
    if len(sides) == 1:
        side = sides[0]
        rim_at = _point(stage, side, ((-0.3, 0.35), (-0.6, 0.0), (0.4, 0.7)))
        into = unit(np.cross(top, unit(rng.normal(size=3))))
        keep_clear(trunk, rim_at + radius * (into + np.array(around(top))))
        ways[side] = [(hold, rim_at, hold.axes(side, into, top)) for hold in holds]
        centre = rim_at + radius * into
    else:
        centre, _, _ = before_chest(stage, 0.0, rng.uniform(-0.6, -0.05), rng.uniform(0.5, 0.75))
        keep_clear(trunk, centre + radius * np.array(around(top)))
        for side in SIDES:
            into = unit(-OUTWARD[side] * left - top * (top @ (-OUTWARD[side] * left)))
            ways[side] = [(hold, centre - radius * into, hold.axes(side, into, top)) for hold in holds]
    # A rim can be taken from anywhere around it, so there is no need to bend a wrist far.
    grasp(stage, ways, trunk, effort=3.0)
    # The plate is at the top of the rim.
    centre = centre - top * (thick - plate) / 2
    rotation = align(UP, (0, 0, 1), top, np.cross(top, unit(rng.normal(size=3))))
    stage.place(shape, rotation, centre, mode, [f"{SIDE_NAMES[side]} hand" for side in ways])
    if rng.random() < 0.5:
        look_at(stage, centre)


def _take(stage: Stage, mode: str) -> tuple[Side, ...]:
    sides = sides_of(mode)
    stage.take(*sides)
    return sides


def _drawn(stage: Stage, side: Side, poses: tuple[tuple[float, Pose], ...]) -> tuple[Vector, Vector]:
    """A point and a direction in the body's frame, from one of the weighted poses."""
    weights = np.array([weight for weight, _ in poses])
    region, directions = poses[int(stage.rng.choice(len(poses), p=weights / weights.sum()))][1]
    forward = chest_forward(stage)
    outward = np.cross(UP, forward) * OUTWARD[side]
    out, up, ahead = (stage.rng.uniform(*span) for span in directions)
    return _point(stage, side, region), unit(out * outward + up * UP + ahead * forward)


def _point(stage: Stage, side: Side, region: Region) -> Vector:
    out, up, ahead = (stage.rng.uniform(*span) for span in region)
    return from_shoulder(stage, side, out, up, ahead)


def _put(
    stage: Stage,
    shape: Shape,
    anchor: Anchor,
    point: Vector,
    axis: Vector,
    front: Vector,
    trunk: Trunk,
    mode: str,
    sides: list[Side],
) -> None:
    """Place a thing with its anchor at `point` along `axis`; what is at its +x (a handle) or +z points to `front`."""
    own = np.array([1.0, 0.0, 0.0]) if "handle" in shape.parts and shape.label == "cup" else np.array([0.0, 0.0, 1.0])
    rotation = align(anchor.direction, own, axis, front)
    at = point - rotation @ anchor.point
    keep_clear(trunk, shape.mesh.vertices @ rotation.T + at)
    stage.place(shape, rotation, at, mode, [f"{SIDE_NAMES[side]} hand" for side in sides])
    if stage.rng.random() < 0.6:
        look_at(stage, point if shape.label != "umbrella" else point + 3 * chest_forward(stage))


def _put_ball(stage: Stage, shape: Shape, centre: Vector, mode: str, parts: list[str]) -> None:
    rotation = align(UP, (0, 0, 1), unit(stage.rng.normal(size=3)), unit(stage.rng.normal(size=3)))
    stage.place(shape, rotation, centre, mode, parts, name="sports ball")
    if stage.rng.random() < 0.6:
        look_at(stage, centre)


HANDS = ("left hand", "right hand", "both hands")
ACTIONS: Mapping[str, Action] = MappingProxyType(
    {
        "bottle": hold_upright,
        "cup": hold_upright,
        "umbrella": hold_umbrella,
        "tennis racket": swing,
        "baseball bat": swing,
        "sports ball": hold_the_ball,
        "frisbee": throw,
        "book": read,
        "cell phone": phone,
        "suitcase": move_suitcase,
        "skateboard": carry_board,
        "surfboard": carry_board,
        "snowboard": carry_board,
    }
)
MODES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        **dict.fromkeys(ACTIONS, HANDS),
        "cell phone": ("left ear", "right ear", *HANDS),
        "suitcase": ("left hand, pulling", "right hand, pulling", "both hands, lifting"),
        **dict.fromkeys(("skateboard", "surfboard", "snowboard"), ("under left arm", "under right arm")),
    }
)
