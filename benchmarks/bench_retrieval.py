"""Searching 100 000 meshes: with FAISS, exactly, and within one category; and what the silhouette descriptor costs.

`python benchmarks/bench_retrieval.py`; the budgets are 5 ms per search and about 10 ms per query crop. Vectors are
drawn about 1000 centres, as those of things in categories are; a query is a mesh's vector with noise. `recall` is the
share of the exact best five that FAISS finds. `ms` is what passed; `cpu ms` is what the search's own thread was busy,
which says the same on a machine that has nothing else to do, and still says it on one that has
(with `OMP_NUM_THREADS=1`: the work of other threads is not in it).
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

    def each(method: str, label: bool = False) -> tuple[float, float]:
        """Median ms of one search over the queries: passed, and of this thread."""
        times = []
        for query, name in zip(queries, labels, strict=True):
            start, busy = time.perf_counter(), time.thread_time()
            search(library, "made", query, name if label else None, COUNT, method)  # type: ignore[arg-type]
            times.append((time.perf_counter() - start, time.thread_time() - busy))
        passed, busy = np.median(times, axis=0) * 1e3
        return float(passed), float(busy)

    found = [{hit.number for hit in search(library, "made", query, None, COUNT)} for query in queries[:50]]
    true = [{hit.number for hit in search(library, "made", query, None, COUNT, "exact")} for query in queries[:50]]
    recall = sum(len(first & second) for first, second in zip(found, true, strict=True)) / (50 * COUNT)
    approximate, exact, within = each("auto"), each("exact"), each("auto", label=True)
    # All vectors are read once; in a category a thousandth of them.
    limit = vectors.nbytes / bandwidth * 1e3
    name = f"{MESHES} × {views} × {dimensions}"

    def row(method: str, times: tuple[float, float], recalled: float, build: str, least: str) -> tuple[object, ...]:
        told = [f"{milliseconds:.3f}" for milliseconds in times]
        return name, method, *told, f"{exact[1] / times[1]:.1f}", f"{recalled:.3f}", build, least

    return [
        row("faiss", approximate, recall, f"{built:.1f}", "–"),
        row("exact", exact, 1.0, "–", f"{limit:.2f}"),
        row("one category", within, 1.0, "–", f"{limit / CATEGORIES:.3f}"),
    ]


def main() -> None:
    parser = report.parser(__doc__ or "")
    parser.add_argument(
        "--full", action="store_true", help="also 24 views per mesh, whose index takes minutes to build"
    )
    parser.add_argument(
        "--dimensions", type=int, nargs="+", default=[48, 512, 1280], metavar="D", help="default: %(default)s"
    )
    options = parser.parse_args()
    bandwidth = report.copy_bandwidth()
    rows: list[tuple[object, ...]] = []
    sizes = [(dimensions, 1) for dimensions in options.dimensions] + ([(48, 24)] if options.full else [])
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
        ("meshes × views × dimensions", "method", "ms", "cpu ms", "ratio to exact", "recall", "build s", "limit ms"),
        rows,
        options.json,
        silhouette_of_picture_ms=round(crop, 2),
        silhouette_of_mesh_ms=round(mesh, 1),
    )


if __name__ == "__main__":
    main()
