"""Windows of a frame at coarser resolutions: nothing moves, nothing gets lost."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ivlm_core import InputError
from ivlm_core.reconstruct.levels import Observation, mask_box, shrunk, target
from ivlm_core.types import CameraIntrinsics

CAMERA = CameraIntrinsics(600.0, 590.0, 319.5, 239.5, 640, 480)


def seen(box: tuple[int, int, int, int], **more: object) -> Observation:
    mask = np.zeros((480, 640), dtype=bool)
    mask[box[1] : box[3], box[0] : box[2]] = True
    return Observation(CAMERA, mask, more.pop("valid", np.ones_like(mask)), **more)


@pytest.mark.parametrize("stride", [1, 2, 3, 7])
def test_points_stay_in_the_middle_of_their_block(stride):
    # A point that the camera sees at the mean of a block's pixels is at that block's integer coordinates.
    window = shrunk(CAMERA, 40, 60, stride, 20, 20)
    column, row = 40 + stride * 5 + (stride - 1) / 2, 60 + stride * 8 + (stride - 1) / 2
    x, y = (column - CAMERA.cx) / CAMERA.fx, (row - CAMERA.cy) / CAMERA.fy
    assert x * window.fx + window.cx == pytest.approx(5)
    assert y * window.fy + window.cy == pytest.approx(8)


@pytest.mark.parametrize("long_side", [24, 48, 96, 1000])
@pytest.mark.parametrize("box", [(300, 200, 420, 260), (0, 0, 97, 31), (600, 470, 640, 480), (10, 10, 11, 11)])
def test_area_and_middle_are_those_of_the_mask(box, long_side):
    found = target(seen(box), long_side)
    k = found.stride
    assert k == max(1, round(max(box[2] - box[0], box[3] - box[1]) / long_side))
    assert found.area * k**2 == pytest.approx((box[2] - box[0]) * (box[3] - box[1]))
    assert float(found.mask.sum()) == pytest.approx(found.area)
    assert found.side * k == max(box[2] - box[0], box[3] - box[1])
    # The centroid, as a direction from the camera, is that of the box.
    x, y = (found.middle.numpy() - (found.camera.cx, found.camera.cy)) / (found.camera.fx, found.camera.fy)
    # Pixels of a block that the mask only begins to fill count as if they lay in its middle.
    within = k * k / (4.0 * CAMERA.fy * min(box[2] - box[0], box[3] - box[1]))
    assert x == pytest.approx(((box[0] + box[2] - 1) / 2 - CAMERA.cx) / CAMERA.fx, abs=within)
    assert y == pytest.approx(((box[1] + box[3] - 1) / 2 - CAMERA.cy) / CAMERA.fy, abs=within)


def test_what_is_beyond_the_picture_does_not_count():
    # The window at the right border ends in blocks of three that the picture does not fill.
    found = target(seen((568, 200, 640, 260)), 24)
    valid = found.valid.reshape(found.camera.height, found.camera.width)
    assert found.stride == 3
    assert float(found.valid.sum()) * 9 == pytest.approx((640 - (568 - 108)) * (260 + 108 - (200 - 108)))
    assert (valid[:-1, :-1] == 1).all()


def test_window_reaches_as_far_as_the_object_may():
    # Ten pixels of an object that may be 200 long: what it covers 190 pixels away must count.
    small, large = target(seen((300, 200, 310, 208)), 24), target(seen((300, 200, 310, 208)), 24, expected=200.0)
    assert small.stride == 1
    assert large.stride == round(100 / 24)
    assert small.camera.width < 50
    assert large.camera.width * large.stride >= 410
    assert large.area * large.stride**2 == pytest.approx(80)
    whole = target(seen((300, 200, 310, 208)), 24, expected=1e9)
    assert whole.camera.width * whole.stride == pytest.approx(640, abs=whole.stride)


def test_hidden_pixels_count_neither_as_object_nor_as_empty():
    valid = np.ones((480, 640), dtype=bool)
    valid[200:260, 300:360] = False
    found = target(seen((300, 200, 420, 260), valid=valid), 30)
    # The mask that counts is the visible half.
    assert found.area * found.stride**2 == 60 * 60
    assert float((found.mask * (1 - found.valid)).sum()) == 0


def test_depth_is_taken_from_the_object_alone():
    depth = np.full((480, 640), 5.0, dtype=np.float32)
    depth[200:260, 300:420] = 2.0
    depth[210:220, 300:420] = np.nan
    depth[230:240, 300:420] = 0.0
    frame = seen((300, 200, 420, 260), depth=depth)
    assert set(frame.known_depths().tolist()) == {2.0}
    assert len(frame.known_depths()) == 40 * 120
    found = target(frame, 24)
    known = found.depth[torch.isfinite(found.depth)]
    assert set(known.tolist()) == {2.0}
    assert len(known) == pytest.approx(40 * 120 / found.stride**2, rel=0.2)


def test_box_of_one_pixel():
    mask = np.zeros((5, 7), dtype=bool)
    mask[2, 6] = True
    assert mask_box(mask) == (6, 2, 7, 3)


def test_pictures_of_different_sizes_are_refused():
    with pytest.raises(InputError, match="all of one size"):
        Observation(CAMERA, np.zeros((4, 5), bool), np.zeros((5, 4), bool))
    with pytest.raises(InputError, match="all of one size"):
        Observation(CAMERA, np.zeros((4, 5), bool), np.zeros((4, 5), bool), depth=np.zeros((4, 6), np.float32))
