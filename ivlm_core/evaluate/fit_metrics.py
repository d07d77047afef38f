"""How far a fitted object is from where it is: the figures of the reconstruction's evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ivlm_core.evaluate.symmetry import Symmetry, surface_points
from ivlm_core.types import Mesh

SURFACE_POINTS = 2000
SUCCESS_CM = 5.0

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Placed:
    """An object in front of the camera: `x_camera = scale · rotation @ X + translation`, metres, X on `mesh`."""

    mesh: Mesh
    rotation: Floats
    translation: Floats
    scale: float

    @property
    def vertices(self) -> Floats:
        """(N, 3) float64, metres, optical frame."""
        turned: Floats = self.scale * self.mesh.vertices.astype(np.float64) @ self.rotation.T + self.translation
        return turned

    @property
    def middle(self) -> Floats:
        """(3,) metres: where the middle of the mesh's bounding box is."""
        centre = (self.mesh.vertices.max(axis=0).astype(np.float64) + self.mesh.vertices.min(axis=0)) / 2
        placed: Floats = self.scale * self.rotation @ centre + self.translation
        return placed

    @property
    def size(self) -> float:
        """Metres: the diagonal of the mesh's bounding box, scaled."""
        return self.scale * float(np.linalg.norm(np.ptp(self.mesh.vertices.astype(np.float64), axis=0)))


@dataclass(frozen=True)
class FitScores:
    """One fit; NaN where there is nothing to measure.

    Attributes
    ----------
    chamfer_cm : mean of both directions' mean distance between surface samples.
    rotation_deg : modulo the object's symmetry. translation_cm : between the middles of the bounding boxes.
    scale_error : |size / true size − 1|. penetration_cm : greatest depth of a body vertex inside the object.
    mask_iou : of the object's visible pixels. valid : whether a pose was given at all. seconds : the fit took.
    """

    chamfer_cm: float
    rotation_deg: float
    translation_cm: float
    scale_error: float
    penetration_cm: float
    mask_iou: float
    valid: bool
    seconds: float

    @property
    def success(self) -> bool:
        return self.valid and self.chamfer_cm < SUCCESS_CM


def chamfer_cm(first: Any, second: Any) -> float:
    """Centimetres: mean of the mean nearest distances from points (n, 3) to points (m, 3) and back, in metres given."""
    from scipy.spatial import cKDTree

    first, second = np.asarray(first, np.float64), np.asarray(second, np.float64)
    there, back = cKDTree(second).query(first)[0].mean(), cKDTree(first).query(second)[0].mean()
    return 50.0 * float(there + back)


def fit_errors(found: Placed, true: Placed, symmetry: Symmetry) -> dict[str, float]:
    """`chamfer_cm`, `rotation_deg`, `translation_cm` and `scale_error` of a pose, as in `FitScores`."""
    clouds = [surface_points(item.vertices, item.mesh.faces, SURFACE_POINTS) for item in (found, true)]
    return {
        "chamfer_cm": chamfer_cm(*clouds),
        "rotation_deg": symmetry.angle(found.rotation, true.rotation),
        "translation_cm": 100.0 * float(np.linalg.norm(found.middle - true.middle)),
        "scale_error": abs(found.size / true.size - 1.0),
    }


def summarize_fits(scores: Sequence[FitScores]) -> dict[str, float | int | None]:
    """Means over the fits with a pose; `success_5cm` and `valid` over all of them.

    Returns
    -------
    The figures of `FitScores` by name, `chamfer_median_cm`, `success_5cm`, `seconds_per_object`, `valid`, `objects`;
    None where nothing could be measured.
    """
    given = [item for item in scores if item.valid]

    def mean(name: str) -> float | None:
        values = np.array([getattr(item, name) for item in given], dtype=np.float64)
        return float(np.nanmean(values)) if np.isfinite(values).any() else None

    names = ("chamfer_cm", "rotation_deg", "translation_cm", "scale_error", "penetration_cm", "mask_iou")
    return {
        **{name: mean(name) for name in names},
        "chamfer_median_cm": float(np.median([item.chamfer_cm for item in given])) if given else None,
        "success_5cm": float(np.mean([item.success for item in scores])) if scores else None,
        "seconds_per_object": float(np.mean([item.seconds for item in scores])) if scores else None,
        "valid": len(given) / len(scores) if scores else None,
        "objects": len(scores),
    }
