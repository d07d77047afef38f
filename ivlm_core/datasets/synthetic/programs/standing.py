"""Standing: free on the floor, at a table, behind a chair."""

from __future__ import annotations

import numpy as np

from ivlm_core.datasets.synthetic.pose import Side, turn
from ivlm_core.datasets.synthetic.programs.limbs import (
    bend_trunk,
    bent_arm,
    hanging_arm,
    idle_arm,
    plant,
    raised_arm,
    stand_height,
    turn_head,
)
from ivlm_core.datasets.synthetic.programs.stage import FORWARD, LEFT, OUTWARD, SIDE_NAMES, SIDES, UP, Stage, hands_of
from ivlm_core.datasets.synthetic.programs.surfaces import rest_on_edge


def stand(stage: Stage, label: str = "", mode: str = "") -> None:
    """Stand on the floor: feet apart or together, weight on one leg, trunk and head a little turned."""
    stand_feet(stage)
    stage.idle = lambda side: stand_idly(stage, side)


def stand_feet(stage: Stage, lean: float = 0.0, together: bool = False) -> None:
    """Feet on the floor and the trunk above them, leaning forwards by `lean` degrees."""
    rng, poser = stage.rng, stage.poser
    stage.posture = "stand"
    poser.orient(
        "root",
        turn(UP, rng.uniform(-6, 6)) @ turn(LEFT, 0.5 * lean + rng.uniform(-2, 3)) @ turn(FORWARD, rng.uniform(-3, 3)),
    )
    bend_trunk(stage, 0.5 * lean + rng.uniform(-4, 6), rng.uniform(-5, 5), rng.uniform(-10, 10))
    turn_head(stage, rng.uniform(-6, 14), rng.uniform(-25, 25), rng.uniform(-4, 4))
    hips = abs(poser.position("upperleg01.L")[0])
    apart = hips * rng.uniform(0.9, 1.5) if together else hips * rng.uniform(0.85, 2.3)
    weight = hips * rng.uniform(-0.6, 0.6)
    ahead = 0.0 if together else rng.uniform(-0.14, 0.14)
    feet: dict[Side, tuple[float, float]] = {
        side: (OUTWARD[side] * apart + weight, 0.5 * OUTWARD[side] * ahead + rng.uniform(-0.03, 0.01) - 0.002 * lean)
        for side in SIDES
    }
    stage.floor = stand_height(stage, feet, rng.uniform(0.965, 0.995))
    for side in SIDES:
        x, z = feet[side]
        plant(stage, side, x, z, stage.floor, OUTWARD[side] * rng.uniform(-2, 24))


def stand_idly(stage: Stage, side: Side) -> None:
    """An arm of a standing person that has nothing to do."""
    idle_arm(stage, side, ((0.62, hanging_arm), (0.31, bent_arm), (0.07, raised_arm)))


def behind_chair(stage: Stage, label: str, mode: str) -> None:
    """Stand behind a chair, one hand or both on the top of its backrest."""
    rng = stage.rng
    stand_feet(stage, lean=rng.uniform(6, 20), together=True)
    assert stage.floor is not None
    stage.idle = lambda side: stand_idly(stage, side)
    hands = hands_of(mode)
    shape = stage.shape(label, arm_height=0.0)
    front = stage.points("hips", "left thigh", "right thigh", "torso")
    low = shape.mesh.vertices.min(axis=0)
    top = shape.anchors["back top"]
    height = float(top.point[1] - low[1]) + stage.floor
    belly = float(front[front[:, 1] < height + 0.1][:, 2].max())
    aside = 0.0 if len(hands) == 2 else -0.1 * OUTWARD[hands[0]] * rng.uniform(-0.5, 1)
    behind = belly + rng.uniform(0.09, 0.19)
    at = np.array([aside, stage.floor - low[1], behind - float(shape.mesh.vertices[:, 2].min())])
    names = [f"{SIDE_NAMES[side]} hand" for side in hands]
    stage.place(shape, np.eye(3), at, mode, names)
    for side in hands:
        stage.take(side)
        anchor = shape.anchors[f"back {SIDE_NAMES[side]}"]
        point = anchor.point + at + LEFT * rng.uniform(-0.03, 0.03)
        rest_on_edge(stage, side, point, anchor.direction, 2 * anchor.radius, effort=20.0)
