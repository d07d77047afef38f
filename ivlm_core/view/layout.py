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

# Between neighbours, metres: beside one another, and above one another with a title between them.
GAP, GAP_ABOVE = 0.3, 0.28
# Objects of any size are shown with this longest side, metres; a cell phone beside a person would be a dot.
THING_SIDE = 0.9
# Degrees about the vertical axis. Everything is turned a little, because depth shows better from aside; the scene is
# turned so far that its camera does not hide it.
BODY_TURN, THING_TURN, SCENE_TURN = 28.0, -30.0, -60.0
# Which way the page's camera is from what it looks at.
FROM = np.array([0.0, 0.14, 1.0])
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

    def moved(self, x: float, y: float) -> Stand:
        """The same, further to the right and up, metres."""
        step = np.array([x, y, 0.0])
        return Stand(self.rotation, self.position + step, self.scale, self.low + step, self.high + step)


def stand_body(mesh: Mesh, back: bool = False) -> Stand:
    """A canonical body, seen from the front or from the back."""
    return _standing(mesh, about_y(BODY_TURN + 180.0 if back else BODY_TURN), 1.0)


def stand_thing(mesh: Mesh, back: bool = False) -> Stand:
    """An object in the size that all objects are shown in, seen from the front or from the back."""
    side = float(np.ptp(mesh.vertices, axis=0).max())
    return _standing(mesh, about_y(THING_TURN + 180.0 if back else THING_TURN), THING_SIDE / max(side, 1e-6))


def in_rows(rows: Sequence[Sequence[Sequence[Stand]]]) -> list[Stand]:
    """Rows of columns from the top to the bottom, the lowest on the ground, their middles at x = 0; flat, in order."""
    placed: list[list[Stand]] = []
    y = 0.0
    for row in reversed([row for row in rows if any(row)]):
        columns = [column for column in row if column]
        width = sum(_width(column) for column in columns) + GAP * (len(columns) - 1)
        height = max(_height(column) for column in columns)
        here: list[Stand] = []
        x = -width / 2
        for column in columns:
            # The columns of a row stand with their middles at one height.
            top = y + (height + _height(column)) / 2
            for stand in column:
                top -= _size(stand)[1]
                aside = x + (_width(column) - _size(stand)[0]) / 2
                here.append(stand.moved(aside - float(stand.low[0]), top - float(stand.low[1])))
                top -= GAP_ABOVE
            x += _width(column) + GAP
        placed.insert(0, here)
        y += height + GAP_ABOVE
    return [stand for row in placed for stand in row]


def stand_scene(moment: Moment) -> Stand | None:
    """The scene of a moment and its camera; None where nothing of it can be placed."""
    points = scene_points(moment)
    if not len(points):
        return None
    rotation = about_y(SCENE_TURN) @ FROM_OPTICAL
    # The camera belongs to the scene; it is at the origin.
    turned = np.vstack([points.astype(np.float64) @ rotation.T, np.zeros(3)])
    return _centred(turned, rotation, 1.0)


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


def _standing(mesh: Mesh, rotation: Vector, scale: float) -> Stand:
    return _centred(scale * mesh.vertices.astype(np.float64) @ rotation.T, rotation, scale)


def _centred(points: Vector, rotation: Vector, scale: float) -> Stand:
    low, high = points.min(axis=0), points.max(axis=0)
    move = -(low + high) / 2
    return Stand(rotation, move, scale, low + move, high + move)


def _size(stand: Stand) -> Vector:
    return stand.high - stand.low


def _width(column: Sequence[Stand]) -> float:
    return max(float(_size(stand)[0]) for stand in column)


def _height(column: Sequence[Stand]) -> float:
    return sum(float(_size(stand)[1]) for stand in column) + GAP_ABOVE * (len(column) - 1)
