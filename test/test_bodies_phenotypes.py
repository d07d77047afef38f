"""Bodies of varied sex, age, build and height, and the command that rebuilds their asset."""

from __future__ import annotations

import importlib.util
import multiprocessing
import subprocess
import sys
import types
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from ivlm_core.bodies import AnnyRig, Phenotype, mirrored_vertices, varied_rig
from ivlm_core.bodies import phenotypes as module
from ivlm_core.bodies.build_anny import ANNY_TO_CANONICAL
from ivlm_core.bodies.build_phenotypes import build, measure
from ivlm_core.bodies.phenotypes import (
    ASSET,
    GRID,
    corner_weights,
    measured_error,
    nearest_rotations,
    read_model,
    rig_of,
)
from ivlm_core.bodies.star_pose import star_pose_rotations
from ivlm_core.errors import InputError, MeshError

MIRROR = np.array([-1, 1, 1], np.float32)

phenotypes = st.builds(Phenotype, **{name: st.floats(knots[0], knots[-1]) for name, knots in GRID.items()})


def random_pose(rig: AnnyRig, seed: int = 0) -> dict[str, np.ndarray]:
    turns = np.random.default_rng(seed).normal(0, 0.35, (len(rig.joint_names), 3))
    return dict(zip(rig.joint_names, Rotation.from_rotvec(turns).as_matrix(), strict=True))


def mirrored(rotations: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    other = {".L": ".R", ".R": ".L"}
    flip = np.diag([-1.0, 1.0, 1.0])
    return {name[:-2] + other.get(name[-2:], name[-2:]): flip @ turn @ flip for name, turn in rotations.items()}


def test_asset_is_small_and_holds_no_pickle() -> None:
    assert ASSET.stat().st_size <= 1_500_000
    with np.load(ASSET, allow_pickle=False) as stored:
        assert all(stored[name].dtype.kind in "fuiU" for name in stored.files)


def test_measured_error_is_stored_and_small() -> None:
    error = measured_error()
    assert error["bodies"] >= 50
    assert error["mean_mm"] < 0.1
    assert error["largest_mm"] < 3


def test_neutral_phenotype_is_the_shipped_body() -> None:
    rig, shipped = varied_rig(Phenotype()), AnnyRig.load()
    for name in ("rest_vertices", "star_vertices", "joints", "bind", "vertices"):
        np.testing.assert_allclose(getattr(rig, name), getattr(shipped, name), atol=2e-5, err_msg=name)
    assert rig.metadata == shipped.metadata


@settings(max_examples=15, deadline=None)
@given(phenotypes)
def test_every_body_is_symmetric_closed_and_keeps_the_shipped_topology(phenotype: Phenotype) -> None:
    rig, shipped = varied_rig(phenotype), AnnyRig.load()
    for name in ("faces", "weights", "part_labels", "parents", "joint_names"):
        assert getattr(rig, name) is getattr(shipped, name)
    np.testing.assert_allclose(rig.rest_vertices[mirrored_vertices()] * MIRROR, rig.rest_vertices, atol=2e-6)
    np.testing.assert_allclose(rig.joints[0], 0, atol=1e-7)
    turns = rig.bind[:, :, :3].astype(np.float64)
    np.testing.assert_allclose(turns @ turns.transpose(0, 2, 1), np.tile(np.eye(3), (104, 1, 1)), atol=1e-6)
    np.testing.assert_allclose(np.linalg.det(turns), 1, atol=1e-6)
    corners = rig.vertices[rig.faces].astype(np.float64)
    volume = np.einsum("fi,fi->f", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])).sum() / 6
    assert 0.01 < volume < 0.3
    assert abs(np.ptp(rig.vertices[:, 1]) - phenotype.stature) < 0.03
    star = rig.pose(star_pose_rotations(rig.joint_names, rig.parents.tolist(), rig.joints))
    np.testing.assert_array_equal(star, rig.star_vertices)


def test_bodies_change_the_way_the_words_say() -> None:
    def volume(**values: float) -> float:
        rig = varied_rig(Phenotype(**values))
        corners = rig.vertices[rig.faces].astype(np.float64)
        return float(np.einsum("fi,fi->f", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])).sum() / 6)

    assert Phenotype(height=0.3).stature + 0.2 < Phenotype(height=0.6).stature
    assert Phenotype(gender=1.0).stature + 0.05 < Phenotype(gender=0.0).stature
    assert Phenotype(age=0.5).stature + 0.1 < Phenotype(age=0.67).stature
    assert volume(weight=0.2) < 0.9 * volume(weight=0.8)
    # At the same weight muscle takes less room than fat.
    assert volume(muscle=0.8) < volume(muscle=0.2)


def test_drawn_people_are_adults_of_natural_height() -> None:
    rng = np.random.default_rng(0)
    people = [Phenotype.draw(rng) for _ in range(600)]
    statures = np.array([person.stature for person in people])
    female = np.array([person.gender > 0.5 for person in people])
    assert statures.min() >= 1.499
    assert statures.max() <= 1.951
    assert 0.4 < female.mean() < 0.6
    assert statures[~female].mean() - statures[female].mean() == pytest.approx(0.13, abs=0.03)
    values = np.array([person.values for person in people])
    assert values.min(axis=0)[1] >= 0.6
    assert (values[:, 1:4].std(axis=0) > 0.07).all()
    assert Phenotype.draw(np.random.default_rng(5)) == Phenotype.draw(np.random.default_rng(5))


@pytest.mark.parametrize(
    "values", [{"age": 0.2}, {"gender": 1.01}, {"weight": -0.1}, {"height": float("nan")}], ids=str
)
def test_values_outside_the_range_are_refused(values: dict[str, float]) -> None:
    with pytest.raises(InputError, match=rf"phenotype\.{next(iter(values))}.*give a value from"):
        Phenotype(**values)


def test_mirroring_is_the_exact_reflection_of_the_body() -> None:
    twins, rest = mirrored_vertices(), AnnyRig.load().rest_vertices
    assert twins.dtype == np.int32
    np.testing.assert_array_equal(twins[twins], np.arange(len(rest)))
    distance, nearest = cKDTree(rest).query(rest * MIRROR)
    np.testing.assert_array_equal(twins, nearest)
    assert distance.max() < 1e-5
    with pytest.raises(ValueError, match="read-only"):
        twins[0] = 0


def test_a_mirrored_pose_gives_the_mirrored_body() -> None:
    rig = varied_rig(Phenotype(0.9, 0.8, 0.3, 0.7, 0.4))
    pose = random_pose(rig)
    left, right = rig.pose(pose), rig.pose(mirrored(pose))
    assert np.linalg.norm(left[mirrored_vertices()] * MIRROR - right, axis=1).max() < 2e-3


def test_posing_equals_dense_skinning_bone_by_bone() -> None:
    rig = varied_rig(Phenotype(0.1, 0.9, 0.7, 0.3, 0.4))
    pose = random_pose(rig)
    transforms: list[np.ndarray] = []
    for bone, (name, parent) in enumerate(zip(rig.joint_names, rig.parents, strict=True)):
        about = np.eye(4)
        about[:3, :3], head = pose[name], rig.joints[bone].astype(np.float64)
        about[:3, 3] = head - pose[name] @ head
        transforms.append((transforms[parent] if parent >= 0 else np.eye(4)) @ about)
    bind = np.concatenate([rig.bind, np.tile([[[0, 0, 0, 1]]], (104, 1, 1))], axis=1)
    blended = np.einsum("vb,bij->vij", rig.weights.astype(np.float64), np.stack(transforms) @ bind)
    expected = np.einsum("vij,vj->vi", blended[:, :3, :3], rig.rest_vertices) + blended[:, :3, 3]
    np.testing.assert_allclose(rig.pose(pose), expected, atol=2e-6)


def test_nearest_rotation_undoes_a_positive_stretch() -> None:
    rng = np.random.default_rng(0)
    rotations = Rotation.random(20, random_state=0).as_matrix()
    roots = rng.normal(size=(20, 3, 3))
    stretch = roots @ roots.transpose(0, 2, 1) + 0.1 * np.eye(3)
    np.testing.assert_allclose(nearest_rotations(rotations @ stretch), rotations, atol=1e-9)
    reflected = nearest_rotations(np.diag([3.0, 2.0, -1.0])[None])
    np.testing.assert_allclose(reflected, np.eye(3)[None], atol=1e-12)


def test_corner_weights_interpolate_linearly_between_knots() -> None:
    values = np.array([[0.25, 2 / 3, 0.5, 0.75, 1.0]])
    weights = corner_weights(values)[0]
    assert weights.sum() == pytest.approx(1)
    np.testing.assert_allclose(np.sort(weights)[-4:], [0.125, 0.125, 0.375, 0.375])
    assert (weights > 0).sum() == 4


def test_bodies_are_the_same_in_a_worker_process() -> None:
    phenotype = Phenotype.draw(np.random.default_rng(1))
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        theirs = pool.submit(varied_rig, phenotype).result()
    ours = varied_rig(phenotype)
    np.testing.assert_array_equal(theirs.pose(random_pose(theirs)), ours.pose(random_pose(ours)))


def test_bodies_need_neither_anny_nor_torch() -> None:
    code = (
        "import sys, ivlm_core.bodies as b; b.varied_rig(b.Phenotype()); "
        "print([m for m in ('torch', 'anny', 'open3d', 'trimesh') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_missing_and_damaged_asset_say_how_to_rebuild(tmp_path: Path) -> None:
    with pytest.raises(MeshError, match=r"is missing.*build_phenotypes"):
        read_model(tmp_path / "none.npz")
    content = ASSET.read_bytes()
    for damage in (b"", content[: len(content) // 2], content[:1000] + bytes(1000) + content[2000:]):
        broken = tmp_path / "broken.npz"
        broken.write_bytes(damage)
        with pytest.raises(MeshError, match=r"is damaged.*build_phenotypes"):
            read_model(broken)


class StandIn:
    """Answers as `anny.Anny()` does, in Anny's frame (z up, facing −y), with the shipped asset behind it."""

    def __init__(self, order: str = "parent first") -> None:
        import torch

        self.torch, self.order, self.shapes = torch, order, module._model()
        self.bone_labels, self.dtype = list(AnnyRig.load().joint_names), torch.float64
        self.phenotype_labels = [*GRID, "proportions"]
        self.anchors = self.stacked_phenotype_blend_shapes_mask = None
        corners = self.shapes.coefficients.astype(np.float64)
        turns = self.shapes.turns + (corners @ self.shapes.turn_basis).reshape(len(corners), -1, 3, 3)
        # The bones' zero-pose orientations are the identity here, so a rest orientation is a turn's transpose.
        linear = ANNY_TO_CANONICAL.T @ turns.transpose(0, 1, 3, 2) @ ANNY_TO_CANONICAL
        self.phenotype_blendshape_projection = torch.eye(len(corners), dtype=torch.float64)
        self.bone_template_orientation_matrices = torch.zeros(linear.shape[1:], dtype=torch.float64)
        self.bone_orientation_blendshapes = torch.from_numpy(linear)

    def __call__(self, pose_parameters: Any, phenotype_kwargs: dict[str, Any]) -> dict[str, Any]:
        assert phenotype_kwargs["proportions"] == 0.5
        rows = zip(*(phenotype_kwargs[name].tolist() for name in GRID), strict=True)
        bodies = [self.one(Phenotype(*row), pose.numpy()) for row, pose in zip(rows, pose_parameters, strict=True)]
        return {key: self.torch.from_numpy(np.stack([body[key] for body in bodies])) for key in bodies[0]}

    def one(self, phenotype: Phenotype, pose: np.ndarray) -> dict[str, np.ndarray]:
        turn, rig = ANNY_TO_CANONICAL, rig_of(phenotype, self.shapes)
        local = turn @ pose[:, :3, :3] @ turn.T
        local = local if self.order == "parent first" else local.transpose(0, 2, 1)
        rest = np.tile(np.eye(4), (len(local), 1, 1))
        bind = rig.bind.astype(np.float64)
        heads = np.einsum("bji,bj->bi", bind[:, :, :3], rig.joints.astype(np.float64) - bind[:, :, 3])
        rest[:, :3, 3] = heads @ turn
        return {
            "rest_vertices": rig.rest_vertices.astype(np.float64) @ turn,
            "vertices": rig.pose(dict(zip(rig.joint_names, local, strict=True))).astype(np.float64) @ turn,
            "bone_poses": np.tile(np.eye(4), (len(local), 1, 1)),
            "rest_bone_poses": rest,
        }


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Callable[[StandIn], None]:
    def set_up(model: StandIn) -> None:
        weights = types.SimpleNamespace(
            phenotype_blendshape_weights=lambda values, *_, **__: model.torch.from_numpy(
                corner_weights(values[:, : len(GRID)].numpy())
            )
        )
        monkeypatch.setitem(sys.modules, "anny", types.SimpleNamespace(Anny=lambda: model, __version__="0.6.2"))
        monkeypatch.setitem(sys.modules, "anny.models", types.SimpleNamespace(phenotype=weights))
        monkeypatch.setitem(sys.modules, "anny.models.phenotype", weights)

    return set_up


def test_building_reproduces_the_bodies_it_is_given(install: Callable[[StandIn], None], tmp_path: Path) -> None:
    install(StandIn())
    figures = build(tmp_path / "shapes.npz")
    assert figures["bytes"] == (tmp_path / "shapes.npz").stat().st_size
    assert figures["mean_mm"] <= figures["largest_mm"] < 1
    built = read_model(tmp_path / "shapes.npz")
    assert built.error == {name: figures[name] for name in ("bodies", "mean_mm", "largest_mm")}
    np.testing.assert_array_equal(built.twins, mirrored_vertices())
    rng = np.random.default_rng(2)
    for _ in range(3):
        phenotype = Phenotype.draw(rng)
        ours, shipped = rig_of(phenotype, built), varied_rig(phenotype)
        for name in ("rest_vertices", "joints", "vertices"):
            np.testing.assert_allclose(getattr(ours, name), getattr(shipped, name), atol=3e-4, err_msg=name)


def test_another_pose_convention_is_refused_and_leaves_nothing(
    install: Callable[[StandIn], None], tmp_path: Path
) -> None:
    install(StandIn(order="inverse"))
    with pytest.raises(MeshError, match="mm away from Anny's own"):
        build(tmp_path / "shapes.npz")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.soak
@pytest.mark.skipif(importlib.util.find_spec("anny") is None, reason="the anny package is not installed")
def test_bodies_equal_annys_own_in_random_poses() -> None:
    import anny

    error = measure(anny.Anny(), ASSET, bodies=10, seed=1)
    assert error["mean_mm"] < 1.5 * measured_error()["mean_mm"]
    assert error["largest_mm"] < 5
