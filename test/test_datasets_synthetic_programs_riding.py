from __future__ import annotations

from functools import lru_cache

import numpy as np
import pytest

from ivlm_core.bodies import AnnyRig
from ivlm_core.datasets.synthetic import Scene
from ivlm_core.datasets.synthetic.contact import touches
from ivlm_core.datasets.synthetic.programs.compose import compose
from ivlm_core.datasets.synthetic.programs.stage import part

RIG = AnnyRig.load()
MACHINES = ("bicycle", "motorcycle")
RIDES = ("ride, both hands", "ride, left hand", "ride, right hand")


@lru_cache(maxsize=6)
def made(category: str, mode: str) -> Scene:
    split = "unseen" if category == "motorcycle" else "train"
    return compose(np.random.default_rng(6), split, category, mode)


def joint(scene: Scene, name: str) -> np.ndarray:
    assert scene.joints is not None
    return scene.joints[RIG.joint_names.index(name)]


@pytest.mark.parametrize("mode", RIDES)
@pytest.mark.parametrize("machine", MACHINES)
def test_riders_sit_with_both_feet_on_the_pedals(machine: str, mode: str) -> None:
    scene = made(machine, mode)
    placed = scene.objects[0]
    saddle = placed.to_world(placed.shape.anchors["saddle"].point[None])[0]
    assert np.linalg.norm((joint(scene, "root") - saddle)[[0, 2]]) < 0.12
    touch = touches(scene)[0].body
    assert touch[part(RIG, "hips", "left thigh", "right thigh")].sum() >= 8
    for side, foot in (("left", "left foot"), ("right", "right foot")):
        pedal = placed.to_world(placed.shape.anchors[f"pedal {side}"].point[None])[0]
        sole = scene.body_vertices[part(RIG, foot)]
        assert np.linalg.norm(sole - pedal, axis=1).min() < 0.02
        assert touch[part(RIG, foot)].sum() >= 8


@pytest.mark.parametrize("mode", RIDES)
@pytest.mark.parametrize("machine", MACHINES)
def test_hands_close_around_the_grips_that_the_mode_names(machine: str, mode: str) -> None:
    scene = made(machine, mode)
    placed = scene.objects[0]
    touch = touches(scene)[0].body
    for side, name in (("left", "left hand"), ("right", "right hand")):
        vertices = part(RIG, name)
        if name not in mode and "both hands" not in mode:
            assert not touch[vertices].any()
            continue
        anchor = placed.shape.anchors[f"grip {side}"]
        around = scene.body_vertices[vertices][touch[vertices]] - placed.to_world(anchor.point[None])[0]
        axis = placed.rotation @ anchor.direction
        around = around - (around @ axis)[:, None] * axis
        around /= np.linalg.norm(around, axis=1, keepdims=True)
        # Fingers on one side of the bar, palm or thumb on the other.
        assert (around @ around.T).min() < -0.5


@pytest.mark.parametrize("machine", MACHINES)
def test_wheels_are_on_the_floor(machine: str) -> None:
    for mode in ("ride, both hands", "beside, left hand on the grip"):
        placed = made(machine, mode).objects[0]
        assert placed.vertices[:, 1].min() == pytest.approx(0, abs=1e-3)
        np.testing.assert_allclose(placed.rotation[:, 1], [0, 1, 0], atol=1e-9)


@pytest.mark.parametrize("hand", ["left hand", "right hand"])
@pytest.mark.parametrize("machine", MACHINES)
def test_who_stands_beside_it_holds_the_near_grip(machine: str, hand: str) -> None:
    scene = made(machine, f"beside, {hand} on the grip")
    out = 1.0 if hand == "left hand" else -1.0
    assert scene.objects[0].translation[0] * out > 0.3
    touched = np.flatnonzero(touches(scene)[0].body)
    assert set(RIG.part_labels[touched]) == set(RIG.part_labels[part(RIG, hand)])
    for foot in ("left foot", "right foot"):
        assert abs(scene.body_vertices[part(RIG, foot), 1].min()) < 0.005


def test_bicycles_fit_their_riders() -> None:
    """The lower leg is nearly stretched at the lower pedal, and never locked."""
    for seed in range(6):
        scene = compose(np.random.default_rng(seed), "train", "bicycle", "ride, both hands")
        bends = []
        for side in "LR":
            hip, knee, ankle = (joint(scene, f"{bone}.{side}") for bone in ("upperleg01", "lowerleg01", "foot"))
            straight = np.linalg.norm(hip - knee) + np.linalg.norm(knee - ankle)
            bends.append(np.linalg.norm(hip - ankle) / straight)
        assert 0.8 < max(bends) < 0.999
