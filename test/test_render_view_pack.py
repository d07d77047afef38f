"""View packs come back from the cache as they were made, and are made again when it is damaged."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import trimesh

from ivlm_core import ConfigError, Mesh
from ivlm_core.render import OBJECT_VIEWS, ViewSpec, build_view_pack, load_or_build_view_pack
from ivlm_core.storage import ArrayCache

SIZE = 48


@pytest.fixture
def mesh() -> Mesh:
    shape = trimesh.creation.torus(0.4, 0.15)
    return Mesh(shape.vertices, shape.faces, "torus")


def assert_equal(left, right):
    for field in dataclasses.fields(left):
        first, second = getattr(left, field.name), getattr(right, field.name)
        if isinstance(first, np.ndarray):
            assert first.dtype == second.dtype
            np.testing.assert_array_equal(first, second, err_msg=field.name)
    assert left.view_names == right.view_names
    assert left.content_hash == right.content_hash


def test_cached_pack_equals_the_built_one(mesh, tmp_path):
    cache = ArrayCache(tmp_path)
    built = build_view_pack(mesh, OBJECT_VIEWS, SIZE, "positions")
    first = load_or_build_view_pack(mesh, OBJECT_VIEWS, SIZE, "positions", cache)
    second = load_or_build_view_pack(mesh, OBJECT_VIEWS, SIZE, "positions", cache)
    assert (cache.hits, cache.misses) == (1, 1)
    assert_equal(built, first)
    assert_equal(built, second)


def test_anything_that_changes_pixels_changes_the_key(mesh, tmp_path):
    cache = ArrayCache(tmp_path)
    moved = dict(OBJECT_VIEWS, frontleft=ViewSpec(2.1, 45.0, 315.0))
    lit = dict(OBJECT_VIEWS, frontleft=dataclasses.replace(OBJECT_VIEWS["frontleft"], light_z=-3.0))
    stretched = Mesh(mesh.vertices * [1, 2, 1], mesh.faces)
    for arguments in [
        (mesh, OBJECT_VIEWS, SIZE, "positions"),
        (mesh, OBJECT_VIEWS, SIZE, "normals"),
        (mesh, OBJECT_VIEWS, SIZE + 8, "positions"),
        (mesh, moved, SIZE, "positions"),
        (mesh, lit, SIZE, "positions"),
        (mesh, dict(reversed(OBJECT_VIEWS.items())), SIZE, "positions"),
        (stretched, OBJECT_VIEWS, SIZE, "positions"),
    ]:
        load_or_build_view_pack(*arguments, cache)
    assert cache.hits == 0


def test_arrays_of_another_mesh_are_not_believed(mesh, tmp_path):
    cache = ArrayCache(tmp_path)
    load_or_build_view_pack(mesh, OBJECT_VIEWS, SIZE, "positions", cache)
    path = next(tmp_path.rglob("*.npz"))
    with np.load(path) as stored:
        arrays = dict(stored)
    arrays["faces"] = arrays["faces"] + len(mesh.faces)
    np.savez(path, **arrays)
    again = load_or_build_view_pack(mesh, OBJECT_VIEWS, SIZE, "positions", ArrayCache(tmp_path))
    assert again.face_index.max() < len(mesh.faces)


def test_pixels_and_vertices_agree(mesh):
    pack = build_view_pack(mesh, OBJECT_VIEWS, 128, "positions")
    covered = pack.face_index >= 0
    assert (pack.pixel_to_vertex[covered] >= 0).all()
    assert (pack.pixel_to_vertex[~covered] == -1).all()
    for view in range(4):
        seen = np.flatnonzero(pack.vertex_visible[view])
        column, row = (pack.vertex_pixel[view, seen] * 128).astype(int).T
        # A seen vertex lies on the surface, so the render shows the mesh there or in the next pixel.
        near = [
            covered[view, max(r - 1, 0) : r + 2, max(c - 1, 0) : c + 2].any() for r, c in zip(row, column, strict=True)
        ]
        assert all(near)
        unseen = np.setdiff1d(np.unique(pack.pixel_to_vertex[view][covered[view]]), seen)
        assert len(unseen) < 0.2 * len(seen), "only the rim of the outline may be shown but not counted as seen"


def test_unknown_coloring(mesh):
    with pytest.raises(ConfigError, match="coloring"):
        build_view_pack(mesh, OBJECT_VIEWS, SIZE, "rainbow")
