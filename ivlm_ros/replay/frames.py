"""From the messages of a bag to frames: each image with what was found in it, by stamp, as the node pairs them."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ivlm_core.datasets.bags import GROUND_TRUTH, FrameKey
from ivlm_core.errors import InputError
from ivlm_ros.companions import CLOCK_JUMP_NS, Companions
from ivlm_ros.pairing import StampPairing
from ivlm_ros.replay.bag_files import LAST_STAMP, Bag, Record
from ivlm_ros.replay.findings import Findings
from ivlm_ros.replay.topics import Selection, choose_topics

# Images that wait for their detections: as many as fit into this memory, within these bounds.
WAITING_BYTES = 512 * 2**20
LEAST_WAITING, MOST_WAITING = 10, 300
# Images that wait for people and depth, and half of how many depth images do.
MOST_COMPANIONS = 60
COMPANIONS = ("bodies", "depth")


@dataclass(frozen=True)
class ReplayFrame:
    """Everything a bag holds for one image.

    Attributes
    ----------
    key : frame of the camera and stamp of the image, nanoseconds.
    messages : (input name, serialised message), the image first.
    received : when the image was recorded, nanoseconds.
    """

    key: FrameKey
    messages: Sequence[tuple[str, bytes]]
    received: int = 0

    def data(self, name: str) -> bytes | None:
        """The serialised message of an input, or None."""
        return dict(self.messages).get(name)


@dataclass
class _Work:
    """An image on its way."""

    key: FrameKey
    received: int
    found: dict[str, bytes] = field(default_factory=dict)


class FrameAssembler:
    """Puts frames together while a bag is read.

    An image gets the detections, people and depth of its stamp (or the nearest within the slop) as in the node, and
    the camera's latest CameraInfo with its frame. Nothing is dropped for being slow; what never finds its counterpart
    is told to `findings`. The same bag gives the same frames each time.

    Parameters
    ----------
    selection : the topics. slop : largest difference of stamps, seconds.
    detected : whether an image needs detections; False where labels are asked about.

    Attributes
    ----------
    unmatched : images that were given up for want of detections.
    """

    def __init__(self, selection: Selection, findings: Findings, slop: float = 0.0, detected: bool = True) -> None:
        self.unmatched = 0
        self._names = {key: name for name, key in selection.names().items()}
        self._bodies_of_detections = _same(selection, "bodies", "detections")
        self._findings = findings
        self._slop_ns = round(slop * 1e9)
        self._detected = detected
        self._pairing: StampPairing[_Work, bytes] | None = None
        self._waiting = 0
        self._over = False
        self._ready: deque[ReplayFrame] = deque()
        present = [name for name in COMPANIONS if name in selection.topics]
        self._companions: Companions[_Work] = Companions(
            present,
            MOST_COMPANIONS,
            self._slop_ns,
            lambda name: not self._over,
            self._deliver,
            lambda name: findings.add("missing_companion", f"an image came without '{name}' of its stamp"),
            patience=math.inf,
        )
        self._cameras: dict[str, bytes] = {}
        self._camera: bytes | None = None
        if selection.first_camera_info is not None:
            self._note_camera(selection.first_camera_info)
        self._newest: dict[str, int] = {}

    def add(self, record: Record) -> Iterator[ReplayFrame]:
        """Take one message; gives the frames that it completes."""
        names = [self._names[record.topic.key]] if record.topic.key in self._names else []
        if self._bodies_of_detections and names:
            names = ["detections", "bodies"]
        for name in names:
            try:
                self._take(name, record)
            except InputError as error:
                self._findings.add("broken_record", f"a message of {record.topic.name} {error.problem}")
        yield from self._drain()

    def finish(self) -> Iterator[ReplayFrame]:
        """Nothing more comes; gives the frames that were still waiting for people or depth."""
        self._over = True
        self._companions.look()
        yield from self._drain()
        if self._waiting:
            self._findings.add("missing_detections", _NO_DETECTIONS, self._waiting)
            self.unmatched += self._waiting
            self._waiting = 0

    def _take(self, name: str, record: Record) -> None:
        if name == "camera_info":
            self._note_camera(record.data)
            return
        key = header_key(record.data)
        self._note_stamp(name, key[1])
        if name == "image":
            work = _Work(key, record.time, {"image": record.data})
            if not self._detected:
                self._hand_over(work)
                return
            self._waiting += 1
            pair = self._pairs(record).add_image(key[1], work)
            if pair is not None:
                self._paired(*pair)
        elif name == "detections":
            if self._detected:
                found = self._pairs(record).add_detections(key[1], record.data)
                if found is not None:
                    self._paired(*found)
        else:
            self._companions.add(name, key[1], record.data)

    def _pairs(self, record: Record) -> StampPairing[_Work, bytes]:
        if self._pairing is None:
            capacity = min(max(WAITING_BYTES // max(len(record.data), 1), LEAST_WAITING), MOST_WAITING)
            self._pairing = StampPairing(capacity, self._slop_ns, self._given_up)
        return self._pairing

    def _paired(self, work: _Work, detections: bytes) -> None:
        self._waiting -= 1
        work.found["detections"] = detections
        self._hand_over(work)

    def _hand_over(self, work: _Work) -> None:
        camera = self._cameras.get(work.key[0], self._camera)
        if camera is not None:
            work.found["camera_info"] = camera
        self._companions.put(work.key[1], work)

    def _deliver(self, work: _Work, found: Mapping[str, bytes]) -> None:
        messages = [*work.found.items(), *found.items()]
        self._ready.append(ReplayFrame(work.key, messages, work.received))

    def _drain(self) -> Iterator[ReplayFrame]:
        while self._ready:
            yield self._ready.popleft()

    def _given_up(self, reason: str) -> None:
        if reason == "no_detections":
            self._waiting -= 1
            self.unmatched += 1
            self._findings.add("missing_detections", _NO_DETECTIONS)
        else:
            self._findings.add("missing_image", "detections came without an image of their stamp")

    def _note_camera(self, data: bytes) -> None:
        try:
            self._cameras[header_key(data)[0]] = self._camera = data
        except InputError as error:
            self._findings.add("broken_record", f"a CameraInfo {error.problem}")

    def _note_stamp(self, name: str, stamp: int) -> None:
        newest = self._newest.get(name, stamp)
        if stamp < newest - CLOCK_JUMP_NS:
            self._findings.add("time_jump", f"the stamps of '{name}' jump back by {(newest - stamp) / 1e9:.1f} s")
        self._newest[name] = stamp


_NO_DETECTIONS = "an image has no detections with its stamp (--sync-slop allows differences, --label needs none)"


def _same(selection: Selection, one: str, other: str) -> bool:
    names = selection.names()
    return one in names and names.get(other) == names[one]


class FrameReader:
    """Copies the messages of a bag one by one and gives its frames as they become whole, at most `most` of them.

    Attributes
    ----------
    frames : how many were given so far.
    """

    def __init__(self, bag: Bag, assembler: FrameAssembler, copy: Callable[[Record], None], most: int | None) -> None:
        self.frames = 0
        self._bag, self._assembler, self._copy, self._most = bag, assembler, copy, most
        self._received = 0

    def read(self, start: int, stop: int) -> Iterator[ReplayFrame]:
        """The frames of what was received within [start, stop) nanoseconds."""
        for record in self._bag.messages(None, start, stop):
            if self._full:
                # What was recorded together with the last image, its ground truth for one, belongs to it.
                if record.time > self._received:
                    return
                self._copy(record)
                continue
            self._copy(record)
            yield from self._counted(self._assembler.add(record))
        if not self._full:
            yield from self._counted(self._assembler.finish())

    @property
    def unmatched(self) -> int:
        """Images that were given up for want of detections."""
        return self._assembler.unmatched

    @property
    def _full(self) -> bool:
        return self._most is not None and self.frames >= self._most

    def _counted(self, frames: Iterator[ReplayFrame]) -> Iterator[ReplayFrame]:
        for frame in frames:
            if not self._full:
                self.frames += 1
                self._received = frame.received
                yield frame


def assemble(
    bag: Bag,
    selection: Selection,
    findings: Findings,
    slop: float = 0.0,
    detected: bool = True,
    start: int = 0,
    stop: int = LAST_STAMP,
) -> Iterator[ReplayFrame]:
    """The frames of a bag in their order (see `FrameAssembler`), of the messages received within [start, stop)."""
    assembler = FrameAssembler(selection, findings, slop, detected)
    for record in bag.messages(list(selection.names().values()), start, stop):
        yield from assembler.add(record)
    yield from assembler.finish()


def read_frames(bag: Path) -> list[ReplayFrame]:
    """The images of a bag with the camera infos and detections of equal stamp and frame, in the order of the images.

    Topics are found as in `choose_topics`.

    Raises
    ------
    InputError : the bag cannot be read, or has no colour images or no detections.
    """
    findings = Findings()
    with Bag(bag, findings) as opened:
        ignored = (f"{GROUND_TRUTH}/", "/ivlm_contact/")
        selection = choose_topics(opened, findings, {}, ("image", "detections"), ("camera_info",), ignored)
        return list(assemble(opened, selection, findings))


def header_key(raw: bytes) -> FrameKey:
    """Frame and stamp of a serialised message whose first field is a `std_msgs/Header`.

    Raises
    ------
    InputError : the message is too short to hold one.
    """
    order = "little" if len(raw) > 1 and raw[1] & 1 else "big"
    length = int.from_bytes(raw[12:16], order)  # type: ignore[arg-type]
    if len(raw) < 16 + length or length < 1:
        raise InputError("message", f"has {len(raw)} bytes and no header", "it must begin with a std_msgs/Header")
    seconds = int.from_bytes(raw[4:8], order, signed=True)  # type: ignore[arg-type]
    nanoseconds = int.from_bytes(raw[8:12], order)  # type: ignore[arg-type]
    # A CDR string's length counts its closing zero.
    return raw[16 : 16 + length - 1].decode("utf-8", "replace"), seconds * 10**9 + nanoseconds
