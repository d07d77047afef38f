"""How good the answers of a replayed recording are, where the recording carries its ground truth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ivlm_core.datasets.bags import FrameKey, RecordedContact, VertexValues
from ivlm_core.errors import InputError
from ivlm_core.evaluate.metrics import check_threshold
from ivlm_core.evaluate.scoring import Scorer, Truth, summarize
from ivlm_core.types import FloatArray

Recording = Mapping[FrameKey, Mapping[str, RecordedContact]]


@dataclass(frozen=True)
class ReplayScores:
    """Scores of a replay.

    Attributes
    ----------
    recordings : frame of the camera → the figures of its images, in the order of the ground truth.
    all : the figures of all images. Either as `summarize` gives them, with `answered` and `known`: the objects that
        were scored, and those that have ground truth.
    """

    recordings: Mapping[str, Mapping[str, Any]]
    all: Mapping[str, Any]

    def summary(self) -> dict[str, Any]:
        """The same as plain numbers, to be written as JSON."""
        return {"recordings": {name: dict(figures) for name, figures in self.recordings.items()}, **self.all}

    def table(self) -> str:
        """A short table for the terminal, one line per recording and one for all; and how untouched objects fared."""
        rows = [*self.recordings.items(), ("all", self.all)] if len(self.recordings) != 1 else self.recordings.items()
        width = max([len(name) for name, _ in rows] + [len("ground truth")])
        lines = [f"{'ground truth':{width}}  objects  answered     F1  precision  recall  geodesic  object SIM"]
        for name, figures in rows:
            contact, thing = figures["semantic"], figures["object"]
            geodesic = contact["geodesic_cm"]
            lines.append(
                f"{name:{width}}  {figures['known']:7}  {figures['answered']:8}  {_share(contact['f1']):>5}"
                f"  {_share(contact['precision']):>9}  {_share(contact['recall']):>6}"
                f"  {'–' if geodesic is None else f'{geodesic:.1f} cm':>8}  {_share(thing and thing['sim']):>10}"
            )
        untouched = self.all["untouched"]
        if untouched["samples"]:
            count = untouched["samples"]
            marked = round(untouched["marked"] * count)
            lines.append(f"Of {count} answered objects that nobody touches, {marked} were wrongly marked as touched.")
        return "\n".join(lines)


def score_replay(truth: Recording, answers: Recording, scorer: Scorer, threshold: float = 0.5) -> ReplayScores:
    """Scores of the answers that have ground truth: those with its camera frame, stamp and object identifier.

    An object counts once per image. What the node left out, an image or an object in it, is not scored; `answered`
    beside `known` tells how much that was. Messages list no value below the threshold that the node published with: no
    answer can be cut below it, and to the scores of object affordances these values are 0.

    Parameters
    ----------
    truth, answers : (frame of the camera, stamp) → identifier of the object → its contact (see `read_contacts`).
    scorer : of the body that the ground truth is on.
    threshold : where answers are cut, in [0, 1].

    Raises
    ------
    InputError : ground truth or answers are on another body than the scorer's.
    ConfigError : a threshold outside [0, 1].
    """
    check_threshold(threshold)
    names = list(dict.fromkeys(frame_id for frame_id, _ in truth))
    scenes: dict[str, list[Any]] = {name: [] for name in names}
    known, answered = dict.fromkeys(names, 0), dict.fromkeys(names, 0)
    for key, true in truth.items():
        given = answers.get(key, {})
        pairs = [
            (item, given[identifier])
            for identifier, item in true.items()
            if item.body is not None and identifier in given and given[identifier].body is not None
        ]
        known[key[0]] += len(true)
        answered[key[0]] += len(pairs)
        if not pairs:
            continue
        contact = np.stack([_on_body(item, scorer) > 0 for item, _ in pairs])
        hits = np.stack([_on_body(answer, scorer) >= threshold for _, answer in pairs])
        things = [(item.thing, answer.thing) for item, answer in pairs]
        # Where the camera stands is not recorded, so that nothing is said about one-handed grips seen from the front.
        labels = tuple(item.label for item, _ in pairs)
        wanted = Truth(labels, contact, scorer.distances(contact), tuple(_dense(item) for item, _ in things), np.inf)
        scenes[key[0]].append(scorer.score(wanted, hits, [_matching(*pair) for pair in things]))

    def figures(chosen: list[str]) -> dict[str, Any]:
        return {
            "known": sum(known[name] for name in chosen),
            "answered": sum(answered[name] for name in chosen),
            **summarize([scene for name in chosen for scene in scenes[name]]),
        }

    return ReplayScores({name: figures([name]) for name in names}, figures(names))


def _on_body(contact: RecordedContact, scorer: Scorer) -> FloatArray:
    """(V,) on the scorer's body."""
    assert contact.body is not None
    mesh = scorer.body.mesh
    if (contact.body.vertex_count, contact.body.topology_hash) != (len(mesh.vertices), mesh.topology_hash):
        told = f"contact with {contact.label!r} is on the body {contact.body_model}, not on {scorer.body.name}"
        raise InputError("body_model", told, f"replay with the body {scorer.body.name}")
    return contact.body.dense()


def _dense(thing: VertexValues | None) -> FloatArray | None:
    return None if thing is None else thing.dense()


def _matching(true: VertexValues | None, answer: VertexValues | None) -> FloatArray | None:
    """(N,) the answer, where it is on the mesh of the ground truth."""
    if true is None or answer is None or answer.topology_hash != true.topology_hash:
        return None
    return answer.dense()


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"
