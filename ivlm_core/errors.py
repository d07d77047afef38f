"""The one exception family of the package: every message names the field, the value and what to do."""

from __future__ import annotations

import reprlib

# A list of lists of one list takes a line to write in YAML, and gigabytes to write out.
_FIRST_FEW = reprlib.Repr()
_FIRST_FEW.maxlevel = 4
_FIRST_FEW.maxlist = _FIRST_FEW.maxtuple = _FIRST_FEW.maxdict = _FIRST_FEW.maxset = _FIRST_FEW.maxdeque = 10
_FIRST_FEW.maxstring = _FIRST_FEW.maxother = _FIRST_FEW.maxlong = 400


def shown(value: object, limit: int = 80) -> str:
    """`repr` of an untrusted value, cut so that it can stand in a log line; no more of it is written out than that."""
    text = _FIRST_FEW.repr(value) if not isinstance(value, str) else repr(value[: limit + 1])
    return text if len(text) <= limit else text[: limit - 1] + "…"


def printable(text: str) -> str:
    """An untrusted text as a terminal may be given it: itself, or its `repr` where it holds what steers a terminal."""
    return text if text.isprintable() else shown(text)


class IvlmError(Exception):
    """Anything this package refuses or cannot do.

    Parameters
    ----------
    field : the input, parameter or file that is wrong, as its owner calls it (`image.step`, `object.label`).
    problem : what is wrong with it, with the value where that helps.
    remedy : what to do about it.
    """

    def __init__(self, field: str, problem: str, remedy: str = "") -> None:
        self.field = field
        self.problem = problem
        self.remedy = remedy
        super().__init__(f"{field}: {problem}" + (f" ({remedy})" if remedy else ""))

    def __reduce__(self) -> tuple[type, tuple[str, str, str]]:
        return type(self), (self.field, self.problem, self.remedy)


class InputError(IvlmError):
    """An image, label, box, mask or message that cannot be used."""


class MeshError(IvlmError):
    """A mesh that is missing, empty, too large or geometrically unusable."""


class ConfigError(IvlmError):
    """A profile, parameter or command-line value out of its range, or a key that does not exist."""


class CheckpointError(IvlmError):
    """Weights or a tokenizer that are missing, corrupt or of another profile."""


class DatasetError(IvlmError):
    """A dataset that is missing, corrupt, incomplete or of another version, or that cannot be written."""
