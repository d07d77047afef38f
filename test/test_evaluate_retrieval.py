"""Retrieval scores: an embedder that knows the answer has full marks, one that knows nothing has those of chance."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ivlm_core.datasets.synthetic import SAMPLE, SceneRecord, SynthHoi
from ivlm_core.errors import ConfigError, DatasetError
from ivlm_core.evaluate import retrieval
from ivlm_core.evaluate.retrieval import Gallery, evaluate_retrieval, retrieval_scores, retrieval_text
from ivlm_core.evaluate.synthhoi import Setup
from ivlm_core.objects import canonical_label, library_labels, library_shape
from ivlm_core.objects.embedding import unit_rows
from ivlm_core.storage import ArrayCache
from ivlm_core.types import FloatArray, Mesh


@pytest.fixture(scope="module")
def records() -> list[SceneRecord]:
    return list(SynthHoi(SAMPLE, "test", depth=False))


@pytest.fixture
def cache(tmp_path: Path) -> ArrayCache:
    return ArrayCache(tmp_path)


class _Told:
    """Meshes by a fixed random vector each; pictures by the vector of the mesh that is in the mask."""

    dimensions = 64
    needs_mask = True
    name = "told"

    def __init__(self, answers: list[Mesh] | None = None) -> None:
        self._answers = iter(answers or [])

    def of_mesh(self, mesh: Mesh) -> FloatArray:
        rng = np.random.default_rng(int(mesh.content_hash, 16))
        return unit_rows(rng.normal(size=(1, self.dimensions)))

    def of_picture(self, image: Any, mask: Any, box: Any = None) -> FloatArray:
        return self.of_mesh(next(self._answers))[0]


def _own(records: list[SceneRecord]) -> list[tuple[str, Mesh]]:
    return [
        (canonical_label(thing.label) or "", library_shape(thing.label, **thing.sizes).mesh)
        for record in records
        for number, thing in enumerate(record.objects)
        if record.object_mask(number).sum() >= 80
    ]


@pytest.fixture(scope="module")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> Gallery:
    return Gallery(_Told(), instances=5, cache=ArrayCache(tmp_path_factory.mktemp("cache")))


def test_the_gallery_is_held_out(gallery: Gallery, records: list[SceneRecord]) -> None:
    assert len(gallery) == 5 * len(library_labels())
    hashes = {mesh.content_hash for mesh in gallery.meshes}
    assert len(hashes) == len(gallery)
    assert not hashes & {mesh.content_hash for _, mesh in _own(records)}
    for number, entry in enumerate(gallery.entries):
        assert gallery.mesh(number).name.startswith(entry.label) or entry.label in gallery.mesh(number).name


def test_who_sees_the_own_mesh_finds_it(records: list[SceneRecord], gallery: Gallery, cache: ArrayCache) -> None:
    own = _own(records)
    scores = retrieval_scores(records, _Told([mesh for _, mesh in own]), gallery, cache)
    assert scores["objects"] == len(own)
    assert scores["instance"] == {"top1": 1.0, "top5": 1.0, "chance": {"top1": 0.167, "top5": 0.833}}
    # Vectors of meshes are random, so the own one says nothing of others.
    assert scores["category"]["top1"] < 0.3
    assert scores["category"]["chance"] == {"top1": 0.04, "top5": pytest.approx(0.186, abs=0.01)}
    assert {label: block["objects"] for label, block in scores["categories"].items()} == {
        label: sum(other == label for other, _ in own) for label in sorted({label for label, _ in own})
    }


def test_who_answers_the_most_similar_has_the_least_chamfer(
    records: list[SceneRecord], gallery: Gallery, cache: ArrayCache
) -> None:
    from ivlm_core.evaluate.fit_metrics import chamfer_cm
    from ivlm_core.evaluate.retrieval import _points

    answers = []
    for label, mesh in _own(records):
        near = min(range(*gallery.span(label)), key=lambda n: chamfer_cm(_points(mesh), gallery.points[n]))
        answers.append(gallery.mesh(near))
    scores = retrieval_scores(records, _Told(answers), gallery, cache)
    assert scores["shape"]["top1"] == scores["category"]["top1"] == 1.0
    assert scores["chamfer_percent"]["found"] == scores["chamfer_percent"]["least"]
    assert scores["chamfer_percent"]["least"] < scores["chamfer_percent"]["random"]
    assert scores["instance"]["top1"] < 0.3
    assert set(scores["size_error"]) == {"found", "default"}


class _Blind(_Told):
    """All meshes look the same to it."""

    name = "blind"

    def of_mesh(self, mesh: Mesh) -> FloatArray:
        return unit_rows(np.ones((1, self.dimensions)))

    def of_picture(self, image: Any, mask: Any, box: Any = None) -> FloatArray:
        return unit_rows(np.ones((1, self.dimensions)))[0]


def test_who_cannot_tell_meshes_apart_gets_what_chance_gives(records: list[SceneRecord], cache: ArrayCache) -> None:
    """Equals in favour of the own mesh would make a ball's instance known for certain."""
    embedder = _Blind()
    scores = retrieval_scores(records, embedder, Gallery(embedder, instances=5, cache=cache), cache)["instance"]
    assert scores["chance"] == {"top1": 0.167, "top5": 0.833}
    assert {"top1": scores["top1"], "top5": scores["top5"]} == scores["chance"]


def test_the_task_reads_stored_scenes(monkeypatch: pytest.MonkeyPatch, gallery: Gallery, cache: ArrayCache) -> None:
    """With the scenes' own number and what `retrieval_scores` says of them; every figure stands in the text."""

    def scores(records: Any) -> dict[str, Any]:
        asked = list(records)
        answers = [mesh for _, mesh in _own(asked)]
        return retrieval_scores(asked, _Told(answers), gallery, cache)

    monkeypatch.setattr(retrieval, "retrieval_scores", scores)
    done: list[tuple[int, int]] = []
    report = evaluate_retrieval(Setup("test", 3, data=SAMPLE), lambda *numbers: done.append(numbers))
    assert (report["scenes"], report["split"], report["data"]) == (3, "test", SAMPLE.name)
    assert done == [(1, 3), (2, 3), (3, 3)]
    text = retrieval_text(report)
    assert f"{report['objects']} objects of 3 scenes of test, 5 held-out instances" in text
    rows = {line.split()[0]: line.split()[1:] for line in text.splitlines()[2:5]}
    assert rows["instance"] == ["1.000", "1.000", "0.167", "0.833"]
    assert rows["category"][:2] == [f"{report['category'][name]:.3f}" for name in ("top1", "top5")]
    for value in report["chamfer_percent"].values():
        assert f"{value:.2f}" in text


def test_impossible_setups() -> None:
    with pytest.raises(ConfigError, match="scenes"):
        evaluate_retrieval(Setup(scenes=0))
    with pytest.raises(ConfigError, match="split"):
        evaluate_retrieval(Setup(split="nowhere", scenes=1))


def test_nothing_to_see(records: list[SceneRecord], gallery: Gallery) -> None:
    with pytest.raises(DatasetError, match="show no object"):
        retrieval_scores([], _Told(), gallery)


def test_too_few_instances() -> None:
    with pytest.raises(ConfigError, match="instances"):
        Gallery(_Told(), instances=4)
