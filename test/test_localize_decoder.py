"""The batched decoder is `segment_anything`'s, one view and one query at a time."""

from __future__ import annotations

import pytest
import torch
from segment_anything.modeling import MaskDecoder, TwoWayTransformer

from ivlm_core.config import load_profile
from ivlm_core.localize import ViewMaskDecoder
from ivlm_core.localize.patches import join_tiles

SAM = load_profile("tiny").sam


@pytest.mark.parametrize("tokens", [1, 4])
def test_batch_equals_the_library_call_by_call(tokens):
    torch.manual_seed(0)
    decoder = ViewMaskDecoder(SAM).eval()
    library = MaskDecoder(
        transformer_dim=SAM.prompt_dim,
        transformer=TwoWayTransformer(SAM.decoder_depth, SAM.prompt_dim, SAM.decoder_heads, SAM.decoder_mlp),
        iou_head_hidden_dim=SAM.iou_hidden,
    )
    library.load_state_dict(decoder.state_dict())
    views, positions = torch.randn(4, SAM.prompt_dim, 6, 6), torch.randn(1, SAM.prompt_dim, 6, 6)
    prompts = torch.randn(3, 4, tokens, SAM.prompt_dim)
    with torch.inference_mode():
        tiles = decoder.decode(views, positions, prompts)
        assert tiles.shape == (3, 4, 36, 4, 4)
        masks = join_tiles(tiles, 6)
        for query in range(3):
            for view in range(4):
                expected, _ = library(
                    image_embeddings=views[view : view + 1],
                    image_pe=positions,
                    sparse_prompt_embeddings=prompts[query, view][None],
                    dense_prompt_embeddings=torch.zeros(1, SAM.prompt_dim, 6, 6),
                    multimask_output=False,
                )
                torch.testing.assert_close(masks[query, view], expected[0, 0], atol=1e-4, rtol=1e-4)
