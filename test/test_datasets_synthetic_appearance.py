"""Colours of objects: something for every shape, bright and dull, and the parts that have their own."""

from __future__ import annotations

import colorsys

import numpy as np
import pytest

from ivlm_core.datasets.synthetic.appearance import OBJECT_COLORS, PART_COLORS, object_colors
from ivlm_core.objects import library_labels, varied_shape


@pytest.mark.parametrize("label", library_labels())
def test_every_object_has_many_colors(label: str) -> None:
    palette = OBJECT_COLORS[label]
    assert len(set(palette)) >= 6
    assert all(len(color) == 3 and min(color) >= 0 and max(color) <= 255 for color in palette)
    saturation = [colorsys.rgb_to_hsv(*(channel / 255 for channel in color))[1] for color in palette]
    assert max(saturation) > 0.5


@pytest.mark.parametrize("label", PART_COLORS)
def test_colored_parts_exist(label: str) -> None:
    rng = np.random.default_rng(2)
    known = {name for _ in range(60) for name in varied_shape(label, rng).parts}
    named = [name for names in PART_COLORS[label] for name in names]
    assert len(set(named)) == len(named)
    unknown = set(named) - known
    if label == "keyboard":
        # The list is a rectangle of names; only the last row has more than two.
        unknown = {name for name in unknown if not name.endswith(("3", "4"))}
    assert not unknown


def test_names_that_people_use_have_the_colors_of_the_shape() -> None:
    for name, label in (("dining table", "table"), ("sports ball", "ball"), ("bike", "bicycle")):
        assert object_colors(name, np.random.default_rng(4)) == object_colors(label, np.random.default_rng(4))


def test_unknown_things_have_a_color() -> None:
    colors = object_colors("space suit", np.random.default_rng(0))
    assert len(colors["color"]) == 3
    assert colors["part_colors"] == {}


def test_colors_vary_and_are_reproducible() -> None:
    drawn = [object_colors("bicycle", np.random.default_rng(seed)) for seed in range(40)]
    assert len({colors["color"] for colors in drawn}) >= 8
    assert len({colors["part_colors"]["saddle"] for colors in drawn}) >= 3
    assert drawn[3] == object_colors("bicycle", np.random.default_rng(3))
