"""Arms, legs and trunk in everyday positions: what the supports are made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from ivlm_core.bodies import AnnyRig
from ivlm_core.datasets.synthetic.pose import Matrix, Side, Vector, cross, turn, unit
from ivlm_core.datasets.synthetic.programs.stage import (
    FORWARD,
    LEFT,
    OUTWARD,
    SIDE_NAMES,
    UP,
    Stage,
    Unreachable,
    part,
)

# An idle hand keeps this far from the body's vertices, metres; trunk and thighs have one every 2 cm.
CLEARANCE = 0.03
SPINE = ("spine04", "spine03", "spine02", "spine01")


def bend_trunk(stage: Stage, forward: float = 0.0, right: float = 0.0, left_turn: float = 0.0) -> None:
    """Bend and twist the spine, degrees, spread evenly over it; relative to the pelvis."""
    share = turn(UP, left_turn / len(SPINE)) @ turn(LEFT, forward / len(SPINE)) @ turn(FORWARD, right / len(SPINE))
    for bone in SPINE:
        stage.poser.orient(bone, stage.poser.orientation(f"spine0{int(bone[-1]) + 1}") @ share)


def turn_head(stage: Stage, nod: float = 0.0, left_turn: float = 0.0, right: float = 0.0) -> None:
    """Turn the head relative to the chest, degrees: half in the neck, half in the head itself."""
    half = turn(UP, left_turn / 2) @ turn(LEFT, nod / 2) @ turn(FORWARD, right / 2)
    poser = stage.poser
    poser.orient("neck02", poser.orientation("neck01") @ half)
    poser.orient("head", poser.orientation("neck03") @ half)


def sole_height(stage: Stage, side: Side) -> float:
    """Metres from the sole of a level foot up to the ankle joint."""
    rig = stage.rig
    lowest = rig.vertices[part(rig, f"{SIDE_NAMES[side]} foot"), 1].min()
    return float(rig.joints[rig.joint_names.index(f"foot.{side}"), 1] - lowest)


def leg_length(stage: Stage, side: Side = "L") -> float:
    """Metres from the hip joint to the ankle joint of a straight leg."""
    return stage.poser.length(f"upperleg01.{side}", f"lowerleg01.{side}", f"foot.{side}")


def arm_length(stage: Stage, side: Side = "L") -> float:
    """Metres from the shoulder joint to the wrist of a straight arm."""
    return stage.poser.length(f"upperarm01.{side}", f"lowerarm01.{side}", f"wrist.{side}")


def plant(stage: Stage, side: Side, x: float, z: float, height: float, yaw: float = 0.0, knee: Any = None) -> None:
    """Put a foot's level sole at `height` with its ankle above (x, z), toes turned `yaw` degrees to the own left."""
    heading = turn(UP, yaw)
    towards = heading @ FORWARD if knee is None else knee
    stage.poser.step(side, (x, height + sole_height(stage, side), z), towards, heading)


def stand_height(stage: Stage, feet: dict[Side, tuple[float, float]], stretch: float = 0.985) -> float:
    """The floor's height at which the longer-reaching leg is stretched to `stretch` of its length.

    `feet` : x and z of each ankle, metres, body frame.
    """
    heights = []
    for side, (x, z) in feet.items():
        hip = stage.poser.position(f"upperleg01.{side}")
        across = np.hypot(x - hip[0], z - hip[2])
        reach = stretch * leg_length(stage, side)
        if across > 0.95 * reach:
            raise Unreachable(f"the {SIDE_NAMES[side]} foot is too far away")
        heights.append(hip[1] - np.sqrt(reach**2 - across**2) - sole_height(stage, side))
    return float(max(heights))


def pose_arm(stage: Stage, side: Side, upper: Any, fore: Any, palm: Any, fingers: Any = None) -> None:
    """Point upper arm and forearm along directions; the hand goes on along the forearm unless `fingers` says where."""
    poser = stage.poser
    upper, fore = unit(upper), unit(fore)
    shoulder = poser.position(f"upperarm01.{side}")
    elbow = shoulder + poser.length(f"upperarm01.{side}", f"lowerarm01.{side}") * upper
    wrist = elbow + poser.length(f"lowerarm01.{side}", f"wrist.{side}") * fore
    # A stretched arm stays just within its own reach.
    longest = 0.997 * arm_length(stage, side)
    wrist = shoulder + (wrist - shoulder) * min(1.0, longest / float(np.linalg.norm(wrist - shoulder)))
    bend = upper - fore
    poser.reach(side, wrist, bend if np.linalg.norm(bend) > 0.05 else -UP + 0.01 * FORWARD)
    poser.hand(side, fore if fingers is None else fingers, palm)


def relax_fingers(stage: Stage, side: Side) -> None:
    """Half open fingers, a little different every time."""
    stage.poser.curl(side, float(stage.rng.uniform(0, 22)))


def arm_points(stage: Stage, side: Side) -> Any:
    """(n, 3) some of the vertices of forearm and hand."""
    name = SIDE_NAMES[side]
    return np.concatenate([stage.points(f"{name} forearm")[::4], stage.points(f"{name} hand")[::8]])


def arm_clearance(stage: Stage, side: Side) -> float:
    """Metres from forearm and hand to the trunk's and legs' nearest vertex."""
    arm = arm_points(stage, side)
    rest = stage.points("torso", "hips", "left thigh", "right thigh", "left lower leg", "right lower leg")
    # A tree that is used once is best built fast.
    return float(cKDTree(rest, balanced_tree=False, compact_nodes=False).query(arm)[0].min())


def clear_arm(stage: Stage, side: Side, upper: Any, fore: Any, palm: Any, fingers: Any = None) -> None:
    """`pose_arm`, lifted sideways until forearm and hand are clear of the body.

    Raises
    ------
    Unreachable : no lift up to 40 degrees does it.
    """
    for lift in (0.0, 6.0, 12.0, 18.0, 26.0, 34.0):
        outwards = stage.poser.orientation("spine01") @ turn(FORWARD, lift * OUTWARD[side])
        inwards = stage.poser.orientation("spine01").T
        turned = [outwards @ inwards @ np.asarray(direction, np.float64) for direction in (upper, fore, palm)]
        pose_arm(stage, side, turned[0], turned[1], turned[2], fingers)
        if arm_clearance(stage, side) >= CLEARANCE:
            break
    else:
        raise Unreachable(f"the {SIDE_NAMES[side]} arm finds no room beside the body")
    relax_fingers(stage, side)
    if stage.clearance(arm_points(stage, side)) < CLEARANCE:
        raise Unreachable(f"the {SIDE_NAMES[side]} arm finds no room among the things")


def idle_arm(stage: Stage, side: Side, ways: Sequence[tuple[float, Callable[[Stage, Side], None]]]) -> None:
    """Try ways to hold an arm, drawn by their weights, until one finds room.

    Raises
    ------
    Unreachable : none of eight draws does.
    """
    shares = np.array([weight for weight, _ in ways])
    for _ in range(8):
        way = ways[int(stage.rng.choice(len(ways), p=shares / shares.sum()))][1]
        try:
            way(stage, side)
        except Unreachable:
            continue
        return
    raise Unreachable(f"the {SIDE_NAMES[side]} arm finds no room")


def hanging_arm(stage: Stage, side: Side) -> None:
    """An arm that hangs at the side, its elbow a little bent."""
    rng, out = stage.rng, OUTWARD[side]
    away, swing = np.radians(rng.uniform(8, 22)), np.radians(rng.uniform(-12, 14))
    upper = np.array([out * np.sin(away), -np.cos(away), np.sin(swing)])
    bend = np.radians(rng.uniform(8, 38))
    fore = np.array([out * np.sin(away * rng.uniform(0.2, 0.9)), -np.cos(bend), np.sin(bend) + np.sin(swing)])
    clear_arm(stage, side, upper, fore, (-out, 0.0, rng.uniform(-0.7, 0.1)))


def bent_arm(stage: Stage, side: Side) -> None:
    """The upper arm at the side, the forearm held forwards, as when talking."""
    rng, out = stage.rng, OUTWARD[side]
    away, swing = np.radians(rng.uniform(10, 28)), np.radians(rng.uniform(-20, 20))
    upper = np.array([out * np.sin(away), -np.cos(away), np.sin(swing)])
    rise = np.radians(rng.uniform(-25, 50))
    fore = np.array([out * rng.uniform(-0.25, 0.5), np.sin(rise), np.cos(rise)])
    clear_arm(stage, side, upper, fore, (-out * rng.uniform(0.3, 1), rng.uniform(-0.8, 0.8), 0.0))


def raised_arm(stage: Stage, side: Side) -> None:
    """An arm lifted sideways, as for balance or in a gesture."""
    rng, out = stage.rng, OUTWARD[side]
    lift = np.radians(rng.uniform(35, 80))
    upper = np.array([out * np.sin(lift), -np.cos(lift), rng.uniform(-0.1, 0.5)])
    rise = np.radians(rng.uniform(-50, 35))
    fore = np.array([out * np.cos(rise), np.sin(rise), rng.uniform(0.1, 0.8)])
    clear_arm(stage, side, upper, fore, (0.0, -1.0, rng.uniform(-0.3, 0.3)))


def rest_hand(
    stage: Stage,
    side: Side,
    point: Any,
    fingers: Any,
    normal: Any = (0.0, 1.0, 0.0),
    curl: float = -8.0,
    elbow_towards: Any = None,
) -> None:
    """Lay a hand on a plane: its palm side touches the plane through `point` with `normal`, its middle above `point`.

    Raises
    ------
    Unreachable : the arm is too short, or the hand does not settle.
    """
    poser = stage.poser
    hand = palm_vertices(stage, side)
    point, normal = np.asarray(point, np.float64), unit(normal)
    along = np.asarray(fingers, np.float64)
    along = unit(along - normal * (along @ normal))
    target: Vector = point + 0.03 * normal - 0.07 * along
    elbow = (0.6 * OUTWARD[side], -0.4, -1.0) if elbow_towards is None else elbow_towards
    # Where the skin ends up follows from the posed hand; a few corrections settle within a millimetre.
    for _ in range(4):
        poser.reach(side, target, elbow)
        poser.hand(side, along, -normal)
        poser.curl(side, curl)
        _lift_thumb(stage, side, along, normal, point)
        skin = poser.points(hand)
        heights = skin @ normal
        wrong = point - skin.mean(axis=0)
        wrong = wrong - normal * (wrong @ normal) + normal * (point @ normal - np.percentile(heights, 2))
        if np.linalg.norm(wrong) < 1e-3:
            return
        target = target + wrong


def _lift_thumb(stage: Stage, side: Side, along: Vector, normal: Vector, point: Vector) -> None:
    """Swing the thumb about the hand's long axis out of the plane that the hand lies on."""
    poser = stage.poser
    thumb = _hand_vertices(side)[1]
    hand = poser.orientation(f"wrist.{side}")
    for degrees in range(0, 61, 10):
        poser.orient(f"finger1-1.{side}", turn(along, -OUTWARD[side] * degrees) @ hand)
        if float(((poser.points(thumb) - point) @ normal).min()) > -0.004:
            break


def palm_vertices(stage: Stage, side: Side) -> NDArray[np.intp]:
    """Indices of palm and fingers, without the thumb."""
    hand, thumb = _hand_vertices(side)
    return np.setdiff1d(hand, thumb, assume_unique=True)


@lru_cache(maxsize=2)
def _hand_vertices(side: Side) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Indices of a hand's and of its thumb's vertices; all bodies have the same."""
    rig = AnnyRig.load()
    hand = part(rig, f"{SIDE_NAMES[side]} hand")
    bones = [bone for bone, name in enumerate(rig.joint_names) if name.startswith("finger1") and name.endswith(side)]
    return hand, hand[np.isin(rig.weights[hand].argmax(axis=1), bones)]


def level(direction: Any) -> Vector:
    """The horizontal part of a direction at length one."""
    flat = np.array(direction, dtype=np.float64)
    flat[1] = 0.0
    return unit(flat)


def upright(forwards: Any) -> Matrix:
    """The orientation whose z points along the level direction `forwards`."""
    z = level(forwards)
    return np.stack([cross(UP, z), UP, z], axis=1)
