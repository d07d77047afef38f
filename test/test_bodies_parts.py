"""Bones to parts."""

from __future__ import annotations

import numpy as np
import pytest

from ivlm_core.bodies import PART_NAMES, AnnyRig
from ivlm_core.bodies.parts import anny_part, dominant_parts, smpl_part


@pytest.mark.parametrize(
    ("bone", "part"),
    [
        ("root", "hips"),
        ("pelvis.R", "hips"),
        ("spine01", "torso"),
        ("clavicle.L", "torso"),
        ("neck02", "head"),
        ("upperarm02.L", "left upper arm"),
        ("lowerarm02.R", "right forearm"),
        ("wrist.L", "left hand"),
        ("metacarpal4.R", "right hand"),
        ("finger5-3.L", "left hand"),
        ("upperleg01.R", "right thigh"),
        ("lowerleg02.L", "left lower leg"),
        ("foot.R", "right foot"),
        ("toe5-2.L", "left foot"),
        ("eye.L", "head"),
    ],
)
def test_anny_bones_move_the_part_they_are_named_after(bone: str, part: str) -> None:
    assert PART_NAMES[anny_part(bone)] == part


@pytest.mark.parametrize(
    ("joint", "part"),
    [
        ("pelvis", "hips"),
        ("left_hip", "left thigh"),
        ("right_knee", "right lower leg"),
        ("left_ankle", "left foot"),
        ("right_collar", "torso"),
        ("left_shoulder", "left upper arm"),
        ("right_elbow", "right forearm"),
        ("left_wrist", "left hand"),
        ("right_thumb3", "right hand"),
        ("jaw", "head"),
        ("left_eye", "head"),
        ("neck", "head"),
        ("spine3", "torso"),
    ],
)
def test_smpl_joints_move_the_part_they_are_named_after(joint: str, part: str) -> None:
    assert PART_NAMES[smpl_part(joint)] == part


def test_every_anny_bone_keeps_its_side() -> None:
    for bone in AnnyRig.load().joint_names:
        part = PART_NAMES[anny_part(bone)]
        if part.startswith(("left ", "right ")):
            assert part.startswith("left " if bone.endswith(".L") else "right ")


def test_bones_of_one_part_count_together() -> None:
    thigh, hips = PART_NAMES.index("left thigh"), PART_NAMES.index("hips")
    weights = np.array([[0.3, 0.3, 0.4], [0.1, 0.3, 0.6]])
    assert dominant_parts(weights, [thigh, thigh, hips]).tolist() == [thigh, hips]
