"""Mean contacts, thresholds, and the file that keeps them."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ivlm_core import InputError
from ivlm_core.evaluate.metrics import contact_scores
from ivlm_core.evaluate.priors import (
    THRESHOLDS,
    best_threshold,
    f1_by_threshold,
    fit_priors,
    gather,
    load_priors,
)

VERTICES = 10


def record(*objects: tuple[str, str, tuple[int, ...]]) -> SimpleNamespace:
    """A scene with (label, mode, touched vertices) of each object."""

    def thing(label, mode, vertices):
        contact = np.zeros(VERTICES, bool)
        contact[list(vertices)] = True
        return SimpleNamespace(
            label=label, mode=mode, body_contact=contact, library_contact=np.array([1.0, 0.0, float(bool(vertices))])
        )

    return SimpleNamespace(objects=tuple(thing(*item) for item in objects))


LEFT, RIGHT = (0, 1, 2), (7, 8, 9)
SCENES = [
    record(("bottle", "left hand", LEFT)),
    record(("bottle", "right hand", RIGHT), ("chair", "sit", (4, 5))),
    record(("bottle", "right hand", RIGHT), ("cup", "", ())),
    record(("chair", "sit", (5, 6))),
]


def test_gathering_leaves_out_what_nobody_touches():
    data = gather(SCENES)
    assert data.labels == ["bottle", "bottle", "chair", "bottle", "chair"]
    assert data.scenes.tolist() == [0, 1, 1, 2, 3]
    assert (data.scene_count, data.untouched) == (4, 1)
    np.testing.assert_array_equal(data.contact([2])[0], np.isin(np.arange(VERTICES), (4, 5)))
    with pytest.raises(InputError, match="no contact"):
        gather([record(("cup", "", ()))])


def test_means_of_categories_and_modes():
    priors = fit_priors(gather(SCENES), source={"seeds": [3]})
    np.testing.assert_allclose(priors.category("bottle")[[0, 9]], [1 / 3, 2 / 3], atol=0.003)
    np.testing.assert_allclose(priors.mode("bottle", "left hand"), np.isin(np.arange(VERTICES), LEFT), atol=0.003)
    np.testing.assert_allclose(priors.category("chair")[[4, 5, 6]], [0.5, 1, 0.5], atol=0.003)
    assert priors.categories == ("bottle", "chair")
    assert priors.source == {"scenes": 4, "samples": 5, "seeds": [3]}
    np.testing.assert_allclose(priors.on_object("bottle", 3), [1, 0, 1], atol=0.003)


def test_unseen_categories_get_the_mean_of_all_and_the_mean_of_their_mode():
    priors = fit_priors(gather(SCENES))
    np.testing.assert_allclose(priors.category("cup")[[0, 5, 9]], [1 / 5, 2 / 5, 2 / 5], atol=0.005)
    np.testing.assert_allclose(priors.mode("cup", "left hand"), priors.mode("bottle", "left hand"))
    np.testing.assert_allclose(priors.mode("cup", "balanced"), priors.category("cup"))
    np.testing.assert_allclose(priors.mode("bottle", "balanced"), priors.category("bottle"))
    assert len(set(priors.on_object("cup", 4).tolist())) == 1


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=25)
def test_f1_by_threshold_is_the_score_at_each_threshold(seed):
    random = np.random.default_rng(seed)
    pred, gt = random.random((3, VERTICES)).astype(np.float32), random.random((3, VERTICES)) > 0.6
    for answer in (pred, pred[0]):
        by_threshold = f1_by_threshold(answer, gt)
        expected = [
            contact_scores(np.broadcast_to(answer, gt.shape), gt, np.float32(threshold)).f1 for threshold in THRESHOLDS
        ]
        np.testing.assert_allclose(by_threshold, np.stack(expected, axis=1), atol=1e-6)


def test_best_threshold_is_the_middle_of_the_best():
    scores = np.zeros((2, len(THRESHOLDS)))
    scores[:, 10:15] = 1
    assert best_threshold(scores) == THRESHOLDS[12]


def test_file_keeps_everything(tmp_path):
    priors = fit_priors(gather(SCENES), source={"seeds": [1]})
    priors.save(tmp_path / "priors.npz")
    again = load_priors(tmp_path / "priors.npz")
    np.testing.assert_array_equal(again.means, priors.means)
    assert list(again.modes) == list(priors.modes)
    assert again.thresholds == priors.thresholds
    assert again.source == priors.source
    np.testing.assert_array_equal(again.on_object("chair", 3), priors.on_object("chair", 3))


def test_damaged_or_missing_file_is_named(tmp_path):
    (tmp_path / "bad.npz").write_bytes(b"PK\x03\x04 cut short")
    for name in ("bad.npz", "none.npz"):
        with pytest.raises(InputError, match="fit-baselines"):
            load_priors(tmp_path / name)
