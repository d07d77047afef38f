"""Posing the Anny skeleton by where its limbs point and what its hands reach for.

Orientations (`G`) turn a bone from its zero pose into its pose, in canonical axes (y up, body facing +z, +x its own
left). A bone that is given none follows its parent.
"""

from __future__ import annotations

from math import sqrt
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ivlm_core.bodies import AnnyRig
from ivlm_core.errors import InputError
from ivlm_core.types import FloatArray

Side = Literal["L", "R"]
Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]

# Share of the hand's turn about the forearm that the forearm's second bone takes; the rest turns the wrist.
FOREARM_TWIST = 0.6
# How much each finger segment bends when the finger as a whole bends by one.
CURL_SHARES = (0.9, 1.0, 0.6)


_IDENTITY: Matrix = np.eye(3)


class Unreachable(InputError):
    """This person cannot do that in this pose; another draw may do."""

    def __init__(self, problem: str, field: str = "program") -> None:
        super().__init__(field, problem, "draw again")


class Poser:
    """Collects bone orientations and gives the posed body; every method returns nothing and changes the pose."""

    def __init__(self, rig: AnnyRig) -> None:
        self.rig = rig
        self._posed: FloatArray | None = None
        self._skinning: NDArray[np.float32] | None = None
        self._heads = rig.joints.astype(np.float64)
        self._zero = {name: joint.astype(np.float64) for name, joint in zip(rig.joint_names, rig.joints, strict=True)}
        self._parent = {
            name: rig.joint_names[parent] if parent >= 0 else ""
            for name, parent in zip(rig.joint_names, rig.parents, strict=True)
        }
        self._orientations: dict[str, Matrix] = {}

    def orient(self, bone: str, orientation: Matrix) -> None:
        """Give `bone` an orientation of its own: (3, 3), zero pose to pose."""
        self._orientations[bone] = orientation
        self._posed = self._skinning = None

    def bend(self, bone: str, axis: Any, degrees: float) -> None:
        """Turn `bone` relative to its parent about an axis as seen in the zero pose."""
        self.orient(bone, self.orientation(self._parent[bone]) @ turn(axis, degrees))

    def orientation(self, bone: str) -> Matrix:
        """(3, 3) G of a bone as posed so far."""
        while bone:
            if bone in self._orientations:
                return self._orientations[bone]
            bone = self._parent[bone]
        return np.eye(3)

    def position(self, bone: str) -> Vector:
        """(3,) metres: where the bone's head is, relative to the body's origin (the root's head)."""
        parent = self._parent[bone]
        if not parent:
            return self._zero[bone]
        return self.position(parent) + self.orientation(parent) @ (self._zero[bone] - self._zero[parent])

    def rotations(self) -> dict[str, Matrix]:
        """Bone name → rotation inside its parent's frame, as `AnnyRig.pose` wants them."""
        return {
            bone: self.orientation(self._parent[bone]).T @ orientation
            for bone, orientation in self._orientations.items()
        }

    def vertices(self) -> FloatArray:
        """(V, 3) float32, metres, relative to the body's origin; read-only, the same array until the pose changes."""
        if self._posed is None:
            self._posed = self.rig.pose(self.rotations())
            self._posed.flags.writeable = False
        return self._posed

    def points(self, indices: NDArray[Any]) -> FloatArray:
        """(n, 3) float32: some of the posed vertices, at a cost that goes with their number."""
        if self._posed is not None:
            some: FloatArray = self._posed[indices]
            return some
        if self._skinning is None:
            turned, heads = self._bones()
            bind = self.rig.bind
            shifts = heads - np.einsum("bij,bj->bi", turned, self._heads)
            moved = np.concatenate([turned @ bind[:, :, :3], turned @ bind[:, :, 3:] + shifts[:, :, None]], axis=2)
            self._skinning = moved.reshape(-1, 12).astype(np.float32)
        blended = (self.rig.weights[indices] @ self._skinning).reshape(-1, 3, 4)
        rest = self.rig.rest_vertices[indices]
        posed: FloatArray = np.einsum("vij,vj->vi", blended[:, :, :3], rest) + blended[:, :, 3]
        return posed

    def joints(self) -> NDArray[np.float64]:
        """(B, 3) metres: where all bones' heads are, relative to the body's origin."""
        return self._bones()[1]

    def _bones(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(B, 3, 3) orientations of all bones and (B, 3) positions of their heads."""
        parents = self.rig.parents
        turned: list[Matrix] = []
        for name, parent in zip(self.rig.joint_names, parents.tolist(), strict=True):
            turned.append(self._orientations.get(name, turned[parent] if parent >= 0 else _IDENTITY))
        orientations = np.array(turned)
        # The root's parent is −1, the last bone; its own position is not an offset.
        offsets = np.einsum("bij,bj->bi", orientations[parents], self._heads - self._heads[parents])
        heads = self._heads.copy()
        for bones, inherited in self.rig.levels:
            if inherited is not None:
                heads[bones] = heads[inherited] + offsets[bones]
        return orientations, heads

    def length(self, *bones: str) -> float:
        """Metres along a chain of bone heads (`"upperarm01.L", "lowerarm01.L", "wrist.L"`: the arm)."""
        heads = np.stack([self._zero[bone] for bone in bones])
        return float(np.linalg.norm(np.diff(heads, axis=0), axis=1).sum())

    def step(self, side: Side, ankle: Any, knee_towards: Any, foot: Matrix | None = None) -> None:
        """Put the ankle at `ankle` (3,), metres relative to the body's origin, with the knee to the given side.

        `foot` is the orientation of the foot; identity keeps a sole level.

        Raises
        ------
        Unreachable : the point is further away than the leg is long, or too close to the hip.
        """
        upper, lower, end = (f"{bone}.{side}" for bone in ("upperleg01", "lowerleg01", "foot"))
        zero_thigh, zero_shank = self._zero[lower] - self._zero[upper], self._zero[end] - self._zero[lower]
        hip = self.position(upper)
        knee, hinge = _two_bones(end, "hip", hip, ankle, knee_towards, zero_thigh, zero_shank)
        left = np.array([1.0, 0.0, 0.0])
        self.orient(upper, align(zero_thigh, left, knee - hip, hinge))
        self.orient(lower, align(zero_shank, left, np.asarray(ankle) - knee, hinge))
        self.orient(end, np.eye(3) if foot is None else foot)

    def leg(self, side: Side, thigh: Any, shank: Any, foot: Matrix | None = None) -> None:
        """Point thigh and shank along directions; the knee bends about an axis as level as they allow.

        `foot` is the orientation of the foot; identity keeps a sole level.
        """
        thigh, shank = unit(thigh), unit(shank)
        zero_thigh = self._zero[f"lowerleg01.{side}"] - self._zero[f"upperleg01.{side}"]
        zero_shank = self._zero[f"foot.{side}"] - self._zero[f"lowerleg01.{side}"]
        left = np.array([1.0, 0.0, 0.0])
        own_left = self.orientation("root") @ left
        # The knee's axis is across both segments; where they are nearly in line it stays the body's own left.
        across = cross(shank, thigh)
        across = across if across @ across > 0.04 else own_left
        across = across * (np.sign(across @ own_left) or 1.0)
        self.orient(f"upperleg01.{side}", align(zero_thigh, left, thigh, across))
        self.orient(f"lowerleg01.{side}", align(zero_shank, left, shank, across))
        self.orient(f"foot.{side}", np.eye(3) if foot is None else foot)

    def reach(self, side: Side, wrist: Any, elbow_towards: Any) -> None:
        """Put the wrist at `wrist` (3,), metres relative to the body's origin, with the elbow to the given side.

        Raises
        ------
        Unreachable : the point is further away than the arm is long, or too close to the shoulder.
        """
        upper, fore, hand = (f"{bone}.{side}" for bone in ("upperarm01", "lowerarm01", "wrist"))
        zero_upper, zero_fore = self._zero[fore] - self._zero[upper], self._zero[hand] - self._zero[fore]
        shoulder = self.position(upper)
        elbow, hinge = _two_bones(hand, "shoulder", shoulder, wrist, elbow_towards, zero_upper, zero_fore)
        zero_hinge = cross(zero_upper, zero_fore)
        self.orient(upper, align(zero_upper, zero_hinge, elbow - shoulder, hinge))
        self.orient(fore, align(zero_fore, zero_hinge, np.asarray(wrist) - elbow, hinge))

    def hand(self, side: Side, fingers: Any, palm: Any) -> None:
        """Point the hand along `fingers` with the palm facing `palm`; the forearm takes its share of the turn."""
        fingers, palm = np.asarray(fingers, dtype=np.float64), np.asarray(palm, dtype=np.float64)
        wanted = align(*self.zero_hand(side), fingers, palm)
        forearm = self.orientation(f"lowerarm01.{side}")
        axis = unit(self._zero[f"wrist.{side}"] - self._zero[f"lowerarm01.{side}"])
        twist = twist_about(forearm.T @ wanted, axis)
        self.orient(f"lowerarm02.{side}", forearm @ turn(axis, FOREARM_TWIST * twist))
        self.orient(f"wrist.{side}", wanted)

    def curl(self, side: Side, degrees: float, finger_numbers: tuple[int, ...] = (2, 3, 4, 5)) -> None:
        """Bend fingers (2 index … 5 little) towards the palm, relative to the half relaxed zero pose."""
        _, palm = self.zero_hand(side)
        for finger in finger_numbers:
            tip, base = self._zero[f"finger{finger}-3.{side}"], self._zero[f"finger{finger}-1.{side}"]
            axis = cross(tip - base, palm)
            for segment, share in enumerate(CURL_SHARES, start=1):
                self.bend(f"finger{finger}-{segment}.{side}", axis, degrees * share)

    def zero_hand(self, side: Side) -> tuple[Vector, Vector]:
        """Unit vectors of the zero pose: along the hand, and out of the palm."""
        wrist, knuckle = self._zero[f"wrist.{side}"], self._zero[f"finger3-1.{side}"]
        across = self._zero[f"finger2-1.{side}"] - self._zero[f"finger5-1.{side}"]  # little finger to index
        along = unit(knuckle - wrist)
        # Left and right hands mirror each other, so the cross product has opposite signs on them.
        palm = cross(along, across) if side == "L" else cross(across, along)
        return along, unit(palm - along * (palm @ along))


def _two_bones(
    end: str, root: str, start: Vector, target: Any, middle_towards: Any, first_bone: Vector, second_bone: Vector
) -> tuple[Vector, Vector]:
    """Where the joint between two bones goes, and the axis about which the joint bends.

    `start` and `target` are where the chain begins and ends, metres; `root` and `end` name these places in the error.
    """
    first, second = np.linalg.norm(first_bone), np.linalg.norm(second_bone)
    line = np.asarray(target, dtype=np.float64) - start
    distance = np.linalg.norm(line)
    if distance > 0.999 * (first + second):
        raise Unreachable(f"is {distance:.3f} m from the {root}, the limb is {first + second:.3f} m long", end)
    if distance < abs(first - second) + 0.02:
        raise Unreachable(f"is only {distance:.3f} m from the {root}", end)
    direction = line / distance
    along = (first**2 - second**2 + distance**2) / (2 * distance)
    towards = np.asarray(middle_towards, dtype=np.float64)
    pole = unit(towards - direction * (towards @ direction))
    middle = start + along * direction + np.sqrt(np.maximum(first**2 - along**2, 0.0)) * pole
    return middle, cross(pole, direction)


def unit(vector: Any) -> Vector:
    """`vector` at length one."""
    array = np.asarray(vector, dtype=np.float64)
    return array / sqrt(array @ array)


def cross(first: Any, second: Any) -> Vector:
    """The cross product of two (3,) vectors; numpy's own takes fifty times as long on so little."""
    ax, ay, az = first
    bx, by, bz = second
    return np.array([ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx])


def turn(axis: Any, degrees: float) -> Matrix:
    """(3, 3) rotation about `axis` by an angle (right-hand rule)."""
    x, y, z = unit(axis)
    skew = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    angle = np.radians(degrees)
    rotation: Matrix = _IDENTITY + np.sin(angle) * skew + (1 - np.cos(angle)) * skew @ skew
    return rotation


def align(direction: Any, side: Any, new_direction: Any, new_side: Any) -> Matrix:
    """The rotation that takes `direction` onto `new_direction` and, as far as that allows, `side` onto `new_side`."""
    rotation: Matrix = basis(new_direction, new_side) @ basis(direction, side).T
    return rotation


def twist_about(rotation: Matrix, axis: Vector) -> float:
    """Degrees by which `rotation` turns about `axis` (the twist of its swing–twist decomposition), −180…180."""
    # Half the skew part of a rotation and its trace are the vector and scalar of its quaternion, up to one factor.
    vector = np.array(
        [rotation[2, 1] - rotation[1, 2], rotation[0, 2] - rotation[2, 0], rotation[1, 0] - rotation[0, 1]]
    )
    return float(np.degrees(2 * np.arctan2(vector @ axis, 1 + np.trace(rotation))))


def basis(direction: Any, side: Any) -> Matrix:
    """(3, 3) right-handed axes as columns: along `direction`, towards `side` square to it, and across both."""
    first = unit(direction)
    second = unit(np.asarray(side) - first * (first @ np.asarray(side)))
    return np.array([first, second, cross(first, second)]).T
