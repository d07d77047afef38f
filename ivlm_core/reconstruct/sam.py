"""Segment Anything from its own checkpoint: boxes in, masks out."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ivlm_core.config import SamConfig
from ivlm_core.errors import CheckpointError
from ivlm_core.localize import build_encoder
from ivlm_core.storage import file_size
from ivlm_core.types import ByteArray

MAX_BYTES = 4 << 30
# What the authors' models are given pixels in: RGB, 0…255.
PIXEL_MEAN, PIXEL_STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


class SamSegmenter:
    """Masks of boxes. A picture is encoded once, however many boxes are asked for in it.

    Parameters
    ----------
    path : a checkpoint as its authors give it (`sam_vit_b_01ec64.pth`, …); its sizes are read off its tensors.
    device : where it runs.

    Raises
    ------
    CheckpointError : no such file, larger than 4 GB, damaged, holding more than tensors, or not of such a model.
    """

    def __init__(self, path: Path | str, device: str = "cpu") -> None:
        from segment_anything import SamPredictor

        self._predictor: Any = SamPredictor(_build(Path(path), device))
        self._picture = b""

    def segment(self, image: ByteArray, box: tuple[float, float, float, float]) -> NDArray[np.bool_]:
        """(H, W) bool: what the box encloses in an (H, W, 3) uint8 RGB picture; may be empty.

        Parameters
        ----------
        box : x_min, y_min, x_max, y_max in pixels.
        """
        pixels = np.ascontiguousarray(image)
        picture = hashlib.blake2b(pixels.tobytes() + repr(pixels.shape).encode(), digest_size=16).digest()
        if picture != self._picture:
            self._picture = b""
            self._predictor.set_image(pixels)
            self._picture = picture
        masks, _, _ = self._predictor.predict(box=np.asarray(box, dtype=np.float64), multimask_output=False)
        mask: NDArray[np.bool_] = np.asarray(masks[0], dtype=bool)
        return mask


def _build(path: Path, device: str) -> torch.nn.Module:
    from accelerate import init_empty_weights
    from segment_anything.modeling import MaskDecoder, PromptEncoder, Sam, TwoWayTransformer

    state = _read(path)
    config = _sizes(path, state)
    grid = config.image_size // config.patch_size
    with init_empty_weights(include_buffers=False):
        model = Sam(
            image_encoder=build_encoder(config),
            prompt_encoder=PromptEncoder(
                embed_dim=config.prompt_dim,
                image_embedding_size=(grid, grid),
                input_image_size=(config.image_size, config.image_size),
                mask_in_chans=16,
            ),
            mask_decoder=MaskDecoder(
                transformer_dim=config.prompt_dim,
                transformer=TwoWayTransformer(
                    depth=config.decoder_depth,
                    embedding_dim=config.prompt_dim,
                    num_heads=config.decoder_heads,
                    mlp_dim=config.decoder_mlp,
                ),
                iou_head_hidden_dim=config.iou_hidden,
            ),
            pixel_mean=list(PIXEL_MEAN),
            pixel_std=list(PIXEL_STD),
        )
    try:
        model.load_state_dict({name: value.float() for name, value in state.items()}, assign=True)
    except RuntimeError as error:
        raise CheckpointError(str(path), f"does not fit: {str(error)[:300]}", "give a SAM checkpoint") from error
    return model.eval().requires_grad_(False).to(device)


def _read(path: Path) -> Mapping[str, Tensor]:
    """The tensors, through torch's restricted reader only."""
    try:
        size = file_size(path)
        if size > MAX_BYTES:
            raise CheckpointError(str(path), f"has {size} bytes", f"a SAM checkpoint has at most {MAX_BYTES}")
        state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        remedy = "get it from its authors; nothing in it was run"
        raise CheckpointError(str(path), "holds more than tensors and is refused", remedy) from error
    # Damaged data makes the restricted reader raise whatever comes first.
    except Exception as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(str(path), f"cannot be read: {str(error)[:300]}", "copy it again") from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise CheckpointError(str(path), "is no state dict", "give SAM's own weights")
    return state


def _sizes(path: Path, state: Mapping[str, Tensor]) -> SamConfig:
    """The sizes that the tensors' shapes tell. Blocks with global attention have positions for the whole grid."""
    try:
        _, grid, _, width = state["image_encoder.pos_embed"].shape
        patch = state["image_encoder.patch_embed.proj.weight"].shape[-1]
        depth = 1 + max(int(name.split(".")[2]) for name in state if name.startswith("image_encoder.blocks."))
        positions = [state[f"image_encoder.blocks.{block}.attn.rel_pos_h"].shape for block in range(depth)]
        spans = [(rows + 1) // 2 for rows, _ in positions]
        layers = [name for name in state if name.startswith("mask_decoder.transformer.layers.")]
        return SamConfig(
            image_size=grid * patch,
            patch_size=patch,
            embed_dim=width,
            depth=depth,
            heads=width // positions[0][1],
            global_blocks=tuple(block for block, span in enumerate(spans) if span == grid),
            window_size=next((span for span in spans if span != grid), 0),
            mlp_ratio=state["image_encoder.blocks.0.mlp.lin1.weight"].shape[0] / width,
            prompt_dim=state["mask_decoder.mask_tokens.weight"].shape[1],
            decoder_depth=1 + max(int(name.split(".")[3]) for name in layers),
            decoder_mlp=state["mask_decoder.transformer.layers.0.mlp.lin1.weight"].shape[0],
            iou_hidden=state["mask_decoder.iou_prediction_head.layers.0.weight"].shape[0],
        )
    except (KeyError, IndexError, ValueError, ZeroDivisionError) as error:
        raise CheckpointError(str(path), f"is not of a SAM model: {error}", "give a SAM checkpoint") from error
