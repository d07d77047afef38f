"""Checkpoints of a run: written whole or not at all, read back without pickle, the last ones kept."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from ivlm_core.checkpoints.native import staged
from ivlm_core.errors import CheckpointError

WEIGHTS, AVERAGE, OPTIMIZER, RUN = "weights.safetensors", "average.safetensors", "optimizer.safetensors", "run.json"
_NAME = re.compile(r"step-(\d{7,})")


@dataclass
class RunState:
    """Where a run is.

    Attributes
    ----------
    step : steps done. seconds : time they took. weights, average : by name. optimizer : by parameter's name and
        "/" and the state's. random : torch's generator. notes : what else the run wants back, plain JSON.
    """

    step: int
    seconds: float
    weights: Mapping[str, Tensor]
    average: Mapping[str, Tensor]
    optimizer: Mapping[str, Tensor]
    random: Tensor
    notes: dict[str, Any] = field(default_factory=dict)


def save_state(folder: Path, state: RunState, keep: int = 2) -> Path:
    """Write a checkpoint `step-…` into `folder` and drop all but the last `keep`.

    Raises
    ------
    OSError : the disk is full or not writable; earlier checkpoints are untouched.
    """
    target = folder / f"step-{state.step:07d}"
    if target.exists():
        shutil.rmtree(target)
    with staged(target) as staging:
        for name, tensors in ((WEIGHTS, state.weights), (AVERAGE, state.average), (OPTIMIZER, state.optimizer)):
            plain = {key: tensor.detach().cpu().contiguous().clone() for key, tensor in tensors.items()}
            if name == OPTIMIZER:
                plain["random"] = state.random
            save_file(plain, staging / name)
        described = {"step": state.step, "seconds": state.seconds, "notes": state.notes}
        (staging / RUN).write_text(json.dumps(described, indent=1), encoding="utf-8")
    for old in checkpoints(folder)[:-keep]:
        shutil.rmtree(old, ignore_errors=True)
    return target


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoints in a folder, oldest first."""
    found = [path for path in folder.glob("step-*") if path.is_dir() and _NAME.fullmatch(path.name)]
    return sorted(found, key=lambda path: int(path.name.removeprefix("step-")))


def load_state(path: Path) -> RunState:
    """Read a checkpoint back.

    Raises
    ------
    CheckpointError : a file is missing or damaged.
    """
    try:
        described = json.loads((path / RUN).read_text(encoding="utf-8"))
        optimizer = load_file(path / OPTIMIZER)
        random = optimizer.pop("random")
        return RunState(
            int(described["step"]),
            float(described["seconds"]),
            load_file(path / WEIGHTS),
            load_file(path / AVERAGE),
            optimizer,
            random,
            dict(described["notes"]),
        )
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise CheckpointError(
            str(path), f"cannot be read: {error}", "delete this folder; the one before it is used then"
        ) from error


def optimizer_tensors(optimizer: torch.optim.Optimizer, names: Mapping[int, str]) -> dict[str, Tensor]:
    """The optimizer's state by parameter name; `names` maps `id(parameter)`."""
    tensors = {}
    for parameter, state in optimizer.state.items():
        for key, value in state.items():
            tensors[f"{names[id(parameter)]}/{key}"] = torch.as_tensor(value)
    return tensors


def restore_optimizer(
    optimizer: torch.optim.Optimizer, parameters: Mapping[str, torch.nn.Parameter], tensors: Mapping[str, Tensor]
) -> None:
    """Put the state that `optimizer_tensors` gave back.

    Raises
    ------
    CheckpointError : a parameter that the model does not have.
    """
    for name, value in tensors.items():
        parameter_name, _, key = name.rpartition("/")
        if parameter_name not in parameters:
            raise CheckpointError("optimizer", f"knows {parameter_name}, the model does not", "resume the same variant")
        parameter = parameters[parameter_name]
        # AdamW counts its steps on the host.
        optimizer.state[parameter][key] = value if key == "step" else value.to(parameter.device)
