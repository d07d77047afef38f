"""Surfaces for the browser: heat where it belongs, sharp edges, and colours that look as they should."""

from __future__ import annotations

import io

import numpy as np
from trimesh.exchange import gltf

from ivlm_core.draw import heat_colors
from ivlm_core.objects import library_mesh
from ivlm_core.view.surfaces import FREE, heat_surface, painted_surface

BOX = library_mesh("box")
GREY = (200, 200, 200)


def read(data: bytes) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Vertices, faces and sRGB colours of a binary glTF, whose colours are linear."""
    tree = gltf.load_glb(io.BytesIO(data), skip_materials=True, process=False)
    (mesh,) = tree["geometry"].values()
    linear = np.asarray(mesh["vertex_colors"])[:, :3] / 255.0
    encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.asarray(mesh["vertices"]), np.asarray(mesh["faces"]), encoded * 255


def test_values_below_the_threshold_are_nothing() -> None:
    values = np.linspace(0, 1, len(BOX.vertices), dtype=np.float32)
    vertices, _, colors = read(heat_surface(BOX, values, 0.5, GREY, smooth=True))
    np.testing.assert_allclose(vertices, BOX.vertices, atol=1e-6)
    expected = heat_colors(np.where(values >= 0.5, values, 0), np.array(GREY, np.uint8))
    # Dark channels lose more in linear light's 256 steps.
    np.testing.assert_allclose(colors, expected, atol=7)
    np.testing.assert_allclose(colors[values < 0.5], 200, atol=2)


def test_free_regions_are_green() -> None:
    free = np.zeros(len(BOX.vertices), bool)
    free[3] = True
    _, _, colors = read(heat_surface(BOX, np.ones(len(BOX.vertices), np.float32), 0.5, GREY, free, smooth=True))
    np.testing.assert_allclose(colors[3], FREE, atol=3)
    assert colors[4, 0] > 180 > 60 > colors[4, 1]


def test_sharp_edges_have_vertices_of_their_own() -> None:
    vertices, faces, _ = read(painted_surface(BOX, np.zeros((len(BOX.vertices), 3), np.uint8)))
    assert len(faces) == len(BOX.faces)
    assert len(vertices) > len(BOX.vertices)
    corners = vertices[faces]
    np.testing.assert_allclose(corners, BOX.vertices[BOX.faces], atol=1e-6)
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    # All faces around a vertex of the six sides look the same way.
    shared = np.zeros((len(vertices), 3))
    np.add.at(shared, faces.ravel(), np.repeat(normals, 3, axis=0))
    count = np.bincount(faces.ravel(), minlength=len(vertices))[:, None]
    flat = np.abs(normals).max(axis=1) > 0.999
    assert np.linalg.norm((shared / count)[faces[flat].ravel()], axis=1).min() > np.cos(np.radians(35))


def test_round_things_stay_whole() -> None:
    ball = library_mesh("ball")
    vertices, _, _ = read(painted_surface(ball, np.zeros((len(ball.vertices), 3), np.uint8)))
    assert len(vertices) == len(ball.vertices)
