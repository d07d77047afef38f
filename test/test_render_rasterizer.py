"""Ray casting finds PyTorch3D's own face, depth and barycentrics."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

from ivlm_core import ConfigError, Mesh, MeshError
from ivlm_core.render import HUMAN_VIEWS, OBJECT_VIEWS, ViewCamera, ViewSpec, rasterize
from ivlm_core.render.rasterizer import RayScene

VIEWS = [("human", name) for name in HUMAN_VIEWS] + [("object", name) for name in OBJECT_VIEWS]
SQUARE = np.array([[-1.0, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]])
SQUARE_FACES = np.array([[0, 1, 2], [0, 2, 3]])
FRONT = ViewCamera.from_spec(ViewSpec(2.0, 0.0, 0.0))


@pytest.mark.parametrize(("kind", "name"), VIEWS)
def test_matches_pytorch3d(reference_views, kind, name):
    key = f"composite/{kind}/{name}"
    expected_face = reference_views[f"{key}/pix_to_face"].squeeze()
    camera = ViewCamera.from_spec((HUMAN_VIEWS if kind == "human" else OBJECT_VIEWS)[name])
    fragments = rasterize(
        reference_views["composite/vertices"], reference_views["composite/faces"], camera, len(expected_face)
    )
    same = fragments.face_index == expected_face
    seen = same & (expected_face >= 0)
    assert same.mean() >= 0.999
    assert seen.any()
    np.testing.assert_allclose(fragments.depth[seen], reference_views[f"{key}/zbuf"].squeeze()[seen], atol=1e-4)
    np.testing.assert_allclose(fragments.barycentric[seen], reference_views[f"{key}/bary"].squeeze()[seen], atol=1e-3)
    empty = same & (expected_face < 0)
    assert (fragments.depth[empty] == -1).all()
    assert (fragments.barycentric[empty] == -1).all()


def test_weights_rebuild_the_point_seen():
    rng = np.random.default_rng(0)
    vertices = rng.normal(scale=0.4, size=(60, 3))
    faces = rng.integers(0, 60, size=(40, 3))
    fragments = rasterize(vertices, faces, FRONT, 64)
    seen = fragments.face_index >= 0
    points = (vertices[faces[fragments.face_index[seen]]] * fragments.barycentric[seen][..., None]).sum(axis=1)
    position, depth = FRONT.project(points)
    rows, columns = np.nonzero(seen)
    np.testing.assert_allclose(position * 64, np.stack([columns + 0.5, rows + 0.5], axis=1), atol=1e-3)
    np.testing.assert_allclose(depth, fragments.depth[seen], atol=1e-5)


def test_image_is_not_mirrored():
    # From the front, +x of the world is on the right of the image and +y at its top.
    triangle = np.array([[0.2, 0.2, 0], [0.8, 0.2, 0], [0.2, 0.8, 0]])
    rows, columns = np.nonzero(rasterize(triangle, np.array([[0, 1, 2]]), FRONT, 32).face_index >= 0)
    assert rows.max() < 16 <= columns.min()


def test_both_sides_of_a_face_are_seen():
    for faces in (SQUARE_FACES, SQUARE_FACES[:, ::-1]):
        assert (rasterize(SQUARE, faces, FRONT, 32).face_index >= 0).sum() > 500


def test_degenerate_faces_are_never_hit():
    faces = np.concatenate([SQUARE_FACES, [[0, 0, 1], [2, 2, 2]]])
    fragments = rasterize(SQUARE, faces, FRONT, 32)
    assert set(np.unique(fragments.face_index)) <= {-1, 0, 1}
    assert np.isfinite(fragments.barycentric).all()


def test_visibility_knows_occlusion_and_image_border():
    behind = SQUARE * 0.2 + [0, 0, -1.0]
    outside = np.array([[50.0, 0, 0], [51, 0, 0], [50, 1, 0]])
    mesh = Mesh(
        np.concatenate([SQUARE, behind, outside]), np.concatenate([SQUARE_FACES, SQUARE_FACES + 4, [[8, 9, 10]]])
    )
    visible = RayScene(mesh).visible(FRONT, mesh.vertices)
    np.testing.assert_array_equal(visible, [True] * 4 + [False] * 7)


@pytest.mark.parametrize("size", [0, -3, 5000])
def test_image_size_out_of_range(size):
    with pytest.raises(ConfigError, match="image_size"):
        rasterize(SQUARE, SQUARE_FACES, FRONT, size)


def test_unknown_backend():
    with pytest.raises(ConfigError, match="choose 'open3d' or 'pytorch3d'"):
        rasterize(SQUARE, SQUARE_FACES, FRONT, 8, backend="opengl")


@pytest.mark.skipif(importlib.util.find_spec("pytorch3d") is not None, reason="pytorch3d is installed")
def test_absent_pytorch3d_is_named():
    with pytest.raises(ConfigError, match="pytorch3d is not installed"):
        rasterize(SQUARE, SQUARE_FACES, FRONT, 8, backend="pytorch3d")


@pytest.mark.skipif(importlib.util.find_spec("pytorch3d") is None, reason="pytorch3d is not installed")
def test_pytorch3d_backend_agrees():
    ours, theirs = (rasterize(SQUARE, SQUARE_FACES, FRONT, 64, backend) for backend in ("open3d", "pytorch3d"))
    assert (ours.face_index == theirs.face_index).mean() >= 0.999


def test_nan_mesh_is_refused():
    with pytest.raises(MeshError, match="NaN"):
        rasterize(np.full((3, 3), np.nan), np.array([[0, 1, 2]]), FRONT, 8)
