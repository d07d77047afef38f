"""`BodyModel`: a canonical body mesh with its parts, and the score of a part under a contact probability."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ivlm_core.bodies.parts import PART_NAMES
from ivlm_core.errors import InputError
from ivlm_core.types import FloatArray, Mesh

# A part is in contact when a tenth of it is (the rule of the DAMON annotations).
CONTACT_SHARE = 0.1


@dataclass(frozen=True, eq=False)
class BodyModel:
    """One body topology in its canonical star pose.

    Attributes
    ----------
    name : `anny`, `smpl`, `smplh` or `smplx`.
    mesh : V vertices in metres, y up, facing +z, +x towards the body's own left, origin at the model's own.
    part_labels : (V,) uint8 index into `PART_NAMES`.
    vertex_area : (V,) float32, m²: a third of the area of the faces around each vertex.
    """

    name: str
    mesh: Mesh
    part_labels: NDArray[np.uint8]
    vertex_area: FloatArray

    @classmethod
    def from_mesh(cls, name: str, mesh: Mesh, part_labels: NDArray[np.uint8]) -> BodyModel:
        """The body with its vertex areas measured on `mesh`."""
        labels = np.array(part_labels, dtype=np.uint8)
        area = _vertex_areas(mesh)
        labels.flags.writeable = area.flags.writeable = False
        return cls(name, mesh, labels, area)

    def part_scores(self, probability: NDArray[Any]) -> dict[str, float]:
        """Score of every part: the highest probability that at least a tenth of the part's area reaches.

        `score >= t` therefore says exactly that the part is in contact at threshold `t`.

        Parameters
        ----------
        probability : (V,) in [0, 1], contact per vertex.

        Returns
        -------
        The 15 names of `PART_NAMES`, in their order, each with a score in [0, 1]; 0 for a part without area.

        Raises
        ------
        InputError : `probability` has another length than the body.
        """
        values = np.asarray(probability)
        if values.shape != self.part_labels.shape:
            raise InputError(
                "probability",
                f"has shape {values.shape}",
                f"give one value for each of the {len(self.part_labels)} vertices of body model {self.name!r}",
            )
        scores = {}
        for name, vertices, area, needed in self._parts:
            if len(vertices) == 0:
                scores[name] = 0.0
                continue
            of_part = values[vertices]
            order = np.argsort(-of_part)
            last = min(int(np.searchsorted(np.cumsum(area[order]), needed)), len(order) - 1)
            scores[name] = float(of_part[order[last]])
        return scores

    @cached_property
    def _parts(self) -> tuple[tuple[str, NDArray[np.intp], NDArray[np.float64], float], ...]:
        """Name, vertices, their areas and the area in contact that makes the part count as touched."""
        parts = []
        for index, name in enumerate(PART_NAMES):
            vertices = np.flatnonzero((self.part_labels == index) & (self.vertex_area > 0))
            area = self.vertex_area[vertices].astype(np.float64)
            # Exactly a tenth counts; without the slack the rounding of the running sum would decide such ties.
            parts.append((name, vertices, area, CONTACT_SHARE * float(area.sum()) * (1 - 1e-9)))
        return tuple(parts)


def _vertex_areas(mesh: Mesh) -> FloatArray:
    corners = mesh.vertices[mesh.faces].astype(np.float64)  # (F, 3, 3)
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    third = np.linalg.norm(normals, axis=1) / 6
    area: FloatArray = np.bincount(
        mesh.faces.ravel(), weights=np.repeat(third, 3), minlength=len(mesh.vertices)
    ).astype(np.float32)
    return area
