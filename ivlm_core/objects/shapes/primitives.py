"""Evenly tessellated, watertight building blocks, and the shape that is put together from them (metres, y up)."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache, wraps
from types import MappingProxyType
from typing import ParamSpec

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ivlm_core.types import Mesh

# Longest edge along a grid, as a share of the object's longest side; a quad's diagonal is √2 longer, so below 5 %.
GRID_SHARE = 0.035

Points = NDArray[np.float64]
Sizes = ParamSpec("Sizes")


@dataclass(frozen=True, eq=False)
class Anchor:
    """A place on an object where people use it.

    Attributes
    ----------
    point : (3,) metres, in the object's frame.
    direction : (3,) unit vector: out of a surface (seat, deck, keys, screen), or along what a hand closes around
        (handle, rail, grip: towards the head of a racket, forwards on an arm rest).
    radius : metres, of what a hand closes around, or of a ball; 0 for surfaces.
    """

    point: Points
    direction: Points
    radius: float = 0.0

    def moved(self, offset: ArrayLike) -> Anchor:
        return Anchor(self.point + np.asarray(offset, dtype=np.float64), self.direction, self.radius)

    def turned(self, axis: str, degrees: float) -> Anchor:
        """Rotated about the origin, counter-clockwise seen against `axis` (`x`, `y` or `z`)."""
        turn = _rotation(axis, degrees)
        return Anchor(turn @ self.point, turn @ self.direction, self.radius)


def anchor_at(point: ArrayLike, direction: ArrayLike, radius: float = 0.0) -> Anchor:
    """An anchor from any three numbers each; `direction` of any length."""
    along = np.asarray(direction, dtype=np.float64)
    return Anchor(np.asarray(point, dtype=np.float64), along / np.linalg.norm(along), radius)


@dataclass(frozen=True)
class Shape:
    """An object made of parts.

    Attributes
    ----------
    label : the library's name of the object.
    parts : part name → watertight mesh, all in the object's frame: metres, y up, front facing +z, origin at the centre
        of the bounding box. Parts overlap where they join, so distances to the object are the minimum over the parts.
    anchors : name → where people use it. Left and right are those of the person who uses it.
    sizes : what the shape was built from; `library_shape(label, **sizes)` builds it again.
    places : part name → (N, D) where each of the part's vertices lies in a frame of the part's own, the same for all
        instances whatever their sizes and angles; of any scale, in three or four dimensions.
    """

    label: str
    parts: dict[str, Mesh]
    anchors: Mapping[str, Anchor] = field(default_factory=dict)
    sizes: Mapping[str, float] = field(default_factory=dict)
    places: Mapping[str, Points] = field(default_factory=dict)

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
    """One watertight block while a shape is being built; every method returns a new one.

    Attributes
    ----------
    vertices : (N, 3) metres. faces : (F, 3).
    places : (N, D) where the vertices were when they were made, before they were moved, turned and bent; the fourth
        coordinate of a solid of revolution is how far along its profile: it tells the inside of a cup from the outside.
    """

    vertices: Points
    faces: NDArray[np.int64]
    places: Points

    def moved(self, offset: ArrayLike) -> Solid:
        return Solid(self.vertices + np.asarray(offset, dtype=np.float64), self.faces, self.places)

    def turned(self, axis: str, degrees: float) -> Solid:
        """Rotated about the origin, counter-clockwise seen against `axis` (`x`, `y` or `z`)."""
        return Solid(self.vertices @ _rotation(axis, degrees).T, self.faces, self.places)

    def bent(self, function: Callable[[Points], Points]) -> Solid:
        """With every vertex moved by a continuous, orientation-preserving map of (N, 3) points."""
        return Solid(function(self.vertices), self.faces, self.places)


def assemble(label: str, parts: dict[str, Solid], anchors: Mapping[str, Anchor]) -> Shape:
    """The shape of these parts, moved as one so that its bounding box is centred at the origin; anchors move along."""
    low = np.min([part.vertices.min(axis=0) for part in parts.values()], axis=0)
    high = np.max([part.vertices.max(axis=0) for part in parts.values()], axis=0)
    centre = (low + high) / 2
    meshes = {
        name: Mesh((part.vertices - centre).astype(np.float32), part.faces.astype(np.int32), name)
        for name, part in parts.items()
    }
    placed = {name: anchor.moved(-centre) for name, anchor in anchors.items()}
    return Shape(label, meshes, MappingProxyType(placed), places={name: part.places for name, part in parts.items()})


def parametric(build: Callable[Sizes, Shape]) -> Callable[Sizes, Shape]:
    """A shape function whose shapes remember all their sizes, given ones and defaults."""
    signature = inspect.signature(build)
    # Sizes without names of their own (`**corners`) belong to some instances only and have no defaults.
    named = [size for size in signature.parameters.values() if size.kind is not inspect.Parameter.VAR_KEYWORD]
    defaults = {size.name: size.default for size in named}

    @wraps(build)
    def with_sizes(*args: Sizes.args, **sizes: Sizes.kwargs) -> Shape:
        return replace(build(*args, **sizes), sizes=MappingProxyType(defaults | dict(sizes.items())))

    vars(with_sizes)["__signature__"] = signature.replace(parameters=named)
    return with_sizes


def grid_step(*sizes: float) -> float:
    """The grid spacing for an object with these sizes, metres."""
    return GRID_SHARE * max(sizes)


def box(size: tuple[float, float, float], step: float, rounding: float = 0.0) -> Solid:
    """A box centred at the origin, its faces grids no wider than `step`, its edges rounded with radius `rounding`."""
    half = np.asarray(size, dtype=np.float64) / 2
    rounding = min(rounding, 0.98 * float(half.min()))
    counts = np.maximum(1, np.ceil(2 * half / step - 1e-9)).astype(int)
    if rounding:
        # A rounded edge is a quarter circle that needs a few segments, however thin the box is.
        finest = min(step, rounding * 0.8)
        counts = np.maximum(counts, np.minimum(6, np.ceil(2 * half / finest)).astype(int))
    unit, faces = _unit_box(*counts.tolist())
    vertices: Points = unit * half
    if rounding:
        inner = np.clip(vertices, -(half - rounding), half - rounding)
        outward = vertices - inner
        vertices = inner + rounding * outward / np.linalg.norm(outward, axis=1, keepdims=True)
    return Solid(vertices, faces, unit)


@lru_cache(maxsize=256)
def _unit_box(*counts: int) -> tuple[Points, NDArray[np.int64]]:
    """The surface of the cube −1…1 as (N, 3) grid points, `counts` cells along the axes, and its (F, 3) triangles."""
    lattice = np.stack(np.meshgrid(*(np.arange(count + 1) for count in counts), indexing="ij"), axis=-1).reshape(-1, 3)
    on_surface = ((lattice == 0) | (lattice == counts)).any(axis=1)
    number = np.cumsum(on_surface).reshape([count + 1 for count in counts]) - 1
    faces = []
    for axis in range(3):
        slabs = number.transpose(axis, (axis + 1) % 3, (axis + 2) % 3)
        for slab, outward in ((slabs[-1], True), (slabs[0], False)):
            quads = np.stack([slab[:-1, :-1], slab[1:, :-1], slab[1:, 1:], slab[:-1, 1:]], axis=-1).reshape(-1, 4)
            triangles = np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])
            faces.append(triangles if outward else triangles[:, ::-1])
    return lattice[on_surface] * (2.0 / np.asarray(counts)) - 1.0, np.concatenate(faces)


def revolve(profile: Sequence[tuple[float, float]], step: float, sections: int = 12) -> Solid:
    """A solid of revolution about the y axis.

    Parameters
    ----------
    profile : (radius, height) corners in metres, from the axis at the bottom, outwards and up, back to the axis.
    step : the longest edge along the profile and around it.
    sections : the least number of segments around.
    """
    corners = np.asarray(profile, dtype=np.float64)
    around = max(sections, int(np.ceil(2 * np.pi * corners[:, 0].max() / step)))
    line = _resampled(corners, step)
    corner_at = np.concatenate([[0], np.cumsum(_pieces(corners, step))])
    rings = len(line) - 2
    angle = np.linspace(0, 2 * np.pi, around, endpoint=False)
    radius, height = line[1:-1, 0, None], line[1:-1, 1, None]
    walls = np.stack([radius * np.sin(angle), np.broadcast_to(height, (rings, around)), radius * np.cos(angle)], axis=2)
    vertices = np.concatenate([walls.reshape(-1, 3), [[0, line[0, 1], 0], [0, line[-1, 1], 0]]])
    travelled = np.interp(np.arange(len(line)), corner_at, np.arange(len(corners)))
    along = np.concatenate([np.repeat(travelled[1:-1], around), travelled[[0, -1]]])
    return Solid(vertices, _ring_faces(rings, around, closed=False), np.column_stack([vertices, along]))


@lru_cache(maxsize=1024)
def _ring_faces(rings: int, sections: int, closed: bool) -> NDArray[np.int64]:
    """Triangles between rings of vertices, which turn counter-clockwise seen from the last ring.

    Closed, the last ring is joined to the first. Otherwise both ends get caps: the first cap's centre is the vertex
    after all rings, the last cap's the one after that.
    """
    index = np.arange(rings * sections).reshape(rings, sections)
    here, there = (index, np.roll(index, -1, axis=0)) if closed else (index[:-1], index[1:])
    quads = np.stack([here, np.roll(here, -1, axis=1), np.roll(there, -1, axis=1), there], axis=-1).reshape(-1, 4)
    faces = [quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]]
    if not closed:
        ends = [np.full(sections, rings * sections + end) for end in (0, 1)]
        faces.append(np.stack([ends[0], np.roll(index[0], -1), index[0]], axis=1))
        faces.append(np.stack([ends[1], index[-1], np.roll(index[-1], -1)], axis=1))
    return np.concatenate(faces)


def cylinder(radius: float, height: float, step: float, sections: int = 12) -> Solid:
    """A cylinder about the y axis, centred at the origin."""
    return revolve([(0, -height / 2), (radius, -height / 2), (radius, height / 2), (0, height / 2)], step, sections)


def ellipsoid(radii: tuple[float, float, float], subdivisions: int = 3) -> Solid:
    """An ellipsoid centred at the origin; 3 subdivisions give 642 vertices, 4 give 2562."""
    unit = _unit_sphere(subdivisions)
    return Solid(unit.vertices * radii, unit.faces, unit.vertices)


@lru_cache(maxsize=8)
def _unit_sphere(subdivisions: int) -> Solid:
    import trimesh

    mesh = trimesh.creation.icosphere(subdivisions=subdivisions)
    vertices = np.asarray(mesh.vertices, dtype=np.float64)
    return Solid(vertices, np.asarray(mesh.faces, dtype=np.int64), vertices)


def tube(
    path: ArrayLike,
    normal: tuple[float, float, float] | Points,
    width: float | Points,
    thickness: float,
    step: float,
    closed: bool = False,
    sections: int = 10,
) -> Solid:
    """A tube or band of elliptic section along a path.

    Parameters
    ----------
    path : (P, 3) metres; first and last point differ also when `closed`.
    normal : the direction of the section's width, nowhere along the path: the plane's normal where it is planar; also
        as (P, 3), like `width`.
    width, thickness : the section's full size along `normal` and across it, metres; the width also as (P,), one for
        each point of a path whose segments are no longer than `step`.
    closed : join the last point to the first; otherwise both ends are capped.
    """
    points = np.asarray(path, dtype=np.float64)
    points = _resampled(np.concatenate([points, points[:1]]), step)[:-1] if closed else _resampled(points, step)
    forward = _unit(np.roll(points, -1, axis=0) - np.roll(points, 1, axis=0) if closed else _ahead(points))
    side = _unit(np.cross(forward, normal))
    width = np.asarray(width, dtype=np.float64).reshape(-1, 1)
    return _swept(points, side, np.cross(forward, side), thickness, width, sections, closed)


def rod(path: ArrayLike, radius: float, step: float, sections: int = 10, end_radius: float | None = None) -> Solid:
    """A round bar along any path, planar or not, capped at both ends.

    Parameters
    ----------
    path : (P, 3) metres; bends are wider than the radius.
    radius, end_radius : at the first and the last point, metres; the same where `end_radius` is None.
    """
    corners = np.asarray(path, dtype=np.float64)
    points = _resampled(corners, step)
    forward = _unit(_ahead(points))
    # The section is carried along without twist: what is left of the last one's side, square to the new direction.
    side = np.empty_like(points)
    side[:] = _unit(np.cross(forward[0], np.eye(3)[np.argmin(np.abs(forward[0]))]))
    if len(corners) > 2:
        for index in range(1, len(points)):
            across = side[index - 1] - forward[index] * (side[index - 1] @ forward[index])
            side[index] = across / np.sqrt(across @ across)
    along = np.linspace(0, 1, len(points))[:, None]
    thickness = 2 * (radius + ((radius if end_radius is None else end_radius) - radius) * along)
    return _swept(points, side, np.cross(forward, side), thickness, thickness, sections, False)


def joined(solids: Sequence[Solid]) -> Solid:
    """Solids that don't touch, as one."""
    starts = np.cumsum([0] + [len(solid.vertices) for solid in solids[:-1]])
    faces = np.concatenate([solid.faces + start for solid, start in zip(solids, starts, strict=True)])
    vertices = np.concatenate([solid.vertices for solid in solids])
    return Solid(vertices, faces, vertices)


def _ahead(points: Points) -> Points:
    """Where an open path leads at each of its points, of any length."""
    return np.concatenate([points[1:], points[-1:]]) - np.concatenate([points[:1], points[:-1]])


def _unit(vectors: Points) -> Points:
    return vectors / np.sqrt((vectors**2).sum(axis=-1, keepdims=True))


def _swept(
    points: Points,
    side: Points,
    normal: Points,
    thickness: float | Points,
    width: float | Points,
    sections: int,
    closed: bool,
) -> Solid:
    """Ellipses at every point, `thickness` along `side` and `width` along `normal` (full sizes), joined to a solid."""
    count = len(points)
    angle = np.linspace(0, 2 * np.pi, sections, endpoint=False)[:, None]
    rings = (
        points[:, None]
        + np.cos(angle) * np.expand_dims(thickness / 2 * side, 1)
        + np.sin(angle) * np.expand_dims(width / 2 * normal, 1)
    )
    vertices = rings.reshape(-1, 3)
    if not closed:
        vertices = np.concatenate([vertices, points[[0, -1]]])
    return Solid(vertices, _ring_faces(count, sections, closed), _tube_places(count, sections, closed))


@lru_cache(maxsize=1024)
def _tube_places(rings: int, sections: int, closed: bool) -> Points:
    """The vertices of a straight tube of unit size, or of a ring of it."""
    angle = np.linspace(0, 2 * np.pi, sections, endpoint=False)
    circle = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    if closed:
        turn = np.linspace(0, 2 * np.pi, rings, endpoint=False)[:, None]
        radius = 1 + 0.2 * circle[:, 0]
        ring = [radius * np.cos(turn), radius * np.sin(turn), np.broadcast_to(0.2 * circle[:, 1], (rings, sections))]
        return np.stack(ring, axis=2).reshape(-1, 3)
    along = np.repeat(np.linspace(0, 1, rings), sections)
    tube_wall = np.concatenate([np.tile(circle, (rings, 1)), along[:, None]], axis=1)
    return np.concatenate([tube_wall, [[0, 0, 0], [0, 0, 1]]])


def elliptic(points: Points, axes: str, radii: tuple[float, float]) -> Points:
    """The square −1…1 in two axes mapped to an ellipse, the third kept; the map is smooth and a grid stays even."""
    first, second = ("xyz".index(axis) for axis in axes)
    moved = points.copy()
    moved[:, first] = radii[0] * points[:, first] * np.sqrt(1 - points[:, second] ** 2 / 2)
    moved[:, second] = radii[1] * points[:, second] * np.sqrt(1 - points[:, first] ** 2 / 2)
    return moved


def arc(centre: tuple[float, float], radii: tuple[float, float], start: float, end: float, count: int = 25) -> Points:
    """(count, 2) points on an ellipse's arc, angles in degrees from the first axis to the second."""
    angle = np.deg2rad(np.linspace(start, end, count))
    return np.stack([centre[0] + radii[0] * np.cos(angle), centre[1] + radii[1] * np.sin(angle)], axis=1)


def smooth(points: ArrayLike, count: int) -> tuple[Points, NDArray[np.float64]]:
    """(count, 3) points on a smooth curve through `points` (P, 3), and how far along each is, 0…1."""
    from scipy.interpolate import CubicSpline

    corners = np.asarray(points, dtype=np.float64)
    travelled = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(corners, axis=0), axis=1))])
    share = np.linspace(0, 1, count)
    curve: Points = CubicSpline(travelled / travelled[-1], corners)(share)
    return curve, share


def in_plane(points: ArrayLike, axes: str, offset: float = 0.0) -> Points:
    """(P, 2) points laid into the plane of two axes (`xy`, `zy`, …), at `offset` along the third."""
    flat = np.asarray(points, dtype=np.float64)
    placed = np.full((len(flat), 3), offset)
    for column, axis in enumerate(axes):
        placed[:, "xyz".index(axis)] = flat[:, column]
    return placed


def _resampled(corners: Points, step: float) -> Points:
    """A polyline with its corners kept and every segment cut into pieces of at most `step`."""
    along = corners[1:] - corners[:-1]
    counts = _pieces(corners, step)
    segment = np.repeat(np.arange(len(along)), counts)
    piece = np.arange(1, len(segment) + 1) - (np.cumsum(counts) - counts)[segment]
    points = corners[segment] + along[segment] * (piece / counts[segment])[:, None]
    return np.concatenate([corners[:1], points])


def _pieces(corners: Points, step: float) -> NDArray[np.int64]:
    """Into how many pieces of at most `step` each segment of a polyline is cut."""
    lengths = np.sqrt(((corners[1:] - corners[:-1]) ** 2).sum(axis=1))
    counts: NDArray[np.int64] = np.maximum(1, np.ceil(lengths / step - 1e-9)).astype(np.int64)
    return counts


def _rotation(axis: str, degrees: float) -> NDArray[np.float64]:
    """(3, 3) rotation, counter-clockwise seen against `axis`."""
    sine, cosine = np.sin(np.deg2rad(degrees)), np.cos(np.deg2rad(degrees))
    first = "xyz".index(axis)
    second, third = (first + 1) % 3, (first + 2) % 3
    matrix = np.eye(3)
    matrix[second, second] = matrix[third, third] = cosine
    matrix[third, second], matrix[second, third] = sine, -sine
    return matrix
