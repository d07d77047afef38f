"""Where things stand on the page: canonical meshes in a row, the fitted scene beside them, and the camera before all.

The page's axes: x right, y up, z towards whoever looks; metres, the ground at y = 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ivlm_core.types import FloatArray, Mesh
from ivlm_core.view.moments import Moment

Vector = NDArray[np.float64]

# Between neighbours in the row, metres.
GAP = 0.35
# Objects of any size are shown with this longest side, metres; a cell phone beside a person would be a dot.
THING_SIDE = 1.15
THING_MIDDLE = 0.9
# Degrees about the vertical axis: objects show three sides; the scene is seen from beside its camera.
THING_TURN, SCENE_TURN = -30.0, -58.0
# Which way the page's camera is from what it looks at.
FROM = np.array([0.10, 0.22, 1.0])
# Half a turn about x, from optical axes (y down, z forward) to the page's.
FROM_OPTICAL = np.diag([1.0, -1.0, -1.0])


@dataclass(frozen=True, eq=False)
class Stand:
    """Where a mesh stands: `x_page = scale · rotation @ x + position`; `low`, `high`: its bounding box there."""

    rotation: Vector
    position: Vector
    scale: float
    low: Vector
    high: Vector

    def moved(self, x: float) -> Stand:
        """The same, x metres further to the right."""
        step = np.array([x, 0.0, 0.0])
        return Stand(self.rotation, self.position + step, self.scale, self.low + step, self.high + step)


def stand_body(mesh: Mesh, back: bool = False) -> Stand:
    """A canonical body with its feet on the ground, facing the page's camera or away from it."""
    return _standing(mesh, about_y(180.0 if back else 0.0), 1.0, None)


def stand_thing(mesh: Mesh) -> Stand:
    """An object in the size that all objects are shown in, its middle at chest height."""
    side = float(np.ptp(mesh.vertices, axis=0).max())
    return _standing(mesh, about_y(THING_TURN), THING_SIDE / max(side, 1e-6), THING_MIDDLE)


def in_a_row(stands: Sequence[Stand]) -> list[Stand]:
    """Next to one another from left to right, the middle of the row at x = 0."""
    placed, x = [], 0.0
    for stand in stands:
        placed.append(stand.moved(x - float(stand.low[0])))
        x += float(stand.high[0] - stand.low[0]) + GAP
    return [stand.moved(-(x - GAP) / 2) for stand in placed]


def stand_scene(moment: Moment) -> Stand | None:
    """The scene of a moment, its lowest point on the ground; None where nothing of it can be placed."""
    points = scene_points(moment)
    if not len(points):
        return None
    rotation = about_y(SCENE_TURN) @ FROM_OPTICAL
    # The camera belongs to the scene and stands at its origin.
    turned = np.vstack([points.astype(np.float64) @ rotation.T, np.zeros(3)])
    lift = np.array([0.0, -float(turned[:-1, 1].min()), 0.0])
    return Stand(rotation, lift, 1.0, turned.min(axis=0) + lift, turned.max(axis=0) + lift)


def scene_points(moment: Moment) -> FloatArray:
    """(P, 3) metres, in the optical frame: the vertices of all people and placed objects."""
    groups = [person.mesh.vertices for person in moment.people]
    for answer in moment.answers.values():
        place, mesh = answer.placement, answer.placed_mesh
        if place is not None and mesh is not None:
            groups.append((place.scale * mesh.vertices @ place.rotation.T + place.translation).astype(np.float32))
    return np.concatenate(groups) if groups else np.zeros((0, 3), np.float32)


def view_of(low: Vector, high: Vector, fov: float, aspect: float) -> tuple[Vector, Vector]:
    """Where a camera must be to see a box, and the middle that it looks at.

    Parameters
    ----------
    low, high : (3,) of the box. fov : vertical angle of view, radians. aspect : width by height.
    """
    middle = (low + high) / 2
    back = FROM / np.linalg.norm(FROM)
    right = np.cross([0.0, 1.0, 0.0], back)
    right /= np.linalg.norm(right)
    up = np.cross(back, right)
    corners = np.array([[x, y, z] for x in (low[0], high[0]) for y in (low[1], high[1]) for z in (low[2], high[2])])
    from_middle = corners - middle
    tall = np.tan(fov / 2)
    # A corner at (x, y) beside the axis, z in front of the middle, is inside from |x| / tan + z on.
    needed = max(
        float((np.abs(from_middle @ right) / (tall * aspect) + from_middle @ back).max()),
        float((np.abs(from_middle @ up) / tall + from_middle @ back).max()),
    )
    return middle + 1.06 * needed * back, middle


def about_y(degrees: float) -> Vector:
    """(3, 3) rotation about the vertical axis, counter-clockwise seen from above."""
    angle = np.radians(degrees)
    return np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])


def quaternion(rotation: Vector) -> Vector:
    """(4,) w, x, y, z of a rotation matrix."""
    from scipy.spatial.transform import Rotation

    x, y, z, w = Rotation.from_matrix(rotation).as_quat()
    return np.array([w, x, y, z])


def _standing(mesh: Mesh, rotation: Vector, scale: float, middle: float | None) -> Stand:
    turned = scale * mesh.vertices.astype(np.float64) @ rotation.T
    low, high = turned.min(axis=0), turned.max(axis=0)
    height = -low[1] if middle is None else middle - (low[1] + high[1]) / 2
    move = np.array([-(low[0] + high[0]) / 2, height, -(low[2] + high[2]) / 2])
    return Stand(rotation, move, scale, low + move, high + move)
