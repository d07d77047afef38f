"""Which points are inside a mesh, and how deep, for meshes made of parts, turned any way, closed or not."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ivlm_core.errors import ConfigError
from ivlm_core.reconstruct.surface import surface_samples
from ivlm_core.types import PosedBody

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

# Directions that no mesh's own axes share; rays along edges count wrongly.
_DIRECTIONS = np.array([[0.3015, 0.5117, 0.8045], [-0.7427, 0.6019, -0.2937], [0.5953, 0.2713, -0.7563]])
# For what is not closed also nearly along its axes, where cups and trays are open.
_STRAIGHT = np.array([[1.0, 0.0067, 0.0043], [-0.0043, 1.0, 0.0067], [0.0067, -0.0043, 1.0]])
_ALL_WAYS = np.concatenate([_STRAIGHT, -_STRAIGHT, _DIRECTIONS, -_DIRECTIONS])
# Corners of a face are tested this far from its middle to its corner: what touches another part is not buried in it.
_SHRUNK = 0.9
# Parts of a body with a smaller share of its faces are inside of it.
SMALL_PART = 0.05


@dataclass(frozen=True, eq=False)
class SurfacePoints:
    """Points that stand for a surface: (n, 3) float64 metres, and the area in m² that each stands for, (n,)."""

    points: Floats
    areas: Floats

    def within(self, middle: Floats, radius: float) -> SurfacePoints:
        """Those nearer than `radius` to a place."""
        near = ((self.points - middle) ** 2).sum(axis=1) < radius**2
        return SurfacePoints(self.points[near], self.areas[near])


@dataclass(frozen=True, eq=False)
class Parts:
    """The connected parts of a mesh; all that is not closed is one of them, the first.

    Attributes
    ----------
    of_face : (F,) int64. closed : (parts,) bool. turned_alike : (parts,) bool: closed, with faces turned consistently.
    """

    of_face: NDArray[np.int64]
    closed: Bools
    turned_alike: Bools


class Volume:
    """The inside of a mesh.

    Each connected part counts by itself, by how often its surface winds around the point, so that parts may overlap and
    fold into themselves; where a part's faces are not turned alike, by whether a ray crosses it an odd number of times.
    What is not closed has no sure inside: there a point counts as inside only if twelve rays, pairwise opposite, all
    cross it an odd number of times, which small holes survive and plates never reach; in deep cups it is true of a hair
    along the wall.

    Parameters
    ----------
    vertices : (N, 3) metres. faces : (F, 3). Vertices at the same place count as one.

    Raises
    ------
    ConfigError : Open3D is not installed.

    Attributes
    ----------
    closed : whether every part is closed.
    """

    def __init__(self, vertices: NDArray, faces: NDArray) -> None:
        if importlib.util.find_spec("open3d") is None:
            raise ConfigError("renderer", "open3d is not installed", "pip install open3d; penetration needs its rays")
        places, inverse = np.unique(np.asarray(vertices, dtype=np.float32), axis=0, return_inverse=True)
        faces = inverse.reshape(-1)[faces]
        # Faces without an area neither enclose nor are hit; their edges would make closed parts look open.
        faces = faces[(_across(places[faces].astype(np.float64)) ** 2).sum(axis=1) > 0]
        self._set(places, faces, _parts(faces, len(places)))
        if len(self._parts.closed) > 1:
            buried = self._buried()
            if buried.any() and not buried.all():
                self._outer = _scene(self._corners[~buried])

    @classmethod
    def of_body(cls, body: PosedBody) -> Volume:
        """A person's, without the small parts inside of it (eyes, tongue); quick for other poses of the same body."""
        faces, parts = _main_parts(body.faces)
        volume = cls.__new__(cls)
        volume._set(body.vertices, faces, parts)
        return volume

    def _set(self, vertices: NDArray, faces: NDArray, parts: Parts) -> None:
        self._corners = vertices[faces].astype(np.float64)
        self._across = _across(self._corners)
        self._parts = parts
        self.closed = bool(parts.closed.all())
        self.low, self.high = (pick(self._corners, axis=(0, 1)) for pick in (np.min, np.max))
        self._scene = _scene(self._corners)
        self._outer = self._scene
        self._surfaces: dict[float, SurfacePoints] = {}

    def inside(self, points: NDArray, sure: bool = False) -> Bools:
        """(P,) bool.

        Parameters
        ----------
        points : (P, 3) metres.
        sure : vote with three rays, because one may slip through between two faces.
        """
        points = np.asarray(points, dtype=np.float64)
        result = np.zeros(len(points), dtype=bool)
        near = np.flatnonzero(((points > self.low) & (points < self.high)).all(axis=1))
        if not len(near):
            return result
        voted = self._vote(points[near], 3 if sure else 1)
        result[near] = (voted & self._parts.closed).any(axis=1)
        if not self.closed:
            left = near[~result[near] & voted[:, 0]]
            for way in _ALL_WAYS:
                left = left[self._in_parts(points[left], way)[:, 0]] if len(left) else left
            result[left] = True
        return result

    def closest(self, points: NDArray) -> Floats:
        """(P, 3) metres: the nearest places of the surface to points (P, 3); of its outside, where parts overlap."""
        asked = _tensor(np.ascontiguousarray(points, dtype=np.float32))
        found: Floats = self._outer.compute_closest_points(asked, nthreads=1)["points"].numpy().astype(np.float64)
        return found

    def depths(self, points: NDArray, sure: bool = True) -> Floats:
        """(P,) metres that points (P, 3) are inside; 0 for those that are not."""
        result = np.zeros(len(points))
        which = np.flatnonzero(self.inside(points, sure))
        if len(which):
            inner = np.asarray(points, dtype=np.float64)[which]
            result[which] = np.linalg.norm(self.closest(inner) - inner, axis=1)
        return result

    def surface(self, spacing: float) -> SurfacePoints:
        """Points about `spacing` metres apart, each with the area it stands for; found once."""
        if spacing not in self._surfaces:
            corners = self._corners.reshape(-1, 3)
            faces = np.arange(len(corners)).reshape(-1, 3)
            samples = surface_samples(corners, faces, np.ones(len(corners)), 0.0, spacing)
            self._surfaces[spacing] = thinned(SurfacePoints(samples.points, samples.areas), spacing)
        return self._surfaces[spacing]

    def _vote(self, points: Floats, rays: int) -> Bools:
        """(P, parts) bool by the majority of one or three rays from each point."""
        voted: Bools = 2 * np.sum([self._in_parts(points, way) for way in _DIRECTIONS[:rays]], axis=0) > rays
        return voted

    def _in_parts(self, points: Floats, direction: Floats) -> Bools:
        """(P, parts) bool by one ray from each point."""
        rays = np.concatenate([points, np.broadcast_to(direction, points.shape)], axis=1).astype(np.float32)
        hits = self._scene.list_intersections(_tensor(rays), nthreads=1)
        face = hits["primitive_ids"].numpy().astype(np.int64)
        parts = len(self._parts.closed)
        cell = hits["ray_ids"].numpy().astype(np.int64) * parts + self._parts.of_face[face]
        shape = (len(points), parts)
        turns = np.bincount(cell, np.sign(self._across[face] @ direction), minlength=len(points) * parts)
        crossed = np.bincount(cell, minlength=len(points) * parts)
        winding = np.abs(turns).reshape(shape) > 0.5
        inside: Bools = np.where(self._parts.turned_alike, winding, crossed.reshape(shape) % 2 == 1)
        return inside

    def _buried(self) -> Bools:
        """(F,) bool: faces wholly inside another closed part."""
        middle = self._corners.mean(axis=1, keepdims=True)
        tested = np.concatenate([middle + _SHRUNK * (self._corners - middle), middle], axis=1)  # (F, 4, 3)
        voted = self._vote(tested.reshape(-1, 3), 3).reshape(len(tested), 4, len(self._parts.closed))
        inside: Bools = np.logical_and.reduce(voted, axis=1)
        inside[np.arange(len(tested)), self._parts.of_face] = False
        buried: Bools = np.logical_or.reduce(inside & self._parts.closed, axis=1)
        return buried


def vertex_areas(vertices: NDArray, faces: NDArray) -> Floats:
    """(N,) m²: a third of the area of each vertex's faces."""
    area = 0.5 * np.linalg.norm(_across(np.asarray(vertices, dtype=np.float64)[faces]), axis=1)
    third = np.repeat(area / 3.0, 3)
    return np.bincount(np.asarray(faces).reshape(-1), third, minlength=len(vertices)).astype(np.float64)


def thinned(surface: SurfacePoints, spacing: float) -> SurfacePoints:
    """One point per cubic cell of `spacing` metres, with the area of all that were in it."""
    cells = np.floor(surface.points / spacing).astype(np.int64)
    _, first, inverse = np.unique(cells, axis=0, return_index=True, return_inverse=True)
    return SurfacePoints(surface.points[first], np.bincount(inverse.reshape(-1), surface.areas).astype(np.float64))


def _scene(corners: Floats) -> Any:
    """A ray scene of loose triangles (F, 3, 3)."""
    from open3d.t.geometry import RaycastingScene

    scene = RaycastingScene()
    vertices = np.ascontiguousarray(corners.reshape(-1, 3), dtype=np.float32)
    scene.add_triangles(_tensor(vertices), _tensor(np.arange(len(vertices), dtype=np.uint32).reshape(-1, 3)))
    return scene


def _tensor(array: NDArray) -> Any:
    """An Open3D tensor; Open3D's stubs do not know that one is made from an array alone."""
    o3c: Any = importlib.import_module("open3d.core")
    return o3c.Tensor(array)


def _across(corners: Floats) -> Floats:
    """(F, 3) normals of triangles (F, 3, 3), twice as long as their areas."""
    result: Floats = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    return result


def _parts(faces: NDArray, count: int) -> Parts:
    """The parts of faces (F, 3) over `count` vertices."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    ends = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]).astype(np.int64)
    joined = coo_matrix((np.ones(len(ends)), (ends[:, 0], ends[:, 1])), shape=(count, count))
    _, label = connected_components(joined, directed=False)
    _, part = np.unique(label[faces[:, 0]], return_inverse=True)
    part = part.reshape(-1)
    number = int(part.max(initial=-1)) + 1
    key = ends.min(axis=1) * count + ends.max(axis=1)
    _, edge, shared = np.unique(key, return_inverse=True, return_counts=True)
    edge = edge.reshape(-1)
    balance = np.bincount(edge, np.where(ends[:, 0] < ends[:, 1], 1, -1))
    of_end = np.tile(part, 3)
    closed = np.bincount(of_end, shared[edge] % 2, minlength=number) == 0
    alike = np.bincount(of_end, np.abs(balance[edge]), minlength=number) == 0
    if closed.all():
        return Parts(part.astype(np.int64), closed, alike)
    renumbered = np.where(closed, np.cumsum(closed), 0)
    whole = int(closed.sum())
    return Parts(
        renumbered[part].astype(np.int64),
        np.arange(whole + 1) > 0,
        np.concatenate([[False], alike[closed]]),
    )


_bodies: dict[str, tuple[NDArray, Parts]] = {}


def _main_parts(faces: NDArray) -> tuple[NDArray, Parts]:
    """Faces of a body without its small parts, and their parts; kept, because bodies share few topologies."""
    key = hashlib.sha256(np.ascontiguousarray(faces).tobytes()).hexdigest()
    if key not in _bodies:
        parts = _parts(faces, int(faces.max()) + 1)
        large = np.bincount(parts.of_face) >= SMALL_PART * len(faces)
        kept = faces[large[parts.of_face]]
        if len(_bodies) >= 8:
            _bodies.clear()
        _bodies[key] = kept, _parts(kept, int(faces.max()) + 1)
    return _bodies[key]
