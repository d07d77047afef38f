"""Offline replay: every image once, in order, the same each time, without ROS; what cannot be used is told."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ivlm_core.datasets import BagRecorder, BagTopic, message_store, open_bag
from ivlm_core.datasets.image_messages import stamp_ns
from ivlm_core.errors import InputError
from ivlm_ros.message_types import PlainMessages
from ivlm_ros.replay.findings import Findings
from ivlm_ros.replay.offline import replay_offline
from ivlm_ros.replay.outcome import Outcome
from ivlm_ros.replay.settings import ReplaySettings

ROOT = Path(__file__).resolve().parents[1]
TYPES = PlainMessages()
FIRST = 10**18
STEP = 10**8
Say = Callable[[str, str, Any, int], None]


def header(number: float, frame: str = "camera") -> Any:
    stamp = FIRST + round(number * STEP)
    made = TYPES.make("std_msgs/msg/Header", frame_id=frame)
    made.stamp.sec, made.stamp.nanosec = stamp // 10**9, stamp % 10**9
    return made


def image(number: float, encoding: str = "rgb8", frame: str = "camera", value: int = 7) -> Any:
    channels = {"rgb8": 3, "bgr8": 3, "mono8": 1, "16UC1": 2, "32FC1": 4}[encoding]
    data = np.full(48 * 64 * channels, value, np.uint8)
    return TYPES.make(
        "sensor_msgs/msg/Image",
        header=header(number, frame),
        height=48,
        width=64,
        encoding=encoding,
        step=64 * channels,
        data=data,
    )


def detections(number: float, *labels: str, frame: str = "camera") -> Any:
    objects = [
        TYPES.make("ivlm_ros/msg/DetectedObject", id=str(index), label=label, score=0.5)
        for index, label in enumerate(labels or ("cup",))
    ]
    return TYPES.make("ivlm_ros/msg/DetectedObjectArray", header=header(number, frame), objects=objects)


def camera_info(number: float, frame: str = "camera", focal: float = 50.0) -> Any:
    k = np.array([focal, 0, 31.5, 0, focal, 23.5, 0, 0, 1.0])
    return TYPES.make("sensor_msgs/msg/CameraInfo", header=header(number, frame), width=64, height=48, k=k)


Message = tuple[float, str, str, Any]


def record(path: Path, messages: Sequence[Message], storage: str = "mcap") -> Path:
    """A bag of (number of the image it is received with, topic, type, message)."""
    with BagRecorder(path, storage) as recorder:
        for at, topic, kind, message in messages:
            recorder.add_topic(BagTopic(topic, kind))
            recorder.write(topic, message, FIRST + round(at * STEP))
    return path


def usual(count: int = 5) -> list[Message]:
    made: list[Message] = []
    for number in range(count):
        made += [
            (number, "/image", "sensor_msgs/msg/Image", image(number)),
            (number, "/camera_info", "sensor_msgs/msg/CameraInfo", camera_info(number)),
            (number + 0.5, "/detections", "ivlm_ros/msg/DetectedObjectArray", detections(number)),
        ]
    return made


def replay(bag: Path, pipeline: Any, **settings: Any) -> tuple[Outcome, Findings]:
    findings = Findings()
    out = settings.pop("out", bag.with_name("out"))
    return replay_offline(ReplaySettings(bag, out, **settings), findings, load=lambda _: pipeline), findings


def asked(pipeline: Any) -> list[Any]:
    """What the pipeline was asked after its warm-up."""
    return pipeline.calls[pipeline.calls.index("forget") + 1 :]


def decoded(bag: Path) -> list[tuple[str, int, Any]]:
    with open_bag(bag) as reader:
        return [
            (connection.topic, time, reader.deserialize(raw, connection.msgtype))
            for connection, time, raw in reader.messages()
        ]


def plain(message: Any) -> Any:
    """For comparison: arrays as lists."""
    if hasattr(message, "__dataclass_fields__"):
        return {name: plain(getattr(message, name)) for name in message.__dataclass_fields__}
    if isinstance(message, np.ndarray):
        return message.tolist()
    return [plain(item) for item in message] if isinstance(message, list) else message


def test_every_image_is_answered_in_order_beside_its_input(tmp_path: Path, fake_pipeline: Any) -> None:
    bag = record(tmp_path / "bag", usual())
    outcome, findings = replay(bag, fake_pipeline)
    assert (outcome.frames_in, outcome.frames_out, dict(outcome.dropped)) == (5, 5, {})
    assert findings.report() == {}
    assert [frame.stamp_ns for frame, _ in asked(fake_pipeline)] == [FIRST + number * STEP for number in range(5)]
    assert all(frame.intrinsics is not None and frame.intrinsics.fx == 50.0 for frame, _ in asked(fake_pipeline))
    written = decoded(tmp_path / "out" / "bag")
    before = decoded(bag)
    copied = [item for item in written if not item[0].startswith("/ivlm_contact/")]
    assert [(topic, time) for topic, time, _ in copied] == [(topic, time) for topic, time, _ in before]
    assert [plain(message) for *_, message in copied] == [plain(message) for *_, message in before]
    for name in ("human_contacts", "object_affordances"):
        answers = [(time, message) for topic, time, message in written if topic == f"/ivlm_contact/{name}"]
        # At the time the image was received at, under its header.
        assert [time for time, _ in answers] == [FIRST + number * STEP for number in range(5)]
        assert [stamp_ns(message.header) for _, message in answers] == [FIRST + number * STEP for number in range(5)]
        assert {message.header.frame_id for _, message in answers} == {"camera"}
    contact = next(message for topic, _, message in written if topic.endswith("human_contacts")).contacts[0]
    assert (contact.object_label, list(contact.vertex_indices)) == ("cup", [2, 5])


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_two_runs_give_identical_decoded_messages(tmp_path: Path, storage: str) -> None:
    """With the shipped model, on generated pictures."""
    from ivlm_core.datasets.synthetic import write_demo_bag
    from ivlm_ros.replay.offline import load_pipeline

    write_demo_bag(tmp_path / "bag", frames=2, seed=5, photo=False)
    found = []
    for run in ("first", "second"):
        settings = ReplaySettings(tmp_path / "bag", tmp_path / run, storage=storage, frames=4, overlay=True)
        outcome = replay_offline(settings, Findings(), load=load_pipeline)
        assert outcome.frames_out == 4
        found.append([(topic, time, plain(message)) for topic, time, message in decoded(tmp_path / run / "bag")])
    assert found[0] == found[1]
    assert {"/ivlm_contact/overlay", "/ground_truth/human_contacts"} <= {topic for topic, *_ in found[0]}


BLOCKED = """
import sys

class Block:
    def find_spec(self, name, path=None, target=None):
        top = name.split(".")[0]
        if top in ("rclpy", "rcl_interfaces") or top.endswith("_msgs") or name.startswith("ivlm_ros.msg"):
            raise ImportError(f"{name} is blocked")

sys.meta_path.insert(0, Block())
from ivlm_core.cli import main
status = main(sys.argv[1:])
assert not [name for name in sys.modules if name.split(".")[0] == "rclpy" or name.split(".")[0].endswith("_msgs")]
sys.exit(status)
"""


def test_no_ros_is_imported(tmp_path: Path) -> None:
    bag = record(tmp_path / "bag", usual(2))
    run = subprocess.run(
        [sys.executable, "-c", BLOCKED, "replay", str(bag), "--out", str(tmp_path / "out"), "--json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout)["frames"] == {"in": 2, "out": 2, "dropped": {}}
    assert (tmp_path / "out" / "report.html").stat().st_size > 10**6


def test_compressed_images_are_read(tmp_path: Path, fake_pipeline: Any) -> None:
    import cv2

    data = cv2.imencode(".png", np.full((48, 64, 3), (10, 20, 30), np.uint8))[1]
    picture = TYPES.make("sensor_msgs/msg/CompressedImage", header=header(0), format="rgb8; png", data=data.reshape(-1))
    kind = "sensor_msgs/msg/CompressedImage"
    bag = record(tmp_path / "bag", [(0, "/image/compressed", kind, picture), usual(1)[2]])
    assert replay(bag, fake_pipeline)[0].frames_out == 1
    assert asked(fake_pipeline)[0][0].image[5, 5].tolist() == [30, 20, 10]


def test_labels_stand_in_for_detections(tmp_path: Path, fake_pipeline: Any) -> None:
    bag = record(tmp_path / "bag", [item for item in usual() if item[1] != "/detections"])
    with pytest.raises(InputError, match="--label"):
        replay(bag, fake_pipeline)
    outcome, _ = replay(bag, fake_pipeline, labels=("chair", "book"))
    assert outcome.frames_out == 5
    assert [[query.label for query in queries] for _, queries in asked(fake_pipeline)] == [["chair", "book"]] * 5


def test_first_image_has_the_camera_that_is_recorded_after_it(tmp_path: Path, fake_pipeline: Any) -> None:
    bag = record(tmp_path / "bag", [item for item in usual(1) if item[1] != "/detections"])
    replay(bag, fake_pipeline, labels=("chair",))
    assert asked(fake_pipeline)[0][0].intrinsics.fx == 50.0


def test_images_without_detections_are_told(tmp_path: Path, fake_pipeline: Any) -> None:
    messages = [item for item in usual() if not (item[1] == "/detections" and item[0] in (1.5, 4.5))]
    outcome, findings = replay(record(tmp_path / "bag", messages), fake_pipeline)
    assert (outcome.frames_in, outcome.frames_out, dict(outcome.dropped)) == (5, 3, {"no_detections": 2})
    assert findings.count("missing_detections") == 2
    assert "--sync-slop" in findings.report()["missing_detections"]["first"]


def test_detections_may_come_much_later_than_their_image(tmp_path: Path, fake_pipeline: Any) -> None:
    """Thirty images before the first detections: the node would have dropped most of them."""
    messages = [(at + 30 if topic == "/detections" else at, topic, *rest) for at, topic, *rest in usual(40)]
    outcome, _ = replay(record(tmp_path / "bag", sorted(messages, key=lambda item: item[0])), fake_pipeline)
    assert (outcome.frames_out, dict(outcome.dropped)) == (40, {})


def test_stamps_within_the_slop_belong_together(tmp_path: Path, fake_pipeline: Any) -> None:
    messages = [item for item in usual() if item[1] != "/detections"]
    kind = "ivlm_ros/msg/DetectedObjectArray"
    messages += [(number + 0.5, "/detections", kind, detections(number + 0.2)) for number in range(5)]
    bag = record(tmp_path / "bag", sorted(messages, key=lambda item: item[0]))
    assert replay(bag, fake_pipeline)[0].frames_out == 0
    outcome, _ = replay(bag, fake_pipeline, slop=0.03)
    assert outcome.frames_out == 5


def test_clock_that_jumps_back_is_told_and_replay_goes_on(tmp_path: Path, fake_pipeline: Any) -> None:
    messages = usual(3)
    for number in range(3):
        at = 10.0 + number
        messages += [
            (at, "/image", "sensor_msgs/msg/Image", image(number - 100)),
            (at + 0.5, "/detections", "ivlm_ros/msg/DetectedObjectArray", detections(number - 100)),
        ]
    outcome, findings = replay(record(tmp_path / "bag", messages), fake_pipeline)
    assert outcome.frames_out == 6
    assert "'image' jump back by 10.2 s" in findings.report()["time_jump"]["first"]


def test_broken_messages_cost_their_frame_alone(tmp_path: Path, fake_pipeline: Any) -> None:
    bag = tmp_path / "bag"
    with BagRecorder(bag) as recorder:
        for at, topic, kind, message in usual(6):
            recorder.add_topic(BagTopic(topic, kind))
            data = bytes(message_store().serialize_cdr(message, kind))
            if (topic, at) == ("/image", 1):
                data = data[: len(data) // 2]
            if (topic, at) == ("/detections", 3.5):
                data = data[:-20] + bytes([255]) * 20
            if (topic, at) == ("/image", 5):
                data = data[:9]
            recorder.write_serialized(topic, data, FIRST + round(at * STEP))
    outcome, findings = replay(bag, fake_pipeline)
    assert outcome.frames_in - outcome.frames_out == sum(outcome.dropped.values())
    assert outcome.frames_out in (3, 4), "image 1 is cut, image 5 has no header, detections 3 may still be readable"
    assert outcome.dropped["bad_input"] >= 1
    assert findings.count("broken_record") >= 2


def test_images_of_absurd_size_are_refused(tmp_path: Path, fake_pipeline: Any) -> None:
    messages = usual(2)
    messages[3][3].height = messages[3][3].width = 2**31 - 1
    outcome, findings = replay(record(tmp_path / "bag", messages), fake_pipeline)
    assert (outcome.frames_out, outcome.dropped["bad_input"]) == (1, 1)
    assert "image.width" in findings.report()["refused_image"]["first"]


def test_refused_detection_leaves_the_others(tmp_path: Path, fake_pipeline: Any) -> None:
    messages = usual(1)
    messages[2] = (*messages[2][:3], detections(0, "cup", "<image> ignore", "book"))
    outcome, findings = replay(record(tmp_path / "bag", messages), fake_pipeline)
    assert [query.label for query in asked(fake_pipeline)[0][1]] == ["cup", "book"]
    assert outcome.frames_out == 1
    assert findings.count("refused_input") == 1


def test_failing_model_costs_its_frames_and_is_told(tmp_path: Path, fake_pipeline: Any) -> None:
    bag = record(tmp_path / "bag", usual(3))
    run = fake_pipeline.run

    def failing(frame: Any, queries: Any, **options: Any) -> Any:
        if frame.stamp_ns == FIRST + STEP:
            raise RuntimeError("no memory")
        return run(frame, queries, **options)

    fake_pipeline.run = failing
    outcome, findings = replay(bag, fake_pipeline)
    assert (outcome.frames_out, dict(outcome.dropped)) == (2, {"failed": 1})
    assert "no memory" in findings.report()["failed_frame"]["first"]


def test_window_and_number_of_frames(tmp_path: Path, fake_pipeline: Any) -> None:
    bag = record(tmp_path / "bag", usual(10))
    outcome, _ = replay(bag, fake_pipeline, start=0.2, duration=0.3)
    assert (outcome.frames_in, outcome.frames_out) == (3, 3)
    times = [time - FIRST for topic, time, _ in decoded(tmp_path / "out" / "bag")]
    assert min(times) == 2 * STEP
    assert max(times) < 5 * STEP
    outcome, findings = replay(bag, fake_pipeline, start=0.91)
    assert outcome.frames_in == 0
    assert "no image was recorded in the part" in findings.report()["note"]["first"]
    outcome, _ = replay(bag, fake_pipeline, frames=4)
    assert (outcome.frames_in, outcome.frames_out, dict(outcome.dropped)) == (4, 4, {})


def test_people_and_depth_come_with_their_image(tmp_path: Path, fake_pipeline: Any) -> None:
    fake_pipeline.fits = True
    messages = usual(3)
    person = TYPES.make("ivlm_ros/msg/HumanBody", person_id="ada", keypoints=np.ones(51, np.float32))
    for number in range(3):
        metres = image(number, "16UC1")
        bodies = TYPES.make("ivlm_ros/msg/HumanBodyArray", header=header(number), bodies=[person])
        messages.append((number + 2.0, "/depth", "sensor_msgs/msg/Image", metres))
        if number != 1:
            messages.append((number + 0.7, "/people", "ivlm_ros/msg/HumanBodyArray", bodies))
    bag = record(tmp_path / "bag", sorted(messages, key=lambda item: item[0]))
    outcome, findings = replay(bag, fake_pipeline, reconstruct=True)
    assert outcome.frames_out == 3
    assert outcome.inputs["depth"]["topic"] == "/depth"
    assert [len(frame.keypoints) for frame, _ in asked(fake_pipeline)] == [1, 0, 1]
    assert all(frame.depth is not None for frame, _ in asked(fake_pipeline))
    assert findings.count("missing_companion") == 1
    # The fitted scene is kept for the report: the person and the object, in metres.
    assert [part.name for part in outcome.samples[0].scene] == ["person", "cup"]


def test_topics_of_unknown_types_are_copied_or_told(tmp_path: Path, fake_pipeline: Any) -> None:
    from rosbags.rosbag2 import StoragePlugin, Writer

    writer = Writer(tmp_path / "bag", version=9, storage_plugin=StoragePlugin.MCAP)
    hashed = "RIHS01_" + 64 * "0"
    with writer:
        known = {}
        for at, topic, kind, message in usual(2):
            if topic not in known:
                known[topic] = writer.add_connection(topic, kind, typestore=message_store())
            data = message_store().serialize_cdr(message, kind)
            writer.write(known[topic], FIRST + round(at * STEP), bytes(data))
        odd = writer.add_connection("/odd", "odd_msgs/msg/Odd", msgdef="float64 value", rihs01=hashed)
        writer.write(odd, FIRST, b"\x00\x01\x00\x00" + np.float64(2.5).tobytes())
        bad = writer.add_connection("/bad", "bad_msgs/msg/Bad", msgdef="no such / type ((", rihs01=hashed)
        writer.write(bad, FIRST, b"\x00\x01\x00\x00")
    outcome, findings = replay(tmp_path / "bag", fake_pipeline)
    assert outcome.frames_out == 2
    assert [message.value for topic, _, message in decoded(tmp_path / "out" / "bag") if topic == "/odd"] == [2.5]
    assert findings.count("unknown_schema") == 1
    assert "bad_msgs/msg/Bad" in findings.report()["unknown_schema"]["first"]


def test_detections_of_vision_msgs(tmp_path: Path, fake_pipeline: Any) -> None:
    """Its definitions come from the bag, as MCAP carries them."""
    from rosbags.rosbag2 import StoragePlugin, Writer
    from rosbags.typesys import Stores, get_types_from_msg, get_typestore

    rule = 80 * "=" + "\n"
    definition = (
        "std_msgs/Header header\nvision_msgs/Detection2D[] detections\n"
        f"{rule}MSG: vision_msgs/Detection2D\nstd_msgs/Header header\nvision_msgs/ObjectHypothesisWithPose[] results\n"
        "vision_msgs/BoundingBox2D bbox\nstring id\n"
        f"{rule}MSG: vision_msgs/ObjectHypothesisWithPose\nvision_msgs/ObjectHypothesis hypothesis\n"
        "geometry_msgs/PoseWithCovariance pose\n"
        f"{rule}MSG: vision_msgs/ObjectHypothesis\nstring class_id\nfloat64 score\n"
        f"{rule}MSG: vision_msgs/BoundingBox2D\nvision_msgs/Pose2D center\nfloat64 size_x\nfloat64 size_y\n"
        f"{rule}MSG: vision_msgs/Pose2D\nvision_msgs/Point2D position\nfloat64 theta\n"
        f"{rule}MSG: vision_msgs/Point2D\nfloat64 x\nfloat64 y\n"
    )
    kind = "vision_msgs/msg/Detection2DArray"
    store = get_typestore(Stores.ROS2_JAZZY)
    store.register(get_types_from_msg(definition, kind))
    types = PlainMessages(store)
    best = types.make("vision_msgs/msg/ObjectHypothesisWithPose")
    best.hypothesis.class_id, best.hypothesis.score = "41", 0.75
    box = types.make("vision_msgs/msg/BoundingBox2D", size_x=20.0, size_y=10.0)
    box.center.position.x, box.center.position.y = 30.0, 20.0
    found = types.make("vision_msgs/msg/Detection2D", results=[best], bbox=box, id="9")
    writer = Writer(tmp_path / "bag", version=9, storage_plugin=StoragePlugin.MCAP)
    with writer:
        pictures = writer.add_connection("/image", "sensor_msgs/msg/Image", typestore=message_store())
        boxes = writer.add_connection("/yolo", kind, typestore=store)
        writer.write(pictures, FIRST, bytes(message_store().serialize_cdr(image(0), "sensor_msgs/msg/Image")))
        message = types.make(kind, header=header(0), detections=[found])
        writer.write(boxes, FIRST, bytes(store.serialize_cdr(message, kind)))
    outcome, _ = replay(tmp_path / "bag", fake_pipeline, class_names=("coco",))
    assert outcome.inputs["detections"] == {"topic": "/yolo", "type": kind}
    query = asked(fake_pipeline)[0][1][0]
    assert (query.label, query.object_id, query.score, query.box_xyxy) == ("cup", "9", 0.75, (20.0, 15.0, 40.0, 25.0))


def test_answers_of_an_earlier_run_are_replaced(tmp_path: Path, fake_pipeline: Any) -> None:
    bag = record(tmp_path / "bag", usual(3))
    replay(bag, fake_pipeline)
    outcome, findings = replay(tmp_path / "out" / "bag", fake_pipeline, out=tmp_path / "again")
    assert outcome.frames_out == 3
    assert findings.count("replaced_topic") == 2
    topics = [topic for topic, *_ in decoded(tmp_path / "again" / "bag")]
    assert topics.count("/ivlm_contact/human_contacts") == 3


def test_older_bag_at_the_place_stays_until_the_new_one_is_whole(tmp_path: Path, fake_pipeline: Any) -> None:
    bag = record(tmp_path / "bag", usual(3))
    replay(bag, fake_pipeline)
    before = decoded(tmp_path / "out" / "bag")

    def interrupted(frame: Any, queries: Any, **options: Any) -> Any:
        if frame.stamp_ns == FIRST + STEP:
            raise KeyboardInterrupt
        return first(frame, queries, **options)

    first = fake_pipeline.run
    fake_pipeline.run = interrupted
    with pytest.raises(KeyboardInterrupt):
        replay(bag, fake_pipeline)
    assert [plain(item[2]) for item in decoded(tmp_path / "out" / "bag")] == [plain(item[2]) for item in before]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["bag"]
