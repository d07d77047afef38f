"""Where things stand on the page: canonical meshes in a row, the fitted scene beside them, and the camera before all.

The page's axes: x right, y up, z towards whoever looks; metres, the ground at y = 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

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
# Half the room that a scene's camera and its picture take.
CAMERA_METRES = 0.3
# How much room is left around everything, and how often the view is centred.
FRAME, CENTRING_STEPS = 1.05, 6
# Which way the page's camera is from what it looks at.
FROM = np.array([0.0, 0.14, 1.0])
# Half a turn about x, from optical axes (y down, z forward) to the page's.
FROM_OPTICAL = np.diag([1.0, -1.0, -1.0])


@dataclass(frozen=True, eq=False)
class Stand:
    """Where something stands: `x_page = scale · rotation @ x + position`.

    Attributes
    ----------
    low, high : (3,) each, the box that is kept free for it. extent : (P, 3) points around what is seen of it.
    """

    rotation: Vector
    position: Vector
    scale: float
    low: Vector
    high: Vector
    extent: Vector

    def moved(self, x: float, y: float) -> Stand:
        """The same, further to the right and up, metres."""
        step = np.array([x, y, 0.0])
        return Stand(
            self.rotation, self.position + step, self.scale, self.low + step, self.high + step, self.extent + step
        )


@dataclass(frozen=True, eq=False)
class Reach:
    """Boxes in turned optical axes: around people and objects, and around these and the camera."""

    low: Vector
    high: Vector

    def joined(self, other: Reach) -> Reach:
        """Around both."""
        return Reach(np.minimum(self.low, other.low), np.maximum(self.high, other.high))


def stand_body(mesh: Mesh, back: bool = False) -> Stand:
    """A canonical body, seen from the front or from the back."""
    return _standing(mesh, about_y(BODY_TURN + 180.0 if back else BODY_TURN), 1.0)


def stand_thing(mesh: Mesh, back: bool = False) -> Stand:
    """An object in the size that all objects are shown in, seen from the front or from the back.

    All get the same room, so that nothing else moves when another object is chosen.
    """
    side = float(np.ptp(mesh.vertices, axis=0).max())
    stand = _standing(mesh, about_y(THING_TURN + 180.0 if back else THING_TURN), THING_SIDE / max(side, 1e-6))
    room = np.full(3, THING_SIDE / 2)
    return replace(stand, low=-room, high=room, extent=_corners(-room, room))


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


def scene_reach(moment: Moment) -> Reach | None:
    """Around all people and placed objects of a moment; None where there are none."""
    points = scene_points(moment)
    if not len(points):
        return None
    turned = points.astype(np.float64) @ _scene_rotation().T
    return Reach(turned.min(axis=0), turned.max(axis=0))


def stand_scene(reach: Reach) -> Stand:
    """A scene of some reach and its camera, which is at the origin."""
    around_camera = np.full(3, CAMERA_METRES)
    low, high = np.minimum(reach.low, -around_camera), np.maximum(reach.high, around_camera)
    extent = np.concatenate([_corners(reach.low, reach.high), _corners(-around_camera, around_camera)])
    move = -(low + high) / 2
    return Stand(_scene_rotation(), move, 1.0, low + move, high + move, extent + move)


def scene_points(moment: Moment) -> FloatArray:
    """(P, 3) metres, in the optical frame: the vertices of all people and placed objects."""
    groups = [person.mesh.vertices for person in moment.people]
    for answer in moment.answers.values():
        place, mesh = answer.placement, answer.placed_mesh
        if place is not None and mesh is not None:
            groups.append((place.scale * mesh.vertices @ place.rotation.T + place.translation).astype(np.float32))
    return np.concatenate(groups) if groups else np.zeros((0, 3), np.float32)


def view_of(points: Vector, fov: float, aspect: float) -> tuple[Vector, Vector]:
    """Where a camera must be to see all points, as large as they can be, and the point that it looks at.

    Parameters
    ----------
    points : (P, 3). fov : vertical angle of view, radians. aspect : width by height.
    """
    back = FROM / np.linalg.norm(FROM)
    right = np.cross([0.0, 1.0, 0.0], back)
    right /= np.linalg.norm(right)
    up = np.cross(back, right)
    tall = np.tan(fov / 2)
    middle = (points.min(axis=0) + points.max(axis=0)) / 2
    # What is near looks larger, so that the middle of all is not the middle of the picture: found in a few steps.
    for step in range(CENTRING_STEPS + 1):
        x, y, z = ((points - middle) @ axis for axis in (right, up, back))
        # A point at (x, y) beside the axis, z in front of the middle, is inside from |x| / tan + z on.
        distance = FRAME * float((np.maximum(np.abs(x) / aspect, np.abs(y)) / tall + z).max())
        if step == CENTRING_STEPS:
            break
        depth = distance - z
        for axis, across in ((right, x / depth), (up, y / depth)):
            middle = middle + distance * (across.min() + across.max()) / 2 * axis
    return middle + distance * back, middle


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
    points = scale * mesh.vertices.astype(np.float64) @ rotation.T
    low, high = points.min(axis=0), points.max(axis=0)
    move = -(low + high) / 2
    return Stand(rotation, move, scale, low + move, high + move, _corners(low + move, high + move))


def _scene_rotation() -> Vector:
    return about_y(SCENE_TURN) @ FROM_OPTICAL


def _corners(low: Vector, high: Vector) -> Vector:
    """(8, 3) of a box."""
    return np.array([[x, y, z] for x in (low[0], high[0]) for y in (low[1], high[1]) for z in (low[2], high[2])])


def _size(stand: Stand) -> Vector:
    return stand.high - stand.low


def _width(column: Sequence[Stand]) -> float:
    return max(float(_size(stand)[0]) for stand in column)


def _height(column: Sequence[Stand]) -> float:
    return sum(float(_size(stand)[1]) for stand in column) + GAP_ABOVE * (len(column) - 1)
