"""The branch of objects: each category's mean at its start, its own numbers, and the meshes that it knows."""

from __future__ import annotations

import numpy as np
import torch

from ivlm_core.localize.object_branch import ObjectBranch

MESHES = {"chair": 50, "tea. cup": 30}


def test_a_category_starts_near_its_mean_and_leaves_the_others_alone() -> None:
    torch.manual_seed(0)
    branch = ObjectBranch(16, 4, MESHES).eval()
    before = branch("tea. cup", torch.ones(1, 16))
    mean = np.linspace(0.05, 0.9, 50).astype(np.float32)
    branch.head("chair").start_from(mean, np.zeros((3, 50), np.float32))
    contact = branch("chair", torch.randn(2, 16))
    torch.testing.assert_close(contact, torch.from_numpy(mean).expand(2, -1), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(branch("tea. cup", torch.ones(1, 16)), before, rtol=0, atol=0)


def test_it_knows_the_meshes_that_it_was_made_for() -> None:
    branch = ObjectBranch(8, 2, MESHES)
    assert branch.knows("tea. cup", 30)
    assert not branch.knows("tea. cup", 31)
    assert not branch.knows("couch", 0)


def test_other_meshes_of_a_category_take_the_values_of_their_corresponding_vertices() -> None:
    branch = ObjectBranch(8, 2, MESHES).eval()
    embeddings, places = torch.randn(2, 8), torch.tensor([29, 0, 0, 7])
    whole = branch("tea. cup", embeddings)
    assert whole.shape == (2, 30)
    torch.testing.assert_close(branch("tea. cup", embeddings, places), whole[:, places])
