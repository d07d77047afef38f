"""Libraries in folders: what is written is read, and nothing in a folder is trusted."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ivlm_core.errors import ConfigError, MeshError
from ivlm_core.objects import (
    Embeddings,
    Entry,
    FolderLibrary,
    ScalePrior,
    index,
    library_mesh,
    open_library,
    write_glb,
    write_library,
)

DIMENSIONS = 8


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three meshes of two labels; the second has no embedding."""
    entries, blocks = [], []
    rng = np.random.default_rng(0)
    for number, (name, label) in enumerate([("x", "table"), ("y", "chair"), ("z", "chair")]):
        mesh = library_mesh(label)
        write_glb(tmp_path / "meshes" / f"{name}.glb", mesh)
        scale = ScalePrior(0.9, 0.1) if number else None
        entries.append(Entry(name, label, f"meshes/{name}.glb", mesh.content_hash, scale, "CC0"))
        blocks.append(rng.normal(size=(0 if number == 1 else 2, DIMENSIONS)))
    write_library(tmp_path, entries, {"test:1": Embeddings.of(blocks, DIMENSIONS)})
    return tmp_path


def _edit(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    told = json.loads((folder / "index.json").read_text())
    change(told)
    (folder / "index.json").write_text(json.dumps(told))


def _replace_vectors(folder: Path, array: np.ndarray) -> None:
    """Other vectors, with a checksum that fits."""
    file = next((folder / "embeddings").iterdir())
    with file.open("wb") as stream:
        np.lib.format.write_array(stream, array, allow_pickle=True)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    _edit(folder, lambda told: told["sources"]["test:1"].update(sha256=digest))


def test_what_is_written_is_read(folder: Path) -> None:
    library = open_library(folder)
    assert [(entry.id, entry.label, entry.licence) for entry in library.entries] == [
        ("y", "chair", "CC0"),
        ("z", "chair", "CC0"),
        ("x", "table", "CC0"),
    ]
    assert [entry.scale for entry in library.entries] == [ScalePrior(0.9, 0.1), ScalePrior(0.9, 0.1), None]
    vectors = library.embeddings["test:1"]
    assert vectors.starts.tolist() == [0, 0, 2, 4]
    rng = np.random.default_rng(0)
    table, chair = rng.normal(size=(2, DIMENSIONS)), rng.normal(size=(2, DIMENSIONS))
    expected = np.concatenate([chair, table])
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(vectors.vectors, expected, atol=1e-3)
    assert library.mesh(0).content_hash == library_mesh("chair").content_hash
    assert library.resource(0) == (folder / "meshes" / "y.glb").as_uri()


def test_writing_again_changes_nothing_and_leaves_no_litter(folder: Path) -> None:
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    library = open_library(folder)
    write_library(folder, library.entries, library.embeddings)
    again = open_library(folder)
    assert {path for path in folder.rglob("*") if path.is_file()} == set(before)
    assert (folder / "index.json").read_bytes() == before[folder / "index.json"]
    np.testing.assert_array_equal(again.embeddings["test:1"].vectors, library.embeddings["test:1"].vectors)


def test_old_embeddings_go(folder: Path) -> None:
    library = open_library(folder)
    write_library(folder, library.entries, {"other": Embeddings.of([np.ones((1, 2))] * 3, 2)})
    assert [path.name.partition("-")[0] for path in (folder / "embeddings").iterdir()] == ["other"]


def test_a_broken_write_leaves_the_library_as_it_was(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = (folder / "index.json").read_bytes()
    library = open_library(folder)

    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(index, "atomic_path", full)
    with pytest.raises(ConfigError, match="No space left"):
        write_library(folder, library.entries[:1], {})
    assert (folder / "index.json").read_bytes() == before
    assert len(open_library(folder)) == 3


def test_a_reader_meets_the_embeddings_of_another_write(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between our reading the index and its embeddings, somebody replaces both."""
    library = open_library(folder)
    other = {"test:1": Embeddings.of([np.ones((1, DIMENSIONS))] * 3, DIMENSIONS)}
    read, calls = index._vectors, []

    def interrupted(*args: Any) -> Any:
        if not calls:
            calls.append(1)
            write_library(folder, library.entries, other)
        return read(*args)

    monkeypatch.setattr(index, "_vectors", interrupted)
    assert open_library(folder).embeddings["test:1"].starts.tolist() == [0, 1, 2, 3]


def test_no_library(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is no object library"):
        open_library(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[1, 2]", "null", '{"format": "x"}', "[" * 100_000, "\xff"])
def test_broken_index(folder: Path, text: str) -> None:
    (folder / "index.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigError, match=r"index\.json"):
        open_library(folder)


CHANGES: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "version": (lambda told: told.update(version=2), "version 2"),
    "no entries": (lambda told: told.pop("entries"), "damaged"),
    "entries are a number": (lambda told: told.update(entries=3), "damaged"),
    "entry is a number": (lambda told: told["entries"].append(3), "damaged"),
    "no id": (lambda told: told["entries"][0].pop("id"), "damaged"),
    "duplicated id": (lambda told: told["entries"][0].update(id="z"), "comes twice"),
    "traversal": (lambda told: told["entries"][0].update(mesh="../../x.glb"), "leaves the library"),
    "absolute": (lambda told: told["entries"][0].update(mesh="/x.glb"), "leaves the library"),
    "label": (lambda told: told["entries"][0].update(label="<HCON>"), "special tokens"),
    "scale": (lambda told: told["entries"][0].update(scale={"longest_m": float("nan"), "spread_m": 1}), "nan"),
    "scale is text": (lambda told: told["entries"][0].update(scale="big"), "damaged"),
    "rows beyond": (lambda told: told["entries"][0]["rows"].update({"test:1": [0, 9]}), r"outside 0…4"),
    "rows below": (lambda told: told["entries"][0]["rows"].update({"test:1": [-1, 1]}), r"outside 0…4"),
    "rows backwards": (lambda told: told["entries"][0]["rows"].update({"test:1": [2, 1]}), r"outside 0…4"),
    "rows shared": (lambda told: told["entries"][0]["rows"].update({"test:1": [0, 4]}), "claimed by several"),
    "rows are text": (lambda told: told["entries"][0]["rows"].update({"test:1": "ab"}), "damaged"),
    "rows huge": (lambda told: told["entries"][0]["rows"].update({"test:1": [0, 10**30]}), "damaged"),
    "embeddings traversal": (lambda told: told["sources"]["test:1"].update(file="../x.npy"), "leaves the library"),
    "embeddings pickled": (lambda told: told["sources"]["test:1"].update(file="x.pkl"), "suffix"),
    "embeddings missing": (lambda told: told["sources"]["test:1"].update(file="embeddings/x.npy"), "is missing"),
    "checksum": (lambda told: told["sources"]["test:1"].update(sha256="0" * 64), "checksum"),
    "dimensions": (lambda told: told["sources"]["test:1"].update(dimensions=9), "not floats of 9"),
    "source name": (lambda told: told["sources"].update({"../a": told["sources"].pop("test:1")}), "are called"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_index_that_does_not_fit(folder: Path, name: str) -> None:
    change, message = CHANGES[name]
    _edit(folder, change)
    with pytest.raises(ConfigError, match=message):
        open_library(folder)


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0])
def test_nan_embeddings_on_disk(folder: Path, value: float) -> None:
    rows = np.ones((4, DIMENSIONS), dtype=np.float16)
    rows[2] = value
    _replace_vectors(folder, rows)
    with pytest.raises(ConfigError, match="row 2 is zero, NaN or infinite"):
        open_library(folder)


@pytest.mark.parametrize(
    "array", [np.ones((4, 3), np.float16), np.ones(4, np.float16), np.ones((4, DIMENSIONS), np.int8)]
)
def test_wrong_embedding_sizes(folder: Path, array: np.ndarray) -> None:
    _replace_vectors(folder, array)
    with pytest.raises(ConfigError, match="not floats of 8 dimensions"):
        open_library(folder)


def test_pickled_embeddings_are_not_opened(folder: Path) -> None:
    _replace_vectors(folder, np.array([[object()]], dtype=object))
    with pytest.raises(ConfigError, match="cannot be read"):
        open_library(folder)


def test_truncated_embeddings(folder: Path) -> None:
    file = next((folder / "embeddings").iterdir())
    file.write_bytes(file.read_bytes()[:-3])
    with pytest.raises(ConfigError, match="embeddings"):
        open_library(folder)


def test_sizes_are_limited(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MAX_EMBEDDING_BYTES", "MAX_ENTRIES", "MAX_INDEX_BYTES"):
        with monkeypatch.context() as patch:
            patch.setattr(index, name, 2)
            with pytest.raises(ConfigError, match="at most 2 are read"):
                open_library(folder)
    assert len(open_library(folder)) == 3


def test_missing_mesh_file(folder: Path) -> None:
    (folder / "meshes" / "y.glb").unlink()
    library = open_library(folder)
    with pytest.raises(MeshError, match=r"y\.glb.* does not exist"):
        library.mesh(0)
    assert library.mesh(1).content_hash == library_mesh("chair").content_hash


def test_changed_mesh_file(folder: Path) -> None:
    write_glb(folder / "meshes" / "y.glb", library_mesh("bottle"))
    with pytest.raises(MeshError, match="has changed since it was indexed"):
        open_library(folder).mesh(0)


def test_link_out_of_the_library(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    outside = tmp_path_factory.mktemp("outside") / "secret.glb"
    write_glb(outside, library_mesh("chair"))
    (folder / "meshes" / "y.glb").unlink()
    (folder / "meshes" / "y.glb").symlink_to(outside)
    library = open_library(folder)
    for ask in (library.mesh, library.resource):
        with pytest.raises(MeshError, match="link out of the library"):
            ask(0)


def test_embeddings_that_are_a_link_out_of_the_library(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    file = next((folder / "embeddings").iterdir())
    file.rename(outside := tmp_path_factory.mktemp("outside") / "it.npy")
    file.symlink_to(outside)
    with pytest.raises(ConfigError, match="link out of the library"):
        open_library(folder)


def test_only_one_changes_a_library_at_a_time(tmp_path: Path) -> None:
    order = []
    with index.locked(tmp_path):
        other = threading.Thread(target=lambda: _note(tmp_path, order))
        other.start()
        other.join(0.2)
        assert other.is_alive()
        order.append("first")
    other.join(10)
    assert order == ["first", "second"]


def _note(folder: Path, order: list[str]) -> None:
    with index.locked(folder):
        order.append("second")


def test_mesh_is_read_once(folder: Path) -> None:
    library = open_library(folder)
    assert isinstance(library, FolderLibrary)
    assert library.mesh(0) is library.mesh(0)
