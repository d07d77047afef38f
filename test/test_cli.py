"""The command line as a user types it."""

from __future__ import annotations

import json

import numpy as np
import pytest
import trimesh
from PIL import Image
from skimage.data import astronaut

from ivlm_core.cli import main


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    path = tmp_path_factory.mktemp("photo") / "photo.jpg"
    Image.fromarray(astronaut()).save(path)
    return path


def test_contact_on_a_photograph(photo, tmp_path, capsys):
    assert main(["contact", str(photo), "--object", "space suit", "--out", str(tmp_path / "out"), "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary == json.loads((tmp_path / "out" / "result.json").read_text())
    assert summary["untrained"] is True
    with np.load(tmp_path / "out" / "contacts.npz") as contacts:
        assert contacts["human_probability"].shape == (13718,)
        assert contacts["object_probability"].shape == (len(contacts["object_vertices"]),)
        assert contacts["object_faces"].max() < len(contacts["object_vertices"])
    assert Image.open(tmp_path / "out" / "overlay.png").size[0] > 640
    body = trimesh.load(tmp_path / "out" / "human.glb", force="mesh", process=False)
    assert len(body.vertices) == 13718
    assert (tmp_path / "out" / "object.glb").stat().st_size > 1000


def test_two_objects_one_with_its_own_mesh(photo, tmp_path, capsys):
    trimesh.creation.box().export(tmp_path / "crate.obj")
    arguments = ["contact", str(photo), "--object", "chair", "--object", f"crate={tmp_path / 'crate.obj'}"]
    assert main([*arguments, "--out", str(tmp_path / "out"), "--reasoning", "direct"]) == 0
    printed = capsys.readouterr().out
    assert "untrained" in printed
    assert "chair: " in printed
    assert "crate: " in printed
    with np.load(tmp_path / "out" / "contacts.npz") as contacts:
        assert contacts["object_vertices_1"].shape == (8, 3)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["contact", "none.jpg", "--object", "chair"], "none.jpg"),
        (["contact", "PHOTO", "--object", ""], "object.label"),
        (["contact", "PHOTO", "--object", "a<image>"], "object.label"),
        (["contact", "PHOTO", "--object", "chair=none.obj"], "none.obj"),
        (["contact", "PHOTO", "--object", "chair", "--threshold", "1.5"], "--threshold"),
        (["contact", "PHOTO", "--object", "chair", "--model", "nothing"], "model"),
        (["contact", "PHOTO", "--object", "chair", "--device", "tpu"], "device"),
    ],
)
def test_bad_input_is_one_line_and_status_two(photo, tmp_path, capsys, arguments, named):
    filled = [str(photo) if argument == "PHOTO" else argument for argument in arguments]
    assert main([*filled, "--out", str(tmp_path / "out"), "--json"]) == 2
    captured = capsys.readouterr()
    assert named in json.loads(captured.out)["error"]["field"]
    assert captured.err.startswith("ivlm: ")
    assert len(captured.err.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_convert_and_check(reference_checkpoint, tmp_path, capsys):
    arguments = ["convert", str(reference_checkpoint), str(tmp_path / "native")]
    check = ["--check", str(reference_checkpoint / "reference.npz")]
    assert main([*arguments, *check, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["passed"] is True
    assert report["stages"]["human/seg_hidden"] <= 1e-4
    assert main([*arguments, *check]) == 0, "an existing target is checked as it is"
    assert "human/low_res_masks" in capsys.readouterr().out
    profile = tmp_path / "native" / "profile.yaml"
    profile.write_text(profile.read_text() + "\n")
    assert main([*arguments, *check]) == 1
    assert "manifest/profile.yaml" in capsys.readouterr().out
    assert main(arguments) == 2
    assert "exists already" in capsys.readouterr().err


@pytest.mark.parametrize("mode", ["human", "binary", "scene", "affordance", "object_contact", "image"])
def test_every_mode(photo, tmp_path, capsys, mode):
    objects = [] if mode == "scene" else ["--object", "chair", "--object", "cup"]
    arguments = [
        "contact",
        str(photo),
        *objects,
        "--mode",
        mode,
        "--reasoning",
        "direct",
        "--out",
        str(tmp_path / "out"),
    ]
    assert main(arguments) == 0
    assert capsys.readouterr().out.count("It is <") == {"binary": 2, "scene": 1}.get(mode, 2)
    summary = json.loads((tmp_path / "out" / "result.json").read_text())
    with np.load(tmp_path / "out" / "contacts.npz") as contacts:
        names = set(contacts.files)
    if mode == "image":
        assert names == {"image_probability", "image_probability_1"}
        assert [item["label"] for item in summary["image_contacts"]] == ["chair", "cup"]
    else:
        assert ("human_probability" in names) is (mode in ("human", "binary", "scene"))
        assert ("object_probability" in names) is (mode in ("affordance", "object_contact"))


def test_object_is_needed_outside_the_scene(photo, tmp_path, capsys):
    assert main(["contact", str(photo), "--out", str(tmp_path / "out")]) == 2
    assert "--object" in capsys.readouterr().err


def test_objects_lists_the_library(capsys):
    assert main(["objects", "--json"]) == 0
    labels = {row["label"] for row in json.loads(capsys.readouterr().out)["objects"]}
    assert {"chair", "table", "bottle", "cup", "box", "ball", "book", "laptop", "backpack", "skateboard"} <= labels
    assert main(["objects"]) == 0
    assert "skateboard" in capsys.readouterr().out


def test_doctor(capsys):
    assert main(["doctor", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["usable"] is True
    assert main(["doctor"]) == 0
    assert "torch" in capsys.readouterr().out


def test_help_lists_every_command(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    printed = capsys.readouterr().out
    for command in ("contact", "convert", "objects", "synth", "doctor"):
        assert command in printed


def test_synth_needs_frames(tmp_path, capsys):
    assert main(["synth", "--bag", str(tmp_path / "bag"), "--frames", "0"]) == 2
    assert "--frames" in capsys.readouterr().err
