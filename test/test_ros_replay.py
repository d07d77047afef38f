from __future__ import annotations

import array
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ivlm_core.datasets import BagRecorder, BagTopic, message_store, open_bag
from ivlm_core.datasets.synthetic.bag import CAMERA_INFO, DETECTIONS, IMAGE, RecordedFrame, write_frame
from ivlm_core.errors import ConfigError, InputError
from ivlm_core.types import CameraIntrinsics
from ivlm_ros.replay import ReplayReport, header_key, message_class, read_frames

INTRINSICS = CameraIntrinsics(50, 50, 31.5, 23.5, 64, 48)


def frame(number: int, frame_id: str = "camera") -> RecordedFrame:
    image = np.full((48, 64, 3), number, dtype=np.uint8)
    return RecordedFrame(image, INTRINSICS, frame_id, 10**18 + number * 10**8 + 7, [("a", "cup", 1, 2, 30, 40)])


@pytest.fixture
def bag(tmp_path: Path) -> Path:
    with BagRecorder(tmp_path / "bag") as recorder:
        for topic in (IMAGE, CAMERA_INFO, DETECTIONS):
            recorder.add_topic(topic)
        for number in range(6):
            write_frame(recorder, frame(number, "left" if number < 4 else "right"))
    return tmp_path / "bag"


def test_latency_table_arithmetic() -> None:
    """Four in, three out: 10, 20 and 90 ms; one dropped; a foreign answer counts for nothing."""
    report = ReplayReport()
    for number, latency in enumerate((0.010, None, 0.020, 0.090)):
        key = ("left" if number < 2 else "right", number)
        report.published[key] = 5.0 + number
        if latency is not None:
            report.received[key] = 5.0 + number + latency
    report.received["left", 99] = 6.0
    summary = report.summary()
    assert (summary["frames_in"], summary["frames_out"], summary["dropped"]) == (4, 3, 1)
    assert summary["latency_ms"]["p50"] == pytest.approx(20)
    assert summary["latency_ms"]["p95"] == pytest.approx(83)
    left, right, all_of_it = (line.split() for line in report.table().splitlines()[1:])
    assert left == ["left", "2", "1", "1", "10", "ms", "10", "ms"]
    assert right == ["right", "2", "2", "0", "55", "ms", "86", "ms"]
    assert all_of_it == ["all", "4", "3", "1", "20", "ms", "83", "ms"]


def test_table_of_a_silent_node_has_no_latency() -> None:
    report = ReplayReport({("camera", 1): 0.0})
    assert report.summary()["latency_ms"] == {"p50": None, "p95": None}
    assert report.table().splitlines()[1].split() == ["camera", "1", "0", "1", "–", "–"]


def test_frames_hold_all_that_shares_the_stamp(bag: Path) -> None:
    frames = read_frames(bag)
    assert [item.key for item in frames] == [
        ("left" if number < 4 else "right", 10**18 + number * 10**8 + 7) for number in range(6)
    ]
    for item in frames:
        assert sorted(name for name, _ in item.messages) == ["camera_info", "detections", "image"]
        assert {header_key(data) for _, data in item.messages} == {item.key}


def test_bag_without_detections_is_refused(tmp_path: Path) -> None:
    with BagRecorder(tmp_path / "bag") as recorder:
        recorder.add_topic(IMAGE)
    with pytest.raises(InputError, match="DetectedObjectArray"):
        read_frames(tmp_path / "bag")


@pytest.mark.parametrize("size", [0, 3, 15, 20])
def test_truncated_message_has_no_header(size: int) -> None:
    store = message_store()
    header = store.types["std_msgs/msg/Header"](
        stamp=store.types["builtin_interfaces/msg/Time"](sec=-3, nanosec=5), frame_id="camera"
    )
    whole = bytes(store.serialize_cdr(header, "std_msgs/msg/Header"))
    assert header_key(whole) == ("camera", -3 * 10**9 + 5)
    big = bytes(store.serialize_cdr(header, "std_msgs/msg/Header", little_endian=False))
    assert header_key(big) == ("camera", -3 * 10**9 + 5)
    with pytest.raises(InputError, match=f"has {size} bytes"):
        header_key(whole[:size])


def test_unknown_message_type_says_what_to_do() -> None:
    with pytest.raises(ConfigError, match="source the workspace"):
        message_class("no_such_msgs/msg/Nothing")


@pytest.fixture
def ros() -> Iterator[Any]:
    rclpy = pytest.importorskip("rclpy")
    pytest.importorskip("ivlm_ros.msg")
    from ivlm_ros.transport import use_large_image_profile

    use_large_image_profile()
    rclpy.init(args=[])
    yield rclpy
    rclpy.try_shutdown()


class Echo:
    """Stands in for the node: answers the detections of every second image of `left`, and all of `right`."""

    def __init__(self, rclpy: Any) -> None:
        from ivlm_ros.msg import DetectedObjectArray, HumanContact, HumanContactArray
        from rclpy.executors import SingleThreadedExecutor
        from sensor_msgs.msg import Image

        self.images: list[tuple[int, bytes]] = []
        self._answer = HumanContactArray
        self._contact = HumanContact
        self._node = rclpy.create_node("ivlm_contact")
        self._publisher = self._node.create_publisher(HumanContactArray, "~/human_contacts", 10)
        self._node.create_subscription(DetectedObjectArray, "detections", lambda _: None, 10)
        self._node.create_subscription(Image, "image", self._on_image, 10)
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self._node)
        self._thread = threading.Thread(target=self._executor.spin, daemon=True)
        self._thread.start()

    def _on_image(self, message: Any) -> None:
        self.images.append((message.header.stamp.nanosec, bytes(message.data)))
        if message.header.frame_id == "right" or message.data[0] % 2 == 0:
            contact = self._contact(
                object_label="cup", vertex_indices=array.array("I", [message.data[0]]), probabilities=[0.5]
            )
            self._publisher.publish(self._answer(header=message.header, contacts=[contact]))

    def close(self) -> None:
        self._executor.shutdown()
        self._thread.join(timeout=10)
        self._node.destroy_node()


def test_frames_are_played_answered_and_recorded(ros: Any, bag: Path, tmp_path: Path) -> None:
    from ivlm_ros.replay import Replayer

    frames = read_frames(bag)
    echo = Echo(ros)
    try:
        with BagRecorder(tmp_path / "outputs") as recorder, Replayer(recorder) as replayer:
            replayer.wait_for_node()
            assert replayer.warm_up([frames[0]], timeout=10) < 10
            report = replayer.play(frames, rate=50, timeout=10)
    finally:
        echo.close()
    # Bytes arrive as recorded, stamps untouched, in order.
    numbers = [0, *range(6)]
    assert echo.images == [(number * 10**8 + 7, bytes([number]) * 48 * 64 * 3) for number in numbers]
    assert report.answered == [frames[number].key for number in (0, 2, 4, 5)]
    assert report.of_recording("left").summary()["dropped"] == 2
    assert 0 < report.summary()["latency_ms"]["p50"] < 5000
    with open_bag(tmp_path / "outputs") as reader:
        recorded = [
            (stamp, reader.deserialize(raw, connection.msgtype))
            for connection, stamp, raw in reader.messages()
            if connection.topic == "/ivlm_contact/human_contacts"
        ]
        assert BagTopic("/ivlm_contact/overlay", "sensor_msgs/msg/Image") in {
            BagTopic(connection.topic, connection.msgtype) for connection in reader.connections
        }
    # The warm-up is not in the recording, whose clock continues that of the played bag.
    assert [message.contacts[0].vertex_indices[0] for _, message in recorded] == [0, 2, 4, 5]
    for (stamp, message), key in zip(recorded, report.answered, strict=True):
        assert (message.header.frame_id, message.header.stamp.nanosec) == (key[0], key[1] % 10**9)
        assert 0 < stamp - frames[0].key[1] < 60e9


def test_lockstep_waits_for_every_answer(ros: Any, bag: Path) -> None:
    from ivlm_ros.replay import Replayer

    frames = [item for item in read_frames(bag) if item.key[0] == "right"]
    echo = Echo(ros)
    try:
        with Replayer(None) as replayer:
            replayer.wait_for_node()
            report = replayer.play(frames, rate=None, timeout=10)
    finally:
        echo.close()
    first, second = (item.key for item in frames)
    assert report.received[first] <= report.published[second]
    assert report.summary()["dropped"] == 0


def test_absent_node_is_reported_by_topic(ros: Any) -> None:
    from ivlm_ros.replay import Replayer

    missing = "/robot/image, /robot/detections"
    with Replayer(None, namespace="robot") as replayer, pytest.raises(InputError, match=missing):
        replayer.wait_for_node(timeout=0.3)


def test_unknown_input_name_is_refused(ros: Any) -> None:
    from ivlm_ros.replay import Replayer

    with pytest.raises(ConfigError, match="'picture' is no input"):
        Replayer(None, topics={"picture": "/camera"})


@pytest.mark.parametrize("rate", [0.0, -1.0, 1e6])
def test_rate_out_of_range_is_refused(ros: Any, rate: float) -> None:
    from ivlm_ros.replay import Replayer

    with Replayer(None) as replayer, pytest.raises(ConfigError, match="rate"):
        replayer.play([], rate=rate)
