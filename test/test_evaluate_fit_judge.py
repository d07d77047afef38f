"""What a fit is given of a scene, and how its pose is measured against the scene's own."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from ivlm_core import ConfigError
from ivlm_core.datasets.synthetic import SAMPLE, SynthHoi
from ivlm_core.evaluate import fit_judge
from ivlm_core.evaluate.fit_judge import FitJudge, Judged, body_of, truths
from ivlm_core.objects import library_shape
from ivlm_core.types import Reconstruction


@pytest.fixture(scope="module")
def record():
    return SynthHoi(SAMPLE, "test")[2]


@pytest.fixture
def asked(monkeypatch, record):
    """Stands in for the fits: the object's true pose, and what each fit was given."""
    given = []
    placed = {str(item.number): item.placed for item in truths(record)}

    class Stand:
        def __init__(self, settings):
            self.settings = settings

        def run(self, frame, requests):
            (request,) = requests
            given.append(SimpleNamespace(settings=self.settings, frame=frame, request=request))
            true = placed[request.query.object_id]
            return (Reconstruction(request.query.label, request.mesh, true.rotation, true.translation, 1.0, True),)

    monkeypatch.setattr(fit_judge, "Reconstructor", Stand)
    return given


def test_the_true_pose_has_no_error(asked, record):
    judged = FitJudge()(record)
    assert list(judged) == list(fit_judge.VARIANTS)
    for items in judged.values():
        (item,) = items
        assert item.label == "skateboard"
        assert item.scores.chamfer_cm < 0.01
        assert item.scores.rotation_deg == pytest.approx(0.0, abs=0.1)
        assert item.scores.translation_cm == pytest.approx(0.0, abs=1e-3)
        assert item.scores.mask_iou > 0.9
        # The scene itself says how far body and object are inside each other.
        assert item.scores.penetration_cm == pytest.approx(100 * record.objects[0].depth, abs=0.5)


def test_variants_differ_in_what_they_are_given(asked, record):
    FitJudge()(record)
    main, alone, parts, released = asked
    assert main.request.human is not None
    np.testing.assert_array_equal(main.request.thing, record.objects[0].object_contact.astype(np.float32))
    assert alone.request.human is None
    assert alone.settings.fit.weights.contact == 0.0
    assert alone.settings.fit.assume_size
    assert parts.request.human is not None
    assert not np.array_equal(parts.request.human, main.request.human)
    assert released.settings.fit.energy == "released"
    for given in asked:
        assert not given.settings.tracking
        np.testing.assert_array_equal(given.request.query.mask, record.object_mask(0))
        np.testing.assert_array_equal(given.frame.bodies[0].vertices, body_of(record).vertices)
        assert given.frame.depth is None


def test_predicted_contact_is_carried_to_the_scenes_own_instance(asked, record):
    library = library_shape("skateboard").mesh
    human = np.zeros(len(body_of(record).vertices), np.float32)
    human[:50] = 0.9

    def predict(_):
        return [(human, np.full(len(library.vertices), 0.7, np.float32)), *[None] * (len(record.objects) - 1)]

    FitJudge("predicted", "predicted", predict, variants=("main",))(record)
    (given,) = asked
    np.testing.assert_array_equal(given.request.human, human)
    assert given.request.thing.shape == (len(given.request.mesh.vertices),)
    assert (given.request.thing == np.float32(0.7)).all()
    assert given.request.query.mask is None
    assert given.request.query.box_xyxy == record.objects[0].box


def test_what_the_model_does_not_answer_has_no_contact(asked, record):
    FitJudge("predicted", "ground-truth", lambda _: [None] * len(record.objects), variants=("main",))(record)
    assert asked[0].request.human is None
    assert asked[0].request.thing is None


def test_predicted_contact_needs_a_model():
    with pytest.raises(ConfigError, match="there is no model"):
        FitJudge("predicted")


def test_who_sits_or_lies_rests_on_the_object():
    def mode(name: str) -> bool:
        return Judged(None, "bed", name, "", 0.0).resting

    assert mode("sit, left hand on the seat")
    assert mode("lie prone")
    assert not mode("left hand")
    assert not mode("")


def test_objects_that_nobody_touches_or_sees_are_left_out():
    for record in SynthHoi(SAMPLE, "test"):
        kept = {item.number for item in truths(record)}
        for number, item in enumerate(record.objects):
            seen = record.object_mask(number).sum() >= fit_judge.LEAST_PIXELS
            assert (number in kept) == bool(item.touched and seen)
