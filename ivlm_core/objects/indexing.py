"""Filling a library's folder: adding meshes, and bringing the index up to date with what lies there."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from ivlm_core.errors import ConfigError, InputError, MeshError, shown
from ivlm_core.objects.builtin import builtin_library
from ivlm_core.objects.embedding import Embedder, unit_rows
from ivlm_core.objects.entries import MAX_DIMENSIONS, Embeddings, Entry, ScalePrior
from ivlm_core.objects.index import (
    INDEX,
    FolderLibrary,
    confined,
    locked,
    open_library,
    open_repairable,
    write_library,
)
from ivlm_core.objects.labels import known_label
from ivlm_core.objects.loading import SUFFIXES, load_mesh
from ivlm_core.storage import ArrayCache, atomic_path
from ivlm_core.types import FloatArray, Mesh

log = logging.getLogger("ivlm")

MESHES = "meshes"
# How far a real thing is from a mesh that is in metres, where nobody says: one standard deviation, as a share.
OWN_SPREAD = 0.1
# What is wrong with one mesh and no reason to stop. The disk's refusal to write is a ConfigError.
UNUSABLE = (MeshError, InputError, OSError)

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
    embeddings : source → (views, D) that are known already. embeddings_file : where they are from, for messages.
    """

    path: Path
    label: str
    id: str = ""
    licence: str = ""
    scale: ScalePrior | None = None
    metric: bool = True
    embeddings: Mapping[str, FloatArray] = field(default_factory=dict)
    embeddings_file: Path | None = None


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

    A mesh that cannot be used is left out and named in the report, as is one whose id comes twice, or is in the library
    already where `overwrite` is not set. Embeddings are cached by mesh, so that a run that
    was broken off goes on where it stopped.

    Parameters
    ----------
    embedders : the sources to compute. overwrite : replace entries with the same id, and their files in `meshes/`.

    Raises
    ------
    InputError : known embeddings that are not finite, or of another width than the library's of their source. Nothing
        was added then.
    ConfigError : the library's index is damaged, or the disk refuses, or an embedder's width is not the library's.
    """
    folder, cache = Path(folder), cache or ArrayCache()
    with locked(folder):
        rows = _rows(folder)
        names = [item.id or item.path.stem for item in new]
        _check_known(new, _widths(rows.values(), embedders))
        replaced = {rows[name].entry.mesh for name in names if name in rows}
        added, changed, refused = 0, 0, []
        before, taken = set(rows), set[str]()
        for done, (name, item) in enumerate(zip(names, new, strict=True), start=1):
            try:
                if name in taken:
                    raise InputError("entry.id", f"{shown(name)} comes twice", "rename the file, or give it an id")
                if name in before and not overwrite:
                    raise InputError("entry.id", f"{shown(name)} is in the library", "rename it, or use --replace")
                row = _made(folder, name, item, embedders, cache)
                taken.add(name)
            except UNUSABLE as error:
                refused.append((str(item.path), str(error)))
            else:
                changed, added = changed + (name in before), added + (name not in before)
                rows[name] = row
            if progress:
                progress(done, len(new))
        library = _written(folder, rows.values())
        # Only now: who reads the library meanwhile, or breaks this off, still has the old index with the old meshes.
        _removed(folder, replaced - {entry.mesh for entry in library.entries})
    return library, Report(added, changed, 0, tuple(refused))


def reindex(
    folder: Path,
    embedders: Sequence[Embedder],
    progress: Progress | None = None,
    cache: ArrayCache | None = None,
) -> tuple[FolderLibrary, Report]:
    """Bring the index up to date: look at every mesh, and compute what is missing.

    Entries whose mesh is gone are dropped; those whose mesh has changed get new embeddings of the given sources and
    lose those of others; meshes in `meshes/<label>/` that no entry names are added under the folder's name. Embeddings
    that are damaged, or of another width than an embedder of their name, are computed again. Whatever cannot be read is
    named in the report, and the rest goes on.

    Raises
    ------
    ConfigError : no such folder, the index is damaged, or the disk refuses.
    """
    folder, cache = Path(folder), cache or ArrayCache()
    if not folder.is_dir():
        raise ConfigError(str(folder), "is no folder", "make a library: ivlm objects add DIR MESH --label …")
    with locked(folder):
        changed, kept = 0, {}
        refused: list[tuple[str, str]] = []
        rows = _rows(folder, refused)
        known = {row.entry.mesh for row in rows.values()}
        below = _meshes_in(folder / MESHES, refused)
        found = [path for path in below if path.relative_to(folder).as_posix() not in known]
        total, done = len(rows) + len(found), 0
        for name, row in rows.items():
            try:
                kept[name], differs = _refreshed(folder, row, embedders, cache)
                changed += differs
            except UNUSABLE as error:
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
            except UNUSABLE as error:
                refused.append((str(path), str(error)))
            done += 1
            if progress:
                progress(done, total)
        library = _written(folder, kept.values())
    return library, Report(added, changed, len(rows) - (len(kept) - added), tuple(refused))


def _rows(folder: Path, refused: list[tuple[str, str]] | None = None) -> dict[str, _Row]:
    """Id → row; with `refused`, sources whose embeddings are damaged go there and not into an error."""
    if not (folder / INDEX).exists():
        return {}
    if refused is None:
        library = open_library(folder)
    else:
        library, lost = open_repairable(folder)
        refused += [(f"embeddings of {source}", f"are left out: {problem}") for source, problem in lost.items()]
    return {
        entry.id: _Row(entry, {source: vectors.block(number) for source, vectors in library.embeddings.items()})
        for number, entry in enumerate(library.entries)
    }


def _widths(rows: Iterable[_Row], embedders: Sequence[Embedder]) -> dict[str, int]:
    """Source → how wide its vectors must be."""
    widths = {source: block.shape[1] for row in rows for source, block in row.blocks.items() if len(block)}
    for embedder in embedders:
        if widths.setdefault(embedder.name, embedder.dimensions) != embedder.dimensions:
            raise ConfigError(
                f"embeddings {embedder.name}",
                f"of the library have {widths[embedder.name]} dimensions, the embedder's have {embedder.dimensions}",
                "compute the library's again first: ivlm objects index",
            )
    return widths


def _check_known(new: Sequence[NewMesh], widths: dict[str, int]) -> None:
    """Known embeddings must fit the library's and one another, before hours are spent on the rest."""
    for item in new:
        for source, block in item.embeddings.items():
            where = f"{item.embeddings_file or item.path}: embeddings {shown(source)} of {shown(item.path.name)}"
            try:
                width = unit_rows(block).shape[1]
                if width > MAX_DIMENSIONS:
                    raise InputError("embeddings", f"have {width} dimensions, more than {MAX_DIMENSIONS}")
            except InputError as error:
                raise InputError(where, error.problem, "repair the file, or leave the mesh out") from error
            if width != widths.setdefault(source, width):
                told = f"have {width} dimensions, those of the library or of the meshes before have {widths[source]}"
                raise InputError(where, told, "take embeddings of one model, or make a library for each")


def _removed(folder: Path, meshes: Iterable[str]) -> None:
    """Delete mesh files in `meshes/`; elsewhere in the folder they are the user's own, which no index picks up."""
    for mesh in meshes:
        path = folder / mesh
        try:
            if mesh.startswith(f"{MESHES}/") and path.parent.resolve().is_relative_to(folder.resolve()):
                path.unlink(missing_ok=True)
        except (OSError, RuntimeError) as error:
            log.warning("%s was replaced and cannot be deleted (%s): delete it by hand", path, error)


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
    widths = {embedder.name: embedder.dimensions for embedder in embedders}
    blocks = {
        source: block
        for source, block in row.blocks.items()
        if same and len(block) and widths.get(source, block.shape[1]) == block.shape[1]
    }
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


def _meshes_in(folder: Path, refused: list[tuple[str, str]]) -> list[Path]:
    """Mesh files below a folder, in order; links are not followed. Folders that cannot be read go to `refused`."""
    found = []

    def unreadable(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError):
            refused.append((str(error.filename), f"cannot be read: {error.strerror}"))

    for base, folders, names in os.walk(folder, onerror=unreadable):
        folders.sort()
        found += [Path(base) / name for name in sorted(names) if Path(name).suffix.lower() in SUFFIXES]
    return [path for path in found if not path.is_symlink()]


def meshes_in(paths: Sequence[Path]) -> list[Path]:
    """The mesh files among paths, and those below the folders among them.

    Raises
    ------
    InputError : a path that does not exist, or a folder without meshes or that cannot be read.
    """
    found: list[Path] = []
    refused: list[tuple[str, str]] = []
    for path in paths:
        if not path.exists():
            raise InputError("mesh", f"{shown(str(path), 300)} does not exist", "check the path")
        below = _meshes_in(path, refused) if path.is_dir() else [path]
        for file, problem in refused:
            raise InputError("mesh", f"{shown(file, 300)} {problem}", "check its permissions")
        if not below:
            raise InputError("mesh", f"{shown(str(path), 300)} holds no mesh files", f"read: {', '.join(SUFFIXES)}")
        found += below
    return found
