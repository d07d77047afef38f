"""Colours of a generated person and of objects."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ivlm_core.bodies import PART_NAMES, AnnyRig
from ivlm_core.objects import canonical_label
from ivlm_core.types import ByteArray

SKINS = ((240, 205, 180), (224, 180, 150), (198, 148, 112), (156, 108, 78), (110, 74, 54), (82, 56, 44))
HAIRS = ((38, 30, 26), (70, 48, 34), (120, 84, 50), (176, 140, 90), (120, 118, 116))
SHIRTS = ((54, 92, 150), (160, 62, 58), (70, 124, 92), (196, 176, 120), (110, 96, 140), (225, 225, 222))
TROUSERS = ((52, 58, 74), (92, 84, 72), (40, 42, 46), (120, 116, 108))
SHOES = ((44, 40, 40), (214, 212, 208), (104, 72, 52))
Color = tuple[int, int, int]

_RED, _ORANGE, _YELLOW, _GREEN, _TEAL = (196, 48, 44), (226, 118, 38), (232, 190, 50), (62, 140, 76), (38, 148, 150)
_BLUE, _NAVY, _PURPLE, _PINK, _LIME = (44, 98, 186), (40, 54, 92), (112, 72, 150), (214, 108, 150), (150, 196, 60)
_WHITE, _PALE, _GREY, _DARK, _BLACK = (236, 236, 232), (196, 198, 200), (128, 132, 136), (68, 70, 74), (34, 34, 36)
_STEEL, _BRASS, _CREAM, _SKY = (176, 180, 186), (190, 156, 84), (226, 214, 188), (120, 176, 220)
_OAK, _PINE, _BEECH, _WALNUT, _MAHOGANY = (166, 124, 82), (206, 170, 118), (190, 146, 104), (104, 72, 50), (122, 60, 42)
_TAN, _LEATHER, _OLIVE, _MINT, _ROSE = (176, 132, 88), (112, 66, 40), (96, 104, 62), (150, 206, 180), (198, 142, 140)
_WOODS = (_OAK, _PINE, _BEECH, _WALNUT, _MAHOGANY)
_BRIGHT = (_RED, _ORANGE, _YELLOW, _GREEN, _TEAL, _BLUE, _PURPLE, _PINK, _LIME, _SKY)

# The library's label → what the object as a whole may be coloured.
OBJECT_COLORS: Mapping[str, tuple[Color, ...]] = {
    "chair": (*_WOODS, _WHITE, _DARK, _BLACK, _RED, _TEAL, _YELLOW, _BLUE, _GREEN, _GREY),
    "table": (*_WOODS, _WHITE, _PALE, _DARK, _CREAM, _TEAL, _RED),
    "bottle": (*_BRIGHT, _WHITE, _STEEL, _BLACK, _NAVY, _MINT),
    "cup": (*_BRIGHT, _WHITE, _CREAM, _BLACK, _NAVY, _MINT, _LEATHER),
    "box": (_OAK, _PINE, _BEECH, _TAN, _WHITE, _BLUE, _RED),
    "ball": (*_BRIGHT, _WHITE, _CREAM, (204, 104, 52), _BLACK),
    "book": (*_BRIGHT, _NAVY, _MAHOGANY, _BLACK, _CREAM, _GREY),
    "laptop": (_STEEL, _PALE, _DARK, _BLACK, _WHITE, _ROSE, _NAVY, _RED, _TEAL),
    "backpack": (*_BRIGHT, _BLACK, _GREY, _NAVY, _OLIVE, _LEATHER),
    "skateboard": (*_BRIGHT, _PINE, _BLACK, _MAHOGANY, _WHITE),
    "bench": (*_WOODS, _GREEN, _RED, _GREY, _WHITE, _TEAL),
    "couch": (_GREY, _DARK, _NAVY, _CREAM, _TAN, _LEATHER, _OLIVE, _RED, _TEAL, _YELLOW, _PURPLE, _ROSE, _BLUE),
    "bed": (*_WOODS, _WHITE, _BLACK, _GREY, _TEAL, _PINK, _NAVY),
    "cell phone": (_BLACK, _DARK, _WHITE, _STEEL, _RED, _BLUE, _ROSE, _YELLOW, _MINT),
    "keyboard": (_BLACK, _DARK, _WHITE, _PALE, _CREAM, _NAVY, _PINK, _RED),
    "umbrella": (*_BRIGHT, _BLACK, _NAVY, _WHITE, _OLIVE),
    "suitcase": (*_BRIGHT, _BLACK, _DARK, _NAVY, _STEEL, _ROSE, _LEATHER),
    "handbag": (*_BRIGHT, _BLACK, _LEATHER, _TAN, _WHITE, _NAVY, _MAHOGANY),
    "baseball bat": (*_WOODS, _STEEL, _BLACK, _RED, _BLUE, _YELLOW, _GREEN),
    "tennis racket": (*_BRIGHT, _WHITE, _BLACK, _STEEL),
    "surfboard": (*_BRIGHT, _WHITE, _CREAM, _MINT, _PINE),
    "snowboard": (*_BRIGHT, _WHITE, _BLACK, _NAVY, _MINT),
    "frisbee": (*_BRIGHT, _WHITE, _BLACK),
    "bicycle": (*_BRIGHT, _BLACK, _WHITE, _STEEL, _NAVY, _MINT, _OLIVE),
    "motorcycle": (_RED, _ORANGE, _YELLOW, _GREEN, _BLUE, _BLACK, _WHITE, _STEEL, _NAVY, _LIME, _PURPLE),
}
_ANY_OBJECT = (_GREY, _OAK, _BLUE, _RED, _GREEN, _WHITE)


def _sides(*names: str) -> tuple[str, ...]:
    return tuple(f"{side} {name}" for name in names for side in ("left", "right"))


_LEGS = ("front left leg", "front right leg", "back left leg", "back right leg")
_WHEELS = ("front left wheel", "front right wheel", "back left wheel", "back right wheel")
_BINDING = ("plate", "heel cup", "highback", "ankle strap", "toe strap")

# The library's label → parts that are coloured alike, and what with; None is the colour of the whole object.
PART_COLORS: Mapping[str, Mapping[tuple[str, ...], tuple[Color | None, ...]]] = {
    "chair": {
        (*_LEGS, "post", *(f"spoke {index}" for index in range(1, 6)), *_sides("arm post")): (
            None, None, _STEEL, _BLACK, _OAK, _WHITE,
        ),
        tuple(f"castor {index}" for index in range(1, 6)): (_BLACK, _DARK),
        ("seat",): (None, None, _CREAM, _RED, _DARK, _TEAL),
        _sides("arm rest"): (None, _BLACK, _OAK),
    },
    "table": {(*_LEGS, "column", "foot"): (None, None, _WHITE, _BLACK, _STEEL)},
    "bottle": {("cap",): (_WHITE, _BLACK, _BLUE, _RED, _STEEL, None)},
    "book": {("front pages", "back pages"): ((240, 234, 216), (228, 220, 198))},
    "laptop": {
        ("keys",): (_BLACK, _DARK, _PALE),
        ("touchpad",): (_DARK, _GREY),
        ("screen",): ((120, 170, 215), (236, 238, 240), (28, 34, 48), (90, 150, 120)),
    },
    "backpack": {
        (*_sides("strap"), "loop"): (None, _BLACK, _DARK, _LEATHER),
        ("pocket",): (None, None, _BLACK, _YELLOW, _RED, _GREY),
    },
    "skateboard": {
        _WHEELS: (_WHITE, _CREAM, _RED, _GREEN, _ORANGE, _BLACK),
        ("front truck", "back truck", "front axle", "back axle"): (_STEEL, _DARK),
    },
    "bench": {
        (*_sides("front leg", "back leg", "beam", "back post", "arm post"),): (None, _BLACK, _DARK, _GREEN),
        _sides("arm rest"): (None, _BLACK, _OAK),
    },
    "couch": {
        _LEGS: (_BLACK, _WALNUT, _STEEL),
        ("cushion", "middle cushion", *_sides("cushion")): (None, None, _CREAM, _GREY, _TAN),
    },
    "bed": {
        ("mattress",): (_WHITE, _CREAM, _SKY, _ROSE, _GREY, _NAVY, _MINT),
        ("pillow", *_sides("pillow")): (_WHITE, _CREAM, _SKY, _PALE),
    },
    "cell phone": {("screen",): ((24, 26, 32), (40, 60, 96), (150, 190, 225)), ("camera",): (_BLACK, _DARK)},
    "keyboard": {
        tuple(f"row {row} keys {index}" for row in range(1, 7) for index in range(1, 5)): (_BLACK, _DARK, _WHITE, _PALE)
    },
    "umbrella": {("handle",): (_BLACK, _WALNUT, _OAK, None), ("shaft",): (_STEEL, _BLACK, _WALNUT)},
    "suitcase": {
        _sides("rod"): (_STEEL, _BLACK),
        ("grip", "top handle", "side handle"): (_BLACK, _DARK),
        _WHEELS: (_BLACK, _DARK),
    },
    "handbag": {("handle",): (None, _BLACK, _LEATHER, _TAN), ("clasp",): (_BRASS, _STEEL)},
    "tennis racket": {("strings",): (_CREAM, _WHITE, _YELLOW, _BLACK), ("grip",): (_BLACK, _WHITE, _NAVY, _LEATHER)},
    "surfboard": {("middle fin", *_sides("fin")): (_BLACK, _WHITE, _BLUE, None)},
    "snowboard": {
        tuple(f"{end} {part}" for end in ("front", "back") for part in _BINDING): (_BLACK, _DARK, _WHITE, _RED)
    },
    "bicycle": {
        ("front tyre", "rear tyre"): (_BLACK, _DARK, _BLACK, _DARK, _BLACK, _CREAM),
        ("front rim", "rear rim", "front spokes", "rear spokes", "front hub", "rear hub"): (_STEEL, _PALE, _DARK),
        ("saddle", *_sides("grip")): (_BLACK, _LEATHER, _TAN, _DARK),
        ("handlebar", "stem", "seat post"): (_STEEL, _BLACK),
        ("chainring", "sprocket", "chain", "bracket axle", *_sides("crank")): (_STEEL, _DARK),
        _sides("pedal"): (_BLACK, _DARK),
        ("front mudguard", "rear mudguard"): (None, _BLACK, _STEEL),
    },
    "motorcycle": {
        ("front tyre", "rear tyre"): (_BLACK,),
        ("front rim", "rear rim", "front spokes", "rear spokes", "front hub", "rear hub"): (_STEEL, _DARK, _BRASS),
        ("engine", "cylinder block", "front axle", "rear axle"): (_STEEL, _GREY, _DARK),
        ("exhaust", "muffler", "handlebar", "handlebar riser", *_sides("mirror stem", "mirror")): (_STEEL, _DARK),
        ("fork clamp", "front mudguard stay", *_sides("fork tube", "shock", "peg bracket", "swing arm")): (
            _STEEL, _DARK, _BLACK,
        ),
        ("seat", *_sides("grip", "peg")): (_BLACK, _LEATHER, _DARK),
        ("headlight",): (_WHITE, _PALE),
        ("rear light",): (_RED,),
        ("spine", "down tube", "steering head", "headlight stay", *_sides("seat rail")): (_BLACK, _DARK),
        ("screen",): ((170, 196, 210), _DARK),
        ("front mudguard", "rear mudguard"): (None, None, _BLACK),
    },
}  # fmt: skip


def body_colors(rig: AnnyRig, rng: np.random.Generator) -> ByteArray:
    """(V, 3) uint8 RGB: skin, hair, a T-shirt, trousers and shoes, drawn from the palettes."""
    palettes = (SKINS, HAIRS, SHIRTS, TROUSERS, SHOES)
    skin, hair, shirt, trousers, shoes = (np.array(palette[rng.integers(len(palette))]) for palette in palettes)
    dressed = dict.fromkeys(("torso", "left upper arm", "right upper arm"), shirt)
    dressed |= dict.fromkeys(("hips", "left thigh", "right thigh", "left lower leg", "right lower leg"), trousers)
    dressed |= dict.fromkeys(("left foot", "right foot"), shoes)
    colors = np.array([dressed.get(name, skin) for name in PART_NAMES], dtype=np.uint8)[rig.part_labels]
    # The head bone sits at the top of the neck; hair covers what lies behind the ears and above the brow.
    head = rig.joints[rig.joint_names.index("head")]
    chosen = np.flatnonzero(rig.part_labels == PART_NAMES.index("head"))
    from_head = rig.vertices[chosen] - head
    crown = rig.vertices[:, 1].max() - head[1]
    behind = (from_head[:, 2] < 0.05) & (from_head[:, 1] > 0.2 * crown)
    above = from_head[:, 1] > 0.78 * crown
    colors[chosen[behind | above]] = hair
    colors[chosen[from_head[:, 1] < -0.55 * crown]] = shirt
    return colors


def object_colors(label: str, rng: np.random.Generator) -> dict[str, Any]:
    """`color` and `part_colors` of `PlacedObject`, suiting the object; `label` is any name the library knows."""
    known = canonical_label(label) or label
    palette = OBJECT_COLORS.get(known, _ANY_OBJECT)
    color = palette[rng.integers(len(palette))]
    part_colors: dict[str, Color] = {}
    for parts, choices in PART_COLORS.get(known, {}).items():
        chosen = choices[rng.integers(len(choices))] or color
        part_colors |= dict.fromkeys(parts, chosen)
    return {"color": color, "part_colors": part_colors}
