"""Colours follow the released renders' rules."""

from __future__ import annotations

import numpy as np

from ivlm_core import Mesh
from ivlm_core.render import ViewCamera, ViewSpec, normal_colors, position_colors, rasterize, shade, vertex_normals
from ivlm_core.render.shading import AMBIENT, DIFFUSE

SQUARE = Mesh(np.array([[-1.0, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]]), np.array([[0, 1, 2], [0, 2, 3]]))


def cube() -> Mesh:
    import trimesh

    box = trimesh.creation.box()
    return Mesh(box.vertices, box.faces)


def test_normals_are_unit_and_point_outward():
    mesh = cube()
    normals = vertex_normals(mesh)
    np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1.0, atol=1e-6)
    assert (np.einsum("nk,nk->n", normals, mesh.vertices) > 0).all()


def test_normals_weigh_faces_by_area():
    # One large face along z and one small along x share vertex 0.
    vertices = np.array([[0.0, 0, 0], [4, 0, 0], [0, 4, 0], [0, 1, 0], [0, 0, 1]])
    normals = vertex_normals(Mesh(vertices, np.array([[0, 1, 2], [0, 3, 4]])))
    np.testing.assert_allclose(normals[0], np.array([1, 0, 16]) / np.hypot(1, 16), atol=1e-6)


def test_normal_colors_are_half_of_normal_plus_one():
    np.testing.assert_allclose(normal_colors(SQUARE), np.tile([0.5, 0.5, 1.0], (4, 1)), atol=1e-6)


def test_position_colors_span_a_tenth_to_nine_tenths():
    colors = position_colors(cube())
    np.testing.assert_allclose(colors.min(axis=0), 0.1, atol=1e-6)
    np.testing.assert_allclose(colors.max(axis=0), 0.9, atol=1e-6)


def test_flat_axis_has_a_colour():
    assert np.isfinite(position_colors(SQUARE)).all()


def test_light_in_front_and_behind():
    white = np.ones((4, 3), dtype=np.float32)
    lit, dark = (ViewCamera.from_spec(ViewSpec(2.0, 20.0, 0.0, light_z=light)) for light in (3.0, -3.0))
    fragments = rasterize(SQUARE.vertices, SQUARE.faces, lit, 33)
    bright = shade(SQUARE, white, fragments, lit)
    dim = shade(SQUARE, white, fragments, dark)
    seen = fragments.face_index >= 0
    # The far light leaves ambient only; straight below the near light diffuse comes on top.
    assert (dim[seen] == int(AMBIENT * 255)).all()
    assert bright[16, 16, 0] >= int((AMBIENT + DIFFUSE * 0.95) * 255)
    assert (bright[~seen] == 255).all()
