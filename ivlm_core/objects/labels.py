"""Which of a library's labels a detector's word means, and how sure that is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, Protocol

import numpy as np

from ivlm_core.objects.library import SYNONYMS, canonical_label, spoken_names
from ivlm_core.types import FloatArray

How = Literal["exact", "synonym", "nearest label"]

# Spelling: below six letters one wrong letter makes another word (book, boot; table, cable).
SHORTEST_MISSPELT = 6
LEAST_SPELLING = 0.7
# A compound's last part names the thing: a footstool is a stool; shorter endings are chance (combat is no bat).
SHORTEST_HEAD = 4
LEAST_COSINE = 0.85


class TextEmbedder(Protocol):
    """What turns texts into unit vectors whose cosine says how alike their meanings are."""

    @property
    def reads_text(self) -> bool:
        """Whether it can: a CLIP model without its tokenizer's files cannot."""
        ...

    def of_texts(self, texts: Sequence[str]) -> FloatArray:
        """(n, D) float32 unit rows."""
        ...


@dataclass(frozen=True)
class LabelMatch:
    """A library's label for a word.

    Attributes
    ----------
    how : `exact` (the same word, whatever its case, plural or article), `synonym` (another name of it, or a kind of
        it: an office chair), or `nearest label` (a guess by spelling or by meaning).
    similarity : 1, or that of the guess.
    """

    label: str
    how: How
    similarity: float = 1.0


def text_embedder(embedder: Any) -> TextEmbedder | None:
    """The embedder itself where it reads text, else None."""
    return embedder if getattr(embedder, "reads_text", False) else None


def match_label(label: str, labels: Sequence[str], text: TextEmbedder | None = None) -> LabelMatch | None:
    """The label of `labels` that a word means, or None where none is near.

    Parameters
    ----------
    label : what a detector calls the object. labels : those of a library.
    text : where given, an unknown word goes to the label of the nearest meaning, else to the nearest spelling.
    """
    known = known_label(label, tuple(labels))
    if known is not None or not labels:
        return known
    return _by_meaning(label, labels, text) if text is not None else _by_spelling(label, tuple(labels))


@lru_cache(maxsize=1024)
def known_label(label: str, labels: tuple[str, ...]) -> LabelMatch | None:
    """The label that a word is, or is another name of; None for unknown words."""
    names = _names(labels)
    for name in spoken_names(label, whole=True):
        if name in names:
            return LabelMatch(names[name], "exact")
    for name in spoken_names(label):
        if name in names:
            return LabelMatch(names[name], "synonym")
    meant = canonical_label(label)
    if meant is not None:
        for other in labels:
            if canonical_label(other) == meant:
                return LabelMatch(other, "synonym")
    return None


@lru_cache(maxsize=1024)
def _by_spelling(label: str, labels: tuple[str, ...]) -> LabelMatch | None:
    names = dict(_names(labels))
    for synonym, meant in SYNONYMS.items():
        if meant in names:
            names.setdefault(synonym, names[meant])
    best: tuple[float, str] | None = None
    for word in spoken_names(label):
        for name, meant in names.items():
            likeness = _spelling(word, name)
            if likeness >= LEAST_SPELLING and (best is None or likeness > best[0]):
                best = likeness, meant
    return None if best is None else LabelMatch(best[1], "nearest label", best[0])


def _by_meaning(label: str, labels: Sequence[str], text: TextEmbedder) -> LabelMatch | None:
    vectors = text.of_texts([f"a photo of a {name}" for name in (label, *labels)])
    cosines = vectors[1:] @ vectors[0]
    best = int(np.argmax(cosines))
    if cosines[best] < LEAST_COSINE:
        return None
    return LabelMatch(labels[best], "nearest label", float(cosines[best]))


@lru_cache(maxsize=64)
def _names(labels: tuple[str, ...]) -> dict[str, str]:
    """Every spoken form of each label → the label; where two share one, the first has it."""
    names: dict[str, str] = {}
    for label in labels:
        for name in spoken_names(label, whole=True):
            names.setdefault(name, label)
    return names


def _spelling(word: str, name: str) -> float:
    """1 for the same letters, 0 for nothing in common; compounds that end in the name are near it."""
    if len(name) >= SHORTEST_HEAD and len(word) >= len(name) + 3 and word.endswith(name) and " " not in word:
        return 0.9
    longest = max(len(word), len(name))
    possible = 1 - abs(len(word) - len(name)) / longest
    if longest < SHORTEST_MISSPELT or word[:1] != name[:1] or possible < LEAST_SPELLING:
        return 0.0
    return 1 - _edits(word, name) / longest


def _edits(first: str, second: str) -> int:
    """Letters to add, drop, change or swap with their neighbour until the words are the same."""
    before: list[int] = []
    row = list(range(len(second) + 1))
    for i, letter in enumerate(first, start=1):
        last, before, row = before, row, [i]
        for j, other in enumerate(second, start=1):
            cost = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (letter != other))
            if i > 1 and j > 1 and letter == second[j - 2] and first[i - 2] == other:
                cost = min(cost, last[j - 2] + 1)
            row.append(cost)
    return row[-1]
