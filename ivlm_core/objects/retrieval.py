"""From a query to the mesh that stands for its object."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np

from ivlm_core.errors import MeshError, shown
from ivlm_core.objects.library import canonical_label, library_labels, library_mesh
from ivlm_core.objects.loading import load_mesh, write_glb
from ivlm_core.storage import default_cache_dir
from ivlm_core.types import Mesh, ObjectQuery

log = logging.getLogger("ivlm")

FALLBACK_LABEL = "box"


@dataclass(frozen=True)
class ObjectMatch:
    """The mesh chosen for a query.

    Attributes
    ----------
    label : the query's own label.
    mesh : metres, y up.
    source : `file` (the query gave a mesh or a path), `library`, or `fallback` (a plain 0.3 m box stands in).
    resource : `file://` URI of the mesh, empty when it has no file.
    note : what people should know about the choice; empty when the label matched as it stands.
    """

    label: str
    mesh: Mesh
    source: Literal["file", "library", "fallback"]
    resource: str
    note: str


def find_object(query: ObjectQuery) -> ObjectMatch:
    """The query's own mesh, else the library's for its label, else a plain box that says it is one.

    Repeated calls return the same mesh object: library meshes are made once, files are read again only when their
    modification time or size changes.

    Raises
    ------
    MeshError : the query names a mesh file that cannot be used.
    """
    if isinstance(query.mesh, Mesh):
        return ObjectMatch(query.label, query.mesh, "file", "", "")
    if query.mesh is not None:
        path = Path(query.mesh)
        return ObjectMatch(query.label, _file_mesh(path), "file", path.resolve().as_uri(), "")
    known = canonical_label(query.label)
    if known is None:
        note = (
            f"the object library has no {shown(query.label)}: a plain 0.3 m box stands in; give a mesh file, or one of "
            f"{', '.join(library_labels())}"
        )
        return ObjectMatch(
            query.label, library_mesh(FALLBACK_LABEL), "fallback", _library_resource(FALLBACK_LABEL), note
        )
    same = known == query.label.casefold().replace("_", " ")
    note = "" if same else f"{shown(query.label)} is shown with the library's {known}"
    return ObjectMatch(query.label, library_mesh(known), "library", _library_resource(known), note)


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


def _file_mesh(path: Path) -> Mesh:
    try:
        status = path.stat()
    except (OSError, ValueError):
        return load_mesh(path)
    return _read_once(str(path.resolve()), status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=32)
def _read_once(path: str, mtime_ns: int, size: int) -> Mesh:
    return load_mesh(Path(path))


def _library_resource(label: str) -> str:
    return _write_once(label, default_cache_dir())


@lru_cache(maxsize=128)
def _write_once(label: str, cache_dir: Path) -> str:
    """The URI of the label's mesh in the cache, written there if it is not yet; empty where the disk refuses."""
    mesh = library_mesh(label)
    path = cache_dir.absolute() / "objects" / f"{label.replace(' ', '_')}-{mesh.content_hash}.glb"
    try:
        if not path.exists():
            write_glb(path, mesh)
    except OSError as error:
        log.warning("cannot write %s (%s): the %s has no mesh resource; set IVLM_CACHE_DIR", path, error, label)
        return ""
    return path.as_uri()
