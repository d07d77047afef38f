"""Each term is at its best where it should be, has the value that can be computed by hand, and pulls the right way."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import trimesh
from scipy.spatial.transform import Rotation

from ivlm_core.reconstruct.energy import ContactPairs, Energy, Weights, centroid_distance, overlap_ratio
from ivlm_core.reconstruct.levels import Observation, Target, target
from ivlm_core.reconstruct.patches import ContactPoints
from ivlm_core.reconstruct.silhouette import OutlineMesh, coverage
from ivlm_core.types import CameraIntrinsics

CAMERA = CameraIntrinsics(200.0, 200.0, 79.5, 59.5, 160, 120)
HERE = np.array([0.05, -0.03, 1.5])
Pose = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


def cuboid() -> OutlineMesh:
    made = trimesh.creation.box((0.4, 0.24, 0.1))
    return OutlineMesh(made.vertices, made.faces)


def pose(shift: object = (0, 0, 0), scale: float = 1.0, rotation: np.ndarray | None = None) -> Pose:
    turn = np.eye(3) if rotation is None else rotation
    return (
        torch.from_numpy(turn)[None],
        torch.from_numpy(HERE + np.asarray(shift, dtype=np.float64))[None],
        torch.tensor([scale], dtype=torch.float64),
    )


def batch(*poses: Pose) -> Pose:
    return tuple(torch.cat(parts) for parts in zip(*poses, strict=True))  # type: ignore[return-value]


def view(mesh: OutlineMesh, hidden: slice | None = None, depth: bool = False, at: Pose | None = None) -> Target:
    """What the camera sees of the mesh, from columns `hidden` on covered by a person."""
    covered = coverage(mesh, *(at or pose()), CAMERA, depth=True)
    mask = np.zeros(160 * 120, dtype=bool)
    which = covered.pixel[covered.hit_pixels].numpy()
    mask[which] = True
    far = np.full(160 * 120, np.nan, dtype=np.float32)
    far[which] = covered.hit_points.numpy()[:, 2] + HERE[2]
    valid = np.ones((120, 160), dtype=bool)
    if hidden is not None:
        valid[:, hidden] = False
    return target(Observation(CAMERA, mask.reshape(120, 160), valid, far.reshape(120, 160) if depth else None), 1000)


def test_mask_term_is_one_minus_iou():
    mesh, seen = cuboid(), view(cuboid())
    covered = coverage(mesh, *batch(pose(), pose((0.2, 0, 0)), pose((9, 0, 0))), seen.camera)
    ratio = overlap_ratio(covered, seen)
    # The mask ends at whole pixels, the coverage where the outline is: up to half a pixel all around, 5 % of the area.
    assert ratio[0] > 0.95
    # Moved by half its width: a third of what both cover is covered by both.
    assert ratio[1] == pytest.approx(1 / 3, abs=0.02)
    assert ratio[2] == 0.0


def test_hidden_part_does_not_shrink_the_object():
    # The right part is behind the person. At the true size nothing is lost; smaller, the visible part does not fit.
    mesh, seen = cuboid(), view(cuboid(), hidden=slice(90, 160))
    assert 0.3 < seen.area / float(view(mesh).area) < 0.7
    covered = coverage(mesh, *batch(pose(), pose(scale=0.8), pose(scale=1.2)), seen.camera)
    ratio = overlap_ratio(covered, seen)
    assert ratio[0] > 0.95
    assert ratio[0] > ratio[1] + 0.05
    assert ratio[0] > ratio[2] + 0.05


def test_object_partly_out_of_view_fits_at_its_true_size():
    mesh = cuboid()
    shift = (-0.65, 0.0, 0.0)
    seen = view(mesh, at=pose(shift))
    ratios = overlap_ratio(coverage(mesh, *batch(pose(shift), pose((-0.61, 0, 0), 0.8)), seen.camera), seen)
    assert seen.area < 0.6 * float(view(mesh).area)
    assert ratios[0] > 0.95
    assert ratios[1] < ratios[0] - 0.05


def test_centroid_is_measured_in_sides_of_the_mask():
    mesh, seen = cuboid(), view(cuboid())
    poses = batch(pose(), pose((0.2, 0, 0)))
    covered = coverage(mesh, *poses, seen.camera)
    found = centroid_distance(covered, seen, poses[1])
    # The near face, 1.45 m away, is what the side of the mask shows.
    np.testing.assert_allclose(found.numpy(), [0.0, 0.5], atol=0.02)


@pytest.mark.parametrize("side", [(-3.0, 0.0), (3.0, 0.0), (0.0, -3.0), (0.5, 3.0)])
def test_object_outside_the_picture_is_pulled_back(side):
    mesh, seen = cuboid(), view(cuboid())
    away = pose((*side, 0.0))
    away[1].requires_grad_()
    energy = Energy(mesh, seen, Weights())(*away)
    energy.sum().backward()
    pull = -away[1].grad[0, :2].numpy()
    towards = -np.array(side)
    assert pull @ towards / np.linalg.norm(pull) / np.linalg.norm(towards) > 0.99


def touching(rotation: np.ndarray | None = None) -> tuple[ContactPoints, ContactPoints]:
    """Nine points on the cuboid's face towards −z, and the person's at the same places."""
    x, y = np.meshgrid([-0.1, 0.0, 0.1], [-0.08, 0.0, 0.08])
    points = np.stack([x, y, np.full_like(x, -0.05)], axis=-1).reshape(-1, 3)
    normals = np.tile([0.0, 0, -1], (9, 1))
    weights, clusters = np.full(9, 1 / 9), np.zeros(9, dtype=np.int64)
    return ContactPoints(points + HERE, -normals, weights, clusters), ContactPoints(points, normals, weights, clusters)


def test_contact_is_zero_where_the_points_meet_and_bounded_far_away():
    contact = ContactPairs(*touching())
    found = contact(*batch(pose(), pose((0, 0, 0.06)), pose((0, 0, 50.0))))
    # At the bound, 6 cm, half is reached; far away no more than 1.
    np.testing.assert_allclose(found.numpy(), [0.0, 0.5, 1.0], atol=2e-6)


def test_contact_pairs_face_each_other():
    # Two sheets, 2 cm apart, with opposite normals: a person's point takes the one that looks at it, not the nearer.
    human = ContactPoints(HERE[None], np.array([[0.0, 0, 1]]), np.ones(1), np.zeros(1, np.int64))
    thing = ContactPoints(
        np.array([[0.0, 0, 0.005], [0.0, 0, 0.025]]),
        np.array([[0.0, 0, 1], [0.0, 0, -1]]),
        np.full(2, 0.5),
        np.zeros(2, np.int64),
    )
    moving = pose()
    moving[1].requires_grad_()
    found = ContactPairs(human, thing)(*moving)

    def bounded(distance: float) -> float:
        return distance**2 / (distance**2 + 0.06**2)

    expected = 0.5 * (0.5 * (bounded(0.005) + bounded(0.025)) + bounded(0.025))
    assert float(found.detach()) == pytest.approx(expected, rel=1e-6)


def test_contact_is_the_same_in_any_frame():
    rotation = Rotation.from_rotvec([0.5, -1.0, 0.3]).as_matrix()
    human, thing = touching()
    turned = ContactPoints(
        (human.points - HERE) @ rotation.T + HERE, human.normals @ rotation.T, human.weights, human.clusters
    )
    assert float(ContactPairs(turned, thing)(*pose(rotation=rotation))) == pytest.approx(0.0, abs=1e-9)


def test_depth_term_knows_the_distance_that_the_mask_does_not():
    mesh, seen = cuboid(), view(cuboid(), depth=True)
    larger = pose(HERE * 0.05, 1.05)  # the same picture from further away
    energy = Energy(mesh, seen, Weights(centroid=0, scale=0))
    terms = energy.terms(*batch(pose(), larger, pose((0, 0, 0.05))))
    assert terms["depth"][0] < 0.03
    # 7 cm further away with a bound of 5 cm.
    assert terms["depth"][1] == pytest.approx(0.0725**2 / (0.0725**2 + 0.05**2), abs=0.05)
    assert terms["mask"][1] == pytest.approx(float(terms["mask"][0]), abs=0.02)
    moving = pose((0, 0, 0.02))
    moving[1].requires_grad_()
    energy.terms(*moving)["depth"].sum().backward()
    assert moving[1].grad[0, 2] > 0


def test_scale_is_drawn_to_what_is_expected():
    energy = Energy(cuboid(), view(cuboid()), Weights(), scale=2.0, spread=0.1)
    found = energy.terms(*batch(pose(scale=2.0), pose(scale=2.0 * np.exp(0.2))))["scale"]
    np.testing.assert_allclose(found.numpy(), [0.0, 4.0], atol=1e-9)


def test_terms_can_be_left_out():
    mesh, seen = cuboid(), view(cuboid(), depth=True)
    everything = Energy(mesh, seen, Weights(), ContactPairs(*touching())).terms(*pose())
    assert set(everything) == {"mask", "centroid", "contact", "depth", "scale"}
    none = Energy(mesh, seen, Weights(contact=0, depth=0, scale=0, centroid=0), ContactPairs(*touching()))
    assert set(none.terms(*pose())) == {"mask"}
    total = Energy(mesh, seen, Weights(), ContactPairs(*touching()))(*pose((0.02, 0, 0.03), 1.05))
    terms = Energy(mesh, seen, Weights(), ContactPairs(*touching())).terms(*pose((0.02, 0, 0.03), 1.05))
    weights = Weights()
    assert float(total) == pytest.approx(sum(getattr(weights, name) * float(term) for name, term in terms.items()))


def test_gradient_of_the_whole_energy():
    # Two terms at once against differences: contact and scale are smooth; the mask's own test is the silhouette's.
    mesh, seen = cuboid(), view(cuboid())
    energy = Energy(mesh, seen, Weights(mask=0, centroid=0), ContactPairs(*touching()))
    rotation = Rotation.from_rotvec([0.02, 0.03, -0.01]).as_matrix()
    moving = pose((0.011, 0.007, 0.02), 1.03, rotation)
    for part in moving:
        part.requires_grad_()
    energy(*moving).sum().backward()
    for axis in range(3):
        step = np.eye(3)[axis] * 1e-5
        ends = [float(energy(*pose(np.array([0.011, 0.007, 0.02]) + sign * step, 1.03, rotation))) for sign in (1, -1)]
        assert float(moving[1].grad[0, axis]) == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-3, abs=1e-6)
