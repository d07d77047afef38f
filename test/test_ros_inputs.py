"""The subscriptions: their QoS, and one sentence for every way in which nothing arrives."""

from __future__ import annotations

import time
from array import array
from typing import Any

import pytest

pytest.importorskip("rclpy")
pytest.importorskip("ivlm_ros.msg")

from ivlm_ros.msg import DetectedObjectArray, HumanBody, HumanBodyArray
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


SCENE = {"reconstruct": True, "use_bodies": True, "use_depth": True}
KEYPOINTS = array("f", [20.0, 30.0, 0.9] * 17)


class SceneCamera:
    """Publishes an image, its detections, people and depth, each when it is told to."""

    def __init__(self, running: Any, peer: Any, ros_image: Any, ros_detections: Any) -> None:
        self.running, self._image, self._detections = running, ros_image, ros_detections
        kinds = {"image": Image, "detections": DetectedObjectArray, "bodies": HumanBodyArray, "depth": Image}
        self._publishers = {
            name: peer.publisher(kind, name, reader=running)
            for name, kind in kinds.items()
            if running.node.count_subscribers(f"/{name}")
        }

    def show(self, seconds: int, *names: str) -> None:
        for name in names:
            self._publishers[name].publish(self._make(name, seconds))

    def _make(self, name: str, seconds: int) -> Any:
        if name == "image":
            return self._image(seconds)
        if name == "detections":
            return self._detections(seconds, "chair")
        header = self._detections(seconds).header
        if name == "bodies":
            return HumanBodyArray(header=header, bodies=[HumanBody(person_id="ada", keypoints=KEYPOINTS)])
        depth = array("B", array("H", [2500] * (64 * 48)).tobytes())
        return Image(header=header, width=64, height=48, step=128, encoding="16UC1", data=depth)

    def got(self) -> list[tuple[int, bool, bool]]:
        """Stamp of each frame that reached the model, and whether its people and its depth did."""
        frames = [frame for frame, _ in self.running.pipeline.calls]
        return [(frame.stamp_ns // 10**9, bool(frame.keypoints), frame.depth is not None) for frame in frames]


@pytest.fixture
def scene_camera(run_node: Any, peer: Any, ros_image: Any, ros_detections: Any) -> Any:
    return lambda **parameters: SceneCamera(
        run_node(**{**SCENE, **parameters}).start(), peer, ros_image, ros_detections
    )


@pytest.mark.parametrize(
    "order", [("image", "detections", "bodies", "depth"), ("depth", "bodies", "detections", "image")]
)
def test_an_image_waits_for_its_people_and_depth(scene_camera: Any, wait_until: Any, order: tuple[str, ...]) -> None:
    camera = scene_camera()
    camera.show(4, *order[:3])
    time.sleep(0.3)
    assert camera.got() == []
    camera.show(4, order[3])
    wait_until(camera.got)
    assert camera.got() == [(4, True, True)]
    counters = camera.running.counters
    assert (counters.total("bodies_received"), counters.total("depth_received")) == (1, 1)
    assert counters.total("without") == 0


def test_without_publishers_of_people_and_depth_nothing_waits(scene_camera: Any, wait_until: Any, peer: Any) -> None:
    camera = scene_camera()
    for name in ("bodies", "depth"):
        peer.node.destroy_publisher(camera._publishers.pop(name))
        wait_until(lambda topic=f"/{name}": camera.running.node.count_publishers(topic) == 0)
    lines: list[str] = []
    camera.running.node.reporter.log._emit = lambda level, text: lines.append(text)
    camera.show(4, "image", "detections")
    wait_until(camera.got)
    assert camera.got() == [(4, False, False)]
    assert camera.running.counters.get("without", "bodies") == 1
    assert any("nothing publishes /bodies" in line and "'use_bodies'" in line for line in lines)


def test_stamps_that_never_match_do_not_hold_the_images(scene_camera: Any, wait_until: Any) -> None:
    camera = scene_camera(sync_queue=3, use_depth=False)
    lines: list[str] = []
    camera.running.node.reporter.log._emit = lambda level, text: lines.append(text)
    received = camera.running.counters
    for seconds in range(100, 110):
        camera.show(seconds - 90, "bodies")
        camera.show(seconds, "image", "detections")
        wait_until(lambda n=seconds - 99: received.total("detections_received") == n)
        wait_until(lambda n=seconds - 99: len(camera.got()) >= n - 3)
    # The stream has ended: the last ones are let go of in time.
    wait_until(lambda: [stamp for stamp, _, _ in camera.got()][-1] == 109)
    assert not any(people for _, people, _ in camera.got())
    assert received.get("without", "bodies") == 10
    assert any("copy the image's stamp" in line for line in lines)


def test_slop_brings_near_stamps_together(scene_camera: Any, wait_until: Any) -> None:
    camera = scene_camera(sync_slop=1.0, use_depth=False)
    camera.show(5, "bodies")
    wait_until(lambda: camera.running.counters.total("bodies_received"))
    camera.show(6, "image", "detections")
    wait_until(camera.got)
    assert camera.got() == [(6, True, False)]


def test_people_and_depth_are_read_for_the_scene_alone(scene_camera: Any) -> None:
    node = scene_camera(reconstruct=False).running.node
    assert node.count_subscribers("/bodies") == node.count_subscribers("/depth") == 0
