"""The scene's markers: in the camera's frame, where the fit put things, within their budget, and tidied up."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy")
pytest.importorskip("ivlm_ros.msg")

from scipy.spatial.transform import Rotation
from std_msgs.msg import Header
from visualization_msgs.msg import Marker

from ivlm_core.types import FrameResult, Mesh, PosedBody
from ivlm_ros import scene_markers as module
from ivlm_ros.scene_markers import LIFT, SceneMarkers


def header(frame_id: str = "camera_optical") -> Header:
    made = Header(frame_id=frame_id)
    made.stamp.sec = 42
    return made


def shown(markers: SceneMarkers, result: FrameResult, frame_id: str = "camera_optical") -> dict[Any, Marker]:
    array = markers.build(result, header(frame_id), 0.5)
    return {(marker.ns, marker.id): marker for marker in array.markers}


def placed(marker: Marker) -> np.ndarray:
    """(n, 3) points of a marker in its frame, metres."""
    turn, place = marker.pose.orientation, marker.pose.position
    points = np.array([[point.x, point.y, point.z] for point in marker.points])
    if marker.type == Marker.TRIANGLE_LIST:  # of lines the scale is the width
        points *= marker.scale.x
    turned = Rotation.from_quat([turn.x, turn.y, turn.z, turn.w]).apply(points)
    return turned + np.array([place.x, place.y, place.z])


def changed(result: FrameResult, number: int, **fields: Any) -> FrameResult:
    fitted = list(result.reconstructions)
    fitted[number] = dataclasses.replace(fitted[number], **fields)
    return dataclasses.replace(result, reconstructions=tuple(fitted))


def test_everything_is_in_the_cameras_frame_with_the_images_stamp(fitted_result: FrameResult) -> None:
    found = shown(SceneMarkers(2000), fitted_result)
    assert {name for name, _ in found} == {
        "scene_body",
        "scene_body_label",
        "scene_object",
        "scene_object_label",
        "scene_affordance",
        "scene_link",
    }
    for marker in found.values():
        assert (marker.header.frame_id, marker.header.stamp.sec) == ("camera_optical", 42)
        assert marker.action == Marker.ADD
        assert marker.lifetime.sec > 0
        assert marker.color.a == 1.0
        assert len(marker.colors) in (0, len(marker.points))
    assert found["scene_object_label", 1].text == "cup"
    assert found["scene_body_label", 1].text == "person ada"
    assert ("scene_body_label", 0) not in found, "the person without a name needs no label"


def test_body_stands_where_it_is_posed_and_shows_its_contact(fitted_result: FrameResult) -> None:
    fitted = fitted_result.reconstructions[0]
    body = shown(SceneMarkers(2000), fitted_result)["scene_body", 0]
    assert body.type == Marker.TRIANGLE_LIST
    points = placed(body)
    np.testing.assert_allclose(points, fitted.body.vertices[fitted.body.faces].reshape(-1, 3), atol=1e-6)
    touched = {tuple(np.round(point, 5)) for point in fitted.body.vertices[[2, 5]]}
    for point, color in zip(points, body.colors, strict=True):
        assert (color.r > 2 * max(color.g, color.b)) == (tuple(np.round(point.astype(np.float32), 5)) in touched)


def test_one_person_with_two_objects_is_drawn_once_with_both_contacts(fitted_result: FrameResult) -> None:
    first = fitted_result.reconstructions[0]
    other = np.zeros(40, np.float32)
    other[7] = 1.0
    result = changed(fitted_result, 1, body=first.body, body_contact=other)
    found = shown(SceneMarkers(2000), result)
    assert [key for key in found if key[0] == "scene_body"] == [("scene_body", 0)]
    red = {
        tuple(np.round(point.astype(np.float32), 5))
        for point, color in zip(placed(found["scene_body", 0]), found["scene_body", 0].colors, strict=True)
        if color.r > 2 * max(color.g, color.b)
    }
    assert red == {tuple(np.round(point, 5)) for point in first.body.vertices[[2, 5, 7]]}


@pytest.mark.parametrize("resource", ["", "file:///meshes/chair.glb"])
def test_object_is_a_mesh_file_or_triangles_under_its_pose(fitted_result: FrameResult, resource: str) -> None:
    fitted = fitted_result.reconstructions[1]
    marker = shown(SceneMarkers(2000), changed(fitted_result, 1, mesh_resource=resource))["scene_object", 1]
    assert (marker.pose.position.x, marker.pose.position.z) == (0.5, 3.0)
    assert (marker.scale.x, marker.scale.y, marker.scale.z) == (2.0, 2.0, 2.0)
    if resource:
        assert (marker.type, marker.mesh_resource) == (Marker.MESH_RESOURCE, resource)
        assert len(marker.points) == 0
        return
    assert marker.type == Marker.TRIANGLE_LIST
    np.testing.assert_allclose(placed(marker), fitted.placed()[fitted.mesh.faces].reshape(-1, 3), atol=1e-5)


def test_contact_faces_lie_on_the_object(fitted_result: FrameResult) -> None:
    fitted = fitted_result.reconstructions[1]
    values = fitted_result.object_affordances[1].probability
    faces = fitted.mesh.faces[values[fitted.mesh.faces].mean(axis=1) >= 0.5]
    marker = shown(SceneMarkers(2000), fitted_result)["scene_affordance", 1]
    points, wanted = placed(marker), fitted.placed()[faces].reshape(-1, 3)
    assert len(points) == 3 * len(faces) > 0
    np.testing.assert_allclose(np.linalg.norm(points - wanted, axis=1), LIFT, rtol=1e-3)
    assert len(marker.colors) == len(points)


def test_link_leads_from_the_persons_contact_to_the_objects(fitted_result: FrameResult) -> None:
    found = shown(SceneMarkers(2000), fitted_result)
    begin, end = placed(found["scene_link", 1])
    np.testing.assert_allclose(begin, [0.1, 0.2, 3.0], atol=1e-6)
    np.testing.assert_allclose(end, placed(found["scene_affordance", 1]).mean(axis=0), atol=2 * LIFT)
    without = shown(SceneMarkers(2000), changed(fitted_result, 1, summary=None))
    assert ("scene_link", 1) not in without


def test_poses_that_are_not_valid_are_not_drawn_and_the_person_is(fitted_result: FrameResult) -> None:
    result = changed(fitted_result, 1, pose_valid=False, reason="nothing is known")
    found = shown(SceneMarkers(2000), result)
    assert {name for name, number in found if number == 1} == {"scene_body", "scene_body_label"}


def test_objects_without_people_and_the_other_way_round(fitted_result: FrameResult) -> None:
    alone = dataclasses.replace(
        fitted_result,
        reconstructions=tuple(
            dataclasses.replace(fitted, body=None, body_contact=None, summary=None)
            for fitted in fitted_result.reconstructions
        ),
    )
    assert {name for name, _ in shown(SceneMarkers(2000), alone)} == {
        "scene_object",
        "scene_object_label",
        "scene_affordance",
    }
    untouched = dataclasses.replace(fitted_result, object_affordances=(), human_contacts=())
    assert {name for name, _ in shown(SceneMarkers(2000), untouched)} == {
        "scene_body",
        "scene_body_label",
        "scene_object",
        "scene_object_label",
    }
    assert shown(SceneMarkers(2000), dataclasses.replace(fitted_result, reconstructions=())) == {}


def test_objects_of_one_label_show_their_own_affordance(fitted_result: FrameResult) -> None:
    """The first of two chairs was not answered: its reconstruction must not take the other's values."""
    result = dataclasses.replace(fitted_result, object_affordances=fitted_result.object_affordances[1:])
    for number in (0, 1):
        result = changed(result, number, object_label="chair", object_id="")
    found = shown(SceneMarkers(2000), result)
    assert [key for key in found if key[0] == "scene_affordance"] == [("scene_affordance", 1)]


def grid(side: int) -> Mesh:
    """A flat square metre of 2·(side−1)² triangles."""
    x, y = np.meshgrid(np.linspace(0, 1, side), np.linspace(0, 1, side), indexing="ij")
    corner = np.arange(side * side).reshape(side, side)
    a, b, c, d = corner[:-1, :-1], corner[1:, :-1], corner[1:, 1:], corner[:-1, 1:]
    faces = np.concatenate([np.stack([a, b, c], -1).reshape(-1, 3), np.stack([a, c, d], -1).reshape(-1, 3)])
    return Mesh(np.stack([x, y, np.zeros_like(x)], -1).reshape(-1, 3), faces, "grid")


def test_large_meshes_keep_the_budget_and_lose_no_contact(fitted_result: FrameResult) -> None:
    mesh = grid(120)
    body = PosedBody(mesh.vertices + np.float32([0, 0, 3]), mesh.faces, "anny")
    contact = np.zeros(len(mesh.vertices), np.float32)
    contact[777] = 1.0
    affordance = dataclasses.replace(
        fitted_result.object_affordances[0], mesh=mesh, probability=np.ones(len(mesh.vertices), np.float32)
    )
    result = changed(fitted_result, 0, body=body, body_contact=contact, mesh=mesh)
    result = dataclasses.replace(result, object_affordances=(affordance,))
    found = shown(SceneMarkers(300), result)
    for name in ("scene_body", "scene_object", "scene_affordance"):
        assert 0 < len(found[name, 0].points) <= 3 * 300, name
    marker = found["scene_body", 0]
    red = [place for place, color in zip(placed(marker), marker.colors, strict=True) if color.r > 2 * color.g]
    assert red
    assert np.linalg.norm(np.array(red) - body.vertices[777], axis=1).max() < 0.2


def test_hand_on_a_leg_is_not_merged_with_it(fitted_result: FrameResult) -> None:
    """How a body is simplified comes from the canonical one, in which nothing touches."""
    upright = grid(60)
    far = Mesh(
        np.concatenate([upright.vertices, upright.vertices + np.float32([5, 0, 0])]),
        np.concatenate([upright.faces, upright.faces + len(upright.vertices)]),
    )
    together = np.concatenate([upright.vertices, upright.vertices]) + np.float32([0, 0, 3])
    apart = np.concatenate([upright.vertices, upright.vertices + np.float32([0, 2, 0])]) + np.float32([0, 0, 3])
    contact = dataclasses.replace(
        fitted_result.human_contacts[0], mesh=far, probability=np.zeros(len(far.vertices), np.float32)
    )
    markers = SceneMarkers(500)

    def points(vertices: np.ndarray) -> np.ndarray:
        body = PosedBody(vertices, far.faces, "anny")
        result = changed(fitted_result, 0, body=body, body_contact=None)
        result = dataclasses.replace(result, human_contacts=(contact,))
        return placed(shown(markers, result)["scene_body", 0])

    points(together)
    heights = points(apart)[:, 1]
    # Merged, their cells would lie half way between the two.
    assert ((heights < 1.01) | (heights > 1.99)).all()


def test_simplifications_are_remembered_and_forgotten_in_time(
    fitted_result: FrameResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[Mesh] = []
    real = module.merge_vertices
    monkeypatch.setattr(module, "merge_vertices", lambda mesh, most: calls.append(mesh) or real(mesh, most))
    markers = SceneMarkers(2000)
    for _ in range(3):
        shown(markers, fitted_result)
    assert len(calls) == 2  # one body, one object
    for index in range(2 * module.KEPT_MESHES):
        shown(markers, changed(fitted_result, 0, mesh=Mesh(np.eye(3) * (index + 1), [[0, 1, 2]])))
        shown(markers, dataclasses.replace(fitted_result, object_affordances=()))
    assert len(markers._simplified) == module.KEPT_MESHES


def test_what_is_gone_is_deleted_once_in_the_frame_it_was_drawn_in(fitted_result: FrameResult) -> None:
    markers = SceneMarkers(2000)
    shown(markers, fitted_result)
    fewer = dataclasses.replace(fitted_result, reconstructions=fitted_result.reconstructions[:1])
    found = shown(markers, fewer, "other_camera")
    deleted = {key: marker for key, marker in found.items() if marker.action == Marker.DELETE}
    assert set(deleted) == {
        ("scene_body", 1),
        ("scene_body_label", 1),
        ("scene_object", 1),
        ("scene_object_label", 1),
        ("scene_affordance", 1),
        ("scene_link", 1),
    }
    assert {marker.header.frame_id for marker in deleted.values()} == {"camera_optical"}
    assert all(marker.action == Marker.ADD for marker in shown(markers, fewer, "other_camera").values())


def test_clear_removes_everything_even_what_an_earlier_process_drew(fitted_result: FrameResult) -> None:
    markers = SceneMarkers(2000)
    assert [marker.action for marker in markers.clear().markers] == [Marker.DELETEALL]
    shown(markers, fitted_result)
    assert [marker.action for marker in markers.clear().markers] == [Marker.DELETEALL]
    assert shown(markers, dataclasses.replace(fitted_result, reconstructions=())) == {}
