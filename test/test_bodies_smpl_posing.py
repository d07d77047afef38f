"""Skins of the SMPL family: rest pose and joints, the root's turn, betas, and files that change."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from ivlm_core.bodies.smpl_family import _LAYOUTS
from ivlm_core.bodies.smpl_posing import load_smpl_skin
from ivlm_core.errors import InputError, MeshError

LAYOUT = _LAYOUTS["smpl"]
JOINTS, COUNT = len(LAYOUT.joints), LAYOUT.vertices


def write(path: Path, seed: int = 0, **changed: np.ndarray) -> Path:
    """An SMPL file of real shapes and random geometry, three shape directions."""
    random = np.random.default_rng(seed)
    owner = np.arange(COUNT) % JOINTS
    weights = np.eye(JOINTS)[owner]
    parents = np.array([-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 20, 21])
    start = random.integers(0, COUNT - 3, LAYOUT.faces)
    arrays = {
        "v_template": random.normal(0, 0.5, (COUNT, 3)),
        "f": (start[:, None] + [0, 1, 2]).astype(np.uint32),
        "weights": weights,
        "J_regressor": weights.T / weights.sum(axis=0)[:, None],
        "posedirs": np.zeros((COUNT, 3, 9 * (JOINTS - 1)), np.float32),
        "kintree_table": np.stack([parents.astype(np.uint32), np.arange(JOINTS, dtype=np.uint32)]),
        "shapedirs": random.normal(0, 0.01, (COUNT, 3, 3)),
    }
    np.savez(path, **(arrays | changed))
    return path


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("smpl") / "smpl.npz")


def test_zero_pose_is_the_shaped_template(file: Path) -> None:
    skin = load_smpl_skin("smpl", file)
    betas = np.array([0.5, -1.0])
    with np.load(file) as stored:
        shaped = stored["v_template"] + stored["shapedirs"][:, :, :2] @ betas
        joints = stored["J_regressor"] @ shaped
    np.testing.assert_allclose(skin.pose(np.zeros((JOINTS, 3)), betas), shaped, atol=1e-5)
    np.testing.assert_allclose(skin.rest_vertices(betas), shaped)
    np.testing.assert_allclose(skin.rest_joints(betas), joints)
    np.testing.assert_allclose(skin.rest_vertices(np.zeros(0)), skin.mesh.vertices, atol=1e-6)
    assert skin.joint_names == LAYOUT.joints
    assert skin.parents[0] == -1


def test_root_turns_the_body_about_its_own_joint(file: Path) -> None:
    skin = load_smpl_skin("smpl", file)
    turn = np.zeros((JOINTS, 3))
    turn[0] = [0.3, -1.0, 0.7]
    root = skin.rest_joints(np.zeros(0))[0]
    expected = (skin.rest_vertices(np.zeros(0)) - root) @ Rotation.from_rotvec(turn[0]).as_matrix().T + root
    np.testing.assert_allclose(skin.pose(turn, np.zeros(0)), expected, atol=1e-5)


def test_more_betas_than_directions_are_refused(file: Path) -> None:
    skin = load_smpl_skin("smpl", file)
    for use in (skin.rest_vertices, skin.rest_joints, lambda betas: skin.pose(np.zeros((JOINTS, 3)), betas)):
        with pytest.raises(InputError, match=r"4 coefficients.*has 3 shape directions"):
            use(np.ones(4))


def test_files_are_read_once_and_again_when_they_change(tmp_path: Path) -> None:
    path = write(tmp_path / "smpl.npz", seed=1)
    first = load_smpl_skin("smpl", path)
    assert load_smpl_skin("smpl", path) is first
    write(path, seed=2)
    os.utime(path, ns=(1, 1))
    second = load_smpl_skin("smpl", path)
    assert not np.array_equal(first.mesh.vertices, second.mesh.vertices)


def test_missing_files_and_pickled_shapes(tmp_path: Path) -> None:
    with pytest.raises(MeshError):
        load_smpl_skin("smpl", tmp_path / "none.npz")
    path = write(tmp_path / "pickled.npz", shapedirs=np.array([{"a": 1}], dtype=object))
    with pytest.raises(MeshError, match=r"shapedirs.*without pickle"):
        load_smpl_skin("smpl", path)
