"""What putting objects into the scene needs beside image and detections: depth images and people."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ivlm_core.errors import InputError, IvlmError
from ivlm_core.types import COCO_KEYPOINTS, BodyKeypoints, FloatArray, PosedBody
from ivlm_ros.conversions import check_image

if TYPE_CHECKING:
    from sensor_msgs.msg import Image

    from ivlm_ros.msg import HumanBody

# encoding → (channels, bytes per channel); metres in one unit.
DEPTH_ENCODINGS = {"16UC1": (1, 2), "mono16": (1, 2), "32FC1": (1, 4)}
MILLIMETRE = 0.001
# People of one frame that are looked at.
MOST_PEOPLE = 16


def depth_from_image(message: Image, image_size: tuple[int, int]) -> FloatArray:
    """A depth image (REP 118) as (H, W) float32 metres, NaN where nothing was measured.

    16UC1 holds millimetres with 0 for unknown, 32FC1 metres with NaN, infinity or 0 for unknown.

    Raises
    ------
    InputError : another encoding, an inconsistent message, or one that is not of the image's size (H, W).
    """
    if message.encoding not in DEPTH_ENCODINGS:
        raise InputError(
            "depth.encoding", f"is {message.encoding[:40]!r}", "publish 16UC1 (millimetres) or 32FC1 (metres)"
        )
    check_image(message, "depth", DEPTH_ENCODINGS)
    if (message.height, message.width) != tuple(image_size):
        raise InputError(
            "depth.width",
            f"the depth image is {message.width}×{message.height} px, the image {image_size[1]}×{image_size[0]} px",
            "publish depth that is registered to the colour image",
        )
    size = DEPTH_ENCODINGS[message.encoding][1]
    rows = np.frombuffer(message.data, np.uint8).reshape(message.height, message.step)[:, : message.width * size]
    kind = np.dtype("u2" if size == 2 else "f4").newbyteorder(">" if message.is_bigendian else "<")
    values = np.ascontiguousarray(rows).view(kind).astype(np.float32)
    if size == 2:
        values *= np.float32(MILLIMETRE)
    values[~np.isfinite(values) | (values <= 0)] = np.nan
    return values


def people_from_bodies(
    messages: Sequence[HumanBody], body_path: Path | None = None
) -> tuple[tuple[PosedBody, ...], tuple[BodyKeypoints, ...], tuple[IvlmError, ...]]:
    """The people of one image: posed bodies, joints of those without one, and one error for each that was refused.

    Parameters
    ----------
    body_path : file of a body model that is not shipped, for poses given as parameters.
    """
    from ivlm_core.bodies import posed_body

    bodies: list[PosedBody] = []
    joints: list[BodyKeypoints] = []
    errors: list[IvlmError] = []
    if len(messages) > MOST_PEOPLE:
        errors.append(InputError("bodies", f"{len(messages)} arrived", f"the first {MOST_PEOPLE} are used"))
    for message in messages[:MOST_PEOPLE]:
        try:
            if len(message.vertices) or len(message.pose_parameters):
                place = message.translation
                bodies.append(
                    posed_body(
                        message.body_model,
                        pose_parameters=_numbers(message.pose_parameters),
                        shape_parameters=_numbers(message.shape_parameters),
                        shape_parameter_names=list(message.shape_parameter_names),
                        translation=(place.x, place.y, place.z),
                        vertices=_numbers(message.vertices),
                        topology_hash=message.topology_hash,
                        person_id=message.person_id,
                        score=float(message.score),
                        body_path=body_path if message.body_model != "anny" else None,
                    )
                )
            elif len(message.keypoints):
                joints.append(_keypoints(message))
            else:
                raise InputError(
                    "body.vertices", "pose_parameters and keypoints are all empty", "give one of the three"
                )
        except IvlmError as error:
            errors.append(error)
    return tuple(bodies), tuple(joints), tuple(errors)


def _keypoints(message: HumanBody) -> BodyKeypoints:
    values = _numbers(message.keypoints)
    if len(values) != 3 * len(COCO_KEYPOINTS):
        raise InputError(
            "body.keypoints",
            f"hold {len(values)} numbers",
            f"give x, y and score of each of COCO's {len(COCO_KEYPOINTS)} keypoints",
        )
    table = values.reshape(-1, 3)
    return BodyKeypoints(table[:, :2], table[:, 2], message.person_id)


def _numbers(values: object) -> FloatArray:
    """float32 numbers of a message, through a view of its own memory where it has one."""
    if isinstance(values, np.ndarray):
        return values.astype(np.float32, copy=False)
    if hasattr(values, "typecode") and sys.byteorder == "little":
        return np.frombuffer(values, np.float32)  # type: ignore[call-overload, no-any-return]
    return np.asarray(values, dtype=np.float32)
