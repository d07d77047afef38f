"""LoRA adapters that a checkpoint carries beside its weights (peft's file format)."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from ivlm_core.checkpoints.released import native_name, read_json
from ivlm_core.checkpoints.shards import Shape, read_tensors
from ivlm_core.errors import CheckpointError

CONFIG, WEIGHTS, BIN_WEIGHTS = "adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"

_KEY = re.compile(r"(?:base_model\.model\.)?(?P<module>.+)\.lora_(?P<half>[AB])(?:\.default)?\.weight")


@dataclass(frozen=True)
class Adapter:
    """Low-rank updates W + (alpha / rank) · B·A of named weights.

    Attributes
    ----------
    halves : native weight name → (A (r, in), B (out, r)).
    """

    rank: int
    alpha: int
    targets: tuple[str, ...]
    halves: Mapping[str, tuple[Tensor, Tensor]]

    def merged(self, name: str, weight: Tensor) -> Tensor:
        """`weight` with its update added in single precision, in its own dtype again; unchanged without one."""
        if name not in self.halves:
            return weight
        first, second = self.halves[name]
        update = (self.alpha / self.rank) * (second.float() @ first.float())
        return (weight.float() + update.to(weight.device)).to(weight.dtype)

    def check(self, expected: Mapping[str, Shape]) -> None:
        """Every update belongs to a weight of the model and has its shape.

        Raises
        ------
        CheckpointError : one that does not, by name.
        """
        for name, (first, second) in self.halves.items():
            shape = (second.shape[0], first.shape[1])
            fits = first.shape[0] == second.shape[1] == self.rank
            if name not in expected:
                raise CheckpointError("adapter", f"adapts {name}, which the model does not have", "use its own adapter")
            if not fits or shape != expected[name]:
                raise CheckpointError(
                    "adapter",
                    f"gives {name} an update {tuple(second.shape)} · {tuple(first.shape)}, the weight is "
                    f"{expected[name]} and the rank {self.rank}",
                    "use its own adapter",
                )

    def save(self, directory: Path) -> None:
        """Write the adapter under native names."""
        config = {"r": self.rank, "lora_alpha": self.alpha, "target_modules": list(self.targets), "peft_type": "LORA"}
        (directory / CONFIG).write_text(json.dumps(config, indent=1), encoding="utf-8")
        halves = {
            f"{name.removesuffix('.weight')}.lora_{letter}.weight": half.contiguous().clone()
            for name, pair in self.halves.items()
            for letter, half in zip("AB", pair, strict=True)
        }
        save_file(halves, directory / WEIGHTS)


def load_adapter(directory: Path) -> Adapter | None:
    """The adapter beside a checkpoint's weights, under released or native names; None where there is none.

    Raises
    ------
    CheckpointError : its configuration or weights are damaged, or a half is missing.
    """
    if not (directory / CONFIG).is_file():
        return None
    config = read_json(directory / CONFIG)
    rank, alpha, targets = config.get("r"), config.get("lora_alpha"), config.get("target_modules")
    if not isinstance(rank, int) or rank < 1 or not isinstance(alpha, (int, float)) or not isinstance(targets, list):
        raise CheckpointError(str(directory / CONFIG), "lacks r, lora_alpha or target_modules", "restore the file")
    if config.get("use_rslora") or config.get("use_dora"):
        raise CheckpointError(str(directory / CONFIG), "is not plain LoRA", "merge it with peft first")
    path = directory / (WEIGHTS if (directory / WEIGHTS).is_file() else BIN_WEIGHTS)
    if not path.is_file():
        raise CheckpointError(str(path), "is missing", "copy the adapter's weights, too")
    halves: dict[str, dict[str, Tensor]] = {}
    for key, tensor in read_tensors(path):
        match = _KEY.fullmatch(key)
        name = f"{match['module']}.weight" if match else ""
        native = name if name.startswith(("reason.", "localize.")) else native_name(name)
        if match is None or native is None or tensor.ndim != 2:
            raise CheckpointError(
                str(path), f"holds {key}, which is no LoRA weight of this model", "use its own adapter"
            )
        halves.setdefault(native, {})[match["half"]] = tensor.to(torch.float32)
    for name, pair in halves.items():
        if set(pair) != {"A", "B"}:
            raise CheckpointError(str(path), f"has only one half of the update of {name}", "restore the file")
    return Adapter(
        rank, int(alpha), tuple(map(str, targets)), {name: (pair["A"], pair["B"]) for name, pair in halves.items()}
    )
