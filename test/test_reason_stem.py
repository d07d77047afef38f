"""The convolutional stem gives CLIP the patches it expects."""

from __future__ import annotations

import torch

from ivlm_core.reason.stem import ConvolutionStem


def test_one_feature_for_every_patch_of_16_pixels() -> None:
    stem = ConvolutionStem(64)
    assert stem(torch.randn(2, 3, 160, 96)).shape == (2, 64, 10, 6)
    assert stem.weight.dtype == torch.float32


def test_a_change_reaches_no_further_than_the_patches_nearby() -> None:
    torch.manual_seed(0)
    stem = ConvolutionStem(64)
    # Groups are normalised over the whole picture; what is left of that is small beside the change itself.
    pixels = torch.randn(1, 3, 160, 160)
    changed = pixels.clone()
    changed[..., :16, :16] += 3.0
    difference = (stem(changed) - stem(pixels)).abs().mean(dim=1)[0]
    assert difference[5:, 5:].max() < 0.2 * difference[0, 0]
