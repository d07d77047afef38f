"""How well objects in pictures are found again among meshes: top-1 and top-5 on SynthHOI, against held-out instances.

The gallery has `instances` meshes of every category of the object library, drawn with a seed of their own: none is in
any scene, and none is in the built-in library. Every object of a scene of which enough is seen asks three questions:

* category: is the best mesh of the whole gallery, or one of the best five, of the object's category? The label is not
  used.
* instance: the object's own mesh is put among the gallery's of its category. Is it the best, or one of the best five?
* shape: among the gallery's of its category, without its own, is the one that is found the most similar there is? What
  is the chamfer distance between both, beside the least possible and a random choice's; and how wrong is the size that
  is taken over from it, beside that of the category's default mesh?

`chance` holds what guessing gives. Shapes that look alike from everywhere (balls, boxes, telephones) stay near it.

`python -m ivlm_core.evaluate.retrieval DATA --scenes N --seed S --json FILE` measures on scenes of a stored data set.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ivlm_core.datasets.synthetic import ObjectRecord, SceneRecord, SynthHoi
from ivlm_core.errors import ConfigError, DatasetError
from ivlm_core.evaluate.fit_metrics import chamfer_cm
from ivlm_core.evaluate.symmetry import surface_points
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
from ivlm_core.storage import ArrayCache, atomic_path
from ivlm_core.types import FloatArray, Mesh

INSTANCES = 8
SEED = 90_210
LEAST_PIXELS = 80
POINTS = 1000
FEW = 5


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
    """What one object gave; ranks count from 0."""

    label: str
    category: int
    instance: int
    shape: int
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
        category,
        sum(hit.score > own_score for hit in alike),
        [hit.number for hit in alike].index(nearest),
        (distances[best], distances[nearest], float(np.mean(list(distances.values())))),
        (abs(gallery.sizes[best] / size - 1), abs(_longest(library_mesh(label)) / size - 1)),
    )


def _top(ranks: list[int], right: int, among: int) -> dict[str, Any]:
    """Shares of ranks below 1 and below 5, beside those of guessing one of `right` among `among`."""
    array = np.array(ranks)
    missed = np.prod([(among - right - drawn) / (among - drawn) for drawn in range(FEW)])
    return {
        "top1": round(float((array < 1).mean()), 3),
        "top5": round(float((array < FEW).mean()), 3),
        "chance": {"top1": round(right / among, 3), "top5": round(float(1 - missed), 3)},
    }


def _of_label(asked: list[_Asked]) -> dict[str, Any]:
    shares = {name: np.mean([getattr(item, name) == 0 for item in asked]) for name in ("category", "instance", "shape")}
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


def evaluate_retrieval(data: Path, split: str = "test", scenes: int = 200, seed: int = 1) -> dict[str, Any]:
    """The report of `ivlm evaluate --task retrieve`: `retrieval_scores` on scenes drawn from a stored data set.

    Parameters
    ----------
    data : its folder. scenes : how many, at most those that it has. seed : which; the same seed, the same scenes.

    Returns
    -------
    `scenes`, `split`, `seed`, and what `retrieval_scores` returns.

    Raises
    ------
    ConfigError : less than one scene is asked for.  DatasetError : the data cannot be read, or shows no object.
    """
    from tqdm import tqdm

    if scenes < 1:
        raise ConfigError("--scenes", f"is {scenes}", "give 1 or more")
    stored = SynthHoi(data, split, depth=False)
    chosen = np.sort(np.random.default_rng(seed).permutation(len(stored))[:scenes])
    records = (stored[int(index)] for index in tqdm(chosen, unit=" scenes", file=sys.stderr))
    return {"scenes": len(chosen), "split": split, "seed": seed, **retrieval_scores(records)}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path, help="folder of a generated dataset (`ivlm synth generate`)")
    parser.add_argument("--split", default="test", help="default: %(default)s")
    parser.add_argument("--scenes", type=int, default=200, help="how many (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="which scenes (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    report = evaluate_retrieval(options.data, options.split, options.scenes, options.seed)
    if options.json is not None:
        with atomic_path(options.json) as temporary:
            temporary.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(report))


if __name__ == "__main__":
    main()
