"""The volume that body and object share, and how it falls when the object moves."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import trimesh
from scipy.spatial.transform import Rotation

from ivlm_core.reconstruct.penetration import Overlap, body_depth_inside
from ivlm_core.reconstruct.pose import Pose
from ivlm_core.reconstruct.volume import Volume
from ivlm_core.types import Mesh, PosedBody

HERE = np.array([0.0, 0.0, 2.0])


def ball_body(radius: float = 0.3) -> PosedBody:
    ball = trimesh.creation.icosphere(subdivisions=5, radius=radius)
    return PosedBody((ball.vertices + HERE).astype(np.float32), ball.faces.astype(np.int32), "anny")


def box_volume(size: tuple[float, float, float]) -> Volume:
    made = trimesh.creation.box(size)
    return Volume(made.vertices, made.faces)


def tensors(pose: Pose) -> tuple[torch.Tensor, ...]:
    return (
        torch.from_numpy(pose.rotation)[None],
        torch.from_numpy(pose.translation)[None],
        torch.tensor([pose.scale], dtype=torch.float64),
    )


def test_apart_is_nothing():
    overlap = Overlap(box_volume((0.2, 0.2, 0.2)), ball_body(), HERE, 1.0)
    apart = Pose(np.eye(3), HERE + np.array([0.5, 0, 0]), 1.0)
    assert overlap.litres(*tensors(apart)).tolist() == [0.0]
    assert overlap.depth(apart) == 0.0


@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_depth_of_a_box_in_a_ball(scale):
    # A slab of 4 cm half thickness whose face is 2 cm below the ball's top.
    overlap = Overlap(box_volume((1.0, 0.08, 1.0)), ball_body(), HERE, 1.0)
    pose = Pose(np.eye(3), HERE + np.array([0, 0.28 + 0.04 * scale, 0]), scale)
    # Skin 2 cm inside the slab; the slab's face 2 cm inside the ball.
    assert overlap.depth(pose) == pytest.approx(0.02, abs=0.002)


def test_volume_of_a_cap():
    # The skin within a large slab, times its depth there: the cap's volume π h² (3 r − h) / 3. The slab's own surface
    # within the ball lies at depth r − |x| at most h: its share is integrated the same way.
    depth, radius = 0.05, 0.3
    overlap = Overlap(box_volume((1.0, 0.4, 1.0)), ball_body(radius), HERE, 1.0)
    pose = Pose(np.eye(3), HERE + np.array([0, radius - depth + 0.2, 0]), 1.0)
    distance = np.linspace(0, np.sqrt(radius**2 - (radius - depth) ** 2), 2000)
    ring = 2 * np.pi * distance * (radius - np.hypot(distance, radius - depth))
    of_slab = float(((ring[1:] + ring[:-1]) / 2 * np.diff(distance)).sum())
    # Depth of the skin is measured along the slab's normal, its area along the sphere: 2 π r h · h / 2.
    of_skin = np.pi * radius * depth**2
    found = float(overlap.litres(*tensors(pose))[0])
    assert found == pytest.approx(1000 * (of_skin + of_slab), rel=0.15)


def test_gradient_is_that_of_the_volume():
    overlap = Overlap(box_volume((0.5, 0.3, 0.4)), ball_body(), HERE, 1.0)
    rotation = Rotation.from_rotvec([0.3, 0.4, -0.2]).as_matrix()
    pose = Pose(rotation, HERE + np.array([0.05, 0.38, 0.03]), 1.1)
    turn, shift, size = (part.requires_grad_() for part in tensors(pose))
    overlap.litres(turn, shift, size).sum().backward()

    def value(moved: Pose) -> float:
        return float(overlap.litres(*tensors(moved))[0])

    step = 2e-3
    moves = [np.eye(3)[k] * step for k in range(3)]
    expected = [
        (value(Pose(rotation, pose.translation + move, 1.1)) - value(Pose(rotation, pose.translation - move, 1.1)))
        / (2 * step)
        for move in moves
    ]
    found = shift.grad[0].numpy()
    assert found @ expected / np.linalg.norm(found) / np.linalg.norm(expected) > 0.98
    assert np.linalg.norm(found) == pytest.approx(np.linalg.norm(expected), rel=0.1)
    grown = (
        value(Pose(rotation, pose.translation, 1.1 + step)) - value(Pose(rotation, pose.translation, 1.1 - step))
    ) / (2 * step)
    assert float(size.grad[0]) == pytest.approx(grown, rel=0.25)
    # Up, out of the ball, is the way.
    assert found[1] < -0.5 * np.linalg.norm(found)


def test_every_pose_of_a_batch_counts_by_itself():
    overlap = Overlap(box_volume((0.2, 0.2, 0.2)), ball_body(), HERE, 1.0)
    poses = [Pose(np.eye(3), HERE + np.array([0, y, 0]), 1.0) for y in (0.1, 0.35, 0.9)]
    batch = [torch.cat(parts) for parts in zip(*map(tensors, poses), strict=True)]
    together = overlap.litres(*batch)
    alone = torch.cat([overlap.litres(*tensors(pose)) for pose in poses])
    torch.testing.assert_close(together, alone, rtol=0, atol=0)
    assert together[0] > together[1] > together[2] == 0.0


def test_depth_of_a_mesh_in_a_body():
    made = trimesh.creation.box((1.0, 0.08, 1.0))
    turn = Rotation.from_rotvec([0, 0, np.pi / 2]).as_matrix()
    found = body_depth_inside(Mesh(made.vertices, made.faces), ball_body(), turn, HERE + np.array([0.31, 0, 0]), 1.0)
    assert found == pytest.approx(0.03, abs=0.002)


def test_thin_things_through_a_body_count():
    # A rod thinner than the body's vertices are apart, straight through: only the rod's own points tell.
    overlap = Overlap(box_volume((0.01, 1.2, 0.01)), ball_body(), HERE, 1.0)
    assert overlap.depth(Pose(np.eye(3), HERE, 1.0)) == pytest.approx(0.3, abs=0.01)
