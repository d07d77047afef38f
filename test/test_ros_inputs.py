"""The subscriptions: their QoS, and one sentence for every way in which nothing arrives."""

from __future__ import annotations

import time
from typing import Any

import pytest

pytest.importorskip("rclpy")
pytest.importorskip("ivlm_ros.msg")

from ivlm_ros.msg import DetectedObjectArray
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image

from ivlm_ros.inputs import qos


def test_named_reliability() -> None:
    assert qos("best_effort", 1).reliability == ReliabilityPolicy.BEST_EFFORT
    assert qos("reliable", 3).reliability == ReliabilityPolicy.RELIABLE
    assert (qos("reliable", 3).depth, qos("best_effort", 1).depth) == (3, 1)


@pytest.mark.parametrize("reliability", ["best_effort", "reliable"])
def test_image_subscription_keeps_the_last_one_only(run_node: Any, reliability: str, wait_until: Any) -> None:
    node = run_node(image_reliability=reliability).start().node
    (info,) = wait_until(lambda: node.get_subscriptions_info_by_topic("/image"))
    assert info.qos_profile.reliability.name.lower() == reliability
    assert info.qos_profile.depth in (0, 1)  # not every middleware tells a remote depth


def sentence(running: Any, seconds: float = 0.6) -> str:
    """What the node says after more than its silence_timeout of 0.5 s."""
    time.sleep(seconds)
    return running.node._inputs.starved()


def test_nothing_publishes_images(run_node: Any) -> None:
    running = run_node(silence_timeout=0.5).start()
    assert running.node._inputs.starved() == ""
    assert sentence(running) == "nothing publishes /image: remap 'image' to the camera's topic"


def test_publisher_of_another_type(run_node: Any, peer: Any, wait_until: Any) -> None:
    running = run_node(silence_timeout=0.5).start()
    peer.node.create_publisher(CompressedImage, "image", 1)
    wait_until(lambda: running.node.count_publishers("/image"))
    assert "set 'image_transport'" in sentence(running)


def test_publisher_whose_images_never_arrive(run_node: Any, peer: Any, wait_until: Any) -> None:
    running = run_node(silence_timeout=0.5).start()
    peer.node.create_publisher(Image, "image", 1)
    wait_until(lambda: running.node.count_publishers("/image"))
    text = sentence(running)
    assert text.startswith("/image has a publisher, but no image has arrived")
    for remedy in ("FASTDDS_DEFAULT_PROFILES_FILE", "fastdds_large_images.xml", "image_reliability"):
        assert remedy in text
    assert text.count(". ") == 0  # one sentence


def test_publisher_that_falls_silent(run_node: Any, peer: Any, ros_image: Any, wait_until: Any) -> None:
    running = run_node(silence_timeout=0.5).start()
    peer.publisher(Image, "image", reader=running).publish(ros_image(1))
    wait_until(lambda: running.counters.total("images_received"))
    assert sentence(running).startswith("the publisher of /image has been silent")


def test_missing_and_unmatched_detections(
    run_node: Any, peer: Any, ros_image: Any, ros_detections: Any, wait_until: Any
) -> None:
    running = run_node(silence_timeout=0.5).start()
    images = peer.publisher(Image, "image", reader=running)
    time.sleep(0.6)
    images.publish(ros_image(1))
    wait_until(lambda: running.counters.total("images_received") == 1)
    assert "nothing publishes /detections" in sentence(running, 0)
    detections = peer.publisher(DetectedObjectArray, "detections", reader=running)
    images.publish(ros_image(2))
    wait_until(lambda: running.counters.total("images_received") == 2)
    assert "the publisher of /detections has been silent" in sentence(running, 0)
    detections.publish(ros_detections(4, "chair"))
    wait_until(lambda: running.counters.total("detections_received") == 1)
    assert "no stamps match (the newest are 2.000 s apart)" in sentence(running, 0)
    detections.publish(ros_detections(2, "chair"))
    wait_until(lambda: running.pipeline.calls)
    assert sentence(running, 0) == ""


def test_disabled_node_misses_nothing(run_node: Any) -> None:
    running = run_node(silence_timeout=0.5).start()
    running.node.enabled = False
    assert sentence(running) == ""


def test_incompatible_qos_is_explained(run_node: Any, peer: Any, wait_until: Any) -> None:
    running = run_node(image_reliability="reliable").start()
    lines: list[str] = []
    running.node.reporter.log._emit = lambda level, text: lines.append(text)
    peer.node.create_publisher(Image, "image", QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT))
    wait_until(lambda: lines)
    assert lines[0].startswith("a publisher of /image does not offer the reliable QoS")
    assert "set 'image_reliability' to best_effort" in lines[0]
    assert running.counters.get("incompatible_qos", "/image") == 1


def test_time_jumping_back_is_noticed_and_answered(
    run_node: Any, peer: Any, ros_image: Any, ros_detections: Any, wait_until: Any
) -> None:
    running = run_node().start()
    images = peer.publisher(Image, "image", reader=running)
    detections = peer.publisher(DetectedObjectArray, "detections", reader=running)
    for number, seconds in enumerate((1000, 3), start=1):
        images.publish(ros_image(seconds))
        detections.publish(ros_detections(seconds, "chair"))
        wait_until(lambda n=number: running.counters.total("frames_processed") == n)
    assert running.counters.get("time_jumps", "image") == 1


def test_compressed_images(run_node: Any, peer: Any, ros_detections: Any, wait_until: Any) -> None:
    import io
    from array import array

    from PIL import Image as PilImage

    running = run_node(image_transport="compressed").start()
    stream = io.BytesIO()
    PilImage.new("RGB", (64, 48), (10, 20, 30)).save(stream, "PNG")
    message = CompressedImage(format="png", data=array("B", stream.getvalue()))
    message.header = ros_detections(7).header
    images = peer.publisher(CompressedImage, "image", reader=running)
    detections = peer.publisher(DetectedObjectArray, "detections", reader=running)
    images.publish(message)
    detections.publish(ros_detections(7, "chair"))
    wait_until(lambda: running.pipeline.calls)
    assert running.pipeline.calls[0][0].image[0, 0].tolist() == [10, 20, 30]


def test_exception_in_a_callback_does_not_end_the_node(
    run_node: Any, peer: Any, ros_image: Any, monkeypatch: pytest.MonkeyPatch, wait_until: Any
) -> None:
    running = run_node().start()
    inputs = running.node._inputs
    images = peer.publisher(Image, "image", reader=running)
    monkeypatch.setattr(inputs, "_note_stamp", lambda *_: 1 // 0)
    images.publish(ros_image(1))
    wait_until(lambda: running.counters.get("internal_error", "image") == 1)
    monkeypatch.undo()
    images.publish(ros_image(2))
    wait_until(lambda: running.counters.total("images_received") == 2)
    assert running.counters.total("internal_error") == 1
