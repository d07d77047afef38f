"""The native checkpoint: `profile.yaml`, safetensors (one file, or shards with an index), `tokenizer.json`, a manifest.

A LoRA adapter that was not merged lies beside the weights in peft's format and is added to them on loading.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from ivlm_core.checkpoints.adapters import load_adapter
from ivlm_core.checkpoints.released import read_json
from ivlm_core.checkpoints.shards import ShardedTensors
from ivlm_core.config import Profile, save_profile
from ivlm_core.errors import CheckpointError

WEIGHTS, TOKENIZER, MANIFEST, PROFILE = "model.safetensors", "tokenizer.json", "manifest.json", "profile.yaml"
INDEX = "model.safetensors.index.json"


def canonical(name: str) -> str:
    """The name under which a parameter is stored, whatever `transformers` calls the vision tower's inside."""
    return name.replace(".vision_tower.vision_model.", ".vision_tower.")


def save_checkpoint(target: Path, model: nn.Module, profile: Profile, tokenizer: Path) -> None:
    """Write a checkpoint directory, whole or not at all.

    Parameters
    ----------
    target : a directory that does not exist yet.
    model : its state dict is written as safetensors.
    tokenizer : the `tokenizer.json` to put beside it.

    Raises
    ------
    CheckpointError : `target` exists.
    """
    with staged(target) as staging:
        state = {
            canonical(name): tensor.detach().cpu().contiguous().clone() for name, tensor in model.state_dict().items()
        }
        save_file(state, staging / WEIGHTS)
        save_profile(profile, staging / PROFILE)
        shutil.copyfile(tokenizer, staging / TOKENIZER)
        write_manifest(staging, describe(state))


@contextmanager
def staged(target: Path) -> Iterator[Path]:
    """A directory beside `target` that becomes it when the block ends well and vanishes when it does not.

    Raises
    ------
    CheckpointError : `target` exists.
    """
    if target.exists():
        raise CheckpointError(str(target), "exists already", "choose a new directory")
    target.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        yield staging
        staging.chmod(0o755)
        staging.rename(target)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def describe(state: Mapping[str, Tensor]) -> dict[str, dict[str, Any]]:
    """Shape, dtype and sha256 of every tensor, for the manifest."""
    return {
        name: {
            "shape": list(tensor.shape),
            "dtype": str(tensor.dtype).removeprefix("torch."),
            "sha256": hashlib.sha256(_bytes(tensor)).hexdigest(),
        }
        for name, tensor in state.items()
    }


def write_index(directory: Path, places: Mapping[str, str]) -> None:
    """Say which shard holds which tensor."""
    (directory / INDEX).write_text(json.dumps({"weight_map": dict(places)}, indent=1), encoding="utf-8")


def write_manifest(directory: Path, tensors: Mapping[str, Mapping[str, Any]]) -> None:
    """Describe the directory: sha256 of every file, shape, dtype and sha256 of every tensor."""
    files = {path.name: _file_hash(path) for path in sorted(directory.iterdir())}
    content = {"files": files, "tensors": dict(tensors)}
    (directory / MANIFEST).write_text(json.dumps(content, indent=1), encoding="utf-8")


def changed_files(directory: Path) -> list[str]:
    """The files that are not as the manifest describes them, and the manifest itself where there is none.

    Raises
    ------
    CheckpointError : the manifest is damaged.
    """
    if not (directory / MANIFEST).is_file():
        return [MANIFEST]
    files = read_json(directory / MANIFEST, limit=64 << 20).get("files")
    if not isinstance(files, dict):
        raise CheckpointError(str(directory / MANIFEST), "describes no files", "convert the checkpoint again")
    return [
        name
        for name, expected in files.items()
        if Path(name).name != name or not (directory / name).is_file() or _file_hash(directory / name) != expected
    ]


def load_weights(
    directory: Path, model: nn.Module, device: torch.device | str = "cpu", dtype: torch.dtype | None = None
) -> None:
    """Fill `model` from a checkpoint directory, one tensor at a time; every tensor must fit by name and shape.

    Parameters
    ----------
    model : its parameters may be without memory (`build_model`); they are replaced, never copied twice.
    device, dtype : where the parameters go and as what; None keeps the stored dtype.

    Raises
    ------
    CheckpointError : missing, truncated or corrupt file, or a missing, extra or misshapen tensor, named.
    """
    stored = ShardedTensors(directory)
    adapter = load_adapter(directory)
    wanted = {canonical(name): (name, tensor) for name, tensor in model.state_dict().items()}
    problems = [f"missing {name}" for name in wanted if name not in stored.shapes]
    problems += [f"unexpected {name}" for name in stored.shapes if name not in wanted]
    problems += [
        f"{name} has shape {stored.shapes[name]}, not {tuple(tensor.shape)}"
        for name, (_, tensor) in wanted.items()
        if name in stored.shapes and stored.shapes[name] != tuple(tensor.shape)
    ]
    if problems:
        more = f" and {len(problems) - 5} more" if len(problems) > 5 else ""
        raise CheckpointError(
            str(directory),
            f"does not fit its profile: {'; '.join(problems[:5])}{more}",
            "use the checkpoint's own profile",
        )
    if adapter is not None:
        adapter.check({name: tuple(tensor.shape) for name, (_, tensor) in wanted.items()})
    for path in stored.files:
        for name, tensor in stored.tensors(path):
            merged = adapter.merged(name, tensor) if adapter is not None else tensor
            # The frequencies of a positional encoding keep their precision, like every other buffer.
            keeps = dtype is None or not tensor.is_floating_point() or name.endswith("gaussian_matrix")
            moved = merged.to(device=device, dtype=merged.dtype if keeps else dtype)
            model.load_state_dict({wanted[name][0]: moved}, strict=False, assign=True)


def checkpoint_hash(directory: Path, *made_of_it: str) -> str | None:
    """16 hex digits for a checkpoint's weights without reading them: the key of what is cached for them.

    They come from the sha256 that the manifest states for each tensor and adapter, and from size and time of change of
    each weights file. Loading does not compare the files with the manifest (26 GB would take most of a minute; `ivlm
    convert --check` does it), so a file that was changed afterwards is told by its size or time. A checkpoint that is
    copied with new times merely gets another hash, and with it a cache of its own.

    Parameters
    ----------
    made_of_it : what else decides the weights in use, such as precision and quantization.

    Returns
    -------
    None where there is no manifest to go by; `weights_hash` then reads the tensors.
    """
    if not (directory / MANIFEST).is_file():
        return None
    manifest = read_json(directory / MANIFEST, limit=64 << 20)
    tensors, files = manifest.get("tensors"), manifest.get("files")
    if not isinstance(tensors, dict) or not isinstance(files, dict):
        raise CheckpointError(str(directory / MANIFEST), "describes no tensors or files", "convert it again")
    stamps = []
    for path in sorted(directory.iterdir()):
        if path.suffix in (".safetensors", ".bin"):
            status = path.stat()
            stamps.append((path.name, files.get(path.name), status.st_size, status.st_mtime_ns))
    content = json.dumps([tensors, stamps, made_of_it], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def weights_hash(model: nn.Module) -> str:
    """16 hex digits over every tensor of the model: the key of what is cached for its weights."""
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(canonical(name).encode())
        digest.update(_bytes(tensor))
    return digest.hexdigest()[:16]


def _bytes(tensor: Tensor) -> Any:
    """The tensor's memory, through the buffer protocol."""
    return tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()


def _file_hash(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
