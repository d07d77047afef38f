"""The people in a frame: posed bodies as given, or fitted to keypoints, and which pixels they cover."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ivlm_core.bodies import BodyFit, fit_keypoints
from ivlm_core.errors import InputError, shown
from ivlm_core.types import CameraIntrinsics, Frame, PosedBody

# The body's silhouette is drawn with at most about this many rays and enlarged.
MOST_RAYS = 200 * 200
# People remembered between frames.
MOST_PEOPLE = 16
# Seconds after which a person who was not seen is looked for anew.
TIME_OUT = 2.0

log = logging.getLogger("ivlm")


@dataclass(frozen=True, eq=False)
class People:
    """Who is in a frame.

    Attributes
    ----------
    bodies : person id → posed body. problems : person id → why there is none.
    unusable : how many more people there are of whom nothing can be used, not even their name.
    """

    bodies: Mapping[str, PosedBody] = field(default_factory=dict)
    problems: Mapping[str, str] = field(default_factory=dict)
    unusable: int = 0

    def of(self, person_id: str) -> tuple[PosedBody | None, str]:
        """The body that an object belongs to, or None and why: the person named, or the only one there is."""
        if person_id in self.bodies:
            return self.bodies[person_id], ""
        if person_id in self.problems:
            return None, self.problems[person_id]
        if not self.bodies:
            return None, next(iter(self.problems.values()), "no posed body is given")
        alone = len(self.bodies) == 1 and not self.problems and not self.unusable
        if alone and (not person_id or "" in self.bodies):
            return next(iter(self.bodies.values())), ""
        names = ", ".join(shown(name) for name in [*self.bodies, *self.problems])
        if person_id:
            return None, f"there is no posed body of person {shown(person_id)}, there are {names}"
        count = len(self.bodies) + len(self.problems) + self.unusable
        return None, f"which of {count} people the object belongs to is not said (person_id)"


class PeopleTracker:
    """Finds the people of frame after frame; fits to keypoints go on from the person's last one."""

    def __init__(self) -> None:
        # With the stamp of the frame each was made in.
        self._fits: dict[str, tuple[BodyFit, int]] = {}

    def find(self, frame: Frame) -> People:
        """Posed bodies as they are given; of people with keypoints alone, the body that fits them."""
        bodies = {body.person_id: body for body in frame.bodies}
        problems: dict[str, str] = {}
        now = frame.stamp_ns
        fits = {name: item for name, item in self._fits.items() if 0 <= now - item[1] <= TIME_OUT * 1e9}
        for seen in frame.keypoints:
            if seen.person_id in bodies:
                continue
            if frame.intrinsics is None:
                problems[seen.person_id] = "the camera's intrinsics are not known"
                continue
            try:
                last = fits.pop(seen.person_id, None)
                fit = fit_keypoints(seen, frame.intrinsics, frame.depth, last[0] if last is not None else None)
            except InputError as error:
                problems[seen.person_id] = str(error)
                continue
            except Exception as error:
                log.exception("the fit of person %s failed", shown(seen.person_id))
                problems[seen.person_id] = f"the fit of the person failed: {type(error).__name__}; see the log"
                continue
            bodies[seen.person_id] = fit.body
            fits[seen.person_id] = fit, now
        self._fits = dict(list(fits.items())[-MOST_PEOPLE:])
        return People(bodies, problems, frame.unusable_people)

    def forget(self) -> None:
        """Start anew with the next frame."""
        self._fits = {}


def person_pixels(body: PosedBody, intrinsics: CameraIntrinsics) -> NDArray[np.bool_]:
    """(H, W) bool: the pixels that a body covers, parts behind the camera left out."""
    # Open3D's stubs do not know that a Tensor is made from an array alone.
    o3c: Any = importlib.import_module("open3d.core")
    from open3d.t.geometry import RaycastingScene

    covered = np.zeros((intrinsics.height, intrinsics.width), dtype=bool)
    vertices = body.vertices.astype(np.float64)
    front = vertices[:, 2] > 1e-3
    if not front.any():
        return covered
    x = intrinsics.fx * vertices[front, 0] / vertices[front, 2] + intrinsics.cx
    y = intrinsics.fy * vertices[front, 1] / vertices[front, 2] + intrinsics.cy
    left, right = (int(side) for side in np.clip([np.floor(x.min()), np.ceil(x.max()) + 1], 0, intrinsics.width))
    top, bottom = (int(side) for side in np.clip([np.floor(y.min()), np.ceil(y.max()) + 1], 0, intrinsics.height))
    if left >= right or top >= bottom:
        return covered
    step = max(1, int(np.ceil(np.sqrt((right - left) * (bottom - top) / MOST_RAYS))))
    columns, rows = np.arange(left, right, step), np.arange(top, bottom, step)
    # Every ray stands for a block of step × step pixels, whose middle it goes through.
    middle = (step - 1) / 2
    u, v = np.meshgrid(columns + middle, rows + middle)
    directions = np.stack(
        [(u - intrinsics.cx) / intrinsics.fx, (v - intrinsics.cy) / intrinsics.fy, np.ones_like(u)], axis=-1
    )
    rays = np.concatenate([np.zeros_like(directions), directions], axis=-1).astype(np.float32)
    scene = RaycastingScene()
    scene.add_triangles(o3c.Tensor(np.array(body.vertices)), o3c.Tensor(body.faces.astype(np.uint32)))
    hit = scene.test_occlusions(o3c.Tensor(rays)).numpy()
    blocks = np.repeat(np.repeat(hit, step, axis=0), step, axis=1)
    covered[top:bottom, left:right] = blocks[: bottom - top, : right - left]
    return covered
