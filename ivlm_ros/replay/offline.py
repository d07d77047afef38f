"""Replaying without ROS: a bag goes through the same conversions as the node's input, as fast as the model runs."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ivlm_core.datasets.bags import CONTACT_TYPES, HUMAN_CONTACTS, OBJECT_AFFORDANCES
from ivlm_core.errors import InputError, IvlmError
from ivlm_core.types import Frame, FrameResult, ObjectQuery
from ivlm_ros.answering import Question, ask, question_from_messages
from ivlm_ros.conversions import is_raw
from ivlm_ros.detections import detected_objects
from ivlm_ros.message_types import PlainMessages
from ivlm_ros.messages import human_contact_array, object_affordance_array
from ivlm_ros.replay.bag_files import LAST_STAMP, Bag
from ivlm_ros.replay.findings import Findings
from ivlm_ros.replay.frames import FrameAssembler, FrameReader, ReplayFrame
from ivlm_ros.replay.outcome import Outcome, Sample, ScenePart, sampled
from ivlm_ros.replay.recording import OutputBag
from ivlm_ros.replay.settings import ReplaySettings
from ivlm_ros.replay.topics import Selection, choose_topics
from ivlm_ros.scene_inputs import SceneMessages

if TYPE_CHECKING:
    from std_msgs.msg import Header

IMAGE = "sensor_msgs/msg/Image"
JPEG_QUALITY = 82
# A picture of the report is at most this wide.
PICTURE_WIDTH = 1280

Progress = Callable[[int, int], None]


def load_pipeline(settings: ReplaySettings) -> Any:
    """The model that the settings name."""
    from ivlm_core.pipeline import Pipeline

    return Pipeline.load(
        settings.model,
        settings.device,
        settings.dtype,
        settings.reasoning,
        settings.mode,
        reconstruct=settings.reconstruct,
    )


def replay_offline(
    settings: ReplaySettings,
    findings: Findings,
    load: Callable[[ReplaySettings], Any] = load_pipeline,
    progress: Progress = lambda done, expected: None,
) -> Outcome:
    """Answer every image of a bag and write the new bag to `<out>/bag`.

    The same bag and settings give the same messages each time, on the same machine.

    Parameters
    ----------
    progress : called after each image with the number answered and the number expected, 0 where that is not known.

    Raises
    ------
    InputError : the bag cannot be read, or has no images or nothing to ask about.
    """
    outcome = Outcome()
    started = time.perf_counter()
    with Bag(settings.bag, findings) as bag:
        selection = choose_topics(bag, findings, settings.topics, *wanted_inputs(settings), ignored_topics(settings))
        outcome.inputs = {name: {"topic": topic.name, "type": topic.type} for name, topic in selection.topics.items()}
        start, stop = window(bag, settings)
        pipeline = load(settings)
        _warm_up(pipeline)
        outcome.model = {
            "name": pipeline.profile.name,
            "weights_hash": pipeline.weights_hash,
            "device": str(pipeline.device),
        }
        answers = {f"{settings.answers_prefix}/{name}": kind for name, kind in CONTACT_TYPES.items()}
        if settings.mode == "image":
            answers[f"{settings.answers_prefix}/image_contact"] = IMAGE
        if settings.overlay:
            answers[f"{settings.answers_prefix}/overlay"] = IMAGE
        with OutputBag(settings.out / "bag", storage_of(settings, bag), bag, answers, findings) as output:
            _Answerer(settings, selection, findings, pipeline, output, outcome).run(bag, start, stop, progress)
    outcome.seconds = time.perf_counter() - started
    return outcome


def wanted_inputs(settings: ReplaySettings) -> tuple[list[str], list[str]]:
    """The inputs that a bag must have, and those that it may have."""
    needed = ["image"] if settings.asked_always else ["image", "detections"]
    optional = ["camera_info"]
    if settings.reconstruct or settings.online:
        optional += ["bodies", "depth"]
    # What the user names must be there.
    return [*needed, *(name for name in optional if name in settings.topics)], [
        name for name in optional if name not in settings.topics
    ]


def ignored_topics(settings: ReplaySettings) -> tuple[str, ...]:
    """Prefixes of topics that are no inputs."""
    return f"{settings.answers_prefix}/", f"{settings.ground_truth.rstrip('/')}/"


def storage_of(settings: ReplaySettings, bag: Bag) -> str:
    """The new bag's storage: the one that was asked for, else that of the old one."""
    return settings.storage or bag.storage


def window(bag: Bag, settings: ReplaySettings) -> tuple[int, int]:
    """First and last receive time that is used, nanoseconds; the last is not included.

    Raises
    ------
    InputError : the recording ends before its use would begin.
    """
    if not settings.start and settings.duration is None:
        return 0, LAST_STAMP
    times = (record.time for record in bag.messages())
    first = latest = next(times, 0)
    start = first + round(settings.start * 1e9)
    # Files, and what several publishers sent, need not be in the order of time.
    while latest < start and (received := next(times, None)) is not None:
        latest = max(latest, received)
    if latest < start:
        lasts = f"the recording lasts {(latest - first) / 1e9:.2f} s"
        raise InputError("--start", f"is {settings.start:g} s, but {lasts}", "begin earlier")
    return start, LAST_STAMP if settings.duration is None else start + round(settings.duration * 1e9)


def expected_frames(selection: Selection, settings: ReplaySettings) -> int:
    """How many images will come; 0 where that is not known."""
    count = selection.topics["image"].count
    if settings.start or settings.duration is not None:
        count = 0
    return min(count, settings.frames) if settings.frames else count


def _warm_up(pipeline: Any) -> None:
    """Run once: the first run pays for lazy initialisation everywhere, which is none of the bag's latency."""
    pipeline.run(Frame(np.full((480, 640, 3), 127, np.uint8)), [ObjectQuery("chair")])
    pipeline.forget()


@dataclass
class _Answerer:
    settings: ReplaySettings
    selection: Selection
    findings: Findings
    pipeline: Any
    output: OutputBag
    outcome: Outcome

    def __post_init__(self) -> None:
        self._types = PlainMessages()
        self._expected = expected_frames(self.selection, self.settings)
        self._shown = sampled(self._expected)
        self._rectify = is_raw("auto", self.selection.topics["image"].name, self.settings.reconstruct)

    def run(self, bag: Bag, start: int, stop: int, progress: Progress) -> None:
        """Copy every message received within [start, stop) ns, and answer every frame as soon as all of it is there."""
        detected = not self.settings.asked_always
        assembler = FrameAssembler(self.selection, self.findings, self.settings.slop, detected)
        reader = FrameReader(bag, assembler, self.output.copy, self.settings.frames)
        for number, frame in enumerate(reader.read(start, stop)):
            self._answer(frame, number)
            progress(number + 1, self._expected)
        self.outcome.frames_in = reader.frames + reader.unmatched
        if reader.unmatched:
            self.outcome.dropped["no_detections"] = reader.unmatched
        if not self.outcome.frames_in:
            self.findings.add("note", "no image was recorded in the part that was played (--start, --duration)")

    def _answer(self, frame: ReplayFrame, number: int) -> None:
        start = time.perf_counter()
        try:
            image, question = self._question(frame)
        except IvlmError as error:
            self.findings.add("refused_image", str(error))
            self.outcome.dropped["bad_input"] += 1
            return
        for refused in question.refused:
            self.findings.add("refused_input", str(refused))
        converted = time.perf_counter()
        try:
            result = ask(self.pipeline, question)
            answered = time.perf_counter()
            self._write(frame, image.header, question, result)
        # Whatever the model or a hostile label makes fail costs this frame, never the replay.
        except Exception as error:
            told = str(error) if isinstance(error, IvlmError) else f"{type(error).__name__}: {error}"
            self.findings.add("failed_frame", told)
            self.outcome.dropped["failed"] += 1
            return
        done = time.perf_counter()
        self.outcome.frames_out += 1
        for fitted in result.reconstructions:
            if not fitted.pose_valid:
                self.findings.add("no_pose", f"{fitted.object_label}: {fitted.reason}")
        for stage, seconds in result.seconds.items():
            if stage != "total":
                self.outcome.took(stage, seconds)
        for stage, seconds in (
            ("convert", converted - start),
            ("model", answered - converted),
            ("write", done - answered),
            ("total", done - start),
        ):
            self.outcome.took(stage, seconds)
        if number in self._shown:
            self._show(frame, question, result)

    def _question(self, frame: ReplayFrame) -> tuple[Any, Question]:
        """The image's message and what is asked about it."""
        found = {name: self._decoded(name, data) for name, data in frame.messages}
        image = found["image"]
        if image is None:
            raise InputError("image", "cannot be decoded", "record the bag anew")
        objects = detected_objects(found["detections"], self.settings.class_names) if found.get("detections") else ()
        scene = SceneMessages(found.get("bodies"), found.get("depth")) if self.settings.reconstruct else None
        question = question_from_messages(
            image,
            objects,
            self.settings.asked_always,
            found.get("camera_info"),
            self.settings.max_objects,
            scene,
            self._rectify,
        )
        return image, question

    def _decoded(self, name: str, data: bytes) -> Any:
        try:
            return self.selection.decoders[name](data)
        except InputError as error:
            self.findings.add("broken_record", error.problem)
            return None

    def _write(self, frame: ReplayFrame, header: Header, question: Question, result: FrameResult) -> None:
        """Append the answers at the time at which the image was received."""
        prefix, threshold = self.settings.answers_prefix, self.settings.threshold
        recorder = self.output.recorder
        human = human_contact_array(result, header, threshold, self._types)
        things = object_affordance_array(result, header, threshold, self._types)
        recorder.write(f"{prefix}/{HUMAN_CONTACTS}", human, frame.received)
        recorder.write(f"{prefix}/{OBJECT_AFFORDANCES}", things, frame.received)
        if result.image_contacts:
            strongest = np.max([contact.probability for contact in result.image_contacts], axis=0)
            if question.rectifier is not None:
                strongest = question.rectifier.back(strongest)
            grey = np.round(strongest * 255.0).astype(np.uint8)
            recorder.write(f"{prefix}/image_contact", self._image(grey, header, "mono8"), frame.received)
        if self.settings.overlay:
            picture = self._overlay(question, result)
            recorder.write(f"{prefix}/overlay", self._image(picture, header, "rgb8"), frame.received)

    def _overlay(self, question: Question, result: FrameResult) -> np.ndarray:
        from ivlm_core.draw import draw_overlay

        # Without the time it took, which would make every run's pictures differ.
        return draw_overlay(question.frame, replace(result, seconds={}), self.settings.threshold, question.queries)

    def _image(self, pixels: np.ndarray, header: Header, encoding: str) -> Any:
        height, width = pixels.shape[:2]
        data = np.ascontiguousarray(pixels).reshape(-1)
        return self._types.make(
            IMAGE, header=header, height=height, width=width, encoding=encoding, step=len(data) // height, data=data
        )

    def _show(self, frame: ReplayFrame, question: Question, result: FrameResult) -> None:
        """Keep a picture of this frame, and what was fitted into its scene."""
        meshes = [contact.mesh for contact in result.human_contacts]
        meshes += [affordance.mesh for affordance in result.object_affordances]
        self.outcome.meshes.update({mesh.topology_hash: mesh for mesh in meshes})
        picture = self._overlay(question, result)
        self.outcome.samples.append(Sample(frame.key, jpeg(picture), _scene(result)))


def _scene(result: FrameResult) -> tuple[ScenePart, ...]:
    """Bodies and objects that were placed, with their contact."""
    values = {item.number: item.probability for item in result.object_affordances}
    parts: list[ScenePart] = []
    bodies: dict[int, ScenePart] = {}
    for number, fitted in enumerate(result.reconstructions):
        if not fitted.pose_valid:
            continue
        zero = np.zeros(len(fitted.mesh.vertices), np.float32)
        parts.append(
            ScenePart(fitted.object_label, fitted.placed(), fitted.mesh.faces, np.asarray(values.get(number, zero)))
        )
        body, contact = fitted.body, fitted.body_contact
        if body is not None:
            known = bodies.get(id(body))
            touched = np.zeros(len(body.vertices), np.float32) if contact is None else contact
            if known is not None:
                touched = np.maximum(known.values, touched)
            bodies[id(body)] = ScenePart(
                f"person {body.person_id}".strip(), body.vertices, body.faces, touched.astype(np.float32)
            )
    return (*bodies.values(), *parts)


def jpeg(picture: np.ndarray) -> bytes:
    """(H, W, 3) uint8 RGB as JPEG, at most `PICTURE_WIDTH` wide."""
    import cv2

    height, width = picture.shape[:2]
    if width > PICTURE_WIDTH:
        size = (PICTURE_WIDTH, max(1, round(height * PICTURE_WIDTH / width)))
        picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    good, data = cv2.imencode(
        ".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
    )
    if not good:
        raise InputError("picture", f"of shape {picture.shape} cannot be encoded", "give (H, W, 3) uint8 RGB")
    return bytes(data.tobytes())
