"""Entries say what a mesh is, embeddings belong to them, and neither takes anything else."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ivlm_core.errors import InputError, MeshError
from ivlm_core.objects import Embeddings, Entry, ObjectLibrary, ScalePrior, library_mesh
from ivlm_core.types import Mesh


def _library(labels: list[str], dimensions: int = 3) -> ObjectLibrary:
    rng = np.random.default_rng(0)
    blocks = [rng.normal(size=(number % 3 + 1, dimensions)) for number in range(len(labels))]
    entries = [Entry(f"e{number}", label) for number, label in enumerate(labels)]
    return ObjectLibrary(entries, {"test": Embeddings.of(blocks, dimensions)})


@pytest.mark.parametrize(
    ("longest", "spread"), [(0, 0.1), (-1, 0.1), (1, 0), (1, 2), (float("nan"), 1), (1, float("nan")), (1e4, 1)]
)
def test_impossible_sizes_are_refused(longest: float, spread: float) -> None:
    with pytest.raises(InputError, match=r"object\.scale"):
        ScalePrior(longest, spread)


def test_scale_brings_a_mesh_to_its_size() -> None:
    mesh = library_mesh("skateboard")
    longest = float(np.ptp(mesh.vertices, axis=0).max())
    millimetres = Mesh(mesh.vertices * 1000, mesh.faces)
    factor, spread = ScalePrior(longest, 0.1 * longest).scale_of(millimetres)
    assert factor == pytest.approx(1e-3, rel=1e-5)
    assert spread == pytest.approx(1e-4, rel=1e-5)


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd.obj",
        "../chair.obj",
        "meshes/../../chair.obj",
        "..\\chair.obj",
        "C:/chair.obj",
        "meshes/chair.obj\n",
        "meshes/chair.exe",
        "meshes/chair",
        "file:chair.obj",
    ],
)
def test_path_traversal_is_refused(path: str) -> None:
    with pytest.raises(InputError, match="mesh"):
        Entry("a", "chair", path)


@pytest.mark.parametrize("field", ["id", "licence"])
@pytest.mark.parametrize("value", ["a" * 201, "two\nlines", 7, None])
def test_other_text_is_refused(field: str, value: object) -> None:
    with pytest.raises(InputError, match=f"entry.{field}"):
        Entry(**{"id": "a", "label": "chair", field: value})  # type: ignore[arg-type]


def test_label_is_safe_for_prompts() -> None:
    with pytest.raises(InputError, match=r"entry\.label"):
        Entry("a", "chair <HCON>")


def test_hash_is_a_hash() -> None:
    with pytest.raises(InputError, match="mesh_hash"):
        Entry("a", "chair", "chair.obj", "../../etc/passwd0")


@given(st.permutations(list("bacdacab")))
def test_entries_are_in_the_order_of_labels_with_their_own_vectors(labels: list[str]) -> None:
    library = _library(labels)
    rng = np.random.default_rng(0)
    blocks = [rng.normal(size=(number % 3 + 1, 3)) for number in range(len(labels))]
    assert [entry.label for entry in library.entries] == sorted(labels)
    for number, entry in enumerate(library.entries):
        own = blocks[int(entry.id[1:])]
        own = own / np.linalg.norm(own, axis=1, keepdims=True)
        np.testing.assert_allclose(library.embeddings["test"].block(number), own, atol=1e-6)


def test_spans_hold_the_entries_of_a_label() -> None:
    library = _library(list("bacdacab"))
    assert library.labels == ("a", "b", "c", "d")
    assert [library.span(label) for label in "abcdx"] == [(0, 3), (3, 5), (5, 7), (7, 8), (0, 0)]
    assert library.default("c") == 5


def test_duplicated_ids_are_refused() -> None:
    with pytest.raises(InputError, match="'a' comes twice"):
        ObjectLibrary([Entry("a", "chair"), Entry("a", "table")], {})


def test_embeddings_of_another_number_of_entries_are_refused() -> None:
    with pytest.raises(InputError, match="of 1 entries, not of 2"):
        ObjectLibrary([Entry("a", "chair"), Entry("b", "table")], {"test": Embeddings.of([np.ones((1, 2))], 2)})


def test_source_names_become_file_names() -> None:
    with pytest.raises(InputError, match="are called"):
        ObjectLibrary([], {"../x": Embeddings.of([], 2)})


def test_blocks_of_another_width_are_refused() -> None:
    with pytest.raises(InputError, match=r"give \(views, 3\)"):
        Embeddings.of([np.ones((1, 2))], 3)


@pytest.mark.parametrize("starts", [[0, 1], [1, 2], [0, 3, 2], [[0, 2]]])
def test_starts_span_the_rows(starts: list) -> None:
    with pytest.raises(InputError, match="starts"):
        Embeddings(np.eye(2, dtype=np.float32), np.array(starts))


def test_nan_embeddings_are_refused() -> None:
    with pytest.raises(InputError, match="NaN"):
        Embeddings.of([np.full((1, 2), np.nan)], 2)


def test_an_entry_without_mesh_says_so() -> None:
    with pytest.raises(MeshError, match="has no mesh"):
        _library(["chair"]).mesh(0)
