"""View packs: the fixed renders of a mesh with their pixel maps, made once and kept by content hash."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Literal

import numpy as np

from ivlm_core.errors import ConfigError
from ivlm_core.render.cameras import ViewCamera, ViewSpec
from ivlm_core.render.rasterizer import RayScene
from ivlm_core.render.shading import normal_colors, position_colors, shade
from ivlm_core.storage import ArrayCache
from ivlm_core.types import Mesh, ViewPack

# Part of every cache key: raise it whenever the same mesh would give other pixels.
RENDER_VERSION = 1

Coloring = Literal["normals", "positions"]


def build_view_pack(mesh: Mesh, views: Mapping[str, ViewSpec], image_size: int, coloring: Coloring) -> ViewPack:
    """Render `mesh` from all `views`.

    Parameters
    ----------
    mesh : canonical frame (y up); bodies in their star pose in metres, objects normalised to a longest side of 1.
    views : J named cameras, in order.
    image_size : pixels a side.
    coloring : `normals` for bodies, `positions` (NOCS) for objects.

    Raises
    ------
    ConfigError : unknown colouring, or no renderer is installed.
    """
    if coloring not in ("normals", "positions"):
        raise ConfigError("coloring", f"is {coloring!r}", "choose 'normals' or 'positions'")
    colors = normal_colors(mesh) if coloring == "normals" else position_colors(mesh)
    scene = RayScene(mesh)
    cameras = [ViewCamera.from_spec(spec) for spec in views.values()]
    fragments = [scene.rasterize(camera, image_size) for camera in cameras]
    return ViewPack(
        mesh=mesh,
        view_names=tuple(views),
        camera_parameters=np.array([spec.parameters for spec in views.values()], dtype=np.float32),
        images=np.stack([shade(mesh, colors, seen, camera) for seen, camera in zip(fragments, cameras, strict=True)]),
        face_index=np.stack([seen.face_index for seen in fragments]),
        barycentric=np.stack([seen.barycentric for seen in fragments]),
        depth=np.stack([seen.depth for seen in fragments]),
        vertex_pixel=np.stack([camera.project(mesh.vertices)[0] for camera in cameras]).astype(np.float32),
        vertex_visible=np.stack([scene.visible(camera, mesh.vertices) for camera in cameras]),
    )


def load_or_build_view_pack(
    mesh: Mesh, views: Mapping[str, ViewSpec], image_size: int, coloring: Coloring, cache: ArrayCache
) -> ViewPack:
    """The view pack of `mesh` from the cache, or rendered and kept there. Parameters as in `build_view_pack`.

    Only covered pixels are stored: they are about a tenth of the image.
    """
    key = _key(mesh, views, image_size, coloring)
    if (stored := cache.load("views", key)) is not None:
        pack = _unpacked(mesh, views, image_size, stored)
        if pack is not None:
            return pack
    pack = build_view_pack(mesh, views, image_size, coloring)
    cache.store("views", key, _packed(pack))
    return pack


def _key(mesh: Mesh, views: Mapping[str, ViewSpec], image_size: int, coloring: str) -> str:
    described = f"{RENDER_VERSION}|{mesh.content_hash}|{image_size}|{coloring}|{sorted(views.items())!r}|{list(views)}"
    return hashlib.sha256(described.encode()).hexdigest()[:32]


def _packed(pack: ViewPack) -> dict[str, np.ndarray]:
    pixels = np.flatnonzero(pack.face_index.ravel() >= 0)
    return {
        "pixels": pixels.astype(np.int64),
        "faces": pack.face_index.ravel()[pixels],
        "barycentric": pack.barycentric.reshape(-1, 3)[pixels],
        "depth": pack.depth.ravel()[pixels],
        "colors": pack.images.reshape(-1, 3)[pixels],
        "vertex_pixel": pack.vertex_pixel,
        "vertex_visible": pack.vertex_visible,
    }


def _unpacked(
    mesh: Mesh, views: Mapping[str, ViewSpec], image_size: int, stored: Mapping[str, np.ndarray]
) -> ViewPack | None:
    """The pack that `_packed` stored, or None where the arrays do not fit the mesh."""
    shape = (len(views), image_size, image_size)
    names = ("pixels", "faces", "barycentric", "depth", "colors", "vertex_pixel", "vertex_visible")
    if any(name not in stored for name in names):
        return None
    pixels, faces = stored["pixels"], stored["faces"]
    fits = (
        pixels.shape == faces.shape
        and stored["barycentric"].shape == (*pixels.shape, 3)
        and stored["colors"].shape == (*pixels.shape, 3)
        and stored["depth"].shape == pixels.shape
        and stored["vertex_pixel"].shape == (len(views), len(mesh.vertices), 2)
        and stored["vertex_visible"].shape == (len(views), len(mesh.vertices))
        and (pixels.size == 0 or (pixels.min() >= 0 and pixels.max() < np.prod(shape)))
        and (faces.size == 0 or (faces.min() >= 0 and faces.max() < len(mesh.faces)))
    )
    if not fits:
        return None
    images = np.full((*shape, 3), 255, dtype=np.uint8)
    face_index = np.full(shape, -1, dtype=np.int32)
    barycentric = np.full((*shape, 3), -1.0, dtype=np.float32)
    depth = np.full(shape, -1.0, dtype=np.float32)
    images.reshape(-1, 3)[pixels] = stored["colors"]
    face_index.reshape(-1)[pixels] = faces
    barycentric.reshape(-1, 3)[pixels] = stored["barycentric"]
    depth.reshape(-1)[pixels] = stored["depth"]
    return ViewPack(
        mesh=mesh,
        view_names=tuple(views),
        camera_parameters=np.array([spec.parameters for spec in views.values()], dtype=np.float32),
        images=images,
        face_index=face_index,
        barycentric=barycentric,
        depth=depth,
        vertex_pixel=stored["vertex_pixel"].astype(np.float32),
        vertex_visible=stored["vertex_visible"].astype(bool),
    )
