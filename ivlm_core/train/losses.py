"""The training losses: answer text, masks of the views, and contact on the lifted vertices.

    total = w_ce · CE  +  w_focal · focal + w_dice · Dice + w_focal · MSE  +  w_human · L_human + w_object · L_object

Mask terms are means over a sample's views and then over *all* samples of the batch, those without a mask included.
A mask target holds values in [0, 1], and −1 where a pixel is not to be learned: the white surroundings of a render.
The 3-D terms compare the masks, lifted onto the mesh, with the ground truth of its vertices.

Every function computes in single precision at least, whatever the masks are in, and keeps its gradient finite where a
sigmoid saturates.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from ivlm_core.errors import ConfigError, InputError, shown

Kind = Literal["human_contact", "object_contact", "object_affordance", "general"]
Quirk = Literal["afford3d_constant", "dice_counts_ignored"]

KINDS: tuple[Kind, ...] = ("human_contact", "object_contact", "object_affordance", "general")
# What the released code does and probably did not mean. `afford3d_constant`: the affordance loss sees a prediction of 0
# on every point, so that it is a constant of the ground truth and teaches nothing. `dice_counts_ignored`: on `general`
# masks, Dice sums the −1 of ignored pixels instead of leaving them out.
QUIRKS: tuple[Quirk, ...] = ("afford3d_constant", "dice_counts_ignored")

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


@dataclass(frozen=True)
class LossGroup:
    """B samples of one kind that share their views and mesh, as one sample or many.

    Attributes
    ----------
    kind : what the masks show; see `mask_kind` for the names of the released data sets.
    masks : (B, J, H, W) logits at the size the lifter was made for; for `object_affordance` probabilities instead.
    target : (B, J, H, W) in [0, 1], −1 where ignored.
    lift : (B, J, H, W) masks → (B, V): a `Lifter`, or `lift_points` with its map bound. None: no 3-D loss.
    vertex_target : (B, V) ground truth in [0, 1], given exactly when `lift` is.

    Raises
    ------
    InputError : unknown kind, shapes that do not fit, or only one of `lift` and `vertex_target`.
    """

    kind: Kind
    masks: Tensor
    target: Tensor
    lift: Callable[[Tensor], Tensor] | None = None
    vertex_target: Tensor | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise InputError("loss.kind", f"is {shown(self.kind)}", f"choose one of {', '.join(KINDS)}")
        _check_masks(self.masks, self.target)
        if self.masks.ndim != 4:
            raise InputError("masks", f"have shape {tuple(self.masks.shape)}", "give (B, J, H, W)")
        if (self.lift is None) != (self.vertex_target is None):
            raise InputError("vertex_target", "and lift go together", "give both or neither")
        if self.lift is not None and self.kind == "general":
            raise InputError("lift", "is given for general masks", "they show no mesh: leave it out")


class LossTerms(NamedTuple):
    """Scalars, each multiplied with its weight already; `total` is the sum of the others.

    `heat_map` is the MSE of affordance masks; `uncertainty` is that of a module no published model has: always 0.
    """

    total: Tensor
    focal: Tensor
    dice: Tensor
    heat_map: Tensor
    human_3d: Tensor
    affordance_3d: Tensor
    contact_3d: Tensor
    uncertainty: Tensor
    token: Tensor


def mask_kind(dataset: str) -> Kind:
    """What the masks of a released data set show, by its name (`damon_hcontact`, `piad_oafford`, `pico_ocontact`)."""
    for part, kind in (("hcontact", KINDS[0]), ("ocontact", KINDS[1]), ("oafford", KINDS[2])):
        if part in dataset:
            return kind
    return "general"


def combined_loss(
    groups: Sequence[LossGroup],
    weights: LossWeights | None = None,
    answer_loss: Tensor | None = None,
    samples_without_mask: int = 0,
    released_quirks: Collection[Quirk] = (),
) -> LossTerms:
    """The loss of one batch.

    Parameters
    ----------
    groups : the batch's samples that have masks.
    weights : None for the defaults.
    answer_loss : scalar cross-entropy of the answers (`token_loss`), not weighted yet.
    samples_without_mask : questions about the picture alone; they count in the means of the mask terms.
    released_quirks : see `QUIRKS`; the default does what was meant.

    Returns
    -------
    `LossTerms`. An object on which no pixel votes has no contact loss and does not count in its mean.

    Raises
    ------
    InputError : nothing to learn from, or masks and targets that are not finite or out of their range.
    ConfigError : unknown quirk.
    """
    weights = weights or LossWeights()
    unknown = [name for name in released_quirks if name not in QUIRKS]
    if unknown:
        raise ConfigError("released_quirks", f"holds {shown(unknown[0])}", f"known are {', '.join(QUIRKS)}")
    if samples_without_mask < 0 or (not any(len(group.masks) for group in groups) and answer_loss is None):
        raise InputError("batch", "holds no sample", "give groups with masks, or the loss of the answers")

    focal, dice, heat, human, affordance, contact = ([] for _ in range(6))
    for group in groups:
        focal.append(_group_focal(group, weights))
        dice.append(_group_dice(group, weights, "dice_counts_ignored" in released_quirks))
        if group.kind == "object_affordance":
            heat.append(heat_map_mse(group.masks, group.target).mean(1))
        if group.lift is None or group.vertex_target is None:
            continue
        if group.kind == "human_contact" and weights.human_3d:
            lifted = group.lift(group.masks)
            human.append(contact_3d_loss(lifted, group.vertex_target, weights))
        if group.kind == "object_contact" and weights.object_3d:
            lifted = group.lift(group.masks)
            voted = (lifted.detach() > 0).any(1)
            contact.append(contact_3d_loss(lifted, group.vertex_target, weights)[voted])
        if group.kind == "object_affordance" and weights.object_3d:
            if "afford3d_constant" in released_quirks:
                lifted = torch.zeros_like(group.vertex_target, dtype=torch.float32)
            else:
                lifted = group.lift(group.masks)
            affordance.append(affordance_3d_loss(lifted, group.vertex_target, weights))

    samples = sum(len(group.masks) for group in groups) + samples_without_mask
    zero = groups[0].masks.new_zeros((), dtype=torch.float32) if groups else torch.zeros(())
    if not groups and answer_loss is not None:
        zero = answer_loss.new_zeros((), dtype=torch.float32)
    parts = {
        "focal": weights.mask_focal * _mean(focal, zero, samples),
        "dice": weights.mask_dice * _mean(dice, zero, samples),
        "heat_map": weights.mask_focal * _mean(heat, zero),
        "human_3d": weights.human_3d * _mean(human, zero),
        "affordance_3d": weights.object_3d * _mean(affordance, zero),
        "contact_3d": weights.object_3d * _mean(contact, zero),
        "uncertainty": zero,
        "token": zero if answer_loss is None else weights.token * answer_loss,
    }
    return LossTerms(total=torch.stack([part.to(zero) for part in parts.values()]).sum(), **parts)


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
    original, original_target = masks, target
    masks, target, valid = _valid_masks(masks, target, probabilities)
    positive = (target > 0).flatten(-2).any(-1)
    if count_ignored:
        masks, target, valid = _computable(original), _computable(original_target), torch.ones_like(valid)
    probability = torch.where(valid, masks if probabilities else torch.sigmoid(masks), torch.zeros_like(masks))
    share, wanted = probability / scale, target / scale
    overlap = (share * target).sum((-2, -1))
    quotient = (2.0 * overlap + DICE_FLOOR) / (share.sum((-2, -1)) + wanted.sum((-2, -1)) + DICE_FLOOR)
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
        raise InputError("labels", "leave no token to learn", f"mark the answer's tokens with a label other than {ignored}")
    if bool(((wanted < 0) | (wanted >= logits.shape[-1]))[counted].any()):
        raise InputError("labels", f"hold a token beyond the vocabulary of {logits.shape[-1]}", "use this tokenizer's")
    return functional.cross_entropy(logits[:, :-1].float().flatten(0, 1), wanted.flatten(), ignore_index=ignored)


def _group_focal(group: LossGroup, weights: LossWeights) -> Tensor:
    """(B,) focal loss of a group's masks."""
    masks, target = _as_views(group)
    heat = group.kind == "object_affordance"
    return mask_focal_loss(masks, target, weights.focal_alpha, weights.focal_gamma, heat).mean(1)


def _group_dice(group: LossGroup, weights: LossWeights, count_ignored: bool) -> Tensor:
    """(B,) Dice loss of a group's masks."""
    masks, target = _as_views(group)
    heat = group.kind == "object_affordance"
    return mask_dice_loss(masks, target, weights.dice_scale, heat, count_ignored and group.kind == "general").mean(1)


def _as_views(group: LossGroup) -> tuple[Tensor, Tensor]:
    """Masks and target; general masks are judged as a whole, which is one view as high as all of them."""
    if group.kind == "general":
        return group.masks.flatten(1, 2)[:, None], group.target.flatten(1, 2)[:, None]
    return group.masks, group.target


def _valid_masks(masks: Tensor, target: Tensor, probabilities: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Masks and target with harmless values on ignored pixels, and (…, H, W) where a pixel is valid."""
    _check_masks(masks, target)
    masks, target = _computable(masks), _computable(target)
    valid = target != IGNORED
    masks = torch.where(valid, masks, torch.zeros_like(masks))
    target = torch.where(valid, target, torch.zeros_like(target))
    if not bool(((target >= 0) & (target <= 1)).all()):
        raise InputError("target", "holds values outside [0, 1]", "scale heat maps to it, and mark ignored pixels with -1")
    if not bool(torch.isfinite(masks).all()):
        raise InputError("masks", "hold NaN or an infinite value", "lower the learning rate, or skip this batch")
    if probabilities and not bool(((masks >= 0) & (masks <= 1)).all()):
        raise InputError("masks", "lie outside [0, 1]", "apply the sigmoid to the logits of heat maps first")
    return masks, target, valid


def _check_masks(masks: Tensor, target: Tensor) -> None:
    if masks.shape != target.shape or masks.ndim < 2 or 0 in masks.shape:
        raise InputError(
            "masks", f"have shape {tuple(masks.shape)} and their target {tuple(target.shape)}", "give the same, not empty"
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


def _mean(values: list[Tensor], zero: Tensor, count: int | None = None) -> Tensor:
    """Sum of per-sample losses over `count` samples, or over as many as there are."""
    every = torch.cat([part.to(zero) for part in values]) if values else zero[None][:0]
    return every.sum() / max(1, len(every) if count is None else count)


def _computable(values: Tensor) -> Tensor:
    return values if values.dtype == torch.float64 else values.float()
