"""Colours of the renders: normals for bodies, normalised positions (NOCS) for objects, one point light."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ivlm_core.render.cameras import ViewCamera
from ivlm_core.render.rasterizer import Fragments
from ivlm_core.types import ByteArray, FloatArray, Mesh

AMBIENT, DIFFUSE, SPECULAR, SHININESS = 0.5, 0.3, 0.2, 64


def vertex_normals(mesh: Mesh) -> FloatArray:
    """(V, 3) float32 area-weighted unit normals; zero for vertices without a face of any area."""
    corners = mesh.vertices.astype(np.float64)[mesh.faces]
    weighted = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals = np.zeros((len(mesh.vertices), 3))
    for corner in range(3):
        for axis in range(3):
            normals[:, axis] += np.bincount(
                mesh.faces[:, corner], weights=weighted[:, axis], minlength=len(mesh.vertices)
            )
    return _unit(normals).astype(np.float32)


def normal_colors(mesh: Mesh) -> FloatArray:
    """(V, 3) float32 RGB in [0, 1]: (n + 1) / 2 in the model's own axes, the colouring of body renders."""
    return (vertex_normals(mesh) + 1.0) / 2.0


def position_colors(mesh: Mesh) -> FloatArray:
    """(N, 3) float32 RGB in [0.1, 0.9]: each axis min–max normalised (NOCS), the colouring of object renders."""
    low, high = mesh.vertices.min(axis=0), mesh.vertices.max(axis=0)
    span = np.where(high > low, high - low, 1.0)
    return ((mesh.vertices - low) / span * 0.8 + 0.1).astype(np.float32)


def shade(mesh: Mesh, colors: FloatArray, fragments: Fragments, camera: ViewCamera) -> ByteArray:
    """Light one view by Phong's model with a point light at (0, 0, `camera.spec.light_z`) on a white background.

    Parameters
    ----------
    colors : (N, 3) float32 RGB in [0, 1] per vertex.

    Returns
    -------
    (H, W, 3) uint8 RGB; as in the released renders, values are truncated, not rounded.
    """
    covered = fragments.face_index >= 0
    ids = mesh.faces[fragments.face_index[covered]]
    weights = fragments.barycentric[covered][:, :, None].astype(np.float64)
    points = (mesh.vertices[ids] * weights).sum(axis=1)
    normals = _unit((vertex_normals(mesh)[ids] * weights).sum(axis=1))
    texels = (colors[ids] * weights).sum(axis=1)
    to_light = _unit(np.array([0.0, 0.0, camera.spec.light_z]) - points)
    to_camera = _unit(camera.center - points)
    cosine = np.einsum("pk,pk->p", normals, to_light)
    reflected = 2.0 * cosine[:, None] * normals - to_light
    glint = np.maximum(np.einsum("pk,pk->p", to_camera, reflected), 0.0) * (cosine > 0)
    lit = texels * (AMBIENT + DIFFUSE * np.maximum(cosine, 0.0))[:, None] + (SPECULAR * glint**SHININESS)[:, None]
    image = np.full((*covered.shape, 3), 255, dtype=np.uint8)
    image[covered] = (np.clip(lit, 0.0, 1.0) * 255.0).astype(np.uint8)
    return image


def _unit(vectors: NDArray) -> NDArray:
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / np.where(length > 1e-12, length, 1.0)
