"""Which pixels are the object's: from the detection, from Segment Anything, or cut out of the box by colour."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from ivlm_core.errors import InputError
from ivlm_core.types import ByteArray, ObjectQuery

if TYPE_CHECKING:
    from ivlm_core.reconstruct.sam import SamSegmenter

Mask = NDArray[np.bool_]
Bounds = tuple[int, int, int, int]

# A cut that keeps less of its box has failed. Pieces smaller than a share of the largest are dropped.
LEAST_SHARE, LEAST_PIECE = 0.03, 0.1
# SAM may go this share of the box's sides beyond it.
SAM_MARGIN = 0.1
# GrabCut: pixels it works on at most, how much is seen around the box (share of its sides), and rounds.
MOST_PIXELS, SURROUNDINGS, ROUNDS = 160 * 160, 0.5, 1
# Where nearly nothing is around the box, its own rim of this share stands for the background.
RIM = 0.05
# Colour histograms: steps of each of three channels.
BINS = 16


@dataclass(frozen=True, eq=False)
class ObjectMask:
    """An object's pixels.

    Attributes
    ----------
    mask : (H, W) bool, never empty.
    source : `query` (the detection's own), `sam`, `grabcut`, or `box` where no object could be told from the
        background inside the box.
    """

    mask: Mask
    source: Literal["query", "sam", "grabcut", "box"]


def find_mask(
    image: ByteArray, query: ObjectQuery, person: Mask | None = None, segmenter: SamSegmenter | None = None
) -> ObjectMask:
    """The query's own mask, else SAM's for its box, else GrabCut's. The same input gives the same mask.

    Parameters
    ----------
    image : (H, W, 3) uint8, RGB. query : with a mask or a box.
    person : (H, W) bool, where the person's body is, in front of the object or behind it; for GrabCut. Inside it,
        colours that the person has elsewhere are taken for the person's.
    segmenter : SAM, where its weights are there.

    Raises
    ------
    InputError : a mask or silhouette of another size, an empty mask, a box outside the image, or neither of both.
    """
    size = image.shape[:2]
    if query.mask is not None:
        mask = np.asarray(query.mask, dtype=bool)
        if mask.shape != size:
            raise InputError("object.mask", f"has shape {mask.shape}", f"it must match the image, {size}")
        if not mask.any():
            raise InputError("object.mask", "is empty", "leave out objects that are not seen")
        return ObjectMask(mask, "query")
    if query.box_xyxy is None:
        raise InputError("object.box", "is missing, and so is a mask", "give one of them")
    if person is not None and person.shape != size:
        raise InputError("person", f"has shape {person.shape}", f"it must match the image, {size}")
    left, top, right, bottom = bounds = _pixels_of(query.box_xyxy, size)
    area = (right - left) * (bottom - top)
    inside = np.zeros(size, bool)
    inside[top:bottom, left:right] = True
    if segmenter is not None:
        seen = _grown(bounds, SAM_MARGIN, 0, size)
        near = np.zeros(size, bool)
        near[seen[1] : seen[3], seen[0] : seen[2]] = True
        mask = segmenter.segment(image, query.box_xyxy) & near
        if mask.sum() >= LEAST_SHARE * area:
            return ObjectMask(mask, "sam")
    cut = _cut_out(image, bounds, person)
    if cut is not None and (mask := _main_pieces(cut & inside)).sum() >= LEAST_SHARE * area:
        return ObjectMask(mask, "grabcut")
    return ObjectMask(inside, "box")


def _pixels_of(box: tuple[float, float, float, float], size: tuple[int, ...]) -> Bounds:
    """First column and row of a box inside the image, and the ones after its last."""
    left, top = (math.floor(min(max(side, 0.0), limit)) for side, limit in zip(box[:2], size[::-1], strict=True))
    right, bottom = (math.ceil(min(max(side, 0.0), limit)) for side, limit in zip(box[2:], size[::-1], strict=True))
    if right - left < 2 or bottom - top < 2:
        problem = f"{tuple(round(side, 1) for side in box)} covers no 2×2 pixels of the {size[1]}×{size[0]} image"
        raise InputError("object.box", problem, "leave out objects that are not seen")
    return left, top, right, bottom


def _grown(bounds: Bounds, share: float, least: int, size: tuple[int, ...]) -> Bounds:
    """The bounds with a share of their sides, at least some pixels, added on every side, inside the image."""
    left, top, right, bottom = bounds
    aside = max(least, math.ceil(share * (right - left)))
    above = max(least, math.ceil(share * (bottom - top)))
    return max(0, left - aside), max(0, top - above), min(size[1], right + aside), min(size[0], bottom + above)


def _cut_out(image: ByteArray, bounds: Bounds, person: Mask | None) -> Mask | None:
    """(H, W) bool by GrabCut on the box and what is around it, at a small size; None where it fails."""
    import cv2

    left, top, right, bottom = _grown(bounds, SURROUNDINGS, 8, image.shape[:2])
    region = np.ascontiguousarray(image[top:bottom, left:right])
    shrink = min(1.0, math.sqrt(MOST_PIXELS / (region.shape[0] * region.shape[1])))
    width, height = (max(2, round(shrink * side)) for side in (region.shape[1], region.shape[0]))
    small = np.asarray(cv2.resize(region, (width, height), interpolation=cv2.INTER_AREA), dtype=np.uint8)

    def shrunk(mask: Mask) -> Mask:
        covered = cv2.resize(
            mask[top:bottom, left:right].astype(np.uint8), (width, height), None, 0, 0, cv2.INTER_NEAREST
        )
        return np.asarray(covered, dtype=bool)

    box = np.zeros(image.shape[:2], bool)
    box[bounds[1] : bounds[3], bounds[0] : bounds[2]] = True
    inside = shrunk(box)
    around = ~inside
    if around.mean() < RIM:
        rim = max(1, round(RIM * min(width, height)))
        around[:rim], around[-rim:], around[:, :rim], around[:, -rim:] = True, True, True, True
    labels = np.full(small.shape[:2], cv2.GC_PR_FGD, np.uint8)
    labels[around & inside] = cv2.GC_PR_BGD
    labels[~inside] = cv2.GC_BGD
    likelier = _contrast(
        small, inside & ~around, around, image, box, person, None if person is None else shrunk(person)
    )
    kept = inside & ~around
    if not kept.any():
        return None
    # What looks more like the surroundings than like the box starts as background, but never nearly everything.
    labels[kept & (likelier < min(1.0, float(np.quantile(likelier[kept], 0.9))))] = cv2.GC_PR_BGD
    cv2.setRNGSeed(0)
    try:
        background, foreground = np.zeros((1, 65)), np.zeros((1, 65))
        cv2.grabCut(
            small[..., ::-1].copy(), labels, (0, 0, 1, 1), background, foreground, ROUNDS, cv2.GC_INIT_WITH_MASK
        )
    except cv2.error:
        return None
    found = ((labels == cv2.GC_FGD) | (labels == cv2.GC_PR_FGD)).astype(np.float32)
    full = np.zeros(image.shape[:2], bool)
    full[top:bottom, left:right] = cv2.resize(found, (region.shape[1], region.shape[0])) > 0.5
    return full


def _contrast(
    small: ByteArray,
    inside: Mask,
    around: Mask,
    image: ByteArray,
    box: Mask,
    person: Mask | None,
    silhouette: Mask | None,
) -> NDArray[np.float32]:
    """(h, w): how much likelier each pixel's colour is in the box than around it, or on the person where that is."""
    import cv2

    colours = _bins(small)
    background = _histogram(colours[around])[colours]
    if person is not None and silhouette is not None:
        elsewhere = _bins(image[person & ~box][None])[0]
        if len(elsewhere) >= BINS:
            worn = _histogram(elsewhere)[colours]
            background = np.where(silhouette, np.maximum(worn, background), background)
    ratio = (_histogram(colours[inside])[colours] / (background + 1e-6)).clip(0.0, 20.0)
    smooth: NDArray[np.float32] = np.asarray(cv2.GaussianBlur(ratio.astype(np.float32), (0, 0), 1.5), dtype=np.float32)
    return smooth


def _bins(pixels: ByteArray) -> NDArray[np.int64]:
    """(h, w) numbers of the colour bins of (h, w, 3) RGB pixels, in the Lab space."""
    import cv2

    if not pixels.size:
        return np.zeros(pixels.shape[:2], np.int64)
    lab = cv2.cvtColor(np.ascontiguousarray(pixels), cv2.COLOR_RGB2LAB).astype(np.int64) * BINS // 256
    numbers: NDArray[np.int64] = (lab[..., 0] * BINS + lab[..., 1]) * BINS + lab[..., 2]
    return numbers


def _histogram(colours: NDArray[np.int64]) -> NDArray[np.float64]:
    """(BINS³,) shares of the colours, each spread a little over its neighbours."""
    cube = np.bincount(colours.ravel(), minlength=BINS**3).reshape(BINS, BINS, BINS) / max(1, colours.size)
    for axis in range(3):
        padded = np.pad(cube, [(1, 1) if other == axis else (0, 0) for other in range(3)], mode="edge")
        before, after = (np.take(padded, np.arange(BINS) + step, axis=axis) for step in (0, 2))
        cube = 0.5 * cube + 0.25 * (before + after)
    shares: NDArray[np.float64] = cube.ravel()
    return shares


def _main_pieces(mask: Mask) -> Mask:
    """The mask without its small pieces: what hides the object may cut it in several, noise leaves specks."""
    import cv2

    count, pieces, about, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    areas = about[:, cv2.CC_STAT_AREA].copy()
    areas[0] = 0
    if count < 2:
        return mask
    kept: Mask = (areas >= LEAST_PIECE * areas.max())[pieces] & mask
    return kept
