"""From a camera image to what CLIP sees."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ivlm_core.config import VisionConfig
from ivlm_core.types import ByteArray

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


def clip_pixels(image: ByteArray, config: VisionConfig) -> Tensor:
    """Fit an image onto the tower's square and normalise it as CLIP was trained.

    Parameters
    ----------
    image : (H, W, 3) uint8 RGB.
    config : side of the square, and whether to `pad` (whole picture, mean colour around) or `crop` (its centre).

    Returns
    -------
    (1, 3, S, S) float32.
    """
    size = config.image_size
    height, width = image.shape[:2]
    if config.image_fit == "pad":
        scale = size / max(height, width)
        new_height, new_width = max(1, round(height * scale)), max(1, round(width * scale))
        # Area averaging keeps small things visible when shrinking.
        method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
        resized = np.asarray(cv2.resize(image, (new_width, new_height), interpolation=method), dtype=np.uint8)
        square: ByteArray = np.empty((size, size, 3), dtype=np.uint8)
        square[:] = np.round(np.array(CLIP_MEAN) * 255.0).astype(np.uint8)
        top, left = (size - new_height) // 2, (size - new_width) // 2
        square[top : top + new_height, left : left + new_width] = resized
    else:
        # CLIP's own processor, to the pixel: the longer side is cut, not rounded, and the filter is Pillow's cubic.
        short = min(height, width)
        new_height, new_width = int(size * height / short), int(size * width / short)
        resized = np.asarray(Image.fromarray(image).resize((new_width, new_height), Image.Resampling.BICUBIC))
        top, left = (new_height - size) // 2, (new_width - size) // 2
        square = resized[top : top + size, left : left + size]
    pixels = torch.from_numpy(np.array(square)).permute(2, 0, 1).float() / 255.0
    mean, std = torch.tensor(CLIP_MEAN)[:, None, None], torch.tensor(CLIP_STD)[:, None, None]
    return ((pixels - mean) / std)[None]
