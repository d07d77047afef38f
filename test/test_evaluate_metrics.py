"""Vertex metrics: parity with the released ones, hand-made cases of ten vertices, bounds and invariances."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ivlm_core import ConfigError, InputError, IvlmError
from ivlm_core.evaluate import affordance_scores, contact_scores, geodesic_error

VERTICES = 10
# Ten vertices in a row, 1 cm apart.
ROW = np.abs(np.subtract.outer(np.arange(VERTICES), np.arange(VERTICES))) * 0.01

probabilities = arrays(np.float32, (3, VERTICES), elements=st.floats(0, 1, width=32))
contacts = arrays(np.bool_, (3, VERTICES))
coarse = arrays(np.float64, (3, VERTICES), elements=st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]))


def at(*vertices: int) -> np.ndarray:
    """Contact at the given vertices of the row."""
    contact = np.zeros(VERTICES)
    contact[list(vertices)] = 1
    return contact


def test_contact_matches_the_released_scores(reference):
    scores = contact_scores(reference["metric_contact_pred"], reference["metric_contact_gt"])
    np.testing.assert_allclose(np.stack(scores, axis=-1), reference["metric_h_contact_per_sample"], atol=1e-5)
    mean = list(scores.mean().values())
    np.testing.assert_allclose(mean, reference["metric_h_contact_batch"], atol=1e-5)
    np.testing.assert_allclose(mean, reference["metric_o_contact_batch"], atol=1e-5)


@pytest.mark.parametrize(("official", "name"), [(False, "per_signature"), (True, "as_called")])
def test_geodesic_matches_the_released_error(reference, official, name):
    pred, gt = reference["metric_contact_pred"], reference["metric_contact_gt"]
    error = geodesic_error(pred, gt, reference["metric_geo_dist_matrix"], official=official)
    each = reference["metric_geo_as_called_by_validate" if official else "metric_geo_per_signature"]
    np.testing.assert_allclose(np.stack(error, axis=-1), each, atol=1e-5)
    np.testing.assert_allclose(list(error.mean().values()), reference[f"metric_geo_batch_{name}"], atol=1e-5)


def test_affordance_matches_the_released_scores(reference):
    scores = affordance_scores(reference["metric_afford_pred"], reference["metric_afford_gt"])
    # The reference writes 0 where we say that there is no value.
    table = np.stack(
        [scores.sim, scores.mae, np.nan_to_num(scores.auc), np.nan_to_num(scores.aiou), scores.valid], axis=-1
    )
    np.testing.assert_allclose(table, reference["metric_afford_per_sample"], atol=1e-5)
    assert np.array_equal(np.isnan(scores.auc), ~scores.valid)
    mean = scores.mean()
    ours = [mean["sim"], mean["mae"], mean["auc"], mean["aiou"], scores.valid.sum()]
    np.testing.assert_allclose(ours, reference["metric_afford_batch"], atol=1e-5)


def test_contact_of_ten_vertices_by_hand():
    pred = 0.9 * at(0, 1, 2, 3) + 0.4 * at(7)
    scores = contact_scores(pred, at(2, 3, 4, 7, 8))
    assert scores.precision == pytest.approx(2 / 4)
    assert scores.recall == pytest.approx(2 / 5)
    assert scores.f1 == pytest.approx(4 / 9)
    assert contact_scores(pred, at(2, 3, 4, 7, 8), threshold=0.4).recall == pytest.approx(3 / 5)


def test_threshold_itself_is_contact_and_any_true_contact_counts():
    scores = contact_scores(0.5 * at(1, 2), 0.01 * at(1, 2))
    assert scores.f1 == pytest.approx(1)


@pytest.mark.parametrize(("pred", "gt"), [(at(), at(1)), (at(1), at()), (at(), at())])
def test_empty_prediction_or_ground_truth_scores_zero(pred, gt):
    assert [float(score) for score in contact_scores(pred, gt)] == [0, 0, 0]


@given(pred=probabilities, gt=contacts)
def test_contact_scores_are_bounded_and_f1_lies_between_precision_and_recall(pred, gt):
    scores = contact_scores(pred, gt)
    for values in scores:
        assert values.shape == (3,)
        assert ((values >= 0) & (values <= 1)).all()
    assert (scores.f1 <= np.maximum(scores.precision, scores.recall) + 1e-9).all()
    assert (scores.f1 >= np.minimum(scores.precision, scores.recall) - 1e-9).all()


@given(gt=contacts)
def test_perfect_prediction(gt):
    some = gt.any(-1)
    np.testing.assert_allclose(contact_scores(gt, gt).f1, some, atol=1e-9)
    assert (np.stack(geodesic_error(gt, gt, ROW)) == 0).all()
    affordance = affordance_scores(gt, gt)
    np.testing.assert_allclose(affordance.sim, some, atol=1e-9)
    assert (affordance.mae == 0).all()
    valid = some & ~gt.all(-1)
    np.testing.assert_allclose(affordance.auc[valid], 1)
    # At the threshold 0 all points are predicted, so that even the ground truth does not reach 1.
    np.testing.assert_allclose(affordance.aiou[valid], 0.95 + 0.05 * gt.mean(-1)[valid])


@given(pred=contacts, gt=contacts)
def test_swapping_the_sides_swaps_precision_and_recall_and_the_geodesic_errors(pred, gt):
    there, back = contact_scores(pred, gt), contact_scores(gt, pred)
    np.testing.assert_allclose(there.precision, back.recall)
    np.testing.assert_allclose(there.f1, back.f1)
    error, official = geodesic_error(pred, gt, ROW), geodesic_error(pred, gt, ROW, official=True)
    np.testing.assert_allclose(error.fp, official.fn)
    np.testing.assert_allclose(error.fn, official.fp)


@given(pred=probabilities, gt=probabilities, seed=st.integers(0, 2**32 - 1))
def test_order_of_vertices_and_samples_does_not_matter(pred, gt, seed):
    order = np.random.default_rng(seed).permutation(VERTICES)
    distances = ROW[np.ix_(order, order)]
    for before, after in (
        (contact_scores(pred, gt), contact_scores(pred[:, order], gt[:, order])),
        (geodesic_error(pred, gt, ROW), geodesic_error(pred[:, order], gt[:, order], distances)),
        (affordance_scores(pred, gt), affordance_scores(pred[:, order], gt[:, order])),
    ):
        np.testing.assert_allclose(np.stack(after), np.stack(before), atol=1e-9)
    flipped, straight = (affordance_scores(pred[::step], gt[::step]) for step in (-1, 1))
    np.testing.assert_array_equal(np.stack(flipped)[:, ::-1], np.stack(straight))


def test_one_sample_and_nested_batches_have_the_same_scores():
    random = np.random.default_rng(5)
    pred, gt = random.random((2, 3, VERTICES)), random.random((2, 3, VERTICES)).round()
    for score in (contact_scores, affordance_scores, lambda pred, gt: geodesic_error(pred, gt, ROW)):
        batch = score(pred, gt)
        assert batch[0].shape == (2, 3)
        for ours, whole in zip(score(pred[1, 2], gt[1, 2]), batch, strict=True):
            assert np.shape(ours) == ()
            np.testing.assert_allclose(ours, whole[1, 2])


def test_areas_weigh_vertices():
    pred, gt = at(0, 1, 2), at(2, 3)
    areas = np.array([1, 1, 4, 2, 1, 1, 1, 1, 1, 1])
    scores = contact_scores(pred, gt, weights=areas)
    assert scores.precision == pytest.approx(4 / 6)
    assert scores.recall == pytest.approx(4 / 6)
    for scale in (1e-4, 1e4):
        np.testing.assert_allclose(contact_scores(pred, gt, weights=scale * areas), scores)
    np.testing.assert_allclose(contact_scores(pred, gt, weights=np.ones(VERTICES)), contact_scores(pred, gt))


def test_geodesic_of_ten_vertices_by_hand():
    error = geodesic_error(at(0, 5), at(2, 3, 4), ROW)
    assert error.fp == pytest.approx((0.02 + 0.01) / 2)
    assert error.fn == pytest.approx((0.02 + 0.02 + 0.01) / 3)


def test_empty_side_of_the_geodesic_error_stands_for_all_vertices():
    silent = geodesic_error(at(), at(0), ROW)
    assert silent.fp == pytest.approx(ROW[0].mean())
    assert silent.fn == 0
    untouched = geodesic_error(at(0), at(), ROW)
    assert untouched.fp == 0
    assert untouched.fn == pytest.approx(ROW[0].mean())


def test_official_geodesic_is_zero_when_no_prediction_is_exactly_one():
    assert geodesic_error(0.99 * at(9), at(0), ROW, official=True).fp == 0
    assert geodesic_error(at(9), at(0), ROW, official=True).fp == pytest.approx(0.09)
    assert geodesic_error(0.99 * at(9), at(0), ROW).fp == pytest.approx(0.09)


def test_auc_counts_ordered_pairs_and_halves_ties():
    pred, gt = np.array([0.1, 0.4, 0.4, 0.8]), np.array([0, 0, 1, 1])
    # Of the four pairs three are in order and one is a tie.
    assert affordance_scores(pred, gt).auc == pytest.approx(3.5 / 4)


@given(pred=coarse, gt=coarse)
def test_auc_and_aiou_are_their_definitions(pred, gt):
    scores = affordance_scores(pred, gt)
    for sample in range(3):
        true = gt[sample] >= 0.5
        if true.all() or not true.any():
            assert not scores.valid[sample]
            continue
        difference = np.subtract.outer(pred[sample][true], pred[sample][~true])
        assert scores.auc[sample] == pytest.approx(((difference > 0) + 0.5 * (difference == 0)).mean())
        hits = [pred[sample] >= threshold for threshold in np.linspace(0, 1, 20)]
        assert scores.aiou[sample] == pytest.approx(np.mean([(hit & true).sum() / (hit | true).sum() for hit in hits]))


@given(pred=probabilities, gt=probabilities)
def test_affordance_scores_are_bounded(pred, gt):
    scores = affordance_scores(pred, gt)
    for values in (scores.sim, scores.mae, scores.auc[scores.valid], scores.aiou[scores.valid]):
        assert ((values >= 0) & (values <= 1 + 1e-9)).all()


@given(pred=coarse, gt=contacts)
def test_auc_of_the_reversed_prediction_is_the_complement(pred, gt):
    scores = affordance_scores(pred, gt)
    reversed_scores = affordance_scores(1 - pred, gt)
    np.testing.assert_allclose((scores.auc + reversed_scores.auc)[scores.valid], 1)


def test_ground_truth_of_one_class_has_no_auc():
    scores = affordance_scores(np.full((2, 4), 0.3), [[1, 1, 1, 1], [0, 0, 0, 0.4]])
    assert not scores.valid.any()
    assert np.isnan(scores.auc).all()
    mean = scores.mean()
    assert mean["auc"] is None
    assert mean["aiou"] is None
    assert mean["mae"] == pytest.approx((0.7 + (3 * 0.3 + 0.1) / 4) / 2)


def test_official_mean_drops_samples_of_one_class_from_every_meter():
    pred, gt = [[0.9, 0.1], [0.5, 0.5]], [[1, 0], [1, 1]]
    scores = affordance_scores(pred, gt)
    assert scores.mean()["mae"] == pytest.approx((0.1 + 0.5) / 2)
    assert scores.mean(official=True)["mae"] == pytest.approx(0.1)
    assert scores.mean(official=True)["auc"] == scores.mean()["auc"] == 1
    assert set(affordance_scores(pred[1], gt[1]).mean(official=True).values()) == {None}


def test_tensors_lists_and_half_precision_are_welcome():
    pred, gt = at(1, 2), at(2, 3)
    expected = contact_scores(pred, gt)
    for convert in (
        torch.from_numpy,
        list,
        np.float16,
        lambda array: array.astype(bool),
        lambda array: array.astype(int),
    ):
        np.testing.assert_allclose(contact_scores(convert(pred), convert(gt)), expected)


@pytest.mark.parametrize("score", [contact_scores, affordance_scores, lambda pred, gt: geodesic_error(pred, gt, ROW)])
def test_bad_arrays_are_named(score):
    good = at(1)
    for pred, gt, problem in (
        (good[:9], good, "gt: has shape"),
        (good * np.nan, good, "pred: holds NaN"),
        (good, good * np.nan, "gt: holds NaN"),
        (20 * good - 10, good, "pred: holds"),
        (good, 255 * good, "gt: holds"),
        (np.zeros((0, VERTICES)), np.zeros((0, VERTICES)), "not empty"),
        (np.zeros((2, 0)), np.zeros((2, 0)), "not empty"),
        (0.5, 0.5, "not empty"),
        (np.array(["a"]), good, "has type"),
        ([[1], [1, 0]], good, "pred: is no array"),
        (torch.ones(VERTICES, requires_grad=True), good, "pred: is no array"),
    ):
        with pytest.raises(InputError, match=problem):
            score(pred, gt)


def test_bad_distances_thresholds_and_weights_are_named():
    with pytest.raises(InputError, match="distances: have shape"):
        geodesic_error(at(1), at(1), ROW[:9, :9])
    with pytest.raises(InputError, match="not finite"):
        geodesic_error(at(1), at(2), np.full_like(ROW, np.inf))
    with pytest.raises(InputError, match="negative"):
        geodesic_error(at(1), at(2), -ROW)
    for threshold in (-0.1, 1.1, np.nan):
        with pytest.raises(ConfigError, match="threshold"):
            contact_scores(at(1), at(1), threshold)
    for weights in (np.ones(3), -np.ones(VERTICES), np.zeros(VERTICES), np.full(VERTICES, np.nan)):
        with pytest.raises(IvlmError, match="weights"):
            contact_scores(at(1), at(1), weights=weights)
