"""The contact as a PointCloud2: exactly the vertices in contact, where they are in the scene, with normals."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

pytest.importorskip("rclpy")
pytest.importorskip("ivlm_ros.msg")

from sensor_msgs.msg import PointCloud2, PointField
from std_msgs.msg import Header

from ivlm_core.types import FrameResult, Mesh
from ivlm_ros.point_cloud import BODY, OBJECT, _normals, contact_cloud

KINDS = {PointField.FLOAT32: "<f4", PointField.UINT32: "<u4"}


def read(cloud: PointCloud2) -> np.ndarray:
    """The points, read by what the message says about itself and nothing else."""
    assert cloud.row_step == cloud.point_step * cloud.width
    assert len(cloud.data) == cloud.row_step * cloud.height
    layout = np.dtype(
        {
            "names": [field.name for field in cloud.fields],
            "formats": [KINDS[field.datatype] for field in cloud.fields],
            "offsets": [field.offset for field in cloud.fields],
            "itemsize": cloud.point_step,
        }
    )
    assert not cloud.is_bigendian
    assert all(field.count == 1 for field in cloud.fields)
    return np.frombuffer(bytes(cloud.data), layout)


def points(rows: np.ndarray, *names: str) -> np.ndarray:
    return np.stack([rows[name] for name in names], axis=1)


def header() -> Header:
    made = Header(frame_id="camera_optical")
    made.stamp.sec = 42
    return made


def test_points_are_the_vertices_in_contact_where_they_are(fitted_result: FrameResult) -> None:
    cloud = contact_cloud(fitted_result, header(), 0.5)
    assert cloud.header == header()
    assert (cloud.height, cloud.is_dense) == (1, True)
    rows = read(cloud)
    for number, fitted in enumerate(fitted_result.reconstructions):
        own = rows[rows["object"] == number]
        skin, thing = own[own["surface"] == BODY], own[own["surface"] == OBJECT]
        np.testing.assert_array_equal(points(skin, "x", "y", "z"), fitted.body.vertices[[2, 5]])
        np.testing.assert_array_equal(skin["contact"], [1.0, 1.0])
        values = fitted_result.object_affordances[number].probability
        np.testing.assert_allclose(points(thing, "x", "y", "z"), fitted.placed()[values >= 0.5], atol=1e-6)
        np.testing.assert_array_equal(thing["contact"], values[values >= 0.5])
    assert len(rows) == 2 * (2 + 6)
    np.testing.assert_allclose(np.linalg.norm(points(rows, "normal_x", "normal_y", "normal_z"), axis=1), 1, atol=1e-5)


def test_normals_point_out_of_a_closed_mesh() -> None:
    corners = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)], np.float32)
    from scipy.spatial import ConvexHull

    faces = []
    for triangle in ConvexHull(corners).simplices:
        a, b, c = corners[triangle]
        outward = np.dot(np.cross(b - a, c - a), a + b + c - 1.5) > 0
        faces.append(triangle if outward else triangle[::-1])
    normals = _normals(corners, np.array(faces, np.int32), np.array([0, 7]))
    assert (normals[0] < 0).all()
    assert (normals[1] > 0).all()
    np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1, atol=1e-6)


def test_vertices_without_an_area_have_no_normal_and_no_nan() -> None:
    vertices = np.array([[0, 0, 0], [1, 0, 0], [2, 0, 0], [5, 5, 5]], np.float32)
    normals = _normals(vertices, np.array([[0, 1, 2], [1, 1, 1]], np.int32), np.arange(4))
    np.testing.assert_array_equal(normals, np.zeros((4, 3)))


def test_an_invalid_pose_leaves_the_persons_points(fitted_result: FrameResult) -> None:
    invalid = tuple(dataclasses.replace(fitted, pose_valid=False) for fitted in fitted_result.reconstructions)
    rows = read(contact_cloud(dataclasses.replace(fitted_result, reconstructions=invalid), header(), 0.5))
    assert set(rows["surface"]) == {BODY}


@pytest.mark.parametrize("lacking", ["body", "body_contact"])
def test_an_object_without_a_person_leaves_its_own_points(fitted_result: FrameResult, lacking: str) -> None:
    alone = tuple(dataclasses.replace(fitted, **{lacking: None}) for fitted in fitted_result.reconstructions)
    rows = read(contact_cloud(dataclasses.replace(fitted_result, reconstructions=alone), header(), 0.5))
    assert set(rows["surface"]) == {OBJECT}


def test_objects_of_one_label_keep_their_own_values(fitted_result: FrameResult) -> None:
    """The first of two chairs was not answered: the other's affordance is no contact of the first."""
    twins = tuple(
        dataclasses.replace(fitted, object_label="chair", object_id="") for fitted in fitted_result.reconstructions
    )
    result = dataclasses.replace(
        fitted_result, reconstructions=twins, object_affordances=fitted_result.object_affordances[1:]
    )
    rows = read(contact_cloud(result, header(), 0.5))
    assert set(rows["object"][rows["surface"] == OBJECT]) == {1}


def test_nothing_fitted_is_an_empty_cloud_with_its_fields(fake_result: FrameResult) -> None:
    cloud = contact_cloud(fake_result, header(), 0.5)
    assert (cloud.width, len(cloud.data)) == (0, 0)
    assert [field.name for field in cloud.fields][:4] == ["x", "y", "z", "contact"]
    assert len(read(cloud)) == 0


@given(
    vertices=hnp.arrays(np.float32, (12, 3), elements=st.floats(-100, 100, width=32)),
    faces=hnp.arrays(np.int32, (20, 3), elements=st.integers(0, 11)),
    chosen=st.sets(st.integers(0, 11)).map(sorted),
)
def test_normals_are_unit_or_zero_whatever_the_mesh(vertices: Any, faces: Any, chosen: list[int]) -> None:
    mesh = Mesh(vertices, faces)
    normals = _normals(mesh.vertices, mesh.faces, np.array(chosen, np.int64))
    assert normals.shape == (len(chosen), 3)
    length = np.linalg.norm(normals, axis=1)
    assert (np.isclose(length, 1, atol=1e-4) | (length == 0)).all()


def test_cloud_over_dds(peer: Any, fitted_result: FrameResult, wait_until: Any) -> None:
    sent = contact_cloud(fitted_result, header(), 0.5)
    heard = peer.hear(PointCloud2, "points")
    peer.publisher(PointCloud2, "points").publish(sent)
    wait_until(lambda: heard)
    assert heard[0] == sent
