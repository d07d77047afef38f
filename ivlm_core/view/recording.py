"""A recorded bag as moments: every image that was answered, read when it is looked at."""

from __future__ import annotations

import contextlib
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from ivlm_core.datasets.bags import CONTACT_TYPES, FrameKey, open_bag
from ivlm_core.datasets.image_messages import (
    COLOR_ENCODINGS,
    intrinsics_from_camera_info,
    rgb_from_compressed,
    rgb_from_image,
)
from ivlm_core.errors import ConfigError, InputError, IvlmError, shown
from ivlm_core.types import ByteArray, CameraIntrinsics
from ivlm_core.view.answers import entries, pair_answers
from ivlm_core.view.bag_index import BODIES, CAMERA_INFO, DETECTIONS, IMAGES, MARKERS, BagIndex, Topic, index_bag
from ivlm_core.view.meshes import MeshFinder
from ivlm_core.view.moments import Box, Moment, Pair, Person
from ivlm_core.view.people import people_from_bodies, people_from_markers

# Pictures that the node draws itself; shown only where the recording has no better one.
DRAWN = ("overlay", "image_contact")
KEPT_MOMENTS = 16
MAX_BOXES = 64

T = TypeVar("T")
Mend = Callable[[Path, Path], Sequence[str]]


class Recording:
    """The images of a bag that were answered, in the order of their answers.

    Parameters
    ----------
    bag : with contacts or affordances of this package's types. inputs : a bag with what was answered, if elsewhere.
    finder : of meshes. body_paths : body model → its file, for those that are not shipped.
    answers : what the answers' topics lie below; the first by name where it is not given.
    image : topic of the picture; chosen where it is not given.
    ground_truth : show a bag that holds nothing but ground truth. title : the bag's name where it is not given.
    mend : (damaged bag, new bag) → what is wrong with it, having written what can be read of it into the new one; for
        a bag that is not damaged, nothing. It is asked when a bag cannot be read.

    Raises
    ------
    InputError : a bag that cannot be read, or without answers.  ConfigError : a topic that it does not have.
    """

    def __init__(
        self,
        bag: Path,
        finder: MeshFinder,
        inputs: Path | None = None,
        *,
        body_paths: Mapping[str, Path] | None = None,
        answers: str | None = None,
        image: str | None = None,
        ground_truth: bool = False,
        title: str = "",
        mend: Mend | None = None,
    ) -> None:
        self.title = title or bag.resolve().name
        self._finder = finder
        self._body_paths = dict(body_paths or {})
        self._lock = threading.RLock()
        self._kept: OrderedDict[int, Moment] = OrderedDict()
        with contextlib.ExitStack() as stack:
            paths, damage = [bag, *([inputs] if inputs else [])], []

            def indexed() -> BagIndex:
                readers = [stack.enter_context(open_bag(path)) for path in paths]
                return index_bag(str(bag), readers, answers, ground_truth)

            try:
                self._index = indexed()
            except InputError:
                if mend is None:
                    raise
                stack.close()
                folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ivlm-view-")))
                for number, path in enumerate(paths):
                    if told := mend(path, folder / str(number)):
                        paths[number] = folder / str(number)
                        damage += [f"{shown(path.resolve().name)} is damaged: {line}" for line in told]
                if not damage:
                    raise
                self._index = indexed()
            self._pictures = self._picture_topics(image)
            self._files = stack.pop_all()
        self.notes: Sequence[str] = [*damage, *self._index.notes]
        self.stamps: Sequence[int] = [stamp for _, stamp in self._index.keys]
        self.cameras: Sequence[str] = [camera for camera, _ in self._index.keys]
        self.occurrences: Mapping[Pair, Sequence[int]] = self._index.pairs
        self.pairs: Sequence[Pair] = list(self._index.pairs)
        self.has_truth = any(topic.at for topic in self._index.truth.values())
        self.thresholds = (self._index.threshold, self._index.threshold)

    def close(self) -> None:
        """Close the files."""
        with self._lock:
            self._files.close()

    def moment(self, number: int) -> Moment:
        """One of the moments; the last ones that were asked for are kept."""
        with self._lock:
            if number not in self._kept:
                self._kept[number] = self._read(self._index.keys[number])
                if len(self._kept) > KEPT_MOMENTS:
                    self._kept.popitem(last=False)
            self._kept.move_to_end(number)
            return self._kept[number]

    def _read(self, key: FrameKey) -> Moment:
        notes: list[str] = []

        def tried(read: Callable[[], T], otherwise: T) -> T:
            """What a broken message leaves of a moment: everything else."""
            try:
                return read()
            except IvlmError as error:
                notes.append(str(error))
                return otherwise

        messages = [
            {side: tried(partial(topic.message, key), None) for side, topic in topics.items()}
            for topics in (self._index.answers, self._index.truth)
        ]
        told, true = (entries(key[0], *(known.get(side) for side in CONTACT_TYPES)) for known in messages)
        answers, refused = pair_answers(told, true, self._finder, "answers")
        no_picture: tuple[ByteArray | None, str] = None, "the picture cannot be read"
        nobody: tuple[list[Person], list[str]] = [], []
        picture, about = tried(partial(self._picture, key), no_picture)
        people, unseen = tried(partial(self._people, key), nobody)
        models = [str(message.model)[:200] for message in messages[0].values() if message is not None]
        return Moment(
            stamp_ns=key[1],
            camera_frame=key[0],
            picture=picture,
            picture_note=about,
            answers=answers,
            boxes=() if about else tried(partial(self._boxes, key), ()),
            people=tuple(people),
            camera=tried(partial(self._camera, key), None),
            model=next(iter(models), ""),
            notes=(*notes, *refused, *unseen),
        )

    def _picture_topics(self, wanted: str | None) -> list[Topic]:
        """The topics of pictures: a camera's in colour first, those with most of the images before others."""
        topics = [topic for kind in IMAGES for topic in self._index.others[kind]]
        if wanted is not None:
            named = [topic for topic in topics if topic.name == wanted]
            if not named:
                has = ", ".join(sorted(topic.name for topic in topics)) or "none"
                raise ConfigError("--image", f"{shown(wanted)} is no picture topic of the bag", f"there is {has}")
            return named
        keys = set(self._index.keys)
        ranked = []
        for topic in topics:
            here = keys & topic.at.keys()
            encoding = self._encoding(topic, min(here)) if here else None
            if encoding in COLOR_ENCODINGS:
                grey = encoding.startswith(("mono", "8UC1"))
                ranked.append(((_drawn(topic), grey, -len(here), topic.name), topic))
        return [topic for _, topic in sorted(ranked, key=lambda item: item[0])]

    @staticmethod
    def _encoding(topic: Topic, key: FrameKey) -> str | None:
        """That of the first picture; depth images are none."""
        try:
            message = topic.message(key)
        except IvlmError:
            return None
        if topic.type == IMAGES[0]:
            return str(message.encoding)
        return None if "compressedDepth" in message.format else "rgb8"

    def _picture(self, key: FrameKey) -> tuple[ByteArray | None, str]:
        """The picture, and what it is where it is not the camera's."""
        topic = next((topic for topic in self._pictures if key in topic.at), None)
        if topic is None:
            return None, "the recording has no picture with this stamp (--inputs BAG names the one that has)"
        read = rgb_from_image if topic.type == IMAGES[0] else rgb_from_compressed
        picture = read(topic.message(key))
        if _drawn(topic):
            return picture, f"The recording has no camera image: this is {topic.name}."
        return picture, ""

    def _message(self, kind: str, key: FrameKey) -> Any:
        """The message of one kind that belongs to an image, from the first topic that has one."""
        topic = next((topic for topic in self._index.others[kind] if key in topic.at), None)
        return None if topic is None else topic.message(key)

    def _camera(self, key: FrameKey) -> CameraIntrinsics | None:
        message = self._message(CAMERA_INFO, key)
        return None if message is None else intrinsics_from_camera_info(message)

    def _boxes(self, key: FrameKey) -> tuple[Box, ...]:
        message = self._message(DETECTIONS, key)
        boxes = []
        for item in message.objects[:MAX_BOXES] if message is not None else ():
            sides = (float(item.x_min), float(item.y_min), float(item.x_max), float(item.y_max))
            if np.isfinite(sides).all() and sides[0] < sides[2] and sides[1] < sides[3]:
                boxes.append(Box(str(item.label), str(item.id), str(item.person_id), sides))
        return tuple(boxes)

    def _people(self, key: FrameKey) -> tuple[list[Person], list[str]]:
        """Posed people, of the estimator if it gave them, else of the node's markers."""
        message = self._message(BODIES, key)
        people, notes = people_from_bodies(message, self._body_paths) if message is not None else ([], [])
        if not people:
            markers = self._message(MARKERS, key)
            people = people_from_markers(markers) if markers is not None else []
        return people, notes if not people else []


def _drawn(topic: Topic) -> bool:
    return topic.name.rpartition("/")[2] in DRAWN
