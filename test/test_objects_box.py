"""The box that stands in for an unknown object has the size of its detection where that can be known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ivlm_core.objects import library_mesh
from ivlm_core.objects.box import detected_box
from ivlm_core.types import CameraIntrinsics, Frame, Mesh, ObjectQuery, PosedBody

CAMERA = CameraIntrinsics(500.0, 250.0, 79.5, 59.5, 160, 120)
STEP = 2 ** (1 / 8)


def _frame(distance: float | None = None, body: float | None = None, camera: CameraIntrinsics | None = CAMERA) -> Frame:
    depth = None if distance is None else np.full((120, 160), distance, dtype=np.float32)
    bodies = () if body is None else (_body(body),)
    return Frame(np.zeros((120, 160, 3), dtype=np.uint8), camera, depth, bodies=bodies)


def _body(distance: float, person_id: str = "") -> PosedBody:
    vertices = np.array([[0, 0, distance], [1, 0, distance], [0, 1, distance]], dtype=np.float32)
    return PosedBody(vertices, np.array([[0, 1, 2]]), "anny", person_id)


def _sides(mesh: Mesh) -> np.ndarray:
    return np.ptp(mesh.vertices, axis=0)


@given(st.floats(0.5, 8.0), st.floats(10, 100), st.floats(10, 80))
def test_box_is_as_large_as_the_detection_within_half_a_step(distance: float, width: float, height: float) -> None:
    query = ObjectQuery("thing", box_xyxy=(5, 5, 5 + width, 5 + height))
    mesh, source = detected_box(query, _frame(distance))
    assert source == "depth image"
    expected = np.clip([width * distance / 500, height * distance / 250], 0.02, 4.0)
    np.testing.assert_array_less(np.abs(np.log(_sides(mesh)[:2] / expected)), np.log(STEP) + 1e-3)
    assert _sides(mesh)[2] == pytest.approx(min(_sides(mesh)[:2]), rel=1e-3)


def test_depth_inside_the_mask_counts_holes_do_not() -> None:
    depth = np.full((120, 160), 9.0, dtype=np.float32)
    mask = np.zeros((120, 160), dtype=bool)
    mask[40:60, 30:80] = True
    depth[mask] = 2.0
    depth[40:48, 30:80] = np.nan
    frame = Frame(np.zeros((120, 160, 3), dtype=np.uint8), CAMERA, depth)
    mesh, source = detected_box(ObjectQuery("thing", mask=mask), frame)
    assert source == "depth image"
    np.testing.assert_allclose(_sides(mesh)[:2], [0.2, 0.16], rtol=0.1)


def test_without_depth_the_body_tells_the_distance() -> None:
    query = ObjectQuery("thing", box_xyxy=(0, 0, 50, 25))
    mesh, source = detected_box(query, _frame(body=3.0))
    assert source == "body"
    np.testing.assert_allclose(_sides(mesh)[:2], [0.3, 0.3], rtol=0.1)


def test_depth_without_any_value_is_no_depth() -> None:
    _, source = detected_box(ObjectQuery("thing", box_xyxy=(0, 0, 50, 25)), _frame(np.nan, body=3.0))
    assert source == "body"


def test_of_several_people_only_the_querys_own_counts() -> None:
    frame = Frame(np.zeros((120, 160, 3), np.uint8), CAMERA, bodies=(_body(1.0, "a"), _body(4.0, "b")))
    box = (0.0, 0.0, 50.0, 25.0)
    own = _sides(detected_box(ObjectQuery("thing", box_xyxy=box, person_id="b"), frame)[0])
    np.testing.assert_allclose(own[:2], [0.4, 0.4], rtol=0.1)
    assert detected_box(ObjectQuery("thing", box_xyxy=box), frame) == (library_mesh("box"), "")


@pytest.mark.parametrize(
    ("query", "frame"),
    [
        (ObjectQuery("thing", box_xyxy=(0, 0, 50, 25)), None),
        (ObjectQuery("thing", box_xyxy=(0, 0, 50, 25)), _frame()),
        (ObjectQuery("thing", box_xyxy=(0, 0, 50, 25)), _frame(2.0, camera=None)),
        (ObjectQuery("thing", box_xyxy=(0, 0, 50, 25)), _frame(2.0, camera=CameraIntrinsics(0, 0, 0, 0, 160, 120))),
        (
            ObjectQuery("thing", box_xyxy=(0, 0, 50, 25)),
            _frame(2.0, camera=CameraIntrinsics(np.nan, 1, 0, 0, 160, 120)),
        ),
        (ObjectQuery("thing"), _frame(2.0)),
        (ObjectQuery("thing", mask=np.zeros((120, 160), dtype=bool)), _frame(2.0)),
        (ObjectQuery("thing", box_xyxy=(900, 900, 950, 925)), _frame(2.0)),
        (ObjectQuery("thing", box_xyxy=(-90, -90, -50, -25)), _frame(2.0)),
        (ObjectQuery("thing", box_xyxy=(0, 0, 50, 25)), _frame(body=-2.0)),
    ],
)
def test_where_nothing_is_known_the_box_is_the_librarys(query: ObjectQuery, frame: Frame | None) -> None:
    assert detected_box(query, frame) == (library_mesh("box"), "")


def test_a_trembling_detection_keeps_its_mesh() -> None:
    frame = _frame(2.0)
    meshes = {
        id(detected_box(ObjectQuery("thing", box_xyxy=(5, 5, 55 + shift, 31 + shift)), frame)[0])
        for shift in np.linspace(-1, 1, 9)
    }
    assert len(meshes) == 1
