"""sensor_msgs pictures and cameras as arrays; strict about sizes, never copying pixels without need.

The messages may be those of rclpy or those that `rosbags` reads: only their fields are looked at, and the pixels are
read through a view of the message's own memory.
"""

from __future__ import annotations

import io
import math
import warnings
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ivlm_core.cameras import Rectifier
from ivlm_core.errors import InputError, IvlmError, shown
from ivlm_core.types import MAX_IMAGE_SIDE, ByteArray, CameraIntrinsics

# encoding → (channels, bytes per channel). 8UC3 is what OpenCV-based drivers call BGR.
COLOR_ENCODINGS = {
    "rgb8": (3, 1),
    "bgr8": (3, 1),
    "8UC3": (3, 1),
    "rgba8": (4, 1),
    "bgra8": (4, 1),
    "8UC4": (4, 1),
    "mono8": (1, 1),
    "8UC1": (1, 1),
    "mono16": (1, 2),
}
MASK_ENCODINGS = {"mono8": (1, 1), "8UC1": (1, 1)}
MAX_COMPRESSED_BYTES = 64 * 2**20


def stamp_ns(header: Any) -> int:
    """The header's stamp in nanoseconds."""
    return int(header.stamp.sec) * 1_000_000_000 + int(header.stamp.nanosec)


def check_image(message: Any, field: str = "image", encodings: dict[str, tuple[int, int]] | None = None) -> None:
    """Refuse an image whose size, encoding, step and data do not agree; looks at no pixel.

    Raises
    ------
    InputError : naming `<field>.encoding`, `.width`, `.height`, `.step` or `.data`.
    """
    known = COLOR_ENCODINGS if encodings is None else encodings
    if message.encoding not in known:
        hint = f"use one of {', '.join(known)}"
        if message.encoding.startswith("bayer_"):
            hint = "subscribe to the debayered topic (image_proc makes it)"
        elif message.encoding in ("16UC1", "32FC1"):
            hint = "this is a depth image: subscribe to the colour topic"
        raise InputError(f"{field}.encoding", f"is {shown(message.encoding)}, which is not supported", hint)
    for side in ("width", "height"):
        length = getattr(message, side)
        if not 1 <= length <= MAX_IMAGE_SIDE:
            raise InputError(f"{field}.{side}", f"is {length}", f"1 to {MAX_IMAGE_SIDE} pixels are allowed")
    channels, size = known[message.encoding]
    row = message.width * channels * size
    if message.step < row:
        raise InputError(
            f"{field}.step",
            f"is {message.step}, but {message.width} pixels of {message.encoding} need {row} bytes",
            "fill in the full row length in bytes",
        )
    if len(message.data) != message.step * message.height:
        raise InputError(
            f"{field}.data",
            f"holds {len(message.data)} bytes, but height × step is {message.step * message.height}",
            "send the whole image, padding included",
        )


def rgb_from_image(message: Any) -> ByteArray:
    """The pixels of an Image as (H, W, 3) uint8 RGB; for unpadded rgb8 a view of the message's own memory.

    16-bit grey keeps its upper 8 bits. Alpha is dropped.

    Raises
    ------
    InputError : as `check_image`.
    """
    check_image(message)
    pixels = image_pixels(message, COLOR_ENCODINGS[message.encoding])
    if message.encoding == "rgb8":
        return pixels if pixels.flags.c_contiguous else np.ascontiguousarray(pixels)
    import cv2

    code = {
        "bgr8": cv2.COLOR_BGR2RGB,
        "8UC3": cv2.COLOR_BGR2RGB,
        "rgba8": cv2.COLOR_RGBA2RGB,
        "bgra8": cv2.COLOR_BGRA2RGB,
        "8UC4": cv2.COLOR_BGRA2RGB,
    }.get(message.encoding, cv2.COLOR_GRAY2RGB)
    return np.asarray(cv2.cvtColor(np.ascontiguousarray(pixels), code), np.uint8)


def rgb_from_compressed(message: Any) -> ByteArray:
    """The pixels of a JPEG or PNG CompressedImage as (H, W, 3) uint8 RGB.

    The size is read before anything is decoded. An orientation tag is ignored, as everywhere on the image's way.

    Raises
    ------
    InputError : naming `image.format` or `image.data`.
    """
    from PIL import Image as PilImage

    if "compressedDepth" in message.format:
        raise InputError("image.format", f"is {shown(message.format)}", "subscribe to the colour image's topic")
    if not 0 < len(message.data) <= MAX_COMPRESSED_BYTES:
        raise InputError("image.data", f"holds {len(message.data)} bytes", f"1 to {MAX_COMPRESSED_BYTES} are allowed")
    try:
        with warnings.catch_warnings():
            # Pillow only warns about suspiciously large pictures; the check of the size below is the stricter one.
            warnings.simplefilter("ignore", PilImage.DecompressionBombWarning)
            with PilImage.open(io.BytesIO(bytes(message.data)), formats=("JPEG", "PNG")) as picture:
                if max(picture.size) > MAX_IMAGE_SIDE:
                    raise InputError("image.data", f"is a picture of {picture.size} px", f"{MAX_IMAGE_SIDE} a side")
                if picture.mode.startswith("I"):
                    grey = (np.asarray(picture, np.uint32) >> 8).clip(0, 255).astype(np.uint8)
                    return np.repeat(grey[..., None], 3, axis=2)
                return np.array(picture.convert("RGB"))
    except IvlmError:
        raise
    # Pillow's decoders raise many kinds for damaged data (OSError, SyntaxError, struct.error, zlib.error, …).
    except Exception as error:
        raise InputError(
            "image.data",
            f"is no JPEG or PNG picture that can be read ({type(error).__name__}); format says {shown(message.format)}",
            "send whole JPEG or PNG pictures",
        ) from error


def camera_from_info(message: Any, rectify: bool = False) -> tuple[CameraIntrinsics | None, Rectifier | None]:
    """The pinhole camera of a picture and, where the picture is still to be rectified, what rectifies it.

    Parameters
    ----------
    message : a CameraInfo; its K and D belong to the raw picture, its P to the rectified one; region of interest and
        binning count.
    rectify : whether the picture is the raw one. Else P is its camera, or K where no P is given.

    Returns
    -------
    the camera after rectification, or None where the message says that it is not calibrated (fx is 0); None in place of
    the second where nothing is to be done.

    Raises
    ------
    InputError : naming `camera_info.k`, `.p`, `.d`, `.distortion_model`, `.width` or `.height`.
    """
    raw = _pinhole(message, "k", (0, 4, 2, 5))
    if raw is None:
        return None, None
    target = _pinhole(message, "p", (0, 5, 2, 6)) or raw
    if not rectify:
        return target, None
    # An equidistant lens bends with all of its coefficients 0, too.
    if not len(message.d) or (message.distortion_model != "equidistant" and not any(message.d)):
        return raw, None
    return target, _rectifier(raw, target, str(message.distortion_model), tuple(float(value) for value in message.d))


def intrinsics_from_camera_info(message: Any) -> CameraIntrinsics | None:
    """The camera of a rectified picture, or None where it is not calibrated; see `camera_from_info`."""
    return camera_from_info(message)[0]


# Building the maps takes longer than using them.
@lru_cache(maxsize=4)
def _rectifier(raw: CameraIntrinsics, target: CameraIntrinsics, model: str, numbers: tuple[float, ...]) -> Rectifier:
    return Rectifier(raw, target, model, numbers)


def _pinhole(message: Any, name: str, places: tuple[int, ...]) -> CameraIntrinsics | None:
    """The camera in a matrix of the message, for the part of the sensor that is in the picture; None where fx is 0."""
    matrix = getattr(message, name)
    fx, fy, cx, cy = (float(matrix[place]) for place in places)
    if fx == 0.0:
        return None
    if not all(math.isfinite(value) for value in matrix) or fx <= 0.0 or fy <= 0.0:
        raise InputError(f"camera_info.{name}", f"is fx={fx}, fy={fy}, cx={cx}, cy={cy}", "calibrate the camera")
    for side in ("width", "height"):
        if not 1 <= getattr(message, side) <= MAX_IMAGE_SIDE:
            raise InputError(f"camera_info.{side}", f"is {getattr(message, side)}", "give the image's size in pixels")
    roi, across, down = message.roi, max(1, int(message.binning_x)), max(1, int(message.binning_y))
    # A region without a size stands for the whole sensor.
    left, top = (int(roi.x_offset), int(roi.y_offset)) if roi.width and roi.height else (0, 0)
    width, height = (roi.width, roi.height) if roi.width and roi.height else (message.width, message.height)
    return CameraIntrinsics(
        fx / across, fy / down, (cx - left) / across, (cy - top) / down, int(width) // across, int(height) // down
    )


def image_pixels(message: Any, layout: tuple[int, int]) -> NDArray[np.uint8]:
    """(H, W, C) view of a checked message's data, row padding cut off; 16-bit samples come as their upper 8 bits."""
    channels, size = layout
    rows = np.frombuffer(message.data, np.uint8).reshape(message.height, message.step)
    samples = rows[:, : message.width * channels * size].reshape(message.height, message.width, channels * size)
    if size == 1:
        return samples
    upper = 0 if message.is_bigendian else 1
    return samples[..., upper::2]
