"""The pinhole camera of a generated scene: world (metres, y up) → optical frame (x right, y down, z forward)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ivlm_core.errors import InputError
from ivlm_core.types import CameraIntrinsics

DEFAULT_INTRINSICS = CameraIntrinsics(fx=600.0, fy=600.0, cx=319.5, cy=239.5, width=640, height=480)


@dataclass(frozen=True, eq=False)
class SceneCamera:
    """Where a camera stands and how it looks.

    Attributes
    ----------
    intrinsics : focal lengths and principal point in pixels, integer coordinates at pixel centres.
    rotation : (3, 3) float64; its rows are the optical frame's x, y and z axes in the world.
    position : (3,) float64, metres, the optical centre in the world.
    """

    intrinsics: CameraIntrinsics
    rotation: NDArray[np.float64]
    position: NDArray[np.float64]

    @classmethod
    def look_at(cls, position: Any, target: Any, intrinsics: CameraIntrinsics = DEFAULT_INTRINSICS) -> SceneCamera:
        """A level camera (its x axis is horizontal) at `position` (3,) that sees `target` (3,) in its middle, metres.

        Raises
        ------
        InputError : the two points are equal, or one is straight above the other.
        """
        position = np.asarray(position, dtype=np.float64)
        forward = np.asarray(target, dtype=np.float64) - position
        right = np.cross(forward, [0.0, 1.0, 0.0])
        if np.linalg.norm(right) < 1e-6:
            raise InputError("camera.target", f"is straight above or below {position.tolist()}", "move one of them")
        forward = forward / np.linalg.norm(forward)
        right = right / np.linalg.norm(right)
        return cls(intrinsics, np.stack([right, np.cross(forward, right), forward]), position)

    @classmethod
    def orbit(
        cls,
        target: Any,
        distance: float,
        azimuth: float,
        elevation: float,
        intrinsics: CameraIntrinsics = DEFAULT_INTRINSICS,
    ) -> SceneCamera:
        """A camera `distance` metres from `target`; azimuth 0° is on the +z side, 90° on the +x side; degrees."""
        turn, rise = np.radians([azimuth, elevation])
        offset = np.array([np.cos(rise) * np.sin(turn), np.sin(rise), np.cos(rise) * np.cos(turn)])
        target = np.asarray(target, dtype=np.float64)
        return cls.look_at(target + distance * offset, target, intrinsics)

    def to_optical(self, points: NDArray[Any]) -> NDArray[np.float64]:
        """World points (N, 3) in the optical frame, metres."""
        seen: NDArray[np.float64] = (np.asarray(points, dtype=np.float64) - self.position) @ self.rotation.T
        return seen

    def project(self, points: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Pixels (N, 2) x right, y down, and depths (N,) in metres of world points (N, 3); behind the camera: NaN."""
        optical = self.to_optical(points)
        depth = optical[:, 2]
        with np.errstate(divide="ignore", invalid="ignore"):
            plane = np.where(depth[:, None] > 0, optical[:, :2] / depth[:, None], np.nan)
        camera = self.intrinsics
        return plane * [camera.fx, camera.fy] + [camera.cx, camera.cy], depth

    def rays(self, oversampling: int = 1) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """One ray per pixel centre, or `oversampling`² evenly spread ones per pixel.

        Returns
        -------
        The origin (3,) and the directions (H·s, W·s, 3), float32, in the world. Directions have unit length along the
        optical axis, so that the ray parameter of a hit is its depth in metres.
        """
        camera = self.intrinsics
        steps = (np.arange(oversampling) + 0.5) / oversampling - 0.5
        x = (np.arange(camera.width)[:, None] + steps).ravel()
        y = (np.arange(camera.height)[:, None] + steps).ravel()
        optical = np.ones((len(y), len(x), 3))
        optical[..., 0] = (x - camera.cx) / camera.fx
        optical[..., 1] = ((y - camera.cy) / camera.fy)[:, None]
        return self.position.astype(np.float32), (optical @ self.rotation).astype(np.float32)
