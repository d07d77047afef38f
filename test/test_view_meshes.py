"""Meshes for recorded values: the same topology or none, and files only from where they may be read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ivlm_core.bodies import load_body
from ivlm_core.errors import ConfigError
from ivlm_core.objects import library_mesh, write_glb
from ivlm_core.types import Mesh
from ivlm_core.view.meshes import KEPT, MeshFinder

TRIANGLE = Mesh(np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0]], np.float32), np.array([[0, 1, 2]]))
NAMES = (len(TRIANGLE.vertices), TRIANGLE.topology_hash)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    folder.mkdir()
    monkeypatch.setenv("IVLM_CACHE_DIR", str(folder))
    return folder


def test_body_and_library_object_are_found_by_name() -> None:
    body, chair = load_body().mesh, library_mesh("chair")
    finder = MeshFinder()
    assert finder.body("anny", len(body.vertices), body.topology_hash) == (body, "")
    assert finder.thing("chair", "", "library", len(chair.vertices), chair.topology_hash) == (chair, "")
    found, note = finder.thing("wooden chair", "", "library", len(chair.vertices), chair.topology_hash)
    assert found is chair
    assert "wooden chair" in note


@pytest.mark.parametrize(("count", "name"), [(-1, None), (None, "0" * 16)])
def test_another_topology_is_no_mesh(count: int | None, name: str | None) -> None:
    for find, mesh in ((MeshFinder().body, load_body().mesh), (None, library_mesh("chair"))):
        told = (count or len(mesh.vertices), name or mesh.topology_hash)
        found, note = find("anny", *told) if find else MeshFinder().thing("chair", "", "library", *told)
        assert found is None
        assert "cannot be shown" in note


def test_body_that_is_not_shipped_says_how_to_give_it(tmp_path: Path) -> None:
    found, note = MeshFinder().body("smplx", 10475, "0" * 16)
    assert found is None
    assert "--body-path" in note
    found, note = MeshFinder(body_paths={"smplx": tmp_path / "none.npz"}).body("smplx", 10475, "0" * 16)
    assert found is None
    assert "--body-path" not in note
    assert MeshFinder().body("../../etc", 3, "")[0] is None


def test_file_in_the_cache_is_read(cache: Path) -> None:
    write_glb(cache / "objects/my thing.glb", TRIANGLE)
    found, note = MeshFinder().thing("gadget", (cache / "objects/my thing.glb").as_uri(), "file", *NAMES)
    assert found is not None
    assert note == ""
    np.testing.assert_allclose(found.vertices, TRIANGLE.vertices)


def test_file_elsewhere_is_read_only_where_its_folder_is_given(tmp_path: Path) -> None:
    path = tmp_path / "elsewhere/thing.glb"
    write_glb(path, TRIANGLE)
    found, note = MeshFinder().thing("gadget", path.as_uri(), "file", *NAMES)
    assert found is None
    assert "--meshes" in note
    assert MeshFinder([path.parent]).thing("gadget", path.as_uri(), "file", *NAMES)[0] is not None
    # Of a recording from another computer, the file's name alone is looked for there.
    assert MeshFinder([path.parent]).thing("gadget", "file:///home/robot/thing.glb", "file", *NAMES)[0] is not None


def test_links_and_dots_lead_nowhere(cache: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret/thing.glb"
    write_glb(secret, TRIANGLE)
    (cache / "link.glb").symlink_to(secret)
    for uri in ((cache / "link.glb").as_uri(), f"{cache.as_uri()}/../secret/thing.glb"):
        found, note = MeshFinder().thing("gadget", uri, "file", *NAMES)
        assert found is None
        assert "may be read" in note


@pytest.mark.parametrize(
    "uri",
    [
        "http://127.0.0.1/thing.glb",
        "file://otherhost/tmp/thing.glb",
        "package://a/b.glb",
        "file:///a%00b.glb",
        "file://[",
        "x",
    ],
)
def test_what_is_no_file_of_this_computer_is_not_opened(uri: str) -> None:
    found, note = MeshFinder().thing("gadget", uri, "file", *NAMES)
    assert found is None
    assert "cannot be shown" in note


def test_changed_file_is_not_taken_for_the_recorded_mesh(cache: Path) -> None:
    write_glb(cache / "thing.glb", library_mesh("cup"))
    found, note = MeshFinder().thing("gadget", (cache / "thing.glb").as_uri(), "file", *NAMES)
    assert found is None
    assert "another topology" in note


def test_box_that_stands_in_says_so() -> None:
    box = library_mesh("box")
    found, note = MeshFinder().thing("box", "", "fallback", len(box.vertices), box.topology_hash)
    assert found is not None
    assert "stands in" in note


def test_label_that_is_none_is_a_note() -> None:
    found, note = MeshFinder().thing("<script>", "", "library", *NAMES)
    assert found is None
    assert "special tokens" in note


def test_few_are_remembered() -> None:
    finder = MeshFinder()
    for number in range(3 * KEPT):
        finder.thing("<", "", "library", number, "")
    assert len(finder._found) == KEPT


def test_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--meshes"):
        MeshFinder([tmp_path / "none"])
