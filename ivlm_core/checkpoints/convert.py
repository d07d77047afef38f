"""`convert_released`: a released checkpoint becomes a native directory, shard by shard, whole or not at all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from ivlm_core.checkpoints.adapters import Adapter, load_adapter
from ivlm_core.checkpoints.model import build_model
from ivlm_core.checkpoints.native import (
    TOKENIZER,
    canonical,
    describe,
    staged,
    write_index,
    write_manifest,
)
from ivlm_core.checkpoints.released import Plan, plan, read_json
from ivlm_core.checkpoints.shards import Shape, ShardedTensors
from ivlm_core.checkpoints.tokenizers import convert_tokenizer
from ivlm_core.config import LoraConfig, save_profile
from ivlm_core.errors import CheckpointError

Progress = Callable[[int, int, str], None]


def convert_released(
    source: Path,
    target: Path,
    clip: Path | None = None,
    merge_lora: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Convert a released checkpoint directory into ours.

    Parameters
    ----------
    source : the released directory: `config.json`, weights (`.bin` or safetensors, sharded or not), tokenizer files,
        and LoRA adapters (`adapter_config.json` with its weights) where they were not merged.
    target : the directory to make; it must not exist.
    clip : the CLIP vision tower's directory (`openai/clip-vit-large-patch14` for the released models); None to take
        the folder that `config.json` names, where it lies inside `source`.
    merge_lora : add adapters into the weights; otherwise they stay a file of their own and are added on loading.
    progress : called with shards done, shards in all, and the name of the shard.

    Returns
    -------
    a summary: profile, tensors, bytes, tokenizer, adapter.

    Raises
    ------
    CheckpointError : anything missing, extra, misshapen, damaged or unsafe, by name. `target` then does not exist.
    """
    if target.exists():
        raise CheckpointError(str(target), "exists already", "choose a new directory")
    tensors = ShardedTensors(source)
    tower = clip or _own_tower(source)
    tower_tensors = ShardedTensors(tower)
    planned = plan(source, tensors, tower, tower_tensors)
    adapter = load_adapter(source)
    profile = planned.profile
    if adapter is not None and not merge_lora:
        profile = replace(profile, lora=LoraConfig(adapter.rank, adapter.alpha, 0.0, adapter.targets))
    expected = {
        canonical(name): tuple(tensor.shape) for name, tensor in build_model(profile, None).state_dict().items()
    }
    _check(source, planned, tensors.shapes, tower_tensors.shapes, expected)
    if adapter is not None:
        adapter.check(expected)
    jobs = [(tensors, path, planned.names) for path in tensors.files]
    jobs += [(tower_tensors, path, planned.clip_names) for path in tower_tensors.files]
    described: dict[str, dict[str, Any]] = {}
    places: dict[str, str] = {}
    with staged(target) as staging:
        for number, (origin, path, names) in enumerate(jobs, start=1):
            if progress:
                progress(number - 1, len(jobs), path.name)
            shard = _shard(origin, path, names, adapter if merge_lora else None)
            name = f"model-{number:05d}-of-{len(jobs):05d}.safetensors"
            save_file(shard, staging / name)
            places |= dict.fromkeys(shard, name)
            described |= describe(shard)
            # The next shard is read into the room of this one.
            del shard
        write_index(staging, places)
        if adapter is not None and not merge_lora:
            adapter.save(staging)
        save_profile(profile, staging / "profile.yaml")
        has_tokenizer = convert_tokenizer(source, staging / TOKENIZER, profile.tokens)
        write_manifest(staging, described)
        size = sum(path.stat().st_size for path in staging.iterdir())
        if progress:
            progress(len(jobs), len(jobs), "done")
    return {
        "target": str(target),
        "profile": profile.name,
        "tensors": len(described),
        "bytes": size,
        "tokenizer": has_tokenizer,
        "adapter": "none" if adapter is None else ("merged" if merge_lora else "separate"),
    }


def _own_tower(source: Path) -> Path:
    """The CLIP folder inside the checkpoint that its configuration names."""
    named = read_json(source / "config.json").get("mm_vision_tower")
    if isinstance(named, str) and named and (source / named).resolve().is_relative_to(source.resolve()):
        folder = source / named
        if (folder / "config.json").is_file():
            return folder
    raise CheckpointError(
        str(source),
        "has no CLIP vision tower in it, which released checkpoints never do",
        "give its directory (openai/clip-vit-large-patch14 with config.json and weights) with --clip",
    )


def _check(
    source: Path,
    planned: Plan,
    shapes: Mapping[str, Shape],
    tower_shapes: Mapping[str, Shape],
    expected: Mapping[str, Shape],
) -> None:
    """Every tensor the model needs is there once, with its shape, and nothing is left over."""
    found = {native: (key, shapes[key]) for key, native in planned.names.items()}
    found |= {native: (key, tower_shapes[key]) for key, native in planned.clip_names.items()}
    problems = [f"missing {name}" for name in expected if name not in found]
    problems += [f"unexpected {key}" for native, (key, _) in found.items() if native not in expected]
    problems += [
        f"{key} has shape {shape}, not {expected[native]}"
        for native, (key, shape) in found.items()
        if native in expected and shape != expected[native]
    ]
    if problems:
        more = f" and {len(problems) - 5} more" if len(problems) > 5 else ""
        raise CheckpointError(
            str(source), f"does not fit its config.json: {'; '.join(problems[:5])}{more}", "restore its files"
        )


def _shard(origin: ShardedTensors, path: Path, names: Mapping[str, str], adapter: Adapter | None) -> dict[str, Tensor]:
    """One shard under its native names; tensors that share memory are parted, as the file format asks.

    Everything else stays the file's own memory, mapped where the format allows, so that no second copy arises.
    """
    shard: dict[str, Tensor] = {}
    taken: list[tuple[int, int]] = []
    for key, tensor in origin.tensors(path):
        if key in names:
            name = names[key]
            merged = (adapter.merged(name, tensor) if adapter is not None else tensor).contiguous()
            start = merged.data_ptr()
            if any(start < end and start + merged.nbytes > begin for begin, end in taken):
                merged = merged.clone()
                start = merged.data_ptr()
            taken.append((start, start + merged.nbytes))
            shard[name] = merged
    return shard
