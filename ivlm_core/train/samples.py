"""Scenes as training reads them: small pictures in memory, contacts as bits, and varied copies on demand."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ivlm_core.bodies import PART_NAMES, AnnyRig, mirrored_vertices
from ivlm_core.config import VisionConfig
from ivlm_core.errors import InputError
from ivlm_core.objects import library_mesh
from ivlm_core.reason.image import CLIP_MEAN, CLIP_STD
from ivlm_core.train.conversation import Fact, affordance_of, parts_in_contact, swap_side
from ivlm_core.types import ByteArray, FloatArray

# Pixels of the vision tower's picture per cell of the auxiliary maps, and per stored pixel of the segments.
CELL, SEGMENT_STEP = 4, 2
# Classes of the auxiliary segmentation: nothing, ground, the body parts, then the labels.
FIRST_PART, FIRST_LABEL = 2, 2 + len(PART_NAMES)
IGNORED_CLASS = 255
# About how many of a contact's vertices have their place in the picture kept.
PLACES_KEPT = 48
# The bones whose heads the auxiliary head finds, without their side.
PAIRED_JOINTS = ("upperarm01", "lowerarm01", "wrist", "finger3-1", "upperleg01", "lowerleg01", "foot")
MIDDLE_JOINTS = ("head", "root")


@dataclass(frozen=True)
class Variation:
    """How training pictures vary.

    Attributes
    ----------
    mirror : share of mirrored pictures, with everything about left and right exchanged.
    scale, shift : greatest change of size, and of place as a share of the width.
    light, color, noise : greatest change of brightness and contrast, of the channels against each other, and greatest
        standard deviation of the noise in grey values.
    gray : share of pictures without colour.
    """

    mirror: float = 0.5
    scale: float = 0.12
    shift: float = 0.06
    light: float = 0.25
    color: float = 0.1
    noise: float = 10.0
    gray: float = 0.1


@dataclass(frozen=True, eq=False)
class Sample:
    """One varied picture and what is true about it.

    Attributes
    ----------
    pixels : (3, S, S) float32, normalised for CLIP.
    classes : (S / 4, S / 4) uint8 auxiliary classes, 255 where unknown.
    joints : (J,) int64 cell of every joint, −1 outside the picture.
    facts : one per object. contacts : (objects, V) bool. mirrored : whether it is the mirror image.
    things : per object its contact on the library's mesh, (N,) float32 in [0, 1].
    places : per object the cells that its contact lies in, seen or hidden; none outside the picture.
    """

    pixels: FloatArray
    classes: ByteArray
    joints: NDArray[np.int64]
    facts: tuple[Fact, ...]
    contacts: NDArray[np.bool_]
    things: tuple[FloatArray, ...]
    places: tuple[NDArray[np.int64], ...]
    mirrored: bool


@dataclass(frozen=True, eq=False)
class _Thing:
    """One object of a stored scene.

    `contact` of the body, packed; `library`, that of its library mesh in 255 steps; `places` (P, 2) where some of the
    contact's vertices are in the picture.
    """

    fact: Fact
    contact: ByteArray
    library: ByteArray
    places: NDArray[np.float16]


class TrainingSet:
    """Scenes in memory, about 80 kB each at `tiny`.

    Parameters
    ----------
    config : of the vision tower, whose square the pictures are fitted onto (`pad`).
    labels : categories that the auxiliary segmentation tells apart; others are not learned there.
    """

    def __init__(self, config: VisionConfig, labels: Sequence[str]) -> None:
        rig = AnnyRig.load()
        self.size = config.image_size
        self.labels = tuple(labels)
        self.part_labels = rig.part_labels
        self.vertex_count = len(rig.part_labels)
        self._mirror = np.asarray(mirrored_vertices())
        names = [*MIDDLE_JOINTS, *(f"{name}.{side}" for name in PAIRED_JOINTS for side in "LR")]
        self._bones = np.array([rig.joint_names.index(name) for name in names])
        other = {".L": ".R", ".R": ".L"}
        self._joint_mirror = np.array([names.index(name[:-2] + other.get(name[-2:], name[-2:])) for name in names])
        self._class_mirror = np.arange(256, dtype=np.uint8)
        for number, name in enumerate(PART_NAMES):
            self._class_mirror[FIRST_PART + number] = FIRST_PART + PART_NAMES.index(swap_side(name))
        self._pictures: list[ByteArray] = []
        self._segments: list[ByteArray] = []
        self._joints: list[FloatArray] = []
        self._things: list[tuple[_Thing, ...]] = []
        self._library_mirrors: dict[str, NDArray[np.int64]] = {}

    @property
    def joint_count(self) -> int:
        return len(self._bones)

    @property
    def class_count(self) -> int:
        return FIRST_LABEL + len(self.labels)

    def __len__(self) -> int:
        return len(self._pictures)

    def extend(self, records: Iterable[Any]) -> None:
        """Take scenes in.

        Parameters
        ----------
        records : `SceneRecord`s.

        Raises
        ------
        InputError : a contact of another body.
        """
        for record in records:
            height, width = record.image.shape[:2]
            scale = self.size / max(height, width)
            fitted = (max(1, round(width * scale)), max(1, round(height * scale)))
            self._pictures.append(
                np.asarray(cv2.resize(record.image, fitted, interpolation=cv2.INTER_AREA), dtype=np.uint8)
            )
            classes = np.full(256, IGNORED_CLASS, dtype=np.uint8)
            classes[:FIRST_LABEL] = np.arange(FIRST_LABEL)
            for number, thing in enumerate(record.objects):
                if thing.label in self.labels:
                    classes[FIRST_LABEL + number] = FIRST_LABEL + self.labels.index(thing.label)
            coarse = (fitted[0] // SEGMENT_STEP, fitted[1] // SEGMENT_STEP)
            self._segments.append(classes[cv2.resize(record.segments, coarse, interpolation=cv2.INTER_NEAREST_EXACT)])
            # Pixel centres are whole numbers in a record; here the picture's corner is the origin.
            self._joints.append(((record.joints_2d[self._bones] + 0.5) * scale).astype(np.float32))
            touched = any(np.any(thing.body_contact) for thing in record.objects)
            pixels = (record.body_pixels() + 0.5) * scale if touched else np.zeros((self.vertex_count, 2))
            self._things.append(tuple(self._thing(thing, pixels) for thing in record.objects))

    def _thing(self, thing: Any, pixels: NDArray[Any]) -> _Thing:
        contact = np.asarray(thing.body_contact, dtype=bool)
        if contact.shape != (self.vertex_count,):
            raise InputError(
                "body_contact", f"has shape {contact.shape}", f"generate contact on {self.vertex_count} vertices"
            )
        fact = Fact(thing.label, parts_in_contact(contact, self.part_labels), affordance_of(thing.label, thing.mode))
        library = np.round(np.asarray(thing.library_contact) * 255).astype(np.uint8)
        count = len(library_mesh(thing.label).vertices)
        if len(library) != count:
            raise InputError(
                "library_contact",
                f"of {thing.label!r} has {len(library)} values for the {count} vertices of the library's mesh",
                "the object library has changed since: generate the scenes again",
            )
        vertices = np.flatnonzero(contact)
        places = pixels[vertices[:: max(1, len(vertices) // PLACES_KEPT)]].astype(np.float16)
        return _Thing(fact, np.packbits(contact), library, places)

    def subset(self, indices: Iterable[int]) -> TrainingSet:
        """The pictures of some indices, in their order; nothing is copied."""
        made = copy.copy(self)
        chosen = [int(index) for index in indices]
        made._pictures = [self._pictures[index] for index in chosen]
        made._segments = [self._segments[index] for index in chosen]
        made._joints = [self._joints[index] for index in chosen]
        made._things = [self._things[index] for index in chosen]
        return made

    def facts(self, index: int) -> tuple[Fact, ...]:
        """What is true about the objects of picture `index`."""
        return tuple(thing.fact for thing in self._things[index])

    def contacts(self, index: int) -> NDArray[np.bool_]:
        """(objects, V) bool of picture `index`."""
        bits = np.array([thing.contact for thing in self._things[index]], dtype=np.uint8)
        return np.unpackbits(bits.reshape(len(bits), -1), axis=1, count=self.vertex_count).astype(bool)

    def plain(self, index: int) -> Sample:
        """Picture `index` as inference would see it."""
        return self._sample(index, np.array([[1.0, 0, 0], [0, 1.0, 0]]), False, lambda picture: picture)

    def varied(self, index: int, random: np.random.Generator, how: Variation) -> Sample:
        """A varied copy of picture `index`."""
        mirrored = bool(random.random() < how.mirror)
        scale = 1.0 + random.uniform(-how.scale, how.scale)
        shift = random.uniform(-how.shift, how.shift, size=2) * self.size
        height, width = self._pictures[index].shape[:2]
        middle = np.array([width, height]) / 2
        move = np.concatenate([np.eye(2) * scale, (middle - scale * middle + shift)[:, None]], axis=1)
        gains = 1.0 + random.uniform(-how.color, how.color, size=3)
        gains *= 1.0 + random.uniform(-how.light, how.light)
        contrast = 1.0 + random.uniform(-how.light, how.light)
        deviation = random.uniform(0, how.noise)
        noise = random.standard_normal((height, width, 3), dtype=np.float32) * np.float32(deviation)
        gray = bool(random.random() < how.gray)

        def recolored(picture: FloatArray) -> FloatArray:
            if gray:
                picture = np.repeat(picture.mean(axis=2, keepdims=True), 3, axis=2)
            mean = picture.mean()
            changed = ((picture - mean) * contrast + mean) * gains + noise
            return np.clip(changed, 0, 255).astype(np.float32)

        return self._sample(index, move, mirrored, recolored)

    def _sample(self, index: int, move: NDArray[np.float64], mirrored: bool, recolored: Any) -> Sample:
        """The picture after mirroring, `move` (2, 3) in its own pixels, and `recolored`, on CLIP's square."""
        picture, segments, joints = self._pictures[index], self._segments[index], self._joints[index]
        things, contacts = self._things[index], self.contacts(index)
        height, width = shape = picture.shape[:2]
        if mirrored:
            picture, segments = picture[:, ::-1], self._class_mirror[segments[:, ::-1]]
            joints = (joints * [-1, 1] + [width, 0])[self._joint_mirror]
            contacts = contacts[:, self._mirror]
        # OpenCV counts from the centre of the first pixel.
        shifted = move.copy()
        shifted[:, 2] += move[:, :2] @ [0.5, 0.5] - 0.5
        mean = tuple(round(255 * channel) for channel in CLIP_MEAN)
        moved = cv2.warpAffine(
            np.ascontiguousarray(picture), shifted, (width, height), flags=cv2.INTER_LINEAR, borderValue=mean
        )
        top, left = (self.size - height) // 2, (self.size - width) // 2
        square: FloatArray = np.empty((self.size, self.size, 3), dtype=np.float32)
        square[:] = mean
        square[top : top + height, left : left + width] = recolored(moved.astype(np.float32))
        pixels = (square / 255.0 - np.array(CLIP_MEAN, np.float32)) / np.array(CLIP_STD, np.float32)
        facts = tuple(thing.fact.mirrored() if mirrored else thing.fact for thing in things)
        return Sample(
            pixels=np.ascontiguousarray(pixels.transpose(2, 0, 1), dtype=np.float32),
            classes=self._cell_classes(segments, move, top, left, (height, width)),
            joints=self._joint_cells(joints, move, top, left, (height, width)),
            facts=facts,
            contacts=contacts,
            things=tuple(self._library_contact(thing, mirrored) for thing in things),
            places=tuple(
                self._cells_of(_flipped(thing.places, width) if mirrored else thing.places, move, top, left, shape)
                for thing in things
            ),
            mirrored=mirrored,
        )

    def _cell_classes(
        self, segments: ByteArray, move: NDArray[np.float64], top: int, left: int, shape: tuple[int, int]
    ) -> ByteArray:
        """What the middle of every cell shows."""
        centres = np.arange(self.size // CELL) * CELL + CELL / 2
        place = np.stack(np.meshgrid(centres - left, centres - top), axis=-1)  # (c, c, 2) x, y in the picture
        inside = ((place >= 0) & (place < [shape[1], shape[0]])).all(axis=-1)
        source = (place - move[:, 2]) @ np.linalg.inv(move[:, :2]).T
        index = np.floor(source / SEGMENT_STEP).astype(np.int64)
        inside &= ((index >= 0) & (index < [segments.shape[1], segments.shape[0]])).all(axis=-1)
        classes: ByteArray = np.full(inside.shape, IGNORED_CLASS, dtype=np.uint8)
        classes[inside] = segments[index[inside][:, 1], index[inside][:, 0]]
        return classes

    def _joint_cells(
        self, joints: NDArray[Any], move: NDArray[np.float64], top: int, left: int, shape: tuple[int, int]
    ) -> NDArray[np.int64]:
        moved = joints @ move[:, :2].T + move[:, 2]
        with np.errstate(invalid="ignore"):
            inside = ((moved >= 0) & (moved < [shape[1], shape[0]])).all(axis=-1)
        cell = np.floor((np.nan_to_num(moved) + np.array([left, top])) / CELL).astype(np.int64)
        return np.where(inside, cell[:, 1] * (self.size // CELL) + cell[:, 0], -1)

    def _cells_of(
        self, places: NDArray[Any], move: NDArray[np.float64], top: int, left: int, shape: tuple[int, int]
    ) -> NDArray[np.int64]:
        """The cells of places in the picture, those outside left out."""
        cells = self._joint_cells(places.astype(np.float64), move, top, left, shape)
        return cells[cells >= 0]

    def _library_contact(self, thing: _Thing, mirrored: bool) -> FloatArray:
        values = thing.library.astype(np.float32) / 255.0
        return values[self._library_mirror(thing.fact.label)] if mirrored else values

    def _library_mirror(self, label: str) -> NDArray[np.int64]:
        """(N,) the vertex of the library's mesh nearest to each vertex's mirror image."""
        if label not in self._library_mirrors:
            from scipy.spatial import cKDTree

            vertices = library_mesh(label).vertices
            mirrored = cKDTree(vertices).query(vertices * np.array([-1, 1, 1], np.float32))[1]
            self._library_mirrors[label] = np.asarray(mirrored, dtype=np.int64)
        return self._library_mirrors[label]

    def class_weights(self, classes: int, sample: int = 2000) -> FloatArray:
        """(C,) weights of the auxiliary classes, rarer ones counting more, with mean about one."""
        counts = np.zeros(256)
        for segments in self._segments[:sample]:
            counts += np.bincount(segments.ravel(), minlength=256)
        share = counts[:classes] / max(1.0, counts[:classes].sum())
        weights = 1.0 / np.sqrt(share + 1e-3)
        return (weights / (weights * share).sum()).astype(np.float32)

    def contact_statistics(self, rank: int, most: int = 4000, seed: int = 0) -> tuple[FloatArray, FloatArray]:
        """Mean contact (V,) and principal directions (R, V) times their deviations, mirror images included."""
        random = np.random.default_rng(seed)
        places = [(index, number) for index, things in enumerate(self._things) for number in range(len(things))]
        if not places:
            raise InputError("data", "holds no object", "generate scenes first: `ivlm synth generate`")
        chosen = random.permutation(len(places))[:most]
        rows = np.stack([self.contacts(places[number][0])[places[number][1]] for number in chosen]).astype(np.float32)
        return _statistics(np.concatenate([rows, rows[:, self._mirror]]), rank, random)

    def library_statistics(self, rank: int, most: int = 600, seed: int = 0) -> dict[str, tuple[FloatArray, FloatArray]]:
        """Of each category that is touched, mean contact (V,) on the library's mesh and principal directions (≤ R, V)
        times their deviations, mirror images included.
        """
        random = np.random.default_rng(seed)
        found: dict[str, list[_Thing]] = {}
        for things in self._things:
            for thing in things:
                if thing.library.any():
                    found.setdefault(thing.fact.label, []).append(thing)
        statistics = {}
        for label in sorted(found):
            chosen = [found[label][number] for number in random.permutation(len(found[label]))[:most]]
            rows = np.stack([self._library_contact(thing, mirrored) for thing in chosen for mirrored in (False, True)])
            statistics[label] = _statistics(rows, rank, random)
        return statistics

    def category_prior(self) -> dict[str, FloatArray]:
        """Label → mean contact (V,) over the scenes in which it is touched."""
        sums: dict[str, NDArray[np.float64]] = {}
        counts: dict[str, int] = {}
        for index, things in enumerate(self._things):
            for thing, contact in zip(things, self.contacts(index), strict=True):
                if contact.any():
                    label = thing.fact.label
                    sums[label] = sums.get(label, np.zeros(self.vertex_count)) + contact
                    counts[label] = counts.get(label, 0) + 1
        return {label: (total / counts[label]).astype(np.float32) for label, total in sums.items()}


def _statistics(rows: FloatArray, rank: int, random: np.random.Generator) -> tuple[FloatArray, FloatArray]:
    """Mean (V,) of (N, V) and principal directions (≤ R, V) times their deviations."""
    mean = rows.mean(axis=0)
    centred = rows - mean
    # A randomised range finder: the spectrum falls fast, and two power steps make it exact enough.
    basis = centred @ random.standard_normal((centred.shape[1], rank + 8), dtype=np.float32)
    for _ in range(2):
        basis = centred @ (centred.T @ np.linalg.qr(basis)[0])
    orthogonal = np.linalg.qr(basis)[0]
    _, deviations, directions = np.linalg.svd(orthogonal.T @ centred, full_matrices=False)
    kept = min(rank, len(deviations))
    patterns = directions[:kept] * (deviations[:kept, None] / np.sqrt(len(rows)))
    return mean.astype(np.float32), patterns.astype(np.float32)


def _flipped(places: NDArray[Any], width: int) -> NDArray[np.float64]:
    """Places (P, 2) in the mirror image."""
    mirrored: NDArray[np.float64] = places.astype(np.float64) * [-1, 1] + [width, 0]
    return mirrored
