"""What one object looks like in one frame, and the same at the resolutions that a fit goes through."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ivlm_core.errors import InputError
from ivlm_core.reconstruct.patches import ContactPoints
from ivlm_core.types import CameraIntrinsics, FloatArray, PosedBody

# The window around the mask, in sides of the mask's box on each side: what covers pixels further out is far off anyway.
WINDOW_MARGIN = 1.5
LEAST_MARGIN = 8  # pixels

Bools = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Observation:
    """Everything about one object in one frame.

    Attributes
    ----------
    intrinsics : the camera.
    mask : (H, W) bool, the object's pixels.
    valid : (H, W) bool, pixels that count in mask terms; False where the person hides what is behind.
    depth : (H, W) float32 metres along the optical axis, NaN where unknown; or None.
    body : the person, optical frame; or None.
    human : contact on the posed body, optical frame; or None. thing : on the object, in its own frame; or None.

    Raises
    ------
    InputError : mask, valid and depth of different shapes.
    """

    intrinsics: CameraIntrinsics
    mask: Bools
    valid: Bools
    depth: FloatArray | None = None
    body: PosedBody | None = None
    human: ContactPoints | None = None
    thing: ContactPoints | None = None

    def __post_init__(self) -> None:
        shapes = [np.shape(part) for part in (self.mask, self.valid, self.depth) if part is not None]
        if len(shapes[0]) != 2 or any(shape != shapes[0] for shape in shapes):
            raise InputError("observation", f"has pictures of shapes {shapes}", "give (H, W) each, all of one size")
        object.__setattr__(self, "mask", np.asarray(self.mask, dtype=bool) & np.asarray(self.valid, dtype=bool))
        object.__setattr__(self, "valid", np.asarray(self.valid, dtype=bool))

    @property
    def both_contacts(self) -> bool:
        """Whether contact is known on both sides."""
        return self.human is not None and self.thing is not None

    def known_depths(self) -> FloatArray:
        """(n,) metres: the depth image on the object's pixels, where it is known."""
        if self.depth is None:
            return np.zeros(0, dtype=np.float32)
        values = self.depth[self.mask]
        return values[np.isfinite(values) & (values > 0)]


@dataclass(frozen=True, eq=False)
class Target:
    """A window around the object's mask at one resolution.

    Attributes
    ----------
    camera : of the window's raster. stride : pixels of the image along the side of one of the window.
    mask, valid : (height · width,) float32 tensors in [0, 1]: the shares of each pixel.
    depth : (height · width,) float64 tensor, metres, NaN where unknown or not on the object; or None.
    area : of the mask in pixels. middle : (2,) x, y of its centroid. side : longer side of its box. All of the window.
    """

    camera: CameraIntrinsics
    stride: int
    mask: Tensor
    valid: Tensor
    depth: Tensor | None
    area: float
    middle: Tensor
    side: float


def target(seen: Observation, long_side: int, expected: float = 0.0) -> Target:
    """The window in which the mask's box is about `long_side` pixels long; never finer than the image.

    Parameters
    ----------
    seen : with a mask that has a pixel.
    expected : how large the whole object may look, in pixels of the image. Where little of a large object is seen, the
        window reaches as far as the object does, and is coarser: half the object then counts as the mask's box.
    """
    left, top, right, bottom = mask_box(seen.mask)
    side = max(right - left, bottom - top)
    expected = min(expected, float(max(seen.mask.shape)))
    stride = max(1, round(max(side, 0.5 * expected) / long_side))
    margin = max(int(max(WINDOW_MARGIN * side, expected)), LEAST_MARGIN)
    rows, columns = seen.mask.shape
    left, top = max(left - margin, 0), max(top - margin, 0)
    right, bottom = min(right + margin, columns), min(bottom + margin, rows)
    width, height = -(-(right - left) // stride), -(-(bottom - top) // stride)
    window = (slice(top, bottom), slice(left, right))

    mask = _averaged(seen.mask[window], height, width, stride)
    valid = _averaged(seen.valid[window], height, width, stride)
    depth = None
    if seen.depth is not None:
        known = np.where(seen.mask & (seen.depth > 0), seen.depth, np.nan)[window].astype(np.float64)
        # One pixel of each block: averages over an edge are the depth of nothing.
        sampled = np.full((height, width), np.nan)
        middle = known[stride // 2 :: stride, stride // 2 :: stride]
        sampled[: middle.shape[0], : middle.shape[1]] = middle
        depth = torch.from_numpy(sampled.reshape(-1))
    row, column = np.mgrid[:height, :width]
    area = float(mask.sum())
    return Target(
        shrunk(seen.intrinsics, left, top, stride, width, height),
        stride,
        torch.from_numpy(mask.reshape(-1)),
        torch.from_numpy(valid.reshape(-1)),
        depth,
        area,
        torch.tensor([(column * mask).sum() / area, (row * mask).sum() / area], dtype=torch.float64),
        side / stride,
    )


def shrunk(camera: CameraIntrinsics, left: int, top: int, stride: int, width: int, height: int) -> CameraIntrinsics:
    """The camera of a window whose pixels are blocks of stride × stride pixels, the first at (left, top)."""
    offset = (stride - 1) / 2
    return CameraIntrinsics(
        camera.fx / stride,
        camera.fy / stride,
        (camera.cx - left - offset) / stride,
        (camera.cy - top - offset) / stride,
        width,
        height,
    )


def mask_box(mask: Bools) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of the pixels that are set, the latter two exclusive; there must be one."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _averaged(picture: Bools, height: int, width: int, stride: int) -> FloatArray:
    """(height, width) float32 means of blocks; what lies beyond the picture counts as 0."""
    padded = np.zeros((height * stride, width * stride), dtype=np.float32)
    padded[: picture.shape[0], : picture.shape[1]] = picture
    means: FloatArray = padded.reshape(height, stride, width, stride).mean(axis=(1, 3))
    return means
