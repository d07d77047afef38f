"""Scores of a replay: hand-made recordings on a body of ten vertices."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ivlm_core.bodies import PART_NAMES, BodyModel
from ivlm_core.datasets import RecordedContact, VertexValues
from ivlm_core.errors import ConfigError, InputError
from ivlm_core.evaluate import Surface, contact_scores, score_replay
from ivlm_core.evaluate.scoring import Scorer
from ivlm_core.types import Mesh

# A strip of ten vertices: five columns 1 cm apart, two rows 1 cm apart; vertex 2c + r.
COLUMN, ROW = np.divmod(np.arange(10), 2)
STRIP = Mesh(
    np.stack([0.01 * COLUMN, 0.01 * ROW, np.zeros(10)], axis=1),
    np.array([[s, s + 1, s + 2] if s % 2 == 0 else [s, s + 2, s + 1] for s in range(8)]),
)
BODY = BodyModel.from_mesh("strip", STRIP, np.full(10, PART_NAMES.index("torso"), dtype=np.uint8))
SCORER = Scorer(BODY, Surface(STRIP))


def values(given: dict[int, float], count: int = 10, topology: str = STRIP.topology_hash) -> VertexValues:
    indices = np.array(sorted(given), dtype=np.uint32)
    return VertexValues(count, topology, indices, np.array([given[int(index)] for index in indices], np.float32))


def contact(*vertices: int, probability: float = 1.0, thing: dict[int, float] | None = None) -> RecordedContact:
    on_thing = None if thing is None else values(thing, 4, "thing")
    return RecordedContact("cup", "strip", values(dict.fromkeys(vertices, probability)), on_thing)


def test_figures_by_hand() -> None:
    """Left: columns 0 and 1 of row 0 and column 4 marked, columns 0 and 1 true. Right: all right."""
    truth = {
        ("left", 1): {"a": contact(0, 1, 2, 3, thing={0: 1.0, 1: 1.0})},
        ("right", 1): {"a": contact(4, 5, thing={2: 1.0})},
    }
    answers = {
        ("left", 1): {"a": contact(0, 2, 8, probability=0.7, thing={0: 0.5, 2: 0.5})},
        ("right", 1): {"a": contact(4, 5, probability=0.5, thing={2: 0.9})},
    }
    scores = score_replay(truth, answers, SCORER)
    left, right = scores.recordings["left"], scores.recordings["right"]
    block = left["semantic"]
    assert [block["precision"], block["recall"], block["f1"]] == pytest.approx([2 / 3, 2 / 4, 4 / 7])
    assert block["geodesic_cm"] == pytest.approx((0 + 0 + 3) / 3), "cm from column 4 to column 1"
    assert left["object"]["sim"] == pytest.approx(0.5)
    assert right["semantic"]["f1"] == pytest.approx(1)
    assert right["object"]["sim"] == pytest.approx(1)
    assert scores.all["semantic"]["f1"] == pytest.approx((4 / 7 + 1) / 2)
    rows = [line.split() for line in scores.table().splitlines()]
    assert rows[1] == ["left", "1", "1", "0.57", "0.67", "0.50", "1.0", "cm", "0.50"]
    assert rows[2] == ["right", "1", "1", "1.00", "1.00", "1.00", "0.0", "cm", "1.00"]
    assert rows[3] == ["all", "2", "2", "0.79", "0.83", "0.75", "0.5", "cm", "0.75"]
    assert len(rows) == 4
    assert len({line.rstrip()[-4:] for line in scores.table().splitlines()[1:]}) == 3, "columns stand below each other"


def test_only_answers_with_ground_truth_count() -> None:
    """Neither other objects, stamps and cameras of the answers, nor what the node never answered, changes a figure."""
    truth = {("camera", stamp): {"a": contact(0, 1), "b": contact(4)} for stamp in (1, 2)}
    answers = {
        ("camera", 1): {"a": contact(0, 1), "c": contact(9)},
        ("camera", 3): {"a": contact(9)},
        ("photo", 1): {"a": contact(9)},
    }
    scores = score_replay(truth, answers, SCORER)
    assert (scores.all["known"], scores.all["answered"]) == (4, 1)
    assert scores.all["semantic"]["f1"] == pytest.approx(1)
    assert scores.all["semantic"]["samples"] == 1
    assert list(scores.recordings) == ["camera"]


def test_replay_without_any_answer_has_no_figures() -> None:
    scores = score_replay({("camera", 1): {"a": contact(0)}}, {}, SCORER)
    assert scores.all["semantic"]["f1"] is None
    assert scores.table().splitlines()[1].split() == ["camera", "1", "0", "–", "–", "–", "–", "–"]


def test_bag_without_ground_truth_has_an_empty_table() -> None:
    scores = score_replay({}, {("camera", 1): {"a": contact(0)}}, SCORER)
    assert scores.table().splitlines()[1].split() == ["all", "0", "0", "–", "–", "–", "–", "–"]


def test_contact_marked_on_an_untouched_object_is_told() -> None:
    truth = {("camera", stamp): {"a": contact()} for stamp in (1, 2, 3)}
    answers = {("camera", stamp): {"a": contact(*marked)} for stamp, marked in ((1, ()), (2, (4,)), (3, (5,)))}
    scores = score_replay(truth, answers, SCORER)
    assert scores.all["semantic"]["samples"] == 0
    assert scores.all["untouched"] == {"samples": 3, "marked": pytest.approx(2 / 3)}
    assert "Of 3 answered objects that nobody touches, 2 were wrongly marked as touched." in scores.table()


def test_answers_are_cut_at_the_threshold() -> None:
    truth, answers = {("camera", 1): {"a": contact(0)}}, {("camera", 1): {"a": contact(0, probability=0.4)}}
    assert score_replay(truth, answers, SCORER).all["semantic"]["f1"] == 0
    assert score_replay(truth, answers, SCORER, 0.4 - 1e-6).all["semantic"]["f1"] == pytest.approx(1)
    with pytest.raises(ConfigError, match="threshold"):
        score_replay(truth, answers, SCORER, 1.5)


def test_answer_on_another_body_is_refused() -> None:
    other = RecordedContact("cup", "smplx", values({0: 1.0}, 10, "other"))
    with pytest.raises(InputError, match="is on the body smplx, not on strip"):
        score_replay({("camera", 1): {"a": contact(0)}}, {("camera", 1): {"a": other}}, SCORER)


@pytest.mark.parametrize("thing", [None, values({0: 1.0}, 8, "a plain box")])
def test_object_answer_on_another_mesh_is_not_scored(thing: VertexValues | None) -> None:
    answer = RecordedContact("cup", "strip", values({0: 1.0}), thing)
    truth = {("camera", 1): {"a": contact(0, thing={1: 1.0})}}
    scores = score_replay(truth, {("camera", 1): {"a": answer}}, SCORER)
    assert scores.all["object"] is None
    assert scores.all["semantic"]["f1"] == pytest.approx(1)


@given(seed=st.integers(0, 2**32 - 1))
def test_figures_are_means_of_the_metrics(seed: int) -> None:
    random = np.random.default_rng(seed)
    hits, true = random.random((4, 10)), random.random((4, 10)) > 0.6
    true[:, 0] = True
    keys: list[Any] = [(name, stamp) for name in ("left", "right") for stamp in (1, 2)]
    truth = {key: {"a": contact(*np.flatnonzero(row).tolist())} for key, row in zip(keys, true, strict=True)}
    answers = {
        key: {"a": RecordedContact("cup", "strip", values(dict(enumerate(row.tolist()))))}
        for key, row in zip(keys, hits, strict=True)
    }
    scores = score_replay(truth, answers, SCORER)
    expected = contact_scores(hits.astype(np.float32), true)
    assert scores.all["semantic"]["f1"] == pytest.approx(float(expected.f1.mean()))
    assert scores.recordings["right"]["semantic"]["recall"] == pytest.approx(float(expected.recall[2:].mean()))
