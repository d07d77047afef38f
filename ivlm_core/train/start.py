"""What a run may begin with instead of random numbers: all of a trained model that is not its localizer."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ivlm_core.checkpoints import build_model, load_weights
from ivlm_core.checkpoints.native import canonical, describe
from ivlm_core.config import PROFILE_DIRECTORY, Profile, load_profile, profile_names
from ivlm_core.errors import ConfigError, IvlmError
from ivlm_core.reason import ContactTokenizer

# The reasoner, and the encoder of the fixed views, which was taught what they show and is frozen. Mask decoders,
# FeatLift and vertex branch are never taken: runs that begin so are about learning them.
TAKEN = ("reason.", "localize.image_encoder.", "localize.prompt_encoder.")
SIGHT = ("reason.llava.model.vision_tower.", "reason.llava.model.multi_modal_projector.")


@dataclass(frozen=True, eq=False)
class Start:
    """Weights that a run begins with.

    Attributes
    ----------
    tensors : name → value, float32. digest : 16 hex digits of both.
    """

    tensors: Mapping[str, Tensor]
    digest: str


def read_start(source: str, profile: Profile, option: str = "--start-from") -> Start:
    """Take what a run begins with out of a trained model.

    Parameters
    ----------
    source : the name of a shipped model, or the directory of an exported one.
    profile : of the run; what is taken must fit it.
    option : how messages call `source`.

    Raises
    ------
    ConfigError : no such model, a damaged one, or one of other sizes.
    """
    _, weights = read_trained(source, option)
    taken = {name: value for name, value in weights.items() if name.startswith(TAKEN)}
    expected = build_model(profile, ContactTokenizer(tokens=profile.tokens)).state_dict()
    sizes = {name: value.shape for name, value in expected.items() if name.startswith(TAKEN)}
    for name in sorted({*taken, *sizes}):
        if name not in taken or name not in sizes or taken[name].shape != sizes[name]:
            raise ConfigError(option, f"{source} has another {canonical(name)}", "give a model of the same profile")
    hashes = sorted((canonical(name), about["sha256"]) for name, about in describe(taken).items())
    return Start(taken, hashlib.sha256(repr(hashes).encode()).hexdigest()[:16])


def read_trained(source: str, option: str) -> tuple[Profile, dict[str, Tensor]]:
    """A trained model's profile and all of its weights, float32. See `read_start`."""
    folder = PROFILE_DIRECTORY / source if source in profile_names() else Path(source).expanduser()
    if not (folder / "manifest.json").is_file():
        raise ConfigError(option, f"{source} is no trained model", "give tiny, or what `ivlm train --export` wrote")
    try:
        trained = load_profile(folder)
        model = build_model(trained, ContactTokenizer(tokens=trained.tokens))
        load_weights(folder, model, dtype=torch.float32)
    except IvlmError as error:
        raise ConfigError(option, f"{source} cannot be read: {error}", "export it again") from error
    return trained, dict(model.state_dict())


def is_sight(name: str) -> bool:
    """Whether a parameter of the model belongs to its image encoder."""
    return name.startswith(SIGHT)
