"""Answers: what a picture keeps of a record, answers without a picture, and how they are cut."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from ivlm_core.evaluate.answers import Answer, Detection, Picture, PriorAnswers, hits, picture_of
from ivlm_core.evaluate.priors import Priors
from ivlm_core.objects import library_mesh

MEANS = np.array([[0.9, 0.2, 0.0], [0.0, 0.6, 0.1]], np.float32)
BOTTLE = len(library_mesh("bottle").vertices)
PRIORS = Priors(
    [("bottle", "left hand"), ("chair", "sit")],
    MEANS,
    np.array([3, 1]),
    {"bottle": np.linspace(0, 1, BOTTLE, dtype=np.float32)},
    {"prior": 0.6},
)


def picture(*labels: str) -> Picture:
    return Picture(np.zeros((4, 4, 3), np.uint8), None, tuple(Detection(label, None) for label in labels))


def test_prior_answers_by_the_label_alone():
    bottle, unseen = PriorAnswers(PRIORS)(picture("bottle", "cup"))
    np.testing.assert_array_equal(bottle.body, MEANS[0])
    np.testing.assert_array_equal(bottle.thing, PRIORS.objects["bottle"])
    np.testing.assert_allclose(unseen.body, (3 * MEANS[0] + MEANS[1]) / 4)
    assert unseen.thing.shape == (len(library_mesh("cup").vertices),)
    np.testing.assert_allclose(unseen.thing, 0.5, atol=1e-3)


def test_the_threshold_itself_is_contact():
    answerer = PriorAnswers(PRIORS)
    marked = hits(answerer, [Answer(np.array([0.59, 0.6, 0.61]))])
    assert marked.tolist() == [[False, True, True]]


@pytest.mark.parametrize(
    ("box", "kept"),
    [((1, 2, 3, 4), (1.0, 2.0, 3.0, 4.0)), (None, None), ((3, 2, 3, 4), None), ((1, 5, 3, 4), None)],
)
def test_boxes_without_area_are_none(box, kept):
    scene = SimpleNamespace(image=np.zeros((2, 2, 3), np.uint8), intrinsics=None)
    scene.objects = (SimpleNamespace(label="cup", box=box, body_contact="never read"),)
    (seen,) = picture_of(scene).objects
    assert (seen.label, seen.box) == ("cup", kept)
