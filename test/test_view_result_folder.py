"""Folders of results: what `write_result` wrote is what is shown, and damaged files leave the rest."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ivlm_core.draw import write_result
from ivlm_core.errors import InputError
from ivlm_core.types import CameraIntrinsics, Frame, FrameResult, ObjectQuery, Unanswered
from ivlm_core.view.meshes import MeshFinder
from ivlm_core.view.moments import Pair
from ivlm_core.view.result_folder import ResultFolder

CAMERA = CameraIntrinsics(60.0, 60.0, 31.5, 23.5, 64, 48)
PICTURE = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)


_WRITTEN: dict[str, tuple[Path, FrameResult]] = {}


@pytest.fixture
def written(fake_pipeline: Any, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, FrameResult]:
    """A folder with a result of fits, and the result; written once, and copied for each test."""
    if not _WRITTEN:
        folder = tmp_path_factory.mktemp("result")
        fake_pipeline.fits = True
        frame = Frame(PICTURE, CAMERA, frame_id="cam")
        result = fake_pipeline.run(frame, [ObjectQuery("chair", "0"), ObjectQuery("cup", "1", person_id="p")])
        write_result(folder, result, PICTURE, 0.25, frame)
        _WRITTEN["result"] = folder, result
    folder, result = _WRITTEN["result"]
    shutil.copytree(folder, tmp_path / "result")
    return tmp_path / "result", result


def show(folder: Path) -> ResultFolder:
    return ResultFolder(folder, MeshFinder())


def test_moment_is_what_was_written(written: tuple[Path, FrameResult]) -> None:
    folder, result = written
    source = show(folder)
    moment = source.moment(0)
    assert len(source.stamps) == 1
    assert source.thresholds == (0.0, 0.25)
    assert [(pair.camera, pair.label, pair.object_id, pair.person_id) for pair in source.pairs] == [
        (result.frame_id, item.object_label, item.object_id, item.person_id) for item in result.human_contacts
    ]
    np.testing.assert_array_equal(moment.picture, PICTURE)
    assert "overlay.png" in moment.picture_note
    assert moment.camera == CAMERA
    assert moment.notes == ()
    for pair, human, thing, fitted in zip(
        source.pairs, result.human_contacts, result.object_affordances, result.reconstructions, strict=True
    ):
        answer = moment.answers[pair]
        assert answer.body is not None
        assert answer.thing is not None
        assert answer.body.mesh is not None
        assert answer.thing.mesh is not None
        # A body that the package does not have is shown from its file.
        assert answer.body.mesh.topology_hash == human.mesh.topology_hash
        assert answer.thing.mesh.topology_hash == thing.mesh.topology_hash
        np.testing.assert_allclose(answer.body.values, human.probability)
        np.testing.assert_allclose(answer.thing.values, thing.probability)
        assert answer.sentence == human.answer
        assert dict(answer.body_parts) == pytest.approx(dict(human.body_parts), abs=1e-4)
        assert answer.placement is not None
        np.testing.assert_allclose(answer.placement.rotation, fitted.rotation)
        np.testing.assert_allclose(answer.placement.translation, fitted.translation)
        assert answer.placement.scale == pytest.approx(fitted.scale)
        assert dict(answer.residuals) == {name: value for name, value in fitted.residuals.items() if np.isfinite(value)}
        assert fitted.summary is not None
        assert len(answer.regions) == len(fitted.summary.free_regions)
    bodies = {id(item.body): item.body for item in result.reconstructions if item.body is not None}
    assert len(moment.people) == len(bodies)
    for person, body in zip(moment.people, bodies.values(), strict=True):
        np.testing.assert_allclose(person.mesh.vertices, body.vertices, atol=1e-6)
        assert person.colors is not None


@pytest.mark.parametrize("name", ["contacts.npz", "overlay.png", "scene.glb"])
@pytest.mark.parametrize("how", ["missing", "cut", "noise"])
def test_damaged_file_leaves_the_rest(written: tuple[Path, FrameResult], name: str, how: str) -> None:
    folder, _ = written
    path = folder / name
    data = path.read_bytes()
    path.unlink()
    if how != "missing":
        path.write_bytes(data[: len(data) // 2] if how == "cut" else b"\x93" * 300)
    source = show(folder)
    moment = source.moment(0)
    told = [*moment.notes, moment.picture_note]
    assert any(name in text for text in told) or (name, how) == ("scene.glb", "missing")
    assert (moment.picture is None) == (name == "overlay.png")
    assert (moment.people == ()) == (name == "scene.glb")
    heats = [answer.body for answer in moment.answers.values()]
    assert all((heat is not None and heat.mesh is None) == (name == "contacts.npz") for heat in heats)


def test_pickle_in_the_arrays_is_not_loaded(written: tuple[Path, FrameResult]) -> None:
    folder, _ = written
    np.savez(folder / "contacts.npz", human_probability=np.array([{"a": 1}], dtype=object))
    assert any("contacts.npz is damaged" in note for note in show(folder).moment(0).notes)


def test_meshes_of_another_result_are_not_mixed(written: tuple[Path, FrameResult]) -> None:
    folder, _ = written
    with np.load(folder / "contacts.npz") as stored:
        arrays = dict(stored)
    arrays["object_faces"] = arrays["object_faces"][:, [0, 2, 1]]
    arrays["human_probability"] = np.append(arrays["human_probability"], np.float32(0.5))
    arrays["object_probability_1"] = np.full_like(arrays["object_probability_1"], np.nan)
    np.savez(folder / "contacts.npz", **arrays)
    first, second = show(folder).moment(0).answers.values()
    assert first.thing is not None
    assert first.body is not None
    assert second.thing is not None
    assert (first.thing.mesh, first.body.mesh, second.thing.mesh) == (None, None, None)
    assert "different meshes" in first.thing.note


@pytest.mark.parametrize(
    "pose",
    [
        {"rotation": [[1, 0], [0, 1]]},
        {"rotation": [[2, 0, 0], [0, 1, 0], [0, 0, 1]]},
        {"scale": 0},
        {"scale": None},
        {"translation": [0, 0, "x"]},
        {"translation": None},
    ],
)
def test_wild_pose_is_none(written: tuple[Path, FrameResult], pose: dict[str, Any]) -> None:
    folder, _ = written
    summary = json.loads((folder / "result.json").read_text())
    summary["reconstructions"][0].update(pose)
    (folder / "result.json").write_text(json.dumps(summary))
    first, second = show(folder).moment(0).answers.values()
    assert first.placement is None
    assert second.placement is not None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"objects": 3}', "null", "[" * 100_000])
def test_what_is_no_result_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "result.json").write_text(text)
    with pytest.raises(InputError, match=r"result\.json"):
        show(tmp_path)


@pytest.mark.parametrize(
    "field", ["objects", "reconstructions", "unanswered", "camera", "threshold", "notes", "stamp_ns"]
)
@pytest.mark.parametrize("value", [None, [1, None, "x"], {"a": []}, "text", -1e300, [{"label": 5, "human": 3}]])
def test_fields_of_any_kind_are_shown_or_refused(written: tuple[Path, FrameResult], field: str, value: Any) -> None:
    folder, _ = written
    summary = json.loads((folder / "result.json").read_text())
    summary[field] = value
    (folder / "result.json").write_text(json.dumps(summary))
    try:
        source = show(folder)
    except InputError:
        assert field == "objects"
        return
    assert set(source.moment(0).answers) == set(source.pairs)
    assert 0.0 <= source.thresholds[1] <= 1.0


def test_objects_without_answers_are_listed(tmp_path: Path) -> None:
    result = FrameResult((), (), (Unanswered("cup", "it is hidden", "human", "7"),))
    write_result(tmp_path, result, None)
    source = show(tmp_path)
    assert source.pairs == [Pair("", "cup", "7", "")]
    assert source.moment(0).answers[source.pairs[0]].missing == ("no human contact: it is hidden",)
