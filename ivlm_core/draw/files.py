"""A result on disk: `result.json`, `contacts.npz`, `overlay.png` and coloured meshes."""

from __future__ import annotations

import json
import math
import re
import tempfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ivlm_core.draw.answers import Answer, answers
from ivlm_core.draw.heat import NEUTRAL_GREY, heat_colors
from ivlm_core.errors import InputError, shown
from ivlm_core.objects import write_glb
from ivlm_core.types import ByteArray, FloatArray, FrameResult, HumanContact, Mesh, ObjectAffordance

_MESH_FILE = re.compile(r"(human|object)(_\d+)?\.glb")


def write_result(out: Path, result: FrameResult, overlay: ByteArray | None, threshold: float = 0.5) -> dict[str, Any]:
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

    Parameters
    ----------
    out : the folder; made when missing.
    overlay : (H', W', 3) uint8 RGB from `draw_overlay`, or None for none.
    threshold : the probability from which a vertex counts as touched.

    Raises
    ------
    InputError : the folder cannot be made or written.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        # Staged on the same disk, so that moving into place is a rename.
        with tempfile.TemporaryDirectory(prefix=".ivlm-", dir=out) as name:
            summary = _stage(Path(name), result, overlay, threshold)
            for file in summary["files"]:
                (Path(name) / file).replace(out / file)
            for old in out.glob("*.glb"):
                if _MESH_FILE.fullmatch(old.name) and old.name not in summary["files"]:
                    old.unlink()
    except OSError as error:
        raise InputError(
            "out", f"{shown(str(out), 300)} cannot be written: {error}", "choose a folder you may write to"
        ) from error
    return summary


def _stage(folder: Path, result: FrameResult, overlay: ByteArray | None, threshold: float) -> dict[str, Any]:
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
        good, encoded = cv2.imencode(".png", cv2.cvtColor(overlay, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_PNG_COMPRESSION, 4])
        if not good:
            raise InputError("overlay", f"of shape {overlay.shape} cannot be encoded", "give (H, W, 3) uint8 RGB")
        (folder / "overlay.png").write_bytes(encoded.tobytes())
        files.append("overlay.png")
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


def _number(value: float) -> float | None:
    """A JSON number; JSON has no NaN."""
    return round(float(value), 6) if math.isfinite(value) else None


def _write_heat(path: Path, mesh: Mesh, probability: FloatArray) -> str:
    write_glb(path, mesh, heat_colors(probability, (NEUTRAL_GREY,) * 3))
    return path.name
