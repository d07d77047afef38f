"""A person's posed body from the keypoints of a pose detector (COCO's 17, with scores) and the camera's intrinsics.

Keypoints do not say how far away somebody is: a tall person further away looks the same as a short one who is nearer.
Without a depth image the distance therefore follows from the prior on people's builds and is some 5 % uncertain. The
prior on poses was learned from generated scenes (`pose_prior`). Equations are in `keypoint_solver`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ivlm_core.bodies.fit_bodies import FitBody, fit_body
from ivlm_core.bodies.pose_prior import PosePrior
from ivlm_core.bodies.skeleton import LANDMARKS
from ivlm_core.errors import InputError, shown
from ivlm_core.types import COCO_KEYPOINTS, BodyKeypoints, CameraIntrinsics, FloatArray, PosedBody

if TYPE_CHECKING:
    from ivlm_core.bodies.keypoint_solver import FitSettings, Seen, Solution, Solver

# Keypoints that a detector gives a lower score were not found.
MIN_SCORE = 0.15
# A fit needs so many keypoints, so many of them shoulders or hips, which say how a body stands, and so large a person.
MIN_KEYPOINTS, MIN_TORSO, MIN_PIXELS = 6, 2, 12.0
# A keypoint that is further off than so many times the noise is not explained, and so large a share must be.
EXPLAINED, MIN_EXPLAINED = 5.0, 0.6
# A tracked fit that explains less than this starts over.
MIN_TRACKED = 0.8
# Starts: turns about the body's axis, and how far this axis may lean towards or away from the camera, degrees.
YAWS, LEANS = (0.0, 90.0, 180.0, 270.0), (0.0, 50.0, -50.0)
# Median depth of a square of this many pixels to each side, per started 640 pixels of width.
DEPTH_RADIUS = 1

_TORSO = [LANDMARKS.index(f"{side} {joint}") for joint in ("shoulder", "hip") for side in ("left", "right")]
_SHOULDERS, _HIPS = _TORSO[:2], _TORSO[2:]
_FACE = list(range(5))


@dataclass(frozen=True, eq=False)
class BodyFit:
    """A body that explains the keypoints.

    Attributes
    ----------
    body : the posed body, with `source` "keypoints". Its score is the mean score of the keypoints that were found,
        times the share of them that it explains.
    landmarks : (17, 3) float32 metres, optical frame, in COCO's order. joints : (20, 3) those of `skeleton.JOINTS`.
    build : (S,) the phenotype (gender, age, muscle, weight, height), or betas.
    error_px : mean distance between the keypoints it explains and its own, pixels. explained : their share, by score.
    tracked : whether it came from the last frame's fit.
    solution : what the next frame's fit starts from.
    """

    body: PosedBody
    landmarks: FloatArray
    joints: FloatArray
    build: NDArray[np.float64]
    error_px: float
    explained: float
    tracked: bool
    solution: Solution


def fit_keypoints(
    keypoints: BodyKeypoints,
    intrinsics: CameraIntrinsics,
    depth: FloatArray | None = None,
    previous: BodyFit | None = None,
    body: FitBody | None = None,
    settings: FitSettings | None = None,
    up: ArrayLike | None = None,
) -> BodyFit:
    """Fit a body to keypoints. The same input gives the same body.

    Parameters
    ----------
    depth : (H, W) float32 metres along the optical axis, NaN (or nothing above 0) where unknown; of the same picture.
    previous : the same person's fit in the last frame; a fit that follows it is some five times faster, and starts over
        where it no longer explains the keypoints.
    body : what to fit, see `fit_body`; Anny by default.
    up : (3,) against gravity, in the optical frame, any length, where it is known; else cameras are taken to be about
        level, see `FitSettings`. Whether somebody leans towards the camera or away from it hardly shows in keypoints.

    Raises
    ------
    InputError : intrinsics that are no camera, a way up that is none, too few keypoints, a person too small to say
        anything or out of the picture, keypoints that no body explains, or a body that would reach behind the camera.
    """
    from ivlm_core.bodies.keypoint_solver import FitSettings

    body = fit_body() if body is None else body
    settings = FitSettings() if settings is None else settings
    seen = _seen(keypoints, intrinsics, depth, up)
    solver = _solver(body, settings)
    solution, tracked = None, False
    if previous is not None and previous.body.body_model == body.name:
        solution = solver.warm(seen, previous.solution)
        tracked = _explained(seen, solution)[0] >= MIN_TRACKED
    if not tracked or solution is None:
        solution = solver.cold(seen, _start_rotations(seen))
    share, error = _explained(seen, solution)
    if not share >= MIN_EXPLAINED:
        raise InputError(
            "keypoints",
            f"fit no body: at most {share:.0%} of them can be explained",
            "are they one person's, in COCO's order, and the intrinsics this camera's?",
        )
    posed = _posed(body, solution, keypoints, share)
    if not posed.in_front:
        raise InputError(
            "keypoints",
            f"put the body {solution.translation[2]:.2f} m away, where it would reach behind the camera",
            "are the intrinsics this camera's?",
        )
    return BodyFit(
        body=posed,
        landmarks=solution.landmarks,
        joints=solution.joints,
        build=solution.build,
        error_px=error * float(np.sqrt(intrinsics.fx * intrinsics.fy)),
        explained=share,
        tracked=tracked,
        solution=solution,
    )


@lru_cache(maxsize=4)
def _solver(body: FitBody, settings: FitSettings) -> Solver:
    from ivlm_core.bodies.keypoint_solver import Solver

    return Solver(body, PosePrior.load(), settings)


def _seen(
    keypoints: BodyKeypoints, intrinsics: CameraIntrinsics, depth: FloatArray | None, up: ArrayLike | None
) -> Seen:
    from ivlm_core.bodies.keypoint_solver import Seen

    focal = np.array([intrinsics.fx, intrinsics.fy], dtype=np.float64)
    centre = np.array([intrinsics.cx, intrinsics.cy], dtype=np.float64)
    if not np.isfinite([*focal, *centre]).all() or focal.min() <= 0:
        raise InputError(
            "intrinsics",
            f"are fx {intrinsics.fx}, fy {intrinsics.fy}, cx {intrinsics.cx}, cy {intrinsics.cy}",
            "give finite numbers and focal lengths above 0",
        )
    weights = np.where(keypoints.scores >= MIN_SCORE, keypoints.scores, 0).astype(np.float64)
    found = weights > 0
    if found.sum() < MIN_KEYPOINTS or found[_TORSO].sum() < MIN_TORSO:
        names = ", ".join(name for name, good in zip(COCO_KEYPOINTS, found, strict=True) if good) or "none"
        raise InputError(
            "keypoints",
            f"are too few for a body: {names}",
            f"at least {MIN_KEYPOINTS} with a score of {MIN_SCORE} or more are needed, {MIN_TORSO} of them shoulders "
            "or hips",
        )
    pixels = np.where(found[:, None], keypoints.points, 0.0).astype(np.float64)
    inside = ((pixels > -0.5) & (pixels < np.array([intrinsics.width, intrinsics.height]) - 0.5)).all(axis=1)
    if not (inside & found).any():
        raise InputError(
            "keypoints",
            f"are all out of the picture of {intrinsics.width}×{intrinsics.height} pixels",
            "give a score of 0 where nothing was found; are the intrinsics those of this picture's size?",
        )
    extent = np.ptp(pixels[found], axis=0).max()
    if not MIN_PIXELS <= extent <= 1e5:
        raise InputError("keypoints", f"span {extent:.0f} pixels", f"a person needs {MIN_PIXELS:.0f} or more")
    surface = np.full(len(pixels), np.nan)
    if depth is not None:
        if depth.ndim != 2:
            raise InputError("depth", f"has shape {depth.shape}", "give (H, W) metres")
        for number in np.flatnonzero(found):
            surface[number] = _surface(depth, *pixels[number])
    points = np.where(found[:, None], (pixels - centre) / focal, 0.0)
    return Seen(points, weights, surface, 1.0 / float(focal.min()), None if up is None else _direction_of(up))


def _direction_of(up: ArrayLike) -> NDArray[np.float64]:
    try:
        vector = np.asarray(up, dtype=np.float64)
    except (TypeError, ValueError):
        vector = np.zeros(0)
    if vector.shape != (3,) or not np.isfinite(vector).all() or not np.linalg.norm(vector) > 1e-6:
        raise InputError("up", f"is {shown(up)}", "give x, y and z of the way against gravity in the optical frame")
    unit: NDArray[np.float64] = vector / np.linalg.norm(vector)
    return unit


def _surface(depth: FloatArray, x: float, y: float) -> float:
    """Median depth around a pixel; NaN where most of it is unknown, or outside the image."""
    height, width = depth.shape
    radius = DEPTH_RADIUS * (1 + width // 640)
    column, row = round(x), round(y)
    if not (0 <= column < width and 0 <= row < height):
        return float("nan")
    patch = depth[max(row - radius, 0) : row + radius + 1, max(column - radius, 0) : column + radius + 1]
    known = patch[np.isfinite(patch) & (patch > 0)]
    return float(np.median(known)) if 2 * known.size > patch.size else float("nan")


def _start_rotations(seen: Seen) -> NDArray[np.float64]:
    """(H, 3, 3) turns of the pelvis: the body's axis as it is seen in the picture, leaning, and turned about itself."""
    from scipy.spatial.transform import Rotation

    up = _direction(seen)
    starts = []
    for lean in np.radians(LEANS):
        axis = np.array([np.cos(lean) * up[0], np.cos(lean) * up[1], np.sin(lean)])
        # Turned to the camera as far as the axis allows.
        front = np.array([np.sin(lean) * up[0], np.sin(lean) * up[1], -np.cos(lean)])
        facing = np.column_stack([np.cross(axis, front), axis, front])
        starts += [facing @ Rotation.from_euler("y", yaw, degrees=True).as_matrix() for yaw in YAWS]
    return np.array(starts)


def _direction(seen: Seen) -> NDArray[np.float64]:
    """(2,) unit: where the trunk points in the picture; up where nothing says it."""

    def middle(landmarks: list[int]) -> NDArray[np.float64] | None:
        weights = seen.weights[landmarks]
        return weights @ seen.points[landmarks] / weights.sum() if weights.any() else None

    hips, shoulders, face = middle(_HIPS), middle(_SHOULDERS), middle(_FACE)
    for low, high in ((hips, shoulders), (hips, face), (shoulders, face)):
        if low is not None and high is not None:
            length = np.linalg.norm(high - low)
            # Seen from its end the trunk points nowhere.
            if length > 0.1 * np.ptp(seen.points[seen.weights > 0], axis=0).max():
                direction: NDArray[np.float64] = (high - low) / length
                return direction
    return np.array([0.0, -1.0])


def _explained(seen: Seen, solution: Solution) -> tuple[float, float]:
    """The share of the keypoints that the solution explains, by their scores, and their mean distance at z = 1."""
    if not np.isfinite(solution.landmarks).all() or not (solution.landmarks[:, 2] > 0).all():
        return 0.0, float("inf")
    plane = solution.landmarks[:, :2] / solution.landmarks[:, 2:]
    off = np.linalg.norm(plane - seen.points, axis=1)
    good = (off < EXPLAINED * solution.noise) & (seen.weights > 0)
    if not good.any():
        return 0.0, float("inf")
    return float(seen.weights[good].sum() / seen.weights.sum()), float(
        np.average(off[good], weights=seen.weights[good])
    )


def _posed(body: FitBody, solution: Solution, keypoints: BodyKeypoints, share: float) -> PosedBody:
    from scipy.spatial.transform import Rotation

    local = np.concatenate([solution.rotation[None], Rotation.from_rotvec(solution.pose).as_matrix()])
    vertices: Any = body.vertices(local, solution.build) + solution.translation
    found = keypoints.scores[keypoints.scores >= MIN_SCORE]
    score = float(np.clip(found.mean() * share, 0, 1))
    return PosedBody(
        vertices.astype(np.float32), body.faces, body.name, keypoints.person_id, score=score, source="keypoints"
    )
