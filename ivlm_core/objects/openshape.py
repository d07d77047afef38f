"""Precomputed OpenShape embeddings of Objaverse: reading them, and asking them with a picture.

OpenShape puts shapes into CLIP's space (ViT-bigG-14, 1280 dimensions, for the published models), so the picture's side
is a CLIP model of that space. Three layouts are read (`docs/objects.md`):

* `.npz`: `ids` (N,) text, `embeddings` (N, D) floats, and optionally `labels` (N,) text;
* `.safetensors`: the tensor `embeddings` (N, D), and `ids` and optionally `labels` as uint8 tensors that hold one line
  of UTF-8 per row;
* `.pt`: what the authors publish, a mapping with `us` (N identifiers) and `feats` (N, D), read with `weights_only`.

Labels can come from a JSON file beside it: `{id: label}`, or `{label: [ids]}` as Objaverse's LVIS annotations are.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ivlm_core.errors import ConfigError, DatasetError, InputError, shown
from ivlm_core.objects.clip_views import ClipEmbedder
from ivlm_core.objects.embedding import Box, unit_rows
from ivlm_core.objects.entries import MAX_DIMENSIONS
from ivlm_core.storage import UNREADABLE, file_size
from ivlm_core.types import ByteArray, FloatArray, Mesh

NAME = "openshape"
MAX_FILE_BYTES = 8 * 2**30
MAX_ROWS = 2_000_000
MAX_LABEL_FILE_BYTES = 256 * 2**20


@dataclass(frozen=True, eq=False)
class ShapeEmbeddings:
    """Embeddings by identifier.

    Attributes
    ----------
    ids : N identifiers, all different. labels : N categories, empty where none is known.
    embeddings : (N, D) float32, unit rows.
    """

    ids: tuple[str, ...]
    labels: tuple[str, ...]
    embeddings: FloatArray

    def __post_init__(self) -> None:
        if not len(self.ids) == len(self.labels) == len(self.embeddings):
            told = f"{len(self.ids)} ids, {len(self.labels)} labels, {len(self.embeddings)} embeddings"
            raise InputError("embeddings", f"do not fit together: {told}", "give one of each per row")
        if len(set(self.ids)) < len(self.ids):
            seen: set[str] = set()
            twice = next(name for name in self.ids if name in seen or seen.add(name))  # type: ignore[func-returns-value]
            raise InputError("ids", f"hold {shown(twice)} twice", "give every mesh one row")


def read_openshape(path: Path, labels: Path | None = None) -> ShapeEmbeddings:
    """Read a file of precomputed embeddings, and the categories of a label file where that is given.

    Raises
    ------
    DatasetError : missing, too large, damaged, of another layout, with ids that come twice, or with rows that are zero
        or not finite. The message names the file.
    """
    path = Path(path)
    readers = {".npz": _npz, ".safetensors": _safetensors, ".pt": _torch}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise DatasetError(str(path), f"has the suffix {shown(path.suffix)}", f"read: {', '.join(readers)}")
    try:
        _check_size(path, MAX_FILE_BYTES)
        ids, named, array = reader(path)
        if array.ndim != 2 or array.shape[0] > MAX_ROWS or not 0 < array.shape[1] <= MAX_DIMENSIONS:
            told = f"have shape {array.shape}"
            raise InputError("embeddings", told, f"at most {MAX_ROWS} rows of {MAX_DIMENSIONS}")
        by_id = _read_labels(labels) if labels is not None else {}
        chosen = tuple(by_id.get(name, own) for name, own in zip(ids, named, strict=True))
        return ShapeEmbeddings(tuple(ids), chosen, unit_rows(array.astype(np.float32)))
    except InputError as error:
        raise DatasetError(f"{path}: {error.field}", error.problem, error.remedy) from error
    except FileNotFoundError as error:
        raise DatasetError(str(error.filename), "does not exist", "check the path") from None
    except (*UNREADABLE, KeyError, TypeError, AttributeError, RuntimeError, RecursionError) as error:
        told = f"cannot be read: {error!r}"[:300]
        raise DatasetError(str(path), told, "see docs/objects.md for the layouts") from error


def _check_size(path: Path, limit: int) -> None:
    size = file_size(path)
    if size > limit:
        raise DatasetError(str(path), f"has {size} bytes", f"at most {limit} are read")


def _npz(path: Path) -> tuple[list[str], list[str], NDArray[Any]]:
    with zipfile.ZipFile(path) as archive:
        # A few kilobytes can unpack into a disk full.
        unpacked = sum(member.file_size for member in archive.infolist())
    if unpacked > MAX_FILE_BYTES:
        raise DatasetError(str(path), f"unpacks to {unpacked} bytes", f"at most {MAX_FILE_BYTES} are read")
    with np.load(path, allow_pickle=False) as stored:
        array = stored["embeddings"]
        ids = _texts(stored["ids"])
        return ids, _texts(stored["labels"]) if "labels" in stored.files else [""] * len(ids), array


def _safetensors(path: Path) -> tuple[list[str], list[str], NDArray[Any]]:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        stored = load_file(path)
    except SafetensorError as error:
        raise ValueError(str(error)) from error
    ids = _lines(stored["ids"])
    return ids, _lines(stored["labels"]) if "labels" in stored else [""] * len(ids), stored["embeddings"]


def _torch(path: Path) -> tuple[list[str], list[str], NDArray[Any]]:
    import torch

    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)
    # Damaged data makes the restricted reader raise whatever comes first.
    except Exception as error:
        raise ValueError(str(error).partition("\n")[0] or type(error).__name__) from error
    ids = [str(name) for name in stored["us"]]
    rows = stored["feats"]
    array = rows if isinstance(rows, torch.Tensor) else torch.stack([torch.as_tensor(row) for row in rows])
    return ids, [""] * len(ids), array.float().numpy()


def _texts(array: NDArray[Any]) -> list[str]:
    if array.ndim != 1 or array.dtype.kind != "U":
        raise InputError("ids or labels", f"are {array.dtype} of shape {array.shape}", "give (N,) text")
    texts: list[str] = array.tolist()
    return texts


def _lines(array: NDArray[Any]) -> list[str]:
    if array.ndim != 1 or array.dtype != np.uint8:
        raise InputError("ids or labels", f"are {array.dtype} of shape {array.shape}", "give uint8 UTF-8 lines")
    return array.tobytes().decode("utf-8").removesuffix("\n").split("\n")


def _read_labels(path: Path) -> dict[str, str]:
    _check_size(path, MAX_LABEL_FILE_BYTES)
    told = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(told, Mapping):
        raise InputError("labels", "are no JSON object", "give {id: label} or {label: [ids]}")
    by_id: dict[str, str] = {}
    for key, value in told.items():
        if isinstance(value, str):
            by_id[key] = value
        elif isinstance(value, Sequence) and all(isinstance(name, str) for name in value):
            by_id.update(dict.fromkeys(value, key.replace("_", " ")))
        else:
            raise InputError("labels", f"hold {shown(value)} for {shown(key)}", "give {id: label} or {label: [ids]}")
    return by_id


class OpenShapeEmbedder:
    """Pictures for an index of OpenShape's embeddings, by a CLIP model of the space they were made for.

    Parameters
    ----------
    clip : that model; the published embeddings belong to OpenCLIP's ViT-bigG-14 trained on LAION-2B.
    """

    name = NAME
    needs_mask = False

    def __init__(self, clip: ClipEmbedder) -> None:
        self.clip = clip

    @property
    def dimensions(self) -> int:
        return self.clip.dimensions

    def of_mesh(self, mesh: Mesh) -> FloatArray:
        """Raises ConfigError: OpenShape's own encoder is not part of this package."""
        raise ConfigError(
            "objects.source", "openshape has precomputed embeddings only", "add them: ivlm objects add --openshape FILE"
        )

    def of_picture(self, image: ByteArray, mask: NDArray[np.bool_] | None, box: Box | None = None) -> FloatArray:
        """(D,) float32, unit length: CLIP's embedding of the crop."""
        return self.clip.of_picture(image, mask, box)
