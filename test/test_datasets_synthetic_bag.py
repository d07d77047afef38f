from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ivlm_core.bodies import PART_NAMES, load_body
from ivlm_core.datasets import GROUND_TRUTH, open_bag, read_contacts
from ivlm_core.datasets.synthetic import PlacedObject, touches
from ivlm_core.datasets.synthetic.bag import (
    CAMERA_INFO,
    DETECTIONS,
    FIRST_STAMP_NS,
    IMAGE,
    PHOTO_FRAMES,
    SCENE_FRAMES,
    TOPICS,
    TRUE_HUMAN_CONTACTS,
    TRUE_OBJECT_AFFORDANCES,
    RecordedFrame,
    demo_frames,
    demo_scene,
    generated_frames,
    write_demo_bag,
)
from ivlm_core.datasets.synthetic.split import scene_rng
from ivlm_core.errors import ConfigError
from ivlm_core.objects import find_object, library_shape
from ivlm_core.types import ObjectQuery

SEED = 5
SIDES = ("left", "right")


@pytest.fixture(scope="module")
def expected() -> list[RecordedFrame]:
    return list(demo_frames(2, SEED, True))


@pytest.fixture(scope="module")
def bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bag") / "demo"
    summary = write_demo_bag(path, frames=2, seed=SEED)
    assert summary["frames"] == 6 + PHOTO_FRAMES
    assert summary["recordings"] == {**dict.fromkeys(SCENE_FRAMES, 2), "photo_camera": PHOTO_FRAMES}
    assert list(summary["topics"]) == [topic.name for topic in TOPICS]
    return path


def test_what_is_read_back_is_what_was_rendered(bag: Path, expected: list[RecordedFrame]) -> None:
    """Images are identical, and the messages of a frame share its stamp and frame; also: one seed, one bag."""
    found: dict[str, list] = {IMAGE.name: [], CAMERA_INFO.name: [], DETECTIONS.name: []}
    with open_bag(bag) as reader:
        for connection, stamp, raw in reader.messages():
            if connection.topic in found:
                found[connection.topic].append((stamp, reader.deserialize(raw, connection.msgtype)))
    for topic, messages in found.items():
        assert [stamp for stamp, _ in messages] == [frame.stamp_ns for frame in expected], topic
        for (stamp, message), frame in zip(messages, expected, strict=True):
            assert message.header.stamp.sec * 10**9 + message.header.stamp.nanosec == stamp
            assert message.header.frame_id == frame.frame_id
    for (_, image), frame in zip(found[IMAGE.name], expected, strict=True):
        assert (image.encoding, image.step, image.height) == ("rgb8", 640 * 3, 480)
        np.testing.assert_array_equal(image.data.reshape(480, 640, 3), frame.image)
    for (_, detections), frame in zip(found[DETECTIONS.name], expected, strict=True):
        boxes = [(o.id, o.label, o.x_min, o.y_min, o.x_max, o.y_max) for o in detections.objects]
        assert boxes == [tuple(box) for box in frame.boxes]
    info = found[CAMERA_INFO.name][0][1]
    np.testing.assert_array_equal(info.k.reshape(3, 3), [[600, 0, 319.5], [0, 600, 239.5], [0, 0, 1]])


def test_ground_truth_is_the_contact_of_the_scene(bag: Path, expected: list[RecordedFrame]) -> None:
    """Each generated image has one entry per detection, on the meshes that the node answers on."""
    truth = read_contacts(bag, GROUND_TRUTH)
    generated = [frame for frame in expected if frame.truth is not None]
    assert list(truth) == [(frame.frame_id, frame.stamp_ns) for frame in generated]
    assert {frame.frame_id for frame in generated} == set(SCENE_FRAMES)
    body = load_body("anny").mesh
    for frame in generated:
        found = truth[frame.frame_id, frame.stamp_ns]
        assert list(found) == [identifier for identifier, *_ in frame.boxes]
        for (identifier, label, *_), known in zip(frame.boxes, frame.truth or (), strict=True):
            contact = found[identifier]
            assert (contact.label, contact.body_model) == (label, "anny")
            assert contact.body is not None
            assert contact.thing is not None
            assert contact.body.topology_hash == body.topology_hash
            assert contact.thing.topology_hash == find_object(ObjectQuery(label)).mesh.topology_hash
            np.testing.assert_array_equal(contact.body.dense(), known.body)
            np.testing.assert_array_equal(contact.thing.dense(), known.thing)
            assert (np.diff(contact.body.indices.astype(int)) > 0).all()


def test_ground_truth_messages_are_whole(bag: Path, expected: list[RecordedFrame]) -> None:
    with open_bag(bag) as reader:
        found = [
            (connection.topic, stamp, reader.deserialize(raw, connection.msgtype))
            for connection, stamp, raw in reader.messages()
            if connection.topic.startswith(GROUND_TRUTH)
        ]
    stamps = [frame.stamp_ns for frame in expected if frame.truth is not None]
    for topic in (TRUE_HUMAN_CONTACTS.name, TRUE_OBJECT_AFFORDANCES.name):
        assert [stamp for name, stamp, _ in found if name == topic] == stamps
    for topic, stamp, message in found:
        assert message.header.stamp.sec * 10**9 + message.header.stamp.nanosec == stamp
        for item in message.contacts if topic == TRUE_HUMAN_CONTACTS.name else message.affordances:
            assert item.header == message.header
        if topic == TRUE_HUMAN_CONTACTS.name:
            for contact in message.contacts:
                assert (contact.probabilities == 1).all()
                assert sorted(contact.body_parts) == sorted(PART_NAMES)
                assert (np.diff(contact.body_part_scores) <= 0).all()


def test_which_hand_holds_what_is_in_the_truth() -> None:
    """The bottle and the handbag are in different hands, and people with either in the left hand occur."""
    labels = load_body("anny").part_labels
    holding = set()
    for seed in range(6):
        scene = demo_scene("standing_camera", scene_rng(seed, "test", 0))
        hands = []
        for placed, touch in zip(scene.objects[:2], touches(scene)[:2], strict=True):
            counts = [int((touch.body & (labels == PART_NAMES.index(f"{side} hand"))).sum()) for side in SIDES]
            assert min(counts) == 0
            hands.append(SIDES[int(np.argmax(counts))])
            assert placed.mode == f"{hands[-1]} hand"
        assert hands[0] != hands[1]
        holding.add(hands[0])
    assert holding == set(SIDES)


def test_untouched_object_has_an_empty_truth() -> None:
    rng = scene_rng(1, "test", 2)
    scene = demo_scene("riding_camera", rng)
    lone = PlacedObject(library_shape("suitcase"), translation=np.array([0.9, 0.4, 0.9]), name="suitcase")
    scene = replace(scene, objects=[*scene.objects, lone])
    (frame,) = generated_frames("riding_camera", scene, 1, rng, FIRST_STAMP_NS)
    assert [label for _, label, *_ in frame.boxes][-1] == "suitcase"
    assert frame.truth is not None
    assert not frame.truth[-1].body.any()
    assert not frame.truth[-1].thing.any()
    assert frame.truth[0].body.any()


def test_all_of_the_scene_stays_in_the_picture(expected: list[RecordedFrame]) -> None:
    for frame in expected:
        if frame.truth is not None:
            sides = np.array([box[2:] for box in frame.boxes])
            assert (sides[:, :2] > 0).all()
            assert (sides[:, 2:] < [639, 479]).all()


def test_stamps_are_ten_hertz_and_recordings_apart(expected: list[RecordedFrame]) -> None:
    steps = np.diff([frame.stamp_ns for frame in expected]) / 1e9
    np.testing.assert_allclose(steps, [0.1, 1.1, 0.1, 1.1, 0.1, 1.1, 0.1, 0.1, 0.1, 0.1])
    assert expected[0].stamp_ns == FIRST_STAMP_NS


def test_labels_are_what_the_scenes_show(expected: list[RecordedFrame]) -> None:
    shown = {frame.frame_id: [label for _, label, *_ in frame.boxes] for frame in expected}
    wanted = {
        "standing_camera": ["bottle", "handbag"],
        "sitting_camera": ["laptop", "chair"],
        "riding_camera": ["bicycle"],
        "photo_camera": ["space suit"],
    }
    assert {name: labels[: len(wanted[name])] for name, labels in shown.items()} == wanted


@pytest.mark.parametrize("frames", [0, -1, 10_001])
def test_number_of_frames_out_of_range_is_refused(tmp_path: Path, frames: int) -> None:
    with pytest.raises(ConfigError, match="frames"):
        write_demo_bag(tmp_path / "bag", frames=frames)
