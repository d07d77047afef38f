"""SAM's mask decoder over many views and queries in one batch, on whole grids or on chosen patches."""

from __future__ import annotations

import torch
from segment_anything.modeling import MaskDecoder, TwoWayTransformer
from segment_anything.modeling.transformer import Attention
from torch import Tensor, nn
from torch.nn.functional import layer_norm, linear, scaled_dot_product_attention

from ivlm_core.config import SamConfig


class _FusedCrossAttention(Attention):
    """`segment_anything`'s decoder attention through one fused kernel; same weights, same values."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """(B, Tq, D), (B, Tk, D), (B, Tk, D) → (B, Tq, D)."""
        query = self._separate_heads(self.q_proj(q), self.num_heads)
        key = self._separate_heads(self.k_proj(k), self.num_heads)
        value = self._separate_heads(self.v_proj(v), self.num_heads)
        return self.out_proj(self._recombine_heads(scaled_dot_product_attention(query, key, value)))


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
        for module in list(self.transformer.modules()):
            for name, child in module.named_children():
                if type(child) is Attention:
                    rate = child.embedding_dim // child.internal_dim
                    setattr(module, name, _FusedCrossAttention(child.embedding_dim, child.num_heads, rate))

    def decode(self, views: Tensor, positions: Tensor, prompts: Tensor) -> Tensor:
        """Decode one mask per query and view.

        Parameters
        ----------
        views : (J, D, h, w) view embeddings with the dense prompt added; the grid may be any list of patches (n, 1),
            since everything behind the attention works patch by patch.
        positions : (1 or J, D, h, w) SAM's positional encoding.
        prompts : (K, J, T, D) the T prompt tokens that each view is decoded with.

        Returns
        -------
        (K, J, h·w, 4, 4) mask logits, a tile of 4 × 4 pixels for every patch.
        """
        queries, count, _, _ = prompts.shape
        batch = queries * count
        own = torch.cat([self.iou_token.weight, self.mask_tokens.weight])  # (1 + M, D)
        tokens = torch.cat([own.expand(batch, -1, -1), prompts.flatten(0, 1)], dim=1)
        source = views.expand(queries, -1, -1, -1, -1).flatten(0, 1)
        places = positions.expand(queries, count, -1, -1, -1).flatten(0, 1)
        states, source = self.transformer(source, places, tokens)  # (K·J, 1 + M + T, D), (K·J, h·w, D)
        # Mask token 0 is the single-mask output; the other three and the quality head are never asked for.
        weights = self.output_hypernetworks_mlps[0](states[:, 1])  # (K·J, D/8)
        tiles = torch.einsum("bc,bnyxvuc->bnyvxu", weights, self._upscale(source))
        return tiles.reshape(queries, count, -1, 4, 4)

    def _upscale(self, source: Tensor) -> Tensor:
        """(B, n, D) → (B, n, 2, 2, 2, 2, D/8): each patch upscaled twice by 2, as y, x, y within, x within.

        A transposed convolution whose stride is its kernel's size sees one patch at a time, and is a linear layer.
        """
        first, norm, activation, second, last = self.output_upscaling
        fine = _spread(source, first)  # (B, n, 2, 2, D/4)
        fine = activation(layer_norm(fine, fine.shape[-1:], norm.weight, norm.bias, norm.eps))
        return last(_spread(fine, second))


def _spread(values: Tensor, convolution: nn.ConvTranspose2d) -> Tensor:
    """(…, C) → (…, 2, 2, C'): one patch's values through a transposed convolution of kernel and stride 2."""
    weight = convolution.weight.permute(2, 3, 1, 0).flatten(0, 2)  # (2·2·C', C)
    bias = convolution.bias.repeat(4) if convolution.bias is not None else None
    return linear(values, weight, bias).unflatten(-1, (2, 2, -1))
