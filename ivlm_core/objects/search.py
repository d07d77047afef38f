"""Finding the meshes whose embeddings are nearest: exactly in small libraries, with FAISS above 50 000 meshes."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import logging
from dataclasses import dataclass
from typing import Any, Literal
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from ivlm_core.errors import ConfigError, InputError, shown
from ivlm_core.objects.embedding import unit_rows
from ivlm_core.objects.entries import Embeddings, Entry, ObjectLibrary
from ivlm_core.storage import ArrayCache

log = logging.getLogger("ivlm")

FAISS_ABOVE = 50_000
PIP_NAME = "faiss-cpu"
# The share of the lists that is looked through: on clustered vectors nearly every true neighbour is there.
PROBED_SHARE = 1 / 32

Method = Literal["auto", "exact", "faiss"]

_indices: WeakKeyDictionary[ObjectLibrary, dict[str, Any]] = WeakKeyDictionary()


@dataclass(frozen=True)
class Hit:
    """One mesh that was found: which entry of the library, and the cosine to its best view."""

    number: int
    entry: Entry
    score: float


def search(
    library: ObjectLibrary,
    source: str,
    query: NDArray,
    label: str | None = None,
    count: int = 5,
    method: Method = "auto",
) -> tuple[Hit, ...]:
    """The entries nearest to an embedding, best first; equals in the library's order.

    Parameters
    ----------
    source : whose embeddings. query : (D,) of the same source, any length above 0.
    label : look only among entries with this very label (see `match_label`); None among all.
    count : how many at most. method : `auto` searches exactly among up to 50 000 meshes and with FAISS among more.

    Raises
    ------
    ConfigError : the library has no embeddings of the source, or FAISS is needed and not installed.
    InputError : a query of another width, or one that is zero or not finite.
    """
    vectors = library.embeddings.get(source)
    if vectors is None:
        told = f"has no embeddings of {shown(source)}, only of {', '.join(library.embeddings) or 'nothing'}"
        raise ConfigError(f"object library {library.name}", told, "compute them: ivlm objects index")
    query = np.asarray(query)
    if query.shape != vectors.vectors.shape[1:]:
        raise InputError("query", f"has shape {query.shape}", f"embeddings of {source} are {vectors.vectors.shape[1:]}")
    query = unit_rows(query[None].astype(np.float64))[0]
    first, last = (0, len(library)) if label is None else library.span(label)
    if count < 1 or first == last:
        return ()
    if method == "faiss" or (method == "auto" and last - first > FAISS_ABOVE):
        numbers, scores = _approximate(library, source, vectors, query, first, last, count)
    else:
        numbers, scores = _exact(vectors, query, first, last, count)
    return tuple(
        Hit(int(number), library.entries[number], float(score)) for number, score in zip(numbers, scores, strict=True)
    )


def _exact(
    vectors: Embeddings, query: NDArray, first: int, last: int, count: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Numbers and cosines of the best entries, by comparing with every view of every entry."""
    starts = vectors.starts[first : last + 1]
    filled = np.flatnonzero(np.diff(starts))
    if len(filled) == 0:
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.float32)
    cosines = vectors.vectors[starts[0] : starts[-1]] @ query
    best = np.maximum.reduceat(cosines, starts[filled] - starts[0])
    if count < len(best):
        # All that reach the count-th best, so that equals are told apart by their order and not by chance.
        least = np.partition(best, len(best) - count)[len(best) - count]
        chosen = np.flatnonzero(best >= least)
    else:
        chosen = np.arange(len(best))
    chosen = chosen[np.argsort(-best[chosen], kind="stable")][:count]
    return filled[chosen] + first, best[chosen]


def _approximate(
    library: ObjectLibrary, source: str, vectors: Embeddings, query: NDArray, first: int, last: int, count: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """As `_exact`, among the views that FAISS finds."""
    faiss = _faiss(len(library))
    index = _indices.setdefault(library, {})
    if source not in index:
        index[source] = _load_or_build(faiss, vectors)
    options: dict[str, Any] = {"nprobe": index[source].nprobe}
    begin, end = vectors.starts[[first, last]]
    if (begin, end) != (0, len(vectors.vectors)):
        options["sel"] = faiss.IDSelectorRange(int(begin), int(end))
    # The best `count` entries are among the best rows, however many views of one entry come before the next.
    rows = min(count * int(np.diff(vectors.starts).max()), int(end - begin))
    scores, found = index[source].search(query[None], rows, params=faiss.SearchParametersIVF(**options))
    valid = found[0] >= 0
    numbers = np.searchsorted(vectors.starts, found[0][valid], side="right") - 1
    entries, best = np.unique(numbers, return_index=True)
    cosines = scores[0][valid][best]
    order = np.argsort(-cosines, kind="stable")[:count]
    return entries[order], cosines[order]


def _faiss(meshes: int) -> Any:
    if importlib.util.find_spec("faiss") is None:
        raise ConfigError(
            "objects.search",
            f"FAISS is not installed, which a search among {meshes} meshes needs",
            f"pip install {PIP_NAME}, name the object's category, or use the method 'exact'",
        )
    return importlib.import_module("faiss")


def _load_or_build(faiss: Any, vectors: Embeddings) -> Any:
    """An inverted-file index over all rows, kept on disk by what it was made from."""
    rows, dimensions = vectors.vectors.shape
    lists = max(1, min(rows // 40, round(4 * rows**0.5)))
    key = hashlib.sha256(f"ivf-fp16:{lists}:{faiss.__version__}".encode())
    key.update(np.ascontiguousarray(vectors.vectors).data)
    cache = ArrayCache()
    stored = cache.load("faiss", key.hexdigest()[:32])
    index = None
    if stored is not None:
        try:
            index = faiss.deserialize_index(stored["index"])
        except (RuntimeError, KeyError, AssertionError) as error:
            log.warning("a stored search index is damaged and is built again: %s", str(error).splitlines()[0])
    if index is None or index.ntotal != rows or index.d != dimensions:
        log.info("building the search index of %d vectors", rows)
        quantizer = faiss.IndexFlatIP(dimensions)
        index = faiss.IndexIVFScalarQuantizer(
            quantizer, dimensions, lists, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT, False
        )
        index.cp.max_points_per_centroid = 64
        index.cp.niter = 8
        index.train(vectors.vectors)
        index.add(vectors.vectors)
        cache.store("faiss", key.hexdigest()[:32], {"index": faiss.serialize_index(index)})
    index.nprobe = max(8, round(lists * PROBED_SHARE))
    return index
