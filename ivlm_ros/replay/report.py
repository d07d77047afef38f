"""`report.json`: what was replayed, what came out, how fast, how good, and what was left out and why."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ivlm_core
from ivlm_core.datasets.bags import CONTACT_TYPES, FrameKey, RecordedContact, read_contacts
from ivlm_core.errors import IvlmError
from ivlm_ros.replay.answers import Answer, Track, read_answers, tracks
from ivlm_ros.replay.bag_files import Bag
from ivlm_ros.replay.findings import Findings
from ivlm_ros.replay.outcome import Outcome
from ivlm_ros.replay.settings import ReplaySettings

VERSION = 1


@dataclass(frozen=True, eq=False)
class Report:
    """The report as plain numbers (`facts`), and what its page shows beside them."""

    facts: dict[str, Any]
    answers: list[Answer]
    tracks: list[Track]
    outcome: Outcome


def make_report(settings: ReplaySettings, outcome: Outcome, findings: Findings) -> Report:
    """Read the new bag and put the report together; `findings` may grow by what cannot be scored."""
    path = settings.out / "bag"
    image_topic = outcome.inputs.get("image", {}).get("topic", "")
    answers = read_answers(path, settings.answers_prefix, image_topic)
    objects = tracks(answers)
    scores = ground_truth_scores(path, settings, findings)
    facts = {
        "version": VERSION,
        "software": f"ivlm_ros {ivlm_core.__version__}",
        "bag": bag_facts(settings.bag, Findings()),
        "inputs": outcome.inputs,
        "output": {"bag": str(path), "topics": bag_facts(path, Findings())["topics"]},
        "settings": settings_facts(settings),
        "model": outcome.model,
        "frames": {"in": outcome.frames_in, "out": outcome.frames_out, "dropped": dict(outcome.dropped)},
        "latency": outcome.latency(),
        "seconds": round(outcome.seconds, 3),
        "objects": [track.summary(settings.threshold) for track in objects],
        "ground_truth": scores,
        "node": outcome.node,
        "findings": findings.report(),
    }
    return Report(plain(facts), answers, objects, outcome)


def bag_facts(path: Path, findings: Findings) -> dict[str, Any]:
    """Path, storage, distribution, duration, and each topic with its type and number of messages."""
    with Bag(path, findings) as bag:
        counts: dict[tuple[str, str], int] = {}
        first = last = None
        for record in bag.messages():
            counts[record.topic.key] = counts.get(record.topic.key, 0) + 1
            first = record.time if first is None else min(first, record.time)
            last = record.time if last is None else max(last, record.time)
        return {
            "path": str(path),
            "storage": bag.storage,
            "distribution": bag.distribution or None,
            "start_ns": first,
            "duration_s": round((last - first) / 1e9, 6) if first is not None and last is not None else 0.0,
            "messages": sum(counts.values()),
            "topics": [
                {"topic": topic.name, "type": topic.type, "messages": counts.get(topic.key, 0)} for topic in bag.topics
            ],
        }


def settings_facts(settings: ReplaySettings) -> dict[str, Any]:
    """The settings that the answers depend on."""
    facts: dict[str, Any] = {
        "online": settings.online,
        "node": settings.answers_prefix,
        "labels": list(settings.labels),
        "class_names": list(settings.class_names),
        "start_s": settings.start,
        "duration_s": settings.duration,
        "frames": settings.frames,
        "threshold": settings.threshold,
        "sync_slop_s": settings.slop,
    }
    if settings.online:
        return {**facts, "rate_hz": settings.rate}
    return {
        **facts,
        "model": settings.model,
        "device": settings.device,
        "dtype": settings.dtype,
        "reasoning": settings.reasoning,
        "mode": settings.mode,
        "reconstruct": settings.reconstruct,
        "max_objects": settings.max_objects,
    }


def ground_truth_scores(path: Path, settings: ReplaySettings, findings: Findings) -> dict[str, Any] | None:
    """Scores of the answers where the bag says what is true; None where it does not."""
    from ivlm_core.evaluate import score_replay

    prefix = settings.ground_truth.rstrip("/")
    with Bag(path, Findings()) as bag:
        names = {f"{prefix}/{name}": kind for name, kind in CONTACT_TYPES.items()}
        if not any(names.get(topic.name) == topic.type and topic.count for topic in bag.topics):
            return None
    try:
        truth = read_contacts(path, prefix)
        answers = read_contacts(path, settings.answers_prefix)
        scorer = _scorer(truth)
        if scorer is None:
            findings.add("not_scored", f"the messages below {prefix} hold no contact on a body")
            return None
        played = {key: known for key, known in truth.items() if settings.frames is None or key in answers}
        summary = score_replay(played, answers, scorer, settings.threshold).summary()
    except IvlmError as error:
        findings.add("not_scored", str(error))
        return None
    return {"prefix": prefix, "threshold": settings.threshold, **summary}


def _scorer(truth: dict[FrameKey, dict[str, RecordedContact]]) -> Any:
    """Of the body that the ground truth is on; None where there is none."""
    from ivlm_core.bodies import load_body
    from ivlm_core.evaluate import body_surface
    from ivlm_core.evaluate.scoring import Scorer

    models = [item.body_model for items in truth.values() for item in items.values() if item.body is not None]
    if not models:
        return None
    body = load_body(models[0])
    return Scorer(body, body_surface(body.name))


def plain(value: Any) -> Any:
    """For JSON, which knows neither NaN nor infinity."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
