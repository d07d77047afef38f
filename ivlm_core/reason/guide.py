"""Guided decoding: which tokens continue a well-formed answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ivlm_core.reason.prompts import AnswerForm
from ivlm_core.reason.tokenizer import ContactTokenizer

Ids = tuple[int, ...]


@dataclass(frozen=True)
class _Path:
    """One way the answer may go on: the ids still to come of a piece, what piece that is, and the choices made."""

    ahead: Ids
    piece: str
    used: tuple[Ids, ...]


class AnswerGuide:
    """The state of one answer as it grows after its opening; feed it every token that is chosen.

    Parameters
    ----------
    form : choices, joiner and closing of the answer.
    tokenizer : spells them.
    contact_token : id that ends the answer.
    """

    def __init__(self, form: AnswerForm, tokenizer: ContactTokenizer, contact_token: int) -> None:
        # The tokenizer splits at spaces and punctuation, so the pieces can be spelled one by one.
        self._choices = tuple(tuple(tokenizer.encode(" " + choice)) for choice in form.choices)
        self._joiner = tuple(tokenizer.encode(form.joiner))
        self._closing = (*tokenizer.encode(form.closing), contact_token)
        self._most = form.most_choices
        # Every token that an answer of this form can hold.
        self.vocabulary = frozenset(token for piece in (*self._choices, self._joiner, self._closing) for token in piece)
        if self._choices:
            self._paths = [_Path(choice, "choice", (choice,)) for choice in self._choices]
        else:
            self._paths = [_Path(self._closing, "closing", ())]

    def allowed(self) -> set[int]:
        """Ids that may come next; empty when the answer is complete."""
        return {path.ahead[0] for path in self._paths}

    def forced(self) -> list[int]:
        """The tokens that must follow now, one after the other, as far as no choice is left."""
        paths, tokens = self._paths, []
        while len({path.ahead[0] for path in paths}) == 1:
            tokens.append(paths[0].ahead[0])
            paths = self._stepped(paths, tokens[-1])
        return tokens

    def feed(self, token: int) -> None:
        """Take the chosen token into the answer.

        Raises
        ------
        ValueError : `token` was not allowed.
        """
        if token not in self.allowed():
            raise ValueError(f"token {token} does not continue the answer")
        self._paths = self._stepped(self._paths, token)

    def _stepped(self, paths: Sequence[_Path], token: int) -> list[_Path]:
        """How the answer may go on when `token` is taken."""
        stepped = []
        for path in paths:
            if path.ahead[0] == token:
                rest = _Path(path.ahead[1:], path.piece, path.used)
                stepped += [rest] if rest.ahead else self._after(rest)
        return stepped

    def _after(self, ended: _Path) -> list[_Path]:
        """How the answer may go on when a piece has ended."""
        if ended.piece == "closing":
            return []
        if ended.piece == "joiner":
            return [
                _Path(choice, "choice", (*ended.used, choice)) for choice in self._choices if choice not in ended.used
            ]
        paths = [_Path(self._closing, "closing", ended.used)]
        if len(ended.used) < min(self._most, len(self._choices)):
            paths.append(_Path(self._joiner, "joiner", ended.used))
        return paths
