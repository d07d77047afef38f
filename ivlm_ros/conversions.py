"""sensor_msgs and detections → the types of `ivlm_core`; strict about sizes, never copying pixels without need.

The pixels of a message are read through a view of its own memory. Writing goes through `array.array`, because rclpy
checks every element of anything else (tens of milliseconds for one image).
"""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ivlm_core.errors import InputError, IvlmError, shown
from ivlm_core.types import MAX_IMAGE_SIDE, ByteArray, CameraIntrinsics, ImageContact, ObjectQuery

if TYPE_CHECKING:
    from sensor_msgs.msg import CameraInfo, CompressedImage, Image
    from std_msgs.msg import Header

    from ivlm_ros.msg import DetectedObject

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


def stamp_ns(header: Header) -> int:
    """The header's stamp in nanoseconds."""
    return int(header.stamp.sec) * 1_000_000_000 + int(header.stamp.nanosec)


def check_image(message: Image, field: str = "image", encodings: dict[str, tuple[int, int]] | None = None) -> None:
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


def rgb_from_image(message: Image) -> ByteArray:
    """The pixels of an Image as (H, W, 3) uint8 RGB; for unpadded rgb8 a view of the message's own memory.

    16-bit grey keeps its upper 8 bits. Alpha is dropped.

    Raises
    ------
    InputError : as `check_image`.
    """
    check_image(message)
    pixels = _pixels(message, COLOR_ENCODINGS[message.encoding])
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


def rgb_from_compressed(message: CompressedImage) -> ByteArray:
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


def mask_from_image(message: Image, image_size: tuple[int, int], field: str = "mask") -> NDArray[np.bool_] | None:
    """A mask as (H, W) bool, or None for the empty message that stands for "no mask".

    Raises
    ------
    InputError : not mono8/8UC1, inconsistent (see `check_image`), or not of `image_size` (H, W).
    """
    if message.width == 0 and message.height == 0 and len(message.data) == 0:
        return None
    check_image(message, field, MASK_ENCODINGS)
    if (message.height, message.width) != tuple(image_size):
        raise InputError(
            f"{field}.width",
            f"the mask is {message.width}×{message.height} px, the image {image_size[1]}×{image_size[0]} px",
            "send masks in the image's size",
        )
    return _pixels(message, (1, 1)).reshape(image_size) != 0


def intrinsics_from_camera_info(message: CameraInfo) -> CameraIntrinsics | None:
    """The pinhole part of a CameraInfo, or None where the camera says that it is not calibrated (fx is 0).

    Raises
    ------
    InputError : naming `camera_info.k`, `.width` or `.height`.
    """
    fx, fy, cx, cy = (float(message.k[index]) for index in (0, 4, 2, 5))
    if fx == 0.0:
        return None
    if not all(math.isfinite(value) for value in message.k) or fx <= 0.0 or fy <= 0.0:
        raise InputError("camera_info.k", f"is fx={fx}, fy={fy}, cx={cx}, cy={cy}", "calibrate the camera")
    for side in ("width", "height"):
        if not 1 <= getattr(message, side) <= MAX_IMAGE_SIDE:
            raise InputError(f"camera_info.{side}", f"is {getattr(message, side)}", "give the image's size in pixels")
    return CameraIntrinsics(fx, fy, cx, cy, int(message.width), int(message.height))


def query_from_object(message: DetectedObject, image_size: tuple[int, int]) -> ObjectQuery:
    """One detection as a query; its box is cut to the image of `image_size` (H, W).

    Raises
    ------
    InputError : naming `object.label`, `.id`, `.score`, `.box` or `.mask.*`.
    """
    height, width = image_size
    sides = (float(message.x_min), float(message.y_min), float(message.x_max), float(message.y_max))
    box = None
    if any(side != 0.0 for side in sides):
        box = sides
        if all(math.isfinite(side) for side in sides) and sides[0] < sides[2] and sides[1] < sides[3]:
            # Pixel centres are whole numbers, so that the image's own edges lie at −0.5.
            x_min, y_min = max(sides[0], -0.5), max(sides[1], -0.5)
            x_max, y_max = min(sides[2], width - 0.5), min(sides[3], height - 0.5)
            if x_min >= x_max or y_min >= y_max:
                raise InputError("object.box", f"{sides} lies outside the {width}×{height} image", "check its units")
            box = (x_min, y_min, x_max, y_max)
    return ObjectQuery(
        label=message.label,
        object_id=message.id,
        score=float(message.score),
        box_xyxy=box,
        mask=mask_from_image(message.mask, image_size, "object.mask"),
        person_id=message.person_id,
    )


def queries_from_objects(
    objects: Sequence[DetectedObject], image_size: tuple[int, int], limit: int = 64
) -> tuple[list[ObjectQuery], list[IvlmError]]:
    """Queries for the usable detections, in their order, and one error for each that was refused.

    Above `limit` only the objects with the highest scores are kept; each of the others is an error too.
    """
    queries: list[ObjectQuery] = []
    errors: list[IvlmError] = []
    kept: Sequence[int] = range(len(objects))
    if len(objects) > limit:
        # NaN compares as neither larger nor smaller; −1 puts such an object last.
        scores = [-1.0 if math.isnan(detection.score) else detection.score for detection in objects]
        kept = sorted(sorted(kept, key=lambda index: -scores[index])[:limit])
        errors.append(InputError("objects", f"{len(objects)} arrived", f"the {limit} with the highest scores are used"))
    for index in kept:
        try:
            queries.append(query_from_object(objects[index], image_size))
        except IvlmError as error:
            errors.append(error)
    return queries, errors


def image_from_rgb(rgb: ByteArray, header: Header) -> Image:
    """(H, W, 3) uint8 RGB as an rgb8 Image with the given header."""
    from sensor_msgs.msg import Image

    message = Image(header=header, height=rgb.shape[0], width=rgb.shape[1], encoding="rgb8", step=3 * rgb.shape[1])
    message.data.frombytes(np.ascontiguousarray(rgb, dtype=np.uint8))  # type: ignore[attr-defined, unused-ignore]
    return message


def image_from_contacts(contacts: Sequence[ImageContact], header: Header) -> Image:
    """Contact on the picture as a mono8 Image of its size: the greatest probability of any object, 0…255 for 0…1."""
    from sensor_msgs.msg import Image

    strongest = np.max([contact.probability for contact in contacts], axis=0)
    grey = np.round(strongest * 255.0).astype(np.uint8)
    message = Image(header=header, height=grey.shape[0], width=grey.shape[1], encoding="mono8", step=grey.shape[1])
    message.data.frombytes(grey)  # type: ignore[attr-defined, unused-ignore]
    return message


def _pixels(message: Any, layout: tuple[int, int]) -> NDArray:
    """(H, W, C) view of a checked message's data, row padding cut off; 16-bit samples come as their upper 8 bits."""
    channels, size = layout
    rows = np.frombuffer(message.data, np.uint8).reshape(message.height, message.step)
    samples = rows[:, : message.width * channels * size].reshape(message.height, message.width, channels * size)
    if size == 1:
        return samples
    upper = 0 if message.is_bigendian else 1
    return samples[..., upper::2]
