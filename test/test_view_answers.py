"""Whose contact belongs to whose affordance. The rest of a message's way is tested in `test_view_recording.py`."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ivlm_core.view.answers import entries, joined
from ivlm_core.view.moments import Pair
from ivlm_ros.message_types import PlainMessages

MAKE = PlainMessages().make
NAMES = st.tuples(st.sampled_from(["cup", "box"]), st.sampled_from(["0", "1"]), st.sampled_from(["", "p", "q"]))


def contacts(*named: tuple[str, str, str], **fields: Any) -> Any:
    items = [_item("HumanContact", *names) for names in named]
    return MAKE("ivlm_ros/msg/HumanContactArray", contacts=items, **fields)


def affordances(*named: tuple[str, str, str], **fields: Any) -> Any:
    items = [_item("ObjectAffordance", *names) for names in named]
    return MAKE("ivlm_ros/msg/ObjectAffordanceArray", affordances=items, **fields)


def _item(kind: str, label: str, object_id: str, person: str) -> Any:
    return MAKE(f"ivlm_ros/msg/{kind}", object_label=label, object_id=object_id, person_id=person)


def pair(label: str, object_id: str = "0", person: str = "", number: int = 0) -> Pair:
    return Pair("cam", label, object_id, person, number)


@given(st.lists(NAMES, max_size=6), st.lists(NAMES, max_size=6))
def test_every_item_is_told_once(humans: list[tuple[str, str, str]], things: list[tuple[str, str, str]]) -> None:
    found = entries("cam", contacts(*humans), affordances(*things))
    told = list(found.values())
    assert [entry.human.object_label for entry in told if entry.human is not None] == [name[0] for name in humans]
    assert sum(entry.affordance is not None for entry in told) == len(things)
    for named, entry in found.items():
        for item in (entry.human, entry.affordance):
            if item is not None:
                assert (item.object_label, item.object_id) == (named.label, named.object_id)
                assert item.person_id in ("", named.person_id)


def test_people_at_one_object_are_told_apart() -> None:
    found = entries(
        "cam", contacts(("cup", "0", "p"), ("cup", "0", "q")), affordances(("cup", "0", "q"), ("cup", "0", "p"))
    )
    assert list(found) == [pair("cup", person="p"), pair("cup", person="q")]
    for named, entry in found.items():
        assert entry.human.person_id == entry.affordance.person_id == named.person_id


def test_affordances_without_a_person_follow_the_order() -> None:
    found = entries(
        "cam", contacts(("cup", "0", "p"), ("cup", "0", "q")), affordances(("cup", "0", ""), ("cup", "0", ""))
    )
    assert [entry.affordance is not None for entry in found.values()] == [True, True]


def test_equal_names_are_counted() -> None:
    found = entries("cam", contacts(("cup", "", ""), ("cup", "", "")), None)
    assert list(found) == [pair("cup", ""), pair("cup", "", number=1)]


def test_one_side_alone() -> None:
    assert list(entries("cam", None, affordances(("cup", "0", "p")))) == [pair("cup", person="p")]
    assert list(entries("cam", contacts(("cup", "0", "p")), None)) == [pair("cup", person="p")]
    assert entries("cam", None, None) == {}


def test_truth_without_a_person_is_the_same_pair() -> None:
    found, truth = [pair("cup", person="p"), pair("box")], [pair("box"), pair("cup"), pair("cup", "1")]
    assert joined(found, truth) == [pair("cup", person="p"), pair("box"), pair("cup", "1")]
