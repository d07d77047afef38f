"""The one exception family of the package: every message names the field, the value and what to do."""

from __future__ import annotations


def shown(value: object, limit: int = 80) -> str:
    """`repr` of an untrusted value, cut so that it can stand in a log line."""
    text = repr(value) if not isinstance(value, str) else repr(value[: limit + 1])
    return text if len(text) <= limit else text[: limit - 1] + "…"


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
