"""Text on pictures: any Unicode, any place, any width."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ivlm_core.draw import text
from ivlm_core.draw.text import clean, line_height, put_text, text_width, wrap


def _white(height: int = 40, width: int = 200) -> np.ndarray:
    return np.full((height, width, 3), 255, dtype=np.uint8)


@settings(deadline=None, max_examples=60)
@given(st.text(max_size=40), st.integers(-300, 300), st.integers(-60, 60), st.booleans(), st.booleans())
def test_any_text_at_any_place(words: str, left: int, top: int, bold: bool, right: bool) -> None:
    canvas = _white()
    width = put_text(canvas, words, left, top, 14, (0, 0, 0), bold, right)
    assert width == text_width(words, 14, bold)


def test_text_stays_in_its_line() -> None:
    canvas = _white()
    put_text(canvas, "Äg|jÉy", 10, 8, 16, (0, 0, 0))
    dark = np.argwhere(canvas.min(axis=2) < 128)
    assert dark[:, 0].min() >= 8
    assert dark[:, 0].max() < 8 + line_height(16)
    assert dark[:, 1].min() >= 10


def test_clipped_text_is_the_middle_of_the_whole() -> None:
    large = _white(80, 400)
    put_text(large, "clipped words", 100, 30, 16, (0, 0, 0))
    small = _white(20, 60)
    put_text(small, "clipped words", -20, -5, 16, (0, 0, 0))
    np.testing.assert_array_equal(small, large[35:55, 120:180])


def test_right_alignment_ends_at_the_edge() -> None:
    canvas = _white()
    put_text(canvas, "0.97", 150, 5, 14, (0, 0, 0), right=True)
    columns = np.flatnonzero(canvas.min(axis=(0, 2)) < 128)
    assert 140 < columns.max() < 150


def test_color_is_the_one_asked_for() -> None:
    canvas = _white()
    put_text(canvas, "MMM", 5, 5, 30, (10, 200, 30), bold=True)
    assert (canvas == (10, 200, 30)).all(axis=2).sum() > 50


def test_accents_and_unknown_letters_without_system_fonts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text, "_SYSTEM_FONTS", ())
    assert text._fitting_font("Rücken – 椅", 14)[0] == "Rucken - ?"


@settings(deadline=None)
@given(st.text(max_size=120), st.integers(40, 300), st.integers(1, 4))
def test_wrapped_lines_fit(words: str, width: int, lines: int) -> None:
    wrapped = wrap(words, 13, width, lines)
    assert len(wrapped) <= lines
    assert all(text_width(line, 13) <= width for line in wrapped)


@given(st.lists(st.sampled_from(["left", "hand", "and", "hips", "touch"]), min_size=1, max_size=8))
def test_wrapping_loses_no_word_where_there_is_room(words: list[str]) -> None:
    assert " ".join(wrap(" ".join(words), 13, 90, 10)).split() == words


def test_cut_text_says_so() -> None:
    assert wrap("one two three four five six seven", 13, 60, 2)[-1].endswith("...")
    assert wrap("x" * 500, 13, 60, 3)[0].endswith("...")


def test_control_characters_become_spaces() -> None:
    assert clean("a\nb\t\x00c\u202ed\u2028e") == "a b c d e"
    assert len(clean("x" * 10_000)) < 500
