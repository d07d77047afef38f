"""Colours of a generated person and of objects."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ivlm_core.bodies import PART_NAMES, AnnyRig
from ivlm_core.types import ByteArray

SKINS = ((240, 205, 180), (224, 180, 150), (198, 148, 112), (156, 108, 78), (110, 74, 54), (82, 56, 44))
HAIRS = ((38, 30, 26), (70, 48, 34), (120, 84, 50), (176, 140, 90), (120, 118, 116))
SHIRTS = ((54, 92, 150), (160, 62, 58), (70, 124, 92), (196, 176, 120), (110, 96, 140), (225, 225, 222))
TROUSERS = ((52, 58, 74), (92, 84, 72), (40, 42, 46), (120, 116, 108))
SHOES = ((44, 40, 40), (214, 212, 208), (104, 72, 52))
OBJECT_COLORS = {
    "table": ((150, 112, 76), (186, 156, 116), (120, 92, 70)),
    "chair": ((166, 124, 82), (92, 96, 104), (176, 70, 60)),
    "bottle": ((40, 120, 170), (60, 146, 90), (190, 90, 50)),
    "laptop": ((92, 96, 102), (60, 62, 66), (170, 172, 176)),
}
PART_COLORS: Mapping[str, Mapping[str, tuple[int, int, int]]] = {
    "bottle": {"cap": (235, 235, 235)},
    "laptop": {"keys": (30, 31, 34), "touchpad": (48, 50, 54), "screen": (120, 170, 215)},
}
_ANY_OBJECT = ((150, 150, 150), (170, 130, 90), (90, 120, 150))


def body_colors(rig: AnnyRig, rng: np.random.Generator) -> ByteArray:
    """(V, 3) uint8 RGB: skin, hair, a T-shirt, trousers and shoes, drawn from the palettes."""
    palettes = (SKINS, HAIRS, SHIRTS, TROUSERS, SHOES)
    skin, hair, shirt, trousers, shoes = (np.array(palette[rng.integers(len(palette))]) for palette in palettes)
    part = rig.part_labels
    colors = np.tile(skin, (len(part), 1)).astype(np.uint8)
    colors[_of(part, "torso", "left upper arm", "right upper arm")] = shirt
    colors[_of(part, "hips", "left thigh", "right thigh", "left lower leg", "right lower leg")] = trousers
    colors[_of(part, "left foot", "right foot")] = shoes
    # The head bone sits at the top of the neck; hair covers what lies behind the ears and above the brow.
    head = rig.joints[rig.joint_names.index("head")]
    from_head = rig.vertices - head
    crown = rig.vertices[:, 1].max() - head[1]
    is_head = _of(part, "head")
    behind = (from_head[:, 2] < 0.05) & (from_head[:, 1] > 0.2 * crown)
    above = from_head[:, 1] > 0.78 * crown
    colors[is_head & (behind | above)] = hair
    neck = is_head & (from_head[:, 1] < -0.55 * crown)
    colors[neck] = shirt
    return colors


def object_colors(label: str, rng: np.random.Generator) -> dict[str, Any]:
    """`color` and `part_colors` of `PlacedObject`, suiting the object."""
    palette = OBJECT_COLORS.get(label, _ANY_OBJECT)
    return {"color": palette[rng.integers(len(palette))], "part_colors": PART_COLORS.get(label, {})}


def _of(part: NDArray[Any], *names: str) -> NDArray[np.bool_]:
    chosen: NDArray[np.bool_] = np.isin(part, [PART_NAMES.index(name) for name in names])
    return chosen
