"""Detectors' messages become detections: the same boxes, labels, masks and joints, whatever odd things they hold."""

from __future__ import annotations

import math
from types import SimpleNamespace as Fields
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ivlm_core.errors import ConfigError, InputError
from ivlm_ros.conversions import queries_from_objects, query_from_object
from ivlm_ros.detections import (
    BODY_TYPES,
    COCO_CLASSES,
    DETECTION_TYPES,
    detected_objects,
    message_class,
    people_of,
)
from ivlm_ros.scene_inputs import people_from_bodies


def vision(*results: tuple[str, float], box: tuple[float, ...] = (320.0, 240.0, 100.0, 60.0), turn: float = 0.0) -> Any:
    """One vision_msgs/Detection2D as vision_msgs 4 has it: x, y, width, height of its box."""
    center = Fields(position=Fields(x=box[0], y=box[1]), theta=turn)
    hypotheses = [Fields(hypothesis=Fields(class_id=name, score=score)) for name, score in results]
    return Fields(id="7", results=hypotheses, bbox=Fields(center=center, size_x=box[2], size_y=box[3]))


def yolo(name: str = "cup", score: float = 0.75, outline: Any = (), joints: Any = (), **fields: Any) -> Any:
    """One yolo_msgs/Detection: corners of its outline in a 640×480 picture, joints as (number, x, y, score)."""
    points = [Fields(x=x, y=y) for x, y in outline]
    keypoints = [Fields(id=number, point=Fields(x=x, y=y), score=share) for number, x, y, share in joints]
    center = Fields(position=Fields(x=100.0, y=80.0), theta=0.0)
    return Fields(
        **{
            "class_id": 41,
            "class_name": name,
            "score": score,
            "id": "3",
            "bbox": Fields(center=center, size=Fields(x=40.0, y=20.0)),
            "mask": Fields(width=640 if points else 0, height=480 if points else 0, data=points),
            "keypoints": Fields(data=keypoints),
        }
        | fields
    )


def one(item: Any, names: tuple[str, ...] = ()) -> Any:
    (found,) = detected_objects(Fields(detections=[item]), names)
    return found


def test_ours_go_through_as_they_are() -> None:
    objects, bodies = [object()], [object()]
    assert detected_objects(Fields(objects=objects)) is objects
    assert people_of(Fields(bodies=bodies)) is bodies


def test_the_likeliest_hypothesis_names_the_object() -> None:
    query = query_from_object(one(vision(("dog", 0.2), ("chair", 0.7), ("cat", math.nan))), (480, 640))
    assert (query.label, query.object_id, query.score) == ("chair", "7", 0.7)
    assert query.box_xyxy == (270.0, 210.0, 370.0, 270.0)
    assert query.mask is None


def test_the_centre_of_older_vision_msgs_is_read() -> None:
    item = vision(("chair", 0.7))
    item.bbox.center = Fields(x=320.0, y=240.0, theta=0.0)
    assert query_from_object(one(item), (480, 640)).box_xyxy == (270.0, 210.0, 370.0, 270.0)


def test_a_turned_box_is_enclosed() -> None:
    found = one(vision(("chair", 0.7), turn=math.pi / 2))
    sides = (found.x_min, found.y_min, found.x_max, found.y_max)
    assert sides == pytest.approx((290.0, 190.0, 350.0, 290.0))


@pytest.mark.parametrize(
    ("given", "names", "label"),
    [
        ("62", ("coco",), "tv"),
        ("0", ("chair", "cup"), "chair"),
        ("2", ("chair", "cup"), "2"),
        ("chair", ("coco",), "chair"),
        ("9" * 5000, ("coco",), "9" * 5000),
        ("²", ("coco",), "²"),
        ("-1", ("coco",), "-1"),
    ],
)
def test_numbered_classes_get_their_names(given: str, names: tuple[str, ...], label: str) -> None:
    assert one(vision((given, 0.5)), names).label == label


def test_coco_has_its_eighty_classes() -> None:
    assert len(COCO_CLASSES) == len(set(COCO_CLASSES)) == 80
    assert (COCO_CLASSES[56], COCO_CLASSES[79]) == ("chair", "toothbrush")


def test_a_detection_without_a_hypothesis_is_refused_by_its_label() -> None:
    with pytest.raises(InputError, match=r"object\.label: is empty"):
        query_from_object(one(vision()), (480, 640))


def test_an_outline_becomes_a_mask() -> None:
    query = query_from_object(one(yolo(outline=[(10, 20), (30, 20), (30, 40), (10, 40)])), (480, 640))
    assert query.mask is not None
    rows, columns = np.nonzero(query.mask)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (20, 40, 10, 30)
    assert len(rows) == 21 * 21
    assert query.box_xyxy == (80.0, 70.0, 120.0, 90.0)


def test_outlines_are_not_drawn_before_their_size_was_looked_at() -> None:
    huge = yolo(outline=[(0, 0), (8000, 0), (0, 8000)])
    huge.mask.width = huge.mask.height = 8192
    found = detected_objects(Fields(detections=[huge] * 500))
    _, errors = queries_from_objects(found, (480, 640))
    assert len(found) == 500
    assert {error.field for error in errors} == {"object.mask.width", "objects"}
    assert not any("data" in vars(item.mask) for item in found), "not a pixel was drawn"


def test_joints_become_a_person() -> None:
    message = Fields(detections=[yolo("person", joints=[(1, 50.0, 20.0, 0.9), (17, 60.0, 200.0, 2.0)]), yolo()])
    _, (person,), errors = people_from_bodies(people_of(message))
    assert errors == ()
    assert person.person_id == "3"
    assert (person.points[0].tolist(), person.points[16].tolist()) == ([50.0, 20.0], [60.0, 200.0])
    assert person.scores.tolist() == pytest.approx([0.9] + [0.0] * 15 + [1.0])


@pytest.mark.parametrize("types", [DETECTION_TYPES, BODY_TYPES])
def test_a_type_that_is_not_installed_says_what_to_install(types: Any) -> None:
    with pytest.raises(ConfigError, match=r"_type: yolo_msgs/DetectionArray is not available.*yolo_ros"):
        message_class("yolo_msgs", types)


numbers = st.floats(width=64) | st.sampled_from([0.0, -0.0, 1e300, -1e300])
texts = st.text(max_size=300)


@given(
    st.lists(st.tuples(texts, numbers), max_size=3),
    st.tuples(numbers, numbers, numbers, numbers),
    numbers,
    st.lists(st.tuples(numbers, numbers), max_size=5),
    st.integers(-(2**31), 2**31 - 1),
    st.lists(st.tuples(st.integers(-(2**31), 2**31 - 1), numbers, numbers, numbers), max_size=4),
    texts,
)
def test_whatever_a_detector_sends_becomes_a_query_or_one_error(
    results, box, turn, outline, size, joints, name
) -> None:
    odd = yolo(name, outline=outline, joints=joints)
    odd.mask.width = odd.mask.height = size
    for item in (vision(*results, box=box, turn=turn), odd):
        queries, errors = queries_from_objects(detected_objects(Fields(detections=[item]), ("coco",)), (480, 640))
        assert len(queries) + len(errors) == 1
    bodies, people, refused = people_from_bodies(people_of(Fields(detections=[odd])))
    assert bodies == ()
    assert len(people) + len(refused) == (1 if joints else 0)
