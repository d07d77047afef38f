"""Poses of an object in front of the camera, and the parameters that they are optimised in.

Ten numbers per pose, about the centre c of the object's bounding box, which the camera sees at z · (x, y, 1):

    r (6)  the first two columns of the rotation, made orthonormal by Gram–Schmidt
    x, y   where the centre is in the picture: offsets from the axis at unit depth
    a      log(s/z), how large the object looks
    d      log z, how far away it is

One picture tells r, x, y and a, but hardly d. Adam scales every component by itself; if depth and scale were mixed into
the others, its noise in what is barely seen would move what is seen well.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Floats = NDArray[np.float64]

PARAMETERS = 10
ROTATION, CENTRE, SIZE, DEPTH = slice(0, 6), slice(6, 8), 8, 9
# Of the super-Fibonacci spirals on SO(3) (Alexa 2022).
_PHI, _PSI = 2.0**0.5, 1.533751168755204288118041


@dataclass(frozen=True, eq=False)
class Pose:
    """Where an object is: `x_camera = scale · rotation @ X + translation`.

    Attributes
    ----------
    rotation : (3, 3) float64. translation : (3,) float64, metres, optical frame. scale : greater than 0.
    """

    rotation: Floats
    translation: Floats
    scale: float

    def placed(self, points: NDArray) -> Floats:
        """(N, 3) points of the object in the optical frame, metres."""
        result: Floats = self.scale * np.asarray(points, dtype=np.float64) @ self.rotation.T + self.translation
        return result


NOWHERE = Pose(np.eye(3), np.zeros(3), 1.0)


def encode(rotation: Floats, translation: Floats, scale: Floats, centre: Floats) -> Floats:
    """(B, 10) float64 parameters of B poses whose centres are in front of the camera.

    Parameters
    ----------
    rotation, translation, scale : (B, 3, 3), (B, 3), (B,). centre : (3,) metres, object frame.
    """
    middle = scale[:, None] * (rotation @ centre) + translation
    depth = middle[:, 2]
    result: Floats = np.concatenate(
        [
            rotation[:, :, 0],
            rotation[:, :, 1],
            middle[:, :2] / depth[:, None],
            np.log(scale / depth)[:, None],
            np.log(depth)[:, None],
        ],
        axis=1,
    )
    return result


def decode(parameters: Tensor, centre: Tensor, scale: float | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """(B, 3, 3) rotations, (B, 3) translations, (B,) scales of (B, 10) parameters; differentiable.

    Parameters
    ----------
    centre : (3,) float64, metres, object frame.
    scale : a scale that is known: the depth then follows from how large the object looks.
    """
    rotation = rotations(parameters[:, ROTATION])
    log_depth = parameters[:, DEPTH] if scale is None else float(np.log(scale)) - parameters[:, SIZE]
    depth = torch.exp(log_depth)
    size = torch.exp(parameters[:, SIZE] + log_depth)
    middle = torch.cat([parameters[:, CENTRE] * depth[:, None], depth[:, None]], dim=1)
    return rotation, middle - size[:, None] * (rotation @ centre), size


def rotations(six: Tensor) -> Tensor:
    """(B, 3, 3) rotations whose first two columns come from (B, 6) numbers by Gram–Schmidt."""
    first = torch.nn.functional.normalize(six[:, :3], dim=1)
    second = six[:, 3:] - (first * six[:, 3:]).sum(1, keepdim=True) * first
    second = torch.nn.functional.normalize(second, dim=1)
    return torch.stack([first, second, torch.linalg.cross(first, second)], dim=2)


def pose_of(rotation: Tensor, translation: Tensor, scale: Tensor, index: int) -> Pose:
    """One pose of a batch."""
    return Pose(
        rotation[index].detach().numpy().copy(),
        translation[index].detach().numpy().copy(),
        float(scale[index].detach()),
    )


def spread_rotations(count: int) -> Floats:
    """(count, 3, 3) rotations, evenly spread over all there are; always the same."""
    from scipy.spatial.transform import Rotation

    step = np.arange(count) + 0.5
    inner, outer = np.sqrt(step / count), np.sqrt(1.0 - step / count)
    alpha, beta = 2.0 * np.pi * step / _PHI, 2.0 * np.pi * step / _PSI
    quaternions = [inner * np.sin(alpha), inner * np.cos(alpha), outer * np.sin(beta), outer * np.cos(beta)]
    result: Floats = Rotation.from_quat(np.stack(quaternions, axis=1)).as_matrix()
    return result
