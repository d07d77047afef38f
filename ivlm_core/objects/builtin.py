"""The built-in library: eight instances of every parametric shape, with the descriptors that ship with the package."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache, lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ivlm_core.errors import ConfigError
from ivlm_core.objects.descriptors import NAME, VIEWS
from ivlm_core.objects.entries import Embeddings, Entry, ObjectLibrary, ScalePrior
from ivlm_core.objects.library import library_labels, library_mesh, library_shape
from ivlm_core.objects.transfer import corresponding_vertices
from ivlm_core.objects.variation import varied_sizes
from ivlm_core.storage import UNREADABLE
from ivlm_core.types import Mesh

ASSET = Path(__file__).parent / "data" / "builtin.npz"
INSTANCES = 8
SEED = 1_701
LICENCE = "Apache-2.0"


def instance_sizes(label: str, instance: int) -> Mapping[str, float]:
    """What `library_shape` builds an instance of a label from; nothing for instance 0, which has the default sizes."""
    if instance == 0:
        return {}
    return varied_sizes(label, np.random.default_rng([SEED, list(library_labels()).index(label), instance]))


def instance_mesh(label: str, instance: int) -> Mesh:
    """The mesh of an instance, metres; instance 0 is `library_mesh(label)` itself."""
    return library_mesh(label) if instance == 0 else library_shape(label, **instance_sizes(label, instance)).mesh


class BuiltinLibrary(ObjectLibrary):
    """The parametric shapes as a library. Take `builtin_library()`: it is the same every time."""

    def mesh(self, number: int) -> Mesh:
        entry = self.entries[number]
        return _made(entry.label, int(entry.id.rpartition("-")[2]))


@lru_cache(maxsize=1)
def builtin_library() -> BuiltinLibrary:
    """The parametric shapes, their descriptors and sizes read from the package.

    Raises
    ------
    ConfigError : the package's file is missing or damaged.
    """
    return read_builtin(ASSET)


def read_builtin(asset: Path) -> BuiltinLibrary:
    """The library with the descriptors and sizes of a file that `build_builtin` wrote. See `builtin_library`."""
    labels = library_labels()
    try:
        with np.load(asset, allow_pickle=False) as stored:
            arrays = {name: stored[name].astype(np.float32) for name in ("vectors", "longest_m", "spread_m")}
    except (*UNREADABLE, KeyError) as error:
        raise ConfigError(str(asset), f"cannot be read: {error}", "reinstall the package") from error
    shape = (len(labels), INSTANCES)
    if arrays["vectors"].shape[:3] != (*shape, VIEWS) or any(
        arrays[name].shape != shape for name in ("longest_m", "spread_m")
    ):
        raise ConfigError(str(asset), "is of another version", "reinstall the package")
    entries = [
        Entry(
            f"{label.replace(' ', '_')}-{instance}",
            label,
            scale=ScalePrior(float(arrays["longest_m"][row, instance]), float(arrays["spread_m"][row, instance])),
            licence=LICENCE,
        )
        for row, label in enumerate(labels)
        for instance in range(INSTANCES)
    ]
    blocks = arrays["vectors"].reshape(len(entries), VIEWS, -1)
    embeddings = {NAME: Embeddings.of(list(blocks), blocks.shape[2])}
    return BuiltinLibrary(entries, embeddings, "the built-in library")


@lru_cache(maxsize=64)
def _made(label: str, instance: int) -> Mesh:
    return instance_mesh(label, instance)


def default_vertices(entry: str, mesh: Mesh) -> tuple[str, NDArray[np.int64]] | None:
    """What a mesh is in the built-in library.

    Parameters
    ----------
    entry : its id there.

    Returns
    -------
    its label and (V,), for every vertex, the one of `library_mesh(label)` at the same place of the same part; None for
    a mesh that is not the entry's, such as one of another library.
    """
    name, _, number = entry.rpartition("-")
    label = name.replace("_", " ")
    if label not in library_labels() or number not in map(str, range(INSTANCES)):
        return None
    instance = int(number)
    if mesh.content_hash != _made(label, instance).content_hash:
        return None
    return label, _default_vertices(label, instance)


@cache
def _default_vertices(label: str, instance: int) -> NDArray[np.int64]:
    return corresponding_vertices(library_shape(label), library_shape(label, **instance_sizes(label, instance)))
