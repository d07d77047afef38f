"""Intersection over union of masks in the picture plane."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ivlm_core.errors import InputError

PIXEL_FLOOR = 1e-5
TOTAL_FLOOR = 1e-10
CONTACT = 1


class MaskIoU(NamedTuple):
    """(…, 2) float64 each; the last axis is background, contact.

    `intersection` and `union` are pixels per view; `iou` is the mean over the views of their quotient, 1 in a view
    whose union is empty.
    """

    intersection: NDArray
    union: NDArray
    iou: NDArray

    def mean(self) -> dict[str, float]:
        """`giou`, the mean of the samples' contact IoU, and `ciou`, all their intersections over all their unions."""
        overlap, union = (values[..., CONTACT].sum() for values in (self.intersection, self.union))
        return {"giou": float(self.iou[..., CONTACT].mean()), "ciou": float(overlap / (union + TOTAL_FLOOR))}


def mask_iou(logits: ArrayLike, target: ArrayLike) -> MaskIoU:
    """IoU of each sample's masks, averaged over its views; a pixel is predicted at logits > 0.

    Parameters
    ----------
    logits : (…, J, H, W) mask logits.
    target : (…, J, H, W) with 1 for contact, 0 for none, −1 for pixels that do not count.

    Raises
    ------
    InputError : empty arrays, shapes that differ, logits that are NaN, other values in the target.
    """
    scores, wanted = np.asarray(logits), np.asarray(target)
    if scores.shape != wanted.shape or scores.ndim < 3 or scores.size == 0:
        raise InputError(
            "masks", f"have shape {scores.shape} and their target {wanted.shape}", "give (…, J, H, W) twice, not empty"
        )
    if np.isnan(scores).any():
        raise InputError("masks", "hold NaN", "nothing can be said about such masks")
    if not np.isin(wanted, (-1, 0, 1)).all():
        raise InputError("target", "holds values other than -1, 0 and 1", "cut heat maps at a threshold first")
    intersections, unions = [], []
    for label in (0, CONTACT):
        hit, true = (scores > 0) == label, wanted == label
        intersections.append((hit & true).sum((-2, -1)))
        unions.append(((hit | true) & (wanted >= 0)).sum((-2, -1)))
    intersection, union = (np.stack(parts, axis=-1).astype(np.float64) for parts in (intersections, unions))
    iou = intersection / (union + PIXEL_FLOOR) + (union == 0)
    return MaskIoU(intersection.mean(-2), union.mean(-2), iou.mean(-2))
