"""Names of pairs: as short as they can be, and never twice."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ivlm_core.view.moments import Pair, pair_titles

WORDS = st.sampled_from(["", "a", "b", "a [b]", "a · person b"])


@given(st.lists(st.builds(Pair, WORDS, WORDS, WORDS, WORDS, st.integers(0, 2)), unique=True, max_size=12))
def test_every_pair_has_a_name_of_its_own(pairs: list[Pair]) -> None:
    titles = pair_titles(pairs)
    assert list(titles.values()) == pairs
    assert all(titles)


def test_names_say_no_more_than_they_must() -> None:
    def titles(*pairs: tuple[str, str, str, str]) -> list[str]:
        return list(pair_titles([Pair(*pair) for pair in pairs]))

    assert titles(("cam", "cup", "cup_0", "")) == ["cup"]
    assert titles(("cam", "cup", "1", ""), ("cam", "cup", "2", "")) == ["cup [1]", "cup [2]"]
    assert titles(("cam", "cup", "1", "p"), ("cam", "cup", "1", "q")) == ["cup · person p", "cup · person q"]
    assert titles(("one", "cup", "1", ""), ("two", "cup", "1", "")) == ["one · cup", "two · cup"]
    assert titles(("cam", "cup", "1", ""), ("cam", "box", "1", "")) == ["cup", "box"]
