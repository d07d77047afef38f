"""People of recordings: from estimators, and from the node's own markers, whose corners become a whole surface."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ivlm_core.bodies import load_body
from ivlm_core.view.people import MAX_PEOPLE, people_from_bodies, people_from_markers
from ivlm_ros.message_types import PlainMessages

MAKE = PlainMessages().make
BODY = load_body().mesh


def body(**fields: Any) -> Any:
    return MAKE("ivlm_ros/msg/HumanBody", **{"body_model": "anny", "score": 1.0, **fields})


def marker(corners: np.ndarray, shades: np.ndarray, **fields: Any) -> Any:
    known = {
        "ns": "scene_body",
        "type": 11,
        "points": [MAKE("geometry_msgs/msg/Point", x=x, y=y, z=z) for x, y, z in corners.tolist()],
        "colors": [MAKE("std_msgs/msg/ColorRGBA", r=r, g=g, b=b, a=1.0) for r, g, b in shades.tolist()],
    }
    return MAKE("visualization_msgs/msg/Marker", **{**known, **fields})


def of_bodies(*bodies: Any) -> Any:
    return people_from_bodies(MAKE("ivlm_ros/msg/HumanBodyArray", bodies=list(bodies)), {})


def of_markers(*markers: Any) -> Any:
    return people_from_markers(MAKE("visualization_msgs/msg/MarkerArray", markers=list(markers)))


def test_vertices_and_poses_become_people() -> None:
    pose = np.zeros(104 * 3, np.float32)
    pose[0] = np.pi
    place = MAKE("geometry_msgs/msg/Vector3", x=0.0, y=0.0, z=3.0)
    people, notes = of_bodies(
        body(person_id="a", vertices=BODY.vertices.ravel()),
        body(person_id="b", pose_parameters=pose, translation=place),
    )
    assert notes == []
    assert [person.person_id for person in people] == ["a", "b"]
    np.testing.assert_array_equal(people[0].mesh.vertices, BODY.vertices)
    assert people[1].mesh.vertices[:, 2].mean() == pytest.approx(3.0, abs=0.3)


def test_who_cannot_be_shown_is_told() -> None:
    people, notes = of_bodies(
        body(person_id="joints", keypoints=np.zeros(51, np.float32)),
        body(person_id="wrong", vertices=np.zeros(9, np.float32)),
        body(person_id="nan", vertices=np.full(BODY.vertices.size, np.nan, np.float32)),
    )
    assert people == []
    assert [note.split()[1].rstrip(":") for note in notes] == ["joints", "wrong", "nan"]


def test_crowds_are_cut_short() -> None:
    people, _ = of_bodies(
        *(body(person_id=str(number), vertices=BODY.vertices.ravel()) for number in range(MAX_PEOPLE + 3))
    )
    assert len(people) == MAX_PEOPLE


def test_markers_corners_become_one_surface() -> None:
    square = np.array([[0, 0, 2], [1, 0, 2], [1, 1, 2], [0, 1, 2.0]])
    corners = square[[0, 1, 2, 0, 2, 3]]
    colors = np.linspace(0, 1, 4)[[0, 1, 2, 0, 2, 3], None] * [1, 1, 1]
    (person,) = of_markers(marker(corners, colors))
    assert len(person.mesh.vertices) == 4
    np.testing.assert_array_equal(person.mesh.vertices[person.mesh.faces].reshape(-1, 3), corners)
    np.testing.assert_array_equal(person.colors[person.mesh.faces].reshape(-1, 3), np.rint(colors * 255))


@pytest.mark.parametrize("change", [{"ns": "scene_object"}, {"type": 5}, {"action": 2}, {"points": []}, {"colors": []}])
def test_other_markers_are_no_people(change: dict[str, Any]) -> None:
    corners = np.array([[0, 0, 2], [1, 0, 2], [1, 1, 2.0]])
    assert len(of_markers(marker(corners, np.zeros((3, 3))))) == 1
    assert of_markers(marker(corners, np.zeros((3, 3)), **change)) == []
    assert of_markers(marker(corners * np.nan, np.zeros((3, 3)))) == []
