"""The canonical star pose of the Anny skeleton, by giving every limb segment a direction.

In Anny's `local-ref` parameterisation a bone's delta D turns about the axes of the world as seen in the zero pose,
inside its parent's frame. With G the rotation of a bone from its zero-pose to its posed orientation this reads
`G_child = G_parent · D`, so a wanted orientation is reached with `D = G_parentᵀ · G_child`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

LEG_SPREAD_DEGREES = 30.0

_Vector = NDArray[np.float64]
_Matrix = NDArray[np.float64]


def star_pose_rotations(joint_names: Sequence[str], parents: Sequence[int], joints: NDArray[Any]) -> dict[str, _Matrix]:
    """Deltas that take the zero pose to the star pose: arms level, elbows straight, palms down, legs 30° apart each.

    Parameters
    ----------
    joint_names, parents : the B bones of the `anny` rig, parents first, −1 for the root.
    joints : (B, 3) zero-pose bone heads in metres, y up, facing +z, +x towards the body's own left.

    Returns
    -------
    Bone name → (3, 3) rotation about the canonical axes, for the bones that turn; feed it to `AnnyRig.pose`.
    """
    at = {name: np.asarray(joint, dtype=np.float64) for name, joint in zip(joint_names, joints, strict=True)}
    orientations: dict[str, _Matrix] = {}
    for side, outward in (("L", 1.0), ("R", -1.0)):
        orientations |= _arm(at, side, outward) | _leg(at, side, outward)
    return local_deltas(joint_names, parents, orientations)


def local_deltas(
    joint_names: Sequence[str], parents: Sequence[int], orientations: Mapping[str, _Matrix]
) -> dict[str, _Matrix]:
    """Turn orientations relative to the zero pose (G) into `local-ref` deltas (D); bones not named follow their parent.

    Parameters
    ----------
    orientations : bone name → (3, 3) rotation from its zero-pose to its posed orientation.

    Returns
    -------
    The same bone names → (3, 3) deltas.
    """
    reached: list[_Matrix] = []
    deltas = {}
    for name, parent in zip(joint_names, parents, strict=True):
        inherited = reached[parent] if parent >= 0 else np.eye(3)
        reached.append(orientations.get(name, inherited))
        if name in orientations:
            deltas[name] = inherited.T @ orientations[name]
    return deltas


def _arm(at: Mapping[str, _Vector], side: str, outward: float) -> dict[str, _Matrix]:
    shoulder, elbow, wrist = (at[f"{bone}.{side}"] for bone in ("upperarm01", "lowerarm01", "wrist"))
    knuckle, index, little = (at[f"finger{finger}-1.{side}"] for finger in (3, 2, 5))
    out = np.array([outward, 0.0, 0.0])
    # The zero-pose elbow is bent, so its hinge is well defined; in the star pose bending it brings the hand forward.
    hinge = np.cross(elbow - shoulder, wrist - elbow)
    hinge_target = np.array([0.0, -outward, 0.0])
    # Palms face down when the fingers point outwards and the index finger lies in front of the little finger.
    forward = np.array([0.0, 0.0, 1.0])
    return {
        f"upperarm01.{side}": _turn(elbow - shoulder, hinge, out, hinge_target),
        f"lowerarm01.{side}": _turn(wrist - elbow, hinge, out, hinge_target),
        f"wrist.{side}": _turn(knuckle - wrist, index - little, out, forward),
    }


def _leg(at: Mapping[str, _Vector], side: str, outward: float) -> dict[str, _Matrix]:
    hip, knee, ankle = (at[f"{bone}.{side}"] for bone in ("upperleg01", "lowerleg01", "foot"))
    angle = outward * np.radians(LEG_SPREAD_DEGREES)
    spread = np.array([[np.cos(angle), -np.sin(angle), 0.0], [np.sin(angle), np.cos(angle), 0.0], [0.0, 0.0, 1.0]])
    down, left = np.array([0.0, -1.0, 0.0]), np.array([1.0, 0.0, 0.0])
    return {
        f"upperleg01.{side}": _turn(knee - hip, left, spread @ down, spread @ left),
        f"lowerleg01.{side}": _turn(ankle - knee, left, spread @ down, spread @ left),
        # The foot keeps its level zero-pose angle to the vertical leg, and turns out with the leg as one piece.
        f"foot.{side}": spread,
    }


def _turn(direction: _Vector, hinge: _Vector, direction_target: _Vector, hinge_target: _Vector) -> _Matrix:
    """The rotation that takes `direction` onto its target and the part of `hinge` across it onto its target."""
    rotation: _Matrix = _frame(direction_target, hinge_target) @ _frame(direction, hinge).T
    return rotation


def _frame(direction: _Vector, hinge: _Vector) -> _Matrix:
    first = direction / np.linalg.norm(direction)
    second = hinge - first * (first @ hinge)
    second = second / np.linalg.norm(second)
    return np.stack([first, second, np.cross(first, second)], axis=1)
