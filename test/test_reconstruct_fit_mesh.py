"""Meshes made ready: simplified where they are large, whatever they are made of."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh
from scipy.spatial import cKDTree

from ivlm_core import Mesh
from ivlm_core.objects import library_mesh
from ivlm_core.reconstruct.fit_mesh import FINE_FACES, PROXY_FACES, FitMesh, fit_mesh, simplified


def sampled(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """(20000, 3) points spread over a surface."""
    return trimesh.sample.sample_surface(trimesh.Trimesh(vertices, faces, process=False), 20_000, seed=0)[0]


def test_small_meshes_stay_as_they_are():
    made = trimesh.creation.box((0.3, 0.2, 0.1))
    mesh = Mesh(made.vertices, made.faces)
    ready = FitMesh(mesh)
    assert ready.proxy is ready.fine
    assert ready.notes == ()
    np.testing.assert_array_equal(ready.fine.faces, mesh.faces)
    np.testing.assert_allclose(ready.extent, [0.3, 0.2, 0.1], rtol=1e-6)
    np.testing.assert_allclose(ready.centre, 0.0, atol=1e-7)


@pytest.mark.parametrize("label", ["box", "couch", "bicycle", "tennis racket"])
def test_proxies_keep_the_shape(label):
    mesh = library_mesh(label)
    proxy = FitMesh(mesh).proxy
    assert len(proxy.faces) <= 2 * PROXY_FACES
    side = float(np.ptp(mesh.vertices, axis=0).max())
    ours, theirs = (sampled(part.vertices, part.faces) for part in (proxy, mesh))
    # Among 20 000 samples neighbours are about half a percent of the side apart.
    there, back = cKDTree(theirs).query(ours)[0], cKDTree(ours).query(theirs)[0]
    assert max(np.quantile(there, 0.99), np.quantile(back, 0.99)) < 0.025 * side


def test_large_meshes_are_simplified_and_it_is_said():
    sphere = trimesh.creation.icosphere(subdivisions=6, radius=0.2)
    ready = FitMesh(Mesh(sphere.vertices, sphere.faces))
    assert len(sphere.faces) == 81_920
    assert len(ready.fine.faces) <= FINE_FACES
    assert ready.notes == (f"simplified from 81920 to {len(ready.fine.faces)} faces",)
    radius = np.linalg.norm(ready.fine.vertices, axis=1)
    assert np.abs(radius - 0.2).max() < 0.004


def test_soups_are_simplified_too():
    sphere = trimesh.creation.icosphere(subdivisions=5, radius=0.2)
    shifted = sphere.vertices[sphere.faces]
    # No two triangles share a corner, so there is no edge that could be collapsed.
    shifted = shifted + np.random.default_rng(0).normal(scale=2e-4, size=(len(shifted), 1, 3))
    mesh = Mesh(shifted.reshape(-1, 3), np.arange(shifted.shape[0] * 3).reshape(-1, 3))
    found = simplified(mesh, PROXY_FACES)
    assert len(found.faces) <= 2 * PROXY_FACES
    assert np.abs(np.linalg.norm(found.vertices, axis=1) - 0.2).max() < 0.02


def test_not_watertight_is_said():
    made = trimesh.creation.box((0.3, 0.2, 0.1))
    ready = FitMesh(Mesh(made.vertices, made.faces[1:]))
    assert ready.volume.closed is False
    assert any("not watertight" in note for note in ready.notes)


def test_the_same_content_is_made_ready_once():
    mesh = library_mesh("cup")
    again = Mesh(mesh.vertices.copy(), mesh.faces.copy(), "another name")
    assert fit_mesh(mesh) is fit_mesh(again)
    other = Mesh(mesh.vertices * np.float32(1.01), mesh.faces)
    assert fit_mesh(mesh) is not fit_mesh(other)
