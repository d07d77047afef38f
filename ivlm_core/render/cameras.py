"""View cameras in PyTorch3D's convention: row vectors, +x left, +y up, +z into the scene, field of view 60°."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from ivlm_core.errors import ConfigError

FIELD_OF_VIEW_DEG = 60.0


@dataclass(frozen=True)
class ViewSpec:
    """Where a view camera stands: it looks at the origin, then the image is shifted.

    Attributes
    ----------
    distance : metres from the origin (in units of the object's longest side for normalised objects).
    elevation, azimuth : degrees; azimuth 0 looks at the front (+z side), 90 at the +x side.
    x_shift, y_shift : metres, added to the camera's translation.
    light_z : z of the point light at (0, 0, light_z), metres; the released renders use ±3.
    """

    distance: float
    elevation: float
    azimuth: float
    x_shift: float = 0.0
    y_shift: float = 0.0
    light_z: float = 3.0

    def __post_init__(self) -> None:
        if not np.isfinite(self.parameters).all() or self.distance <= 0:
            raise ConfigError("view", f"is {self.parameters}", "give finite numbers and a distance above 0")

    @property
    def parameters(self) -> tuple[float, float, float, float, float]:
        """Distance, elevation°, azimuth°, x shift, y shift: what FeatLift is conditioned on."""
        return (self.distance, self.elevation, self.azimuth, self.x_shift, self.y_shift)


# The cameras and lights of the released renders. The lights follow the order in which the released data script lists
# the views, which is why both bottom views of the body are lit from their far side.
HUMAN_VIEWS = MappingProxyType(
    {
        "topfront": ViewSpec(2.0, 45.0, 315.0, light_z=3.0),
        "bottomfront": ViewSpec(2.0, 315.0, 315.0, 0.0, 0.3, light_z=-3.0),
        "topback": ViewSpec(2.0, 45.0, 135.0, light_z=-3.0),
        "bottomback": ViewSpec(2.0, 315.0, 135.0, 0.0, 0.3, light_z=3.0),
    }
)
OBJECT_VIEWS = MappingProxyType(
    {
        "frontleft": ViewSpec(2.0, 45.0, 315.0, light_z=3.0),
        "frontright": ViewSpec(2.0, 45.0, 45.0, light_z=3.0),
        "backleft": ViewSpec(2.0, 330.0, 135.0, light_z=-3.0),
        "backright": ViewSpec(2.0, 330.0, 225.0, light_z=-3.0),
    }
)


@dataclass(frozen=True)
class ViewCamera:
    """One pinhole view camera: `x_camera = x_world @ R + T`.

    Attributes
    ----------
    R : (3, 3) float64, its columns the camera's left, up and forward axes in the world.
    T : (3,) float64 metres.
    spec : the view it was made from.
    """

    R: NDArray[np.float64]
    T: NDArray[np.float64]
    spec: ViewSpec

    @classmethod
    def from_spec(cls, spec: ViewSpec) -> ViewCamera:
        """The camera that looks from `spec`'s direction at the origin with +y up, then shifted in camera space."""
        elevation, azimuth = np.deg2rad([spec.elevation, spec.azimuth])
        position = spec.distance * np.array(
            [np.cos(elevation) * np.sin(azimuth), np.sin(elevation), np.cos(elevation) * np.cos(azimuth)]
        )
        forward = -position / np.linalg.norm(position)
        left = np.cross([0.0, 1.0, 0.0], forward)
        if np.linalg.norm(left) < 1e-5:
            # Straight above or below the up vector gives no left axis; any horizontal one serves.
            left = np.array([1.0, 0.0, 0.0])
        left /= np.linalg.norm(left)
        up = np.cross(forward, left)
        rotation = np.stack([left, up / np.linalg.norm(up), forward], axis=1)
        translation = -position @ rotation + np.array([spec.x_shift, spec.y_shift, 0.0])
        return cls(rotation, translation, spec)

    @cached_property
    def center(self) -> NDArray[np.float64]:
        """(3,) the camera's position in the world, metres."""
        return -self.T @ self.R.T

    @property
    def tangent(self) -> float:
        return float(np.tan(np.deg2rad(FIELD_OF_VIEW_DEG / 2)))

    def project(self, points: NDArray) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """World points to the image.

        Parameters
        ----------
        points : (N, 3) metres, world frame.

        Returns
        -------
        position : (N, 2) x right and y down in units of the image side, 0…1 inside; pixel `j` spans j/W…(j+1)/W.
        depth : (N,) metres along the viewing axis; positions of points with depth ≤ 0 mean nothing.
        """
        camera = np.asarray(points, dtype=np.float64) @ self.R + self.T
        depth = camera[:, 2]
        scale = self.tangent * np.where(depth > 0, depth, 1.0)
        return 0.5 - 0.5 * camera[:, :2] / scale[:, None], depth

    def pixel_rays(self, image_size: int) -> NDArray[np.float32]:
        """(H, W, 6) float32 origins and directions through the pixel centres; the hit parameter is the depth."""
        ndc = 1.0 - (2.0 * np.arange(image_size) + 1.0) / image_size
        directions = np.ones((image_size, image_size, 3))
        directions[..., 0] = ndc[None, :] * self.tangent
        directions[..., 1] = ndc[:, None] * self.tangent
        rays = np.empty((image_size, image_size, 6), dtype=np.float32)
        rays[..., :3] = self.center
        rays[..., 3:] = directions @ self.R.T
        return rays
