"""From a run to the checkpoint directory that the pipeline loads."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from ivlm_core.checkpoints import build_model
from ivlm_core.checkpoints.native import save_checkpoint
from ivlm_core.config import Mode, Profile
from ivlm_core.reason import ContactTokenizer


def export_model(target: Path, profile: Profile, weights: Mapping[str, Tensor], tokenizer: ContactTokenizer) -> int:
    """Write a checkpoint directory: parameters in half precision, greedy decoding without a guide.

    Parameters
    ----------
    target : the directory; one that a former export wrote is replaced.
    weights : of reasoner and localizer, by name.

    Returns
    -------
    bytes of the weights.
    """
    profile = shipped_profile(profile)
    model = build_model(profile, tokenizer, empty=False)
    model.load_state_dict(dict(weights))
    halve(model)
    if (target / "manifest.json").is_file():
        shutil.rmtree(target)
    save_checkpoint(target, model, profile, tokenizer.path)
    # safetensors makes private files; a package's files are for everyone.
    for path in target.iterdir():
        path.chmod(0o644)
    return (target / "model.safetensors").stat().st_size


# What generated scenes teach; they have no truth for contact with the ground, or on the picture's own pixels.
TRAINED_MODES: tuple[Mode, ...] = ("joint", "human", "binary", "affordance", "object_contact")


def shipped_profile(profile: Profile) -> Profile:
    """The profile of trained weights: they know how an answer is written, carry no adapters, and have their modes."""
    return replace(
        profile,
        modes=tuple(mode for mode in profile.modes if mode in TRAINED_MODES),
        generation=replace(profile.generation, guided=False),
        lora=replace(profile.lora, rank=0),
    )


def halve(model: nn.Module) -> None:
    """Parameters in half precision; buffers, such as the frequencies of a positional encoding, keep theirs."""
    for parameter in model.parameters():
        parameter.data = parameter.data.to(torch.float16)
