"""The new bag: what it takes over, what it rewrites, and what it leaves out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ivlm_core.datasets import message_store, open_bag
from ivlm_core.datasets.bags import CONTACT_TYPES
from ivlm_ros.message_types import PlainMessages
from ivlm_ros.replay.bag_files import Bag
from ivlm_ros.replay.findings import Findings
from ivlm_ros.replay.recording import OutputBag

ANSWERS = {f"/ivlm_contact/{name}": kind for name, kind in CONTACT_TYPES.items()}
RULE = 80 * "=" + "\n"
HEADER = (
    f"{RULE}MSG: std_msgs/Header\nbuiltin_interfaces/Time stamp\nstring frame_id\n"
    f"{RULE}MSG: builtin_interfaces/Time\nint32 sec\nuint32 nanosec\n"
)


def bag_with(path: Path, topic: str, kind: str, definition: str, **fields: Any) -> None:
    """A bag with one message of a type as it is defined here."""
    from rosbags.rosbag2 import StoragePlugin, Writer
    from rosbags.typesys import Stores, get_types_from_msg, get_typestore

    store = get_typestore(Stores.EMPTY)
    store.register(get_types_from_msg(definition, kind))
    writer = Writer(path, version=9, storage_plugin=StoragePlugin.MCAP)
    with writer:
        connection = writer.add_connection(topic, kind, msgdef=definition, rihs01=store.hash_rihs01(kind))
        message = PlainMessages(store).make(kind, **fields)
        writer.write(connection, 5, bytes(store.serialize_cdr(message, kind)))


def copied(source: Path, target: Path) -> tuple[list[tuple[str, int, Any]], Findings]:
    findings = Findings()
    with Bag(source, findings) as bag, OutputBag(target, "mcap", bag, ANSWERS, findings) as output:
        for record in bag.messages():
            output.copy(record)
    with open_bag(target) as reader:
        assert set(ANSWERS) <= {connection.topic for connection in reader.connections}
        found = [(item.topic, time, reader.deserialize(raw, item.msgtype)) for item, time, raw in reader.messages()]
    return found, findings


def test_type_of_nobody_elses_is_taken_over(tmp_path: Path) -> None:
    definition = "std_msgs/Header header\nfloat32[] weights\n" + HEADER
    bag_with(tmp_path / "bag", "/scale", "shop_msgs/msg/Weights", definition, weights=np.array([1.5, 2.5], np.float32))
    found, findings = copied(tmp_path / "bag", tmp_path / "out")
    assert [(topic, time, list(message.weights)) for topic, time, message in found] == [("/scale", 5, [1.5, 2.5])]
    assert findings.report() == {}


def test_our_type_of_another_version_is_rewritten(tmp_path: Path) -> None:
    definition = "std_msgs/Header header\nivlm_ros/HumanContact[] contacts\n" + (
        f"{RULE}MSG: ivlm_ros/HumanContact\nstring object_id\nstring object_label\n" + HEADER
    )
    kind = "ivlm_ros/msg/HumanContactArray"
    bag_with(tmp_path / "bag", "/ground_truth/human_contacts", kind, definition)
    found, findings = copied(tmp_path / "bag", tmp_path / "out")
    assert len(found) == 1
    assert found[0][2].contacts == []
    assert hasattr(found[0][2], "model")
    assert "was rewritten" in findings.report()["other_definition"]["first"]


def test_foreign_type_that_contradicts_a_standard_one_is_left_out(tmp_path: Path) -> None:
    """A bag can hold one definition of a type only, and ours need the real std_msgs/Header."""
    definition = f"std_msgs/Header header\n{RULE}MSG: std_msgs/Header\nuint32 seq\nstring frame_id\n"
    bag_with(tmp_path / "bag", "/old", "old_msgs/msg/Old", definition)
    found, findings = copied(tmp_path / "bag", tmp_path / "out")
    assert found == []
    assert "/old was left out" in findings.report()["other_definition"]["first"]


def test_output_is_a_bag_of_its_own(tmp_path: Path) -> None:
    """It says what its types are, so that any reader of bags can read it."""
    from rosbags.highlevel import AnyReader

    bag_with(tmp_path / "bag", "/scale", "shop_msgs/msg/Weights", "float32 weight\n", weight=2.0)
    copied(tmp_path / "bag", tmp_path / "out")
    with AnyReader([tmp_path / "out"]) as reader:
        types = {connection.msgtype for connection in reader.connections}
    assert types == {"shop_msgs/msg/Weights", *CONTACT_TYPES.values()}
    assert types - set(message_store().types) == {"shop_msgs/msg/Weights"}
