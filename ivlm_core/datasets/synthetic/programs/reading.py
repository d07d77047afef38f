"""Books and phones: reading with one hand or two, phones at an ear or in front of the eyes."""

from __future__ import annotations

import numpy as np

from ivlm_core.datasets.synthetic.pose import Matrix, Side, Vector, align, turn, unit
from ivlm_core.datasets.synthetic.programs.grips import hold_edge, hold_slab
from ivlm_core.datasets.synthetic.programs.hands import hand_of
from ivlm_core.datasets.synthetic.programs.limbs import turn_head
from ivlm_core.datasets.synthetic.programs.reaching import (
    Way,
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
from ivlm_core.datasets.synthetic.programs.stage import (
    OUTWARD,
    SIDE_NAMES,
    SIDES,
    UP,
    Stage,
    Unreachable,
)
from ivlm_core.objects import Anchor, Shape

FACE, TOP = (0.0, 0.0, 1.0), (0.0, 1.0, 0.0)
# How deep a phone may press into ear and cheek, metres.
EAR_SINK = 0.004


def read(stage: Stage, label: str, mode: str) -> None:
    """A book in a hand or in both, open to read or closed, in front of the chest; or closed in a hanging hand."""
    sides = sides_of(mode)
    stage.take(*sides)
    if len(sides) == 1 and stage.posture == "stand" and stage.rng.random() < 0.25:
        several(lambda: _book_at_side(stage, sides[0], label, mode))
    else:
        several(lambda: _book_in_front(stage, sides, label, mode))


def _book_in_front(stage: Stage, sides: tuple[Side, ...], label: str, mode: str) -> None:
    rng, trunk, hand = stage.rng, trunk_of(stage), hand_of(stage.rig)
    shape = stage.shape(label)
    rotation, centre = _before_eyes(stage, sides, (0.5, 0.78), (-0.5, -0.05))
    vertices = shape.mesh.vertices @ rotation.T + centre
    keep_clear(trunk, vertices)
    ways: dict[Side, list[Way]] = {}
    for side in sides:
        anchor = shape.anchors[SIDE_NAMES[side]]
        along_edge = rng.uniform(-0.3, 0.0) * float(np.ptp(shape.mesh.vertices[:, 1])) / 2
        edge = rotation @ (anchor.point + np.array([0.0, along_edge, 0.0])) + centre
        into, face = rotation @ -anchor.direction, rotation @ _front(anchor)
        holds = [hold_edge(hand, 2 * anchor.radius, yaw) for yaw in (5.0, 20.0, 35.0, 50.0, 65.0)]
        ways[side] = [(hold, edge, hold.axes(side, into, face)) for hold in holds]
    grasp(stage, ways, trunk)
    forearms = [f"{SIDE_NAMES[side]} forearm" for side in sides]
    stage.place(shape, rotation, centre, mode, [*_hands(sides), *forearms])
    look_at(stage, centre, 0.9)


def _book_at_side(stage: Stage, side: Side, label: str, mode: str) -> None:
    rng, trunk, hand = stage.rng, trunk_of(stage), hand_of(stage.rig)
    shape = stage.shape(label, opening_deg=0.0)
    forward = chest_forward(stage)
    outward = np.cross(UP, forward) * OUTWARD[side]
    point = from_shoulder(stage, side, rng.uniform(0.18, 0.32), rng.uniform(-1.12, -1.0), rng.uniform(-0.05, 0.15))
    anchor = shape.anchors["right" if rng.random() < 0.5 else "left"]
    down = unit(-UP + rng.uniform(-0.1, 0.1) * outward + rng.uniform(-0.2, 0.4) * forward)
    face = -outward if rng.random() < 0.5 else outward
    rotation = align(-anchor.direction, FACE, down, face)
    centre = point - rotation @ anchor.point
    _clear_of_legs(stage, side, shape.mesh.vertices @ rotation.T + centre)
    holds = [hold_edge(hand, 2 * anchor.radius, yaw) for yaw in (-25.0, -10.0, 5.0, 20.0)]
    grasp(stage, {side: [(hold, point, hold.axes(side, down, -outward)) for hold in holds]}, trunk)
    stage.place(shape, rotation, centre, mode, _hands((side,)))


def phone(stage: Stage, label: str, mode: str) -> None:
    """A phone at an ear, or before the eyes in a hand or in both."""
    sides = sides_of(mode)
    stage.take(*sides)
    if "ear" in mode:
        several(lambda: _phone_at_ear(stage, sides[0], label, mode))
    elif len(sides) == 2:
        several(lambda: _phone_between_hands(stage, label, mode))
    else:
        several(lambda: _phone_in_front(stage, sides[0], label, mode))


def _phone_in_front(stage: Stage, side: Side, label: str, mode: str) -> None:
    trunk = trunk_of(stage)
    shape = stage.shape(label)
    rotation, centre = _before_eyes(stage, (side,), (0.42, 0.68), (-0.45, 0.0))
    keep_clear(trunk, shape.mesh.vertices @ rotation.T + centre)
    _hold_phone(stage, side, shape, rotation, centre, (15.0, 30.0, 45.0, 60.0, 75.0))
    stage.place(shape, rotation, centre, mode, _hands((side,)))
    look_at(stage, centre, 0.9)


def _phone_between_hands(stage: Stage, label: str, mode: str) -> None:
    """Held at both ends like a game pad, or in one hand while a finger of the other taps it."""
    rng, trunk, hand = stage.rng, trunk_of(stage), hand_of(stage.rig)
    shape = stage.shape(label)
    rotation, centre = _before_eyes(stage, SIDES, (0.42, 0.62), (-0.5, -0.1))
    keep_clear(trunk, shape.mesh.vertices @ rotation.T + centre)
    quarter = 1.0 if rng.random() < 0.5 else -1.0
    rotation = rotation @ turn(FACE, 90 * quarter)
    half = shape.sizes["height"] / 2
    ways: dict[Side, list[Way]] = {}
    for side in SIDES:
        # The phone's own +x is to the reader's right, as is its top after a quarter turn to the right.
        end = np.array([0.0, half * OUTWARD[side] * quarter, 0.0])
        edge = rotation @ end + centre
        into, face = -unit(rotation @ end), rotation @ np.array(FACE)
        holds = [hold_edge(hand, shape.sizes["thickness"], yaw) for yaw in (25.0, 40.0, 55.0, 70.0)]
        ways[side] = [(hold, edge, hold.axes(side, into, face)) for hold in holds]
    grasp(stage, ways, trunk)
    stage.place(shape, rotation, centre, mode, _hands(SIDES))
    look_at(stage, centre, 0.9)


def _phone_at_ear(stage: Stage, side: Side, label: str, mode: str) -> None:
    rng = stage.rng
    if not any("head" in placed.parts for placed in stage.objects):
        turn_head(stage, rng.uniform(-8, 15), rng.uniform(-25, 25), OUTWARD[side] * -rng.uniform(-3, 10))
    shape = stage.shape(label)
    head = stage.poser.orientation("head")
    outward = head @ np.array([OUTWARD[side], 0.0, 0.0])
    up, forward = head @ UP, head @ np.array(FACE)
    ear = _ear(stage, side)
    # The lower end comes forwards to the mouth and inwards to the cheek.
    top = unit(up - rng.uniform(0.25, 0.75) * forward + rng.uniform(0.05, 0.2) * outward)
    screen = unit(-outward - rng.uniform(0.0, 0.25) * forward)
    rotation = align(TOP, FACE, top, screen)
    half = shape.sizes["height"] / 2
    centre = ear - top * rng.uniform(0.45, 0.7) * half - 0.01 * forward
    screen = rotation @ np.array(FACE)
    skin = stage.points("head")
    off = (skin - centre) @ rotation
    over = (np.abs(off[:, 0]) < shape.sizes["width"] / 2) & (np.abs(off[:, 1]) < half) & (off[:, 2] > -0.05)
    if not over.any():
        raise Unreachable("the phone misses the ear")
    front = float(shape.anchors["screen"].point[2])
    centre = centre + screen * (float(off[over, 2].min()) + EAR_SINK - front)
    _hold_phone(stage, side, shape, rotation, centre, tuple(np.arange(-5.0, 110.0, 12.0)), (-0.16, 0.08))
    stage.place(shape, rotation, centre, mode, [*_hands((side,)), f"{SIDE_NAMES[side]} forearm", "head"])


def _hold_phone(
    stage: Stage,
    side: Side,
    shape: Shape,
    rotation: Matrix,
    centre: Vector,
    slants: tuple[float, ...],
    lower: tuple[float, float] = (0.0, 0.2),
) -> None:
    sizes = shape.sizes
    hand = hand_of(stage.rig)
    holds = [hold_slab(hand, sizes["width"], sizes["height"], sizes["thickness"], slant) for slant in slants]
    top, face = rotation @ np.array(TOP), rotation @ np.array(FACE)
    back = centre - face * sizes["thickness"] / 2 - top * stage.rng.uniform(*lower) * sizes["height"]
    trunk = trunk_of(stage, head=False)
    grasp(stage, {side: [(hold, back, hold.axes(side, top, face)) for hold in holds]}, trunk)


def _before_eyes(
    stage: Stage, sides: tuple[Side, ...], ahead: tuple[float, float], up: tuple[float, float]
) -> tuple[Matrix, Vector]:
    """How a thing that is looked at is turned, and where its middle is: before the chest, facing the eyes."""
    rng = stage.rng
    aside = rng.uniform(-0.1, 0.1) if len(sides) == 2 else OUTWARD[sides[0]] * rng.uniform(-0.05, 0.3)
    centre, left, forward = before_chest(stage, aside, rng.uniform(*up), rng.uniform(*ahead))
    above = np.cross(forward, left)
    eyes = stage.poser.position("head") + 0.06 * above + 0.08 * forward
    face = unit(unit(eyes - centre) + rng.uniform(-0.2, 0.2) * left + rng.uniform(-0.15, 0.3) * above)
    return align(FACE, TOP, face, above + rng.uniform(-0.15, 0.15) * left), centre


def _ear(stage: Stage, side: Side) -> Vector:
    """The middle of the ear: what stands out most from the head."""
    skin = stage.points("head")
    off = (skin - stage.poser.position("head")) @ stage.poser.orientation("head")
    # Ears are above the jaw, whose corner may be as wide.
    high = (off[:, 1] > 0.0) & (off[:, 1] < 0.11)
    out = np.where(high, OUTWARD[side] * off[:, 0], -np.inf)
    nearest = np.argsort(out)[-25:]
    ear: Vector = skin[nearest].mean(axis=0).astype(np.float64)
    return ear


def _front(anchor: Anchor) -> Vector:
    """The face of a page at whose edge the anchor is, towards the reader."""
    return np.cross(UP, anchor.direction) * (1.0 if anchor.direction[0] < 0 else -1.0)


def _clear_of_legs(stage: Stage, side: Side, points: Vector, gap: float = 0.03) -> None:
    """Refuse points that are nearer than `gap` to hips or legs, sideways.

    Raises
    ------
    Unreachable : they are.
    """
    name = SIDE_NAMES[side]
    legs = stage.points("hips", f"{name} thigh", f"{name} lower leg", "torso")
    low, high = points.min(axis=0), points.max(axis=0)
    beside = (legs[:, 1] > low[1] - 0.02) & (legs[:, 1] < high[1] + 0.02)
    beside &= (legs[:, 2] > low[2] - 0.02) & (legs[:, 2] < high[2] + 0.02)
    if beside.any():
        inner = float((OUTWARD[side] * points[:, 0]).min())
        if inner < float((OUTWARD[side] * legs[beside, 0]).max()) + gap:
            raise Unreachable("what hangs from the hand would touch a leg")


def _hands(sides: tuple[Side, ...]) -> list[str]:
    return [f"{SIDE_NAMES[side]} hand" for side in sides]
