"""Contact by hand: which parts of the body touch which part of an object, as PHOSA (Zhang et al. 2020) lists them.

The table is the same for every picture, so that it knows a category's usual use and neither the side nor the pose.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ivlm_core.bodies import PART_NAMES, BodyModel
from ivlm_core.objects import Shape
from ivlm_core.types import FloatArray

HANDS = ("left hand", "right hand")
FEET = ("left foot", "right foot")
SEAT = ("hips", "left thigh", "right thigh")
# Share of an object's longest side around an anchor that counts as touched.
REACH = 0.12

# Category → the body's parts, and the object's anchors (see `Shape.anchors`).
USES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "backpack": (("torso",), ("back panel",)),
    "ball": (HANDS, ("centre",)),
    "baseball bat": (HANDS, ("grip", "grip second")),
    "bed": (("torso", *SEAT), ("seat",)),
    "bench": (SEAT, ("seat",)),
    "bicycle": ((*HANDS, "hips", *FEET), ("grip left", "grip right", "saddle", "pedal left", "pedal right")),
    "book": (HANDS, ("left", "right")),
    "bottle": (HANDS, ("grip",)),
    "box": (HANDS, ("top",)),
    "cell phone": (HANDS, ("back", "left", "right")),
    "chair": (SEAT, ("seat",)),
    "couch": (SEAT, ("seat",)),
    "cup": (HANDS, ("grip", "handle")),
    "frisbee": (HANDS, ("rim front", "rim back", "rim left", "rim right")),
    "handbag": (HANDS, ("handle",)),
    "keyboard": (HANDS, ("keys left", "keys right")),
    "laptop": (HANDS, ("keys",)),
    "motorcycle": ((*HANDS, "hips", *FEET), ("grip left", "grip right", "saddle", "pedal left", "pedal right")),
    "skateboard": (FEET, ("front foot", "back foot")),
    "snowboard": (FEET, ("front foot", "back foot")),
    "suitcase": (HANDS, ("pull handle", "top handle")),
    "surfboard": (FEET, ("front foot", "back foot")),
    "table": (HANDS, ("edge",)),
    "tennis racket": (HANDS, ("grip", "grip second")),
    "umbrella": (HANDS, ("grip", "handle")),
}


def part_contacts(shape: Shape, body: BodyModel, label: str | None = None) -> tuple[FloatArray, FloatArray] | None:
    """Contact on the body (V,) and on the shape's mesh (N,), 0 or 1, by the table; None for what it does not know."""
    uses = USES.get(label or shape.label)
    if uses is None:
        return None
    parts, anchors = uses
    human = np.isin(body.part_labels, [PART_NAMES.index(part) for part in parts]).astype(np.float32)
    return human, _around(shape, anchors)


def _around(shape: Shape, anchors: Sequence[str]) -> FloatArray:
    """(N,) 1 on the vertices near the anchors; where none is near enough, on the nearest one's own."""
    vertices = shape.mesh.vertices.astype(np.float64)
    reach = REACH * float(np.ptp(vertices, axis=0).max())
    touched: Any = np.zeros(len(vertices), dtype=np.float32)
    for name in anchors:
        anchor = shape.anchors[name]
        distance = np.linalg.norm(vertices - np.asarray(anchor.point), axis=1)
        touched[distance <= max(reach + anchor.radius, float(distance.min()) * 1.2)] = 1.0
    return touched
