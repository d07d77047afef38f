"""How good bodies fitted to keypoints are, on generated scenes where the true body is known."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ivlm_core.bodies import AnnyRig
from ivlm_core.bodies.keypoint_fit import BodyFit, fit_keypoints
from ivlm_core.bodies.pose_prior import PosePrior
from ivlm_core.bodies.skeleton import ANNY_BONES, FACE, JOINTS, LANDMARKS
from ivlm_core.datasets.synthetic import SceneRecord
from ivlm_core.errors import InputError
from ivlm_core.types import BodyKeypoints, FloatArray

# What a detector does here: noise in pixels (of 256 × 192), scores, and what becomes of landmarks that are not seen.
NOISE_PX = 2.0
SEEN_SCORES, HIDDEN_SCORES = (0.7, 1.0), (0.3, 0.6)
HIDDEN_LOST, HIDDEN_NOISE = 0.5, 2.0
# A surface this much nearer than a landmark, metres, hides it: more than any joint lies under its own skin.
HIDING = 0.2
# The depth camera: noise in shares of the distance, and the share of pixels that it does not know.
DEPTH_NOISE, DEPTH_HOLES = 0.01, 0.1

# The joints that are scored: those that people would mark, without the ones inside the trunk.
SCORED = tuple(name for name in JOINTS if "spine" not in name and "collar" not in name)
_SCORED = [JOINTS.index(name) for name in SCORED]


def body_fit_scores(records: Iterable[SceneRecord], seed: int = 0) -> dict[str, Any]:
    """Fit Anny to keypoints of generated scenes and compare with the true body.

    Keypoints are the true landmarks, projected, with noise of 2 px; those outside the picture are lost, those behind
    an object or another limb are lost in half of the cases and else twice as noisy and of low score. Depth is 1 % noisy
    with a tenth of its pixels unknown.

    Parameters
    ----------
    records : scenes with depth pictures.

    Returns
    -------
    `scenes`, `missing_keypoints` (share), and for `keypoints`, `keypoints_and_depth` and `tracked` (from the fit of the
    same scene to other noise) each: `fitted` (share of the scenes), means over these of `absolute_cm`,
    `root_aligned_cm`, `scale_aligned_cm` (root-aligned, at the best scale), `procrustes_cm` (best turn too) over the
    joints `SCORED`, `vertices_cm` (root-aligned, all vertices), `pixels` (the fit's own error), and `cpu_seconds`:
    the median of one fit's processor time.
    """
    rng = np.random.default_rng(seed)
    rows: dict[str, list[dict[str, float]]] = {"keypoints": [], "keypoints_and_depth": [], "tracked": []}
    scenes, missing = 0, 0.0
    for record in records:
        scenes += 1
        joints, landmarks, vertices = true_body(record)
        keypoints = noisy_keypoints(record, landmarks, rng)
        missing += float((keypoints.scores == 0).mean())
        depth = noisy_depth(record, rng)
        alone = _fit(rows["keypoints"], joints, vertices, keypoints, record, None, None)
        _fit(rows["keypoints_and_depth"], joints, vertices, keypoints, record, depth, None)
        if alone is not None:
            again = noisy_keypoints(record, landmarks, rng)
            _fit(rows["tracked"], joints, vertices, again, record, None, alone)
    if not scenes:
        raise InputError("records", "are empty", "give at least one scene")
    told: dict[str, Any] = {"scenes": scenes, "missing_keypoints": missing / scenes}
    for name, scored in rows.items():
        told[name] = {"fitted": len(scored) / scenes}
        if scored:
            means = {key: float(np.mean([row[key] for row in scored])) for key in scored[0] if key != "cpu_seconds"}
            told[name] |= {**means, "cpu_seconds": float(np.median([row["cpu_seconds"] for row in scored]))}
    return told


def true_body(record: SceneRecord) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """(20, 3) joints, (17, 3) landmarks and (V, 3) vertices of a scene's person, metres, in the optical frame."""
    names = AnnyRig.load().joint_names
    vertices = _optical(record, record.body_vertices())
    joints = _optical(record, record.joints[[names.index(bone) for bone in ANNY_BONES]])
    faces = PosePrior.load().face_vertices
    landmarks = np.array(
        [vertices[faces[name]].mean(axis=0) if name in FACE else joints[JOINTS.index(name)] for name in LANDMARKS]
    )
    return joints, landmarks, vertices


def noisy_keypoints(record: SceneRecord, landmarks: NDArray[np.float64], rng: np.random.Generator) -> BodyKeypoints:
    """What a detector would say of a scene's person, see `body_fit_scores`."""
    camera = record.intrinsics
    pixels = landmarks[:, :2] / landmarks[:, 2:] * [camera.fx, camera.fy] + [camera.cx, camera.cy]
    column, row = np.rint(pixels).astype(int).T
    inside = (column >= 0) & (column < camera.width) & (row >= 0) & (row < camera.height) & (landmarks[:, 2] > 0)
    seen = record.depth[np.where(inside, row, 0), np.where(inside, column, 0)]
    hidden = inside & (seen > 0) & (seen < landmarks[:, 2] - HIDING)
    lost = ~inside | (hidden & (rng.random(len(landmarks)) < HIDDEN_LOST))
    scores = np.where(hidden, rng.uniform(*HIDDEN_SCORES, len(landmarks)), rng.uniform(*SEEN_SCORES, len(landmarks)))
    noise = rng.normal(0, NOISE_PX, pixels.shape) * np.where(hidden, HIDDEN_NOISE, 1.0)[:, None]
    return BodyKeypoints((pixels + noise).astype(np.float32), np.where(lost, 0, scores).astype(np.float32))


def noisy_depth(record: SceneRecord, rng: np.random.Generator) -> FloatArray:
    """(H, W) metres as a depth camera would give them, NaN where it knows nothing."""
    unknown = (record.depth <= 0) | (rng.random(record.depth.shape) < DEPTH_HOLES)
    noisy = record.depth * (1 + DEPTH_NOISE * rng.standard_normal(record.depth.shape))
    return np.where(unknown, np.nan, noisy).astype(np.float32)


def joint_errors(truth: NDArray[np.float64], fitted: NDArray[np.float64]) -> dict[str, float]:
    """Mean distances in cm of (n, 3) joints, the first being the root; keys as in `body_fit_scores`."""
    wanted, found = truth - truth[0], fitted - fitted[0]
    scale = float((wanted * found).sum() / (found**2).sum())
    middle, centre = truth.mean(axis=0), fitted.mean(axis=0)
    left, size, right = np.linalg.svd((fitted - centre).T @ (truth - middle))
    sign = np.array([1.0, 1.0, np.sign(np.linalg.det(left @ right))])
    best = (size @ sign) / ((fitted - centre) ** 2).sum() * (fitted - centre) @ (left * sign) @ right
    return {
        "absolute_cm": _cm(truth, fitted),
        "root_aligned_cm": _cm(wanted, found),
        "scale_aligned_cm": _cm(wanted, scale * found),
        "procrustes_cm": _cm(truth - middle, best),
    }


def _fit(
    rows: list[dict[str, float]],
    joints: NDArray[np.float64],
    vertices: NDArray[np.float64],
    keypoints: BodyKeypoints,
    record: SceneRecord,
    depth: FloatArray | None,
    previous: BodyFit | None,
) -> BodyFit | None:
    """Fit, and add a row; a scene that is refused has none."""
    begin = time.process_time()
    try:
        fit = fit_keypoints(keypoints, record.intrinsics, depth, previous)
    except InputError:
        return None
    seconds = time.process_time() - begin
    placed = fit.joints.astype(np.float64)
    rows.append(
        {
            **joint_errors(joints[_SCORED], placed[_SCORED]),
            "vertices_cm": _cm(vertices - joints[0], fit.body.vertices - placed[0]),
            "pixels": fit.error_px,
            "cpu_seconds": seconds,
        }
    )
    return fit


def _optical(record: SceneRecord, points: NDArray[Any]) -> NDArray[np.float64]:
    optical: NDArray[np.float64] = (
        points.astype(np.float64) - record.camera_position.astype(np.float64)
    ) @ record.camera_rotation.astype(np.float64).T
    return optical


def _cm(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    return 100 * float(np.linalg.norm(first - second, axis=1).mean())
