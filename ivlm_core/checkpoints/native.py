"""The native checkpoint: a directory with `profile.yaml`, `model.safetensors`, `tokenizer.json` and a manifest."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ivlm_core.config import Profile, save_profile
from ivlm_core.errors import CheckpointError

WEIGHTS, TOKENIZER, MANIFEST, PROFILE = "model.safetensors", "tokenizer.json", "manifest.json", "profile.yaml"


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
    if target.exists():
        raise CheckpointError(str(target), "exists already", "choose a new directory")
    target.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        state = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in model.state_dict().items()}
        save_file(state, staging / WEIGHTS)
        save_profile(profile, staging / PROFILE)
        shutil.copyfile(tokenizer, staging / TOKENIZER)
        manifest = {
            "files": {name: _file_hash(staging / name) for name in (WEIGHTS, PROFILE, TOKENIZER)},
            "tensors": {
                name: {"shape": list(tensor.shape), "dtype": str(tensor.dtype).removeprefix("torch.")}
                for name, tensor in state.items()
            },
        }
        (staging / MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")
        staging.chmod(0o755)
        staging.rename(target)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def load_weights(directory: Path, model: nn.Module) -> None:
    """Fill `model` from a checkpoint directory; every tensor must fit by name and shape.

    Raises
    ------
    CheckpointError : missing, truncated or corrupt file, or a missing, extra or misshapen tensor, named.
    """
    path = directory / WEIGHTS
    if not path.is_file():
        raise CheckpointError(str(path), "does not exist", "give a directory written by this package")
    try:
        stored = load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(str(path), f"is damaged: {error}", "copy the checkpoint again") from error
    wanted = model.state_dict()
    problems = [f"missing {name}" for name in wanted if name not in stored]
    problems += [f"unexpected {name}" for name in stored if name not in wanted]
    problems += [
        f"{name} has shape {tuple(stored[name].shape)}, not {tuple(wanted[name].shape)}"
        for name in wanted
        if name in stored and stored[name].shape != wanted[name].shape
    ]
    if problems:
        more = f" and {len(problems) - 5} more" if len(problems) > 5 else ""
        raise CheckpointError(
            str(path), f"does not fit its profile: {'; '.join(problems[:5])}{more}", "use the checkpoint's own profile"
        )
    model.load_state_dict(stored)


def weights_hash(model: nn.Module) -> str:
    """16 hex digits over every tensor of the model: the key of what is cached for its weights."""
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(name.encode())
        digest.update(_bytes(tensor))
    return digest.hexdigest()[:16]


def _bytes(tensor: Tensor) -> bytes:
    return tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()


def _file_hash(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
