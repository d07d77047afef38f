"""Sitting: on chairs, benches, couches, the edge of a bed, a suitcase, and at tables."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ivlm_core.datasets.synthetic.pose import Matrix, Side, Vector, turn
from ivlm_core.datasets.synthetic.programs.limbs import (
    arm_points,
    bend_trunk,
    bent_arm,
    idle_arm,
    leg_length,
    plant,
    raised_arm,
    sole_height,
    turn_head,
)
from ivlm_core.datasets.synthetic.programs.stage import (
    FORWARD,
    LEFT,
    OUTWARD,
    SIDE_NAMES,
    SIDES,
    UP,
    Stage,
    Unreachable,
    hands_of,
)
from ivlm_core.datasets.synthetic.programs.surfaces import rest_hand
from ivlm_core.objects import Shape

# How deep seat and backrest sink into the body, metres: flesh gives way and the skinned mesh does not.
SEAT_SINK = 0.024
BACK_SINK = 0.010
UPPER_ARMS = frozenset({"left upper arm", "right upper arm"})
SITTING = frozenset({"hips", "left thigh", "right thigh", "torso"})
# Height of a seat's top above the floor, relative to the sitter's lower leg with the foot.
SEAT_RANGE = {"suitcase": (0.95, 1.18)}
USUAL_RANGE = (0.88, 1.1)
# From the knee back to a seat's front edge, metres: room for the calf.
OVERHANG = (0.085, 0.13)
# How far people bend their wrists to lean on a hand.
EFFORT = 30.0
# Farthest back lean of the trunk, degrees.
MAX_LEAN = 24.0


@dataclass(frozen=True, eq=False)
class Seat:
    """A thing to sit on as the sitter, who faces +z, meets it.

    Attributes
    ----------
    shape, rotation : the thing and how it is turned.
    top : (3,) the place on its top where one sits, in the turned object's coordinates, metres.
    front, back : how far the top goes on ahead of and behind that place, metres.
    half_width : how far it goes on at least to either side, metres.
    rounding : how far its front edge is rounded, metres.
    rest : a point on the backrest's front and its normal, in the turned object's coordinates; None without backrest.
    """

    shape: Shape
    rotation: Matrix
    top: Vector
    front: float
    back: float
    half_width: float
    rest: tuple[Vector, Vector] | None
    rounding: float = 0.005

    @property
    def height(self) -> float:
        """Metres from the floor to the top."""
        return float(self.top[1] - self.shape.mesh.vertices[:, 1].min())


def sit(stage: Stage, label: str, mode: str = "sit", at_table: bool = False) -> None:
    """Sit on `label`; the mode adds what the hands do: "sit, left|right|both hand(s) on the seat|arm rest"."""
    rng = stage.rng
    stage.posture = "sit"
    hands = hands_of(mode)
    on_seat = bool(hands) and "arm rest" not in mode
    lower_leg = stage.poser.length("lowerleg01.L", "foot.L") + sole_height(stage, "L")
    seat = _seat(stage, label, lower_leg, hands, on_arms=bool(hands) and not on_seat)
    _pose_trunk(stage, hands if on_seat else (), at_table)
    at = _sit_down(stage, seat, keep_together=bool(hands) or at_table)
    leans = False
    if seat.rest is not None:
        leans = not at_table and not hands and rng.random() < 0.5
        # Elbows on arm rests need room in front of the backrest.
        room = 0.10 if hands and not on_seat and label != "couch" else 0.04
        at[2] += _settle_back(stage, seat, at, leans, room)
    placed = stage.place(seat.shape, seat.rotation, at, mode, SITTING | UPPER_ARMS if leans else SITTING)
    stage.idle = lambda side: _idle_sitting(stage, side)
    if at_table:
        stage.free.discard("lap")
    stage.take(*hands)
    if on_seat:
        _hands_on_seat(stage, hands, seat, at)
    else:
        for side in hands:
            _hand_on_arm_rest(stage, side, seat, at)
    stage.touch(placed, mode, [f"{SIDE_NAMES[side]} {what}" for side in hands for what in ("hand", "forearm")])


def hand_on_thigh(stage: Stage, side: Side) -> None:
    """Lay a hand on its own thigh."""
    rng, out, poser = stage.rng, OUTWARD[side], stage.poser
    hip, knee = poser.position(f"upperleg01.{side}"), poser.position(f"lowerleg01.{side}")
    along = knee - hip
    middle = hip + rng.uniform(0.4, 0.85) * along
    thigh = stage.points(f"{SIDE_NAMES[side]} thigh", f"{SIDE_NAMES[side]} lower leg")
    normal = np.cross(along, LEFT)
    normal *= np.sign(normal[1]) / np.linalg.norm(normal)
    near = (thigh - middle)[np.linalg.norm((thigh - middle)[:, [0, 2]], axis=1) < 0.09]
    point = middle + normal * (float((near @ normal).max()) + 0.003) + LEFT * 0.01 * out
    fingers = (-rng.uniform(0.0, 0.6) * out, 0, 1)
    rest_hand(stage, side, point, normal, fingers, effort=14.0)
    if stage.clearance(arm_points(stage, side)) < 0.025:
        raise Unreachable("the forearm lies on the arm rest")


def _seat(stage: Stage, label: str, lower_leg: float, hands: tuple[Side, ...], on_arms: bool) -> Seat:
    """An instance of the seat that suits the sitter's legs, and the place on it."""
    rng = stage.rng
    low, high = (bound * lower_leg for bound in SEAT_RANGE.get(label, USUAL_RANGE))
    sizes = dict(stage.shape(label).sizes)
    if label == "suitcase":
        shape = stage.shape(label, sizes, handle_height=0.03, height=rng.uniform(low, high) - 0.03)
        case = shape.parts["case"].vertices
        half = np.ptp(case, axis=0) / 2
        return Seat(shape, np.eye(3), np.array([0.0, case[:, 1].max(), 0.0]), half[2], half[2], half[0], None, 0.03)
    if label == "bed":
        shape = stage.shape(label, sizes, mattress_height=float(np.clip(sizes["mattress_height"], low, high)))
        # The sitter is on a long side, the head end to the left or to the right.
        which: Side = "L" if rng.random() < 0.5 else "R"
        rotation = turn(UP, -90 * OUTWARD[which])
        along = FORWARD * rng.uniform(-0.1, 0.25) * sizes["length"]
        top = rotation @ (shape.anchors[f"edge {SIDE_NAMES[which]}"].point + along)
        # The frame stands out a little below the mattress' edge.
        return Seat(shape, rotation, top, 0.03, 1.0, 0.45, None, 0.045)

    height = float(np.clip(sizes["seat_height"], low, high))
    sizes["height"] += height - sizes["seat_height"]
    if label == "couch":
        sizes["arm_height"] += height - sizes["seat_height"]
    else:
        sizes["arm_height"] = rng.uniform(0.18, 0.23) if on_arms or (label == "bench" and sizes["arm_height"]) else 0.0
    if label == "chair":
        sizes["width"] = max(sizes["width"], 0.54 if hands and not on_arms else 0.42)
    if label == "couch" and on_arms and len(hands) == 2:
        # An arm chair: only its arm rests are near enough to each other.
        sizes |= {"seats": 1, "width": 2 * sizes["arm_width"] + rng.uniform(0.54, 0.64)}
    shape = stage.shape(label, sizes, seat_height=height)
    top, back = shape.anchors["seat"].point, shape.anchors["back"]
    half_width = sizes["width"] / 2 - (sizes["arm_width"] if label == "couch" else 0.0)
    if label != "chair":
        # On a wide seat one sits anywhere, but beside the arm rest that carries the hand.
        room = max(half_width - (0.06 if label == "bench" and sizes["arm_height"] else 0.0) - 0.26, 0.0)
        sideways = rng.uniform(-1, 1) * max(room - 0.15, 0.0)
        if on_arms:
            if len(hands) == 2 and room > 0.16:
                raise Unreachable("its arm rests are too far apart")
            sideways = 0.0 if len(hands) == 2 else OUTWARD[hands[0]] * (room - rng.uniform(0.0, 0.04))
        top = top + LEFT * sideways
        half_width -= abs(sideways)
    front_edge = float(max(mesh.vertices[:, 2].max() for name, mesh in shape.parts.items() if _is_seat(name)))
    # Where the backrest's front would meet the seat.
    slope = back.direction[1] / back.direction[2]
    foot_of_back = back.point[2] + slope * (back.point[1] - top[1])
    return Seat(
        shape,
        np.eye(3),
        top,
        front_edge - float(top[2]),
        float(top[2] - foot_of_back),
        half_width,
        (back.point, back.direction),
        0.03 if label == "couch" else 0.005,
    )


def _is_seat(part_name: str) -> bool:
    return "seat" in part_name or "cushion" in part_name


def _hands_on_seat(stage: Stage, hands: tuple[Side, ...], seat: Seat, at: Vector) -> None:
    """Hands flat on the seat beside the thighs, the trunk bent as far as the arms need it."""
    rng = stage.rng
    forward, right = rng.uniform(6, 16), rng.uniform(-3, 3)
    for _ in range(6):
        bend_trunk(stage, forward, right)
        try:
            for side in hands:
                _hand_on_seat(stage, side, seat, at)
        except Unreachable:
            forward += 8
            right -= 5 * sum(OUTWARD[side] for side in hands)
            continue
        turn_head(stage, rng.uniform(0, 14) - 0.5 * forward, rng.uniform(-25, 25), -0.5 * right)
        return
    raise Unreachable("the arms are too short for this seat")


def _pose_trunk(stage: Stage, leaning_on: tuple[Side, ...], at_table: bool) -> None:
    rng = stage.rng
    pitch, forward, right = rng.uniform(-14, -3), rng.uniform(4, 18), rng.uniform(-4, 4)
    twist = rng.uniform(-8, 8)
    if at_table:
        pitch, forward, twist = rng.uniform(-8, 2), rng.uniform(4, 14), rng.uniform(-4, 4)
    elif leaning_on:
        # An arm is too short to reach the seat from upright shoulders.
        pitch = rng.uniform(4, 15)
    stage.poser.orient("root", turn(LEFT, pitch) @ turn(FORWARD, rng.uniform(-2, 2)))
    bend_trunk(stage, forward, right, twist)
    turn_head(stage, rng.uniform(0, 14), rng.uniform(-25, 25), rng.uniform(-4, 4))


def _sit_down(stage: Stage, seat: Seat, keep_together: bool) -> Vector:
    """Pose the legs, feet on the floor where they reach it; where the seat's origin goes, metres, body frame."""
    rng, poser = stage.rng, stage.poser
    hips = abs(float(poser.position("upperleg01.L")[0]))
    apart = hips * (rng.uniform(0.8, 1.1) if keep_together else rng.uniform(0.8, 1.7))
    overhang = rng.uniform(*OVERHANG)
    ahead = {side: rng.uniform(0.0, 0.18) for side in SIDES}
    yaw = {side: OUTWARD[side] * rng.uniform(0, 14) for side in SIDES}
    outwards = 0.4 * (apart / hips - 1)
    # The pelvis' height above the seat follows from how the thighs lie, and they from where the floor is.
    above_seat, edge = 0.06, poser.length("upperleg01.L", "lowerleg01.L") - overhang
    for _ in range(4):
        stage.floor = -above_seat - seat.height
        for side in SIDES:
            hip = poser.position(f"upperleg01.{side}")
            drop = hip[1] - stage.floor - sole_height(stage, side)
            reach = np.sqrt(max((0.985 * leg_length(stage, side)) ** 2 - drop**2 - (apart - hips) ** 2, 0.0))
            z = min(edge + 0.10 + ahead[side], hip[2] + reach)
            if z < edge + 0.06:
                raise Unreachable("the seat is too high")
            plant(stage, side, OUTWARD[side] * apart, z, stage.floor, yaw[side], (outwards * OUTWARD[side], 0.45, 1))
        hip_z = float(np.mean([poser.position(f"upperleg01.{side}")[2] for side in SIDES]))
        knee = min(float(poser.position(f"lowerleg01.{side}")[2]) for side in SIDES)
        edge = min(knee - overhang, hip_z - 0.11 + seat.front + seat.back)
        lower = stage.points("hips", "left thigh", "right thigh")
        over = (lower[:, 2] < edge - seat.rounding) & (lower[:, 2] > edge - seat.front - seat.back)
        over &= np.abs(lower[:, 0]) < seat.half_width
        if not over.any():
            raise Unreachable("sits beside the seat")
        # Where the edge is rounded the body sinks in a little deeper.
        sink = SEAT_SINK if seat.rounding < 0.01 else 0.8 * SEAT_SINK
        above_seat = -float(lower[over, 1].min()) - sink
    assert stage.floor is not None
    at = np.array([0.0, stage.floor + seat.height, edge - seat.front]) - seat.top
    return at


def _settle_back(stage: Stage, seat: Seat, at: Vector, lean: bool, room: float) -> float:
    """Lean the trunk until it touches the backrest, or keep the seat's back away from it; metres to move the seat."""
    assert seat.rest is not None
    point, normal = seat.rest
    top = float(seat.shape.mesh.vertices[:, 1].max() + at[1])
    bottom = float(at[1] + seat.top[1] + 0.03)
    poser = stage.poser

    def gap() -> float:
        trunk = stage.points("torso", "hips")
        facing = trunk[(trunk[:, 1] < top) & (trunk[:, 1] > bottom)]
        return float(((facing - (point + at)) @ normal).min())

    distance = gap()
    if distance < -BACK_SINK or not lean:
        return distance - stage.rng.uniform(0.0, 0.04) - room if distance < room else 0.0
    bones = ("spine05", "spine04", "spine03", "spine02", "spine01", "neck02", "head")
    before = {bone: poser.orientation(bone) for bone in bones}
    low, high = -MAX_LEAN, 0.0
    for step in range(8):
        middle = low if step == 0 else (low + high) / 2
        for bone in bones:
            # The neck makes up for part of the lean, so that the eyes stay level.
            share = 0.5 if bone in ("neck02", "head") else 1.0
            poser.orient(bone, turn(LEFT, share * middle) @ before[bone])
        distance = gap()
        if step == 0 and distance > -BACK_SINK:
            # Even the farthest lean does not reach this deep seat's back.
            break
        low, high = (middle, high) if distance < -BACK_SINK else (low, middle)
    return 0.0


def _hand_on_seat(stage: Stage, side: Side, seat: Seat, at: Vector) -> None:
    """A hand flat on the seat beside the thigh."""
    rng, out = stage.rng, OUTWARD[side]
    top = seat.top + at
    front, back = float(top[2]) + seat.front, float(top[2]) - seat.back
    shoulder = stage.poser.position(f"upperarm01.{side}")
    # Below the shoulder, where the arm is long enough.
    z = float(np.clip(shoulder[2] + rng.uniform(-0.03, 0.10), max(back + 0.12, -0.14), front - 0.08))
    legs = stage.points(f"{SIDE_NAMES[side]} thigh", "hips")
    beside = legs[(np.abs(legs[:, 2] - z) < 0.12) & (legs[:, 1] < top[1] + 0.12)]
    widest = float((beside[:, 0] * out).max()) if len(beside) else 0.15
    room = seat.half_width - widest
    if room < 0.055:
        raise Unreachable("the seat is too narrow for a hand beside the thigh")
    x = widest + rng.uniform(0.068, max(0.075, min(0.12, room - 0.01)))
    turned = rng.uniform(0.25, 0.8)
    rest_hand(stage, side, (out * x, top[1], z), UP, (turned * out, 0, 1), effort=EFFORT)


def _hand_on_arm_rest(stage: Stage, side: Side, seat: Seat, at: Vector) -> None:
    anchor = seat.shape.anchors.get(f"arm {SIDE_NAMES[side]}")
    if anchor is None:
        raise Unreachable("has no arm rests")
    rng, out = stage.rng, OUTWARD[side]
    # Broad arm rests carry the hand on their inner edge.
    inwards = max(anchor.radius - 0.055, 0.0) * -out
    point = anchor.point + at + FORWARD * rng.uniform(0.0, 0.11) + LEFT * inwards
    rest_hand(stage, side, point, UP, (-0.12 * out, 0, 1), effort=EFFORT)


def _idle_sitting(stage: Stage, side: Side) -> None:
    on_thigh = 0.62 if stage.table is None and "lap" in stage.free else 0.0
    idle_arm(stage, side, ((on_thigh, hand_on_thigh), (0.32, bent_arm), (0.06, raised_arm)))
