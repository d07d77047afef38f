"""What touches what in a scene, by geometry, and whether a scene is fit to learn from.

This is the only place where the contact rule is written; `CONTACT_VERSION` is stored with every dataset.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ivlm_core.bodies import PART_NAMES, AnnyRig
from ivlm_core.datasets.synthetic.geometry import Closest, Solid, bounds, capped, within
from ivlm_core.datasets.synthetic.scene import PlacedObject, Scene
from ivlm_core.types import FloatArray, IntArray

# Raised whenever a constant or rule below changes what counts as contact.
CONTACT_VERSION = 1

# Metres. A body vertex touches an object that is nearer than this, …
BODY_THRESHOLD = 0.02
# … an object's vertex a body that is nearer than this (a phone in a hand would otherwise be touched everywhere); also
# the vertex next to every place that a body vertex touches from this near, because large objects have few vertices, …
OBJECT_THRESHOLD = 0.01
# … if the surfaces face each other: the dot product of the two normals is below this, …
MAX_NORMAL_DOT = 0.3
# … which is not asked of what is as near as this or inside, …
ADJOINING = 0.003
# … and what is deeper inside than this is not in contact but wrong: no valid scene has it.
MAX_DEPTH = 0.04
# Of several things that near, a vertex touches only those that are as near as the nearest, within this: a hand on the
# keys does not touch the table under the keyboard.
RIVAL_MARGIN = 0.005

# What makes a scene valid. Vertices of the intended parts that touch at least; of all other parts at most.
MIN_TOUCHING = 8
MAX_ASTRAY = 3
# Metres that a held thing, and a thing that carries the person, may reach into the body (skin does not give way here).
MAX_HELD_DEPTH = 0.03
MAX_SUPPORT_DEPTH = MAX_DEPTH
# Metres that hands may be inside the trunk or a leg, that anything may be under the floor, and objects in each other.
MAX_HAND_DEPTH = 0.02
MAX_BELOW_FLOOR = 0.02
MAX_OVERLAP = 0.015

SUPPORTS = frozenset({"chair", "bench", "couch", "bed", "bicycle", "motorcycle", "suitcase"})
# Parts whose vertices are dense enough that each must reach `MIN_TOUCHING` by itself where it is meant to touch.
DENSE_PARTS = frozenset({"left hand", "right hand", "left foot", "right foot", "head"})
TRUNK_PARTS = ("torso", "hips", "left thigh", "right thigh", "left lower leg", "right lower leg")


@dataclass(frozen=True, eq=False)
class Touch:
    """Where body and one object touch.

    Attributes
    ----------
    body : (V,) bool per body vertex. object : (N,) bool per vertex of the object's mesh.
    depth : metres that the deepest vertex of either is inside the other, 0 where they do not overlap.
    """

    body: NDArray[np.bool_]
    object: NDArray[np.bool_]
    depth: float


def touches(scene: Scene) -> tuple[Touch, ...]:
    """The contact of the body with every object of the scene, in their order."""
    return tuple(_touch(scene, number) for number in range(len(scene.objects)))


# Both sides are kept for the last scene: it is checked right before its contact is stored.
@lru_cache(maxsize=8)
def _touch(scene: Scene, number: int) -> Touch:
    body, item = scene.geometry.body, scene.geometry.objects[number]
    half = _body_side(scene, number)
    object_contact, depth = half.object.copy(), half.depth
    asked = np.flatnonzero(_near_parts(body.vertices, item.vertices, OBJECT_THRESHOLD))
    if len(asked):
        on_body = body.closest(item.vertices[asked])
        object_contact[asked] |= _in_contact(on_body, item.normals[asked], OBJECT_THRESHOLD)
        depth = max(depth, -float(on_body.distance.min()))
    return Touch(half.body, object_contact, depth)


@lru_cache(maxsize=8)
def _body_side(scene: Scene, number: int) -> Touch:
    """The touch as far as the body's vertices tell, for which the body needs no ray tree."""
    geometry = scene.geometry
    item = geometry.objects[number]
    on_object = _closest(scene, number)
    nearest = np.min([_closest(scene, other).distance for other in range(len(scene.objects))], axis=0)
    body_contact = _in_contact(on_object, geometry.body_normals, BODY_THRESHOLD)
    body_contact &= on_object.distance <= nearest + RIVAL_MARGIN
    object_contact = np.zeros(len(item.vertices), dtype=np.bool_)
    object_contact[on_object.vertex[body_contact & (on_object.distance < OBJECT_THRESHOLD)]] = True
    return Touch(body_contact, object_contact, max(0.0, -float(on_object.distance.min())))


@lru_cache(maxsize=8)
def _closest(scene: Scene, number: int) -> Closest:
    return scene.geometry.objects[number].closest(scene.body_vertices, BODY_THRESHOLD)


def _in_contact(opposite: Closest, normals: FloatArray, threshold: float) -> NDArray[np.bool_]:
    """(P,) the contact rule for points with unit normals (P, 3), and what is opposite to them."""
    near = (opposite.distance < threshold) & (opposite.distance > -MAX_DEPTH)
    facing = np.einsum("pi,pi->p", normals, opposite.normal) < MAX_NORMAL_DOT
    contact: NDArray[np.bool_] = near & (facing | (opposite.distance < ADJOINING))
    return contact


def _near_parts(body: FloatArray, points: FloatArray, margin: float) -> NDArray[np.bool_]:
    """(P,) which points are within `margin` of the bounding box of a body part."""
    return _near_any(points, [body[vertices] for vertices in _vertices_of_parts(len(body))], margin)


def _near_any(points: FloatArray, groups: Sequence[FloatArray], margin: float = 0.0) -> NDArray[np.bool_]:
    """(P,) which points are within `margin` of the bounding box of one of the groups of points."""
    near = np.zeros(len(points), dtype=np.bool_)
    low, high = bounds(points)
    for group in groups:
        first, last = bounds(group)
        first, last = first - margin, last + margin
        if (last > low).all() and (first < high).all():
            near |= within(points, first, last)
    return near


def check_scene(scene: Scene) -> list[str]:
    """What is wrong with a scene, one sentence each; empty for a valid one.

    Every object with `parts` touches at least `MIN_TOUCHING` vertices of them (each hand, foot and the head by
    itself) and at most `MAX_ASTRAY` others; one without touches nothing. Nothing is deeper in the body, in another
    object or under the floor than the limits of this module, and no hand is inside the trunk or a leg.
    """
    return list(problems(scene))


def problems(scene: Scene) -> Iterator[str]:
    """What `check_scene` tells, one by one and the cheapest first, for those who only ask whether there is any."""
    lowest = min(
        [float(scene.body_vertices[:, 1].min())] + [float(item.vertices[:, 1].min()) for item in scene.objects]
    )
    if lowest < -MAX_BELOW_FLOOR:
        yield f"reaches {-100 * lowest:.1f} cm below the floor"
    yield from _hand_problems(scene)
    yield from _overlaps(scene)
    for number, placed in enumerate(scene.objects):
        yield from _contact_problems(placed, _body_side(scene, number))
    for placed, touch in zip(scene.objects, touches(scene), strict=True):
        if touch.depth > _max_depth(placed):
            yield f"{placed.label} is {100 * touch.depth:.1f} cm deep in the body"


def _max_depth(placed: PlacedObject) -> float:
    if not placed.parts:
        return 0.0
    return MAX_SUPPORT_DEPTH if placed.label in SUPPORTS else MAX_HELD_DEPTH


def _contact_problems(placed: PlacedObject, touch: Touch) -> Iterator[str]:
    labels = _part_labels(len(touch.body))
    count = np.bincount(labels[touch.body], minlength=len(PART_NAMES))
    touched = {name: int(number) for name, number in zip(PART_NAMES, count, strict=True) if number}
    if not placed.parts:
        if touched:
            yield f"{placed.label} is touched by {', '.join(touched)}"
        return
    for name in sorted(placed.parts & DENSE_PARTS):
        if touched.get(name, 0) < MIN_TOUCHING:
            yield f"{placed.label} is not touched by the {name} ({touched.get(name, 0)} vertices)"
    meant = sum(number for name, number in touched.items() if name in placed.parts)
    if meant < MIN_TOUCHING:
        yield f"{placed.label} is hardly touched ({meant} vertices)"
    astray = {name: number for name, number in touched.items() if name not in placed.parts}
    if sum(astray.values()) > MAX_ASTRAY:
        yield f"{placed.label} is also touched by {', '.join(f'{name} ({n})' for name, n in astray.items())}"


def _hand_problems(scene: Scene) -> Iterator[str]:
    body = scene.body_vertices
    if len(body) != len(AnnyRig.load().part_labels):
        return
    trunk = _trunk()
    skin = body[trunk.vertices]
    near = {name: _near_any(body[hand], [skin[part] for part in trunk.parts]) for name, hand in trunk.hands.items()}
    if not any(points.any() for points in near.values()):
        return
    solid = Solid(np.concatenate([skin, [body[rim].mean(axis=0) for rim in trunk.rims]]), trunk.faces)
    for name, vertices in trunk.hands.items():
        if (depth := solid.depth(body[vertices][near[name]])) > MAX_HAND_DEPTH:
            yield f"the {name} is {100 * depth:.1f} cm inside the body"


def _overlaps(scene: Scene) -> Iterator[str]:
    items = scene.geometry.objects
    for first, item in enumerate(items):
        for second, other in enumerate(items):
            if first != second and (depth := other.depth(item.vertices)) > MAX_OVERLAP:
                yield f"{item.placed.label} is {100 * depth:.1f} cm inside the {other.placed.label}"


@lru_cache(maxsize=4)
def _part_labels(count: int) -> NDArray[np.uint8]:
    labels = AnnyRig.load().part_labels
    return labels if len(labels) == count else np.zeros(count, dtype=np.uint8)


@lru_cache(maxsize=4)
def _vertices_of_parts(count: int) -> tuple[IntArray, ...]:
    labels = _part_labels(count)
    return tuple(np.flatnonzero(labels == part).astype(np.int32) for part in np.unique(labels))


@dataclass(frozen=True, eq=False)
class _Trunk:
    """Trunk and legs, closed where arms, head and feet were cut off, and the hands that must stay outside.

    Attributes
    ----------
    vertices : their vertices in the body. parts : for every part, which of `vertices` are its own.
    faces : indices into `vertices`, and behind them one more per hole. rims : body vertices around every hole.
    hands : name → every third of the hand's vertices, which are a few millimetres apart.
    """

    vertices: IntArray
    parts: tuple[IntArray, ...]
    faces: IntArray
    rims: list[IntArray]
    hands: dict[str, IntArray]


@lru_cache(maxsize=1)
def _trunk() -> _Trunk:
    """Every body has the same faces, so this is found once."""
    rig = AnnyRig.load()
    labels = [PART_NAMES.index(name) for name in TRUNK_PARTS]
    inside = np.isin(rig.part_labels, labels)
    faces, rims = capped(rig.star_mesh, rig.faces[inside[rig.faces].all(axis=1)])
    used, compact = np.unique(faces, return_inverse=True)
    vertices = used[: len(used) - len(rims)].astype(np.int32)
    hands = {
        name: np.flatnonzero(rig.part_labels == PART_NAMES.index(name))[::3].astype(np.int32)
        for name in ("left hand", "right hand")
    }
    parts = tuple(np.flatnonzero(rig.part_labels[vertices] == label).astype(np.int32) for label in labels)
    return _Trunk(vertices, parts, compact.reshape(-1, 3).astype(np.int32), rims, hands)
