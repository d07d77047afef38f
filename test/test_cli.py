"""The command line as a user types it."""

from __future__ import annotations

import json
import runpy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import trimesh
from PIL import Image
from scipy.sparse import csr_matrix, save_npz
from skimage.data import astronaut

from ivlm_core.cli import contact_lines, main
from ivlm_core.types import Frame, ObjectQuery


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    path = tmp_path_factory.mktemp("photo") / "photo.jpg"
    Image.fromarray(astronaut()).save(path)
    return path


def test_contact_on_a_photograph(photo, tmp_path, capsys, seeded_model):
    arguments = ["contact", str(photo), "--object", "space suit", "--model", str(seeded_model)]
    assert main([*arguments, "--out", str(tmp_path / "out"), "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary == json.loads((tmp_path / "out" / "result.json").read_text())
    with np.load(tmp_path / "out" / "contacts.npz") as contacts:
        assert contacts["human_probability"].shape == (13718,)
        assert contacts["object_probability"].shape == (len(contacts["object_vertices"]),)
        assert contacts["object_faces"].max() < len(contacts["object_vertices"])
    assert Image.open(tmp_path / "out" / "overlay.png").size[0] > 640
    body = trimesh.load(tmp_path / "out" / "human.glb", force="mesh", process=False)
    assert len(body.vertices) == 13718
    assert (tmp_path / "out" / "object.glb").stat().st_size > 1000


def test_two_objects_one_with_its_own_mesh(photo, tmp_path, capsys, seeded_model):
    trimesh.creation.box().export(tmp_path / "crate.obj")
    arguments = ["contact", str(photo), "--object", "chair", "--object", f"crate={tmp_path / 'crate.obj'}"]
    arguments += ["--model", str(seeded_model)]
    assert main([*arguments, "--out", str(tmp_path / "out"), "--reasoning", "direct"]) == 0
    printed = capsys.readouterr().out
    assert "chair:" in printed
    assert "vertices of the library's mesh" in printed
    assert "crate:" in printed
    assert "vertices of its own mesh" in printed
    with np.load(tmp_path / "out" / "contacts.npz") as contacts:
        assert contacts["object_vertices_1"].shape == (8, 3)


@pytest.mark.parametrize(("name", "vertices"), [("smplx", 10475), ("smpl", 6890)])
def test_contact_on_another_body(photo, tmp_path, capsys, name, vertices, seeded_model):
    synthetic = runpy.run_path(str(Path(__file__).with_name("test_bodies_smpl_family.py")))["synthetic"]
    np.savez(tmp_path / "model.npz", **synthetic(name))
    # A synthetic body has random geometry, on which no places can be found: the file says where they are.
    rows = np.random.default_rng(0).integers(0, 13718, vertices)
    matrix = csr_matrix((np.ones(vertices, np.float32), (np.arange(vertices), rows)), shape=(vertices, 13718))
    save_npz(tmp_path / "map.npz", matrix)
    arguments = ["contact", str(photo), "--object", "chair", "--mode", "human", "--reasoning", "direct", "--json"]
    arguments += ["--model", str(seeded_model)]
    assert main([*arguments, "--out", str(tmp_path / "plain")]) == 0
    body = ["--output-body", name, "--output-body-path", str(tmp_path / "model.npz")]
    body += ["--body-map", str(tmp_path / "map.npz")]
    assert main([*arguments, *body, "--out", str(tmp_path / "out")]) == 0
    summary = json.loads(capsys.readouterr().out.splitlines()[-1])
    human = summary["objects"][0]["human"]
    assert (human["body_model"], human["vertex_count"]) == (name, vertices)
    found, plain = (np.load(tmp_path / folder / "contacts.npz")["human_probability"] for folder in ("out", "plain"))
    np.testing.assert_allclose(found, plain[rows], atol=1e-5)
    mesh = trimesh.load(tmp_path / "out" / "human.glb", force="mesh", process=False)
    assert len(mesh.vertices) == vertices


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["contact", "none.jpg", "--object", "chair"], "none.jpg"),
        (["contact", "PHOTO", "--object", ""], "object.label"),
        (["contact", "PHOTO", "--object", "a<image>"], "object.label"),
        (["contact", "PHOTO", "--object", "chair=none.obj"], "none.obj"),
        (["contact", "PHOTO", "--object", "chair", "--threshold", "1.5"], "--threshold"),
        (["contact", "PHOTO", "--object", "chair", "--model", "nothing"], "model"),
        (["contact", "PHOTO", *["--object", "chair"] * 2, "--box", "1", "2", "3", "4"], "--box"),
        (["contact", "PHOTO", "--object", "chair", "--box", "3", "2", "1", "4"], "object.box"),
        (["contact", "PHOTO", "--object", "chair", "--device", "tpu"], "device"),
        (["contact", "PHOTO", "--object", "chair", "--body", "robot"], "body"),
        (["contact", "PHOTO", "--object", "chair", "--body", "smplh"], "body.model_path"),
        (["contact", "PHOTO", "--object", "chair", "--body-path", "smplh.npz"], "body.model_path"),
        (["contact", "PHOTO", "--object", "chair", "--output-body", "robot"], "output_body"),
        (["contact", "PHOTO", "--object", "chair", "--output-body", "smplx"], "output_body_path"),
        (["contact", "PHOTO", "--object", "chair", "--output-body", "smpl", "--output-body-path", "no.npz"], "body"),
        (["contact", "PHOTO", "--object", "chair", "--output-body-path", "smplx.npz"], "output_body_path"),
        (["contact", "PHOTO", "--object", "chair", "--output-body", "anny", "--body-map", "no.npz"], "body_map"),
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
def test_every_mode(photo, tmp_path, capsys, mode, seeded_model):
    objects = [] if mode == "scene" else ["--object", "chair", "--object", "cup"]
    arguments = [
        "contact",
        str(photo),
        *objects,
        "--model",
        str(seeded_model),
        "--mode",
        mode,
        "--reasoning",
        "direct",
        "--out",
        str(tmp_path / "out"),
    ]
    assert main(arguments) == 0
    printed = capsys.readouterr()
    assert "<" not in printed.out, "the contact token is for the model"
    assert printed.err == "loading the model\n"
    summary = json.loads((tmp_path / "out" / "result.json").read_text())
    with np.load(tmp_path / "out" / "contacts.npz") as contacts:
        names = set(contacts.files)
    if mode == "image":
        assert names == {"image_probability", "image_probability_1"}
        assert [item["label"] for item in summary["image_contacts"]] == ["chair", "cup"]
    else:
        assert ("human_probability" in names) is (mode in ("human", "binary", "scene"))
        assert ("object_probability" in names) is (mode in ("affordance", "object_contact"))


def test_answers_are_told_in_words(fake_pipeline):
    frame = Frame(np.zeros((48, 64, 3), np.uint8))
    result = fake_pipeline.run(frame, [ObjectQuery("flurble")])
    human = replace(result.human_contacts[0], answer="The feet touch it, and the contact region is <HCON>.")
    thing = replace(
        result.object_affordances[0], answer="It is <OCON>.", mesh_source="fallback", probability=np.zeros(4)
    )
    spoken, parts, nothing, mesh, *_ = contact_lines(
        replace(result, human_contacts=(human,), object_affordances=(thing,)), 0.5
    )
    assert spoken.endswith(": The feet touch it.")
    assert parts.startswith("  body: ")
    assert nothing.endswith(":")
    assert mesh.startswith("  object: 0 vertices of a plain box: the library has no mesh of 'flurble' (")
    assert "'ivlm objects' lists" in mesh


def test_boxes_go_with_the_objects(photo, tmp_path, capsys, seeded_model):
    arguments = ["contact", str(photo), "--object", "chair", "--model", str(seeded_model), "--reasoning", "direct"]
    pictures = []
    for number, box in enumerate(([], ["--box", "100", "120", "300", "400"])):
        assert main([*arguments, *box, "--out", str(tmp_path / str(number))]) == 0
        pictures.append(np.asarray(Image.open(tmp_path / str(number) / "overlay.png")))
    assert pictures[0].shape != pictures[1].shape or (pictures[0] != pictures[1]).any(), "no box is drawn"


def test_nothing_is_loaded_for_a_folder_that_is_a_file(photo, capsys):
    arguments = ["contact", str(photo), "--object", "chair", "--model", "nothing"]
    for out in (photo, photo / "below"):
        assert main([*arguments, "--out", str(out)]) == 2
        assert capsys.readouterr().err == f"ivlm: --out: '{photo}' is a file, not a folder (name a folder)\n"


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


def test_synth_without_an_action_says_what_there_is(capsys):
    assert main(["synth"]) == 2
    assert "generate, contact-sheet, or --bag DIR" in capsys.readouterr().err


def test_synth_generate_tells_how_many_and_how_fast(tmp_path, capsys, monkeypatch):
    import ivlm_core.datasets.synthetic as synthetic
    from ivlm_core.datasets.synthetic.store import Manifest, ShardEntry

    asked = []

    def generate(root, split, count, seed, workers, progress):
        asked.append((root, split, count, seed, workers))
        for done in range(2, count + 1):
            progress(done, count)
        return Manifest(split, seed, count, (ShardEntry("a", 0, count, 1000, "", {"cup": {"": 1, "left hand": 4}}),))

    monkeypatch.setattr(synthetic, "generate", generate)
    arguments = ["synth", "generate", str(tmp_path), "--split", "unseen", "--count", "5", "--seed", "3"]
    assert main([*arguments, "--workers", "2", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert asked == [(tmp_path, "unseen", 5, 3, 2)]
    assert (told["scenes"], told["made"], told["bytes"]) == (5, 3, 1000)
    assert told["categories"] == {"cup": {"": 1, "left hand": 4}}
    assert told["scenes_per_second"] > 0
    assert main(arguments) == 0
    printed = capsys.readouterr()
    assert "not touched 1, left hand 4" in printed.out
    assert "5/5" in printed.err


def test_synth_contact_sheet_of_the_sample(tmp_path, capsys):
    from ivlm_core.datasets.synthetic import SAMPLE

    picture = tmp_path / "sheet.png"
    arguments = ["synth", "contact-sheet", str(SAMPLE), str(picture), "--split", "test", "--scenes", "4"]
    assert main([*arguments, "--columns", "2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"picture": str(picture), "scenes": 4}
    assert Image.open(picture).size == (1024, 416)
    assert main([*arguments, "--first", "999"]) == 2
    assert main(["synth", "contact-sheet", str(tmp_path), str(picture)]) == 2
    assert "ivlm synth generate" in capsys.readouterr().err
