"""From a query to the mesh that stands for its object."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np

from ivlm_core.errors import ConfigError, MeshError, shown
from ivlm_core.objects.box import detected_box
from ivlm_core.objects.builtin import builtin_library
from ivlm_core.objects.descriptors import SilhouetteEmbedder
from ivlm_core.objects.embedding import Embedder
from ivlm_core.objects.entries import ObjectLibrary, ScalePrior
from ivlm_core.objects.labels import LabelMatch, known_label, match_label, text_embedder
from ivlm_core.objects.library import library_labels
from ivlm_core.objects.loading import load_mesh_once, write_glb
from ivlm_core.objects.search import search
from ivlm_core.storage import default_cache_dir
from ivlm_core.types import FloatArray, Frame, Mesh, ObjectQuery

# How many of the best are tried before those that were not compared.
RANKED = 20

log = logging.getLogger("ivlm")


@dataclass(frozen=True)
class ObjectMatch:
    """The mesh chosen for a query.

    Attributes
    ----------
    label : the query's own label.
    mesh : metres, y up; of an entry whose units are not known, the file's own (`scale` then says how large it is).
    source : `file` (the query gave a mesh or a path), `library`, or `fallback` (a plain box stands in).
    resource : `file://` URI of the mesh, empty when it has no file.
    note : what people should know about the choice; empty when the label matched as it stands.
    found : how the label led there: `given` (the query's own mesh), `exact`, `synonym`, `nearest label`, or `box`.
    entry : the library's id of the mesh; empty without one.
    scale : how large the object is, where the library knows.
    score : cosine between the picture's embedding and the mesh's best view; None where nothing was compared.
    """

    label: str
    mesh: Mesh
    source: Literal["file", "library", "fallback"]
    resource: str
    note: str
    found: Literal["given", "exact", "synonym", "nearest label", "box"] = "given"
    entry: str = ""
    scale: ScalePrior | None = None
    score: float | None = None


def find_object(
    query: ObjectQuery,
    frame: Frame | None = None,
    library: ObjectLibrary | None = None,
    embedder: Embedder | None = None,
) -> ObjectMatch:
    """The query's own mesh, else the library's that fits its label and looks most like it, else a box.

    The label is looked for as it stands, then among other names, then by its nearest spelling (or meaning, where the
    embedder reads text); at each step in `library` first and in the built-in one after it. Among the meshes of the
    label, the one nearest to what the picture shows is taken; where the picture says nothing (no frame, or no mask
    where the embedder needs one), the first. A library mesh that cannot be used is passed over with a warning, and
    so are a library's embeddings that cannot be compared with the picture's: its first mesh is taken then.

    Repeated calls return the same mesh object: library meshes are made once, files are read again only when their
    modification time or size changes.

    Parameters
    ----------
    frame : the picture that the query is of; without it nothing is compared, and a box has sides of 0.3 m.
    library : a library of the user's. embedder : what pictures are compared by; the silhouette descriptor if None.

    Raises
    ------
    MeshError : the query names a mesh file that cannot be used.  InputError : a mask or box that does not fit the
        picture.
    """
    if isinstance(query.mesh, Mesh):
        return ObjectMatch(query.label, query.mesh, "file", "", "")
    if query.mesh is not None:
        path = Path(query.mesh)
        return ObjectMatch(query.label, load_mesh_once(path), "file", path.resolve().as_uri(), "")
    embedder = embedder or _silhouette()
    for where, matched in label_matches(query.label, library, embedder):
        found = _in_library(query, frame, where, matched, embedder)
        if found is not None:
            return found
    mesh, size_from = detected_box(query, frame)
    size = " × ".join(f"{side:.2g}" for side in np.ptp(mesh.vertices, axis=0)) + " m"
    known = dict.fromkeys((*(library.labels[:100] if library else ()), *library_labels()))
    note = (
        f"the object library has no {shown(query.label)}: a plain box stands in, "
        + (f"{size}, its size from the {size_from}" if size_from else size)
        + f"; give a mesh file, or one of {', '.join(known)}"
    )
    return ObjectMatch(query.label, mesh, "fallback", _resource("box", mesh), note, "box")


def label_matches(
    label: str, library: ObjectLibrary | None, embedder: Embedder
) -> Iterator[tuple[ObjectLibrary, LabelMatch]]:
    """The libraries that have a label for a word: the word itself, then other names, then the guesses.

    At each step `library` comes first, where it is given, and the built-in one after it.
    """
    libraries = [builtin_library()] if library is None else [library, builtin_library()]
    certain = [(where, known_label(label, where.labels)) for where in libraries]
    for how in ("exact", "synonym"):
        for where, matched in certain:
            if matched is not None and matched.how == how:
                yield where, matched
    if all(matched is None for _, matched in certain):
        text = text_embedder(embedder)
        for where in libraries:
            guess = match_label(label, where.labels, text)
            if guess is not None:
                yield where, guess


def _in_library(
    query: ObjectQuery, frame: Frame | None, library: ObjectLibrary, matched: LabelMatch, embedder: Embedder
) -> ObjectMatch | None:
    """The best usable mesh of a label; None where none can be used."""
    note = ""
    if matched.how == "nearest label":
        note = f"{shown(query.label)} is unknown: the nearest label, {matched.label}, stands in"
    elif matched.label != query.label.casefold().replace("_", " "):
        note = f"{shown(query.label)} is shown with the library's {matched.label}"
    for number, score in _ranked(query, frame, library, matched.label, embedder):
        entry = library.entries[number]
        try:
            mesh = library.mesh(number)
            resource = library.resource(number) or _resource(entry.label, mesh)
        except MeshError as error:
            log.warning("the library's %s is passed over: %s", shown(entry.id), error)
            continue
        return ObjectMatch(query.label, mesh, "library", resource, note, matched.how, entry.id, entry.scale, score)
    return None


def _ranked(
    query: ObjectQuery, frame: Frame | None, library: ObjectLibrary, label: str, embedder: Embedder
) -> Iterator[tuple[int, float | None]]:
    """The entries of a label, best first: by what the picture shows where it shows something, then in their order."""
    first, last = library.span(label)
    mask = query.mask if query.mask is not None and query.mask.any() else None
    shows = mask is not None or (query.box_xyxy is not None and not embedder.needs_mask)
    tried = set()
    if frame is not None and shows and last - first > 1 and embedder.name in library.embeddings:
        vector = embedder.of_picture(frame.image, mask, query.box_xyxy)
        for number, score in _compared(library, embedder.name, vector, label):
            tried.add(number)
            yield number, score
    for number in range(first, last):
        if number not in tried:
            yield number, None


def _compared(library: ObjectLibrary, source: str, vector: FloatArray, label: str) -> list[tuple[int, float]]:
    """The entries of a label that look most like the picture; none where the library cannot be asked."""
    stored = library.embeddings[source].vectors.shape[1]
    if stored != len(vector):
        told = f"its embeddings have {stored} dimensions, the picture's {len(vector)}; run ivlm objects index"
        _warn_once(library.name, source, told)
        return []
    try:
        return [(hit.number, hit.score) for hit in search(library, source, vector, label, RANKED)]
    except ConfigError as error:
        _warn_once(library.name, source, str(error))
        return []


@lru_cache(maxsize=256)
def _warn_once(library: str, source: str, told: str) -> None:
    log.warning("the meshes of %s are not compared with pictures by %s: %s", library, source, told)


@lru_cache(maxsize=1)
def _silhouette() -> SilhouetteEmbedder:
    return SilhouetteEmbedder()


def normalize_for_views(mesh: Mesh) -> Mesh:
    """The mesh as object views are rendered: vertex mean at the origin, longest bounding-box side 1.

    Vertex order and faces stay, so values on one mesh are values on the other. Equal meshes get the same object back.

    Raises
    ------
    MeshError : all vertices lie in one point.
    """
    return _normalized(_ByContent(mesh.content_hash, mesh))


@dataclass(frozen=True)
class _ByContent:
    """A mesh as a cache key."""

    content_hash: str
    mesh: Mesh = field(compare=False)


@lru_cache(maxsize=64)
def _normalized(key: _ByContent) -> Mesh:
    mesh = key.mesh
    vertices = mesh.vertices.astype(np.float64)
    longest = np.ptp(vertices, axis=0).max()
    if longest == 0.0:
        raise MeshError(f"mesh {shown(mesh.name)}", "has all its vertices in one point", "repair the mesh")
    normalized = (vertices - vertices.mean(axis=0)) / longest
    return Mesh(normalized.astype(np.float32), mesh.faces, mesh.name)


def _resource(label: str, mesh: Mesh) -> str:
    return _write_once(label, _ByContent(mesh.content_hash, mesh), default_cache_dir())


@lru_cache(maxsize=128)
def _write_once(label: str, key: _ByContent, cache_dir: Path) -> str:
    """The URI of a mesh without a file in the cache, written there if it is not yet; empty where the disk refuses."""
    path = cache_dir.absolute() / "objects" / f"{label.replace(' ', '_')}-{key.content_hash}.glb"
    try:
        if not path.exists():
            write_glb(path, key.mesh)
    except OSError as error:
        log.warning("cannot write %s (%s): the %s has no mesh resource; set IVLM_CACHE_DIR", path, error, label)
        return ""
    return path.as_uri()
