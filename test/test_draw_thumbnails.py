"""View blocks: grey where nothing is, red exactly where the vertices are painted."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ivlm_core.draw.thumbnails import BACKGROUND, GAP, block_size, view_block
from ivlm_core.objects import library_mesh, normalize_for_views
from ivlm_core.render import OBJECT_VIEWS, build_view_pack
from ivlm_core.types import ViewPack


@pytest.fixture(scope="module")
def ball() -> ViewPack:
    return build_view_pack(normalize_for_views(library_mesh("ball")), OBJECT_VIEWS, 128, "positions")


def redness(block: np.ndarray) -> np.ndarray:
    return block[..., 0].astype(int) - block[..., 1].astype(int)


def test_untouched_surface_is_grey_and_shaded(ball: ViewPack) -> None:
    block = view_block(ball, 80).paint(np.zeros(len(ball.mesh.vertices), dtype=np.float32))
    tile = block[20:76, 12:68]
    assert abs(redness(tile)).max() <= 20, "only the grey of the views' names may have a tint"
    shades = tile[..., 0][tile[..., 0] < BACKGROUND - 10]
    assert shades.size > 1000
    assert np.ptp(shades) > 60


def test_fully_touched_surface_is_red_everywhere(ball: ViewPack) -> None:
    view = view_block(ball, 80)
    block = view.paint(np.ones(len(ball.mesh.vertices), dtype=np.float32))
    full = view.pixels[view.cover[:, 0] == 1.0]
    assert (redness(block).ravel()[full] > 60).all()
    outside = np.setdiff1d(np.arange(block_size(80) ** 2), view.pixels)
    assert (redness(block).ravel()[outside] <= 20).all()


def test_red_is_exactly_where_the_painted_vertices_are(ball: ViewPack) -> None:
    """The upper half is painted: every pixel is red if and only if it shows a point above the middle."""
    view = view_block(ball, 96)
    height = ball.mesh.vertices[:, 1]
    block = view.paint((height > 0).astype(np.float32))
    shown = np.einsum("mc,mc->m", height[view.vertices], view.weights)
    inside = view.cover[:, 0] == 1.0
    red = redness(block).ravel()[view.pixels] > 60
    assert red[inside & (shown > 0.04)].all()
    assert not red[shown < -0.04].any()
    assert (shown > 0.04).sum() > 1000
    assert (shown < -0.04).sum() > 1000


def test_front_of_the_object_is_red_in_the_front_views_only(ball: ViewPack) -> None:
    """+z faces the two front views (upper row) and not the two back views (lower row)."""
    tip = (ball.mesh.vertices[:, 2] > 0.4).astype(np.float32)
    red = redness(view_block(ball, 80).paint(tip)) > 60
    assert red[:80].sum() > 100
    assert red[80 + GAP :].sum() == 0


def test_views_are_cropped_to_the_mesh(ball: ViewPack) -> None:
    block = view_block(ball, 100).blank[:100, :100]
    rows = np.flatnonzero((block[14:] < BACKGROUND - 20).any(axis=(1, 2)))
    assert len(rows) >= 80


def test_blocks_are_made_once_per_pack_and_size(ball: ViewPack) -> None:
    assert view_block(ball, 80) is view_block(replace(ball), 80)
    assert view_block(ball, 80) is not view_block(ball, 81)


def test_painting_leaves_the_cached_block_alone(ball: ViewPack) -> None:
    view = view_block(ball, 80)
    before = view.blank.copy()
    view.paint(np.ones(len(ball.mesh.vertices), dtype=np.float32))
    np.testing.assert_array_equal(view.blank, before)


def test_nan_probability_is_no_contact(ball: ViewPack) -> None:
    view = view_block(ball, 80)
    np.testing.assert_array_equal(view.paint(np.full(len(ball.mesh.vertices), np.nan, dtype=np.float32)), view.blank)


@pytest.mark.parametrize("views", [1, 2, 3, 4])
def test_fewer_views_leave_white_tiles(ball: ViewPack, views: int) -> None:
    fewer = replace(
        ball,
        view_names=ball.view_names[:views],
        **{
            name: getattr(ball, name)[:views]
            for name in (
                "camera_parameters", "images", "face_index", "barycentric", "depth", "vertex_pixel", "vertex_visible",
            )
        },
    )  # fmt: skip
    block = view_block(fewer, 60).paint(np.ones(len(ball.mesh.vertices), dtype=np.float32))
    corners = [(0, 0), (0, 60 + GAP), (60 + GAP, 0), (60 + GAP, 60 + GAP)]
    shown = [(redness(block[y : y + 60, x : x + 60]) > 60).any() for y, x in corners]
    assert shown == [index < views for index in range(4)]


def test_view_that_sees_nothing(ball: ViewPack) -> None:
    hidden = replace(ball, face_index=np.full_like(ball.face_index, -1))
    view = view_block(replace(hidden, images=np.full_like(ball.images, 255)), 60)
    assert len(view.pixels) == 0
    np.testing.assert_array_equal(view.paint(np.ones(len(ball.mesh.vertices), dtype=np.float32)), view.blank)
