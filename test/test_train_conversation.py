"""Facts become exchanges: the answer's words, what they count, and what they never give away."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ivlm_core.bodies import PART_NAMES, AnnyRig
from ivlm_core.reason import AFFORDANCES, ContactTokenizer
from ivlm_core.train.conversation import (
    NO_CONTACT,
    Conversation,
    ConversationStyle,
    Fact,
    affordance_of,
    parts_in_contact,
    swap_side,
)

PLAIN = ConversationStyle(direct=0, paraphrase=0, part_dropout=0)


@pytest.fixture(scope="module")
def tokenizer() -> ContactTokenizer:
    return ContactTokenizer()


def _answer(tokenizer: ContactTokenizer, style: ConversationStyle, fact: Fact, side: str, seed: int = 0) -> str:
    item = Conversation(tokenizer, style).exchange(fact, side, np.random.default_rng(seed))
    return tokenizer.decode(list(item.ids)).split("ASSISTANT:")[1].strip()


def test_answers_name_parts_and_affordance(tokenizer: ContactTokenizer) -> None:
    fact = Fact("chair", ("hips", "left thigh"), "sit")
    assert _answer(tokenizer, PLAIN, fact, "human") == (
        "The contacting body parts are hips, left thigh, and the contact region is <HCON>"
    )
    assert _answer(tokenizer, PLAIN, fact, "object") == "The affordance type is sit, and the contact region is <OCON>"


@pytest.mark.parametrize("side", ["human", "object"])
def test_an_untouched_object_is_answered_without_a_contact_token(tokenizer: ContactTokenizer, side: str) -> None:
    item = Conversation(tokenizer, PLAIN).exchange(Fact("cup", (), "grasp"), side, np.random.default_rng(0))
    assert item.state == -1
    assert item.ids[-1] == tokenizer.eos
    assert not set(item.ids) & set(tokenizer.contact.values())
    assert NO_CONTACT in tokenizer.decode(list(item.ids))


@settings(deadline=None, max_examples=40)
@given(parts=st.sets(st.sampled_from(PART_NAMES), min_size=1), seed=st.integers(0, 10**6))
def test_the_contact_state_stands_right_before_the_contact_token(parts: set[str], seed: int) -> None:
    tokenizer = ContactTokenizer()
    fact = Fact("chair", tuple(name for name in PART_NAMES if name in parts), "sit")
    item = Conversation(tokenizer).exchange(fact, "human", np.random.default_rng(seed))
    assert item.ids[item.state + 1] == tokenizer.contact["human"]
    assert item.ids.index(tokenizer.contact["human"]) == len(item.ids) - 1
    assert item.weights[-1] > 0
    assert len(item.weights) == len(item.ids)


def test_of_wrong_parts_only_the_right_first_word_is_learned(tokenizer: ContactTokenizer) -> None:
    style = ConversationStyle(direct=0, paraphrase=0, part_dropout=1, name_dropout=0)
    fact = Fact("bottle", ("left forearm", "left hand"), "grasp")
    item = Conversation(tokenizer, style).exchange(fact, "human", np.random.default_rng(0))
    assert "right forearm, right hand," in tokenizer.decode(list(item.ids))
    learned = [token for token, weight in zip(item.targets, item.weights, strict=True) if weight == 1]
    assert learned == [tokenizer.encode(" left")[0]]
    different = [place for place in range(len(item.ids)) if item.ids[place] != item.targets[place]]
    assert [item.targets[place] for place in different] == learned


def test_parts_that_are_their_own_mirror_image_stay_learned(tokenizer: ContactTokenizer) -> None:
    style = ConversationStyle(direct=0, paraphrase=0, part_dropout=1, name_dropout=0)
    fact = Fact("chair", ("hips", "left thigh", "right thigh"), "sit")
    item = Conversation(tokenizer, style).exchange(fact, "human", np.random.default_rng(0))
    assert item.ids == item.targets
    assert (item.weights == 1).sum() > 6


def test_mirrored_facts_exchange_sides() -> None:
    fact = Fact("bottle", ("torso", "left hand"), "grasp").mirrored()
    assert fact.parts == ("torso", "right hand")
    assert [swap_side(swap_side(name)) for name in PART_NAMES] == list(PART_NAMES)


def test_parts_need_a_tenth_of_their_vertices_or_of_the_contact() -> None:
    labels = AnnyRig.load().part_labels
    contact = labels == PART_NAMES.index("left hand")
    contact[np.flatnonzero(labels == PART_NAMES.index("head"))[:20]] = True
    assert parts_in_contact(contact, labels) == ("left hand",)
    assert parts_in_contact(np.zeros_like(contact), labels) == ()


def test_affordances_are_known_types() -> None:
    assert affordance_of("chair", "sit, left hand on the seat") == "sit"
    assert affordance_of("bed", "lie on the back") == "lay"
    assert affordance_of("skateboard", "both feet") == "ride"
    assert affordance_of("skateboard", "left hand") == "carry"
    assert affordance_of("surfboard", "under left arm") == "carry"
    assert affordance_of("sports ball", "left foot") == "play"
    assert affordance_of("cell phone", "left ear") == "listen"
    for label in ("chair", "vase", "handbag"):
        assert affordance_of(label, "") in AFFORDANCES


def test_ablations_change_the_question(tokenizer: ContactTokenizer) -> None:
    fact = Fact("chair", ("hips",), "sit")
    assert _answer(tokenizer, ConversationStyle(name_parts=False), fact, "human") == "It is <HCON>"
    item = Conversation(tokenizer, ConversationStyle(name_object=False)).exchange(
        fact, "human", np.random.default_rng(0)
    )
    assert "chair" not in tokenizer.decode(list(item.ids))
