"""Which topics of a bag are the node's inputs: found by type and content, or given by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ivlm_core.datasets.bags import CONTACT_TYPES
from ivlm_core.datasets.image_messages import COLOR_ENCODINGS
from ivlm_core.errors import InputError, IvlmError, shown
from ivlm_ros.replay.bag_files import Bag, Definitions, RecordedTopic
from ivlm_ros.replay.findings import Findings

RAW, COMPRESSED = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"
# Input → the types that it may have; the first is what the node reads by default.
INPUT_TYPES: Mapping[str, tuple[str, ...]] = {
    "image": (RAW, COMPRESSED),
    "camera_info": ("sensor_msgs/msg/CameraInfo",),
    "detections": (
        "ivlm_ros/msg/DetectedObjectArray",
        "vision_msgs/msg/Detection2DArray",
        "yolo_msgs/msg/DetectionArray",
    ),
    "bodies": ("ivlm_ros/msg/HumanBodyArray", "yolo_msgs/msg/DetectionArray"),
    "depth": (RAW,),
}
DEPTH = ("16UC1", "32FC1")
GREY = ("mono8", "8UC1", "mono16")
MOST_TOLD = 40


@dataclass(frozen=True)
class Selection:
    """The chosen topics.

    Attributes
    ----------
    topics : input (`image`, `camera_info`, `detections`, `bodies`, `depth`) → its topic, those that there are.
    decoders : input → what makes messages of its data.
    first_camera_info : the first CameraInfo of the bag, serialised, or None.
    """

    topics: Mapping[str, RecordedTopic]
    decoders: Mapping[str, Callable[[bytes], Any]]
    first_camera_info: bytes | None = None

    def names(self) -> dict[str, tuple[str, str]]:
        """Input → name and type of its topic."""
        return {name: topic.key for name, topic in self.topics.items()}


@dataclass(frozen=True)
class _Candidate:
    topic: RecordedTopic
    decode: Callable[[bytes], Any]
    data: bytes
    message: Any

    @property
    def encoding(self) -> str:
        """Of an image; empty for anything else."""
        return str(getattr(self.message, "encoding", ""))

    @property
    def frame(self) -> str:
        header = getattr(self.message, "header", None)
        return str(header.frame_id) if header is not None else ""


def choose_topics(
    bag: Bag,
    findings: Findings,
    given: Mapping[str, str],
    needed: Sequence[str],
    optional: Sequence[str],
    ignored: Sequence[str] = (),
) -> Selection:
    """Choose a topic for each input.

    Of several topics that would do, the one is taken whose camera frame is that of the detections, then the one with
    colour before grey and raw before compressed, then the first by name; `findings` is told of the choice.

    Parameters
    ----------
    given : input → name of its topic, where the user named one.
    needed, optional : the inputs that must be there, and those that may.
    ignored : prefixes of topics that are no inputs: the node's own answers, the ground truth.

    Raises
    ------
    InputError : a needed input is missing, or a named topic is missing or of another type; lists what there is.
    """
    finder = _Finder(bag, findings, given, ignored)
    topics: dict[str, RecordedTopic] = {}
    decoders: dict[str, Callable[[bytes], Any]] = {}
    info: bytes | None = None
    wanted = [*needed, *optional]
    frame = ""
    # Detections first: their frame tells which camera is meant. Then the image: the other inputs follow its frame.
    for name in sorted(wanted, key=["detections", "image", "camera_info", "bodies", "depth"].index):
        chosen = finder.choose(name, frame, topics)
        if chosen is None:
            if name in needed:
                raise _missing(bag, name)
            continue
        topics[name], decoders[name] = chosen.topic, chosen.decode
        if name in ("detections", "image"):
            frame = chosen.frame or frame
        if name == "camera_info":
            info = chosen.data
    return Selection(topics, decoders, info)


class _Finder:
    def __init__(self, bag: Bag, findings: Findings, given: Mapping[str, str], ignored: Sequence[str]) -> None:
        self.bag, self.findings, self.given = bag, findings, given
        self.ignored = tuple(ignored)
        self.definitions = Definitions()

    def choose(self, name: str, frame: str, chosen: Mapping[str, RecordedTopic]) -> _Candidate | None:
        option = f"--{name.replace('_', '-')}-topic"
        if name in self.given:
            return self._named(name, option)
        taken = {topic.key for topic in chosen.values()} if name != "bodies" else set()
        found = [
            candidate
            for topic in self.bag.topics
            if topic.type in INPUT_TYPES[name] and topic.key not in taken and not topic.name.startswith(self.ignored)
            if (candidate := self._candidate(topic)) is not None and _fits(name, candidate)
        ]
        if not found:
            return None
        image = chosen.get("image")

        def rank(candidate: _Candidate) -> tuple[bool, bool, bool, bool, str]:
            beside = image is not None and _folder(candidate.topic.name) == _folder(image.name)
            return (
                bool(frame) and candidate.frame != frame,
                name == "camera_info" and not beside,
                candidate.encoding in GREY,
                candidate.topic.type != INPUT_TYPES[name][0],
                candidate.topic.name,
            )

        found.sort(key=rank)
        if len(found) > 1:
            others = ", ".join(candidate.topic.name for candidate in found[1:6])
            self.findings.add(
                "chosen_topic",
                f"{found[0].topic.name} was taken for '{name}'; there are also {others} (choose with {option})",
            )
        return found[0]

    def _named(self, name: str, option: str) -> _Candidate:
        wanted = self.given[name]
        topics = [topic for topic in self.bag.topics if topic.name == wanted]
        if not topics:
            raise InputError(option, f"{shown(wanted)} is not in the bag", f"there are: {_listed(self.bag)}")
        fitting = [topic for topic in topics if topic.type in INPUT_TYPES[name]]
        if not fitting:
            raise InputError(
                option, f"{wanted} has the type {topics[0].type}", f"it must be {' or '.join(INPUT_TYPES[name])}"
            )
        candidate = self._candidate(fitting[0])
        if candidate is None:
            raise InputError(option, f"{wanted} has no message that can be read", f"there are: {_listed(self.bag)}")
        return candidate

    def _candidate(self, topic: RecordedTopic) -> _Candidate | None:
        """The topic with its first message; None where it has none that can be read."""
        try:
            decode = self.definitions.decoder(topic)
        except InputError as error:
            self.findings.add("unknown_schema", error.problem)
            return None
        # A damaged first message says nothing about the rest.
        for number, record in enumerate(self.bag.messages([topic.key])):
            try:
                return _Candidate(topic, decode, record.data, decode(record.data))
            except IvlmError:
                if number >= 10:
                    break
        return None


def _fits(name: str, candidate: _Candidate) -> bool:
    """Whether a topic's first message is what the input needs."""
    if name == "image":
        if candidate.topic.type == RAW:
            return candidate.encoding in COLOR_ENCODINGS
        form = str(candidate.message.format)
        return "compressedDepth" not in form and not form.startswith(DEPTH)
    if name == "depth":
        return candidate.encoding in DEPTH
    if name == "bodies" and hasattr(candidate.message, "detections"):
        return any(len(item.keypoints.data) for item in candidate.message.detections)
    return True


def _folder(topic: str) -> str:
    """What comes before the last name; of /camera/image_raw/compressed, too, /camera."""
    base = topic.removesuffix("/compressed")
    return base.rpartition("/")[0]


def _missing(bag: Bag, name: str) -> InputError:
    kinds = " or ".join(INPUT_TYPES[name])
    what = "no topic with colour images" if name == "image" else f"no topic of type {kinds} with messages"
    remedy = {
        "image": f"name one with --image-topic; there are: {_listed(bag)}",
        "detections": "name the objects to ask about with --label, which may be repeated, or record a detector's "
        f"topic; there are: {_listed(bag)}",
    }.get(name, f"there are: {_listed(bag)}")
    return InputError("bag", f"{bag.path} has {what}" + (f" ({kinds})" if name == "image" else ""), remedy)


def _listed(bag: Bag) -> str:
    names = [f"{topic.name} ({topic.type})" for topic in bag.topics]
    more = f" and {len(names) - MOST_TOLD} more" if len(names) > MOST_TOLD else ""
    return (", ".join(names[:MOST_TOLD]) + more) or "no topics"


def answer_topics(node: str) -> dict[str, str]:
    """Topics of the node's answers → their types."""
    return {f"{node}/{name}": kind for name, kind in CONTACT_TYPES.items()}
