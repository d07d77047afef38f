"""Headers are read without their messages. What an index leads to is tested in `test_view_recording.py`."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ivlm_core.datasets import message_store
from ivlm_core.view.bag_index import MARKERS, key_of
from ivlm_ros.message_types import PlainMessages

MAKE = PlainMessages().make
KINDS = (
    "sensor_msgs/msg/Image",
    "sensor_msgs/msg/CompressedImage",
    "sensor_msgs/msg/CameraInfo",
    "ivlm_ros/msg/DetectedObjectArray",
    "ivlm_ros/msg/HumanBodyArray",
    "ivlm_ros/msg/HumanContactArray",
    "ivlm_ros/msg/ObjectAffordanceArray",
    MARKERS,
)


@given(
    kind=st.sampled_from(KINDS),
    frame=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20),
    seconds=st.integers(-(2**31), 2**31 - 1),
    nanoseconds=st.integers(0, 2**32 - 1),
    little=st.booleans(),
)
def test_header_is_that_of_the_message(kind: str, frame: str, seconds: int, nanoseconds: int, little: bool) -> None:
    stamp = MAKE("builtin_interfaces/msg/Time", sec=seconds, nanosec=nanoseconds)
    header = MAKE("std_msgs/msg/Header", stamp=stamp, frame_id=frame)
    if kind == MARKERS:
        message = MAKE(kind, markers=[MAKE("visualization_msgs/msg/Marker", header=header)])
    else:
        message = MAKE(kind, header=header)
    raw = message_store().serialize_cdr(message, kind, little_endian=little)
    assert key_of(raw, kind) == (frame, seconds * 10**9 + nanoseconds)


@given(data=st.binary(max_size=60), kind=st.sampled_from(KINDS))
def test_noise_has_a_header_or_none(data: bytes, kind: str) -> None:
    key = key_of(data, kind)
    assert key is None or isinstance(key[0], str)


@pytest.mark.parametrize("kind", KINDS)
def test_no_markers_and_no_bytes_have_none(kind: str) -> None:
    assert key_of(b"", kind) is None
    assert key_of(message_store().serialize_cdr(MAKE(MARKERS), MARKERS), MARKERS) is None
