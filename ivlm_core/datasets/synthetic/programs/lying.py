"""Lying on a bed, a couch or a bench, on the back or on a side."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ivlm_core.bodies import PART_NAMES
from ivlm_core.datasets.synthetic.pose import Matrix, Side, Vector, turn, unit
from ivlm_core.datasets.synthetic.programs.limbs import (
    bend_trunk,
    idle_arm,
    leg_length,
    pose_arm,
    rest_hand,
    sole_height,
    turn_head,
    upright,
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
    part,
)
from ivlm_core.datasets.synthetic.scene import PlacedObject
from ivlm_core.objects import Shape

# How deep mattress, cushions and slats sink into the body, metres.
SINK = 0.028
PILLOW_SINK = 0.02
# How high the head is above what carries the arm under it, metres.
ARM_AS_PILLOW = 0.065
NECK = ("neck01", "neck02", "neck03", "head")
# A part lies on something when this many of its vertices are within 2 cm of it.
LYING_VERTICES, LYING_GAP = 6, 0.02
LAID_ON = {"mattress", "cushion", "seat"}
TRUNK_AND_LEGS = tuple(name for name in PART_NAMES if "arm" not in name and "hand" not in name and name != "head")
LOOSE = ("left upper arm", "right upper arm", "left forearm", "right forearm", "left lower leg", "right lower leg")


@dataclass(frozen=True, eq=False)
class Lair:
    """What somebody lies on: the thing, how it is turned, and places on it in the turned thing's coordinates, metres.

    Attributes
    ----------
    around : turns +z into the direction from head to feet.
    top : the middle of where one lies. pillow : the middle of the pillow's top; None without one.
    back : z of the backrest's front at its foot; None without one. half : half the room across the body.
    """

    shape: Shape
    frame: Matrix
    around: Matrix
    top: Vector
    pillow: Vector | None
    back: float | None
    half: float

    @cached_property
    def bounds(self) -> tuple[Vector, Vector]:
        """Lowest and highest corner of what one lies on, in the thing's own frame, metres."""
        meshes = [mesh for name, mesh in self.shape.parts.items() if LAID_ON & set(name.split())]
        low = np.min([mesh.vertices.min(axis=0) for mesh in meshes], axis=0).astype(np.float64)
        high = np.max([mesh.vertices.max(axis=0) for mesh in meshes], axis=0).astype(np.float64)
        return low, high


def lie(stage: Stage, label: str, mode: str) -> None:
    """Lie on the back or on a side, legs straight or bent, arms beside the body, on it or before it."""
    if mode == "lie on the back":
        _lie_on_back(stage, label, mode)
    else:
        _lie_on_side(stage, label, mode, "L" if "left" in mode else "R")


def _lie_on_back(stage: Stage, label: str, mode: str) -> None:
    rng, poser = stage.rng, stage.poser
    stage.posture = "lie"
    stage.free.discard("lap")
    # The body lies across the picture, more or less; with 0 the head would be away from the camera.
    across = rng.uniform(55, 90) if label == "bed" else 90.0
    around = turn(UP, across * rng.choice([-1.0, 1.0]))
    base = around @ turn(LEFT, -90)
    poser.orient("root", base)
    bend_trunk(stage, rng.uniform(0, 5), rng.uniform(-3, 3), 0)
    turn_head(stage, 0, rng.uniform(-35, 35))
    lair = _lair(stage, label, around)
    height = float(stage.points("torso", "hips")[:, 1].min()) + SINK
    towards_feet = around @ FORWARD
    bent = rng.choice(4, p=(0.5, 0.35, 0.075, 0.075))  # neither leg, both, the left, the right one
    for number, side in enumerate(SIDES):
        if bent in (1, 2 + number):
            _bend_leg(stage, side, height, towards_feet, rng.uniform(0.45, 0.72))
        else:
            _lay_leg(stage, side, height, base)
    at = _placed_under(stage, lair, height)
    _rest_head(stage, lair, at, LEFT, ("spine01", *NECK), -PILLOW_SINK)
    _put_under(stage, lair, at, mode)
    stage.idle = lambda side: _idle_on_back(stage, side, lair, height, base)


def _lie_on_side(stage: Stage, label: str, mode: str, down: Side) -> None:
    rng, poser = stage.rng, stage.poser
    stage.posture = "lie"
    stage.free.discard("lap")
    out = OUTWARD[down]
    # The belly is towards the camera, the own left down or up.
    yaw = turn(UP, rng.uniform(-25, 25) if label == "bed" else 0.0)
    left = np.array([0.0, -out, 0.0])
    base = yaw @ np.stack([left, np.cross(FORWARD, left), FORWARD], axis=1) @ turn(UP, rng.uniform(-10, 10))
    poser.orient("root", base)
    bend_trunk(stage, rng.uniform(4, 18))
    turn_head(stage, rng.uniform(0, 14))
    head = yaw @ (out * LEFT)
    lair = _lair(stage, label, upright(-head))

    up: Side = "R" if down == "L" else "L"
    flexion, knee = (
        (rng.uniform(15, 60), rng.uniform(25, 85)) if label == "bed" else (rng.uniform(5, 28), rng.uniform(15, 60))
    )
    for side, more, sag in ((down, 0.0, 0.0), (up, rng.uniform(6, 20), rng.uniform(7, 10))):
        shank = knee - flexion - more
        lower = -UP * np.sin(np.radians(sag))
        foot = base @ turn(LEFT, shank + rng.uniform(15, 35))
        poser.leg(
            side,
            base @ turn(LEFT, -flexion - more) @ -UP + lower,
            base @ turn(LEFT, shank) @ -UP + 0.4 * lower,
            foot,
        )
    # The arm underneath is in nobody's way only in front of the body.
    stage.free.discard(down)
    stretched = unit(FORWARD + rng.uniform(-0.4, 0.1) * UP if lair.pillow is not None else 0.55 * FORWARD + UP)
    pose_arm(stage, down, base @ stretched, base @ unit(FORWARD + rng.uniform(-0.2, 1.2) * UP), -UP)
    name = SIDE_NAMES[down]
    below = stage.points("torso", "hips", f"{name} thigh", f"{name} lower leg", f"{name} upper arm")
    height = float(below[:, 1].min()) + SINK
    at = _placed_under(stage, lair, height)
    # Without a pillow the head lies on the arm.
    _rest_head(stage, lair, at, -out * FORWARD, NECK, -PILLOW_SINK if lair.pillow is not None else ARM_AS_PILLOW)
    _lay_arm(stage, down, lair, at, base, stretched)
    _put_under(stage, lair, at, mode)
    stage.idle = lambda side: _idle_on_side(stage, side, lair.half > 0.4, height, base, head)


def _lair(stage: Stage, label: str, around: Matrix) -> Lair:
    """An instance of what to lie on that is long enough."""
    rng = stage.rng
    person = float(np.ptp(stage.rig.vertices[:, 1]))
    sizes = dict(stage.shape(label).sizes)
    if label == "bed":
        sizes["length"] = max(sizes["length"], person + 0.28)
        shape = stage.shape(label, sizes)
        pillow = shape.anchors[str(rng.choice([name for name in shape.anchors if name.startswith("pillow")]))].point
        top = shape.anchors["seat"].point.copy()
        top[0] = pillow[0]
        return Lair(shape, around, around, around @ top, around @ pillow, None, sizes["width"] / 2 - abs(pillow[0]))
    if label == "couch":
        inner = max(sizes["width"] - 2 * sizes["arm_width"], person + 0.3)
        sizes |= {"seats": 3, "width": inner + 2 * sizes["arm_width"]}
    else:
        sizes |= {"width": max(sizes["width"], person + 0.2), "arm_height": 0.0}
    shape = stage.shape(label, sizes)
    back, top = shape.anchors["back"], shape.anchors["seat"].point
    slope = back.direction[1] / back.direction[2]
    front = float(back.point[2] + slope * (back.point[1] - top[1]))
    half = float(shape.mesh.vertices[:, 2].max()) - top[2]
    return Lair(shape, np.eye(3), around, top, None, front, half)


def _placed_under(stage: Stage, lair: Lair, height: float) -> Vector:
    """Where the thing's origin goes: its top at `height` under the body's middle, or the pillow under its head."""
    rng = stage.rng
    lengthwise, sideways = lair.around @ FORWARD, lair.around @ LEFT
    trunk = stage.points("torso", "hips")
    at = UP * (height - lair.top[1])
    across = trunk @ sideways
    at = at + sideways * (0.5 * float(across.min() + across.max()) - lair.top @ sideways)
    if lair.pillow is not None:
        head = stage.poser.position("head") @ lengthwise
        at = at + lengthwise * (head + rng.uniform(-0.04, 0.02) - lair.pillow @ lengthwise)
        # The shoulders stay off the pillow.
        for _ in range(8):
            if float(_above(lair, at, trunk).min()) > -SINK - 0.004:
                break
            at = at - 0.02 * lengthwise
        return at
    along = stage.vertices() @ lengthwise
    at = at + lengthwise * (0.5 * float(along.min() + along.max()) + rng.uniform(-0.03, 0.03) - lair.top @ lengthwise)
    if lair.back is not None and stage.poser.orientation("root")[2, 2] > 0.5:
        # Who lies on a side has the back, or the feet, at the backrest.
        behind = stage.points(*TRUNK_AND_LEGS)[:, 2].min()
        at[2] = float(behind) - rng.uniform(0.03, 0.06) - lair.back
    elif lair.back is not None and lair.half > 0.26:
        # There is an arm between trunk and backrest.
        at[2] = float(trunk[:, 2].min()) - rng.uniform(0.19, 0.22) - lair.back
    return at


def _above(lair: Lair, at: Vector, points: NDArray[np.float32]) -> NDArray[np.float64]:
    """(n,) heights of points above the pillows and what is below them, metres."""
    local = (points - at) @ lair.frame
    surface = np.full(len(points), float(lair.top[1]))
    for name, mesh in lair.shape.parts.items():
        if "pillow" in name:
            top = mesh.vertices[mesh.vertices[:, 1] > np.median(mesh.vertices[:, 1])].astype(np.float64)
            low, high = top.min(axis=0), top.max(axis=0)
            inside = ((local > low) & (local < high))[:, [0, 2]].all(axis=1)
            if inside.any():
                surface[inside] = np.maximum(surface[inside], surface_heights(top, local[inside]))
    low, high = lair.bounds
    beside = ((local < low) | (local > high))[:, [0, 2]].any(axis=1)
    result: NDArray[np.float64] = np.where(beside, np.inf, local[:, 1] - surface)
    return result


def _rest_head(stage: Stage, lair: Lair, at: Vector, axis: Vector, bones: tuple[str, ...], gap: float) -> None:
    """Bend the neck about an axis of the chest, more in the head than at its root, until the head is `gap` above."""
    poser = stage.poser
    head = part(stage.rig, "head")[::6]
    start = {bone: poser.orientation(bone) for bone in bones}
    axis = poser.orientation("spine01") @ axis

    def bend(degrees: float) -> float:
        for index, bone in enumerate(bones, start=1):
            poser.orient(bone, turn(axis, index / len(bones) * degrees) @ start[bone])
        return float(_above(lair, at, poser.points(head)).min()) - gap

    # One way the head rises, the other way it falls.
    low, high = (-28.0, 48.0) if bend(-28.0) < bend(48.0) else (48.0, -28.0)
    if bend(low) > 0.025 or bend(high) < -0.025:
        raise Unreachable("the head does not rest")
    for _ in range(6):
        middle = (low + high) / 2
        low, high = (middle, high) if bend(middle) < 0 else (low, middle)


def _put_under(stage: Stage, lair: Lair, at: Vector, mode: str) -> None:
    placed = stage.place(lair.shape, lair.frame, at, mode)
    stage.floor = float(lair.shape.mesh.vertices[:, 1].min() + at[1])
    lie_on(stage, placed, _above(lair, at, stage.vertices()))


def _bend_leg(stage: Stage, side: Side, height: float, towards_feet: Vector, stretch: float) -> None:
    """A bent leg, its sole flat on the surface at `height`."""
    hip = stage.poser.position(f"upperleg01.{side}")
    ankle = hip + towards_feet * stretch * leg_length(stage)
    ankle[1] = height + sole_height(stage, side) - 0.008
    heading = upright(towards_feet)
    left = stage.poser.orientation("root") @ LEFT
    stage.poser.step(side, ankle, UP + 0.12 * OUTWARD[side] * left, heading)


def _lay_leg(stage: Stage, side: Side, height: float, base: Matrix) -> None:
    """A straight leg, lowered until calf or heel touch the surface at `height`."""
    rng, poser = stage.rng, stage.poser
    out = OUTWARD[side] * rng.uniform(0.0, 0.14)
    foot = base @ turn(UP, 0) @ turn(FORWARD, -OUTWARD[side] * rng.uniform(4, 22)) @ turn(LEFT, rng.uniform(14, 34))
    skin = part(stage.rig, f"{SIDE_NAMES[side]} lower leg", f"{SIDE_NAMES[side]} foot")[::2]
    for down in np.arange(-0.04, 0.2, 0.01):
        poser.leg(side, base @ np.array([out, -1, -down]), base @ np.array([out, -1, -down]), foot)
        if float(poser.points(skin)[:, 1].min()) < height - 0.008:
            return
    raise Unreachable("the legs do not lie down")


def lie_on(stage: Stage, placed: PlacedObject, above: NDArray[np.float64]) -> None:
    """Say which parts lie on the thing, from the heights of all vertices above it: wherever they come down."""
    near = stage.rig.part_labels[above < LYING_GAP]
    count = np.bincount(near, minlength=len(PART_NAMES))
    parts = {name for name, number in zip(PART_NAMES, count, strict=True) if number >= LYING_VERTICES}
    stage.touch(placed, placed.mode, parts | {*LOOSE, "hips", "torso", "left thigh", "right thigh"})


def _idle_on_back(stage: Stage, side: Side, lair: Lair, height: float, base: Matrix) -> None:
    left, towards_feet = base @ LEFT, lair.around @ FORWARD
    out = OUTWARD[side]

    def beside(stage: Stage, side: Side) -> None:
        rng = stage.rng
        hip = stage.poser.position(f"upperleg01.{side}")
        point = hip + left * out * rng.uniform(0.16, 0.26) - towards_feet * rng.uniform(-0.06, 0.1)
        point[1] = height
        rest_hand(stage, side, point, towards_feet + out * left * rng.uniform(0, 0.3), UP, 0.0, out * left + 0.3 * UP)
        stage.touch(stage.objects[0], stage.objects[0].mode, [f"{SIDE_NAMES[side]} hand"])

    def on_belly(stage: Stage, side: Side) -> None:
        rng = stage.rng
        belly = stage.points("hips", "torso")
        navel = (
            stage.poser.position("spine04")
            + left * out * rng.uniform(0.02, 0.07)
            - towards_feet * rng.uniform(-0.03, 0.14)
        )
        near = belly[np.linalg.norm((belly - navel)[:, [0, 2]], axis=1) < 0.09]
        navel[1] = float(near[:, 1].max()) + 0.004
        fingers = -out * left + 0.5 * towards_feet * rng.uniform(-0.2, 1)
        rest_hand(stage, side, navel, fingers, UP, 8.0, 0.5 * out * left + 0.5 * UP + 0.3 * towards_feet)

    idle_arm(stage, side, ((0.55 if lair.half > 0.4 else 0.0, beside), (0.45, on_belly)))


def _lay_arm(stage: Stage, side: Side, lair: Lair, at: Vector, base: Matrix, upper: Vector) -> None:
    """An arm stretched out in front of a person who lies on it, raised or lowered until it rests on what is below."""
    rng = stage.rng
    name = SIDE_NAMES[side]
    arm = part(stage.rig, f"{name} forearm", f"{name} hand")[::3]
    fore = unit(FORWARD + rng.uniform(-0.5, 0.7) * UP)
    palm = UP * rng.choice([-1.0, 1.0]) if rng.random() < 0.5 else base @ unit(UP - FORWARD)
    stage.poser.curl(side, rng.uniform(0, 16))
    for rise in np.arange(-0.3, 0.5, 0.04):
        pose_arm(stage, side, base @ upper + 0.3 * rise * UP, base @ fore + rise * UP, palm)
        if float(_above(lair, at, stage.poser.points(arm)).min()) > -0.03:
            return
    raise Unreachable("the arm underneath does not lie down")


def _idle_on_side(stage: Stage, side: Side, wide: bool, height: float, base: Matrix, head: Vector) -> None:
    """The arm on top: its hand in front of the belly or on the thigh."""
    forward = base @ FORWARD

    def in_front(stage: Stage, side: Side) -> None:
        rng = stage.rng
        shoulder = stage.poser.position(f"upperarm01.{side}")
        point = shoulder + forward * rng.uniform(0.26, 0.36) - head * rng.uniform(0.05, 0.3)
        point[1] = height
        fingers = forward + head * rng.uniform(-0.4, 0.6)
        rest_hand(stage, side, point, fingers, UP, 4.0, UP - 0.6 * head)
        stage.touch(stage.objects[0], stage.objects[0].mode, [f"{SIDE_NAMES[side]} hand"])

    def on_thigh(stage: Stage, side: Side) -> None:
        poser = stage.poser
        hip, knee = poser.position(f"upperleg01.{side}"), poser.position(f"lowerleg01.{side}")
        middle = hip + stage.rng.uniform(0.1, 0.5) * (knee - hip)
        skin = stage.points(f"{SIDE_NAMES[side]} thigh", "hips")
        near = skin[np.linalg.norm((skin - middle)[:, [0, 2]], axis=1) < 0.09]
        middle[1] = float(near[:, 1].max()) + 0.004
        rest_hand(stage, side, middle, knee - hip, UP, 8.0, UP - 0.4 * forward)

    idle_arm(stage, side, ((0.5 if wide else 0.0, in_front), (0.5, on_thigh)))


def surface_heights(top: NDArray[np.float64], points: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n,) heights of a surface given by vertices (m, 3) at the x and z of points (n, 3): the three nearest ones'."""
    from scipy.spatial import cKDTree

    distance, index = cKDTree(top[:, [0, 2]]).query(points[:, [0, 2]], k=3)
    weight = 1 / np.maximum(distance, 1e-4)
    heights: NDArray[np.float64] = (top[index, 1] * weight).sum(axis=1) / weight.sum(axis=1)
    return heights
