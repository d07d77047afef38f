from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ivlm_core.bodies import AnnyRig
from ivlm_core.datasets.synthetic import PlacedObject, Scene, SceneCamera, framed
from ivlm_core.datasets.synthetic.camera import front
from ivlm_core.datasets.synthetic.pose import turn
from ivlm_core.errors import InputError
from ivlm_core.objects import library_shape


def test_optical_frame_is_rep_103() -> None:
    """Seen from the front of a body that faces +z: its left is on the right of the picture, its head is up."""
    camera = SceneCamera.look_at((0, 1, 3), (0, 1, 0))
    pixels, depth = camera.project(np.array([[0, 1, 0], [0.5, 1, 0], [0, 1.5, 0]]))
    np.testing.assert_allclose(depth, 3)
    np.testing.assert_allclose(pixels, [[319.5, 239.5], [419.5, 239.5], [319.5, 139.5]])


@pytest.mark.parametrize("azimuth", [0, 75, -140])
def test_rotation_is_proper_and_level(azimuth: float) -> None:
    camera = SceneCamera.orbit((0.1, 0.9, -0.2), 2.5, azimuth, 20)
    np.testing.assert_allclose(camera.rotation @ camera.rotation.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(camera.rotation) == pytest.approx(1)
    assert camera.rotation[0, 1] == pytest.approx(0)


def test_rays_are_the_inverse_of_projecting() -> None:
    camera = SceneCamera.orbit((0, 1, 0), 2, 30, 10)
    origin, directions = camera.rays()
    points = origin + 1.7 * directions
    pixels, depth = camera.project(points.reshape(-1, 3))
    columns, rows = np.meshgrid(np.arange(640), np.arange(480))
    np.testing.assert_allclose(depth, 1.7, atol=1e-5)
    np.testing.assert_allclose(pixels.reshape(480, 640, 2), np.stack([columns, rows], axis=-1), atol=1e-3)


def test_points_behind_the_camera_have_no_pixel() -> None:
    pixels, depth = SceneCamera.look_at((0, 1, 3), (0, 1, 0)).project(np.array([[0.0, 1.0, 4.0]]))
    assert depth[0] < 0
    assert np.isnan(pixels).all()


def test_camera_straight_above_is_refused() -> None:
    with pytest.raises(InputError, match=r"camera\.target"):
        SceneCamera.look_at((0, 3, 0), (0, 1, 0))


def person(heading: float = 0.0, lying: bool = False) -> Scene:
    """The zero pose, turned about the vertical by `heading` degrees, or on its back with the head towards +z."""
    rig = AnnyRig.load()
    angle = np.radians(heading)
    rotation = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])
    if lying:
        rotation = np.array([[-1.0, 0, 0], [0, 0, 1], [0, 1, 0]])
    vertices = rig.vertices @ rotation.T
    lift = np.array([0, -vertices[:, 1].min(), 0])
    joints = (rig.joints @ rotation.T + lift).astype(np.float32)
    colors = np.zeros((len(vertices), 3), np.uint8)
    return Scene("person", (vertices + lift).astype(np.float32), rig.faces, colors, [], joints=joints)


@pytest.mark.parametrize("heading", [0, 110, -60])
@pytest.mark.parametrize("seed", range(8))
def test_person_fills_the_picture_and_is_seen_from_the_front(heading: float, seed: int) -> None:
    scene = person(heading)
    view = framed(scene, np.random.default_rng(seed))
    pixels, depth = view.camera.project(scene.body_vertices)
    assert (depth > 0).all()
    assert ((pixels > -0.5) & (pixels < [255.5, 191.5])).all(axis=1).mean() > 0.99
    extent = np.ptp(pixels, axis=0) / [256, 192]
    assert 0.66 < extent.max() < 0.99
    assert view.camera.position[1] > 0.1
    # The azimuth is about the person's own front, positive on their left.
    away = view.camera.position - scene.body_vertices.mean(axis=0)
    facing = np.degrees(np.arctan2(away[0], away[2])) - heading
    assert (facing - view.azimuth + 180) % 360 - 180 == pytest.approx(0, abs=3)
    assert abs(view.azimuth) <= 80


def test_same_seed_same_camera() -> None:
    first, again = (framed(person(), np.random.default_rng(5)).camera for _ in range(2))
    np.testing.assert_array_equal(first.position, again.position)
    assert first.intrinsics == again.intrinsics


def test_lying_person_is_seen_from_the_side_and_from_above() -> None:
    scene = person(lying=True)
    sides = set()
    for seed in range(12):
        rng = np.random.default_rng(seed)
        forward, lying = front(scene, rng)
        assert lying
        assert abs(forward[0]) > 0.99  # the body lies along z
        sides.add(np.sign(forward[0]))
        camera = framed(scene, np.random.default_rng(seed)).camera
        assert camera.position[1] > scene.body_vertices[:, 1].mean() + 0.3
    assert sides == {-1.0, 1.0}


def test_lying_person_is_seen_from_the_open_side_of_the_couch() -> None:
    couch = PlacedObject(library_shape("couch"), rotation=turn((0, 1, 0), 90), parts=frozenset({"torso"}))
    scene = replace(person(lying=True), objects=[couch])
    for seed in range(4):
        forward, _ = front(scene, np.random.default_rng(seed))
        np.testing.assert_allclose(forward, [1, 0, 0], atol=0.02)
