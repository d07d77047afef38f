"""What was said about each queried object, with the human and the object side put together again."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass, replace

from ivlm_core.types import FrameResult, HumanContact, ObjectAffordance, Unanswered


@dataclass(frozen=True)
class Answer:
    """One object of a result: its contact on the body, its affordance, and what stayed unanswered."""

    label: str
    object_id: str
    human: HumanContact | None = None
    affordance: ObjectAffordance | None = None
    missing: tuple[Unanswered, ...] = ()


_CONTACT_TOKEN = re.compile(r",? (?:and )?(?:the contact region is )?[<\[][A-Z]+[>\]]\.?$")
_TOKEN = re.compile(r" ?[<\[][A-Z]+[>\]]")


def spoken(answer: str) -> str:
    """The sentence without the contact token at its end, which people need not read; empty where that is all.

    A model may put tokens elsewhere, too: they are left out as well.
    """
    sentence = _TOKEN.sub("", _CONTACT_TOKEN.sub("", answer))
    if sentence == answer:
        return answer
    return "" if sentence == "It is" else f"{sentence.removesuffix('.')}."


def answers(result: FrameResult) -> list[Answer]:
    """The answered objects, in the queries' order as far as the result tells it.

    A contact and an affordance belong together when label and id agree; the first of several equal ones goes with the
    first. Objects without any answer are only in `result.unanswered`.
    """
    found = [Answer(contact.object_label, contact.object_id, human=contact) for contact in result.human_contacts]
    # Affordances without a contact are put behind the one that came before them.
    last = -1
    for affordance in result.object_affordances:
        place = _first_open(found, affordance)
        if place is None:
            place = last + 1
            found.insert(place, Answer(affordance.object_label, affordance.object_id, affordance=affordance))
        else:
            found[place] = replace(found[place], affordance=affordance)
        last = place
    missing = defaultdict(list)
    for item in result.unanswered:
        missing[item.object_label, item.object_id].append(item)
    return [replace(one, missing=_missing_for(one, missing[one.label, one.object_id])) for one in found]


def _first_open(found: list[Answer], affordance: ObjectAffordance) -> int | None:
    for place, one in enumerate(found):
        same = (one.label, one.object_id) == (affordance.object_label, affordance.object_id)
        if same and one.human is not None and one.affordance is None:
            return place
    return None


def _missing_for(answer: Answer, items: list[Unanswered]) -> tuple[Unanswered, ...]:
    """What explains the side that this answer lacks."""
    if answer.human is not None and answer.affordance is not None:
        return ()
    return tuple(items)
