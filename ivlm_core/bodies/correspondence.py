"""Which point of one body's surface is the same place as a vertex of another body, from their two star poses.

Both bodies stand in the canonical star pose and carry the same 15 part labels, but differ in topology, proportions and
the fine pose of hands, feet and head. The target is therefore first brought into the source's shape, coarse to fine,
and only then snapped onto its surface:

1. every part is boxed in a frame of its own (limbs along the bone, which runs between the borders with the
   neighbouring parts) and its box is laid over the same part's box; across the borders the boxes blend;
2. the target's surface is drawn onto the source by smooth displacements that become ever softer;
3. each vertex takes the nearest point of the same part whose normal agrees, so that left stays left and front front.

A part that the source lacks is looked for on the parts next to it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ivlm_core.bodies.model import BodyModel
from ivlm_core.bodies.parts import PART_NAMES
from ivlm_core.types import FloatArray, IntArray

_Array = NDArray[np.float64]

_CARRIERS = {
    "head": "torso",
    "torso": "hips",
    "upper arm": "torso",
    "forearm": "upper arm",
    "hand": "forearm",
    "thigh": "hips",
    "lower leg": "thigh",
    "foot": "lower leg",
}


def _carrier(name: str) -> int:
    """Index of the part that a part hangs on: the torso carries head and arms, the hips the rest; −1 for the hips."""
    side, _, limb = name.partition(" ")
    carrier = _CARRIERS.get(limb or name)
    if carrier is None:
        return -1
    return PART_NAMES.index(carrier if carrier in PART_NAMES else f"{side} {carrier}")


PARENT = tuple(_carrier(name) for name in PART_NAMES)

# Lengths as shares of the body's height: on an adult, borders blend over 7 cm and a normal that turns away counts as
# much as 3 cm.
BLEND_SHARE = 0.04
NORMAL_SHARE = 0.02
# Boxes end where a hundredth of a part's area is left outside, so that single vertices do not decide them.
TAIL = 0.01
# Smoothness against the pull of the source, one solve each; the square root is roughly how many edges move together.
STIFFNESS = (400.0, 200.0, 100.0, 50.0, 25.0, 12.0, 6.0, 3.0)
CANDIDATES = 12


def correspond(source: BodyModel, target: BodyModel) -> tuple[IntArray, FloatArray]:
    """The place on `source` of every vertex of `target`.

    Parameters
    ----------
    source, target : bodies of V_source and V_target vertices in the canonical star pose.

    Returns
    -------
    (V_target, 3) int32 vertices of `source` and (V_target, 3) float32 barycentric weights in [0, 1].
    """
    surface = _Surface(source)
    parts = _parts_to_search(source, target)
    warped = _lay_over(source, target, parts)
    warped = _draw_onto(surface, warped, target, parts)
    vertices, weights, _, _ = surface.nearest(warped, _vertex_normals(warped, target.mesh.faces), parts)
    return vertices, weights


def _parts_to_search(source: BodyModel, target: BodyModel) -> NDArray[np.intp]:
    """(V_target,) the part of the source on which each target vertex lies; for a missing part its nearest relative."""
    present = np.isin(np.arange(len(PART_NAMES)), source.part_labels[source.mesh.faces])
    return np.array([_relative(part, present) for part in range(len(PART_NAMES))])[target.part_labels]


def _relative(part: int, present: NDArray[np.bool_]) -> int:
    reached = [part]
    for current in reached:  # grows while it is walked, so that near relatives come before far ones
        linked = [PARENT[current], *_children(current)]
        reached += [other for other in linked if other >= 0 and other not in reached]
    return next(other for other in reached if present[other])


def _children(part: int) -> list[int]:
    return [child for child, parent in enumerate(PARENT) if parent == part]


class _Surface:
    """The source's triangles by part, to find nearest points on."""

    def __init__(self, body: BodyModel) -> None:
        from scipy.spatial import cKDTree

        self.vertices = body.mesh.vertices.astype(np.float64)
        self.faces = body.mesh.faces
        self.normals = _vertex_normals(self.vertices, self.faces)
        self.penalty = NORMAL_SHARE * _height(self.vertices)
        parts = body.part_labels[self.faces]  # (F, 3): a triangle at a border belongs to both sides
        # Nearest triangles are guessed from four points on each: its middle, and halfway from there to its corners.
        mixing = np.vstack([np.full((1, 3), 1 / 3), np.eye(3) / 2 + 1 / 6])
        places = mixing @ self.vertices[self.faces]  # (F, 4, 3)
        normals = _unit(mixing @ self.normals[self.faces])
        self.trees = {}
        for part in np.unique(parts):
            chosen = np.flatnonzero((parts == part).any(axis=1))
            keys = np.concatenate([places[chosen], self.penalty * normals[chosen]], axis=2).reshape(-1, 6)
            self.trees[int(part)] = cKDTree(keys), np.repeat(chosen, 4)

    def nearest(
        self, points: _Array, normals: _Array, parts: NDArray[np.intp]
    ) -> tuple[IntArray, FloatArray, _Array, _Array]:
        """The nearest place on each point's part, among those whose normal agrees.

        Returns
        -------
        (N, 3) vertices, (N, 3) barycentric weights, (N, 3) the places and (N,) the cosine between the normals.
        """
        chosen = np.empty(len(points), np.intp)
        weights = np.empty((len(points), 3))
        for part in np.unique(parts):
            tree, owner = self.trees[int(part)]
            of_part = np.flatnonzero(parts == part)
            keys = np.concatenate([points[of_part], self.penalty * normals[of_part]], axis=1)
            _, near = tree.query(keys, k=min(CANDIDATES, tree.n))
            faces = owner[near]  # (n, k)
            chosen[of_part], weights[of_part] = self._best(points[of_part], normals[of_part], faces)
        corners = self.faces[chosen]
        places = np.einsum("nc,ncd->nd", weights, self.vertices[corners])
        facing = np.einsum("nc,ncd->nd", weights, self.normals[corners])
        return corners, weights.astype(np.float32), places, (_unit(facing) * normals).sum(axis=1)

    def _best(self, points: _Array, normals: _Array, faces: NDArray[np.intp]) -> tuple[NDArray[np.intp], _Array]:
        import trimesh

        corners = self.faces[faces]  # (n, k, 3)
        triangles = self.vertices[corners].reshape(-1, 3, 3)
        closest = trimesh.triangles.closest_point(triangles, np.repeat(points, faces.shape[1], axis=0))
        with np.errstate(divide="ignore", invalid="ignore"):
            weights = trimesh.triangles.points_to_barycentric(triangles, closest, method="cross")
        # A triangle without area has no barycentric coordinates; its first corner stands for it.
        weights[~np.isfinite(weights).all(axis=1)] = (1, 0, 0)
        weights = np.clip(weights, 0, None)
        weights = (weights / weights.sum(axis=1, keepdims=True)).reshape(corners.shape)
        places = np.einsum("nkc,nkcd->nkd", weights, self.vertices[corners])
        facing = _unit(np.einsum("nkc,nkcd->nkd", weights, self.normals[corners]))
        distance = ((places - points[:, None]) ** 2).sum(axis=2)
        cosine = (facing * normals[:, None]).sum(axis=2)
        # Normals of two meshes never agree exactly; only where they turn away does another place get its chance.
        best = (distance + self.penalty**2 * np.clip(0.5 - cosine, 0, None)).argmin(axis=1)
        rows = np.arange(len(faces))
        return faces[rows, best], weights[rows, best]


def _lay_over(source: BodyModel, target: BodyModel, parts: NDArray[np.intp]) -> _Array:
    """(V_target, 3): the target's vertices after each part's box is laid over the source's, blended at the borders."""
    from scipy.spatial import cKDTree

    points = target.mesh.vertices.astype(np.float64)
    reach = BLEND_SHARE * _height(points)
    total, weight = np.zeros_like(points), np.zeros((len(points), 1))
    for part in np.unique(parts):
        from_box, to_box = _box(target, part), _box(source, part)
        if from_box is None or to_box is None:
            continue
        neighbours = np.isin(parts, [part, PARENT[part], *_children(part)])
        # Only along the body: the thighs come close to each other, and must not pull on each other.
        distance = np.full(len(points), np.inf)
        distance[neighbours], _ = cKDTree(points[parts == part]).query(points[neighbours], distance_upper_bound=reach)
        share = np.clip(1 - distance / reach, 0, 1)[:, None] ** 2
        total += share * (((points - from_box[1]) @ from_box[0] / from_box[2]) * to_box[2] @ to_box[0].T + to_box[1])
        weight += share
    return np.where(weight > 0, total / np.maximum(weight, 1e-12), points)


def _box(body: BodyModel, part: int) -> tuple[_Array, _Array, _Array] | None:
    """Axes as columns (3, 3), centre (3,) and half sizes (3,) of a part's box; None for a part without area."""
    points = body.mesh.vertices.astype(np.float64)
    inside = np.flatnonzero((body.part_labels == part) & (body.vertex_area > 0))
    if len(inside) == 0:
        return None
    axes = _axes(body, part)
    along, area = points[inside] @ axes, body.vertex_area[inside].astype(np.float64)
    low, high = np.empty(3), np.empty(3)
    for axis in range(3):
        order = np.argsort(along[:, axis])
        share = np.cumsum(area[order]) / area.sum()
        ends = np.searchsorted(share, [TAIL, 1 - TAIL]).clip(max=len(order) - 1)
        low[axis], high[axis] = along[order[ends], axis]
    half = np.maximum((high - low) / 2, 1e-3 * _height(points))
    return axes, axes @ ((low + high) / 2), half


def _axes(body: BodyModel, part: int) -> _Array:
    """Orthonormal columns: along the part, then as near to the front as that allows."""
    front = np.array([0.0, 0.0, 1.0])
    name = PART_NAMES[part]
    if name in ("head", "torso", "hips"):
        return _frame(np.array([0.0, 1.0, 0.0]), front)
    start = _border(body, part, PARENT[part])
    if name.endswith("foot"):
        # The foot keeps its angle to the leg in the star pose; where its toes point is its own.
        leg = PARENT[part]
        return _frame(start - _border(body, leg, PARENT[leg]), _middle(body, part) - start)
    present = [child for child in _children(part) if _has(body, child)]
    return _frame((_border(body, present[0], part) if present else _middle(body, part)) - start, front)


def _has(body: BodyModel, part: int) -> bool:
    return bool(body.vertex_area[body.part_labels == part].sum() > 0)


def _border(body: BodyModel, part: int, other: int) -> _Array:
    """(3,) middle of the ring where two parts meet; halfway between them where they do not touch."""
    points, labels = body.mesh.vertices, body.part_labels
    edges = _edges(body.mesh.faces)
    crossing = np.sort(labels[edges], axis=1)
    ring = points[edges[(crossing == sorted((part, other))).all(axis=1)]].astype(np.float64)  # (n, 2, 3)
    lengths = np.linalg.norm(ring[:, 0] - ring[:, 1], axis=1)
    if lengths.sum() == 0:
        return (_middle(body, part) + _middle(body, other)) / 2
    middle: _Array = np.average(ring.mean(axis=1), axis=0, weights=lengths)
    return middle


def _middle(body: BodyModel, part: int) -> _Array:
    """(3,) the part's middle by area; the body's where the part is missing."""
    area = np.where(body.part_labels == part, body.vertex_area, 0).astype(np.float64)
    if area.sum() == 0:
        area = np.ones(len(area))
    middle: _Array = np.average(body.mesh.vertices.astype(np.float64), axis=0, weights=area)
    return middle


def _frame(along: _Array, front: _Array) -> _Array:
    first = _unit(along)
    second = front - first * (first @ front)
    if np.linalg.norm(first) < 0.5 or np.linalg.norm(second) < 1e-6:
        return np.eye(3)
    second = _unit(second)
    return np.stack([first, second, np.cross(first, second)], axis=1)


def _draw_onto(surface: _Surface, start: _Array, target: BodyModel, parts: NDArray[np.intp]) -> _Array:
    """(V_target, 3): `start` moved onto the source by displacements that vary smoothly over the target's surface."""
    from scipy.sparse import coo_array, csc_array, diags_array
    from scipy.sparse.csgraph import laplacian
    from scipy.sparse.linalg import splu

    faces, count = target.mesh.faces, len(start)
    edges = _edges(faces)
    linked = coo_array((np.ones(len(edges)), edges.T), shape=(count, count)).tocsr()
    smooth = laplacian(((linked + linked.T) > 0).astype(np.float64))
    moved = start
    for stiffness in STIFFNESS:
        _, _, places, cosine = surface.nearest(moved, _vertex_normals(moved, faces), parts)
        distance = np.linalg.norm(places - moved, axis=1)
        # Places that face elsewhere or lie far off pull little; the floor keeps loose pieces from drifting.
        pull = np.clip(cosine, 0, 1) ** 2 / (1 + (distance / surface.penalty) ** 2) + 1e-3
        system = csc_array(diags_array(pull) + stiffness * smooth)
        moved = start + splu(system).solve(pull[:, None] * (places - start))
    return moved


def _edges(faces: IntArray) -> IntArray:
    return np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])


def _vertex_normals(points: _Array, faces: IntArray) -> _Array:
    """(V, 3) unit normals, outwards, weighted by area; zero for a vertex without faces."""
    corners = points[faces]
    of_faces = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    total = np.stack(
        [np.bincount(faces.ravel(), np.repeat(of_faces[:, axis], 3), minlength=len(points)) for axis in range(3)], 1
    )
    return _unit(total)


def _unit(vectors: NDArray[Any]) -> _Array:
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    unit: _Array = vectors / np.maximum(length, 1e-12)
    return unit


def _height(points: _Array) -> float:
    return max(float(np.ptp(points, axis=0).max()), 1e-6)
