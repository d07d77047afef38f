"""The 15 body parts, and how skinning bones map to them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

PART_NAMES: tuple[str, ...] = (
    "head",
    "torso",
    "hips",
    "left upper arm",
    "right upper arm",
    "left forearm",
    "right forearm",
    "left hand",
    "right hand",
    "left thigh",
    "right thigh",
    "left lower leg",
    "right lower leg",
    "left foot",
    "right foot",
)

# Bone names without their side. The neck belongs to the head, the shoulder girdle to the torso and the belly below
# the navel (`spine04` in Anny) to the hips; the wrist bone moves the hand, the ankle joint the foot.
_ANNY_PARTS = {
    "root": "hips",
    "pelvis": "hips",
    "spine05": "hips",
    "spine04": "hips",
    "spine03": "torso",
    "spine02": "torso",
    "spine01": "torso",
    "clavicle": "torso",
    "shoulder01": "torso",
    "neck01": "head",
    "neck02": "head",
    "neck03": "head",
    "head": "head",
    "eye": "head",
    "upperarm01": "upper arm",
    "upperarm02": "upper arm",
    "lowerarm01": "forearm",
    "lowerarm02": "forearm",
    "wrist": "hand",
    "finger": "hand",
    "metacarpal": "hand",
    "upperleg01": "thigh",
    "upperleg02": "thigh",
    "lowerleg01": "lower leg",
    "lowerleg02": "lower leg",
    "foot": "foot",
    "toe": "foot",
}

_SMPL_PARTS = {
    "pelvis": "hips",
    "spine1": "torso",
    "spine2": "torso",
    "spine3": "torso",
    "neck": "head",
    "head": "head",
    "jaw": "head",
    "eye": "head",
    "collar": "torso",
    "shoulder": "upper arm",
    "elbow": "forearm",
    "wrist": "hand",
    "hand": "hand",
    "index": "hand",
    "middle": "hand",
    "pinky": "hand",
    "ring": "hand",
    "thumb": "hand",
    "hip": "thigh",
    "knee": "lower leg",
    "ankle": "foot",
    "foot": "foot",
}


def anny_part(bone: str) -> int:
    """Index into `PART_NAMES` of the part that an Anny bone (`upperarm01.L`, `spine03`) moves."""
    stem, _, side = bone.partition(".")
    if stem not in _ANNY_PARTS:
        stem = stem.split("-")[0].rstrip("0123456789")
    return _part_index(_ANNY_PARTS[stem], {"L": "left ", "R": "right "}.get(side, ""))


def smpl_part(joint: str) -> int:
    """Index into `PART_NAMES` of the part that a joint of the SMPL family (`left_elbow`, `spine3`) moves."""
    side, _, stem = joint.rpartition("_")
    if stem not in _SMPL_PARTS:
        stem = stem.rstrip("0123456789")
    return _part_index(_SMPL_PARTS[stem], f"{side} " if side else "")


def dominant_parts(weights: NDArray[Any], part_of_bone: Sequence[int]) -> NDArray[np.uint8]:
    """The part whose bones together carry most of a vertex.

    Summing the bones of a part before comparing keeps a segment with several bones (two per limb segment, five per
    palm) from losing vertices to a neighbour that has one.

    Parameters
    ----------
    weights : (V, B) skinning weights.
    part_of_bone : B indices into `PART_NAMES`.

    Returns
    -------
    (V,) uint8 indices into `PART_NAMES`.
    """
    membership = np.eye(len(PART_NAMES))[np.asarray(part_of_bone)]  # (B, 15)
    labels: NDArray[np.uint8] = (weights @ membership).argmax(axis=1).astype(np.uint8)
    return labels


def _part_index(part: str, side: str) -> int:
    return PART_NAMES.index(part if part in PART_NAMES else side + part)
