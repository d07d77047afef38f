"""Rebuild the built-in library's descriptors: `python -m ivlm_core.objects.build_builtin`, after `fit_descriptor`."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ivlm_core.objects.builtin import ASSET, INSTANCES, SEED, instance_mesh
from ivlm_core.objects.descriptors import SilhouetteEmbedder
from ivlm_core.objects.library import library_labels
from ivlm_core.objects.variation import varied_shape
from ivlm_core.storage import atomic_path

SAMPLES = 40
# No prior may be so narrow that a real thing a little out of the range is impossible.
LEAST_SPREAD = 0.02


def size_spread(extents: NDArray[np.float64]) -> float:
    """How far the longest side of one kind of thing varies between things of the same proportions, as a share of it.

    Parameters
    ----------
    extents : (n, 3) metres, bounding boxes of instances. Proportions are what an outline shows: a couch for one is not
        a small couch for three, so each instance is compared with those most like it.
    """
    longest = extents.max(axis=1)
    proportions = extents / longest[:, None]
    apart = np.linalg.norm(proportions[:, None] - proportions, axis=2)
    np.fill_diagonal(apart, np.inf)
    # Balls are all alike: whoever is as near as the nearest counts.
    alike = apart <= apart.min(axis=1, keepdims=True) + 1e-4
    ratio = np.log(longest[:, None] / longest)
    squares = (alike * ratio**2).sum(axis=1) / alike.sum(axis=1)
    return max(float(np.sqrt(squares.mean() / 2)), LEAST_SPREAD)


def build(out: Path) -> dict[str, float]:
    """Write the asset, whole or not at all; returns its `bytes` and how many `meshes` it describes."""
    from tqdm import tqdm

    embedder = SilhouetteEmbedder()
    labels = library_labels()
    vectors = np.zeros((len(labels), INSTANCES, *embedder.of_mesh(instance_mesh(labels[0], 0)).shape), dtype=np.float16)
    longest, spread = np.zeros((2, len(labels), INSTANCES), dtype=np.float32)
    for row, label in enumerate(tqdm(labels, unit=" labels", file=sys.stderr)):
        rng = np.random.default_rng([SEED, row])
        sampled = [np.ptp(varied_shape(label, rng).mesh.vertices, axis=0) for _ in range(SAMPLES)]
        share = size_spread(np.asarray(sampled, dtype=np.float64))
        for instance in range(INSTANCES):
            mesh = instance_mesh(label, instance)
            vectors[row, instance] = embedder.of_mesh(mesh)
            longest[row, instance] = np.ptp(mesh.vertices, axis=0).max()
            spread[row, instance] = share * longest[row, instance]
    with atomic_path(out) as temporary, temporary.open("wb") as stream:
        np.savez_compressed(stream, vectors=vectors, longest_m=longest, spread_m=spread)
    return {"bytes": out.stat().st_size, "meshes": longest.size}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=ASSET, help="the file to write (default: the shipped one)")
    print(json.dumps(build(parser.parse_args().out)))


if __name__ == "__main__":
    main()
