"""Contact painted into view masks and lifted back: what stays, what is lost, and where the losses come from."""

from __future__ import annotations

import numpy as np
import pytest

from ivlm_core import InputError
from ivlm_core.bodies import load_body
from ivlm_core.config import load_profile
from ivlm_core.evaluate import MaskPath, contact_scores


@pytest.fixture(scope="module")
def path() -> MaskPath:
    return MaskPath.of(load_profile("tiny"), load_body().mesh)


def test_no_and_full_contact_come_back_as_they_are(path):
    count = len(load_body().mesh.vertices)
    nothing, everything = path(np.stack([np.zeros(count), np.ones(count)]))
    assert nothing.max() < 1e-6
    seen = path.pack.vertex_visible.any(axis=0)
    np.testing.assert_allclose(everything[seen], 1, atol=1e-4)
    assert (everything[~seen] == 0).all()


def test_finer_masks_lose_less(path):
    body = load_body()
    contact = np.stack([body.part_labels == part for part in (7, 8, 13, 2)])
    scores = [contact_scores(MaskPath(path.pack, size)(contact), contact).f1.mean() for size in (32, 64, 128)]
    assert scores == sorted(scores)
    assert scores[-1] > 0.95


def test_painting_is_linear_and_bounded(path):
    random = np.random.default_rng(0)
    one, two = random.random((2, 1, len(load_body().mesh.vertices)))
    painted = path.paint(0.25 * one + 0.75 * two)
    np.testing.assert_allclose(painted, 0.25 * path.paint(one) + 0.75 * path.paint(two), atol=1e-5)
    assert painted.min() >= 0
    assert painted.max() <= 1
    assert painted.shape == (1, 4, path.size, path.size)


def test_contact_of_another_body_is_refused(path):
    with pytest.raises(InputError, match="this body's"):
        path.paint(np.zeros((1, 6890)))
