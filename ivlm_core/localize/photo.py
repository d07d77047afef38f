"""SAM's own geometry: pictures onto its square, masks back onto the picture."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from ivlm_core.types import ByteArray

PIXEL_MEAN = (123.675, 116.28, 103.53)
PIXEL_STD = (58.395, 57.12, 57.375)


def sam_pixels(images: ByteArray) -> Tensor:
    """(J, H, W, 3) uint8 RGB → (J, 3, H, W) float32, normalised as SAM was trained."""
    pixels = torch.from_numpy(np.array(images)).permute(0, 3, 1, 2).float()
    return (pixels - torch.tensor(PIXEL_MEAN)[:, None, None]) / torch.tensor(PIXEL_STD)[:, None, None]


def fit_photo(image: ByteArray, size: int) -> ByteArray:
    """A picture with its longer side resized to `size` (bilinear, as the released model does): (h, w, 3) uint8."""
    height, width = fitted_size((image.shape[0], image.shape[1]), size)
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))


def fitted_size(original: tuple[int, int], size: int) -> tuple[int, int]:
    """Height and width of a picture whose longer side is brought to `size`."""
    scale = size / max(original)
    return max(1, int(original[0] * scale + 0.5)), max(1, int(original[1] * scale + 0.5))


def resize_masks(masks: Tensor, size: int, fitted: tuple[int, int], original: tuple[int, int]) -> Tensor:
    """Low-resolution masks back on the picture they came from.

    Parameters
    ----------
    masks : (K, J, h, w) logits.
    size : side of SAM's square.
    fitted : height and width of the picture on that square; the rest of it is padding and cut off.
    original : height and width of the picture.

    Returns
    -------
    (K, J, *original) float32 logits.
    """
    square = interpolate(masks.float(), (size, size), mode="bilinear", align_corners=False)
    cut = square[..., : fitted[0], : fitted[1]]
    return interpolate(cut, original, mode="bilinear", align_corners=False)
