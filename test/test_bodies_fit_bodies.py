"""The bodies of the keypoint fit: that the fit's own joints are those of the body it returns."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from ivlm_core.bodies import AnnyRig, Phenotype
from ivlm_core.bodies.fit_bodies import AnnyFitBody, fit_body
from ivlm_core.bodies.keypoint_fit import fit_keypoints
from ivlm_core.bodies.keypoint_solver import FitSettings
from ivlm_core.bodies.pose_prior import PosePrior, build_features
from ivlm_core.bodies.posed import rig_of_person
from ivlm_core.bodies.skeleton import ANNY_BONES, FACE, HANGERS, JOINTS, LANDMARKS, SMPL_JOINTS, chained, paths, to_anny
from ivlm_core.bodies.smpl_family import _LAYOUTS
from ivlm_core.errors import InputError
from ivlm_core.types import BodyKeypoints, CameraIntrinsics

FACE_IDS = {"smplx": (9120, 9448, 9929, 6, 616), "smpl": (332, 2800, 6260, 583, 4071)}


def local_rotations(seed: int) -> np.ndarray:
    turns = np.random.default_rng(seed).normal(0, 0.5, (len(JOINTS), 3))
    return Rotation.from_rotvec(turns).as_matrix()


def points(hangers: np.ndarray, local: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Landmarks and joints, in plain numpy."""
    hanging = hangers.reshape(len(HANGERS), 3).astype(np.float64)
    turned = np.einsum("hij,hj->hi", chained(local)[list(HANGERS)], hanging)
    both = paths() @ turned
    return both[: len(LANDMARKS)], both[len(LANDMARKS) :]


def smpl_like_anny(path: Path, name: str) -> Path:
    """A model file of real size whose joints and face are those of a neutral Anny; its first beta makes it larger."""
    layout = _LAYOUTS[name]
    joints, count = len(layout.joints), layout.vertices
    mean = PosePrior.load().hangers[0]
    landmarks, places = points(mean, np.tile(np.eye(3), (len(JOINTS), 1, 1)))
    origin = np.array([0.01, -0.2, 0.03])  # the model's origin is not its pelvis
    places = places + origin
    rest = np.zeros((joints, 3))
    parents = np.array(
        [-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19]
        + {"smpl": [20, 21], "smplx": [15, 15, 15, *[20] * 15, *[21] * 15]}[name]
    )
    rest[list(SMPL_JOINTS)] = places
    for joint in sorted(set(range(joints)) - set(SMPL_JOINTS)):
        rest[joint] = rest[parents[joint]] + [0.01, -0.02, 0.03]
    owner = np.arange(count) % joints
    owner[list(FACE_IDS[name])] = layout.joints.index("head")
    # Each joint is the mean of two of its vertices that lie on opposite sides of it.
    spread = np.random.default_rng(0).normal(0, 0.03, (count, 3))
    regressor = np.zeros((joints, count))
    for joint in range(joints):
        own = [vertex for vertex in np.flatnonzero(owner == joint) if vertex not in FACE_IDS[name]][:2]
        spread[own[1]] = -spread[own[0]]
        regressor[joint, own] = 0.5
    template = rest[owner] + spread
    template[list(FACE_IDS[name])] = landmarks[:5] + origin
    weights = np.zeros((count, joints))
    weights[np.arange(count), owner] = 1
    start = np.random.default_rng(1).integers(0, count - 3, layout.faces)
    directions = np.zeros((count, 3, 10))
    directions[:, :, 0] = 0.05 * template
    np.savez(
        path,
        v_template=template,
        f=(start[:, None] + [0, 1, 2]).astype(np.uint32),
        weights=weights,
        J_regressor=regressor,
        posedirs=np.zeros((count, 3, 9 * (joints - 1)), np.float32),
        kintree_table=np.stack([parents.astype(np.uint32), np.arange(joints, dtype=np.uint32)]),
        shapedirs=directions,
    )
    return path


@pytest.mark.parametrize("seed", [0, 1])
def test_annys_vertices_have_the_fits_landmarks_and_joints(seed: int) -> None:
    body = fit_body()
    assert isinstance(body, AnnyFitBody)
    person = Phenotype.draw(np.random.default_rng(seed))
    local = local_rotations(seed)
    build = np.array(person.values)
    vertices = body.vertices(local, build)
    landmarks, joints = points(build_features((build - body.build_mean)[None]) @ body.hangers, local)
    faces = PosePrior.load().face_vertices
    for number, name in enumerate(FACE):
        assert np.linalg.norm(vertices[faces[name]].mean(axis=0) - landmarks[number]) < 0.02
    rig = rig_of_person(body.phenotype(build))
    moved = rig.bone_transforms(to_anny(rig, local))
    heads = np.einsum("bij,bj->bi", moved[:, :, :3], rig.joints) + moved[:, :, 3]
    own = heads[[rig.joint_names.index(bone) for bone in ANNY_BONES]]
    off = np.linalg.norm(own - joints, axis=1)
    assert off.mean() < 0.006
    assert off.max() < 0.02
    np.testing.assert_array_equal(body.faces, AnnyRig.load().faces)


def test_builds_beyond_the_phenotypes_are_limited() -> None:
    body = fit_body()
    assert isinstance(body, AnnyFitBody)
    assert body.phenotype(np.array([2.0, 0.1, -3.0, 0.25, 0.5])) == Phenotype(1.0, 0.5, 0.0, 0.25, 0.5)


@pytest.mark.parametrize("name", ["smpl", "smplx"])
def test_smpls_vertices_have_the_fits_landmarks_and_joints(tmp_path: Path, name: str) -> None:
    body = fit_body(name, smpl_like_anny(tmp_path / "model.npz", name))
    local, build = local_rotations(3), np.array([1.5, *[0.0] * 9])
    vertices = body.vertices(local, build)
    features = build_features((build - body.build_mean)[None])
    landmarks, joints = points(features @ body.hangers, local)
    np.testing.assert_allclose(vertices[list(FACE_IDS[name])], landmarks[:5], atol=1e-5)
    own = np.load(tmp_path / "model.npz")["J_regressor"] @ vertices
    np.testing.assert_allclose(own[list(SMPL_JOINTS)], joints, atol=1e-5)
    np.testing.assert_allclose(own[0], 0, atol=1e-6)


def test_smplx_is_fitted_to_keypoints(tmp_path: Path) -> None:
    camera = CameraIntrinsics(fx=600.0, fy=600.0, cx=319.5, cy=239.5, width=640, height=480)
    body = fit_body("smplx", smpl_like_anny(tmp_path / "model.npz", "smplx"))
    prior = PosePrior.load()
    pose = Rotation.from_rotvec(prior.pose_mean.reshape(-1, 3)).as_matrix()
    local = np.concatenate([np.diag([1.0, -1.0, -1.0])[None], pose])
    landmarks, joints = (part + np.array([0.2, -0.1, 3.5]) for part in points(prior.hangers[0], local))
    pixels = landmarks[:, :2] / landmarks[:, 2:] * 600.0 + [camera.cx, camera.cy]
    keypoints = BodyKeypoints(pixels.astype(np.float32), np.ones(17, np.float32))
    settings = FitSettings(cold=(15, 25, 35), kept=(4, 1), warm=5)
    fit = fit_keypoints(keypoints, camera, body=body, settings=settings)
    assert fit.body.body_model == "smplx"
    assert fit.body.vertices.shape == (10475, 3)
    np.testing.assert_allclose(fit.body.vertices[list(FACE_IDS["smplx"])], fit.landmarks[:5], atol=1e-4)
    off = np.linalg.norm((fit.joints - fit.joints[0]) - (joints - joints[0]), axis=1)
    assert off.mean() < 0.06
    # A fit of another body model is no start.
    assert not fit_keypoints(keypoints, camera, previous=fit, settings=settings).tracked


def test_bodies_that_are_not_there() -> None:
    with pytest.raises(InputError, match=r"unknown.*anny, smpl"):
        fit_body("human")
    with pytest.raises(InputError, match="licensed"):
        fit_body("smplx")
