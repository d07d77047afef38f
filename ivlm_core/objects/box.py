"""The plain box that stands in for an object of which no mesh is known, of the detection's size where that is known."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from ivlm_core.objects.embedding import mask_box
from ivlm_core.objects.library import library_mesh, library_shape
from ivlm_core.types import Frame, Mesh, ObjectQuery

# Sides are rounded to steps of 19 %: a detection that trembles must not give a new mesh, with new renders, every frame.
STEPS_PER_DOUBLING = 4
SMALLEST_M, LARGEST_M = 0.02, 4.0


def detected_box(query: ObjectQuery, frame: Frame | None) -> tuple[Mesh, str]:
    """A box as wide and high as the detection is at its distance, and where the distance is from.

    The distance is the median depth inside the mask (or the middle of the box), else that of the person: the query's
    own, or the only one. The depth of the box, which no picture shows, is the shorter of its visible sides.

    Returns
    -------
    The mesh, metres, y up; equal detections get the same one. And `depth image`, `body`, or an empty text where
    nothing is known of the size and the box has sides of 0.3 m.
    """
    corners = _corners(query)
    if frame is None or frame.intrinsics is None or corners is None:
        return library_mesh("box"), ""
    camera = frame.intrinsics
    if not (np.isfinite([camera.fx, camera.fy]).all() and min(camera.fx, camera.fy) > 0):
        return library_mesh("box"), ""
    distance, source = _depth(query, frame, corners), "depth image"
    if distance is None:
        distance, source = _body_distance(query, frame), "body"
    if distance is None:
        return library_mesh("box"), ""
    width = (corners[2] - corners[0]) * distance / camera.fx
    height = (corners[3] - corners[1]) * distance / camera.fy
    return _box(_step(width), _step(height)), source


def _corners(query: ObjectQuery) -> tuple[float, float, float, float] | None:
    if query.box_xyxy is not None:
        return query.box_xyxy
    if query.mask is not None and query.mask.ndim == 2 and query.mask.any():
        left, top, right, bottom = mask_box(query.mask)
        return float(left), float(top), float(right), float(bottom)
    return None


def _depth(query: ObjectQuery, frame: Frame, corners: tuple[float, float, float, float]) -> float | None:
    if frame.depth is None:
        return None
    if query.mask is not None and query.mask.shape == frame.depth.shape:
        seen = frame.depth[query.mask]
    else:
        # The middle half of the box; what is outside the picture has no pixels.
        margin = (corners[2] - corners[0]) / 4, (corners[3] - corners[1]) / 4
        left, top, right, bottom = (
            round(max(0.0, side))
            for side in (corners[0] + margin[0], corners[1] + margin[1], corners[2] - margin[0], corners[3] - margin[1])
        )
        seen = frame.depth[top : max(bottom, top + (bottom > 0)), left : max(right, left + (right > 0))]
    good = seen[np.isfinite(seen) & (seen > 0)]
    return float(np.median(good)) if len(good) else None


def _body_distance(query: ObjectQuery, frame: Frame) -> float | None:
    bodies = [body for body in frame.bodies if body.in_front]
    own = [body for body in bodies if query.person_id and body.person_id == query.person_id]
    if not own and len(bodies) == 1:
        own = bodies
    return float(np.median(own[0].vertices[:, 2])) if own else None


def _step(length: float) -> int:
    limited = min(max(length, SMALLEST_M), LARGEST_M)
    return round(STEPS_PER_DOUBLING * np.log2(limited))


@lru_cache(maxsize=256)
def _box(width: int, height: int) -> Mesh:
    across, up = (float(2.0 ** (steps / STEPS_PER_DOUBLING)) for steps in (width, height))
    return library_shape("box", width=across, height=up, depth=min(across, up)).mesh
