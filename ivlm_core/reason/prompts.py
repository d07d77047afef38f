"""What is asked about an object, and the forms a well-formed answer can take."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Literal

from ivlm_core.errors import ConfigError

Side = Literal["human", "object", "general"]

SYSTEM = (
    "A chat between a curious human and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the human's questions."
)

# The affordance types of PIAD and LEMON.
AFFORDANCES = (
    *("grasp", "contain", "lift", "open", "lay", "sit", "support", "wrapgrasp", "pour", "move", "display", "push"),
    *("listen", "wear", "press", "cut", "stab", "pull", "ride", "play", "carry"),
)

_AFFORDANCE = re.compile(r"affordance type is (\w+)")


@dataclass(frozen=True)
class AnswerForm:
    """`opening`, then one or more different `choices` joined by `joiner`, then `closing` and the contact token.

    Without choices the answer is `opening` and the contact token.
    """

    opening: str
    choices: tuple[str, ...] = ()
    joiner: str = ","
    closing: str = ""
    most_choices: int = 1


@dataclass(frozen=True)
class Question:
    """One question about the image and the form its answer takes."""

    text: str
    side: Side
    form: AnswerForm


def contact_questions(label: str, parts: tuple[str, ...], reasoning: str = "parts") -> tuple[Question, Question]:
    """The human-contact and the object-affordance question about one object.

    Parameters
    ----------
    label : a label that passed `check_label`.
    parts : the body-part names the answer may use.
    reasoning : `parts` lets the model name body parts and affordance before it localizes; `direct` asks for the
        region alone, which is faster.

    Raises
    ------
    ConfigError : any other `reasoning`.
    """
    if reasoning == "direct":
        simple = AnswerForm("It is")
        return (
            Question(
                f"Segment the area on the human's body that is in direct contact with the {label} in this image.",
                "human",
                simple,
            ),
            Question(f"Segment the area on the {label} where the human is making contact.", "object", simple),
        )
    if reasoning != "parts":
        raise ConfigError("reasoning", f"is {reasoning!r}", "choose 'parts' or 'direct'")
    human = AnswerForm(
        "The contacting body parts are", parts, ",", ", and the contact region is", most_choices=len(parts)
    )
    affordance = AnswerForm("The affordance type is", AFFORDANCES, ",", ", and the contact region is")
    return (
        Question(
            f"Which body parts are in contact with the {label}? Segment these contact areas.",
            "human",
            human,
        ),
        Question(
            "What type of affordance does the human-object interaction suggest? Then, segment the area on the "
            f"{label} where the human is making contact.",
            "object",
            affordance,
        ),
    )


def mode_questions(
    label: str, parts: tuple[str, ...], mode: str, reasoning: str = "parts", quoted: bool = False
) -> tuple[Question, ...]:
    """What one object is asked in a mode.

    Parameters
    ----------
    label, parts, reasoning : as in `contact_questions`.
    mode : one of `MODES`.
    quoted : write the object question with the stray quotation marks of the released demo.
    """
    human, thing = contact_questions(label, parts, reasoning)
    _, simple = contact_questions(label, parts, "direct")
    picture, _ = contact_questions(label, parts, "direct")
    if quoted:
        thing = replace(thing, text=f'"{thing.text}",')
    asked: dict[str, tuple[Question, ...]] = {
        "joint": (human, thing),
        "human": (human,),
        "binary": (human,),
        "scene": (human,),
        "affordance": (thing,),
        "object_contact": (simple,),
        "image": (replace(picture, side="general"),),
    }
    if mode not in asked:
        raise ConfigError("mode", f"is {mode!r}", f"choose {', '.join(asked)}")
    return asked[mode]


def affordance_in(answer: str) -> str:
    """The affordance type that an answer names, or an empty string."""
    found = _AFFORDANCE.search(answer)
    return found.group(1) if found and found.group(1) in AFFORDANCES else ""
