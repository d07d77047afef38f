"""Boards under the feet, a ball under a foot, and lying prone on a surfboard."""

from __future__ import annotations

import numpy as np

from ivlm_core.datasets.synthetic.pose import Side, turn
from ivlm_core.datasets.synthetic.programs.limbs import (
    bend_trunk,
    bent_arm,
    hanging_arm,
    idle_arm,
    leg_length,
    plant,
    raised_arm,
    sole_height,
    turn_head,
)
from ivlm_core.datasets.synthetic.programs.stage import (
    LEFT,
    OUTWARD,
    SIDE_NAMES,
    SIDES,
    UP,
    Stage,
    Unreachable,
    part,
)
from ivlm_core.objects import Shape

# The sole sinks this deep into a deck, metres.
SOLE_SINK = 0.002


def stand_on_board(stage: Stage, label: str, mode: str) -> None:
    """Ride a board with both feet, or stand with one foot on it and the other on the floor."""
    if mode == "both feet":
        _ride_board(stage, label, mode)
    elif mode == "left foot":
        _one_foot(stage, label, mode, "L")
    else:
        _one_foot(stage, label, mode, "R")


def board_shape(stage: Stage, label: str) -> Shape:
    """An instance that lies flat on the floor: surfboards without the fins that would lift them off it."""
    return stage.shape(label, fins=0) if label == "surfboard" else stage.shape(label)


def _ride_board(stage: Stage, label: str, mode: str) -> None:
    rng, poser = stage.rng, stage.poser
    stage.posture = "board"
    shape = board_shape(stage, label)
    # The rider faces across the board, nose to the left; riders with the right foot in front have it to the right.
    regular = label == "snowboard" or rng.random() < 0.5
    rotation = turn(UP, (90.0 if regular else -90.0))
    crouch = rng.uniform(0.80, 0.96)
    poser.orient("root", turn(LEFT, rng.uniform(2, 14) + 30 * (1 - crouch)))
    bend_trunk(stage, rng.uniform(0, 12), rng.uniform(-5, 5), rng.uniform(0, 30) * (1 if regular else -1))
    turn_head(stage, rng.uniform(-14, 4), rng.uniform(10, 45) * (1 if regular else -1))

    front = shape.anchors["front foot"].point
    back = shape.anchors["back foot"].point
    spread = float(front[2] - back[2])
    if label != "snowboard":
        spread = min(spread, leg_length(stage) * rng.uniform(0.5, 0.75))
    shift = 0.0 if label == "snowboard" else rng.uniform(-0.5, 0.5) * max(0.3 * spread, 0.0)
    half = spread / 2
    feet = {side: OUTWARD[side] * half for side in SIDES}
    # The middle of the foot, not the ankle, is above the middle of the board.
    behind = (0.24 if label == "snowboard" else 0.3) * foot_length(stage)
    hip = poser.position("upperleg01.L")
    drop = np.sqrt(max((crouch * leg_length(stage)) ** 2 - (half - abs(hip[0])) ** 2, 0.01))
    ankle_height = float(hip[1] - drop)
    middle = rng.uniform(-0.06, 0.02)
    decks = {}
    for side in SIDES:
        local = rotation.T @ np.array([feet[side] + shift, 0.0, 0.0])
        decks[side] = deck_height(shape, float(local[0]), float(local[2]), label)
    deck = max(decks.values())
    board_y = ankle_height - sole_height(stage, "L") - deck + SOLE_SINK
    for side in SIDES:
        yaw = OUTWARD[side] * (rng.uniform(4, 12) if label == "snowboard" else rng.uniform(0, 16))
        knee = (0.25 * OUTWARD[side] * rng.uniform(-0.4, 1), 0, 1)
        plant(stage, side, feet[side], middle - behind, board_y + decks[side] - SOLE_SINK, yaw, knee)
    at = np.array([-shift, board_y, middle])
    # The bindings of a snowboard reach up to the calves.
    legs = ["left lower leg", "right lower leg"] if label == "snowboard" else []
    stage.place(shape, rotation, at, mode, ["left foot", "right foot", *legs])
    stage.floor = float((shape.mesh.vertices[:, 1] + board_y).min())
    stage.idle = lambda side: _idle_riding(stage, side)


def _one_foot(stage: Stage, label: str, mode: str, on_board: Side) -> None:
    rng, poser = stage.rng, stage.poser
    stage.posture = "board"
    shape = board_shape(stage, label)
    other: Side = "R" if on_board == "L" else "L"
    out = OUTWARD[on_board]
    poser.orient("root", turn(LEFT, rng.uniform(-2, 8)))
    bend_trunk(stage, rng.uniform(0, 10), rng.uniform(-4, 4), rng.uniform(-8, 8))
    turn_head(stage, rng.uniform(0, 20), rng.uniform(-25, 25))
    # The board lies beside the standing foot, more or less in the direction that the person faces.
    yaw = rng.uniform(-30, 30) if label == "skateboard" else rng.uniform(-25, 25) + rng.choice([0.0, 180.0])
    if label == "snowboard":
        yaw = 90.0 + rng.uniform(-10, 10)
    rotation = turn(UP, yaw)
    along = rng.uniform(-0.5, 0.5) * (shape.anchors["front foot"].point[2] - shape.anchors["back foot"].point[2])
    spot = shape.anchors["front foot" if on_board == "L" else "back foot"].point if label == "snowboard" else None
    local = np.array([0.0, 0.0, along]) if spot is None else np.array([spot[0], 0.0, spot[2]])
    deck = deck_height(shape, float(local[0]), float(local[2]), label)
    low = float(shape.mesh.vertices[:, 1].min())

    hips = abs(float(poser.position("upperleg01.L")[0]))
    standing_x = -out * hips * rng.uniform(0.3, 0.9)
    leg = leg_length(stage) * rng.uniform(0.955, 0.985)
    hip = poser.position(f"upperleg01.{other}")
    standing_z = rng.uniform(-0.27, -0.22) if label == "snowboard" else rng.uniform(-0.06, 0.0)
    across = (standing_x - hip[0]) ** 2 + (standing_z - hip[2]) ** 2
    stage.floor = float(hip[1] - np.sqrt(leg**2 - across)) - sole_height(stage, other)
    plant(stage, other, standing_x, standing_z, stage.floor, -out * rng.uniform(0, 20))
    width = float(np.ptp(shape.mesh.vertices[:, 0])) / 2
    clear = abs(np.cos(np.radians(yaw))) * width + abs(np.sin(np.radians(yaw))) * 0.1
    if label == "snowboard":
        # The board lies across in front of the standing foot.
        ankle_x, ankle_z = out * hips * rng.uniform(0.9, 1.3), rng.uniform(0.07, 0.12)
    else:
        ankle_x = standing_x + out * (clear + 0.09 + rng.uniform(0.0, 0.04))
        ankle_z = rng.uniform(0.02, 0.24)
        if out * ankle_x < 0.6 * hips:
            ankle_x = out * 0.6 * hips
    height = stage.floor + (deck - low) - SOLE_SINK
    heading = out * rng.uniform(0, 16)
    plant(stage, on_board, ankle_x, ankle_z, height, heading, (0.2 * out, 0, 1))
    forward = turn(UP, heading) @ np.array([0.0, 0.0, 1.0])
    sole = np.array([ankle_x, 0.0, ankle_z]) + (0.24 if label == "snowboard" else 0.3) * foot_length(stage) * forward
    at = sole - rotation @ local
    at[1] = stage.floor - low
    touching = [f"{SIDE_NAMES[on_board]} foot"]
    if label == "snowboard":
        touching.append(f"{SIDE_NAMES[on_board]} lower leg")
    stage.place(shape, rotation, at, mode, touching)
    stage.idle = lambda side: _idle_beside(stage, side)


def foot_on_ball(stage: Stage, label: str, mode: str) -> None:
    """Stand with one foot on top of a ball."""
    rng, poser = stage.rng, stage.poser
    stage.posture = "board"
    foot: Side = "L" if mode == "left foot" else "R"
    other: Side = "R" if foot == "L" else "L"
    out = OUTWARD[foot]
    poser.orient("root", turn(LEFT, rng.uniform(-3, 4)))
    bend_trunk(stage, rng.uniform(-2, 8), out * rng.uniform(-4, 2), rng.uniform(-8, 8))
    turn_head(stage, rng.uniform(0, 22), rng.uniform(-20, 20))
    shape = stage.shape(label)
    radius = shape.anchors["centre"].radius
    hip = poser.position(f"upperleg01.{other}")
    standing_x = -out * abs(hip[0]) * rng.uniform(0.4, 0.9)
    leg = leg_length(stage) * rng.uniform(0.97, 0.992)
    stage.floor = float(hip[1] - np.sqrt(leg**2 - (standing_x - hip[0]) ** 2)) - sole_height(stage, other)
    plant(stage, other, standing_x, rng.uniform(-0.05, 0.0), stage.floor, -out * rng.uniform(0, 22))

    centre = np.array([out * abs(hip[0]) * rng.uniform(0.7, 1.5), stage.floor + radius, rng.uniform(0.2, 0.34)])
    # The ball of the foot is on top, the heel lower behind it.
    pitch = rng.uniform(-4, 18)
    yaw = out * rng.uniform(-4, 18)
    orientation = turn(UP, yaw) @ turn(LEFT, -pitch)
    touching = rng.uniform(0.45, 0.62) * foot_length(stage)
    normal = orientation @ np.array([0.0, 1.0, 0.0])
    on_ball = centre + (radius - 0.004) * normal
    ankle = on_ball + orientation @ np.array([0.0, sole_height(stage, foot), -touching + 0.25 * foot_length(stage)])
    poser.step(foot, ankle, (0.25 * out, 0, 1), orientation)
    stage.place(shape, np.eye(3), centre, mode, [f"{SIDE_NAMES[foot]} foot"], name=label)
    stage.idle = lambda side: _idle_beside(stage, side)


def foot_length(stage: Stage) -> float:
    """Metres from heel to toes."""
    return float(np.ptp(stage.rig.vertices[part(stage.rig, "left foot"), 2]))


def deck_height(shape: Shape, x: float, z: float, label: str) -> float:
    """Height of a board's top at (x, z) of its own frame, metres: the highest point under a foot there."""
    if label == "snowboard":
        return float(shape.anchors["front foot"].point[1])
    board = next(iter(shape.parts.values())).vertices
    near = board[(np.abs(board[:, 2] - z) < 0.10) & (np.abs(board[:, 0] - x) < 0.12)]
    if len(near) == 0:
        raise Unreachable("there is no board under the foot")
    return float(near[:, 1].max())


def _idle_riding(stage: Stage, side: Side) -> None:
    idle_arm(stage, side, ((0.65, raised_arm), (0.25, bent_arm), (0.10, hanging_arm)))


def _idle_beside(stage: Stage, side: Side) -> None:
    idle_arm(stage, side, ((0.5, hanging_arm), (0.35, bent_arm), (0.15, raised_arm)))
