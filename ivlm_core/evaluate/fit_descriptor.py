"""Learn the silhouette descriptor's linear map: `python -m ivlm_core.evaluate.fit_descriptor DATA`.

From scenes of the split `train` come pairs: what is seen of an object, and its whole silhouette from the same side. The
map keeps the directions in which silhouettes differ most for how much hiding, the picture's edges and few pixels change
them: generalised eigenvectors of the covariance of all silhouettes against that of the differences within pairs.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ivlm_core.datasets.synthetic import SceneRecord, SynthHoi
from ivlm_core.errors import DatasetError
from ivlm_core.objects import library_shape
from ivlm_core.objects.descriptors import ASSET, mask_silhouette, silhouette_features, silhouettes
from ivlm_core.storage import atomic_path
from ivlm_core.types import FloatArray

# Objects of which less is seen say nothing about outlines.
LEAST_PIXELS = 80
DIMENSIONS = 48
SCENES = 2500
# Added to the covariance within pairs, as a share of its mean variance: it is known from a few thousand pairs only.
SHRINKAGE = 0.03


class Pairs(NamedTuple):
    """(P, F) features of what is seen, and of the whole object from the same side."""

    seen: FloatArray
    whole: FloatArray


def gather_pairs(records: Iterable[SceneRecord]) -> Pairs:
    """The pairs of all objects of which enough is seen."""
    seen, whole = [], []
    for record in records:
        for number, thing in enumerate(record.objects):
            mask = record.object_mask(number)
            if mask.sum() < LEAST_PIXELS:
                continue
            towards = (record.camera_position - thing.translation).astype(np.float64) @ thing.rotation
            mesh = library_shape(thing.label, **thing.sizes).mesh
            whole.append(silhouettes(mesh, (towards / np.linalg.norm(towards))[None])[0])
            seen.append(mask_silhouette(mask))
    if len(seen) < 2:
        raise DatasetError("scenes", f"show {len(seen)} objects", "give scenes with objects that can be seen")
    return Pairs(silhouette_features(np.stack(seen)), silhouette_features(np.stack(whole)))


def fit_map(pairs: Pairs, dimensions: int = DIMENSIONS, shrinkage: float = SHRINKAGE) -> tuple[FloatArray, FloatArray]:
    """`mean` (F,) and `projection` (F, dimensions) of the descriptor."""
    from scipy.linalg import eigh

    both = np.concatenate(pairs).astype(np.float64)
    mean, deviation = both.mean(axis=0), both.std(axis=0) + 1e-6
    within = np.cov((pairs.seen - pairs.whole).astype(np.float64) / deviation, rowvar=False)
    total = np.cov((both - mean) / deviation, rowvar=False)
    within += shrinkage * np.trace(within) / len(within) * np.eye(len(within))
    directions = eigh(total, within)[1][:, ::-1][:, :dimensions]
    # Eigenvectors are known up to their sign: fix it, so that the same scenes give the same file.
    directions = directions * np.sign(directions[np.abs(directions).argmax(axis=0), np.arange(dimensions)])
    return mean.astype(np.float32), (directions / deviation[:, None]).astype(np.float32)


def main() -> None:
    from tqdm import tqdm

    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path, help="folder of a generated dataset (`ivlm synth generate`)")
    parser.add_argument("--scenes", type=int, default=SCENES, help="how many, spread evenly (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=ASSET, help="the file to write (default: the shipped one)")
    options = parser.parse_args()
    data = SynthHoi(options.data, "train", depth=False)
    chosen = np.unique(np.linspace(0, len(data) - 1, options.scenes).astype(int))
    pairs = gather_pairs(data[int(index)] for index in tqdm(chosen, unit=" scenes", file=sys.stderr))
    mean, projection = fit_map(pairs)
    with atomic_path(options.out) as temporary, temporary.open("wb") as stream:
        np.savez(stream, mean=mean, projection=projection)
    print(json.dumps({"pairs": len(pairs.seen), "seed": data.manifest.seed, "bytes": options.out.stat().st_size}))


if __name__ == "__main__":
    main()
