"""Rotations that leave an object as it is, found on its mesh, and rotation errors that forgive them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ivlm_core.types import Mesh

# A rotation is a symmetry when the surface moves by less than this share of the longest side, on average.
TOLERANCE = 0.02
STEP_DEGREES = 15
SAMPLES = 1500

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Symmetry:
    """The symmetries of one object about the middle of its bounding box.

    Attributes
    ----------
    rotations : (S, 3, 3) float64 single rotations, the identity first.
    axes : (A, 3) unit axes about which every angle is a symmetry; two or more of them mean a ball.
    """

    rotations: Floats
    axes: Floats

    @classmethod
    def of(cls, mesh: Mesh) -> Symmetry:
        """Tried: turns about x, y and z in steps of 15°, and the 24 turns of a cube."""
        from scipy.spatial import cKDTree
        from scipy.spatial.transform import Rotation

        points = _surface_points(mesh)
        middle = (mesh.vertices.max(axis=0) + mesh.vertices.min(axis=0)) / 2.0
        points = points - middle
        side = float(np.ptp(mesh.vertices, axis=0).max())
        tree = cKDTree(points)
        own = float(tree.query(points, k=2)[0][:, 1].mean())

        def holds(rotation: Floats) -> bool:
            # Two samplings of one surface are as far apart as its samples are from each other, about.
            return float(tree.query(points @ rotation.T)[0].mean()) < TOLERANCE * side + 0.6 * own

        steps = np.deg2rad(np.arange(STEP_DEGREES, 360, STEP_DEGREES))
        axes = []
        for axis in np.eye(3):
            turns = Rotation.from_rotvec(steps[:, None] * axis).as_matrix()
            if all(holds(turn) for turn in turns):
                axes.append(axis)
        cube = Rotation.create_group("O").as_matrix()
        kept = [np.eye(3)] + [turn for turn in cube if not np.allclose(turn, np.eye(3)) and holds(turn)]
        return cls(np.stack(kept), np.array(axes).reshape(-1, 3))

    def angle(self, first: Any, second: Any) -> float:
        """Degrees between two orientations (3, 3) of the object, the smallest that a symmetry allows."""
        if len(self.axes) > 1:
            return 0.0
        first, second = np.asarray(first, np.float64), np.asarray(second, np.float64)
        turned = second @ self.rotations  # (S, 3, 3)
        if len(self.axes) == 1:
            cosine = (turned @ self.axes[0]) @ (first @ self.axes[0])
            return float(np.degrees(np.arccos(np.clip(cosine, -1, 1)).min()))
        trace = np.einsum("ij,sij->s", first, turned)
        return float(np.degrees(np.arccos(np.clip((trace - 1) / 2, -1, 1)).min()))


def surface_points(vertices: Any, faces: Any, count: int, seed: int = 0) -> Floats:
    """(count, 3) points spread over a surface, the same for the same seed."""
    corners = np.asarray(vertices, np.float64)[np.asarray(faces)]
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    if area.sum() <= 0:
        return np.repeat(corners.reshape(-1, 3)[:1], count, axis=0)
    random = np.random.default_rng(seed)
    # Evenly along the running sum of areas: fewer gaps than independent draws leave.
    place = (np.arange(count) + random.random(count)) / count
    chosen = np.minimum(np.searchsorted(np.cumsum(area) / area.sum(), place), len(area) - 1)
    a, b = random.random((2, count, 1))
    a, b = np.where(a + b > 1, 1 - a, a), np.where(a + b > 1, 1 - b, b)
    triangle = corners[chosen]
    points: Floats = triangle[:, 0] + a * (triangle[:, 1] - triangle[:, 0]) + b * (triangle[:, 2] - triangle[:, 0])
    return points


def _surface_points(mesh: Mesh) -> Floats:
    return surface_points(mesh.vertices, mesh.faces, SAMPLES)
