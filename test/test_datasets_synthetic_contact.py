from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ivlm_core.bodies import PART_NAMES, AnnyRig
from ivlm_core.datasets.synthetic import PlacedObject, Scene, check_scene, touches
from ivlm_core.datasets.synthetic.contact import (
    BODY_THRESHOLD,
    MAX_DEPTH,
    MAX_HAND_DEPTH,
    OBJECT_THRESHOLD,
    problems,
)
from ivlm_core.datasets.synthetic.programs.compose import compose
from ivlm_core.objects import Shape, library_shape
from ivlm_core.objects.shapes.primitives import Solid, box, ellipsoid
from ivlm_core.types import Mesh

RADIUS = 0.3
SLAB = 0.2


def mesh_of(solid: Solid) -> Mesh:
    return Mesh(solid.vertices.astype(np.float32), solid.faces.astype(np.int32))


def shape_of(solid: Solid) -> Shape:
    return Shape("slab", {"slab": mesh_of(solid)})


def scene_of(body: Mesh, *objects: PlacedObject, lift: float = 1.0) -> Scene:
    vertices = body.vertices + np.float32([0, lift, 0])
    raised = [replace(item, translation=item.translation + np.array([0, lift, 0])) for item in objects]
    return Scene("test", vertices, body.faces, np.zeros((len(vertices), 3), np.uint8), raised)


@lru_cache
def holding() -> Scene:
    """A person who holds a bottle in the left hand and rests the right one on a table."""
    rng = np.random.default_rng(0)
    scene = compose(rng, "test", "dining table", "right hand", "stand at table", ("bottle", "left hand"))
    table, bottle = scene.objects[:2]
    return replace(scene, objects=[bottle, table])


@settings(max_examples=25, deadline=None)
@given(gap=st.floats(-0.03, 0.03))
def test_contact_is_what_the_plane_says(gap: float) -> None:
    """A ball over a slab: the distance of every vertex of either is known, and so are the vertices in contact."""
    ball = mesh_of(ellipsoid((RADIUS, RADIUS, RADIUS), 4))
    slab = shape_of(box((0.8, SLAB, 0.8), 0.02))
    scene = scene_of(ball, PlacedObject(slab, translation=np.array([0, -RADIUS - gap - SLAB / 2, 0])))
    (touch,) = touches(scene)
    height = ball.vertices[:, 1] + RADIUS + gap
    expected = height < BODY_THRESHOLD
    near_threshold = np.abs(height - BODY_THRESHOLD) < 1e-4
    np.testing.assert_array_equal(touch.body[~near_threshold], expected[~near_threshold])
    # The slab's top is touched where the ball is within a centimetre, give or take the fineness of the meshes.
    slab_vertices = slab.mesh.vertices
    away = np.linalg.norm(slab_vertices - np.array([0, RADIUS + gap + SLAB / 2, 0]), axis=1) - RADIUS
    top = slab_vertices[:, 1] > SLAB / 2 - 1e-4
    assert touch.object[top & (away < OBJECT_THRESHOLD - 2e-3)].all()
    assert not touch.object[away > OBJECT_THRESHOLD + 0.02].any()
    assert not touch.object[~top & (slab_vertices[:, 1] < 0)].any()
    assert touch.depth == pytest.approx(max(0.0, -gap), abs=2e-3)


def test_surfaces_that_face_the_same_way_do_not_touch() -> None:
    """A plate of a centimetre over a slab: its upper side is within the threshold and looks away."""
    plate = mesh_of(box((0.3, 0.01, 0.3), 0.02))
    slab = PlacedObject(shape_of(box((0.8, 0.2, 0.8), 0.05)), translation=np.array([0, -0.11, 0]))
    scene = scene_of(plate, slab)
    (touch,) = touches(scene)
    inner = (np.abs(plate.vertices[:, [0, 2]]) < 0.14).all(axis=1)
    lower = plate.vertices[:, 1] < 0
    assert BODY_THRESHOLD > 0.015
    assert touch.body[inner & lower].all()
    assert not touch.body[inner & ~lower].any()


def test_of_two_things_only_the_nearer_is_touched() -> None:
    """A hand on a board of a centimetre that lies on a table touches the board, beside it the table."""
    plate = mesh_of(box((0.3, 0.05, 0.3), 0.02))
    board = PlacedObject(shape_of(box((0.1, 0.01, 0.1), 0.02)), translation=np.array([0, -0.032, 0]))
    table = PlacedObject(shape_of(box((0.8, 0.2, 0.8), 0.05)), translation=np.array([0, -0.142, 0]))
    on_board, on_table = touches(scene_of(plate, board, table))
    lower = plate.vertices[:, 1] < -0.02
    above = lower & (np.abs(plate.vertices[:, [0, 2]]) < 0.05).all(axis=1)
    beside = lower & (np.abs(plate.vertices[:, [0, 2]]).max(axis=1) > 0.08)
    assert above.any()
    assert on_board.body[above].all()
    assert not on_table.body[above].any()
    assert on_table.body[beside].all()
    (alone,) = touches(scene_of(plate, table))
    assert alone.body[above].all()


def test_what_is_too_deep_is_not_in_contact() -> None:
    ball = mesh_of(ellipsoid((0.1, 0.1, 0.1), 4))
    slab = PlacedObject(shape_of(box((0.8, 0.8, 0.8), 0.05)), translation=np.array([0, -0.45, 0]))
    scene = scene_of(ball, slab)
    (touch,) = touches(scene)
    depth = -0.05 - ball.vertices[:, 1]
    assert touch.depth == pytest.approx(0.05, abs=1e-3)
    assert not touch.body[depth > MAX_DEPTH + 1e-4].any()
    assert touch.body[(depth > 0) & (depth < MAX_DEPTH - 1e-4)].all()


def test_inside_of_overlapping_parts_is_inside() -> None:
    """The distance to an object is the least over its parts; one mesh of both would take their overlap for outside."""
    parts = {
        "left": mesh_of(box((0.2, 0.1, 0.2), 0.03)),
        "right": mesh_of(box((0.2, 0.1, 0.2), 0.03).moved((0.1, 0, 0))),
    }
    ball = mesh_of(ellipsoid((0.01, 0.01, 0.01), 3).moved((0.05, 0.035, 0)))
    (touch,) = touches(scene_of(ball, PlacedObject(Shape("two", parts))))
    assert touch.body.all()
    assert touch.depth > 0.005


@pytest.mark.parametrize("turn", [0.4, 2.6])
def test_contact_does_not_depend_on_where_the_scene_is(turn: float) -> None:
    scene = holding()
    rotation = np.array([[np.cos(turn), 0, np.sin(turn)], [0, 1, 0], [-np.sin(turn), 0, np.cos(turn)]])
    shift = np.array([0.7, 0.0, -1.3])
    moved = replace(
        scene,
        body_vertices=(scene.body_vertices @ rotation.T + shift).astype(np.float32),
        objects=[
            replace(item, rotation=rotation @ item.rotation, translation=rotation @ item.translation + shift)
            for item in scene.objects
        ],
    )
    for here, there in zip(touches(scene), touches(moved), strict=True):
        assert (here.body != there.body).sum() <= 3
        assert (here.object != there.object).sum() <= 3
        assert here.depth == pytest.approx(there.depth, abs=1e-4)


def test_valid_scene_has_no_problems() -> None:
    assert check_scene(holding()) == []
    assert next(problems(holding()), None) is None


def changed(number: int, **changes: object) -> Scene:
    scene = holding()
    objects = list(scene.objects)
    objects[number] = replace(objects[number], **changes)  # type: ignore[arg-type]
    return replace(scene, objects=objects)


def test_wrong_hand_is_found() -> None:
    found = " ".join(check_scene(changed(0, parts=frozenset({"right hand"}))))
    assert "not touched by the right hand" in found
    assert "also touched by left hand" in found


def test_floating_object_is_found() -> None:
    away = holding().objects[0].translation + np.array([0.5, 0.3, 0])
    assert "bottle is hardly touched (0 vertices)" in check_scene(changed(0, translation=away))


def test_touched_object_that_should_not_be_is_found() -> None:
    assert any("is touched by" in problem for problem in check_scene(changed(0, parts=frozenset(), mode="")))


def test_object_in_the_body_and_in_another_object_is_found() -> None:
    scene = holding()
    chest = scene.body_vertices[AnnyRig.load().part_labels == PART_NAMES.index("torso")].mean(axis=0)
    found = " ".join(check_scene(changed(0, translation=chest)))
    assert "deep in the body" in found
    table = scene.objects[1]
    top = table.vertices[:, 1].max()
    inside = replace(scene.objects[0], translation=np.array([0.0, top - 0.02, table.translation[2]]))
    assert any("inside the dining table" in problem for problem in check_scene(replace(scene, objects=[inside, table])))


def test_below_the_floor_is_found() -> None:
    scene = holding()
    sunk = replace(scene, body_vertices=scene.body_vertices - np.float32([0, 0.05, 0]))
    assert any("below the floor" in problem for problem in check_scene(sunk))


@pytest.mark.parametrize("hand", ["left hand", "right hand"])
def test_hand_inside_the_trunk_is_found(hand: str) -> None:
    scene = holding()
    labels = AnnyRig.load().part_labels
    vertices = scene.body_vertices.copy()
    moved = labels == PART_NAMES.index(hand)
    belly = vertices[labels == PART_NAMES.index("hips")].mean(axis=0)
    vertices[moved] += belly - vertices[moved].mean(axis=0)
    assert any(f"the {hand} is" in problem for problem in check_scene(replace(scene, body_vertices=vertices)))
    # The same hand held in front of the belly is not.
    vertices[moved] += np.float32([0, 0, 0.35])
    assert not any(f"the {hand} is" in problem for problem in check_scene(replace(scene, body_vertices=vertices)))
    assert MAX_HAND_DEPTH < 0.05


def test_default_shapes_of_the_library_touch_nothing_far_away() -> None:
    ball = mesh_of(ellipsoid((0.1, 0.1, 0.1), 3))
    placed = PlacedObject(library_shape("chair"), translation=np.array([3.0, 0, 0]))
    (touch,) = touches(scene_of(ball, placed))
    assert not touch.body.any()
    assert not touch.object.any()
    assert touch.depth == 0
