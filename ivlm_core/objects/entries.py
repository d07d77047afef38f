"""What an object library holds: labelled meshes with their real size, and the embeddings they are found by."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray

from ivlm_core.errors import InputError, MeshError, shown
from ivlm_core.objects.embedding import unit_rows
from ivlm_core.objects.loading import SUFFIXES
from ivlm_core.types import FloatArray, Mesh, check_label

MAX_DIMENSIONS = 4096
MAX_TEXT = 200
SOURCE = re.compile(r"[a-z0-9][a-z0-9.:-]{0,63}")


@dataclass(frozen=True)
class ScalePrior:
    """How large the real object is.

    Attributes
    ----------
    longest_m : typical longest side of its bounding box, metres. spread_m : one standard deviation of it, metres.

    Raises
    ------
    InputError : not positive and finite, or a spread larger than the size.
    """

    longest_m: float
    spread_m: float

    def __post_init__(self) -> None:
        if not (0 < self.longest_m < 1e3 and 0 < self.spread_m <= self.longest_m):
            raise InputError(
                "object.scale",
                f"is {self.longest_m!r} ± {self.spread_m!r} m",
                "give the longest side in metres and its standard deviation, above 0 and at most as large",
            )

    def scale_of(self, mesh: Mesh) -> tuple[float, float]:
        """The factor that brings a mesh to the typical size, and that factor's standard deviation."""
        longest = float(np.ptp(mesh.vertices.astype(np.float64), axis=0).max())
        return self.longest_m / longest, self.spread_m / longest


@dataclass(frozen=True)
class Entry:
    """One mesh of a library.

    Attributes
    ----------
    id : unique within the library. label : its category, 1 to 64 printable characters (see `check_label`).
    mesh : the file, relative to the library's folder, with forward slashes; empty where there is none.
    mesh_hash : `Mesh.content_hash` of the mesh that was indexed; empty where it is not known.
    scale : the real size, or None where the mesh's units are not known. licence : its terms, free text.

    Raises
    ------
    InputError : an id, label, licence or hash that is no such thing, or a mesh path that could leave the folder.
    """

    id: str
    label: str
    mesh: str = ""
    mesh_hash: str = ""
    scale: ScalePrior | None = None
    licence: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "label", check_label(self.label, "entry.label"))
        for name in ("id", "licence"):
            value = getattr(self, name)
            if not isinstance(value, str) or len(value) > MAX_TEXT or not (value.isprintable()):
                raise InputError(f"entry.{name}", f"is {shown(value)}", f"give up to {MAX_TEXT} printable characters")
        if not self.id:
            raise InputError("entry.id", "is empty", "name the mesh")
        if not isinstance(self.mesh_hash, str) or not re.fullmatch("([0-9a-f]{16})?", self.mesh_hash):
            raise InputError("entry.mesh_hash", f"is {shown(self.mesh_hash)}", "give 16 hex digits, or nothing")
        if self.mesh != "":
            check_inside(self.mesh, f"entry {shown(self.id)}: mesh", SUFFIXES)


def check_inside(path: object, field: str, suffixes: Sequence[str]) -> PurePosixPath:
    """A relative path that does not leave its folder by its own words (links are looked at when it is opened).

    Raises
    ------
    InputError : absolute, with `..`, a backslash or a control character, or of another kind than `suffixes`.
    """
    if not isinstance(path, str) or not 0 < len(path) <= 1024 or not path.isprintable() or "\\" in path:
        raise InputError(field, f"is {shown(path)}", "give a relative path with forward slashes")
    pure = PurePosixPath(path)
    if pure.is_absolute() or ".." in pure.parts or ":" in pure.parts[0]:
        raise InputError(field, f"is {shown(path)}, which leaves the library's folder", "give a path inside it")
    if pure.suffix.lower() not in suffixes:
        raise InputError(field, f"has the suffix {shown(pure.suffix)}", f"allowed: {', '.join(suffixes)}")
    return pure


@dataclass(frozen=True, eq=False)
class Embeddings:
    """The vectors of one source, one block of rows per entry; an entry without a vector has an empty block.

    Attributes
    ----------
    vectors : (R, D) float32, unit rows. starts : (E + 1,) int64, where each entry's rows begin; the last is R.

    Raises
    ------
    InputError : rows that are zero or not finite, or starts that do not fit.
    """

    vectors: FloatArray
    starts: NDArray[np.int64]

    def __post_init__(self) -> None:
        vectors = unit_rows(self.vectors)
        starts = np.asarray(self.starts, dtype=np.int64)
        if starts.ndim != 1 or len(starts) < 1 or starts[0] != 0 or starts[-1] != len(vectors):
            raise InputError("embeddings.starts", "do not span the rows", "compute the embeddings again")
        if (np.diff(starts) < 0).any():
            raise InputError("embeddings.starts", "go backwards", "compute the embeddings again")
        if vectors.shape[1] > MAX_DIMENSIONS:
            raise InputError("embeddings", f"have {vectors.shape[1]} dimensions", f"at most {MAX_DIMENSIONS}")
        object.__setattr__(self, "vectors", vectors)
        object.__setattr__(self, "starts", starts)

    @classmethod
    def of(cls, blocks: Sequence[NDArray], dimensions: int) -> Embeddings:
        """From each entry's (views, D) block; give (0, D) for an entry without.

        Raises
        ------
        InputError : a block of another width, or not finite.
        """
        for block in blocks:
            if block.ndim != 2 or block.shape[1] != dimensions:
                raise InputError("embeddings", f"have shape {block.shape}", f"give (views, {dimensions})")
        starts = np.cumsum([0, *(len(block) for block in blocks)], dtype=np.int64)
        empty = np.zeros((0, dimensions), dtype=np.float32)
        return cls(np.concatenate([empty, *blocks]), starts)

    def block(self, number: int) -> FloatArray:
        """(views, D) of one entry."""
        return self.vectors[self.starts[number] : self.starts[number + 1]]


class ObjectLibrary:
    """Labelled meshes with their embeddings, in the order of label and id.

    Parameters
    ----------
    entries : in any order, with ids that differ. embeddings : source → vectors in the order of `entries`.
    name : what the library is, for people.

    Raises
    ------
    InputError : an id that comes twice, or embeddings of another number of entries.
    """

    def __init__(self, entries: Sequence[Entry], embeddings: Mapping[str, Embeddings], name: str = "library") -> None:
        self.name = name
        for source, vectors in embeddings.items():
            if not SOURCE.fullmatch(source):
                raise InputError("embeddings", f"are called {shown(source)}", f"a name is {SOURCE.pattern}")
            if len(vectors.starts) != len(entries) + 1:
                told = f"are of {len(vectors.starts) - 1} entries, not of {len(entries)}"
                raise InputError(f"embeddings {source}", told, "compute them again: ivlm objects index")
        seen: set[str] = set()
        for entry in entries:
            if entry.id in seen:
                raise InputError("entry.id", f"{shown(entry.id)} comes twice", "give every mesh an id of its own")
            seen.add(entry.id)
        order = sorted(range(len(entries)), key=lambda number: (entries[number].label, entries[number].id))
        self.entries = tuple(entries[number] for number in order)
        self.embeddings = {
            source: vectors if order == list(range(len(order))) else _reordered(vectors, order)
            for source, vectors in embeddings.items()
        }

    def __len__(self) -> int:
        return len(self.entries)

    @property
    def labels(self) -> tuple[str, ...]:
        """Every label, in alphabetical order."""
        return tuple(self._spans)

    def span(self, label: str) -> tuple[int, int]:
        """The first of the entries with this very label, and the one after the last; (0, 0) without any."""
        return self._spans.get(label, (0, 0))

    @cached_property
    def _spans(self) -> dict[str, tuple[int, int]]:
        spans: dict[str, tuple[int, int]] = {}
        for number, entry in enumerate(self.entries):
            spans[entry.label] = (spans.get(entry.label, (number, 0))[0], number + 1)
        return spans

    def default(self, label: str) -> int:
        """The entry that stands for a label when nothing is known of the instance: the first."""
        return self.span(label)[0]

    def mesh(self, number: int) -> Mesh:
        """The mesh of an entry, metres (or the file's own units), y up.

        Raises
        ------
        MeshError : it has none, the file is missing or unusable, or it is not the one that was indexed.
        """
        raise MeshError(f"entry {shown(self.entries[number].id)}", "has no mesh", "give a library with meshes")

    def resource(self, number: int) -> str:
        """`file://` URI of an entry's mesh; empty where it has no file."""
        return ""


def _reordered(vectors: Embeddings, order: Sequence[int]) -> Embeddings:
    starts = vectors.starts
    lengths = np.diff(starts)[order]
    new = np.concatenate([[0], np.cumsum(lengths)])
    taken = np.repeat(starts[:-1][order] - new[:-1], lengths) + np.arange(lengths.sum())
    return Embeddings(vectors.vectors[taken], new)
