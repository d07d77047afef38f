"""Carrying: bags from a hand or a forearm, suitcases pulled or lifted, boards under an arm."""

from __future__ import annotations

from typing import Any

import numpy as np

from ivlm_core.datasets.synthetic.pose import Matrix, Side, Vector, align, turn, unit
from ivlm_core.datasets.synthetic.programs.grips import hold_bar, hold_surface, hold_under
from ivlm_core.datasets.synthetic.programs.hands import block, hand_of
from ivlm_core.datasets.synthetic.programs.limbs import pose_arm, relax_fingers
from ivlm_core.datasets.synthetic.programs.reaching import (
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
from ivlm_core.datasets.synthetic.programs.stage import OUTWARD, SIDE_NAMES, SIDES, UP, Stage, Unreachable
from ivlm_core.objects import Shape

LEFT, TOP, FRONT = (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)
# How deep a handle may press into a forearm, a board into the side of the body, metres.
STRAP_SINK, BOARD_SINK = 0.003, 0.004
# Metres between a carried board and the body where the fingers hold its lower edge.
FINGER_ROOM, FINGER_ROOM_WITHIN = 0.042, 0.14
# Where a carried board's lower edge is, from the shoulder in arm's lengths.
RAILS = {"skateboard": (-1.24, -1.12), "surfboard": (-1.2, -1.1), "snowboard": (-1.24, -1.12)}


def carry_bag(stage: Stage, label: str, mode: str) -> None:
    """A handbag or backpack by its handle in a hanging hand, or a handbag in the crook of an arm."""
    side = sides_of(mode)[0]
    stage.take(side)
    if stage.posture not in ("stand", "board"):
        raise Unreachable("bags hang from people who stand")
    several(lambda: (_on_forearm if "forearm" in mode else _from_hand)(stage, side, label, mode), 8)


def _from_hand(stage: Stage, side: Side, label: str, mode: str) -> None:
    rng, trunk, hand = stage.rng, trunk_of(stage), hand_of(stage.rig)
    shape = stage.shape(label)
    anchor = shape.anchors["handle"]
    forward = chest_forward(stage)
    outward = np.cross(UP, forward) * OUTWARD[side]
    heading = turn(UP, rng.uniform(-25, 25)) @ forward
    swing = turn(heading, rng.uniform(-4, 4)) @ turn(outward, rng.uniform(-6, 6))
    up = swing @ UP
    rotation = align(anchor.direction, TOP, heading * (1.0 if rng.random() < 0.5 else -1.0), up)
    point = from_shoulder(stage, side, rng.uniform(0.1, 0.3), rng.uniform(-1.06, -0.95), rng.uniform(-0.08, 0.2))
    hung = (shape.mesh.vertices - anchor.point) @ rotation.T
    point = point + outward * _sideways(stage, side, hung + point, rng.uniform(0.03, 0.07))
    hold = hold_bar(hand, max(anchor.radius, 0.006), rng.uniform(0, 10))
    axis = heading * np.sign(heading @ forward)
    grasp(stage, {side: [(hold, point, hold.axes(side, axis, palm)) for palm in around(axis, 24)]}, trunk)
    stage.place(shape, rotation, point - rotation @ anchor.point, mode, [f"{SIDE_NAMES[side]} hand"])


def _on_forearm(stage: Stage, side: Side, label: str, mode: str) -> None:
    rng, poser = stage.rng, stage.poser
    sizes = dict(stage.shape(label).sizes)
    shape = stage.shape(label, sizes, handle_height=rng.uniform(0.15, 0.22), width=min(sizes["width"], 0.3))
    forward = chest_forward(stage)
    outward = np.cross(UP, forward) * OUTWARD[side]
    ahead, away = np.radians(rng.uniform(-5, 35)), np.radians(rng.uniform(12, 38))
    upper = np.sin(ahead) * forward - np.cos(ahead) * UP + np.sin(away) * outward
    rise, aside = np.radians(rng.uniform(0, 40)), np.radians(rng.uniform(10, 65))
    fore = np.cos(rise) * (np.cos(aside) * forward + np.sin(aside) * outward) + np.sin(rise) * UP
    pose_arm(stage, side, upper, fore, rng.uniform(0.3, 1.0) * UP - outward)
    relax_fingers(stage, side)
    elbow, wrist = poser.position(f"lowerarm01.{side}"), poser.position(f"wrist.{side}")
    along = unit(wrist - elbow)
    share = rng.uniform(0.22, 0.4)
    at = elbow + share * (wrist - elbow)
    skin = stage.points(f"{SIDE_NAMES[side]} forearm") - at
    near = skin[np.abs(skin @ along) < 0.02]
    if len(near) < 4:
        raise Unreachable("the strap finds no forearm")
    anchor = shape.anchors["handle"]
    level = unit(along - UP * (along @ UP))
    # Bag across the arm, its handle's arch over it.
    rotation = align(FRONT, TOP, level, UP)
    lift = float(near[:, 1].max()) + anchor.radius - STRAP_SINK
    point = at + near.mean(axis=0) * (1, 0, 1) + UP * lift
    place = point - rotation @ anchor.point
    vertices = shape.mesh.vertices @ rotation.T + place
    keep_clear(trunk_of(stage), vertices)
    legs = (stage.points("hips", "left thigh", "right thigh") - place) @ rotation
    bag = shape.parts["bag"].vertices
    if ((legs > bag.min(axis=0) - 0.025) & (legs < bag.max(axis=0) + 0.025)).all(axis=1).any():
        raise Unreachable("the bag would hang into the legs")
    stage.place(shape, rotation, place, mode, [f"{SIDE_NAMES[side]} forearm"])


def move_suitcase(stage: Stage, label: str, mode: str) -> None:
    """A suitcase pulled by its handle, tilted or upright, or lifted between both hands."""
    stage.take(*sides_of(mode))
    if stage.posture != "stand":
        raise Unreachable("suitcases are moved by people who stand")
    if "both" in mode:
        several(lambda: _lift(stage, label, mode), 8)
    else:
        several(lambda: _pull(stage, sides_of(mode)[0], label, mode), 8)


def _pull(stage: Stage, side: Side, label: str, mode: str) -> None:
    rng, trunk, hand = stage.rng, trunk_of(stage), hand_of(stage.rig)
    assert stage.floor is not None
    shape = stage.shape(label)
    anchor = shape.anchors["pull handle"]
    forward = chest_forward(stage)
    outward = np.cross(UP, forward) * OUTWARD[side]
    heading = turn(UP, -OUTWARD[side] * rng.uniform(-10, 30)) @ forward
    across = np.cross(UP, heading)
    # Upright beside the person, or tilted after them on two wheels.
    tilt = 0.0 if rng.random() < 0.3 else rng.uniform(22, 50)
    facing = 1.0 if rng.random() < 0.7 else -1.0
    rotation = turn(across, tilt) @ align(FRONT, TOP, -facing * heading, UP)
    low = float((shape.mesh.vertices @ rotation.T)[:, 1].min())
    height = stage.floor - low + float((rotation @ anchor.point)[1])
    shoulder = stage.poser.position(f"upperarm01.{side}")
    point = (
        shoulder
        + outward * rng.uniform(0.08, 0.28)
        + forward * (rng.uniform(-0.28, 0.0) if tilt else rng.uniform(-0.1, 0.2))
    )
    point[1] = height
    vertices = (shape.mesh.vertices - anchor.point) @ rotation.T + point
    point = point + outward * _sideways(stage, side, vertices, 0.03)
    thumb = -OUTWARD[side] * across
    options = []
    for sign in (1.0, -1.0) if not tilt else (1.0,):
        hold = hold_bar(hand, anchor.radius, rng.uniform(0, 10))
        options += [(hold, point, hold.axes(side, sign * thumb, palm)) for palm in around(thumb, 24)]
    grasp(stage, {side: options}, trunk)
    stage.place(shape, rotation, point - rotation @ anchor.point, mode, [f"{SIDE_NAMES[side]} hand"])


def _lift(stage: Stage, label: str, mode: str) -> None:
    """Held before the body with a flat hand on either side."""
    rng, trunk, hand = stage.rng, trunk_of(stage), hand_of(stage.rig)
    sizes = stage.shape(label).sizes
    shape = stage.shape(label, {**sizes, "handle_height": 0.03, "width": min(sizes["width"], 0.42)})
    centre, left, forward = before_chest(
        stage, rng.uniform(-0.06, 0.06), rng.uniform(-0.85, -0.35), rng.uniform(0.5, 0.75)
    )
    rotation = turn(forward, rng.uniform(-6, 6)) @ turn(left, rng.uniform(-8, 15)) @ align(FRONT, TOP, forward, UP)
    if rng.random() < 0.5:
        rotation = rotation @ turn(TOP, 180)
    vertices = shape.mesh.vertices @ rotation.T + centre
    centre = centre + forward * max(0.0, float(trunk.depth(vertices).max()) + 0.035)
    keep_clear(trunk, shape.mesh.vertices @ rotation.T + centre)
    case = shape.parts["case"].vertices
    ways: dict[Side, list[Way]] = {}
    half, middle = np.ptp(case, axis=0) / 2, (case.max(axis=0) + case.min(axis=0)) / 2
    for side in SIDES:
        sign = float(np.sign((rotation @ np.array(LEFT)) @ left)) * OUTWARD[side]
        # Below the carrying handle on that side.
        on_case = middle + np.array(
            [sign * half[0], rng.uniform(-0.75, -0.5) * half[1], rng.uniform(-0.3, 0.3) * half[2]]
        )
        normal = rotation @ np.array([sign, 0.0, 0.0])
        hold = hold_surface(hand, rng.uniform(2, 8))
        point = rotation @ on_case + centre
        options = [(hold, point, hold.axes_from_normal(side, -normal, fingers)) for fingers in around(normal, 20)]
        ways[side] = options
    grasp(stage, ways, trunk)
    parts = [f"{SIDE_NAMES[side]} {part}" for side in SIDES for part in ("hand", "forearm")]
    stage.place(shape, rotation, centre, mode, parts)
    look_at(stage, centre, 0.5)


def carry_board(stage: Stage, label: str, mode: str) -> None:
    """A board under an arm: flat against the side of the body, the fingers under its lower edge."""
    side = sides_of(mode)[0]
    stage.take(side)
    if stage.posture != "stand":
        raise Unreachable("boards are carried by people who stand")
    several(lambda: _under_arm(stage, side, label, mode), 10)


def _under_arm(stage: Stage, side: Side, label: str, mode: str) -> None:
    rng, hand = stage.rng, hand_of(stage.rig)
    shape, inner = _board(stage, label)
    forward = chest_forward(stage)
    outward = np.cross(UP, forward) * OUTWARD[side]
    heading = turn(UP, rng.uniform(-10, 10)) @ turn(outward, rng.uniform(-12, 12)) @ forward
    heading = heading * (1.0 if rng.random() < 0.75 else -1.0)
    # The face that is flat lies against the body; the lower edge stands off a little more than the upper one.
    lean = turn(forward, -OUTWARD[side] * rng.uniform(-4, 3 if label == "surfboard" else 10))
    rotation = lean @ align(FRONT, inner, heading, -outward)
    rails = [shape.anchors[f"rail {name}"] for name in ("left", "right")]
    lower = min(rails, key=lambda rail: float((rotation @ rail.point)[1]))
    point = from_shoulder(stage, side, 0.1, rng.uniform(*RAILS[label]), rng.uniform(-0.02, 0.14))
    at = point - rotation @ lower.point
    normal = rotation @ np.asarray(inner)
    at = at + outward * _off_body(stage, side, shape, rotation, at, outward, lower.point)
    edge = at + rotation @ lower.point
    into = unit(rotation @ -np.array([lower.point[0], 0.0, 0.0]))
    thickness = 2 * lower.radius
    hold = hold_under(hand, thickness)
    outer = edge - normal * thickness / 2
    # The palm lies on the board, which may swell from its edge to its middle.
    off = shape.mesh.vertices @ rotation.T + at - outer
    deep, high = off @ into, -off @ normal
    under = (np.abs(off @ heading) < 0.1) & (deep > 0.03) & (deep < 0.15) & (high < 0.06)
    swell = float(np.degrees(np.arctan2(high[under], deep[under]).max())) if under.any() else 0.0
    square = np.cross(into, normal)
    # Tipping the hand up from the board lets the forearm pass in front of it.
    options = [
        (hold, outer + shift * heading, hold.axes(side, tipped @ turn(normal, yaw) @ into, tipped @ normal))
        for tipped in (turn(square, -max(swell, 0.0) - more) for more in (0.0, 6.0, 12.0))
        for yaw in (-20, -10, 0, 10, 20)
        for shift in (-0.05, 0.0, 0.05)
    ]
    low, high = shape.mesh.vertices.min(axis=0), shape.mesh.vertices.max(axis=0)
    if label == "surfboard":
        thick = shape.sizes["thickness"] / 2
        low[1], high[1] = -thick + float(shape.anchors["deck"].point[1]) - thick, float(shape.anchors["deck"].point[1])
    else:
        rail = float(lower.point[1])
        low[1], high[1] = rail - thickness / 2, rail + thickness / 2
    slab = block(rotation @ (low + high) / 2 + at, rotation, (high - low) / 2)
    trunk = trunk_of(stage)
    grasp(stage, {side: options}, trunk, 14.0, slab)
    name = SIDE_NAMES[side]
    parts = [f"{name} {part}" for part in ("hand", "forearm", "upper arm", "thigh")] + ["torso", "hips"]
    stage.place(shape, rotation, at, mode, parts)


def _board(stage: Stage, label: str) -> tuple[Shape, Vector]:
    """A board to carry, and which of its faces goes to the body: the one without wheels, fins or bindings."""
    sizes = dict(stage.shape(label).sizes)
    if label == "surfboard":
        # An arm reaches around short and narrow boards only.
        sizes["width"] = stage.rng.uniform(0.41, 0.46)
        sizes["thickness"] = min(sizes["thickness"], 0.06)
        sizes["length"] = min(sizes["length"], 2.2)
    inner = np.array(TOP) if label != "snowboard" else -np.array(TOP)
    return stage.shape(label, sizes), inner


def _off_body(
    stage: Stage, side: Side, shape: Shape, rotation: Matrix, at: Vector, outward: Vector, lower: Vector
) -> float:
    """Metres to move a board outwards so that it just touches the side of the body."""
    name = SIDE_NAMES[side]
    body = stage.points("torso", "hips", f"{name} thigh", f"{name} lower leg").astype(np.float64)
    local = (body - at) @ rotation
    board = shape.mesh.vertices
    low, high = board.min(axis=0), board.max(axis=0)
    over = (local[:, 0] > low[0]) & (local[:, 0] < high[0]) & (local[:, 2] > low[2]) & (local[:, 2] < high[2])
    if not over.any():
        raise Unreachable("the board is not beside the body")
    middle = board[np.abs(board[:, 2]) < 0.25]
    inner = float(rotation @ np.array(TOP) @ -outward)
    # Body points beyond the inner face of the board's middle, measured outwards.
    face = float(middle[:, 1].max()) if inner > 0 else float(middle[:, 1].min())
    beyond = (face - local[over, 1]) * (1.0 if inner > 0 else -1.0) - BOARD_SINK
    # The fingers come round the lower edge and need room there.
    by_hand = np.linalg.norm((local[over] - lower)[:, [0, 2]], axis=1) < FINGER_ROOM_WITHIN
    return float((beyond + np.where(by_hand, FINGER_ROOM, 0.0)).max() / abs(inner))


def _sideways(stage: Stage, side: Side, points: Any, gap: float) -> float:
    """Metres to move hanging things outwards so that they clear hips and legs by `gap`; 0 where they do."""
    name = SIDE_NAMES[side]
    legs = stage.points("torso", "hips", f"{name} thigh", f"{name} lower leg", f"{name} foot")
    low, high = points.min(axis=0) - 0.02, points.max(axis=0) + 0.02
    beside = (legs[:, 1] > low[1]) & (legs[:, 1] < high[1]) & (legs[:, 2] > low[2]) & (legs[:, 2] < high[2])
    if not beside.any():
        return 0.0
    return max(0.0, float((OUTWARD[side] * legs[beside, 0]).max() + gap - (OUTWARD[side] * points[:, 0]).min()))
