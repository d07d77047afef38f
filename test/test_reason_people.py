"""Each person is looked at alone where there are several, and the whole image where there are not."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ivlm_core.reason.people import SMALLEST_SIDE, pictures_of_people
from ivlm_core.types import ObjectQuery

IMAGE = np.arange(240 * 320 * 3, dtype=np.uint32).astype(np.uint8).reshape(240, 320, 3)
LEFT, RIGHT = (20.0, 30.0, 110.0, 220.0), (200.0, 25.0, 290.0, 230.0)


def _place(picture: np.ndarray) -> tuple[int, int, int, int]:
    """x_min, y_min, x_max, y_max of a view of IMAGE, in whole pixels, the last ones included."""
    start = picture.__array_interface__["data"][0] - IMAGE.__array_interface__["data"][0]
    row, column = divmod(start // 3, IMAGE.shape[1])
    return column, row, column + picture.shape[1] - 1, row + picture.shape[0] - 1


def test_one_person_is_seen_in_the_whole_image():
    queries = [ObjectQuery("cup", person_box_xyxy=LEFT), ObjectQuery("chair", person_box_xyxy=LEFT)]
    ((picture, numbers),) = pictures_of_people(IMAGE, queries)
    assert picture is IMAGE
    assert numbers == [0, 1]


def test_people_without_boxes_are_seen_in_the_whole_image():
    queries = [ObjectQuery("cup", person_id="a"), ObjectQuery("cup", person_id="b")]
    ((picture, numbers),) = pictures_of_people(IMAGE, queries)
    assert picture is IMAGE
    assert numbers == [0, 1]


def test_no_queries_need_no_picture():
    assert pictures_of_people(IMAGE, []) == []


def test_each_of_two_people_is_seen_with_their_objects_and_without_the_other():
    queries = [
        ObjectQuery("cup", person_box_xyxy=LEFT, box_xyxy=(100, 60, 120, 80)),
        ObjectQuery("chair", person_box_xyxy=RIGHT, box_xyxy=(195, 120, 300, 235)),
        ObjectQuery("book", person_box_xyxy=LEFT),
        ObjectQuery("lamp"),
    ]
    pictures = pictures_of_people(IMAGE, queries)
    assert [numbers for _, numbers in pictures] == [[0, 2], [1], [3]]
    left, right = _place(pictures[0][0]), _place(pictures[1][0])
    assert left[0] <= 20
    assert left[2] >= 120
    assert left[2] < 195
    assert right[0] <= 195
    assert right[0] > 120
    assert right[2] >= 300
    assert pictures[2][0] is IMAGE


@given(
    st.lists(
        st.tuples(st.floats(-50, 400), st.floats(-50, 300), st.floats(0.5, 200), st.floats(0.5, 200)),
        min_size=2,
        max_size=6,
        unique=True,
    )
)
def test_every_person_is_whole_in_their_picture(people):
    boxes = [(x, y, x + width, y + height) for x, y, width, height in people]
    queries = [ObjectQuery("cup", person_box_xyxy=box) for box in boxes]
    pictures = pictures_of_people(IMAGE, queries)
    assert sorted(number for _, numbers in pictures for number in numbers) == list(range(len(queries)))
    for picture, numbers in pictures:
        assert min(picture.shape[:2]) >= 1
        place, box = _place(picture), queries[numbers[0]].person_box_xyxy
        for side, length in ((0, 320), (1, 240)):
            low, high = np.clip((box[side], box[side + 2]), 0, length - 1)
            assert place[side] <= low
            assert place[side + 2] >= np.floor(high)
        inside = box[0] >= 0 and box[1] >= 0 and box[2] <= 319 and box[3] <= 239
        assert not inside or min(picture.shape[:2]) >= min(SMALLEST_SIDE, 240) - 40
