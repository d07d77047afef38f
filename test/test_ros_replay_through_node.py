"""Online replay: the node that runs gets the bag over DDS, and its answers are those of the offline replay."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rclpy")
pytest.importorskip("ivlm_ros.msg")

from ivlm_core.errors import InputError
from ivlm_ros.replay import through_node as module
from ivlm_ros.replay.answers import read_answers
from ivlm_ros.replay.findings import Findings
from ivlm_ros.replay.settings import ReplaySettings
from ivlm_ros.replay.through_node import node_latency, replay_online

_spec = importlib.util.spec_from_file_location("replay_bags", Path(__file__).with_name("test_ros_replay_offline.py"))
assert _spec is not None
assert _spec.loader is not None
bags: Any = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(bags)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not there is missed sooner."""
    monkeypatch.setattr(module, "DISCOVERY_SECONDS", 5.0)


def answers(bag: Path) -> list[tuple[str, Any]]:
    return [
        (topic, bags.plain(message))
        for topic, _, message in sorted(bags.decoded(bag), key=lambda item: (item[0], item[1]))
        if topic.endswith(("human_contacts", "object_affordances"))
    ]


def test_lockstep_gives_the_messages_of_the_offline_replay(run_node: Any, fake_pipeline: Any, tmp_path: Path) -> None:
    bag = bags.record(tmp_path / "bag", bags.usual(6))
    bags.replay(bag, type(fake_pipeline)(), out=tmp_path / "offline")
    run_node().start()
    findings = Findings()
    outcome = replay_online(ReplaySettings(bag, tmp_path / "online", online=True), findings)
    assert (outcome.frames_in, outcome.frames_out, dict(outcome.dropped)) == (6, 6, {})
    assert findings.report() == {}
    assert answers(tmp_path / "online" / "bag") == answers(tmp_path / "offline" / "bag")
    assert len(answers(tmp_path / "online" / "bag")) == 12
    written = bags.decoded(tmp_path / "online" / "bag")
    copied = [(topic, time) for topic, time, _ in written if topic in ("/image", "/camera_info", "/detections")]
    assert copied == [(topic, time) for topic, time, _ in bags.decoded(bag)]
    # Answers lie behind their images by what they took, however fast these were played.
    images = [time for topic, time, _ in written if topic == "/image"]
    given = [time for topic, time, _ in written if topic == "/ivlm_contact/human_contacts"]
    assert all(0 < answer - image < 10**10 for image, answer in zip(images, given, strict=True))
    assert {"/ivlm_contact/overlay", "/ivlm_contact/markers", "/diagnostics"} <= {topic for topic, *_ in written}
    # Both sides of an object are one answer, at the time of its image, though their messages came one after the other.
    merged = read_answers(tmp_path / "online" / "bag", "/ivlm_contact", "/image")
    assert [answer.time for answer in merged] == images
    assert all(answer.body is not None and answer.thing is not None for answer in merged)
    assert outcome.model == {"name": "fake", "weights_hash": "0123456789abcdef", "device": "cpu"}
    assert len(outcome.stages["total"]) == 6
    assert all(sample.picture.startswith(b"\xff\xd8") for sample in outcome.samples)
    assert "model" in outcome.node["latency"]


def test_lost_image_is_sent_again_and_asked_once(
    run_node: Any, fake_pipeline: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bag = bags.record(tmp_path / "bag", bags.usual(3))
    run_node().start()
    publish, lost = module.Replayer.publish, []

    def losing(self: Any, frame: Any, names: Any = None) -> None:
        if len(lost) < 2 and names is None and frame.key[1] != bags.FIRST:
            lost.append(frame.key)
            names = ("detections", "camera_info")
        publish(self, frame, names)

    monkeypatch.setattr(module.Replayer, "publish", losing)
    outcome = replay_online(ReplaySettings(bag, tmp_path / "out", online=True), Findings())
    assert len(lost) == 2
    assert outcome.frames_out == 3
    assert [frame.stamp_ns - bags.FIRST for frame, _ in fake_pipeline.calls] == [0, bags.STEP, 2 * bags.STEP]


def test_slow_node_drops_images_at_a_rate_and_says_so(run_node: Any, fake_pipeline: Any, tmp_path: Path) -> None:
    bag = bags.record(tmp_path / "bag", bags.usual(12))
    run_node().start()
    fake_pipeline.seconds = 0.25
    findings = Findings()
    outcome = replay_online(ReplaySettings(bag, tmp_path / "out", online=True, rate=20.0, timeout=2.0), findings)
    assert outcome.frames_in == 12
    assert outcome.dropped["busy"] >= 4
    assert outcome.frames_out + sum(outcome.dropped.values()) == 12
    assert "busy" in findings.report()["unanswered_frame"]["first"]


def test_remapped_and_namespaced_node_is_found(run_node: Any, tmp_path: Path) -> None:
    """Its topics are taken from where it really reads."""
    bag = bags.record(tmp_path / "bag", bags.usual(2))
    run_node(namespace="robot").start()
    outcome = replay_online(ReplaySettings(bag, tmp_path / "out", online=True, namespace="robot"), Findings())
    assert outcome.frames_out == 2
    assert "/robot/ivlm_contact/human_contacts" in {topic for topic, *_ in bags.decoded(tmp_path / "out" / "bag")}


@pytest.mark.parametrize(
    ("read", "expected"),
    [
        ({"/image": {"I"}, "/detections": {"D"}}, {"image": "/image", "detections": "/detections"}),
        ({"/cam/color": {"I"}, "/yolo": {"D"}}, {"image": "/cam/color", "detections": "/yolo"}),
        ({"/cam/color": {"I"}, "/cam/depth": {"I"}}, {"image": "/cam/color"}),
        ({"/one": {"I"}, "/two": {"I"}}, {}),
        ({"/image": {"other"}}, {}),
    ],
)
def test_topics_are_matched_by_name_then_by_type(
    read: dict[str, set[str]], expected: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RAW", "I")
    own = {"image": "/image", "detections": "/detections"}
    assert module._matched(read, own, {"image": "I", "detections": "D"}) == expected


def test_without_a_node_the_error_says_how_to_start_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DISCOVERY_SECONDS", 0.5)
    bag = bags.record(tmp_path / "bag", bags.usual(1))
    with pytest.raises(InputError, match="ros2 launch ivlm_ros contact") as refused:
        replay_online(ReplaySettings(bag, tmp_path / "out", online=True), Findings())
    assert "/ivlm_contact" in str(refused.value)
    assert not (tmp_path / "out" / "bag").exists()


def test_robots_own_diagnostics_stay_as_recorded(run_node: Any, tmp_path: Path) -> None:
    kind = "diagnostic_msgs/msg/DiagnosticArray"
    own = bags.TYPES.make(kind, header=bags.header(0, "battery"))
    bag = bags.record(tmp_path / "bag", [*bags.usual(2), (3.0, "/diagnostics", kind, own)])
    run_node().start()
    outcome = replay_online(ReplaySettings(bag, tmp_path / "out", online=True), Findings())
    assert outcome.frames_out == 2
    told = [message for topic, _, message in bags.decoded(tmp_path / "out" / "bag") if topic == "/diagnostics"]
    assert [message.header.frame_id for message in told] == ["battery"]


def test_latency_that_the_node_reports() -> None:
    status = {
        "latency_total_p50_ms": "12.5",
        "latency_total_p95_ms": "20.0",
        "dropped": "3",
        "latency_shell_cpu_p50_ms": "1",
    }
    assert node_latency(status) == {"total": {"p50_ms": 12.5, "p95_ms": 20.0}, "shell_cpu": {"p50_ms": 1.0}}
