"""Messages of every shape: what is right comes through exactly, what is wrong is named."""

from __future__ import annotations

import io
from array import array
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

pytest.importorskip("rclpy")
pytest.importorskip("ivlm_ros.msg")

from ivlm_ros.msg import DetectedObject
from PIL import Image as PilImage
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header

from ivlm_core.cameras import Rectifier
from ivlm_core.errors import InputError, IvlmError
from ivlm_core.types import CameraIntrinsics
from ivlm_ros import conversions
from ivlm_ros.conversions import (
    COLOR_ENCODINGS,
    camera_from_info,
    image_from_rgb,
    intrinsics_from_camera_info,
    is_raw,
    mask_from_image,
    queries_from_objects,
    query_from_object,
    rgb_from_compressed,
    rgb_from_image,
)


def image_message(width: int, height: int, encoding: str, padding: int, seed: int, big_endian: bool) -> Image:
    channels, size = COLOR_ENCODINGS[encoding]
    step = width * channels * size + padding
    data = np.random.default_rng(seed).integers(0, 256, step * height, dtype=np.uint8)
    message = Image(width=width, height=height, encoding=encoding, step=step, is_bigendian=int(big_endian))
    message.data = array("B", data.tobytes())
    return message


def expected_rgb(message: Image) -> np.ndarray:
    """The pixels, read one by one as sensor_msgs defines them."""
    channels, size = COLOR_ENCODINGS[message.encoding]
    result = np.zeros((message.height, message.width, 3), np.uint8)
    for row in range(message.height):
        for column in range(message.width):
            start = row * message.step + column * channels * size
            values = list(message.data[start : start + channels * size])
            if size == 2:
                values = [int.from_bytes(bytes(values), "big" if message.is_bigendian else "little") >> 8]
            if channels == 1:
                values = values * 3
            if message.encoding in ("bgr8", "bgra8", "8UC3", "8UC4"):
                values[0], values[2] = values[2], values[0]
            result[row, column] = values[:3]
    return result


@given(
    width=st.integers(1, 9),
    height=st.integers(1, 7),
    encoding=st.sampled_from(sorted(COLOR_ENCODINGS)),
    padding=st.integers(0, 5),
    seed=st.integers(0, 2**32 - 1),
    big_endian=st.booleans(),
)
def test_every_encoding_step_and_byte_order(**layout: Any) -> None:
    message = image_message(**layout)
    rgb = rgb_from_image(message)
    assert rgb.dtype == np.uint8
    assert rgb.flags.c_contiguous
    np.testing.assert_array_equal(rgb, expected_rgb(message))


@given(width=st.integers(1, 40), height=st.integers(1, 40), seed=st.integers(0, 2**32 - 1))
def test_rgb_round_trip(width: int, height: int, seed: int) -> None:
    rgb = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    header = Header(frame_id="camera")
    header.stamp.sec = 12
    message = image_from_rgb(rgb, header)
    assert message.header == header
    assert isinstance(message.data, array)
    np.testing.assert_array_equal(rgb_from_image(message), rgb)


def test_unpadded_rgb8_is_read_without_a_copy() -> None:
    message = image_message(16, 8, "rgb8", 0, 1, False)
    assert np.shares_memory(rgb_from_image(message), np.frombuffer(message.data, np.uint8))


BROKEN_IMAGES = {
    "zero_width": ({"width": 0}, "image.width"),
    "zero_height": ({"height": 0}, "image.height"),
    "huge_width": ({"width": 2**32 - 1}, "image.width"),
    "step_too_small": ({"step": 11}, "image.step"),
    "step_zero": ({"step": 0}, "image.step"),
    "step_huge": ({"step": 2**32 - 1}, "image.data"),
    "short_data": ({"data": array("B", bytes(12 * 3 - 1))}, "image.data"),
    "long_data": ({"data": array("B", bytes(12 * 3 + 1))}, "image.data"),
    "no_data": ({"data": array("B")}, "image.data"),
    "unknown_encoding": ({"encoding": "purple8"}, "image.encoding"),
    "empty_encoding": ({"encoding": ""}, "image.encoding"),
    "bayer_encoding": ({"encoding": "bayer_rggb8"}, "image.encoding"),
    "depth_encoding": ({"encoding": "16UC1"}, "image.encoding"),
    "million_character_encoding": ({"encoding": "x" * 1_000_000}, "image.encoding"),
}


@pytest.mark.parametrize("name", BROKEN_IMAGES)
def test_broken_image_names_the_field(name: str) -> None:
    changes, field = BROKEN_IMAGES[name]
    message = image_message(4, 3, "rgb8", 0, 0, False)
    for attribute, value in changes.items():
        setattr(message, attribute, value)
    with pytest.raises(InputError) as caught:
        rgb_from_image(message)
    assert caught.value.field == field
    assert len(str(caught.value)) < 400


@given(
    width=st.integers(0, 2**32 - 1),
    height=st.integers(0, 2**32 - 1),
    step=st.integers(0, 2**32 - 1),
    encoding=st.one_of(st.sampled_from(sorted(COLOR_ENCODINGS)), st.text(max_size=20)),
    size=st.integers(0, 64),
)
def test_any_image_is_read_or_refused(width: int, height: int, step: int, encoding: str, size: int) -> None:
    message = Image(width=width, height=height, step=step, encoding=encoding, data=array("B", bytes(size)))
    try:
        rgb = rgb_from_image(message)
    except InputError as error:
        assert error.field.startswith("image.")
    else:
        assert rgb.shape == (height, width, 3)


def compressed(rgb: np.ndarray, kind: str) -> CompressedImage:
    stream = io.BytesIO()
    PilImage.fromarray(rgb).save(stream, kind)
    message = CompressedImage(format=f"rgb8; {kind.lower()} compressed bgr8")
    message.data = array("B", stream.getvalue())
    return message


def test_png_is_exact_and_jpeg_is_close() -> None:
    ramp = np.linspace(0, 255, 32).astype(np.uint8)
    rgb = np.stack(np.broadcast_arrays(ramp[:, None], ramp[None, :], np.uint8(90)), axis=2)
    np.testing.assert_array_equal(rgb_from_compressed(compressed(rgb, "PNG")), rgb)
    difference = rgb_from_compressed(compressed(rgb, "JPEG")).astype(int) - rgb
    assert np.abs(difference).mean() < 4


def test_sixteen_bit_png_keeps_its_upper_byte() -> None:
    grey = np.arange(0, 65536, 257, dtype=np.uint16).reshape(16, 16)
    rgb = rgb_from_compressed(compressed(grey, "PNG"))
    np.testing.assert_array_equal(rgb[..., 1], grey >> 8)


@given(st.binary(max_size=200))
def test_arbitrary_bytes_as_compressed_image(data: bytes) -> None:
    with pytest.raises(InputError) as caught:
        rgb_from_compressed(CompressedImage(format="jpeg", data=array("B", data)))
    assert caught.value.field == "image.data"


@given(cut=st.integers(1, 400), kind=st.sampled_from(["PNG", "JPEG"]))
def test_truncated_compressed_image(cut: int, kind: str) -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (24, 24, 3), dtype=np.uint8)
    message = compressed(rgb, kind)
    assume(cut < len(message.data))
    message.data = message.data[:-cut]
    try:
        # A decoder may still have all pixels when only the end mark is missing.
        assert rgb_from_compressed(message).shape == rgb.shape
    except InputError as error:
        assert error.field == "image.data"


def test_picture_bomb_is_refused_before_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    message = compressed(np.zeros((4, 9000, 3), np.uint8), "PNG")
    monkeypatch.setattr(PilImage.Image, "convert", lambda *_: pytest.fail("was decoded"))
    with pytest.raises(InputError, match="9000"):
        rgb_from_compressed(message)


def test_other_file_formats_are_not_opened() -> None:
    stream = io.BytesIO()
    PilImage.new("RGB", (4, 4)).save(stream, "TIFF")
    with pytest.raises(InputError):
        rgb_from_compressed(CompressedImage(format="tiff", data=array("B", stream.getvalue())))


def test_compressed_depth_is_refused() -> None:
    message = compressed(np.zeros((4, 4, 3), np.uint8), "PNG")
    message.format = "16UC1; compressedDepth png"
    with pytest.raises(InputError) as caught:
        rgb_from_compressed(message)
    assert caught.value.field == "image.format"


def test_camera_info_becomes_intrinsics() -> None:
    message = CameraInfo(width=640, height=480, k=[500.0, 0.0, 319.5, 0.0, 510.0, 239.5, 0.0, 0.0, 1.0])
    intrinsics = intrinsics_from_camera_info(message)
    assert intrinsics is not None
    assert (intrinsics.fx, intrinsics.fy, intrinsics.cx, intrinsics.cy) == (500.0, 510.0, 319.5, 239.5)
    assert (intrinsics.width, intrinsics.height) == (640, 480)


RAW_K = [500.0, 0.0, 320.0, 0.0, 500.0, 240.0, 0.0, 0.0, 1.0]
RECTIFIED_P = [450.0, 0.0, 318.0, 0.0, 0.0, 452.0, 242.0, 0.0, 0.0, 0.0, 1.0, 0.0]


def test_a_rectified_picture_has_the_projection_of_its_camera() -> None:
    message = CameraInfo(width=640, height=480, k=RAW_K, p=RECTIFIED_P, d=[-0.2, 0.1, 0.0, 0.0, 0.0])
    camera, rectifier = camera_from_info(message)
    assert camera == CameraIntrinsics(450.0, 452.0, 318.0, 242.0, 640, 480)
    assert rectifier is None


def test_a_raw_picture_is_rectified_into_the_projection() -> None:
    lens = {"d": [-0.2, 0.1, 0.0, 0.0, 0.0], "distortion_model": "plumb_bob"}
    camera, rectifier = camera_from_info(CameraInfo(width=640, height=480, k=RAW_K, p=RECTIFIED_P, **lens), True)
    assert camera == CameraIntrinsics(450.0, 452.0, 318.0, 242.0, 640, 480)
    assert rectifier == Rectifier(
        CameraIntrinsics(500.0, 500.0, 320.0, 240.0, 640, 480), camera, "plumb_bob", (-0.2, 0.1, 0.0, 0.0, 0.0)
    )
    again = camera_from_info(CameraInfo(width=640, height=480, k=RAW_K, p=RECTIFIED_P, **lens), True)[1]
    assert again is rectifier, "its maps must not be made anew for every frame"


def test_a_raw_picture_without_distortion_stays_as_it_is() -> None:
    message = CameraInfo(width=640, height=480, k=RAW_K, p=RECTIFIED_P, d=[0.0] * 5, distortion_model="plumb_bob")
    camera, rectifier = camera_from_info(message, True)
    assert camera == CameraIntrinsics(500.0, 500.0, 320.0, 240.0, 640, 480)
    assert rectifier is None


def test_an_equidistant_lens_bends_without_coefficients_too() -> None:
    message = CameraInfo(width=640, height=480, k=RAW_K, d=[0.0] * 4, distortion_model="equidistant")
    assert camera_from_info(message, True)[1] is not None
    message.d = []
    assert camera_from_info(message, True)[1] is None


def test_region_and_binning_make_the_camera_of_the_picture() -> None:
    message = CameraInfo(width=1280, height=960, k=[1000.0, 0.0, 640.0, 0.0, 1000.0, 480.0, 0.0, 0.0, 1.0])
    message.binning_x = message.binning_y = 2
    message.roi.x_offset, message.roi.y_offset, message.roi.width, message.roi.height = 100, 60, 800, 600
    assert camera_from_info(message)[0] == CameraIntrinsics(500.0, 500.0, 270.0, 210.0, 400, 300)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"distortion_model": "fov"}, "camera_info.distortion_model"),
        ({"distortion_model": "x" * 100_000}, "camera_info.distortion_model"),
        ({"d": [0.1] * 3}, "camera_info.d"),
        ({"d": [float("nan")] * 5}, "camera_info.d"),
        ({"p": [float("inf")] + [0.0] * 11}, "camera_info.p"),
    ],
)
def test_a_lens_that_makes_no_sense_names_the_field(fields: dict[str, Any], field: str) -> None:
    lens = {"d": [0.1] * 5, "distortion_model": "plumb_bob", **fields}
    with pytest.raises(InputError) as caught:
        camera_from_info(CameraInfo(width=640, height=480, k=RAW_K, **lens), True)
    assert caught.value.field == field
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("choice", "topic", "reconstruct", "raw"),
    [
        ("on", "/camera/image_rect", False, True),
        ("off", "/camera/image_raw", True, False),
        ("auto", "/camera/image_raw", True, True),
        ("auto", "/camera/image_raw", False, False),
        ("auto", "/camera/image_rect", True, False),
        ("auto", "/camera/image_rect_color", True, False),
        ("auto", "/camera/color/image_rect/compressed", True, False),
        ("auto", "/rectify_me/image", True, True),
        ("auto", "/direction/image", True, True),
    ],
)
def test_what_is_to_be_rectified(choice: str, topic: str, reconstruct: bool, raw: bool) -> None:
    assert is_raw(choice, topic, reconstruct) is raw


def test_uncalibrated_camera_has_no_intrinsics() -> None:
    assert intrinsics_from_camera_info(CameraInfo(width=640, height=480)) is None


@pytest.mark.parametrize(
    ("index", "value", "field"),
    [(0, float("nan"), "camera_info.k"), (4, -5.0, "camera_info.k"), (2, float("inf"), "camera_info.k")],
)
def test_broken_camera_info_names_the_field(index: int, value: float, field: str) -> None:
    k = [500.0, 0.0, 320.0, 0.0, 500.0, 240.0, 0.0, 0.0, 1.0]
    k[index] = value
    with pytest.raises(InputError) as caught:
        intrinsics_from_camera_info(CameraInfo(width=640, height=480, k=k))
    assert caught.value.field == field


def test_camera_info_without_size_names_the_field() -> None:
    k = [500.0, 0.0, 320.0, 0.0, 500.0, 240.0, 0.0, 0.0, 1.0]
    with pytest.raises(InputError) as caught:
        intrinsics_from_camera_info(CameraInfo(k=k))
    assert caught.value.field == "camera_info.width"


def mask_message(mask: np.ndarray) -> Image:
    message = Image(width=mask.shape[1], height=mask.shape[0], step=mask.shape[1], encoding="mono8")
    message.data = array("B", (mask * 255).astype(np.uint8).tobytes())
    return message


def test_detection_becomes_query() -> None:
    mask = np.zeros((48, 64), bool)
    mask[10:20, 30:40] = True
    detection = DetectedObject(
        id="7", label=" chair ", score=0.5, person_id="ada", x_min=-8.0, y_min=2.0, x_max=30.0, y_max=99.0
    )
    detection.mask = mask_message(mask)
    query = query_from_object(detection, (48, 64))
    assert (query.label, query.object_id, query.score, query.person_id) == ("chair", "7", 0.5, "ada")
    assert query.box_xyxy == (-0.5, 2.0, 30.0, 47.5)
    assert query.mask is not None
    np.testing.assert_array_equal(query.mask, mask)


def test_no_box_and_no_mask() -> None:
    query = query_from_object(DetectedObject(label="chair", score=1.0), (48, 64))
    assert query.box_xyxy is None
    assert query.mask is None


BROKEN_OBJECTS: dict[str, tuple[dict[str, Any], str]] = {
    "empty_label": ({"label": ""}, "object.label"),
    "blank_label": ({"label": "  "}, "object.label"),
    "million_character_label": ({"label": "x" * 1_000_000}, "object.label"),
    "prompt_injection_in_label": ({"label": "chair <image> <HCON>"}, "object.label"),
    "control_character_in_label": ({"label": "chair\x00"}, "object.label"),
    "long_id": ({"id": "x" * 257}, "object.id"),
    "nan_score": ({"score": float("nan")}, "object.score"),
    "score_above_one": ({"score": 1.5}, "object.score"),
    "nan_box": ({"x_min": float("nan"), "x_max": 5.0, "y_max": 5.0}, "object.box"),
    "infinite_box": ({"x_max": float("inf"), "y_max": 5.0}, "object.box"),
    "inverted_box": ({"x_min": 9.0, "x_max": 5.0, "y_max": 5.0}, "object.box"),
    "box_outside_the_image": ({"x_min": 70.0, "x_max": 80.0, "y_max": 5.0}, "object.box"),
    "mask_of_other_size": ({"mask": mask_message(np.ones((4, 4), bool))}, "object.mask.width"),
    "mask_with_colour": (
        {"mask": Image(width=64, height=48, step=192, encoding="rgb8", data=array("B", bytes(192 * 48)))},
        "object.mask.encoding",
    ),
    "mask_with_short_data": (
        {"mask": Image(width=64, height=48, step=64, encoding="mono8", data=array("B", bytes(5)))},
        "object.mask.data",
    ),
}


@pytest.mark.parametrize("name", BROKEN_OBJECTS)
def test_broken_object_is_refused_and_the_good_ones_go_on(name: str) -> None:
    changes, field = BROKEN_OBJECTS[name]
    broken = DetectedObject(**{"label": "chair", "score": 0.5, **changes})
    good = [DetectedObject(label="cup", score=0.25), DetectedObject(label="book", score=0.75)]
    queries, errors = queries_from_objects([good[0], broken, good[1]], (48, 64))
    assert [query.label for query in queries] == ["cup", "book"]
    assert [error.field for error in errors] == [field]
    assert len(str(errors[0])) < 400


@given(scores=st.lists(st.floats(0, 1, width=32), min_size=1, max_size=12), limit=st.integers(1, 12))
def test_too_many_objects_keeps_the_best_in_order(scores: list[float], limit: int) -> None:
    objects = [DetectedObject(label="chair", id=str(index), score=score) for index, score in enumerate(scores)]
    queries, errors = queries_from_objects(objects, (48, 64), limit)
    kept = [int(query.object_id) for query in queries]
    assert kept == sorted(kept)
    assert len(kept) == min(limit, len(scores))
    assert sorted((scores[index] for index in kept), reverse=True) == sorted(scores, reverse=True)[:limit]
    assert [error.field for error in errors] == (["objects"] if len(scores) > limit else [])


@given(
    sides=st.tuples(*[st.floats(width=32) for _ in range(4)]),
    score=st.floats(width=32),
    label=st.text(max_size=80).filter(lambda text: not any(0xD800 <= ord(letter) <= 0xDFFF for letter in text)),
)
def test_any_object_is_a_query_or_refused(sides: tuple[float, ...], score: float, label: str) -> None:
    detection = DetectedObject(label=label, score=score)
    detection.x_min, detection.y_min, detection.x_max, detection.y_max = sides
    try:
        query = query_from_object(detection, (48, 64))
    except IvlmError as error:
        assert error.field.startswith("object.")
    else:
        if query.box_xyxy is not None:
            x_min, y_min, x_max, y_max = query.box_xyxy
            assert -0.5 <= x_min < x_max <= 63.5
            assert -0.5 <= y_min < y_max <= 47.5


def test_mask_round_trip_with_padding() -> None:
    mask = np.random.default_rng(0).random((5, 7)) > 0.5
    message = Image(width=7, height=5, step=9, encoding="8UC1")
    padded = np.full((5, 9), 255, np.uint8)
    padded[:, :7] = mask
    message.data = array("B", padded.tobytes())
    found = mask_from_image(message, (5, 7))
    assert found is not None
    np.testing.assert_array_equal(found, mask)


def test_stamp_in_nanoseconds() -> None:
    header = Header()
    header.stamp.sec, header.stamp.nanosec = 1_700_000_000, 999_999_999
    assert conversions.stamp_ns(header) == 1_700_000_000_999_999_999
