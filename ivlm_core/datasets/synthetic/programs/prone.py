"""Lying on the belly on a surfboard."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ivlm_core.datasets.synthetic.pose import Matrix, Side, Vector, turn
from ivlm_core.datasets.synthetic.programs.boards import board_shape
from ivlm_core.datasets.synthetic.programs.limbs import bend_trunk, rest_hand, turn_head
from ivlm_core.datasets.synthetic.programs.lying import lie_on, surface_heights
from ivlm_core.datasets.synthetic.programs.stage import FORWARD, LEFT, OUTWARD, SIDES, UP, Stage

# How deep the board sinks into the body, metres.
BOARD_SINK = 0.018


def lie_prone(stage: Stage, label: str, mode: str) -> None:
    """Lie on the belly on a surfboard, chest raised, hands on the deck beside it."""
    rng, poser = stage.rng, stage.poser
    stage.posture = "prone"
    stage.free -= {"lap", "back"}
    yaw = rng.uniform(35, 85) * rng.choice([-1.0, 1.0])
    around = turn(UP, yaw)
    base = around @ turn(LEFT, 90)
    poser.orient("root", base)
    arch = rng.uniform(10, 34)
    bend_trunk(stage, -arch, rng.uniform(-3, 3), rng.uniform(-4, 4))
    turn_head(stage, -rng.uniform(20, 44), rng.uniform(-16, 16))
    for side in SIDES:
        apart = OUTWARD[side] * rng.uniform(0.0, 0.07)
        poser.leg(
            side,
            base @ np.array([apart, -1, rng.uniform(0.0, 0.03)]),
            base @ np.array([apart, -1, rng.uniform(-0.05, 0.0)]),
            base @ turn(LEFT, rng.uniform(48, 62)),
        )
    sizes = dict(board_shape(stage, label).sizes)
    sizes["length"] = max(sizes["length"], float(np.ptp(stage.rig.vertices[:, 1])) + rng.uniform(0.1, 0.5))
    sizes["width"] = max(sizes["width"], 0.5)
    shape = stage.shape(label, sizes)
    board = shape.parts["board"].vertices.astype(np.float64)
    top = board[board[:, 1] > _middle_height(board)]
    # The board's middle is below the waist, so that nose and tail stay level.
    along = around @ FORWARD * rng.uniform(-0.02, 0.12)
    body = stage.vertices()
    local = (body - along) @ around
    on = (np.abs(local[:, 2]) < 0.46 * sizes["length"]) & (np.abs(local[:, 0]) < 0.16)
    gap = local[on, 1] - surface_heights(top, local[on])
    at = along + UP * (float(gap.min()) + BOARD_SINK)
    stage.place(shape, around, at, mode, [])
    stage.floor = float(shape.mesh.vertices[:, 1].min() + at[1])
    stage.take(*SIDES)
    for side in SIDES:
        _hand_on_board(stage, side, around, at, top, sizes["width"])
    local = (stage.vertices() - at) @ around
    off_board = (np.abs(local[:, 2]) > sizes["length"] / 2) | (np.abs(local[:, 0]) > sizes["width"] / 2)
    lie_on(stage, stage.objects[-1], np.where(off_board, np.inf, local[:, 1] - surface_heights(top, local)))


def _hand_on_board(
    stage: Stage, side: Side, around: Matrix, at: Vector, top: NDArray[np.float64], width: float
) -> None:
    """A hand flat on the board beside the chest, the elbow up."""
    rng, out = stage.rng, OUTWARD[side]
    shoulder = around.T @ (stage.poser.position(f"upperarm01.{side}") - at)
    beside = min(max(rng.uniform(0.31, 0.40) * width, 1.05 * abs(float(shoulder[0]))), 0.44 * width)
    spot = np.array([out * beside, 0.0, shoulder[2] + rng.uniform(-0.12, 0.08)])
    spot[1] = float(surface_heights(top, spot[None])[0])
    fingers, elbow = np.array([-0.2 * out, 0, 1]), np.array([out, 0.9, -0.7])
    rest_hand(stage, side, around @ spot + at, around @ fingers, UP, 0.0, around @ elbow)


def _middle_height(board: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N,) for each vertex of a thin board, the height half-way between its top and underside there."""
    from scipy.spatial import cKDTree

    _, index = cKDTree(board[:, [0, 2]]).query(board[:, [0, 2]], k=6)
    middle: NDArray[np.float64] = (board[index, 1].min(axis=1) + board[index, 1].max(axis=1)) / 2
    return middle
