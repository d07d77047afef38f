"""Interaction programs: each makes a scene in which a person does one thing with an object."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ivlm_core.bodies import PART_NAMES, AnnyRig
from ivlm_core.datasets.synthetic.appearance import body_colors, object_colors
from ivlm_core.datasets.synthetic.pose import Poser, Side, Vector, align, turn
from ivlm_core.datasets.synthetic.programs.grips import close, hold_bar
from ivlm_core.datasets.synthetic.programs.hands import hand_axes, hand_of
from ivlm_core.datasets.synthetic.scene import PlacedObject, Scene
from ivlm_core.objects import library_shape

UP, LEFT, FORWARD = np.eye(3)[[1, 0, 2]]
SIDES: tuple[Side, Side] = ("L", "R")
# Sign of x on the side of each limb; the body's own left is +x.
OUTWARD: Mapping[Side, float] = MappingProxyType({"L": 1.0, "R": -1.0})


def hold_bottle_at_table(rng: np.random.Generator) -> Scene:
    """Stand at a high table, one hand flat on it, a bottle in the other hand."""
    rig = AnnyRig.load()
    poser = Poser(rig)
    holding: Side = "R" if rng.random() < 0.5 else "L"
    leaning: Side = "L" if holding == "R" else "R"
    poser.orient("root", turn(LEFT, rng.uniform(6, 10)))
    for side in SIDES:
        poser.leg(side, (0.03 * OUTWARD[side], -1, 0.02), (0.03 * OUTWARD[side], -1, -0.03))
    poser.bend("spine04", LEFT, rng.uniform(8, 12))
    poser.bend("spine02", LEFT, rng.uniform(4, 8))
    poser.bend("neck02", LEFT, rng.uniform(4, 12))
    floor = -float(poser.vertices()[:, 1].min())

    # A bar table: an arm that hangs from upright shoulders does not reach a dining table.
    top = rng.uniform(0.90, 0.94)
    table = library_shape("table", height=top, width=rng.uniform(0.9, 1.3), depth=rng.uniform(0.6, 0.75))
    in_front = poser.vertices()[_part(rig, "torso", "hips", "left thigh", "right thigh"), 2]
    edge = float(in_front.max()) + rng.uniform(0.04, 0.08)
    table_at = np.array([0.0, top / 2, edge + float(np.ptp(table.mesh.vertices[:, 2])) / 2])

    palm_at = np.array([OUTWARD[leaning] * rng.uniform(0.22, 0.27), top - floor, edge + 0.07])
    _rest_hand(poser, leaning, palm_at, fingers=(-0.25 * OUTWARD[leaning], 0.0, 1.0))

    from_shoulder = np.array([0.02 * OUTWARD[holding], rng.uniform(-0.22, -0.14), 0.36])
    wrist = poser.position(f"upperarm01.{holding}") + from_shoulder
    poser.reach(holding, wrist, elbow_towards=(0.5 * OUTWARD[holding], -1.0, -0.3))
    poser.hand(holding, fingers=(-0.35 * OUTWARD[holding], 0.1, 1.0), palm=(-OUTWARD[holding], 0.0, -0.35))
    radius, height = rng.uniform(0.032, 0.037), rng.uniform(0.23, 0.27)
    bottle = library_shape("bottle", radius=radius, height=height)
    hand = hand_of(rig)
    hold = hold_bar(hand, radius)
    close(hand, hold).apply(poser, holding)
    wrist, axes = hand_axes(poser, holding)
    axis = axes @ hold.axis
    # The hand is on the straight lower part of the bottle, whose middle is therefore above the hand.
    bottle_at = wrist + axes @ hold.point + 0.16 * height * axis
    lifted = np.array([0.0, floor, 0.0])
    objects = [
        PlacedObject(bottle, align(UP, FORWARD, axis, FORWARD), bottle_at + lifted, **object_colors("bottle", rng)),
        PlacedObject(table, np.eye(3), table_at, **object_colors("table", rng)),
    ]
    return _scene("hold bottle at table", poser, lifted, objects, rng)


def sit_with_laptop(rng: np.random.Generator) -> Scene:
    """Sit on a chair and type on a laptop that lies on the thighs."""
    rig = AnnyRig.load()
    poser = Poser(rig)
    for side in SIDES:
        poser.leg(side, (0.10 * OUTWARD[side], 0.0, 1.0), (0.02 * OUTWARD[side], -1.0, rng.uniform(-0.05, 0.1)))
    poser.bend("spine04", LEFT, rng.uniform(-6, -2))
    poser.bend("spine01", LEFT, rng.uniform(4, 8))
    poser.bend("neck02", LEFT, rng.uniform(10, 18))
    poser.bend("head", LEFT, rng.uniform(4, 10))
    vertices = poser.vertices()
    floor = -float(vertices[:, 1].min())

    laptop = library_shape("laptop")
    base = laptop.parts["base"].vertices
    base_width, _, base_depth = np.ptp(base, axis=0)
    belly = float(np.percentile(vertices[_part(rig, "torso", "hips"), 2], 99))
    near = belly + rng.uniform(0.02, 0.05)
    thighs = vertices[_part(rig, "left thigh", "right thigh")]
    under = thighs[(np.abs(thighs[:, 2] - near - base_depth / 2) < base_depth / 2)]
    lap = float(np.percentile(under[np.abs(under[:, 0]) < base_width / 2, 1], 98))
    # The library's laptop shows its screen to +z; the person sits on that side of it, so it is turned around.
    around = turn(UP, 180)
    laptop_at = np.array([0.0, lap - base[:, 1].min(), near + base[:, 2].max()])
    keys = laptop_at[1] + float(laptop.parts["keys"].vertices[:, 1].max())
    for side in SIDES:
        palm_at = np.array([0.085 * OUTWARD[side], keys, near + 0.075])
        _rest_hand(poser, side, palm_at, fingers=(-0.3 * OUTWARD[side], 0.0, 1.0), curl=4.0)

    vertices = poser.vertices()
    behind = float(np.percentile(vertices[_part(rig, "torso"), 2], 2))
    lower = vertices[_part(rig, "hips", "left thigh", "right thigh")]
    on_seat = lower[(lower[:, 2] > behind) & (lower[:, 2] < behind + 0.4)]
    seat_height = float(np.percentile(on_seat[:, 1], 3)) + floor
    chair = library_shape("chair", seat_height=seat_height, height=seat_height + rng.uniform(0.42, 0.48))
    back = float(chair.parts["back panel"].vertices[:, 2].max())
    chair_at = np.array([0.0, float(np.ptp(chair.mesh.vertices[:, 1])) / 2, behind - back])
    lifted = np.array([0.0, floor, 0.0])
    objects = [
        PlacedObject(laptop, around, laptop_at + lifted, **object_colors("laptop", rng)),
        PlacedObject(chair, np.eye(3), chair_at, **object_colors("chair", rng)),
    ]
    return _scene("sit with laptop", poser, lifted, objects, rng)


PROGRAMS: Mapping[str, Callable[[np.random.Generator], Scene]] = MappingProxyType(
    {"hold bottle at table": hold_bottle_at_table, "sit with laptop": sit_with_laptop}
)


def _scene(name: str, poser: Poser, lifted: Vector, objects: list[PlacedObject], rng: np.random.Generator) -> Scene:
    vertices = (poser.vertices() + lifted).astype(np.float32)
    return Scene(name, vertices, poser.rig.faces, body_colors(poser.rig, rng), objects)


def _part(rig: AnnyRig, *names: str) -> NDArray[np.bool_]:
    chosen: NDArray[np.bool_] = np.isin(rig.part_labels, [PART_NAMES.index(name) for name in names])
    return chosen


def _rest_hand(poser: Poser, side: Side, palm_at: Vector, fingers: Any, curl: float = -8.0) -> None:
    """Lay a hand palm down so that it touches the plane y = `palm_at[1]` and its middle is above `palm_at`."""
    hand = _hand_without_thumb(poser.rig, side)
    target = palm_at + np.array([0.0, 0.03, -0.07])
    # The wrist's height follows from where the posed hand's skin ends up; three corrections settle within a millimetre.
    for _ in range(3):
        poser.reach(side, target, elbow_towards=(0.6 * OUTWARD[side], -0.4, -1.0))
        poser.hand(side, fingers, palm=(0.0, -1.0, 0.0))
        poser.curl(side, curl)
        skin = poser.vertices()[hand]
        lowest = float(np.percentile(skin[:, 1], 2))
        target = target + palm_at - np.array([skin[:, 0].mean(), lowest, skin[:, 2].mean()])


def _hand_without_thumb(rig: AnnyRig, side: Side) -> NDArray[np.intp]:
    moved_by = [
        bone
        for bone, name in enumerate(rig.joint_names)
        if name.endswith(f".{side}") and name.startswith(("wrist", "metacarpal", "finger")) and name[:7] != "finger1"
    ]
    return np.flatnonzero(np.isin(rig.weights.argmax(axis=1), moved_by))
