"""Meshes in heat colours as the bytes that the browser draws."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ivlm_core.draw import heat_colors
from ivlm_core.objects import glb_bytes
from ivlm_core.types import ByteArray, FloatArray, IntArray, Mesh

Color = tuple[int, int, int]

# Edges between faces that meet at a larger angle are drawn sharp.
SHARP_DEGREES = 35.0
FREE: Color = (72, 170, 92)


def heat_surface(
    mesh: Mesh,
    values: FloatArray,
    threshold: float,
    base: Color,
    free: NDArray[np.bool_] | None = None,
    smooth: bool = False,
) -> bytes:
    """A mesh with its values as binary glTF.

    Parameters
    ----------
    values : (V,) float32 in [0, 1]; those below `threshold` count as nothing.
    base : RGB where nothing is. free : (V,) bool, the vertices of free regions, drawn in `FREE`.
    smooth : a body; otherwise sharp edges stay sharp.
    """
    colors = heat_colors(np.where(values >= np.float32(threshold), values, 0.0), np.array(base, dtype=np.uint8))
    if free is not None:
        colors[free] = FREE
    return painted_surface(mesh, colors, smooth)


def painted_surface(mesh: Mesh, colors: ByteArray, smooth: bool = False) -> bytes:
    """A mesh in (V, 3) uint8 sRGB colours as binary glTF."""
    if smooth:
        return glb_bytes(mesh, _linear(colors))
    split, origin = _crisp(_Keyed(mesh))
    return glb_bytes(split, _linear(colors)[origin])


def _linear(colors: ByteArray) -> ByteArray:
    """sRGB → the linear light that glTF wants vertex colours in."""
    table = np.arange(256) / 255.0
    linear = np.where(table <= 0.04045, table / 12.92, ((table + 0.055) / 1.055) ** 2.4)
    converted: ByteArray = (linear * 255 + 0.5).astype(np.uint8)[colors]
    return converted


class _Keyed:
    """A mesh that is looked up by its content."""

    def __init__(self, mesh: Mesh) -> None:
        self.mesh = mesh

    def __hash__(self) -> int:
        return hash(self.mesh.content_hash)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Keyed) and other.mesh.content_hash == self.mesh.content_hash


@lru_cache(maxsize=64)
def _crisp(key: _Keyed) -> tuple[Mesh, IntArray]:
    """The mesh with vertices doubled along sharp edges, and (V',) which vertex each came from.

    Browsers average the normals of all faces around a vertex, which makes a box look like a balloon.
    """
    import trimesh
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    mesh = key.mesh
    surface = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)
    smooth = surface.face_adjacency[surface.face_adjacency_angles < np.radians(SHARP_DEGREES)]
    count = len(mesh.faces)
    graph = coo_array((np.ones(len(smooth)), (smooth[:, 0], smooth[:, 1])), shape=(count, count))
    patch = connected_components(graph, directed=False)[1]
    corners = np.stack([mesh.faces.ravel(), np.repeat(patch, 3)], axis=1)
    kept, faces = np.unique(corners, axis=0, return_inverse=True)
    origin = kept[:, 0].astype(np.int32)
    return Mesh(mesh.vertices[origin], faces.reshape(-1, 3).astype(np.int32), mesh.name), origin
