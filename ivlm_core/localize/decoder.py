"""SAM's mask decoder over many views and queries in one batch."""

from __future__ import annotations

import torch
from segment_anything.modeling import MaskDecoder, TwoWayTransformer
from torch import Tensor

from ivlm_core.config import SamConfig


class ViewMaskDecoder(MaskDecoder):
    """`segment_anything`'s decoder with its own weights, for K queries × J views at once and the first mask only."""

    def __init__(self, config: SamConfig) -> None:
        super().__init__(
            transformer_dim=config.prompt_dim,
            transformer=TwoWayTransformer(
                depth=config.decoder_depth,
                embedding_dim=config.prompt_dim,
                num_heads=config.decoder_heads,
                mlp_dim=config.decoder_mlp,
            ),
            iou_head_hidden_dim=config.iou_hidden,
        )

    def decode(self, views: Tensor, positions: Tensor, prompts: Tensor) -> Tensor:
        """Decode one mask per query and view.

        Parameters
        ----------
        views : (J, D, h, w) view embeddings with the dense prompt added.
        positions : (1, D, h, w) SAM's positional encoding.
        prompts : (K, J, T, D) the T prompt tokens that each view is decoded with.

        Returns
        -------
        (K, J, 4h, 4w) mask logits.
        """
        queries, count, _, dim = prompts.shape
        batch = queries * count
        height, width = views.shape[-2:]
        own = torch.cat([self.iou_token.weight, self.mask_tokens.weight])  # (1 + M, D)
        tokens = torch.cat([own.expand(batch, -1, -1), prompts.flatten(0, 1)], dim=1)
        source = views.expand(queries, -1, -1, -1, -1).flatten(0, 1)
        states, source = self.transformer(source, positions.expand(batch, -1, -1, -1), tokens)
        upscaled = self.output_upscaling(source.transpose(1, 2).reshape(batch, dim, height, width))
        # Mask token 0 is the single-mask output; the other three and the quality head are never asked for.
        weights = self.output_hypernetworks_mlps[0](states[:, 1])  # (K·J, D/8)
        masks = torch.einsum("bc,bchw->bhw", weights, upscaled)
        return masks.view(queries, count, *masks.shape[-2:])
