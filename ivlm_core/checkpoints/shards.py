"""Tensors spread over files: names and shapes first, values one shard at a time, never by running a pickle."""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ivlm_core.errors import CheckpointError

Shape = tuple[int, ...]

# In the order of preference; the index files name the shards.
_INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
_SINGLE = ("model.safetensors", "pytorch_model.bin")


class ShardedTensors:
    """The tensors of a checkpoint directory.

    Attributes
    ----------
    shapes : name → shape, of all shards.
    files : the shards, in order.

    Raises
    ------
    CheckpointError : no weights, a shard that is missing or damaged, a name that occurs twice or only in the index,
        or a file that would have to be unpickled.
    """

    def __init__(self, directory: Path) -> None:
        if not directory.is_dir():
            raise CheckpointError(str(directory), "is no directory", "give a checkpoint directory")
        self.directory = directory
        self.files, promised = _find(directory)
        self.shapes: dict[str, Shape] = {}
        for path in self.files:
            for name, shape in _shapes(path).items():
                if name in self.shapes:
                    raise CheckpointError(str(path), f"holds {name} once more", "give each shard once")
                self.shapes[name] = shape
        if promised is not None and (missing := sorted(promised - set(self.shapes))):
            raise CheckpointError(str(directory), f"lacks {missing[0]}, which its index names", "copy it again")

    def tensors(self, path: Path) -> Iterator[tuple[str, Tensor]]:
        """Name and value of every tensor of one shard, read one by one where the format allows it."""
        return read_tensors(path)


def read_tensors(path: Path) -> Iterator[tuple[str, Tensor]]:
    """Name and value of every tensor of one safetensors or torch file, read one by one where the format allows it."""
    if path.suffix == ".safetensors":
        with _opened(path) as stored:
            for name in stored.keys():  # noqa: SIM118 — a safetensors file is no mapping
                yield name, stored.get_tensor(name)
    else:
        yield from _torch_file(path).items()


def _find(directory: Path) -> tuple[list[Path], set[str] | None]:
    """The shard files, and the tensor names that an index promises."""
    for index in _INDEXES:
        path = directory / index
        if path.is_file():
            try:
                weights = json.loads(path.read_text(encoding="utf-8"))["weight_map"]
                names = sorted(set(weights.values()))
                if any(Path(name).name != name for name in names):
                    raise ValueError("it names a file outside the directory")
            except (ValueError, KeyError, TypeError, AttributeError, OSError, RecursionError) as error:
                raise CheckpointError(str(path), f"is no shard index: {error}", "copy it again") from error
            for name in names:
                if not (directory / name).is_file():
                    raise CheckpointError(str(directory / name), "is missing", "copy all shards")
            return [directory / name for name in names], set(weights)
    for single in _SINGLE:
        if (directory / single).is_file():
            return [directory / single], None
    raise CheckpointError(str(directory), "holds no weights", f"give {' or '.join(_SINGLE)}, or shards with an index")


def _opened(path: Path) -> safe_open:
    try:
        return safe_open(path, framework="pt")
    except (SafetensorError, OSError) as error:
        raise CheckpointError(str(path), f"is damaged: {error}", "copy it again") from error


def _shapes(path: Path) -> dict[str, Shape]:
    if path.suffix == ".safetensors":
        with _opened(path) as stored:
            return {name: tuple(stored.get_slice(name).get_shape()) for name in stored.keys()}  # noqa: SIM118
    return {name: tuple(tensor.shape) for name, tensor in _torch_file(path).items()}


def _torch_file(path: Path) -> dict[str, Tensor]:
    """A state dict, memory-mapped where its format allows, through torch's restricted reader only."""
    try:
        try:
            state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except (RuntimeError, ValueError) as error:
            if "mmap" not in str(error):
                raise
            # The format of before torch 1.6 cannot be mapped and is read whole.
            state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            str(path), "holds more than tensors and is refused", "get it from its authors; nothing in it was run"
        ) from error
    # Damaged data makes the restricted reader raise whatever comes first.
    except Exception as error:
        raise CheckpointError(str(path), f"is damaged: {str(error)[:300]}", "copy it again") from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise CheckpointError(str(path), "is no state dict", "give the model's own weights")
    return state
