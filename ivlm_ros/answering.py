"""From messages to a `FrameResult`: conversion, the model, and which of the two went wrong."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ivlm_core.errors import InputError, IvlmError
from ivlm_core.types import BodyKeypoints, FloatArray, Frame, FrameResult, ObjectQuery, PosedBody, Reconstruction
from ivlm_ros.conversions import (
    intrinsics_from_camera_info,
    queries_from_objects,
    rgb_from_compressed,
    rgb_from_image,
    stamp_ns,
)
from ivlm_ros.scene_inputs import SceneMessages, check_frame, depth_from_image, people_from_bodies

if TYPE_CHECKING:
    from sensor_msgs.msg import CameraInfo, CompressedImage, Image

    from ivlm_ros.msg import DetectedObject

# Refused inputs that the reason of a missing pose names.
MOST_REASONS = 3


class Runnable(Protocol):
    """What the shell needs of a pipeline (see `ivlm_core.Pipeline`)."""

    profile: Any

    def run(self, frame: Frame, queries: Sequence[ObjectQuery], follow: bool = True) -> FrameResult:
        """Answer the queries for one frame, of the stream in which objects are followed or by itself."""
        ...


@dataclass(frozen=True)
class Question:
    """One frame, ready for the model.

    Attributes
    ----------
    refused : one error for each detection, camera_info, person or depth that cannot be used; the rest goes on without.
    withheld : those of them that poses depend on.
    seconds : wall time of the conversion.
    """

    frame: Frame
    queries: tuple[ObjectQuery, ...]
    refused: tuple[IvlmError, ...] = field(default=())
    withheld: tuple[IvlmError, ...] = field(default=())
    seconds: float = 0.0

    @property
    def detections_refused(self) -> tuple[IvlmError, ...]:
        """The errors of detections and labels alone."""
        return tuple(error for error in self.refused if error not in self.withheld)


def question_from_messages(
    image: Image | CompressedImage,
    objects: Sequence[DetectedObject],
    labels: Sequence[str],
    camera_info: CameraInfo | None,
    max_objects: int,
    scene: SceneMessages | None = None,
) -> Question:
    """Convert one image and the objects (or, where given, the labels) to ask about.

    Parameters
    ----------
    scene : what came with the image where objects are fitted into the scene; None where they are not.

    Raises
    ------
    InputError : the image cannot be used.
    """
    start = time.perf_counter()
    # By its fields, not its class: those of a bag that is read without ROS are other classes.
    rgb = rgb_from_compressed(image) if hasattr(image, "format") else rgb_from_image(image)
    size = rgb.shape[:2]
    withheld: list[IvlmError] = []
    intrinsics = None
    if camera_info is not None:
        try:
            intrinsics = intrinsics_from_camera_info(camera_info)
            if intrinsics is None and scene is not None:
                raise InputError("camera_info.k", "says that the camera is not calibrated (fx is 0)", "calibrate it")
            if intrinsics is not None and (intrinsics.height, intrinsics.width) != size:
                found, intrinsics = (intrinsics.width, intrinsics.height), None
                raise InputError(
                    "camera_info.width",
                    f"it is for {found} px, the image is {(size[1], size[0])} px",
                    "remap camera_info",
                )
        except IvlmError as error:
            withheld.append(error)
    metres, people, joints = None, tuple[PosedBody, ...](), tuple[BodyKeypoints, ...]()
    if scene is not None:
        metres, people, joints, wrong = _scene(scene, image, (size[0], size[1]))
        withheld += wrong
    refused = list(withheld)
    if labels:
        queries = [ObjectQuery(label) for label in labels[:max_objects]]
        if len(labels) > max_objects:
            refused.append(InputError("labels", f"are {len(labels)}", f"max_objects allows {max_objects}: raise it"))
    else:
        queries, errors = queries_from_objects(objects, (size[0], size[1]), max_objects)
        refused += errors
    given = len(scene.bodies.bodies) if scene is not None and scene.bodies is not None else 0
    unusable = max(0, given - len(people) - len(joints))
    frame = Frame(rgb, intrinsics, metres, stamp_ns(image.header), image.header.frame_id, people, joints, unusable)
    return Question(frame, tuple(queries), tuple(refused), tuple(withheld), time.perf_counter() - start)


def _scene(
    scene: SceneMessages, image: Image | CompressedImage, size: tuple[int, int]
) -> tuple[FloatArray | None, tuple[PosedBody, ...], tuple[BodyKeypoints, ...], list[IvlmError]]:
    """Depth, posed bodies and people's joints in the image, and what of them cannot be used."""
    metres, people, joints = None, tuple[PosedBody, ...](), tuple[BodyKeypoints, ...]()
    wrong: list[IvlmError] = []
    if scene.depth is not None:
        try:
            check_frame(
                scene.depth.header, image.header, "depth", "publish depth that is registered to the colour image"
            )
            metres = depth_from_image(scene.depth, size)
        except IvlmError as error:
            wrong.append(error)
    if scene.bodies is not None:
        people, joints, errors = people_from_bodies(scene.bodies.bodies, scene.body_paths)
        wrong += errors
        try:
            check_frame(scene.bodies.header, image.header, "bodies", "publish bodies in the image's optical frame")
        except IvlmError as error:
            # Joints are pixels of the image, wherever the bodies are.
            if people:
                people = ()
                wrong.append(error)
    return metres, people, joints, wrong


def ask(pipeline: Runnable, question: Question, follow: bool = True) -> FrameResult:
    """The pipeline's result; without queries an empty one, and the model does not run.

    Parameters
    ----------
    follow : whether the question belongs to the stream in which objects and people are followed.

    Raises
    ------
    IvlmError and whatever else the model raises.
    """
    if question.queries:
        asked = question.frame, question.queries
        result = pipeline.run(*asked) if follow else pipeline.run(*asked, follow=False)
        return _explained(result, question.withheld)
    return FrameResult(
        (),
        (),
        model=pipeline.profile.name,
        stamp_ns=question.frame.stamp_ns,
        frame_id=question.frame.frame_id,
    )


def _explained(result: FrameResult, withheld: Sequence[IvlmError]) -> FrameResult:
    """The result, whose missing poses also say which input they lacked because it was refused."""
    if not withheld or all(fitted.pose_valid for fitted in result.reconstructions):
        return result
    told = [str(error) for error in withheld[:MOST_REASONS]]
    if len(withheld) > MOST_REASONS:
        told.append(f"{len(withheld) - MOST_REASONS} more")
    # Without a camera nothing can be fitted, and to the pipeline it was never there.
    alone = withheld[0].field.startswith("camera_info")

    def explained(fitted: Reconstruction) -> Reconstruction:
        reasons = told if alone else [fitted.reason, *told]
        return fitted if fitted.pose_valid else replace(fitted, reason="; ".join(reasons))

    return replace(result, reconstructions=tuple(explained(fitted) for fitted in result.reconstructions))


def reason_of_nothing(question: Question, result: FrameResult, threshold: float) -> tuple[str, str]:
    """Why a result shows no contact: a key and a sentence; both empty where it shows some."""
    if not question.queries:
        if question.detections_refused:
            return "all_refused", f"no detection could be used: {question.detections_refused[0]}"
        return "no_objects", "the detector found no object in this image"
    if not (result.human_contacts or result.object_affordances or result.image_contacts):
        why = result.unanswered[0].reason if result.unanswered else "the model gave no reason"
        return "unanswered", f"the model gave no contact for {question.queries[0].label!r}: {why}"
    found = [contact.probability for contact in result.human_contacts]
    found += [affordance.probability for affordance in result.object_affordances]
    found += [contact.probability for contact in result.image_contacts]
    # As in the messages, the comparison runs in the values' own precision.
    if all(float(values.max(initial=0.0)) < np.float32(threshold) for values in found):
        return "below_threshold", f"no vertex reaches the contact_threshold of {threshold}"
    return "", ""
