"""From a detector's word to a library's label, and how sure that is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ivlm_core.objects import library_labels, match_label
from ivlm_core.objects.labels import _edits

BUILTIN = library_labels()


@pytest.mark.parametrize(
    ("word", "label", "how"),
    [
        ("chair", "chair", "exact"),
        ("Chairs", "chair", "exact"),
        ("the tennis_racket", "tennis racket", "exact"),
        ("sofa", "couch", "synonym"),
        ("office chair", "chair", "synonym"),
        ("wine bottle", "bottle", "synonym"),
        ("bycicle", "bicycle", "nearest label"),
        ("sutcase", "suitcase", "nearest label"),
        ("gaming keybord", "keyboard", "nearest label"),
        ("matress", "bed", "nearest label"),
        ("wheelchair", "chair", "nearest label"),
        ("footstool", "chair", "nearest label"),
    ],
)
def test_words_and_how_they_are_understood(word: str, label: str, how: str) -> None:
    found = match_label(word, BUILTIN)
    assert found is not None
    assert (found.label, found.how) == (label, how)
    assert (found.similarity == 1.0) == (how != "nearest label")


# COCO's categories that no shape fits, and words that are one or two letters from one that does.
@pytest.mark.parametrize(
    "word",
    """person car airplane bus train truck boat|traffic light|fire hydrant|stop sign|parking meter|bird|cat|dog|horse
    |sheep|cow|elephant|bear|zebra|giraffe|tie|skis|kite|baseball glove|wine glass|fork|knife|spoon|bowl|banana|apple
    |sandwich|orange|broccoli|carrot|hot dog|pizza|donut|cake|potted plant|toilet|tv|mouse|remote|microwave|oven|toaster
    |sink|refrigerator|clock|vase|scissors|teddy bear|hair drier|toothbrush|boot|cable|chain|coach|beach|cap|bell
    |space suit|tablecloth|chairman|combat|bottle cap|bath tub||!?|椅子""".replace("\n", "").split("|"),
)
def test_other_things_are_not_understood(word: str) -> None:
    assert match_label(word.strip(), BUILTIN) is None


def test_labels_of_a_users_library_are_understood_alike() -> None:
    labels = ("electric guitars", "sofa", "mug")
    told = {
        word: match_label(word, labels) for word in ("guitar", "Electric Guitar", "couch", "settee", "cup", "chair")
    }
    assert [(found.label, found.how) if found else None for found in told.values()] == [
        None,
        ("electric guitars", "exact"),
        ("sofa", "synonym"),
        ("sofa", "synonym"),
        ("mug", "synonym"),
        None,
    ]


def test_an_empty_library_knows_nothing() -> None:
    assert match_label("chair", ()) is None


class _Meanings:
    """Texts as vectors: seats point one way, everything else its own."""

    reads_text = True

    def of_texts(self, texts: Sequence[str]) -> np.ndarray:
        seats = ("chair", "throne")
        vectors = np.random.default_rng(0).normal(size=(len(texts), 64))
        for row, text in enumerate(texts):
            if text.endswith(seats):
                vectors[row] = 1 + 0.1 * row
                vectors[row, 0] += row
        return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def test_meaning_finds_what_spelling_cannot() -> None:
    assert match_label("throne", BUILTIN) is None
    found = match_label("throne", BUILTIN, _Meanings())
    assert found is not None
    assert (found.label, found.how) == ("chair", "nearest label")
    assert 0.85 <= found.similarity <= 1
    assert match_label("volcano", BUILTIN, _Meanings()) is None


@given(st.text(max_size=64))
def test_any_word_is_answered(word: str) -> None:
    found = match_label(word, BUILTIN)
    assert found is None or found.label in BUILTIN


@pytest.mark.parametrize(
    ("first", "second", "edits"),
    [("", "", 0), ("a", "", 1), ("ab", "ba", 1), ("bycicle", "bicycle", 2), ("kitten", "sitting", 3), ("abc", "ca", 3)],
)
def test_edits(first: str, second: str, edits: int) -> None:
    assert _edits(first, second) == _edits(second, first) == edits


@given(st.text("abc", max_size=6), st.text("abc", max_size=6))
def test_edits_are_a_distance(first: str, second: str) -> None:
    assert _edits(first, second) == _edits(second, first)
    assert abs(len(first) - len(second)) <= _edits(first, second) <= max(len(first), len(second))
    assert (_edits(first, second) == 0) == (first == second)
