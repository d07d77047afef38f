"""Evenly tessellated, watertight building blocks, and the shape that is put together from them (metres, y up)."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ivlm_core.types import Mesh

if TYPE_CHECKING:
    import trimesh

# Longest edge along a grid, as a share of the object's longest side; a quad's diagonal is √2 longer, so below 5 %.
GRID_SHARE = 0.035

Points = NDArray[np.float64]


@dataclass(frozen=True)
class Shape:
    """An object made of parts.

    Attributes
    ----------
    label : the library's name of the object.
    parts : part name → watertight mesh, all in the object's frame: metres, y up, front facing +z, origin at the centre
        of the bounding box. Parts overlap where they join, so distances to the object are the minimum over the parts.
    """

    label: str
    parts: dict[str, Mesh]

    @cached_property
    def mesh(self) -> Mesh:
        """All parts in one mesh, in the order of `parts`."""
        meshes = list(self.parts.values())
        starts = np.cumsum([0] + [len(mesh.vertices) for mesh in meshes[:-1]])
        return Mesh(
            np.concatenate([mesh.vertices for mesh in meshes]),
            np.concatenate([mesh.faces + start for mesh, start in zip(meshes, starts, strict=True)]),
            name=self.label,
        )

    @cached_property
    def part_of_vertex(self) -> NDArray[np.int32]:
        """(N,) for each vertex of `mesh`, the index of its part."""
        counts = [len(mesh.vertices) for mesh in self.parts.values()]
        return np.repeat(np.arange(len(counts), dtype=np.int32), counts)


@dataclass(frozen=True)
class Solid:
    """One watertight block while a shape is being built; every method returns a new one."""

    vertices: Points
    faces: NDArray[np.int64]

    def moved(self, offset: ArrayLike) -> Solid:
        return Solid(self.vertices + np.asarray(offset, dtype=np.float64), self.faces)

    def turned(self, axis: str, degrees: float) -> Solid:
        """Rotated about the origin, counter-clockwise seen against `axis` (`x`, `y` or `z`)."""
        from scipy.spatial.transform import Rotation

        return Solid(Rotation.from_euler(axis, degrees, degrees=True).apply(self.vertices), self.faces)

    def bent(self, function: Callable[[Points], Points]) -> Solid:
        """With every vertex moved by a continuous, orientation-preserving map of (N, 3) points."""
        return Solid(function(self.vertices), self.faces)


def assemble(label: str, parts: dict[str, Solid]) -> Shape:
    """The shape of these parts, moved as one so that its bounding box is centred at the origin."""
    vertices = np.concatenate([part.vertices for part in parts.values()])
    centre = (vertices.min(axis=0) + vertices.max(axis=0)) / 2
    meshes = {
        name: Mesh((part.vertices - centre).astype(np.float32), part.faces.astype(np.int32), name)
        for name, part in parts.items()
    }
    return Shape(label, meshes)


def grid_step(*sizes: float) -> float:
    """The grid spacing for an object with these sizes, metres."""
    return GRID_SHARE * max(sizes)


def box(size: tuple[float, float, float], step: float, rounding: float = 0.0) -> Solid:
    """A box centred at the origin, its faces grids no wider than `step`, its edges rounded with radius `rounding`."""
    half = np.asarray(size, dtype=np.float64) / 2
    # A rounded edge is a quarter circle that needs a few segments, however thin the box is.
    finest = min(step, rounding * 0.8) if rounding else step
    counts = np.maximum(1, np.ceil(2 * half / step - 1e-9)).astype(int)
    if rounding:
        counts = np.maximum(counts, np.minimum(6, np.ceil(2 * half / finest)).astype(int))
    points, faces, start = [], [], 0
    for axis in range(3):
        u, v = (axis + 1) % 3, (axis + 2) % 3
        across, up = np.linspace(-1, 1, counts[u] + 1), np.linspace(-1, 1, counts[v] + 1)
        grid = np.stack(np.meshgrid(across, up, indexing="ij"), axis=-1).reshape(-1, 2)
        index = np.arange(len(grid)).reshape(counts[u] + 1, counts[v] + 1)
        quads = np.stack([index[:-1, :-1], index[1:, :-1], index[1:, 1:], index[:-1, 1:]], axis=-1).reshape(-1, 4)
        triangles = np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])
        for side in (1.0, -1.0):
            face = np.empty((len(grid), 3))
            face[:, axis], face[:, u], face[:, v] = side, grid[:, 0], grid[:, 1]
            points.append(face)
            faces.append((triangles if side > 0 else triangles[:, ::-1]) + start)
            start += len(grid)
    unit, inverse = np.unique(np.round(np.concatenate(points), 9), axis=0, return_inverse=True)
    vertices: Points = np.asarray(unit, dtype=np.float64) * half
    if rounding:
        inner = np.clip(vertices, -(half - rounding), half - rounding)
        outward = vertices - inner
        vertices = inner + rounding * outward / np.linalg.norm(outward, axis=1, keepdims=True)
    return Solid(vertices, inverse.reshape(-1)[np.concatenate(faces)])


def revolve(profile: Sequence[tuple[float, float]], step: float, sections: int = 12) -> Solid:
    """A solid of revolution about the y axis.

    Parameters
    ----------
    profile : (radius, height) corners in metres, from the axis at the bottom, outwards and up, back to the axis.
    step : the longest edge along the profile and around it.
    sections : the least number of segments around.
    """
    import trimesh

    corners = np.asarray(profile, dtype=np.float64)
    around = max(sections, int(np.ceil(2 * np.pi * corners[:, 0].max() / step)))
    turned = trimesh.creation.revolve(_resampled(corners, step), sections=around)
    return _solid(turned).turned("x", -90)


def cylinder(radius: float, height: float, step: float, sections: int = 12) -> Solid:
    """A cylinder about the y axis, centred at the origin."""
    return revolve([(0, -height / 2), (radius, -height / 2), (radius, height / 2), (0, height / 2)], step, sections)


def ellipsoid(radii: tuple[float, float, float], subdivisions: int = 3) -> Solid:
    """An ellipsoid centred at the origin; 3 subdivisions give 642 vertices, 4 give 2562."""
    import trimesh

    return _solid(trimesh.creation.icosphere(subdivisions=subdivisions)).bent(lambda points: points * radii)


def tube(
    path: ArrayLike,
    normal: tuple[float, float, float],
    width: float,
    thickness: float,
    step: float,
    closed: bool = False,
    sections: int = 10,
) -> Solid:
    """A tube of elliptic section along a planar path.

    Parameters
    ----------
    path : (P, 3) metres, in a plane; first and last point differ also when `closed`.
    normal : the plane's unit normal.
    width, thickness : the section's full size along `normal` and across it, metres.
    closed : join the last point to the first; otherwise both ends are capped.
    """
    points = np.asarray(path, dtype=np.float64)
    points = _resampled(np.concatenate([points, points[:1]]), step)[:-1] if closed else _resampled(points, step)
    forward = np.roll(points, -1, axis=0) - np.roll(points, 1, axis=0) if closed else np.gradient(points, axis=0)
    forward /= np.linalg.norm(forward, axis=1, keepdims=True)
    side = np.cross(forward, normal)
    angle = np.linspace(0, 2 * np.pi, sections, endpoint=False)
    rings = (
        points[:, None]
        + np.cos(angle)[:, None] * (thickness / 2) * side[:, None]
        + np.sin(angle)[:, None] * (width / 2) * np.asarray(normal, dtype=np.float64)
    )
    count = len(points)
    index = np.arange(count * sections).reshape(count, sections)
    here, there = (index, np.roll(index, -1, axis=0)) if closed else (index[:-1], index[1:])
    quads = np.stack([here, there, np.roll(there, -1, axis=1), np.roll(here, -1, axis=1)], axis=-1).reshape(-1, 4)
    faces = np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])
    vertices = rings.reshape(-1, 3)
    if not closed:
        vertices = np.concatenate([vertices, points[[0, -1]]])
        first, last = index[0], index[-1]
        start_cap = np.stack([np.full(sections, len(vertices) - 2), first, np.roll(first, -1)], axis=1)
        end_cap = np.stack([np.full(sections, len(vertices) - 1), np.roll(last, -1), last], axis=1)
        faces = np.concatenate([faces, start_cap, end_cap])
    return _outward(Solid(vertices, faces))


def arc(centre: tuple[float, float], radii: tuple[float, float], start: float, end: float, count: int = 25) -> Points:
    """(count, 2) points on an ellipse's arc, angles in degrees from the first axis to the second."""
    angle = np.deg2rad(np.linspace(start, end, count))
    return np.stack([centre[0] + radii[0] * np.cos(angle), centre[1] + radii[1] * np.sin(angle)], axis=1)


def in_plane(points: ArrayLike, axes: str, offset: float = 0.0) -> Points:
    """(P, 2) points laid into the plane of two axes (`xy`, `zy`, …), at `offset` along the third."""
    flat = np.asarray(points, dtype=np.float64)
    placed = np.full((len(flat), 3), offset)
    for column, axis in enumerate(axes):
        placed[:, "xyz".index(axis)] = flat[:, column]
    return placed


def _resampled(corners: Points, step: float) -> Points:
    """A polyline with its corners kept and every segment cut into pieces of at most `step`."""
    pieces = [corners[:1]]
    for start, end in itertools.pairwise(corners):
        count = max(1, int(np.ceil(np.linalg.norm(end - start) / step - 1e-9)))
        pieces.append(start + (end - start) * np.linspace(0, 1, count + 1)[1:, None])
    return np.concatenate(pieces)


def _solid(mesh: trimesh.Trimesh) -> Solid:
    return _outward(Solid(np.asarray(mesh.vertices, dtype=np.float64), np.asarray(mesh.faces, dtype=np.int64)))


def _outward(solid: Solid) -> Solid:
    """The solid with its faces counter-clockwise seen from outside."""
    a, b, c = (solid.vertices[solid.faces[:, corner]] for corner in range(3))
    volume = np.einsum("fi,fi->", a, np.cross(b, c))
    return solid if volume > 0 else Solid(solid.vertices, solid.faces[:, ::-1])
