"""Riding a bicycle or a motorcycle, and standing beside one with a hand on its handlebar."""

from __future__ import annotations

import numpy as np

from ivlm_core.datasets.synthetic.pose import Side, Vector, turn
from ivlm_core.datasets.synthetic.programs.boards import foot_length
from ivlm_core.datasets.synthetic.programs.limbs import (
    arm_length,
    bend_trunk,
    bent_arm,
    hanging_arm,
    idle_arm,
    leg_length,
    raised_arm,
    sole_height,
    turn_head,
)
from ivlm_core.datasets.synthetic.programs.stage import (
    FORWARD,
    LEFT,
    OUTWARD,
    SIDE_NAMES,
    SIDES,
    UP,
    Stage,
    Unreachable,
    hands_of,
)
from ivlm_core.datasets.synthetic.programs.standing import stand_feet, stand_idly
from ivlm_core.datasets.synthetic.programs.surfaces import grip_handle
from ivlm_core.datasets.synthetic.scene import PlacedObject
from ivlm_core.objects import Shape

# How deep the saddle sinks into the body, metres.
SADDLE_SINK = 0.022
# The hip joints are about this high above a saddle, metres, before it is measured.
HIPS_ABOVE_SADDLE = 0.09
MAX_LEAN = 58.0


def ride(stage: Stage, label: str, mode: str) -> None:
    """On the saddle with both feet on the pedals; the mode says which hands are on the grips."""
    rng = stage.rng
    stage.posture = "ride"
    stage.free.discard("lap")
    hands = hands_of(mode)
    shape = _fitted(stage, label)
    low = float(shape.mesh.vertices[:, 1].min())
    saddle = shape.anchors["saddle"].point
    at = -saddle + np.array([0.0, -HIPS_ABOVE_SADDLE, 0.0])
    _lean_to_grips(stage, shape, at, 0.93 if label == "bicycle" else 0.86)
    turn_head(stage, -0.55 * _pitch(stage) + rng.uniform(-6, 8), rng.uniform(-22, 22))
    outwards = rng.uniform(0.05, 0.25) if label == "bicycle" else rng.uniform(0.55, 0.8)
    foot_pitch = {side: rng.uniform(-4, 14) for side in SIDES}
    for _ in range(3):
        for side in SIDES:
            _foot_on_pedal(stage, side, shape, at, label, outwards, foot_pitch[side])
        at = at + UP * (_seat_height(stage, shape, at) + SADDLE_SINK - (at + saddle)[1])
    for side in SIDES:
        _foot_on_pedal(stage, side, shape, at, label, outwards, foot_pitch[side])
    stage.floor = float(at[1] + low)
    touching = {"hips", "left thigh", "right thigh", "left foot", "right foot"}
    if label == "motorcycle":
        touching |= {"left lower leg", "right lower leg"}
    placed = stage.place(shape, np.eye(3), at, mode, touching | {f"{SIDE_NAMES[side]} hand" for side in hands})
    stage.take(*hands)
    for side in hands:
        grip_handlebar(stage, side, placed, f"grip {SIDE_NAMES[side]}")
    stage.idle = lambda side: _idle_riding(stage, side)


def stand_beside(stage: Stage, label: str, mode: str) -> None:
    """Stand beside a parked bicycle or motorcycle with the near hand on the near grip."""
    rng = stage.rng
    (side,) = hands_of(mode)
    out = OUTWARD[side]
    stand_feet(stage, lean=rng.uniform(0, 12), together=True)
    assert stage.floor is not None
    shape = stage.shape(label)
    # The machine faces the same way; its near grip is the one of the other side.
    near = "grip right" if side == "L" else "grip left"
    rotation = turn(UP, out * rng.uniform(-12, 6))
    arm = arm_length(stage)
    shoulder = stage.poser.position(f"upperarm01.{side}")
    grip = rotation @ shape.anchors[near].point
    height = stage.floor - float(shape.mesh.vertices[:, 1].min())
    drop = shoulder[1] - (height + grip[1])
    reach = rng.uniform(0.72, 0.92) * arm
    ahead = np.sqrt(max(reach**2 - drop**2 - 0.01, 0.15**2))
    aside = out * (abs(shoulder[0]) + rng.uniform(0.10, 0.2))
    at = np.array([aside - grip[0], height, shoulder[2] + ahead - grip[2]])
    placed = stage.place(shape, rotation, at, mode, [f"{SIDE_NAMES[side]} hand"])
    legs = stage.points("left lower leg", "right lower leg", "left thigh", "right thigh", "hips")
    if stage.clearance(legs[::2]) < 0.025:
        raise Unreachable("stands in the machine")
    stage.take(side)
    grip_handlebar(stage, side, placed, near)
    stage.idle = lambda idle_side: stand_idly(stage, idle_side)


def grip_handlebar(stage: Stage, side: Side, placed: PlacedObject, anchor_name: str) -> None:
    """Close a hand around a handlebar's grip from above or behind."""
    anchor = placed.shape.anchors[anchor_name]
    point = placed.to_world(anchor.point[None])[0]
    # The thumb is at the inner end of the grip.
    along = placed.rotation @ anchor.direction
    inwards = along * -np.sign(along[0] * OUTWARD[side])
    grip_handle(stage, side, point, inwards, anchor.radius, palm=(0.0, -0.8, 0.6), effort=14.0)


def _fitted(stage: Stage, label: str) -> Shape:
    """An instance that suits the rider's legs."""
    rng = stage.rng
    sizes = dict(stage.shape(label).sizes)
    leg = leg_length(stage)
    ankle = sole_height(stage, "L")
    if label == "bicycle":
        # Either pedal may be the lower one.
        sizes["crank_deg"] += 180.0 * float(rng.integers(2))
        angle = np.radians(sizes["crank_deg"])
        stretched = rng.uniform(0.90, 0.955) * leg
        heights = []
        for sign in (1.0, -1.0):
            pedal = sizes["bracket_height"] - sign * sizes["crank"] * np.sin(angle) + 0.012
            # The saddle is about 20 cm behind the bracket, the ankle about 10 cm behind the pedal.
            ahead = 0.10 + sign * sizes["crank"] * np.cos(angle)
            heights.append(pedal + ankle + np.sqrt(stretched**2 - ahead**2) - HIPS_ABOVE_SADDLE)
        height = min(heights)
        sizes["grip_height"] += 0.8 * (height - sizes["saddle_height"])
        sizes["saddle_height"] = float(np.clip(height, 0.68, 1.05))
        sizes["grip_height"] = float(np.clip(sizes["grip_height"], sizes["saddle_height"] - 0.05, 1.15))
        sizes["reach"] *= float(np.clip(arm_length(stage) / 0.5, 0.85, 1.1))
    else:
        sizes["reach"] *= float(np.clip(arm_length(stage) / 0.5, 0.85, 1.1))
    return stage.shape(label, sizes)


def _lean_to_grips(stage: Stage, shape: Shape, at: Vector, stretch: float) -> None:
    """Lean forwards until both hands reach the grips with arms stretched to at most `stretch`."""
    rng, poser = stage.rng, stage.poser
    stretch = stretch * rng.uniform(0.93, 1.0)
    for lean in np.arange(4.0, MAX_LEAN, 3.0):
        poser.orient("root", turn(LEFT, 0.45 * lean))
        bend_trunk(stage, 0.55 * lean)
        distance = max(
            float(
                np.linalg.norm(
                    shape.anchors[f"grip {SIDE_NAMES[side]}"].point + at - poser.position(f"upperarm01.{side}")
                )
            )
            for side in SIDES
        )
        # The wrist is behind the grip by most of a hand.
        if distance - 0.06 < stretch * arm_length(stage):
            return
    raise Unreachable("the grips are too far away")


def _pitch(stage: Stage) -> float:
    """Degrees that the chest leans forwards."""
    forward = stage.poser.orientation("spine01") @ FORWARD
    return float(np.degrees(np.arcsin(np.clip(-forward[1], -1, 1))))


def _foot_on_pedal(
    stage: Stage, side: Side, shape: Shape, at: Vector, label: str, outwards: float, pitch: float
) -> None:
    out = OUTWARD[side]
    pedal = shape.anchors[f"pedal {SIDE_NAMES[side]}"].point + at
    orientation = turn(UP, out * (4.0 if label == "bicycle" else 8.0)) @ turn(LEFT, pitch)
    # The ball of the foot is on a pedal, the arch on a foot peg.
    ahead = (0.42 if label == "bicycle" else 0.33) * foot_length(stage)
    ankle = pedal + orientation @ np.array([0.0, sole_height(stage, side) - 0.003, -ahead])
    stage.poser.step(side, ankle, (outwards * out, 0.3, 1), orientation)


def _seat_height(stage: Stage, shape: Shape, at: Vector) -> float:
    """Lowest point of the body above the saddle, metres, body frame."""
    saddle = shape.parts["saddle" if "saddle" in shape.parts else "seat"].vertices + at
    lower = stage.points("hips", "left thigh", "right thigh")
    best = np.inf
    # The top is not flat; what matters is where its broad rear half comes nearest, for thighs may hang beside the nose.
    rear = saddle[:, 2] < (at + shape.anchors["saddle"].point)[2] + 0.01
    for vertex in saddle[rear & (saddle[:, 1] > saddle[rear, 1].max() - 0.05)][::2]:
        near = lower[(np.abs(lower[:, 0] - vertex[0]) < 0.02) & (np.abs(lower[:, 2] - vertex[2]) < 0.025)]
        if len(near):
            best = min(best, float(near[:, 1].min() - vertex[1]))
    if not np.isfinite(best):
        raise Unreachable("sits beside the saddle")
    return float((at + shape.anchors["saddle"].point)[1]) + best


def _idle_riding(stage: Stage, side: Side) -> None:
    idle_arm(stage, side, ((0.4, hanging_arm), (0.35, raised_arm), (0.25, bent_arm)))
