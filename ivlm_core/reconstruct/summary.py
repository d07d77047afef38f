"""What a planner wants to know about a contact: where the person touches, and where a robot could still grasp."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ivlm_core.errors import InputError
from ivlm_core.reconstruct.pose import Pose
from ivlm_core.reconstruct.surface import SPACING, Floats, SurfaceSamples, surface_samples, touched_surface
from ivlm_core.types import ContactSummary, FreeRegion, Mesh, PosedBody

CM2 = 1e4
# Vertices nearer to each other than this (metres) are one: meshes are often stored with open seams.
SEAM = 1e-4
# Deeper inside the body than the clearance is not free either; there the nearest skin looks away by this cosine.
INSIDE = -0.5
# No point in a body is farther from its skin (metres); skin that near decides what is inside.
DEEPEST = 0.3
# At most this many regions are named, and about this many points of the object are looked at.
MOST_REGIONS, MOST_POINTS = 16, 12_000


def contact_summary(
    body: PosedBody,
    probability: Any,
    mesh: Mesh | None = None,
    affordance: Any = None,
    pose: Pose | None = None,
    threshold: float = 0.5,
    clearance: float = 0.03,
    least_cm2: float = 5.0,
) -> ContactSummary | None:
    """Summarise one object's contact, in the optical frame.

    Parameters
    ----------
    body : the person. probability : (V,) in [0, 1], contact with this object on the body's vertices.
    mesh, affordance, pose : the object, (N,) in [0, 1] on its vertices, and where it is; without all three there are no
        free regions.
    threshold : from which probability or affordance on a place counts.
    clearance : metres; what is nearer to the person's skin than this, or inside the person, is not free.
    least_cm2 : smaller regions are left out.

    Returns
    -------
    The summary, always the same for the same input; None where the person's contact reaches the threshold nowhere.

    Raises
    ------
    InputError : probabilities or affordances of another length or outside [0, 1], or a clearance below 0.
    """
    if not clearance >= 0.0:
        raise InputError("clearance", f"is {clearance}", "give metres, 0 or more")
    touched = touched_surface(body.vertices, body.faces, probability, threshold)
    if not len(touched.points):
        return None
    regions: tuple[FreeRegion, ...] = ()
    if mesh is not None and affordance is not None and pose is not None:
        regions = free_regions(body, mesh, affordance, pose, threshold, clearance, least_cm2)
    return ContactSummary(
        centroid=_centroid(touched),
        area_cm2=float(touched.areas.sum()) * CM2,
        normal=touched.mean_normal().astype(np.float32),
        free_regions=regions,
    )


def free_regions(
    body: PosedBody,
    mesh: Mesh,
    affordance: Any,
    pose: Pose,
    threshold: float = 0.5,
    clearance: float = 0.03,
    least_cm2: float = 5.0,
) -> tuple[FreeRegion, ...]:
    """Connected parts of an object's surface with high affordance that the person leaves free, largest first.

    Parameters and errors are those of `contact_summary`.
    """
    placed = pose.placed(mesh.vertices)
    samples = touched_surface(placed, mesh.faces, affordance, threshold, MOST_POINTS)
    if not len(samples.points):
        return ()
    skin = _skin_near(body, samples.points, clearance)
    samples = samples.where(_free(samples.points, skin, clearance))
    if not len(samples.points):
        return ()
    usable = np.asarray(affordance) >= threshold
    usable[usable] = _free(placed[usable], skin, clearance)
    part = _parts(placed, mesh.faces, samples.faces)
    found = []
    for number in range(int(part.max()) + 1):
        region = samples.where(part == number)
        area = float(region.areas.sum()) * CM2
        if area < least_cm2:
            continue
        corners = np.unique(mesh.faces[np.unique(region.faces)])
        # Coarse faces may have free surface between corners that are all held.
        vertices = corners[usable[corners]] if usable[corners].any() else corners
        worth = float(np.average(region.values, weights=region.areas))
        normal = region.mean_normal().astype(np.float32)
        found.append(FreeRegion(_centroid(region), normal, area, worth, vertices.astype(np.int32)))
    return tuple(sorted(found, key=lambda region: -region.area_cm2)[:MOST_REGIONS])


def _centroid(samples: SurfaceSamples) -> NDArray[np.float32]:
    """(3,) area-weighted middle."""
    return np.average(samples.points, axis=0, weights=samples.areas).astype(np.float32)


def _skin_near(body: PosedBody, points: Floats, clearance: float) -> SurfaceSamples:
    """Closely spaced samples of the part of the body that may hold or enclose some of the points."""
    reach = max(clearance, DEEPEST)
    low, high = points.min(axis=0) - reach, points.max(axis=0) + reach
    corners = body.vertices[body.faces]  # (F, 3 corners, 3)
    near = (corners.max(axis=1) >= low).all(axis=1) & (corners.min(axis=1) <= high).all(axis=1)
    chosen = np.ones(len(body.vertices))
    return surface_samples(body.vertices, body.faces[near], chosen, 1.0, min(SPACING, max(clearance / 2, 0.004)))


def _free(points: Floats, skin: SurfaceSamples, clearance: float) -> NDArray[np.bool_]:
    """(n,) bool: farther than the clearance from the skin, and outside the body."""
    from scipy.spatial import cKDTree

    free = np.ones(len(points), bool)
    if not len(skin.points):
        return free
    distance, nearest = cKDTree(skin.points).query(points, distance_upper_bound=max(clearance, DEEPEST))
    near = np.flatnonzero(np.isfinite(distance))
    distance, nearest = distance[near], nearest[near]
    outward = np.einsum("nx,nx->n", points[near] - skin.points[nearest], skin.normals[nearest])
    free[near] = (distance > clearance) & (outward > INSIDE * distance)
    return free


def _parts(placed: Floats, faces: NDArray, chosen: NDArray[np.int64]) -> NDArray[np.int64]:
    """(n,) numbers from 0 of the connected parts that the chosen faces (n,), given with repeats, form."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    members, place = np.unique(chosen, return_inverse=True)
    corners = faces[members]  # (f, 3)
    positions = np.round(placed[corners.ravel()] / SEAM).astype(np.int64)
    _, joint = np.unique(positions, axis=0, return_inverse=True)
    count, joints = len(members), int(joint.max()) + 1
    # Faces and the points they meet in are the nodes of one graph.
    face = np.repeat(np.arange(count), 3)
    links = coo_matrix((np.ones(len(face)), (face, count + joint.ravel())), shape=(count + joints, count + joints))
    _, part = connected_components(links, directed=False)
    _, numbers = np.unique(part[:count], return_inverse=True)
    result: NDArray[np.int64] = numbers.ravel()[place.ravel()].astype(np.int64)
    return result
