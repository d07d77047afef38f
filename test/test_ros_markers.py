"""Markers: small meshes that lose no contact, in a frame of their own, that clean up after themselves."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("rclpy")
pytest.importorskip("ivlm_ros.msg")

from rclpy.serialization import deserialize_message
from std_msgs.msg import Header
from visualization_msgs.msg import Marker, MarkerArray

from ivlm_core.types import FrameResult, Mesh
from ivlm_ros.markers import GAP, SHADES, ContactMarkers, MarkerMesh, merge_vertices


def sphere(rings: int = 40) -> Mesh:
    """A closed sphere of radius 0.5 m with 2·rings² triangles at most."""
    theta, phi = np.meshgrid(np.linspace(0, np.pi, rings), np.linspace(0, 2 * np.pi, rings), indexing="ij")
    points = 0.5 * np.stack([np.sin(theta) * np.cos(phi), np.cos(theta), np.sin(theta) * np.sin(phi)], axis=-1)
    corner = np.arange(rings * rings).reshape(rings, rings)
    a, b, c, d = corner[:-1, :-1], corner[1:, :-1], corner[1:, 1:], corner[:-1, 1:]
    faces = np.concatenate([np.stack([a, b, c], -1).reshape(-1, 3), np.stack([a, c, d], -1).reshape(-1, 3)])
    return Mesh(points.reshape(-1, 3), faces, "sphere")


def header() -> Header:
    made = Header(frame_id="camera_optical")
    made.stamp.sec = 42
    return made


@settings(max_examples=25)
@given(triangles=st.integers(100, 4000))
def test_merged_mesh_keeps_its_budget_and_shape(triangles: int) -> None:
    mesh = sphere()
    vertices, faces, cells = merge_vertices(mesh, triangles)
    assert 0 < len(faces) <= triangles
    assert cells.shape == (len(mesh.vertices),)
    assert set(np.unique(cells)) == set(range(len(vertices)))
    assert (np.sort(faces, axis=1)[:, :-1] != np.sort(faces, axis=1)[:, 1:]).all()
    # A cell of the grid is small against the sphere, so that no vertex moves far.
    if triangles >= 500:
        assert np.linalg.norm(vertices[cells] - mesh.vertices, axis=1).max() < 0.2


def test_small_mesh_stays_as_it_is() -> None:
    mesh = sphere(10)
    vertices, faces, cells = merge_vertices(mesh, 5000)
    np.testing.assert_array_equal(vertices, mesh.vertices)
    np.testing.assert_array_equal(faces, mesh.faces)
    np.testing.assert_array_equal(cells, np.arange(len(mesh.vertices)))


def test_flat_and_tiny_meshes() -> None:
    flat = Mesh(np.random.default_rng(0).random((3000, 3)) * [1, 1, 0], np.arange(3000).reshape(-1, 3))
    assert 0 < len(merge_vertices(flat, 300)[1]) <= 300
    point = Mesh(np.zeros((3000, 3)), np.arange(3000).reshape(-1, 3))
    assert 0 < len(merge_vertices(point, 300)[1]) <= 300


@given(st.integers(0, 2**32 - 1))
def test_no_contact_is_lost_by_merging(seed: int) -> None:
    """Each drawn point shows the highest value of all vertices that were merged into it."""
    mesh = sphere(20)
    values = np.random.default_rng(seed).random(len(mesh.vertices)).astype(np.float32)
    small = MarkerMesh.build(mesh, 200)
    cells = merge_vertices(mesh, 200)[2]
    expected = [values[cells == cell].max() for cell in small.corner_cell]
    np.testing.assert_array_equal(small.shades(values), np.rint(np.array(expected) * (SHADES - 1)))


def visible(markers: ContactMarkers, result: FrameResult) -> dict[tuple[str, int], Marker]:
    array = markers.build(result, header())
    if isinstance(array, bytes):
        array = deserialize_message(array, MarkerArray)
    return {(marker.ns, marker.id): marker for marker in array.markers}


def test_markers_of_a_frame(fake_result: FrameResult) -> None:
    shown = visible(ContactMarkers("ivlm_body", 2000), fake_result)
    assert {key for key in shown if not key[0].endswith("label")} == {
        ("body", 0),
        ("body", 1),
        ("object", 0),
        ("object", 1),
    }
    for (ns, _), marker in shown.items():
        # Never in the camera's frame; the stamp is the image's.
        assert marker.header.frame_id == "ivlm_body"
        assert marker.header.stamp == header().stamp
        assert marker.lifetime.sec > 0
        if not ns.endswith("label"):
            assert marker.type == Marker.TRIANGLE_LIST
            assert len(marker.points) == len(marker.colors) > 0
            assert len(marker.points) % 3 == 0
            assert (marker.scale.x, marker.scale.y, marker.scale.z) == (1.0, 1.0, 1.0)
    assert shown["object_label", 0].text == "chair"
    assert ("body_label", 0) not in shown, "the only person without a name needs no label"
    assert "ada" in shown["body_label", 1].text


def test_touched_vertices_are_red_and_others_are_not(fake_result: FrameResult) -> None:
    body = visible(ContactMarkers("ivlm_body", 2000), fake_result)["body", 0]
    touched = {tuple(point) for point in fake_result.human_contacts[0].mesh.vertices[[2, 5]].tolist()}
    for point, color in zip(body.points, body.colors, strict=True):
        if (point.x, point.y, point.z) in touched:
            assert color.r > 2 * max(color.g, color.b)
        else:
            assert color.r <= 2 * max(color.g, color.b)


def place(marker: Marker) -> np.ndarray:
    """(3F, 3) points of a marker in its frame, metres."""
    turn = marker.pose.orientation
    u, w = np.array([turn.x, turn.y, turn.z]), turn.w
    points = np.array([[point.x, point.y, point.z] for point in marker.points])
    turned = points + 2 * np.cross(u, np.cross(u, points) + w * points)
    position = marker.pose.position
    return turned + np.array([position.x, position.y, position.z])


def test_scene_stands_upright_on_one_floor_without_overlap(fake_result: FrameResult) -> None:
    shown = visible(ContactMarkers("ivlm_body", 2000), fake_result)
    first = place(shown["body", 0])
    mesh = fake_result.human_contacts[0].mesh.vertices
    # Canonical x left, y up, z forward becomes x forward, y left, z up.
    np.testing.assert_allclose(first.max(axis=0), mesh[:, [2, 0, 1]].max(axis=0), atol=1e-6)
    floor = first[:, 2].min()
    spans = []
    for key in (("body", 1), ("body", 0), ("object", 0), ("object", 1)):
        points = place(shown[key])
        assert points[:, 2].min() == pytest.approx(floor, abs=1e-6)
        spans.append((points[:, 1].min(), points[:, 1].max()))
    for left, right in itertools.pairwise(spans):
        assert left[0] - right[1] == pytest.approx(GAP, abs=1e-5)


def test_one_person_with_two_objects_is_drawn_once(fake_result: FrameResult) -> None:
    first, second = fake_result.human_contacts
    other = np.zeros(40, np.float32)
    other[7] = 1.0
    result = dataclasses.replace(
        fake_result, human_contacts=(first, dataclasses.replace(second, person_id="", probability=other))
    )
    shown = visible(ContactMarkers("ivlm_body", 2000), result)
    assert ("body", 1) not in shown
    red = {
        (point.x, point.y, point.z)
        for point, color in zip(shown["body", 0].points, shown["body", 0].colors, strict=True)
        if color.r > 2 * max(color.g, color.b)
    }
    assert red == {tuple(point) for point in first.mesh.vertices[[2, 5, 7]].tolist()}


def test_what_is_gone_is_deleted_once(fake_result: FrameResult) -> None:
    markers = ContactMarkers("ivlm_body", 2000)
    visible(markers, fake_result)
    fewer = dataclasses.replace(fake_result, object_affordances=fake_result.object_affordances[:1])
    deleted = {key for key, marker in visible(markers, fewer).items() if marker.action == Marker.DELETE}
    assert deleted == {("object", 1), ("object_label", 1)}
    assert all(marker.action == Marker.ADD for marker in visible(markers, fewer).values())


def test_clear_removes_everything(fake_result: FrameResult) -> None:
    markers = ContactMarkers("ivlm_body", 2000)
    visible(markers, fake_result)
    assert [marker.action for marker in markers.clear().markers] == [Marker.DELETEALL]
    nothing = dataclasses.replace(fake_result, human_contacts=(), object_affordances=())
    assert visible(markers, nothing) == {}


def test_meshes_are_simplified_once_and_forgotten_in_time(
    fake_result: FrameResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ivlm_ros import markers as module

    built: list[Any] = []
    real = MarkerMesh.build
    monkeypatch.setattr(MarkerMesh, "build", lambda mesh, triangles: built.append(mesh) or real(mesh, triangles))
    markers = ContactMarkers("ivlm_body", 2000)
    for _ in range(3):
        visible(markers, fake_result)
    assert len(built) == 2  # one body, one object mesh for both objects
    for index in range(2 * module.KEPT_MESHES):
        mesh = Mesh(np.eye(3) * (index + 1), [[0, 1, 2]])
        affordance = dataclasses.replace(
            fake_result.object_affordances[0], mesh=mesh, probability=np.zeros(3, np.float32)
        )
        visible(markers, dataclasses.replace(fake_result, object_affordances=(affordance,)))
    assert len(markers._meshes) == module.KEPT_MESHES
