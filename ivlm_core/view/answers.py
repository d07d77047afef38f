"""Recorded messages of one image → the answers of its pairs; nothing in a message is trusted."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ivlm_core.datasets.bags import vertex_values
from ivlm_core.errors import InputError, IvlmError
from ivlm_core.types import FloatArray, Mesh
from ivlm_core.view.meshes import Found, MeshFinder
from ivlm_core.view.moments import Heat, Pair, PairAnswer, Placement, Region

MAX_TEXT = 2000
MAX_NAME = 256


@dataclass
class Entry:
    """The messages about one pair: HumanContact and ObjectAffordance, and reasons for what is missing."""

    human: Any = None
    affordance: Any = None
    missing: list[str] = field(default_factory=list)


def entries(camera: str, contacts: Any, affordances: Any) -> dict[Pair, Entry]:
    """Who is told about in the two arrays of one image (None where there is none), in their order.

    Contact and affordance belong together when object, label and person are the same; an affordance without a person
    belongs to the first contact with its object that has none yet.
    """
    found: dict[Pair, Entry] = {}
    for item in contacts.contacts if contacts is not None else ():
        found[_new(found, camera, item, _text(item.person_id, MAX_NAME))] = Entry(human=item)
    for item in affordances.affordances if affordances is not None else ():
        # Recordings of older versions name no person here.
        person = _text(getattr(item, "person_id", ""), MAX_NAME)
        pair = next((pair for pair, entry in found.items() if _belongs(item, person, pair, entry)), None)
        if pair is None:
            found[_new(found, camera, item, person)] = Entry(affordance=item)
        else:
            found[pair].affordance = item
    for array, side in ((contacts, "contact on the body"), (affordances, "affordance of the object")):
        _add_missing(found, camera, array, side)
    return found


def pair_answers(
    found: Mapping[Pair, Entry], truth: Mapping[Pair, Entry], finder: MeshFinder, topic: str
) -> tuple[dict[Pair, PairAnswer], list[str]]:
    """The answers to show, and a note for each message that had to be left out.

    Parameters
    ----------
    found, truth : as `entries` gives them. topic : what a refusal names.
    """
    notes: list[str] = []
    answers = {}
    for pair, entry in found.items():
        answer = PairAnswer(missing=tuple(entry.missing))
        for part in (_with_human, _with_affordance, _with_scene):
            try:
                answer = part(answer, entry, finder, topic)
            except (IvlmError, AttributeError) as error:
                notes.append(_told(pair, error))
        answers[pair] = answer
    for true, entry in truth.items():
        pair = _same(answers, true)
        try:
            answers[pair] = _with_truth(answers.get(pair, PairAnswer()), entry, finder, topic)
        except (IvlmError, AttributeError) as error:
            notes.append(_told(pair, error, "'s ground truth"))
    return answers, list(dict.fromkeys(notes))


def joined(found: Iterable[Pair], truth: Iterable[Pair]) -> list[Pair]:
    """The pairs of `found`, and those of `truth` that are none of them."""
    known = list(found)
    return [*known, *(pair for pair in (_same(known, true) for true in truth) if pair not in known)]


def _same(pairs: Iterable[Pair], true: Pair) -> Pair:
    """The pair that a true one is; ground truth may leave out who the person is."""
    for pair in pairs:
        alike = (pair.camera, pair.label, pair.object_id, pair.number) == (
            true.camera,
            true.label,
            true.object_id,
            true.number,
        )
        if alike and true.person_id in ("", pair.person_id):
            return pair
    return true


def _new(found: Mapping[Pair, Entry], camera: str, item: Any, person: str) -> Pair:
    pair = Pair(camera, _text(item.object_label, MAX_NAME), _text(item.object_id, MAX_NAME), person)
    while pair in found:
        pair = replace(pair, number=pair.number + 1)
    return pair


def _belongs(item: Any, person: str, pair: Pair, entry: Entry) -> bool:
    named = (_text(item.object_label, MAX_NAME), _text(item.object_id, MAX_NAME))
    return entry.affordance is None and named == (pair.label, pair.object_id) and person in ("", pair.person_id)


def _add_missing(found: dict[Pair, Entry], camera: str, array: Any, side: str) -> None:
    if array is None:
        return
    lists = (array.unanswered_object_ids, array.unanswered_object_labels, array.unanswered_reasons)
    for object_id, label, reason in zip(*lists, strict=False):
        told = f"no {side}: {_text(reason, MAX_TEXT)}"
        name, identifier = _text(label, MAX_NAME), _text(object_id, MAX_NAME)
        pair = next((pair for pair in found if (pair.label, pair.object_id) == (name, identifier)), None)
        entry = found.setdefault(pair or Pair(camera, name, identifier, ""), Entry())
        if told not in entry.missing:
            entry.missing.append(told)


def _with_human(answer: PairAnswer, entry: Entry, finder: MeshFinder, topic: str) -> PairAnswer:
    item = entry.human
    if item is None:
        return answer
    parts = [
        (_text(name, MAX_NAME), float(score))
        for name, score in zip(item.body_parts, item.body_part_scores, strict=False)
        if math.isfinite(score)
    ]
    answer = replace(
        answer,
        sentence=_text(item.answer, MAX_TEXT),
        confidence=_finite(item.confidence),
        body_parts=tuple(sorted(parts, key=lambda part: -part[1])),
    )
    return replace(answer, body=_body_heat(item, finder, topic))


def _with_affordance(answer: PairAnswer, entry: Entry, finder: MeshFinder, topic: str) -> PairAnswer:
    item = entry.affordance
    if item is None:
        return answer
    answer = replace(
        answer,
        thing_sentence=_text(item.answer, MAX_TEXT),
        thing_confidence=_finite(item.confidence),
        affordance=_text(item.affordance, MAX_NAME),
    )
    return replace(answer, thing=_thing_heat(item, finder, topic))


def _with_scene(answer: PairAnswer, entry: Entry, finder: MeshFinder, topic: str) -> PairAnswer:
    item = entry.affordance
    if item is None:
        return answer
    mesh = _thing_mesh(item, finder)[0]
    known = zip(item.residual_names, item.residuals, strict=False)
    answer = replace(
        answer,
        pose_reason=_text(item.pose_reason, MAX_TEXT),
        pose_state=_text(item.pose_state, MAX_NAME),
        pose_notes=tuple(_text(note, MAX_TEXT) for note in item.pose_notes),
        residuals={_text(name, MAX_NAME): float(value) for name, value in known if math.isfinite(value)},
        contact_area_cm2=_finite(item.contact_area_cm2) if item.contact_valid else None,
    )
    if not item.pose_valid:
        return answer
    regions = [_region(region, mesh) for region in item.free_regions]
    return replace(
        answer,
        placement=_placement(item),
        placed_mesh=mesh,
        regions=tuple(region for region in regions if region is not None),
    )


def _with_truth(answer: PairAnswer, entry: Entry, finder: MeshFinder, topic: str) -> PairAnswer:
    if entry.human is not None:
        answer = replace(answer, true_body=_body_heat(entry.human, finder, topic))
    if entry.affordance is not None:
        answer = replace(answer, true_thing=_thing_heat(entry.affordance, finder, topic))
    return answer


def _body_heat(item: Any, finder: MeshFinder, topic: str) -> Heat:
    found = finder.body(item.body_model, int(item.vertex_count), item.topology_hash)
    return _heat(item, item.probabilities, found, topic)


def _thing_heat(item: Any, finder: MeshFinder, topic: str) -> Heat:
    return _heat(item, item.values, _thing_mesh(item, finder), topic)


def _thing_mesh(item: Any, finder: MeshFinder) -> Found:
    return finder.thing(
        item.object_label, item.mesh_resource, item.mesh_source, int(item.vertex_count), item.topology_hash
    )


def _heat(item: Any, values: FloatArray, found: Found, topic: str) -> Heat:
    sparse = vertex_values(item, values, topic)
    mesh, note = found
    threshold = min(max(_finite(item.threshold) or 0.0, 0.0), 1.0)
    # A message may claim any number of vertices; only those of a mesh that was found are unpacked.
    return Heat(mesh, sparse.dense() if mesh is not None else np.zeros(0, np.float32), threshold, note)


def _placement(item: Any) -> Placement:
    from scipy.spatial.transform import Rotation

    turn = item.pose.orientation
    place = item.pose.position
    quaternion = np.array([turn.x, turn.y, turn.z, turn.w], dtype=np.float64)
    translation = np.array([place.x, place.y, place.z], dtype=np.float64)
    scale = float(item.scale)
    numbers = np.concatenate([quaternion, translation, [scale]])
    if not np.isfinite(numbers).all() or not 1e-6 < scale < 1e6 or np.abs(np.linalg.norm(quaternion) - 1) > 0.01:
        raise InputError("pose", "its pose is none: quaternion, position or scale are out of range")
    return Placement(Rotation.from_quat(quaternion).as_matrix(), translation, scale)


def _region(item: Any, mesh: Mesh | None) -> Region | None:
    """A free region; None where it does not belong to the mesh or lies nowhere."""
    vertices = np.asarray(item.vertex_indices, dtype=np.int64)
    middle = np.array([item.centroid.x, item.centroid.y, item.centroid.z])
    normal = np.array([item.normal.x, item.normal.y, item.normal.z])
    if not np.isfinite(np.concatenate([middle, normal])).all():
        return None
    if mesh is None or (len(vertices) and int(vertices.max()) >= len(mesh.vertices)):
        return None
    area, affordance = _finite(item.area_cm2) or 0.0, _finite(item.affordance) or 0.0
    return Region(middle, normal, area, affordance, vertices.astype(np.int32))


def _told(pair: Pair, error: IvlmError | AttributeError, what: str = "") -> str:
    if isinstance(error, IvlmError):
        return f"{pair.label or 'an object'}{what}: {error.problem}"
    # A bag describes its own messages: those of older versions lack fields.
    return "recorded with messages of another version of this package: not all of them is read"


def _finite(value: Any) -> float | None:
    number = float(value)
    return number if math.isfinite(number) else None


def _text(value: Any, limit: int) -> str:
    text = str(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"
