"""The prior of the keypoint fit: what its file holds, and the command that rebuilds it."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from ivlm_core.bodies import AnnyRig, Phenotype, mirrored_vertices
from ivlm_core.bodies.build_pose_prior import build, face_vertices, hanging_vectors
from ivlm_core.bodies.pose_prior import ASSET, PosePrior, build_features, read_prior
from ivlm_core.bodies.skeleton import FACE, JOINT_TWINS, JOINTS, LANDMARKS
from ivlm_core.datasets.synthetic import SAMPLE, SynthHoi
from ivlm_core.errors import MeshError


def test_asset_is_small_and_holds_no_pickle() -> None:
    assert ASSET.stat().st_size <= 100_000
    with np.load(ASSET, allow_pickle=False) as stored:
        assert all(stored[name].dtype.kind in "fuU" for name in stored.files)


def test_prior_is_symmetric_and_says_where_it_comes_from() -> None:
    prior = PosePrior.load()
    assert "generated" in prior.metadata["learned_from"]
    assert prior.metadata["scenes"] >= 1000
    twins = np.array(JOINT_TWINS[1:]) - 1
    mean = prior.pose_mean.reshape(-1, 3)
    np.testing.assert_allclose(mean[twins] * [1, -1, -1], mean, atol=1e-4)
    count = len(JOINTS) - 1
    covariance = (prior.pose_factor @ prior.pose_factor.T).reshape(count, 3, count, 3)
    signs = np.array([1, -1, -1])
    mirrored = covariance[twins][:, :, twins] * signs[:, None, None] * signs
    np.testing.assert_allclose(mirrored, covariance, atol=1e-3)
    # No joint is stiff: collars never move in the generated scenes.
    assert np.sqrt(np.diag(prior.pose_factor @ prior.pose_factor.T)).min() >= np.radians(4.9)


def test_those_who_bend_their_hips_lean_forward() -> None:
    prior = PosePrior.load()
    assert abs(prior.tilt_mean[0]) < 1e-3
    assert np.abs(np.degrees(prior.tilt_mean)).max() < 10
    spread = np.degrees(np.sqrt(np.diag(prior.tilt_factor @ prior.tilt_factor.T)))
    assert (spread > 4.9).all()
    assert (spread < 15).all()
    # Standing with bent thighs and straight knees is bowing: the way up moves to the pelvis's back, −z.
    bent = np.zeros((len(JOINTS) - 1, 3))
    for side in ("left", "right"):
        bent[JOINTS.index(f"{side} hip") - 1, 0] = np.radians(-30)
    whitened = np.linalg.solve(prior.pose_factor.astype(np.float64), bent.ravel())
    assert (prior.tilt_of_pose @ whitened)[1] < -0.02


def test_landmarks_of_the_face_are_where_they_belong() -> None:
    vertices, faces = AnnyRig.load().vertices, face_vertices()
    at = {name: vertices[faces[name]].mean(axis=0) for name in FACE}
    twins = mirrored_vertices()
    for part in ("eye", "ear"):
        assert set(twins[faces[f"left {part}"]]) == set(faces[f"right {part}"])
        assert at[f"left {part}"][0] > 0.02
    assert abs(at["nose"][0]) < 1e-3
    assert at["nose"][2] > at["left eye"][2] > at["left ear"][2]
    assert at["left eye"][1] > at["nose"][1]
    assert at["left ear"][0] > at["left eye"][0]
    stored = PosePrior.load().face_vertices
    for name in FACE:
        np.testing.assert_array_equal(stored[name], faces[name])


@pytest.mark.parametrize("seed", [1, 2])
def test_hanging_vectors_of_people_are_fitted(seed: int) -> None:
    prior = PosePrior.load()
    person = Phenotype.draw(np.random.default_rng(1000 + seed))
    features = build_features(np.array([person.values]) - prior.build_mean)
    fitted = (features @ prior.hangers).reshape(-1, 3)
    off = np.linalg.norm(fitted - hanging_vectors(person, face_vertices()), axis=1)
    assert off.mean() < 0.003
    assert off.max() < 0.015


def test_depth_under_the_skin_is_that_of_a_body() -> None:
    prior = PosePrior.load()
    depth = dict(zip(LANDMARKS, prior.depth_offset, strict=True))
    assert abs(depth["nose"]) < 0.01
    assert 0.01 < depth["left wrist"] < depth["left shoulder"] < depth["left hip"] < 0.2
    assert (prior.depth_spread >= 0.01 - 1e-6).all()


def test_rebuilding_gives_such_a_prior(tmp_path: Path) -> None:
    records = list(itertools.islice(SynthHoi(SAMPLE, "test"), 6))
    figures = build(records, tmp_path / "prior.npz")
    assert figures["scenes"] == 6
    assert figures["hangers_mean_mm"] < 3
    prior, shipped = read_prior(tmp_path / "prior.npz"), PosePrior.load()
    # Builds do not depend on the scenes, poses do.
    for name in ("hangers", "build_mean", "build_factor"):
        np.testing.assert_allclose(getattr(prior, name), getattr(shipped, name), atol=1e-4, err_msg=name)
    for name in ("pose_mean", "tilt_mean", "tilt_factor"):
        assert not np.allclose(getattr(prior, name), getattr(shipped, name), atol=1e-3), name
        assert getattr(prior, name).shape == getattr(shipped, name).shape
    assert (np.abs(prior.depth_offset) < 0.3).all()


def test_too_few_scenes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(MeshError, match="give more scenes"):
        build([SynthHoi(SAMPLE, "test")[0]], tmp_path / "prior.npz")
    assert not (tmp_path / "prior.npz").exists()


def test_missing_and_damaged_assets_say_how_to_rebuild(tmp_path: Path) -> None:
    with pytest.raises(MeshError, match=r"is missing.*build_pose_prior"):
        read_prior(tmp_path / "none.npz")
    content = ASSET.read_bytes()
    broken = tmp_path / "broken.npz"
    for damage in (b"", content[: len(content) // 2], content[:1000] + bytes(1000) + content[2000:]):
        broken.write_bytes(damage)
        with pytest.raises(MeshError, match=r"is damaged.*build_pose_prior"):
            read_prior(broken)
    with np.load(ASSET, allow_pickle=False) as stored:
        np.savez(broken, **{name: stored[name] for name in stored.files if name != "hangers"})
    with pytest.raises(MeshError, match="hangers"):
        read_prior(broken)
