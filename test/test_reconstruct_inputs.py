"""Cameras, keypoints, bodies, depth and masks from files."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from ivlm_core.errors import InputError
from ivlm_core.reconstruct import inputs
from ivlm_core.reconstruct.inputs import (
    camera_of_fov,
    load_camera,
    load_depth,
    load_keypoints,
    load_mask,
)

MATRIX = [500.0, 0.0, 319.5, 0.0, 510.0, 239.5, 0.0, 0.0, 1.0]
CALIBRATION = {
    "image_width": 640,
    "image_height": 480,
    "camera_matrix": {"rows": 3, "cols": 3, "data": MATRIX},
    "distortion_coefficients": {"rows": 1, "cols": 5, "data": [0, 0, 0, 0, 0]},
}


def written(path, content) -> object:
    path.write_text(yaml.safe_dump(content))
    return path


def test_the_edge_of_the_picture_is_at_half_the_angle_of_view():
    camera = camera_of_fov(60.0, 640, 480)
    # The outer edge of the last pixel, half a pixel beyond its centre.
    assert (639.5 - camera.cx) / camera.fx == pytest.approx(math.tan(math.radians(30.0)))
    assert (camera.fy, camera.cy) == (camera.fx, 239.5)


@pytest.mark.parametrize("degrees", [0.0, -5.0, 180.0, math.nan, math.inf])
def test_an_angle_that_no_camera_has_is_refused(degrees):
    with pytest.raises(InputError, match="fov"):
        camera_of_fov(degrees, 640, 480)


def test_the_calibration_files_of_ros_are_read(tmp_path):
    camera = load_camera(written(tmp_path / "a.yaml", CALIBRATION), 640, 480)
    assert (camera.fx, camera.fy, camera.cx, camera.cy) == (500.0, 510.0, 319.5, 239.5)
    echoed = {"width": 640, "height": 480, "d": [0.0] * 5, "k": MATRIX, "distortion_model": "plumb_bob"}
    path = tmp_path / "b.yaml"
    path.write_text(yaml.safe_dump(echoed) + "---\n")
    assert load_camera(path, 640, 480) == camera
    path.write_text(json.dumps(echoed))
    assert load_camera(path, 640, 480) == camera


def test_a_resized_picture_gets_a_resized_camera(tmp_path):
    camera = load_camera(written(tmp_path / "a.yaml", CALIBRATION), 320, 240)
    assert (camera.fx, camera.fy) == (250.0, 255.0)
    # The middle of the picture stays in the middle.
    assert (camera.cx, camera.cy) == (159.5, 119.5)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"image_width": 480}, "480×480"),
        ({"camera_matrix": {"data": MATRIX[:8]}}, "9 numbers"),
        ({"camera_matrix": {"data": [math.nan, *MATRIX[1:]]}}, "not finite"),
        ({"camera_matrix": {"data": [0.0, *MATRIX[1:]]}}, "focal"),
        ({"camera_matrix": "wide"}, "9 numbers"),
        ({"distortion_coefficients": {"data": [-0.3, 0.1, 0, 0, 0]}}, "distortion"),
        ({"image_height": "tall"}, "numbers"),
        ({"image_height": 0}, "640×0"),
    ],
)
def test_a_wrong_camera_file_says_what_is_wrong(tmp_path, change, told):
    with pytest.raises(InputError, match=told) as error:
        load_camera(written(tmp_path / "a.yaml", CALIBRATION | change), 640, 480)
    assert "a.yaml" in error.value.field


def test_no_camera_file_at_all(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        load_camera(tmp_path / "none.yaml", 640, 480)
    for text in ("", "- 1\n- 2\n", "a: [1,", "!!python/object:os.system {}", "{" * 5000):
        (tmp_path / "a.yaml").write_text(text)
        with pytest.raises(InputError):
            load_camera(tmp_path / "a.yaml", 640, 480)


def test_a_file_too_large_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(inputs, "MAX_TEXT_BYTES", 10)
    with pytest.raises(InputError, match="at most 10"):
        load_camera(written(tmp_path / "a.yaml", CALIBRATION), 640, 480)


ROW = [value for number in range(17) for value in (10.0 * number, 5.0 * number, 0.5)]


@pytest.mark.parametrize(
    "content",
    [
        ROW,
        [ROW[start : start + 3] for start in range(0, 51, 3)],
        {"keypoints": ROW},
        [{"image_id": 3, "category_id": 1, "keypoints": ROW, "score": 0.9}],
        {"annotations": [{"keypoints": ROW}]},
    ],
)
def test_the_usual_layouts_of_keypoints_are_read(tmp_path, content):
    path = tmp_path / "k.json"
    path.write_text(json.dumps(content))
    (person,) = load_keypoints(path)
    assert person.person_id == ""
    np.testing.assert_array_equal(person.points[16], [160.0, 80.0])
    assert (person.scores == 0.5).all()


def test_several_people_are_told_apart_and_visibility_counts_as_certain(tmp_path):
    path = tmp_path / "k.json"
    seen = [2 if index % 3 == 2 else value for index, value in enumerate(ROW)]
    path.write_text(json.dumps([{"keypoints": seen}, {"keypoints": ROW, "person_id": "ada"}]))
    first, second = load_keypoints(path)
    assert (first.person_id, second.person_id) == ("0", "ada")
    assert (first.scores == 1.0).all()


def test_a_wrong_number_of_keypoints_is_counted(tmp_path):
    path = tmp_path / "k.json"
    path.write_text(json.dumps([{"keypoints": ROW}, {"keypoints": ROW[:39]}]))
    with pytest.raises(InputError, match=r"person 1 are 39 numbers .*give 51"):
        load_keypoints(path)


def test_millimetres_given_as_metres_are_noticed(tmp_path):
    np.save(tmp_path / "mm.npy", np.full((2, 3), 4900.0, np.float32))
    with pytest.raises(InputError, match="median of 4900 m"):
        load_depth(tmp_path / "mm.npy", 3, 2)


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["keypoints", "annotations", "person_id", "x"]), inner, max_size=3)
    ),
    max_leaves=12,
)


@given(JSON)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_keypoint_file_does_more_than_be_refused(tmp_path, content):
    path = tmp_path / "k.json"
    path.write_text(json.dumps(content))
    with pytest.raises(InputError):
        load_keypoints(path)


def test_depth_in_millimetres_and_in_metres(tmp_path):
    metres = np.array([[0.0, 1.25, 3.0], [np.nan, -1.0, np.inf]], np.float32)
    millimetres = np.array([[0, 1250, 3000], [0, 0, 0]], np.uint16)
    expected = np.array([[np.nan, 1.25, 3.0], [np.nan] * 3], np.float32)
    np.save(tmp_path / "a.npy", metres)
    np.save(tmp_path / "b.npy", millimetres)
    Image.fromarray(millimetres).save(tmp_path / "c.png")
    for name in ("a.npy", "b.npy", "c.png"):
        depth = load_depth(tmp_path / name, 3, 2)
        assert depth.dtype == np.float32
        np.testing.assert_allclose(depth, expected)


def test_what_is_no_depth_is_refused(tmp_path):
    np.save(tmp_path / "size.npy", np.ones((3, 3), np.float32))
    np.save(tmp_path / "text.npy", np.full((2, 3), "a"))
    np.save(tmp_path / "object.npy", np.full((2, 3), None), allow_pickle=True)
    Image.fromarray(np.zeros((2, 3), np.uint8)).save(tmp_path / "grey.png")
    (tmp_path / "cut.npy").write_bytes((tmp_path / "size.npy").read_bytes()[:90])
    (tmp_path / "no.png").write_bytes(b"nothing")
    for name in ("size.npy", "text.npy", "object.npy", "grey.png", "cut.npy", "no.png", "none.png"):
        with pytest.raises(InputError, match="depth"):
            load_depth(tmp_path / name, 3, 2)


def test_a_mask_is_what_is_bright(tmp_path):
    Image.fromarray(np.array([[0, 127], [128, 255]], np.uint8)).save(tmp_path / "m.png")
    np.testing.assert_array_equal(load_mask(tmp_path / "m.png", 2, 2), [[False, False], [True, True]])
    with pytest.raises(InputError, match="2×2 px"):
        load_mask(tmp_path / "m.png", 3, 2)
