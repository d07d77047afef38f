"""The folder that an object library is kept in (`docs/objects.md`).

It holds `index.json`, the embeddings of each source in one `.npy` of its own, and meshes. Nothing in it is
trusted: sizes are limited, paths stay inside the folder, embeddings are plain numbers and checked, meshes are read by
`load_mesh`. Files are replaced whole: embeddings are named after their content, and the index, written last, names
them.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ivlm_core.errors import ConfigError, InputError, MeshError, shown
from ivlm_core.objects.entries import Embeddings, Entry, ObjectLibrary, ScalePrior, check_inside
from ivlm_core.objects.loading import load_mesh_once
from ivlm_core.storage import UNREADABLE, atomic_path, file_size
from ivlm_core.types import Mesh

INDEX = "index.json"
FORMAT, VERSION = "ivlm-objects", 1
MAX_INDEX_BYTES = 512 * 2**20
MAX_ENTRIES = 1_000_000
MAX_EMBEDDING_BYTES = 8 * 2**30


class FolderLibrary(ObjectLibrary):
    """A library in a folder; open one with `open_library`."""

    def __init__(self, folder: Path, entries: Sequence[Entry], embeddings: Mapping[str, Embeddings]) -> None:
        super().__init__(entries, embeddings, str(folder))
        self.folder = folder

    def path(self, number: int) -> Path:
        """The file of an entry's mesh. Raises MeshError: there is none, or a link leads out of the folder."""
        entry = self.entries[number]
        return confined(self.folder, entry)

    def mesh(self, number: int) -> Mesh:
        entry = self.entries[number]
        mesh = load_mesh_once(self.path(number))
        if entry.mesh_hash and mesh.content_hash != entry.mesh_hash:
            raise MeshError(
                f"mesh file {shown(entry.mesh, 300)}", "has changed since it was indexed", "run ivlm objects index"
            )
        return mesh

    def resource(self, number: int) -> str:
        return self.path(number).as_uri()


def confined(folder: Path, entry: Entry) -> Path:
    """The absolute path of an entry's mesh.

    Raises
    ------
    MeshError : it has none, or a link leads out of the folder.
    """
    if not entry.mesh:
        raise MeshError(f"entry {shown(entry.id)}", "has no mesh", "add its mesh: ivlm objects add")
    field = f"mesh file {shown(entry.mesh, 300)}"
    try:
        path = (folder / entry.mesh).resolve()
        inside = path.is_relative_to(folder.resolve())
    except (OSError, RuntimeError, ValueError) as error:
        raise MeshError(field, f"cannot be found: {error}", "a link may lead to itself: copy the file there") from error
    if not inside:
        raise MeshError(field, "is a link out of the library", "copy the file there")
    return path


def open_library(folder: Path) -> FolderLibrary:
    """Read the library in a folder.

    Raises
    ------
    ConfigError : there is none, or its index or embeddings are damaged, too large, of another version, or do not fit
        together. The message names the file and the entry.
    """
    folder = Path(folder)
    try:
        return _read(folder)
    except FileNotFoundError:
        # Somebody wrote the library between our reading its index and its embeddings.
        try:
            return _read(folder)
        except FileNotFoundError as error:
            raise ConfigError(str(error.filename), "is missing", "run ivlm objects index on the library") from error


def open_repairable(folder: Path) -> tuple[FolderLibrary, dict[str, str]]:
    """As `open_library`, but sources whose embeddings cannot be used are left out: source → what is wrong.

    Raises
    ------
    ConfigError : there is no library, or its index is damaged.
    """
    lost: dict[str, str] = {}
    return _read(Path(folder), lost), lost


def _read(folder: Path, lost: dict[str, str] | None = None) -> FolderLibrary:
    path = folder / INDEX
    again = "repair it, or delete it and run ivlm objects index"
    try:
        if (size := file_size(path)) > MAX_INDEX_BYTES:
            raise ConfigError(str(path), f"has {size} bytes", f"at most {MAX_INDEX_BYTES} are read")
        told = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(
            str(folder), "is no object library", "make one: ivlm objects add DIR MESH --label …"
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(str(path), f"cannot be read: {error}", again) from error
    if not isinstance(told, dict) or told.get("format") != FORMAT:
        raise ConfigError(str(path), "is no index of an object library", again)
    if told.get("version") != VERSION:
        raise ConfigError(str(path), f"has version {shown(told.get('version'))}, this is {VERSION}", again)
    try:
        listed, sources = told["entries"], told["sources"]
        if not isinstance(listed, list) or not isinstance(sources, dict):
            raise TypeError("entries is no list, or sources no object")
        if len(listed) > MAX_ENTRIES:
            raise ConfigError(str(path), f"has {len(listed)} entries", f"at most {MAX_ENTRIES} are read")
        entries = [_entry(item) for item in listed]
        rows = [item.get("rows", {}) for item in listed]
        embeddings = {}
        for source, about in sources.items():
            try:
                embeddings[str(source)] = _embeddings(folder, str(source), about, rows)
            except (ConfigError, InputError, FileNotFoundError) as error:
                if lost is None:
                    raise
                lost[str(source)] = "the file is missing" if isinstance(error, OSError) else str(error)
        return FolderLibrary(folder, entries, embeddings)
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
        raise ConfigError(str(path), f"is damaged: {error!r}"[:300], again) from error
    except InputError as error:
        raise ConfigError(f"{path}: {error.field}", error.problem, error.remedy) from error


def _entry(item: Mapping[str, Any]) -> Entry:
    scale = item.get("scale")
    return Entry(
        id=item["id"],
        label=item["label"],
        mesh=item.get("mesh", ""),
        mesh_hash=item.get("mesh_hash", ""),
        scale=None if scale is None else ScalePrior(float(scale["longest_m"]), float(scale["spread_m"])),
        licence=item.get("licence", ""),
    )


def _embeddings(folder: Path, source: str, about: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> Embeddings:
    stored = _vectors(folder, source, about)
    blocks = np.array([row.get(source, (0, 0)) for row in rows], dtype=np.int64).reshape(len(rows), 2)
    if (blocks < 0).any() or (blocks > len(stored)).any() or (blocks[:, 1] < blocks[:, 0]).any():
        raise InputError(f"rows of {source}", f"are outside 0…{len(stored)}", "run ivlm objects index")
    lengths = np.diff(blocks, axis=1)[:, 0]
    if lengths.sum() > len(stored):
        raise InputError(f"rows of {source}", "are claimed by several entries", "run ivlm objects index")
    starts = np.concatenate([[0], np.cumsum(lengths)])
    taken = np.repeat(blocks[:, 0] - starts[:-1], lengths) + np.arange(lengths.sum())
    in_order = len(taken) == len(stored) and bool((taken == np.arange(len(stored))).all())
    try:
        return Embeddings(stored if in_order else stored[taken], starts)
    except InputError as error:
        raise ConfigError(
            str(folder / about["file"]), f"cannot be used: {error.problem}", "run ivlm objects index"
        ) from error


def _vectors(folder: Path, source: str, about: Mapping[str, Any]) -> NDArray[Any]:
    path = folder / check_inside(about["file"], f"embeddings {source}", (".npy",))
    if not path.resolve().is_relative_to(folder.resolve()):
        raise InputError(f"embeddings {source}", "are a link out of the library", "copy the file there")
    try:
        if (size := file_size(path)) > MAX_EMBEDDING_BYTES:
            raise ConfigError(str(path), f"has {size} bytes", f"at most {MAX_EMBEDDING_BYTES} are read")
        data = path.read_bytes()
        array = np.lib.format.read_array(io.BytesIO(data), allow_pickle=False)
    except FileNotFoundError:
        raise
    except UNREADABLE as error:
        raise ConfigError(str(path), f"cannot be read: {error}", "run ivlm objects index") from error
    if hashlib.sha256(data).hexdigest() != about["sha256"]:
        raise ConfigError(str(path), "is not what the index says: its checksum differs", "run ivlm objects index")
    if array.ndim != 2 or array.dtype.kind != "f" or array.shape[1] != about["dimensions"]:
        told = f"hold {array.dtype} of shape {array.shape}, not floats of {about['dimensions']} dimensions"
        raise ConfigError(str(path), told, "run ivlm objects index")
    return array.astype(np.float32)


def write_library(folder: Path, entries: Sequence[Entry], embeddings: Mapping[str, Embeddings]) -> FolderLibrary:
    """Write the index and the embeddings of a folder, whole or not at all, and read nothing back.

    Raises
    ------
    InputError : ids that come twice, or embeddings that do not fit.  ConfigError : the disk refuses.
    """
    library = FolderLibrary(folder, entries, embeddings)
    try:
        sources = {source: _store(folder, source, vectors) for source, vectors in library.embeddings.items()}
        listed = []
        for number, entry in enumerate(library.entries):
            item = asdict(entry)
            item["rows"] = {
                source: vectors.starts[number : number + 2].tolist() for source, vectors in library.embeddings.items()
            }
            listed.append(json.dumps(item, ensure_ascii=False))
        head = json.dumps({"format": FORMAT, "version": VERSION, "sources": sources}, indent=1)
        # One entry per line: a person can read it, and a version-control system can show what changed.
        text = head[:-2] + ',\n "entries": [\n  ' + ",\n  ".join(listed) + "\n ]\n}\n"
        with atomic_path(folder / INDEX) as temporary:
            temporary.write_text(text, encoding="utf-8")
        for old in (folder / "embeddings").glob("*.npy"):
            if f"embeddings/{old.name}" not in {about["file"] for about in sources.values()}:
                old.unlink(missing_ok=True)
    except OSError as error:
        raise ConfigError(str(folder), f"cannot be written: {error}", "make it writable, or make room") from error
    return library


def _store(folder: Path, source: str, vectors: Embeddings) -> dict[str, Any]:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, vectors.vectors.astype(np.float16), allow_pickle=False)
    data = buffer.getvalue()
    digest = hashlib.sha256(data).hexdigest()
    path = folder / "embeddings" / f"{source.replace(':', '-')}-{digest[:16]}.npy"
    # A file of that name may be damaged, which is why it is written again.
    if not (path.is_file() and path.read_bytes() == data):
        with atomic_path(path) as temporary:
            temporary.write_bytes(data)
    return {
        "file": f"embeddings/{path.name}",
        "dimensions": vectors.vectors.shape[1],
        "rows": len(vectors.vectors),
        "sha256": digest,
    }


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other processes from changing a library while this one does; waits until they are done."""
    import fcntl

    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
