"""What putting objects into the scene needs beside image and detections: depth images and people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ivlm_core.cameras import Rectifier, register_depth
from ivlm_core.errors import InputError, IvlmError, shown
from ivlm_core.types import COCO_KEYPOINTS, BodyKeypoints, CameraIntrinsics, FloatArray, PosedBody
from ivlm_ros.conversions import camera_from_info, check_image

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from sensor_msgs.msg import CameraInfo, Image
    from std_msgs.msg import Header

    from ivlm_ros.msg import HumanBody

# encoding → (channels, bytes per channel).
DEPTH_ENCODINGS = {"16UC1": (1, 2), "mono16": (1, 2), "32FC1": (1, 4)}
# 16-bit depth counts these, in metres.
MILLIMETRE = 0.001
# People of one frame that are looked at.
MOST_PEOPLE = 16
MAX_ID_CHARACTERS = 256


@dataclass(frozen=True)
class SceneMessages:
    """What came with one image for a node that fits objects into the scene.

    Attributes
    ----------
    bodies : the image's people, as `HumanBodyArray` or as a detector's message (see `ivlm_ros.detections`); or None.
    depth : the image's depth, or None. depth_info : the depth camera's own CameraInfo; None where depth is registered
        to the image. depth_raw : whether its lens's distortion is still in the depth.
    body_paths : body model → its file, for those that are not shipped.
    between : (frame, other frame) → (4, 4) from the other's coordinates to the first's, metres, or an InputError.
    """

    bodies: Any = None
    depth: Image | None = None
    depth_info: CameraInfo | None = None
    depth_raw: bool = False
    body_paths: Mapping[str, Path] = field(default_factory=dict)
    between: Callable[[str, str], NDArray[np.float64]] | None = None


def check_frame(header: Header, image_header: Header, name: str, remedy: str) -> None:
    """Refuse what is given in another frame than the image's; a frame without a name is taken for it.

    Raises
    ------
    InputError : naming `<name>.header.frame_id`.
    """
    own, wanted = header.frame_id.lstrip("/"), image_header.frame_id.lstrip("/")
    if own and wanted and own != wanted:
        raise InputError(f"{name}.header.frame_id", f"is {shown(own)}, the image's is {shown(wanted)}", remedy)


def depth_for_image(
    scene: SceneMessages,
    header: Header,
    size: tuple[int, int],
    camera: CameraIntrinsics | None,
    rectifier: Rectifier | None = None,
) -> FloatArray:
    """The depth that came with an image, on the image's pixels: (H, W) float32 metres, NaN where unknown.

    Parameters
    ----------
    header, size, camera : of the image; its height and width, and its camera after rectification.
    rectifier : what the image was rectified by; depth that is registered to the raw image goes the same way.

    Raises
    ------
    InputError : as `depth_from_image`; or the depth is in another frame or of another size and cannot be brought over.
    """
    depth, info = scene.depth, scene.depth_info
    assert depth is not None
    metres = depth_from_image(depth)
    remedy = "publish depth that is registered to the colour image, or its camera on depth_camera_info"
    if info is None:
        check_frame(depth.header, header, "depth", remedy)
        if metres.shape != tuple(size):
            told = f"the depth image is {depth.width}×{depth.height} px, the image {size[1]}×{size[0]} px"
            raise InputError("depth.width", told, remedy)
        return rectifier.depth(metres) if rectifier is not None else metres
    try:
        own, lens = camera_from_info(info, rectify=scene.depth_raw)
    except InputError as error:
        raise InputError(f"depth_{error.field}", error.problem, error.remedy) from error
    if own is None:
        raise InputError("depth_camera_info.k", "says that the camera is not calibrated (fx is 0)", "calibrate it")
    if (own.height, own.width) != metres.shape:
        told = f"is for {own.width}×{own.height} px, the depth image is {depth.width}×{depth.height} px"
        raise InputError("depth_camera_info.width", told, "remap depth_camera_info")
    if camera is None:
        raise InputError("camera_info", "is missing, and depth is not registered to the image", "publish it")
    transform = _between(scene, header, depth.header)
    if lens is not None:
        metres = lens.depth(metres)
    if transform is None and own == camera:
        return metres
    return register_depth(metres, own, camera, transform)


def _between(scene: SceneMessages, header: Header, other: Header) -> NDArray[np.float64] | None:
    """(4, 4) from the depth's frame to the image's, or None where they are one."""
    wanted, own = header.frame_id.lstrip("/"), other.frame_id.lstrip("/")
    if not own or not wanted or own == wanted:
        return None
    if scene.between is None:
        check_frame(other, header, "depth", "publish depth that is registered to the colour image")
        return None
    return scene.between(wanted, own)


def depth_from_image(message: Image) -> FloatArray:
    """A depth image (REP 118) as (H, W) float32 metres, NaN where nothing was measured.

    16UC1 holds millimetres with 0 for unknown, 32FC1 metres with NaN, infinity or 0 for unknown.

    Raises
    ------
    InputError : another encoding, or an inconsistent message.
    """
    if message.encoding not in DEPTH_ENCODINGS:
        raise InputError(
            "depth.encoding", f"is {shown(message.encoding)}", "publish 16UC1 (millimetres) or 32FC1 (metres)"
        )
    check_image(message, "depth", DEPTH_ENCODINGS)
    size = DEPTH_ENCODINGS[message.encoding][1]
    rows = np.frombuffer(message.data, np.uint8).reshape(message.height, message.step)[:, : message.width * size]
    kind = np.dtype("u2" if size == 2 else "f4").newbyteorder(">" if message.is_bigendian else "<")
    values = np.ascontiguousarray(rows).view(kind).astype(np.float32)
    if size == 2:
        values *= np.float32(MILLIMETRE)
    values[~np.isfinite(values) | (values <= 0)] = np.nan
    return values


def people_from_bodies(
    messages: Sequence[HumanBody], body_paths: Mapping[str, Path] | None = None
) -> tuple[tuple[PosedBody, ...], tuple[BodyKeypoints, ...], tuple[IvlmError, ...]]:
    """The people of one image: posed bodies, joints of those without one, and one error for each that was refused.

    People who share an identifier cannot be told apart: an object would get a body at random. None of them is used.

    Parameters
    ----------
    body_paths : body model → its file, for those that are not shipped.
    """
    bodies: list[PosedBody] = []
    joints: list[BodyKeypoints] = []
    errors: list[IvlmError] = []
    if len(messages) > MOST_PEOPLE:
        errors.append(InputError("bodies", f"{len(messages)} arrived", f"the first {MOST_PEOPLE} are used"))
    named = Counter(message.person_id for message in messages[:MOST_PEOPLE])
    for name, count in named.items():
        if count > 1:
            errors.append(
                InputError(
                    "body.person_id", f"{shown(name)} names {count} people", "give each of them one of their own"
                )
            )
    for message in messages[:MOST_PEOPLE]:
        if named[message.person_id] > 1:
            continue
        try:
            if len(message.vertices) or len(message.pose_parameters):
                bodies.append(_posed(message, body_paths or {}))
            elif len(message.keypoints):
                joints.append(_keypoints(message))
            else:
                raise InputError(
                    "body.vertices", "are empty, and so are pose_parameters and keypoints", "give one of the three"
                )
        except IvlmError as error:
            errors.append(error)
    return tuple(bodies), tuple(joints), tuple(errors)


def _posed(message: HumanBody, body_paths: Mapping[str, Path]) -> PosedBody:
    from ivlm_core.bodies import posed_body

    place = message.translation
    return posed_body(
        message.body_model,
        pose_parameters=_numbers(message.pose_parameters),
        shape_parameters=_numbers(message.shape_parameters),
        shape_parameter_names=list(message.shape_parameter_names),
        translation=(place.x, place.y, place.z),
        vertices=_numbers(message.vertices),
        topology_hash=message.topology_hash,
        person_id=message.person_id,
        score=float(message.score),
        body_path=body_paths.get(message.body_model),
    )


def _keypoints(message: HumanBody) -> BodyKeypoints:
    if len(message.person_id) > MAX_ID_CHARACTERS:
        raise InputError(
            "body.person_id", f"has {len(message.person_id)} characters", f"at most {MAX_ID_CHARACTERS} are allowed"
        )
    values = _numbers(message.keypoints)
    if len(values) != 3 * len(COCO_KEYPOINTS):
        raise InputError(
            "body.keypoints",
            f"hold {len(values)} numbers",
            f"give x, y and score of each of COCO's {len(COCO_KEYPOINTS)} keypoints",
        )
    table = values.reshape(-1, 3)
    try:
        return BodyKeypoints(table[:, :2], table[:, 2], message.person_id)
    except InputError as error:
        raise InputError(f"body.{error.field}", error.problem, error.remedy) from error


def _numbers(values: Any) -> FloatArray:
    """float32 numbers of a message, through a view of its own memory where it has one."""
    return np.asarray(values, dtype=np.float32)
