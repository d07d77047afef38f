"""The canonical star pose, judged on the posed skeleton and on the body's surface."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from numpy.typing import NDArray

from ivlm_core.bodies import PART_NAMES, AnnyRig
from ivlm_core.bodies.star_pose import local_deltas, star_pose_rotations


@pytest.fixture(scope="module")
def rig() -> AnnyRig:
    return AnnyRig.load()


@pytest.fixture(scope="module")
def posed(rig: AnnyRig) -> dict[str, NDArray[np.float64]]:
    """Bone name → its head in the star pose."""
    moved = rig.bone_transforms(star_pose_rotations(rig.joint_names, rig.parents.tolist(), rig.joints))
    heads = np.einsum("bij,bj->bi", moved[:, :, :3], rig.joints) + moved[:, :, 3]
    return dict(zip(rig.joint_names, heads, strict=True))


def direction(start: NDArray[np.float64], end: NDArray[np.float64]) -> NDArray[np.float64]:
    return (end - start) / np.linalg.norm(end - start)


@pytest.mark.parametrize(("side", "outward"), [("L", 1.0), ("R", -1.0)])
def test_arms_are_level_and_straight(posed: dict[str, NDArray[np.float64]], side: str, outward: float) -> None:
    chain = [posed[f"{bone}.{side}"] for bone in ("upperarm01", "lowerarm01", "wrist", "finger3-1")]
    for start, end in itertools.pairwise(chain):
        np.testing.assert_allclose(direction(start, end), [outward, 0, 0], atol=1e-5)


@pytest.mark.parametrize(("side", "outward"), [("L", 0.5), ("R", -0.5)])
def test_legs_are_straight_and_thirty_degrees_out(
    posed: dict[str, NDArray[np.float64]], side: str, outward: float
) -> None:
    chain = [posed[f"{bone}.{side}"] for bone in ("upperleg01", "lowerleg01", "foot")]
    for start, end in itertools.pairwise(chain):
        np.testing.assert_allclose(direction(start, end), [outward, -np.sqrt(0.75), 0], atol=1e-5)


@pytest.mark.parametrize("side", ["L", "R"])
def test_palms_face_down(posed: dict[str, NDArray[np.float64]], rig: AnnyRig, side: str) -> None:
    # Relaxed fingers and the thumb bend towards the palm; seen from above, the thumb lies in front.
    for finger in (2, 3, 4, 5):
        assert posed[f"finger{finger}-3.{side}"][1] < posed[f"finger{finger}-1.{side}"][1] - 0.005
    assert posed[f"finger1-3.{side}"][1] < posed[f"wrist.{side}"][1]
    assert posed[f"finger1-3.{side}"][2] > posed[f"finger5-3.{side}"][2] + 0.05


def test_left_is_the_bodys_own_left_and_the_face_looks_forward(rig: AnnyRig) -> None:
    def centre(part: str) -> NDArray[np.float32]:
        return rig.star_vertices[rig.part_labels == PART_NAMES.index(part)].mean(axis=0)

    for part in ("upper arm", "forearm", "hand", "thigh", "lower leg", "foot"):
        assert centre(f"left {part}")[0] > 0.1
        assert centre(f"right {part}")[0] < -0.1
    heights = [centre(part)[1] for part in ("head", "torso", "hips", "left thigh", "left lower leg", "left foot")]
    assert heights == sorted(heights, reverse=True)
    widths = [centre(f"left {part}")[0] for part in ("upper arm", "forearm", "hand")]
    assert widths == sorted(widths)
    joints = dict(zip(rig.joint_names, rig.joints, strict=True))
    for part, bone in (("head", "head"), ("left foot", "foot.L"), ("right foot", "foot.R")):
        z = rig.star_vertices[rig.part_labels == PART_NAMES.index(part), 2]
        assert z.max() - joints[bone][2] > 1.2 * (joints[bone][2] - z.min())


def test_feet_turn_out_with_the_leg_as_one_piece(rig: AnnyRig) -> None:
    rotations = star_pose_rotations(rig.joint_names, rig.parents.tolist(), rig.joints)
    moved = dict(zip(rig.joint_names, rig.bone_transforms(rotations), strict=True))
    half, root = 0.5, np.sqrt(0.75)
    np.testing.assert_allclose(moved["foot.L"][:, :3], [[root, -half, 0], [half, root, 0], [0, 0, 1]], atol=1e-6)
    np.testing.assert_allclose(moved["foot.R"][:, :3], [[root, half, 0], [-half, root, 0], [0, 0, 1]], atol=1e-6)


def test_local_deltas_give_each_bone_the_orientation_asked_for() -> None:
    turn = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    names, parents = ("root", "middle", "tip"), (-1, 0, 1)
    deltas = local_deltas(names, parents, {"root": turn, "tip": turn})
    assert set(deltas) == {"root", "tip"}
    np.testing.assert_allclose(deltas["root"], turn)
    np.testing.assert_allclose(deltas["tip"], np.eye(3))
