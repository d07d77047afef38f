"""Every object gets a person where there are people, and every pair is asked about once."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from ivlm_core.types import ObjectQuery
from ivlm_ros.people import pair_people

ANN, BOB = (10.0, 10.0, 60.0, 200.0), (300.0, 10.0, 350.0, 200.0)
PEOPLE = ("person",)


def pairs(*found: ObjectQuery) -> list[tuple[str, str]]:
    return [(query.label, query.person_id) for query in pair_people(found, PEOPLE)]


def test_without_people_objects_stay_as_they_are() -> None:
    objects = [ObjectQuery("cup", "1", person_id="ann"), ObjectQuery("chair")]
    assert pair_people(objects, PEOPLE) == objects


def test_one_person_gets_every_object() -> None:
    person = ObjectQuery("Person", "7", box_xyxy=ANN)
    far = ObjectQuery("chair", box_xyxy=BOB)
    (query,) = pair_people([person, far], PEOPLE)
    assert (query.person_id, query.person_box_xyxy) == ("7", ANN)


def test_objects_belong_to_the_people_they_touch() -> None:
    ann, bob = ObjectQuery("person", "ann", box_xyxy=ANN), ObjectQuery("person", "bob", box_xyxy=BOB)
    cup = ObjectQuery("cup", box_xyxy=(55, 80, 75, 100))
    table = ObjectQuery("dining table", box_xyxy=(50, 100, 310, 220))
    lamp = ObjectQuery("lamp", box_xyxy=(150, 0, 170, 20))
    assert pairs(cup, ann, table, bob, lamp) == [
        ("cup", "ann"),
        ("dining table", "ann"),
        ("dining table", "bob"),
        ("lamp", "ann"),  # nobody touches it, and she is nearer
    ]


def test_an_object_that_names_its_person_keeps_it() -> None:
    ann, bob = ObjectQuery("person", "ann", box_xyxy=ANN), ObjectQuery("person", "bob", box_xyxy=BOB)
    cup = ObjectQuery("cup", person_id="bob", box_xyxy=(55, 80, 75, 100))
    phone = ObjectQuery("cell phone", person_id="eve", box_xyxy=(55, 80, 75, 100))
    found = pair_people([ann, bob, cup, phone], PEOPLE)
    assert [(query.person_id, query.person_box_xyxy) for query in found] == [("bob", BOB), ("eve", None)]


def test_people_without_identifiers_of_their_own_are_counted() -> None:
    people = [ObjectQuery("person", name) for name in ("", "", "x", "x", "y")]
    assert [person for _, person in pairs(*people, ObjectQuery("cup"))] == [
        "person 1",
        "person 2",
        "person 3",
        "person 4",
        "y",
    ]


def test_a_made_up_name_is_nobodys_own() -> None:
    people = [ObjectQuery("person", name, box_xyxy=box) for name, box in (("person 2", ANN), ("", BOB))]
    found = pair_people([*people, ObjectQuery("cup")], PEOPLE)
    assert [(query.person_id, query.person_box_xyxy) for query in found] == [("person 2", ANN), ("person 2'", BOB)]


def test_people_alone_are_nothing_to_ask_about() -> None:
    assert pairs(ObjectQuery("person", "1"), ObjectQuery("person", "2")) == []


boxes = st.none() | st.tuples(st.floats(0, 300), st.floats(0, 300), st.floats(1, 200), st.floats(1, 200)).map(
    lambda box: (box[0], box[1], box[0] + box[2], box[1] + box[3])
)
queries = st.builds(
    ObjectQuery, st.sampled_from(["person", "cup", "chair"]), st.sampled_from(["", "1", "2"]), box_xyxy=boxes
)


@given(st.lists(queries, max_size=8))
def test_no_object_is_lost_and_no_pair_comes_twice(found: list[ObjectQuery]) -> None:
    # Scores tell equal objects apart.
    found = [replace(query, score=place / 10) for place, query in enumerate(found)]
    paired = pair_people(found, PEOPLE)
    people = [query for query in found if query.label == "person"]
    objects = [query for query in found if query.label != "person"]
    assert list(dict.fromkeys(query.score for query in paired)) == [query.score for query in objects]
    assert len({(query.score, query.person_id) for query in paired}) == len(paired)
    assert len(paired) <= len(objects) * max(1, len(people))
    for query in paired:
        assert query.person_box_xyxy in [person.box_xyxy for person in people] or not people
