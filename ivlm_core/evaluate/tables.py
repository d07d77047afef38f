"""Rows of the paper's tables: binary contact per image, semantic contact per object category, running means."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ivlm_core.errors import InputError, shown
from ivlm_core.evaluate.geodesic import Surface
from ivlm_core.evaluate.metrics import (
    COUNT_FLOOR,
    GeodesicError,
    check_threshold,
    contact_scores,
    geodesic_error,
    vertex_pair,
)

# The paper's groups of object categories; which category belongs where is the data set's to say.
SEMANTIC_GROUPS = ("transport", "accessory", "furniture", "everyday-objects", "sports", "food", "kitchen")
# The groups of the categories that generated scenes show.
GROUP_OF = {
    **dict.fromkeys(("bicycle", "motorcycle"), "transport"),
    **dict.fromkeys(("backpack", "handbag", "suitcase", "umbrella"), "accessory"),
    **dict.fromkeys(("chair", "bench", "couch", "bed", "dining table"), "furniture"),
    **dict.fromkeys(("book", "laptop", "cell phone", "keyboard"), "everyday-objects"),
    **dict.fromkeys(("skateboard", "surfboard", "snowboard", "tennis racket", "baseball bat"), "sports"),
    **dict.fromkeys(("sports ball", "frisbee"), "sports"),
    **dict.fromkeys(("bottle", "cup"), "kitchen"),
}
REDUCED_FLOOR = 1e-5


class ContactRow(NamedTuple):
    """One line of a table: scores in [0, 1], distances in the unit of the matrix (metres), None without one."""

    f1: float
    precision: float
    recall: float
    geodesic_fp: float | None
    geodesic_fn: float | None
    samples: int


class SemanticTable(NamedTuple):
    """The whole, each object category by its name in plain words, and each group that has samples."""

    overall: ContactRow
    per_category: dict[str, ContactRow]
    per_group: dict[str, ContactRow]


def binary_scores(
    pred: ArrayLike,
    gt: ArrayLike,
    images: Sequence[Hashable],
    distances: NDArray | Surface | None = None,
    threshold: float = 0.5,
    official: bool = False,
) -> ContactRow:
    """Contact with anything at all: the union over the objects of an image.

    All are means over the images, each judged by the union of its objects.

    Parameters
    ----------
    pred : (K, V) probabilities of each image and object.
    gt : (K, V) contact in [0, 1], or booleans.
    images : K names of the image each row belongs to.
    distances, threshold : as for `geodesic_error`.
    official : as the released evaluation does: precision and recall of all images' vertices together, and the greatest
        of each image's `official` geodesic errors.

    Raises
    ------
    InputError : as for `contact_scores`; not one image name per row.
    """
    pred, gt = _rows(pred, gt)
    members = _members(images, len(pred), "images")
    hit, true = pred >= check_threshold(threshold), gt > 0
    united = np.stack([hit[rows].any(0) for rows in members.values()])
    wanted = np.stack([true[rows].any(0) for rows in members.values()])
    scores = contact_scores(united, wanted).mean()
    error = None
    if distances is not None and official:
        each = geodesic_error(pred, gt, distances, threshold, official)
        error = GeodesicError(*(np.array([side[rows].max() for rows in members.values()]) for side in each))
    elif distances is not None:
        error = geodesic_error(united, wanted, distances)
    if official:
        overlap = (united & wanted).sum()
        scores["precision"] = float(overlap / (united.sum() + COUNT_FLOOR))
        scores["recall"] = float(overlap / (wanted.sum() + COUNT_FLOOR))
    return ContactRow(
        **scores,
        geodesic_fp=None if error is None else float(error.fp.mean()),
        geodesic_fn=None if error is None else float(error.fn.mean()),
        samples=len(members),
    )


def semantic_scores(
    pred: ArrayLike,
    gt: ArrayLike,
    categories: Sequence[str],
    groups: Mapping[str, str] | None = None,
    distances: NDArray | Surface | None = None,
    threshold: float = 0.5,
    official: bool = False,
) -> SemanticTable:
    """Contact with each object by itself: means of the samples' scores, overall, per category and per group.

    Parameters
    ----------
    pred : (K, V) probabilities of each image and object.
    gt : (K, V) contact in [0, 1], or booleans.
    categories : K object names; underscores and capitals make no difference.
    groups : category → group. Categories that it lacks are in no group.
    distances : as for `geodesic_error`.
    official : precision = #(p > 0 and true) / Σp and recall = #(p > 0 and true) / #true over all samples of the row, as
        the released evaluation does without a threshold: precision exceeds 1, only F1 means something. Geodesic errors
        are its, too.

    Raises
    ------
    InputError : as for `contact_scores`; not one category per row.
    """
    pred, gt = _rows(pred, gt)
    names = [_plain(name) for name in categories]
    group_of = {_plain(name): group for name, group in (groups or {}).items()}
    scores = contact_scores(pred, gt, threshold)
    error = None if distances is None else geodesic_error(pred, gt, distances, threshold, official)
    touched = ((pred > 0) & (gt > 0)).sum(-1)

    def row(chosen: NDArray) -> ContactRow:
        precision, recall = float(scores.precision[chosen].mean()), float(scores.recall[chosen].mean())
        if official:
            precision = float(touched[chosen].sum() / (pred[chosen].sum(dtype=np.float64) + COUNT_FLOOR))
            recall = float(touched[chosen].sum() / ((gt[chosen] > 0).sum() + COUNT_FLOOR))
        return ContactRow(
            f1=float(scores.f1[chosen].mean()),
            precision=precision,
            recall=recall,
            geodesic_fp=None if error is None else float(error.fp[chosen].mean()),
            geodesic_fn=None if error is None else float(error.fn[chosen].mean()),
            samples=len(chosen),
        )

    per_category = {str(name): row(rows) for name, rows in _members(names, len(pred), "categories").items()}
    by_group = _members([group_of.get(name, "") for name in names], len(pred), "categories")
    return SemanticTable(
        overall=row(np.arange(len(pred))),
        per_category=dict(sorted(per_category.items())),
        per_group={str(group): row(rows) for group, rows in sorted(by_group.items(), key=str) if group},
    )


@dataclass
class RunningMean:
    """The mean of values that come one by one, or in batches of a known size.

    Values that are not finite are left out and counted in `skipped`. With `official` they are what the released
    meters make of them: only a batch holding both NaN and an infinity is left out, and the mean divides by the count
    plus 1e-5.
    """

    official: bool = False
    total: float = 0.0
    count: float = 0.0
    skipped: int = field(default=0)

    def add(self, value: ArrayLike, count: float = 1) -> None:
        """Take in a value, or the mean of a batch of `count` values; of an array, each element counts so.

        Raises
        ------
        InputError : an empty array, or a negative count.
        """
        values = np.asarray(value, dtype=np.float64).ravel()
        if not values.size or not count >= 0:
            raise InputError("value", f"has {values.size} elements with a count of {count}", "give at least one")
        if self.official:
            keep = np.full(values.shape, not (np.isnan(values).any() and np.isinf(values).any()))
        else:
            keep = np.isfinite(values)
        self.skipped += int((~keep).sum())
        self.total += float(values[keep].sum()) * count
        self.count += int(keep.sum()) * count

    def merge(self, other: RunningMean) -> None:
        """Take in what another process has gathered."""
        self.total, self.count = self.total + other.total, self.count + other.count
        self.skipped += other.skipped

    @property
    def mean(self) -> float | None:
        """None before the first value."""
        if not self.count:
            return None
        return self.total / (self.count + (REDUCED_FLOOR if self.official else 0.0))


def _rows(pred: ArrayLike, gt: ArrayLike) -> tuple[NDArray, NDArray]:
    pred, gt = vertex_pair(pred, gt)
    if pred.ndim != 2:
        raise InputError("pred", f"has shape {pred.shape}", "give (K, V), a row per image and object")
    return pred, gt


def _members(names: Sequence[Hashable], count: int, field_name: str) -> dict[Hashable, NDArray]:
    """Rows of each name, in the order of their first appearance."""
    if len(names) != count:
        raise InputError(field_name, f"are {len(names)} for {count} rows", "give one per row")
    members: dict[Hashable, list[int]] = {}
    for index, name in enumerate(names):
        members.setdefault(name, []).append(index)
    return {name: np.array(rows) for name, rows in members.items()}


def _plain(name: str) -> str:
    if not isinstance(name, str) or not name.strip():
        raise InputError("categories", f"hold {shown(name)}", "give the name of an object")
    return name.replace("_", " ").strip().lower()
