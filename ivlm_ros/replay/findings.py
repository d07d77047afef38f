"""What a replay could not use, or chose by itself: each kind counted, with its first example."""

from __future__ import annotations

from collections import Counter
from typing import Any

# Kind → what it means, for people. The order is that of the report.
KINDS = {
    "unknown_schema": "topics whose message definition is missing or cannot be read; they are not in the output bag",
    "other_definition": "topics recorded with another version of a message type; ours are rewritten, others left out",
    "replaced_topic": "topics with answers of an earlier run; the new answers stand in their place",
    "damaged_file": "files of the bag that are damaged or missing; what could be read of them was used",
    "broken_record": "messages that cannot be read",
    "time_jump": "stamps that jump back by more than a second; the replay went on from there",
    "missing_detections": "images without detections of their stamp; nothing was asked about them",
    "missing_image": "detections without an image of their stamp",
    "missing_companion": "images whose people or depth did not come with them",
    "refused_image": "images that cannot be used",
    "refused_input": "detections, cameras, people or depth that cannot be used",
    "failed_frame": "images that the model, or the writing of the answer, could not finish",
    "unanswered_frame": "images that the running node did not answer in time",
    "no_pose": "objects that could not be placed in the scene",
    "not_scored": "ground truth that could not be compared with the answers",
    "chosen_topic": "topics that were chosen among several; an option names another",
    "note": "other remarks",
}
# Choices and remarks: nothing was lost by them.
HARMLESS = frozenset({"chosen_topic", "note", "no_pose", "replaced_topic"})
LONGEST_EXAMPLE = 500


class Findings:
    """Counts by kind (see `KINDS`)."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._first: dict[str, str] = {}

    def add(self, kind: str, text: str, count: int = 1) -> None:
        """Count something; the text of the first of its kind is kept."""
        if kind not in KINDS:
            raise KeyError(kind)
        self._counts[kind] += count
        self._first.setdefault(kind, text if len(text) <= LONGEST_EXAMPLE else text[: LONGEST_EXAMPLE - 1] + "…")

    def count(self, kind: str) -> int:
        """How often a kind was counted."""
        return self._counts[kind]

    def report(self) -> dict[str, Any]:
        """Kind → `count`, `meaning` and `first`, the first example; those that were counted, in the order of KINDS."""
        return {
            kind: {"count": self._counts[kind], "meaning": meaning, "first": self._first[kind]}
            for kind, meaning in KINDS.items()
            if self._counts[kind]
        }

    def lines(self) -> list[str]:
        """One line for each kind, for the terminal."""
        return [f"{entry['count']} × {entry['meaning']}: {entry['first']}" for entry in self.report().values()]
