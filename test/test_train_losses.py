"""Single losses: parity with the released ones, properties of their formulas, gradients at the extremes."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ivlm_core import ConfigError, InputError
from ivlm_core.lift import Lifter, lift_points
from ivlm_core.train import (
    LossWeights,
    affordance_3d_loss,
    contact_3d_loss,
    heat_map_mse,
    mask_dice_loss,
    mask_focal_loss,
    token_loss,
)

SHAPE = (2, 3, 4, 5)
extreme_logits = arrays(np.float32, SHAPE, elements=st.floats(-1e4, 1e4, width=32))
marked_targets = arrays(np.float32, SHAPE, elements=st.sampled_from([-1.0, 0.0, 0.25, 1.0]))
unit_values = arrays(np.float64, (3, 12), elements=st.floats(0, 1))


def tensor(reference, name: str) -> torch.Tensor:
    return torch.from_numpy(np.asarray(reference[name], dtype=np.float32))


def lifted_human(reference, masks: torch.Tensor) -> torch.Tensor:
    maps = reference["loss_human_pixel_to_vertex"], reference["loss_human_bary"]
    return Lifter.from_maps(*maps, int(reference["loss_human_num_vertices"]))(masks[None])


def human_samples(reference) -> list[int]:
    return [index for index, name in enumerate(reference["loss_ds_names"]) if "hcontact" in name]


def sample_of(reference, kind: str) -> int:
    return next(index for index, name in enumerate(reference["loss_ds_names"]) if kind in name)


def test_human_contact_matches_the_released_loss(reference):
    samples = human_samples(reference)
    lifted = torch.cat([lifted_human(reference, tensor(reference, f"loss_pred_{index}")) for index in samples])
    target = torch.stack([tensor(reference, f"loss_gt3d_{index}") for index in samples])
    np.testing.assert_allclose(lifted, reference["loss_human3d_pred"], atol=1e-5)
    np.testing.assert_allclose(contact_3d_loss(lifted, target).mean(), reference["loss_human3d"], atol=1e-5)


def test_human_contact_has_the_released_gradient(reference):
    first = human_samples(reference)[0]
    masks = tensor(reference, f"loss_pred_{first}").requires_grad_()
    contact_3d_loss(lifted_human(reference, masks)[0], tensor(reference, f"loss_gt3d_{first}")).backward()
    expected = reference["loss_human3d_grad"]
    np.testing.assert_allclose(masks.grad, expected, atol=1e-5 * np.abs(expected).max())


def test_object_contact_matches_the_released_loss(reference):
    sample = sample_of(reference, "ocontact")
    maps = reference["loss_object_pixel_to_vertex"], reference["loss_object_bary"]
    lifter = Lifter.from_maps(*maps, int(reference["loss_object_num_vertices"]), vote_threshold=0.3)
    lifted = lifter(tensor(reference, f"loss_pred_{sample}")[None])
    np.testing.assert_allclose(lifted, reference["loss_contact3d_pred"], atol=1e-5)
    loss = contact_3d_loss(lifted[0], tensor(reference, f"loss_gt3d_{sample}"))
    np.testing.assert_allclose(loss, reference["loss_contact3d"], atol=1e-5)


def test_affordance_matches_the_intended_and_the_released_loss(reference):
    sample = sample_of(reference, "oafford")
    target = tensor(reference, f"loss_gt3d_{sample}")
    numbers = torch.from_numpy(reference["loss_points_pixel_to_point"])
    lifted = lift_points(tensor(reference, f"loss_pred_{sample}")[None], numbers, len(target))
    np.testing.assert_allclose(lifted, reference["loss_afford3d_pred_fixed"], atol=1e-5)
    intended = affordance_3d_loss(lifted[0], target)
    np.testing.assert_allclose(intended, reference["loss_afford3d_arguments_fixed"], atol=1e-5)
    released = affordance_3d_loss(torch.zeros_like(target), target)
    np.testing.assert_allclose(released, reference["loss_afford3d_as_released"], atol=1e-5)


def test_focal_loss_is_cross_entropy_without_its_modulation():
    logits, target = torch.randn(3, 8, 8, generator=torch.Generator().manual_seed(0)), torch.rand(3, 8, 8)
    easy = 1 - torch.exp(-torch.nn.functional.binary_cross_entropy_with_logits(logits, target, reduction="none"))
    plain = torch.nn.functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    torch.testing.assert_close(mask_focal_loss(logits, target, 0.7, 1.0), 0.7 * (easy * plain).mean((-2, -1)))


def test_logits_and_their_probabilities_agree():
    logits = 3 * torch.randn(SHAPE, generator=torch.Generator().manual_seed(1))
    target = torch.bernoulli(torch.full(SHAPE, 0.4), generator=torch.Generator().manual_seed(2))
    for loss in (mask_focal_loss, mask_dice_loss):
        torch.testing.assert_close(
            loss(logits, target), loss(torch.sigmoid(logits), target, probabilities=True), atol=1e-5, rtol=1e-4
        )


@given(logits=extreme_logits, target=marked_targets)
def test_extreme_logits_have_finite_losses_and_gradients(logits, target):
    masks = torch.from_numpy(logits).requires_grad_()
    marked = torch.from_numpy(target)
    heat = torch.sigmoid(masks)
    total = (
        mask_focal_loss(masks, marked).sum()
        + mask_dice_loss(masks, marked).sum()
        + mask_focal_loss(heat, marked, probabilities=True).sum()
        + mask_dice_loss(heat, marked, probabilities=True).sum()
        + heat_map_mse(heat, marked).sum()
        + contact_3d_loss(heat.flatten(1), marked.clamp(min=0).flatten(1)).sum()
        + affordance_3d_loss(heat.flatten(1), marked.clamp(min=0).flatten(1)).sum()
    )
    total.backward()
    assert torch.isfinite(total)
    assert torch.isfinite(masks.grad).all()


@given(logits=extreme_logits, target=marked_targets, other=st.floats(-50, 50))
def test_ignored_pixels_have_no_say(logits, target, other):
    marked = torch.from_numpy(target)
    masks = torch.from_numpy(logits)
    changed = torch.where(marked == -1, torch.full_like(masks, other), masks)
    for loss in (mask_focal_loss, mask_dice_loss):
        torch.testing.assert_close(loss(masks, marked), loss(changed, marked), rtol=0, atol=0)


def test_nan_on_ignored_pixels_reaches_no_gradient():
    marked = torch.tensor([[1.0, -1.0], [0.0, -1.0]])
    masks = torch.tensor([[0.3, torch.nan], [0.2, torch.inf]], requires_grad=True)
    (mask_focal_loss(masks, marked) + mask_dice_loss(masks, marked)).backward()
    assert torch.isfinite(masks.grad).all()
    assert (masks.grad[:, 1] == 0).all()


@given(logits=extreme_logits, target=marked_targets)
def test_losses_of_views_do_not_depend_on_each_other(logits, target):
    masks, marked = torch.from_numpy(logits), torch.from_numpy(target)
    for loss in (mask_focal_loss, mask_dice_loss):
        together = loss(masks, marked)
        assert together.shape == SHAPE[:2]
        torch.testing.assert_close(loss(masks.flip(1), marked.flip(1)), together.flip(1))
        torch.testing.assert_close(loss(masks[1, 2], marked[1, 2]), together[1, 2])


@given(target=marked_targets.map(lambda array: np.abs(np.round(array))), scale=st.floats(0.5, 1000))
def test_dice_of_a_perfect_mask_is_zero_and_of_its_complement_one(target, scale):
    wanted = torch.from_numpy(target)
    assert float(mask_dice_loss(wanted, wanted, scale, probabilities=True).abs().max()) < 1e-4
    complement = mask_dice_loss(1 - wanted, wanted, scale, probabilities=True)
    positive = (wanted > 0).flatten(-2).any(-1)
    assert float((complement[positive] - 1).abs().max() if positive.any() else 0) < 0.02


def test_view_without_a_positive_or_a_valid_pixel():
    masks = torch.full((3, 4, 4), 2.0, requires_grad=True)
    target = torch.stack([torch.zeros(4, 4), torch.full((4, 4), -1.0), torch.ones(4, 4)])
    dice, focal = mask_dice_loss(masks, target), mask_focal_loss(masks, target)
    assert dice[:2].tolist() == [0, 0]
    assert dice[2] > 0
    assert focal[1] == 0
    assert (focal[[0, 2]] > 0).all()
    assert heat_map_mse(torch.sigmoid(masks), target)[1] == 0
    (dice.sum() + focal.sum()).backward()
    assert torch.isfinite(masks.grad).all()


def test_ignored_pixels_counted_in_dice_is_the_released_sum():
    masks, target = torch.tensor([[2.0, -1.0], [0.5, 3.0]]), torch.tensor([[1.0, -1.0], [0.0, -1.0]])
    p = torch.sigmoid(masks)
    expected = 1 - (2 * (p * target).sum() + 1e-5) / (p.sum() + target.sum() + 1e-5)
    torch.testing.assert_close(mask_dice_loss(masks, target, count_ignored=True), expected)


@given(values=unit_values)
def test_vertex_losses_are_least_at_the_ground_truth(values):
    target = torch.from_numpy(np.round(values))
    guess = torch.from_numpy(values)
    sparse = LossWeights(contact_sparsity=0.0)
    assert (contact_3d_loss(target, target, sparse) <= contact_3d_loss(guess, target, sparse) + 1e-9).all()
    assert (affordance_3d_loss(target, target) <= affordance_3d_loss(guess, target) + 1e-5).all()


@given(values=unit_values, seed=st.integers(0, 2**32 - 1))
def test_vertex_losses_do_not_depend_on_the_order_of_vertices(values, seed):
    order = np.random.default_rng(seed).permutation(values.shape[1])
    target = torch.from_numpy(np.random.default_rng(seed).random(values.shape))
    guess = torch.from_numpy(values)
    for loss in (contact_3d_loss, affordance_3d_loss):
        torch.testing.assert_close(loss(guess[:, order], target[:, order]), loss(guess, target))


def test_gradients_are_those_of_finite_differences():
    random = torch.Generator().manual_seed(3)
    logits = torch.randn(2, 3, 3, dtype=torch.float64, generator=random, requires_grad=True)
    target = torch.tensor([[1.0, 0.0, -1.0], [0.3, 1.0, 0.0], [0.0, -1.0, 0.6]], dtype=torch.float64).expand(2, 3, 3)
    positive = target.clamp(min=0).flatten(1)
    for loss in (
        lambda masks: mask_focal_loss(masks, target),
        lambda masks: mask_dice_loss(masks, target, 2.0),
        lambda masks: mask_focal_loss(torch.sigmoid(masks), target, probabilities=True),
        lambda masks: heat_map_mse(torch.sigmoid(masks), target),
        lambda masks: contact_3d_loss(torch.sigmoid(masks).flatten(1), positive),
        lambda masks: affordance_3d_loss(torch.sigmoid(masks).flatten(1), positive),
    ):
        assert torch.autograd.gradcheck(loss, logits)


def test_half_precision_masks_are_computed_in_single_precision():
    logits = torch.randn(2, 16, 16, generator=torch.Generator().manual_seed(4)).bfloat16()
    target = (logits > 0).float()
    with torch.autocast("cpu", torch.bfloat16):
        for loss in (mask_focal_loss, mask_dice_loss):
            assert loss(logits, target).dtype == torch.float32
        heat = torch.sigmoid(logits.float())
        expected = mask_focal_loss(heat, target, probabilities=True)
    torch.testing.assert_close(mask_focal_loss(heat, target, probabilities=True), expected)


def test_token_loss_predicts_each_token_from_those_before_it():
    labels = torch.tensor([[-100, -100, 2, 0], [-100, 1, -100, -100]])
    logits = torch.full((2, 4, 3), -20.0)
    for row, column, token in ((0, 1, 2), (0, 2, 0), (1, 0, 1)):
        logits[row, column, token] = 20.0
    assert float(token_loss(logits, labels)) == pytest.approx(0, abs=1e-6)
    uniform = token_loss(torch.zeros(2, 4, 3), labels)
    assert float(uniform) == pytest.approx(math.log(3), rel=1e-6)


def test_wrong_shapes_and_values_are_named():
    masks, target = torch.zeros(2, 3, 3), torch.zeros(2, 3, 3)
    with pytest.raises(InputError, match="masks: have shape"):
        mask_focal_loss(masks, target[:1])
    with pytest.raises(InputError, match="not empty"):
        mask_dice_loss(masks[:0], target[:0])
    with pytest.raises(InputError, match="target: holds values outside"):
        mask_focal_loss(masks, target + 255)
    with pytest.raises(InputError, match="target: holds values outside"):
        mask_focal_loss(masks, target * torch.nan)
    with pytest.raises(InputError, match="masks: hold NaN"):
        mask_dice_loss(masks * torch.nan, target)
    with pytest.raises(InputError, match="apply the sigmoid"):
        mask_focal_loss(masks + 2, target, probabilities=True)
    with pytest.raises(InputError, match="vertex_target: has shape"):
        contact_3d_loss(torch.zeros(5), torch.zeros(4))
    with pytest.raises(InputError, match="lifted: holds"):
        contact_3d_loss(torch.full((5,), torch.nan), torch.zeros(5))
    with pytest.raises(InputError, match="vertex_target: holds"):
        affordance_3d_loss(torch.zeros(5), torch.full((5,), 255))
    with pytest.raises(InputError, match="labels: leave no token"):
        token_loss(torch.zeros(1, 3, 4), torch.full((1, 3), -100))
    with pytest.raises(InputError, match="beyond the vocabulary"):
        token_loss(torch.zeros(1, 3, 4), torch.full((1, 3), 4))
    with pytest.raises(InputError, match="labels: have shape"):
        token_loss(torch.zeros(1, 3, 4), torch.zeros(1, 2, dtype=torch.long))


@pytest.mark.parametrize("name", [constant.name for constant in dataclasses.fields(LossWeights)])
def test_constants_out_of_range_are_named(name):
    for value in (-1.0, math.nan, math.inf):
        with pytest.raises(ConfigError, match=f"loss.{name}"):
            LossWeights(**{name: value})


def test_focal_gamma_below_one_has_no_bounded_gradient_and_is_refused():
    with pytest.raises(ConfigError, match="focal_gamma"):
        LossWeights(focal_gamma=0.5)
    with pytest.raises(ConfigError, match="dice_scale"):
        LossWeights(dice_scale=0)
