"""Scores of bodies fitted to keypoints: the errors themselves, the detector that is imitated, and the table."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from ivlm_core.bodies.skeleton import LANDMARKS
from ivlm_core.datasets.synthetic import SAMPLE, SceneRecord, SynthHoi
from ivlm_core.datasets.synthetic.split import TRAINING_SEED
from ivlm_core.errors import ConfigError, InputError
from ivlm_core.evaluate.bodies import (
    SCORED,
    WAYS,
    bodies_text,
    body_fit_scores,
    evaluate_bodies,
    joint_errors,
    noisy_depth,
    noisy_keypoints,
    true_body,
)
from ivlm_core.evaluate.synthhoi import Setup


@pytest.fixture(scope="module")
def scene() -> SceneRecord:
    return SynthHoi(SAMPLE, "test")[0]


def test_errors_are_free_of_what_they_are_aligned_by() -> None:
    truth = np.random.default_rng(0).normal(0, 0.5, (len(SCORED), 3))
    moved = joint_errors(truth, truth + np.array([0, 0, 0.1]))
    assert moved["absolute_cm"] == pytest.approx(10)
    assert moved["root_aligned_cm"] == pytest.approx(0, abs=1e-9)
    scaled = joint_errors(truth, 1.2 * truth + np.array([0, 0, 0.1]))
    assert scaled["root_aligned_cm"] > 1
    assert scaled["scale_aligned_cm"] == pytest.approx(0, abs=1e-9)
    turned = joint_errors(truth, 0.8 * truth @ Rotation.random(rng=0).as_matrix().T + 1.0)
    assert turned["scale_aligned_cm"] > 1
    assert turned["procrustes_cm"] == pytest.approx(0, abs=1e-9)
    assert joint_errors(truth, truth * [1, 1, -1])["procrustes_cm"] > 1


def test_truth_is_what_the_scene_says(scene: SceneRecord) -> None:
    joints, landmarks, vertices = true_body(scene)
    camera = scene.intrinsics
    pixels = vertices[:, :2] / vertices[:, 2:] * [camera.fx, camera.fy] + [camera.cx, camera.cy]
    np.testing.assert_allclose(pixels, scene.body_pixels(), atol=1e-2)
    np.testing.assert_array_equal(landmarks[LANDMARKS.index("left hip")], joints[1])
    assert np.linalg.norm(landmarks[0] - joints[13]) < 0.2


def test_keypoints_are_lost_outside_the_picture_and_doubtful_behind_things(scene: SceneRecord) -> None:
    _, landmarks, _ = true_body(scene)
    draws = [noisy_keypoints(scene, landmarks, np.random.default_rng(seed)) for seed in range(30)]
    scores = np.array([draw.scores for draw in draws])
    seen = scores.min(axis=0) >= 0.7
    assert seen.any()
    camera = scene.intrinsics
    exact = landmarks[:, :2] / landmarks[:, 2:] * [camera.fx, camera.fy] + [camera.cx, camera.cy]
    off = np.array([draw.points for draw in draws])[:, seen] - exact[seen]
    assert off.std() == pytest.approx(2.0, rel=0.15)
    outside = noisy_keypoints(scene, landmarks + np.array([100.0, 0, 0]), np.random.default_rng(0))
    assert (outside.scores == 0).all()
    hidden = noisy_keypoints(scene, landmarks + np.array([0, 0, 1.0]), np.random.default_rng(0))
    assert (hidden.scores <= 0.6).sum() >= 10


def test_depth_has_noise_and_holes(scene: SceneRecord) -> None:
    depth = noisy_depth(scene, np.random.default_rng(0))
    known = np.isfinite(depth)
    assert known[scene.depth > 0].mean() == pytest.approx(0.9, abs=0.02)
    assert not known[scene.depth <= 0].any()
    assert (depth[known] / scene.depth[known]).std() == pytest.approx(0.01, rel=0.1)


def test_scores_of_a_few_scenes() -> None:
    seen = []
    report = evaluate_bodies(Setup("test", 2, data=SAMPLE), lambda done, total: seen.append((done, total)))
    assert (report["scenes"], report["split"], report["data"]) == (2, "test", SAMPLE.name)
    assert seen == [(1, 2), (2, 2)]
    assert 0 <= report["missing_keypoints"] < 1
    for way in WAYS:
        scores = report[way]
        assert scores["fitted"] == 1
        assert not scores["refused"]
        assert 0 < scores["procrustes_cm"] < 1.2 * scores["scale_aligned_cm"]
        assert scores["root_aligned_cm"] < 20
        assert scores["root_aligned_cm_median"] == pytest.approx(scores["root_aligned_cm"])
        assert scores["cpu_seconds"] > 0
    assert report["keypoints_and_depth"]["absolute_cm"] < 25
    assert f"{report['tracked']['absolute_cm']:.3f}" in bodies_text(report)


def test_scenes_that_cannot_be_fitted_are_counted_with_their_reason(scene: SceneRecord) -> None:
    far = replace(scene, camera_position=scene.camera_position + 100 * scene.camera_rotation[0])
    scores = body_fit_scores([far])
    assert scores["missing_keypoints"] == 1
    assert scores["keypoints"] == {"fitted": 0, "refused": {"are too few for a body: none": 1}}
    assert scores["tracked"]["refused"] == {"there was no fit to go on from": 1}
    assert "–" in bodies_text({**scores, "split": "test"})


def test_no_scenes_too_many_and_those_of_training() -> None:
    with pytest.raises(InputError, match="are empty"):
        body_fit_scores([])
    with pytest.raises(ConfigError, match="stored ones"):
        evaluate_bodies(Setup("test", 17, data=SAMPLE))
    with pytest.raises(ConfigError, match="training seed"):
        evaluate_bodies(Setup("test", 1, seed=TRAINING_SEED))
