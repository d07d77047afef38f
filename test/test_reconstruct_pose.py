"""Pose parameters: there and back, and what each of them does."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from ivlm_core.reconstruct.pose import CENTRE, DEPTH, ROTATION, SIZE, Pose, decode, encode, rotations, spread_rotations

CENTRE_OF_BOX = np.array([0.1, -0.2, 0.05])


def some_poses(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    rotation = Rotation.random(count, random_state=rng).as_matrix()
    scale = rng.uniform(0.5, 2.0, count)
    middle = rng.uniform([-1, -1, 0.3], [1, 1, 5], size=(count, 3))
    return rotation, middle - scale[:, None] * (rotation @ CENTRE_OF_BOX), scale


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10_000))
def test_encode_and_decode_are_inverse(seed):
    poses = some_poses(3, seed)
    parameters = torch.from_numpy(encode(*poses, CENTRE_OF_BOX))
    for ours, given_one in zip(decode(parameters, torch.from_numpy(CENTRE_OF_BOX)), poses, strict=True):
        np.testing.assert_allclose(ours.numpy(), given_one, atol=1e-12)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-3, 3), min_size=6, max_size=6))
def test_any_six_numbers_are_a_rotation(six):
    numbers = torch.tensor([six], dtype=torch.float64)
    if torch.linalg.cross(numbers[:, :3], numbers[:, 3:]).norm() < 1e-3:
        numbers = numbers + torch.tensor([[1.0, 0, 0, 0, 1, 0]])
    if torch.linalg.cross(numbers[:, :3], numbers[:, 3:]).norm() < 1e-3:
        return
    matrix = rotations(numbers)[0].numpy()
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(3), atol=1e-9)
    assert np.linalg.det(matrix) == pytest.approx(1.0)


def test_each_parameter_moves_what_it_is_named_after():
    rotation, translation, scale = some_poses(1)
    before = torch.from_numpy(encode(rotation, translation, scale, CENTRE_OF_BOX))

    def picture(parameters: torch.Tensor) -> np.ndarray:
        """Eight corners of a box about the centre, projected."""
        turn, shift, size = (part[0].numpy() for part in decode(parameters, torch.from_numpy(CENTRE_OF_BOX)))
        corners = CENTRE_OF_BOX + 0.01 * np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)])
        placed = Pose(turn, shift, size).placed(corners)
        return placed[:, :2] / placed[:, 2:]

    still = picture(before)
    # Depth alone leaves the picture as it is, but for perspective within the small box.
    further = before.clone()
    further[:, DEPTH] += 0.5
    np.testing.assert_allclose(picture(further), still, atol=1e-3)
    larger = before.clone()
    larger[:, SIZE] += np.log(2.0)
    np.testing.assert_allclose(np.ptp(picture(larger), axis=0), 2 * np.ptp(still, axis=0), rtol=0.02)
    moved = before.clone()
    moved[:, CENTRE] += torch.tensor([0.1, -0.2])
    np.testing.assert_allclose(picture(moved).mean(axis=0) - still.mean(axis=0), [0.1, -0.2], atol=1e-3)


def test_a_known_scale_stays():
    parameters = torch.from_numpy(encode(*some_poses(4), CENTRE_OF_BOX)).requires_grad_()
    _, translation, scale = decode(parameters, torch.from_numpy(CENTRE_OF_BOX), scale=1.3)
    np.testing.assert_allclose(scale.detach().numpy(), 1.3, rtol=1e-12)
    # How large the object looks then moves it along the axis; its depth parameter does nothing.
    gradient = torch.autograd.grad(translation[:, 2].sum(), parameters)[0]
    assert (gradient[:, SIZE] < 0).all()
    assert (gradient[:, DEPTH] == 0).all()


def test_rotations_are_spread():
    found = spread_rotations(64)
    np.testing.assert_allclose(found @ found.transpose(0, 2, 1), np.broadcast_to(np.eye(3), (64, 3, 3)), atol=1e-12)
    np.testing.assert_array_equal(found, spread_rotations(64))

    def nearest(rotation: np.ndarray) -> float:
        """Degrees to the nearest of them."""
        traces = np.einsum("xy,bxy->b", rotation, found)
        return float(np.degrees(np.arccos(np.clip((traces.max() - 1) / 2, -1, 1))))

    gaps = [nearest(rotation) for rotation in Rotation.random(500, random_state=0).as_matrix()]
    # 64 balls of 35° radius have the volume of all rotations: no cover of 64 can do much better on average.
    assert np.mean(gaps) < 35.0
    assert max(gaps) < 60.0


def test_gradients_reach_every_parameter():
    parameters = torch.from_numpy(encode(*some_poses(2), CENTRE_OF_BOX)).requires_grad_()
    weights = torch.linspace(1.0, 2.0, 9, dtype=torch.float64).reshape(3, 3)
    rotation, translation, scale = decode(parameters, torch.from_numpy(CENTRE_OF_BOX))
    total = (rotation * weights).sum() + (translation * weights[0]).sum() + scale.sum()
    gradient = torch.autograd.grad(total, parameters)[0]
    assert (gradient[:, ROTATION].norm(dim=1) > 0).all()
    assert (gradient[:, [6, 7, SIZE, DEPTH]] != 0).all()
