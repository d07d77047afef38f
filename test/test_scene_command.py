"""`ivlm reconstruct` as a user types it."""

from __future__ import annotations

import json

import numpy as np
import pytest
import trimesh
import yaml
from PIL import Image

from ivlm_core.bodies import load_body
from ivlm_core.cli import LOADING, main
from ivlm_core.datasets.synthetic import SAMPLE, SynthHoi
from ivlm_core.evaluate.bodies import noisy_keypoints, true_body

# A skateboard under the left foot.
SCENE = 2


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    """Folder with everything about one scene, and the scene."""
    record = SynthHoi(SAMPLE, "test")[SCENE]
    folder = tmp_path_factory.mktemp("scene")
    Image.fromarray(record.image).save(folder / "image.png")
    Image.fromarray(record.object_mask(0)).save(folder / "mask.png")
    camera = record.intrinsics
    matrix = [camera.fx, 0.0, camera.cx, 0.0, camera.fy, camera.cy, 0.0, 0.0, 1.0]
    told = {"image_width": camera.width, "image_height": camera.height, "camera_matrix": {"data": matrix}}
    (folder / "camera.yaml").write_text(yaml.safe_dump(told))
    keypoints = noisy_keypoints(record, true_body(record)[1], np.random.default_rng(0))
    rows = np.column_stack([keypoints.points, keypoints.scores]).tolist()
    (folder / "keypoints.json").write_text(json.dumps(rows))
    np.save(folder / "depth.npy", record.depth)
    return folder, record


def arguments(folder, *more: str) -> list[str]:
    return [
        "reconstruct",
        str(folder / "image.png"),
        *("--object", "skateboard", "--mask", str(folder / "mask.png")),
        *("--camera", str(folder / "camera.yaml"), "--reasoning", "direct"),
        *more,
    ]


def test_a_scene_in_metres(scene, tmp_path, capsys):
    folder, record = scene
    out = tmp_path / "out"
    more = ["--keypoints", str(folder / "keypoints.json"), "--out", str(out), "--video", str(tmp_path / "fit.avi")]
    assert main(arguments(folder, *more, "--json")) == 0
    summary = json.loads(capsys.readouterr().out)
    (told,) = summary["reconstructions"]
    assert told["pose_valid"]
    assert told["body_source"] == "keypoints"
    assert summary["video_pictures"] > 24
    assert (tmp_path / "fit.avi").stat().st_size > 10_000
    thing = record.objects[0]
    true = record.camera_rotation @ (thing.translation - record.camera_position)
    assert np.linalg.norm(np.array(told["translation"]) - true) < 0.35
    assert json.loads((out / "result.json").read_text())["reconstructions"] == [told]
    glb = trimesh.load(out / "scene.glb", process=False)
    assert [name.split(" ", 1)[1] for name in glb.geometry] == ["person", "skateboard 0"]
    # glTF looks along −z: what is in front of the camera has negative z.
    assert glb.bounds[1][2] < 0
    assert glb.geometry["0 person"].vertices.shape == (len(load_body().mesh.vertices), 3)
    assert Image.open(out / "scene.png").width > 1000


def test_depth_stands_in_for_the_body(scene, tmp_path, capsys):
    folder, record = scene
    more = ["--depth", str(folder / "depth.npy"), "--out", str(tmp_path / "out")]
    assert main(arguments(folder, *more)) == 0
    printed = capsys.readouterr().out
    assert "depth_cm" in printed
    (told,) = json.loads((tmp_path / "out" / "result.json").read_text())["reconstructions"]
    true = record.camera_rotation @ (record.objects[0].translation - record.camera_position)
    assert np.linalg.norm(np.array(told["translation"]) - true) < 0.35
    assert told["body_source"] is None


def test_without_body_and_depth_nothing_is_put_anywhere(scene, tmp_path, capsys):
    folder, _ = scene
    assert main(arguments(folder, "--out", str(tmp_path / "out"))) == 1
    printed = capsys.readouterr().out
    assert "--keypoints" in printed
    assert "no pose: no posed body is given" in printed
    assert not (tmp_path / "out" / "scene.glb").exists()
    # The contact is told all the same.
    assert (tmp_path / "out" / "human.glb").exists()


def test_an_assumed_camera_is_said_so(scene, tmp_path, capsys):
    folder, _ = scene
    given = arguments(folder, "--out", str(tmp_path / "out"), "--keypoints", str(folder / "keypoints.json"))
    at = given.index("--camera")
    main(given[:at] + given[at + 2 :])
    assert "60° across are assumed" in capsys.readouterr().out
    told = json.loads((tmp_path / "out" / "result.json").read_text())
    assert "60° across are assumed" in told["notes"][0]
    assert told["camera"]["width"] == 256


def test_what_stands_in_for_an_unknown_object_is_said(scene, tmp_path, capsys):
    folder, _ = scene
    given = arguments(folder, "--out", str(tmp_path / "out"), "--keypoints", str(folder / "keypoints.json"))
    main(["frobnicator" if word == "skateboard" else word for word in given])
    printed = capsys.readouterr().out
    (told,) = json.loads((tmp_path / "out" / "result.json").read_text())["reconstructions"]
    assert "'frobnicator'" in told["notes"][0]
    assert "box" in told["notes"][0]
    assert told["notes"][0] in printed


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--object", "cup"], "--mask: is given 1 times for 2 objects"),
        (["--person", "a", "--person", "b"], "--person"),
        (["--threshold", "2"], "--threshold"),
        (["--keypoints", "no.json"], "no.json"),
        (["--body", "no.npz"], "no.npz"),
        (["--depth", "no.npy"], "no.npy"),
        (["--library", "no_library"], "no_library"),
        (["--sam", "no.pth"], "no.pth"),
        (["--box", "nan", "0", "5", "5"], "object.box"),
    ],
)
def test_wrong_options_are_refused_by_name(scene, tmp_path, capsys, more, told):
    folder, _ = scene
    assert main(arguments(folder, *more, "--out", str(tmp_path / "out"))) == 2
    # What only loading finds out comes after the line that says so.
    (error,) = (line for line in capsys.readouterr().err.strip().splitlines() if line != LOADING)
    assert told in error
    assert not (tmp_path / "out").exists()


def test_an_object_needs_a_place_in_the_picture(scene, tmp_path, capsys):
    folder, _ = scene
    assert main(["reconstruct", str(folder / "image.png"), "--object", "cup", "--out", str(tmp_path)]) == 2
    assert "--box" in capsys.readouterr().err
    assert main(["reconstruct", str(folder / "image.png"), "--out", str(tmp_path)]) == 2
    assert "--object" in capsys.readouterr().err
