from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ivlm_core.datasets import BagRecorder, BagTopic, message_store, open_bag
from ivlm_core.datasets.bags import interface_folder
from ivlm_core.errors import ConfigError, InputError

TOPIC = BagTopic("/word", "std_msgs/msg/String")


def word(text: str) -> Any:
    return message_store().types[TOPIC.type](data=text)


def read(bag: Path) -> list[tuple[str, int, str]]:
    with open_bag(bag) as reader:
        return [(c.topic, stamp, reader.deserialize(raw, c.msgtype).data) for c, stamp, raw in reader.messages()]


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_messages_come_back_in_order_with_their_times(tmp_path: Path, storage: str) -> None:
    with BagRecorder(tmp_path / "bag", storage) as recorder:
        recorder.add_topic(TOPIC)
        recorder.write(TOPIC.name, word("one"), 5)
        recorder.write_serialized(TOPIC.name, message_store().serialize_cdr(word("two"), TOPIC.type), 7)
    assert recorder.count == 2
    assert read(tmp_path / "bag") == [("/word", 5, "one"), ("/word", 7, "two")]
    assert [path.name for path in tmp_path.iterdir()] == ["bag"]


def test_every_interface_file_is_a_known_type() -> None:
    names = {f"ivlm_ros/msg/{path.stem}" for path in interface_folder().glob("*.msg")}
    assert "ivlm_ros/msg/HumanContactArray" in names
    assert names <= set(message_store().types)


def test_recording_that_fails_leaves_the_old_bag(tmp_path: Path) -> None:
    with BagRecorder(tmp_path / "bag") as recorder:
        recorder.add_topic(TOPIC)
        recorder.write(TOPIC.name, word("old"), 1)

    def broken() -> None:
        with BagRecorder(tmp_path / "bag") as recorder:
            recorder.add_topic(TOPIC)
            recorder.write(TOPIC.name, word("new"), 1)
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError):
        broken()
    assert read(tmp_path / "bag") == [("/word", 1, "old")]
    assert [path.name for path in tmp_path.iterdir()] == ["bag"]


def test_folder_that_is_no_bag_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/one.jpg").write_text("dear")
    with pytest.raises(ConfigError, match="exists and is not a bag"):
        BagRecorder(tmp_path / "photos")
    assert (tmp_path / "photos/one.jpg").read_text() == "dear"


def test_unknown_storage_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="mcap, sqlite3"):
        BagRecorder(tmp_path / "bag", "zip")


@pytest.mark.parametrize("content", [None, "not yaml: [", "rosbag2_bagfile_information: {}"])
def test_damaged_bag_is_refused_by_its_name(tmp_path: Path, content: str | None) -> None:
    bag = tmp_path / "broken"
    if content is not None:
        bag.mkdir()
        (bag / "metadata.yaml").write_text(content)
    with pytest.raises(InputError, match="broken"), open_bag(bag):
        pass
