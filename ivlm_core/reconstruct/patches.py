"""From contact probabilities on a mesh to the few weighted points that a fit can use, in patches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ivlm_core.errors import InputError
from ivlm_core.reconstruct.surface import touched_surface

# Points nearer than this (metres) belong to one patch: the fingers and the thumb of one hand do, two hands do not.
PATCH_GAP = 0.06
# Points are chosen among this many samples of the surface; all samples count in the weights.
MOST_CANDIDATES = 4096

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ContactPoints:
    """Points of one surface that are in contact.

    Attributes
    ----------
    points : (n, 3) float64, metres (the person's: optical frame; the object's: its own frame).
    normals : (n, 3) float64, unit, outward.
    weights : (n,) float64 > 0 with sum 1: probability × area of the surface that the point stands for.
    clusters : (n,) int64, the patch of each point; 0 is the one with the greatest weight.

    Raises
    ------
    InputError : no points, other shapes, values that are not finite, or weights that are not positive with sum 1.
    """

    points: Floats
    normals: Floats
    weights: Floats
    clusters: NDArray[np.int64]

    def __post_init__(self) -> None:
        count = len(self.points)
        shapes = (self.points.shape, self.normals.shape, self.weights.shape, self.clusters.shape)
        if count == 0 or shapes != ((count, 3), (count, 3), (count,), (count,)):
            raise InputError("contact", f"has shapes {shapes}", "give (n, 3) points and normals, n ≥ 1")
        if not (np.isfinite(self.points).all() and np.isfinite(self.normals).all()):
            raise InputError("contact", "holds NaN or infinity", "give finite points and normals")
        if not (self.weights > 0).all() or abs(float(self.weights.sum()) - 1.0) > 1e-6:
            raise InputError("contact.weights", "are not positive with sum 1", "divide them by their sum")

    @property
    def patch_weights(self) -> Floats:
        """(p,) float64: the weight of each patch, greatest first."""
        weights: Floats = np.bincount(self.clusters, self.weights).astype(np.float64)
        return weights


def contact_points(
    vertices: Any, faces: Any, probability: Any, threshold: float = 0.5, most: int = 60
) -> ContactPoints | None:
    """Points spread evenly over the part of a surface where the probability reaches a threshold.

    Parameters
    ----------
    vertices : (V, 3) metres. faces : (F, 3) whole numbers, counter-clockwise seen from outside.
    probability : (V,) in [0, 1], interpolated over the faces.
    threshold : above 0, at most 1. most : points at most; small patches have as few as the surface there gives.

    Returns
    -------
    The points, always the same for the same input; None where no face with an area has a vertex that reaches the
    threshold.

    Raises
    ------
    InputError : shapes that do not fit, values that are not finite, a probability outside [0, 1], a threshold that is
        not above 0 and at most 1, or no points asked for.
    """
    if most < 1:
        raise InputError("contact", f"is asked for {most} points", "ask for one or more")
    touched = touched_surface(vertices, faces, probability, threshold)
    if not len(touched.points):
        return None
    weights = touched.values * touched.areas
    chosen, nearest, reach = _spread(touched.points, weights, most)
    summed = np.bincount(nearest, weights, minlength=len(chosen)).astype(np.float64)
    points = touched.points[chosen]
    summed /= summed.sum()
    return ContactPoints(
        points, touched.normals[chosen], summed, patch_numbers(points, summed, max(PATCH_GAP, 2.5 * reach))
    )


def patch_numbers(points: Floats, weights: Floats, gap: float = PATCH_GAP) -> NDArray[np.int64]:
    """(n,) int64: numbers of the patches that points (n, 3) form; patches are `gap` metres or more apart.

    Numbers count from 0 in falling order of the patches' weight.
    """
    from scipy.sparse import csr_matrix
    from scipy.sparse.csgraph import connected_components
    from scipy.spatial.distance import cdist

    _, patch = connected_components(csr_matrix(cdist(points, points) < gap), directed=False)
    heaviest_first = np.argsort(-np.bincount(patch, weights), kind="stable")
    numbers: NDArray[np.int64] = np.argsort(heaviest_first)[patch].astype(np.int64)
    return numbers


def _spread(points: Floats, weights: Floats, most: int) -> tuple[NDArray[np.int64], NDArray[np.int64], float]:
    """Farthest-point sampling that starts near the weighted middle.

    Returns
    -------
    Indices of the chosen points (k,), for every point which chosen one is nearest (n,), and the farthest that a point
    is from its chosen one, metres.
    """
    from scipy.spatial import cKDTree

    if len(points) <= most:
        every = np.arange(len(points))
        return every, every, 0.0
    candidates = np.arange(0, len(points), -(-len(points) // MOST_CANDIDATES))
    places = points[candidates]
    middle = np.average(points, axis=0, weights=weights)
    chosen = [int(np.argmin(((places - middle) ** 2).sum(axis=1)))]
    apart = ((places - places[chosen[0]]) ** 2).sum(axis=1)
    while len(chosen) < min(most, len(candidates)) and apart.max() > 0:
        chosen.append(int(np.argmax(apart)))
        apart = np.minimum(apart, ((places - places[chosen[-1]]) ** 2).sum(axis=1))
    selected = candidates[np.sort(chosen)]
    distance, nearest = cKDTree(points[selected]).query(points)
    return selected, np.asarray(nearest, dtype=np.int64), float(distance.max())
