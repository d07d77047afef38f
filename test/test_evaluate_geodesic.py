"""Distances on a surface: exact where they are known, triangle inequality, pieces, the cached matrix."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st

from ivlm_core import InputError
from ivlm_core.bodies import load_body
from ivlm_core.evaluate import Surface, geodesic_error, geodesic_matrix
from ivlm_core.storage import ArrayCache
from ivlm_core.types import Mesh


def plane(side: int = 9) -> Mesh:
    """A square of 1 m, `side` vertices along each edge."""
    x, y = np.meshgrid(np.linspace(0, 1, side), np.linspace(0, 1, side))
    corner = (np.arange(side - 1)[:, None] * side + np.arange(side - 1)).ravel()
    faces = np.concatenate(
        [np.stack([corner, corner + 1, corner + side], 1), np.stack([corner + 1, corner + side + 1, corner + side], 1)]
    )
    return Mesh(np.stack([x.ravel(), y.ravel(), np.zeros(side * side)], axis=1), faces)


def only(count: int, *vertices: int) -> np.ndarray:
    chosen = np.zeros(count, dtype=bool)
    chosen[list(vertices)] = True
    return chosen


def test_along_edges_and_diagonals_of_a_plane_distances_are_exact():
    surface = Surface(plane())
    away = surface.distance_to(only(81, 0)).reshape(9, 9)
    np.testing.assert_allclose(away[0], np.linspace(0, 1, 9), atol=1e-6)
    np.testing.assert_allclose(np.diag(away), np.linspace(0, np.sqrt(2), 9), atol=1e-6)


def test_distances_on_a_sphere_are_a_few_per_cent_too_long_at_most():
    ball = trimesh.creation.icosphere(4)
    surface = Surface(Mesh(ball.vertices, ball.faces))
    away = surface.distance_to(only(len(ball.vertices), 0))
    true = np.arccos(np.clip(ball.vertices @ ball.vertices[0], -1, 1))
    far = true > 0.3
    ratio = away[far] / true[far]
    assert ratio.min() > 0.998
    assert ratio.max() < 1.06
    assert ratio.mean() < 1.03


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=20)
def test_distance_to_a_union_is_the_smaller_of_the_distances(seed):
    surface = Surface(plane(5))
    random = np.random.default_rng(seed)
    one, two = only(25, *random.integers(0, 25, 3)), only(25, *random.integers(0, 25, 3))
    both = np.minimum(surface.distance_to(one), surface.distance_to(two))
    np.testing.assert_allclose(surface.distance_to(one | two), both, atol=1e-9)
    assert (surface.distance_to(one)[one] == 0).all()


def test_separate_pieces_are_tied_together():
    small = trimesh.creation.icosphere(1, radius=0.1)
    big = trimesh.creation.icosphere(2)
    vertices = np.concatenate([big.vertices, small.vertices + np.array([1.2, 0, 0])])
    surface = Surface(Mesh(vertices, np.concatenate([big.faces, small.faces + len(big.vertices)])))
    away = surface.distance_to(only(len(vertices), 0))
    assert np.isfinite(away).all()
    nearest = np.linalg.norm(big.vertices[:, None] - surface.mesh.vertices[None, len(big.vertices) :], axis=-1).min()
    matrix = np.stack([surface.distance_to(only(len(vertices), start)) for start in range(len(vertices))])
    assert matrix[: len(big.vertices), len(big.vertices) :].min() == pytest.approx(nearest, abs=1e-6)


def test_no_vertex_stands_for_all():
    surface = Surface(plane(3))
    assert (surface.distance_to(np.zeros(9, dtype=bool)) == 0).all()


def test_matrix_is_symmetric_and_kept(tmp_path):
    cache = ArrayCache(tmp_path)
    surface = Surface(plane())
    matrix = surface.matrix(cache)
    assert (matrix == matrix.T).all()
    for start in (0, 40, 80):
        np.testing.assert_allclose(matrix[start], surface.distance_to(only(81, start)), atol=1e-3)
    again = Surface(plane()).matrix(cache)
    assert cache.hits == 1
    np.testing.assert_array_equal(matrix, again)


def test_matrix_of_another_mesh_is_not_taken_from_the_cache(tmp_path):
    cache = ArrayCache(tmp_path)
    Surface(plane()).matrix(cache)
    stretched = Mesh(2 * plane().vertices, plane().faces)
    assert Surface(stretched).matrix(cache).max() > 2.8


def test_error_by_surface_is_the_error_by_matrix():
    surface, random = Surface(plane()), np.random.default_rng(0)
    matrix = np.stack([surface.distance_to(only(81, start)) for start in range(81)])
    pred, gt = random.random((4, 81)), random.random((4, 81)) > 0.8
    pred[1], gt[2] = 0, False
    for official in (False, True):
        np.testing.assert_allclose(
            np.stack(geodesic_error(pred, gt, surface, official=official)),
            np.stack(geodesic_error(pred, gt, matrix, official=official)),
            atol=1e-9,
        )


def test_body_surface_is_connected_and_as_large_as_a_person():
    body = load_body()
    surface = Surface(body.mesh)
    away = surface.distance_to(body.part_labels == 0)
    assert np.isfinite(away).all()
    assert 1.2 < away.max() < 2.5


def test_bad_sets_are_named():
    surface = Surface(plane(3))
    for wrong in (np.zeros(8, bool), np.zeros(9), np.zeros((9, 1), bool)):
        with pytest.raises(InputError, match="give \\(9,\\) booleans"):
            surface.distance_to(wrong)
    with pytest.raises(InputError, match="distances: have shape"):
        geodesic_error(np.ones(8), np.ones(8), surface)


def test_matrix_of_a_body_model_by_its_name(tmp_path):
    body = load_body()
    small = type(body).from_mesh("small", plane(), np.zeros(81, np.uint8))
    assert geodesic_matrix(small, ArrayCache(tmp_path)).shape == (81, 81)
