"""The multi-view localizer: encode a mesh's views once, then decode a mask per query and view."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from segment_anything.modeling import ImageEncoderViT, PromptEncoder
from torch import Tensor, nn

from ivlm_core.config import Profile
from ivlm_core.errors import InputError
from ivlm_core.localize.decoder import ViewMaskDecoder
from ivlm_core.localize.featlift import FeatLift
from ivlm_core.types import ByteArray, ViewPack

PIXEL_MEAN = (123.675, 116.28, 103.53)
PIXEL_STD = (58.395, 57.12, 57.375)
VIEW_COUNT = 4


class Localizer(nn.Module):
    """SAM's encoder Θ, FeatLift Φ, and the decoders Ω_H and Ω_O for body and object.

    Parameters
    ----------
    profile : sizes and choices.
    """

    def __init__(self, profile: Profile) -> None:
        super().__init__()
        sam = profile.sam
        self.image_size = sam.image_size
        self.all_tokens = profile.localize.view_tokens == "all"
        grid = sam.image_size // sam.patch_size
        self.image_encoder = ImageEncoderViT(
            img_size=sam.image_size,
            patch_size=sam.patch_size,
            embed_dim=sam.embed_dim,
            depth=sam.depth,
            num_heads=sam.heads,
            mlp_ratio=4.0,
            out_chans=sam.prompt_dim,
            qkv_bias=True,
            norm_layer=partial(nn.LayerNorm, eps=1e-6),
            use_rel_pos=True,
            window_size=sam.window_size,
            global_attn_indexes=sam.global_blocks,
        )
        self.prompt_encoder = PromptEncoder(
            embed_dim=sam.prompt_dim,
            image_embedding_size=(grid, grid),
            input_image_size=(sam.image_size, sam.image_size),
            mask_in_chans=16,
        )
        self.featlift = FeatLift(profile.localize.featlift, sam.prompt_dim, VIEW_COUNT)
        self.decoders = nn.ModuleDict({"human": ViewMaskDecoder(sam), "object": ViewMaskDecoder(sam)})

    @property
    def device(self) -> torch.device:
        return self.prompt_encoder.no_mask_embed.weight.device

    @property
    def dtype(self) -> torch.dtype:
        return self.prompt_encoder.no_mask_embed.weight.dtype

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Localizer:
        # The frequencies of the positional encoding stay in single precision whatever the weights are moved to:
        # half precision would shift the outermost pixels by a good part of a period.
        encoding = self.prompt_encoder.pe_layer
        frequencies = encoding.positional_encoding_gaussian_matrix
        super()._apply(fn, recurse)
        device = encoding.positional_encoding_gaussian_matrix.device
        encoding.positional_encoding_gaussian_matrix = frequencies.to(device)
        return self

    @torch.inference_mode()
    def encode_views(self, images: ByteArray) -> Tensor:
        """Encode the renders of one mesh, once per mesh.

        Parameters
        ----------
        images : (J, S, S, 3) uint8 RGB, S the profile's `sam.image_size`.

        Returns
        -------
        (J, D, S / patch, S / patch) view embeddings.

        Raises
        ------
        InputError : renders of another size.
        """
        if images.ndim != 4 or images.shape[1:] != (self.image_size, self.image_size, 3):
            raise InputError("views", f"have shape {images.shape}", f"render them {self.image_size} pixels a side")
        pixels = torch.from_numpy(np.array(images)).to(self.device).permute(0, 3, 1, 2).float()
        mean = pixels.new_tensor(PIXEL_MEAN)[:, None, None]
        std = pixels.new_tensor(PIXEL_STD)[:, None, None]
        return self.image_encoder(((pixels - mean) / std).to(self.dtype))

    def forward(self, embeddings: Tensor, pack: ViewPack, views: Tensor, side: str) -> Tensor:
        """Localize K contact embeddings on one mesh.

        Parameters
        ----------
        embeddings : (K, D) from the reasoner.
        pack : the mesh's views, for their cameras.
        views : (J, D, h, w) from `encode_views`.
        side : `human` or `object`: whose decoder.

        Returns
        -------
        (K, J, 4h, 4w) mask logits, float32.
        """
        cameras = torch.from_numpy(pack.camera_parameters).to(self.device)
        tokens = self.featlift(embeddings.to(self.dtype), cameras)  # (K, J, D)
        if self.all_tokens:
            prompts = tokens[:, None].expand(-1, tokens.shape[1], -1, -1)  # (K, J, J, D): every view sees them all
        else:
            prompts = tokens[:, :, None]  # (K, J, 1, D)
        dense = self.prompt_encoder.no_mask_embed.weight[0][:, None, None]
        positions = self.prompt_encoder.get_dense_pe().to(self.dtype)  # (1, D, h, w)
        decoder: ViewMaskDecoder = self.decoders[side]  # type: ignore[assignment]
        return decoder.decode(views + dense, positions, prompts).float()
