"""Guided answers always have the form that was asked for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ivlm_core.bodies import PART_NAMES
from ivlm_core.reason.guide import AnswerGuide
from ivlm_core.reason.prompts import AFFORDANCES, AnswerForm, contact_questions
from ivlm_core.reason.tokenizer import ContactTokenizer

TOKENIZER = ContactTokenizer()
HUMAN, OBJECT = contact_questions("chair", PART_NAMES)


def walk(form: AnswerForm, contact: int, pick) -> str:
    guide = AnswerGuide(form, TOKENIZER, contact)
    taken: list[int] = []
    while allowed := sorted(guide.allowed()):
        taken.append(allowed[pick(len(allowed))])
        guide.feed(taken[-1])
        assert len(taken) < 200
    return TOKENIZER.decode(TOKENIZER.encode(" " + form.opening) + taken)


@given(st.data())
def test_every_walk_is_a_list_of_different_parts(data):
    contact = TOKENIZER.contact["human"]
    text = walk(HUMAN.form, contact, lambda count: data.draw(st.integers(0, count - 1)))
    opening, closing = " The contacting body parts are ", ", and the contact region is <HCON>"
    assert text.startswith(opening)
    assert text.endswith(closing)
    parts = text[len(opening) : -len(closing)].split(", ")
    assert set(parts) <= set(PART_NAMES)
    assert len(set(parts)) == len(parts)


@pytest.mark.parametrize("affordance", AFFORDANCES)
def test_every_affordance_can_be_answered_once(affordance):
    target = [*TOKENIZER.encode(f" {affordance}, and the contact region is"), TOKENIZER.contact["object"]]
    guide = AnswerGuide(OBJECT.form, TOKENIZER, TOKENIZER.contact["object"])
    for token in target:
        assert token in guide.allowed()
        guide.feed(token)
    assert guide.allowed() == set()


def test_spelling_in_pieces_is_spelling_as_a_whole():
    whole = " left hand, right upper arm, and the contact region is"
    pieces = [" left hand", ",", " right upper arm", ", and the contact region is"]
    assert TOKENIZER.encode(whole) == [token for piece in pieces for token in TOKENIZER.encode(piece)]


@given(st.data())
def test_forced_tokens_are_the_only_way_on(data):
    guide = AnswerGuide(HUMAN.form, TOKENIZER, TOKENIZER.contact["human"])
    while guide.allowed():
        forced = guide.forced()
        for token in forced:
            assert guide.allowed() == {token}
            guide.feed(token)
        if not (allowed := sorted(guide.allowed())):
            break
        assert len(allowed) > 1
        guide.feed(data.draw(st.sampled_from(allowed)))


def test_direct_answer_leaves_no_choice():
    human, _ = contact_questions("chair", PART_NAMES, "direct")
    assert AnswerGuide(human.form, TOKENIZER, 5).allowed() == {5}


def test_token_that_does_not_continue_the_answer():
    with pytest.raises(ValueError, match="does not continue"):
        AnswerGuide(HUMAN.form, TOKENIZER, TOKENIZER.contact["human"]).feed(TOKENIZER.eos)
