"""The answers of a bag over time: sides that belong together, objects that are the same, figures of each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ivlm_core.datasets import BagRecorder, BagTopic
from ivlm_core.datasets.bags import CONTACT_TYPES
from ivlm_ros.message_types import PlainMessages
from ivlm_ros.replay.answers import MOST_OBJECTS, Answer, read_answers, tracks

TYPES = PlainMessages()
HUMAN, THINGS = (f"/n/{name}" for name in CONTACT_TYPES)


def answer(number: int, label: str = "cup", identifier: str = "", camera: str = "c", **parts: float) -> Answer:
    return Answer(
        (camera, number), number * 10**9, identifier, label, {name.replace("_", " "): v for name, v in parts.items()}
    )


def header(number: int) -> Any:
    made = TYPES.make("std_msgs/msg/Header", frame_id="c")
    made.stamp.sec = number
    return made


def write(path: Path, *, sides: tuple[str, ...] = (HUMAN, THINGS), labels: tuple[str, ...] = ("cup",)) -> Path:
    """Two images, received at 5 s and 6 s; their answers come 0.1 s and 0.2 s later."""
    with BagRecorder(path) as recorder:
        recorder.add_topic(BagTopic("/image", "sensor_msgs/msg/Image"))
        for name, kind in zip((HUMAN, THINGS), CONTACT_TYPES.values(), strict=True):
            recorder.add_topic(BagTopic(name, kind))
        for number in (5, 6):
            recorder.write("/image", TYPES.make("sensor_msgs/msg/Image", header=header(number)), number * 10**9)
            contacts = [
                TYPES.make(
                    "ivlm_ros/msg/HumanContact",
                    object_label=label,
                    body_parts=["head"],
                    body_part_scores=np.array([0.25 * place], np.float32),
                    vertex_count=4,
                )
                for place, label in enumerate(labels, start=1)
            ]
            things = [
                TYPES.make(
                    "ivlm_ros/msg/ObjectAffordance",
                    object_label=label,
                    affordance="grasp",
                    vertex_count=3,
                    vertex_indices=np.array([1], np.uint32),
                    values=np.array([0.5 + 0.125 * place], np.float32),
                )
                for place, label in enumerate(labels, start=1)
            ]
            human = TYPES.make(CONTACT_TYPES["human_contacts"], header=header(number), contacts=contacts)
            other = TYPES.make(CONTACT_TYPES["object_affordances"], header=header(number), affordances=things)
            for topic, message, late in ((HUMAN, human, 10**8), (THINGS, other, 2 * 10**8)):
                if topic in sides:
                    recorder.write(topic, message, number * 10**9 + late)
    return path


def test_both_sides_are_one_answer_at_the_time_of_the_image(tmp_path: Path) -> None:
    first, second = read_answers(write(tmp_path / "bag"), "/n", "/image")
    assert (first.time, second.time) == (5 * 10**9, 6 * 10**9)
    assert first.body is not None
    assert (first.parts, first.affordance, first.strongest) == ({"head": 0.25}, "grasp", 0.625)


@pytest.mark.parametrize(("side", "strongest"), [(HUMAN, 0.0), (THINGS, 0.625)])
def test_one_side_alone_is_an_answer(tmp_path: Path, side: str, strongest: float) -> None:
    first, _ = read_answers(write(tmp_path / "bag", sides=(side,)), "/n", "/image")
    assert (first.body is None, first.thing is None) == (side == THINGS, side == HUMAN)
    assert first.strongest == strongest


def test_objects_of_the_same_name_stay_apart(tmp_path: Path) -> None:
    found = read_answers(write(tmp_path / "bag", labels=("cup", "cup")), "/n", "/image")
    assert [(item.parts["head"], item.strongest) for item in found[:2]] == [(0.25, 0.625), (0.5, 0.75)]


def test_objects_are_followed_by_identifier_and_camera() -> None:
    found = tracks([answer(1, "cup", "1"), answer(2, "cup", "2"), answer(3, "cup", "1"), answer(4, "cup", "1", "d")])
    assert [(track.name, len(track.answers)) for track in found] == [
        ("cup (1) · c", 2),
        ("cup (2) · c", 1),
        ("cup (1) · d", 1),
    ]


def test_detector_that_follows_nothing_gives_one_object_per_label() -> None:
    found = tracks([answer(number, ("cup", "book")[number % 2], str(number)) for number in range(2 * MOST_OBJECTS)])
    assert [(track.name, len(track.answers)) for track in found] == [("cup", MOST_OBJECTS), ("book", MOST_OBJECTS)]


def test_summary_by_hand() -> None:
    from dataclasses import replace

    from ivlm_core.datasets import VertexValues

    body = VertexValues(4, "b", np.zeros(0, np.uint32), np.zeros(0, np.float32))
    given = [answer(1, head=0.5, left_hand=1.0), answer(2, head=0.25), answer(3)]
    figures = tracks([replace(item, body=body, confidence=0.5) for item in given])[0].summary(0.5)
    assert figures["frames"] == 3
    assert list(figures["body_parts"]) == ["left hand", "head"]
    assert figures["body_parts"]["head"] == {"mean": 0.25, "max": 0.5, "share_touched": pytest.approx(1 / 3, abs=1e-4)}
    assert (figures["mean_confidence"], figures["strongest_on_object"]) == (0.5, 0.0)
