"""Instances: shapes of one label that differ as real things of one kind do."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from ivlm_core.errors import InputError, shown
from ivlm_core.objects.library import canonical_label, library_labels, library_shape
from ivlm_core.objects.shapes import Shape

Range = tuple[float, float]

# Label → size parameter → smallest and largest, metres (or what the parameter counts in), drawn evenly.
RANGES: Mapping[str, Mapping[str, Range]] = {
    "chair": {
        "width": (0.41, 0.52), "depth": (0.42, 0.52), "seat_height": (0.42, 0.50), "seat_thickness": (0.02, 0.07),
        "leg_thickness": (0.026, 0.05), "back_thickness": (0.02, 0.045), "recline_deg": (3.0, 12.0),
    },
    "table": {
        "width": (0.9, 1.9), "depth": (0.65, 0.95), "height": (0.70, 0.78), "top_thickness": (0.02, 0.05),
        "leg_thickness": (0.04, 0.09), "overhang": (0.0, 0.08),
    },
    "bottle": {
        "height": (0.19, 0.31), "radius": (0.029, 0.042), "neck_radius": (0.011, 0.019), "shoulder": (0.55, 0.78),
        "cap_height": (0.014, 0.032),
    },
    "cup": {
        "height": (0.08, 0.125), "radius": (0.036, 0.047), "wall": (0.003, 0.005), "handle_reach": (0.026, 0.036),
        "handle_thickness": (0.007, 0.012), "foot": (0.7, 1.0),
    },
    "box": {"width": (0.2, 0.45), "height": (0.15, 0.4), "depth": (0.2, 0.45)},
    "ball": {"diameter": (0.19, 0.25)},
    "book": {"width": (0.12, 0.2), "height": (0.18, 0.28), "thickness": (0.015, 0.045), "cover": (0.001, 0.003)},
    "laptop": {
        "width": (0.29, 0.38), "depth": (0.20, 0.26), "base_thickness": (0.012, 0.022), "lid_thickness": (0.005, 0.01),
        "opening_deg": (98.0, 125.0),
    },
    "backpack": {
        "width": (0.26, 0.34), "height": (0.38, 0.5), "depth": (0.13, 0.21), "strap_width": (0.045, 0.07),
    },
    "skateboard": {
        "length": (0.72, 0.95), "width": (0.19, 0.24), "thickness": (0.010, 0.014), "kick": (0.02, 0.06),
        "wheel": (0.05, 0.065),
    },
    "bench": {
        "width": (1.2, 1.9), "depth": (0.42, 0.55), "seat_height": (0.42, 0.48), "slat_thickness": (0.022, 0.045),
        "leg_thickness": (0.05, 0.09), "recline_deg": (5.0, 16.0),
    },
    "couch": {
        "depth": (0.82, 1.0), "seat_height": (0.40, 0.48), "arm_width": (0.12, 0.26), "back_depth": (0.16, 0.28),
    },
    "bed": {
        "length": (1.98, 2.12), "mattress_height": (0.42, 0.6), "mattress_thickness": (0.16, 0.26),
    },
    "cell phone": {"width": (0.066, 0.08), "height": (0.138, 0.168), "thickness": (0.007, 0.011)},
    "keyboard": {"width": (0.36, 0.46), "depth": (0.12, 0.16), "thickness": (0.012, 0.026)},
    "umbrella": {
        "radius": (0.42, 0.58), "length": (0.8, 0.95), "dome": (0.14, 0.26), "shaft": (0.009, 0.014),
        "handle": (0.022, 0.032),
    },
    "suitcase": {
        "width": (0.36, 0.48), "height": (0.48, 0.68), "depth": (0.2, 0.29), "handle_height": (0.28, 0.42),
        "wheel": (0.04, 0.065),
    },
    "handbag": {
        "width": (0.24, 0.38), "height": (0.18, 0.29), "depth": (0.09, 0.16), "handle_height": (0.1, 0.26),
        "handle_thickness": (0.009, 0.018), "taper": (-0.05, 0.3),
    },
    "baseball bat": {"length": (0.74, 0.9), "barrel": (0.057, 0.07), "handle": (0.023, 0.028)},
    "tennis racket": {
        "length": (0.64, 0.7), "head_width": (0.235, 0.285), "head_length": (0.31, 0.36), "grip_length": (0.16, 0.2),
        "grip_radius": (0.0145, 0.0175),
    },
    "surfboard": {
        "length": (1.75, 2.7), "width": (0.46, 0.58), "thickness": (0.055, 0.08), "rocker": (0.05, 0.13),
        "nose": (0.52, 0.85), "tail": (0.5, 0.8),
    },
    "snowboard": {
        "length": (1.38, 1.65), "width": (0.275, 0.31), "thickness": (0.010, 0.018), "waist": (0.235, 0.262),
        "kick": (0.035, 0.07), "stance": (0.46, 0.58), "foot_turn_deg": (0.0, 15.0),
    },
    "frisbee": {"diameter": (0.22, 0.29), "height": (0.024, 0.036), "rim": (0.004, 0.009), "plate": (0.0018, 0.0035)},
    "bicycle": {
        "wheel": (0.31, 0.36), "tyre": (0.026, 0.055), "wheelbase": (1.0, 1.1), "saddle_height": (0.88, 1.0),
        "grip_height": (0.96, 1.1), "reach": (0.46, 0.62), "grip_width": (0.5, 0.64), "crank": (0.165, 0.175),
        "crank_deg": (-30.0, 120.0), "bracket_height": (0.265, 0.3), "top_tube_drop": (0.0, 0.22),
        "tube_radius": (0.013, 0.022),
    },
    "motorcycle": {
        "wheel": (0.29, 0.33), "tyre": (0.09, 0.15), "wheelbase": (1.32, 1.5), "saddle_height": (0.74, 0.84),
        "grip_height": (0.98, 1.1), "reach": (0.52, 0.64), "grip_width": (0.64, 0.78), "peg_height": (0.3, 0.38),
        "peg_ahead": (0.05, 0.25), "tank_width": (0.24, 0.32),
    },
}  # fmt: skip


def varied_shape(label: str, rng: np.random.Generator) -> Shape:
    """A new instance of a label: its sizes and style drawn as real ones vary; the same `rng` state, the same shape.

    Raises
    ------
    InputError : the library does not know the label.
    """
    return library_shape(label, **varied_sizes(label, rng))


def varied_sizes(label: str, rng: np.random.Generator) -> dict[str, float]:
    """The sizes that `varied_shape` builds an instance from, without building it.

    Raises
    ------
    InputError : the library does not know the label.
    """
    known = canonical_label(label)
    if known is None:
        raise InputError(
            "object.label", f"{shown(label)} is not in the library", f"known: {', '.join(library_labels())}"
        )
    sizes = {name: float(rng.uniform(low, high)) for name, (low, high) in RANGES[known].items()}
    if known in _STYLES:
        sizes |= _STYLES[known](sizes, rng)
    return sizes


def _chair(sizes: Mapping[str, float], rng: np.random.Generator) -> dict[str, float]:
    return {
        "height": sizes["seat_height"] + rng.uniform(0.36, 0.55),
        "arm_height": rng.uniform(0.18, 0.24) if rng.random() < 0.35 else 0.0,
        "star_base": int(rng.random() < 0.25),
        "back_style": int(rng.integers(3)),
    }


def _table(sizes: Mapping[str, float], rng: np.random.Generator) -> dict[str, float]:
    style: dict[str, float] = {"round_top": int(rng.random() < 0.3), "pedestal": int(rng.random() < 0.25)}
    if style["round_top"] and rng.random() < 0.6:
        style["width"] = style["depth"] = rng.uniform(0.85, 1.15)
    return style


def _bench(sizes: Mapping[str, float], rng: np.random.Generator) -> dict[str, float]:
    return {
        "height": sizes["seat_height"] + rng.uniform(0.34, 0.46),
        "seat_slats": int(rng.integers(3, 6)),
        "back_slats": int(rng.integers(2, 5)),
        "arm_height": rng.uniform(0.19, 0.25) if rng.random() < 0.5 else 0.0,
    }


def _couch(sizes: Mapping[str, float], rng: np.random.Generator) -> dict[str, float]:
    seats = int(rng.integers(1, 4)) if rng.random() < 0.3 else int(rng.integers(2, 4))
    return {
        "seats": seats,
        "width": 2 * sizes["arm_width"] + seats * rng.uniform(0.58, 0.74) + 0.1,
        "height": sizes["seat_height"] + rng.uniform(0.34, 0.46),
        "arm_height": sizes["seat_height"] + rng.uniform(0.13, 0.22),
    }


def _bed(sizes: Mapping[str, float], rng: np.random.Generator) -> dict[str, float]:
    double = rng.random() < 0.6
    return {
        "width": rng.uniform(1.35, 1.8) if double else rng.uniform(0.9, 1.2),
        "pillows": 2 if double else 1,
        "headboard_height": sizes["mattress_height"] + rng.uniform(0.25, 0.6),
        "footboard_height": sizes["mattress_height"] + rng.uniform(-0.05, 0.1) if rng.random() < 0.3 else 0.0,
    }


def _cup(sizes: Mapping[str, float], rng: np.random.Generator) -> dict[str, float]:
    return {} if rng.random() < 0.65 else {"handle_reach": 0.0}


def _book(sizes: Mapping[str, float], rng: np.random.Generator) -> dict[str, float]:
    return {"opening_deg": rng.uniform(110.0, 165.0) if rng.random() < 0.5 else 0.0}


def _keyboard(sizes: Mapping[str, float], rng: np.random.Generator) -> dict[str, float]:
    return {"rows": int(rng.integers(4, 7))}


def _umbrella(sizes: Mapping[str, float], rng: np.random.Generator) -> dict[str, float]:
    return {"hook": int(rng.random() < 0.6)}


def _surfboard(sizes: Mapping[str, float], rng: np.random.Generator) -> dict[str, float]:
    return {"fins": 3 if rng.random() < 0.6 else 1}


def _bicycle(sizes: Mapping[str, float], rng: np.random.Generator) -> dict[str, float]:
    return {"mudguards": int(rng.random() < 0.5)}


def _motorcycle(sizes: Mapping[str, float], rng: np.random.Generator) -> dict[str, float]:
    return {"screen": int(rng.random() < 0.4)}


_STYLES: Mapping[str, Callable[[Mapping[str, float], np.random.Generator], dict[str, float]]] = {
    "chair": _chair,
    "table": _table,
    "bench": _bench,
    "couch": _couch,
    "bed": _bed,
    "cup": _cup,
    "book": _book,
    "keyboard": _keyboard,
    "umbrella": _umbrella,
    "surfboard": _surfboard,
    "bicycle": _bicycle,
    "motorcycle": _motorcycle,
}
