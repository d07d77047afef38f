"""Which topics are the inputs: by type, content, frame and name, or as the user says."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from ivlm_core.errors import InputError
from ivlm_ros.replay.bag_files import Bag
from ivlm_ros.replay.findings import Findings
from ivlm_ros.replay.topics import Selection, choose_topics

_spec = importlib.util.spec_from_file_location("replay_bags", Path(__file__).with_name("test_ros_replay_offline.py"))
assert _spec is not None
assert _spec.loader is not None
bags: Any = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(bags)

IMAGE = "sensor_msgs/msg/Image"
INFO = "sensor_msgs/msg/CameraInfo"
FOUND = "ivlm_ros/msg/DetectedObjectArray"
OPTIONAL = ("camera_info", "bodies", "depth")


def choose(
    tmp_path: Path, messages: list[Any], needed: tuple[str, ...] = ("image",), **given: str
) -> tuple[Selection, Findings]:
    findings = Findings()
    with Bag(bags.record(tmp_path / "bag", messages), findings) as bag:
        return choose_topics(bag, findings, given, needed, OPTIONAL, ("/ground_truth/", "/ivlm_contact/")), findings


def name(selection: Selection, which: str) -> str:
    return selection.topics[which].name


def test_depth_image_is_never_taken_for_colour(tmp_path: Path) -> None:
    messages = [
        (0, "/a/depth", IMAGE, bags.image(0, "16UC1")),
        (0, "/b/depth", IMAGE, bags.image(0, "32FC1")),
        (0, "/c/color", IMAGE, bags.image(0, "bgr8")),
    ]
    selection, findings = choose(tmp_path, messages)
    assert (name(selection, "image"), name(selection, "depth")) == ("/c/color", "/a/depth")
    assert "--depth-topic" in findings.report()["chosen_topic"]["first"]


def test_first_by_name_is_taken_and_told(tmp_path: Path) -> None:
    messages = [(0, topic, IMAGE, bags.image(0)) for topic in ("/right", "/left")]
    selection, findings = choose(tmp_path, messages)
    assert name(selection, "image") == "/left"
    assert "there are also /right (choose with --image-topic)" in findings.report()["chosen_topic"]["first"]


def test_camera_of_the_detections_comes_before_the_first_by_name(tmp_path: Path) -> None:
    messages = [(0, f"/{side}/image", IMAGE, bags.image(0, frame=side)) for side in ("left", "right")]
    messages += [(0, f"/{side}/camera_info", INFO, bags.camera_info(0, side)) for side in ("left", "right")]
    messages += [(0, "/detections", FOUND, bags.detections(0, frame="right"))]
    selection, _ = choose(tmp_path, messages, ("image", "detections"))
    assert (name(selection, "image"), name(selection, "camera_info")) == ("/right/image", "/right/camera_info")


def test_colour_comes_before_grey(tmp_path: Path) -> None:
    messages = [(0, "/a", IMAGE, bags.image(0, "mono8")), (0, "/b", IMAGE, bags.image(0))]
    assert name(choose(tmp_path, messages)[0], "image") == "/b"


def test_named_topic_is_taken(tmp_path: Path) -> None:
    messages = [(0, topic, IMAGE, bags.image(0)) for topic in ("/right", "/left")]
    assert name(choose(tmp_path, messages, image="/right")[0], "image") == "/right"
    with pytest.raises(InputError, match="/left"):
        choose(tmp_path, messages, image="/middle")
    with pytest.raises(InputError, match="it must be"):
        choose(tmp_path, messages, camera_info="/right")


def test_missing_images_list_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="/depth") as refused:
        choose(tmp_path, [(0, "/depth", IMAGE, bags.image(0, "16UC1"))])
    assert "--image-topic" in str(refused.value)
    assert IMAGE in str(refused.value)


def test_own_overlay_and_ground_truth_are_no_inputs(tmp_path: Path) -> None:
    messages = [
        (0, "/ivlm_contact/overlay", IMAGE, bags.image(0)),
        (0, "/ground_truth/image", IMAGE, bags.image(0)),
        (0, "/z", IMAGE, bags.image(0)),
    ]
    assert name(choose(tmp_path, messages)[0], "image") == "/z"


def test_topic_without_messages_is_none(tmp_path: Path) -> None:
    from ivlm_core.datasets import BagRecorder, BagTopic

    with BagRecorder(tmp_path / "bag") as recorder:
        recorder.add_topic(BagTopic("/image", IMAGE))
    findings = Findings()
    with Bag(tmp_path / "bag", findings) as bag, pytest.raises(InputError, match="no topic with colour images"):
        choose_topics(bag, findings, {}, ("image",), ())
