"""Searching 100 000 meshes: with FAISS, exactly, and within one category; and what the silhouette descriptor costs.

`python benchmarks/bench_retrieval.py`; the budgets are 5 ms per search and about 10 ms per query crop. Vectors are
drawn about 1000 centres, as those of things in categories are; a query is a mesh's vector with noise. `recall` is the
share of the exact best five that FAISS finds.
"""

from __future__ import annotations

import os
import tempfile
import time

import numpy as np
import report

from ivlm_core.objects import Embeddings, Entry, ObjectLibrary, SilhouetteEmbedder, library_mesh, search

MESHES, CATEGORIES, COUNT, QUERIES = 100_000, 1000, 5, 200
# Spread about the centres and of the queries, as shares of the centres' own.
WITHIN, NOISE = 0.7, 0.3


def made_library(dimensions: int, views: int, rng: np.random.Generator) -> ObjectLibrary:
    """100 000 entries of 1000 categories with `views` vectors each."""
    centres = rng.standard_normal((CATEGORIES, dimensions), dtype=np.float32)
    category = np.sort(np.arange(MESHES) % CATEGORIES)
    vectors = np.repeat(centres[category], views, axis=0)
    vectors += WITHIN * rng.standard_normal(vectors.shape, dtype=np.float32)
    entries = [Entry(f"{number:06}", f"category {label:04}") for number, label in enumerate(category)]
    return ObjectLibrary(entries, {"made": Embeddings(vectors, np.arange(MESHES + 1) * views)})


def measured(dimensions: int, views: int, bandwidth: float) -> list[tuple[object, ...]]:
    """Rows of one library: FAISS and exact search in all of it, exact search in a category."""
    rng = np.random.default_rng(0)
    library = made_library(dimensions, views, rng)
    vectors = library.embeddings["made"].vectors
    noise = rng.standard_normal((QUERIES, dimensions), dtype=np.float32) * NOISE / np.sqrt(dimensions)
    queries = vectors[rng.integers(len(vectors), size=QUERIES)] + noise
    labels = [f"category {number:04}" for number in rng.integers(CATEGORIES, size=QUERIES)]
    begin = time.perf_counter()
    search(library, "made", queries[0])
    built = time.perf_counter() - begin

    def each(method: str, label: bool = False) -> float:
        """Median ms of one search over the queries."""
        times = []
        for query, name in zip(queries, labels, strict=True):
            start = time.perf_counter()
            search(library, "made", query, name if label else None, COUNT, method)  # type: ignore[arg-type]
            times.append(time.perf_counter() - start)
        return float(np.median(times)) * 1e3

    found = [{hit.number for hit in search(library, "made", query, None, COUNT)} for query in queries[:50]]
    true = [{hit.number for hit in search(library, "made", query, None, COUNT, "exact")} for query in queries[:50]]
    recall = sum(len(first & second) for first, second in zip(found, true, strict=True)) / (50 * COUNT)
    approximate, exact, within = each("auto"), each("exact"), each("auto", label=True)
    # All vectors are read once; in a category a thousandth of them.
    limit = vectors.nbytes / bandwidth * 1e3
    name = f"{MESHES} × {views} × {dimensions}"
    return [
        (name, "faiss", f"{approximate:.2f}", f"{exact / approximate:.1f}", f"{recall:.3f}", f"{built:.1f}", "–"),
        (name, "exact", f"{exact:.2f}", "1.0", "1.000", "–", f"{limit:.2f}"),
        (name, "one category", f"{within:.3f}", f"{exact / within:.0f}", "1.000", "–", f"{limit / CATEGORIES:.3f}"),
    ]


def main() -> None:
    options = report.parser(__doc__ or "")
    options.add_argument(
        "--full", action="store_true", help="also 24 views per mesh, whose index takes minutes to build"
    )
    options = options.parse_args()
    bandwidth = report.copy_bandwidth()
    rows: list[tuple[object, ...]] = []
    sizes = [(48, 1), (512, 1), (1280, 1)] + ([(48, 24)] if options.full else [])
    with tempfile.TemporaryDirectory() as folder:
        # The index is built here, not read from an earlier run.
        os.environ["IVLM_CACHE_DIR"] = folder
        for dimensions, views in sizes:
            rows += measured(dimensions, views, bandwidth)
    embedder = SilhouetteEmbedder()
    mask = np.zeros((480, 640), dtype=bool)
    mask[100:340, 200:330] = np.tri(240, 130, dtype=bool)
    image = np.zeros((480, 640, 3), dtype=np.uint8)
    crop = report.milliseconds(lambda: embedder.of_picture(image, mask), repeats=50)
    mesh = report.milliseconds(lambda: embedder.of_mesh(library_mesh("chair")), repeats=9)
    report.show(
        f"search for the best {COUNT} meshes (budget 5 ms)",
        ("meshes × views × dimensions", "method", "ms", "ratio to exact", "recall", "build s", "limit ms"),
        rows,
        options.json,
        silhouette_of_picture_ms=round(crop, 2),
        silhouette_of_mesh_ms=round(mesh, 1),
    )


if __name__ == "__main__":
    main()
