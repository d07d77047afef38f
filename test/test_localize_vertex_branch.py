"""The vertex branch: neutral before training, the mean contact at its start, MV-Loc's own contact within it."""

from __future__ import annotations

import numpy as np
import torch

from ivlm_core.localize import VertexBranch


def test_an_untrained_branch_changes_nothing() -> None:
    torch.manual_seed(0)
    branch = VertexBranch(16, 4, vertices=50)
    lifted = torch.rand(3, 50).clamp(0.01, 0.99)
    torch.testing.assert_close(branch(torch.randn(3, 16), lifted), lifted, rtol=1e-4, atol=1e-5)


def test_it_starts_at_the_mean_contact() -> None:
    branch = VertexBranch(16, 4, vertices=50)
    mean = np.linspace(0.05, 0.9, 50).astype(np.float32)
    branch.start_from(mean, np.random.default_rng(0).normal(size=(3, 50)).astype(np.float32))
    contact = branch(torch.randn(2, 16), torch.rand(2, 50))
    torch.testing.assert_close(contact, torch.from_numpy(mean).expand(2, -1), rtol=1e-4, atol=1e-5)


def test_contact_without_masks_is_the_branch_alone() -> None:
    branch = VertexBranch(8, 2, vertices=9)
    branch.gain.data.zero_()
    embeddings = torch.randn(2, 8)
    torch.testing.assert_close(torch.sigmoid(branch.logits(embeddings)), branch(embeddings, torch.rand(2, 9)))
