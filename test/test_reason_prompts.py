"""Questions name the object once and ask for one side each."""

from __future__ import annotations

import pytest

from ivlm_core import ConfigError
from ivlm_core.bodies import PART_NAMES
from ivlm_core.reason import affordance_in, contact_questions


@pytest.mark.parametrize("reasoning", ["parts", "direct"])
def test_one_question_a_side(reasoning):
    human, thing = contact_questions("tennis racket", PART_NAMES, reasoning)
    assert (human.side, thing.side) == ("human", "object")
    assert human.text.count("tennis racket") == thing.text.count("tennis racket") == 1


def test_unknown_reasoning():
    with pytest.raises(ConfigError, match="choose 'parts' or 'direct'"):
        contact_questions("chair", PART_NAMES, "slow")


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("The affordance type is sit, and the contact region is <OCON>", "sit"),
        ("The affordance type is frobnicate, and the contact region is <OCON>", ""),
        ("It is <OCON>", ""),
        ("", ""),
    ],
)
def test_affordance_is_read_from_the_answer(answer, expected):
    assert affordance_in(answer) == expected
