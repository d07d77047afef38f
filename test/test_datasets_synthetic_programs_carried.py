"""Carried things hang straight, roll on the floor, and lie against the side of the body."""

from __future__ import annotations

import numpy as np
import pytest

from ivlm_core.bodies import AnnyRig
from ivlm_core.datasets.synthetic.programs.carried import carry_bag, carry_board, move_suitcase
from ivlm_core.datasets.synthetic.programs.stage import Stage, Unreachable
from ivlm_core.datasets.synthetic.programs.standing import stand


def performed(action: object, label: str, mode: str) -> Stage:
    for seed in range(10):
        stage = Stage(np.random.default_rng(seed), AnnyRig.load())
        stand(stage)
        try:
            action(stage, label, mode)  # type: ignore[operator]
        except Unreachable:
            continue
        return stage
    raise AssertionError(f"{label}, {mode} never works")


@pytest.mark.parametrize("label", ["handbag", "backpack"])
@pytest.mark.parametrize(("mode", "sign"), [("left hand", 1), ("right hand", -1)])
def test_bags_hang_below_the_hand(label: str, mode: str, sign: int) -> None:
    stage = performed(carry_bag, label, mode)
    bag = stage.objects[0]
    hand = stage.points(mode).mean(axis=0)
    assert bag.rotation[1, 1] > 0.98
    assert bag.translation[1] < hand[1] - 0.1
    assert np.hypot(*(bag.translation - hand)[[0, 2]]) < 0.12
    assert sign * bag.translation[0] > 0.1


def test_bag_on_a_forearm_is_between_elbow_and_wrist() -> None:
    stage = performed(carry_bag, "handbag", "left forearm")
    bag = stage.objects[0]
    strap = bag.to_world(bag.shape.anchors["handle"].point[None])[0]
    elbow, wrist = (stage.poser.position(f"{bone}.L") for bone in ("lowerarm01", "wrist"))
    share = (strap - elbow) @ (wrist - elbow) / ((wrist - elbow) @ (wrist - elbow))
    assert 0.1 < share < 0.6
    assert bag.parts == {"left forearm"}


@pytest.mark.parametrize("mode", ["left hand, pulling", "right hand, pulling"])
def test_pulled_suitcases_stand_on_the_floor(mode: str) -> None:
    stage = performed(move_suitcase, "suitcase", mode)
    assert stage.objects[0].vertices[:, 1].min() == pytest.approx(stage.floor, abs=1e-6)


def test_lifted_suitcase_is_off_the_floor() -> None:
    stage = performed(move_suitcase, "suitcase", "both hands, lifting")
    assert stage.floor is not None
    assert stage.objects[0].vertices[:, 1].min() > stage.floor + 0.05
    assert {"left hand", "right hand"} < stage.objects[0].parts


@pytest.mark.parametrize("label", ["skateboard", "surfboard", "snowboard"])
@pytest.mark.parametrize(("mode", "sign"), [("under left arm", 1), ("under right arm", -1)])
def test_boards_are_upright_beside_the_body(label: str, mode: str, sign: int) -> None:
    stage = performed(carry_board, label, mode)
    board = stage.objects[0]
    assert abs(board.rotation[1, 1]) < 0.35
    assert abs(board.rotation[1, 2]) < 0.35
    assert sign * board.translation[0] > 0.1
    assert f"{'left' if sign > 0 else 'right'} hand" in board.parts


def test_boards_turn_their_smooth_side_to_the_body() -> None:
    for label, sign in (("skateboard", -1), ("snowboard", 1)):
        board = performed(carry_board, label, "under left arm").objects[0]
        # The deck of a skateboard, the base of a snowboard.
        assert sign * board.rotation[0, 1] > 0.8


@pytest.mark.parametrize(
    ("action", "label", "mode"),
    [
        (carry_bag, "handbag", "left hand"),
        (move_suitcase, "suitcase", "left hand, pulling"),
        (carry_board, "surfboard", "under left arm"),
    ],
)
def test_sitting_people_do_not_carry(action: object, label: str, mode: str) -> None:
    stage = Stage(np.random.default_rng(0), AnnyRig.load())
    stage.posture = "sit"
    with pytest.raises(Unreachable, match="stand"):
        action(stage, label, mode)  # type: ignore[operator]
