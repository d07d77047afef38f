"""What is judged: a picture with the objects a detector would report goes in, contact on body and objects comes out.

Nothing of the ground truth is in a `Picture`, so that no answer can have seen any of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ivlm_core.evaluate.priors import Priors
from ivlm_core.objects import canonical_label, library_mesh
from ivlm_core.types import ByteArray, CameraIntrinsics, FloatArray, Frame, Mesh, ObjectQuery

if TYPE_CHECKING:
    from ivlm_core.datasets.synthetic import SceneRecord
    from ivlm_core.pipeline import Pipeline


@dataclass(frozen=True, eq=False)
class Detection:
    """One object in a picture: its label, and its box (x_min, y_min, x_max, y_max) in pixels or None where hidden."""

    label: str
    box: tuple[float, float, float, float] | None


@dataclass(frozen=True, eq=False)
class Picture:
    """(H, W, 3) uint8 RGB, its camera, and the K objects in it."""

    image: ByteArray
    intrinsics: CameraIntrinsics | None
    objects: tuple[Detection, ...]


@dataclass(frozen=True, eq=False)
class Answer:
    """Contact with one object.

    Attributes
    ----------
    body : (V,) float32 in [0, 1].
    thing : (N,) float32 in [0, 1] on the library's mesh of the label; None for what answers for the body alone.
    given : False where the model gave no answer, and zeros stand in.
    """

    body: FloatArray
    thing: FloatArray | None = None
    given: bool = True


class Answerer(Protocol):
    """Anything that is judged.

    Attributes
    ----------
    threshold : where its body contact is cut.
    """

    threshold: float

    def __call__(self, picture: Picture) -> list[Answer]:
        """One answer per object of the picture."""
        ...


def picture_of(record: SceneRecord) -> Picture:
    """A record without its ground truth."""
    objects = tuple(Detection(item.label, _box(item.box)) for item in record.objects)
    return Picture(record.image, record.intrinsics, objects)


class ModelAnswers:
    """A pipeline in free generation. It is given the picture, and label and box of every object.

    Parameters
    ----------
    name_objects : False for a model that was trained with every object called "object"; the meshes stay the labels'.
    """

    threshold = 0.5

    def __init__(self, pipeline: Pipeline, name_objects: bool = True) -> None:
        self.pipeline = pipeline
        self.name_objects = name_objects

    def __call__(self, picture: Picture) -> list[Answer]:
        queries = [
            ObjectQuery(item.label, object_id=str(number), box_xyxy=item.box)
            if self.name_objects
            else ObjectQuery("object", object_id=str(number), box_xyxy=item.box, mesh=_mesh(item.label))
            for number, item in enumerate(picture.objects)
        ]
        # An answer is a function of its picture alone, and not of those before it.
        self.pipeline.forget()
        result = self.pipeline.run(Frame(picture.image, picture.intrinsics), queries)
        bodies = {contact.object_id: contact.probability for contact in result.human_contacts}
        things = {affordance.object_id: affordance.probability for affordance in result.object_affordances}
        nothing = np.zeros(len(self.pipeline.body.mesh.vertices), dtype=np.float32)
        return [
            Answer(
                bodies.get(query.object_id, nothing),
                things.get(query.object_id, _blank(item.label)),
                query.object_id in bodies and query.object_id in things,
            )
            for query, item in zip(queries, picture.objects, strict=True)
        ]


class PriorAnswers:
    """The mean contact of the label's training samples, whatever the picture shows."""

    def __init__(self, priors: Priors) -> None:
        self.priors = priors
        self.threshold = priors.threshold("prior")

    def __call__(self, picture: Picture) -> list[Answer]:
        return [
            Answer(self.priors.category(item.label), self.priors.on_object(item.label, len(_blank(item.label))))
            for item in picture.objects
        ]


def hits(answerer: Answerer, answers: Sequence[Answer]) -> NDArray[np.bool_]:
    """(K, V) where the answers mark contact."""
    return np.stack([answer.body >= answerer.threshold for answer in answers])


@lru_cache(maxsize=64)
def _blank(label: str) -> FloatArray:
    """(N,) zeros on the mesh of a label."""
    zeros = np.zeros(len(_mesh(label).vertices), dtype=np.float32)
    zeros.flags.writeable = False
    return zeros


def _mesh(label: str) -> Mesh:
    """What the library has for a label, a plain box where it has nothing."""
    return library_mesh(canonical_label(label) or "box")


def _box(box: Any) -> tuple[float, float, float, float] | None:
    if box is None:
        return None
    x_min, y_min, x_max, y_max = (float(side) for side in box)
    return (x_min, y_min, x_max, y_max) if x_min < x_max and y_min < y_max else None


Answerers = Mapping[str, Answerer]
