"""What a camera does to its picture: lens distortion taken out, and depth brought over from another camera.

Pixel coordinates are whole numbers at pixel centres; frames are optical (+x right, +y down, +z forward, metres).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ivlm_core.errors import InputError, shown
from ivlm_core.types import BodyKeypoints, ByteArray, CameraIntrinsics, FloatArray

# Distortion model → how many coefficients it may have. All but the last are OpenCV's one model, of growing length.
DISTORTION_MODELS = {
    "plumb_bob": (4, 5),
    "rational_polynomial": (8, 12, 14),
    "equidistant": (4,),
}
# Points across a box, each way, whose rectified places bound the rectified box.
BOX_SAMPLES = 5
# Undistorting searches for a point; what it finds must come back to within this many pixels when it is distorted again.
SEARCH_PIXELS = 0.5
# A depth pixel is spread over at most this many colour pixels a side.
LARGEST_SPREAD = 4

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Rectifier:
    """Takes a lens's distortion out of a picture and of what was found in it.

    Attributes
    ----------
    raw : the camera as it is. target : the pinhole camera whose picture is made; the same size in pixels.
    model, coefficients : the distortion, as `sensor_msgs/CameraInfo` names and orders it.

    Raises
    ------
    InputError : an unknown model, a wrong number of coefficients, or one that is not finite.
    """

    raw: CameraIntrinsics
    target: CameraIntrinsics
    model: str
    coefficients: tuple[float, ...]

    def __post_init__(self) -> None:
        if self.model not in DISTORTION_MODELS:
            raise InputError(
                "camera_info.distortion_model",
                f"is {shown(self.model)}, which is not supported",
                f"use {', '.join(DISTORTION_MODELS)}, or publish rectified images",
            )
        wanted = DISTORTION_MODELS[self.model]
        if len(self.coefficients) not in wanted:
            numbers = " or ".join(str(count) for count in wanted)
            raise InputError(
                "camera_info.d", f"has {len(self.coefficients)} coefficients", f"{self.model} has {numbers}"
            )
        if not np.isfinite(self.coefficients).all():
            raise InputError("camera_info.d", "holds NaN or infinity", "calibrate the camera")

    def picture(self, image: ByteArray) -> ByteArray:
        """(H, W, 3) uint8 with the distortion taken out; black where the camera did not look."""
        import cv2

        return np.asarray(cv2.remap(image, *self._maps, cv2.INTER_LINEAR), np.uint8)

    def mask(self, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """(H, W) bool, likewise."""
        import cv2

        return np.asarray(cv2.remap(mask.astype(np.uint8), *self._maps, cv2.INTER_NEAREST), np.uint8) > 0

    def depth(self, depth: FloatArray) -> FloatArray:
        """(H, W) float32 metres, likewise; NaN where the camera did not look. Values are never mixed."""
        import cv2

        nothing = (float("nan"),) * 4
        moved = cv2.remap(depth, *self._maps, cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT, borderValue=nothing)
        return np.asarray(moved, np.float32)

    def points(self, points: ArrayLike) -> FloatArray:
        """(K, 2) pixels of the raw picture → pixels of the rectified one; NaN where the lens shows no such place."""
        import cv2

        given = np.asarray(points, np.float64).reshape(-1, 1, 2)
        if not len(given):
            return np.zeros((0, 2), np.float32)
        numbers, target = np.array(self.coefficients), _matrix(self.target)
        if self.model == "equidistant":
            moved = cv2.fisheye.undistortPoints(given, _matrix(self.raw), numbers, P=target)
        else:
            moved = cv2.undistortPoints(given, _matrix(self.raw), numbers, P=target)
        found = np.asarray(moved, np.float64).reshape(-1, 2)
        with np.errstate(invalid="ignore", over="ignore"):
            apart = np.abs(self._distorted(found) - given.reshape(-1, 2)).max(axis=1)
            found[~(apart <= SEARCH_PIXELS)] = np.nan
        return found.astype(np.float32)

    def _distorted(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """(K, 2) pixels of the rectified picture → pixels of the raw one."""
        import cv2

        rays = (points - (self.target.cx, self.target.cy)) / (self.target.fx, self.target.fy)
        if self.model == "equidistant":
            seen = cv2.fisheye.distortPoints(rays.reshape(-1, 1, 2), _matrix(self.raw), np.array(self.coefficients))
        else:
            ahead = np.concatenate([rays, np.ones((len(rays), 1))], axis=1)
            seen, _ = cv2.projectPoints(ahead, np.zeros(3), np.zeros(3), _matrix(self.raw), np.array(self.coefficients))
        return np.asarray(seen, np.float64).reshape(-1, 2)

    def box(self, box: Box) -> Box:
        """The rectified picture's box around what a box of the raw one holds, within the picture.

        Raises
        ------
        InputError : nothing of it lies in the rectified picture.
        """
        steps = np.linspace(0.0, 1.0, BOX_SAMPLES)
        x, y = box[0] + steps * (box[2] - box[0]), box[1] + steps * (box[3] - box[1])
        moved = self.points(np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2))
        moved = moved[np.isfinite(moved).all(axis=1)]
        low = np.maximum(moved.min(axis=0, initial=np.inf), -0.5)
        high = np.minimum(moved.max(axis=0, initial=-np.inf), (self.target.width - 0.5, self.target.height - 0.5))
        if not (low < high).all():
            raise InputError("object.box", f"{box} lies where the rectified picture has nothing", "check its units")
        return float(low[0]), float(low[1]), float(high[0]), float(high[1])

    def keypoints(self, person: BodyKeypoints) -> BodyKeypoints:
        """A person's joints in the rectified picture."""
        # What was not found has no place, and may not be a number at all.
        known = person.scores > 0
        points = np.zeros_like(person.points)
        points[known] = self.points(person.points[known])
        lost = np.isnan(points[:, 0])
        return BodyKeypoints(np.where(lost[:, None], 0, points), np.where(lost, 0, person.scores), person.person_id)

    def back(self, values: FloatArray) -> FloatArray:
        """(H, W) values of the rectified picture, on the raw picture's pixels; 0 outside."""
        import cv2

        return np.asarray(cv2.remap(values, *self._maps_back, cv2.INTER_LINEAR), np.float32)

    @cached_property
    def _maps_back(self) -> tuple[FloatArray, FloatArray]:
        rows, columns = np.mgrid[0 : self.raw.height, 0 : self.raw.width]
        places = self.points(np.stack([columns, rows], axis=-1).reshape(-1, 2))
        # What has no place comes from outside of the picture.
        maps = np.nan_to_num(places, nan=-2.0).reshape(self.raw.height, self.raw.width, 2)
        return np.ascontiguousarray(maps[..., 0]), np.ascontiguousarray(maps[..., 1])

    @cached_property
    def _maps(self) -> tuple[NDArray, NDArray]:
        import cv2

        size = (self.target.width, self.target.height)
        lens = _matrix(self.raw), np.array(self.coefficients), np.eye(3), _matrix(self.target), size, cv2.CV_16SC2
        if self.model == "equidistant":
            maps = cv2.fisheye.initUndistortRectifyMap(*lens)
        else:
            maps = cv2.initUndistortRectifyMap(*lens)
        return np.asarray(maps[0]), np.asarray(maps[1])


def register_depth(
    depth: FloatArray,
    camera: CameraIntrinsics,
    target: CameraIntrinsics,
    transform: ArrayLike | None = None,
) -> FloatArray:
    """Depth as another camera would have measured it: each pixel goes to its point in space and into the other picture.

    Where several points fall on one pixel the nearest counts. What the depth camera did not see stays unknown.

    Parameters
    ----------
    depth : (h, w) float32 metres along the depth camera's axis, NaN where unknown.
    camera, target : the depth camera, of that size, and the camera whose picture the result is for.
    transform : (4, 4) from the depth camera's optical frame to the target's, metres; None where they are the same.

    Returns
    -------
    (H, W) float32 metres along the target's axis, NaN where unknown.
    """
    places = np.eye(4) if transform is None else np.asarray(transform, np.float64)
    rows, columns = np.nonzero(np.isfinite(depth))
    far = depth[rows, columns].astype(np.float64)
    # A pixel of a coarse depth camera covers several of a fine colour camera, and must leave no gaps between them.
    ratio = max(target.fx / camera.fx, target.fy / camera.fy)
    spread = int(np.clip(np.ceil(ratio), 1, LARGEST_SPREAD))
    steps = (np.arange(spread) + 0.5) / spread - 0.5
    nearest = np.full(target.height * target.width, np.inf)
    for down in steps:
        for right in steps:
            x = (columns + right - camera.cx) / camera.fx * far
            y = (rows + down - camera.cy) / camera.fy * far
            moved = places[:3, :3] @ np.stack([x, y, far]) + places[:3, 3:]
            _put(nearest, moved[:, moved[2] > 0], target)
    nearest[np.isinf(nearest)] = np.nan
    return nearest.reshape(target.height, target.width).astype(np.float32)


def _put(nearest: NDArray[np.float64], points: NDArray[np.float64], target: CameraIntrinsics) -> None:
    """Lower each pixel of the flat picture to the nearest of the (3, M) points that fall on it."""
    column = np.rint(points[0] / points[2] * target.fx + target.cx)
    row = np.rint(points[1] / points[2] * target.fy + target.cy)
    inside = (column >= 0) & (column < target.width) & (row >= 0) & (row < target.height)
    pixels = (row[inside] * target.width + column[inside]).astype(np.int64)
    np.minimum.at(nearest, pixels, points[2, inside])


def _matrix(camera: CameraIntrinsics) -> NDArray[np.float64]:
    return np.array([[camera.fx, 0.0, camera.cx], [0.0, camera.fy, camera.cy], [0.0, 0.0, 1.0]])
