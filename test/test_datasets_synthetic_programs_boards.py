from __future__ import annotations

from functools import lru_cache

import numpy as np
import pytest

from ivlm_core.bodies import AnnyRig
from ivlm_core.datasets.synthetic import Scene
from ivlm_core.datasets.synthetic.contact import touches
from ivlm_core.datasets.synthetic.programs.boards import board_shape, deck_height, foot_length
from ivlm_core.datasets.synthetic.programs.compose import compose
from ivlm_core.datasets.synthetic.programs.stage import Stage, Unreachable, part

RIG = AnnyRig.load()
BOARDS = ("skateboard", "surfboard", "snowboard")
FEET = ("left foot", "right foot")


@lru_cache(maxsize=6)
def made(category: str, mode: str) -> Scene:
    split = "unseen" if category == "snowboard" else "train"
    return compose(np.random.default_rng(1), split, category, mode)


@pytest.mark.parametrize("mode", ["both feet", *FEET])
@pytest.mark.parametrize("board", BOARDS)
def test_only_the_feet_that_the_mode_names_are_on_the_board(board: str, mode: str) -> None:
    scene = made(board, mode)
    touch = touches(scene)[0].body
    for foot in FEET:
        count = touch[part(RIG, foot)].sum()
        lowest = scene.body_vertices[part(RIG, foot), 1].min()
        if foot in mode or mode == "both feet":
            assert count > 150
            assert lowest > 0.005
        else:
            assert count == 0
            assert abs(lowest) < 0.005


@pytest.mark.parametrize("mode", ["both feet", *FEET])
@pytest.mark.parametrize("board", BOARDS)
def test_boards_lie_on_the_floor(board: str, mode: str) -> None:
    placed = made(board, mode).objects[0]
    assert placed.vertices[:, 1].min() == pytest.approx(0, abs=1e-3)
    np.testing.assert_allclose(placed.rotation[:, 1], [0, 1, 0], atol=1e-9)


@pytest.mark.parametrize("board", BOARDS)
def test_riders_stand_across_the_board(board: str) -> None:
    scene = made(board, "both feet")
    nose = scene.objects[0].rotation[:, 2]
    feet = scene.joints[RIG.joint_names.index("foot.L")] - scene.joints[RIG.joint_names.index("foot.R")]
    assert abs(nose @ feet) / np.linalg.norm(feet) > 0.98


@pytest.mark.parametrize("foot", FEET)
def test_sole_is_on_top_of_the_ball(foot: str) -> None:
    scene = made("sports ball", foot)
    ball = scene.objects[0]
    assert ball.label == "sports ball"
    near = scene.body_vertices[touches(scene)[0].body]
    assert len(near) > 20
    assert ((near - ball.translation)[:, 1] > 0.4 * ball.shape.anchors["centre"].radius).all()
    other = "right foot" if foot == "left foot" else "left foot"
    assert abs(scene.body_vertices[part(RIG, other), 1].min()) < 0.005


def test_surfboards_on_the_floor_have_no_fins() -> None:
    stage = Stage(np.random.default_rng(0), RIG)
    assert list(board_shape(stage, "surfboard").parts) == ["board"]
    assert 0.2 < foot_length(stage) < 0.3


def test_deck_is_as_high_as_the_board_there() -> None:
    shape = board_shape(Stage(np.random.default_rng(0), RIG), "skateboard")
    deck = shape.anchors["deck"].point[1]
    assert deck_height(shape, 0.0, 0.0, "skateboard") == pytest.approx(deck, abs=1e-4)
    assert deck_height(shape, 0.0, 0.48 * shape.sizes["length"], "skateboard") > deck + 0.005
    with pytest.raises(Unreachable, match="no board under the foot"):
        deck_height(shape, 0.0, 2.0, "skateboard")
