"""SMPL, SMPL+H and SMPL-X files: parity with `smplx`, and what is refused. The files are made here, at real sizes."""

from __future__ import annotations

import io
import pickle
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ivlm_core.bodies import PART_NAMES, load_body
from ivlm_core.bodies.parts import smpl_part
from ivlm_core.bodies.smpl_family import _LAYOUTS
from ivlm_core.errors import MeshError

JOINT_PARENTS = [-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19]


class Bomb:
    """Unpickling this creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str, str]]:
        return open, (str(self.path), "w")


def synthetic(name: str) -> dict[str, np.ndarray]:
    """Arrays of a model file of this family: real shapes and types, random geometry with every joint in use."""
    layout = _LAYOUTS[name]
    joints, vertices = len(layout.joints), layout.vertices
    random = np.random.default_rng(joints)
    owner = np.arange(vertices) % joints
    weights = 0.2 * random.dirichlet(np.ones(joints), vertices)
    weights[np.arange(vertices), owner] += 0.8
    regressor = np.zeros((joints, vertices))
    regressor[owner, np.arange(vertices)] = 1
    start = random.integers(0, vertices - 3, size=layout.faces)
    posedirs = np.zeros((vertices, 3, 9 * (joints - 1)), np.float32)
    posedirs[:, :, :18] = random.normal(0, 0.01, (vertices, 3, 18))
    hand_parents = [20 if index < 15 else 21 for index in range(30)]
    extra = {"smpl": [20, 21], "smplh": hand_parents, "smplx": [15, 15, 15, *hand_parents]}[name]
    parents = np.array(JOINT_PARENTS + extra)
    return {
        "v_template": random.normal(0, 0.5, (joints, 3))[owner] + random.normal(0, 0.05, (vertices, 3)),
        "f": (start[:, None] + [0, 1, 2]).astype(np.uint32),
        "weights": weights,
        "J_regressor": regressor / regressor.sum(axis=1, keepdims=True),
        "posedirs": posedirs,
        # The official files hold the root's parent as an unsigned −1.
        "kintree_table": np.stack([parents.astype(np.uint32), np.arange(joints, dtype=np.uint32)]),
        "shapedirs": random.normal(0, 0.01, (vertices, 3, 20)),
    }


def only_for_smplx_classes(name: str) -> dict[str, np.ndarray]:
    hands = {f"hands_components{side}": np.eye(45) for side in "lr"}
    hands |= {f"hands_mean{side}": np.full(45, 0.1) for side in "lr"}
    landmarks = {"lmk_faces_idx": np.zeros(51, np.int64), "lmk_bary_coords": np.full((51, 3), 1 / 3)}
    return {"smpl": {}, "smplh": hands, "smplx": hands | landmarks}[name]


@pytest.fixture(scope="module", params=["smpl", "smplh", "smplx"])
def model_file(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    path = tmp_path_factory.mktemp(request.param) / "model.npz"
    np.savez(path, **synthetic(request.param))
    return request.param, path


@pytest.fixture(scope="module")
def smpl_arrays() -> dict[str, np.ndarray]:
    return synthetic("smpl")


def test_star_pose_equals_the_classes_of_smplx(model_file: tuple[str, Path], tmp_path: Path) -> None:
    import smplx
    import torch
    from smplx.utils import Struct

    name, path = model_file
    arrays = synthetic(name) | only_for_smplx_classes(name)
    if name == "smplx":
        trusted = tmp_path / "trusted.npz"
        np.savez(trusted, **arrays)
        reference = smplx.SMPLX(str(trusted), flat_hand_mean=True, use_pca=False, num_betas=10)
    else:
        of_hands = {"flat_hand_mean": True, "use_pca": False} if name == "smplh" else {}
        reference = {"smpl": smplx.SMPL, "smplh": smplx.SMPLH}[name]("", data_struct=Struct(**arrays), **of_hands)
    body_pose = torch.zeros(1, reference.NUM_BODY_JOINTS, 3)
    body_pose[0, 0, 2], body_pose[0, 1, 2] = np.pi / 6, -np.pi / 6
    expected = reference(body_pose=body_pose.reshape(1, -1)).vertices[0].detach().numpy()
    body = load_body(name, path)
    np.testing.assert_allclose(body.mesh.vertices, expected, atol=1e-6)
    np.testing.assert_array_equal(body.mesh.faces, arrays["f"])
    assert np.abs(expected - arrays["v_template"]).max() > 0.1


def test_parts_follow_the_dominant_joint(model_file: tuple[str, Path]) -> None:
    name, path = model_file
    joints = _LAYOUTS[name].joints
    expected = [smpl_part(joints[vertex % len(joints)]) for vertex in range(_LAYOUTS[name].vertices)]
    body = load_body(name, path)
    np.testing.assert_array_equal(body.part_labels, expected)
    assert set(body.part_labels.tolist()) == set(range(len(PART_NAMES)))


def test_joint_order_is_that_of_smplx() -> None:
    from smplx.joint_names import JOINT_NAMES

    of_smplx = [name.replace("_smplhf", "") for name in JOINT_NAMES[:55]]
    assert list(_LAYOUTS["smplx"].joints) == of_smplx
    assert list(_LAYOUTS["smplh"].joints) == of_smplx[:22] + of_smplx[25:]
    assert list(_LAYOUTS["smpl"].joints) == [*of_smplx[:22], "left_hand", "right_hand"]


def test_a_file_is_read_once_and_again_when_it_changes(tmp_path: Path, smpl_arrays: dict[str, np.ndarray]) -> None:
    path = tmp_path / "smpl.npz"
    np.savez(path, **smpl_arrays)
    first = load_body("smpl", path)
    assert load_body("smpl", path) is first
    np.savez(path, **(smpl_arrays | {"v_template": smpl_arrays["v_template"] + 1.0, "note": np.zeros(1)}))
    np.testing.assert_allclose(load_body("smpl", path).mesh.vertices, first.mesh.vertices + 1, atol=1e-5)


def test_pickle_is_never_loaded(tmp_path: Path) -> None:
    fuse = tmp_path / "exploded"
    for file_name, problem in (("SMPL_NEUTRAL.pkl", "is a pickle.*convert"), ("SMPL_NEUTRAL.npz", "not a complete")):
        path = tmp_path / file_name
        path.write_bytes(pickle.dumps({"v_template": Bomb(fuse)}))
        with pytest.raises(MeshError, match=problem) as caught:
            load_body("smpl", path)
        assert str(path) in str(caught.value)
    assert not fuse.exists()


def test_object_arrays_under_other_keys_are_never_touched(tmp_path: Path, smpl_arrays: dict[str, np.ndarray]) -> None:
    fuse, path = tmp_path / "exploded", tmp_path / "smpl.npz"
    bomb = np.empty(1, dtype=object)
    bomb[0] = Bomb(fuse)
    np.savez(path, **smpl_arrays, part2num=bomb)
    assert len(load_body("smpl", path).mesh.vertices) == 6890
    np.savez(path, **(smpl_arrays | {"weights": bomb}))
    with pytest.raises(MeshError, match=r"'weights'.*without pickle"):
        load_body("smpl", path)
    assert not fuse.exists()


@pytest.mark.parametrize("key", ["v_template", "f", "weights", "J_regressor", "posedirs", "kintree_table"])
def test_missing_key_is_named(tmp_path: Path, smpl_arrays: dict[str, np.ndarray], key: str) -> None:
    path = tmp_path / "smpl.npz"
    np.savez(path, **{name: array for name, array in smpl_arrays.items() if name != key})
    with pytest.raises(MeshError, match=rf"'{key}'.*is missing in .*smpl\.npz"):
        load_body("smpl", path)


def _with(array: np.ndarray, index: Any, value: float) -> np.ndarray:
    changed = array.copy()
    changed[index] = value
    return changed


@pytest.mark.parametrize(
    ("key", "change", "problem"),
    [
        ("v_template", lambda a: a[:100], r"shape \(100, 3\), expected \(6890, 3\)"),
        ("weights", lambda a: a[:, :20], r"shape \(6890, 20\)"),
        ("weights", lambda a: a * 0.5, "sum to one"),
        ("v_template", lambda a: _with(a, (5, 1), np.nan), "NaN"),
        ("f", lambda a: _with(a, (5, 1), 6890), "outside 0…6889"),
        ("f", lambda a: a.astype(float), "dtype float64"),
        ("J_regressor", lambda a: a.astype(str), "larger than it can be"),
        ("kintree_table", lambda a: _with(a, (0, 4), 9), "parent after its child"),
        ("posedirs", lambda a: np.zeros((6890, 3, 459), np.float16), r"expected \(6890, 3, 207\)"),
    ],
)
def test_arrays_that_do_not_fit_are_named(
    tmp_path: Path, smpl_arrays: dict[str, np.ndarray], key: str, change: Any, problem: str
) -> None:
    path = tmp_path / "smpl.npz"
    np.savez(path, **(smpl_arrays | {key: change(smpl_arrays[key])}))
    with pytest.raises(MeshError, match=problem) as caught:
        load_body("smpl", path)
    assert key in caught.value.field
    assert str(path) in str(caught.value)


def test_truncated_file(model_file: tuple[str, Path], tmp_path: Path) -> None:
    name, path = model_file
    cut = tmp_path / "cut.npz"
    cut.write_bytes(path.read_bytes()[:100_000])
    with pytest.raises(MeshError, match=r"cut\.npz is not a complete \.npz file"):
        load_body(name, cut)


def test_damaged_member(tmp_path: Path, smpl_arrays: dict[str, np.ndarray]) -> None:
    path = tmp_path / "smpl.npz"
    np.savez(path, **smpl_arrays)
    content = bytearray(path.read_bytes())
    content[5000:5100] = bytes(100)
    path.write_bytes(content)
    with pytest.raises(MeshError, match=r"'v_template'.*damaged.*smpl\.npz"):
        load_body("smpl", path)


def test_a_small_file_cannot_unpack_into_a_huge_array(tmp_path: Path, smpl_arrays: dict[str, np.ndarray]) -> None:
    path = tmp_path / "smpl.npz"
    np.savez_compressed(path, **(smpl_arrays | {"posedirs": np.zeros((6890, 3, 207 * 10))}))
    with pytest.raises(MeshError, match=r"'posedirs'.*larger than it can be"):
        load_body("smpl", path)


def test_a_header_that_claims_an_absurd_size(tmp_path: Path, smpl_arrays: dict[str, np.ndarray]) -> None:
    path = tmp_path / "smpl.npz"
    np.savez(path, **{name: array for name, array in smpl_arrays.items() if name != "v_template"})
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": (1 << 40, 1 << 10)})
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("v_template.npy", header.getvalue())
    with pytest.raises(MeshError, match="'v_template'"):
        load_body("smpl", path)


def test_a_file_of_another_model_is_refused(model_file: tuple[str, Path]) -> None:
    name, path = model_file
    other = {"smpl": "smplx", "smplh": "smpl", "smplx": "smplh"}[name]
    with pytest.raises(MeshError, match=f"is this the .npz file of '{other}'"):
        load_body(other, path)


@pytest.mark.parametrize("kind", ["missing", "folder"])
def test_a_path_that_is_no_file(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "SMPLX_NEUTRAL.npz"
    if kind == "folder":
        path.mkdir()
    with pytest.raises(MeshError, match=r"is not a file.*'smplx'"):
        load_body("smplx", path)
    shutil.rmtree(path, ignore_errors=True)
