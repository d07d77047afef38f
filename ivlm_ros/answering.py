"""From messages to a `FrameResult`: conversion, the model, and which of the two went wrong."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ivlm_core.cameras import Rectifier
from ivlm_core.errors import InputError, IvlmError
from ivlm_core.types import (
    BodyKeypoints,
    CameraIntrinsics,
    FloatArray,
    Frame,
    FrameResult,
    ObjectQuery,
    PosedBody,
    Reconstruction,
)
from ivlm_ros.conversions import (
    camera_from_info,
    queries_from_objects,
    rgb_from_compressed,
    rgb_from_image,
    stamp_ns,
)
from ivlm_ros.detections import people_of
from ivlm_ros.people import pair_people
from ivlm_ros.scene_inputs import SceneMessages, check_frame, depth_for_image, people_from_bodies

if TYPE_CHECKING:
    from sensor_msgs.msg import CameraInfo, CompressedImage, Image

    from ivlm_ros.msg import DetectedObject

# What detectors call people.
PERSON_LABELS = ("person",)
# Refused inputs that the reason of a missing pose names.
MOST_REASONS = 3


class Runnable(Protocol):
    """What the shell needs of a pipeline (see `ivlm_core.Pipeline`)."""

    profile: Any

    def run(
        self,
        frame: Frame,
        queries: Sequence[ObjectQuery],
        follow: bool = True,
        begins: Callable[[str], None] | None = None,
    ) -> FrameResult:
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
    rectifier : what the image was rectified by, or None.
    """

    frame: Frame
    queries: tuple[ObjectQuery, ...]
    refused: tuple[IvlmError, ...] = field(default=())
    withheld: tuple[IvlmError, ...] = field(default=())
    seconds: float = 0.0
    rectifier: Rectifier | None = None

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
    rectify: bool = False,
    person_labels: Sequence[str] = PERSON_LABELS,
) -> Question:
    """Convert one image and the objects (or, where given, the labels) to ask about.

    Parameters
    ----------
    objects : the detections, or what has their attributes (see `ivlm_ros.detections`).
    scene : what came with the image where objects are fitted into the scene; None where they are not.
    rectify : whether the lens's distortion, as camera_info tells it, is to be taken out of the image and out of what
        was found in it.
    person_labels : the detections that are people (see `pair_people`).

    Raises
    ------
    InputError : the image cannot be used.
    """
    start = time.perf_counter()
    # By its fields, not its class: those of a bag that is read without ROS are other classes.
    rgb = rgb_from_compressed(image) if hasattr(image, "format") else rgb_from_image(image)
    size = (rgb.shape[0], rgb.shape[1])
    withheld: list[IvlmError] = []
    intrinsics, rectifier = None, None
    if camera_info is not None:
        try:
            intrinsics, rectifier = _camera(camera_info, size, rectify, needed=scene is not None)
        except IvlmError as error:
            withheld.append(error)
    elif rectify and scene is None:
        withheld.append(
            InputError(
                "camera_info", "has not come, and the image is to be rectified", "publish it, or set rectify to off"
            )
        )
    metres, people, joints = None, tuple[PosedBody, ...](), tuple[BodyKeypoints, ...]()
    if scene is not None:
        metres, people, joints, wrong = _scene(scene, image, size, intrinsics, rectifier)
        withheld += wrong
    refused = list(withheld)
    if labels:
        queries = [ObjectQuery(label) for label in labels[:max_objects]]
        if len(labels) > max_objects:
            refused.append(InputError("labels", f"are {len(labels)}", f"max_objects allows {max_objects}: raise it"))
    else:
        found, errors = queries_from_objects(objects, size)
        if rectifier is not None:
            found, bent = _rectified(found, rectifier)
            errors += bent
        queries, left_out = _strongest(pair_people(found, person_labels), max_objects)
        refused += errors + left_out
    given = len(people_of(scene.bodies)) if scene is not None and scene.bodies is not None else 0
    unusable = max(0, given - len(people) - len(joints))
    if rectifier is not None:
        rgb = rectifier.picture(rgb)
    frame = Frame(rgb, intrinsics, metres, stamp_ns(image.header), image.header.frame_id, people, joints, unusable)
    seconds = time.perf_counter() - start
    return Question(frame, tuple(queries), tuple(refused), tuple(withheld), seconds, rectifier)


def _camera(
    camera_info: CameraInfo, size: tuple[int, int], rectify: bool, needed: bool
) -> tuple[CameraIntrinsics | None, Rectifier | None]:
    """The camera of an image of `size` (H, W), after rectification."""
    camera, rectifier = camera_from_info(camera_info, rectify)
    if camera is None and needed:
        raise InputError("camera_info.k", "says that the camera is not calibrated (fx is 0)", "calibrate it")
    if camera is not None and (camera.height, camera.width) != size:
        told = f"it is for {(camera.width, camera.height)} px, the image is {(size[1], size[0])} px"
        raise InputError("camera_info.width", told, "remap camera_info")
    return camera, rectifier


def _scene(
    scene: SceneMessages,
    image: Image | CompressedImage,
    size: tuple[int, int],
    camera: CameraIntrinsics | None,
    rectifier: Rectifier | None,
) -> tuple[FloatArray | None, tuple[PosedBody, ...], tuple[BodyKeypoints, ...], list[IvlmError]]:
    """Depth, posed bodies and people's joints in the image, and what of them cannot be used."""
    metres, people, joints = None, tuple[PosedBody, ...](), tuple[BodyKeypoints, ...]()
    wrong: list[IvlmError] = []
    if scene.depth is not None:
        try:
            metres = depth_for_image(scene, image.header, size, camera, rectifier)
        except IvlmError as error:
            wrong.append(error)
    if scene.bodies is not None:
        people, joints, errors = people_from_bodies(people_of(scene.bodies), scene.body_paths)
        wrong += errors
        if rectifier is not None:
            joints = tuple(rectifier.keypoints(person) for person in joints)
        try:
            check_frame(scene.bodies.header, image.header, "bodies", "publish bodies in the image's optical frame")
        except IvlmError as error:
            # Joints are pixels of the image, wherever the bodies are.
            if people:
                people = ()
                wrong.append(error)
    return metres, people, joints, wrong


def _rectified(queries: Sequence[ObjectQuery], rectifier: Rectifier) -> tuple[list[ObjectQuery], list[IvlmError]]:
    """The queries in the rectified picture, and an error for each whose box has no place there."""
    found: list[ObjectQuery] = []
    errors: list[IvlmError] = []
    for query in queries:
        try:
            box = rectifier.box(query.box_xyxy) if query.box_xyxy is not None else None
            mask = rectifier.mask(query.mask) if query.mask is not None else None
            found.append(replace(query, box_xyxy=box, mask=mask))
        except IvlmError as error:
            errors.append(error)
    return found, errors


def _strongest(queries: Sequence[ObjectQuery], limit: int) -> tuple[list[ObjectQuery], list[IvlmError]]:
    """The `limit` queries with the highest scores, in their order, and an error where there are more."""
    if len(queries) <= limit:
        return list(queries), []
    kept = sorted(sorted(range(len(queries)), key=lambda place: -queries[place].score)[:limit])
    told = InputError("objects", f"{len(queries)} are to be asked about", f"the {limit} with the highest scores are")
    return [queries[place] for place in kept], [told]


def ask(
    pipeline: Runnable, question: Question, follow: bool = True, begins: Callable[[str], None] | None = None
) -> FrameResult:
    """The pipeline's result; without queries an empty one, and the model does not run.

    Parameters
    ----------
    follow : whether the question belongs to the stream in which objects and people are followed.
    begins : told the name of every stage before it begins; what it raises ends the run.

    Raises
    ------
    IvlmError and whatever else the model raises.
    """
    if question.queries:
        options: dict[str, Any] = {} if follow else {"follow": False}
        if begins is not None:
            options["begins"] = begins
        result = pipeline.run(question.frame, question.queries, **options)
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
