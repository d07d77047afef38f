"""Where things lie in a bag: the topics that the page needs, and which of their messages belongs to which image.

One pass over the bag notes the time each message was recorded at. Pictures are then read when they are looked at, so
that a bag may be much larger than the memory.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from ivlm_core.datasets.bags import CONTACT_TYPES, GROUND_TRUTH, HUMAN_CONTACTS, OBJECT_AFFORDANCES, FrameKey
from ivlm_core.errors import ConfigError, InputError, shown
from ivlm_core.view.answers import entries, joined
from ivlm_core.view.moments import Pair

IMAGES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")
CAMERA_INFO = "sensor_msgs/msg/CameraInfo"
DETECTIONS = "ivlm_ros/msg/DetectedObjectArray"
BODIES = "ivlm_ros/msg/HumanBodyArray"
MARKERS = "visualization_msgs/msg/MarkerArray"
MAX_FRAME_ID = 4096
# What a picker can list.
MAX_PAIRS = 2000


@dataclass(eq=False)
class Topic:
    """One topic: its reader and connection, and image → the time its message was recorded at, nanoseconds."""

    reader: Any
    connection: Any
    at: dict[FrameKey, int] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return str(self.connection.topic)

    @property
    def type(self) -> str:
        return str(self.connection.msgtype)

    def raw(self, key: FrameKey) -> bytes | None:
        """The serialised message of an image, or None; of several, the last."""
        if key not in self.at:
            return None
        found = None
        at = self.at[key]
        for _, _, raw in self.reader.messages(connections=[self.connection], start=at, stop=at + 1):
            if key_of(raw, self.type) == key:
                found = bytes(raw)
        return found

    def message(self, key: FrameKey) -> Any:
        """The message of an image, or None.

        Raises
        ------
        InputError : it cannot be read.
        """
        try:
            raw = self.raw(key)
            return None if raw is None else self.reader.deserialize(raw, self.type)
        # Damaged data meets the decoders with whatever exception comes first.
        except Exception as error:
            raise unreadable(self.name, error) from error


@dataclass(eq=False)
class BagIndex:
    """What was found.

    Attributes
    ----------
    keys : the answered images in the order of their answers. answers, truth : `human_contacts` or
        `object_affordances` → topic. others : type → topics of it.
    pairs : each pair, in the order of its first image, → the places of its images in `keys`.
    threshold : the lowest that anything was published with. notes : for people.
    """

    keys: list[FrameKey]
    answers: Mapping[str, Topic]
    truth: Mapping[str, Topic]
    others: Mapping[str, Sequence[Topic]]
    pairs: Mapping[Pair, Sequence[int]]
    threshold: float
    notes: list[str]


def index_bag(name: str, readers: Sequence[Any], wanted: str | None = None, ground_truth: bool = False) -> BagIndex:
    """Find the topics in open bags and note their messages.

    Parameters
    ----------
    name : of the first bag, for errors. readers : of the bag with the answers, and of others.
    wanted : what the answers' topics lie below. ground_truth : whether a bag with ground truth alone will do.

    Raises
    ------
    InputError : the first bag has no answers, or cannot be read.  ConfigError : none below `wanted`.
    """
    notes: list[str] = []
    truth = {key: topic for reader in reversed(readers) for key, topic in _contact_topics(reader, GROUND_TRUTH).items()}
    answers = _answers(name, readers[0], wanted, ground_truth and bool(truth), bool(truth), notes)
    others = {
        kind: [Topic(reader, item) for reader in readers for item in reader.connections if item.msgtype == kind]
        for kind in (*IMAGES, CAMERA_INFO, DETECTIONS, BODIES, MARKERS)
    }
    names = _note_messages(
        readers, [*answers.values(), *truth.values()], [topic for group in others.values() for topic in group]
    )
    order = {key: at for topic in (answers or truth).values() for key, at in topic.at.items()}
    keys = sorted(order, key=lambda key: (order[key], key))
    if not keys:
        raise InputError("bag", f"{name} has topics of answers, and no message in them", "record it anew")
    pairs: dict[Pair, list[int]] = {}
    for number, key in enumerate(keys):
        told, true = (
            entries(key[0], *(names.get((topics[side], key)) if side in topics else None for side in CONTACT_TYPES))
            for topics in (answers, truth)
        )
        for pair in joined(told, true):
            if pair in pairs or len(pairs) < MAX_PAIRS:
                pairs.setdefault(pair, []).append(number)
    if len(pairs) == MAX_PAIRS:
        notes.append(f"only the first {MAX_PAIRS} objects can be chosen")
    lowest = min((message.threshold for message in names.values()), default=1.0)
    return BagIndex(keys, answers, truth, others, pairs, lowest, notes)


def key_of(raw: Any, kind: str) -> FrameKey | None:
    """The frame and stamp that a serialised message begins with; None where it has none.

    Headers stand first in every type that is looked at; in a MarkerArray, after the number of its markers.
    """
    data = bytes(raw[: 24 + MAX_FRAME_ID])
    try:
        order = "<" if data[1] & 1 else ">"
        start = 4
        if kind == MARKERS:
            if struct.unpack_from(f"{order}I", data, start)[0] == 0:
                return None
            start += 4
        seconds, nanoseconds, length = struct.unpack_from(f"{order}iII", data, start)
        text = data[start + 12 : start + 12 + length]
        if not 1 <= length <= MAX_FRAME_ID or len(text) != length:
            return None
        return text[:-1].decode(), seconds * 10**9 + nanoseconds
    except (struct.error, IndexError, UnicodeDecodeError):
        return None


def unreadable(topic: str, error: Exception) -> InputError:
    """What to say of a message that cannot be decoded."""
    told = " ".join(str(error).split())[:200] or type(error).__name__
    return InputError(topic, f"a message cannot be read: {told}", "record it anew")


def _contact_topics(reader: Any, prefix: str) -> dict[str, Topic]:
    wanted = {f"{prefix.rstrip('/')}/{name}": (name, kind) for name, kind in CONTACT_TYPES.items()}
    return {
        wanted[item.topic][0]: Topic(reader, item)
        for item in reader.connections
        if item.topic in wanted and wanted[item.topic][1] == item.msgtype
    }


def _answers(
    name: str, reader: Any, wanted: str | None, truth_will_do: bool, has_truth: bool, notes: list[str]
) -> dict[str, Topic]:
    """The answers' topics; none where the ground truth stands for them."""
    prefixes = {item.topic.rpartition("/")[0] for item in reader.connections if item.msgtype in CONTACT_TYPES.values()}
    below = {prefix: topics for prefix in prefixes - {GROUND_TRUTH} if (topics := _contact_topics(reader, prefix))}
    listed = ", ".join(sorted(below))
    if wanted is not None:
        if wanted.rstrip("/") not in below:
            has = f"it has those of {listed}" if below else "it has none at all"
            raise ConfigError("--answers", f"{name} has no answers below {shown(wanted)}", has)
        return below[wanted.rstrip("/")]
    if below:
        first, *rest = sorted(below)
        if rest:
            notes.append(f"the answers of {first} are shown; --answers chooses among {listed}")
        return below[first]
    if truth_will_do:
        notes.append("the recording has no answers: its ground truth is shown alone")
        return {}
    hint = f"record what the node publishes, its ~/{HUMAN_CONTACTS} and ~/{OBJECT_AFFORDANCES}"
    if has_truth:
        hint += "; --ground-truth shows what is known to be true alone"
    raise InputError("bag", f"{name} has no answers of this package's types", hint)


def _note_messages(
    readers: Sequence[Any], told: Sequence[Topic], heads: Sequence[Topic]
) -> dict[tuple[Topic, FrameKey], Any]:
    """Fill in where the messages of all topics lie; (topic, image) → who is named, for those of `told`."""
    from tqdm import tqdm

    names: dict[tuple[Topic, FrameKey], Any] = {}
    with tqdm(desc="index", unit=" messages", file=sys.stderr, delay=2, leave=False) as bar:
        for reader in readers:
            mine = {topic.connection.id: topic for topic in (*told, *heads) if topic.reader is reader}
            for connection, at, raw in _messages(reader, mine):
                bar.update()
                topic = mine[connection.id]
                key = key_of(raw, topic.type)
                if key is None:
                    continue
                topic.at[key] = at
                if topic in told:
                    try:
                        names[topic, key] = _names(reader.deserialize(raw, topic.type))
                    except Exception as error:
                        raise unreadable(topic.name, error) from error
    return names


def _messages(reader: Any, topics: Mapping[int, Topic]) -> Iterator[tuple[Any, int, Any]]:
    # Without connections a reader would give all messages.
    if not topics:
        return
    try:
        yield from reader.messages(connections=[topic.connection for topic in topics.values()])
    # A damaged file makes its reader raise whatever its parsing meets (OverflowError, apsw's errors, …).
    except Exception as error:
        raise InputError("bag", f"is damaged: {' '.join(str(error).split())[:200]}", "record it anew") from error


def _names(message: Any) -> Any:
    """A contact array without its vertices."""
    fields: dict[str, Any] = {
        name: list(getattr(message, name))
        for name in ("unanswered_object_ids", "unanswered_object_labels", "unanswered_reasons")
    }
    field_name = "contacts" if hasattr(message, "contacts") else "affordances"
    items = getattr(message, field_name)
    fields[field_name] = [
        SimpleNamespace(
            object_label=item.object_label, object_id=item.object_id, person_id=getattr(item, "person_id", "")
        )
        for item in items
    ]
    thresholds = [float(item.threshold) for item in items if 0.0 <= item.threshold <= 1.0]
    return SimpleNamespace(threshold=min(thresholds, default=1.0), **fields)
