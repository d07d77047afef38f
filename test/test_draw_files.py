"""A result's folder: everything loads back, and it appears whole or not at all."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import trimesh

from ivlm_core.draw import files, heat_colors, write_result
from ivlm_core.draw.heat import NEUTRAL_GREY
from ivlm_core.errors import InputError
from ivlm_core.objects import library_mesh
from ivlm_core.types import FrameResult, HumanContact, Mesh, ObjectAffordance, Unanswered, ViewPack

RANDOM = np.random.default_rng(3)
OVERLAY = RANDOM.integers(0, 256, (50, 70, 3), dtype=np.uint8)
EMPTY = np.zeros((0,), dtype=np.float32)


def _pack(mesh: Mesh) -> ViewPack:
    return ViewPack(mesh, (), EMPTY, EMPTY, EMPTY, EMPTY, EMPTY, EMPTY, EMPTY)  # type: ignore[arg-type]


def contact(label: str, ident: str = "") -> HumanContact:
    body = library_mesh("ball")
    values = RANDOM.random(len(body.vertices), dtype=np.float32)
    parts = {"hips": 0.25, "left hand": 0.75}
    return HumanContact(label, values, "anny", body, _pack(body), parts, f"holds {label}", 0.5, ident, "p1")


def affordance(label: str, ident: str = "") -> ObjectAffordance:
    mesh = library_mesh(label)
    values = RANDOM.random(len(mesh.vertices), dtype=np.float32)
    return ObjectAffordance(
        label, values, mesh, _pack(mesh), "grasp", "it is held", 0.25, "file:///m.glb", object_id=ident
    )


@pytest.fixture
def result() -> FrameResult:
    return FrameResult(
        (contact("chair"), contact("bottle", "b-1")),
        (affordance("chair"), affordance("bottle", "b-1")),
        (Unanswered("kite", "no contact token", "human", "k"),),
        {"reason": 0.125},
        "tiny",
        7,
        "camera",
    )


def test_promised_files_are_there(tmp_path: Path, result: FrameResult) -> None:
    summary = write_result(tmp_path / "a" / "b", result, OVERLAY)
    names = {"result.json", "contacts.npz", "overlay.png", "human.glb", "object.glb", "human_1.glb", "object_1.glb"}
    assert {path.name for path in (tmp_path / "a" / "b").iterdir()} == names == set(summary["files"])


def test_json_on_disk_is_what_was_returned(tmp_path: Path, result: FrameResult) -> None:
    summary = write_result(tmp_path, result, OVERLAY, threshold=0.3)
    assert json.loads((tmp_path / "result.json").read_text("utf-8")) == summary
    assert (summary["model"], summary["threshold"]) == ("tiny", 0.3)
    assert summary["seconds"] == {"reason": 0.125}
    assert (summary["stamp_ns"], summary["frame_id"]) == (7, "camera")
    assert summary["unanswered"] == [{"label": "kite", "object_id": "k", "side": "human", "reason": "no contact token"}]
    first, second = summary["objects"]
    assert (first["label"], first["answer"], first["confidence"]) == ("chair", "holds chair", 0.5)
    assert second["object_id"] == "b-1"
    human = result.human_contacts[0]
    assert first["human"] == {
        "body_model": "anny",
        "person_id": "p1",
        "vertex_count": len(human.probability),
        "topology_hash": human.mesh.topology_hash,
        "vertices_in_contact": int((human.probability >= 0.3).sum()),
        "body_parts": {"left hand": 0.75, "hips": 0.25},
        "answer": "holds chair",
        "confidence": 0.5,
        "file": "human.glb",
    }
    assert list(first["human"]["body_parts"]) == ["left hand", "hips"]
    assert second["object"]["mesh_source"] == "library"
    assert second["object"]["affordance"] == "grasp"
    assert second["object"]["vertices_in_contact"] == int((result.object_affordances[1].probability >= 0.3).sum())
    assert second["object"]["file"] == "object_1.glb"


def test_arrays_come_back_exactly(tmp_path: Path, result: FrameResult) -> None:
    write_result(tmp_path, result, OVERLAY)
    with np.load(tmp_path / "contacts.npz", allow_pickle=False) as stored:
        assert len(stored.files) == 8
        for index, suffix in enumerate(("", "_1")):
            human, thing = result.human_contacts[index], result.object_affordances[index]
            np.testing.assert_array_equal(stored[f"human_probability{suffix}"], human.probability)
            np.testing.assert_array_equal(stored[f"object_probability{suffix}"], thing.probability)
            np.testing.assert_array_equal(stored[f"object_vertices{suffix}"], thing.mesh.vertices)
            np.testing.assert_array_equal(stored[f"object_faces{suffix}"], thing.mesh.faces)
            assert stored[f"human_probability{suffix}"].dtype == np.float32


def test_meshes_carry_their_heat(tmp_path: Path, result: FrameResult) -> None:
    write_result(tmp_path, result, OVERLAY)
    for name, side in (("human_1", result.human_contacts[1]), ("object_1", result.object_affordances[1])):
        stored = trimesh.load_mesh(tmp_path / f"{name}.glb", process=False, skip_materials=True)
        np.testing.assert_array_equal(stored.vertices.astype(np.float32), side.mesh.vertices)
        np.testing.assert_array_equal(stored.faces, side.mesh.faces)
        expected = heat_colors(side.probability, (NEUTRAL_GREY,) * 3)
        np.testing.assert_array_equal(stored.visual.vertex_colors[:, :3], expected)


def test_overlay_comes_back_exactly(tmp_path: Path, result: FrameResult) -> None:
    write_result(tmp_path, result, OVERLAY)
    stored = cv2.cvtColor(cv2.imread(str(tmp_path / "overlay.png")), cv2.COLOR_BGR2RGB)
    np.testing.assert_array_equal(stored, OVERLAY)


def test_result_without_answers(tmp_path: Path) -> None:
    summary = write_result(tmp_path, FrameResult((), ()), None)
    assert summary["objects"] == []
    assert {path.name for path in tmp_path.iterdir()} == {"result.json", "contacts.npz"}
    with np.load(tmp_path / "contacts.npz", allow_pickle=False) as stored:
        assert stored.files == []


def test_missing_side_has_no_zeros(tmp_path: Path, result: FrameResult) -> None:
    half = replace(result, human_contacts=result.human_contacts[1:])
    summary = write_result(tmp_path, half, None)
    assert summary["objects"][0]["human"] is None
    with np.load(tmp_path / "contacts.npz", allow_pickle=False) as stored:
        assert "human_probability" not in stored.files
        np.testing.assert_array_equal(stored["human_probability_1"], result.human_contacts[1].probability)
    assert not (tmp_path / "human.glb").exists()


def test_nan_confidence_is_valid_json(tmp_path: Path, result: FrameResult) -> None:
    odd = replace(result, human_contacts=(replace(result.human_contacts[0], confidence=float("nan")),))
    write_result(tmp_path, odd, None)

    def refuse(name: str) -> None:
        raise AssertionError(name)

    stored = json.loads((tmp_path / "result.json").read_text("utf-8"), parse_constant=refuse)
    assert stored["objects"][0]["confidence"] is None


def test_earlier_meshes_do_not_stay(tmp_path: Path, result: FrameResult) -> None:
    (tmp_path / "mine.glb").touch()
    (tmp_path / "human_notes.glb").touch()
    write_result(tmp_path, result, OVERLAY)
    one = replace(result, human_contacts=result.human_contacts[:1], object_affordances=result.object_affordances[:1])
    write_result(tmp_path, one, OVERLAY)
    kept = {path.name for path in tmp_path.glob("*.glb")}
    assert kept == {"human.glb", "object.glb", "mine.glb", "human_notes.glb"}


@pytest.mark.parametrize("failing", ["write_glb", "np.savez", "cv2.imencode", "json.dumps"])
def test_failure_in_the_middle_leaves_the_folder_as_it_was(
    tmp_path: Path, result: FrameResult, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    write_result(tmp_path, replace(result, model="before"), OVERLAY)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, failing, full) if "." not in failing else monkeypatch.setattr(
        f"ivlm_core.draw.files.{failing}", full
    )
    with pytest.raises(InputError, match=r"out: .*No space left.*choose a folder"):
        write_result(tmp_path, result, OVERLAY)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_folder_that_is_a_file(tmp_path: Path, result: FrameResult) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"file' cannot be written"):
        write_result(tmp_path / "file", result, OVERLAY)


def test_files_have_ordinary_permissions(tmp_path: Path, result: FrameResult) -> None:
    (tmp_path / "plain").touch()
    wanted = (tmp_path / "plain").stat().st_mode
    summary = write_result(tmp_path, result, OVERLAY)
    assert {(tmp_path / name).stat().st_mode for name in summary["files"]} == {wanted}
