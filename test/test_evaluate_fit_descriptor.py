"""Learning the descriptor's map from pairs of what is seen and what is there."""

from __future__ import annotations

import numpy as np
import pytest

from ivlm_core.datasets.synthetic import SAMPLE, SynthHoi
from ivlm_core.errors import DatasetError
from ivlm_core.evaluate.fit_descriptor import Pairs, fit_map, gather_pairs
from ivlm_core.objects.descriptors import FEATURES


def test_the_map_keeps_what_hiding_does_not_change() -> None:
    """Three features tell things apart and stay in a pair; the others change within pairs, and more strongly."""
    rng = np.random.default_rng(0)
    things = rng.normal(size=(2000, 3))
    mix = rng.normal(size=(3, 20))
    noise = 3.0 * rng.normal(size=(2, 2000, 8)) @ rng.normal(size=(8, 20))
    pairs = Pairs(*(things @ mix + part for part in noise))
    mean, projection = fit_map(pairs, 3, 1e-3)
    np.testing.assert_allclose(mean, np.concatenate(pairs).mean(axis=0), atol=1e-4)
    kept = (pairs.whole - mean) @ projection
    explained = things @ np.linalg.lstsq(things, kept, rcond=None)[0]
    assert ((kept - explained).var(axis=0) / kept.var(axis=0)).max() < 0.1
    assert projection.shape == (20, 3)


def test_the_same_pairs_give_the_same_map() -> None:
    pairs = Pairs(*np.random.default_rng(0).normal(size=(2, 50, 10)))
    swapped = Pairs(*(part[::-1] for part in pairs))
    for first, second in zip(fit_map(pairs, 4), fit_map(swapped, 4), strict=True):
        np.testing.assert_allclose(first, second, atol=1e-5)


def test_pairs_of_generated_scenes_are_alike() -> None:
    """What is seen of an object is nearer to its own whole silhouette than to most others'."""
    data = SynthHoi(SAMPLE, "test", depth=False)
    pairs = gather_pairs(data[index] for index in range(8))
    assert pairs.seen.shape == pairs.whole.shape == (len(pairs.seen), FEATURES)
    deviation = np.concatenate(pairs).std(axis=0) + 1e-6
    apart = np.linalg.norm((pairs.seen[:, None] - pairs.whole) / deviation, axis=2)
    ranks = (apart < np.diag(apart)[:, None]).sum(axis=1)
    assert np.median(ranks) < len(ranks) / 4


def test_scenes_without_objects() -> None:
    with pytest.raises(DatasetError, match="show 0 objects"):
        gather_pairs([])
