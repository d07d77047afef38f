"""How good bodies fitted to keypoints are, on generated scenes where the true body is known."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ivlm_core.bodies import AnnyRig, BodyFit, fit_keypoints
from ivlm_core.bodies.pose_prior import PosePrior
from ivlm_core.bodies.skeleton import ANNY_BONES, FACE, JOINTS, LANDMARKS
from ivlm_core.datasets.synthetic import SceneRecord
from ivlm_core.errors import InputError
from ivlm_core.evaluate.synthhoi import Setup, SetupScenes, check_setup
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

WAYS = ("keypoints", "keypoints_and_up", "keypoints_and_depth", "tracked")

Progress = Callable[[int, int], None]


def evaluate_bodies(setup: Setup, progress: Progress | None = None) -> dict[str, Any]:
    """`body_fit_scores` on the scenes of a setup, whose model is not used.

    Parameters
    ----------
    progress : called with the number of scenes done and the number in all.

    Returns
    -------
    The scores, with `split`, and `seed` or `data`, and `seconds` in all.

    Raises
    ------
    ConfigError : a number or split that does not exist, or the seed of a training set. DatasetError : unusable data.
    """
    check_setup(setup)
    started = time.perf_counter()
    scores = body_fit_scores(_scenes(setup, progress), setup.seed)
    source = {"seed": setup.seed} if setup.data is None else {"data": setup.data.name}
    return {**scores, "split": setup.split, **source, "seconds": round(time.perf_counter() - started, 1)}


def bodies_text(report: Mapping[str, Any]) -> str:
    """The figures of a report as a table for people."""
    titles = ("fitted", "absolute cm", "median", "root-aligned cm", "median", "Procrustes cm", "CPU s")
    keys = (
        "fitted",
        "absolute_cm",
        "absolute_cm_median",
        "root_aligned_cm",
        "root_aligned_cm_median",
        "procrustes_cm",
        "cpu_seconds",
    )
    lines = [
        f"{report['scenes']} scenes of {report['split']}, {report['missing_keypoints']:.1%} of the keypoints missing",
        f"{'':20} " + " ".join(f"{title:>15}" for title in titles),
    ]
    for name in WAYS:
        cells = (f"{report[name][key]:.3f}" if key in report[name] else "–" for key in keys)
        lines.append(f"{name.replace('_', ' '):20} " + " ".join(f"{cell:>15}" for cell in cells))
    return "\n".join(lines)


def body_fit_scores(records: Iterable[SceneRecord], seed: int = 0) -> dict[str, Any]:
    """Fit Anny to keypoints of generated scenes and compare with the true body.

    Keypoints are the true landmarks, projected, with noise of 2 px; those outside the picture are lost, those behind
    an object or another limb are lost in half of the cases and else twice as noisy and of low score. Depth is 1 % noisy
    with a tenth of its pixels unknown.

    Parameters
    ----------
    records : scenes with depth pictures. seed : of the noise; that of a scene does not depend on the others.

    Returns
    -------
    `scenes`, `missing_keypoints` (share), and for each of `WAYS` (keypoints alone; with the true way up; with depth;
    and tracked, from the fit of the same scene to other noise): `fitted` (share of the scenes), `refused` (why not →
    how often), means over these of `absolute_cm`, `root_aligned_cm`, `scale_aligned_cm` (root-aligned, at the best
    scale), `procrustes_cm` (best turn too) over the joints `SCORED`, `vertices_cm` (root-aligned, all vertices),
    `distance_error` (|ratio − 1| of the pelvis's distance), `pixels` (the fit's own error), the medians
    `absolute_cm_median` and `root_aligned_cm_median`, and one fit's median processor time `cpu_seconds`.

    Raises
    ------
    InputError : no scenes.
    """
    rows: dict[str, list[dict[str, float]]] = {name: [] for name in WAYS}
    refused: dict[str, Counter[str]] = {name: Counter() for name in WAYS}
    scenes, missing = 0, 0.0
    for record in records:
        rng = np.random.default_rng([seed, record.index])
        scenes += 1
        joints, landmarks, vertices = true_body(record)
        keypoints, again = (noisy_keypoints(record, landmarks, rng) for _ in range(2))
        missing += float((keypoints.scores == 0).mean())
        upwards = record.camera_rotation[:, 1].astype(np.float64)
        depth = noisy_depth(record, rng)
        first: BodyFit | None = None
        for way in WAYS:
            begin = time.process_time()
            try:
                if way == "tracked":
                    if first is None:
                        refused[way]["there was no fit to go on from"] += 1
                        continue
                    fit = fit_keypoints(again, record.intrinsics, previous=first)
                else:
                    fit = fit_keypoints(
                        keypoints,
                        record.intrinsics,
                        depth if way == "keypoints_and_depth" else None,
                        up=upwards if way == "keypoints_and_up" else None,
                    )
            except InputError as error:
                refused[way][error.problem] += 1
                continue
            seconds = time.process_time() - begin
            rows[way].append({**_errors(fit, joints, vertices), "cpu_seconds": seconds})
            first = fit if way == "keypoints" else first
    if not scenes:
        raise InputError("records", "are empty", "give at least one scene")
    told: dict[str, Any] = {"scenes": scenes, "missing_keypoints": missing / scenes}
    return told | {name: _summary(rows[name], refused[name], scenes) for name in WAYS}


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


def _errors(fit: BodyFit, joints: NDArray[np.float64], vertices: NDArray[np.float64]) -> dict[str, float]:
    placed = fit.joints.astype(np.float64)
    return {
        **joint_errors(joints[_SCORED], placed[_SCORED]),
        "vertices_cm": _cm(vertices - joints[0], fit.body.vertices - placed[0]),
        "distance_error": abs(float(placed[0, 2] / joints[0, 2]) - 1),
        "pixels": fit.error_px,
    }


def _summary(rows: list[dict[str, float]], refused: Counter[str], scenes: int) -> dict[str, Any]:
    told: dict[str, Any] = {"fitted": len(rows) / scenes, "refused": dict(refused.most_common())}
    if not rows:
        return told
    values = {key: np.array([row[key] for row in rows]) for key in rows[0]}
    medians = {f"{key}_median": float(np.median(values[key])) for key in ("absolute_cm", "root_aligned_cm")}
    cpu_seconds = float(np.median(values.pop("cpu_seconds")))
    return told | {key: float(column.mean()) for key, column in values.items()} | medians | {"cpu_seconds": cpu_seconds}


def _scenes(setup: Setup, progress: Progress | None) -> Iterator[SceneRecord]:
    for done, record in enumerate(SetupScenes(setup), start=1):
        yield record
        if progress is not None:
            progress(done, setup.scenes)


def _optical(record: SceneRecord, points: NDArray[Any]) -> NDArray[np.float64]:
    optical: NDArray[np.float64] = (
        points.astype(np.float64) - record.camera_position.astype(np.float64)
    ) @ record.camera_rotation.astype(np.float64).T
    return optical


def _cm(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    return 100 * float(np.linalg.norm(first - second, axis=1).mean())
