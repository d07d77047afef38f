"""Evenly spaced samples of a triangle surface, so that coarse and fine meshes of one shape count alike."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ivlm_core.errors import InputError

# Metres between neighbouring samples, and how many there are at most, whatever the size of the mesh.
SPACING = 0.015
MOST_SAMPLES = 60_000
# A mean of unit normals that is shorter than this has no direction.
CANCELLED = 0.05

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class SurfaceSamples:
    """Points of a surface, each standing for the small piece of its face around it.

    Attributes
    ----------
    points : (n, 3) float64, metres. normals : (n, 3) float64, unit, outward as the faces are wound.
    areas : (n,) float64 > 0, square metres; the areas of a face's samples add up to the face's.
    values : (n,) float64: the vertices' values, interpolated. faces : (n,) int64, the face of each sample.
    """

    points: Floats
    normals: Floats
    areas: Floats
    values: Floats
    faces: NDArray[np.int64]

    def where(self, chosen: NDArray[np.bool_]) -> SurfaceSamples:
        """Those samples for which `chosen` (n,) is true."""
        return SurfaceSamples(
            self.points[chosen], self.normals[chosen], self.areas[chosen], self.values[chosen], self.faces[chosen]
        )

    def mean_normal(self) -> Floats:
        """(3,) float64: the area-weighted mean of the normals, unit; zero where they cancel out."""
        mean = self.areas @ self.normals / max(float(self.areas.sum()), 1e-30)
        length = float(np.linalg.norm(mean))
        return mean / length if length > CANCELLED else np.zeros(3)


def surface_samples(
    vertices: Any, faces: Any, values: Any, least: float, spacing: float = SPACING, most: int = MOST_SAMPLES
) -> SurfaceSamples:
    """Sample the faces that have a corner whose value is `least` or more.

    Faces are cut into equal triangles with sides of at most `spacing` (more where `most` samples would not do); the
    samples are the middles. Faces without area have none.

    Parameters
    ----------
    vertices : (V, 3) metres. faces : (F, 3) whole numbers. values : (V,), one per vertex.

    Raises
    ------
    InputError : shapes that do not fit, values or vertices that are not finite, or faces beyond the vertices.
    """
    vertices, faces, values = check_surface(vertices, faces, values)
    chosen = np.flatnonzero((values[faces] >= least).any(axis=1))
    corners = vertices[faces[chosen]]  # (n, 3 corners, 3)
    cross = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    doubled = np.linalg.norm(cross, axis=1)
    solid = doubled > 0
    chosen, corners, cross, doubled = chosen[solid], corners[solid], cross[solid], doubled[solid]
    sides = np.linalg.norm(corners - np.roll(corners, 1, axis=1), axis=2).max(axis=1)
    cuts = _cuts(sides / spacing, most)

    order, weights, owner = [], [], []
    for cut in np.unique(cuts):
        members = np.flatnonzero(cuts == cut)
        middles = _middles(int(cut))
        order.append(np.repeat(members, len(middles)))
        weights.append(np.tile(middles, (len(members), 1)))
        owner.append(np.full(len(members) * len(middles), cut))
    if not order:
        empty = np.zeros((0, 3))
        return SurfaceSamples(empty, empty, np.zeros(0), np.zeros(0), np.zeros(0, np.int64))
    face, barycentric, cut_of = np.concatenate(order), np.concatenate(weights), np.concatenate(owner)
    sorting = np.argsort(face, kind="stable")
    face, barycentric, cut_of = face[sorting], barycentric[sorting], cut_of[sorting]
    return SurfaceSamples(
        np.einsum("nc,ncx->nx", barycentric, corners[face]),
        (cross / doubled[:, None])[face],
        0.5 * doubled[face] / cut_of.astype(np.float64) ** 2,
        np.einsum("nc,nc->n", barycentric, values[faces[chosen]][face]),
        chosen[face],
    )


def touched_surface(
    vertices: Any, faces: Any, probability: Any, threshold: float, most: int = MOST_SAMPLES
) -> SurfaceSamples:
    """The samples where a probability reaches a threshold; none where no vertex of a face with an area does.

    Where single vertices reach it and, between them and their neighbours, no sample does, the faces around those
    vertices stand in, with the probability of their highest corner.

    Parameters
    ----------
    vertices, faces, most : as in `surface_samples`. probability : (V,) in [0, 1]. threshold : above 0, at most 1.

    Raises
    ------
    InputError : as in `surface_samples`, and for a probability or threshold out of its range.
    """
    if not 0.0 < threshold <= 1.0:
        raise InputError("contact.threshold", f"is {threshold}", "give a number above 0, at most 1")
    samples = surface_samples(vertices, faces, probability, threshold, most=most)
    values = np.asarray(probability, dtype=np.float64)
    if values.min(initial=0.0) < 0.0 or values.max(initial=0.0) > 1.0:
        raise InputError("contact.probability", "lies outside [0, 1]", "apply the sigmoid to logits first")
    reached = samples.values >= threshold
    if reached.any():
        return samples.where(reached)
    highest = values[np.asarray(faces)[samples.faces]].max(axis=1)
    return SurfaceSamples(samples.points, samples.normals, samples.areas, highest, samples.faces)


def check_surface(vertices: Any, faces: Any, values: Any) -> tuple[Floats, NDArray[np.int64], Floats]:
    """The arrays as float64 (V, 3), int64 (F, 3) and float64 (V,).

    Raises
    ------
    InputError : as in `surface_samples`.
    """
    vertices = np.asarray(vertices, dtype=np.float64)
    values = np.asarray(values, dtype=np.float64)
    faces = np.asarray(faces)
    if vertices.ndim != 2 or vertices.shape[1] != 3 or values.shape != vertices.shape[:1]:
        problem = f"has shape {vertices.shape} with values of shape {values.shape}"
        raise InputError("surface", problem, "give (V, 3) vertices and one value for each")
    if faces.ndim != 2 or faces.shape[1] != 3 or not np.issubdtype(faces.dtype, np.integer):
        raise InputError("surface.faces", f"has shape {faces.shape} of {faces.dtype}", "give (F, 3) whole numbers")
    if len(faces) and (faces.min() < 0 or faces.max() >= len(vertices)):
        raise InputError("surface.faces", f"goes beyond the {len(vertices)} vertices", "repair the mesh")
    if not np.isfinite(vertices).all() or not np.isfinite(values).all():
        raise InputError("surface", "holds NaN or infinity", "give finite vertices and values")
    return vertices, faces.astype(np.int64), values


def _cuts(wanted: Floats, most: int) -> NDArray[np.int64]:
    """How many pieces each face's sides are cut into, so that there are about `most` samples at most."""
    cuts = np.maximum(1.0, np.ceil(wanted))
    while (spent := float((cuts**2).sum())) > most and (cuts > 1).any():
        cuts = np.maximum(1.0, np.floor(cuts * min(0.9, np.sqrt(most / spent))))
    return cuts.astype(np.int64)


@lru_cache(maxsize=256)
def _middles(cut: int) -> Floats:
    """(cut², 3) barycentric middles of the equal triangles that a triangle is cut into."""
    first, second = np.meshgrid(np.arange(cut), np.arange(cut), indexing="ij")
    upright = first + second < cut
    turned = first + second < cut - 1
    shares = np.concatenate(
        [
            np.stack([first[upright], second[upright]], axis=1) + 1 / 3,
            np.stack([first[turned], second[turned]], axis=1) + 2 / 3,
        ]
    )
    shares = shares / cut
    return np.concatenate([1.0 - shares.sum(axis=1, keepdims=True), shares], axis=1)
