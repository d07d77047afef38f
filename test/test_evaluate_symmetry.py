"""Symmetries found on meshes, and angles that forgive them and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from ivlm_core.evaluate.symmetry import Symmetry, surface_points
from ivlm_core.objects import library_mesh


def turn(axis: int, degrees: float) -> np.ndarray:
    return Rotation.from_rotvec(np.deg2rad(degrees) * np.eye(3)[axis]).as_matrix()


@pytest.fixture(scope="module")
def symmetries() -> dict[str, Symmetry]:
    return {label: Symmetry.of(library_mesh(label)) for label in ("ball", "bottle", "chair", "box")}


def test_a_ball_has_no_orientation(symmetries: dict[str, Symmetry]) -> None:
    assert symmetries["ball"].angle(turn(0, 33) @ turn(1, 71), turn(2, 120)) == 0.0


def test_a_bottle_turns_about_its_axis_alone(symmetries: dict[str, Symmetry]) -> None:
    bottle = symmetries["bottle"]
    assert bottle.angle(np.eye(3), turn(1, 137)) == pytest.approx(0.0, abs=1e-4)
    assert bottle.angle(np.eye(3), turn(0, 40) @ turn(1, 10)) == pytest.approx(40.0, abs=1e-4)
    # Its neck is not its bottom.
    assert bottle.angle(np.eye(3), turn(0, 180)) == pytest.approx(180.0, abs=1e-3)


def test_a_chair_has_a_front(symmetries: dict[str, Symmetry]) -> None:
    chair = symmetries["chair"]
    assert len(chair.axes) == 0
    for degrees in (30, 90, 180):
        assert chair.angle(np.eye(3), turn(1, degrees)) == pytest.approx(degrees, abs=1e-4)


def test_a_cube_has_its_24_turns(symmetries: dict[str, Symmetry]) -> None:
    box = symmetries["box"]
    if np.ptp(np.ptp(library_mesh("box").vertices, axis=0)) < 1e-6:
        assert len(box.rotations) == 24
    assert box.angle(np.eye(3), turn(0, 180)) == pytest.approx(0.0, abs=1e-4)
    assert box.angle(np.eye(3), turn(1, 30)) == pytest.approx(30.0, abs=1e-4)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10_000))
def test_an_angle_does_not_depend_on_which_of_equal_orientations_is_given(seed: int) -> None:
    symmetry = Symmetry(Rotation.create_group("D2").as_matrix(), np.zeros((0, 3)))
    first, second = Rotation.random(2, rng=seed).as_matrix()
    angle = symmetry.angle(first, second)
    assert angle == pytest.approx(symmetry.angle(second, first), abs=1e-6)
    for same in symmetry.rotations:
        assert symmetry.angle(first @ same, second) == pytest.approx(angle, abs=1e-6)


def test_points_lie_evenly_on_the_surface() -> None:
    vertices = np.array([[0, 0, 0], [3, 0, 0], [0, 1, 0], [3, 1, 0], [0, 0, 5], [0.0, 0, 5]])
    points = surface_points(vertices, [[0, 1, 2], [1, 3, 2], [4, 5, 4]], 600)
    assert points.shape == (600, 3)
    assert (points[:, 2] == 0).all()
    assert abs((points[:, 0] < 1.5).mean() - 0.5) < 0.05
    np.testing.assert_array_equal(points, surface_points(vertices, [[0, 1, 2], [1, 3, 2], [4, 5, 4]], 600))
