"""Scores of one scene's answers, and the blocks of numbers that many scenes make.

A *sample* is one touched object of one scene. F1 has no meaning where nothing is true, so objects that nobody touches
are no samples of the semantic scores and of the object scores; they count in the binary scores, where marking contact
with them is wrong, and `untouched` says how often that happens. A scene in which nothing is touched is left out of the
binary scores for the same reason.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ivlm_core.bodies import PART_NAMES, BodyModel
from ivlm_core.bodies.model import CONTACT_SHARE
from ivlm_core.evaluate.geodesic import Surface
from ivlm_core.evaluate.metrics import affordance_scores, contact_scores
from ivlm_core.evaluate.tables import GROUP_OF

HANDS = (PART_NAMES.index("left hand"), PART_NAMES.index("right hand"))
# A grip is one-handed when this much of its contact is on one hand and none on the other.
ONE_HANDED_SHARE = 0.8
FRONT = 90.0
CONTACT_COLUMNS = ("f1", "precision", "recall", "geodesic_cm", "geodesic_reverse_cm", "f1_area")
OBJECT_COLUMNS = ("sim", "auc", "aiou", "mae")
CHOICES = ("only_right", "only_wrong", "both", "none")


@dataclass(frozen=True, eq=False)
class Truth:
    """The ground truth of one scene.

    Attributes
    ----------
    labels : K categories. contact : (K, V) bool. distances : (K, V) metres to the true contact, infinite without any.
    things : K arrays (N,) in [0, 1] on the library's meshes, None where there is none.
    azimuth : degrees of the camera from the person's front.
    """

    labels: tuple[str, ...]
    contact: NDArray[np.bool_]
    distances: NDArray[np.float64]
    things: tuple[NDArray | None, ...]
    azimuth: float


class SampleScores(NamedTuple):
    """Scores of one touched object.

    Attributes
    ----------
    contact : (6,) `CONTACT_COLUMNS`. parts : (15, 3) F1, precision, recall per body part, NaN where a part is neither
        touched nor marked. thing : (4,) `OBJECT_COLUMNS`, NaN where there is none. choice : index into `CHOICES` for
        one-handed grips seen from the front, −1 otherwise.
    """

    label: str
    contact: NDArray
    parts: NDArray
    thing: NDArray
    choice: int


class SceneScores(NamedTuple):
    """Scores of one answerer in one scene.

    Attributes
    ----------
    samples : of the touched objects. union : (6,) `CONTACT_COLUMNS` of all objects together, None where none is
        touched. untouched : for each object that nobody touches, whether contact was marked. missing : objects without
        an answer.
    """

    samples: tuple[SampleScores, ...]
    union: NDArray | None
    untouched: tuple[bool, ...]
    missing: int


class Scorer:
    """Scores scenes on one body model.

    Parameters
    ----------
    body : V vertices with their areas and parts. surface : of the same body.
    """

    def __init__(self, body: BodyModel, surface: Surface) -> None:
        self.body = body
        self.surface = surface
        # Answers that see no picture are the same again and again.
        self._distance_to = lru_cache(maxsize=256)(self._distance_to_bits)
        self._area = body.vertex_area.astype(np.float64)
        self._parts = np.eye(len(PART_NAMES))[body.part_labels]  # (V, 15)
        self._hand_areas = np.array([self._area[body.part_labels == hand].sum() for hand in HANDS])

    def distances(self, contact: NDArray[np.bool_]) -> NDArray[np.float64]:
        """(K, V) metres along the surface to the contact (K, V) of each row; infinite for a row without any."""
        return np.stack([self._distance_to(np.packbits(row).tobytes()) for row in contact])

    def _distance_to_bits(self, bits: bytes) -> NDArray[np.float64]:
        row = np.unpackbits(np.frombuffer(bits, np.uint8), count=self.surface.vertex_count).astype(bool)
        return self.surface.distance_to(row) if row.any() else np.full(len(row), np.inf)

    def truth(self, record: Any) -> Truth:
        """The ground truth of a record."""
        contact = np.stack([np.asarray(item.body_contact, dtype=bool) for item in record.objects])
        things = tuple(None if item.library_contact is None else item.library_contact for item in record.objects)
        labels = tuple(item.label for item in record.objects)
        return Truth(labels, contact, self.distances(contact), things, float(record.azimuth))

    def score(
        self,
        truth: Truth,
        hits: NDArray[np.bool_],
        things: Sequence[NDArray | None],
        distances: NDArray[np.float64] | None = None,
        missing: int = 0,
    ) -> SceneScores:
        """Scores of one answerer.

        Parameters
        ----------
        hits : (K, V) where contact was marked. things : K answers for the objects' meshes.
        distances : `self.distances(hits)` where it is known already.
        missing : objects without an answer.
        """
        away = self.distances(hits) if distances is None else distances
        touched = truth.contact.any(axis=1)
        samples = tuple(
            SampleScores(
                truth.labels[row],
                self._contact(hits[row], truth.contact[row], away[row], truth.distances[row]),
                self._per_part(hits[row], truth.contact[row]),
                _thing_scores(things[row], truth.things[row]),
                self._choice(hits[row], truth.contact[row], truth.azimuth),
            )
            for row in np.flatnonzero(touched).tolist()
        )
        union = None
        if touched.any():
            # The distance to a union is the smallest of the distances.
            hit, true = np.asarray(hits.any(axis=0)), np.asarray(truth.contact.any(axis=0))
            union = self._contact(hit, true, away.min(axis=0), truth.distances.min(axis=0))
        marked = tuple(bool(hits[row].any()) for row in np.flatnonzero(~touched))
        return SceneScores(samples, union, marked, missing)

    def _contact(
        self,
        hit: NDArray[np.bool_],
        true: NDArray[np.bool_],
        to_hit: NDArray[np.float64],
        to_true: NDArray[np.float64],
    ) -> NDArray:
        scores, by_area = contact_scores(hit, true), contact_scores(hit, true, weights=self._area)
        # An empty answer stands for all vertices, as in `geodesic_error`.
        marked = hit if hit.any() else np.ones_like(hit)
        reverse = to_hit[true].mean() if hit.any() else 0.0
        return np.array([*scores, 100 * to_true[marked].mean(), 100 * reverse, by_area.f1])

    def _per_part(self, hit: NDArray[np.bool_], true: NDArray[np.bool_]) -> NDArray:
        both, marked, wanted = ((mask.astype(np.float64) @ self._parts) for mask in (hit & true, hit, true))
        with np.errstate(invalid="ignore", divide="ignore"):
            precision, recall = both / np.maximum(marked, 1), both / np.maximum(wanted, 1)
            f1 = 2 * both / (marked + wanted)
        scores = np.stack([f1, precision, recall], axis=1)
        scores[marked + wanted == 0] = np.nan
        return scores

    def _choice(self, hit: NDArray[np.bool_], true: NDArray[np.bool_], azimuth: float) -> int:
        on_hand = np.array([(true & (self.body.part_labels == hand)).sum() for hand in HANDS])
        if abs(azimuth) > FRONT or on_hand.min() > 0 or on_hand.max() < ONE_HANDED_SHARE * true.sum():
            return -1
        covered = [self._area[hit & (self.body.part_labels == hand)].sum() for hand in HANDS]
        marks = np.array(covered) >= CONTACT_SHARE * self._hand_areas
        right, wrong = marks[on_hand.argmax()], marks[on_hand.argmin()]
        return {(True, False): 0, (False, True): 1, (True, True): 2, (False, False): 3}[bool(right), bool(wrong)]


def summarize(scenes: Sequence[SceneScores], categories: Collection[str] | None = None) -> dict[str, Any]:
    """The blocks `binary`, `semantic`, `object`, `untouched`, `hand_choice` and the number `wrong_hand_rate`.

    Means over samples or scenes; None for a mean of nothing. `f1_error` is the standard error of the mean F1.

    Parameters
    ----------
    categories : whose objects are samples; None for all.
    """
    samples = [
        sample for scene in scenes for sample in scene.samples if categories is None or sample.label in categories
    ]
    unions = [scene.union for scene in scenes if scene.union is not None]
    untouched = [marked for scene in scenes for marked in scene.untouched]
    choices = [sample.choice for sample in samples if sample.choice >= 0]
    counts = {name: choices.count(number) for number, name in enumerate(CHOICES)}
    return {
        "binary": _contact_block(unions),
        "semantic": {
            **_contact_block([sample.contact for sample in samples]),
            "per_category": {
                name: _contact_block([sample.contact for sample in chosen])
                for name, chosen in _grouped(samples, {sample.label: sample.label for sample in samples}).items()
            },
            "per_group": {
                name: _contact_block([sample.contact for sample in chosen])
                for name, chosen in _grouped(samples, GROUP_OF).items()
            },
            "per_part": _part_block(samples),
        },
        "object": _object_block(samples),
        "untouched": {"samples": len(untouched), "marked": _mean(untouched)},
        "wrong_hand_rate": counts["only_wrong"] / len(choices) if choices else None,
        "hand_choice": {**counts, "samples": len(choices)},
        "unanswered": sum(scene.missing for scene in scenes),
    }


def _contact_block(rows: Sequence[NDArray]) -> dict[str, Any]:
    values = np.array(rows).reshape(-1, len(CONTACT_COLUMNS))
    block: dict[str, Any] = {name: _mean(values[:, column]) for column, name in enumerate(CONTACT_COLUMNS)}
    block["f1_error"] = float(values[:, 0].std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else None
    return {**block, "samples": len(values)}


def _part_block(samples: Sequence[SampleScores]) -> dict[str, Any]:
    block = {}
    for part, name in enumerate(PART_NAMES):
        scores = np.array([sample.parts[part] for sample in samples]).reshape(-1, 3)
        scores = scores[~np.isnan(scores[:, 0])]
        if len(scores):
            columns = {column: _mean(scores[:, number]) for number, column in enumerate(("f1", "precision", "recall"))}
            block[name] = {**columns, "samples": len(scores)}
    return block


def _object_block(samples: Sequence[SampleScores]) -> dict[str, Any] | None:
    def row(chosen: Sequence[SampleScores]) -> dict[str, Any]:
        scores = np.array([sample.thing for sample in chosen])
        means = {
            name: _mean(scores[~np.isnan(scores[:, column]), column]) for column, name in enumerate(OBJECT_COLUMNS)
        }
        return {**means, "samples": len(scores)}

    judged = [sample for sample in samples if not np.isnan(sample.thing[0])]
    if not judged:
        return None
    names = {sample.label: sample.label for sample in judged}
    return {**row(judged), "per_category": {name: row(chosen) for name, chosen in _grouped(judged, names).items()}}


def _grouped(samples: Sequence[SampleScores], group_of: Mapping[str, str]) -> dict[str, list[SampleScores]]:
    groups: dict[str, list[SampleScores]] = {}
    for sample in samples:
        if sample.label in group_of:
            groups.setdefault(group_of[sample.label], []).append(sample)
    return dict(sorted(groups.items()))


def _thing_scores(pred: NDArray | None, true: NDArray | None) -> NDArray:
    if pred is None or true is None or pred.shape != true.shape:
        return np.full(len(OBJECT_COLUMNS), np.nan)
    scores = affordance_scores(pred, true)
    return np.array([getattr(scores, name) for name in OBJECT_COLUMNS], dtype=np.float64)


def _mean(values: Any) -> float | None:
    return float(np.mean(values)) if len(values) else None
