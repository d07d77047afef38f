"""The modules that a checkpoint fills, built without weights."""

from __future__ import annotations

import torch
from torch import nn

from ivlm_core.config import Profile
from ivlm_core.localize import Localizer
from ivlm_core.reason import ContactTokenizer, Reasoner


def build_model(profile: Profile, tokenizer: ContactTokenizer | None, empty: bool = True) -> nn.ModuleDict:
    """Reasoner and localizer of a profile.

    Parameters
    ----------
    empty : parameters without memory, to be filled from a checkpoint; otherwise random ones from the profile's seed.
    """
    if empty:
        from accelerate import init_empty_weights

        with init_empty_weights(include_buffers=False):
            return nn.ModuleDict({"reason": Reasoner(profile, tokenizer), "localize": Localizer(profile)})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(profile.seed)
        return nn.ModuleDict({"reason": Reasoner(profile, tokenizer), "localize": Localizer(profile)})


def place(model: nn.Module, device: torch.device, dtype: torch.dtype) -> nn.Module:
    """Move a model: parameters in `dtype`, buffers in the precision they have.

    Half precision would shift rotary angles and SAM's positional encoding, which are buffers, by a good part of a
    period where positions are large.
    """
    for parameter in model.parameters():
        parameter.data = parameter.data.to(device, dtype if parameter.is_floating_point() else parameter.dtype)
    for module in model.modules():
        for name, buffer in module.named_buffers(recurse=False):
            setattr(module, name, buffer.to(device))
    return model
