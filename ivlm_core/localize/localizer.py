"""The multi-view localizer: encode a mesh's views once, then decode a mask per query and view."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from segment_anything.modeling import PromptEncoder
from torch import Tensor, nn

from ivlm_core.config import Profile
from ivlm_core.errors import InputError
from ivlm_core.localize.decoder import ViewMaskDecoder
from ivlm_core.localize.encoder import build_encoder
from ivlm_core.localize.featlift import FeatLift
from ivlm_core.localize.object_branch import ObjectBranch
from ivlm_core.localize.patches import gather_patches, join_tiles, spread_patches
from ivlm_core.localize.photo import fit_photo, sam_pixels
from ivlm_core.localize.splitter import AttentionSplitter
from ivlm_core.localize.vertex_branch import VertexBranch
from ivlm_core.types import ByteArray, FloatArray


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
        self.image_encoder = build_encoder(sam)
        self.prompt_encoder = PromptEncoder(
            embed_dim=sam.prompt_dim,
            image_embedding_size=(grid, grid),
            input_image_size=(sam.image_size, sam.image_size),
            mask_in_chans=16,
        )
        self.featlift = FeatLift(profile.localize.featlift, sam.prompt_dim, profile.localize.views)
        self.splitter = AttentionSplitter(sam.prompt_dim) if profile.localize.splitter else None
        self.decoders = nn.ModuleDict({name: ViewMaskDecoder(sam) for name in profile.localize.decoders})
        rank = profile.localize.vertex_branch
        self.vertex_branch = VertexBranch(sam.prompt_dim, rank) if rank else None
        self.object_branch = _object_branch(profile)
        self._shared_decoders = "shared_decoders" in profile.released_quirks
        # The dense positional encoding, kept for the frequencies it was computed from.
        self._kept_positions: tuple[Any, Tensor] | None = None
        self._rounded_positions = "rounded_positions" in profile.released_quirks

    @property
    def device(self) -> torch.device:
        return self.prompt_encoder.no_mask_embed.weight.device

    @property
    def dtype(self) -> torch.dtype:
        return self.prompt_encoder.no_mask_embed.weight.dtype

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
        return self.image_encoder(sam_pixels(images).to(self.device, self.dtype))

    @torch.inference_mode()
    def encode_photo(self, image: ByteArray) -> tuple[Tensor, tuple[int, int]]:
        """Encode one picture of any size, for masks on the picture itself.

        Parameters
        ----------
        image : (H, W, 3) uint8 RGB.

        Returns
        -------
        (1, D, S / patch, S / patch) embedding, and the height and width of the picture on SAM's square.
        """
        fitted = fit_photo(image, self.image_size)
        height, width = fitted.shape[:2]
        # SAM pads behind the normalisation, so that the padding is the mean colour.
        padding = (0, self.image_size - width, 0, self.image_size - height)
        pixels = torch.nn.functional.pad(sam_pixels(fitted[None]), padding)
        return self.image_encoder(pixels.to(self.device, self.dtype)), (height, width)

    def prompts(self, embeddings: Tensor, cameras: FloatArray, branches: Sequence[str]) -> Tensor:
        """One prompt token per view: FeatLift, then the splitter where the model has one.

        Parameters
        ----------
        embeddings : (K, D).  cameras : (J, 5).  branches : K sides, by the contact token of each answer.

        Returns
        -------
        (K, J, D).
        """
        parameters = torch.tensor(cameras, dtype=torch.float32, device=self.device)
        tokens = self.featlift(embeddings.to(self.dtype), parameters)
        return self.splitter(tokens, branches) if self.splitter is not None else tokens

    def decoder(self, side: str) -> ViewMaskDecoder:
        """The decoder of a side: its own, else the general one, else the first."""
        first = "object" if self._shared_decoders else side
        names = [name for name in (first, "general", *self.decoders) if name in self.decoders]
        return self.decoders[names[0]]  # type: ignore[return-value]

    def forward(
        self,
        embeddings: Tensor,
        cameras: FloatArray,
        views: Tensor,
        side: str,
        branches: Sequence[str] | None = None,
        patches: Tensor | None = None,
    ) -> Tensor:
        """Localize K contact embeddings on one mesh.

        Parameters
        ----------
        embeddings : (K, D) from the reasoner.
        cameras : (J, 5) camera parameters of the views (`ViewPack.camera_parameters`).
        views : (J, D, h, w) from `encode_views`, or (1, D, h, w) from `encode_photo` with J times `NO_CAMERA`.
        side : `human`, `object` or `general`: whose decoder.
        branches : K sides, by the contact token of each answer, for the splitter; None for `side` throughout.
        patches : (J, n) the patches to decode, from `covered_patches`; None for all.

        Returns
        -------
        (K, len(views), 4h, 4w) mask logits, float32.
        """
        tokens = self.prompts(embeddings, cameras, branches or [side] * len(embeddings))  # (K, J, D)
        count = len(views)
        if self.all_tokens:
            prompts = tokens[:, None].expand(-1, count, -1, -1)  # (K, J, J, D): every view sees them all
        else:
            prompts = tokens[:, :count, None]  # (K, J, 1, D)
        dense = self.prompt_encoder.no_mask_embed.weight[0][:, None, None]
        positions = self._positions()  # (1, D, h, w)
        decoder = self.decoder(side)
        if patches is None:
            return join_tiles(decoder.decode(views + dense, positions, prompts).float(), views.shape[-1])
        tiles = decoder.decode(gather_patches(views + dense, patches), gather_patches(positions, patches), prompts)
        return spread_patches(tiles.float(), patches, views.shape[-1])

    def _positions(self) -> Tensor:
        """(1, D, h, w) SAM's positional encoding, from frequencies in single precision unless asked to round them."""
        frequencies = self.prompt_encoder.pe_layer.positional_encoding_gaussian_matrix
        key = (frequencies.data_ptr(), frequencies._version, self.dtype, self.device)
        if self._kept_positions is None or self._kept_positions[0] != key:
            if self._rounded_positions:
                with torch.no_grad():
                    frequencies.copy_(frequencies.to(self.dtype).float())
                key = (frequencies.data_ptr(), frequencies._version, self.dtype, self.device)
            with torch.inference_mode(False):
                self._kept_positions = (key, self.prompt_encoder.get_dense_pe().to(self.dtype))
        return self._kept_positions[1]


def _object_branch(profile: Profile) -> ObjectBranch | None:
    """Of a profile that names the meshes; one that only gives a rank is filled in by training."""
    chosen = profile.localize
    meshes = dict(zip(chosen.object_branch_labels, chosen.object_branch_vertices, strict=True))
    if not chosen.object_branch or not meshes:
        return None
    return ObjectBranch(profile.sam.prompt_dim, chosen.object_branch, meshes)
