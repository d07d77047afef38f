"""Which triangle every pixel sees, by ray casting (Open3D) or by PyTorch3D where a user has it."""

from __future__ import annotations

import importlib
import importlib.util
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ivlm_core.errors import ConfigError, MeshError
from ivlm_core.render.cameras import FIELD_OF_VIEW_DEG, ViewCamera
from ivlm_core.types import FloatArray, IntArray, Mesh

MAX_IMAGE_SIZE = 4096
# A vertex counts as seen when the first surface on the way to it is at most this share of the distance in front of it.
VISIBILITY_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Fragments:
    """What each pixel sees.

    Attributes
    ----------
    face_index : (H, W) int32, −1 = empty.
    barycentric : (H, W, 3) float32 perspective-correct weights of the face's vertices, −1 where empty.
    depth : (H, W) float32 metres along the viewing axis, −1 where empty.
    """

    face_index: IntArray
    barycentric: FloatArray
    depth: FloatArray


class RayScene:
    """A mesh ready to be cast rays at; the acceleration structure is built once.

    Parameters
    ----------
    mesh : vertices in the world frame of the cameras.

    Raises
    ------
    ConfigError : Open3D is not installed.
    """

    def __init__(self, mesh: Mesh) -> None:
        if importlib.util.find_spec("open3d") is None:
            raise ConfigError(
                "renderer", "open3d is not installed", "pip install open3d, or give view packs that are already cached"
            )
        # Open3D's stubs do not know that a Tensor is made from an array alone.
        o3c: Any = importlib.import_module("open3d.core")
        from open3d.t.geometry import RaycastingScene

        self._tensor = o3c.Tensor
        self._corners = mesh.vertices.astype(np.float64)[mesh.faces]
        self._scene = RaycastingScene()
        self._scene.add_triangles(
            o3c.Tensor(np.array(mesh.vertices)), o3c.Tensor(np.array(mesh.faces).astype(np.uint32))
        )

    def rasterize(self, camera: ViewCamera, image_size: int) -> Fragments:
        """Cast one ray through every pixel centre. See `rasterize`."""
        rays = camera.pixel_rays(image_size)
        hits = self._scene.cast_rays(self._tensor(rays))
        face = hits["primitive_ids"].numpy()
        covered = np.isfinite(hits["t_hit"].numpy())
        face_index = np.where(covered, face.astype(np.int64), -1).astype(np.int32)
        barycentric = np.full((image_size, image_size, 3), -1.0, dtype=np.float32)
        depth = np.full((image_size, image_size), -1.0, dtype=np.float32)
        weights, distance = _plane_hit(
            camera.center, rays[covered][:, 3:].astype(np.float64), self._corners[face_index[covered]]
        )
        barycentric[covered] = weights
        depth[covered] = distance
        return Fragments(face_index, barycentric, depth)

    def visible(self, camera: ViewCamera, points: FloatArray) -> NDArray[np.bool_]:
        """(N,) bool: inside the image of `camera` with no surface in front of the point."""
        position, depth = camera.project(points)
        inside = (depth > 0) & (position > 0).all(axis=1) & (position < 1).all(axis=1)
        rays = np.empty((len(points), 6), dtype=np.float32)
        rays[:, :3] = camera.center
        rays[:, 3:] = points - camera.center
        hit = self._scene.cast_rays(self._tensor(rays))["t_hit"].numpy()
        return inside & (hit >= 1.0 - VISIBILITY_TOLERANCE)


def rasterize(
    vertices: NDArray,
    faces: NDArray,
    camera: ViewCamera,
    image_size: int = 1024,
    backend: str = "open3d",
) -> Fragments:
    """Find the nearest face, its barycentrics and its depth for every pixel of one view.

    Parameters
    ----------
    vertices : (N, 3) metres, world frame (y up).
    faces : (F, 3) vertex indices. Both sides of a face are seen.
    camera : the view.
    image_size : side of the square image in pixels, 1…4096.
    backend : `open3d` (Embree ray casting) or `pytorch3d` (its own rasteriser, where installed).

    Raises
    ------
    MeshError : unusable mesh.  ConfigError : image size or backend out of range, or backend not installed.
    """
    if not 1 <= image_size <= MAX_IMAGE_SIZE:
        raise ConfigError("image_size", f"is {image_size}", f"give 1…{MAX_IMAGE_SIZE} pixels")
    mesh = Mesh(np.asarray(vertices), np.asarray(faces))
    if backend == "open3d":
        return RayScene(mesh).rasterize(camera, image_size)
    if backend == "pytorch3d":
        return _rasterize_pytorch3d(mesh, camera, image_size)
    raise ConfigError("renderer", f"is {backend!r}", "choose 'open3d' or 'pytorch3d'")


def _plane_hit(
    origin: NDArray[np.float64], directions: NDArray[np.float64], corners: NDArray[np.float64]
) -> tuple[FloatArray, FloatArray]:
    """Barycentrics (P, 3) and ray parameter (P,) of rays meeting their triangles' planes, in double precision.

    Embree's own single-precision coordinates are off by up to 1e-2 on the small triangles of fingers.
    """
    first = corners[:, 0]
    edge1, edge2 = corners[:, 1] - first, corners[:, 2] - first
    across = np.cross(directions, edge2)
    determinant = np.einsum("pk,pk->p", edge1, across)
    safe = np.where(np.abs(determinant) < 1e-300, 1.0, determinant)
    offset = origin - first
    turned = np.cross(offset, edge1)
    u = np.einsum("pk,pk->p", offset, across) / safe
    v = np.einsum("pk,pk->p", directions, turned) / safe
    distance = np.einsum("pk,pk->p", edge2, turned) / safe
    weights = np.clip(np.stack([1.0 - u - v, u, v], axis=1), 0.0, 1.0)
    weights /= weights.sum(axis=1, keepdims=True)
    return weights.astype(np.float32), distance.astype(np.float32)


def _rasterize_pytorch3d(mesh: Mesh, camera: ViewCamera, image_size: int) -> Fragments:
    if importlib.util.find_spec("pytorch3d") is None:
        raise ConfigError(
            "renderer", "pytorch3d is not installed", "build it from its source, or use the 'open3d' renderer"
        )
    if mesh.faces.size == 0:
        raise MeshError("mesh.faces", "is empty", "give at least one triangle")
    import torch
    from pytorch3d.renderer import FoVPerspectiveCameras, MeshRasterizer, RasterizationSettings
    from pytorch3d.structures import Meshes

    cameras = FoVPerspectiveCameras(
        R=torch.as_tensor(camera.R, dtype=torch.float32)[None],
        T=torch.as_tensor(camera.T, dtype=torch.float32)[None],
        fov=FIELD_OF_VIEW_DEG,
    )
    settings = RasterizationSettings(image_size=image_size, blur_radius=0.0, faces_per_pixel=1)
    meshes = Meshes([torch.tensor(mesh.vertices)], [torch.tensor(mesh.faces.astype(np.int64))])
    fragments = MeshRasterizer(cameras=cameras, raster_settings=settings)(meshes)
    return Fragments(
        fragments.pix_to_face[0, ..., 0].numpy().astype(np.int32),
        fragments.bary_coords[0, :, :, 0].numpy().astype(np.float32),
        fragments.zbuf[0, ..., 0].numpy().astype(np.float32),
    )
