"""Fused attention is `segment_anything`'s own, value for value."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from segment_anything.modeling.image_encoder import Attention

from ivlm_core.config import load_profile
from ivlm_core.localize import FusedAttention, build_encoder

SAM = dataclasses.replace(load_profile("tiny").sam, image_size=80, window_size=3)


@pytest.mark.parametrize("positions", [True, False])
@pytest.mark.parametrize("shape", [(4, 4), (3, 5)])
def test_equals_the_materialised_attention(positions, shape):
    torch.manual_seed(0)
    plain = Attention(48, 3, use_rel_pos=positions, input_size=shape)
    fused = FusedAttention(48, 3, use_rel_pos=positions, input_size=shape)
    with torch.no_grad():
        for parameter in plain.parameters():
            parameter.normal_(std=0.3)
    fused.load_state_dict(plain.state_dict())
    x = torch.randn(2, *shape, 48)
    torch.testing.assert_close(fused(x), plain(x), atol=1e-5, rtol=1e-4)


def test_whole_encoder_equals_the_library():
    torch.manual_seed(0)
    ours = build_encoder(SAM).eval()
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    images = torch.randn(2, 3, 80, 80)
    with torch.inference_mode():
        fused = ours(images)
        for block in ours.blocks:
            block.attn.__class__ = Attention
        library = ours(images)
    torch.testing.assert_close(fused, library, atol=1e-4, rtol=1e-3)
