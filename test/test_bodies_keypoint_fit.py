"""Bodies from keypoints: scenes with known bodies, missing and wrong keypoints, depth, tracking, and bad input."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from ivlm_core.bodies import BodyFit, fit_keypoints
from ivlm_core.bodies.keypoint_solver import FitSettings
from ivlm_core.bodies.pose_prior import PosePrior
from ivlm_core.bodies.skeleton import HANGERS, JOINTS, LANDMARKS, chained, paths
from ivlm_core.errors import InputError
from ivlm_core.types import COCO_KEYPOINTS, BodyKeypoints, CameraIntrinsics

CAMERA = CameraIntrinsics(fx=600.0, fy=600.0, cx=319.5, cy=239.5, width=640, height=480)
# Few steps: enough where keypoints are exact, and for what is not about accuracy.
QUICK = FitSettings(cold=(15, 25, 35), kept=(4, 1), warm=20)
LEGS = [LANDMARKS.index(f"{side} {joint}") for side in ("left", "right") for joint in ("knee", "ankle")]


def somebody(yaw: float = 0.0, seed: int = 0, distance: float = 3.5) -> np.ndarray:
    """(17 + 20, 3) landmarks and joints, optical frame: an average person in a drawn pose, turned by `yaw`°."""
    prior = PosePrior.load()
    pose = prior.pose_mean + 0.5 * prior.pose_factor @ np.random.default_rng(seed).normal(0, 1, len(prior.pose_mean))
    root = np.diag([1.0, -1.0, -1.0]) @ Rotation.from_euler("y", yaw, degrees=True).as_matrix()
    local = np.concatenate([root[None], Rotation.from_rotvec(pose.reshape(-1, 3)).as_matrix()])
    turned = np.einsum("hij,hj->hi", chained(local)[list(HANGERS)], prior.hangers[0].reshape(-1, 3))
    return paths().astype(np.float64) @ turned + [0.2, -0.1, distance]


def keypoints(
    points: np.ndarray, camera: CameraIntrinsics = CAMERA, noise: float = 0.0, seed: int = 0
) -> BodyKeypoints:
    landmarks = points[:17]
    pixels = landmarks[:, :2] / landmarks[:, 2:] * [camera.fx, camera.fy] + [camera.cx, camera.cy]
    pixels = pixels + np.random.default_rng(seed).normal(0, noise, pixels.shape)
    return BodyKeypoints(pixels.astype(np.float32), np.full(17, 0.9, np.float32), "p1")


def root_aligned(fit: BodyFit, points: np.ndarray) -> np.ndarray:
    joints = points[17:]
    return np.linalg.norm((fit.joints - fit.joints[0]) - (joints - joints[0]), axis=1)


@pytest.mark.parametrize("yaw", [0.0, 90.0, 180.0, 250.0])
def test_a_person_is_found_from_every_side(yaw: float) -> None:
    points = somebody(yaw)
    fit = fit_keypoints(keypoints(points), CAMERA, settings=QUICK)
    assert root_aligned(fit, points).mean() < 0.08
    assert fit.error_px < 4
    assert fit.explained > 0.95
    assert not fit.tracked
    assert abs(fit.landmarks[:, 2].mean() / points[:17, 2].mean() - 1) < 0.1
    assert (fit.body.body_model, fit.body.person_id, fit.body.source) == ("anny", "p1", "keypoints")
    assert fit.body.score == pytest.approx(0.9, abs=0.05)
    # The body that is returned is the one that was fitted.
    faces = PosePrior.load().face_vertices
    for number, name in enumerate(COCO_KEYPOINTS[:5]):
        assert np.linalg.norm(fit.body.vertices[faces[name]].mean(axis=0) - fit.landmarks[number]) < 0.02


def test_somebody_lying_is_found() -> None:
    points = somebody(40.0)
    middle = points.mean(axis=0)
    lying = (points - middle) @ Rotation.from_euler("z", 100, degrees=True).as_matrix().T + middle
    fit = fit_keypoints(keypoints(lying), CAMERA, settings=QUICK)
    assert root_aligned(fit, lying).mean() < 0.09


def test_depth_says_how_far_away_somebody_is() -> None:
    prior = PosePrior.load()
    # Twenty per cent larger than the average person, so that pixels alone put them too near.
    points = 1.2 * somebody(20.0)
    seen = keypoints(points)
    depth = np.full((480, 640), np.nan, np.float32)
    for (x, y), z in zip(np.rint(seen.points).astype(int), points[:17, 2] - prior.depth_offset, strict=True):
        depth[max(y - 3, 0) : y + 4, max(x - 3, 0) : x + 4] = z
    without = fit_keypoints(seen, CAMERA, settings=QUICK)
    with_depth = fit_keypoints(seen, CAMERA, depth, settings=QUICK)
    off = [abs(fit.landmarks[:, 2] - points[:17, 2]).mean() for fit in (without, with_depth)]
    assert off[0] > 0.2
    assert off[1] < 0.12
    # Depth that is nowhere known is no depth.
    holes = fit_keypoints(seen, CAMERA, np.full((480, 640), np.nan, np.float32), settings=QUICK)
    np.testing.assert_array_equal(holes.joints, without.joints)


def test_who_leans_to_the_camera_is_told_by_the_way_up() -> None:
    points = somebody(0.0)
    middle = points[17]
    # The whole person leans 35° towards the camera: hardly seen in the picture, unless the way up leans as well.
    lean = Rotation.from_euler("x", 35, degrees=True).as_matrix()
    leaning = (points - middle) @ lean.T + middle
    assert leaning[17 + JOINTS.index("head"), 2] < middle[2] - 0.2
    seen = keypoints(leaning)
    errors = [
        root_aligned(fit_keypoints(seen, CAMERA, settings=QUICK, up=up), leaning).mean()
        for up in (None, lean @ [0.0, -2.5, 0.0])
    ]
    assert errors[1] < 0.1
    assert errors[1] < 0.75 * errors[0]


@pytest.mark.parametrize("up", [(0.0, 0.0, 0.0), (0.0, float("nan"), 1.0), (0.0, -1.0), "up"])
def test_ways_up_that_are_none(up: Any) -> None:
    with pytest.raises(InputError) as caught:
        fit_keypoints(keypoints(somebody()), CAMERA, settings=QUICK, up=up)
    assert caught.value.field == "up"


def test_depth_of_another_shape() -> None:
    with pytest.raises(InputError) as caught:
        fit_keypoints(keypoints(somebody()), CAMERA, np.ones(7, np.float32), settings=QUICK)
    assert caught.value.field == "depth"


def test_a_person_out_of_the_picture_is_refused_or_reaches_into_it() -> None:
    seen = keypoints(somebody())
    outside = replace(seen, points=seen.points + np.float32([3000, 0]))
    # Detectors give such keypoints a score of 0; who gives them one claims to see them, and has wrong intrinsics.
    with pytest.raises(InputError, match="out of the picture") as caught:
        fit_keypoints(outside, CAMERA, settings=QUICK)
    assert caught.value.field == "keypoints"
    half = replace(seen, points=seen.points - np.float32([seen.points[:, 0].mean() + 5, 0]))
    assert fit_keypoints(half, CAMERA, settings=QUICK).explained > 0.9


def test_upper_body_only() -> None:
    points = somebody(10.0)
    seen = keypoints(points)
    scores = seen.scores.copy()
    scores[LEGS] = 0
    fit = fit_keypoints(replace(seen, scores=scores), CAMERA, settings=QUICK)
    upper = [number for number, name in enumerate(JOINTS) if not name.endswith(("knee", "ankle"))]
    assert root_aligned(fit, points)[upper].mean() < 0.09
    legs = [JOINTS.index(f"{side} ankle") for side in ("left", "right")]
    assert (fit.joints[legs, 1] > fit.joints[0, 1]).all()
    assert fit.body.in_front


def test_one_wrong_keypoint_changes_little() -> None:
    points = somebody(0.0)
    seen = keypoints(points)
    wrong = seen.points.copy()
    wrong[LANDMARKS.index("left wrist")] += [150, -120]
    fit = fit_keypoints(replace(seen, points=wrong), CAMERA, settings=QUICK)
    others = [number for number, name in enumerate(JOINTS) if name not in ("left wrist", "left elbow")]
    assert root_aligned(fit, points)[others].mean() < 0.09
    assert 0.9 < fit.explained < 0.96


def test_tracking_follows_and_starts_over() -> None:
    points = somebody(15.0)
    first = fit_keypoints(keypoints(points, noise=1.0), CAMERA, settings=QUICK)
    later = points + np.array([0.06, 0.0, 0.05])
    followed = fit_keypoints(keypoints(later, noise=1.0, seed=1), CAMERA, previous=first, settings=QUICK)
    assert followed.tracked
    assert root_aligned(followed, later).mean() < 0.08
    other = somebody(170.0, seed=7)
    anew = fit_keypoints(keypoints(other), CAMERA, previous=first, settings=QUICK)
    assert root_aligned(anew, other).mean() < 0.1


def test_the_same_input_gives_the_same_body() -> None:
    seen = keypoints(somebody(30.0), noise=2.0)
    first, second = (fit_keypoints(seen, CAMERA, settings=QUICK) for _ in range(2))
    np.testing.assert_array_equal(first.body.vertices, second.body.vertices)


def with_scores(scores: np.ndarray | list[float]) -> BodyKeypoints:
    return replace(keypoints(somebody()), scores=np.asarray(scores, np.float32))


@pytest.mark.parametrize(
    ("found", "problem"),
    [
        ([], "too few for a body: none"),
        (["nose", "left eye", "right eye", "left ear", "right ear"], "too few for a body: nose, left eye"),
        (
            ["nose", "left wrist", "left elbow", "left knee", "left ankle", "right knee", "left hip"],
            "2 of them shoulders",
        ),
    ],
)
def test_too_few_keypoints(found: list[str], problem: str) -> None:
    with pytest.raises(InputError, match=problem) as caught:
        fit_keypoints(with_scores([float(name in found) for name in COCO_KEYPOINTS]), CAMERA, settings=QUICK)
    assert caught.value.field == "keypoints"


def test_what_is_not_a_number_is_refused_unless_it_was_not_found() -> None:
    seen = keypoints(somebody())
    points, scores = seen.points.copy(), seen.scores.copy()
    points[9] = np.nan
    with pytest.raises(InputError, match="NaN") as caught:
        BodyKeypoints(points, scores)
    assert caught.value.field == "keypoints.points"
    scores[9] = 0
    assert fit_keypoints(BodyKeypoints(points, scores), CAMERA, settings=QUICK).explained > 0.9
    scores[9] = np.nan
    with pytest.raises(InputError) as caught:
        BodyKeypoints(seen.points, scores)
    assert caught.value.field == "keypoints.scores"


def test_low_scores_are_keypoints_that_were_not_found() -> None:
    with pytest.raises(InputError, match="too few"):
        fit_keypoints(with_scores(np.full(17, 0.1)), CAMERA, settings=QUICK)


@pytest.mark.parametrize("change", [{"fx": 0.0}, {"fy": -1.0}, {"cx": float("nan")}, {"fx": float("inf")}])
def test_intrinsics_that_are_no_camera(change: dict[str, float]) -> None:
    with pytest.raises(InputError) as caught:
        fit_keypoints(keypoints(somebody()), replace(CAMERA, **change), settings=QUICK)
    assert caught.value.field == "intrinsics"


@pytest.mark.parametrize("focal", [3.0, 60_000.0])
def test_intrinsics_of_another_camera_are_suspected(focal: float) -> None:
    with pytest.raises(InputError, match="intrinsics"):
        fit_keypoints(keypoints(somebody()), replace(CAMERA, fx=focal, fy=focal), settings=QUICK)


def test_people_too_small_to_say_anything() -> None:
    points = np.random.default_rng(0).uniform(100, 108, (17, 2)).astype(np.float32)
    with pytest.raises(InputError, match=r"span \d pixels"):
        fit_keypoints(BodyKeypoints(points, np.ones(17, np.float32)), CAMERA, settings=QUICK)


def test_keypoints_of_no_body_are_refused() -> None:
    points = np.random.default_rng(3).uniform(0, 480, (17, 2)).astype(np.float32)
    with pytest.raises(InputError, match="fit no body"):
        fit_keypoints(BodyKeypoints(points, np.ones(17, np.float32)), CAMERA, settings=QUICK)


@settings(max_examples=12, deadline=None)
@given(st.lists(st.tuples(st.floats(-900, 1500), st.floats(-900, 1500), st.floats(0, 1)), min_size=17, max_size=17))
def test_any_keypoints_give_a_body_in_front_or_an_error(values: list[tuple[float, float, float]]) -> None:
    table = np.array(values, np.float32)
    steps = FitSettings(cold=(3, 3), kept=(1,), warm=2)
    try:
        fit = fit_keypoints(BodyKeypoints(table[:, :2], np.clip(table[:, 2], 0, 1)), CAMERA, settings=steps)
    except InputError:
        return
    assert fit.body.in_front
    assert 0.2 < fit.landmarks[:, 2].mean() < 60


def test_the_module_loads_torch_only_when_it_fits() -> None:
    code = "import sys, ivlm_core.bodies.keypoint_fit; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
