from __future__ import annotations

import numpy as np
import pytest

from ivlm_core.bodies import PART_NAMES, AnnyRig
from ivlm_core.datasets.synthetic.pose import turn
from ivlm_core.datasets.synthetic.programs.stage import (
    LEFT,
    UP,
    Stage,
    TableTop,
    Unreachable,
    hands_of,
    part,
    points_of,
)
from ivlm_core.objects import library_shape


@pytest.fixture
def stage() -> Stage:
    return Stage(np.random.default_rng(0), AnnyRig.load())


def test_a_limb_is_taken_once(stage: Stage) -> None:
    stage.take("L", "back")
    assert stage.free == {"R", "lap"}
    with pytest.raises(Unreachable, match="needs L, which is not free"):
        stage.take("L")


def test_parts_of_the_body_are_all_of_it(stage: Stage) -> None:
    found = np.concatenate([part(stage.rig, name) for name in PART_NAMES])
    np.testing.assert_array_equal(np.sort(found), np.arange(len(stage.rig.part_labels)))
    chosen = part(stage.rig, "head", "left foot")
    assert set(stage.rig.part_labels[chosen]) == {PART_NAMES.index("head"), PART_NAMES.index("left foot")}


@pytest.mark.parametrize(
    ("mode", "hands"),
    [
        ("sit", ()),
        ("sit, left hand on the seat", ("L",)),
        ("right hand", ("R",)),
        ("ride, both hands", ("L", "R")),
        ("left foot", ()),
        ("left shoulder", ()),
    ],
)
def test_hands_that_a_mode_names(mode: str, hands: tuple[str, ...]) -> None:
    assert hands_of(mode) == hands


def test_touching_adds_to_what_was_said_before(stage: Stage) -> None:
    placed = stage.place(library_shape("chair"), np.eye(3), np.zeros(3), "sit", ["hips"])
    other = stage.place(library_shape("bottle"), np.eye(3), np.zeros(3))
    stage.touch(placed, "sit, left hand", ["left hand"])
    assert stage.objects[0].parts == {"hips", "left hand"}
    assert stage.objects[0].mode == "sit, left hand"
    assert stage.objects[1] is other


def test_table_is_followed_when_it_is_touched(stage: Stage) -> None:
    placed = stage.place(library_shape("table"), np.eye(3), np.zeros(3), name="dining table")
    stage.set_table(placed, TableTop(0.7, 0.1, 0.8, -0.5, 0.5))
    assert stage.table is placed
    stage.touch(placed, "left hand", ["left hand"])
    assert stage.table is not None
    assert stage.table.parts == {"left hand"}


def test_clearance_is_the_distance_to_boxes(stage: Stage) -> None:
    """A box turned by 90 degrees, seen from outside, from a corner, and from inside."""
    assert stage.clearance(np.zeros((1, 3))) == np.inf
    stage.place(library_shape("box", width=0.2, height=0.4, depth=0.6), turn(UP, 90), np.array([1.0, 0.0, 0.0]))
    assert stage.clearance(np.array([[0.5, 0.0, 0.0]])) == pytest.approx(0.2)
    assert stage.clearance(np.array([[1.3 + 0.03, 0.2 + 0.04, 0.0]])) == pytest.approx(0.05)
    assert stage.clearance(np.array([[5.0, 0, 0], [1.0, 0.15, 0.0]])) == pytest.approx(-0.05)


def test_finished_scene_stands_on_the_floor(stage: Stage) -> None:
    stage.poser.bend("upperleg01.L", LEFT, -40)
    stage.floor = -1.2
    bottle = stage.place(library_shape("bottle"), np.eye(3), np.array([0.3, 0.1, 0.2]), "left hand", ["left hand"])
    scene = stage.scene("a scene")
    np.testing.assert_allclose(scene.body_vertices, stage.vertices() + 1.2 * UP, atol=1e-6)
    np.testing.assert_allclose(scene.objects[0].translation, bottle.translation + 1.2 * UP)
    assert (scene.objects[0].mode, scene.objects[0].parts) == ("left hand", {"left hand"})
    np.testing.assert_allclose(scene.joints[0], scene.translation, atol=1e-6)
    again = stage.rig.pose(scene.rotations) + scene.translation
    np.testing.assert_allclose(again, scene.body_vertices, atol=1e-5)


def test_instances_keep_what_is_asked_for(stage: Stage) -> None:
    shape = stage.shape("chair", seat_height=0.6, height=1.0)
    assert shape.sizes["seat_height"] == 0.6
    assert stage.shape("chair", shape.sizes, arm_height=0.2).sizes == {**shape.sizes, "arm_height": 0.2}
    assert len(points_of(stage)) == len(stage.rig.part_labels)
