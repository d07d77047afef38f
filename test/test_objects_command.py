"""`ivlm objects`: what it prints, what it writes, and what it refuses."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ivlm_core.errors import ConfigError, InputError
from ivlm_core.objects import library_labels, library_mesh, open_library, write_glb
from ivlm_core.objects.command import add_arguments, run
from ivlm_core.objects.descriptors import silhouettes


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IVLM_CACHE_DIR", str(tmp_path / "cache"))


@pytest.fixture
def meshes(tmp_path: Path) -> Path:
    """A folder per category, a mesh in each."""
    for label in ("bicycle", "bottle", "chair"):
        write_glb(tmp_path / "meshes" / label / f"my_{label}.glb", library_mesh(label))
    return tmp_path / "meshes"


@pytest.fixture
def picture(tmp_path: Path) -> tuple[Path, Path]:
    """A picture of the library's bicycle and its mask."""
    direction = np.array([[0.7, 0.2, 0.7]]) / np.linalg.norm([0.7, 0.2, 0.7])
    seen = np.kron(silhouettes(library_mesh("bicycle"), direction)[0] > 0.5, np.ones((3, 3), dtype=bool))
    mask = np.zeros((240, 320), dtype=bool)
    mask[20:212, 60:252] = seen
    Image.fromarray(np.where(mask[..., None], 90, 200).astype(np.uint8).repeat(3, axis=2)).save(tmp_path / "it.png")
    Image.fromarray(mask.astype(np.uint8) * 255).save(tmp_path / "mask.png")
    return tmp_path / "it.png", tmp_path / "mask.png"


def _options(*words: object) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--json", action="store_true")
    add_arguments(parser)
    return parser.parse_args([str(word) for word in words])


def _told(capsys: pytest.CaptureFixture[str], *words: object, status: int = 0) -> dict[str, Any]:
    assert run(_options("--json", *words)) == status
    captured = capsys.readouterr()
    assert captured.err == ""
    told: dict[str, Any] = json.loads(captured.out)
    return told


def test_without_an_action_the_built_in_shapes_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert [row["label"] for row in _told(capsys)["objects"]] == list(library_labels())
    assert run(_options()) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + len(library_labels())
    assert lines[1].split()[0] == "chair"


def test_json_may_stand_before_or_after_the_action(tmp_path: Path) -> None:
    assert _options("--json", "index", tmp_path).json
    assert _options("index", tmp_path, "--json").json
    assert not _options("index", tmp_path).json


def test_a_folder_is_added_under_the_names_of_its_folders(
    tmp_path: Path, meshes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = _told(capsys, "add", tmp_path / "lib", meshes, "--licence", "CC0")
    assert (told["entries"], told["added"], told["labels"]) == (3, 3, ["bicycle", "bottle", "chair"])
    assert told["sources"] == ["silhouette-1"]
    assert {entry.licence for entry in open_library(tmp_path / "lib").entries} == {"CC0"}


def test_progress_is_shown_to_people(tmp_path: Path, meshes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(_options("add", tmp_path / "lib", meshes, "--label", "thing")) == 0
    captured = capsys.readouterr()
    assert "adding: 100%" in captured.err
    assert "3 added, 0 changed, 0 dropped, 0 refused" in captured.out


def test_size_and_id_of_a_mesh(tmp_path: Path, meshes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = meshes / "bottle" / "my_bottle.glb"
    _told(capsys, "add", tmp_path / "lib", file, "--id", "flask", "--longest-m", 0.3, "--label", "flask")
    entry = open_library(tmp_path / "lib").entries[0]
    assert (entry.id, entry.label) == ("flask", "flask")
    assert entry.scale is not None
    assert (entry.scale.longest_m, entry.scale.spread_m) == (0.3, pytest.approx(0.03))


def test_refused_meshes_give_status_1(tmp_path: Path, meshes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (meshes / "chair" / "broken.obj").write_text("f 1 2 3")
    told = _told(capsys, "add", tmp_path / "lib", meshes, status=1)
    assert told["added"] == 3
    assert [Path(item["file"]).name for item in told["refused"]] == ["broken.obj"]


def test_index_follows_the_files(tmp_path: Path, meshes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = _told(capsys, "index", meshes.parent)
    assert (told["entries"], told["added"]) == (3, 3)
    (meshes / "chair" / "my_chair.glb").unlink()
    told = _told(capsys, "index", meshes.parent, status=1)
    assert (told["entries"], told["dropped"], len(told["refused"])) == (2, 1, 1)
    assert _told(capsys, "index", meshes.parent)["changed"] == 0


def test_precomputed_embeddings_come_with_their_labels(
    tmp_path: Path, meshes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ids = np.array(["my_chair", "my_bottle", "elsewhere"])
    np.savez(tmp_path / "it.npz", ids=ids, embeddings=np.eye(3, 8), labels=np.array(["chair", "wine bottle", "x"]))
    told = _told(capsys, "add", tmp_path / "lib", meshes, "--openshape", tmp_path / "it.npz")
    assert sorted(told["sources"]) == ["openshape", "silhouette-1"]
    library = open_library(tmp_path / "lib")
    assert {entry.id: entry.label for entry in library.entries} == {
        "my_bicycle": "bicycle",
        "my_bottle": "wine bottle",
        "my_chair": "chair",
    }
    lengths = np.diff(library.embeddings["openshape"].starts)
    assert dict(zip((entry.id for entry in library.entries), lengths.tolist(), strict=True)) == {
        "my_bicycle": 0,
        "my_bottle": 1,
        "my_chair": 1,
    }


def test_precomputed_embeddings_of_another_model_name_the_file(
    tmp_path: Path, meshes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, width in (("chair", 8), ("bottle", 6)):
        np.savez(tmp_path / f"{name}.npz", ids=np.array([f"my_{name}"]), embeddings=np.eye(1, width))
    _told(capsys, "add", tmp_path / "lib", meshes / "chair", "--openshape", tmp_path / "chair.npz")
    with pytest.raises(InputError, match=r"bottle\.npz: .* have 6 dimensions, .* have 8"):
        run(_options("add", tmp_path / "lib", meshes / "bottle", "--openshape", tmp_path / "bottle.npz"))
    assert len(open_library(tmp_path / "lib")) == 1


def test_names_that_are_no_text_are_reported(tmp_path: Path, meshes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (meshes / "chair" / os.fsdecode(b"a\xff.obj")).write_text("f 1 2 3")
    assert run(_options("index", meshes.parent)) == 1
    assert "refused" in capsys.readouterr().out


def test_search_finds_what_the_picture_shows(
    tmp_path: Path, meshes: Path, picture: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    _told(capsys, "add", tmp_path / "lib", meshes)
    told = _told(capsys, "search", picture[0], "--mask", picture[1], "--library", tmp_path / "lib")
    assert told["found"] == "any"
    assert told["hits"][0]["id"] == "my_bicycle"
    scores = [hit["score"] for hit in told["hits"]]
    assert len(scores) == 3
    assert scores == sorted(scores, reverse=True)


def test_search_in_the_built_in_library_stays_within_the_label(
    picture: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    told = _told(capsys, "search", picture[0], "--mask", picture[1], "--label", "bike", "--top", 3)
    assert (told["found"], told["label"], len(told["hits"])) == ("synonym", "bicycle", 3)
    assert {hit["label"] for hit in told["hits"]} == {"bicycle"}
    assert run(_options("search", picture[0], "--mask", picture[1], "--label", "bycicle")) == 0
    assert capsys.readouterr().out.splitlines()[0] == "'bycicle' → bicycle (nearest label)"


def test_a_label_of_the_built_in_library_alone_is_searched_there(
    tmp_path: Path, meshes: Path, picture: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """As when an object is fitted: at each step the user's library first, then the built-in one."""
    _told(capsys, "add", tmp_path / "lib", meshes / "bottle", meshes / "chair")
    asked = ("search", picture[0], "--mask", picture[1], "--library", tmp_path / "lib", "--label")
    told = _told(capsys, *asked, "bicycle")
    assert (told["library"], told["found"], told["label"]) == ("the built-in library", "exact", "bicycle")
    assert {hit["label"] for hit in told["hits"]} == {"bicycle"}
    assert run(_options(*asked, "bicycle")) == 0
    assert "lib has no 'bicycle': these are of the built-in library" in capsys.readouterr().out.splitlines()[0]
    assert [hit["id"] for hit in _told(capsys, *asked, "bottle")["hits"]] == ["my_bottle"]
    assert run(_options(*asked, "volcano")) == 1
    assert "lib and the built-in library have nothing like 'volcano'" in capsys.readouterr().out


def test_an_empty_library_is_still_the_users(
    tmp_path: Path, picture: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "lib").mkdir()
    _told(capsys, "index", tmp_path / "lib")
    told = _told(capsys, "search", *_masked(picture), "--library", tmp_path / "lib", "--label", "chair")
    assert told["library"] == "the built-in library"
    with pytest.raises(ConfigError, match="has no embeddings of 'silhouette-1', only of nothing"):
        run(_options("search", *_masked(picture), "--library", tmp_path / "lib"))


def _masked(picture: tuple[Path, Path]) -> tuple[object, ...]:
    return picture[0], "--mask", picture[1]


def test_an_unknown_label_says_that_a_box_stands_in(
    picture: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    told = _told(capsys, "search", picture[0], "--mask", picture[1], "--label", "volcano", status=1)
    assert (told["found"], told["hits"]) == ("box", [])
    assert run(_options("search", picture[0], "--mask", picture[1], "--label", "volcano")) == 1
    assert "a box of the detection's size stands in" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words",
    [
        ("--top", "0"),
        ("--source", "clip"),
        ("--source", "openshape"),
        ("--library", "/nowhere"),
        ("--label", "chair"),
    ],
)
def test_what_search_cannot_do(picture: tuple[Path, Path], words: tuple[str, ...]) -> None:
    masked = () if "--label" in words else ("--mask", picture[1])
    with pytest.raises((ConfigError, InputError)):
        run(_options("search", picture[0], *masked, *words))


def test_mask_of_another_size(tmp_path: Path, picture: tuple[Path, Path]) -> None:
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(tmp_path / "small.png")
    with pytest.raises(InputError, match="must match the picture"):
        run(_options("search", picture[0], "--mask", tmp_path / "small.png"))


def test_options_that_do_not_go_together(tmp_path: Path, meshes: Path) -> None:
    for words in (("--id", "a"), ("--spread-m", 1), ("--openshape-labels", tmp_path / "x.json")):
        with pytest.raises(ConfigError):
            run(_options("add", tmp_path / "lib", meshes, *words))
    assert not (tmp_path / "lib").exists()
