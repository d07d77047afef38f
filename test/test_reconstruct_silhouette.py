"""Coverage and its gradient: against shapes whose area is known, and against differences of supersampled masks."""

from __future__ import annotations

import importlib.util
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from ivlm_core import ConfigError, Mesh
from ivlm_core.objects import library_mesh
from ivlm_core.reconstruct.silhouette import OutlineMesh, coverage, silhouette_mask
from ivlm_core.types import CameraIntrinsics

CAMERA = CameraIntrinsics(150.0, 150.0, 47.3, 48.1, 96, 96)
OVERSAMPLING = 8
SQUARE = np.array([[-0.5, -0.5, 0], [0.5, -0.5, 0], [0.5, 0.5, 0], [-0.5, 0.5, 0]])
SQUARE_FACES = np.array([[0, 1, 2], [0, 2, 3]])


def plates(*boxes: tuple[float, float, float, float]) -> OutlineMesh:
    """Rectangles x0, y0, x1, y1 in the plane z = 0."""
    vertices = np.concatenate([[[a, b, 0], [c, b, 0], [c, d, 0], [a, d, 0]] for a, b, c, d in boxes]).astype(float)
    return OutlineMesh(vertices, np.concatenate([SQUARE_FACES + 4 * k for k in range(len(boxes))]))


def posed(motion: torch.Tensor, rotation: np.ndarray, translation: np.ndarray) -> tuple[torch.Tensor, ...]:
    """A batch of one pose, moved by rotation vector (3), translation (3) and log scale (1)."""
    x, y, z = motion[:3]
    zero = torch.zeros((), dtype=torch.float64)
    turn = torch.stack([torch.stack(row) for row in ((zero, -z, y), (z, zero, -x), (-y, x, zero))])
    turned = torch.linalg.matrix_exp(turn) @ torch.as_tensor(rotation)
    return turned[None], (torch.as_tensor(translation) + motion[3:6])[None], torch.exp(motion[6:])


def slope(mesh: OutlineMesh, weights: np.ndarray, rotation: np.ndarray, translation: np.ndarray, camera=CAMERA):
    """Weighted area in pixels and its gradient (7,) with respect to `posed`'s motion."""
    motion = torch.zeros(7, dtype=torch.float64, requires_grad=True)
    covered = coverage(mesh, *posed(motion, rotation, translation), camera)
    total = (covered.dense()[0] * torch.as_tensor(weights, dtype=torch.float32)).sum()
    total.backward()
    return float(total.detach()), motion.grad.numpy()


def supersampled(mesh: OutlineMesh, motion: np.ndarray, rotation: np.ndarray, translation: np.ndarray) -> np.ndarray:
    """(H, W) shares of each pixel that are covered, by 8 × 8 rays each in the camera's own frame."""
    k = OVERSAMPLING
    turned, shift, scale = (part[0].numpy() for part in posed(torch.as_tensor(motion), rotation, translation))
    x = ((np.arange(CAMERA.width * k) + 0.5) / k - 0.5 - CAMERA.cx) / CAMERA.fx
    y = ((np.arange(CAMERA.height * k) + 0.5) / k - 0.5 - CAMERA.cy) / CAMERA.fy
    direction = np.stack([*np.meshgrid(x, y), np.ones((len(y), len(x)))], axis=-1)
    rays = np.empty((*direction.shape[:2], 6), dtype=np.float32)
    rays[..., :3] = -turned.T @ shift / scale
    rays[..., 3:] = direction @ turned
    hits = mesh.hits(rays.reshape(-1, 6))
    return hits.reshape(CAMERA.height, k, CAMERA.width, k).mean(axis=(1, 3))


def torus() -> OutlineMesh:
    made = trimesh.creation.torus(0.12, 0.05, major_sections=64, minor_sections=32)
    return OutlineMesh(made.vertices, made.faces)


def soup(label: str) -> OutlineMesh:
    mesh = library_mesh(label)
    corners = mesh.vertices[mesh.faces]
    flipped = np.random.default_rng(0).random(len(corners)) < 0.5
    corners[flipped] = corners[flipped][:, ::-1]
    return OutlineMesh(corners.reshape(-1, 3), np.arange(3 * len(corners)).reshape(-1, 3))


def library(label: str) -> OutlineMesh:
    mesh = library_mesh(label)
    return OutlineMesh(mesh.vertices, mesh.faces)


MESHES = {
    "box": lambda: library("box"),
    "chair": lambda: library("chair"),
    "bottle": lambda: library("bottle"),
    "torus": torus,
    "cup as a soup": lambda: soup("cup"),
}


@pytest.mark.parametrize("name", list(MESHES))
def test_gradient_is_that_of_the_supersampled_mask(name):
    # Poses are random: straight edges along the pixel grid would fool the supersampled differences.
    mesh = MESHES[name]()
    side = float(np.ptp(mesh.vertices, axis=0).max())
    rng = np.random.default_rng(5)
    for offset in (0.0, 40.0):  # pixels: within the picture, and cut by its border
        depth = side * CAMERA.fx / 60.0
        rotation = Rotation.random(random_state=rng).as_matrix()
        translation = np.array([offset * depth / CAMERA.fx, 0.0, depth])
        weights = cv2.GaussianBlur(rng.normal(size=(96, 96)), (0, 0), 6.0) * 8.0
        # Steps that move the outline by half a pixel or so.
        unit = np.array([0.02, 0.02, 0.02, depth / 300, depth / 300, depth / 60, 0.02])
        _, gradient = slope(mesh, weights, rotation, translation)
        expected = np.array(
            [
                sum(
                    sign * (supersampled(mesh, sign * 0.5 * step, rotation, translation) * weights).sum()
                    for sign in (1, -1)
                )
                for step in np.diag(unit)
            ]
        )
        found = gradient * unit
        cosine = found @ expected / np.linalg.norm(found) / np.linalg.norm(expected)
        assert cosine > 0.99
        assert np.linalg.norm(found) / np.linalg.norm(expected) == pytest.approx(1.0, abs=0.07)


@pytest.mark.parametrize("name", ["box", "bottle", "torus"])
def test_area_is_nearer_the_truth_than_the_hard_mask(name):
    mesh = MESHES[name]()
    rng = np.random.default_rng(1)
    ours, hard = [], []
    for _ in range(3):
        rotation = Rotation.random(random_state=rng).as_matrix()
        translation = np.array([0.0, 0.0, float(np.ptp(mesh.vertices, axis=0).max()) * 2.5])
        truth = supersampled(mesh, np.zeros(7), rotation, translation)
        covered = coverage(mesh, *posed(torch.zeros(7, dtype=torch.float64), rotation, translation), CAMERA, depth=True)
        ours.append(abs(float(covered.values.sum()) - truth.sum()) / truth.sum())
        hard.append(abs(len(covered.hit_pixels) - truth.sum()) / truth.sum())
    assert np.mean(ours) < 0.003
    assert np.mean(ours) < 0.5 * np.mean(hard)


def test_area_of_a_square_and_its_slope():
    # One metre at three metres and 150 px focal length is 50 px: the area is known for every motion.
    area, gradient = slope(plates((-0.5, -0.5, 0.5, 0.5)), np.ones((96, 96)), np.eye(3), np.array([0.013, 0.017, 3.0]))
    assert area == pytest.approx(2500, rel=2e-3)
    np.testing.assert_allclose(gradient[3:5], 0.0, atol=1e-6)
    assert gradient[5] == pytest.approx(-2 * 2500 / 3.0, rel=0.02)
    assert gradient[6] == pytest.approx(2 * 2500, rel=0.02)


def test_holes_and_overlapping_parts_count_once():
    rim = [(-0.5, -0.5, 0.5, -0.3), (-0.5, 0.3, 0.5, 0.5), (-0.5, -0.5, -0.3, 0.5), (0.3, -0.5, 0.5, 0.5)]
    area, gradient = slope(plates(*rim), np.ones((96, 96)), np.eye(3), np.array([0.013, 0.017, 3.0]))
    expected = 2500 * (1 - 0.6**2)
    assert area == pytest.approx(expected, rel=0.01)
    assert gradient[6] == pytest.approx(2 * expected, rel=0.02)


def test_hidden_edges_have_no_gradient():
    # A second plate inside the outline of the first, nearer to the camera: nothing of it is seen against the empty.
    alone = slope(plates((-0.5, -0.5, 0.5, 0.5)), np.ones((96, 96)), np.eye(3), np.array([0.0, 0.0, 3.0]))
    mesh = plates((-0.5, -0.5, 0.5, 0.5), (-0.2, -0.2, 0.2, 0.2))
    both = OutlineMesh(mesh.vertices + ([[0, 0, 0]] * 4 + [[0, 0, -0.1]] * 4), mesh.faces)
    covered = slope(both, np.ones((96, 96)), np.eye(3), np.array([0.0, 0.0, 3.0]))
    assert covered[0] == alone[0]
    np.testing.assert_array_equal(covered[1], alone[1])


def test_the_border_of_the_picture_is_no_outline():
    # The square's right half is outside: moved right it loses its height, 50 px, per pixel.
    translation = np.array([(95.5 - CAMERA.cx) / 150.0 * 3.0, 0.01, 3.0])
    area, gradient = slope(plates((-0.5, -0.5, 0.5, 0.5)), np.ones((96, 96)), np.eye(3), translation)
    assert area == pytest.approx(1250, rel=0.01)
    assert gradient[3] == pytest.approx(-50 * 150.0 / 3.0, rel=0.02)


def test_soup_is_the_same_as_the_mesh_it_was_made_from():
    rotation = Rotation.random(random_state=3).as_matrix()
    weights = np.random.default_rng(0).normal(size=(96, 96))
    found = [slope(mesh, weights, rotation, np.array([0.0, 0, 0.3])) for mesh in (library("cup"), soup("cup"))]
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-6)
    np.testing.assert_allclose(found[0][1], found[1][1], rtol=1e-6)


def test_poses_of_a_batch_do_not_change_each_other():
    mesh = library("chair")
    rng = np.random.default_rng(0)
    rotation = torch.as_tensor(Rotation.random(5, random_state=rng).as_matrix())
    translation = torch.as_tensor(rng.uniform([-0.5, -0.5, 1.5], [0.5, 0.5, 3.0], size=(5, 3)))
    translation[3, 2] = -2.0  # behind the camera
    scale = torch.as_tensor(rng.uniform(0.7, 1.3, 5))
    together = coverage(mesh, rotation, translation, scale, CAMERA).dense()
    for k in range(5):
        one = slice(k, k + 1)
        alone = coverage(mesh, rotation[one], translation[one], scale[one], CAMERA).dense()
        torch.testing.assert_close(together[one], alone, rtol=0, atol=0)
    assert not together[3].any()
    assert together[[0, 1, 2, 4]].any(dim=(1, 2)).all()


def test_a_window_shows_what_the_picture_shows_there():
    mesh = library("bottle")
    pose = posed(
        torch.zeros(7, dtype=torch.float64), Rotation.random(random_state=1).as_matrix(), np.array([0, 0, 0.6])
    )
    whole = coverage(mesh, *pose, CAMERA).dense()[0]
    window = replace(CAMERA, cx=CAMERA.cx - 10, cy=CAMERA.cy - 20, width=70, height=60)
    torch.testing.assert_close(coverage(mesh, *pose, window).dense()[0], whole[20:80, 10:80], rtol=0, atol=1e-4)


def test_depth_is_metric_for_any_scale():
    mesh = plates((-0.5, -0.5, 0.5, 0.5))
    pose = (torch.eye(3, dtype=torch.float64)[None], torch.tensor([[0.0, 0, 3]]).double(), torch.tensor([0.5]).double())
    covered = coverage(mesh, *pose, CAMERA, depth=True)
    assert len(covered.hit_pixels) == pytest.approx(625, rel=0.1)
    np.testing.assert_allclose(covered.hit_points.numpy()[:, 2] * 0.5 + 3.0, 3.0, atol=1e-6)


@settings(max_examples=40, deadline=None)
@given(
    st.tuples(*[st.floats(-4, 4)] * 3),
    st.tuples(st.floats(-3, 3), st.floats(-3, 3), st.floats(-2, 5)),
    st.floats(-3, 3),
)
def test_any_pose_gives_finite_numbers(turn, shift, log_scale):
    # Also around the camera, behind it, and far beside the picture.
    motion = torch.tensor([0.0] * 6 + [log_scale], dtype=torch.float64, requires_grad=True)
    mesh = plates((-0.5, -0.5, 0.5, 0.5), (-0.2, -0.6, 0.1, 0.6))
    pose = posed(motion, Rotation.from_rotvec(turn).as_matrix(), np.array(shift))
    covered = coverage(mesh, *pose, CAMERA, depth=True)
    assert ((covered.values >= 0) & (covered.values <= 1)).all()
    if covered.values.numel():
        covered.values.sum().backward()
        assert torch.isfinite(motion.grad).all()


@pytest.mark.filterwarnings("error:invalid value")
@pytest.mark.parametrize(
    "shift", [(1e300, 0.0, 3.0), (3e38, -3e38, 3e38), (np.inf, 0.0, 3.0), (0.0, np.nan, 3.0), (0, 0, np.inf)]
)
def test_pose_that_no_number_holds_is_hidden(shift):
    """What stands beside it in the batch is seen as if it were alone."""
    square = OutlineMesh(SQUARE, SQUARE_FACES)
    shifts = torch.tensor([shift, (0.0, 0.0, 3.0)], dtype=torch.float64)
    turns = torch.eye(3, dtype=torch.float64).repeat(2, 1, 1)
    both = coverage(square, turns, shifts, torch.ones(2, dtype=torch.float64), CAMERA).dense()
    alone = coverage(square, turns[1:], shifts[1:], torch.ones(1, dtype=torch.float64), CAMERA).dense()
    assert not both[0].any()
    assert torch.equal(both[1], alone[0])


def test_mask_of_a_placed_mesh():
    square = Mesh((SQUARE + np.array([0.0, 0.0, 3.0])).astype(np.float32), SQUARE_FACES)
    camera = CameraIntrinsics(150.0, 150.0, 47.4, 40.2, 96, 80)
    mask = silhouette_mask(square, camera)
    # From −25 to 25 pixels around the principal point.
    rows, columns = np.nonzero(mask)
    assert (columns.min(), columns.max(), rows.min(), rows.max()) == (23, 72, 16, 65)
    assert mask.sum() == 50 * 50
    behind = Mesh((SQUARE - np.array([0.0, 0.0, 3.0])).astype(np.float32), SQUARE_FACES)
    assert not silhouette_mask(behind, camera).any()


def test_unknown_backend():
    pose = posed(torch.zeros(7, dtype=torch.float64), np.eye(3), np.array([0.0, 0, 3]))
    with pytest.raises(ConfigError, match="choose 'rays' or 'pytorch3d'"):
        coverage(plates((0, 0, 1, 1)), *pose, CAMERA, backend="opengl")


@pytest.mark.skipif(importlib.util.find_spec("pytorch3d") is not None, reason="pytorch3d is installed")
def test_absent_pytorch3d_is_named():
    pose = posed(torch.zeros(7, dtype=torch.float64), np.eye(3), np.array([0.0, 0, 3]))
    with pytest.raises(ConfigError, match="pytorch3d is not installed"):
        coverage(plates((0, 0, 1, 1)), *pose, CAMERA, backend="pytorch3d")


@pytest.mark.skipif(importlib.util.find_spec("pytorch3d") is None, reason="pytorch3d is not installed")
def test_pytorch3d_agrees_on_the_mask_and_on_the_direction_of_the_gradient():
    mesh = library("box")
    rotation = Rotation.random(random_state=2).as_matrix()
    weights = torch.ones(96 * 96)
    gradients, masks = [], []
    for backend in ("rays", "pytorch3d"):
        motion = torch.zeros(7, dtype=torch.float64, requires_grad=True)
        covered = coverage(mesh, *posed(motion, rotation, np.array([0.0, 0, 1.0])), CAMERA, backend=backend)
        (covered.values * weights[covered.pixel]).sum().backward()
        gradients.append(motion.grad)
        masks.append(covered.dense()[0] > 0.5)
    assert (masks[0] == masks[1]).float().mean() > 0.98
    assert torch.nn.functional.cosine_similarity(*gradients, dim=0) > 0.95
