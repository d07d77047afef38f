"""The nearest meshes: exactly what a loop over all of them finds, and with FAISS nearly always."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ivlm_core.errors import ConfigError, InputError
from ivlm_core.objects import Embeddings, Entry, ObjectLibrary, search
from ivlm_core.storage import ArrayCache

WIDTH = 12


def _library(seed: int, entries: int = 30, most_views: int = 4) -> ObjectLibrary:
    """Some entries have no embedding; labels come in no order."""
    rng = np.random.default_rng(seed)
    made = [Entry(f"e{number:04}", f"label {rng.integers(4)}") for number in range(entries)]
    blocks = [rng.normal(size=(rng.integers(0, most_views + 1), WIDTH)) for _ in made]
    return ObjectLibrary(made, {"test": Embeddings.of(blocks, WIDTH)})


def _by_loop(library: ObjectLibrary, query: np.ndarray, label: str | None, count: int) -> list[tuple[str, float]]:
    query = query / np.linalg.norm(query)
    scored = [
        (-float((library.embeddings["test"].block(number) @ query.astype(np.float32)).max()), number)
        for number, entry in enumerate(library.entries)
        if (label is None or entry.label == label) and len(library.embeddings["test"].block(number))
    ]
    return [(library.entries[number].id, -score) for score, number in sorted(scored)[:count]]


@given(st.integers(0, 10_000), st.sampled_from([None, "label 0", "label 3", "label 9"]), st.integers(1, 40))
def test_exact_search_is_the_loop(seed: int, label: str | None, count: int) -> None:
    library = _library(seed)
    query = np.random.default_rng(seed + 1).normal(size=WIDTH)
    hits = search(library, "test", query, label, count)
    expected = _by_loop(library, query, label, count)
    assert [hit.entry.id for hit in hits] == [name for name, _ in expected]
    np.testing.assert_allclose([hit.score for hit in hits], [score for _, score in expected], atol=1e-5)
    assert all(library.entries[hit.number] is hit.entry for hit in hits)


def test_equals_come_in_the_librarys_order() -> None:
    library = ObjectLibrary(
        [Entry(name, "x") for name in "dbeac"], {"test": Embeddings.of([np.ones((2, WIDTH))] * 5, WIDTH)}
    )
    assert [hit.entry.id for hit in search(library, "test", np.ones(WIDTH), count=3)] == ["a", "b", "c"]


def test_length_of_the_query_does_not_matter() -> None:
    library = _library(1)
    query = np.random.default_rng(0).normal(size=WIDTH)
    assert search(library, "test", query) == search(library, "test", query * 8.0)


def test_unknown_source_names_what_there_is() -> None:
    with pytest.raises(ConfigError, match=r"no embeddings of 'clip', only of test .*ivlm objects index"):
        search(_library(0), "clip", np.ones(WIDTH))


@pytest.mark.parametrize("query", [np.ones(WIDTH + 1), np.ones((1, WIDTH)), np.zeros(WIDTH), np.full(WIDTH, np.nan)])
def test_wrong_queries_are_refused(query: np.ndarray) -> None:
    with pytest.raises(InputError):
        search(_library(0), "test", query)


def test_nothing_to_find() -> None:
    assert search(ObjectLibrary([], {"test": Embeddings.of([], WIDTH)}), "test", np.ones(WIDTH)) == ()
    empty = ObjectLibrary([Entry("a", "x")], {"test": Embeddings.of([np.zeros((0, WIDTH))], WIDTH)})
    assert search(empty, "test", np.ones(WIDTH)) == ()


def _absent(monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name == "faiss" else found(name, *more)
    )


def test_faiss_is_asked_for_above_the_limit_only(monkeypatch: pytest.MonkeyPatch) -> None:
    _absent(monkeypatch)
    module: Any = importlib.import_module("ivlm_core.objects.search")
    monkeypatch.setattr(module, "FAISS_ABOVE", 29)
    library, query = _library(3), np.ones(WIDTH)
    with pytest.raises(ConfigError, match=r"FAISS is not installed.* 30 meshes.*pip install faiss-cpu"):
        search(library, "test", query)
    # A category is smaller than the library.
    assert len(search(library, "test", query, "label 1")) > 0
    assert len(search(library, "test", query, method="exact")) == 5


@pytest.fixture(scope="module")
def large() -> ObjectLibrary:
    """4000 meshes of 1 to 3 views about 40 centres, in two categories."""
    pytest.importorskip("faiss", reason="faiss-cpu is not installed")
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(40, 32))
    entries = [Entry(f"e{number:05}", "even" if number % 2 == 0 else "odd") for number in range(4000)]
    blocks = [centres[rng.integers(40)] + 0.35 * rng.normal(size=(rng.integers(1, 4), 32)) for _ in range(len(entries))]
    return ObjectLibrary(entries, {"test": Embeddings.of(blocks, 32)})


@pytest.mark.parametrize("label", [None, "odd"])
def test_faiss_finds_nearly_what_a_loop_does(
    large: ObjectLibrary, label: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IVLM_CACHE_DIR", str(tmp_path))
    rng = np.random.default_rng(1)
    same = 0
    for _ in range(40):
        query = large.embeddings["test"].vectors[rng.integers(4000)] + 0.05 * rng.normal(size=32)
        exact = search(large, "test", query, label, 5, "exact")
        found = search(large, "test", query, label, 5, "faiss")
        assert len({hit.number for hit in found}) == len(found) == 5
        assert all(label is None or hit.entry.label == label for hit in found)
        for hit in found:
            true = (large.embeddings["test"].block(hit.number) @ (query / np.linalg.norm(query))).max()
            assert hit.score == pytest.approx(true, abs=2e-3)
        same += len({hit.number for hit in exact} & {hit.number for hit in found})
    assert same / 200 > 0.9


def test_the_index_is_kept_and_a_damaged_one_is_built_again(
    large: ObjectLibrary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("IVLM_CACHE_DIR", str(tmp_path))
    vectors, query = large.embeddings["test"], large.embeddings["test"].vectors[7]

    def ask() -> list[str]:
        # A new library is a new process as far as the index is concerned.
        library = ObjectLibrary(large.entries, {"test": vectors})
        return [hit.entry.id for hit in search(library, "test", query, method="faiss")]

    first = ask()
    file = next((tmp_path / "faiss").iterdir())
    written = file.stat().st_mtime_ns
    assert ask() == first
    assert file.stat().st_mtime_ns == written
    ArrayCache().store("faiss", file.stem, {"index": np.arange(100, dtype=np.uint8)})
    assert ask() == first
    assert "damaged" in caplog.text
    assert file.stat().st_size > 10_000


def test_faiss_is_imported_when_it_is_needed() -> None:
    """Not with the package, and not for a search in a small library: it costs memory and time to start."""
    code = (
        "import sys, numpy as np\n"
        "from ivlm_core.objects import Embeddings, Entry, ObjectLibrary, search\n"
        "search(ObjectLibrary([Entry('a', 'x')], {'s': Embeddings.of([np.ones((1, 3))], 3)}), 's', np.ones(3))\n"
        "sys.exit('faiss' in sys.modules)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
