"""Samples of a surface: areas add up, whatever the mesh's fineness; values are interpolated."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ivlm_core import InputError
from ivlm_core.reconstruct.surface import surface_samples, touched_surface

QUAD = np.array([[0, 0, 0], [0.3, 0, 0], [0.3, 0.2, 0], [0, 0.2, 0]], float)
QUAD_FACES = np.array([[0, 1, 2], [0, 2, 3]])


@settings(max_examples=30)
@given(st.floats(0.004, 0.5), st.integers(0, 2**32 - 1))
def test_areas_add_up_and_linear_values_are_exact(spacing, seed):
    random = np.random.default_rng(seed)
    vertices, faces = random.normal(size=(9, 3)) * 0.1, random.integers(0, 9, (12, 3))
    slope = random.normal(size=3)
    values = 5.0 + vertices @ slope
    samples = surface_samples(vertices, faces, values, -100.0, spacing)
    corners = vertices[faces]
    true = 0.5 * np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    np.testing.assert_allclose(np.bincount(samples.faces, samples.areas, minlength=12), true, atol=1e-12)
    np.testing.assert_allclose(samples.values, 5.0 + samples.points @ slope, atol=1e-9)
    np.testing.assert_allclose(np.linalg.norm(samples.normals, axis=1), 1.0, atol=1e-9)


def test_spacing_is_kept_and_so_is_the_limit():
    fine = surface_samples(QUAD, QUAD_FACES, np.ones(4), 0.5, spacing=0.03)
    gaps = np.linalg.norm(fine.points[:, None] - fine.points[None], axis=2) + np.eye(len(fine.points))
    assert gaps.min(axis=1).max() < 0.03
    few = surface_samples(QUAD, QUAD_FACES, np.ones(4), 0.5, spacing=1e-5, most=500)
    assert 200 < len(few.points) <= 500
    assert few.areas.sum() == pytest.approx(0.06)


def test_faces_below_the_least_value_and_without_area_have_no_samples():
    vertices = np.concatenate([QUAD, QUAD[:1]])
    faces = np.concatenate([QUAD_FACES, [[0, 4, 1]]])
    samples = surface_samples(vertices, faces, [0, 1, 0, 0, 1], 0.5, spacing=1.0)
    assert samples.faces.tolist() == [0]
    assert len(surface_samples(vertices, faces, np.zeros(5), 0.5).points) == 0


def test_touched_is_where_the_interpolated_value_reaches_the_threshold():
    touched = touched_surface(QUAD, QUAD_FACES, [1, 0, 0, 1], 0.5)
    assert touched.points[:, 0].max() <= 0.15
    assert touched.areas.sum() == pytest.approx(0.03, rel=0.05)


def test_a_lone_vertex_just_above_the_threshold_is_not_lost():
    touched = touched_surface(QUAD, QUAD_FACES, [0, 0.501, 0, 0], 0.5)
    assert len(touched.points) > 0
    assert set(touched.faces) == {0}
    assert (touched.values == 0.501).all()


def test_bad_input_is_named():
    with pytest.raises(InputError, match="surface: has shape"):
        surface_samples(QUAD, QUAD_FACES, np.ones(3), 0.5)
    with pytest.raises(InputError, match="whole numbers"):
        surface_samples(QUAD, QUAD_FACES.astype(float), np.ones(4), 0.5)
    with pytest.raises(InputError, match="beyond the 4 vertices"):
        surface_samples(QUAD, QUAD_FACES + 2, np.ones(4), 0.5)
    with pytest.raises(InputError, match="NaN"):
        surface_samples(QUAD * np.nan, QUAD_FACES, np.ones(4), 0.5)
    with pytest.raises(InputError, match="sigmoid"):
        touched_surface(QUAD, QUAD_FACES, [0, 3, 0, 0], 0.5)
    with pytest.raises(InputError, match="threshold"):
        touched_surface(QUAD, QUAD_FACES, np.ones(4), 0.0)
