"""Greedy decoding of many answers at once, with guesses that are verified instead of trusted.

Each pass reads, for every row, the tokens that are settled and behind them a guess of what comes next (the answer's
template, or what the same question was answered last time). The model's own choice at each guessed place decides: the
guess is kept as far as it is what plain greedy decoding would have written, and the rest is masked out of the cache.
What is written is therefore the same, token for token, with any guess or none; only the number of passes changes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ivlm_core.reason.guide import AnswerGuide

# (K, T) ids, (K, past + T) mask, (K, T) positions → (K, T, D) states; the cache behind it grows by T.
Step = Callable[[Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Continuation:
    """What the model wrote behind one prompt.

    Attributes
    ----------
    ids : the tokens it took, the contact token included, the end token not.
    state : (D,) the hidden state that predicted the contact token; None when it wrote none.
    branch : the side whose contact token it was: `human`, `object` or `general`.
    confidence : geometric mean of the probabilities the model gave to the tokens it chose.
    """

    ids: list[int]
    state: Tensor | None
    branch: str
    confidence: float


@dataclass(frozen=True)
class Guess:
    """What an answer will probably say.

    Attributes
    ----------
    answer : its first tokens, as far as they can be guessed before anything is written.
    closing : how it ends; guessed again as soon as its first `trigger` tokens were written.
    trigger : how many tokens of `closing` give it away.
    """

    answer: tuple[int, ...] = ()
    closing: tuple[int, ...] = ()
    trigger: int = 2


@dataclass(frozen=True)
class Offer:
    """What the model offers at one place.

    Attributes
    ----------
    best : the likeliest token.
    log_probability : of `best`.
    known : token → log-probability, of every token that a guide may choose.
    """

    best: int
    log_probability: float
    known: Mapping[int, float]


class Row:
    """One answer while it is decoded.

    Parameters
    ----------
    prompt : ids that the model must read first.
    contact_ids : side → contact token; any of them ends the answer.
    end_id : the end token.
    limit : most tokens to write.
    guide : restricts the choice to well-formed answers; None for free decoding.
    guess : see `Guess`.
    """

    def __init__(
        self,
        prompt: Sequence[int],
        contact_ids: Mapping[str, int],
        end_id: int,
        limit: int,
        guide: AnswerGuide | None = None,
        guess: Guess | None = None,
    ) -> None:
        self._contact_ids = contact_ids
        self._end_id = end_id
        self._limit = limit
        self._guide = guide
        self._guess = guess or Guess()
        self._written: list[int] = []
        self._log_probabilities: list[float] = []
        self._state: Tensor | None = None
        self.ended = False
        self.settled = list(prompt)
        self.guessed = list(self._guess.answer)

    @property
    def choices(self) -> frozenset[int]:
        """The tokens that the guide may ever choose; none without a guide."""
        return self._guide.vocabulary if self._guide is not None else frozenset()

    @property
    def ahead(self) -> list[int]:
        """What the model reads next: settled tokens, then guessed ones."""
        return self.settled + self.guessed

    def fit(self, room: int) -> None:
        """Leave out guesses behind the last token that may be written, or that do not fit into `room` positions."""
        room = min(room - len(self.settled), self._limit - len(self._written) - 1)
        if room < len(self.guessed):
            self.guessed = self.guessed[: max(0, room)]

    def advance(self, offers: Sequence[Offer], states: Tensor) -> int:
        """Choose at the last settled and at each guessed place, as far as the guess holds.

        Parameters
        ----------
        offers : G + 1, what the model offers behind the last settled and each of the G guessed tokens.
        states : (G + 1, D) the hidden states that predict them.

        Returns
        -------
        how many guessed tokens were right.
        """
        right = 0
        for place in range(len(self.guessed) + 1):
            token = self._choose(offers[place], states[place])
            if self.ended or place == len(self.guessed) or token != self.guessed[place]:
                break
            right += 1
        self.settled = [self._end_id] if self.ended else [token]
        self.guessed = [] if self.ended else self._next_guess(right)
        return right

    def stop(self) -> None:
        """End the answer where it is, without a contact token."""
        self.ended, self.settled, self.guessed = True, [self._end_id], []

    def result(self) -> Continuation:
        """What was written."""
        mean = sum(self._log_probabilities) / max(1, len(self._log_probabilities))
        # Where two sides share one token the human side is meant, as in the released model.
        sides = [side for side, token in self._contact_ids.items() if token in self._written[-1:]]
        return Continuation(self._written, self._state, sides[0] if sides else "general", math.exp(mean))

    def _choose(self, offer: Offer, state: Tensor) -> int:
        if self._guide is None:
            token, log_probability, free = offer.best, offer.log_probability, True
        else:
            allowed = sorted(self._guide.allowed())
            token = max(allowed, key=offer.known.__getitem__)
            log_probability, free = offer.known[token], len(allowed) > 1
            self._guide.feed(token)
        contact = token in self._contact_ids.values()
        if free or contact:
            self._log_probabilities.append(log_probability)
        if contact:
            self._state = state
        if token != self._end_id:
            self._written.append(token)
        self.ended = contact or token == self._end_id or len(self._written) >= self._limit
        return token

    def _next_guess(self, right: int) -> list[int]:
        """The rest of the guessed answer, the closing, or what the guide leaves no choice about."""
        if self._guide is not None and (forced := self._guide.forced()):
            return forced
        written, answer = len(self._written), self._guess.answer
        if right == len(self.guessed) and written < len(answer) and list(answer[:written]) == self._written:
            return list(answer[written:])
        trigger = list(self._guess.closing[: self._guess.trigger])
        if trigger and self._written[-len(trigger) :] == trigger:
            return list(self._guess.closing[len(trigger) :])
        return []


def decode(
    step: Step, head: Callable[[Tensor], Tensor], rows: Sequence[Row], past: int, most: int, device: torch.device
) -> int:
    """Decode all rows to their ends.

    Parameters
    ----------
    step : runs the language model on the next tokens of all rows.
    head : states → logits over the vocabulary.
    past : tokens already in the cache of every row.
    most : positions that the model has; a row that would need more is stopped.

    Returns
    -------
    how many passes it took.
    """
    mask = torch.ones(len(rows), past, dtype=torch.long, device=device)
    used = [past] * len(rows)
    choices = sorted(frozenset().union(*(row.choices for row in rows)))
    columns = torch.tensor(choices, dtype=torch.long, device=device)
    passes = 0
    while not all(row.ended for row in rows):
        for row, length in zip(rows, used, strict=True):
            if length + len(row.settled) > most:
                row.stop()
            row.fit(most - length)
        ids, fresh, positions = _chunk([row.ahead for row in rows], used, device)
        fresh[[index for index, row in enumerate(rows) if row.ended]] = 0
        mask = torch.cat([mask, fresh], dim=1)
        deepest = max(len(row.guessed) for row in rows) + 1
        states = step(ids, mask, positions)[:, -deepest:]  # (K, G + 1, D)
        offers = _offers(head(states).float().log_softmax(-1), choices, columns)
        passes += 1
        for index, row in enumerate(rows):
            if row.ended:
                continue
            settled, guessed = len(row.settled), len(row.guessed)
            right = row.advance(offers[index][-guessed - 1 :], states[index, -guessed - 1 :])
            if right < guessed:
                mask[index, mask.shape[1] - (guessed - right) :] = 0
            used[index] += settled + right
    return passes


def _offers(log_probabilities: Tensor, choices: Sequence[int], columns: Tensor) -> list[list[Offer]]:
    """K rows of G + 1 offers from (K, G + 1, vocabulary), fetched from the device at once and not number by number.

    Parameters
    ----------
    choices, columns : the tokens that guides may choose, as a list and as a tensor on the device.
    """
    best = log_probabilities.argmax(-1, keepdim=True)  # (K, G + 1, 1)
    wanted = torch.cat([log_probabilities.gather(-1, best), log_probabilities[..., columns]], dim=-1)
    return [
        [
            Offer(token, values[0], dict(zip(choices, values[1:], strict=True)))
            for (token,), values in zip(tokens, row, strict=True)
        ]
        for tokens, row in zip(best.tolist(), wanted.tolist(), strict=True)
    ]


def _chunk(
    sequences: Sequence[Sequence[int]], used: Sequence[int], device: torch.device
) -> tuple[Tensor, Tensor, Tensor]:
    """(K, T) ids, mask and positions of sequences of unequal length, padded in front."""
    width = max(len(sequence) for sequence in sequences)
    padding = torch.tensor([[width - len(sequence)] for sequence in sequences])
    ids = torch.tensor([[0] * (width - len(sequence)) + list(sequence) for sequence in sequences])
    offsets = torch.arange(width)[None] - padding
    positions = torch.tensor(used)[:, None] + offsets.clamp(min=0)
    return ids.to(device), (offsets >= 0).long().to(device), positions.to(device)
