"""Metrics on vertices and points: contact, geodesic distance, affordance; each per sample, with means on request.

Arrays are (…, V): one sample, or any number of them along the leading axes. An `official` argument reproduces what the
released evaluation computes where that is not what its names say; the default is what they say.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata

from ivlm_core.errors import ConfigError, InputError
from ivlm_core.evaluate.geodesic import Surface

# Keeps quotients of counts defined: an empty prediction or ground truth scores 0.
COUNT_FLOOR = 1e-10
MASS_FLOOR = 1e-12
IOU_THRESHOLDS = np.linspace(0.0, 1.0, 20)


class ContactScores(NamedTuple):
    """(…) float64 each, in [0, 1]."""

    f1: NDArray
    precision: NDArray
    recall: NDArray

    def mean(self) -> dict[str, float]:
        """Averages over all samples."""
        return {name: float(np.mean(values)) for name, values in self._asdict().items()}


class GeodesicError(NamedTuple):
    """(…) float64 each, in the unit of the distances (metres).

    `fp` is how far predicted contact lies from the true one on average, `fn` how far true contact lies from the
    predicted one.
    """

    fp: NDArray
    fn: NDArray

    def mean(self) -> dict[str, float]:
        """Averages over all samples."""
        return {name: float(np.mean(values)) for name, values in self._asdict().items()}


class AffordanceScores(NamedTuple):
    """(…) each; `auc` and `aiou` are NaN where `valid` is False: a ground truth of one class has neither."""

    sim: NDArray
    mae: NDArray
    auc: NDArray
    aiou: NDArray
    valid: NDArray

    def mean(self, official: bool = False) -> dict[str, float | None]:
        """Averages: of SIM and MAE over all samples, of AUC and aIOU over the valid ones; None for a mean of nothing.

        Parameters
        ----------
        official : leave samples that are not valid out of all four, as the released validation does.
        """
        counted = {"sim": self.valid, "mae": self.valid, "auc": self.valid, "aiou": self.valid}
        if not official:
            counted |= {name: np.ones_like(self.valid) for name in ("sim", "mae")}
        means: dict[str, float | None] = {}
        for name, which in counted.items():
            chosen = np.asarray(getattr(self, name))[which]
            means[name] = float(chosen.mean()) if chosen.size else None
        return means


def contact_scores(
    pred: ArrayLike, gt: ArrayLike, threshold: float = 0.5, weights: ArrayLike | None = None
) -> ContactScores:
    """F1, precision and recall of contact, per sample.

    P = TP / (predicted + 1e-10), R = TP / (true + 1e-10), F1 = 2·P·R / (P + R + 1e-10), where a vertex is predicted at
    `pred ≥ threshold` and true at `gt > 0`. An empty prediction, an empty ground truth, and both together score 0.

    Parameters
    ----------
    pred : (…, V) probabilities.
    gt : (…, V) contact in [0, 1], or booleans.
    weights : (V,) area of each vertex, for scores by area instead of by vertex; they need not sum to anything.

    Raises
    ------
    InputError : empty arrays, shapes that differ, values that are NaN or outside [0, 1], negative weights.
    ConfigError : a threshold outside [0, 1].
    """
    pred, gt = vertex_pair(pred, gt)
    hit, true = pred >= check_threshold(threshold), gt > 0
    count = _weights(weights, pred.shape[-1])
    overlap, predicted, wanted = (hit & true) @ count, hit @ count, true @ count
    precision, recall = overlap / (predicted + COUNT_FLOOR), overlap / (wanted + COUNT_FLOOR)
    return ContactScores(f1_score(precision, recall), precision, recall)


def geodesic_error(
    pred: ArrayLike, gt: ArrayLike, distances: NDArray | Surface, threshold: float = 0.5, official: bool = False
) -> GeodesicError:
    """Distances along the surface between predicted and true contact, per sample.

    fp = mean over predicted vertices of the distance to the nearest true one; fn = the same with the roles changed. A
    vertex is predicted at `pred ≥ threshold` and true at `gt = 1`; a side with no vertex counts as holding them all, so
    that an empty prediction gives fn = 0: read it beside the recall.

    Parameters
    ----------
    pred : (…, V) probabilities.  gt : (…, V) contact in [0, 1], or booleans.
    distances : (V, V) distance between vertices, in metres; or the surface, on which they are then found as needed.
    official : as the released validation calls it, prediction and ground truth exchanged: "true" are then the vertices
        predicted at exactly 1, usually none and therefore all of them.

    Raises
    ------
    InputError : as for `contact_scores`; distances of another size, negative or not finite.
    ConfigError : a threshold outside [0, 1].
    """
    pred, gt = vertex_pair(pred, gt)
    count = pred.shape[-1]
    shape = (distances.vertex_count,) * 2 if isinstance(distances, Surface) else np.shape(distances)
    if shape != (count, count):
        raise InputError("distances", f"have shape {shape}", f"give ({count}, {count}), those of this body model")
    if official:
        pred, gt = gt, pred
    rows = (pred >= check_threshold(threshold)).reshape(-1, count)
    columns = (gt == 1).reshape(-1, count)
    pairs = [_nearest(row, column, distances) for row, column in zip(rows, columns, strict=True)]
    fp, fn = np.array(pairs, dtype=np.float64).T.reshape(2, *pred.shape[:-1])
    return GeodesicError(fp, fn)


def affordance_scores(pred: ArrayLike, gt: ArrayLike) -> AffordanceScores:
    """SIM, MAE, AUC and aIOU of an affordance, per sample.

    SIM = Σ min(a / (Σa + 1e-12), b / (Σb + 1e-12)); MAE = mean |a − b|. The others compare with the ground truth cut at
    0.5: AUC is the area under the ROC curve, by ranks with ties halved; aIOU the mean, over 20 thresholds from 0 to 1,
    of the IoU with the prediction cut there.

    Parameters
    ----------
    pred : (…, N) values in [0, 1].  gt : (…, N) values in [0, 1].

    Raises
    ------
    InputError : empty arrays, shapes that differ, values that are NaN or outside [0, 1].
    """
    pred, gt = (values.astype(np.float64) for values in vertex_pair(pred, gt))
    shares = [values / (values.sum(-1, keepdims=True) + MASS_FLOOR) for values in (pred, gt)]
    true = gt >= 0.5
    positives, negatives = true.sum(-1), (~true).sum(-1)
    valid = (positives > 0) & (negatives > 0)

    ranks = rankdata(pred, axis=-1)
    pairs = np.where(valid, positives * negatives, 1)
    auc = ((ranks * true).sum(-1) - positives * (positives + 1) / 2) / pairs
    aiou = np.zeros(pred.shape[:-1])
    for threshold in IOU_THRESHOLDS:
        hit = pred >= threshold
        aiou += (hit & true).sum(-1) / np.maximum((hit | true).sum(-1), 1) / len(IOU_THRESHOLDS)
    return AffordanceScores(
        sim=np.minimum(*shares).sum(-1),
        mae=np.abs(pred - gt).mean(-1),
        auc=np.where(valid, auc, np.nan),
        aiou=np.where(valid, aiou, np.nan),
        valid=np.asarray(valid),
    )


def f1_score(precision: Any, recall: Any) -> Any:
    """Harmonic mean, 0 where both are."""
    return 2 * precision * recall / (precision + recall + COUNT_FLOOR)


def vertex_pair(pred: ArrayLike, gt: ArrayLike) -> tuple[NDArray, NDArray]:
    """Prediction and ground truth as checked arrays of one shape.

    Raises
    ------
    InputError : see `contact_scores`.
    """
    arrays = []
    for name, values in (("pred", pred), ("gt", gt)):
        try:
            array = np.asarray(values)
        except (TypeError, ValueError, RuntimeError) as error:
            raise InputError(
                name, f"is no array: {error}", "give numbers in equal rows, detached and on the CPU"
            ) from error
        if array.dtype.kind not in "biuf":
            raise InputError(name, f"has type {array.dtype}", "give numbers or booleans")
        if array.ndim < 1 or array.size == 0:
            raise InputError(name, f"has shape {array.shape}", "give (…, V), not empty")
        if not bool(((array >= 0) & (array <= 1)).all()):
            raise InputError(name, "holds NaN or values outside [0, 1]", "give probabilities")
        arrays.append(array)
    pred, gt = arrays
    if pred.shape != gt.shape:
        raise InputError(
            "gt", f"has shape {gt.shape} for predictions {pred.shape}", "give one value per vertex and sample"
        )
    return pred, gt


def check_threshold(threshold: float) -> float:
    """A probability to cut at.

    Raises
    ------
    ConfigError : outside [0, 1].
    """
    if not 0.0 <= threshold <= 1.0:
        raise ConfigError("threshold", f"is {threshold}", "give a probability")
    return threshold


def _weights(weights: ArrayLike | None, count: int) -> NDArray:
    """(V,) float64 of mean 1, so that the floors mean the same with and without areas."""
    if weights is None:
        return np.ones(count)
    given = np.asarray(weights, dtype=np.float64)
    if given.shape != (count,):
        raise InputError("weights", f"have shape {given.shape}", f"give one per vertex: ({count},)")
    if not (np.isfinite(given).all() and (given >= 0).all() and given.sum() > 0):
        raise InputError("weights", "are negative, not finite or all 0", "give vertex areas")
    return given / given.mean()


def _nearest(rows: NDArray, columns: NDArray, distances: NDArray | Surface) -> tuple[float, float]:
    """Mean distance from each row to its nearest column, and from each column to its nearest row."""
    if isinstance(distances, Surface):
        whole = np.ones_like(rows)
        rows, columns = (mask if mask.any() else whole for mask in (rows, columns))
        return float(distances.distance_to(columns)[rows].mean()), float(distances.distance_to(rows)[columns].mean())
    chosen = [np.flatnonzero(mask) if mask.any() else np.arange(len(mask)) for mask in (rows, columns)]
    block = distances[np.ix_(*chosen)]
    nearest = block.min(1), block.min(0)
    if not all(np.isfinite(part).all() and (part >= 0).all() for part in nearest):
        raise InputError("distances", "are negative or not finite", "compute them anew for a connected surface")
    return float(nearest[0].mean(dtype=np.float64)), float(nearest[1].mean(dtype=np.float64))
