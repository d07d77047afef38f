"""Bags that are worn: backpacks on both shoulders or one, handbags on a shoulder; and bags in a hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ivlm_core.bodies import AnnyRig, mirrored_vertices
from ivlm_core.datasets.synthetic.geometry import Solid, vertex_normals
from ivlm_core.datasets.synthetic.pose import Matrix, Side, Vector, align, turn
from ivlm_core.datasets.synthetic.programs.carried import carry_bag
from ivlm_core.datasets.synthetic.programs.limbs import pose_arm, relax_fingers
from ivlm_core.datasets.synthetic.programs.reaching import chest_forward, several, sides_of
from ivlm_core.datasets.synthetic.programs.stage import (
    FORWARD,
    LEFT,
    OUTWARD,
    SIDE_NAMES,
    SIDES,
    UP,
    Stage,
    Unreachable,
    part,
)

Action = Callable[[Stage, str, str], None]
# How deep bags and straps press into what carries them, metres.
PACK_SINK, STRAP_SINK = 0.008, 0.003
# The middle of a strap above the skin, metres.
STRAP_LIFT = 0.0075
# Metres between bag and back where a loose strap lies.
LOOSE_ROOM = 0.013
MAX_STRAP_DEPTH = 0.022
# Where a backpack's strap meets the skin on the left of the default body, seen from the middle between the shoulder
# joints, in distances to one of them. Over the shoulder and down the chest: how far to the side, and the direction (up,
# ahead) from a line 0.55 below. Round the ribs: the height, and how far ahead.
STRAP_WAY = (
    (0.66, 1.0, -0.8),
    (0.71, 1.0, -0.35),
    (0.72, 1.0, 0.0),
    (0.72, 1.0, 0.4),
    (0.70, 0.8, 1.0),
    (0.68, 0.1, 1.0),
    (0.69, -0.6, 1.0),
)
STRAP_RIBS = ((-1.5, 0.5), (-1.66, 0.1), (-1.75, -0.3))


class Skin:
    """The posed surface of some body parts, to ask how far points are from it."""

    def __init__(self, stage: Stage, *names: str) -> None:
        import open3d as o3d

        chosen = np.zeros(len(stage.rig.part_labels), dtype=bool)
        chosen[part(stage.rig, *names)] = True
        faces = stage.rig.faces[chosen[stage.rig.faces].all(axis=1)]
        used, compact = np.unique(faces, return_inverse=True)
        self._tensor = o3d.core.Tensor.from_numpy
        self._tree = o3d.t.geometry.RaycastingScene(nthreads=1)
        self._tree.add_triangles(
            self._tensor(np.ascontiguousarray(stage.vertices()[used])),
            self._tensor(compact.reshape(-1, 3).astype(np.uint32)),
        )

    def distances(self, points: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(P,) metres to points (P, 3), negative behind the surface, and (P, 3) its unit normals there."""
        asked = np.ascontiguousarray(points, dtype=np.float32)
        found = self._tree.compute_closest_points(self._tensor(asked), nthreads=1)
        off, normal = asked - found["points"].numpy(), found["primitive_normals"].numpy()
        behind = (off * normal).sum(axis=1) < 0
        distance = np.linalg.norm(off, axis=1)
        return np.where(behind, -distance, distance).astype(np.float64), normal.astype(np.float64)


def backpack(stage: Stage, label: str, mode: str) -> None:
    """A backpack on both shoulders or one, its straps fitted to the wearer; or carried by its loop in a hand."""
    if "hand" in mode:
        carry_bag(stage, label, mode)
        return
    side = None if "both" in mode else sides_of(mode)[0]
    stage.take("back")
    if stage.posture not in ("stand", "board", "ride"):
        raise Unreachable("there is no room behind the back")
    several(lambda: _on_back(stage, side, label, mode), 3)


def _on_back(stage: Stage, side: Side | None, label: str, mode: str) -> None:
    rng = stage.rng
    sizes = dict(stage.shape(label).sizes)
    aside = 0.0 if side is None else OUTWARD[side] * rng.uniform(0.01, 0.04)
    # A strap that is not worn lies flat between bag and back.
    sizes |= {"strap_reach": 0.02, "strap_rise": -0.03, "strap_flare": 0.01, "strap_spread": 0.08}
    rotation, panel = _against_back(stage, sizes, aside, PACK_SINK if side is None else -LOOSE_ROOM)
    # The bag's own middle, from which its corners are measured.
    middle = panel - rotation @ np.array([0.0, 0.0, -0.45 * sizes["depth"]])
    skin = Skin(stage, "torso", "head")
    for which in SIDES if side is None else (side,):
        corners = (_strap_corners(stage, which) - middle) @ rotation
        # Bag and wearer look opposite ways, so the wearer's left is at its −x.
        sign = -OUTWARD[which]
        top = [sign * 0.085, 0.40 * sizes["height"], 0.03 - sizes["depth"] / 2]
        bottom = [sign * 0.40 * sizes["width"], -0.42 * sizes["height"], 0.03 - sizes["depth"] / 2]
        for index, corner in enumerate([top, *corners, bottom]):
            sizes |= {f"{SIDE_NAMES[which]}_{index}_{axis}": float(corner["xyz".index(axis)]) for axis in "xyz"}
    shape = stage.shape(label, sizes)
    place = panel - rotation @ shape.anchors["back panel"].point
    worn = [f"{SIDE_NAMES[which]} strap" for which in (SIDES if side is None else (side,))]
    straps = np.concatenate([shape.parts[name].vertices for name in worn])
    if float(skin.distances(straps @ rotation.T + place)[0].min()) < -MAX_STRAP_DEPTH:
        raise Unreachable("the straps do not fit")
    stage.place(shape, rotation, place, mode, ["torso", "hips", "left upper arm", "right upper arm"])


def _strap_corners(stage: Stage, side: Side) -> NDArray[np.float64]:
    """(C, 3) the corners of a worn strap between its ends, body frame: on the skin, lifted by half its thickness."""
    triangles, weights = _strap_way()
    if side == "R":
        triangles = mirrored_vertices()[triangles]
    vertices = stage.vertices().astype(np.float64)
    normals = vertex_normals(stage.vertices(), stage.rig.faces)
    lifted = vertices[triangles] + STRAP_LIFT * normals[triangles]
    corners: NDArray[np.float64] = np.einsum("ck,ckd->cd", weights, lifted)
    return corners


@lru_cache(maxsize=1)
def _strap_way() -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """Where a left strap runs: the skin's triangles (C, 3), by their vertices, and the weights of these (C, 3).

    The same for every body, because all share their topology.
    """
    rig = AnnyRig.load()
    joints = dict(zip(rig.joint_names, rig.joints.astype(np.float64), strict=True))
    shoulder = joints["upperarm01.L"]
    over = [([aside, -0.55 + 5 * up, 5 * ahead], [aside, -0.55, 0.0]) for aside, up, ahead in STRAP_WAY]
    beside = [([5.0, height, ahead], [0.0, height, ahead]) for height, ahead in STRAP_RIBS]
    found = []
    # The arms, which are down at the sides, do not hide the ribs.
    for lines, names in ((over, ("torso", "hips", "head", "left upper arm")), (beside, ("torso", "hips"))):
        chosen = np.zeros(len(rig.part_labels), dtype=bool)
        chosen[part(rig, *names)] = True
        faces = rig.faces[chosen[rig.faces].all(axis=1)]
        start, end = np.array(lines).swapaxes(0, 1) * shoulder[0] + shoulder * (0, 1, 1)
        _, face, uv = Solid(rig.vertices, faces).cast(np.concatenate([start, end - start], axis=1).astype(np.float32))
        found.append((faces[face], np.stack([1 - uv.sum(axis=1), uv[:, 0], uv[:, 1]], axis=1).astype(np.float64)))
    return np.concatenate([item[0] for item in found]), np.concatenate([item[1] for item in found])


def _against_back(stage: Stage, sizes: dict[str, float], aside: float, sink: float) -> tuple[Matrix, Vector]:
    """How a bag on the back is turned, and where the middle of its back panel is."""
    chest = stage.poser.orientation("spine01")
    torso = stage.points("torso", "hips").astype(np.float64)
    shoulder = 0.5 * (stage.poser.position("upperarm01.L") + stage.poser.position("upperarm01.R"))
    local = (torso - shoulder) @ chest
    top = stage.rng.uniform(-0.04, 0.03)
    middle = top - sizes["height"] / 2
    near = (np.abs(local[:, 0] - aside) < 0.11) & (np.abs(local[:, 1] - middle) < sizes["height"] / 2 - 0.03)
    back = local[near] - np.array([aside, middle, 0.0])
    # The panel lies on the back at the angle that leaves the least room behind it.
    pitches = [turn(LEFT, degrees) for degrees in np.arange(-16.0, 17.0, 4.0)]
    behind = [-back @ lean[:, 2] for lean in pitches]
    best = int(np.argmin([float(off.max() - off.mean()) for off in behind]))
    lean, outermost = pitches[best], float(behind[best].max())
    rotation = chest @ lean @ turn(UP, 180)
    at = shoulder + chest @ np.array([aside, middle, 0.0]) + rotation @ FORWARD * (outermost - sink)
    return rotation, at


def handbag(stage: Stage, label: str, mode: str) -> None:
    """A handbag on a shoulder, under the arm; or from a hand or forearm."""
    if "shoulder" not in mode:
        carry_bag(stage, label, mode)
        return
    side = sides_of(mode)[0]
    stage.take(side)
    several(lambda: _on_shoulder(stage, side, label, mode), 4)


def _on_shoulder(stage: Stage, side: Side, label: str, mode: str) -> None:
    """The strap lies on the shoulder, the bag hangs between arm and ribs."""
    rng, poser, out = stage.rng, stage.poser, OUTWARD[side]
    sizes = dict(stage.shape(label).sizes)
    sizes |= {
        "width": rng.uniform(0.32, 0.4),
        "height": min(sizes["height"], 0.24),
        "depth": rng.uniform(0.075, 0.1),
        "handle_height": rng.uniform(0.23, 0.3),
    }
    shape = stage.shape(label, sizes)
    anchor = shape.anchors["handle"]
    forward = chest_forward(stage)
    outward = np.cross(UP, forward) * out
    joint = poser.position(f"upperarm01.{side}")
    skin = Skin(stage, "torso", "hips", f"{SIDE_NAMES[side]} thigh")
    shoulder = Skin(stage, "torso", f"{SIDE_NAMES[side]} upper arm")
    heading = turn(UP, rng.uniform(-12, 12)) @ forward
    start = joint - outward * rng.uniform(0.035, 0.06) - forward * rng.uniform(0.0, 0.02)
    for tilt in np.arange(4.0, 34.0, 3.0):
        # Tilting about the strap swings the bag away from the ribs.
        rotation = turn(heading, out * tilt) @ align(anchor.direction, UP, heading * out, UP)
        strap = shape.parts["handle"].vertices - anchor.point
        upper = (strap[np.abs(strap[:, 0]) < 0.05]) @ rotation.T
        point = start + UP * 0.12
        for _ in range(4):
            point = point - UP * (float(shoulder.distances(upper + point)[0].min()) + STRAP_SINK)
        place = point - rotation @ anchor.point
        bag = np.concatenate([shape.parts[name].vertices for name in ("bag", "clasp")]) @ rotation.T + place
        if float(skin.distances(bag)[0].min()) > -0.004:
            break
    else:
        raise Unreachable("the bag does not fit under the arm")
    _arm_beside(stage, side, bag, outward, forward)
    parts = ["torso", "hips", *(f"{SIDE_NAMES[side]} {name}" for name in ("upper arm", "forearm", "thigh"))]
    stage.place(shape, rotation, place, mode, parts)


def _arm_beside(stage: Stage, side: Side, bag: NDArray[Any], outward: Vector, forward: Vector) -> None:
    """Lift the arm until it is outside a bag with these vertices."""
    rng = stage.rng
    swing, rise = rng.uniform(-0.25, 0.25), np.radians(rng.uniform(-45, 25))
    for lift in np.radians(np.arange(14.0, 66.0, 5.0)):
        upper = np.sin(lift) * outward - np.cos(lift) * UP + swing * forward
        fore = np.cos(rise) * forward + np.sin(rise) * UP + 0.3 * np.sin(lift) * outward
        pose_arm(stage, side, upper, fore, -outward + rng.uniform(-0.6, 0.2) * UP)
        arm = Skin(stage, f"{SIDE_NAMES[side]} upper arm", f"{SIDE_NAMES[side]} forearm")
        if float(arm.distances(bag)[0].min()) > -0.006:
            relax_fingers(stage, side)
            return
    raise Unreachable("the arm finds no room beside the bag")


ACTIONS: Mapping[str, Action] = MappingProxyType({"backpack": backpack, "handbag": handbag})
MODES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "backpack": ("both straps", "left shoulder", "right shoulder", "left hand", "right hand"),
        "handbag": ("left hand", "right hand", "left forearm", "right forearm", "left shoulder", "right shoulder"),
    }
)
