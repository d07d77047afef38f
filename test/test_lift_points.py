"""Lifting onto points: parity with the released lifter, its definition written out, gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ivlm_core import InputError
from ivlm_core.lift import lift_points

VIEWS, SIZE, POINTS = 3, 6, 20


def slow_lift(values: np.ndarray, numbers: np.ndarray, count: int) -> np.ndarray:
    """The definition, point by point."""
    lifted = np.zeros(count)
    for point in range(count):
        seen = [values[view][numbers[view] == point].mean() for view in range(len(values)) if point in numbers[view]]
        lifted[point] = np.mean(seen) if seen else 0.0
    return lifted


def random_views(seed: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    return random.random((2, VIEWS, SIZE, SIZE)), random.integers(-2, POINTS, (VIEWS, SIZE, SIZE))


def test_matches_the_released_point_lifter(reference):
    values = torch.sigmoid(torch.from_numpy(reference["lift_logits"].astype(np.float32)))[None]
    expected = reference["lift_points_affordance"]
    lifted = lift_points(values, torch.from_numpy(reference["points_pixel_to_point"]), expected.size)
    np.testing.assert_allclose(lifted[0], expected, atol=1e-5)


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1))
def test_is_the_slow_definition_for_each_query(seed):
    values, numbers = random_views(seed)
    lifted = lift_points(torch.from_numpy(values), torch.from_numpy(numbers), POINTS)
    for query in range(2):
        np.testing.assert_allclose(lifted[query], slow_lift(values[query], numbers, POINTS), atol=1e-12)


def test_gradient_is_that_of_finite_differences():
    values, numbers = random_views(1)
    inside = torch.from_numpy(0.1 + 0.8 * values).requires_grad_()
    assert torch.autograd.gradcheck(lambda given: lift_points(given, torch.from_numpy(numbers), POINTS), inside)


def test_pixels_without_a_point_may_hold_anything():
    values, numbers = random_views(2)
    values[:, numbers < 0] = np.nan
    given_values = torch.from_numpy(values).requires_grad_()
    lifted = lift_points(given_values, torch.from_numpy(numbers), POINTS)
    lifted.sum().backward()
    assert torch.isfinite(lifted).all()
    assert (given_values.grad[:, torch.from_numpy(numbers) < 0] == 0).all()


def test_a_view_that_shows_nothing_changes_nothing():
    values, numbers = random_views(3)
    numbers[1] = -1
    kept = [0, 2]
    torch.testing.assert_close(
        lift_points(torch.from_numpy(values), torch.from_numpy(numbers), POINTS),
        lift_points(torch.from_numpy(values[:, kept]), torch.from_numpy(numbers[kept]), POINTS),
    )
    assert (lift_points(torch.from_numpy(values), torch.full((VIEWS, SIZE, SIZE), -1), POINTS) == 0).all()


def test_half_precision_is_averaged_in_single_precision():
    values = torch.full((1, 1, 64, 64), 0.3, dtype=torch.bfloat16)
    lifted = lift_points(values, torch.zeros(1, 64, 64, dtype=torch.int16), 1)
    assert lifted.dtype == torch.float32
    assert float(lifted) == pytest.approx(float(values[0, 0, 0, 0]), rel=1e-5)


def test_bad_input_is_named():
    values, numbers = (torch.from_numpy(array) for array in random_views(4))
    with pytest.raises(InputError, match="values: have shape"):
        lift_points(values[0], numbers, POINTS)
    with pytest.raises(InputError, match="pixel_to_point: is"):
        lift_points(values, numbers.double(), POINTS)
    with pytest.raises(InputError, match="beyond the 5"):
        lift_points(values, numbers, 5)
    with pytest.raises(InputError, match="sigmoid"):
        lift_points(values * 3 - 1, numbers, POINTS)
    with pytest.raises(InputError, match=r"outside \[0, 1\]"):
        lift_points(values * torch.nan, numbers, POINTS)
