"""The loss of a whole batch, put together from the single ones as the paper's recipe does.

    total = w_ce · CE  +  w_focal · focal + w_dice · Dice + w_focal · MSE  +  w_human · L_human + w_object · L_object

Mask terms are means over a sample's views and then over *all* samples of the batch, those without a mask included.
The 3-D terms compare the masks, lifted onto the mesh, with the ground truth of its vertices, and are means over the
samples that have one.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from ivlm_core.errors import ConfigError, InputError, shown
from ivlm_core.train.losses import (
    LossWeights,
    affordance_3d_loss,
    check_masks,
    contact_3d_loss,
    heat_map_mse,
    mask_dice_loss,
    mask_focal_loss,
)

Kind = Literal["human_contact", "object_contact", "object_affordance", "general"]
Quirk = Literal["afford3d_constant", "dice_counts_ignored"]

KINDS: tuple[Kind, ...] = ("human_contact", "object_contact", "object_affordance", "general")
# What the released code does and probably did not mean. `afford3d_constant`: the affordance loss sees a prediction of 0
# on every point, so that it is a constant of the ground truth and teaches nothing. `dice_counts_ignored`: on `general`
# masks, Dice sums the −1 of ignored pixels instead of leaving them out.
QUIRKS: tuple[Quirk, ...] = ("afford3d_constant", "dice_counts_ignored")


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
        check_masks(self.masks, self.target)
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
    if samples_without_mask < 0:
        raise InputError("samples_without_mask", f"is {samples_without_mask}", "give a count")
    anchor = groups[0].masks if groups else answer_loss
    if anchor is None:
        raise InputError("batch", "holds no sample", "give groups with masks, or the loss of the answers")
    zero = anchor.new_zeros((), dtype=torch.float32)
    samples = sum(len(group.masks) for group in groups) + samples_without_mask

    def on_masks(loss: Callable[[LossGroup], Tensor]) -> Tensor:
        return _mean([loss(group) for group in groups], zero, samples)

    def on_vertices(kind: Kind, weight: float) -> Tensor:
        chosen = [group for group in groups if group.kind == kind and weight]
        return weight * _mean([_vertex_loss(group, weights, released_quirks) for group in chosen], zero)

    heat = [heat_map_mse(group.masks, group.target).mean(1) for group in groups if group.kind == "object_affordance"]
    parts = {
        "focal": weights.mask_focal * on_masks(lambda group: _group_focal(group, weights)),
        "dice": weights.mask_dice * on_masks(lambda group: _group_dice(group, weights, released_quirks)),
        "heat_map": weights.mask_focal * _mean(heat, zero),
        "human_3d": on_vertices("human_contact", weights.human_3d),
        "affordance_3d": on_vertices("object_affordance", weights.object_3d),
        "contact_3d": on_vertices("object_contact", weights.object_3d),
        "uncertainty": zero,
        "token": zero if answer_loss is None else weights.token * answer_loss,
    }
    return LossTerms(total=torch.stack([part.to(zero) for part in parts.values()]).sum(), **parts)


def _group_focal(group: LossGroup, weights: LossWeights) -> Tensor:
    """(B,) focal loss of a group's masks."""
    masks, target = _as_views(group)
    heat = group.kind == "object_affordance"
    return mask_focal_loss(masks, target, weights.focal_alpha, weights.focal_gamma, heat).mean(1)


def _group_dice(group: LossGroup, weights: LossWeights, quirks: Collection[Quirk]) -> Tensor:
    """(B,) Dice loss of a group's masks."""
    masks, target = _as_views(group)
    heat = group.kind == "object_affordance"
    count_ignored = group.kind == "general" and "dice_counts_ignored" in quirks
    return mask_dice_loss(masks, target, weights.dice_scale, heat, count_ignored).mean(1)


def _vertex_loss(group: LossGroup, weights: LossWeights, quirks: Collection[Quirk]) -> Tensor:
    """3-D loss of those of a group's samples that have one, (≤ B,)."""
    if group.lift is None or group.vertex_target is None:
        return group.masks.new_zeros(0, dtype=torch.float32)
    if group.kind == "object_affordance" and "afford3d_constant" in quirks:
        return affordance_3d_loss(
            torch.zeros_like(group.vertex_target, dtype=torch.float32), group.vertex_target, weights
        )
    lifted = group.lift(group.masks)
    if group.kind == "object_affordance":
        return affordance_3d_loss(lifted, group.vertex_target, weights)
    loss = contact_3d_loss(lifted, group.vertex_target, weights)
    return loss[(lifted.detach() > 0).any(1)] if group.kind == "object_contact" else loss


def _as_views(group: LossGroup) -> tuple[Tensor, Tensor]:
    """Masks and target; general masks are judged as a whole, which is one view as high as all of them."""
    if group.kind == "general":
        return group.masks.flatten(1, 2)[:, None], group.target.flatten(1, 2)[:, None]
    return group.masks, group.target


def _mean(values: list[Tensor], zero: Tensor, count: int | None = None) -> Tensor:
    """Sum of per-sample losses over `count` samples, or over as many as there are."""
    every = torch.cat([part.to(zero) for part in values]) if values else zero[None][:0]
    return every.sum() / max(1, len(every) if count is None else count)
