"""Ray trees and normals of one scene, built once and shared by contact and rendering.

Open3D crashes where a process holds more than about a thousand ray trees, and a motorcycle alone has 46 parts: trees
are built when they are asked something, and the oldest are given up beyond `MAX_TREES`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar
from weakref import ref

import numpy as np
from numpy.typing import NDArray

from ivlm_core.types import FloatArray, IntArray, Mesh

if TYPE_CHECKING:
    from ivlm_core.datasets.synthetic.scene import PlacedObject

# One thread per process: scenes are made in parallel, and results then do not depend on the machine.
THREADS = 1
# Rays that vote on whether a point is inside; one alone may slip through an edge.
INSIDE_RAYS = 3
MAX_TREES = 200


@dataclass(frozen=True, eq=False)
class Closest:
    """Where a surface is closest to each of P points.

    Attributes
    ----------
    distance : (P,) metres, negative inside; infinite where it was not asked for.
    normal : (P, 3) the surface's unit normal there. vertex : (P,) the surface's vertex nearest to that place.
    """

    distance: FloatArray
    normal: FloatArray
    vertex: IntArray


class Solid:
    """A closed triangle mesh that can be asked for distances and hit by rays.

    Parameters
    ----------
    vertices : (N, 3) metres. faces : (F, 3), counter-clockwise seen from outside.
    """

    # Those that hold a tree, the oldest first; some may be gone.
    _built: ClassVar[deque[ref[Solid]]] = deque()

    def __init__(self, vertices: NDArray[Any], faces: IntArray) -> None:
        self.vertices = np.ascontiguousarray(vertices, dtype=np.float32)
        self.faces = faces
        self.low, self.high = bounds(self.vertices)
        self._tree: Any = None

    @property
    def tree(self) -> Any:
        """Open3D's ray scene of the mesh, built when it is first asked for."""
        if self._tree is None:
            import open3d as o3d

            while len(self._built) >= MAX_TREES:
                oldest = self._built.popleft()()
                if oldest is not None:
                    oldest._tree = None
            self._tree = o3d.t.geometry.RaycastingScene(nthreads=THREADS)
            self._tree.add_triangles(self._tensor(self.vertices), self._tensor(self.faces.astype(np.uint32)))
            self._built.append(ref(self))
        return self._tree

    @staticmethod
    def _tensor(array: NDArray[Any]) -> Any:
        import open3d as o3d

        return o3d.core.Tensor.from_numpy(array)

    def near(self, points: FloatArray, margin: float) -> NDArray[np.bool_]:
        """(P,) which points (P, 3) are within `margin` metres of the bounding box."""
        return within(points, self.low - margin, self.high + margin)

    def closest(self, points: FloatArray) -> Closest:
        """Where the surface is closest to points (P, 3)."""
        asked = np.ascontiguousarray(points, dtype=np.float32)
        found = self.tree.compute_closest_points(self._tensor(asked), nthreads=THREADS)
        distance = lengths(asked - found["points"].numpy())
        signed: FloatArray = np.where(self.contains(asked), -distance, distance).astype(np.float32)
        uv = found["primitive_uvs"].numpy()
        corner = np.stack([1 - uv[:, 0] - uv[:, 1], uv[:, 0], uv[:, 1]], axis=1).argmax(axis=1)
        vertex = self.faces[found["primitive_ids"].numpy().astype(np.int64), corner]
        return Closest(signed, found["primitive_normals"].numpy(), vertex)

    def contains(self, points: FloatArray) -> NDArray[np.bool_]:
        """(P,) which points (P, 3) are inside."""
        asked = self._tensor(np.ascontiguousarray(points, dtype=np.float32))
        inside: NDArray[np.bool_] = (
            self.tree.compute_occupancy(asked, nthreads=THREADS, nsamples=INSIDE_RAYS).numpy() > 0.5
        )
        return inside

    def depth(self, points: FloatArray) -> float:
        """Metres that the deepest of the points (P, 3) is inside; 0 where none is. Cheaper than `closest`."""
        boxed = points[self.near(points, 0.0)]
        inside = boxed[self.contains(boxed)] if len(boxed) else boxed
        return -float(self.closest(inside).distance.min()) if len(inside) else 0.0

    def cast(self, rays: FloatArray) -> tuple[FloatArray, IntArray, FloatArray]:
        """First hits of rays (R, 6): ray parameter (R,), infinite without a hit; face (R,) or −1; (u, v) (R, 2)."""
        hits = self.tree.cast_rays(self._tensor(rays), nthreads=THREADS)
        distance = hits["t_hit"].numpy()
        face = np.where(np.isfinite(distance), hits["primitive_ids"].numpy().astype(np.int64), -1).astype(np.int32)
        return distance, face, hits["primitive_uvs"].numpy()

    def occludes(self, rays: FloatArray) -> NDArray[np.bool_]:
        """(R,) whether anything is in the way of rays (R, 6)."""
        hidden: NDArray[np.bool_] = self.tree.test_occlusions(self._tensor(rays), nthreads=THREADS).numpy()
        return hidden


@dataclass(frozen=True, eq=False)
class ObjectGeometry:
    """One placed object: its parts as solids in the object's own frame, and its vertices in the world.

    The distance to an object is the least over its parts, which overlap where they join.
    """

    placed: PlacedObject

    @cached_property
    def vertices(self) -> FloatArray:
        """(N, 3) float32, metres, in the world."""
        return self.placed.vertices.astype(np.float32)

    @cached_property
    def normals(self) -> FloatArray:
        """(N, 3) unit vertex normals in the world."""
        mesh = self.placed.mesh
        turned: FloatArray = vertex_normals(mesh.vertices, mesh.faces) @ self.placed.rotation.T.astype(np.float32)
        return turned

    @cached_property
    def parts(self) -> tuple[Solid, ...]:
        return tuple(Solid(part.vertices, part.faces) for part in self.placed.shape.parts.values())

    def to_object(self, points: NDArray[Any]) -> FloatArray:
        """World points (P, 3) in the object's own frame."""
        moved: FloatArray = ((points - self.placed.translation) @ self.placed.rotation).astype(np.float32)
        return moved

    def closest(self, points: FloatArray, margin: float) -> Closest:
        """Where the object is closest to world points (P, 3); normals in the world, vertices of the whole mesh.

        Points further than `margin` metres from the bounding box of every part are not asked for.
        """
        local = self.to_object(points)
        distance = np.full(len(points), np.inf, dtype=np.float32)
        normal = np.zeros((len(points), 3), dtype=np.float32)
        vertex = np.zeros(len(points), dtype=np.int32)
        mesh = self.placed.mesh.vertices
        low, high = bounds(mesh)
        candidates = np.flatnonzero(within(local, low - margin, high + margin))
        first = 0
        for part in self.parts if len(candidates) else ():
            asked = candidates[part.near(local[candidates], margin)]
            if len(asked):
                found = part.closest(local[asked])
                closer = found.distance < distance[asked]
                rows = asked[closer]
                distance[rows], normal[rows] = found.distance[closer], found.normal[closer]
                vertex[rows] = found.vertex[closer] + first
            first += len(part.vertices)
        return Closest(distance, normal @ self.placed.rotation.T.astype(np.float32), vertex)

    def depth(self, points: FloatArray) -> float:
        """Metres that the deepest of the world points (P, 3) is inside one of the parts; 0 where none is."""
        local = self.to_object(points)
        return max((part.depth(local) for part in self.parts), default=0.0)


class SceneGeometry:
    """Ray trees and normals of a body and the objects around it, each made when it is first needed.

    Parameters
    ----------
    body : the posed body in the world. objects : the placed objects.
    """

    def __init__(self, vertices: FloatArray, faces: IntArray, objects: Sequence[PlacedObject]) -> None:
        self._vertices, self._faces = vertices, faces
        self.objects = tuple(ObjectGeometry(placed) for placed in objects)

    @cached_property
    def body(self) -> Solid:
        return Solid(self._vertices, self._faces)

    @cached_property
    def body_normals(self) -> FloatArray:
        """(V, 3) unit vertex normals."""
        return vertex_normals(self._vertices, self._faces)

    @cached_property
    def things(self) -> Solid | None:
        """All objects as one mesh in the world, for rays only; None where there are none."""
        if not self.objects:
            return None
        starts = np.cumsum([0] + [len(item.vertices) for item in self.objects])
        faces = [
            item.placed.mesh.faces + np.int32(start) for item, start in zip(self.objects, starts[:-1], strict=True)
        ]
        return Solid(np.concatenate([item.vertices for item in self.objects]), np.concatenate(faces))


# Column by column, because numpy's reductions of arrays as narrow as points take ten times as long.


def bounds(points: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """(D,) the lowest and the highest coordinates of points (N, D)."""
    columns = np.ascontiguousarray(points.T)
    return columns.min(axis=1), columns.max(axis=1)


def within(points: NDArray[Any], low: NDArray[Any], high: NDArray[Any]) -> NDArray[np.bool_]:
    """(P,) which points (P, D) are between the corners (D,) of a box."""
    inside = np.ones(len(points), dtype=np.bool_)
    for column, first, last in zip(points.T, low, high, strict=True):
        inside &= (column > first) & (column < last)
    return inside


def lengths(vectors: NDArray[Any]) -> NDArray[Any]:
    """(P,) the lengths of vectors (P, 3)."""
    x, y, z = vectors.T
    length: NDArray[Any] = np.sqrt(x * x + y * y + z * z)
    return length


def vertex_normals(vertices: FloatArray, faces: IntArray) -> FloatArray:
    """(N, 3) float32 unit normals, the faces around a vertex weighted by their area; zero where there are none."""
    area = face_areas(vertices, faces)
    corners = faces.T.ravel()
    total = np.empty((len(vertices), 3))
    for axis in range(3):
        total[:, axis] = np.bincount(corners, weights=np.tile(area[:, axis], 3), minlength=len(vertices))
    length = np.sqrt(np.einsum("ni,ni->n", total, total))[:, None]
    return (total / np.maximum(length, 1e-15)).astype(np.float32)


def face_areas(vertices: NDArray[Any], faces: IntArray) -> NDArray[Any]:
    """(F, 3) along every face's normal, twice its area long."""
    first, second, third = (vertices[faces[:, corner]] for corner in range(3))
    (ax, ay, az), (bx, by, bz) = (second - first).T, (third - first).T
    return np.stack([ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx], axis=1)


def capped(mesh: Mesh, faces: IntArray) -> tuple[IntArray, list[IntArray]]:
    """Close the holes that are left where `faces` (F, 3) were cut out of a closed mesh.

    Returns
    -------
    Faces (F', 3), the extra ones fans around new vertices `len(mesh.vertices) + h`, and for every hole h the ids of
    the vertices around it, whose mean is where the new vertex goes.
    """
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    count = len(mesh.vertices)
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]).astype(np.int64)
    known = set((edges[:, 0] * count + edges[:, 1]).tolist())
    open_edges = np.array([edge for edge in edges.tolist() if edge[1] * count + edge[0] not in known], dtype=np.int64)
    if len(open_edges) == 0:
        return faces, []
    links = coo_matrix((np.ones(len(open_edges)), open_edges.T), shape=(count, count))
    _, component = connected_components(links, directed=False)
    holes, hole_of_edge = np.unique(component[open_edges[:, 0]], return_inverse=True)
    fans = np.column_stack([open_edges[:, 1], open_edges[:, 0], count + hole_of_edge]).astype(np.int32)
    rims = [np.unique(open_edges[hole_of_edge == hole]).astype(np.int32) for hole in range(len(holes))]
    return np.concatenate([faces, fans]), rims
