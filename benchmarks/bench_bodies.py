"""Making and posing a body, against dense skinning with bones one after the other.

`OMP_NUM_THREADS=1 python benchmarks/bench_bodies.py`; the budgets are 5 ms for a new body and 4 ms for a pose.
"""

from __future__ import annotations

import numpy as np
import report
from scipy.spatial.transform import Rotation

from ivlm_core.bodies import AnnyRig, Phenotype, varied_rig


def dense_pose(rig: AnnyRig, rotations: dict[str, np.ndarray]) -> np.ndarray:
    """(V, 3): the definition of linear blend skinning, with every bone's weight for every vertex."""
    transforms = np.empty((len(rig.joint_names), 4, 4))
    for bone, (name, parent) in enumerate(zip(rig.joint_names, rig.parents, strict=True)):
        head, about = rig.joints[bone].astype(np.float64), np.eye(4)
        about[:3, :3] = rotations[name]
        about[:3, 3] = head - rotations[name] @ head
        transforms[bone] = transforms[parent] @ about if parent >= 0 else about
    bind = np.concatenate([rig.bind, np.tile([[[0, 0, 0, 1]]], (len(transforms), 1, 1))], axis=1)
    skinning = (transforms @ bind)[:, :3].reshape(-1, 12).astype(np.float32)
    blended = (rig.weights @ skinning).reshape(-1, 3, 4)
    posed: np.ndarray = np.einsum("vij,vj->vi", blended[:, :, :3], rig.rest_vertices) + blended[:, :, 3]
    return posed


def main() -> None:
    options = report.parser(__doc__ or "").parse_args()
    rng = np.random.default_rng(0)
    person = Phenotype.draw(rng)
    rig = varied_rig(person)
    turns = Rotation.from_rotvec(rng.normal(0, 0.3, (len(rig.joint_names), 3))).as_matrix()
    pose = dict(zip(rig.joint_names, turns, strict=True))
    difference = float(np.abs(rig.pose(pose) - dense_pose(rig, pose)).max())
    dense = report.milliseconds(lambda: dense_pose(rig, pose), repeats=50)
    ours = report.milliseconds(lambda: rig.pose(pose), repeats=50)
    made = report.milliseconds(lambda: varied_rig(person), repeats=50)
    drawn = report.milliseconds(lambda: Phenotype.draw(rng), repeats=50)
    rows = [
        ("pose all 104 bones", round(dense, 2), round(ours, 2), round(dense / ours, 1), f"{difference:.1e} m"),
        ("make a body of a phenotype", "", round(made, 2), "", ""),
        ("draw a phenotype", "", round(drawn, 2), "", ""),
    ]
    report.show("bodies", ("what", "dense ms", "ours ms", "ratio", "max difference"), rows, options.json)


if __name__ == "__main__":
    main()
