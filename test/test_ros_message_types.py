"""Messages of rclpy and of `rosbags`: the same fields, the same defaults, the same values."""

from __future__ import annotations

from array import array
from typing import Any

import numpy as np
import pytest

from ivlm_core.datasets.bags import message_store
from ivlm_core.errors import ConfigError
from ivlm_core.types import FrameResult
from ivlm_ros.message_types import PlainMessages, RosMessages
from ivlm_ros.messages import human_contact_array, object_affordance_array

TYPES = [kind for kind in message_store().types if kind.startswith("ivlm_ros/msg/")]
OTHERS = [
    "sensor_msgs/msg/Image",
    "sensor_msgs/msg/CameraInfo",
    "sensor_msgs/msg/CompressedImage",
    "geometry_msgs/msg/Pose",
    "std_msgs/msg/Header",
]


def plain(message: Any) -> Any:
    """A message of either kind as dictionaries, lists and numbers."""
    if hasattr(message, "get_fields_and_field_types"):
        return {name: plain(getattr(message, name)) for name in message.get_fields_and_field_types()}
    if hasattr(message, "__dataclass_fields__"):
        return {name: plain(getattr(message, name)) for name in message.__dataclass_fields__ if name != "__msgtype__"}
    if isinstance(message, (np.ndarray, array)):
        return np.asarray(message).tolist()
    if isinstance(message, (list, tuple)):
        return [plain(item) for item in message]
    return message.item() if isinstance(message, np.generic) else message


@pytest.mark.parametrize("kind", [*TYPES, *OTHERS])
def test_both_give_the_same_defaults(kind: str) -> None:
    pytest.importorskip("rclpy")
    pytest.importorskip("ivlm_ros.msg")
    assert plain(PlainMessages().make(kind)) == plain(RosMessages().make(kind))


@pytest.mark.parametrize("threshold", [0.0, 0.25, 0.5, 1.0])
def test_both_give_the_same_values(fake_result: FrameResult, fitted_result: FrameResult, threshold: float) -> None:
    pytest.importorskip("rclpy")
    pytest.importorskip("ivlm_ros.msg")
    made = []
    for types in (RosMessages(), PlainMessages()):
        header = types.make("std_msgs/msg/Header", frame_id="camera")
        header.stamp.sec, header.stamp.nanosec = 3, 4
        made.append(
            [
                plain(build(result, header, threshold, types))
                for build in (human_contact_array, object_affordance_array)
                for result in (fake_result, fitted_result)
            ]
        )
    assert made[0] == made[1]
    assert made[0][3]["affordances"][0]["free_regions"]


@pytest.mark.parametrize("kind", [*TYPES, *OTHERS])
def test_defaults_can_be_written_and_read(kind: str) -> None:
    message = PlainMessages().make(kind)
    data = message_store().serialize_cdr(message, kind)
    assert plain(message_store().deserialize_cdr(data, kind)) == plain(message)


def test_values_can_be_written_and_read(fitted_result: FrameResult) -> None:
    types = PlainMessages()
    header = types.make("std_msgs/msg/Header", frame_id="camera")
    message = object_affordance_array(fitted_result, header, 0.5, types)
    data = message_store().serialize_cdr(message, "ivlm_ros/msg/ObjectAffordanceArray")
    again = message_store().deserialize_cdr(data, "ivlm_ros/msg/ObjectAffordanceArray")
    assert plain(again) == plain(message)


def test_two_messages_share_nothing() -> None:
    types = PlainMessages()
    first, second = (types.make("ivlm_ros/msg/HumanContactArray") for _ in range(2))
    first.contacts.append("anything")
    first.header.frame_id = "changed"
    assert (second.contacts, second.header.frame_id) == ([], "")


def test_a_wrong_field_is_named() -> None:
    with pytest.raises(ConfigError, match="no field 'colour'"):
        PlainMessages().make("sensor_msgs/msg/Image", colour=3)
