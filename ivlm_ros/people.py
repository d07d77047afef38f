"""Which object is asked about for which person, where a detector finds people among the objects."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from ivlm_core.types import ObjectQuery

# A person is near what their box, grown by this share of its longer side, touches.
REACH = 0.1

Box = tuple[float, float, float, float]


def pair_people(found: Sequence[ObjectQuery], person_labels: Sequence[str]) -> list[ObjectQuery]:
    """One query per object and person near it; people are those whose label is one of `person_labels`.

    An object that names its person keeps it. With one person every object is theirs; with several an object is asked
    about for everybody whose box touches its own, or for the nearest where nobody's does. People without a box, and
    objects without one, are near everything. People are called by their identifiers; where those are empty or not
    their own, by their places, from 1.

    Returns
    -------
    queries in the order of the objects, then of the people, with `person_id` and `person_box_xyxy`; without people the
    objects as they are.
    """
    labels = {label.strip().lower() for label in person_labels}
    people = [query for query in found if query.label.lower() in labels]
    objects = [query for query in found if query.label.lower() not in labels]
    if not people:
        return objects
    boxes = dict(zip(_names(people), (person.box_xyxy for person in people), strict=True))
    paired = []
    for query in objects:
        names = [query.person_id] if query.person_id else _near(query.box_xyxy, boxes)
        paired += [replace(query, person_id=name, person_box_xyxy=boxes.get(name)) for name in names]
    return paired


def _names(people: Sequence[ObjectQuery]) -> list[str]:
    """An identifier for each person that no other has."""
    if len(people) == 1:
        return [people[0].object_id]
    counts = Counter(person.object_id for person in people)
    own = [person.object_id and counts[person.object_id] == 1 for person in people]
    taken = {person.object_id for person, alone in zip(people, own, strict=True) if alone}
    names = []
    for place, (person, alone) in enumerate(zip(people, own, strict=True), start=1):
        name = person.object_id if alone else f"person {place}"
        while not alone and name in taken:
            name += "'"
        taken.add(name)
        names.append(name)
    return names


def _near(box: Box | None, people: dict[str, Box | None]) -> list[str]:
    if box is None or len(people) == 1:
        return list(people)
    gaps = {name: 0.0 if other is None else _gap(box, other) for name, other in people.items()}
    return [name for name, gap in gaps.items() if gap <= 0.0] or [min(gaps, key=lambda name: gaps[name])]


def _gap(box: Box, person: Box) -> float:
    """Pixels between an object and what a person can reach; 0 where they overlap."""
    reach = REACH * max(person[2] - person[0], person[3] - person[1])
    apart = [max(person[side] - reach - box[side + 2], box[side] - person[side + 2] - reach, 0.0) for side in (0, 1)]
    return float((apart[0] ** 2 + apart[1] ** 2) ** 0.5)
