"""What contact looks like on average: per category, and per category and way of use; answers that see no picture.

The *category prior* marks the mean contact of a category's training samples, cut at the one threshold that is best for
all of them. The *oracle* is told how the object is used (which hand, which foot) and marks the mean of that: what a
perfect choice of limbs is worth without any look at the person's shape and pose.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ivlm_core.errors import InputError, shown
from ivlm_core.evaluate.ceilings import MaskPath
from ivlm_core.evaluate.metrics import COUNT_FLOOR, f1_score
from ivlm_core.objects import canonical_label
from ivlm_core.storage import UNREADABLE, atomic_path
from ivlm_core.types import FloatArray

if TYPE_CHECKING:
    from ivlm_core.datasets.synthetic import SceneRecord

SHIPPED_PRIORS = Path(__file__).parent / "data" / "priors.npz"
THRESHOLDS = np.round(np.arange(0.02, 1.0, 0.02), 2)
# Sides of the masks that thresholds are chosen for: `tiny` at half, its own and SAM's size.
MASK_SIZES = (64, 128, 256)
# Samples that thresholds are chosen on; the mean of so many scores is known to half a per cent.
MOST_SAMPLES = 4000
MOST_ROUND_TRIPS = 1000
# Means are kept in this many steps.
STEPS = 255


@dataclass(frozen=True, eq=False)
class Priors:
    """Mean contacts of a training set and the thresholds that suit them.

    Attributes
    ----------
    modes : (category, mode) of each row of `means`.
    means : (M, V) float32, mean contact of each category and mode.
    counts : (M,) samples behind each row.
    objects : library label → (N,) float32 mean contact on the library's mesh.
    thresholds : `prior` and `oracle`, and through masks of a side: `prior/128`, `oracle/128`, `ground truth/128`.
    source : what they were computed from: scenes, samples, split, seed, versions.
    """

    modes: Sequence[tuple[str, str]]
    means: FloatArray
    counts: NDArray[np.int64]
    objects: Mapping[str, FloatArray]
    thresholds: Mapping[str, float] = field(default_factory=dict)
    source: Mapping[str, Any] = field(default_factory=dict)

    @property
    def vertex_count(self) -> int:
        return self.means.shape[1]

    @property
    def categories(self) -> tuple[str, ...]:
        return tuple(sorted({category for category, _ in self.modes}))

    def category(self, label: str) -> FloatArray:
        """(V,) mean contact of a category; of all samples for one that was never seen."""
        return self._of_category.get(label, self._overall)

    def mode(self, label: str, mode: str) -> FloatArray:
        """(V,) mean contact of one way to use an object; of that way over all categories, or of the category, for what
        was never seen."""
        if (label, mode) in self._row:
            return self.means[self._row[label, mode]]
        if label not in self._of_category and mode in self._of_mode:
            return self._of_mode[mode]
        return self.category(label)

    def on_object(self, label: str, count: int) -> FloatArray:
        """(N,) mean contact on the library's mesh of a label; the same everywhere for one that was never seen.

        Parameters
        ----------
        count : N, for labels that were never seen.
        """
        known = self.objects.get(canonical_label(label) or label)
        if known is not None and len(known) == count:
            return known
        level = np.mean([values.mean() for values in self.objects.values()]) if self.objects else 0.0
        return np.full(count, level, dtype=np.float32)

    def threshold(self, name: str, size: int | None = None) -> float:
        """The threshold of an answer, on its way through masks of side `size` if one is given; of the nearest side."""
        if size is None:
            return self.thresholds.get(name, 0.5)
        sizes = [int(key.split("/")[1]) for key in self.thresholds if key.startswith(f"{name}/")]
        return self.thresholds[f"{name}/{min(sizes, key=lambda side: abs(side - size))}"] if sizes else 0.5

    @cached_property
    def _row(self) -> dict[tuple[str, str], int]:
        return {key: row for row, key in enumerate(self.modes)}

    @cached_property
    def _of_category(self) -> dict[str, FloatArray]:
        return self._weighted([category for category, _ in self.modes])

    @cached_property
    def _of_mode(self) -> dict[str, FloatArray]:
        return self._weighted([mode for _, mode in self.modes])

    @cached_property
    def _overall(self) -> FloatArray:
        return self._weighted(["all"] * len(self.modes))["all"]

    def _weighted(self, names: Sequence[str]) -> dict[str, FloatArray]:
        """The mean over the rows of each name, each row counting as often as it has samples."""
        rows: dict[str, list[int]] = defaultdict(list)
        for row, name in enumerate(names):
            rows[name].append(row)
        return {
            name: np.average(self.means[chosen], axis=0, weights=self.counts[chosen]).astype(np.float32)
            for name, chosen in rows.items()
        }

    def save(self, path: Path) -> None:
        """Write the file that `load_priors` reads; means keep 8 bits."""
        header = {
            "modes": [list(key) for key in self.modes],
            "thresholds": dict(self.thresholds),
            "source": dict(self.source),
        }
        arrays = {f"object/{label}": _steps(values) for label, values in self.objects.items()}
        with atomic_path(path) as temporary, temporary.open("wb") as stream:
            np.savez_compressed(
                stream,
                header=np.array(json.dumps(header)),
                means=_steps(self.means),
                counts=self.counts,
                **arrays,  # type: ignore[arg-type]
            )


@lru_cache(maxsize=2)
def load_priors(path: Path = SHIPPED_PRIORS) -> Priors:
    """Read priors, the shipped ones unless told otherwise.

    Raises
    ------
    InputError : the file is missing or damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            header = json.loads(str(stored["header"]))
            return Priors(
                [(category, mode) for category, mode in header["modes"]],
                _values(stored["means"]),
                stored["counts"],
                {name.removeprefix("object/"): _values(stored[name]) for name in stored.files if "/" in name},
                header["thresholds"],
                header["source"],
            )
    except (*UNREADABLE, KeyError) as error:
        raise InputError(
            "priors", f"{path} cannot be read: {error}", "make them with `ivlm evaluate --fit-baselines DATA`"
        ) from error


@dataclass(frozen=True, eq=False)
class Touched:
    """The touched objects of a data set, without their pictures.

    Attributes
    ----------
    labels, modes : of each of K samples. scenes : (K,) the scene each belongs to.
    packed : (K, ⌈V / 8⌉) uint8, contact on the body in bits. vertex_count : V.
    objects : K arrays (N,) uint8 in steps of 1/255, contact on the library's mesh.
    scene_count, untouched : scenes in all, and objects that nobody touches.
    """

    labels: Sequence[str]
    modes: Sequence[str]
    scenes: NDArray[np.int64]
    packed: NDArray[np.uint8]
    vertex_count: int
    objects: Sequence[NDArray[np.uint8]]
    scene_count: int
    untouched: int

    def __len__(self) -> int:
        return len(self.labels)

    def contact(self, rows: Sequence[int] | NDArray[np.int64] | slice) -> NDArray[np.bool_]:
        """(k, V) contact of some of the samples."""
        bits = np.unpackbits(self.packed[rows], axis=-1, count=self.vertex_count)
        return bits.astype(bool)

    def sample(self, most: int) -> NDArray[np.int64]:
        """At most so many rows, evenly spread over the data set."""
        return np.unique(np.linspace(0, len(self) - 1, min(most, len(self))).round().astype(np.int64))


def gather(records: Iterable[SceneRecord]) -> Touched:
    """Take the contacts out of records.

    Raises
    ------
    InputError : nothing in them is touched.
    """
    labels: list[str] = []
    modes: list[str] = []
    scenes: list[int] = []
    packed, things = [], []
    scene, untouched, vertices = -1, 0, 0
    for scene, record in enumerate(records):
        for placed in record.objects:
            contact = np.asarray(placed.body_contact, dtype=bool)
            if not contact.any():
                untouched += 1
                continue
            vertices = len(contact)
            labels.append(placed.label)
            modes.append(placed.mode)
            scenes.append(scene)
            packed.append(np.packbits(contact))
            things.append(_steps(np.asarray(placed.library_contact, dtype=np.float32)))
    if not labels:
        raise InputError(
            "data", f"holds {scene + 1} scenes and no contact", "give scenes in which something is touched"
        )
    return Touched(labels, modes, np.array(scenes), np.stack(packed), vertices, things, scene + 1, untouched)


def fit_priors(
    data: Touched, paths: Mapping[int, MaskPath] | None = None, source: Mapping[str, Any] | None = None
) -> Priors:
    """Mean contacts of a training set, and the best thresholds on it.

    Parameters
    ----------
    paths : side of the masks → the way through them, for the thresholds of what was sent through masks.
    source : what the data is, kept with the result.
    """
    rows: dict[tuple[str, str], list[int]] = defaultdict(list)
    for row, key in enumerate(zip(data.labels, data.modes, strict=True)):
        rows[key].append(row)
    modes = sorted(rows)
    means = [sum(data.contact(part).sum(axis=0) for part in _batches(rows[key])) / len(rows[key]) for key in modes]
    counts = np.array([len(rows[key]) for key in modes])
    objects: dict[str, list[NDArray[np.uint8]]] = defaultdict(list)
    for label, values in zip(data.labels, data.objects, strict=True):
        objects[canonical_label(label) or label].append(values)
    priors = Priors(
        modes,
        _values(_steps(np.stack(means))),
        counts,
        {label: _values(_steps(np.mean(values, axis=0) / STEPS)) for label, values in sorted(objects.items())},
        source={"scenes": data.scene_count, "samples": len(data), **(source or {})},
    )
    return replace(priors, thresholds=_thresholds(priors, data, paths or {}))


def best_threshold(scores: NDArray) -> float:
    """The threshold of the highest mean F1.

    Parameters
    ----------
    scores : (K, T) F1 of each sample at each of `THRESHOLDS`.
    """
    mean = scores.mean(axis=0)
    # Where several are as good, the middle one.
    best = np.flatnonzero(mean >= mean.max() - 1e-9)
    return float(THRESHOLDS[best[len(best) // 2]])


def f1_by_threshold(pred: NDArray, gt: NDArray[np.bool_]) -> NDArray[np.float64]:
    """(K, T) F1 at each of `THRESHOLDS`.

    Parameters
    ----------
    pred : (V,) one answer for all samples, or (K, V). gt : (K, V).
    """
    wanted = gt.sum(axis=1, dtype=np.float64)
    if pred.ndim == 2:
        return np.concatenate([f1_by_threshold(one, true[None]) for one, true in zip(pred, gt, strict=True)])
    hits = (pred >= THRESHOLDS[:, None].astype(np.float32)).astype(np.float32)  # (T, V)
    overlap = (gt.astype(np.float32) @ hits.T).astype(np.float64)
    precision = overlap / (hits.sum(axis=1, dtype=np.float64) + COUNT_FLOOR)
    scores: NDArray[np.float64] = f1_score(precision, overlap / (wanted[:, None] + COUNT_FLOOR))
    return scores


def _thresholds(priors: Priors, data: Touched, paths: Mapping[int, MaskPath]) -> dict[str, float]:
    chosen = data.sample(MOST_SAMPLES)
    groups: dict[tuple[str, str], list[int]] = defaultdict(list)
    for row in chosen:
        groups[data.labels[row], data.modes[row]].append(int(row))
    answers = {
        "prior": {key: priors.category(key[0]) for key in groups},
        "oracle": {key: priors.mode(*key) for key in groups},
    }
    every = dict(answers)
    for size, path in paths.items():
        for name, answer in answers.items():
            every[f"{name}/{size}"] = dict(zip(answer, path(np.stack(list(answer.values()))), strict=True))
    scores: dict[str, list[NDArray]] = defaultdict(list)
    for key, rows in groups.items():
        for part in _batches(rows):
            truth = data.contact(part)
            for name, answer in every.items():
                scores[name].append(f1_by_threshold(answer[key], truth))
    for size, path in paths.items():
        for part in _batches(list(data.sample(MOST_ROUND_TRIPS)), 64):
            truth = data.contact(part)
            scores[f"ground truth/{size}"].append(f1_by_threshold(path(truth), truth))
    return {name: best_threshold(np.concatenate(parts)) for name, parts in scores.items()}


def _batches(rows: Sequence[int], size: int = 1000) -> Iterator[Sequence[int]]:
    for first in range(0, len(rows), size):
        yield rows[first : first + size]


def _steps(values: NDArray) -> NDArray[np.uint8]:
    if not ((values >= 0) & (values <= 1)).all():
        raise InputError("contact", f"holds values outside [0, 1] such as {shown(float(np.max(values)))}", "check it")
    return np.round(values * STEPS).astype(np.uint8)


def _values(steps: NDArray) -> FloatArray:
    return (steps.astype(np.float32) / STEPS).astype(np.float32)
