"""A result on disk: `result.json`, `contacts.npz`, pictures, coloured meshes and the joint scene."""

from __future__ import annotations

import json
import math
import re
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ivlm_core.draw.answers import Answer, answers
from ivlm_core.draw.fitted import draw_scene, scene_of
from ivlm_core.draw.heat import NEUTRAL_GREY, heat_colors
from ivlm_core.draw.joint_scene import write_scene_glb
from ivlm_core.errors import InputError, shown
from ivlm_core.objects import write_glb
from ivlm_core.types import (
    ByteArray,
    ContactSummary,
    FloatArray,
    Frame,
    FrameResult,
    FreeRegion,
    HumanContact,
    Mesh,
    ObjectAffordance,
    Reconstruction,
)

# What only some results have, and an earlier one may have left.
_SOMETIMES = re.compile(r"(human|object)(_\d+)?\.glb|scene\.(glb|png)|overlay\.png")


def write_result(
    out: Path,
    result: FrameResult,
    overlay: ByteArray | None,
    threshold: float = 0.5,
    frame: Frame | None = None,
    notes: Sequence[str] = (),
) -> dict[str, Any]:
    """Write everything about one result into a folder, replacing what an earlier result left there.

    All files are prepared first and moved into place only when all of them are complete, `result.json` last: a failure
    or a full disk leaves the folder as it was.

    Files
    -----
    result.json : what was found, in words and counts; the returned dictionary.
    contacts.npz : float32 `human_probability` (V,), `object_probability` (N,), `object_vertices` (N, 3) metres and
        int32 `object_faces` (F, 3) for the first object; with `_1`, `_2`, … appended for the next. What an object
        has no answer for is left out. Contact on the picture itself is `image_probability` (H, W), numbered likewise.
    overlay.png : the picture, if one is given.
    human.glb, object.glb : the meshes in heat colours, metres, y up; `human_1.glb` and so on for the next objects.
    scene.glb, scene.png : where objects were fitted into the scene: bodies and objects with their contact, and, if the
        frame is given, pictures of them. Their poses are in `result.json` under `reconstructions`.

    Parameters
    ----------
    out : the folder; made when missing.
    overlay : (H', W', 3) uint8 RGB from `draw_overlay`, or None for none.
    threshold : the probability from which a vertex counts as touched.
    frame : what the result is of, for `scene.png` and the camera. notes : for `result.json`.

    Raises
    ------
    InputError : the folder cannot be made or written.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        # Staged on the same disk, so that moving into place is a rename.
        with tempfile.TemporaryDirectory(prefix=".ivlm-", dir=out) as name:
            summary = _stage(Path(name), result, overlay, threshold, frame, notes)
            for file in summary["files"]:
                (Path(name) / file).replace(out / file)
            for old in out.iterdir():
                if _SOMETIMES.fullmatch(old.name) and old.name not in summary["files"]:
                    old.unlink()
    except OSError as error:
        raise InputError(
            "out", f"{shown(str(out), 300)} cannot be written: {error}", "choose a folder you may write to"
        ) from error
    return summary


def _stage(
    folder: Path,
    result: FrameResult,
    overlay: ByteArray | None,
    threshold: float,
    frame: Frame | None,
    notes: Sequence[str],
) -> dict[str, Any]:
    arrays: dict[str, np.ndarray] = {}
    objects = []
    files = []
    for index, answer in enumerate(answers(result)):
        suffix = f"_{index}" if index else ""
        entry = _entry(answer, threshold)
        if answer.human is not None:
            arrays[f"human_probability{suffix}"] = answer.human.probability.astype(np.float32)
            entry["human"]["file"] = f"human{suffix}.glb"
            files.append(_write_heat(folder / f"human{suffix}.glb", answer.human.mesh, answer.human.probability))
        if answer.affordance is not None:
            mesh = answer.affordance.mesh
            arrays[f"object_probability{suffix}"] = answer.affordance.probability.astype(np.float32)
            arrays[f"object_vertices{suffix}"] = mesh.vertices.astype(np.float32)
            arrays[f"object_faces{suffix}"] = mesh.faces.astype(np.int32)
            entry["object"]["file"] = f"object{suffix}.glb"
            files.append(_write_heat(folder / f"object{suffix}.glb", mesh, answer.affordance.probability))
        objects.append(entry)
    for index, picture in enumerate(result.image_contacts):
        arrays[f"image_probability{f'_{index}' if index else ''}"] = picture.probability.astype(np.float32)
    with (folder / "contacts.npz").open("wb") as stream:
        np.savez(stream, **arrays)  # type: ignore[arg-type]
    files.append("contacts.npz")
    if overlay is not None:
        files.append(_write_picture(folder / "overlay.png", overlay))
    files += _write_scene(folder, result, frame)
    files.append("result.json")
    summary = {
        "model": result.model,
        "threshold": threshold,
        "seconds": {stage: round(float(value), 6) for stage, value in result.seconds.items()},
        "stamp_ns": result.stamp_ns,
        "frame_id": result.frame_id,
        "objects": objects,
        "image_contacts": [
            {
                "label": item.object_label,
                "object_id": item.object_id,
                "answer": item.answer,
                "confidence": _number(item.confidence),
                "pixels_in_contact": int((item.probability >= threshold).sum()),
            }
            for item in result.image_contacts
        ],
        "unanswered": [
            {"label": item.object_label, "object_id": item.object_id, "side": item.side, "reason": item.reason}
            for item in result.unanswered
        ],
        "reconstructions": [_pose_entry(item) for item in result.reconstructions],
        "camera": asdict(frame.intrinsics) if frame is not None and frame.intrinsics is not None else None,
        "notes": list(notes),
        "files": files,
    }
    text = json.dumps(summary, indent=2, ensure_ascii=False, allow_nan=False)
    (folder / "result.json").write_text(text + "\n", encoding="utf-8")
    return summary


def _entry(answer: Answer, threshold: float) -> dict[str, Any]:
    first = next(side for side in (answer.human, answer.affordance) if side is not None)
    return {
        "label": answer.label,
        "object_id": answer.object_id,
        "answer": first.answer,
        "confidence": _number(first.confidence),
        "human": _human_entry(answer.human, threshold) if answer.human else None,
        "object": _object_entry(answer.affordance, threshold) if answer.affordance else None,
    }


def _human_entry(human: HumanContact, threshold: float) -> dict[str, Any]:
    parts = sorted(human.body_parts.items(), key=lambda item: (-item[1], item[0]))
    return {
        "body_model": human.body_model,
        "person_id": human.person_id,
        "vertex_count": len(human.mesh.vertices),
        "topology_hash": human.mesh.topology_hash,
        "vertices_in_contact": int((human.probability >= threshold).sum()),
        "body_parts": {name: round(float(score), 4) for name, score in parts},
        "answer": human.answer,
        "confidence": _number(human.confidence),
    }


def _object_entry(affordance: ObjectAffordance, threshold: float) -> dict[str, Any]:
    return {
        "mesh_source": affordance.mesh_source,
        "mesh_resource": affordance.mesh_resource,
        "vertex_count": len(affordance.mesh.vertices),
        "topology_hash": affordance.mesh.topology_hash,
        "affordance": affordance.affordance,
        "vertices_in_contact": int((affordance.probability >= threshold).sum()),
        "answer": affordance.answer,
        "confidence": _number(affordance.confidence),
    }


def _write_scene(folder: Path, result: FrameResult, frame: Frame | None) -> list[str]:
    """The joint scene, where there is anything in it; the names of its files."""
    if not any(item.pose_valid or item.body is not None for item in result.reconstructions):
        return []
    known = {item.number: item.probability for item in result.object_affordances}
    scene = scene_of(result.reconstructions, known)
    write_scene_glb(folder / "scene.glb", scene)
    if frame is None:
        return ["scene.glb"]
    return ["scene.glb", _write_picture(folder / "scene.png", draw_scene(frame, result.reconstructions, scene))]


def _write_picture(path: Path, picture: ByteArray) -> str:
    good, encoded = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_PNG_COMPRESSION, 4])
    if not good:
        raise InputError(path.stem, f"of shape {picture.shape} cannot be encoded", "give (H, W, 3) uint8 RGB")
    path.write_bytes(encoded.tobytes())
    return path.name


def _pose_entry(item: Reconstruction) -> dict[str, Any]:
    """Where an object was put, in the image's optical frame, metres."""
    entry: dict[str, Any] = {
        "label": item.object_label,
        "object_id": item.object_id,
        "person_id": item.person_id,
        "mesh": item.mesh.name,
        "pose_valid": item.pose_valid,
        "reason": item.reason,
        "notes": list(item.notes),
        "state": item.state,
        "rotation": item.rotation.tolist() if item.pose_valid else None,
        "translation": item.translation.tolist() if item.pose_valid else None,
        "scale": _number(item.scale) if item.pose_valid else None,
        "residuals": {name: _number(value) for name, value in item.residuals.items()},
        "body_source": item.body.source if item.body is not None else None,
        "contact": None,
    }
    if item.summary is not None:
        entry["contact"] = {
            **_place(item.summary),
            "free_regions": [
                {**_place(region), "affordance": _number(region.affordance)} for region in item.summary.free_regions
            ],
        }
    return entry


def _place(given: ContactSummary | FreeRegion) -> dict[str, Any]:
    return {
        "centroid": [_number(value) for value in given.centroid],
        "normal": [_number(value) for value in given.normal],
        "area_cm2": _number(given.area_cm2),
    }


def _number(value: float) -> float | None:
    """A JSON number; JSON has no NaN."""
    return round(float(value), 6) if math.isfinite(value) else None


def _write_heat(path: Path, mesh: Mesh, probability: FloatArray) -> str:
    write_glb(path, mesh, heat_colors(probability, (NEUTRAL_GREY,) * 3))
    return path.name
