"""Adding meshes to a library and keeping its index up to date."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from ivlm_core.errors import ConfigError, InputError, MeshError
from ivlm_core.objects import NewMesh, ScalePrior, add_meshes, library_mesh, load_mesh, open_library, reindex, write_glb
from ivlm_core.objects.embedding import unit_rows
from ivlm_core.objects.indexing import meshes_in
from ivlm_core.storage import ArrayCache
from ivlm_core.types import FloatArray, Mesh


class Sides:
    """Meshes by the proportions of their bounding boxes; counts how often it is asked."""

    needs_mask = True

    def __init__(self, name: str = "sides", dimensions: int = 3) -> None:
        self.name = name
        self.dimensions = dimensions
        self.asked = 0

    def of_mesh(self, mesh: Mesh) -> FloatArray:
        self.asked += 1
        sides = np.ptp(mesh.vertices, axis=0).astype(np.float64)
        return unit_rows(np.resize(sides, self.dimensions)[None] + 1e-3)

    def of_picture(self, *args: object) -> FloatArray:
        raise NotImplementedError


@pytest.fixture
def cache(tmp_path: Path) -> ArrayCache:
    return ArrayCache(tmp_path / "cache")


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """Label → a mesh file outside any library."""
    paths = {label: tmp_path / "files" / f"my {label}.glb" for label in ("chair", "bottle", "table")}
    for label, path in paths.items():
        write_glb(path, library_mesh(label))
    return paths


def test_meshes_are_copied_and_found_again(tmp_path: Path, files: dict[str, Path], cache: ArrayCache) -> None:
    new = [NewMesh(files["chair"], "arm chair", licence="CC-BY"), NewMesh(files["bottle"], "bottle", "b1")]
    done: list[tuple[int, int]] = []
    _, report = add_meshes(tmp_path / "lib", new, [Sides()], lambda *told: done.append(told), cache=cache)
    assert (report.added, report.changed, report.dropped, report.refused) == (2, 0, 0, ())
    assert done == [(1, 2), (2, 2)]
    library = open_library(tmp_path / "lib")
    assert [(entry.id, entry.label, entry.licence) for entry in library.entries] == [
        ("my chair", "arm chair", "CC-BY"),
        ("b1", "bottle", ""),
    ]
    for path in files.values():
        path.unlink()
    mesh = library.mesh(0)
    assert mesh.content_hash == library_mesh("chair").content_hash == library.entries[0].mesh_hash
    longest = float(np.ptp(mesh.vertices, axis=0).max())
    scale = library.entries[0].scale
    assert scale is not None
    assert (scale.longest_m, scale.spread_m) == (pytest.approx(longest), pytest.approx(longest / 10))
    np.testing.assert_allclose(library.embeddings["sides"].block(0), Sides().of_mesh(mesh), atol=1e-3)


def test_a_mesh_inside_the_library_stays_where_it_is(tmp_path: Path, cache: ArrayCache) -> None:
    write_glb(tmp_path / "lib" / "own" / "it.glb", library_mesh("cup"))
    add_meshes(tmp_path / "lib", [NewMesh(tmp_path / "lib" / "own" / "it.glb", "cup")], [], cache=cache)
    assert open_library(tmp_path / "lib").entries[0].mesh == "own/it.glb"
    assert len(list((tmp_path / "lib").rglob("*.glb"))) == 1


@pytest.mark.parametrize("name", ["../../escape", "/etc/passwd", "..", "a/b", "☕"])
def test_ids_cannot_lead_out_of_the_library(
    tmp_path: Path, files: dict[str, Path], cache: ArrayCache, name: str
) -> None:
    library, _ = add_meshes(tmp_path / "lib", [NewMesh(files["chair"], "../..", name)], [], cache=cache)
    assert library.path(0).is_relative_to(tmp_path / "lib" / "meshes")
    assert open_library(tmp_path / "lib").mesh(0).content_hash == library_mesh("chair").content_hash


def test_ids_that_are_taken_cost_their_own_files_only(
    tmp_path: Path, files: dict[str, Path], cache: ArrayCache
) -> None:
    folder, first = tmp_path / "mine", NewMesh(files["chair"], "chair", "a")
    new = [first, NewMesh(files["table"], "table", "a"), NewMesh(files["bottle"], "bottle", "b")]
    library, report = add_meshes(folder, new, [], cache=cache)
    assert {entry.id: entry.label for entry in library.entries} == {"a": "chair", "b": "bottle"}
    ((file, why),) = report.refused
    assert file == str(files["table"])
    assert "'a' comes twice" in why
    again = [NewMesh(files["table"], "table", "a"), NewMesh(files["table"], "table", "c")]
    library, report = add_meshes(folder, again, [], cache=cache)
    assert {entry.id: entry.label for entry in library.entries} == {"a": "chair", "b": "bottle", "c": "table"}
    assert (report.added, report.changed) == (1, 0)
    assert "'a' is in the library (rename it, or use --replace)" in report.refused[0][1]
    assert all((folder / entry.mesh).is_file() for entry in library.entries)
    library, report = add_meshes(folder, again, [], cache=cache, overwrite=True)
    assert {entry.id: entry.label for entry in library.entries} == {"a": "table", "b": "bottle", "c": "table"}
    assert (report.added, report.changed, report.refused) == (0, 2, ())


def _mesh_files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.glb"))


def test_a_replaced_mesh_leaves_no_file(tmp_path: Path, files: dict[str, Path], cache: ArrayCache) -> None:
    """The next look at the folder would add it again. What else uses the file, or lies elsewhere, stays."""
    folder = tmp_path / "lib"
    add_meshes(folder, [NewMesh(files["chair"], "thing", "a"), NewMesh(files["bottle"], "thing", "b")], [], cache=cache)
    shared = folder / open_library(folder).entries[1].mesh
    write_glb(folder / "own" / "it.glb", library_mesh("cup"))
    new = [NewMesh(shared, "thing", "c"), NewMesh(folder / "own" / "it.glb", "thing", "d")]
    add_meshes(folder, new, [], cache=cache)
    again = [NewMesh(files["table"], "other", name) for name in ("a", "b", "d")]
    add_meshes(folder, again, [], overwrite=True, cache=cache)
    named = {entry.mesh for entry in open_library(folder).entries}
    assert len(named) == 4
    assert set(_mesh_files(folder)) == named | {"own/it.glb"}
    _, report = reindex(folder, [], cache=cache)
    assert (report.added, report.dropped, report.refused) == (0, 0, ())


def test_a_refused_replacement_changes_nothing(tmp_path: Path, files: dict[str, Path], cache: ArrayCache) -> None:
    folder = tmp_path / "lib"
    add_meshes(folder, [NewMesh(files["chair"], "chair", "a")], [], cache=cache)
    before = _mesh_files(folder)
    (tmp_path / "broken.obj").write_text("f 1 2 3\n")
    _, report = add_meshes(folder, [NewMesh(tmp_path / "broken.obj", "chair", "a")], [], overwrite=True, cache=cache)
    assert len(report.refused) == 1
    assert _mesh_files(folder) == before
    assert open_library(folder).mesh(0).content_hash == library_mesh("chair").content_hash


def test_replacing_deletes_nothing_outside_the_library(
    tmp_path: Path, files: dict[str, Path], cache: ArrayCache
) -> None:
    """The folder that the index names became a link to somewhere else."""
    folder = tmp_path / "lib"
    library, _ = add_meshes(folder, [NewMesh(files["chair"], "chair", "a")], [], cache=cache)
    kept = library.path(0)
    kept.parent.rename(tmp_path / "elsewhere")
    (folder / "meshes" / "chair").symlink_to(tmp_path / "elsewhere")
    add_meshes(folder, [NewMesh(files["table"], "table", "a")], [], overwrite=True, cache=cache)
    assert (tmp_path / "elsewhere" / kept.name).exists()


def test_unusable_meshes_are_named_and_the_others_added(
    tmp_path: Path, files: dict[str, Path], cache: ArrayCache
) -> None:
    (tmp_path / "broken.obj").write_text("f 1 2 3\n")
    (tmp_path / "far.obj").write_text("v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 9\n")
    new = [
        NewMesh(tmp_path / "broken.obj", "chair"),
        NewMesh(tmp_path / "missing.obj", "chair"),
        NewMesh(tmp_path / "far.obj", "chair"),
        NewMesh(files["table"], "<HCON>", "x"),
        NewMesh(files["chair"], "chair"),
    ]
    library, report = add_meshes(tmp_path / "lib", new, [Sides()], cache=cache)
    assert (len(library), report.added) == (1, 1)
    assert [Path(file).name for file, _ in report.refused] == ["broken.obj", "missing.obj", "far.obj", "my table.glb"]
    assert "does not exist" in report.refused[1][1]


def test_size_can_be_told_or_taken_from_the_category(tmp_path: Path, files: dict[str, Path], cache: ArrayCache) -> None:
    new = [
        NewMesh(files["chair"], "chair", "told", scale=ScalePrior(0.8, 0.05)),
        NewMesh(files["chair"], "armchair", "category", metric=False),
        NewMesh(files["chair"], "throne", "unknown", metric=False),
    ]
    library, _ = add_meshes(tmp_path / "lib", new, [], cache=cache)
    sizes = {entry.id: entry.scale for entry in library.entries}
    assert sizes["told"] == ScalePrior(0.8, 0.05)
    assert sizes["unknown"] is None
    category = sizes["category"]
    assert category is not None
    assert 0.7 < category.longest_m < 1.1


def test_known_embeddings_are_kept(tmp_path: Path, files: dict[str, Path], cache: ArrayCache) -> None:
    known = unit_rows(np.arange(1.0, 6.0)[None])
    new = [NewMesh(files["chair"], "chair", embeddings={"openshape": known}), NewMesh(files["table"], "table")]
    add_meshes(tmp_path / "lib", new, [Sides()], cache=cache)
    library = open_library(tmp_path / "lib")
    assert set(library.embeddings) == {"sides", "openshape"}
    np.testing.assert_allclose(library.embeddings["openshape"].block(0), known, atol=1e-3)
    assert len(library.embeddings["openshape"].block(1)) == 0


@pytest.mark.parametrize(
    ("block", "message"),
    [
        (np.full((1, 5), np.nan, np.float32), "row 0 is zero, NaN or infinite .*leave the mesh out"),
        (np.zeros((1, 5), np.float32), "row 0 is zero, NaN or infinite"),
        (np.ones((1, 7), np.float32), "have 7 dimensions, .* have 5 .*embeddings of one model"),
        (np.ones(5, np.float32), r"of shape \(5,\)"),
        (np.ones((1, 5000), np.float32), "have 5000 dimensions, more than 4096"),
    ],
)
@pytest.mark.parametrize("earlier", [True, False])
def test_known_embeddings_that_do_not_fit_are_found_first(
    tmp_path: Path, files: dict[str, Path], cache: ArrayCache, block: FloatArray, message: str, earlier: bool
) -> None:
    """Before a mesh is embedded or copied, with the name of the file that they are from."""
    folder, embedder = tmp_path / "lib", Sides()
    new = [
        NewMesh(files["chair"], "chair", embeddings={"openshape": np.eye(1, 5, dtype=np.float32)}),
        NewMesh(files["table"], "table", embeddings={"openshape": block}, embeddings_file=tmp_path / "of.npz"),
    ]
    if earlier:
        add_meshes(folder, new[:1], [], cache=cache)
    with pytest.raises(InputError, match=rf"of\.npz: embeddings 'openshape' of 'my table\.glb'.* {message}"):
        add_meshes(folder, new[earlier:], [embedder], cache=cache)
    assert embedder.asked == 0
    assert len(_mesh_files(folder)) == earlier


def test_an_embedder_of_another_width_is_found_first(tmp_path: Path, files: dict[str, Path], cache: ArrayCache) -> None:
    """Adding would mix them; indexing makes all of them anew."""
    folder = tmp_path / "lib"
    add_meshes(folder, [NewMesh(files["chair"], "chair")], [Sides()], cache=cache)
    with pytest.raises(ConfigError, match=r"have 3 dimensions, the embedder's have 4 .*ivlm objects index"):
        add_meshes(folder, [NewMesh(files["table"], "table")], [Sides(dimensions=4)], cache=cache)
    _, report = reindex(folder, [Sides(dimensions=4)], cache=cache)
    assert (report.changed, report.refused) == (1, ())
    assert open_library(folder).embeddings["sides"].vectors.shape == (1, 4)


def test_meshes_are_embedded_once(tmp_path: Path, files: dict[str, Path], cache: ArrayCache) -> None:
    embedder = Sides()
    for folder in ("one", "two"):
        add_meshes(tmp_path / folder, [NewMesh(files["chair"], "chair")], [embedder], cache=cache)
    assert embedder.asked == 1


def test_damaged_index_is_not_overwritten(tmp_path: Path, files: dict[str, Path], cache: ArrayCache) -> None:
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "index.json").write_text("{")
    for change in (
        lambda: add_meshes(tmp_path / "lib", [NewMesh(files["chair"], "chair")], [], cache=cache),
        lambda: reindex(tmp_path / "lib", [], cache=cache),
    ):
        with pytest.raises(ConfigError, match=r"index\.json"):
            change()
    assert (tmp_path / "lib" / "index.json").read_text() == "{"


def test_index_follows_the_files(tmp_path: Path, files: dict[str, Path], cache: ArrayCache) -> None:
    """One mesh goes, one changes, one comes, one stays."""
    folder = tmp_path / "lib"
    new = [NewMesh(path, label, label) for label, path in files.items()]
    library, _ = add_meshes(folder, new, [Sides(), Sides("other")], cache=cache)
    paths = {entry.label: library.path(number) for number, entry in enumerate(library.entries)}
    paths["table"].unlink()
    write_glb(paths["bottle"], library_mesh("ball"))
    write_glb(folder / "meshes" / "wine_glass" / "wg.glb", library_mesh("cup"))
    done: list[tuple[int, int]] = []
    _, report = reindex(folder, [Sides()], lambda *told: done.append(told), cache=cache)
    assert (report.added, report.changed, report.dropped) == (1, 1, 1)
    assert "does not exist" in report.refused[0][1]
    assert done[-1] == (4, 4)
    library = open_library(folder)
    assert [(entry.id, entry.label) for entry in library.entries] == [
        ("bottle", "bottle"),
        ("chair", "chair"),
        ("wg", "wine glass"),
    ]
    expected = Sides().of_mesh(library_mesh("ball"))
    np.testing.assert_allclose(library.embeddings["sides"].block(0), expected, atol=1e-3)
    # What another source said belonged to the old mesh.
    assert [len(library.embeddings["other"].block(number)) for number in range(3)] == [0, 1, 0]
    assert library.mesh(0).content_hash == library_mesh("ball").content_hash


def test_a_new_source_is_added_to_all(tmp_path: Path, files: dict[str, Path], cache: ArrayCache) -> None:
    new = [NewMesh(path, label, label) for label, path in files.items()]
    add_meshes(tmp_path / "lib", new, [Sides()], cache=cache)
    _, report = reindex(tmp_path / "lib", [Sides("more")], cache=cache)
    assert (report.added, report.changed, report.dropped) == (0, 3, 0)
    library = open_library(tmp_path / "lib")
    assert {name: len(vectors.vectors) for name, vectors in library.embeddings.items()} == {"sides": 3, "more": 3}
    assert reindex(tmp_path / "lib", [Sides("more")], cache=cache)[1].changed == 0


@pytest.mark.parametrize("damage", ["nan", "cut", "gone"])
def test_damaged_embeddings_are_computed_again(
    tmp_path: Path, files: dict[str, Path], cache: ArrayCache, damage: str
) -> None:
    """What the message of `open_library` advises does help; the other source keeps what it has."""
    folder = tmp_path / "lib"
    add_meshes(folder, [NewMesh(files["chair"], "chair")], [Sides(), Sides("other")], cache=cache)
    file = next((folder / "embeddings").glob("sides-*.npy"))
    if damage == "gone":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:-2] + (b"" if damage == "cut" else b"\x00\x7e"))
    with pytest.raises(ConfigError, match=r"sides-\w+\.npy: .*run ivlm objects index"):
        open_library(folder)
    _, report = reindex(folder, [Sides()], cache=cache)
    assert [file for file, _ in report.refused] == ["embeddings of sides"]
    library = open_library(folder)
    assert {name: len(vectors.vectors) for name, vectors in library.embeddings.items()} == {"sides": 1, "other": 1}


class _Picky(Sides):
    """Cannot embed bottles, and finds the disk gone at tables."""

    def of_mesh(self, mesh: Mesh) -> FloatArray:
        if mesh.content_hash == library_mesh("bottle").content_hash:
            raise InputError("embeddings", "row 0 is zero, NaN or infinite")
        if mesh.content_hash == library_mesh("table").content_hash:
            raise OSError(5, "Input/output error")
        return super().of_mesh(mesh)


def test_whatever_cannot_be_read_is_named_and_the_rest_goes_on(
    tmp_path: Path, files: dict[str, Path], cache: ArrayCache
) -> None:
    folder = tmp_path / "lib"
    library, _ = add_meshes(folder, [NewMesh(path, label, label) for label, path in files.items()], [], cache=cache)
    add_meshes(folder, [NewMesh(files["chair"], "chair", "loop")], [], cache=cache)
    loop = folder / next(entry.mesh for entry in open_library(folder).entries if entry.id == "loop")
    loop.unlink()
    loop.symlink_to(loop.name)
    library, report = reindex(folder, [_Picky()], cache=cache)
    refused = {Path(file).name.partition("-")[0]: problem for file, problem in report.refused}
    assert set(refused) == {"bottle", "table", "loop"}
    assert "Input/output error" in refused["table"]
    assert [entry.id for entry in library.entries] == ["chair"]


def test_folders_that_cannot_be_read_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_glb(tmp_path / "meshes" / "chair" / "a.glb", library_mesh("chair"))
    (tmp_path / "meshes" / "shut").mkdir()
    scan = os.scandir

    def shut(path: str) -> object:
        if Path(path).name == "shut":
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", shut)
    library, report = reindex(tmp_path, [])
    assert len(library) == 1
    assert [(Path(file).name, problem) for file, problem in report.refused] == [
        ("shut", "cannot be read: Permission denied")
    ]
    with pytest.raises(InputError, match=r"shut.* cannot be read: Permission denied"):
        meshes_in([tmp_path / "meshes"])


def test_a_folder_of_meshes_becomes_a_library(tmp_path: Path, cache: ArrayCache) -> None:
    for name, label in (("a", "chair"), ("b", "tennis_racket"), ("a", "table")):
        write_glb(tmp_path / "meshes" / label / f"{name}.glb", library_mesh(label))
    (tmp_path / "meshes" / "loose.obj").write_text("v 0 0 0\n")
    library, report = reindex(tmp_path, [Sides()], cache=cache)
    assert report.added == 3
    assert [(entry.id, entry.label) for entry in library.entries] == [
        ("a", "chair"),
        ("table/a.glb", "table"),
        ("b", "tennis racket"),
    ]
    assert [Path(file).name for file, _ in report.refused] == ["loose.obj"]


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is no folder"):
        reindex(tmp_path / "nowhere", [])


def test_mesh_files_below_folders(tmp_path: Path, files: dict[str, Path]) -> None:
    (tmp_path / "files" / "notes.txt").touch()
    (tmp_path / "files" / "link.glb").symlink_to(files["chair"])
    assert meshes_in([tmp_path / "files"]) == sorted(files.values())
    assert meshes_in([files["table"]]) == [files["table"]]
    for wrong in (tmp_path / "nowhere", tmp_path / "empty"):
        (tmp_path / "empty").mkdir(exist_ok=True)
        with pytest.raises(InputError):
            meshes_in([wrong])


def test_mesh_limits_hold(tmp_path: Path, files: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ivlm_core.objects.loading.MAX_MESH_FILE_BYTES", 100)
    library, report = add_meshes(tmp_path / "lib", [NewMesh(files["chair"], "chair")], [])
    assert len(library) == 0
    assert "at most 100 are read" in report.refused[0][1]
    with pytest.raises(MeshError):
        load_mesh(files["chair"])
