"""Pictures and cameras of bags: what `rosbags` reads back is what was written, in every encoding.

Broken messages are tested with those of rclpy in `test_ros_conversions.py`.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ivlm_core.datasets import message_store
from ivlm_core.datasets.image_messages import (
    COLOR_ENCODINGS,
    check_image,
    intrinsics_from_camera_info,
    rgb_from_compressed,
    rgb_from_image,
    stamp_ns,
)
from ivlm_core.errors import InputError


def from_bag(name: str, **fields: Any) -> Any:
    """A message as a bag gives it back."""
    store = message_store()
    types = store.types
    stamp = types["builtin_interfaces/msg/Time"](sec=3, nanosec=5)
    header = types["std_msgs/msg/Header"](stamp=stamp, frame_id="camera")
    kind = f"sensor_msgs/msg/{name}"
    return store.deserialize_cdr(store.serialize_cdr(types[kind](header=header, **fields), kind), kind)


@given(
    encoding=st.sampled_from(sorted(COLOR_ENCODINGS)),
    width=st.integers(1, 9),
    height=st.integers(1, 9),
    padding=st.integers(0, 5),
    seed=st.integers(0, 2**32 - 1),
)
def test_every_encoding_round_trips(encoding: str, width: int, height: int, padding: int, seed: int) -> None:
    channels, size = COLOR_ENCODINGS[encoding]
    data = np.random.default_rng(seed).integers(0, 256, (height, width * channels * size + padding), dtype=np.uint8)
    message = from_bag(
        "Image",
        height=height,
        width=width,
        encoding=encoding,
        is_bigendian=0,
        step=data.shape[1],
        data=data.reshape(-1),
    )
    pixels = data[:, : width * channels * size].reshape(height, width, channels * size)
    if encoding == "mono16":
        pixels = pixels[..., 1:]
    if encoding in ("bgr8", "8UC3", "bgra8", "8UC4"):
        pixels = pixels[..., 2::-1]
    expected = np.broadcast_to(pixels[..., :3], (height, width, 3))
    np.testing.assert_array_equal(rgb_from_image(message), expected)
    assert stamp_ns(message.header) == 3 * 10**9 + 5


def test_depth_image_is_refused_by_its_encoding() -> None:
    message = from_bag(
        "Image", height=1, width=1, encoding="16UC1", is_bigendian=0, step=2, data=np.zeros(2, dtype=np.uint8)
    )
    with pytest.raises(InputError, match=r"image\.encoding.*depth image"):
        check_image(message)


def test_compressed_picture_is_decoded() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (6, 7, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    message = from_bag("CompressedImage", format="png", data=np.frombuffer(file.getvalue(), np.uint8))
    np.testing.assert_array_equal(rgb_from_compressed(message), pixels)


def test_camera_info_becomes_intrinsics() -> None:
    types = message_store().types
    region = types["sensor_msgs/msg/RegionOfInterest"](x_offset=0, y_offset=0, height=0, width=0, do_rectify=False)
    message = from_bag(
        "CameraInfo",
        height=48,
        width=64,
        distortion_model="plumb_bob",
        d=np.zeros(5),
        k=np.array([50.0, 0, 31.5, 0, 51.0, 23.5, 0, 0, 1]),
        r=np.eye(3).ravel(),
        p=np.zeros(12),
        binning_x=0,
        binning_y=0,
        roi=region,
    )
    camera = intrinsics_from_camera_info(message)
    assert camera is not None
    assert (camera.fx, camera.fy, camera.cx, camera.cy, camera.width, camera.height) == (50, 51, 31.5, 23.5, 64, 48)
