"""Parametric objects: each function builds one from typed sizes in metres."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from ivlm_core.objects.shapes.boards import frisbee, skateboard, snowboard, surfboard
from ivlm_core.objects.shapes.carried import (
    backpack,
    ball,
    baseball_bat,
    handbag,
    suitcase,
    tennis_racket,
    umbrella,
)
from ivlm_core.objects.shapes.furniture import bed, bench, chair, couch, table
from ivlm_core.objects.shapes.primitives import Anchor, Shape
from ivlm_core.objects.shapes.ridden import bicycle, motorcycle
from ivlm_core.objects.shapes.tabletop import book, bottle, cell_phone, cup, keyboard, laptop, plain_box

SHAPES: Mapping[str, Callable[..., Shape]] = MappingProxyType(
    {
        "chair": chair,
        "table": table,
        "bottle": bottle,
        "cup": cup,
        "box": plain_box,
        "ball": ball,
        "book": book,
        "laptop": laptop,
        "backpack": backpack,
        "skateboard": skateboard,
        "bench": bench,
        "couch": couch,
        "bed": bed,
        "cell phone": cell_phone,
        "keyboard": keyboard,
        "umbrella": umbrella,
        "suitcase": suitcase,
        "handbag": handbag,
        "baseball bat": baseball_bat,
        "tennis racket": tennis_racket,
        "surfboard": surfboard,
        "snowboard": snowboard,
        "frisbee": frisbee,
        "bicycle": bicycle,
        "motorcycle": motorcycle,
    }
)

__all__ = ["SHAPES", "Anchor", "Shape"]
