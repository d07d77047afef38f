"""Which mesh stands for a query, and where it can be fetched from."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import os
from pathlib import Path
from urllib.parse import unquote, urlparse

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ivlm_core.errors import MeshError
from ivlm_core.objects import (
    Embeddings,
    Entry,
    FolderLibrary,
    NewMesh,
    ObjectLibrary,
    ScalePrior,
    SilhouetteEmbedder,
    add_meshes,
    builtin_library,
    find_object,
    library_mesh,
    load_mesh,
    normalize_for_views,
    open_library,
    retrieval,
    write_glb,
)
from ivlm_core.objects.builtin import instance_mesh
from ivlm_core.objects.descriptors import silhouettes
from ivlm_core.objects.retrieval import label_matches
from ivlm_core.types import CameraIntrinsics, Frame, Mesh, ObjectQuery

IMAGE = np.zeros((96, 128, 3), dtype=np.uint8)


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


def _mask(mesh: Mesh) -> np.ndarray:
    """What a camera sees of a mesh, obliquely."""
    direction = np.array([[0.55, 0.35, 0.76]])
    mask = np.zeros(IMAGE.shape[:2], dtype=bool)
    mask[20:84, 30:94] = silhouettes(mesh, direction / np.linalg.norm(direction))[0] > 0.5
    return mask


@pytest.fixture
def library(tmp_path: Path) -> ObjectLibrary:
    """Two chairs, of which the default is the second, and a teapot that is a ball."""
    files = {"arm": instance_mesh("chair", 2), "plain": library_mesh("chair"), "pot": library_mesh("ball")}
    for name, mesh in files.items():
        write_glb(tmp_path / "files" / f"{name}.glb", mesh)
    labels = {"arm": "chair", "plain": "chair", "pot": "teapot"}
    new = [
        NewMesh(tmp_path / "files" / f"{name}.glb", label, scale=ScalePrior(0.5, 0.1)) for name, label in labels.items()
    ]
    add_meshes(tmp_path / "library", new, [SilhouetteEmbedder()])
    return open_library(tmp_path / "library")


def test_the_picture_chooses_among_the_instances() -> None:
    for instance in (0, 2, 5):
        mesh = instance_mesh("bicycle", instance)
        match = find_object(ObjectQuery("bike", mask=_mask(mesh)), Frame(IMAGE))
        assert (match.source, match.found) == ("library", "synonym")
        assert match.score is not None
        scores = {
            number: float((builtin_library().embeddings["silhouette-1"].block(number) @ _vector(mesh)).max())
            for number in range(*builtin_library().span("bicycle"))
        }
        best = max(scores, key=lambda number: scores[number])
        assert match.entry == builtin_library().entries[best].id
        assert match.score == pytest.approx(scores[best], abs=1e-5)
        assert match.mesh is builtin_library().mesh(best)
        assert load_mesh(_path(match.resource)).content_hash == match.mesh.content_hash


def _vector(mesh: Mesh) -> np.ndarray:
    return SilhouetteEmbedder().of_picture(IMAGE, _mask(mesh))


def test_without_a_picture_the_default_is_taken() -> None:
    mask = _mask(instance_mesh("bicycle", 2))
    for query, frame in (
        (ObjectQuery("bicycle"), None),
        (ObjectQuery("bicycle"), Frame(IMAGE)),
        (ObjectQuery("bicycle", mask=mask), None),
        (ObjectQuery("bicycle", box_xyxy=(0, 0, 9, 9)), Frame(IMAGE)),
        (ObjectQuery("bicycle", mask=np.zeros((96, 128), dtype=bool)), Frame(IMAGE)),
    ):
        match = find_object(query, frame)
        assert match.mesh is library_mesh("bicycle")
        assert (match.found, match.entry, match.score) == ("exact", "bicycle-0", None)
        assert match.scale is not None
        assert match.scale.longest_m == pytest.approx(np.ptp(match.mesh.vertices, axis=0).max(), rel=1e-4)


def test_a_users_library_goes_before_the_built_in_one(library: ObjectLibrary) -> None:
    match = find_object(ObjectQuery("chair", mask=_mask(library_mesh("chair"))), Frame(IMAGE), library)
    assert (match.entry, match.found, match.scale) == ("plain", "exact", ScalePrior(0.5, 0.1))
    assert _path(match.resource).parent.parent.parent == library.folder  # type: ignore[attr-defined]
    match = find_object(ObjectQuery("teapot"), Frame(IMAGE), library)
    assert (match.entry, match.found, match.note) == ("pot", "exact", "")
    match = find_object(ObjectQuery("bottle"), Frame(IMAGE), library)
    assert match.mesh is library_mesh("bottle")
    match = find_object(ObjectQuery("throne"), Frame(IMAGE), library)
    assert match.found == "box"


def test_at_each_step_the_users_library_is_asked_first() -> None:
    def order(label: str) -> list[tuple[str, str, str]]:
        own = ObjectLibrary([Entry(name, name) for name in ("armchair", "sofa", "skatebar", "ball")], {}, "own")
        return [
            (where.name, matched.label, matched.how)
            for where, matched in label_matches(label, own, SilhouetteEmbedder())
        ]

    built_in = "the built-in library"
    assert order("Balls") == [("own", "ball", "exact"), (built_in, "ball", "exact")]
    # The very word in the built-in library goes before another name in the user's.
    assert order("chair") == [(built_in, "chair", "exact"), ("own", "armchair", "synonym")]
    assert order("settee") == [("own", "sofa", "synonym"), (built_in, "couch", "synonym")]
    assert order("bottle") == [(built_in, "bottle", "exact")]
    assert order("volcano") == []
    # A guess of the user's library goes before a better one of the built-in library.
    assert order("skateboad") == [("own", "skatebar", "nearest label"), (built_in, "skateboard", "nearest label")]


def test_a_misspelt_label_is_a_guess_that_says_so(library: ObjectLibrary) -> None:
    match = find_object(ObjectQuery("teapott"), Frame(IMAGE), library)
    assert (match.entry, match.found) == ("pot", "nearest label")
    assert match.note == "'teapott' is unknown: the nearest label, teapot, stands in"
    assert find_object(ObjectQuery("bycicle")).mesh is library_mesh("bicycle")


def test_unusable_meshes_are_passed_over(
    library: ObjectLibrary, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    plain = next(iter((tmp_path / "library" / "meshes" / "chair").glob("plain-*")))
    plain.unlink()
    query = ObjectQuery("chair", mask=_mask(library_mesh("chair")))
    assert find_object(query, Frame(IMAGE), library).entry == "arm"
    assert "'plain' is passed over" in caplog.text
    write_glb(next(iter((tmp_path / "library" / "meshes" / "chair").glob("arm-*"))), library_mesh("cup"))
    match = find_object(query, Frame(IMAGE), library)
    assert match.entry.startswith("chair-")
    assert "has changed since it was indexed" in caplog.text


def test_embeddings_of_another_width_are_passed_over(library: ObjectLibrary, caplog: pytest.LogCaptureFixture) -> None:
    """One warning, not an error at every frame: the library's first mesh of the label is taken uncompared."""
    blocks = [np.ones((2, 7), dtype=np.float32) for _ in library.entries]
    other = FolderLibrary(library.folder, library.entries, {"silhouette-1": Embeddings.of(blocks, 7)})  # type: ignore[attr-defined]
    query = ObjectQuery("chair", mask=_mask(library_mesh("chair")))
    assert find_object(query, Frame(IMAGE), library).entry == "plain"
    for _ in range(3):
        match = find_object(query, Frame(IMAGE), other)
        assert (match.entry, match.found, match.score) == ("arm", "exact", None)
    warnings = [record.getMessage() for record in caplog.records]
    assert len(warnings) == 1
    assert "embeddings have 7 dimensions, the picture's 48; run ivlm objects index" in warnings[0]
    assert str(library.folder) in warnings[0]  # type: ignore[attr-defined]


def test_a_category_too_large_without_faiss_is_passed_over(
    library: ObjectLibrary, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name == "faiss" else found(name, *more)
    )
    monkeypatch.setattr(importlib.import_module("ivlm_core.objects.search"), "FAISS_ABOVE", 1)
    match = find_object(ObjectQuery("chair", mask=_mask(library_mesh("chair"))), Frame(IMAGE), library)
    assert (match.entry, match.score) == ("arm", None)
    assert "pip install faiss-cpu" in caplog.text


def test_the_box_has_the_detections_size() -> None:
    frame = Frame(IMAGE, CameraIntrinsics(100, 100, 64, 48, 128, 96), np.full((96, 128), 2.0, dtype=np.float32))
    match = find_object(ObjectQuery("space suit", box_xyxy=(10, 10, 60, 90)), frame)
    assert (match.source, match.found, match.entry, match.scale) == ("fallback", "box", "", None)
    np.testing.assert_allclose(np.ptp(match.mesh.vertices, axis=0)[:2], [1.0, 1.6], rtol=0.1)
    assert "its size from the depth image" in match.note
    assert load_mesh(_path(match.resource)).content_hash == match.mesh.content_hash


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
