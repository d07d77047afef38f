"""Filling a library's folder: adding meshes, and bringing the index up to date with what lies there."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from ivlm_core.errors import ConfigError, InputError, MeshError, shown
from ivlm_core.objects.builtin import builtin_library
from ivlm_core.objects.embedding import Embedder
from ivlm_core.objects.entries import Embeddings, Entry, ScalePrior
from ivlm_core.objects.index import INDEX, FolderLibrary, confined, locked, open_library, write_library
from ivlm_core.objects.labels import known_label
from ivlm_core.objects.loading import SUFFIXES, load_mesh
from ivlm_core.storage import ArrayCache, atomic_path
from ivlm_core.types import FloatArray, Mesh

MESHES = "meshes"
# How far a real thing is from a mesh that is in metres, where nobody says: one standard deviation, as a share.
OWN_SPREAD = 0.1

Blocks = dict[str, FloatArray]
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class NewMesh:
    """A mesh to be added.

    Attributes
    ----------
    path : its file; copied into the library unless it is there already. label : its category.
    id : its name in the library; empty for the file's name without suffix. licence : its terms.
    scale : the real size; None for that of the mesh.
    metric : whether the file is in metres. Where not, the size is that of the built-in category, or unknown.
    embeddings : source → (views, D) that are known already.
    """

    path: Path
    label: str
    id: str = ""
    licence: str = ""
    scale: ScalePrior | None = None
    metric: bool = True
    embeddings: Mapping[str, FloatArray] = field(default_factory=dict)


@dataclass(frozen=True)
class Report:
    """What was done: entries added, changed and dropped, and (file, reason) of meshes that were refused."""

    added: int = 0
    changed: int = 0
    dropped: int = 0
    refused: tuple[tuple[str, str], ...] = ()


@dataclass
class _Row:
    entry: Entry
    blocks: Blocks


def add_meshes(
    folder: Path,
    new: Sequence[NewMesh],
    embedders: Sequence[Embedder],
    progress: Progress | None = None,
    overwrite: bool = False,
    cache: ArrayCache | None = None,
) -> tuple[FolderLibrary, Report]:
    """Add meshes to the library in a folder, which is made where there is none.

    A mesh that cannot be used is left out and named in the report. Embeddings are cached by mesh, so that a run that
    was broken off goes on where it stopped.

    Parameters
    ----------
    embedders : the sources to compute. overwrite : replace entries with the same id.

    Raises
    ------
    InputError : an id that comes twice, or is in the library already and `overwrite` is not set.
    ConfigError : the library's index is damaged, or the disk refuses.
    """
    folder, cache = Path(folder), cache or ArrayCache()
    with locked(folder):
        rows = _rows(folder)
        names = [item.id or item.path.stem for item in new]
        taken: set[str] = set() if overwrite else set(rows)
        for name in names:
            if name in taken:
                raise InputError("entry.id", f"{shown(name)} comes twice, or is in the library", "choose another id")
            taken.add(name)
        added, changed, refused = 0, 0, []
        for done, (name, item) in enumerate(zip(names, new, strict=True), start=1):
            try:
                row = _made(folder, name, item, embedders, cache)
            except (MeshError, InputError) as error:
                refused.append((str(item.path), str(error)))
            else:
                changed, added = changed + (name in rows), added + (name not in rows)
                rows[name] = row
            if progress:
                progress(done, len(new))
        library = _written(folder, rows.values())
    return library, Report(added, changed, 0, tuple(refused))


def reindex(
    folder: Path,
    embedders: Sequence[Embedder],
    progress: Progress | None = None,
    cache: ArrayCache | None = None,
) -> tuple[FolderLibrary, Report]:
    """Bring the index up to date: look at every mesh, and compute what is missing.

    Entries whose mesh is gone are dropped; those whose mesh has changed get new embeddings of the given sources and
    lose those of others; meshes in `meshes/<label>/` that no entry names are added under the folder's name.

    Raises
    ------
    ConfigError : no such folder, the index is damaged, or the disk refuses.
    """
    folder, cache = Path(folder), cache or ArrayCache()
    if not folder.is_dir():
        raise ConfigError(str(folder), "is no folder", "make a library: ivlm objects add DIR MESH --label …")
    with locked(folder):
        rows = _rows(folder)
        known = {row.entry.mesh for row in rows.values()}
        found = [path for path in _meshes_in(folder / MESHES) if path.relative_to(folder).as_posix() not in known]
        total, done = len(rows) + len(found), 0
        changed, refused, kept = 0, [], {}
        for name, row in rows.items():
            try:
                kept[name], differs = _refreshed(folder, row, embedders, cache)
                changed += differs
            except MeshError as error:
                refused.append((row.entry.mesh or name, str(error)))
            done += 1
            if progress:
                progress(done, total)
        added = 0
        for path in found:
            parts = path.relative_to(folder / MESHES).parts
            label = parts[0].replace("_", " ") if len(parts) > 1 else ""
            name = path.stem if path.stem not in kept else path.relative_to(folder / MESHES).as_posix()
            try:
                kept[name] = _made(folder, name, NewMesh(path, label), embedders, cache)
                added += 1
            except (MeshError, InputError) as error:
                refused.append((str(path), str(error)))
            done += 1
            if progress:
                progress(done, total)
        library = _written(folder, kept.values())
    return library, Report(added, changed, len(rows) - (len(kept) - added), tuple(refused))


def _rows(folder: Path) -> dict[str, _Row]:
    if not (folder / INDEX).exists():
        return {}
    library = open_library(folder)
    return {
        entry.id: _Row(entry, {source: vectors.block(number) for source, vectors in library.embeddings.items()})
        for number, entry in enumerate(library.entries)
    }


def _made(folder: Path, name: str, item: NewMesh, embedders: Sequence[Embedder], cache: ArrayCache) -> _Row:
    """The row of a new mesh, its file in the folder."""
    entry = Entry(name, item.label, licence=item.licence, scale=item.scale)
    mesh = load_mesh(item.path)
    blocks = {**item.embeddings, **_embedded(mesh, embedders, cache)}
    where = _brought(folder, item.path, entry, mesh)
    scale = item.scale or _usual_size(item, mesh)
    return _Row(replace(entry, mesh=where, mesh_hash=mesh.content_hash, scale=scale), blocks)


def _refreshed(folder: Path, row: _Row, embedders: Sequence[Embedder], cache: ArrayCache) -> tuple[_Row, bool]:
    """The row as its mesh is now, and whether the mesh or its embeddings are others than before."""
    mesh = load_mesh(confined(folder, row.entry))
    same = mesh.content_hash == row.entry.mesh_hash
    blocks = {source: block for source, block in row.blocks.items() if same and len(block)}
    missing = [embedder for embedder in embedders if embedder.name not in blocks]
    blocks |= _embedded(mesh, missing, cache)
    return _Row(replace(row.entry, mesh_hash=mesh.content_hash), blocks), not same or bool(missing)


def _embedded(mesh: Mesh, embedders: Sequence[Embedder], cache: ArrayCache) -> Blocks:
    blocks = {}
    for embedder in embedders:
        key = f"{embedder.name.replace(':', '-')}-{mesh.content_hash}"
        stored = cache.load("object-embeddings", key)
        block = stored.get("vectors") if stored else None
        if block is None or block.ndim != 2 or block.shape[1] != embedder.dimensions:
            block = embedder.of_mesh(mesh)
            cache.store("object-embeddings", key, {"vectors": block})
        blocks[embedder.name] = block
    return blocks


def _brought(folder: Path, path: Path, entry: Entry, mesh: Mesh) -> str:
    """Where the mesh lies, relative to the folder; it is copied there unless it is there."""
    absolute, root = path.resolve(), folder.resolve()
    if absolute.is_relative_to(root):
        return absolute.relative_to(root).as_posix()
    plain, label = (re.sub(r"[^\w-]+", "_", text)[:80] for text in (entry.id, entry.label))
    relative = f"{MESHES}/{label}/{plain}-{mesh.content_hash[:8]}{path.suffix.lower()}"
    try:
        with atomic_path(folder / relative) as temporary:
            temporary.write_bytes(absolute.read_bytes())
    except OSError as error:
        raise ConfigError(
            str(folder / relative), f"cannot be written: {error}", "make room, or choose another folder"
        ) from error
    return relative


def _usual_size(item: NewMesh, mesh: Mesh) -> ScalePrior | None:
    if item.metric:
        longest = float(np.ptp(mesh.vertices.astype(np.float64), axis=0).max())
        return ScalePrior(longest, OWN_SPREAD * longest)
    builtin = builtin_library()
    known = known_label(item.label, builtin.labels)
    return builtin.entries[builtin.default(known.label)].scale if known else None


def _written(folder: Path, rows: Iterable[_Row]) -> FolderLibrary:
    rows = list(rows)
    widths: dict[str, int] = {}
    for row in rows:
        for source, block in row.blocks.items():
            if len(block):
                widths.setdefault(source, block.shape[1])
    embeddings = {
        source: Embeddings.of([row.blocks.get(source, np.zeros((0, width), np.float32)) for row in rows], width)
        for source, width in widths.items()
    }
    return write_library(folder, [row.entry for row in rows], embeddings)


def _meshes_in(folder: Path) -> list[Path]:
    """Mesh files below a folder, in order; links are not followed."""
    found = []
    for base, folders, names in os.walk(folder):
        folders.sort()
        found += [Path(base) / name for name in sorted(names) if Path(name).suffix.lower() in SUFFIXES]
    return [path for path in found if not path.is_symlink()]


def meshes_in(paths: Sequence[Path]) -> list[Path]:
    """The mesh files among paths, and those below the folders among them.

    Raises
    ------
    InputError : a path that does not exist, or a folder without meshes.
    """
    found: list[Path] = []
    for path in paths:
        if not path.exists():
            raise InputError("mesh", f"{shown(str(path), 300)} does not exist", "check the path")
        below = _meshes_in(path) if path.is_dir() else [path]
        if not below:
            raise InputError("mesh", f"{shown(str(path), 300)} holds no mesh files", f"read: {', '.join(SUFFIXES)}")
        found += below
    return found
