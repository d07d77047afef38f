"""The splitter is the released one, and each query goes its own way."""

from __future__ import annotations

import numpy as np
import torch

from ivlm_core.localize import AttentionSplitter


def test_matches_the_released_splitter(reference_components):
    weights = reference_components
    prefix = "splitter/attention_splitter."
    splitter = AttentionSplitter(256)
    splitter.load_state_dict(
        {name.removeprefix(prefix): torch.from_numpy(weights[name]) for name in weights if name.startswith(prefix)}
    )
    tokens = torch.from_numpy(weights["embedding"])[None]
    for branch in ("human", "object"):
        split = splitter(tokens, [branch])[0].detach()
        np.testing.assert_allclose(split, weights[f"splitter/{branch}"], atol=1e-5)


def test_branches_do_not_mix_and_general_passes():
    torch.manual_seed(0)
    splitter = AttentionSplitter(16)
    tokens = torch.randn(3, 4, 16)
    split = splitter(tokens, ["human", "general", "object"])
    torch.testing.assert_close(split[1], tokens[1])
    torch.testing.assert_close(split[0], splitter(tokens[:1], ["human"])[0])
    torch.testing.assert_close(split[2], splitter(tokens[2:], ["object"])[0])
    assert not torch.allclose(splitter(tokens, ["human"] * 3), splitter(tokens, ["object"] * 3))
