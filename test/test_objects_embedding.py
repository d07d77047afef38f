"""Vectors are made unit, and nothing that is no vector gets through."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from ivlm_core.errors import InputError
from ivlm_core.objects.embedding import mask_box, unit_rows


@given(
    arrays(np.float64, array_shapes(min_dims=2, max_dims=2, max_side=6), elements=st.floats(-1e3, 1e3)),
    st.floats(1e-2, 1e2),
)
def test_rows_become_unit_and_forget_their_length(rows: np.ndarray, factor: float) -> None:
    if (np.linalg.norm(rows, axis=1) < 1e-3).any():
        return
    unit = unit_rows(rows)
    assert unit.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(unit, axis=1), 1.0, atol=1e-6)
    np.testing.assert_allclose(unit_rows(rows * factor), unit, atol=1e-6)


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0])
def test_nan_infinite_and_zero_rows_are_named(value: float) -> None:
    rows = np.ones((3, 4))
    rows[1] = value
    with pytest.raises(InputError, match="row 1 is zero, NaN or infinite"):
        unit_rows(rows)


@pytest.mark.parametrize("shape", [(4,), (2, 0), (1, 2, 3)])
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="shape"):
        unit_rows(np.ones(shape))


def test_whole_numbers_are_no_embeddings() -> None:
    with pytest.raises(InputError, match="int64"):
        unit_rows(np.ones((2, 2), dtype=np.int64))


def test_no_rows_are_fine() -> None:
    assert unit_rows(np.zeros((0, 7))).shape == (0, 7)


def test_box_of_a_mask_has_outer_edges() -> None:
    mask = np.zeros((10, 20), dtype=bool)
    mask[3:5, 7] = True
    assert mask_box(mask) == (7, 3, 8, 5)


@pytest.mark.parametrize("mask", [np.zeros((4, 4), dtype=bool), np.zeros((2, 2, 2), dtype=bool)])
def test_empty_and_strange_masks_have_no_box(mask: np.ndarray) -> None:
    with pytest.raises(InputError, match=r"object\.mask"):
        mask_box(mask)
