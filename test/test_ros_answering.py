"""From messages to a result: what goes into the model, and why nothing came out."""

from __future__ import annotations

import dataclasses
from array import array
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy")
pytest.importorskip("ivlm_ros.msg")

from ivlm_ros.msg import DetectedObject, HumanBody, HumanBodyArray
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from ivlm_core.errors import InputError
from ivlm_core.types import FrameResult
from ivlm_ros.answering import MOST_REASONS, Question, ask, question_from_messages, reason_of_nothing
from ivlm_ros.scene_inputs import SceneMessages

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


def test_a_refused_camera_is_no_refused_detection(fake_pipeline: Any) -> None:
    wrong = CameraInfo(width=80, height=60, k=K)
    assert reason(fake_pipeline, question_from_messages(image(), [], (), wrong, 8)) == "no_objects"
    question = question_from_messages(image(), [detection("")], (), wrong, 8)
    assert [error.field for error in question.detections_refused] == ["object.label"]
    key, words = reason_of_nothing(question, ask(fake_pipeline, question), 0.5)
    assert key == "all_refused"
    assert "object.label" in words


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


KEYPOINTS = array("f", [4.0, 3.0, 0.9] * 17)


def depth_image(millimetres: int = 2500, frame_id: str = "", **fields: Any) -> Image:
    message = Image(width=8, height=6, step=16, encoding="16UC1")
    message.data = array("B", array("H", [millimetres] * 48).tobytes())
    message.header.frame_id = frame_id
    for name, value in fields.items():
        setattr(message, name, value)
    return message


def people(*bodies: HumanBody, frame_id: str = "") -> HumanBodyArray:
    message = HumanBodyArray(bodies=list(bodies))
    message.header.frame_id = frame_id
    return message


def ada(**fields: Any) -> HumanBody:
    return HumanBody(person_id="ada", **fields)


def posed() -> HumanBody:
    from ivlm_core.bodies import load_body

    return HumanBody(person_id="bert", body_model="anny", vertices=array("f", load_body("anny").mesh.vertices.ravel()))


INFO = CameraInfo(width=8, height=6, k=K)


def test_people_and_depth_reach_the_frame() -> None:
    scene = SceneMessages(people(ada(keypoints=KEYPOINTS), posed(), frame_id="camera_optical"), depth_image())
    question = question_from_messages(image(), [detection()], (), INFO, 8, scene)
    assert question.refused == question.withheld == ()
    assert [person.person_id for person in question.frame.keypoints] == ["ada"]
    assert [body.person_id for body in question.frame.bodies] == ["bert"]
    assert question.frame.depth is not None
    np.testing.assert_array_equal(question.frame.depth, np.full((6, 8), np.float32(2.5)))


def test_without_a_scene_the_camera_may_be_uncalibrated() -> None:
    info = CameraInfo(width=8, height=6)
    assert question_from_messages(image(), [detection()], (), info, 8).refused == ()
    (error,) = question_from_messages(image(), [detection()], (), info, 8, SceneMessages()).withheld
    assert error.field == "camera_info.k"
    assert "not calibrated" in str(error)


def test_bodies_of_another_frame_are_refused_and_their_keypoints_kept() -> None:
    scene = SceneMessages(people(ada(keypoints=KEYPOINTS), posed(), frame_id="map"))
    question = question_from_messages(image(), [detection()], (), INFO, 8, scene)
    assert question.frame.bodies == ()
    assert len(question.frame.keypoints) == 1
    assert [error.field for error in question.refused] == ["bodies.header.frame_id"]
    joints = SceneMessages(people(ada(keypoints=KEYPOINTS), frame_id="map"))
    assert question_from_messages(image(), [detection()], (), INFO, 8, joints).refused == ()


def test_depth_of_another_frame_is_refused_alone() -> None:
    scene = SceneMessages(None, depth_image(frame_id="depth_optical"))
    question = question_from_messages(image(), [detection()], (), INFO, 8, scene)
    assert question.frame.depth is None
    assert [error.field for error in question.refused] == ["depth.header.frame_id"]
    assert "registered" in question.refused[0].remedy
    assert len(question.queries) == 1


def test_people_who_cannot_be_used_are_counted() -> None:
    people = HumanBodyArray(bodies=[HumanBody(person_id="a"), HumanBody(person_id="b", keypoints=[1.0] * 51)])
    people.header = image().header
    question = question_from_messages(
        image(), [detection()], (), CameraInfo(width=8, height=6, k=K), 8, SceneMessages(people, None, {})
    )
    assert len(question.frame.keypoints) == 1
    assert question.frame.unusable_people == 1


def test_one_bad_part_of_the_scene_takes_nothing_from_the_rest() -> None:
    scene = SceneMessages(people(ada(), posed()), depth_image(step=3))
    question = question_from_messages(image(), [detection(), detection("")], (), INFO, 8, scene)
    assert [error.field for error in question.withheld] == ["depth.step", "body.vertices"]
    assert [error.field for error in question.refused] == ["depth.step", "body.vertices", "object.label"]
    assert len(question.frame.bodies) == 1
    assert len(question.queries) == 1


def reasons(pipeline: Any, scene: SceneMessages, info: CameraInfo, valid: bool = False) -> list[str]:
    pipeline.fits = True
    answer = pipeline.run

    def run(frame: Any, queries: Any) -> FrameResult:
        result = answer(frame, queries)
        fitted = [dataclasses.replace(one, pose_valid=valid, reason="too far") for one in result.reconstructions]
        return dataclasses.replace(result, reconstructions=tuple(fitted))

    pipeline.run = run
    result = ask(pipeline, question_from_messages(image(), [detection()], (), info, 8, scene))
    return [fitted.reason for fitted in result.reconstructions]


def test_a_missing_pose_says_which_input_was_refused(fake_pipeline: Any) -> None:
    (reason,) = reasons(fake_pipeline, SceneMessages(people(ada(keypoints=KEYPOINTS[:3]))), INFO)
    assert reason.startswith("too far; body.keypoints: hold 3 numbers")


def test_a_refused_camera_is_the_one_reason(fake_pipeline: Any) -> None:
    info = CameraInfo(width=8, height=6, k=[float("nan"), *K[1:]])
    (reason,) = reasons(fake_pipeline, SceneMessages(), info)
    assert reason.startswith("camera_info.k: is fx=nan")


def test_reasons_do_not_pile_up(fake_pipeline: Any) -> None:
    crowd = [HumanBody(person_id=str(number)) for number in range(MOST_REASONS + 4)]
    (reason,) = reasons(fake_pipeline, SceneMessages(people(*crowd)), INFO)
    assert reason.count("body.vertices") == MOST_REASONS
    assert reason.endswith("; 4 more")


@pytest.mark.parametrize("what", ["valid", "nothing refused"])
def test_other_poses_keep_what_they_say(fake_pipeline: Any, what: str) -> None:
    scene = SceneMessages(people(ada())) if what == "valid" else SceneMessages()
    assert reasons(fake_pipeline, scene, INFO, valid=what == "valid") == ["too far"]
