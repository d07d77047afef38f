"""Fitted objects on their picture, and the way of a fit as a video."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from ivlm_core.draw import draw_on_picture, draw_scene, fit_pictures, scene_of, write_fit_video
from ivlm_core.draw.joint_scene import OBJECT_COLORS
from ivlm_core.errors import InputError
from ivlm_core.objects import library_mesh
from ivlm_core.types import CameraIntrinsics, Frame, PosedBody, Reconstruction

CAMERA = CameraIntrinsics(200.0, 200.0, 79.5, 59.5, 160, 120)
FRAME = Frame(np.full((120, 160, 3), 90, np.uint8), CAMERA)


def fitted(x: float = 0.0, **changes) -> Reconstruction:
    """A ball of 22 cm, two metres away."""
    mesh = library_mesh("sports ball")
    base = Reconstruction("sports ball", mesh, np.eye(3), np.array([x, 0.0, 2.0]), 1.0, True)
    return replace(base, **changes)


def person(z: float = 3.0, name: str = "") -> PosedBody:
    ball = library_mesh("sports ball")
    return PosedBody((ball.vertices * 5 + [0, 0, z]).astype(np.float32), ball.faces, "anny", name)


def outlined(picture: np.ndarray) -> np.ndarray:
    """Pixels in the first object's colour."""
    return (picture == OBJECT_COLORS[0]).all(axis=2)


@pytest.mark.parametrize("height", [120, 240, 60])
def test_the_outline_is_where_the_object_is_in_the_picture(height):
    picture = draw_on_picture(FRAME, [fitted(0.4)], height)
    assert picture.shape == (height, round(height * 4 / 3), 3)
    rows, columns = np.nonzero(outlined(picture))
    scale = height / 120
    # 0.4 m to the right at 2 m is 40 px right of the middle.
    assert (columns.min() + columns.max()) / 2 / scale == pytest.approx(120, abs=2)
    assert (rows.min() + rows.max()) / 2 / scale == pytest.approx(60, abs=2)
    assert (columns.max() - columns.min()) / scale == pytest.approx(22, abs=5)


def test_what_has_no_pose_or_is_behind_the_camera_is_not_drawn():
    for item in (fitted(pose_valid=False, reason="no contact"), fitted(translation=np.array([0.0, 0.0, -2.0]))):
        np.testing.assert_array_equal(draw_on_picture(FRAME, [item], 120), FRAME.image)
    assert (draw_on_picture(FRAME, [fitted(translation=np.array([9.0, 0.0, 2.0]))], 120) == 90).all()


def test_a_picture_without_a_camera_is_refused():
    with pytest.raises(InputError, match="camera"):
        draw_on_picture(replace(FRAME, intrinsics=None), [fitted()])


def test_one_person_with_two_objects_is_drawn_once_with_both_contacts():
    body = person()
    count = len(body.vertices)
    first, second = np.zeros(count, np.float32), np.zeros(count, np.float32)
    first[0], second[1] = 0.9, 0.7
    items = [fitted(body=body, body_contact=first), fitted(0.5, body=body, body_contact=second), fitted(body=None)]
    touched = np.full(len(items[0].mesh.vertices), 0.5, np.float32)
    scene = scene_of(items, {0: touched})
    assert [part.name for part in scene.parts] == ["person", "sports ball", "sports ball", "sports ball"]
    np.testing.assert_allclose(scene.parts[0].contact[:3], [0.9, 0.7, 0.0])
    assert (scene.parts[1].contact == 0.5).all()
    assert (scene.parts[2].contact == 0.0).all()


def test_the_scene_is_drawn_beside_the_picture():
    item = fitted(body=person())
    picture = draw_scene(FRAME, [item], scene_of([item]))
    assert picture.dtype == np.uint8
    # The photograph at the left, at the height of the panels.
    assert (picture[200, 30] == 90).all()
    assert outlined(picture[:, :630]).any()


STEPS = tuple((np.eye(3), np.array([0.3 - 0.003 * step, 0.0, 2.0]), 1.0) for step in range(100))


def test_pictures_of_a_fit_show_its_way_and_are_of_one_size():
    item = fitted(0.0, trace=STEPS, body=person())
    pictures = list(fit_pictures(FRAME, item, 120))
    assert len(pictures) == 72
    assert len({picture.shape for picture in pictures}) == 1
    photo = slice(24, 144), slice(10, 170)
    middles = [np.nonzero(outlined(picture[photo]))[1].mean() for picture in pictures]
    assert middles[0] == pytest.approx(79.5 + 30, abs=2)
    assert middles[-1] == pytest.approx(79.5, abs=2)


@pytest.mark.parametrize("name", ["a.mp4", "a.avi"])
def test_a_video_plays_and_ends_with_the_fitted_pose(tmp_path, name):
    count = write_fit_video(tmp_path / name, FRAME, fitted(trace=STEPS[:10]))
    assert count == 10 + 24
    video = cv2.VideoCapture(str(tmp_path / name))
    played = []
    while True:
        good, picture = video.read()
        if not good:
            break
        played.append(picture)
    assert len(played) == count
    assert np.abs(played[-1].astype(int) - played[9]).mean() < 2
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_video_of_nothing_or_of_no_known_kind_leaves_nothing_behind(tmp_path):
    with pytest.raises(InputError, match="trace"):
        write_fit_video(tmp_path / "a.mp4", FRAME, fitted())
    with pytest.raises(InputError, match=r"a\.gif"):
        write_fit_video(tmp_path / "a.gif", FRAME, fitted(trace=STEPS))
    assert list(tmp_path.iterdir()) == []
