"""Distances along the surface of a body: from everywhere to a set of vertices, or between all pairs.

Paths run along the edges of the mesh and straight across pairs of neighbouring triangles, so a distance is at most a
few per cent too long (2 % on average on a sphere). Separate pieces of a mesh (eyes, tongue) are tied to the largest one
where they come closest.
"""

from __future__ import annotations

from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse
from scipy.sparse.csgraph import connected_components, dijkstra
from scipy.spatial import cKDTree

from ivlm_core.bodies import BodyModel, load_body
from ivlm_core.errors import InputError
from ivlm_core.storage import ArrayCache
from ivlm_core.types import Mesh

# Part of the cache key: raise it whenever the same mesh would give other distances.
GEODESIC_VERSION = 1
ROWS_AT_ONCE = 512


class Surface:
    """The surface of one mesh as a graph.

    Parameters
    ----------
    mesh : V vertices, metres.
    """

    def __init__(self, mesh: Mesh) -> None:
        self.mesh = mesh

    @property
    def vertex_count(self) -> int:
        return len(self.mesh.vertices)

    @cached_property
    def graph(self) -> sparse.csr_matrix:
        """(V, V) symmetric: the length in metres of each step that a path may take; connected."""
        points, faces = self.mesh.vertices.astype(np.float64), self.mesh.faces.astype(np.int64)
        edges, (across, straight) = _edges(faces), _diagonals(points, faces)
        pairs, lengths = np.concatenate([edges, across]), np.concatenate([_spans(points, edges), straight])
        graph = _symmetric(pairs, lengths, len(points))
        ties = _ties(points, graph)
        if len(ties):
            graph = graph.maximum(_symmetric(ties, _spans(points, ties), len(points))).tocsr()
        return graph

    def distance_to(self, vertices: ArrayLike) -> NDArray[np.float64]:
        """How far every vertex is from the nearest one of a set.

        Parameters
        ----------
        vertices : (V,) bool; none of them stands for all.

        Returns
        -------
        (V,) float64, metres.

        Raises
        ------
        InputError : not one boolean per vertex.
        """
        chosen = np.asarray(vertices)
        if chosen.shape != (self.vertex_count,) or chosen.dtype != np.bool_:
            raise InputError(
                "vertices", f"have shape {chosen.shape}, type {chosen.dtype}", f"give ({self.vertex_count},) booleans"
            )
        if not chosen.any() or chosen.all():
            return np.zeros(self.vertex_count)
        nearest: NDArray[np.float64] = dijkstra(self.graph, indices=np.flatnonzero(chosen), min_only=True)
        return nearest

    def matrix(self, cache: ArrayCache | None = None) -> NDArray[np.float16]:
        """(V, V) float16, metres: the distance between every two vertices; half a minute and 0.4 GB for Anny's body.

        Parameters
        ----------
        cache : where it is kept between programs; None for the user's cache directory.
        """
        store = cache if cache is not None else ArrayCache()
        key = f"{self.mesh.content_hash}-{GEODESIC_VERSION}"
        kept = store.load("geodesics", key)
        shape = (self.vertex_count, self.vertex_count)
        if kept is not None and "metres" in kept and kept["metres"].shape == shape:
            return kept["metres"].astype(np.float16, copy=False)
        distances = np.empty(shape, dtype=np.float16)
        for first in range(0, self.vertex_count, ROWS_AT_ONCE):
            rows = np.arange(first, min(first + ROWS_AT_ONCE, self.vertex_count))
            distances[rows] = dijkstra(self.graph, indices=rows)
        # Rounding the two directions of a path on their own could make them differ.
        distances = np.minimum(distances, distances.T)
        store.store("geodesics", key, {"metres": distances})
        return distances


@lru_cache(maxsize=4)
def body_surface(name: str = "anny") -> Surface:
    """The surface of a shipped body model in its canonical pose."""
    return Surface(load_body(name).mesh)


def geodesic_matrix(body: BodyModel, cache: ArrayCache | None = None) -> NDArray[np.float16]:
    """(V, V) float16, metres: distances along a body's surface, computed once per body model and kept on disk."""
    return Surface(body.mesh).matrix(cache)


def _edges(faces: NDArray[np.int64]) -> NDArray[np.int64]:
    """(3F, 2) the edges of the triangles, those that two share twice."""
    return np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])


def _spans(points: NDArray[np.float64], pairs: NDArray[np.int64]) -> NDArray[np.float64]:
    """(P,) straight distance between the vertices of each pair."""
    spans: NDArray[np.float64] = np.linalg.norm(points[pairs[:, 1]] - points[pairs[:, 0]], axis=1)
    return spans


def _diagonals(points: NDArray[np.float64], faces: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Pairs of vertices that face each other across an edge, and how far apart they are once unfolded into a plane."""
    edges = np.sort(_edges(faces), axis=1)
    opposite = np.concatenate([faces[:, 2], faces[:, 0], faces[:, 1]])
    order = np.lexsort((edges[:, 1], edges[:, 0]))
    edges, opposite = edges[order], opposite[order]
    same = (edges[1:] == edges[:-1]).all(axis=1)
    # An edge of three triangles or more has no plane to unfold into.
    alone = ~np.concatenate([[False], same[:-1]]) & ~np.concatenate([same[1:], [False]])
    first = np.flatnonzero(same & alone)
    ends, one, two = edges[first], opposite[first], opposite[first + 1]
    start, along = points[ends[:, 0]], points[ends[:, 1]] - points[ends[:, 0]]
    length = np.linalg.norm(along, axis=1)
    usable = length > 0
    ends, one, two, start, length = ends[usable], one[usable], two[usable], start[usable], length[usable]
    along = along[usable] / length[:, None]
    at, away = zip(*(_in_plane(points[side] - start, along) for side in (one, two)), strict=True)
    height = away[0] + away[1]
    crossing = at[0] + (at[1] - at[0]) * np.divide(away[0], height, out=np.zeros_like(height), where=height > 0)
    straight = (crossing >= 0) & (crossing <= length) & (height > 0)
    apart = np.hypot(at[1] - at[0], height)
    return np.stack([one, two], axis=1)[straight], apart[straight]


def _in_plane(offsets: NDArray[np.float64], along: NDArray[np.float64]) -> tuple[NDArray, NDArray]:
    """Coordinates along a line and away from it."""
    at = np.einsum("ij,ij->i", offsets, along)
    return at, np.linalg.norm(offsets - at[:, None] * along, axis=1)


def _symmetric(pairs: NDArray[np.int64], lengths: NDArray[np.float64], count: int) -> sparse.csr_matrix:
    """(V, V) with each pair's shortest length in both directions."""
    both = np.concatenate([pairs, pairs[:, ::-1]])
    twice = np.concatenate([lengths, lengths])
    order = np.lexsort((twice, both[:, 1], both[:, 0]))
    both, twice = both[order], twice[order]
    new = np.concatenate([[True], (both[1:] != both[:-1]).any(axis=1)]) if len(both) else np.zeros(0, bool)
    # A length of 0 would be no step at all in a sparse matrix.
    return sparse.csr_matrix((np.maximum(twice[new], 1e-9), tuple(both[new].T)), shape=(count, count))


def _ties(points: NDArray[np.float64], graph: sparse.csr_matrix) -> NDArray[np.int64]:
    """(T, 2) pairs that join every smaller piece to the largest, from each of its vertices to the nearest there."""
    pieces, piece_of = connected_components(graph, directed=False)
    if pieces == 1:
        return np.zeros((0, 2), dtype=np.int64)
    largest = int(np.bincount(piece_of).argmax())
    main, others = np.flatnonzero(piece_of == largest), np.flatnonzero(piece_of != largest)
    _, nearest = cKDTree(points[main]).query(points[others])
    return np.stack([others, main[nearest]], axis=1)
