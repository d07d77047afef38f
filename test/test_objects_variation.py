"""Instances: real sizes, the same for the same seed, and built again from what they remember."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ivlm_core.errors import InputError
from ivlm_core.objects import library_labels, library_shape, varied_shape
from ivlm_core.objects.shapes import SHAPES
from ivlm_core.objects.variation import RANGES

LABELS = st.sampled_from(library_labels())


def test_every_label_varies_within_its_own_sizes() -> None:
    assert set(RANGES) == set(library_labels())
    for label, ranges in RANGES.items():
        assert set(ranges) <= set(inspect.signature(SHAPES[label]).parameters), label
        assert all(low < high for low, high in ranges.values()), label


@settings(max_examples=50, deadline=None)
@given(label=LABELS, seed=st.integers(0, 10**6))
def test_sizes_build_the_instance_again(label: str, seed: int) -> None:
    shape = varied_shape(label, np.random.default_rng(seed))
    again = library_shape(label, **shape.sizes)
    assert again.mesh.content_hash == shape.mesh.content_hash
    assert set(shape.sizes) == set(inspect.signature(SHAPES[label]).parameters)
    assert shape.label == label


@given(label=LABELS, seed=st.integers(0, 10**6))
@settings(max_examples=30, deadline=None)
def test_same_seed_same_instance(label: str, seed: int) -> None:
    first, second = (varied_shape(label, np.random.default_rng(seed)) for _ in range(2))
    assert first.mesh.content_hash == second.mesh.content_hash
    other = varied_shape(label, np.random.default_rng(seed + 1))
    assert other.mesh.content_hash != first.mesh.content_hash


@pytest.mark.parametrize("label", library_labels())
def test_instances_are_about_as_large_as_the_default(label: str) -> None:
    usual = np.ptp(library_shape(label).mesh.vertices, axis=0).max()
    rng = np.random.default_rng(5)
    sizes = [np.ptp(varied_shape(label, rng).mesh.vertices, axis=0).max() for _ in range(12)]
    assert 0.5 * usual < min(sizes) < max(sizes) < 1.9 * usual
    assert max(sizes) > 1.01 * min(sizes)


@pytest.mark.parametrize(
    ("label", "part"),
    [
        ("chair", "post"),
        ("chair", "front left leg"),
        ("chair", "left arm rest"),
        ("table", "column"),
        ("cup", "handle"),
        ("bench", "left arm rest"),
        ("couch", "middle cushion"),
        ("bed", "footboard"),
        ("surfboard", "left fin"),
        ("bicycle", "rear mudguard"),
        ("motorcycle", "screen"),
    ],
)
def test_styles_come_and_go(label: str, part: str) -> None:
    rng = np.random.default_rng(11)
    with_it = [part in varied_shape(label, rng).parts for _ in range(40)]
    assert 0 < sum(with_it) < len(with_it)


def test_synonyms_vary_too() -> None:
    assert varied_shape("dining table", np.random.default_rng(0)).label == "table"


def test_unknown_label() -> None:
    with pytest.raises(InputError, match="'space suit' is not in the library"):
        varied_shape("space suit", np.random.default_rng(0))
