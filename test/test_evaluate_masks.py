"""IoU in the picture plane: parity with the released one, hand-made masks, invariances."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ivlm_core import InputError
from ivlm_core.evaluate import mask_iou

SHAPE = (2, 3, 4, 4)
logits_of = arrays(np.float32, SHAPE, elements=st.sampled_from([-3.0, -0.5, 0.0, 0.5, 3.0]))
targets_of = arrays(np.int8, SHAPE, elements=st.sampled_from([-1, 0, 1]))


def test_matches_the_released_iou(reference):
    iou = mask_iou(reference["metric_seg_pred"], reference["metric_seg_gt"])
    np.testing.assert_allclose(iou.intersection, reference["metric_seg_intersection"], atol=1e-5)
    np.testing.assert_allclose(iou.union, reference["metric_seg_union"], atol=1e-5)
    np.testing.assert_allclose(iou.iou, reference["metric_seg_acc_iou"], atol=1e-5)


def test_two_samples_by_hand():
    logits, target = np.full((2, 1, 2, 2), -1.0), np.zeros((2, 1, 2, 2))
    logits[0, 0, 0], target[0, 0, :, 0] = 1, 1
    logits[1], target[1, 0, 0, 0] = 1, 1
    iou = mask_iou(logits, target)
    assert iou.intersection.tolist() == [[1, 1], [0, 1]]
    assert iou.union.tolist() == [[3, 3], [3, 4]]
    mean = iou.mean()
    assert mean["giou"] == pytest.approx((1 / 3 + 1 / 4) / 2, abs=1e-5)
    assert mean["ciou"] == pytest.approx(2 / 7)


def test_logit_of_zero_is_no_contact():
    assert mask_iou(np.zeros((1, 2, 2)), np.ones((1, 2, 2))).iou[1] == 0


def test_empty_union_counts_as_agreement():
    iou = mask_iou(np.full((1, 2, 2), -1.0), np.zeros((1, 2, 2)))
    assert iou.iou[1] == 1
    assert iou.mean()["ciou"] == 0
    nothing_valid = mask_iou(np.ones((1, 2, 2)), np.full((1, 2, 2), -1))
    assert nothing_valid.iou.tolist() == [1, 1]


@given(logits=logits_of, target=targets_of)
def test_bounds_view_order_and_ignored_pixels(logits, target):
    iou = mask_iou(logits, target)
    assert ((iou.iou >= 0) & (iou.iou <= 1)).all()
    assert (iou.intersection <= iou.union).all()
    for same in (
        mask_iou(logits[:, ::-1], target[:, ::-1]),
        mask_iou(np.where(target == -1, -logits, logits), target),
        mask_iou(7 * logits, target),
    ):
        np.testing.assert_allclose(np.stack(same), np.stack(iou))


@given(target=targets_of)
def test_perfect_masks(target):
    assert (mask_iou(target - 0.5, target).iou > 0.9999).all()


def test_bad_masks_are_named():
    masks, target = np.zeros((1, 2, 2)), np.zeros((1, 2, 2))
    with pytest.raises(InputError, match="masks: have shape"):
        mask_iou(masks, target[0])
    with pytest.raises(InputError, match="not empty"):
        mask_iou(masks[:0], target[:0])
    with pytest.raises(InputError, match="hold NaN"):
        mask_iou(masks * np.nan, target)
    with pytest.raises(InputError, match="target: holds"):
        mask_iou(masks, target + 0.5)
