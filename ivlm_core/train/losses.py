"""The training losses one by one: masks of the views, contact on the lifted vertices, and the answer's text.

A mask target holds values in [0, 1], and −1 where a pixel is not to be learned: the white surroundings of a render.
Every function computes in single precision at least, whatever its input is in, and keeps its gradient finite where a
sigmoid saturates.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from ivlm_core.errors import ConfigError, InputError

IGNORED = -1.0
# Keeps the Dice quotient defined; a share of pixels far below one.
DICE_FLOOR = 1e-5
# Lifted probabilities stay this far from 0 and 1, where a logarithm has no value.
PROBABILITY_MARGIN = 1e-6


@dataclass(frozen=True)
class LossWeights:
    """Constants of the losses; the defaults are the paper's recipe for the joint model.

    Attributes
    ----------
    token : of the answer's cross-entropy.
    mask_focal, focal_alpha, focal_gamma : weight of the focal loss on masks (and of the heat-map MSE); its α and γ.
    mask_dice, dice_scale : weight of Dice; the divisor s of its sums.
    human_3d, object_3d : weights of the 3-D losses; 0 leaves one out.
    contact_alpha, contact_sparsity : α of the focal loss on vertices, weight of the mean contact.
    affordance_alpha, affordance_focal, affordance_dice, affordance_mse, affordance_l1 : of the affordance loss.

    Raises
    ------
    ConfigError : a negative or infinite constant, γ below 1, a scale of 0, or an affordance α above 1.
    """

    token: float = 1.0
    mask_focal: float = 2.0
    focal_alpha: float = 0.5
    focal_gamma: float = 2.0
    mask_dice: float = 1.0
    dice_scale: float = 1.0
    human_3d: float = 3.0
    object_3d: float = 3.0
    contact_alpha: float = 0.25
    contact_sparsity: float = 0.01
    affordance_alpha: float = 0.25
    affordance_focal: float = 0.5
    affordance_dice: float = 0.3
    affordance_mse: float = 0.8
    affordance_l1: float = 0.4

    def __post_init__(self) -> None:
        for constant in dataclasses.fields(self):
            value = getattr(self, constant.name)
            # Below γ = 1 the gradient of (1 − p)^γ has no bound; the affordance loss weighs with both α and 1 − α.
            lowest = 1.0 if constant.name == "focal_gamma" else 0.0
            highest = 1.0 if constant.name == "affordance_alpha" else math.inf
            if not (math.isfinite(value) and lowest <= value <= highest) or (
                constant.name == "dice_scale" and value == 0
            ):
                raise ConfigError(
                    f"loss.{constant.name}", f"is {value}", f"give a number from {lowest:g} to {highest:g}, finite"
                )


def mask_focal_loss(
    masks: Tensor, target: Tensor, alpha: float = 0.5, gamma: float = 2.0, probabilities: bool = False
) -> Tensor:
    """Focal binary cross-entropy, α·(1 − e^−bce)^γ·bce, averaged over the valid pixels.

    Parameters
    ----------
    masks : (…, H, W) logits, or values in [0, 1] with `probabilities`.
    target : (…, H, W) in [0, 1], −1 where ignored.

    Returns
    -------
    (…,) float32; 0 for a mask without a valid pixel.

    Raises
    ------
    InputError : shapes that differ, or values on valid pixels that are not finite or out of their range.
    """
    masks, target, valid = _valid_masks(masks, target, probabilities)
    if probabilities:
        # Autocast refuses this function even for values that are in single precision already.
        with torch.autocast(masks.device.type, enabled=False):
            cross_entropy = functional.binary_cross_entropy(masks, target, reduction="none")
    else:
        cross_entropy = functional.binary_cross_entropy_with_logits(masks, target, reduction="none")
    weighted = alpha * (1.0 - torch.exp(-cross_entropy)) ** gamma * cross_entropy
    return _pixel_mean(weighted, valid)


def mask_dice_loss(
    masks: Tensor, target: Tensor, scale: float = 1.0, probabilities: bool = False, count_ignored: bool = False
) -> Tensor:
    """Dice loss over the valid pixels, 1 − (2·Σ(p/s·t) + ε) / (Σp/s + Σt/s + ε).

    Parameters
    ----------
    masks : (…, H, W) logits, or values in [0, 1] with `probabilities`.
    target : (…, H, W) in [0, 1], −1 where ignored.
    scale : s, which keeps sums over large masks small.
    count_ignored : let ignored pixels enter the sums with their −1 (the released behaviour on `general` masks).

    Returns
    -------
    (…,) float32; 0 for a mask without a positive pixel.

    Raises
    ------
    InputError : as for `mask_focal_loss`.
    """
    logits, marked = masks, target
    masks, target, valid = _valid_masks(masks, target, probabilities)
    positive = (target > 0).flatten(-2).any(-1)
    if count_ignored:
        masks, target, valid = _computable(logits), _computable(marked), torch.ones_like(valid)
    probability = torch.where(valid, masks if probabilities else torch.sigmoid(masks), torch.zeros_like(masks))
    share = probability / scale
    sums = share.sum((-2, -1)) + (target / scale).sum((-2, -1))
    quotient = (2.0 * (share * target).sum((-2, -1)) + DICE_FLOOR) / (sums + DICE_FLOOR)
    return torch.where(positive, 1.0 - quotient, torch.zeros_like(quotient))


def heat_map_mse(values: Tensor, target: Tensor) -> Tensor:
    """Mean squared difference of heat maps over the valid pixels.

    Parameters
    ----------
    values : (…, H, W) in [0, 1].  target : (…, H, W) in [0, 1], −1 where ignored.

    Returns
    -------
    (…,) float32; 0 for a map without a valid pixel.

    Raises
    ------
    InputError : as for `mask_focal_loss`.
    """
    values, target, valid = _valid_masks(values, target, True)
    return _pixel_mean((values - target) ** 2, valid)


def contact_3d_loss(lifted: Tensor, target: Tensor, weights: LossWeights | None = None) -> Tensor:
    """Contact on vertices, of body or object: focal loss (γ = 2) plus a little of the mean contact, for sparsity.

    mean[α·(1 − e^−bce)²·bce] + w·mean[p], with p kept 1e-6 from 0 and 1.

    Parameters
    ----------
    lifted : (…, V) probabilities.  target : (…, V) in [0, 1].

    Returns
    -------
    (…,) float32.

    Raises
    ------
    InputError : shapes that differ, no vertex, or values outside [0, 1].
    """
    weights = weights or LossWeights()
    probability, target = _vertex_pair(lifted, target)
    cross_entropy = -target * torch.log(probability) - (1.0 - target) * torch.log1p(-probability)
    focal = weights.contact_alpha * (1.0 - torch.exp(-cross_entropy)) ** 2 * cross_entropy
    return focal.mean(-1) + weights.contact_sparsity * probability.mean(-1)


def affordance_3d_loss(lifted: Tensor, target: Tensor, weights: LossWeights | None = None) -> Tensor:
    """Affordance on vertices or points: a focal term, Dice of both classes, squared and absolute difference.

    focal = mean[−(1−α)·p²·(1−t)·log(1−p) − α·(1−p)²·t·log p],
    Dice = 1.5 − (Σpt + ε)/(Σp + Σt + ε) − (Σ(1−p)(1−t) + ε)/(Σ(2 − p − t) + ε), which is ½ at its best.

    Parameters
    ----------
    lifted : (…, N) values.  target : (…, N) in [0, 1].

    Returns
    -------
    (…,) float32.

    Raises
    ------
    InputError : as for `contact_3d_loss`.
    """
    weights = weights or LossWeights()
    p, t = _vertex_pair(lifted, target)
    alpha, floor = weights.affordance_alpha, PROBABILITY_MARGIN
    focal = -(1.0 - alpha) * p**2 * (1.0 - t) * torch.log1p(-p) - alpha * (1.0 - p) ** 2 * t * torch.log(p)
    inside = ((p * t).sum(-1) + floor) / (p.sum(-1) + t.sum(-1) + floor)
    outside = (((1.0 - p) * (1.0 - t)).sum(-1) + floor) / ((2.0 - p - t).sum(-1) + floor)
    return (
        weights.affordance_focal * focal.mean(-1)
        + weights.affordance_dice * (1.5 - inside - outside)
        + weights.affordance_mse * ((p - t) ** 2).mean(-1)
        + weights.affordance_l1 * (p - t).abs().mean(-1)
    )


def token_loss(logits: Tensor, labels: Tensor, ignored: int = -100) -> Tensor:
    """Cross-entropy of the answer's tokens, each predicted from those before it.

    Parameters
    ----------
    logits : (B, T, C).  labels : (B, T) token numbers, `ignored` wherever nothing is to be learned.

    Returns
    -------
    Scalar float32, the mean over all tokens of the batch that count.

    Raises
    ------
    InputError : shapes that do not fit, a label beyond the vocabulary, or no token that counts.
    """
    if logits.ndim != 3 or labels.shape != logits.shape[:2]:
        raise InputError(
            "labels", f"have shape {tuple(labels.shape)} for logits {tuple(logits.shape)}", "give (B, T) and (B, T, C)"
        )
    wanted = labels[:, 1:]
    counted = wanted != ignored
    if not bool(counted.any()):
        raise InputError(
            "labels", "leave no token to learn", f"mark the answer's tokens with a label other than {ignored}"
        )
    if bool(((wanted < 0) | (wanted >= logits.shape[-1]))[counted].any()):
        raise InputError("labels", f"hold a token beyond the vocabulary of {logits.shape[-1]}", "use this tokenizer's")
    return functional.cross_entropy(logits[:, :-1].float().flatten(0, 1), wanted.flatten(), ignore_index=ignored)


def _valid_masks(masks: Tensor, target: Tensor, probabilities: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Masks and target with harmless values on ignored pixels, and (…, H, W) where a pixel is valid."""
    check_masks(masks, target)
    masks, target = _computable(masks), _computable(target)
    valid = target != IGNORED
    masks = torch.where(valid, masks, torch.zeros_like(masks))
    target = torch.where(valid, target, torch.zeros_like(target))
    if not bool(((target >= 0) & (target <= 1)).all()):
        raise InputError(
            "target", "holds values outside [0, 1]", "scale heat maps to it, and mark ignored pixels with -1"
        )
    if not bool(torch.isfinite(masks).all()):
        raise InputError("masks", "hold NaN or an infinite value", "lower the learning rate, or skip this batch")
    if probabilities and not bool(((masks >= 0) & (masks <= 1)).all()):
        raise InputError("masks", "lie outside [0, 1]", "apply the sigmoid to the logits of heat maps first")
    return masks, target, valid


def check_masks(masks: Tensor, target: Tensor) -> None:
    """Refuse masks and targets whose shapes differ or are empty."""
    if masks.shape != target.shape or masks.ndim < 2 or 0 in masks.shape:
        raise InputError(
            "masks",
            f"have shape {tuple(masks.shape)} and their target {tuple(target.shape)}",
            "give the same, not empty",
        )


def _vertex_pair(lifted: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Lifted values, kept away from 0 and 1, and their target."""
    lifted, target = _computable(lifted), _computable(target.to(lifted.device))
    if lifted.shape != target.shape or lifted.ndim < 1 or lifted.shape[-1] == 0:
        raise InputError(
            "vertex_target",
            f"has shape {tuple(target.shape)} for lifted values {tuple(lifted.shape)}",
            "give a value per vertex",
        )
    for name, values in (("lifted", lifted), ("vertex_target", target)):
        if not bool(((values >= 0) & (values <= 1)).all()):
            raise InputError(name, "holds values outside [0, 1]", "give probabilities, and a contact of 0 to 1")
    return lifted.clamp(PROBABILITY_MARGIN, 1.0 - PROBABILITY_MARGIN), target


def _pixel_mean(values: Tensor, valid: Tensor) -> Tensor:
    """(…,) mean over the valid pixels of (…, H, W), 0 without any."""
    total = torch.where(valid, values, torch.zeros_like(values)).sum((-2, -1))
    return total / valid.sum((-2, -1)).clamp(min=1)


def _computable(values: Tensor) -> Tensor:
    return values if values.dtype == torch.float64 else values.float()
