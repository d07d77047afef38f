"""Decoding part of a grid: the patches that show the mesh, each in its place, as the whole grid would have them."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
import trimesh

from ivlm_core import Mesh, ViewPack
from ivlm_core.config import load_profile
from ivlm_core.localize import Localizer, covered_patches
from ivlm_core.localize.patches import EMPTY_LOGIT, gather_patches, spread_patches
from ivlm_core.render import OBJECT_VIEWS, build_view_pack

GRID = 8
TINY = load_profile("tiny")
SMALL = dataclasses.replace(TINY, sam=dataclasses.replace(TINY.sam, image_size=128, window_size=4))


@pytest.fixture(scope="module")
def pack() -> ViewPack:
    shape = trimesh.creation.torus(0.35, 0.1)
    return build_view_pack(Mesh(shape.vertices, shape.faces), OBJECT_VIEWS, 128, "positions")


def test_every_patch_that_shows_the_mesh_and_its_ring_is_kept(pack):
    patches = covered_patches(pack, GRID)
    assert patches.shape[1] < GRID * GRID
    for view, kept in enumerate(patches.numpy()):
        assert (np.diff(kept) > 0).all()
        shows = (pack.face_index[view] >= 0).reshape(GRID, 16, GRID, 16).any(axis=(1, 3))
        for row, column in np.argwhere(shows):
            for near_row in range(max(row - 1, 0), min(row + 2, GRID)):
                for near_column in range(max(column - 1, 0), min(column + 2, GRID)):
                    assert near_row * GRID + near_column in kept


def test_mesh_outside_every_view_leaves_one_patch(pack):
    empty = dataclasses.replace(pack, face_index=np.full_like(pack.face_index, -1))
    assert covered_patches(empty, GRID).shape == (4, 1)


def test_spreading_puts_every_block_back_in_its_place():
    grid = 5
    whole = torch.randn(2, 3, 4 * grid, 4 * grid)
    tiles = whole.reshape(2, 3, grid, 4, grid, 4).transpose(3, 4).reshape(2, 3, grid * grid, 4, 4)
    patches = torch.tensor([[0, 3, 24], [1, 2, 7], [5, 11, 23]])
    kept = torch.stack([tiles[:, view, patches[view]] for view in range(3)], dim=1)
    spread = spread_patches(kept, patches, grid)
    inside = spread != EMPTY_LOGIT
    torch.testing.assert_close(spread[inside], whole[inside])
    assert int(inside.sum()) == 2 * 3 * 3 * 16


def test_all_patches_give_the_masks_of_the_whole_grid():
    torch.manual_seed(0)
    localizer = Localizer(SMALL).eval()
    views = localizer.encode_views(np.random.default_rng(0).integers(0, 255, (4, 128, 128, 3), dtype=np.uint8))
    cameras = np.array([spec.parameters for spec in OBJECT_VIEWS.values()], dtype=np.float32)
    embeddings = torch.randn(2, SMALL.sam.prompt_dim)
    everything = torch.arange(GRID * GRID).expand(4, -1)
    with torch.inference_mode():
        whole = localizer(embeddings, cameras, views, "object")
        patched = localizer(embeddings, cameras, views, "object", patches=everything)
    torch.testing.assert_close(patched, whole, atol=1e-4, rtol=1e-4)


def test_gathering_takes_each_views_own_patches():
    grids = torch.arange(2 * 3 * 4.0).reshape(2, 3, 2, 2)
    gathered = gather_patches(grids, torch.tensor([[0, 3], [1, 2]]))
    assert gathered.shape == (2, 3, 2, 1)
    torch.testing.assert_close(gathered[1, 0, :, 0], grids[1, 0].flatten()[[1, 2]])
