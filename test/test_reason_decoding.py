"""Verified guesses never change what is written, on a model whose every answer is known."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ivlm_core.reason.decoding import Guess, Row, decode

VOCABULARY, CONTACT, END = 12, 10, 11


class Chain:
    """A model that follows each token by a fixed other one, and checks what it is asked to read."""

    def __init__(self, follows: list[int]) -> None:
        self.logits = torch.full((VOCABULARY, VOCABULARY), -5.0)
        self.logits[torch.arange(VOCABULARY), torch.tensor(follows)] = 5.0

    def step(self, ids: torch.Tensor, mask: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        assert mask.shape[1] >= ids.shape[1]
        read = mask[:, -ids.shape[1] :] == 1
        # What a row reads lies at consecutive positions behind what it has settled.
        for row in range(len(ids)):
            places = positions[row][read[row]]
            if len(places) == 0:
                continue
            assert (places.diff() == 1).all()
            assert int(places[0]) == int(mask[row, : -ids.shape[1]].sum())
        return torch.nn.functional.one_hot(ids, VOCABULARY).float()

    def head(self, states: torch.Tensor) -> torch.Tensor:
        return states @ self.logits

    def expected(self, start: int, limit: int) -> list[int]:
        written, token = [], start
        while len(written) < limit:
            token = int(self.logits[token].argmax())
            if token == END:
                break
            written.append(token)
            if token == CONTACT:
                break
        return written


tokens = st.integers(0, VOCABULARY - 1)
words = st.integers(0, CONTACT - 1)


@given(
    follows=st.lists(tokens, min_size=VOCABULARY, max_size=VOCABULARY),
    starts=st.lists(words, min_size=1, max_size=4),
    guesses=st.lists(st.lists(tokens, max_size=8), min_size=4, max_size=4),
    closing=st.lists(tokens, max_size=5),
    prompts=st.lists(st.integers(1, 6), min_size=4, max_size=4),
)
def test_any_guess_writes_what_greedy_decoding_writes(follows, starts, guesses, closing, prompts):
    chain, limit = Chain(follows), 9
    rows = [
        Row(
            [0] * (length - 1) + [start],
            {"human": CONTACT},
            END,
            limit,
            guess=Guess(tuple(guess), tuple(closing)),
        )
        for start, guess, length in zip(starts, guesses, prompts, strict=False)
    ]
    passes = decode(chain.step, chain.head, rows, 5, 100, torch.device("cpu"))
    for row, start in zip(rows, starts, strict=True):
        found = row.result()
        assert found.ids == chain.expected(start, limit)
        assert (found.state is not None) == (found.ids[-1:] == [CONTACT])
        if found.state is not None:
            before = [start, *found.ids][-2]
            assert int(found.state.argmax()) == before, "the state is the one that predicts the contact token"
    assert passes <= limit + 1


def test_right_guess_costs_one_pass():
    chain = Chain([1, 2, 3, 4, 5, CONTACT, 0, 0, 0, 0, 0, 0])
    row = Row([0], {"human": CONTACT}, END, 20, guess=Guess((1, 2, 3, 4, 5, CONTACT)))
    assert decode(chain.step, chain.head, [row], 3, 100, torch.device("cpu")) == 1
    assert row.result().ids == [1, 2, 3, 4, 5, CONTACT]


def test_closing_is_guessed_from_its_first_tokens():
    chain = Chain([1, 2, 3, 4, 5, CONTACT, 0, 0, 0, 0, 0, 0])
    row = Row([0], {"human": CONTACT}, END, 20, guess=Guess((), (1, 2, 3, 4, 5, CONTACT)))
    assert decode(chain.step, chain.head, [row], 3, 100, torch.device("cpu")) == 3


def test_answer_longer_than_the_model_is_stopped():
    chain = Chain([0] * VOCABULARY)
    row = Row([0], {"human": CONTACT}, END, 1000)
    decode(chain.step, chain.head, [row], 3, 20, torch.device("cpu"))
    assert row.result().state is None
    assert len(row.result().ids) <= 20


@pytest.mark.parametrize(("token", "branch"), [(10, "human"), (9, "object"), (8, "general")])
def test_branch_is_the_side_of_the_token(token, branch):
    chain = Chain([token] + [0] * (VOCABULARY - 1))
    row = Row([0], {"human": 10, "object": 9, "general": 8}, END, 5)
    decode(chain.step, chain.head, [row], 1, 50, torch.device("cpu"))
    assert row.result().branch == branch
