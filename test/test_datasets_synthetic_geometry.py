from __future__ import annotations

import numpy as np
import pytest
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st

from ivlm_core.bodies import PART_NAMES, AnnyRig
from ivlm_core.datasets.synthetic.geometry import MAX_TREES, Solid, capped, vertex_normals
from ivlm_core.objects.shapes.primitives import box, ellipsoid
from ivlm_core.types import Mesh

BALL = ellipsoid((0.5, 0.5, 0.5), 4)


@settings(max_examples=30, deadline=None)
@given(point=st.tuples(*[st.floats(-1, 1)] * 3))
def test_distance_to_a_ball(point: tuple[float, float, float]) -> None:
    solid = Solid(BALL.vertices, BALL.faces)
    length = float(np.linalg.norm(point))
    found = solid.closest(np.array([point], np.float32))
    # The facets of a ball of 2562 vertices lie up to a millimetre inside the sphere.
    assert found.distance[0] == pytest.approx(length - 0.5, abs=2e-3)
    if abs(length - 0.5) > 5e-3:
        assert bool(solid.contains(np.array([point], np.float32))[0]) == (length < 0.5)
    if length > 0.1:
        direction = np.asarray(point) / length
        assert found.normal[0] @ direction > 0.99
        nearest = solid.vertices[found.vertex[0]]
        assert np.linalg.norm(nearest - 0.5 * direction) < 0.05


def test_depth_is_that_of_the_deepest_point() -> None:
    solid = Solid(*(lambda cube: (cube.vertices, cube.faces))(box((1, 1, 1), 0.3)))
    points = np.array([[0.45, 0, 0], [0.3, 0.1, 0], [2, 0, 0]], np.float32)
    assert solid.depth(points) == pytest.approx(0.2, abs=1e-5)
    assert solid.depth(points[2:]) == 0


def test_normals_of_a_ball_are_radial_and_lone_vertices_have_none() -> None:
    vertices = np.concatenate([BALL.vertices, [[9, 9, 9]]]).astype(np.float32)
    normals = vertex_normals(vertices, BALL.faces.astype(np.int32))
    np.testing.assert_allclose(normals[:-1], BALL.vertices / 0.5, atol=0.02)
    assert (normals[-1] == 0).all()


def test_trunk_that_is_cut_out_of_the_body_is_closed() -> None:
    rig = AnnyRig.load()
    names = ("torso", "hips", "left thigh", "right thigh")
    chosen = np.isin(rig.part_labels, [PART_NAMES.index(name) for name in names])
    faces, rims = capped(rig.star_mesh, rig.faces[chosen[rig.faces].all(axis=1)])
    assert len(rims) == 5  # neck, shoulders, knees
    vertices = np.concatenate([rig.star_vertices, [rig.star_vertices[rim].mean(axis=0) for rim in rims]])
    assert trimesh.Trimesh(vertices, faces, process=False).is_watertight


def test_closed_mesh_has_no_holes() -> None:
    mesh = Mesh(BALL.vertices.astype(np.float32), BALL.faces.astype(np.int32))
    faces, rims = capped(mesh, mesh.faces)
    assert rims == []
    np.testing.assert_array_equal(faces, mesh.faces)


def test_old_ray_trees_are_given_up_and_built_again() -> None:
    """Open3D crashes where a process holds more than about a thousand of them."""
    mesh = ellipsoid((0.1, 0.1, 0.1), 1)
    solids = [Solid(mesh.vertices + number, mesh.faces.astype(np.int32)) for number in range(MAX_TREES + 20)]
    assert all(solid._tree is None for solid in solids)
    depths = [solid.depth(np.full((1, 3), number, np.float32)) for number, solid in enumerate(solids)]
    assert sum(solid._tree is not None for solid in solids) <= MAX_TREES
    assert solids[0]._tree is None
    assert solids[0].depth(np.zeros((1, 3), np.float32)) == depths[0] > 0.05
