"""Where cold fits begin: on the mask's ray, as deep as contact, depth image or size say, never behind the camera."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh

from ivlm_core import CameraIntrinsics, Mesh
from ivlm_core.reconstruct.fit_mesh import FitMesh
from ivlm_core.reconstruct.levels import Observation
from ivlm_core.reconstruct.patches import ContactPoints
from ivlm_core.reconstruct.pose import spread_rotations
from ivlm_core.reconstruct.starts import NEAREST, cold_starts, placed_by_mask

CAMERA = CameraIntrinsics(200.0, 200.0, 79.5, 59.5, 160, 120)


@pytest.fixture(scope="module")
def ball() -> FitMesh:
    """Of radius 10 cm, its middle away from the mesh's origin."""
    made = trimesh.creation.icosphere(subdivisions=3, radius=0.1)
    return FitMesh(Mesh(made.vertices + np.array([0.3, 0.1, 0.0]), made.faces))


def contact(points: list[list[float]], normals: list[list[float]]) -> ContactPoints:
    count = len(points)
    return ContactPoints(np.array(points), np.array(normals), np.full(count, 1 / count), np.zeros(count, np.int64))


def observed(**changes: object) -> Observation:
    """The ball 2 m away to the right: a disc of radius 10 px around (110, 60)."""
    row, column = np.mgrid[:120, :160]
    mask = (row - 60) ** 2 + (column - 110) ** 2 < 10.0**2
    given: dict = {"intrinsics": CAMERA, "mask": mask, "valid": np.ones_like(mask), **changes}
    return Observation(**given)


def middles(ball: FitMesh, rotations: np.ndarray, translations: np.ndarray, scale: float = 1.0) -> np.ndarray:
    return scale * rotations @ ball.centre + translations


@pytest.mark.parametrize("scale", [1.0, 1.5])
def test_without_anything_else_the_size_tells_the_distance(ball, scale):
    rotations = spread_rotations(16)
    placed = middles(ball, rotations, placed_by_mask(ball, observed(), rotations, scale, False), scale)
    np.testing.assert_allclose(placed[:, 2], 2.0 * scale, rtol=0.08)
    np.testing.assert_allclose(placed[:, :2] / placed[:, 2:], [[30.5 / 200, 0.5 / 200]] * 16, atol=2e-3)


def test_a_depth_image_tells_the_distance(ball):
    depth = np.full((120, 160), 1.4, np.float32)
    rotations = spread_rotations(4)
    placed = middles(ball, rotations, placed_by_mask(ball, observed(depth=depth), rotations, 1.0, False))
    np.testing.assert_allclose(placed[:, 2], 1.4 + 0.25 * 0.2, atol=1e-3)


def test_contacts_of_both_sides_are_equally_deep(ball):
    seen = observed(
        human=contact([[0.2, 0.0, 1.2]], [[0.0, 0.0, 1.0]]), thing=contact([[0.3, 0.1, 0.1]], [[0.0, 0.0, 1.0]])
    )
    rotations = spread_rotations(16)
    translations = placed_by_mask(ball, seen, rotations, 1.0, True)
    touched = rotations @ seen.thing.points[0] + translations
    np.testing.assert_allclose(touched[:, 2], 1.2, atol=1e-9)


def test_contact_doubles_the_starts_and_all_are_in_front(ball):
    seen = observed(
        human=contact([[0.0, 0.0, 0.06]], [[0.0, 0.0, -1.0]]), thing=contact([[0.3, 0.1, 0.1]], [[0.0, 0.0, 1.0]])
    )
    rotation, translation = cold_starts(ball, seen, 1.0, 16, True)
    assert rotation.shape == (32, 3, 3)
    assert middles(ball, rotation, translation)[:, 2].min() >= NEAREST - 1e-9
    again = cold_starts(ball, seen, 1.0, 16, True)
    np.testing.assert_array_equal(translation, again[1])
    assert len(cold_starts(ball, seen, 1.0, 16, False)[0]) == 16
