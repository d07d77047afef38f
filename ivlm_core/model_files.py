"""The files that models need and that cannot ship with the package: purpose, licence, source."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from ivlm_core.config import PROFILE_DIRECTORY, profile_names
from ivlm_core.errors import CheckpointError, ConfigError, shown

SHIPPED = "tiny"


@dataclass(frozen=True)
class ModelFile:
    """One file or folder below the model directory.

    Attributes
    ----------
    path : where it is looked for, relative to `model_directory()`; `{profile}` stands for the profile's name.
    purpose, licence : what it is for, and under which terms its owners give it.
    source : where to register or to get it.
    needed : False for what only adds something.
    """

    name: str
    path: str
    purpose: str
    licence: str
    source: str
    needed: bool = True


RELEASED = (
    ModelFile(
        "InteractVLM weights, converted",
        "{profile}/profile.yaml",
        "the model itself: `ivlm convert SRC DST --clip CLIP`",
        "InteractVLM licence (non-commercial research)",
        "register at https://interactvlm.is.tue.mpg.de",
    ),
    ModelFile(
        "CLIP ViT-L/14",
        "clip-vit-large-patch14/config.json",
        "the vision tower, needed once for the conversion",
        "MIT",
        "openai/clip-vit-large-patch14 on the Hugging Face hub",
        needed=False,
    ),
    ModelFile(
        "SAM ViT-H",
        "sam_vit_h_4b8939.pth",
        "training from scratch only; converted checkpoints hold SAM",
        "Apache-2.0",
        "https://github.com/facebookresearch/segment-anything (model checkpoints)",
        needed=False,
    ),
    ModelFile(
        "SMPL+H body",
        "smplh/SMPLH_NEUTRAL.npz",
        "the body the released models were trained on (6890 vertices); Anny stands in through a correspondence",
        "MANO/SMPL+H licence (non-commercial research)",
        "register at https://mano.is.tue.mpg.de",
        needed=False,
    ),
    ModelFile(
        "SMPL-X body",
        "smplx/SMPLX_NEUTRAL.npz",
        "contact on SMPL-X (10475 vertices)",
        "SMPL-X licence (non-commercial research)",
        "register at https://smpl-x.is.tue.mpg.de",
        needed=False,
    ),
)


def model_directory() -> Path:
    """`$IVLM_MODEL_DIR`, else `$XDG_DATA_HOME/ivlm_ros`, else `~/.local/share/ivlm_ros`."""
    if chosen := os.environ.get("IVLM_MODEL_DIR"):
        return Path(chosen)
    base = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(base) / "ivlm_ros"


def files_of(profile: str) -> tuple[tuple[ModelFile, Path, bool], ...]:
    """What a shipped profile needs: the file, where it is looked for, and whether it is there.

    Raises
    ------
    ConfigError : no such profile.
    """
    if profile not in profile_names():
        raise ConfigError("model", f"{shown(profile)} is no profile", f"choose {', '.join(profile_names())}")
    if profile == SHIPPED:
        return ()
    places = [model_directory() / item.path.format(profile=profile) for item in RELEASED]
    return tuple((item, place, place.exists()) for item, place in zip(RELEASED, places, strict=True))


def checkpoint_of(model: str | Path) -> Path:
    """The checkpoint directory of a profile's name or a path.

    Raises
    ------
    CheckpointError : a profile whose weights are not there.  ConfigError : a path that is no directory.
    """
    name = str(model)
    if name == SHIPPED:
        weights = PROFILE_DIRECTORY / SHIPPED
        if not weights.is_dir():
            raise CheckpointError("model", f"{name} has no weights in {weights}", "install the package again")
        return weights
    if name in profile_names():
        directory = model_directory() / name
        if not (directory / "profile.yaml").is_file():
            raise CheckpointError(
                "model",
                f"{name} has no weights in {directory}",
                f"`ivlm doctor --model {name}` says which files it needs and where to get them",
            )
        return directory
    path = Path(model).expanduser()
    if not path.is_dir():
        raise ConfigError(
            "model",
            f"{shown(name)} is neither a shipped profile nor a directory",
            f"choose {', '.join(profile_names())}, or give a checkpoint directory",
        )
    return path
