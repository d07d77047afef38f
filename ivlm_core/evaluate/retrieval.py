"""How well objects in pictures are found again among meshes: top-1 and top-5 on SynthHOI, against held-out instances.

The gallery has `instances` meshes of every category of the object library, drawn with a seed of their own: none is in
any scene, and none is in the built-in library. Every object of a scene of which enough is seen asks three questions:

* category: is the best mesh of the whole gallery, or one of the best five, of the object's category? The label is not
  used.
* instance: the object's own mesh is put among the gallery's of its category. Is it the best, or one of the best five?
  Meshes that score the same (all balls do) count as drawn in any order: who cannot tell them apart gets chance's share.
* shape: among the gallery's of its category, without its own, is the one that is found the most similar there is? What
  is the chamfer distance between both, beside the least possible and a random choice's; and how wrong is the size that
  is taken over from it, beside that of the category's default mesh?

`chance` holds what guessing gives. Shapes that look alike from everywhere (balls, boxes, telephones) stay near it.

`ivlm evaluate --task retrieve --data DATA --scenes N --json FILE` measures on scenes of a stored data set.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ivlm_core.datasets.synthetic import ObjectRecord, SceneRecord
from ivlm_core.errors import ConfigError, DatasetError
from ivlm_core.evaluate.fit_metrics import chamfer_cm
from ivlm_core.evaluate.symmetry import surface_points
from ivlm_core.evaluate.synthhoi import Progress, Setup, SetupScenes, check_setup
from ivlm_core.objects import (
    Embedder,
    Embeddings,
    Entry,
    ObjectLibrary,
    SilhouetteEmbedder,
    canonical_label,
    library_labels,
    library_mesh,
    library_shape,
    search,
    varied_shape,
)
from ivlm_core.storage import ArrayCache
from ivlm_core.types import FloatArray, Mesh

INSTANCES = 8
SEED = 90_210
LEAST_PIXELS = 80
POINTS = 1000
FEW = 5
# Cosines that differ by less are the same: an index keeps half precision.
SAME = 1e-4

Shares = tuple[float, float]


class Gallery(ObjectLibrary):
    """Held-out instances of every category, as a library.

    Parameters
    ----------
    instances : of each category. cache : where embeddings are kept.
    """

    def __init__(self, embedder: Embedder, instances: int = INSTANCES, cache: ArrayCache | None = None) -> None:
        if not FEW <= instances <= 1000:
            raise ConfigError("instances", f"are {instances}", f"give {FEW}…1000")
        self.instances = instances
        labels = library_labels()
        names = [(row, label, number) for row, label in enumerate(labels) for number in range(instances)]
        entries = [Entry(f"{label.replace(' ', '_')}-{number:03}", label) for _, label, number in names]
        meshes = [varied_shape(label, np.random.default_rng([SEED, row, number])).mesh for row, label, number in names]
        blocks = [_views(mesh, embedder, cache or ArrayCache()) for mesh in meshes]
        super().__init__(entries, {embedder.name: Embeddings.of(blocks, embedder.dimensions)}, "held-out instances")
        order = {entry.id: number for number, entry in enumerate(entries)}
        self.meshes = tuple(meshes[order[entry.id]] for entry in self.entries)

    def mesh(self, number: int) -> Mesh:
        return self.meshes[number]

    @cached_property
    def sizes(self) -> NDArray[np.float64]:
        """Longest sides, metres."""
        return np.array([_longest(mesh) for mesh in self.meshes])

    @cached_property
    def points(self) -> tuple[NDArray[np.float64], ...]:
        """(POINTS, 3) each: points on every mesh, its longest side 1."""
        return tuple(_points(mesh) for mesh in self.meshes)


@dataclass(frozen=True)
class _Asked:
    """What one object gave: of each question, how far it is among the best and among the best five, 0 to 1."""

    label: str
    category: Shares
    instance: Shares
    shape: Shares
    chamfer: tuple[float, float, float]
    size_error: tuple[float, float]


def retrieval_scores(
    records: Iterable[SceneRecord],
    embedder: Embedder | None = None,
    gallery: Gallery | None = None,
    cache: ArrayCache | None = None,
) -> dict[str, Any]:
    """Retrieval scores of the objects in scenes; see the module for the questions.

    Parameters
    ----------
    records : scenes; their pictures and masks are what is asked with.
    embedder : what is measured; the silhouette descriptor by default. gallery : made for it; by default a new one.

    Returns
    -------
    `objects`, `instances`, `source`; `category`, `instance` and `shape` with `top1`, `top5` and their `chance`;
    `chamfer_percent` of the longest side with `found`, `least` and `random`; `size_error` (mean |ratio − 1|) with
    `found` and `default`; `categories`: label → `objects` and the three top-1 shares.

    Raises
    ------
    DatasetError : no object of the scenes can be seen.
    """
    embedder = embedder or SilhouetteEmbedder()
    cache = cache or ArrayCache()
    gallery = gallery or Gallery(embedder, cache=cache)
    asked = []
    for record in records:
        for number, thing in enumerate(record.objects):
            mask = record.object_mask(number)
            if mask.sum() >= LEAST_PIXELS:
                vector = embedder.of_picture(record.image, mask)
                asked.append(_ask(vector, thing, embedder, gallery, cache))
    if not asked:
        raise DatasetError("scenes", "show no object that is large enough", "give more scenes")
    chamfer = np.array([item.chamfer for item in asked]).mean(axis=0) * 100
    size = np.array([item.size_error for item in asked]).mean(axis=0)
    count = gallery.instances
    labels = sorted({item.label for item in asked})
    return {
        "objects": len(asked),
        "instances": count,
        "source": embedder.name,
        "category": _top([item.category for item in asked], count, len(gallery)),
        "instance": _top([item.instance for item in asked], 1, count + 1),
        "shape": _top([item.shape for item in asked], 1, count),
        "chamfer_percent": dict(zip(("found", "least", "random"), _rounded(chamfer, 2), strict=True)),
        "size_error": dict(zip(("found", "default"), _rounded(size, 3), strict=True)),
        "categories": {label: _of_label([item for item in asked if item.label == label]) for label in labels},
    }


def _ask(vector: FloatArray, thing: ObjectRecord, embedder: Embedder, gallery: Gallery, cache: ArrayCache) -> _Asked:
    label = canonical_label(thing.label) or thing.label
    own = library_shape(label, **thing.sizes).mesh
    own_score = float((_views(own, embedder, cache) @ vector).max())
    everywhere = search(gallery, embedder.name, vector, None, len(gallery), "exact")
    category = next(rank for rank, hit in enumerate(everywhere) if hit.entry.label == label)
    alike = search(gallery, embedder.name, vector, label, gallery.instances, "exact")
    points = _points(own)
    # Metres of meshes whose longest side is 1: shares of it.
    distances = {hit.number: chamfer_cm(points, gallery.points[hit.number]) / 100 for hit in alike}
    nearest = min(distances, key=lambda number: distances[number])
    best = alike[0].number
    size = _longest(own)
    return _Asked(
        label,
        _within(category),
        _within(
            sum(hit.score > own_score + SAME for hit in alike),
            sum(abs(hit.score - own_score) <= SAME for hit in alike),
        ),
        _within([hit.number for hit in alike].index(nearest)),
        (distances[best], distances[nearest], float(np.mean(list(distances.values())))),
        (abs(gallery.sizes[best] / size - 1), abs(_longest(library_mesh(label)) / size - 1)),
    )


def _within(better: int, same: int = 0) -> Shares:
    """The chance to be the first, and among the first five, after some that are better and among some that equal it."""
    first, few = (min(max((places - better) / (same + 1), 0.0), 1.0) for places in (1, FEW))
    return first, few


def _top(shares: list[Shares], right: int, among: int) -> dict[str, Any]:
    """Mean shares, beside those of guessing one of `right` among `among`."""
    first, few = np.array(shares).mean(axis=0)
    missed = np.prod([(among - right - drawn) / (among - drawn) for drawn in range(FEW)])
    return {
        "top1": round(float(first), 3),
        "top5": round(float(few), 3),
        "chance": {"top1": round(right / among, 3), "top5": round(float(1 - missed), 3)},
    }


def _of_label(asked: list[_Asked]) -> dict[str, Any]:
    shares = {name: np.mean([getattr(item, name)[0] for item in asked]) for name in ("category", "instance", "shape")}
    return {"objects": len(asked), **{name: round(float(share), 3) for name, share in shares.items()}}


def _views(mesh: Mesh, embedder: Embedder, cache: ArrayCache) -> FloatArray:
    key = f"{embedder.name.replace(':', '-')}-{mesh.content_hash}"
    stored = cache.load("object-embeddings", key)
    if stored is not None and stored.get("vectors", np.zeros((0, 0))).shape[1:] == (embedder.dimensions,):
        return stored["vectors"]
    vectors = embedder.of_mesh(mesh)
    cache.store("object-embeddings", key, {"vectors": vectors})
    return vectors


def _points(mesh: Mesh) -> NDArray[np.float64]:
    vertices = mesh.vertices.astype(np.float64)
    low, high = vertices.min(axis=0), vertices.max(axis=0)
    return surface_points((vertices - (low + high) / 2) / (high - low).max(), mesh.faces, POINTS)


def _longest(mesh: Mesh) -> float:
    return float(np.ptp(mesh.vertices.astype(np.float64), axis=0).max())


def _rounded(values: NDArray[np.float64], digits: int) -> list[float]:
    return [round(float(value), digits) for value in values]


def evaluate_retrieval(setup: Setup, progress: Progress | None = None) -> dict[str, Any]:
    """The report of `ivlm evaluate --task retrieve`: `retrieval_scores` on the scenes of a setup, without its model.

    Parameters
    ----------
    progress : called with the number of scenes done and the number in all.

    Returns
    -------
    What `retrieval_scores` returns, with `scenes`, `split`, and `seed` or `data`.

    Raises
    ------
    ConfigError : a number or split that does not exist, or the seed of a training set.
    DatasetError : the data cannot be read, or show no object.
    """
    check_setup(setup)
    source = {"seed": setup.seed} if setup.data is None else {"data": setup.data.name}
    return {"scenes": setup.scenes, "split": setup.split, **source, **retrieval_scores(_scenes(setup, progress))}


def retrieval_text(report: Mapping[str, Any]) -> str:
    """The figures of a report as a table for people."""
    lines = [
        f"{report['objects']} objects of {report['scenes']} scenes of {report['split']}, "
        f"{report['instances']} held-out instances of every category, {report['source']}",
        f"{'':10} {'top-1':>7} {'top-5':>7} {'chance, top-1':>14} {'chance, top-5':>14}",
    ]
    for name in ("category", "instance", "shape"):
        block = report[name]
        chance = block["chance"]
        lines.append(
            f"{name:10} {block['top1']:7.3f} {block['top5']:7.3f} {chance['top1']:14.3f} {chance['top5']:14.3f}"
        )
    chamfer, size = report["chamfer_percent"], report["size_error"]
    lines.append(
        f"Chamfer {chamfer['found']:.2f} % of the longest side (least {chamfer['least']:.2f}, random "
        f"{chamfer['random']:.2f}); size wrong by {size['found']:.3f} (the default's {size['default']:.3f})"
    )
    return "\n".join(lines)


def _scenes(setup: Setup, progress: Progress | None) -> Iterator[SceneRecord]:
    for done, record in enumerate(SetupScenes(setup, depth=False), start=1):
        yield record
        if progress is not None:
            progress(done, setup.scenes)
