"""SAM's image encoder with fused attention: same weights, same values, no attention matrix in memory."""

from __future__ import annotations

from functools import partial

import torch
from segment_anything.modeling import ImageEncoderViT
from segment_anything.modeling.image_encoder import Attention, get_rel_pos
from torch import Tensor, nn
from torch.nn.functional import one_hot, pad, scaled_dot_product_attention

from ivlm_core.config import SamConfig


class FusedAttention(Attention):
    """`segment_anything`'s attention with decomposed relative positions, through one fused kernel.

    The position term of query q and key (r, c) is q·Rh[r] + q·Rw[c]. Writing those products behind the query and the
    one-hot row and column behind the key makes the whole score one dot product, so that no kernel needs a bias matrix.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) → (B, H, W, C)."""
        batch, height, width, channels = x.shape
        qkv = self.qkv(x).reshape(batch, height * width, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)
        query, key, value = qkv.unbind(0)  # (B, heads, H·W, c)
        inner = value.shape[-1]
        if self.use_rel_pos:
            grid = query.unflatten(2, (height, width))
            along_h = torch.einsum("bnhwc,hkc->bnhwk", grid, get_rel_pos(height, height, self.rel_pos_h))
            along_w = torch.einsum("bnhwc,wkc->bnhwk", grid, get_rel_pos(width, width, self.rel_pos_w))
            query = torch.cat([query * self.scale, along_h.flatten(2, 3), along_w.flatten(2, 3)], dim=-1)
            rows = torch.arange(height, device=x.device).repeat_interleave(width)
            columns = torch.arange(width, device=x.device).repeat(height)
            places = torch.cat([one_hot(rows, height), one_hot(columns, width)], dim=-1).to(key.dtype)
            key = torch.cat([key, places.expand(batch, self.num_heads, -1, -1)], dim=-1)
            # The fastest kernels want values as wide as keys.
            value = pad(value, (0, key.shape[-1] - inner))
            attended = scaled_dot_product_attention(query, key, value, scale=1.0)[..., :inner]
        else:
            attended = scaled_dot_product_attention(query, key, value, scale=self.scale)
        return self.proj(attended.transpose(1, 2).reshape(batch, height, width, channels))


def build_encoder(config: SamConfig) -> ImageEncoderViT:
    """SAM's image encoder Θ with fused attention."""
    encoder = ImageEncoderViT(
        img_size=config.image_size,
        patch_size=config.patch_size,
        embed_dim=config.embed_dim,
        depth=config.depth,
        num_heads=config.heads,
        mlp_ratio=config.mlp_ratio,
        out_chans=config.prompt_dim,
        qkv_bias=True,
        norm_layer=partial(nn.LayerNorm, eps=1e-6),
        use_rel_pos=True,
        window_size=config.window_size,
        global_attn_indexes=config.global_blocks,
    )
    grid = config.image_size // config.patch_size
    for index, block in enumerate(encoder.blocks):
        side = grid if index in config.global_blocks or config.window_size == 0 else config.window_size
        block.attn = FusedAttention(config.embed_dim, config.heads, use_rel_pos=True, input_size=(side, side))
    return encoder
