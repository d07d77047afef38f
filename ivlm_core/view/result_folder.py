"""The folder of `ivlm contact` or `ivlm reconstruct` as one moment."""

from __future__ import annotations

import json
import math
import re
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ivlm_core.draw.joint_scene import OPTICAL_TO_GLTF
from ivlm_core.errors import InputError, IvlmError
from ivlm_core.images import load_image
from ivlm_core.objects import load_glb_parts, load_mesh
from ivlm_core.storage import UNREADABLE, file_size
from ivlm_core.types import CameraIntrinsics, Mesh
from ivlm_core.view.meshes import MeshFinder
from ivlm_core.view.moments import Heat, Moment, Pair, PairAnswer, Person, Placement, Region

MAX_JSON_BYTES = 64 << 20
MAX_ARRAY_BYTES = 512 << 20
MAX_OBJECTS = 64
# `write_result` counts the parts of a scene and calls people so.
_PERSON = re.compile(r"\d+ person ?(.*)", re.DOTALL)


class ResultFolder:
    """One image's result.

    Parameters
    ----------
    folder : with `result.json`, and what else `write_result` puts there. finder : of bodies.

    Raises
    ------
    InputError : `result.json` is missing, too large, damaged or none of this package's.
    """

    def __init__(self, folder: Path, finder: MeshFinder) -> None:
        self.title = folder.resolve().name
        self._folder = folder
        self._finder = finder
        self._summary = _load_json(folder / "result.json")
        self.camera_frame = str(self._summary.get("frame_id", ""))[:200]
        self._objects = self._pairs()
        self.stamps: Sequence[int] = [_whole(self._summary.get("stamp_ns"))]
        self.cameras: Sequence[str] = [self.camera_frame]
        self.pairs: Sequence[Pair] = list(self._objects)
        self.occurrences: Mapping[Pair, Sequence[int]] = dict.fromkeys(self.pairs, (0,))
        self.has_truth = False
        self.thresholds = (0.0, min(max(_number(self._summary.get("threshold")) or 0.0, 0.0), 1.0))
        self.notes: Sequence[str] = _strings(self._summary.get("notes"))
        self._moment: Moment | None = None

    def close(self) -> None:
        """Nothing is held open."""

    def moment(self, number: int) -> Moment:
        """The only one."""
        if self._moment is None:
            self._moment = self._read()
        return self._moment

    def _pairs(self) -> dict[Pair, tuple[int, dict[str, Any]]]:
        """Pair → the number in file names, and the entry of `result.json`."""
        pairs: dict[Pair, tuple[int, dict[str, Any]]] = {}
        for number, entry in enumerate(_list(self._summary.get("objects"))[:MAX_OBJECTS]):
            pairs[self._unlike(pairs, entry, _entry(entry, "human").get("person_id", ""))] = number, entry
        for entry in (*_list(self._summary.get("reconstructions")), *_list(self._summary.get("unanswered"))):
            known = {(pair.label, pair.object_id) for pair in pairs}
            if _named(entry) not in known and len(pairs) < MAX_OBJECTS:
                pairs[self._unlike(pairs, entry, entry.get("person_id", ""))] = -1, {}
        return pairs

    def _unlike(self, pairs: Mapping[Pair, Any], entry: dict[str, Any], person: Any) -> Pair:
        named = (*_named(entry), str(person)[:256])
        number = sum((pair.label, pair.object_id, pair.person_id) == named for pair in pairs)
        return Pair(self.camera_frame, *named, number)

    def _read(self) -> Moment:
        notes: list[str] = []
        arrays = self._arrays(notes)
        answers = {}
        fitted = _list(self._summary.get("reconstructions"))
        unanswered = _list(self._summary.get("unanswered"))
        for pair, (number, entry) in self._objects.items():
            pose: dict[str, Any] = next((item for item in fitted if _named(item) == (pair.label, pair.object_id)), {})
            missing = [item for item in unanswered if _named(item) == (pair.label, pair.object_id)]
            answers[pair] = self._answer(number, entry, pose, missing, arrays, notes)
        picture, about = None, "the folder has no overlay.png"
        if (self._folder / "overlay.png").is_file():
            try:
                picture, about = load_image(self._folder / "overlay.png"), "The result's own picture, overlay.png."
            except IvlmError as error:
                about = f"overlay.png {error.problem}"
        return Moment(
            stamp_ns=self.stamps[0],
            camera_frame=self.camera_frame,
            picture=picture,
            picture_note=about,
            answers=answers,
            people=self._people(notes),
            camera=self._camera(),
            model=str(self._summary.get("model", ""))[:200],
            notes=tuple(notes),
        )

    def _answer(
        self,
        number: int,
        entry: dict[str, Any],
        pose: dict[str, Any],
        missing: Sequence[dict[str, Any]],
        arrays: Mapping[str, np.ndarray],
        notes: list[str],
    ) -> PairAnswer:
        suffix = f"_{number}" if number > 0 else ""
        body = thing = None
        human, used, contact = _entry(entry, "human"), _entry(entry, "object"), _entry(pose, "contact")
        if human:
            body = self._body(human, arrays.get(f"human_probability{suffix}"), f"human{suffix}.glb")
        if used:
            thing = _thing(used, suffix, arrays, notes)
        return PairAnswer(
            body=body,
            thing=thing,
            sentence=str(human.get("answer", ""))[:2000],
            confidence=_number(human.get("confidence")),
            thing_sentence=str(used.get("answer", ""))[:2000],
            thing_confidence=_number(used.get("confidence")),
            body_parts=tuple(sorted(_numbers(human.get("body_parts")).items(), key=lambda part: -part[1])),
            affordance=str(used.get("affordance", ""))[:256],
            placement=_placement(pose),
            placed_mesh=thing.mesh if thing is not None else None,
            pose_reason=str(pose.get("reason", ""))[:2000],
            pose_state=str(pose.get("state", ""))[:256] if pose.get("pose_valid") else "",
            pose_notes=tuple(_strings(pose.get("notes"))),
            residuals=_numbers(pose.get("residuals")),
            contact_area_cm2=_number(contact.get("area_cm2")),
            regions=tuple(_regions(contact.get("free_regions"))),
            missing=tuple(
                f"no {str(item.get('side', ''))[:80]} contact: {str(item.get('reason', ''))[:2000]}" for item in missing
            ),
        )

    def _body(self, human: dict[str, Any], values: np.ndarray | None, file: str) -> Heat:
        """Contact on the body, as the package has it or as it lies in the folder."""
        name, known = str(human.get("body_model", ""))[:80], str(human.get("topology_hash", ""))
        if not _are_values(values):
            return Heat(None, np.zeros(0, np.float32), note="contacts.npz has no contact of this object")
        assert values is not None
        mesh, note = self._finder.body(name, len(values), known)
        if mesh is None and (self._folder / file).is_file():
            try:
                own = load_mesh(self._folder / file)
                if len(own.vertices) == len(values) and own.topology_hash == known:
                    mesh, note = own, ""
            except IvlmError as error:
                note = f"{note}; {file} {error.problem}"
        return Heat(mesh, values.astype(np.float32), note=note)

    def _arrays(self, notes: list[str]) -> dict[str, np.ndarray]:
        path = self._folder / "contacts.npz"
        try:
            with zipfile.ZipFile(path) as members:
                if sum(member.file_size for member in members.infolist()) > MAX_ARRAY_BYTES:
                    notes.append("contacts.npz is larger than a result can be: no contact is shown")
                    return {}
            with np.load(path, allow_pickle=False) as stored:
                return {name: stored[name] for name in stored.files}
        except FileNotFoundError:
            notes.append("contacts.npz is missing: no contact is shown")
        except UNREADABLE as error:
            notes.append(f"contacts.npz is damaged: {error}")
        return {}

    def _people(self, notes: list[str]) -> tuple[Person, ...]:
        path = self._folder / "scene.glb"
        if not path.is_file():
            return ()
        try:
            parts = load_glb_parts(path)
        except IvlmError as error:
            notes.append(f"scene.glb {error.problem}")
            return ()
        people = []
        for name, mesh, colors in parts:
            if found := _PERSON.fullmatch(name):
                turned = (mesh.vertices @ OPTICAL_TO_GLTF).astype(np.float32)
                people.append(Person(Mesh(turned, mesh.faces, "person"), found[1], colors))
        return tuple(people)

    def _camera(self) -> CameraIntrinsics | None:
        given = self._summary.get("camera")
        numbers = _numbers(given)
        try:
            camera = CameraIntrinsics(
                **{name: numbers[name] for name in ("fx", "fy", "cx", "cy")},
                width=int(numbers["width"]),
                height=int(numbers["height"]),
            )
        except (KeyError, OverflowError):
            return None
        return camera if camera.fx > 0 and camera.fy > 0 and min(camera.width, camera.height) > 0 else None


def _thing(used: dict[str, Any], suffix: str, arrays: Mapping[str, np.ndarray], notes: list[str]) -> Heat:
    values = arrays.get(f"object_probability{suffix}")
    vertices, faces = arrays.get(f"object_vertices{suffix}"), arrays.get(f"object_faces{suffix}")
    if not _are_values(values) or vertices is None or faces is None:
        return Heat(None, np.zeros(0, np.float32), note="contacts.npz has no mesh of this object")
    assert values is not None
    try:
        mesh = Mesh(vertices, faces, "object")
    except (IvlmError, ValueError) as error:
        return Heat(None, np.zeros(0, np.float32), note=f"the object's mesh in contacts.npz is unusable: {error}")
    if len(values) != len(mesh.vertices) or mesh.topology_hash != used.get("topology_hash"):
        note = "contacts.npz and result.json tell of different meshes of the object"
        return Heat(None, np.zeros(0, np.float32), note=note)
    note = "a plain box stands in for the object" if used.get("mesh_source") == "fallback" else ""
    return Heat(mesh, values.astype(np.float32), note=note)


def _are_values(values: np.ndarray | None) -> bool:
    if values is None or values.ndim != 1 or values.dtype.kind != "f":
        return False
    return bool(((values >= 0) & (values <= 1)).all())


def _placement(pose: dict[str, Any]) -> Placement | None:
    """A pose as `result.json` has it; None without one that can be used."""
    if not pose.get("pose_valid"):
        return None
    try:
        rotation = np.array(pose["rotation"], dtype=np.float64)
        translation = np.array(pose["translation"], dtype=np.float64)
        scale = float(pose["scale"])
    except (KeyError, TypeError, ValueError):
        return None
    if rotation.shape != (3, 3) or translation.shape != (3,) or not 1e-6 < scale < 1e6:
        return None
    turns = np.isfinite(rotation).all() and np.abs(rotation @ rotation.T - np.eye(3)).max() < 1e-3
    return Placement(rotation, translation, scale) if turns and np.isfinite(translation).all() else None


def _regions(value: Any) -> list[Region]:
    """Free regions; the file does not say which vertices they have."""
    regions = []
    for entry in _list(value):
        try:
            middle, normal = (np.array(entry[name], dtype=np.float64) for name in ("centroid", "normal"))
        except (KeyError, TypeError, ValueError):
            continue
        if middle.shape == normal.shape == (3,) and np.isfinite(np.concatenate([middle, normal])).all():
            area, affordance = (_number(entry.get(name)) or 0.0 for name in ("area_cm2", "affordance"))
            regions.append(Region(middle, normal, area, affordance, np.zeros(0, np.int32)))
    return regions


def _load_json(path: Path) -> dict[str, Any]:
    field = f"result {path}"
    try:
        if file_size(path) > MAX_JSON_BYTES:
            raise InputError(field, "is larger than a result can be", "give the folder of a result")
        summary = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(field, "does not exist", "give the folder that `ivlm contact --out` wrote") from None
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(field, f"cannot be read: {error}", "write the result anew") from error
    if not isinstance(summary, dict) or not isinstance(summary.get("objects"), list):
        raise InputError(field, "is no result of this package", "give the folder that `ivlm contact --out` wrote")
    return summary


def _named(entry: dict[str, Any]) -> tuple[str, str]:
    """Label and identifier of an object."""
    return str(entry.get("label", ""))[:256], str(entry.get("object_id", ""))[:256]


def _entry(entry: dict[str, Any], name: str) -> dict[str, Any]:
    value = entry.get(name)
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _strings(value: Any) -> list[str]:
    return [item[:2000] for item in value if isinstance(item, str)] if isinstance(value, list) else []


def _numbers(value: Any) -> dict[str, float]:
    pairs = value.items() if isinstance(value, dict) else ()
    return {name[:256]: number for name, item in pairs if (number := _number(item)) is not None}


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return float(value)


def _whole(value: Any) -> int:
    return value if isinstance(value, int) and abs(value) < 2**63 else 0
