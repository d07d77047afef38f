"""The joints that fits turn: their tree, the T-pose, and the way to Anny and back."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from ivlm_core.bodies import AnnyRig, Phenotype, varied_rig
from ivlm_core.bodies.skeleton import (
    ANNY_BONES,
    HANGERS,
    JOINT_TWINS,
    JOINTS,
    LANDMARK_TWINS,
    LANDMARKS,
    PARENTS,
    SMPL_JOINTS,
    anny_t_pose,
    chained,
    from_anny,
    paths,
    to_anny,
    unchained,
)
from ivlm_core.bodies.smpl_family import _LAYOUTS
from ivlm_core.types import COCO_KEYPOINTS


def random_local(seed: int, degrees: float = 40.0) -> np.ndarray:
    turns = np.random.default_rng(seed).normal(0, np.radians(degrees), (len(JOINTS), 3))
    return Rotation.from_rotvec(turns).as_matrix()


def t_pose_heads() -> dict[str, np.ndarray]:
    rig = AnnyRig.load()
    pose = to_anny(rig, np.tile(np.eye(3), (len(JOINTS), 1, 1)))
    moved = rig.bone_transforms(pose)
    heads = np.einsum("bij,bj->bi", moved[:, :, :3], rig.joints) + moved[:, :, 3]
    return dict(zip(JOINTS, heads[[rig.joint_names.index(bone) for bone in ANNY_BONES]], strict=True))


def test_landmarks_are_cocos_in_cocos_order() -> None:
    assert LANDMARKS == COCO_KEYPOINTS


def test_sides_swap() -> None:
    assert JOINTS[JOINT_TWINS[JOINTS.index("left elbow")]] == "right elbow"
    assert LANDMARKS[LANDMARK_TWINS[LANDMARKS.index("right ear")]] == "left ear"
    assert all(JOINT_TWINS[JOINT_TWINS[joint]] == joint for joint in range(len(JOINTS)))
    assert JOINT_TWINS[JOINTS.index("neck")] == JOINTS.index("neck")


def test_joints_are_smpls_by_name_and_tree() -> None:
    theirs = _LAYOUTS["smplx"].joints
    same = {"pelvis": "pelvis", "head": "head", "neck": "neck", "spine 1": "spine1"}
    for joint, number in zip(JOINTS, SMPL_JOINTS, strict=True):
        assert theirs[number] == same.get(joint, joint.replace("spine ", "spine").replace(" ", "_"))


def test_t_pose_has_level_arms_and_straight_legs() -> None:
    at = t_pose_heads()
    for side, outward in (("left", 1), ("right", -1)):
        shoulder, elbow, wrist = (at[f"{side} {joint}"] for joint in ("shoulder", "elbow", "wrist"))
        np.testing.assert_allclose((wrist - shoulder)[1:], 0, atol=2e-3)
        assert outward * (elbow - shoulder)[0] > 0.2 < outward * (wrist - elbow)[0]
        hip, knee, ankle = (at[f"{side} {joint}"] for joint in ("hip", "knee", "ankle"))
        np.testing.assert_allclose((ankle - hip)[[0, 2]], 0, atol=2e-3)
        assert hip[1] - knee[1] > 0.3 < knee[1] - ankle[1]
    assert at["head"][1] > at["neck"][1] > at["spine 3"][1] > at["spine 1"][1] > 0


def test_joints_bend_the_way_the_limits_say() -> None:
    rig = AnnyRig.load()
    local = np.tile(np.eye(3), (len(JOINTS), 1, 1))
    local[JOINTS.index("left knee")] = Rotation.from_rotvec([1.2, 0, 0]).as_matrix()
    local[JOINTS.index("left elbow")] = Rotation.from_rotvec([0, -1.2, 0]).as_matrix()
    local[JOINTS.index("right elbow")] = Rotation.from_rotvec([0, 1.2, 0]).as_matrix()
    moved = rig.bone_transforms(to_anny(rig, local))
    heads = np.einsum("bij,bj->bi", moved[:, :, :3], rig.joints) + moved[:, :, 3]
    at = dict(zip(rig.joint_names, heads, strict=True))
    assert at["foot.L"][2] < at["lowerleg01.L"][2] - 0.3  # the heel goes back
    for side in "LR":
        assert at[f"wrist.{side}"][2] > at[f"lowerarm01.{side}"][2] + 0.15  # the hands come forward


@pytest.mark.parametrize("seed", range(3))
def test_to_anny_and_back(seed: int) -> None:
    rig = AnnyRig.load()
    local = random_local(seed)
    vectors = np.zeros((1, len(rig.joint_names), 3))
    for name, turn in to_anny(rig, local).items():
        vectors[0, rig.joint_names.index(name)] = Rotation.from_matrix(turn).as_rotvec()
    np.testing.assert_allclose(from_anny(rig, vectors)[0], local, atol=1e-6)


def test_paths_and_hanging_vectors_give_the_rigs_own_joints() -> None:
    rig = varied_rig(Phenotype(gender=0.9, age=0.8, muscle=0.3, weight=0.7, height=0.3))
    local = random_local(5)
    bones = [rig.joint_names.index(bone) for bone in ANNY_BONES]
    heads = rig.joints[bones].astype(np.float64)
    turns = anny_t_pose()
    joints = len(JOINTS) - 1
    hanging = np.zeros((len(HANGERS), 3))
    for joint in range(1, len(JOINTS)):
        hanging[joint - 1] = turns[PARENTS[joint]] @ (heads[joint] - heads[PARENTS[joint]])
    turned = np.einsum("hij,hj->hi", chained(local)[list(HANGERS)], hanging)
    moved = rig.bone_transforms(to_anny(rig, local))
    posed = (np.einsum("bij,bj->bi", moved[:, :, :3], rig.joints) + moved[:, :, 3])[bones]
    # The forearm's second bone, which twists, lies half a millimetre beside its axis.
    np.testing.assert_allclose(paths()[len(LANDMARKS) :] @ turned, posed, atol=1e-3)
    np.testing.assert_array_equal(paths()[: len(LANDMARKS), joints:].sum(axis=1), [1] * 5 + [0] * 12)


def test_a_forearm_takes_its_share_of_the_hands_twist() -> None:
    rig = AnnyRig.load()
    local = np.tile(np.eye(3), (len(JOINTS), 1, 1))
    # In the T-pose the left forearm lies along +x.
    local[JOINTS.index("left wrist")] = Rotation.from_rotvec([1.0, 0, 0]).as_matrix()
    pose = to_anny(rig, local)
    still = to_anny(rig, np.tile(np.eye(3), (len(JOINTS), 1, 1)))

    def turn(bone: str) -> float:
        return float(Rotation.from_matrix(still[bone].T @ pose[bone]).magnitude())

    assert turn("lowerarm02.L") == pytest.approx(0.6, abs=0.25)
    assert turn("lowerarm02.R") == pytest.approx(0.0, abs=1e-6)
    np.testing.assert_allclose(unchained(chained(local)), local, atol=1e-12)
