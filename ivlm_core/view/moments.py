"""What the page shows of one image: its picture, every object's answer, and the scene in the camera's metres."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ivlm_core.types import ByteArray, CameraIntrinsics, FloatArray, IntArray, Mesh


@dataclass(frozen=True, order=True)
class Pair:
    """An object, and the person whose contact with it is told.

    Attributes
    ----------
    camera : the frame of the camera that sees both; identifiers of different cameras are different things.
    label, object_id, person_id : as the detection gave them. number : counts those that are otherwise equal.
    """

    camera: str
    label: str
    object_id: str
    person_id: str
    number: int = 0


@dataclass(frozen=True, eq=False)
class Heat:
    """Values on a mesh.

    Attributes
    ----------
    mesh : metres, y up; None where the mesh cannot be had, and `note` then says why.
    values : (V,) float32 in [0, 1]. threshold : smaller values were not written down and are 0 here.
    note : what is to be known about the mesh.
    """

    mesh: Mesh | None
    values: FloatArray
    threshold: float = 0.0
    note: str = ""


@dataclass(frozen=True, eq=False)
class Placement:
    """`x_camera = scale · rotation @ x + translation`: a mesh in the optical frame (x right, y down, z forward; m)."""

    rotation: NDArray[np.float64]
    translation: NDArray[np.float64]
    scale: float


@dataclass(frozen=True, eq=False)
class Region:
    """A part of an object that can be used and is not held: middle and normal in the optical frame, metres."""

    centroid: NDArray[np.float64]
    normal: NDArray[np.float64]
    area_cm2: float
    affordance: float
    vertices: IntArray


@dataclass(frozen=True, eq=False)
class PairAnswer:
    """Everything that was found about one pair in one image.

    Attributes
    ----------
    body, thing : contact on the canonical body, affordance on the object's mesh; None where not answered.
    true_body, true_thing : what is known to be true, where the recording says so.
    sentence, confidence : of the model about the body; thing_sentence, thing_confidence : about the object.
    body_parts : name → score, the highest first. affordance : its kind.
    placement : of `thing`'s mesh; None without a pose, and `pose_reason` then says why.
    placed_mesh : the mesh that was placed; None where it cannot be had.
    pose_state, pose_notes, residuals : about the fit. contact_area_cm2 : skin in contact, where known.
    missing : why a side was not answered, a sentence each.
    """

    body: Heat | None = None
    thing: Heat | None = None
    true_body: Heat | None = None
    true_thing: Heat | None = None
    sentence: str = ""
    confidence: float | None = None
    thing_sentence: str = ""
    thing_confidence: float | None = None
    body_parts: tuple[tuple[str, float], ...] = ()
    affordance: str = ""
    placement: Placement | None = None
    placed_mesh: Mesh | None = None
    pose_reason: str = ""
    pose_state: str = ""
    pose_notes: tuple[str, ...] = ()
    residuals: Mapping[str, float] = field(default_factory=dict)
    contact_area_cm2: float | None = None
    regions: tuple[Region, ...] = ()
    missing: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Person:
    """Somebody in front of the camera.

    Attributes
    ----------
    mesh : posed, metres, in the optical frame. person_id : empty where there is only one.
    colors : (V, 3) uint8 RGB with the contact of all objects, where vertices are not those of the canonical body.
    """

    mesh: Mesh
    person_id: str = ""
    colors: ByteArray | None = None


@dataclass(frozen=True, eq=False)
class Box:
    """Where a detector saw an object, pixels of the picture."""

    label: str
    object_id: str
    person_id: str
    xyxy: tuple[float, float, float, float]


@dataclass(frozen=True, eq=False)
class Moment:
    """One image.

    Attributes
    ----------
    picture : (H, W, 3) uint8 RGB or None. picture_note : what it is, where it is not the camera's image, or why none.
    camera : intrinsics of the picture; None where unknown. model : the name of what answered.
    notes : what could not be read.
    """

    stamp_ns: int
    camera_frame: str
    picture: ByteArray | None
    picture_note: str
    answers: Mapping[Pair, PairAnswer]
    boxes: tuple[Box, ...] = ()
    people: tuple[Person, ...] = ()
    camera: CameraIntrinsics | None = None
    model: str = ""
    notes: tuple[str, ...] = ()


class Source(Protocol):
    """Something with moments to look at.

    Attributes
    ----------
    title : its name. stamps : (n,) of the moments, nanoseconds, in the order they are shown.
    pairs : every pair that occurs, in the order of their first moment. occurrences : pair → its moments, ascending.
    cameras : (n,) the camera's frame of each moment. has_truth : whether true contacts are known.
    thresholds : the smallest value that may have been written down, and the one to begin with.
    notes : what is to be said about all of it.
    """

    @property
    def title(self) -> str: ...
    @property
    def stamps(self) -> Sequence[int]: ...
    @property
    def cameras(self) -> Sequence[str]: ...
    @property
    def pairs(self) -> Sequence[Pair]: ...
    @property
    def occurrences(self) -> Mapping[Pair, Sequence[int]]: ...
    @property
    def has_truth(self) -> bool: ...
    @property
    def thresholds(self) -> tuple[float, float]: ...
    @property
    def notes(self) -> Sequence[str]: ...

    def moment(self, number: int) -> Moment:
        """The moment at a place of `stamps`; what cannot be read of it is in its notes."""
        ...

    def close(self) -> None:
        """Let go of open files."""
        ...


def pair_titles(pairs: Sequence[Pair]) -> dict[str, Pair]:
    """A name for every pair, unlike all others: its label, and as much of the rest as is needed to tell them apart."""
    several_cameras = len({pair.camera for pair in pairs}) > 1
    titles: dict[str, Pair] = {}
    for pair in pairs:
        alike = [other for other in pairs if other.label == pair.label and other.camera == pair.camera]
        title = pair.label or "(no label)"
        if len({other.object_id for other in alike}) > 1 and pair.object_id:
            title += f" [{pair.object_id}]"
        if len({other.person_id for other in alike}) > 1 or pair.person_id:
            title += f" · person {pair.person_id or '?'}"
        if several_cameras:
            title = f"{pair.camera or '(no frame)'} · {title}"
        unlike, count = title, 1
        while unlike in titles:
            count += 1
            unlike = f"{title} ({count})"
        titles[unlike] = pair
    return titles
