"""The silhouette by PyTorch3D's soft rasteriser, with the released version's settings, where it is installed."""

from __future__ import annotations

import importlib.util
import math

import torch
from numpy.typing import NDArray
from torch import Tensor

from ivlm_core.errors import ConfigError
from ivlm_core.types import CameraIntrinsics

SIGMA = 1e-4
GAMMA = 1e-4
FACES_PER_PIXEL = 100


def soft_coverage(
    vertices: NDArray, faces: NDArray, rotation: Tensor, translation: Tensor, scale: Tensor, camera: CameraIntrinsics
) -> tuple[Tensor, Tensor, Tensor]:
    """Soft coverage of every pixel of the raster in B poses: (P,) float32 values, poses and pixels, P = B·height·width.

    Parameters
    ----------
    vertices : (N, 3) metres, object frame. faces : (F, 3).
    rotation, translation, scale : (B, 3, 3), (B, 3), (B,), optical frame. camera : of the raster.

    Raises
    ------
    ConfigError : PyTorch3D is not installed.
    """
    if importlib.util.find_spec("pytorch3d") is None:
        raise ConfigError(
            "silhouette backend", "pytorch3d is not installed", "build it from its source, or use the 'rays' backend"
        )
    from pytorch3d.renderer import (
        BlendParams,
        MeshRasterizer,
        MeshRenderer,
        PerspectiveCameras,
        RasterizationSettings,
        SoftSilhouetteShader,
    )
    from pytorch3d.structures import Meshes

    count = len(scale)
    placed = scale[:, None, None] * (torch.as_tensor(vertices, dtype=scale.dtype) @ rotation.transpose(1, 2))
    # Its cameras look along +z with x to the left and y up; its pixel centres lie at halves.
    seen = (placed + translation[:, None]) * torch.tensor([-1.0, -1.0, 1.0], dtype=scale.dtype)
    meshes = Meshes(list(seen.float()), [torch.as_tensor(faces, dtype=torch.int64)] * count)
    cameras = PerspectiveCameras(
        focal_length=((camera.fx, camera.fy),),
        principal_point=((camera.cx + 0.5, camera.cy + 0.5),),
        in_ndc=False,
        image_size=((camera.height, camera.width),),
    )
    settings = RasterizationSettings(
        image_size=(camera.height, camera.width),
        blur_radius=math.log(1.0 / 1e-4 - 1.0) * SIGMA,
        faces_per_pixel=FACES_PER_PIXEL,
    )
    shader = SoftSilhouetteShader(blend_params=BlendParams(sigma=SIGMA, gamma=GAMMA))
    renderer = MeshRenderer(MeshRasterizer(cameras=cameras, raster_settings=settings), shader)
    values = renderer(meshes)[..., 3].reshape(-1)
    size = camera.height * camera.width
    every = torch.arange(count * size)
    return values, every // size, every % size
