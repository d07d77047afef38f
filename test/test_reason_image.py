"""What CLIP sees: the whole picture when padded, its centre when cropped, its own normalisation always."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from ivlm_core.config import load_profile
from ivlm_core.reason.image import CLIP_MEAN, CLIP_STD, clip_pixels

PAD = load_profile("tiny").vision
CROP = dataclasses.replace(PAD, image_fit="crop")


def plain(pixels: torch.Tensor) -> np.ndarray:
    """Back to 0…255 RGB."""
    return ((pixels[0].permute(1, 2, 0).numpy() * CLIP_STD + CLIP_MEAN) * 255).round()


@pytest.mark.parametrize("shape", [(480, 640), (640, 480), (7, 900), (1, 1), (128, 128)])
@pytest.mark.parametrize("config", [PAD, CROP])
def test_constant_image_keeps_its_colour(shape, config):
    image = np.full((*shape, 3), (200, 100, 50), dtype=np.uint8)
    pixels = clip_pixels(image, config)
    assert pixels.shape == (1, 3, config.image_size, config.image_size)
    own = (plain(pixels) == [200, 100, 50]).all(axis=-1)
    shown = own.mean() * config.image_size**2
    ratio = min(shape) / max(shape) if config is PAD else 1.0
    assert shown == pytest.approx(ratio * config.image_size**2, rel=0.05, abs=config.image_size)


def test_padding_shows_both_ends_and_cropping_neither():
    image = np.zeros((100, 400, 3), dtype=np.uint8)
    image[:, :20], image[:, -20:] = 255, 255
    padded, cropped = plain(clip_pixels(image, PAD)), plain(clip_pixels(image, CROP))
    middle = PAD.image_size // 2
    assert padded[middle, 1].min() == padded[middle, -2].min() == 255
    assert cropped.max() == 0


def test_padding_is_the_mean_colour():
    pixels = clip_pixels(np.zeros((10, 100, 3), dtype=np.uint8), PAD)
    assert pixels[0, :, 0, 0].abs().max() < 0.01
