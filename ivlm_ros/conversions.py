"""sensor_msgs and detections → the types of `ivlm_core`; strict about sizes, never copying pixels without need.

The pixels of a message are read through a view of its own memory. Writing goes through `array.array`, because rclpy
checks every element of anything else (tens of milliseconds for one image).
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ivlm_core.datasets.image_messages import (
    COLOR_ENCODINGS,
    MASK_ENCODINGS,
    MAX_COMPRESSED_BYTES,
    camera_from_info,
    check_image,
    image_pixels,
    intrinsics_from_camera_info,
    rgb_from_compressed,
    rgb_from_image,
    stamp_ns,
)
from ivlm_core.errors import InputError, IvlmError
from ivlm_core.types import ByteArray, ImageContact, ObjectQuery

if TYPE_CHECKING:
    from sensor_msgs.msg import Image
    from std_msgs.msg import Header

    from ivlm_core.cameras import Rectifier
    from ivlm_ros.msg import DetectedObject

__all__ = [
    "COLOR_ENCODINGS",
    "MASK_ENCODINGS",
    "MAX_COMPRESSED_BYTES",
    "camera_from_info",
    "check_image",
    "image_from_contacts",
    "image_from_rgb",
    "intrinsics_from_camera_info",
    "is_raw",
    "mask_from_image",
    "queries_from_objects",
    "query_from_object",
    "rgb_from_compressed",
    "rgb_from_image",
    "stamp_ns",
]


# Topics whose name says that their pictures are rectified.
RECTIFIED = re.compile(r"(?:^|[/_])rect(?:ified)?(?:[/_]|$)")


def is_raw(choice: str, topic: str, reconstruct: bool) -> bool:
    """Whether the pictures of a topic are to be rectified.

    Parameters
    ----------
    choice : the parameter `rectify`: `on`, `off`, or `auto`, where it matters: with `reconstruct`, unless the topic's
        name says that the pictures are rectified already (`image_rect`).
    """
    return choice == "on" or (choice == "auto" and reconstruct and RECTIFIED.search(topic) is None)


def mask_from_image(message: Image, image_size: tuple[int, int], field: str = "mask") -> NDArray[np.bool_] | None:
    """A mask as (H, W) bool, or None for the empty message that stands for "no mask".

    Raises
    ------
    InputError : not mono8/8UC1, inconsistent (see `check_image`), or not of `image_size` (H, W).
    """
    if message.width == 0 and message.height == 0 and len(message.data) == 0:
        return None
    # The size comes first: the pixels of a detector's outline are only drawn when they are looked at.
    if (message.height, message.width) != tuple(image_size):
        raise InputError(
            f"{field}.width",
            f"the mask is {message.width}×{message.height} px, the image {image_size[1]}×{image_size[0]} px",
            "send masks in the image's size",
        )
    check_image(message, field, MASK_ENCODINGS)
    return image_pixels(message, (1, 1)).reshape(image_size) != 0


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


def image_from_contacts(contacts: Sequence[ImageContact], header: Header, rectifier: Rectifier | None = None) -> Image:
    """Contact on the picture as a mono8 Image of its size: the greatest probability of any object, 0…255 for 0…1.

    Parameters
    ----------
    rectifier : what the picture was rectified by before it was looked at; the contact is put back onto the raw one.
    """
    from sensor_msgs.msg import Image

    strongest = np.max([contact.probability for contact in contacts], axis=0)
    if rectifier is not None:
        strongest = rectifier.back(strongest)
    grey = np.round(strongest * 255.0).astype(np.uint8)
    message = Image(header=header, height=grey.shape[0], width=grey.shape[1], encoding="mono8", step=grey.shape[1])
    message.data.frombytes(grey)  # type: ignore[attr-defined, unused-ignore]
    return message
