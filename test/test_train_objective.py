"""The loss of a batch: parity with the released total, its means, and what each part is switched by."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch

from ivlm_core import ConfigError, InputError
from ivlm_core.lift import Lifter, lift_points
from ivlm_core.train import LossGroup, LossTerms, LossWeights, combined_loss, mask_kind
from ivlm_core.train.objective import QUIRKS

VERTICES = 7
# What the reference was computed with: which samples, with which weights.
REFERENCE_BATCHES = {
    "all_hC3_oC3": (range(5), LossWeights(human_3d=3, object_3d=3)),
    "human_only": ((0, 3), LossWeights(human_3d=3, object_3d=0)),
    "object_only": ((1, 2), LossWeights(human_3d=0, object_3d=3)),
    "dice_scale2": (
        range(5),
        LossWeights(mask_focal=1.5, focal_alpha=0.25, mask_dice=0.7, dice_scale=2, human_3d=0, object_3d=0),
    ),
}


def reference_group(reference, index: int) -> LossGroup:
    def stored(name: str) -> torch.Tensor:
        return torch.from_numpy(reference[name].astype(np.float32))[None]

    kind = mask_kind(str(reference["loss_ds_names"][index]))
    masks, target = stored(f"loss_pred_{index}"), stored(f"loss_gt_{index}")
    if kind == "general":
        return LossGroup(kind, masks, target)
    vertex_target = stored(f"loss_gt3d_{index}")
    if kind == "object_affordance":
        numbers = torch.from_numpy(reference["loss_points_pixel_to_point"])
        lift = partial(lift_points, pixel_to_point=numbers, point_count=vertex_target.shape[1])
        return LossGroup(kind, masks, target, lift, vertex_target)
    side, threshold = ("human", None) if kind == "human_contact" else ("object", 0.3)
    maps = reference[f"loss_{side}_pixel_to_vertex"], reference[f"loss_{side}_bary"]
    return LossGroup(kind, masks, target, Lifter.from_maps(*maps, vertex_target.shape[1], threshold), vertex_target)


def random_group(kind: str = "human_contact", batch: int = 2, seed: int = 0) -> LossGroup:
    random = torch.Generator().manual_seed(seed)
    masks = torch.randn(batch, 2, 4, 4, generator=random)
    target = torch.randint(-1, 2, masks.shape, generator=random).float()
    truth = torch.randint(0, 2, (batch, VERTICES), generator=random).float()
    if kind == "general":
        return LossGroup(kind, masks, target)
    if kind == "object_affordance":
        masks = torch.sigmoid(masks)
        return LossGroup(kind, masks, target, lambda values: values.flatten(1)[:, :VERTICES], truth)
    return LossGroup(kind, masks, target, lambda logits: torch.sigmoid(logits.flatten(1)[:, :VERTICES]), truth)


@pytest.mark.parametrize("name", REFERENCE_BATCHES)
def test_matches_the_released_total_and_its_parts(reference, name):
    samples, weights = REFERENCE_BATCHES[name]
    groups = [reference_group(reference, index) for index in samples]
    terms = combined_loss(groups, weights, released_quirks=QUIRKS)
    names = ["total", "bce(focal)", "dice", "l2", "hC", "oA", "oC", "uncert"]
    assert reference["loss_combined_names"].tolist() == names
    ours = torch.stack(terms[: len(names)])
    np.testing.assert_allclose(ours, reference[f"loss_combined_{name}"], atol=1e-5)


def test_quirk_afford3d_constant_has_no_gradient_and_the_default_has(reference):
    sample = next(index for index, name in enumerate(reference["loss_ds_names"]) if "oafford" in name)
    group = reference_group(reference, sample)
    weight = LossWeights().object_3d
    masks = group.masks.clone().requires_grad_()
    learning = LossGroup(group.kind, masks, group.target, group.lift, group.vertex_target)
    released = combined_loss([learning], released_quirks={"afford3d_constant"})
    default = combined_loss([learning])
    np.testing.assert_allclose(released.affordance_3d / weight, reference["loss_afford3d_as_released"], atol=1e-5)
    intended = default.affordance_3d.detach() / weight
    np.testing.assert_allclose(intended, reference["loss_afford3d_arguments_fixed"], atol=1e-5)
    assert not released.affordance_3d.requires_grad
    default.affordance_3d.backward()
    assert float(masks.grad.abs().max()) > 0


def test_training_forward_of_the_released_model(reference):
    # The first sample of that batch is the human case, whose masks are stored; the batch has no other of its kind.
    assert mask_kind(str(reference["train_ds_names"][0])) == "human_contact"
    masks = torch.from_numpy(reference["human_pred_masks"].astype(np.float32)).view(
        1, *reference["train_gt_masks_0"].shape
    )
    np.testing.assert_allclose(masks[0].mean((-2, -1)), reference["train_pred_masks_0_mean"], atol=1e-4)
    truth = torch.from_numpy(reference["train_gt3d_0"].astype(np.float32))[None]
    lifter = Lifter.from_maps(reference["human_pixel_to_vertex"], reference["human_bary"], truth.shape[1])
    group = LossGroup("human_contact", masks, torch.from_numpy(reference["train_gt_masks_0"])[None], lifter, truth)
    np.testing.assert_allclose(combined_loss([group]).human_3d, reference["train_hC_loss"], atol=1e-5)


def test_training_forward_has_the_released_affordance_constant(reference):
    if mask_kind(str(reference["train_ds_names"][1])) != "object_affordance":
        pytest.skip("this reference's second training sample is no affordance")
    target = torch.from_numpy(reference["train_gt_masks_1"])[None]
    truth = torch.from_numpy(reference["train_gt3d_1"])[None]
    group = LossGroup("object_affordance", target.clamp(min=0), target, lambda masks: masks.flatten(1), truth)
    terms = combined_loss([group], released_quirks={"afford3d_constant"})
    np.testing.assert_allclose(terms.affordance_3d, reference["train_oA_loss"], atol=1e-5)


@pytest.mark.parametrize(
    ("dataset", "kind"),
    [
        ("damon_hcontact", "human_contact"),
        ("pico_ocontact", "object_contact"),
        ("piad_oafford", "object_affordance"),
        ("damon_h2dcontact", "general"),
        ("refer_seg", "general"),
        ("hcontact-ocontact", "human_contact"),
    ],
)
def test_kind_by_the_name_of_the_data_set(dataset, kind):
    assert mask_kind(dataset) == kind


@pytest.mark.parametrize("kind", ["human_contact", "object_contact", "object_affordance", "general"])
def test_one_group_is_as_good_as_single_samples(kind):
    whole = random_group(kind, batch=3)
    parts = [
        LossGroup(
            kind,
            whole.masks[index : index + 1],
            whole.target[index : index + 1],
            whole.lift,
            None if whole.vertex_target is None else whole.vertex_target[index : index + 1],
        )
        for index in (2, 0, 1)
    ]
    for ours, expected in zip(combined_loss(parts), combined_loss([whole]), strict=True):
        torch.testing.assert_close(ours, expected)


def test_total_is_the_sum_of_the_others():
    groups = [random_group(kind) for kind in ("human_contact", "object_contact", "object_affordance", "general")]
    terms = combined_loss(groups, answer_loss=torch.tensor(2.5))
    assert isinstance(terms, LossTerms)
    assert all(float(term) > 0 for name, term in terms._asdict().items() if name != "uncertainty")
    torch.testing.assert_close(terms.total, torch.stack(terms[1:]).sum())


def test_samples_without_mask_dilute_the_mask_terms_alone():
    group = random_group(batch=2)
    alone, among = combined_loss([group]), combined_loss([group], samples_without_mask=2)
    torch.testing.assert_close(among.focal, alone.focal / 2)
    torch.testing.assert_close(among.dice, alone.dice / 2)
    torch.testing.assert_close(among.human_3d, alone.human_3d)


def test_batch_of_answers_alone():
    answer = torch.tensor(1.5, requires_grad=True)
    terms = combined_loss([], LossWeights(token=2.0), answer, samples_without_mask=4)
    assert float(terms.total.detach()) == 3.0
    terms.total.backward()
    assert float(answer.grad) == 2.0


def test_object_that_no_pixel_votes_on_is_left_out():
    voted = random_group("object_contact", batch=1)
    silent = LossGroup(
        "object_contact",
        voted.masks,
        voted.target,
        lambda logits: 0 * logits.flatten(1)[:, :VERTICES],
        voted.vertex_target,
    )
    torch.testing.assert_close(combined_loss([voted, silent]).contact_3d, combined_loss([voted]).contact_3d)
    assert float(combined_loss([silent]).contact_3d) == 0


def test_weight_of_zero_does_not_even_lift():
    def refuse(masks: torch.Tensor) -> torch.Tensor:
        raise AssertionError("lifted in vain")

    group = random_group()
    idle = LossGroup(group.kind, group.masks, group.target, refuse, group.vertex_target)
    assert float(combined_loss([idle], LossWeights(human_3d=0)).human_3d) == 0


def test_general_masks_are_judged_as_a_whole():
    masks = torch.zeros(1, 2, 4, 4)
    target = torch.zeros_like(masks)
    target[0, 0] = 1
    # Half of all pixels are positive, at a probability of one half: 1 − 2·8 / (16 + 16); single views give 1/3 and 0.
    dice = combined_loss([LossGroup("general", masks, target)], LossWeights(mask_dice=1)).dice
    assert float(dice) == pytest.approx(0.5, abs=1e-5)
    views = combined_loss([LossGroup("human_contact", masks, target)], LossWeights(mask_dice=1)).dice
    assert float(views) == pytest.approx((1 - 16 / 24) / 2, abs=1e-5)


def test_quirk_dice_counts_ignored_is_for_general_masks_alone():
    for kind, changes in (("general", True), ("human_contact", False)):
        group = random_group(kind)
        default, released = (
            combined_loss([group], released_quirks=quirks) for quirks in ((), ("dice_counts_ignored",))
        )
        assert bool(torch.isclose(default.dice, released.dice)) != changes
        torch.testing.assert_close(default.focal, released.focal)


def test_gradient_reaches_every_mask_and_is_finite():
    group = random_group(batch=2)
    for scale in (1.0, 1e4):
        masks = (group.masks * scale).requires_grad_()
        learning = LossGroup(group.kind, masks, group.target, group.lift, group.vertex_target)
        combined_loss([learning]).total.backward()
        assert torch.isfinite(masks.grad).all()
    masks = group.masks.clone().requires_grad_()
    combined_loss([LossGroup("human_contact", masks, group.target)]).total.backward()
    assert torch.equal(masks.grad != 0, group.target != -1)


def test_bad_batches_are_named():
    group = random_group()
    with pytest.raises(InputError, match="batch: holds no sample"):
        combined_loss([])
    with pytest.raises(InputError, match="samples_without_mask"):
        combined_loss([group], samples_without_mask=-1)
    with pytest.raises(ConfigError, match="known are"):
        combined_loss([group], released_quirks={"afford3d"})
    with pytest.raises(InputError, match=r"loss\.kind"):
        LossGroup("hcontact", group.masks, group.target)
    with pytest.raises(InputError, match="give both or neither"):
        LossGroup("human_contact", group.masks, group.target, group.lift)
    with pytest.raises(InputError, match="show no mesh"):
        LossGroup("general", group.masks, group.target, group.lift, group.vertex_target)
    with pytest.raises(InputError, match=r"\(B, J, H, W\)"):
        LossGroup("general", group.masks[0], group.target[0])
    with pytest.raises(InputError, match="not empty"):
        LossGroup("general", group.masks[:, :0], group.target[:, :0])
    with pytest.raises(InputError, match="masks: hold NaN"):
        combined_loss([LossGroup("general", group.masks * torch.nan, group.target)])
