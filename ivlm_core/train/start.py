"""What a run may begin with instead of random numbers: parts of a trained model."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import torch
from torch import Tensor

from ivlm_core.checkpoints import build_model, load_weights
from ivlm_core.checkpoints.native import canonical, describe
from ivlm_core.config import PROFILE_DIRECTORY, Profile, load_profile, profile_names
from ivlm_core.errors import ConfigError, IvlmError

# `sight`: the image encoder. `reasoner`: with it the language model and what makes contact embeddings of its states.
Part = Literal["sight", "reasoner"]

# Both come with the encoder of the fixed views, which is frozen and knows no contact.
VIEWS = ("localize.image_encoder.", "localize.prompt_encoder.")
SIGHT = ("reason.llava.model.vision_tower.", "reason.llava.model.multi_modal_projector.")
REASONER = ("reason.",)


@dataclass(frozen=True, eq=False)
class Start:
    """Weights that a run begins with.

    Attributes
    ----------
    part : what was taken of the model. tensors : name → value. digest : 16 hex digits of both.
    """

    part: Part
    tensors: Mapping[str, Tensor]
    digest: str


def read_start(source: str | Path, part: Part, profile: Profile, option: str = "--start-from") -> Start:
    """Take a part out of a trained model.

    Parameters
    ----------
    source : the name of a shipped model, or the directory of an exported one.
    profile : of the run; what is taken must fit it.
    option : how messages call `source`.

    Raises
    ------
    ConfigError : no such model, a damaged one, or one whose part has other sizes.
    """
    if part not in get_args(Part):
        raise ConfigError(option, f"takes {part!r}", f"choose {' or '.join(get_args(Part))}")
    shipped = isinstance(source, str) and source in profile_names()
    folder = PROFILE_DIRECTORY / source if shipped else Path(source).expanduser()
    if not (folder / "manifest.json").is_file():
        raise ConfigError(option, f"{source} is no trained model", "give tiny, or what `ivlm train --export` wrote")
    try:
        model = build_model(load_profile(folder), None)
        load_weights(folder, model, dtype=torch.float32)
    except IvlmError as error:
        raise ConfigError(option, f"{source} cannot be read: {error}", "export it again") from error
    prefixes = (*VIEWS, *(SIGHT if part == "sight" else REASONER))
    taken = {name: value for name, value in model.state_dict().items() if name.startswith(prefixes)}
    expected = {name: value for name, value in build_model(profile, None).state_dict().items() if name in taken}
    for name, value in taken.items():
        if name not in expected or expected[name].shape != value.shape:
            raise ConfigError(option, f"{source} has {canonical(name)} in another size", "give one of the same profile")
    hashes = {canonical(name): about["sha256"] for name, about in describe(taken).items()}
    digest = hashlib.sha256(repr((part, sorted(hashes.items()))).encode()).hexdigest()[:16]
    return Start(part, taken, digest)


def is_sight(name: str) -> bool:
    """Whether a parameter of the model belongs to its image encoder."""
    return name.startswith(SIGHT)
