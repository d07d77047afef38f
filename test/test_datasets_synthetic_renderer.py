from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ivlm_core.bodies import AnnyRig
from ivlm_core.datasets.synthetic import (
    GROUND,
    NOTHING,
    PERSON,
    PlacedObject,
    Render,
    Scene,
    SceneCamera,
    SceneRenderer,
    Surroundings,
)
from ivlm_core.datasets.synthetic.programs.compose import compose
from ivlm_core.datasets.synthetic.renderer import corner_normals
from ivlm_core.objects import library_shape


@pytest.fixture(scope="module")
def scene() -> Scene:
    return compose(np.random.default_rng(3), "test", "laptop", "lap, both hands", "chair")


@pytest.fixture(scope="module")
def camera(scene: Scene) -> SceneCamera:
    return SceneCamera.orbit(scene.focus, 2.5, 35, 10)


@pytest.fixture(scope="module")
def render(scene: Scene, camera: SceneCamera) -> Render:
    return SceneRenderer(scene).render(camera, np.random.default_rng(0))


def test_ids_and_depth_agree_with_the_projected_meshes(scene: Scene, camera: SceneCamera, render: Render) -> None:
    """A vertex whose projected depth is the depth image's is visible, and its pixel carries its mesh's id."""
    rng = np.random.default_rng(0)
    meshes = {PERSON: scene.body_vertices} | {
        scene.object_id(index): placed.vertices for index, placed in enumerate(scene.objects)
    }
    for identifier, vertices in meshes.items():
        pixels, depth = camera.project(rng.permutation(vertices)[:2000])
        column, row = np.rint(pixels).astype(int).T
        inside = (column >= 0) & (column < 640) & (row >= 0) & (row < 480)
        seen = render.depth[row[inside], column[inside]]
        visible = np.abs(seen - depth[inside]) < 2e-3
        assert visible.sum() > 50
        assert (render.ids[row[inside], column[inside]][visible] == identifier).mean() > 0.97
        # Nothing is drawn behind what hides it: no visible surface is further away than a vertex in the same pixel,
        # but for silhouettes, where half a pixel decides.
        assert (seen < depth[inside] + 0.01).mean() > 0.9


def test_boxes_hold_exactly_their_pixels(scene: Scene, render: Render) -> None:
    for index in range(len(scene.objects)):
        mask = render.ids == scene.object_id(index)
        box = render.box(scene.object_id(index))
        assert box is not None
        x_min, y_min, x_max, y_max = box
        outside = mask.copy()
        outside[int(y_min + 0.5) : int(y_max + 0.5), int(x_min + 0.5) : int(x_max + 0.5)] = False
        assert not outside.any()
        top, bottom, left, right = (int(value) for value in (y_min + 0.5, y_max - 0.5, x_min + 0.5, x_max - 0.5))
        for side in (mask[top], mask[bottom], mask[:, left], mask[:, right]):
            assert side.any()
    assert render.box(99) is None


def test_floor_is_where_the_plane_is(camera: SceneCamera, render: Render) -> None:
    origin, directions = camera.rays()
    ground = render.ids == GROUND
    heights = (origin + render.depth[..., None] * directions)[ground][:, 1]
    np.testing.assert_allclose(heights, 0, atol=1e-4)
    assert (render.depth[render.ids == NOTHING] == 0).all()
    assert (render.depth[render.ids != NOTHING] > 0).all()


def test_same_seed_same_picture(scene: Scene, camera: SceneCamera, render: Render) -> None:
    again = SceneRenderer(scene).render(camera, np.random.default_rng(0))
    np.testing.assert_array_equal(again.image, render.image)
    np.testing.assert_array_equal(again.ids, render.ids)


def test_picture_shows_objects_in_their_colours_and_a_shadow() -> None:
    red = PlacedObject(library_shape("box"), translation=np.array([0, 0.15, 0]), color=(200, 20, 20))
    hidden = PlacedObject(library_shape("ball"), translation=np.array([0, -5.0, 0]))
    far = np.full((3, 3), 50.0, dtype=np.float32) + np.eye(3, dtype=np.float32)
    scene = Scene("box", far, np.array([[0, 1, 2]], np.int32), np.zeros((3, 3), np.uint8), [red, hidden])
    render = SceneRenderer(scene).render(SceneCamera.orbit((0, 0.1, 0), 1.5, 180, 35), np.random.default_rng(0))
    on_box = render.image[render.ids == scene.object_id(0)].astype(int)
    assert (on_box[:, 0] > on_box[:, 1] + 30).mean() > 0.99
    assert render.box(scene.object_id(1)) is None
    # The lamp is in front, so seen from behind the floor near the box is darker than the floor far from it.
    floor = render.image.mean(axis=2)[render.ids == GROUND]
    assert np.percentile(floor, 2) < 0.75 * np.median(floor)


def test_segments_are_body_parts_and_objects(scene: Scene, camera: SceneCamera, render: Render) -> None:
    """Where a vertex is seen, the segment is its body part, but for the seams between parts."""
    labels = AnnyRig.load().part_labels
    pixels, depth = camera.project(scene.body_vertices)
    column, row = np.rint(pixels).astype(int).T
    inside = (column >= 0) & (column < 640) & (row >= 0) & (row < 480)
    seen = np.flatnonzero(inside)[np.abs(render.depth[row[inside], column[inside]] - depth[inside]) < 2e-3]
    assert (render.segments[row[seen], column[seen]] == 2 + labels[seen]).mean() > 0.93
    for index in range(len(scene.objects)):
        np.testing.assert_array_equal(render.segments == 17 + index, render.ids == scene.object_id(index))
    assert (render.segments[render.ids == GROUND] == 1).all()
    assert (render.segments[render.ids == NOTHING] == 0).all()


def test_coarse_count_is_near_the_true_one(scene: Scene, camera: SceneCamera, render: Render) -> None:
    counted = SceneRenderer(scene).count_pixels(camera)
    for identifier in (PERSON, scene.object_id(0), scene.object_id(1)):
        assert counted[identifier] == pytest.approx((render.ids == identifier).sum(), rel=0.15)


@pytest.mark.parametrize("seed", range(3))
def test_surroundings_change_the_picture_and_not_what_is_known(scene: Scene, camera: SceneCamera, seed: int) -> None:
    rng = np.random.default_rng(seed)
    plain = SceneRenderer(scene).render(camera, rng)
    other = SceneRenderer(scene, replace(Surroundings.draw(rng), wall_distance=0.3)).render(camera, rng)
    shown = plain.ids >= PERSON
    np.testing.assert_array_equal(plain.ids[shown], other.ids[shown])
    np.testing.assert_array_equal(plain.depth[shown], other.depth[shown])
    np.testing.assert_array_equal(plain.parts, other.parts)
    # The wall is behind everything, hides the floor beyond it, and has a depth.
    assert ((plain.ids == GROUND) | (other.ids != GROUND)).all()
    assert (other.depth[other.ids == NOTHING] > plain.depth[plain.ids == PERSON].min()).all()
    assert np.abs(plain.image.astype(int) - other.image).mean() > 5


def test_normals_keep_the_edges_of_a_box_and_smooth_a_ball() -> None:
    box = library_shape("box").mesh
    normals = corner_normals(box.vertices, box.faces)
    np.testing.assert_allclose(np.abs(normals).max(axis=2), 1, atol=1e-6)
    ball = library_shape("ball").mesh
    radial = ball.vertices / np.linalg.norm(ball.vertices, axis=1, keepdims=True)
    np.testing.assert_allclose(corner_normals(ball.vertices, ball.faces), radial[ball.faces], atol=0.02)


def test_degenerate_faces_give_finite_normals() -> None:
    vertices = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [2, 0, 0]], dtype=np.float32)
    faces = np.array([[0, 1, 2], [0, 1, 3], [1, 1, 1]], dtype=np.int32)
    assert np.isfinite(corner_normals(vertices, faces)).all()
