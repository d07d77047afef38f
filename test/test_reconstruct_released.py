"""The released version's energy and start, against values computed by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from ivlm_core import CameraIntrinsics
from ivlm_core.reconstruct.levels import Observation, target
from ivlm_core.reconstruct.patches import ContactPoints
from ivlm_core.reconstruct.released import released_energy, released_start
from ivlm_core.reconstruct.silhouette import Coverage

CAMERA = CameraIntrinsics(50.0, 50.0, 19.5, 14.5, 40, 30)


def contact(points: np.ndarray, normals: np.ndarray) -> ContactPoints:
    count = len(points)
    return ContactPoints(points, normals, np.full(count, 1 / count), np.zeros(count, np.int64))


def test_energy_is_the_weighted_sum_of_its_three_terms():
    mask = np.zeros((30, 40), bool)
    mask[10:14, 10:15] = True
    human = contact(np.array([[0.0, 0.0, 2.0]]), np.array([[0.0, 0.0, -1.0]]))
    thing = contact(np.array([[0.0, 0.0, 0.0]]), np.array([[0.0, 0.0, 1.0]]))
    seen = Observation(CAMERA, mask, np.ones_like(mask), None, None, human, thing)
    finest = target(seen, 1000)
    window = finest.camera
    left, top = round(CAMERA.cx - window.cx), round(CAMERA.cy - window.cy)
    # Covered are the mask's columns moved by two pixels.
    rows, columns = np.mgrid[10:14, 12:17]
    pixel = torch.from_numpy(((rows - top) * window.width + columns - left).reshape(-1))
    covered = Coverage(torch.ones(20), torch.zeros(20, dtype=torch.int64), pixel, 1, window)
    shift = torch.tensor([[0.0, 0.0, 1.7]], dtype=torch.float64)
    found = released_energy(
        covered,
        finest,
        (10, 10, 15, 14),
        seen,
        torch.eye(3, dtype=torch.float64)[None],
        shift,
        torch.ones(1, dtype=torch.float64),
    )
    assert float(found) == pytest.approx(5 * (1 - 12 / 40) + 1e-4 * 2.0**2 + 10 * 0.3, rel=1e-6)


def test_the_start_brings_matched_contacts_together():
    rng = np.random.default_rng(0)
    points = rng.normal(size=(30, 3)) * 0.1
    normals = points / np.linalg.norm(points, axis=1, keepdims=True)
    # A little off the turn by half a circle about x that it begins with, nearest neighbours are the true partners.
    turn = Rotation.from_rotvec([0.05, 0.03, -0.04]).as_matrix() @ np.diag([1.0, -1.0, -1.0])
    shift = np.array([0.2, 0.1, 2.0])
    human = contact(points @ turn.T + shift, -normals @ turn.T)
    rotation, translation = released_start(human, contact(points, normals), np.zeros(3), 1.0)
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-9)
    assert np.linalg.det(rotation) == pytest.approx(1.0)
    assert np.linalg.norm(points @ rotation.T + translation - human.points, axis=1).max() < 0.02


def test_contacts_on_a_line_leave_the_first_turn():
    points = np.array([[0.0, 0.0, 0.0], [0.1, 0.0, 0.0]])
    away = points + np.array([0.0, 0.0, 1.0])
    normals = np.array([[0.0, 0.0, 1.0]] * 2)
    rotation, translation = released_start(contact(away, normals), contact(points, normals), np.zeros(3), 1.0)
    np.testing.assert_array_equal(rotation, np.diag([1.0, -1.0, -1.0]))
    np.testing.assert_allclose(points @ rotation.T + translation, away, atol=1e-12)
