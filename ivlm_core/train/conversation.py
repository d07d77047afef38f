"""What the model is asked and what it shall answer, as token ids with a weight for every answer token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ivlm_core.bodies import PART_NAMES
from ivlm_core.reason import ContactTokenizer, Question, contact_questions

# The answer about an object that nobody touches: well formed, and without a contact token, so that the pipeline says
# "unanswered" with this sentence as the reason and never a contact of zeros.
NO_CONTACT = "There is no contact."

# A part is named when a tenth of its own vertices, or of the contact's, are in contact.
NAMED_SHARE = 0.1
# Of a template's words the model learns little: they count this much beside the words that it has to choose.
TEMPLATE_WEIGHT = 0.1
# The first word decides whether there is contact at all, once in an answer, and rarely is there none.
FIRST_WEIGHT = 2.0

# Other ways to ask the same; the first one, the one used at inference, comes from the prompts themselves.
HUMAN_PARAPHRASES = (
    "Where does the person touch the {label}? Name the body parts and segment them.",
    "Can you tell which parts of the human body are touching the {label}, and segment the contact?",
    "Name the body parts that interact with the {label}. Then segment where they touch it.",
)
OBJECT_PARAPHRASES = (
    "How is the {label} used by the person? Segment the area on the {label} that is used.",
    "Which affordance of the {label} does the image show? Segment the part of the {label} that offers it.",
    "What kind of interaction takes place with the {label}? Segment where the {label} is touched.",
)

# Names that stand in for an object's own now and then, so that a name the model has never met does not mislead it.
OTHER_NAMES = ("object", "thing", "vase", "guitar", "kite", "hammer", "broom", "basket", "glass", "spoon", "helmet")

# What an interaction affords, by the first word of its mode that is found here, else by the object.
MODE_AFFORDANCES = {
    "sit": "sit",
    "lie": "lay",
    "ride": "ride",
    "ear": "listen",
    "pulling": "pull",
    "lifting": "lift",
    "foot": "play",
    "straps": "wear",
    "shoulder": "wear",
    "forearm": "carry",
    "beside": "push",
}
LABEL_AFFORDANCES = {
    "chair": "support",
    "bench": "support",
    "couch": "support",
    "bed": "support",
    "dining table": "support",
    "bottle": "wrapgrasp",
    "cup": "wrapgrasp",
    "laptop": "press",
    "keyboard": "press",
    "suitcase": "pull",
    "handbag": "carry",
    "backpack": "carry",
}
BOARDS = ("skateboard", "surfboard", "snowboard")


@dataclass(frozen=True)
class Fact:
    """What is true about one object of a picture.

    Attributes
    ----------
    label : the object's name.
    parts : the body parts in contact, in the order of `PART_NAMES`; none where nobody touches it.
    affordance : the affordance type, one of `AFFORDANCES`.
    """

    label: str
    parts: tuple[str, ...]
    affordance: str

    def mirrored(self) -> Fact:
        """The same in the mirrored picture."""
        swapped = {swap_side(part) for part in self.parts}
        return replace(self, parts=tuple(part for part in PART_NAMES if part in swapped))


@dataclass(frozen=True)
class Exchange:
    """One question and its answer as ids.

    Attributes
    ----------
    ids : question and answer as they are read, the contact token or the end token last.
    targets : (T,) what shall be written at each place; other than `ids` where the answer read is a wrong one.
    weights : (T,) what each token counts as a target; 0 for the question.
    state : place of the token whose state predicts the contact token, or −1 without one.
    side : `human` or `object`.
    """

    ids: tuple[int, ...]
    targets: tuple[int, ...]
    weights: NDArray[np.float32]
    state: int
    side: str


@dataclass(frozen=True)
class ConversationStyle:
    """How questions and answers vary during training.

    Attributes
    ----------
    direct : share of questions for the region alone, without naming anything.
    paraphrase : share of questions in other words.
    rename : share of questions about the only object of a picture that call it something else.
    part_dropout : share of answers that are read with wrong body parts: left and right exchanged, or (`name_dropout` of
        them) names left out. The contact has to be right all the same, so the model looks for it in the picture. Were
        every answer read right, the contact would follow the words alone, and each wrong guess of a side at inference
        would become a wrong contact. What is learned of such an answer's words is the first one alone.
    name_parts : False for the `no_parts_text` ablation, in which every question is a direct one.
    name_object : False for the `no_object_name` ablation, in which every object is called "object".
    """

    direct: float = 0.15
    paraphrase: float = 0.15
    rename: float = 0.08
    part_dropout: float = 0.5
    name_dropout: float = 0.15
    name_parts: bool = True
    name_object: bool = True


def swap_side(name: str) -> str:
    """`left hand` ↔ `right hand`; names without a side stay."""
    side, _, rest = name.partition(" ")
    other = {"left": "right", "right": "left"}.get(side)
    return f"{other} {rest}" if other else name


def parts_in_contact(contact: NDArray[np.bool_], part_labels: NDArray[np.uint8]) -> tuple[str, ...]:
    """The body parts of a contact (V,): those with a tenth of their vertices, or of the contact's, in it."""
    touched = np.bincount(part_labels[contact], minlength=len(PART_NAMES))
    sizes = np.bincount(part_labels, minlength=len(PART_NAMES))
    total = max(1, int(touched.sum()))
    chosen = (touched >= NAMED_SHARE * np.maximum(sizes, 1)) | (touched >= NAMED_SHARE * total)
    return tuple(name for name, is_in in zip(PART_NAMES, chosen & (touched > 0), strict=True) if is_in)


def affordance_of(label: str, mode: str) -> str:
    """The affordance type of an interaction: what its mode says, else what the object is for."""
    words = mode.replace(",", " ").split()
    if label in BOARDS and {"feet", "foot"} & set(words):
        return "ride"
    for word in words:
        if word in MODE_AFFORDANCES:
            return MODE_AFFORDANCES[word]
    return LABEL_AFFORDANCES.get(label, "carry" if label in BOARDS else "grasp")


class Conversation:
    """Turns facts into exchanges, by the same prompts and the same spelling as inference.

    Parameters
    ----------
    tokenizer : of the model that is trained.
    style : shares of the variations.
    """

    def __init__(self, tokenizer: ContactTokenizer, style: ConversationStyle | None = None) -> None:
        self._tokenizer = tokenizer
        self._style = style or ConversationStyle()
        self._spelled: dict[str, tuple[int, ...]] = {}

    def exchange(self, fact: Fact, side: str, random: np.random.Generator, only: bool = False) -> Exchange:
        """One question about one side of one object, varied by `random`, and its answer.

        Parameters
        ----------
        only : whether the picture shows no other object.
        """
        style, number = self._style, 0 if side == "human" else 1
        direct = not style.name_parts or random.random() < style.direct
        label = fact.label if style.name_object else "object"
        if only and random.random() < style.rename:
            label = OTHER_NAMES[int(random.integers(len(OTHER_NAMES)))]
        question = contact_questions(label, PART_NAMES, "direct" if direct else "parts")[number]
        text = question.text
        if not direct and random.random() < style.paraphrase:
            choices = HUMAN_PARAPHRASES if side == "human" else OBJECT_PARAPHRASES
            text = choices[int(random.integers(len(choices)))].format(label=label)
        asked, first, written = self._ids(f"\n{text} ASSISTANT:"), 0, None
        if not fact.parts:
            answer, weights = self._refusal()
        elif direct:
            answer, weights = self._answer(question, (), True)
        elif side == "object":
            answer, weights = self._answer(question, (fact.affordance,), True)
        else:
            parts = self._spoiled(fact.parts, random)
            answer, weights = self._answer(question, parts, parts == fact.parts)
            if parts != fact.parts:
                first = len(asked) + len(self._ids(" " + question.form.opening))
                written = self._ids(" " + fact.parts[0])[0]
                weights[first - len(asked)] = 1.0
        ids = (*asked, *answer)
        targets = ids if written is None else (*ids[:first], written, *ids[first + 1 :])
        every = np.concatenate([np.zeros(len(asked), dtype=np.float32), weights])
        return Exchange(ids, targets, every, len(ids) - 2 if fact.parts else -1, side)

    def _spoiled(self, parts: tuple[str, ...], random: np.random.Generator) -> tuple[str, ...]:
        """The names of an answer after body-part dropout."""
        if random.random() >= self._style.part_dropout:
            return parts
        if random.random() >= self._style.name_dropout:
            named = {swap_side(part) for part in parts}
            return tuple(part for part in PART_NAMES if part in named)
        kept = tuple(part for part in parts if random.random() < 0.6)
        return kept or (PART_NAMES[int(random.integers(len(PART_NAMES)))],)

    def _answer(self, question: Question, choices: Sequence[str], trusted: bool) -> tuple[list[int], NDArray[Any]]:
        form, tokenizer = question.form, self._tokenizer
        ids = list(self._ids(" " + form.opening))
        weights = [TEMPLATE_WEIGHT] * len(ids)
        choosing = 1.0 if trusted else 0.0
        for number, choice in enumerate(choices):
            joiner = self._ids(form.joiner) if number else ()
            spelled = self._ids(" " + choice)
            ids += [*joiner, *spelled]
            weights += [choosing] * (len(joiner) + len(spelled))
        closing = self._ids(form.closing) if choices else ()
        ids += closing
        # Whether the list goes on is decided between its joiner, ",", and the first words of the closing, ", and".
        weights += [choosing if place < 2 else TEMPLATE_WEIGHT for place in range(len(closing))]
        ids.append(tokenizer.contact[question.side])
        # That there is contact at all is a choice as well, made at the first word of the answer.
        weights = [FIRST_WEIGHT * choosing, *weights[1:], TEMPLATE_WEIGHT]
        return ids, np.array(weights, dtype=np.float32)

    def _refusal(self) -> tuple[list[int], NDArray[Any]]:
        ids = [*self._ids(" " + NO_CONTACT), self._tokenizer.eos]
        return ids, np.array([FIRST_WEIGHT, *[TEMPLATE_WEIGHT] * (len(ids) - 1)], dtype=np.float32)

    def _ids(self, text: str) -> tuple[int, ...]:
        if text not in self._spelled:
            self._spelled[text] = tuple(self._tokenizer.encode(text)) if text else ()
        return self._spelled[text]
