"""From messages to a result: what goes into the model, and why nothing came out."""

from __future__ import annotations

import dataclasses
from array import array
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy")
pytest.importorskip("ivlm_ros.msg")

from ivlm_ros.msg import DetectedObject
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from ivlm_core.errors import InputError
from ivlm_core.types import FrameResult
from ivlm_ros.answering import Question, ask, question_from_messages, reason_of_nothing

K = [500.0, 0.0, 320.0, 0.0, 500.0, 240.0, 0.0, 0.0, 1.0]


def image(width: int = 8, height: int = 6) -> Image:
    message = Image(width=width, height=height, step=3 * width, encoding="rgb8")
    message.data = array("B", bytes(range(3 * width)) * height)
    message.header.frame_id = "camera_optical"
    message.header.stamp.sec, message.header.stamp.nanosec = 3, 4
    return message


def detection(label: str = "chair", **fields: Any) -> DetectedObject:
    return DetectedObject(label=label, score=0.5, **fields)


def test_question_carries_stamp_frame_pixels_and_intrinsics() -> None:
    info = CameraInfo(width=8, height=6, k=K)
    question = question_from_messages(image(), [detection(id="7")], (), info, 8)
    assert (question.frame.stamp_ns, question.frame.frame_id) == (3_000_000_004, "camera_optical")
    np.testing.assert_array_equal(question.frame.image[5, :, 0], range(0, 24, 3))
    assert question.frame.intrinsics is not None
    assert question.frame.intrinsics.fx == 500.0
    assert [query.object_id for query in question.queries] == ["7"]
    assert question.refused == ()


def test_labels_stand_in_for_detections() -> None:
    question = question_from_messages(image(), [detection()], ("cup", "book", "ball"), None, 2)
    assert [query.label for query in question.queries] == ["cup", "book"]


def test_camera_info_of_another_size_is_refused_alone() -> None:
    question = question_from_messages(image(), [detection()], (), CameraInfo(width=80, height=60, k=K), 8)
    assert question.frame.intrinsics is None
    assert [error.field for error in question.refused] == ["camera_info.width"]
    assert len(question.queries) == 1


def test_nan_camera_info_is_refused_alone() -> None:
    info = CameraInfo(width=8, height=6, k=[float("nan"), *K[1:]])
    question = question_from_messages(image(), [detection()], (), info, 8)
    assert [error.field for error in question.refused] == ["camera_info.k"]
    assert len(question.queries) == 1


def test_compressed_image_is_decoded() -> None:
    with pytest.raises(InputError, match=r"image\.data"):
        question_from_messages(CompressedImage(format="jpeg", data=array("B", b"none")), [], (), None, 8)


def test_without_queries_the_model_does_not_run(fake_pipeline: Any) -> None:
    result = ask(fake_pipeline, question_from_messages(image(), [], (), None, 8))
    assert fake_pipeline.calls == []
    assert (result.human_contacts, result.object_affordances) == ((), ())
    assert (result.model, result.stamp_ns) == ("fake", 3_000_000_004)


def reason(fake_pipeline: Any, question: Question, threshold: float = 0.5) -> str:
    return reason_of_nothing(question, ask(fake_pipeline, question), threshold)[0]


def test_every_way_to_nothing_has_its_reason(fake_pipeline: Any) -> None:
    good = question_from_messages(image(), [detection()], (), None, 8)
    assert reason(fake_pipeline, good) == ""
    assert reason(fake_pipeline, question_from_messages(image(), [], (), None, 8)) == "no_objects"
    assert reason(fake_pipeline, question_from_messages(image(), [detection("")], (), None, 8)) == "all_refused"
    fake_pipeline.silent = True
    assert reason(fake_pipeline, good) == "unanswered"


def test_below_threshold_follows_the_published_values(fake_result: FrameResult) -> None:
    question = Question(None, (None,))  # type: ignore[arg-type]
    human = fake_result.human_contacts[0]
    weak = dataclasses.replace(
        fake_result,
        human_contacts=(dataclasses.replace(human, probability=np.full(40, 0.1, np.float32)),),
        object_affordances=(),
    )
    assert reason_of_nothing(question, weak, 0.1)[0] == ""
    assert reason_of_nothing(question, weak, 0.2)[0] == "below_threshold"
