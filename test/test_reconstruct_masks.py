"""The object's mask: whose it is, what it covers, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ivlm_core import InputError, ObjectQuery
from ivlm_core.reconstruct.masks import find_mask

SIZE = (120, 160)
BOX = (50.0, 30.0, 110.0, 90.0)
ROWS, COLUMNS = np.indices(SIZE)
DISC = (ROWS - 60) ** 2 + (COLUMNS - 80) ** 2 < 28**2


def picture(*things, seed=0):
    """A noisy grey-green background with things of one colour each, (mask, colour), on it."""
    image = np.empty((*SIZE, 3))
    image[:] = (90, 120, 90)
    for mask, colour in things:
        image[mask] = colour
    noise = np.random.default_rng(seed).normal(0, 12, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8)


def overlap(one, other):
    return (one & other).sum() / (one | other).sum()


class FakeSegmenter:
    """Answers with a fixed mask and remembers the boxes."""

    def __init__(self, mask):
        self.mask, self.boxes = mask, []

    def segment(self, image, box):
        self.boxes.append(box)
        return self.mask


def test_the_detections_own_mask_comes_first():
    found = find_mask(picture(), ObjectQuery("ball", box_xyxy=BOX, mask=DISC), segmenter=FakeSegmenter(~DISC))
    assert found.source == "query"
    assert np.array_equal(found.mask, DISC)


def test_sam_comes_before_grabcut_and_stays_near_the_box():
    segmenter = FakeSegmenter(np.ones(SIZE, bool))
    found = find_mask(picture(), ObjectQuery("ball", box_xyxy=BOX), segmenter=segmenter)
    assert found.source == "sam"
    assert segmenter.boxes == [BOX]
    rows, columns = np.nonzero(found.mask)
    assert (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) == (44, 24, 116, 96)


def test_where_sam_sees_nothing_grabcut_does():
    image = picture((DISC, (200, 60, 50)))
    found = find_mask(image, ObjectQuery("ball", box_xyxy=BOX), segmenter=FakeSegmenter(np.zeros(SIZE, bool)))
    assert found.source == "grabcut"
    assert overlap(found.mask, DISC) > 0.95


def test_grabcut_cuts_a_disc_out_of_its_box():
    found = find_mask(picture((DISC, (200, 60, 50))), ObjectQuery("ball", box_xyxy=BOX))
    assert found.source == "grabcut"
    assert overlap(found.mask, DISC) > 0.95


def test_the_persons_colours_are_not_the_objects():
    """An arm hides the ball's lower half; who knows where the person is can tell one from the other."""
    arm = (abs(COLUMNS - 80) < 24) & (ROWS >= 62)
    ball = DISC & ~arm
    image = picture((DISC, (200, 60, 50)), (arm, (60, 60, 190)))
    query = ObjectQuery("ball", box_xyxy=(50, 30, 110, 78))
    alone = overlap(find_mask(image, query).mask, ball)
    found = find_mask(image, query, person=arm)
    assert found.source == "grabcut"
    assert overlap(found.mask, ball) > 0.85
    assert overlap(found.mask, ball) >= alone


def test_an_object_in_front_of_the_person_is_still_found():
    body = (abs(COLUMNS - 80) < 60) & (ROWS >= 5)
    image = picture((body, (60, 60, 190)), (DISC, (200, 60, 50)))
    found = find_mask(image, ObjectQuery("ball", box_xyxy=BOX), person=body)
    assert overlap(found.mask, DISC) > 0.95


def test_a_box_may_go_beyond_the_image_or_fill_it():
    corner = (ROWS < 40) & (COLUMNS < 50)
    image = picture((corner, (200, 60, 50)))
    found = find_mask(image, ObjectQuery("box", box_xyxy=(-30.0, -20.0, 52.0, 42.0)))
    assert overlap(found.mask, corner) > 0.9
    whole = find_mask(image, ObjectQuery("box", box_xyxy=(-5.0, -5.0, 500.0, 500.0)))
    assert whole.mask.any()


def test_a_box_where_nothing_stands_out_is_taken_as_it_is():
    found = find_mask(np.full((*SIZE, 3), 127, np.uint8), ObjectQuery("ball", box_xyxy=BOX))
    assert found.source in ("grabcut", "box")
    assert found.mask.sum() == 60 * 60
    assert found.mask[30:90, 50:110].all()


def test_a_large_picture_is_cut_at_a_small_size():
    large = np.kron(DISC, np.ones((9, 9), bool))
    image = np.kron(picture((DISC, (200, 60, 50))), np.ones((9, 9, 1), np.uint8))
    found = find_mask(image, ObjectQuery("ball", box_xyxy=tuple(9 * side for side in BOX)))
    assert overlap(found.mask, large) > 0.93


@settings(max_examples=25)
@given(st.tuples(*[st.floats(-50, 250)] * 4), st.integers(0, 2**32 - 1))
def test_any_box_gives_a_mask_within_it_or_a_named_error(sides, seed):
    random = np.random.default_rng(seed)
    image = random.integers(0, 256, (*SIZE, 3)).astype(np.uint8)
    x, y = sorted(sides[:2]), sorted(sides[2:])
    if x[0] >= x[1] or y[0] >= y[1]:
        return
    query = ObjectQuery("thing", box_xyxy=(x[0], y[0], x[1], y[1]))
    try:
        found = find_mask(image, query, person=random.random(SIZE) < 0.3)
    except InputError as error:
        seen = min(x[1], SIZE[1]) - max(x[0], 0), min(y[1], SIZE[0]) - max(y[0], 0)
        assert min(seen) < 2, error
        return
    assert found.mask.any()
    rows, columns = np.nonzero(found.mask)
    assert x[0] - 1 < columns.min() <= columns.max() < x[1] + 1
    assert y[0] - 1 < rows.min() <= rows.max() < y[1] + 1
    assert np.array_equal(find_mask(image, query).mask, find_mask(image, query).mask)


def test_bad_input_is_named():
    image = picture()
    with pytest.raises(InputError, match=r"object.mask: has shape \(3, 3\)"):
        find_mask(image, ObjectQuery("ball", mask=np.ones((3, 3), bool)))
    with pytest.raises(InputError, match=r"object.mask: is empty"):
        find_mask(image, ObjectQuery("ball", mask=np.zeros(SIZE, bool), box_xyxy=BOX))
    with pytest.raises(InputError, match=r"object.box: is missing"):
        find_mask(image, ObjectQuery("ball"))
    with pytest.raises(InputError, match="no 2×2 pixels of the 160×120 image"):
        find_mask(image, ObjectQuery("ball", box_xyxy=(400.0, 10.0, 500.0, 60.0)))
    with pytest.raises(InputError, match="person: has shape"):
        find_mask(image, ObjectQuery("ball", box_xyxy=BOX), person=np.ones((4, 4), bool))
