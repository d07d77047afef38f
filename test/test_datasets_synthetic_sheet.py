from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ivlm_core.bodies import PART_NAMES, AnnyRig
from ivlm_core.datasets.synthetic.record import HEIGHT, WIDTH, ObjectRecord, SceneRecord
from ivlm_core.datasets.synthetic.sheet import CAPTION, PANEL, contact_sheet
from ivlm_core.types import CameraIntrinsics


@pytest.fixture(scope="module")
def record() -> SceneRecord:
    labels = AnnyRig.load().part_labels
    left_hand = labels == PART_NAMES.index("left hand")
    item = ObjectRecord(
        "cup", "left hand", {}, np.eye(3), np.zeros(3), None, left_hand, np.ones(3, bool), np.ones(3, np.float32), 0.0
    )
    return SceneRecord(
        0,
        "val",
        "cup, left hand",
        np.full((HEIGHT, WIDTH, 3), 90, np.uint8),
        np.zeros((HEIGHT, WIDTH), np.uint8),
        np.zeros((HEIGHT, WIDTH), np.float32),
        CameraIntrinsics(200, 200, 127.5, 95.5, WIDTH, HEIGHT),
        np.eye(3),
        np.zeros(3),
        0.0,
        np.zeros(5),
        np.zeros((1, 3)),
        np.zeros(3),
        np.zeros((1, 3)),
        np.zeros((1, 2)),
        (0, 0, 1, 1),
        (item,),
    )


def test_grid_is_filled_with_white(record: SceneRecord) -> None:
    sheet = contact_sheet([record] * 3, columns=2)
    assert sheet.shape == (2 * (HEIGHT + CAPTION), 2 * (WIDTH + 2 * PANEL), 3)
    assert (sheet[HEIGHT + CAPTION :, WIDTH + 2 * PANEL :] == 255).all()
    np.testing.assert_array_equal(sheet[:HEIGHT, :WIDTH], record.image)


def test_heat_is_on_the_touching_side(record: SceneRecord) -> None:
    """The left hand is on the right of the front view and on the left of the back view."""
    cell = contact_sheet([record], columns=1)[:HEIGHT].astype(int)
    red = (cell[..., 0] > cell[..., 1] + 60) & (cell[..., 0] > cell[..., 2] + 60)
    front, back = red[:, WIDTH : WIDTH + PANEL], red[:, WIDTH + PANEL :]
    assert front[:, PANEL // 2 :].any()
    assert not front[:, : PANEL // 2].any()
    assert back[:, : PANEL // 2].any()
    assert not back[:, PANEL // 2 :].any()


def test_second_object_has_its_own_colour(record: SceneRecord) -> None:
    first = record.objects[0]
    none = replace(first, body_contact=np.zeros_like(first.body_contact))
    cell = contact_sheet([replace(record, objects=(none, first))], columns=1)[:HEIGHT, WIDTH:].astype(int)
    assert ((cell[..., 2] > cell[..., 0] + 60) & (cell[..., 2] > cell[..., 1] + 30)).any()
