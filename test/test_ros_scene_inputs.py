"""Depth images and people from messages: exact where they are good, refused in words where they are not."""

from __future__ import annotations

from array import array
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

pytest.importorskip("rclpy")
pytest.importorskip("ivlm_ros.msg")

from geometry_msgs.msg import Vector3
from ivlm_ros.msg import HumanBody
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header

from ivlm_core.bodies import load_body
from ivlm_core.cameras import Rectifier
from ivlm_core.errors import InputError, IvlmError
from ivlm_core.types import BodyKeypoints, CameraIntrinsics, PosedBody
from ivlm_ros.scene_inputs import (
    MOST_PEOPLE,
    SceneMessages,
    check_frame,
    depth_for_image,
    depth_from_image,
    people_from_bodies,
)

KEYPOINTS = array("f", [20.0, 30.0, 0.9] * 17)
JOINTS = 104  # of Anny


def image(values: np.ndarray, encoding: str, padding: int = 0, big: bool = False) -> Image:
    """(H, W) numbers as a depth message, with bytes that mean nothing at the end of every row."""
    kind = {"16UC1": "u2", "mono16": "u2", "32FC1": "f4"}[encoding]
    rows = np.ascontiguousarray(values, (">" if big else "<") + kind).view(np.uint8)
    height, width = values.shape
    filled = np.full((height, rows.shape[1] + padding), 0xAB, np.uint8)
    filled[:, : rows.shape[1]] = rows
    message = Image(height=height, width=width, encoding=encoding, step=filled.shape[1], is_bigendian=int(big))
    message.data = array("B", filled.tobytes())
    return message


SHAPES = hnp.array_shapes(min_dims=2, max_dims=2, max_side=9)


@given(
    values=hnp.arrays(np.uint16, SHAPES),
    encoding=st.sampled_from(["16UC1", "mono16"]),
    padding=st.integers(0, 5),
    big=st.booleans(),
)
def test_millimetres_become_metres_and_zero_is_unknown(
    values: np.ndarray, encoding: str, padding: int, big: bool
) -> None:
    depth = depth_from_image(image(values, encoding, padding, big))
    assert (depth.dtype, depth.shape) == (np.float32, values.shape)
    np.testing.assert_allclose(depth, np.where(values > 0, values / 1000.0, np.nan), rtol=1e-6)


@given(
    values=hnp.arrays(np.float32, SHAPES, elements=st.floats(width=32, allow_nan=True, allow_infinity=True)),
    padding=st.integers(0, 5),
    big=st.booleans(),
)
def test_metres_stay_and_whatever_is_no_distance_is_unknown(values: np.ndarray, padding: int, big: bool) -> None:
    depth = depth_from_image(image(values, "32FC1", padding, big))
    with np.errstate(invalid="ignore"):
        good = np.isfinite(values) & (values > 0)
    np.testing.assert_array_equal(depth, np.where(good, values, np.float32(np.nan)))


def test_the_message_is_not_written_to() -> None:
    message = image(np.array([[0.0, -1.0, np.inf, 2.5]]), "32FC1")
    before = bytes(message.data)
    depth = depth_from_image(message)
    depth += 1
    assert bytes(message.data) == before


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"encoding": "rgb8"}, "depth.encoding"),
        ({"encoding": "x" * 1_000_000}, "depth.encoding"),
        ({"encoding": "64FC1"}, "depth.encoding"),
        ({"step": 7}, "depth.step"),
        ({"data": array("B", bytes(15))}, "depth.data"),
        ({"data": array("B", bytes(17))}, "depth.data"),
        ({"width": 0, "height": 0}, "depth.width"),
        ({"width": 2_000_000_000, "step": 4_000_000_000}, "depth.width"),
        ({"height": 100_000}, "depth.height"),
    ],
)
def test_inconsistent_depth_is_refused_by_its_field(fields: dict[str, Any], field: str) -> None:
    message = image(np.ones((2, 4)), "16UC1")
    for name, value in fields.items():
        setattr(message, name, value)
    with pytest.raises(InputError) as caught:
        depth_from_image(message)
    assert caught.value.field == field
    assert caught.value.remedy
    assert len(str(caught.value)) < 500


def test_depth_of_another_size_is_refused_with_what_to_do() -> None:
    scene = SceneMessages(depth=image(np.ones((2, 4)), "16UC1"))
    with pytest.raises(InputError, match=r"depth\.width: .*4×2 px, the image 8×4 px.*registered"):
        depth_for_image(scene, Header(), (4, 8), None)


def info(camera: CameraIntrinsics, **fields: Any) -> CameraInfo:
    k = [camera.fx, 0.0, camera.cx, 0.0, camera.fy, camera.cy, 0.0, 0.0, 1.0]
    return CameraInfo(width=camera.width, height=camera.height, k=k, **fields)


DEPTH_CAMERA = CameraIntrinsics(4.0, 4.0, 1.5, 0.5, 4, 2)
COLOR_CAMERA = CameraIntrinsics(8.0, 8.0, 3.5, 1.5, 8, 4)


def framed(name: str) -> Image:
    message = image(np.full((2, 4), 2000), "16UC1")
    message.header.frame_id = name
    return message


def test_depth_of_another_camera_is_brought_to_the_image() -> None:
    scene = SceneMessages(depth=framed("depth"), depth_info=info(DEPTH_CAMERA), between=lambda *_: np.eye(4))
    depth = depth_for_image(scene, Header(frame_id="color"), (4, 8), COLOR_CAMERA)
    assert depth.shape == (4, 8)
    assert (depth == 2.0).all()


def test_the_transform_is_asked_for_from_the_depth_to_the_image() -> None:
    asked = []

    def between(target: str, source: str) -> np.ndarray:
        asked.append((target, source))
        moved = np.eye(4)
        moved[2, 3] = 0.5
        return moved

    scene = SceneMessages(depth=framed("/depth"), depth_info=info(DEPTH_CAMERA), between=between)
    depth = depth_for_image(scene, Header(frame_id="color"), (4, 8), COLOR_CAMERA)
    assert asked == [("color", "depth")]
    assert np.nanmax(depth) == np.nanmin(depth) == 2.5


def test_registered_depth_needs_no_transform() -> None:
    def never(*_: str) -> np.ndarray:
        raise AssertionError

    scene = SceneMessages(depth=framed("color"), depth_info=info(DEPTH_CAMERA), between=never)
    depth = depth_for_image(scene, Header(frame_id="color"), (2, 4), DEPTH_CAMERA)
    assert (depth == 2.0).all()


@pytest.mark.parametrize(
    ("own", "camera", "field"),
    [
        (info(CameraIntrinsics(4.0, 4.0, 1.5, 0.5, 5, 2)), COLOR_CAMERA, "depth_camera_info.width"),
        (CameraInfo(width=4, height=2), COLOR_CAMERA, "depth_camera_info.k"),
        (info(replace(DEPTH_CAMERA, fx=-1.0)), COLOR_CAMERA, "depth_camera_info.k"),
        (info(DEPTH_CAMERA), None, "camera_info"),
        (info(DEPTH_CAMERA), COLOR_CAMERA, "depth.header.frame_id"),
    ],
)
def test_depth_that_cannot_be_brought_over_is_refused(
    own: CameraInfo, camera: CameraIntrinsics | None, field: str
) -> None:
    scene = SceneMessages(depth=framed("depth"), depth_info=own)
    with pytest.raises(InputError) as caught:
        depth_for_image(scene, Header(frame_id="color"), (4, 8), camera)
    assert caught.value.field == field
    assert caught.value.remedy


def test_registered_depth_is_rectified_with_its_image() -> None:
    lens = Rectifier(COLOR_CAMERA, COLOR_CAMERA, "plumb_bob", (-0.2, 0.0, 0.0, 0.0))
    values = np.arange(1, 33, dtype=np.float32).reshape(4, 8)
    scene = SceneMessages(depth=image(values, "32FC1"))
    np.testing.assert_array_equal(depth_for_image(scene, Header(), (4, 8), COLOR_CAMERA, lens), lens.depth(values))


@pytest.mark.parametrize(
    ("own", "wanted", "fits"),
    [("cam", "cam", True), ("", "cam", True), ("cam", "", True), ("/cam", "cam", True), ("map", "cam", False)],
)
def test_what_is_in_another_frame_is_refused(own: str, wanted: str, fits: bool) -> None:
    def check() -> None:
        check_frame(Header(frame_id=own), Header(frame_id=wanted), "bodies", "publish them in the image's frame")

    if fits:
        check()
        return
    with pytest.raises(InputError, match=r"bodies\.header\.frame_id: is 'map', the image's is 'cam'"):
        check()


def only(message: HumanBody, **paths: Path) -> PosedBody | BodyKeypoints | IvlmError:
    """The one thing that one message becomes."""
    bodies, joints, errors = people_from_bodies([message], paths)
    (found,) = [*bodies, *joints, *errors]
    return found


def test_posed_vertices_arrive_as_they_are() -> None:
    mesh = load_body("anny").mesh
    vertices = mesh.vertices + np.float32([0, 0, 3])
    message = HumanBody(person_id="ada", body_model="anny", score=0.75, vertices=array("f", vertices.ravel()))
    body = only(message)
    assert isinstance(body, PosedBody)
    np.testing.assert_array_equal(body.vertices, vertices)
    np.testing.assert_array_equal(body.faces, mesh.faces)
    assert (body.person_id, body.body_model, body.score, body.in_front) == ("ada", "anny", 0.75, True)


def test_pose_parameters_are_posed_and_moved() -> None:
    pose = array("f", bytes(4 * 3 * JOINTS))
    pose[0] = np.pi
    body = only(HumanBody(body_model="anny", pose_parameters=pose, translation=Vector3(x=1.0, y=0.5, z=4.0)))
    assert isinstance(body, PosedBody)
    # Upright in an optical frame, whose y points down, and facing the camera.
    assert body.vertices.mean(axis=0) == pytest.approx([1.0, 0.5, 4.0], abs=0.5)
    assert np.ptp(body.vertices[:, 1]) > 1.4
    named = only(
        HumanBody(
            body_model="anny",
            pose_parameters=pose,
            shape_parameters=array("f", [1.0]),
            shape_parameter_names=["height"],
            translation=Vector3(x=1.0, y=0.5, z=4.0),
        )
    )
    assert isinstance(named, PosedBody)
    assert np.ptp(named.vertices[:, 1]) > np.ptp(body.vertices[:, 1]) + 0.1


def test_keypoints_stand_in_for_a_body() -> None:
    joints = only(HumanBody(person_id="ada", keypoints=array("f", range(51)), score=0.0))
    assert isinstance(joints, InputError), "scores above 1"
    values = np.arange(51, dtype=np.float32).reshape(17, 3)
    values[:, 2] /= 100
    joints = only(HumanBody(person_id="ada", keypoints=array("f", values.ravel())))
    assert isinstance(joints, BodyKeypoints)
    np.testing.assert_array_equal(joints.points, values[:, :2])
    np.testing.assert_array_equal(joints.scores, values[:, 2])
    assert joints.person_id == "ada"


def test_vertices_win_over_parameters_and_those_over_keypoints() -> None:
    vertices = array("f", load_body("anny").mesh.vertices.ravel())
    pose = array("f", bytes(4 * 3 * JOINTS))
    both = HumanBody(body_model="anny", pose_parameters=pose, keypoints=KEYPOINTS)
    assert isinstance(only(both), PosedBody)
    both.vertices = vertices
    body = only(both)
    assert isinstance(body, PosedBody)
    np.testing.assert_array_equal(body.vertices.ravel(), vertices)


NAN = float("nan")
BAD_BODIES: dict[str, tuple[dict[str, Any], str]] = {
    "nothing": ({}, "body.vertices"),
    "unknown model": ({"body_model": "star", "vertices": array("f", [0.0] * 9)}, "body.body_model"),
    "long model": ({"body_model": "x" * 1_000_000, "vertices": array("f", [0.0] * 9)}, "body.body_model"),
    "too few vertices": ({"vertices": array("f", [0.0] * 9)}, "body.vertices"),
    "broken vertices": ({"vertices": array("f", [0.0] * 10)}, "body.vertices"),
    "huge vertices": ({"vertices": array("f", bytes(4 * 1_500_003))}, "body.vertices"),
    "NaN vertices": ({"vertices": array("f", [NAN] * (3 * 13718))}, "body.vertices"),
    "wrong pose": ({"pose_parameters": array("f", [0.0] * 72)}, "body.pose_parameters"),
    "huge pose": ({"pose_parameters": array("f", bytes(4_000_000))}, "body.pose_parameters"),
    "NaN pose": ({"pose_parameters": array("f", [NAN] * (3 * JOINTS))}, "body.pose_parameters"),
    "pose in degrees": ({"pose_parameters": array("f", [90.0] * (3 * JOINTS))}, "body.pose_parameters"),
    "other topology": (
        {"vertices": array("f", bytes(4 * 3 * 13718)), "topology_hash": "0" * 16},
        "body.topology_hash",
    ),
    "licensed body without its file": (
        {"body_model": "smplx", "pose_parameters": array("f", bytes(4 * 165))},
        "body.pose_parameters",
    ),
    "score": ({"vertices": array("f", bytes(4 * 3 * 13718)), "score": 1.5}, "body.score"),
    "NaN score": ({"vertices": array("f", bytes(4 * 3 * 13718)), "score": NAN}, "body.score"),
    "long id": ({"vertices": array("f", bytes(4 * 3 * 13718)), "person_id": "x" * 257}, "body.person_id"),
    "long id of keypoints": ({"keypoints": KEYPOINTS, "person_id": "x" * 1_000_000}, "body.person_id"),
    "16 keypoints": ({"keypoints": KEYPOINTS[:48]}, "body.keypoints"),
    "keypoints without scores": ({"keypoints": KEYPOINTS[:34]}, "body.keypoints"),
    "a million keypoints": ({"keypoints": array("f", bytes(12_000_000))}, "body.keypoints"),
    "keypoint scores": ({"keypoints": array("f", [20.0, 30.0, 2.0] * 17)}, "body.keypoints.scores"),
    "NaN keypoint scores": ({"keypoints": array("f", [20.0, 30.0, NAN] * 17)}, "body.keypoints.scores"),
    "NaN keypoints": ({"keypoints": array("f", [NAN, 30.0, 0.9] * 17)}, "body.keypoints.points"),
}


@pytest.mark.parametrize("name", BAD_BODIES)
def test_bad_person_is_refused_by_the_field_and_the_next_one_kept(name: str) -> None:
    fields, field = BAD_BODIES[name]
    bad = HumanBody(**{"person_id": "bad", "body_model": "anny", **fields})
    bodies, joints, errors = people_from_bodies([bad, HumanBody(person_id="good", keypoints=KEYPOINTS)])
    assert bodies == ()
    assert [person.person_id for person in joints] == ["good"]
    assert [error.field for error in errors] == [field]
    assert errors[0].remedy
    assert len(str(errors[0])) < 500


def test_vertices_of_a_licensed_body_need_the_file_of_that_very_model(tmp_path: Path) -> None:
    message = HumanBody(body_model="smplx", vertices=array("f", bytes(4 * 3 * 10475)))
    missing = only(message, smplh=tmp_path / "smplh.npz")
    assert isinstance(missing, InputError)
    assert "'smplx'" in str(missing)
    wrong = only(message, smplx=tmp_path / "none.npz")
    assert isinstance(wrong, IvlmError)
    assert "none.npz" in str(wrong), "the model's own file was looked for"


def test_people_who_share_an_identifier_are_not_mixed_up() -> None:
    people = [HumanBody(keypoints=KEYPOINTS), HumanBody(keypoints=KEYPOINTS, person_id="ada"), HumanBody()]
    bodies, joints, errors = people_from_bodies(people)
    assert bodies == ()
    assert [person.person_id for person in joints] == ["ada"]
    assert [error.field for error in errors] == ["body.person_id"]
    assert "'' names 2 people" in str(errors[0])


def test_a_crowd_is_cut_and_said() -> None:
    people = [HumanBody(keypoints=KEYPOINTS, person_id=str(index)) for index in range(MOST_PEOPLE + 2)]
    _, joints, errors = people_from_bodies(people)
    assert [person.person_id for person in joints] == [str(index) for index in range(MOST_PEOPLE)]
    assert [error.field for error in errors] == ["bodies"]


NUMBERS = st.lists(st.floats(width=32), max_size=60).map(lambda values: array("f", values))
PEOPLE = st.builds(
    HumanBody,
    person_id=st.text(max_size=3),
    body_model=st.sampled_from(["anny", "smpl", "smplx", "", "ANNY"]) | st.text(max_size=5),
    score=st.floats(width=32),
    pose_parameters=NUMBERS | st.floats(width=32).map(lambda value: array("f", [value] * 3 * JOINTS)),
    shape_parameters=NUMBERS,
    shape_parameter_names=st.lists(st.sampled_from(["height", "age", "gender"]) | st.text(max_size=4), max_size=3),
    translation=st.builds(Vector3, x=st.floats(), y=st.floats(), z=st.floats()),
    vertices=NUMBERS,
    topology_hash=st.text(max_size=4),
    keypoints=NUMBERS | st.tuples(*[st.floats(width=32)] * 3).map(lambda three: array("f", three * 17)),
)


@settings(max_examples=150)
@given(st.lists(PEOPLE, max_size=4))
def test_whoever_arrives_is_taken_or_refused_and_never_raises(people: list[HumanBody]) -> None:
    bodies, joints, errors = people_from_bodies(people)
    shared = [error for error in errors if "names" in error.problem]
    alone = {person.person_id for person in people}
    assert len(bodies) + len(joints) + len(errors) - len(shared) <= len(people)
    assert len({person.person_id for person in (*bodies, *joints)}) == len(bodies) + len(joints)
    assert {person.person_id for person in (*bodies, *joints)} <= alone
    for body in bodies:
        assert np.isfinite(body.vertices).all()
    assert all(len(str(error)) < 500 for error in errors)
