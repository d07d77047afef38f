"""Standing and sitting at a table, with hands on its top."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ivlm_core.datasets.synthetic.programs.seated import sit
from ivlm_core.datasets.synthetic.programs.stage import (
    OUTWARD,
    SIDE_NAMES,
    UP,
    Stage,
    TableTop,
    Unreachable,
    hands_of,
)
from ivlm_core.datasets.synthetic.programs.standing import stand_feet, stand_idly
from ivlm_core.datasets.synthetic.programs.surfaces import rest_hand

NAME = "dining table"


def sit_at_table(stage: Stage, label: str = "", mode: str = "") -> None:
    """Sit on a chair with a table in front: knees under it, the trunk just off its edge."""
    rng = stage.rng
    sit(stage, "chair", "sit", at_table=True)
    assert stage.floor is not None
    legs = stage.points("left thigh", "right thigh", "left lower leg", "right lower leg")
    near = float(stage.points("torso", "hips")[:, 2].max()) + rng.uniform(0.05, 0.12)
    sizes = _rectangular(stage)
    under = float(legs[legs[:, 2] > near - 0.03, 1].max()) + rng.uniform(0.03, 0.06)
    height = max(under + sizes["top_thickness"] - stage.floor, rng.uniform(0.68, 0.76))
    sizes["width"] = max(sizes["width"], 1.05)
    place_table(stage, sizes, height, near)


def stand_at_table(stage: Stage, label: str = "", mode: str = "") -> None:
    """Stand before a table, leaning a little towards it."""
    rng = stage.rng
    stand_feet(stage, lean=rng.uniform(8, 22), together=True)
    assert stage.floor is not None
    front = stage.points("hips", "left thigh", "right thigh", "torso")
    # Tables that people stand at are higher than those they sit at: counters and bar tables.
    height = rng.uniform(0.50, 0.58) * float(np.ptp(stage.rig.vertices[:, 1]))
    below = front[front[:, 1] < stage.floor + height + 0.05]
    near = float(below[:, 2].max()) + rng.uniform(0.03, 0.09)
    place_table(stage, _rectangular(stage), height, near)
    stage.idle = lambda side: stand_idly(stage, side)


def place_table(stage: Stage, sizes: Mapping[str, float], height: float, near: float) -> None:
    """Put a table on the floor with its near edge at z = `near` and its top `height` above the floor, metres."""
    assert stage.floor is not None
    shape = stage.shape("table", sizes, height=height)
    low, high = shape.mesh.vertices.min(axis=0), shape.mesh.vertices.max(axis=0)
    at = np.array([stage.rng.uniform(-0.15, 0.15), stage.floor - low[1], near - low[2]])
    placed = stage.place(shape, np.eye(3), at, name=NAME)
    low, high = low + at, high + at
    stage.set_table(placed, TableTop(float(high[1]), near, float(high[2]), float(low[0]), float(high[0])))


def lean_on_table(stage: Stage, label: str, mode: str) -> None:
    """Lay one hand or both flat on the table."""
    top, rng = stage.table_top, stage.rng
    if top is None or stage.table is None:
        raise Unreachable("has no table")
    hands = hands_of(mode)
    stage.take(*hands)
    for side in hands:
        out = OUTWARD[side]
        point = (out * rng.uniform(0.14, 0.32), top.height, top.near + rng.uniform(0.08, 0.22))
        rest_hand(stage, side, point, UP, (-rng.uniform(0.0, 0.7) * out, 0, 1), effort=14.0)
    touching = [f"{SIDE_NAMES[side]} {name}" for side in hands for name in ("hand", "forearm")]
    stage.touch(stage.table, mode, touching)


def _rectangular(stage: Stage) -> dict[str, float]:
    return {**stage.shape("table").sizes, "round_top": 0, "pedestal": 0}
