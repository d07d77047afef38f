"""Which contact and which affordance are about the same object."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ivlm_core.draw.answers import answers, spoken
from ivlm_core.types import FrameResult, HumanContact, Mesh, ObjectAffordance, Unanswered, ViewPack

MESH = Mesh(np.eye(3, dtype=np.float32), np.array([[0, 1, 2]], dtype=np.int32))
VALUES = np.zeros(3, dtype=np.float32)
EMPTY = np.zeros((0,), dtype=np.float32)
PACK = ViewPack(MESH, (), EMPTY, EMPTY, EMPTY, EMPTY, EMPTY, EMPTY, EMPTY)  # type: ignore[arg-type]


def contact(label: str, ident: str = "") -> HumanContact:
    return HumanContact(label, VALUES, "anny", MESH, PACK, {}, "", 0.5, ident)


def affordance(label: str, ident: str = "") -> ObjectAffordance:
    return ObjectAffordance(label, VALUES, MESH, PACK, "", "", 0.5, object_id=ident)


def _sides(result: FrameResult) -> list[tuple[str, str, bool, bool]]:
    return [(one.label, one.object_id, one.human is not None, one.affordance is not None) for one in answers(result)]


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["", "1", "2"]), st.integers(1, 3))))
def test_every_side_is_kept_once(queries: list[tuple[str, str, int]]) -> None:
    contacts = tuple(contact(label, ident) for label, ident, sides in queries if sides & 1)
    affordances = tuple(affordance(label, ident) for label, ident, sides in queries if sides & 2)
    found = answers(FrameResult(contacts, affordances))
    assert [one.human for one in found if one.human is not None] == list(contacts)
    assert len([one for one in found if one.affordance is not None]) == len(affordances)
    for one in found:
        if one.human is not None and one.affordance is not None:
            assert one.human.object_label == one.affordance.object_label == one.label
            assert one.human.object_id == one.affordance.object_id == one.object_id


@given(st.lists(st.tuples(st.text("ab", max_size=2), st.integers(1, 3)), max_size=6, unique_by=lambda item: item[0]))
def test_full_answers_keep_the_order_of_the_queries(queries: list[tuple[str, int]]) -> None:
    result = FrameResult(
        tuple(contact(label or "x") for label, _ in queries), tuple(affordance(label or "x") for label, _ in queries)
    )
    assert _sides(result) == [(label or "x", "", True, True) for label, _ in queries]


def test_object_without_contact_keeps_its_place() -> None:
    result = FrameResult((contact("a"), contact("c")), (affordance("a"), affordance("b"), affordance("c")))
    assert _sides(result) == [("a", "", True, True), ("b", "", False, True), ("c", "", True, True)]


def test_equal_labels_with_different_ids_are_different_objects() -> None:
    result = FrameResult((contact("cup", "1"), contact("cup", "2")), (affordance("cup", "2"), affordance("cup", "1")))
    assert _sides(result) == [("cup", "1", True, True), ("cup", "2", True, True)]


@pytest.mark.parametrize("side", ["human", "object"])
def test_reason_stands_by_the_missing_side(side: str) -> None:
    reason = Unanswered("a", "no token", side)
    other = Unanswered("b", "no token", side)
    contacts, affordances = ((), (affordance("a"),)) if side == "human" else ((contact("a"),), ())
    (one,) = answers(FrameResult(contacts, affordances, (reason, other)))
    assert one.missing == (reason,)


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (
            "The body parts are hips, torso, and the contact region is <HCON>",
            "The body parts are hips, torso.",
        ),
        ("The affordance type is sit, and the contact region is [SEG].", "The affordance type is sit."),
        ("It is <OCON>", ""),
        ("The hands <HCON> touch it, and the contact region is <HCON>", "The hands touch it."),
        ("The hands touch it <HCON> here.", "The hands touch it here."),
        ("a plain sentence.", "a plain sentence."),
        ("", ""),
    ],
)
def test_people_read_the_sentence_without_its_token(answer, sentence):
    assert spoken(answer) == sentence
