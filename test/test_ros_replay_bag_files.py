"""Bags whole, damaged and hostile: what can be read is read, and the rest is told."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from ivlm_core.datasets import BagRecorder, BagTopic, message_store
from ivlm_core.datasets.synthetic.bag import CAMERA_INFO, DETECTIONS, IMAGE, RecordedFrame, write_frame
from ivlm_core.errors import InputError
from ivlm_core.types import CameraIntrinsics
from ivlm_ros.message_types import PlainMessages
from ivlm_ros.replay.bag_files import Bag, Definitions, RecordedTopic, upgraded
from ivlm_ros.replay.findings import Findings

COUNT = 12


def record(path: Path, storage: str = "mcap", count: int = COUNT) -> Path:
    with BagRecorder(path, storage) as recorder:
        for topic in (IMAGE, CAMERA_INFO, DETECTIONS):
            recorder.add_topic(topic)
        for number in range(count):
            # Noise, so that no compression makes the files too small to cut.
            image = np.random.default_rng(number).integers(0, 255, (120, 160, 3)).astype(np.uint8)
            stamp = 10**18 + number * 10**8
            boxes = [("a", "cup", 1.0, 2.0, 30.0, 40.0)]
            write_frame(
                recorder, RecordedFrame(image, CameraIntrinsics(50, 50, 79.5, 59.5, 160, 120), "c", stamp, boxes)
            )
    return path


def read(path: Path) -> tuple[list[tuple[str, int, bytes]], Findings]:
    findings = Findings()
    with Bag(path, findings) as bag:
        return [(item.topic.name, item.time, item.data) for item in bag.messages()], findings


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_both_storages_hold_the_same(tmp_path: Path, storage: str) -> None:
    found, findings = read(record(tmp_path / "bag", storage))
    assert found == read(record(tmp_path / "other", "mcap"))[0]
    assert len(found) == 3 * COUNT
    assert findings.report() == {}


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_file_alone_and_folder_without_metadata_are_read(tmp_path: Path, storage: str) -> None:
    bag = record(tmp_path / "bag", storage)
    whole = read(bag)[0]
    (bag / "metadata.yaml").unlink()
    found, findings = read(bag)
    assert found == whole
    assert "metadata.yaml: is missing" in findings.report()["damaged_file"]["first"]
    assert read(next(bag.iterdir()))[0] == whole


@pytest.mark.parametrize("mode", ["file", "message", "storage"])
def test_compressed_bags_are_read(tmp_path: Path, mode: str) -> None:
    from rosbags.rosbag2 import StoragePlugin, Writer
    from rosbags.rosbag2.enums import CompressionFormat, CompressionMode

    whole, _ = read(record(tmp_path / "bag"))
    writer = Writer(tmp_path / "small", version=9, storage_plugin=StoragePlugin.MCAP)
    writer.set_compression(CompressionMode[mode.upper()], CompressionFormat.ZSTD)
    with writer:
        made = {
            topic.name: writer.add_connection(topic.name, topic.type, typestore=message_store())
            for topic in (IMAGE, CAMERA_INFO, DETECTIONS)
        }
        for name, time, data in whole:
            writer.write(made[name], time, data)
    found, findings = read(tmp_path / "small")
    assert sorted(found) == sorted(whole)
    assert findings.report() == {}


@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_bag_that_was_cut_short_gives_what_is_there(tmp_path: Path, storage: str, share: float) -> None:
    bag = record(tmp_path / "bag", storage, 60)
    whole, _ = read(bag)
    file = next(path for path in bag.iterdir() if path.suffix in (".mcap", ".db3"))
    data = file.read_bytes()
    file.write_bytes(data[: int(share * len(data))])
    found, findings = read(bag)
    assert found, "nothing was rescued"
    assert set(found) <= set(whole)
    assert len(found) >= 0.8 * share * len(whole) - 12
    assert findings.count("damaged_file") >= 1


def test_damaged_chunk_costs_no_more_than_itself(tmp_path: Path) -> None:
    from rosbags.rosbag2 import StoragePlugin, Writer
    from rosbags.rosbag2.enums import CompressionFormat, CompressionMode

    whole, _ = read(record(tmp_path / "bag", count=80))
    writer = Writer(tmp_path / "small", version=9, storage_plugin=StoragePlugin.MCAP)
    writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
    with writer:
        made = {
            topic.name: writer.add_connection(topic.name, topic.type, typestore=message_store())
            for topic in (IMAGE, CAMERA_INFO, DETECTIONS)
        }
        for name, time, data in whole:
            writer.write(made[name], time, data)
    file = tmp_path / "small" / "small.mcap"
    damaged = bytearray(file.read_bytes())
    frame = damaged.find(b"\x28\xb5\x2f\xfd", len(damaged) // 2)  # where a compressed chunk begins
    damaged[frame : frame + 4] = bytes(4)
    file.write_bytes(bytes(damaged))
    found, findings = read(tmp_path / "small")
    assert set(found) < set(whole)
    assert len(found) > len(whole) / 2
    assert "records are damaged" in findings.report()["damaged_file"]["first"]


def test_missing_file_of_several_is_told(tmp_path: Path) -> None:
    bag = record(tmp_path / "bag")
    metadata = yaml.safe_load((bag / "metadata.yaml").read_text())
    metadata["rosbag2_bagfile_information"]["relative_file_paths"].append("bag_1.mcap")
    (bag / "metadata.yaml").write_text(yaml.safe_dump(metadata))
    found, findings = read(bag)
    assert len(found) == 3 * COUNT
    assert findings.report()["damaged_file"]["first"] == "bag_1.mcap: is missing"


def test_paths_in_metadata_cannot_leave_the_folder(tmp_path: Path) -> None:
    secret = record(tmp_path / "secret")
    bag = record(tmp_path / "bag")
    shutil.rmtree(tmp_path / "other", ignore_errors=True)
    metadata = yaml.safe_load((bag / "metadata.yaml").read_text())
    metadata["rosbag2_bagfile_information"]["relative_file_paths"] = [
        str(secret / "secret.mcap"),
        "../secret/secret.mcap",
    ]
    (bag / "metadata.yaml").write_text(yaml.safe_dump(metadata))
    found, findings = read(bag)
    assert len(found) == 3 * COUNT, "the folder's own file is read in their place"
    assert "secret.mcap: is missing" in findings.report()["damaged_file"]["first"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.mcap", b""),
        ("a.mcap", b"\x89MCAP0\r\n"),
        ("a.db3", b""),
        ("a.db3", b"none of it" * 500),
        ("a.mcap", b"x" * 99),
    ],
)
def test_what_is_no_bag_is_refused_with_one_error(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / "bag").mkdir()
    (tmp_path / "bag" / name).write_bytes(content)
    with pytest.raises(InputError) as refused:
        read(tmp_path / "bag")
    assert refused.value.field == "bag"
    assert name in str(refused.value)


def test_empty_folder_and_ros1_bags_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        read(tmp_path / "nothing")
    with pytest.raises(InputError, match=r"holds no \.mcap"):
        read(tmp_path)
    (tmp_path / "old.bag").write_bytes(b"#ROSBAG V2.0")
    with pytest.raises(InputError, match="rosbags-convert"):
        read(tmp_path / "old.bag")


def test_claimed_sizes_are_held_against_the_file(tmp_path: Path) -> None:
    """A record that claims an exabyte is read to the end of the file; nothing of that size is asked for."""
    bag = record(tmp_path / "bag")
    whole, _ = read(bag)
    file = bag / "bag.mcap"
    data = bytearray(file.read_bytes())
    # The first record after the magic is the header; the next one's length is made absurd.
    header = 8 + 9 + int.from_bytes(data[9:17], "little")
    data[header + 1 : header + 9] = (2**60).to_bytes(8, "little")
    file.write_bytes(bytes(data))
    found, findings = read(bag)
    assert set(found) <= set(whole)
    assert "in the middle of a record" in findings.report()["damaged_file"]["first"]


def test_rows_of_other_kinds_are_told(tmp_path: Path) -> None:
    bag = record(tmp_path / "bag", "sqlite3")
    with sqlite3.connect(bag / "bag.db3") as connection:
        connection.execute("UPDATE messages SET data = 'text' WHERE id = 3")
        connection.execute("UPDATE messages SET data = x'00' WHERE id = 4")
    found, findings = read(bag)
    assert len(found) == 3 * COUNT - 2
    assert findings.count("broken_record") == 2


@pytest.mark.parametrize(
    "definition",
    ["this is no definition ((", "std_msgs/Header header\nno_such/Type x", "=" * 80 + "\nIDL: a\nmodule { broken"],
)
def test_unreadable_definition_is_an_error_that_names_the_topic(definition: str) -> None:
    topic = RecordedTopic("/thing", "some_msgs/msg/Thing", 1, definition)
    with pytest.raises(InputError, match="/thing"):
        Definitions().decoder(topic)


def test_type_without_definition_is_known_or_refused() -> None:
    assert Definitions().decoder(RecordedTopic("/image", "sensor_msgs/msg/Image", 1)) is not None
    with pytest.raises(InputError, match="does not define"):
        Definitions().decoder(RecordedTopic("/thing", "some_msgs/msg/Thing", 1))


def test_absurd_lengths_within_a_message_are_one_error() -> None:
    """Four bytes of 0x7fffffff anywhere: either a number was meant, or the message is refused; nothing else happens."""
    store = message_store()
    types = PlainMessages()
    contact = types.make("ivlm_ros/msg/HumanContact", body_parts=["head"], vertex_indices=np.arange(3, dtype=np.uint32))
    data = bytes(
        store.serialize_cdr(
            types.make("ivlm_ros/msg/HumanContactArray", contacts=[contact]), "ivlm_ros/msg/HumanContactArray"
        )
    )
    decode = Definitions().decoder(RecordedTopic("/c", "ivlm_ros/msg/HumanContactArray", 1))
    refused = 0
    for place in range(4, len(data) - 4, 4):
        hostile = data[:place] + b"\xff\xff\xff\x7f" + data[place + 4 :]
        try:
            decode(hostile)
        except InputError as error:
            assert "cannot be decoded" in str(error)
            refused += 1
    assert refused > 10


def test_messages_of_an_older_version_get_what_they_lack() -> None:
    """A bag whose DetectedObject had neither `person_id` nor `mask`."""
    old = """std_msgs/Header header
ivlm_ros/DetectedObject[] objects
================================================================================
MSG: ivlm_ros/DetectedObject
string id
string label
float32 score
float32 x_min
float32 y_min
float32 x_max
float32 y_max
================================================================================
MSG: std_msgs/Header
builtin_interfaces/Time stamp
string frame_id
================================================================================
MSG: builtin_interfaces/Time
int32 sec
uint32 nanosec
"""
    topic = RecordedTopic("/detections", "ivlm_ros/msg/DetectedObjectArray", 1, old)
    definitions = Definitions()
    types = PlainMessages(definitions.store(topic))
    cup = types.make("ivlm_ros/msg/DetectedObject", id="7", label="cup", score=0.5, x_max=9.0)
    message = types.make("ivlm_ros/msg/DetectedObjectArray", objects=[cup])
    message.header.frame_id = "camera"
    data = bytes(definitions.store(topic).serialize_cdr(message, topic.type))
    read_back: Any = definitions.decoder(topic)(data)
    assert (read_back.header.frame_id, read_back.objects[0].label, read_back.objects[0].x_max) == ("camera", "cup", 9.0)
    assert (read_back.objects[0].person_id, read_back.objects[0].mask.width) == ("", 0)
    # What comes out can be written as it is defined now.
    again: Any = message_store().deserialize_cdr(message_store().serialize_cdr(read_back, topic.type), topic.type)
    assert again.objects[0].id == "7"
    assert upgraded(again, topic.type, message_store()) == again


def test_topics_of_any_type_are_listed(tmp_path: Path) -> None:
    with BagRecorder(tmp_path / "bag") as recorder:
        recorder.add_topic(BagTopic("/b", "std_msgs/msg/String"))
        recorder.add_topic(BagTopic("/a", "sensor_msgs/msg/Imu"))
    with Bag(tmp_path / "bag", Findings()) as bag:
        assert [topic.key for topic in bag.topics] == [("/a", "sensor_msgs/msg/Imu"), ("/b", "std_msgs/msg/String")]
