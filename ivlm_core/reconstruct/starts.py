"""Where a fit without a last pose begins: contact ICP, and the same rotations placed behind the mask."""

from __future__ import annotations

import numpy as np

from ivlm_core.reconstruct.contact_icp import contact_starts
from ivlm_core.reconstruct.fit_mesh import FitMesh
from ivlm_core.reconstruct.levels import Observation, mask_box
from ivlm_core.reconstruct.pose import Floats, spread_rotations

# Nearer to the camera than this (metres) nothing is put at the start.
NEAREST = 0.05


def cold_starts(
    mesh: FitMesh, seen: Observation, scale: float, count: int, with_contact: bool
) -> tuple[Floats, Floats]:
    """(S, 3, 3) rotations and (S, 3) translations, S = 2·count with contact and count without; always the same.

    Parameters
    ----------
    scale : expected scale. with_contact : use the contacts; both sides must then be there.
    """
    rotations = spread_rotations(count)
    turned, translations = [rotations], [placed_by_mask(mesh, seen, rotations, scale, with_contact)]
    if with_contact:
        assert seen.human is not None
        assert seen.thing is not None
        aligned, moved, _ = contact_starts(seen.human, seen.thing, rotations, scale)
        turned, translations = [aligned, *turned], [moved, *translations]
    rotation, translation = np.concatenate(turned), np.concatenate(translations)
    middle = translation[:, 2] + scale * (rotation @ mesh.centre)[:, 2]
    translation[:, 2] += np.maximum(NEAREST - middle, 0.0)
    return rotation, translation


def placed_by_mask(mesh: FitMesh, seen: Observation, rotations: Floats, scale: float, with_contact: bool) -> Floats:
    """(B, 3) translations that put the object's middle on the ray through the mask's centroid.

    How far along the ray: so that the contacts of both sides are equally deep; else as deep as the depth image; else so
    deep that the object looks as large as the mask.
    """
    camera = seen.intrinsics
    rows, columns = np.nonzero(seen.mask)
    ray = np.array([(columns.mean() - camera.cx) / camera.fx, (rows.mean() - camera.cy) / camera.fy, 1.0])
    known = seen.known_depths()
    if with_contact and seen.human is not None and seen.thing is not None:
        offset = seen.thing.weights @ (seen.thing.points - mesh.centre)
        depth = float(seen.human.weights @ seen.human.points[:, 2]) - scale * (rotations @ offset)[:, 2]
    elif len(known):
        # The image shows the near side; the middle is about a quarter of the object behind it.
        depth = np.full(len(rotations), float(np.median(known)) + 0.25 * scale * float(mesh.extent.min()))
    else:
        left, top, right, bottom = mask_box(seen.mask)
        corners = mesh.proxy.vertices.astype(np.float64) - mesh.centre
        spans = np.ptp(corners @ rotations.transpose(0, 2, 1), axis=1)[:, :2]
        wanted = np.hypot((right - left) / camera.fx, (bottom - top) / camera.fy)
        depth = scale * np.hypot(spans[:, 0], spans[:, 1]) / wanted
    depth = np.maximum(depth, NEAREST)
    translations: Floats = depth[:, None] * ray - scale * (rotations @ mesh.centre)
    return translations
