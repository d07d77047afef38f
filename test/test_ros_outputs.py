"""The publishers: markers and overlay are made only while somebody looks, and late viewers see the last markers."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy")
pytest.importorskip("ivlm_ros.msg")

from ivlm_ros.msg import DetectedObjectArray, HumanContactArray
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import Image, PointCloud2
from visualization_msgs.msg import Marker, MarkerArray

from ivlm_core import ImageContact
from ivlm_ros.conversions import rgb_from_image


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Replaces the overlay by a plain picture and lists the calls."""
    import ivlm_core.draw

    calls: list[Any] = []

    def draw(frame: Any, result: Any, threshold: float, queries: Any) -> np.ndarray:
        calls.append((frame, result, threshold, [query.label for query in queries]))
        return np.full((10, 20, 3), 7, np.uint8)

    monkeypatch.setattr(ivlm_core.draw, "draw_overlay", draw)
    return calls


@pytest.fixture
def show(run_node: Any, peer: Any, ros_image: Any, ros_detections: Any, wait_until: Any) -> Any:
    """Starts a node; calling it shows one frame and waits for the answer."""
    return starter(run_node, peer, ros_image, ros_detections, wait_until)


def starter(run_node: Any, peer: Any, ros_image: Any, ros_detections: Any, wait_until: Any, **parameters: Any) -> Any:
    running = run_node(**parameters).start()
    images = peer.publisher(Image, "image", reader=running)
    detections = peer.publisher(DetectedObjectArray, "detections", reader=running)

    def show_one(seconds: int) -> Any:
        done = running.counters.total("frames_processed")
        images.publish(ros_image(seconds))
        detections.publish(ros_detections(seconds, "chair"))
        wait_until(lambda: running.counters.total("frames_processed") == done + 1)
        return running

    show_one.running = running  # type: ignore[attr-defined]
    return show_one


def test_nobody_looks_nothing_is_drawn(show: Any, drawn: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    outputs = show.running.node._outputs
    monkeypatch.setattr(outputs._contact_markers, "build", lambda *_: pytest.fail("markers were built"))
    show(1)
    assert drawn == []
    assert show.running.counters.total("frames_failed") == 0


def test_overlay_carries_the_picture_and_the_header(show: Any, drawn: list[Any], peer: Any, wait_until: Any) -> None:
    heard = peer.hear(Image, "ivlm_contact/overlay", 1)
    wait_until(lambda: show.running.node._outputs._overlay.get_subscription_count())
    show(5)
    wait_until(lambda: heard)
    assert (heard[0].header.frame_id, heard[0].header.stamp.sec) == ("camera_optical", 5)
    np.testing.assert_array_equal(rgb_from_image(heard[0]), np.full((10, 20, 3), 7))
    assert [(call[2], call[3]) for call in drawn] == [(0.5, ["chair"])]


def test_markers_are_latched_and_cleared(show: Any, peer: Any, wait_until: Any) -> None:
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    early = peer.hear(MarkerArray, "ivlm_contact/markers", latched)
    wait_until(lambda: early)
    assert [marker.action for marker in early[0].markers] == [Marker.DELETEALL]
    show(6)
    wait_until(lambda: len(early) == 2)
    late = peer.hear(MarkerArray, "ivlm_contact/markers", latched)
    wait_until(lambda: late)
    assert late[0] == early[1]
    assert {marker.header.frame_id for marker in late[0].markers} == {"ivlm_body"}
    show.running.node.trigger_deactivate()
    wait_until(lambda: len(early) == 3)
    assert [marker.action for marker in early[2].markers] == [Marker.DELETEALL]


def test_contact_on_the_picture_is_a_grey_image(show: Any, peer: Any, wait_until: Any, fake_pipeline: Any) -> None:
    probability = np.linspace(0, 1, 480 * 640, dtype=np.float32).reshape(480, 640)
    first, second = (ImageContact("cup", values, "It is.", 0.5) for values in (probability, probability[::-1]))
    answer = fake_pipeline.run
    fake_pipeline.run = lambda frame, queries: dataclasses.replace(
        answer(frame, queries), image_contacts=(first, second)
    )
    heard = peer.hear(Image, "ivlm_contact/image_contact", 1)
    wait_until(lambda: show.running.node._outputs._image_contact.get_subscription_count())
    show(9)
    wait_until(lambda: heard)
    assert (heard[0].encoding, heard[0].height, heard[0].width) == ("mono8", 480, 640)
    assert heard[0].header.stamp.sec == 9
    expected = np.round(np.maximum(probability, probability[::-1]) * 255)
    np.testing.assert_array_equal(np.frombuffer(heard[0].data, np.uint8).reshape(480, 640), expected)


def test_other_modes_publish_no_picture_contact(show: Any, peer: Any, wait_until: Any) -> None:
    heard = peer.hear(Image, "ivlm_contact/image_contact", 1)
    wait_until(lambda: show.running.node._outputs._image_contact.get_subscription_count())
    show(3)
    show(4)
    assert heard == []


@pytest.fixture
def show_scene(
    run_node: Any, peer: Any, ros_image: Any, ros_detections: Any, wait_until: Any, fake_pipeline: Any
) -> Any:
    """The same with a node that fits objects into the scene; parameters are keywords."""
    fake_pipeline.fits = True
    return lambda **parameters: starter(
        run_node, peer, ros_image, ros_detections, wait_until, reconstruct=True, **parameters
    )


LATCHED = QoSProfile(depth=5, durability=DurabilityPolicy.TRANSIENT_LOCAL)


@pytest.mark.parametrize("markers", ["auto", "both", "off"])
def test_which_markers_are_shown(show_scene: Any, peer: Any, wait_until: Any, markers: str) -> None:
    show = show_scene(markers=markers)
    outputs = show.running.node._outputs
    heard = peer.hear(MarkerArray, "ivlm_contact/markers", LATCHED)
    wait_until(outputs._markers.get_subscription_count)
    kinds = {"auto": 1, "both": 2, "off": 0}[markers]
    wait_until(lambda: len(heard) == kinds)
    assert all([marker.action for marker in array.markers] == [Marker.DELETEALL] for array in heard)
    show(6)
    wait_until(lambda: len(heard) == 2 * kinds)
    show(7)
    wait_until(lambda: len(heard) == 3 * kinds)
    frames = [{marker.header.frame_id for marker in array.markers} for array in heard[kinds:]]
    assert (
        frames
        == {"auto": [{"camera_optical"}] * 2, "both": [{"ivlm_body"}, {"camera_optical"}] * 2, "off": []}[markers]
    )
    # Who comes late sees the last of each kind.
    late = peer.hear(MarkerArray, "ivlm_contact/markers", LATCHED)
    wait_until(lambda: len(late) == kinds)
    assert late == heard[2 * kinds :]


def test_contact_points_are_published_for_who_listens(
    show_scene: Any, peer: Any, wait_until: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ivlm_ros import outputs as module

    made: list[Any] = []
    real = module.contact_cloud
    monkeypatch.setattr(module, "contact_cloud", lambda *given: made.append(given) or real(*given))
    show = show_scene(contact_points=True)
    show(5)
    assert made == [], "nobody listens"
    heard = peer.hear(PointCloud2, "ivlm_contact/contact_points")
    wait_until(show.running.node._outputs._points.get_subscription_count)
    show(6)
    wait_until(lambda: heard)
    assert (heard[0].header.frame_id, heard[0].header.stamp.sec) == ("camera_optical", 6)
    assert heard[0].width == 2 + 6


def test_contact_points_are_off_unless_asked_for(show_scene: Any) -> None:
    node = show_scene().running.node
    assert node.count_publishers("/ivlm_contact/contact_points") == 0


def test_publishers_come_and_go_with_the_configuration(show_scene: Any) -> None:
    node = show_scene(contact_points=True).running.node
    assert node.count_publishers("/ivlm_contact/contact_points") == 1
    assert node.trigger_deactivate() == node.trigger_cleanup() == TransitionCallbackReturn.SUCCESS
    assert node.count_publishers("/ivlm_contact/contact_points") == 0


def test_nothing_in_contact_is_an_empty_cloud(show_scene: Any, peer: Any, wait_until: Any, fake_pipeline: Any) -> None:
    answer = fake_pipeline.run

    def untouched(frame: Any, queries: Any) -> Any:
        result = answer(frame, queries)
        fitted = [
            dataclasses.replace(one, body_contact=np.zeros(40, np.float32), summary=None)
            for one in result.reconstructions
        ]
        return dataclasses.replace(result, reconstructions=tuple(fitted), object_affordances=())

    fake_pipeline.run = untouched
    show = show_scene(contact_points=True)
    heard = peer.hear(PointCloud2, "ivlm_contact/contact_points")
    wait_until(show.running.node._outputs._points.get_subscription_count)
    show(6)
    wait_until(lambda: heard)
    assert heard[0].width == 0
    assert show.running.counters.total("frames_failed") == 0


def test_a_subscriber_that_asks_for_too_much_is_told(show: Any, peer: Any, wait_until: Any) -> None:
    lines: list[str] = []
    show.running.node.reporter.log._emit = lambda level, text: lines.append(text)
    peer.hear(
        HumanContactArray,
        "ivlm_contact/human_contacts",
        QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL),
    )
    wait_until(lambda: lines)
    assert lines[0].startswith("a subscriber of /ivlm_contact/human_contacts asks for more")
    assert "reliable and volatile" in lines[0]
    assert show.running.counters.get("incompatible_qos", "/ivlm_contact/human_contacts") == 1
