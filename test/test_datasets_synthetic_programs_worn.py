"""Worn bags: straps on the shoulders that the mode names, lying on the body, and shapes that can be built again."""

from __future__ import annotations

from contextlib import suppress
from functools import lru_cache

import numpy as np
import pytest

from ivlm_core.bodies import AnnyRig, Phenotype, varied_rig
from ivlm_core.datasets.synthetic.contact import check_scene, touches
from ivlm_core.datasets.synthetic.programs.stage import Stage, Unreachable
from ivlm_core.datasets.synthetic.programs.standing import stand
from ivlm_core.datasets.synthetic.programs.worn import ACTIONS, MODES, Skin
from ivlm_core.datasets.synthetic.scene import PlacedObject, Scene
from ivlm_core.objects import library_shape

DRAWS = 8
CASES = [(label, mode) for label, modes in MODES.items() for mode in modes]


@lru_cache(maxsize=32)
def valid(label: str, mode: str) -> Scene:
    problems: list[str] = []
    for seed in range(DRAWS):
        rng = np.random.default_rng(seed)
        person = Phenotype.draw(rng)
        stage = Stage(rng, varied_rig(person), person.values)
        stand(stage)
        with suppress(Unreachable):
            ACTIONS[label](stage, label, mode)
            for side in ("L", "R"):
                if side in stage.free:
                    stage.idle(side)
            scene = stage.scene(label)
            problems = check_scene(scene)
            if not problems:
                return scene
    raise AssertionError(f"{label}, {mode}: no valid scene in {DRAWS} draws; last: {problems}")


def worn(label: str, mode: str) -> PlacedObject:
    return valid(label, mode).objects[0]


@pytest.mark.parametrize(("label", "mode"), CASES)
def test_bags_are_worn_and_carried_as_the_mode_says(label: str, mode: str) -> None:
    placed = worn(label, mode)
    assert placed.mode == mode
    if "hand" in mode:
        assert placed.parts == {mode}


@pytest.mark.parametrize(("mode", "straps"), [("both straps", {"left", "right"}), ("left shoulder", {"left"})])
def test_straps_lie_on_the_chest(mode: str, straps: set[str]) -> None:
    scene = valid("backpack", mode)
    pack = scene.objects[0]
    touched = touches(scene)[0].object
    for side in ("left", "right"):
        strap = list(pack.shape.parts).index(f"{side} strap")
        mine = pack.shape.part_of_vertex == strap
        before_chest = pack.vertices[mine & touched, 2].max(initial=-1) > scene.joints[:, 2].mean()
        assert before_chest == (side in straps)
        if side in straps:
            assert touched[mine].mean() > 0.35


def test_bag_is_behind_the_back() -> None:
    scene = valid("backpack", "both straps")
    pack = scene.objects[0]
    bag = pack.to_world(pack.shape.parts["bag"].vertices)
    spine = scene.joints[AnnyRig.load().joint_names.index("spine02")]
    assert bag[:, 2].mean() < spine[2] - 0.1
    assert abs(bag[:, 0].mean() - spine[0]) < 0.1


def test_bag_on_one_shoulder_is_on_its_side() -> None:
    middles = {mode: worn("backpack", mode).translation[0] for mode in ("left shoulder", "right shoulder")}
    assert middles["left shoulder"] > middles["right shoulder"]


@pytest.mark.parametrize(("label", "mode"), [("backpack", "both straps"), ("handbag", "left shoulder")])
def test_sizes_build_the_worn_shape_again(label: str, mode: str) -> None:
    shape = worn(label, mode).shape
    again = library_shape(label, **shape.sizes)
    np.testing.assert_array_equal(again.mesh.vertices, shape.mesh.vertices)
    assert all(isinstance(value, (int, float)) for value in shape.sizes.values())


def test_worn_straps_are_closed() -> None:
    import trimesh

    for name in ("left strap", "right strap"):
        part = worn("backpack", "both straps").shape.parts[name]
        solid = trimesh.Trimesh(part.vertices, part.faces, process=False)
        assert solid.is_watertight
        assert solid.volume > 0


def test_handbag_hangs_under_its_arm() -> None:
    for side, sign in (("left", 1), ("right", -1)):
        scene = valid("handbag", f"{side} shoulder")
        bag = scene.objects[0]
        strap = bag.to_world(bag.shape.anchors["handle"].point[None])[0]
        shoulder = scene.joints[AnnyRig.load().joint_names.index(f"upperarm01.{side[0].upper()}")]
        assert sign * bag.translation[0] > 0.1
        assert 0 < strap[1] - shoulder[1] < 0.12
        assert sign * (shoulder[0] - strap[0]) > 0


def test_back_is_taken_by_a_backpack() -> None:
    stage = Stage(np.random.default_rng(0), AnnyRig.load())
    stand(stage)
    stage.take("back")
    with pytest.raises(Unreachable, match="back"):
        ACTIONS["backpack"](stage, "backpack", "both straps")


def test_skin_knows_its_inside() -> None:
    stage = Stage(np.random.default_rng(0), AnnyRig.load())
    skin = Skin(stage, "torso", "hips")
    middle = stage.points("torso").mean(axis=0)
    distance, normal = skin.distances(np.stack([middle, middle + np.array([0.0, 0.0, 0.4])]))
    assert distance[0] < -0.03
    assert distance[1] > 0.2
    np.testing.assert_allclose(np.linalg.norm(normal, axis=1), 1, atol=1e-5)
