"""From the vertices of one instance to those of another of the same kind."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ivlm_core.objects.shapes import Shape


def corresponding_vertices(source: Shape, target: Shape) -> NDArray[np.int64]:
    """For every vertex of `target.mesh` the vertex of `source.mesh` at the same place of the same part.

    Parts built alike are matched vertex by vertex; others by the nearest place in the part's own frame, both parts
    filling the unit cube. A part that `source` lacks takes the nearest vertex of the whole object, both objects
    filling the unit cube.

    Returns
    -------
    (N,) int64 indices into `source.mesh.vertices`; N vertices of `target.mesh`.
    """
    counts = [len(part.vertices) for part in source.parts.values()]
    starts = dict(zip(source.parts, np.cumsum([0, *counts[:-1]]), strict=True))
    found = {}
    for name, part in target.parts.items():
        mine = source.parts.get(name)
        if mine is None:
            continue
        if mine.faces.shape == part.faces.shape and np.array_equal(mine.faces, part.faces):
            nearest = np.arange(len(part.vertices))
        else:
            nearest = _nearest(_filling(source.places[name]), _filling(target.places[name]))
        found[name] = starts[name] + nearest
    if len(found) < len(target.parts):
        others = np.concatenate([np.full(len(part.vertices), name not in found) for name, part in target.parts.items()])
        anywhere = np.zeros(len(others), dtype=np.int64)
        anywhere[others] = _nearest(_filling(source.mesh.vertices), _filling(target.mesh.vertices)[others])
        ends = np.cumsum([len(part.vertices) for part in target.parts.values()])
        pieces = np.split(anywhere, ends[:-1])
        found = {name: found.get(name, piece) for name, piece in zip(target.parts, pieces, strict=True)}
    return np.concatenate([found[name] for name in target.parts])


def _nearest(points: NDArray[Any], queries: NDArray[Any]) -> NDArray[np.int64]:
    from scipy.spatial import cKDTree

    nearest: NDArray[np.int64] = cKDTree(points, balanced_tree=False, compact_nodes=False).query(queries)[1]
    return nearest


def _filling(points: NDArray[Any]) -> NDArray[Any]:
    """The points stretched to fill the cube 0…1."""
    low = points.min(axis=0)
    filling: NDArray[Any] = (points - low) / np.maximum(points.max(axis=0) - low, 1e-9)
    return filling
