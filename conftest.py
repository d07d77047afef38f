"""Reference data that some tests compare with; it lies beside the checkout and is not part of the package."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

REFERENCE = Path(__file__).resolve().parent.parent / "shared" / "reference"


def _path(name: str) -> Path:
    path = REFERENCE / name
    if not path.exists():
        if os.environ.get("CI"):
            pytest.fail(f"{path.name} must be there where the whole test-suite runs")
        pytest.skip(f"the reference data {name} is not beside this checkout; it is not distributed with the package")
    return path


def _load(name: str) -> Mapping[str, np.ndarray]:
    with np.load(_path(name), allow_pickle=False) as stored:
        return dict(stored)


@pytest.fixture(scope="session")
def reference_views() -> Mapping[str, np.ndarray]:
    """PyTorch3D's own cameras and fragments of one test mesh."""
    return _load("pytorch3d_views.npz")


@pytest.fixture(scope="session")
def reference() -> Mapping[str, np.ndarray]:
    """Intermediate tensors of the released model at toy size."""
    return _load("tiny_a/reference.npz")


@pytest.fixture(scope="session")
def reference_components() -> Mapping[str, np.ndarray]:
    """Weights, inputs and outputs of the released model's other camera encoders."""
    return _load("tiny_a/extra_components.npz")


@pytest.fixture(scope="session")
def reference_checkpoint() -> Path:
    """A released checkpoint at toy size, with its reference arrays."""
    return _path("tiny_a")
