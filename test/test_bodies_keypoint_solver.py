"""The solver: its kinematics, its energy's slope, and that it only goes down."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from ivlm_core.bodies.fit_bodies import fit_body
from ivlm_core.bodies.keypoint_solver import FitSettings, Seen, Solver
from ivlm_core.bodies.pose_prior import PosePrior, build_features
from ivlm_core.bodies.skeleton import HANGERS, JOINTS, LANDMARKS, chained, paths

SETTINGS = FitSettings(cold=(20, 30), kept=(1,), warm=10)


@pytest.fixture(scope="module")
def solver() -> Solver:
    return Solver(fit_body(), PosePrior.load(), SETTINGS)


def random_theta(seed: int, count: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    random = np.random.default_rng(seed)
    theta = random.normal(0, 0.5, (count, 70))
    theta[:, 3:6] = [0.05, -0.1, np.log(3.0)]
    starts = Rotation.random(count, rng=seed).as_matrix()
    return torch.tensor(theta, dtype=torch.float32), torch.tensor(starts, dtype=torch.float32)


def seen_from(points: np.ndarray, surface: np.ndarray | None = None) -> Seen:
    return Seen(
        points=points[:, :2] / points[:, 2:],
        weights=np.linspace(0.5, 1.0, 17),
        surface=np.full(17, np.nan) if surface is None else surface,
        pixel=1 / 600,
    )


def person(solver: Solver, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Landmarks of somebody three metres away, and the pelvis's rotation; drawn from the prior."""
    theta, _ = random_theta(seed, 1)
    upright = np.diag([1.0, -1.0, -1.0])
    starts = torch.tensor(upright[None], dtype=torch.float32)
    points = solver._landmarks(theta, starts)[0][0].numpy() + np.array([0.1, -0.1, 3.0])
    turn = Rotation.from_rotvec(theta[0, :3].numpy()).as_matrix()
    return points.astype(np.float64), turn @ upright


def test_landmarks_are_those_of_the_chain_in_plain_numpy(solver: Solver) -> None:
    theta, starts = random_theta(1)
    body = fit_body()
    prior = PosePrior.load()
    for row in range(len(theta)):
        values = theta[row].numpy().astype(np.float64)
        pose = prior.pose_mean + prior.pose_factor @ values[8:65]
        root = Rotation.from_rotvec(values[:3]).as_matrix() @ starts[row].numpy()
        local = np.concatenate([root[None], Rotation.from_rotvec(pose.reshape(-1, 3)).as_matrix()])
        build = np.clip(body.build_mean + body.build_factor @ values[65:], body.lowest, body.highest)
        hanging = (build_features((build - body.build_mean)[None]) @ body.hangers).reshape(-1, 3)
        expected = paths() @ np.einsum("hij,hj->hi", chained(local)[list(HANGERS)], hanging)
        landmarks, pelvis = solver._landmarks(theta, starts)
        found = landmarks[row].numpy()
        np.testing.assert_allclose(pelvis[row].numpy(), root, atol=1e-5)
        np.testing.assert_allclose(found, expected[: len(LANDMARKS)], atol=1e-5)
        joints = solver._landmarks(theta, starts, joints=True)[0][row].numpy()
        np.testing.assert_allclose(joints, expected[len(LANDMARKS) :], atol=1e-5)
        assert joints.shape == (len(JOINTS), 3)


@pytest.mark.parametrize("with_depth", [False, True])
def test_slope_agrees_with_finite_differences(solver: Solver, with_depth: bool) -> None:
    points, _ = person(solver)
    problem = solver._problem(seen_from(points, points[:, 2] + 0.05 if with_depth else None), 3.0)
    theta, _ = random_theta(4, 1)
    # Upright but for half a radian, so that the pelvis's tilt is not beyond its bound.
    starts = torch.diag(torch.tensor([1.0, -1.0, -1.0]))[None]
    theta.requires_grad_(True)
    (slope,) = torch.autograd.grad(solver._energy(problem, theta, starts).sum(), theta)
    random = torch.Generator().manual_seed(0)
    for _ in range(4):
        direction = torch.randn(theta.shape, generator=random)
        direction[:, 3:6] *= 0.1
        step = 2e-3
        with torch.no_grad():
            ahead, behind = (solver._energy(problem, theta + sign * step * direction, starts) for sign in (1, -1))
        expected = float((ahead - behind) / (2 * step))
        assert float((slope * direction).sum()) == pytest.approx(expected, rel=0.03, abs=0.3)


def test_unseen_landmarks_and_unknown_depth_change_nothing(solver: Solver) -> None:
    points, _ = person(solver)
    surface = np.where(np.arange(17) < 9, points[:, 2], np.nan)
    seen = seen_from(points, surface)
    lost = Seen(seen.points.copy(), seen.weights.copy(), surface.copy(), seen.pixel)
    lost.weights[[0, 16]] = 0
    other = Seen(lost.points.copy(), lost.weights.copy(), surface.copy(), seen.pixel)
    other.points[[0, 16]] = 99.0
    other.surface[0] = 77.0
    theta, starts = random_theta(2)
    first, second, full = (solver._energy(solver._problem(s, 3.0), theta, starts) for s in (lost, other, seen))
    torch.testing.assert_close(first, second)
    assert (full > first).all()


@pytest.mark.parametrize("up", [None, (0.0, -1.0, 0.0), (0.6, 0.0, 0.8), (0.0, 0.0, 1.0)])
def test_tilt_is_measured_from_the_way_up(solver: Solver, up: tuple[float, ...] | None) -> None:
    points, _ = person(solver)
    seen = replace(seen_from(points), up=None if up is None else np.array(up))
    problem = solver._problem(seen, 3.0)
    prior = PosePrior.load()
    lowered = np.radians(SETTINGS.looks_down if up is None else 0.0)
    upwards = np.array([0, -np.cos(lowered), -np.sin(lowered)]) if up is None else np.array(up)
    # The pelvis leans as the mean pose has it: x and z of the way up, in its frame.
    x, z = prior.tilt_mean.astype(np.float64)
    own = np.array([x, np.sqrt(1 - x**2 - z**2), z])
    upright, _ = Rotation.align_vectors(upwards[None], own[None])
    theta = torch.zeros(1, 70)

    def tilt(rotation: Rotation) -> float:
        return float(solver._tilt(problem, theta, torch.tensor(rotation.as_matrix()[None], dtype=torch.float32)))

    assert tilt(upright) < 1e-4
    turned = Rotation.from_rotvec(1.3 * upwards) * upright
    assert tilt(turned) < 1e-4
    # Towards its own left the pelvis leans less than forwards or back.
    spread = prior.tilt_factor @ prior.tilt_factor.T
    for axis, index in (("z", 0), ("x", 1)):
        leaning = upright * Rotation.from_euler(axis, 10, degrees=True)
        assert tilt(leaning) == pytest.approx(np.sin(np.radians(10)) ** 2 / spread[index, index], rel=0.15)
    assert tilt(upright * Rotation.from_euler("x", 180, degrees=True)) > SETTINGS.tilt_bound**2
    if up is None:
        # A camera may look further down, at the price of |c|².
        theta[0, 6] = 1.0
        lower = np.radians(SETTINGS.looks_down + SETTINGS.looks_down_spread)
        aligned, _ = Rotation.align_vectors([[0, -np.cos(lower), -np.sin(lower)]], own[None])
        assert tilt(aligned) < 1e-4


def test_knees_and_elbows_do_not_bend_backwards(solver: Solver) -> None:
    bent = torch.zeros(1, 57)
    for joint, axis, sign in (("left knee", 0, 1), ("right knee", 0, 1), ("left elbow", 1, -1), ("right elbow", 1, 1)):
        bent[0, 3 * (JOINTS.index(joint) - 1) + axis] = sign * 1.0
    assert torch.equal(bent @ solver._hinges, torch.ones(1, 4))


def test_descending_never_ends_higher_than_it_began(solver: Solver) -> None:
    points, _ = person(solver)
    problem = solver._problem(seen_from(points), 3.0)
    theta, starts = random_theta(6)
    low = solver._descend(problem, theta, starts, 40, 1.0, 0.1)
    before, after = solver._energy(problem, theta, starts), solver._energy(problem, low, starts)
    assert (after < before).all()
    # From there, steps that are far too large find nothing better and are not taken.
    again = solver._energy(problem, solver._descend(problem, low, starts, 3, 20.0, 1.0), starts)
    assert (again <= after + 1e-4).all()


def test_a_person_is_found_again(solver: Solver) -> None:
    points, rotation = person(solver)
    starts = np.array([np.diag([1.0, -1.0, -1.0]), np.diag([-1.0, -1.0, 1.0])])
    found = solver.cold(seen_from(points), starts)
    plane = found.landmarks[:, :2] / found.landmarks[:, 2:]
    assert np.linalg.norm(plane - points[:, :2] / points[:, 2:], axis=1).mean() < 0.01
    assert np.degrees(Rotation.from_matrix(found.rotation.T @ rotation).magnitude()) < 30
    np.testing.assert_allclose(found.rotation @ found.rotation.T, np.eye(3), atol=1e-6)
    np.testing.assert_allclose(found.joints[0], found.translation, atol=1e-5)
    again = solver.warm(seen_from(points), found)
    assert again.noise == pytest.approx(0.02 / found.translation[2])
    plane = again.landmarks[:, :2] / again.landmarks[:, 2:]
    assert np.linalg.norm(plane - points[:, :2] / points[:, 2:], axis=1).mean() < 0.01
    moved = seen_from(points + np.array([0.5, 0.3, 0.0]))
    assert solver.warm(moved, found).translation[0] > found.translation[0] + 0.3
    repeated = solver.cold(seen_from(points), starts)
    assert repeated.energy == found.energy
