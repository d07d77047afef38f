"""Scores of a scene: hand-made cases on a body of ten vertices, what counts where, and how means are taken."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ivlm_core.bodies import PART_NAMES, BodyModel
from ivlm_core.evaluate import Surface, contact_scores, geodesic_error
from ivlm_core.evaluate.scoring import CHOICES, Scorer, summarize
from ivlm_core.types import Mesh

# A strip of ten vertices: five columns 1 cm apart, two rows 1 cm apart; vertex 2c + r.
COLUMN, ROW = np.divmod(np.arange(10), 2)
STRIP = Mesh(
    np.stack([0.01 * COLUMN, 0.01 * ROW, np.zeros(10)], axis=1),
    np.array([[s, s + 1, s + 2] if s % 2 == 0 else [s, s + 2, s + 1] for s in range(8)]),
)
LEFT, RIGHT, TORSO = (PART_NAMES.index(name) for name in ("left hand", "right hand", "torso"))
# Columns 0 and 1 are the left hand, column 2 the trunk, columns 3 and 4 the right hand.
PARTS = np.array([LEFT] * 4 + [TORSO] * 2 + [RIGHT] * 4, dtype=np.uint8)
BODY = BodyModel.from_mesh("strip", STRIP, PARTS)
SCORER = Scorer(BODY, Surface(STRIP))


def at(*vertices: int) -> np.ndarray:
    contact = np.zeros(10, dtype=bool)
    contact[list(vertices)] = True
    return contact


def scene(*objects: tuple[str, np.ndarray], azimuth: float = 0.0, thing=None) -> SimpleNamespace:
    made = [SimpleNamespace(label=label, body_contact=contact, library_contact=thing) for label, contact in objects]
    return SimpleNamespace(objects=tuple(made), azimuth=azimuth)


def judge(record, hits, things=None):
    return SCORER.score(SCORER.truth(record), np.stack(hits), things or [None] * len(hits))


def test_one_object_by_hand():
    # Marked: columns 0 and 1 of row 0, and column 4; true: columns 0 and 1 of both rows.
    scores = judge(scene(("bottle", at(0, 1, 2, 3))), [at(0, 2, 8)])
    f1, precision, recall, geodesic, reverse, by_area = scores.samples[0].contact
    assert precision == pytest.approx(2 / 3)
    assert recall == pytest.approx(2 / 4)
    assert f1 == pytest.approx(4 / 7)
    assert geodesic == pytest.approx((0 + 0 + 3) / 3), "cm from column 4 to column 1"
    assert reverse == pytest.approx((0 + 0 + 1 + 1) / 4), "cm from row 1 to row 0"
    expected = contact_scores(at(0, 2, 8), at(0, 1, 2, 3), weights=BODY.vertex_area).f1
    assert by_area == pytest.approx(float(expected))


def test_union_of_two_objects_by_hand():
    scores = judge(scene(("bottle", at(0, 1)), ("chair", at(4, 5))), [at(0, 1, 4), at(8)])
    f1, precision, recall, geodesic, reverse, _ = scores.union
    # Marked {0, 1, 4, 8} against {0, 1, 4, 5}.
    assert [precision, recall, f1] == pytest.approx([3 / 4] * 3)
    assert geodesic == pytest.approx(2 / 4), "8 is two columns from 4"
    assert reverse == pytest.approx(1 / 4), "5 is one row from 4"


@given(seed=st.integers(0, 2**32 - 1))
def test_scores_are_those_of_the_metrics(seed):
    random = np.random.default_rng(seed)
    hits, truth = random.random((2, 10)) > 0.6, random.random((2, 10)) > 0.6
    if not truth.any(axis=1).all():
        return
    scores = judge(scene(("a", truth[0]), ("b", truth[1])), list(hits))
    metrics, error = contact_scores(hits, truth), geodesic_error(hits, truth, SCORER.surface)
    for row, sample in enumerate(scores.samples):
        expected = [
            metrics.f1[row],
            metrics.precision[row],
            metrics.recall[row],
            100 * error.fp[row],
            100 * error.fn[row],
        ]
        np.testing.assert_allclose(sample.contact[:5], expected, atol=1e-6)
        assert ((sample.contact[:3] >= 0) & (sample.contact[:3] <= 1)).all()
        defined = sample.parts[~np.isnan(sample.parts)]
        assert ((defined >= 0) & (defined <= 1)).all()
    united = geodesic_error(hits.any(0), truth.any(0), SCORER.surface)
    np.testing.assert_allclose(scores.union[3:5], [100 * united.fp, 100 * united.fn], atol=1e-6)


def test_untouched_object_is_no_sample_but_counts_in_the_union():
    record = scene(("bottle", at(0, 1)), ("cup", at()))
    silent, loud = judge(record, [at(0, 1), at()]), judge(record, [at(0, 1), at(8, 9)])
    assert len(silent.samples) == len(loud.samples) == 1
    assert (silent.untouched, loud.untouched) == ((False,), (True,))
    assert silent.union[0] == pytest.approx(1)
    assert loud.union[1] == pytest.approx(1 / 2)
    report = summarize([silent, loud])
    assert report["untouched"] == {"samples": 2, "marked": 0.5}
    assert report["semantic"]["f1"] == pytest.approx(1)


def test_scene_in_which_nothing_is_touched_has_no_binary_score():
    report = summarize([judge(scene(("cup", at())), [at(3)])])
    assert report["binary"]["samples"] == report["semantic"]["samples"] == 0
    assert report["binary"]["f1"] is None
    assert report["object"] is None


def test_parts_are_scored_where_they_are_touched_or_marked():
    sample = judge(scene(("bottle", at(0, 1, 4))), [at(0, 8)]).samples[0]
    left, torso, right = sample.parts[[LEFT, TORSO, RIGHT]]
    np.testing.assert_allclose(left, [2 / 3, 1, 1 / 2])
    np.testing.assert_allclose(torso, 0)
    np.testing.assert_allclose(right, 0)
    assert np.isnan(sample.parts[PART_NAMES.index("head")]).all()
    report = summarize([judge(scene(("bottle", at(0, 1, 4))), [at(0, 8)])])
    assert set(report["semantic"]["per_part"]) == {"left hand", "torso", "right hand"}


@pytest.mark.parametrize(
    ("marked", "choice"),
    [(at(0, 1, 2), "only_right"), (at(7, 8), "only_wrong"), (at(0, 1, 8), "both"), (at(4), "none")],
)
def test_which_hand_of_a_one_handed_grip_is_marked(marked, choice):
    scores = judge(scene(("bottle", at(0, 1, 2))), [marked])
    assert CHOICES[scores.samples[0].choice] == choice
    report = summarize([scores])
    assert report["hand_choice"][choice] == report["hand_choice"]["samples"] == 1
    assert report["wrong_hand_rate"] == (choice == "only_wrong")


@pytest.mark.parametrize(
    ("truth", "azimuth"), [(at(0, 8), 0), (at(0, 4, 5), 0), (at(4, 5), 0), (at(0, 1), 120), (at(0, 1), -91)]
)
def test_other_grips_and_views_from_behind_say_nothing_about_hands(truth, azimuth):
    scores = judge(scene(("bottle", truth), azimuth=azimuth), [at(8)])
    assert scores.samples[0].choice == -1
    assert summarize([scores])["wrong_hand_rate"] is None


def test_means_are_over_samples_and_groups_hold_their_categories():
    scenes = [
        judge(scene(("bottle", at(0, 1))), [at(0, 1)]),
        judge(scene(("bottle", at(0, 1)), ("chair", at(4, 5))), [at(8), at(4, 5)]),
    ]
    semantic = summarize(scenes)["semantic"]
    assert semantic["f1"] == pytest.approx(2 / 3)
    assert semantic["per_category"]["bottle"]["f1"] == pytest.approx(1 / 2)
    assert semantic["per_category"]["bottle"]["samples"] == 2
    assert semantic["per_group"]["furniture"]["f1"] == pytest.approx(1)
    assert semantic["f1_error"] == pytest.approx(1 / 3)
    only = summarize(scenes, {"chair"})
    assert only["semantic"]["samples"] == 1
    assert only["binary"]["samples"] == 2


def test_object_scores_need_an_answer_on_the_same_mesh():
    record = scene(("bottle", at(0)), thing=np.array([1.0, 0.0, 0.0]))
    given = summarize([judge(record, [at(0)], [np.array([0.9, 0.1, 0.1])])])["object"]
    assert given["auc"] == pytest.approx(1)
    assert given["per_category"]["bottle"]["samples"] == 1
    assert summarize([judge(record, [at(0)], [np.zeros(4)])])["object"] is None
    assert summarize([judge(record, [at(0)])])["object"] is None
