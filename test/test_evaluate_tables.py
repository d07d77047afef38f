"""Table rows: hand-made images, agreement with the single scores, the released variants, running means."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ivlm_core import InputError
from ivlm_core.evaluate import RunningMean, binary_scores, contact_scores, geodesic_error, semantic_scores

VERTICES = 10
ROW = np.abs(np.subtract.outer(np.arange(VERTICES), np.arange(VERTICES))) * 0.01


def at(*vertices: int, value: float = 1.0) -> np.ndarray:
    contact = np.zeros(VERTICES)
    contact[list(vertices)] = value
    return contact


def random_rows(seed: int = 0, count: int = 6) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    return random.random((count, VERTICES)), random.integers(0, 2, (count, VERTICES))


def test_binary_is_the_union_over_an_image_s_objects():
    pred = np.stack([at(0, 1), at(1, 2), at(9)])
    gt = np.stack([at(0), at(2, 3), at(9, 8)])
    row = binary_scores(pred, gt, ["a", "a", "b"], ROW)
    # Image a: {0, 1, 2} against {0, 2, 3}; image b: {9} against {8, 9}.
    assert row.f1 == pytest.approx((2 / 3 + 2 / 3) / 2)
    assert row.precision == pytest.approx((2 / 3 + 1) / 2)
    assert row.recall == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert row.samples == 2
    # In a, 1 is 1 cm from the truth and 3 is 1 cm from what is predicted; in b, 8 is.
    assert row.geodesic_fp == pytest.approx((0.01 / 3 + 0) / 2)
    assert row.geodesic_fn == pytest.approx((0.01 / 3 + 0.01 / 2) / 2)
    official = binary_scores(pred, gt, ["a", "a", "b"], ROW, official=True)
    assert official.f1 == pytest.approx(row.f1)
    assert official.precision == pytest.approx(3 / 4)
    assert official.recall == pytest.approx(3 / 5)
    # Object by object, sides exchanged: 0; (0 + 1) / 2 cm of a; (0 + 1) / 2 cm of b. Backwards: 0.5 cm twice in a; 0.
    assert official.geodesic_fp == pytest.approx((0.005 + 0.005) / 2)
    assert official.geodesic_fn == pytest.approx((0.005 + 0) / 2)


def test_binary_cuts_before_it_unites():
    # Two objects at 0.4 do not add up to contact.
    pred = np.stack([at(1, value=0.4), at(1, value=0.4), at(2)])
    row = binary_scores(pred, np.stack([at(1), at(1), at(2)]), [0, 0, 0])
    assert row.recall == pytest.approx(1 / 2)
    assert row.geodesic_fp is None
    assert binary_scores(pred, np.stack([at(1), at(1), at(2)]), [0, 0, 0], threshold=0.4).f1 == pytest.approx(1)


def test_binary_of_one_object_per_image_is_the_mean_of_its_scores():
    pred, gt = random_rows()
    row, scores = binary_scores(pred, gt, range(6), ROW), contact_scores(pred, gt)
    error = geodesic_error(pred, gt, ROW)
    assert row.f1 == pytest.approx(scores.mean()["f1"])
    assert row.geodesic_fp == pytest.approx(error.mean()["fp"])
    assert row.geodesic_fn == pytest.approx(error.mean()["fn"])


@given(seed=st.integers(0, 2**32 - 1))
def test_rows_may_come_in_any_order(seed):
    pred, gt = random_rows()
    images, categories = np.array([0, 1, 0, 2, 1, 0]), np.array(list("abcabc"))
    order = np.random.default_rng(seed).permutation(6)
    for official in (False, True):
        before = binary_scores(pred, gt, images.tolist(), ROW, official=official)
        after = binary_scores(pred[order], gt[order], images[order].tolist(), ROW, official=official)
        assert after == pytest.approx(before)
        table = semantic_scores(pred, gt, categories.tolist(), {"a": "food"}, ROW, official=official)
        moved = semantic_scores(
            pred[order], gt[order], categories[order].tolist(), {"a": "food"}, ROW, official=official
        )
        assert list(moved.per_category) == list(table.per_category) == ["a", "b", "c"]
        assert moved.overall == pytest.approx(table.overall)
        assert moved.per_category["b"] == pytest.approx(table.per_category["b"])
        assert moved.per_group["food"] == pytest.approx(table.per_group["food"])


def test_semantic_is_the_mean_over_samples_by_category_and_group():
    pred, gt = random_rows()
    categories = ["Hair_Drier", "cup", "hair drier", "cup", "cup", "kite"]
    groups = {"hair drier": "everyday-objects", "cup": "kitchen"}
    table = semantic_scores(pred, gt, categories, groups, ROW)
    scores, error = contact_scores(pred, gt), geodesic_error(pred, gt, ROW)
    rows = {"hair drier": [0, 2], "cup": [1, 3, 4], "kite": [5]}
    assert set(table.per_category) == set(rows)
    for name, chosen in rows.items():
        row = table.per_category[name]
        assert row.f1 == pytest.approx(scores.f1[chosen].mean())
        assert row.precision == pytest.approx(scores.precision[chosen].mean())
        assert row.recall == pytest.approx(scores.recall[chosen].mean())
        assert row.geodesic_fp == pytest.approx(error.fp[chosen].mean())
        assert row.samples == len(chosen)
    assert table.per_group == {
        "everyday-objects": table.per_category["hair drier"],
        "kitchen": table.per_category["cup"],
    }
    assert table.overall.f1 == pytest.approx(scores.f1.mean())


def test_official_semantic_precision_may_exceed_one_and_the_default_never():
    # A faint prediction everywhere: every true vertex counts as hit, and the sum of the probabilities is small.
    pred, gt = np.full((1, VERTICES), 0.05), at(1, 2, 3)[None]
    official, default = (semantic_scores(pred, gt, ["cup"], official=flag).overall for flag in (True, False))
    assert official.precision == pytest.approx(3 / 0.5)
    assert official.recall == pytest.approx(1)
    assert official.f1 == default.f1 == 0
    assert default.precision == default.recall == 0


@given(seed=st.integers(0, 2**32 - 1))
def test_default_rows_stay_in_bounds(seed):
    pred, gt = random_rows(seed)
    table = semantic_scores(pred, gt, list("aabbcc"), {"a": "food"}, ROW)
    binary = binary_scores(pred, gt, list("aabbcc"), ROW)
    for row in (binary, table.overall, *table.per_category.values(), *table.per_group.values()):
        assert all(0 <= value <= 1 for value in row[:3])
        assert all(0 <= value <= ROW.max() for value in row[3:5])


def test_ground_truth_is_never_predicted_from():
    pred, gt = random_rows()
    kept = pred.copy(), gt.copy()
    semantic_scores(pred, gt, list("aabbcc"), distances=ROW, official=True)
    binary_scores(pred, gt, list("aabbcc"), ROW)
    np.testing.assert_array_equal(pred, kept[0])
    np.testing.assert_array_equal(gt, kept[1])


def test_running_mean_of_batches_is_the_mean_of_all():
    mean, other = RunningMean(), RunningMean()
    assert mean.mean is None
    mean.add(1.0)
    mean.add([2.0, 6.0])
    other.add(4.5, count=2)
    mean.merge(other)
    assert mean.mean == pytest.approx((1 + 2 + 6 + 9) / 5)


def test_running_mean_leaves_out_what_is_not_finite():
    mean = RunningMean()
    mean.add([1.0, np.nan, np.inf])
    mean.add(np.nan)
    assert mean.mean == 1
    assert mean.skipped == 3


def test_official_running_mean_swallows_nan_and_divides_by_a_little_more():
    mean = RunningMean(official=True)
    mean.add(2.0, count=3)
    mean.add([np.nan, np.inf])
    assert mean.mean == pytest.approx(6 / (3 + 1e-5), abs=1e-12)
    mean.add(np.nan)
    assert np.isnan(mean.mean)


def test_bad_rows_are_named():
    pred, gt = random_rows()
    with pytest.raises(InputError, match="images: are 2 for 6"):
        binary_scores(pred, gt, ["a", "b"])
    with pytest.raises(InputError, match=r"give \(K, V\)"):
        binary_scores(pred[0], gt[0], ["a"])
    with pytest.raises(InputError, match="categories: are 1 for 6"):
        semantic_scores(pred, gt, ["cup"])
    for name in ("", " ", None):
        with pytest.raises(InputError, match="categories: hold"):
            semantic_scores(pred, gt, [name] * 6)
    with pytest.raises(InputError, match="pred: holds NaN"):
        semantic_scores(pred * np.nan, gt, ["cup"] * 6)
    with pytest.raises(InputError, match="distances"):
        binary_scores(pred, gt, range(6), ROW[:3])
    with pytest.raises(InputError, match="value: has 0"):
        RunningMean().add([])
    with pytest.raises(InputError, match="count of -1"):
        RunningMean().add(1.0, -1)
