"""Fixed keys and values, replayed or not, write token for token what the growing cache writes."""

from __future__ import annotations

import copy
import dataclasses
import logging
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ivlm_core.bodies import PART_NAMES
from ivlm_core.config import GenerationConfig, load_profile
from ivlm_core.reason import ContactTokenizer, Reasoner, Reasoning, contact_questions, static_step
from ivlm_core.reason.static_step import GRAPHS_KEPT, SLOT_STEP, WIDTHS, StaticSteps

TOKENIZER = ContactTokenizer()
LABELS = ("chair", "cup", "a b c d", "椅子", "umbrella", "ball", "book", "a very long-named wooden thing")


def make(guided: bool, drafts: bool, mode: str) -> Reasoner:
    torch.manual_seed(7)
    tiny = load_profile("tiny")
    profile = dataclasses.replace(
        tiny,
        language=dataclasses.replace(tiny.language, layers=2),
        vision=dataclasses.replace(tiny.vision, layers=1),
        generation=GenerationConfig(20, guided, drafts),
    )
    reasoner = Reasoner(profile, TOKENIZER).eval()
    if not guided:
        # An untrained model would never write a contact token: make it likely, and likely to differ between pictures.
        with torch.no_grad():
            rows = reasoner.llava.lm_head.weight
            rows[list(TOKENIZER.contact.values())] += rows[400:403] * 2
    reasoner.steps.mode = mode
    return reasoner


def picture(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (32, 32, 3), dtype=np.uint8)


def ask(reasoner: Reasoner, seed: int, labels: list[str]) -> list[Reasoning]:
    """One answer per label, for alternating sides."""
    questions = [contact_questions(label, PART_NAMES)[index % 2] for index, label in enumerate(labels)]
    return reasoner.answer(reasoner.encode_image(picture(seed)), questions)


def assert_same(ours: list[Reasoning], expected: list[Reasoning]) -> None:
    for mine, theirs in zip(ours, expected, strict=True):
        assert (mine.answer, mine.branch) == (theirs.answer, theirs.branch)
        assert mine.confidence == pytest.approx(theirs.confidence, rel=1e-3)
        assert (mine.embedding is None) == (theirs.embedding is None)
        if mine.embedding is not None and theirs.embedding is not None:
            torch.testing.assert_close(mine.embedding, theirs.embedding, atol=1e-4, rtol=1e-3)


class ReplayedByHand:
    """Stands in for a CUDA graph: it runs the recorded pass again on the tensors that were recorded."""

    def __init__(self, run: Any, ids: torch.Tensor, positions: torch.Tensor) -> None:
        self.run, self.ids, self.positions = run, ids.clone(), positions.clone()
        self.states = run(self.ids, self.positions)

    def replay(self) -> None:
        self.states.copy_(self.run(self.ids, self.positions))


@pytest.fixture
def by_hand(monkeypatch) -> list[tuple[int, ...]]:
    """Graphs that replay on the CPU; the shapes that were captured."""
    shapes: list[tuple[int, ...]] = []

    def capture(self: StaticSteps, run: Any, ids: torch.Tensor, positions: torch.Tensor) -> Any:
        shapes.append(tuple(ids.shape))
        graph = ReplayedByHand(run, ids, positions)
        return static_step._Captured(graph, graph.ids, graph.positions, graph.states)

    monkeypatch.setattr(StaticSteps, "_capture", capture)
    monkeypatch.setattr(StaticSteps, "_capturing", lambda self, device: self.graphs)
    return shapes


@pytest.fixture(scope="module", params=["guided", "guided-drafts", "free", "free-drafts"])
def pair(request) -> tuple[Reasoner, Reasoner]:
    """One model twice: fixed slots, and the growing cache one token at a time."""
    guided, drafts = request.param.startswith("guided"), request.param.endswith("drafts")
    return make(guided, drafts, "always"), make(guided, False, "off")


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 10_000), labels=st.lists(st.sampled_from(LABELS), min_size=1, max_size=8, unique=True))
def test_same_answers_as_with_a_growing_cache(pair, seed, labels):
    """K = 1…8; slots are left over from other pictures, other batches and rejected guesses."""
    ours, plain = pair
    for number in (seed, seed + 1):
        assert_same(ask(ours, number, labels), ask(plain, number, labels))
    assert ours.steps.bytes > 0
    assert plain.steps.bytes == 0


def test_replayed_graphs_give_the_same_answers(by_hand):
    for guided in (True, False):
        ours, plain = make(guided, True, "always"), make(guided, False, "off")
        for count in (1, 2, 3, 5, 8, 1, 3):
            for seed in (count, count + 1):
                assert_same(ask(ours, seed, list(LABELS[:count])), ask(plain, seed, list(LABELS[:count])))
        assert ours.steps.replays > len(by_hand) > 0
    assert {shape[0] for shape in by_hand} <= {1, 2, 4, 8}, "batches come in powers of two"
    assert {shape[1] for shape in by_hand} <= set(WIDTHS)


def test_no_more_graphs_than_are_kept(by_hand, monkeypatch):
    monkeypatch.setattr(static_step, "GRAPHS_KEPT", 2)
    ours, plain = make(True, True, "always"), make(True, False, "off")
    for count in (8, 1, 2, 4, 8, 1):
        assert_same(ask(ours, 3, list(LABELS[:count])), ask(plain, 3, list(LABELS[:count])))
        assert len(ours.steps._captured) <= 2
    assert len(by_hand) > 2
    assert GRAPHS_KEPT >= 2


def test_capture_that_fails_is_said_once_and_changes_nothing(by_hand, monkeypatch, caplog):
    def refuse(*_: object) -> None:
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(StaticSteps, "_capture", refuse)
    ours, plain = make(True, True, "always"), make(True, True, "off")
    with caplog.at_level(logging.WARNING):
        for seed in (1, 2):
            assert_same(ask(ours, seed, ["chair", "cup"]), ask(plain, seed, ["chair", "cup"]))
    assert [record.message for record in caplog.records] == [
        "answers are decoded without CUDA graphs: operation not permitted when stream is capturing"
    ]
    assert ours.steps.graphs is False
    assert ours.steps.replays == 0


def test_moved_weights_are_captured_again(by_hand):
    ours, plain = make(True, True, "always"), make(True, True, "off")
    ask(ours, 1, ["chair"])
    captured = len(by_hand)
    ask(ours, 2, ["chair"])
    assert len(by_hand) == captured, "the same weights are not"
    for reasoner in (ours, plain):
        weight = reasoner.llava.model.language_model.layers[1].mlp.up_proj
        weight.weight = torch.nn.Parameter(weight.weight.detach() * 1.5)
        reasoner._system = None
    assert_same(ask(ours, 1, ["chair"]), ask(plain, 1, ["chair"]))
    assert len(by_hand) > captured


def test_training_gives_the_memory_back():
    ours = make(True, True, "always")
    ask(ours, 1, ["chair"])
    assert ours.steps.bytes > 0
    ours.train()
    assert ours.steps.bytes == 0
    model = ours.llava.model.language_model
    cache = SimpleNamespace(layers=[SimpleNamespace(keys=torch.zeros(1, 6, 4, 32))] * 2)
    assert ours.steps.start(model, cache, 4, 1, 64) is None, "dropout would be captured"


def test_memory_is_what_the_slots_need_and_is_kept():
    ours = make(True, True, "always")
    ask(ours, 1, ["chair", "cup", "ball"])
    language = ours.profile.language
    row = 2 * language.layers * language.hidden_size * 4
    held = ours.steps.bytes
    assert held % (4 * SLOT_STEP * row) == 0
    assert held <= 4 * language.max_positions * row
    keys = ours.steps._keys[0].data_ptr()
    ask(ours, 2, ["chair", "cup"])
    assert (ours.steps.bytes, ours.steps._keys[0].data_ptr()) == (held, keys)


@pytest.mark.parametrize("full", ["announced", "sudden"])
def test_no_room_for_the_slots(monkeypatch, full):
    def out_of_memory(*_: object) -> None:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    ours, plain = make(True, True, "always"), make(True, True, "off")
    if full == "announced":
        monkeypatch.setattr(static_step, "_available", lambda device: 1000)
    else:
        monkeypatch.setattr(torch.Tensor, "new_zeros", out_of_memory)
    found = ask(ours, 1, ["chair", "cup"])
    monkeypatch.undo()
    assert_same(found, ask(plain, 1, ["chair", "cup"]))
    assert ours.steps.bytes == 0


def test_off_and_auto_leave_a_cpu_alone():
    for mode in ("off", "auto"):
        reasoner = make(True, True, mode)
        ask(reasoner, 1, ["chair"])
        assert reasoner.steps.bytes == 0


def test_copy_has_slots_of_its_own():
    ours = make(True, True, "always")
    ask(ours, 1, ["chair"])
    twin = copy.deepcopy(ours)
    assert twin.steps.mode == "always"
    assert twin.steps.bytes == 0
    assert_same(ask(twin, 1, ["chair"]), ask(ours, 1, ["chair"]))


def test_answer_that_fills_the_model():
    """A budget beyond the model's positions: both ways stop at the same token."""
    found = []
    for mode in ("always", "off"):
        reasoner = make(False, False, mode)
        generation = dataclasses.replace(reasoner.profile.generation, max_new_tokens=1000)
        reasoner.profile = dataclasses.replace(reasoner.profile, generation=generation)
        prefix = reasoner.encode_image(picture(5))
        room = reasoner.profile.language.max_positions - prefix.length
        found.append(reasoner.continue_ids(prefix, [[400] * (room - 6), [401] * (room - 9)]))
    assert [row.ids for row in found[0]] == [row.ids for row in found[1]]
    assert max(len(row.ids) for row in found[0]) <= 10


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_captured_on_the_device():
    ours, plain = (make(True, True, mode).cuda() for mode in ("auto", "off"))
    for count in (1, 3, 8):
        for seed in (1, 2):
            assert_same(ask(ours, seed, list(LABELS[:count])), ask(plain, seed, list(LABELS[:count])))
    assert ours.steps.graphs, "nothing failed"
    assert ours.steps.replays > 0
