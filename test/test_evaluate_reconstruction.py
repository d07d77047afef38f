"""The evaluation of fits: its report, what it compares, and what it refuses."""

from __future__ import annotations

import math

import pytest

from ivlm_core import ConfigError, InputError
from ivlm_core.datasets.synthetic import SAMPLE, TRAINING_SEED
from ivlm_core.evaluate import reconstruction
from ivlm_core.evaluate.fit_judge import VARIANTS, Judged
from ivlm_core.evaluate.fit_metrics import FitScores
from ivlm_core.evaluate.reconstruction import evaluate_reconstruction, reconstruction_text, report_of
from ivlm_core.evaluate.synthhoi import Setup

FIGURES = {
    "chamfer_cm",
    "rotation_deg",
    "translation_cm",
    "scale_error",
    "penetration_cm",
    "mask_iou",
    "success_5cm",
    "seconds_per_object",
}


def judged(chamfer: float, mode: str = "left hand", valid: bool = True, inside: float = 1.0) -> Judged:
    nothing = math.nan
    scores = FitScores(chamfer, 10.0, 3.0, 0.01, inside, 0.9, True, 1.5)
    if not valid:
        scores = FitScores(nothing, nothing, nothing, nothing, nothing, nothing, False, 1.5)
    return Judged(scores, "cup", mode, "" if valid else "the mask is empty", 0.5)


def test_report_has_a_block_for_every_variant_and_compares_what_both_have():
    results = [
        {"main": [judged(1.0), judged(3.0, "sit", inside=2.0)], "no_contact": [judged(4.0), judged(0.0, valid=False)]},
        {"main": [judged(0.0, valid=False)], "no_contact": [judged(8.0)]},
    ]
    told = report_of(results)
    assert told["scenes"] == 2
    assert told["objects"] == 3
    assert told["chamfer_cm"] == pytest.approx(2.0)
    assert told["success_5cm"] == pytest.approx(2 / 3)
    assert told["cpu_seconds_per_object"] == 0.5
    assert told["reasons"] == {"the mask is empty": 1}
    assert told["resting"]["objects"] == 1
    assert told["resting"]["penetration_cm"] == 2.0
    other = told["variants"]["no_contact"]
    assert other["chamfer_cm"] == pytest.approx(6.0)
    # Only the first object has a pose in both.
    assert other["chamfer_of_main"] == pytest.approx(0.25)
    assert set(told) >= FIGURES
    assert set(other) >= FIGURES


def test_nothing_to_compare_is_none_and_no_scenes_are_an_error():
    told = report_of([{"main": [judged(1.0)], "no_contact": [judged(0.0, valid=False)]}])
    assert told["variants"]["no_contact"]["chamfer_of_main"] is None
    assert told["variants"]["no_contact"]["chamfer_cm"] is None
    assert report_of([{"main": [], "no_contact": []}])["success_5cm"] is None
    with pytest.raises(InputError, match="at least one scene"):
        report_of([])


def test_scenes_are_judged_in_their_order_and_progress_is_told():
    seen = []
    told = evaluate_reconstruction(
        Setup(scenes=2, data=SAMPLE),
        "ground-truth",
        variants=("no_contact",),
        workers=0,
        progress=lambda *at: seen.append(at),
    )
    assert seen == [(1, 2), (2, 2)]
    assert told["scenes"] == 2
    assert (told["split"], told["contacts"], told["masks"]) == ("test", "ground-truth", "ground-truth")
    assert told["data"] == str(SAMPLE)
    assert set(told["variants"]) == {"no_contact"}
    assert told["objects"] >= 2
    assert told["success_5cm"] == 1.0
    assert told["chamfer_cm"] < told["variants"]["no_contact"]["chamfer_cm"]
    text = reconstruction_text(told)
    assert "no contact" in text
    assert len(text.splitlines()) == 4


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"contacts": "guessed"}, "contacts"),
        ({"masks": "guessed"}, "masks"),
        ({"variants": ("other",)}, "choose among main"),
    ],
)
def test_what_does_not_exist_is_refused(changes, words):
    with pytest.raises(ConfigError, match=words):
        evaluate_reconstruction(Setup(scenes=1, data=SAMPLE), **{"contacts": "ground-truth", **changes})


def test_more_scenes_than_are_stored_and_training_seeds_are_refused():
    with pytest.raises(ConfigError, match="stored ones"):
        evaluate_reconstruction(Setup(scenes=10_000, data=SAMPLE), "ground-truth", workers=0)
    with pytest.raises(ConfigError, match="training seed"):
        evaluate_reconstruction(Setup(scenes=1, seed=TRAINING_SEED), "ground-truth", workers=0)


def test_main_is_always_fitted_and_the_order_is_fixed(monkeypatch):
    asked = []

    class Judge:
        def __init__(self, contacts, masks, predict, variants):
            asked.append(tuple(variants))

        def __call__(self, record):
            return {name: [judged(1.0)] for name in asked[-1]}

    monkeypatch.setattr(reconstruction, "FitJudge", Judge)
    setup = Setup(scenes=1, data=SAMPLE)
    evaluate_reconstruction(setup, "ground-truth", variants=("released_energy", "no_contact"), workers=0)
    told = evaluate_reconstruction(setup, "ground-truth", workers=0)
    assert asked == [("main", "no_contact", "released_energy"), VARIANTS]
    assert list(told["variants"]) == ["no_contact", "part_priors", "released_energy"]
