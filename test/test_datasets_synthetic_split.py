from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ivlm_core.datasets.synthetic.split import (
    MAX_SEED,
    SPLITS,
    TRAINING_SEED,
    UNSEEN,
    belongs,
    check_fresh_seed,
    check_split,
    scene_rng,
)
from ivlm_core.errors import ConfigError


def test_no_two_scenes_share_their_chance() -> None:
    keys = itertools.product((0, 1, 2**31), SPLITS, (0, 1, 999))
    drawn = [scene_rng(seed, split, index).integers(2**63) for seed, split, index in keys]
    assert len(set(drawn)) == len(drawn)


@given(seed=st.integers(0, MAX_SEED), split=st.sampled_from(sorted(SPLITS)), index=st.integers(0, 10**6))
def test_same_scene_same_chance(seed: int, split: str, index: int) -> None:
    assert scene_rng(seed, split, index).random() == scene_rng(seed, split, index).random()


@pytest.mark.parametrize(("seed", "index"), [(-1, 0), (MAX_SEED + 1, 0), (0, -1)])
def test_numbers_out_of_range_are_refused(seed: int, index: int) -> None:
    with pytest.raises(ConfigError):
        scene_rng(seed, "test", index)


def test_unknown_split_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="train, val, test, unseen"):
        check_split("validation")


def test_training_scenes_are_not_for_evaluation() -> None:
    with pytest.raises(ConfigError, match="trained with"):
        check_fresh_seed("train", TRAINING_SEED)
    check_fresh_seed("train", TRAINING_SEED + 1)
    check_fresh_seed("test", TRAINING_SEED)


def test_held_out_categories_stay_held_out() -> None:
    held_out = sorted(UNSEEN)[0]
    for split in ("train", "val", "test"):
        assert belongs(split, ["chair", "book"], "chair")
        assert not belongs(split, ["chair", held_out], "chair")
    assert belongs("unseen", [held_out, "book"], held_out)
    assert not belongs("unseen", ["book", held_out], "book")
