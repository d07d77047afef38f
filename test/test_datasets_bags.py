from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ivlm_core.datasets import GROUND_TRUTH, BagRecorder, BagTopic, bags, message_store, open_bag, read_contacts
from ivlm_core.datasets.bags import CONTACT_TYPES, HUMAN_CONTACTS, interface_folder
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


TRUTH = BagTopic(f"{GROUND_TRUTH}/{HUMAN_CONTACTS}", CONTACT_TYPES[HUMAN_CONTACTS])


def human_contacts(indices: list[int], values: list[float], vertex_count: int = 5) -> Any:
    types = message_store().types
    header = types["std_msgs/msg/Header"](
        stamp=types["builtin_interfaces/msg/Time"](sec=3, nanosec=7), frame_id="camera"
    )
    contact = types["ivlm_ros/msg/HumanContact"](
        header=header,
        object_id="a",
        object_label="cup",
        person_id="",
        body_model="anny",
        vertex_count=vertex_count,
        topology_hash="0123456789abcdef",
        vertex_indices=np.array(indices, np.uint32),
        probabilities=np.array(values, np.float32),
        threshold=0.5,
        body_parts=[],
        body_part_scores=np.zeros(0, np.float32),
        answer="",
        confidence=1.0,
    )
    nothing: dict[str, Any] = {f"unanswered_{name}": [] for name in ("object_ids", "object_labels", "reasons")}
    return types[TRUTH.type](header=header, contacts=[contact], model="", **nothing)


def contacts_bag(path: Path, *messages: bytes) -> Path:
    with BagRecorder(path) as recorder:
        recorder.add_topic(TRUTH)
        for stamp, message in enumerate(messages):
            recorder.write_serialized(TRUTH.name, message, stamp)
    return path


def serialized(message: Any) -> bytes:
    return bytes(message_store().serialize_cdr(message, TRUTH.type))


def test_contacts_come_back_dense_under_stamp_and_object(tmp_path: Path) -> None:
    bag = contacts_bag(tmp_path / "bag", serialized(human_contacts([1, 4], [0.5, 1.0])))
    found = read_contacts(bag, GROUND_TRUTH)
    assert list(found) == [("camera", 3 * 10**9 + 7)]
    contact = found["camera", 3 * 10**9 + 7]["a"]
    assert (contact.label, contact.body_model, contact.thing) == ("cup", "anny", None)
    assert contact.body is not None
    np.testing.assert_array_equal(contact.body.dense(), np.float32([0, 0.5, 0, 0, 1]))


def test_an_object_of_several_people_has_a_contact_for_each(tmp_path: Path) -> None:
    message = human_contacts([1], [0.5])
    message.contacts = [replace(message.contacts[0], person_id="ann"), *human_contacts([2], [0.75]).contacts]
    (found,) = read_contacts(contacts_bag(tmp_path / "bag", serialized(message)), GROUND_TRUTH).values()
    assert {name: contact.body.indices.tolist() for name, contact in found.items()} == {"a of ann": [1], "a of ": [2]}


def test_bag_without_contacts_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"no contacts below /node.*/node/{HUMAN_CONTACTS}"):
        read_contacts(contacts_bag(tmp_path / "bag"), "/node")
    assert read_contacts(contacts_bag(tmp_path / "bag"), GROUND_TRUTH) == {}


@pytest.mark.parametrize(
    ("indices", "values", "told"),
    [
        ([1, 5], [1, 1], "vertex 5 of a mesh with 5"),
        ([1, 2], [1], "2 vertices with 1 values"),
        ([1], [float("nan")], "NaN"),
        ([1], [1.5], "outside"),
    ],
)
def test_contacts_that_contradict_themselves_are_refused(
    tmp_path: Path, indices: list[int], values: list[float], told: str
) -> None:
    bag = contacts_bag(tmp_path / "bag", serialized(human_contacts(indices, values)))
    with pytest.raises(InputError, match=told):
        read_contacts(bag, GROUND_TRUTH)


@pytest.mark.parametrize("kept", [0, 3, 10, 30, 60, 100, 140])
def test_truncated_contacts_are_refused(tmp_path: Path, kept: int) -> None:
    bag = contacts_bag(tmp_path / "bag", serialized(human_contacts([1, 4], [0.5, 1.0]))[:kept])
    with pytest.raises(InputError, match="bag is damaged"):
        read_contacts(bag, GROUND_TRUTH)


def test_bag_of_another_version_of_the_messages_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bag carries the definitions that it was written with; here one that lacks a field."""
    from rosbags.typesys import Stores, get_types_from_msg, get_typestore

    older = get_typestore(Stores.ROS2_KILTED)
    for path in sorted(interface_folder().glob("*.msg")):
        text = path.read_text().replace("uint32 vertex_count\n", "")
        older.register(get_types_from_msg(text, f"ivlm_ros/msg/{path.stem}"))
    message = human_contacts([1, 4], [0.5, 1.0])
    with monkeypatch.context() as patch:
        patch.setattr(bags, "message_store", lambda: older)
        bag = contacts_bag(tmp_path / "bag", bytes(older.serialize_cdr(message, TRUTH.type)))
    with pytest.raises(InputError, match=r"written with other messages.*vertex_count"):
        read_contacts(bag, GROUND_TRUTH)
