"""Contour edges and where they cross a raster, against shapes whose outlines are known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ivlm_core.reconstruct.outline import EdgeTable, crossings
from ivlm_core.types import CameraIntrinsics

CAMERA = CameraIntrinsics(100.0, 100.0, 31.5, 23.5, 64, 48)
WHOLE = np.array([[0, 0, 64, 48]])
CORNERS = np.array([[x, y, z] for x in (-1.0, 1) for y in (-1.0, 1) for z in (-1.0, 1)])
QUADS = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
CUBE = np.array([triangle for a, b, c, d in QUADS for triangle in ((a, b, c), (a, c, d))])


def contour_of(table: EdgeTable, eye: tuple[float, float, float]) -> set[frozenset[tuple[float, ...]]]:
    _, edges = table.contour(np.array([eye], dtype=float))
    return {frozenset(map(tuple, table.vertices[table.edges[edge]])) for edge in edges}


@pytest.mark.parametrize(("eye", "count"), [((9.0, 0.3, 0.2), 4), ((9.0, 7.0, 0.2), 6), ((9.0, 7.0, 5.0), 6)])
def test_contour_of_a_cube(eye, count):
    edges = contour_of(EdgeTable(CORNERS, CUBE), eye)
    assert len(edges) == count
    # An edge of the cube is on the contour where exactly one of its two faces is seen.
    for edge in edges:
        ends = np.array(sorted(edge))
        fixed = [axis for axis in range(3) if ends[0, axis] == ends[1, axis]]
        assert len(fixed) == 2
        seen = [eye[axis] * ends[0, axis] > 1 for axis in fixed]
        assert sum(seen) == 1


def test_contour_needs_no_orientation_and_no_shared_vertices():
    rng = np.random.default_rng(0)
    flipped = np.where(rng.random(len(CUBE))[:, None] < 0.5, CUBE, CUBE[:, ::-1])
    loose = CORNERS[flipped].reshape(-1, 3)
    tables = [
        EdgeTable(CORNERS, CUBE),
        EdgeTable(CORNERS, flipped),
        EdgeTable(loose, np.arange(36).reshape(-1, 3)),
        EdgeTable(np.concatenate([CORNERS, CORNERS]), np.concatenate([CUBE, CUBE + 8])),
    ]
    found = [contour_of(table, (5.0, 4.0, 3.0)) for table in tables]
    assert all(edges == found[0] for edges in found)


def test_edges_of_one_or_three_faces_always_take_part():
    vertices = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1]])
    fan = np.array([[0, 1, 2], [0, 1, 3], [0, 1, 4]])
    for eye in ((0.3, 0.4, 5.0), (-3.0, 2.0, -1.0)):
        assert len(contour_of(EdgeTable(vertices, fan), eye)) == 7


def test_degenerate_faces_are_left_out():
    table = EdgeTable(CORNERS, np.concatenate([CUBE, [[0, 0, 1], [2, 2, 2]]]))
    assert len(contour_of(table, (9.0, 0.3, 0.2))) == 4


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.floats(-1.0, 6.0))
def test_points_of_crossings_project_to_them(seed, depth):
    # Also for edges that are cut because they reach behind the camera.
    rng = np.random.default_rng(seed)
    table = EdgeTable(rng.normal(size=(9, 3)), rng.integers(0, 9, size=(7, 3)))
    placed = (table.vertices + np.array([0.0, 0.0, depth]))[None]
    for axis, found in enumerate(crossings(table, np.array([[0.0, 0, -depth]]), placed, CAMERA, WHOLE)):
        point = found.point + np.array([0.0, 0.0, depth])
        assert (point[:, 2] > 0).all()
        u = point[:, :2] / point[:, 2:] * 100.0 + (31.5, 23.5)
        expected = found.pixel.astype(float)
        expected[:, axis] += found.offset
        # Near the camera a pixel is a fraction of a micrometre.
        np.testing.assert_allclose(u, expected, atol=1e-6 / point[:, 2].min(initial=1.0))
        assert ((found.offset >= 0) & (found.offset < 1)).all()
        step = np.array([1, 0]) if axis == 0 else np.array([0, 1])
        assert (found.pixel >= 0).all()
        assert (found.pixel + step < (64, 48)).all()


def test_every_line_that_an_edge_crosses_is_found_once():
    # A triangle with corners at (10.2, 5.3), (50.7, 20.6) and (30.1, 40.9) of the raster.
    corners = np.array([[10.2, 5.3], [50.7, 20.6], [30.1, 40.9]])
    vertices = np.concatenate([(corners - (31.5, 23.5)) / 100.0 * 2.0, np.full((3, 1), 2.0)], axis=1)
    table = EdgeTable(vertices, np.array([[0, 1, 2]]))
    rows, columns = crossings(table, np.zeros((1, 3)), table.vertices[None], CAMERA, WHOLE)
    # Every row or column between the least and the greatest corner is entered and left once.
    assert np.bincount(rows.pixel[:, 1], minlength=48).tolist() == [0] * 6 + [2] * 35 + [0] * 7
    assert np.bincount(columns.pixel[:, 0], minlength=64).tolist() == [0] * 11 + [2] * 40 + [0] * 13
