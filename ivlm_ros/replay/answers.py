"""The answers in the new bag as time series: for every object, its body parts and its own side, frame by frame."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ivlm_core.datasets.bags import CONTACT_TYPES, HUMAN_CONTACTS, FrameKey, VertexValues, open_bag
from ivlm_core.datasets.image_messages import rgb_from_image, stamp_ns
from ivlm_core.errors import InputError
from ivlm_core.types import ByteArray
from ivlm_ros.replay.frames import header_key

# Detectors that do not follow objects give every detection a new identifier; then objects are told apart by label.
MOST_OBJECTS = 24


@dataclass(frozen=True, eq=False)
class Answer:
    """What was said about one object in one image; either side may be missing.

    Attributes
    ----------
    person_id : whose contact it is, where several people were asked about.
    time : when the image was received, nanoseconds. parts : body part → score in [0, 1].
    body, thing : values on the vertices of the body model `body_model` and of the object's mesh.
    """

    key: FrameKey
    time: int
    object_id: str
    label: str
    parts: dict[str, float] = field(default_factory=dict)
    body_model: str = ""
    body: VertexValues | None = None
    thing: VertexValues | None = None
    affordance: str = ""
    confidence: float = 0.0
    pose_valid: bool = False
    person_id: str = ""

    @property
    def strongest(self) -> float:
        """The greatest value on the object that was published, 0 without any."""
        return float(self.thing.values.max(initial=0.0)) if self.thing is not None else 0.0


def read_answers(bag: Path, prefix: str, image_topic: str) -> list[Answer]:
    """The answers below a prefix, in the order of the bag; both sides of one object are one answer.

    Parameters
    ----------
    image_topic : of the images that were answered; they tell when that was, for answers may have come later.
    """
    received = _received(bag, image_topic)
    found: dict[tuple[FrameKey, str, str, str, int], dict[str, Any]] = {}
    for time, message in _messages(bag, prefix):
        key = message.header.frame_id, stamp_ns(message.header)
        human = hasattr(message, "contacts")
        # Objects of one image may share label and identifier: the first of them is the first on the other side, too.
        seen: Counter[tuple[str, str, str]] = Counter()
        items = message.contacts if human else message.affordances
        times = Counter((item.object_id, item.object_label) for item in items)
        for item in items:
            # An object that several people were asked about comes once for each of them.
            person = item.person_id if times[item.object_id, item.object_label] > 1 else ""
            who = item.object_id, item.object_label, person
            entry = found.setdefault((key, *who, seen[who]), {"time": received.get(key, time)})
            seen[who] += 1
            values = item.probabilities if human else item.values
            side = VertexValues(int(item.vertex_count), item.topology_hash, item.vertex_indices, values)
            if human:
                parts = dict(zip(item.body_parts, map(float, item.body_part_scores), strict=False))
                entry.update(body=side, body_model=item.body_model, parts=parts, confidence=float(item.confidence))
            else:
                entry.update(thing=side, affordance=item.affordance, pose_valid=bool(item.pose_valid))
    answers = [
        Answer(key=key, object_id=identifier, label=label, person_id=person, **entry)
        for (key, identifier, label, person, _), entry in found.items()
    ]
    return sorted(answers, key=lambda answer: answer.time)


def _received(bag: Path, topic: str) -> dict[FrameKey, int]:
    """When each image was received, nanoseconds."""
    with open_bag(bag) as reader:
        chosen = [item for item in reader.connections if item.topic == topic]
        times: dict[FrameKey, int] = {}
        for _, time, raw in reader.messages(connections=chosen) if chosen else ():
            # A message that has no header was told as broken when it was replayed.
            with contextlib.suppress(InputError):
                times.setdefault(header_key(raw), time)
    return times


def _messages(bag: Path, prefix: str) -> Iterator[tuple[int, Any]]:
    wanted = {f"{prefix}/{name}": kind for name, kind in CONTACT_TYPES.items()}
    with open_bag(bag) as reader:
        # Human contacts first, so that objects come in the order in which they were asked about.
        for name in (HUMAN_CONTACTS, *(other for other in CONTACT_TYPES if other != HUMAN_CONTACTS)):
            chosen = [item for item in reader.connections if item.topic == f"{prefix}/{name}"]
            chosen = [item for item in chosen if wanted[item.topic] == item.msgtype]
            if chosen:
                for connection, time, raw in reader.messages(connections=chosen):
                    yield time, reader.deserialize(raw, connection.msgtype)


def read_overlays(bag: Path, prefix: str, keys: Collection[FrameKey]) -> dict[FrameKey, ByteArray]:
    """The overlays of some images, (H, W, 3) uint8 RGB, as far as there are any."""
    found: dict[FrameKey, ByteArray] = {}
    with open_bag(bag) as reader:
        chosen = [item for item in reader.connections if item.topic == f"{prefix}/overlay"]
        for connection, _, raw in reader.messages(connections=chosen) if chosen else ():
            if header_key(raw) in keys:
                found[header_key(raw)] = rgb_from_image(reader.deserialize(raw, connection.msgtype))
    return found


@dataclass(frozen=True, eq=False)
class Track:
    """One object over time. `name` is for people; `answers` are in the order of the bag."""

    name: str
    label: str
    answers: list[Answer]

    def summary(self, threshold: float) -> dict[str, Any]:
        """Frames, mean and greatest score of each body part, share of frames in which it is touched; affordances."""
        parts: dict[str, list[float]] = {}
        for answer in self.answers:
            for part, score in answer.parts.items():
                parts.setdefault(part, []).append(score)
        with_body = sum(answer.body is not None for answer in self.answers)
        return {
            "object": self.name,
            "label": self.label,
            "frames": len(self.answers),
            "body_parts": {
                part: {
                    "mean": round(sum(scores) / max(with_body, 1), 4),
                    "max": round(max(scores), 4),
                    "share_touched": round(sum(score >= threshold for score in scores) / max(with_body, 1), 4),
                }
                for part, scores in sorted(parts.items(), key=lambda item: -max(item[1]))
            },
            "affordances": dict(Counter(answer.affordance for answer in self.answers if answer.affordance)),
            "strongest_on_object": round(max((answer.strongest for answer in self.answers), default=0.0), 4),
            "mean_confidence": round(float(np.mean([answer.confidence for answer in self.answers])), 4),
            "poses": sum(answer.pose_valid for answer in self.answers),
        }


def tracks(answers: list[Answer]) -> list[Track]:
    """Objects by camera, identifier, label and, where several were asked about, person.

    By label alone where that makes too many of them.
    """
    cameras = {answer.key[0] for answer in answers}

    def by_identifier(answer: Answer) -> tuple[str, ...]:
        return answer.key[0], answer.object_id, answer.label, answer.person_id

    def by_label(answer: Answer) -> tuple[str, ...]:
        return (answer.label,)

    fine = _grouped(answers, by_identifier)
    if len(fine) > MOST_OBJECTS:
        return [Track(key[0] or "(no label)", key[0], group) for key, group in _grouped(answers, by_label).items()]
    made = []
    for (camera, identifier, label, person), group in fine.items():
        name = f"{label} ({identifier})" if identifier and identifier != label else label
        name += f", person {person}" if person else ""
        made.append(Track(f"{name} · {camera}" if len(cameras) > 1 else name, label, group))
    return made


def _grouped(answers: list[Answer], key_of: Any) -> dict[tuple[str, ...], list[Answer]]:
    groups: dict[tuple[str, ...], list[Answer]] = {}
    for answer in answers:
        groups.setdefault(key_of(answer), []).append(answer)
    return groups
