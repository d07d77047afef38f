"""Heat colours: exact at the ends, monotone between, safe with bad numbers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ivlm_core.draw import NEUTRAL_GREY, heat_colors

GREY = np.full(3, NEUTRAL_GREY, dtype=np.uint8)


@given(st.tuples(*[st.integers(0, 255)] * 3))
def test_zero_is_exactly_the_base(base: tuple[int, int, int]) -> None:
    np.testing.assert_array_equal(heat_colors(0.0, np.array(base, dtype=np.uint8)), base)


@pytest.mark.parametrize("grey", [90, 140, 200, 255])
def test_redness_rises_with_the_value(grey: int) -> None:
    colors = heat_colors(np.linspace(0, 1, 256), np.full(3, grey, dtype=np.uint8)).astype(int)
    redness = colors[:, 0] - colors[:, 1]
    assert (np.diff(redness) >= -1).all()
    assert (np.diff(redness[::8]) > 0).all()
    assert (np.diff(colors[:, 1]) <= 1).all(), "the surface never gets brighter as the value rises"


def test_one_is_red_on_every_shade() -> None:
    for grey in range(60, 256, 5):
        red, green, blue = heat_colors(1.0, np.full(3, grey, dtype=np.uint8)).astype(int)
        assert red > 3 * max(green, blue) + 20


def test_shading_stays_visible_under_the_heat() -> None:
    dark, light = (heat_colors(1.0, np.full(3, grey, dtype=np.uint8)) for grey in (110, 220))
    assert int(light[0]) - int(dark[0]) > 60


def test_values_outside_and_nan() -> None:
    colors = heat_colors([-5.0, np.nan, 7.0, np.inf, -np.inf], np.broadcast_to(GREY, (5, 3)))
    zero, one = heat_colors(0.0, GREY), heat_colors(1.0, GREY)
    np.testing.assert_array_equal(colors, [zero, zero, one, one, zero])


def test_shapes_broadcast_and_the_base_stays_untouched() -> None:
    base = np.full((4, 5, 3), 180, dtype=np.uint8)
    values = np.linspace(0, 1, 20).reshape(4, 5)
    colors = heat_colors(values, base)
    assert colors.shape == (4, 5, 3)
    assert colors.dtype == np.uint8
    assert (base == 180).all()
    np.testing.assert_array_equal(colors, heat_colors(values, np.full(3, 180, dtype=np.uint8)))
    np.testing.assert_array_equal(colors, heat_colors(values, np.full((4, 5, 1), 180, dtype=np.uint8)))
