"""The splits of SynthHOI: which scene a seed stands for, and which categories a split may show."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from types import MappingProxyType

import numpy as np

from ivlm_core.errors import ConfigError, shown

# Raised whenever the same seed would give another scene: a change of programs, bodies, objects, cameras or pictures.
GENERATOR_VERSION = 1

SPLITS: Mapping[str, int] = MappingProxyType({"train": 0, "val": 1, "test": 2, "unseen": 3})

# Categories held out of training: no scene of the other splits shows them, every scene of `unseen` is about one.
UNSEEN = frozenset({"bench", "cup", "snowboard", "motorcycle"})

# The shipped weights were trained on the train split of this seed.
TRAINING_SEED = 20_250_613
MAX_SEED = 2**32 - 1


def check_split(split: str) -> str:
    """`split` itself.

    Raises
    ------
    ConfigError : it is none of `SPLITS`.
    """
    if split not in SPLITS:
        raise ConfigError("split", f"{shown(split)} does not exist", f"one of {', '.join(SPLITS)}")
    return split


def scene_rng(seed: int, split: str, index: int) -> np.random.Generator:
    """The source of chance of one scene; no two of (version, split, seed, index) share one.

    Raises
    ------
    ConfigError : an unknown split, a seed outside 0…2³²−1, or a negative index.
    """
    number = SPLITS[check_split(split)]
    if not 0 <= seed <= MAX_SEED:
        raise ConfigError("seed", f"is {seed}", f"give 0…{MAX_SEED}")
    if index < 0:
        raise ConfigError("index", f"is {index}", "scenes are counted from 0")
    return np.random.default_rng([GENERATOR_VERSION, number, seed, index])


def check_fresh_seed(split: str, seed: int) -> None:
    """Refuse to evaluate on the scenes that the shipped weights were trained on.

    Raises
    ------
    ConfigError : `split` is train and `seed` the training seed.
    """
    if check_split(split) == "train" and seed == TRAINING_SEED:
        raise ConfigError(
            "seed", f"{seed} is the seed that the shipped weights were trained with", "give another one for evaluation"
        )


def belongs(split: str, labels: Collection[str], main: str) -> bool:
    """Whether a scene of objects `labels`, about the object `main`, may be in `split`."""
    return main in UNSEEN if split == "unseen" else UNSEEN.isdisjoint(labels)
