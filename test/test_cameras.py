"""Lens distortion is taken out exactly, and depth of another camera lands where its points are."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ivlm_core.cameras import Rectifier, register_depth
from ivlm_core.errors import InputError
from ivlm_core.types import BodyKeypoints, CameraIntrinsics

RAW = CameraIntrinsics(500.0, 505.0, 318.0, 242.0, 640, 480)
TARGET = CameraIntrinsics(470.0, 475.0, 321.0, 238.0, 640, 480)
LENSES = {
    "plumb_bob": (-0.28, 0.09, 0.001, -0.0005, 0.0),
    "rational_polynomial": (0.3, -0.1, 0.0005, -0.0004, 0.02, 0.5, -0.05, 0.01),
    "equidistant": (0.02, -0.01, 0.004, -0.001),
}


def _matrix(camera: CameraIntrinsics) -> np.ndarray:
    return np.array([[camera.fx, 0, camera.cx], [0, camera.fy, camera.cy], [0, 0, 1.0]])


def _seen(points: np.ndarray, model: str) -> np.ndarray:
    """(K, 2) pixels of (K, 3) points in the raw camera, by OpenCV's forward model."""
    lens = np.zeros(3), np.zeros(3), _matrix(RAW), np.array(LENSES[model])
    if model == "equidistant":
        return cv2.fisheye.projectPoints(points[:, None], *lens)[0].reshape(-1, 2)
    return cv2.projectPoints(points, *lens)[0].reshape(-1, 2)


def _pinhole(points: np.ndarray, camera: CameraIntrinsics = TARGET) -> np.ndarray:
    return points[:, :2] / points[:, 2:] * (camera.fx, camera.fy) + (camera.cx, camera.cy)


@pytest.mark.parametrize("model", LENSES)
@settings(max_examples=30, deadline=None)
@given(
    directions=st.lists(st.tuples(st.floats(-0.5, 0.5), st.floats(-0.4, 0.4)), min_size=1, max_size=8),
    depth=st.floats(0.3, 20.0),
)
def test_points_land_where_a_pinhole_camera_sees_them(model, directions, depth):
    points = np.array([(x * depth, y * depth, depth) for x, y in directions])
    rectifier = Rectifier(RAW, TARGET, model, LENSES[model])
    assert np.allclose(rectifier.points(_seen(points, model)), _pinhole(points), atol=0.05)


@pytest.mark.parametrize("model", LENSES)
def test_pictures_masks_and_depth_move_with_their_points(model):
    rectifier = Rectifier(RAW, TARGET, model, LENSES[model])
    points = np.array([(-0.4, -0.25, 1.0), (0.35, 0.2, 1.0), (0.05, -0.02, 1.0)])
    image = np.zeros((480, 640, 3), np.uint8)
    for x, y in _seen(points, model):
        cv2.circle(image, (round(x), round(y)), 6, (255, 255, 255), -1)
    mask = image[..., 0] > 0
    depth = np.where(mask, 2.0, 5.0).astype(np.float32)
    moved, cut, far = rectifier.picture(image), rectifier.mask(mask), rectifier.depth(depth)
    for x, y in _pinhole(points).round().astype(int):
        assert moved[y, x, 0] > 200
        assert cut[y, x]
        assert far[y, x] == 2.0
    assert set(np.unique(far[np.isfinite(far)])) == {2.0, 5.0}, "depth values must never be mixed"


def test_what_is_put_back_lies_where_it_was_seen():
    rectifier = Rectifier(RAW, TARGET, "plumb_bob", LENSES["plumb_bob"])
    points = np.array([(-0.3, -0.2, 1.0), (0.3, 0.2, 1.0)])
    values = np.zeros((480, 640), np.float32)
    for x, y in _pinhole(points):
        cv2.circle(values, (round(x), round(y)), 6, 1.0, -1)
    back = rectifier.back(values)
    for x, y in _seen(points, "plumb_bob").round().astype(int):
        assert back[y, x] > 0.99


@settings(max_examples=40, deadline=None)
@given(x=st.floats(0, 560), y=st.floats(0, 400), width=st.floats(4, 80), height=st.floats(4, 80), data=st.data())
def test_the_rectified_box_holds_what_the_box_holds(x, y, width, height, data):
    rectifier = Rectifier(RAW, TARGET, "plumb_bob", LENSES["plumb_bob"])
    inner = [(data.draw(st.floats(x, x + width)), data.draw(st.floats(y, y + height))) for _ in range(4)]
    try:
        box = rectifier.box((x, y, x + width, y + height))
    except InputError:
        assert not _inside(rectifier.points(inner)).any()
        return
    places = rectifier.points(inner)
    # Five points a side bound a bent rim to a fraction of a pixel.
    held = (places >= np.array(box[:2]) - 0.5).all(axis=1) & (places <= np.array(box[2:]) + 0.5).all(axis=1)
    assert held[_inside(places)].all()


def _inside(places: np.ndarray) -> np.ndarray:
    return (places >= 0).all(axis=1) & (places <= (639, 479)).all(axis=1)


def test_what_a_fisheye_shows_beyond_a_pinhole_has_no_place():
    wide = CameraIntrinsics(285.0, 285.0, 424.0, 400.0, 848, 800)
    rectifier = Rectifier(wide, wide, "equidistant", (-0.007, 0.04, -0.04, 0.006))
    places = rectifier.points([(424.0, 400.0), (500.0, 420.0), (846.0, 400.0), (424.0 + 285.0 * 1.7, 400.0)])
    assert np.isfinite(places[:2]).all()
    assert np.isnan(places[3]).all(), "nobody sees backwards through a pinhole"
    inside, whole = rectifier.box((700, 300, 840, 500)), (-0.5, -0.5, 847.5, 799.5)
    assert inside != whole
    assert inside[0] > 424, "what is on the right stays on the right"
    scores = np.zeros(17, np.float32)
    points = np.zeros((17, 2), np.float32)
    scores[:2], points[1] = 0.5, (424.0 + 285.0 * 1.7, 400.0)
    points[0] = (424.0, 400.0)
    moved = rectifier.keypoints(BodyKeypoints(points, scores))
    assert moved.scores[:2].tolist() == [0.5, 0.0]
    assert np.isfinite(moved.points).all()


def test_a_point_far_outside_does_not_come_back_inside():
    places = Rectifier(RAW, TARGET, "plumb_bob", LENSES["plumb_bob"]).points([(5000.0, 100.0), (320.0, 240.0)])
    assert np.isnan(places[0]).all()
    assert np.isfinite(places[1]).all()


def test_joints_that_were_not_found_stay_unknown():
    points, scores = np.full((17, 2), np.nan, np.float32), np.zeros(17, np.float32)
    points[3], scores[3] = _seen(np.array([(0.1, 0.2, 1.0)]), "plumb_bob")[0], 0.9
    moved = Rectifier(RAW, TARGET, "plumb_bob", LENSES["plumb_bob"]).keypoints(BodyKeypoints(points, scores, "ann"))
    assert moved.person_id == "ann"
    assert (moved.scores == scores).all()
    assert np.allclose(moved.points[3], _pinhole(np.array([(0.1, 0.2, 1.0)]))[0], atol=0.05)


@pytest.mark.parametrize(
    ("model", "numbers", "field"),
    [
        ("fov", (0.1,), "distortion_model"),
        ("", (0.1,) * 5, "distortion_model"),
        ("plumb_bob", (0.1,) * 3, "camera_info.d"),
        ("equidistant", (0.1, float("nan"), 0, 0), "camera_info.d"),
    ],
)
def test_a_lens_that_makes_no_sense_is_refused(model, numbers, field):
    with pytest.raises(InputError, match=field):
        Rectifier(RAW, TARGET, model, numbers)


def test_depth_of_the_same_camera_stays_as_it_is():
    depth = np.random.default_rng(0).uniform(0.5, 4.0, (480, 640)).astype(np.float32)
    depth[10:20, 30:40] = np.nan
    assert np.array_equal(register_depth(depth, RAW, RAW), depth, equal_nan=True)


def test_depth_of_a_coarse_camera_beside_leaves_no_gaps():
    coarse = CameraIntrinsics(200.0, 200.0, 159.5, 119.5, 320, 240)
    fine = CameraIntrinsics(500.0, 500.0, 319.5, 239.5, 640, 480)
    transform = np.eye(4)
    transform[0, 3] = -0.05  # the colour camera stands 5 cm to the right of the depth camera
    depth = np.full((240, 320), 2.0, np.float32)
    depth[:, 160:] = 1.0
    moved = register_depth(depth, coarse, fine, transform)
    # x = (159.5 - 159.5) / 200 * 1 - 0.05 at the near half's left edge.
    edge = round((159.5 + 0.0 - 159.5) / 200 * 500 - 0.05 * 500 + 319.5)
    middle = moved[60:420]
    assert (middle[:, edge + 3 : edge + 120] == 1.0).all(), "the near half is whole"
    assert (middle[:, 100 : edge - 20] == 2.0).all(), "the far half is whole"
    assert not ((middle != 1.0) & (middle != 2.0) & np.isfinite(middle)).any()


def test_depth_behind_the_colour_camera_is_not_seen():
    transform = np.eye(4)
    transform[2, 3] = -3.0
    assert np.isnan(register_depth(np.full((480, 640), 2.0, np.float32), RAW, RAW, transform)).all()
