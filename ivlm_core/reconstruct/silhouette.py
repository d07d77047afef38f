"""The silhouette of a posed mesh, differentiable with respect to the pose, by ray casting.

Rays are cast in the object's own frame, where the acceleration structure is built once: a ray through a pixel has the
origin −Rᵀt/s and the direction Rᵀd/s with d = ((u − cx)/fx, (v − cy)/fy, 1), so that the hit parameter is the depth in
the camera frame. The gradient is the boundary integral over the outline (in the way of antialiased rasterisation):

    dL/dθ = Σ  dL/dcoverage[pixel under the crossing] · |n_axis| · (n · d u(θ)/dθ)

over the places where contour edges cross pixel rows and columns between a covered and an empty pixel; n is the
outline's outward normal in the picture, u(θ) the projection of the crossing's point, held fixed on the object.
"""

from __future__ import annotations

import importlib
import importlib.util
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ivlm_core.errors import ConfigError
from ivlm_core.reconstruct.outline import NEAR, Crossings, EdgeTable, Floats, Indices, crossings
from ivlm_core.types import CameraIntrinsics, FloatArray, Mesh

BACKENDS = ("rays", "pytorch3d")
# Where the outline is nearer to an axis than this (45°), its crossings correct the pixels' coverage; both would twice.
STEEP = 0.5**0.5
# Fewer rays than this are cast faster by one thread.
RAYS_PER_THREAD = 40_000


class OutlineMesh:
    """A mesh ready to be cast rays at and asked for its contour edges; built once.

    Parameters
    ----------
    vertices : (N, 3) metres, object frame. faces : (F, 3). Holes, soups and parts in each other are fine.

    Raises
    ------
    ConfigError : Open3D is not installed.
    """

    def __init__(self, vertices: NDArray, faces: NDArray) -> None:
        if importlib.util.find_spec("open3d") is None:
            raise ConfigError("renderer", "open3d is not installed", "pip install open3d; fitting casts rays with it")
        # Open3D's stubs do not know that a Tensor is made from an array alone.
        o3c: Any = importlib.import_module("open3d.core")
        from open3d.t.geometry import RaycastingScene

        self.vertices = np.array(vertices, dtype=np.float32)
        self.faces = np.array(faces, dtype=np.int32)
        self.edges = EdgeTable(vertices, faces)
        self._tensor = o3c.Tensor
        self._scene = RaycastingScene()
        self._scene.add_triangles(o3c.Tensor(self.vertices), o3c.Tensor(self.faces.astype(np.uint32)))

    def hits(self, rays: FloatArray) -> NDArray[np.bool_]:
        """(P,) bool: which rays (P, 6) in the object frame meet the surface."""
        found: NDArray[np.bool_] = self._scene.test_occlusions(self._tensor(rays), nthreads=_threads(rays)).numpy()
        return found

    def depths(self, rays: FloatArray) -> FloatArray:
        """(P,) float32 parameter of the first hit of rays (P, 6) in the object frame; infinite where there is none."""
        found: FloatArray = self._scene.cast_rays(self._tensor(rays), nthreads=_threads(rays))["t_hit"].numpy()
        return found


@dataclass(frozen=True, eq=False)
class Coverage:
    """How much of each pixel B posed meshes cover; only the pixels of each one's bounding box are listed.

    Attributes
    ----------
    values : (P,) float32 tensor in [0, 1], differentiable with respect to the poses.
    pose : (P,) int64 tensor, which pose. pixel : (P,) int64 tensor, row · width + column.
    poses : B. camera : of the raster.
    hit_pixels, hit_points : with depth: (Q,) int64 entries of `values` that a ray hit, and (Q, 3) float64 where, in the
        object frame.
    """

    values: Tensor
    pose: Tensor
    pixel: Tensor
    poses: int
    camera: CameraIntrinsics
    hit_pixels: Tensor | None = None
    hit_points: Tensor | None = None

    def sum(self, weights: Tensor) -> Tensor:
        """(B,) float64 sums of (P,) weights over each pose's pixels."""
        return self.sum_of(self.pose, weights)

    def sum_of(self, pose: Tensor, weights: Tensor) -> Tensor:
        """(B,) float64 sums of weights (n,) that belong to poses (n,)."""
        return torch.zeros(self.poses, dtype=torch.float64).index_add(0, pose, weights.double())

    def dense(self) -> Tensor:
        """(B, height, width) float32."""
        size = self.camera.width * self.camera.height
        whole = torch.zeros(self.poses * size, dtype=self.values.dtype)
        return whole.index_add(0, self.pose * size + self.pixel, self.values).reshape(
            self.poses, self.camera.height, self.camera.width
        )


def coverage(
    mesh: OutlineMesh,
    rotation: Tensor,
    translation: Tensor,
    scale: Tensor,
    camera: CameraIntrinsics,
    depth: bool = False,
    backend: str = "rays",
) -> Coverage:
    """How much of every pixel the mesh covers in B poses: `x = scale · rotation @ X + translation`.

    Parameters
    ----------
    rotation, translation, scale : (B, 3, 3), (B, 3), (B,) float64, metres in the optical frame.
    camera : the raster, which may be any window of an image at any resolution.
    depth : also where each ray first meets the surface.
    backend : `rays`, or `pytorch3d` (its soft silhouette, where installed; without `depth`).

    Raises
    ------
    ConfigError : unknown backend, or one that is not installed.
    """
    if backend == "pytorch3d":
        from ivlm_core.reconstruct.soft import soft_coverage

        drawn = soft_coverage(mesh.vertices, mesh.faces, rotation, translation, scale, camera)
        return Coverage(*drawn, poses=len(scale), camera=camera)
    if backend != "rays":
        raise ConfigError("silhouette backend", f"is {backend!r}", f"choose {' or '.join(map(repr, BACKENDS))}")
    turn, shift, size = (part.detach().numpy() for part in (rotation, translation, scale))
    eyes = -np.einsum("bji,bj->bi", turn, shift) / size[:, None]
    placed = size[:, None, None] * (mesh.edges.vertices @ turn.transpose(0, 2, 1)) + shift[:, None]
    boxes = _boxes(placed, camera)
    pose, column, row, start, width = _pixels(boxes)
    rays = _rays(turn, eyes, size, camera, pose, column, row)
    hit_pixels = hit_points = None
    if depth:
        distance = mesh.depths(rays)
        covered = np.isfinite(distance)
        which = np.flatnonzero(covered)
        ends = rays[which, :3].astype(np.float64) + distance[which, None] * rays[which, 3:].astype(np.float64)
        hit_pixels, hit_points = torch.from_numpy(which), torch.from_numpy(ends)
    else:
        covered = mesh.hits(rays)

    found = []
    for axis, places in enumerate(crossings(mesh.edges, eyes, placed, camera, boxes)):
        step = np.ones_like(places.pose) if axis == 0 else width[places.pose]
        first = start[places.pose] + (places.pixel[:, 1] - boxes[places.pose, 1]) * width[places.pose]
        first += places.pixel[:, 0] - boxes[places.pose, 0]
        found.append(_on_outline(places, first, first + step, covered, axis))
    joined = _Outline(*(np.concatenate(parts) for parts in zip(*(vars(part).values() for part in found), strict=True)))
    at = torch.from_numpy(joined.pose)
    points = torch.from_numpy(joined.point)
    placed_points = scale[at, None] * (rotation[at] * points[:, None]).sum(-1) + translation[at]
    focal = torch.tensor([camera.fx, camera.fy], dtype=torch.float64)
    screen = placed_points[:, :2] / placed_points[:, 2:] * focal
    values: Tensor = _Covered.apply(screen, covered, joined)
    return Coverage(
        values,
        torch.from_numpy(pose),
        torch.from_numpy(row * camera.width + column),
        len(size),
        camera,
        hit_pixels,
        hit_points,
    )


def silhouette_mask(mesh: Mesh, camera: CameraIntrinsics) -> NDArray[np.bool_]:
    """(H, W) bool: the pixels whose middle a mesh covers whose vertices are in the camera's optical frame, metres."""
    stay = torch.eye(3, dtype=torch.float64)[None], torch.zeros(1, 3).double(), torch.ones(1).double()
    covered = coverage(OutlineMesh(mesh.vertices, mesh.faces), *stay, camera, depth=True)
    mask = np.zeros(camera.height * camera.width, dtype=bool)
    mask[covered.pixel[covered.hit_pixels].numpy()] = True
    return mask.reshape(camera.height, camera.width)


@dataclass(frozen=True, eq=False)
class _Outline:
    """The crossings on the outline: pose, object point, outward normal, |n_axis|, and how they change which pixels."""

    pose: Indices
    point: Floats
    normal: Floats
    steepness: Floats
    under: Indices
    correction: Floats


class _Covered(torch.autograd.Function):
    """Coverage of pixels as a function of where the outline's points are in the raster."""

    @staticmethod
    def forward(ctx: Any, screen: Tensor, covered: NDArray[np.bool_], outline: _Outline) -> Tensor:
        values = covered.astype(np.float32)
        steep = outline.steepness >= STEEP
        np.add.at(values, outline.under[steep], outline.correction[steep].astype(np.float32))
        ctx.outline = outline
        return torch.from_numpy(np.clip(values, 0.0, 1.0))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        outline = ctx.outline
        weight = gradients[0].numpy()[outline.under] * outline.steepness
        return torch.from_numpy(weight[:, None] * outline.normal), None, None


def _on_outline(places: Crossings, first: Indices, second: Indices, covered: NDArray[np.bool_], axis: int) -> _Outline:
    """The crossings between one covered and one empty pixel; of several the one nearest the empty pixel."""
    before, after = covered[first], covered[second]
    which = np.flatnonzero(before != after)
    places, first, second, before = places.chosen(which), first[which], second[which], before[which]
    to_empty = np.where(before, 1.0 - places.offset, places.offset)
    order = np.lexsort((to_empty, first))
    nearest = np.ones(len(order), dtype=bool)
    nearest[1:] = first[order[1:]] != first[order[:-1]]
    which = order[nearest]
    places, first, second, before = places.chosen(which), first[which], second[which], before[which]
    outward = np.where(before, 1.0, -1.0)
    flip = np.where(places.normal[:, axis] * outward < 0, -1.0, 1.0)
    in_first = places.offset < 0.5
    return _Outline(
        places.pose,
        places.point,
        places.normal * flip[:, None],
        np.abs(places.normal[:, axis]),
        np.where(in_first, first, second),
        # The outline is at `offset`, the hard mask's at one half: what lies between is covered or empty after all.
        (places.offset - 0.5) * outward,
    )


def _boxes(placed: Floats, camera: CameraIntrinsics) -> Indices:
    """(B, 4) x0, y0, x1, y1 of each posed mesh in the raster, one pixel larger than it; the whole raster for a mesh
    that reaches behind the camera, and empty boxes where nothing can be seen."""
    depth = placed[..., 2]
    safe = np.maximum(depth, NEAR)[..., None]
    pixel = placed[..., :2] / safe * (camera.fx, camera.fy) + (camera.cx, camera.cy)
    limits = np.array([camera.width, camera.height])
    low = np.clip(np.floor(pixel.min(axis=1)) - 1, 0, limits)
    high = np.clip(np.ceil(pixel.max(axis=1)) + 2, 0, limits)
    behind = (depth < NEAR).any(axis=1)
    low[behind], high[behind] = 0, limits
    # A pose so far out that its pixels overflow is as hidden as one behind the camera.
    hidden = (depth < NEAR).all(axis=1) | np.isnan(low + high).any(axis=1)
    low[hidden], high[hidden] = 0, 0
    empty = (high <= low).any(axis=1)
    high[empty] = low[empty]
    return np.concatenate([low, high], axis=1).astype(np.int64)


def _pixels(boxes: Indices) -> tuple[Indices, Indices, Indices, Indices, Indices]:
    """Pose, column and row of all pixels in the boxes; each box's first entry and its width."""
    width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    count = width * height
    start = np.cumsum(count) - count
    pose = np.repeat(np.arange(len(boxes)), count)
    within = np.arange(int(count.sum())) - start[pose]
    row, column = np.divmod(within, width[pose])
    return pose, column + boxes[pose, 0], row + boxes[pose, 1], start, width


def _rays(
    rotation: Floats,
    eyes: Floats,
    scale: Floats,
    camera: CameraIntrinsics,
    pose: Indices,
    column: Indices,
    row: Indices,
) -> FloatArray:
    """(P, 6) float32 rays in the object frame; their parameter is the depth in the camera frame."""
    rays = np.empty((len(pose), 6), dtype=np.float32)
    rays[:, :3] = eyes[pose]
    x, y = (column - camera.cx) / camera.fx, (row - camera.cy) / camera.fy
    inverse = rotation / scale[:, None, None]
    for axis in range(3):
        across, down, along = (inverse[:, k, axis][pose] for k in range(3))
        rays[:, 3 + axis] = x * across + y * down + along
    return rays


def _threads(rays: FloatArray) -> int:
    return 1 if len(rays) < RAYS_PER_THREAD else 0
