"""What detectors publish → our detections and people: `vision_msgs/Detection2DArray` and `yolo_msgs/DetectionArray`.

The packages of these messages are not needed by anything but their own subscription. A converted detection has the
attributes of `ivlm_ros/DetectedObject` that the rest of the way reads, and a converted person those of
`ivlm_ros/HumanBody`; ours go through as they are.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ivlm_core.errors import ConfigError
from ivlm_core.types import COCO_KEYPOINTS, MAX_IMAGE_SIDE, FloatArray

# Parameter value → package and type of the message.
DETECTION_TYPES = {
    "ivlm_ros": ("ivlm_ros", "DetectedObjectArray"),
    "vision_msgs": ("vision_msgs", "Detection2DArray"),
    "yolo_msgs": ("yolo_msgs", "DetectionArray"),
}
BODY_TYPES = {"ivlm_ros": ("ivlm_ros", "HumanBodyArray"), "yolo_msgs": ("yolo_msgs", "DetectionArray")}
# Where a type's package comes from.
SOURCES = {
    "vision_msgs": "install ros-$ROS_DISTRO-vision-msgs and source the distribution",
    "yolo_msgs": "build yolo_ros in a workspace and source it",
}
# The list `class_names: [coco]` stands for, in the order that detectors number these classes, from 0.
COCO_CLASSES = tuple(
    "person,bicycle,car,motorcycle,airplane,bus,train,truck,boat,traffic light,fire hydrant,stop sign,parking meter,"
    "bench,bird,cat,dog,horse,sheep,cow,elephant,bear,zebra,giraffe,backpack,umbrella,handbag,tie,suitcase,frisbee,"
    "skis,snowboard,sports ball,kite,baseball bat,baseball glove,skateboard,surfboard,tennis racket,bottle,wine glass,"
    "cup,fork,knife,spoon,bowl,banana,apple,sandwich,orange,broccoli,carrot,hot dog,pizza,donut,cake,chair,couch,"
    "potted plant,bed,dining table,toilet,tv,laptop,mouse,remote,keyboard,cell phone,microwave,oven,toaster,sink,"
    "refrigerator,book,clock,vase,scissors,teddy bear,hair drier,toothbrush".split(",")
)
# Corners of an outline that are drawn; detectors give some hundred.
MOST_CORNERS = 100_000


@dataclass
class MaskImage:
    """The attributes of a mono8 `sensor_msgs/Image` that holds a mask; its pixels are drawn when they are asked for.

    Attributes
    ----------
    corners : (K, 2) pixels around what the mask holds.
    """

    width: int = 0
    height: int = 0
    corners: NDArray[np.float64] | None = None
    encoding: str = "mono8"
    is_bigendian: int = 0

    @property
    def step(self) -> int:
        return self.width

    @cached_property
    def data(self) -> bytes:
        if self.corners is None:
            return b""
        import cv2

        mask = np.zeros((self.height, self.width), np.uint8)
        # Far corners would overflow the drawing's fixed-point numbers.
        far = self.width + self.height
        cv2.fillPoly(mask, [np.rint(np.clip(self.corners, -far, 2 * far)).astype(np.int32)], (255,))
        return mask.tobytes()


@dataclass
class Detection:
    """The attributes of a `DetectedObject`."""

    id: str = ""
    label: str = ""
    score: float = 0.0
    person_id: str = ""
    x_min: float = 0.0
    y_min: float = 0.0
    x_max: float = 0.0
    y_max: float = 0.0
    mask: MaskImage = field(default_factory=MaskImage)


@dataclass
class Person:
    """The attributes of a `HumanBody` that is known by its joints alone."""

    keypoints: FloatArray
    person_id: str = ""
    score: float = 1.0
    body_model: str = ""
    vertices: Sequence[float] = ()
    pose_parameters: Sequence[float] = ()


def message_class(kind: str, types: dict[str, tuple[str, str]]) -> type:
    """The class of a detector's messages.

    Parameters
    ----------
    kind : a key of `types`, which is `DETECTION_TYPES` or `BODY_TYPES`.

    Raises
    ------
    ConfigError : its package is not installed.
    """
    package, name = types[kind]
    try:
        found: type = getattr(importlib.import_module(f"{package}.msg"), name)
    except (ImportError, AttributeError) as error:
        parameter = "detections_type" if types is DETECTION_TYPES else "bodies_type"
        remedy = SOURCES.get(package, "source the workspace")
        raise ConfigError(parameter, f"{package}/{name} is not available ({error})", remedy) from error
    return found


def detected_objects(message: Any, class_names: Sequence[str] = ()) -> Sequence[Any]:
    """The detections of a message of any of `DETECTION_TYPES`, as `DetectedObject` or with its attributes.

    Parameters
    ----------
    class_names : names of the classes 0, 1, … where the detector only numbers them; `coco` alone stands for COCO's.
    """
    if hasattr(message, "objects"):
        return message.objects
    names = COCO_CLASSES if tuple(class_names) == ("coco",) else tuple(class_names)
    found = []
    for item in message.detections:
        convert = _from_vision if hasattr(item, "results") else _from_yolo
        found.append(convert(item, names))
    return found


def people_of(message: Any) -> Sequence[Any]:
    """The people of a message of any of `BODY_TYPES`, as `HumanBody` or with its attributes.

    Of a detector's message these are the detections with joints.
    """
    if hasattr(message, "bodies"):
        return message.bodies
    return [
        Person(_joints(item.keypoints.data), str(item.id), _share(item.score))
        for item in message.detections
        if len(item.keypoints.data)
    ]


def _from_vision(item: Any, names: Sequence[str]) -> Detection:
    best = max(item.results, key=lambda result: _share(result.hypothesis.score), default=None)
    label, score = ("", 0.0) if best is None else (str(best.hypothesis.class_id), best.hypothesis.score)
    return Detection(
        item.id, _name(label, names), _share(score), "", *_box(item.bbox, item.bbox.size_x, item.bbox.size_y)
    )


def _from_yolo(item: Any, names: Sequence[str]) -> Detection:
    label = item.class_name or _name(str(item.class_id), names)
    sides = _box(item.bbox, item.bbox.size.x, item.bbox.size.y)
    return Detection(item.id, label, _share(item.score), "", *sides, _filled(item.mask))


def _name(label: str, names: Sequence[str]) -> str:
    """A class's name where it is a number that has one."""
    number = label.strip()
    if number.isascii() and number.isdigit() and len(number) < 6 and int(number) < len(names):
        return names[int(number)]
    return label


def _box(box: Any, width: float, height: float) -> tuple[float, float, float, float]:
    """x_min, y_min, x_max, y_max around a box that may be turned; all 0 for one without an extent."""
    # vision_msgs before 4.0 has the coordinates in the centre itself.
    center = getattr(box.center, "position", box.center)
    if width == 0.0 and height == 0.0:
        return 0.0, 0.0, 0.0, 0.0
    turn = float(getattr(box.center, "theta", 0.0))
    if turn and math.isfinite(turn):
        cosine, sine = abs(math.cos(turn)), abs(math.sin(turn))
        width, height = width * cosine + height * sine, width * sine + height * cosine
    return center.x - width / 2, center.y - height / 2, center.x + width / 2, center.y + height / 2


def _filled(outline: Any) -> MaskImage:
    """The mask of the pixels within an outline; an empty one where there is none."""
    width, height = int(outline.width), int(outline.height)
    count = len(outline.data)
    if not (3 <= count <= MOST_CORNERS and 1 <= width <= MAX_IMAGE_SIDE and 1 <= height <= MAX_IMAGE_SIDE):
        return MaskImage()
    corners = np.array([(point.x, point.y) for point in outline.data], dtype=np.float64)
    if not np.isfinite(corners).all():
        return MaskImage()
    return MaskImage(width, height, corners)


def _joints(points: Iterable[Any]) -> FloatArray:
    """(51,) x, y, score of COCO's keypoints, of points numbered from 1; those that are not there have the score 0."""
    table = np.zeros((len(COCO_KEYPOINTS), 3), np.float32)
    for item in points:
        if 1 <= item.id <= len(table):
            table[item.id - 1] = item.point.x, item.point.y, _share(item.score)
    return table.reshape(-1)


def _share(score: float) -> float:
    """A score within [0, 1]; NaN, which compares with nothing, is 0."""
    return min(max(float(score), 0.0), 1.0) if score == score else 0.0
