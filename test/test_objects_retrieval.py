"""Which mesh stands for a query, and where it can be fetched from."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from urllib.parse import unquote, urlparse

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ivlm_core.errors import MeshError
from ivlm_core.objects import find_object, library_mesh, load_mesh, normalize_for_views, retrieval, write_glb
from ivlm_core.types import Mesh, ObjectQuery


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("IVLM_CACHE_DIR", str(tmp_path / "cache dir"))
    return tmp_path / "cache dir"


def _path(uri: str) -> Path:
    assert uri.startswith("file:///")
    return Path(unquote(urlparse(uri).path))


def test_known_label_comes_from_the_library() -> None:
    match = find_object(ObjectQuery("chair"))
    assert (match.source, match.note, match.label) == ("library", "", "chair")
    assert match.mesh is library_mesh("chair")


def test_other_name_is_noted() -> None:
    match = find_object(ObjectQuery("office chair"))
    assert match.source == "library"
    assert match.label == "office chair"
    assert match.note == "'office chair' is shown with the library's chair"


def test_library_resource_is_the_same_mesh(cache: Path) -> None:
    match = find_object(ObjectQuery("tennis racket"))
    path = _path(match.resource)
    assert path.parent == cache / "objects"
    assert load_mesh(path).content_hash == match.mesh.content_hash


def test_library_resource_is_written_once(cache: Path) -> None:
    path = _path(find_object(ObjectQuery("cup")).resource)
    before = path.stat().st_mtime_ns
    retrieval._write_once.cache_clear()
    assert _path(find_object(ObjectQuery("mug")).resource) == path
    assert path.stat().st_mtime_ns == before
    assert len(list((cache / "objects").iterdir())) == 1


def test_unwritable_cache_is_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("IVLM_CACHE_DIR", str(tmp_path / "file"))
    with caplog.at_level(logging.WARNING, logger="ivlm"):
        match = find_object(ObjectQuery("bottle"))
    assert match.resource == ""
    assert match.mesh is library_mesh("bottle")
    assert "IVLM_CACHE_DIR" in caplog.text


def test_unknown_label_is_a_box_that_says_so() -> None:
    match = find_object(ObjectQuery("space suit"))
    assert match.source == "fallback"
    assert match.label == "space suit"
    assert "'space suit'" in match.note
    assert "box stands in" in match.note
    np.testing.assert_allclose(np.ptp(match.mesh.vertices, axis=0), 0.3, atol=1e-6)


def test_inline_mesh_is_used_as_it_is() -> None:
    mesh = Mesh(np.eye(3, dtype=np.float32), np.array([[0, 1, 2]], dtype=np.int32))
    match = find_object(ObjectQuery("chair", mesh=mesh))
    assert match.mesh is mesh
    assert (match.source, match.resource) == ("file", "")


def test_mesh_file_with_spaces_and_unicode_in_its_name(tmp_path: Path) -> None:
    path = tmp_path / "my Stühle 1.glb"
    write_glb(path, library_mesh("chair"))
    match = find_object(ObjectQuery("throne", mesh=path))
    assert match.source == "file"
    assert _path(match.resource) == path
    assert match.mesh.content_hash == library_mesh("chair").content_hash


def test_mesh_file_is_read_again_only_when_it_changed(tmp_path: Path) -> None:
    path = tmp_path / "it.glb"
    write_glb(path, library_mesh("chair"))
    query = ObjectQuery("it", mesh=path)
    first = find_object(query).mesh
    assert find_object(query).mesh is first
    write_glb(path, library_mesh("table"))
    os.utime(path, ns=(1, 1))
    assert find_object(query).mesh.content_hash == library_mesh("table").content_hash


def test_missing_mesh_file_is_not_replaced_by_the_library(tmp_path: Path) -> None:
    with pytest.raises(MeshError, match="does not exist"):
        find_object(ObjectQuery("chair", mesh=tmp_path / "chair.obj"))


def test_normalized_mesh_follows_the_released_convention() -> None:
    mesh = library_mesh("chair")
    views = normalize_for_views(mesh)
    np.testing.assert_allclose(views.vertices.mean(axis=0), 0, atol=1e-6)
    assert np.ptp(views.vertices, axis=0).max() == pytest.approx(1.0, abs=1e-6)
    np.testing.assert_array_equal(views.faces, mesh.faces)
    assert normalize_for_views(mesh) is views


@given(st.floats(0.001, 1000), st.tuples(*[st.floats(-50, 50)] * 3))
def test_normalizing_forgets_size_and_place(scale: float, offset: tuple[float, float, float]) -> None:
    mesh = library_mesh("skateboard")
    moved = Mesh((mesh.vertices.astype(np.float64) * scale + offset).astype(np.float32), mesh.faces)
    # float32 keeps about seven digits of the offset, which are fewer of a small mesh.
    tolerance = 1e-5 + 1e-5 * max(map(abs, offset)) / scale
    np.testing.assert_allclose(normalize_for_views(moved).vertices, normalize_for_views(mesh).vertices, atol=tolerance)


def test_degenerate_mesh_cannot_be_normalized() -> None:
    point = Mesh(np.ones((3, 3), dtype=np.float32), np.array([[0, 1, 2]], dtype=np.int32))
    with pytest.raises(MeshError, match="in one point"):
        normalize_for_views(point)
