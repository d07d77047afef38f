from __future__ import annotations

import numpy as np
import pytest

from ivlm_core.datasets.synthetic import SceneCamera
from ivlm_core.errors import InputError


def test_optical_frame_is_rep_103() -> None:
    """Seen from the front of a body that faces +z: its left is on the right of the picture, its head is up."""
    camera = SceneCamera.look_at((0, 1, 3), (0, 1, 0))
    pixels, depth = camera.project(np.array([[0, 1, 0], [0.5, 1, 0], [0, 1.5, 0]]))
    np.testing.assert_allclose(depth, 3)
    np.testing.assert_allclose(pixels, [[319.5, 239.5], [419.5, 239.5], [319.5, 139.5]])


@pytest.mark.parametrize("azimuth", [0, 75, -140])
def test_rotation_is_proper_and_level(azimuth: float) -> None:
    camera = SceneCamera.orbit((0.1, 0.9, -0.2), 2.5, azimuth, 20)
    np.testing.assert_allclose(camera.rotation @ camera.rotation.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(camera.rotation) == pytest.approx(1)
    assert camera.rotation[0, 1] == pytest.approx(0)


def test_rays_are_the_inverse_of_projecting() -> None:
    camera = SceneCamera.orbit((0, 1, 0), 2, 30, 10)
    origin, directions = camera.rays()
    points = origin + 1.7 * directions
    pixels, depth = camera.project(points.reshape(-1, 3))
    columns, rows = np.meshgrid(np.arange(640), np.arange(480))
    np.testing.assert_allclose(depth, 1.7, atol=1e-5)
    np.testing.assert_allclose(pixels.reshape(480, 640, 2), np.stack([columns, rows], axis=-1), atol=1e-3)


def test_points_behind_the_camera_have_no_pixel() -> None:
    pixels, depth = SceneCamera.look_at((0, 1, 3), (0, 1, 0)).project(np.array([[0.0, 1.0, 4.0]]))
    assert depth[0] < 0
    assert np.isnan(pixels).all()


def test_camera_straight_above_is_refused() -> None:
    with pytest.raises(InputError, match=r"camera\.target"):
        SceneCamera.look_at((0, 3, 0), (0, 1, 0))
