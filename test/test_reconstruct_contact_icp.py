"""Contact ICP: a known pose is found again from far rotations, through noise, outliers and two patches."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from ivlm_core import InputError
from ivlm_core.objects import library_mesh
from ivlm_core.reconstruct.contact_icp import (
    BOUND,
    align_contacts,
    contact_residual,
    contact_starts,
    different_first,
)
from ivlm_core.reconstruct.patches import ContactPoints, patch_numbers
from ivlm_core.reconstruct.pose import spread_rotations
from ivlm_core.reconstruct.surface import surface_samples

STARTS = spread_rotations(64)


class Scene:
    """An object at a random pose, touched in one or two patches of 6 cm radius; 60 points a side.

    Parameters
    ----------
    shift : of the person's points as a whole, metres; 1 cm of noise on them and 1.5 cm on the object's come on top.
    outliers : share of the points, on both sides, that are somewhere else. scale : true one of the object.
    """

    def __init__(self, label, seed, patches=1, shift=0.01, outliers=0.2, scale=1.0):
        self.random = np.random.default_rng(seed)
        mesh = library_mesh(label)
        self.surface = surface_samples(mesh.vertices, mesh.faces, np.ones(len(mesh.vertices)), 0.5, 0.03, 6000)
        self.rotation = Rotation.random(random_state=self.random).as_matrix()
        self.translation = np.array([0.1, -0.2, 2.0])
        self.scale = scale
        middles = [self.surface.points[self.random.integers(len(self.surface.points))]]
        if patches == 2:
            apart = np.linalg.norm(self.surface.points - middles[0], axis=1)
            middles.append(self.surface.points[self.random.choice(np.argsort(apart)[-len(apart) // 3 :])])
        ours, theirs = self.touched(middles), self.touched(middles)
        common = shift * self.random.normal(size=3)
        points = self.place(self.surface.points[ours]) + 0.01 * self.random.normal(size=(60, 3)) + common
        self.human = self.contact(points, -self.surface.normals[ours] @ self.rotation.T, outliers, 0.2)
        points = self.surface.points[theirs] + 0.015 * self.random.normal(size=(60, 3))
        self.thing = self.contact(points, self.surface.normals[theirs].copy(), outliers, 0.2)

    def touched(self, middles):
        chosen = []
        for middle in middles:
            inside = np.flatnonzero(np.linalg.norm(self.surface.points - middle, axis=1) < 0.06)
            chosen.append(self.random.choice(inside, 60 // len(middles)))
        return np.concatenate(chosen)

    def contact(self, points, normals, outliers, spread):
        wrong = self.random.choice(60, round(60 * outliers), replace=False)
        points[wrong] = points.mean(axis=0) + spread * self.random.normal(size=(len(wrong), 3))
        normals[wrong] = Rotation.random(len(wrong), random_state=self.random).as_matrix()[:, 0]
        weights = np.full(60, 1 / 60)
        return ContactPoints(points, normals, weights, patch_numbers(points, weights))

    def place(self, points):
        return self.scale * points @ self.rotation.T + self.translation

    def chamfer(self, rotation, translation, scale=1.0):
        """Centimetres between the surface where it is and where the pose puts it."""
        points = self.surface.points[:: max(1, len(self.surface.points) // 500)]
        true, found = self.place(points), scale * points @ rotation.T + translation
        return 50 * (cKDTree(true).query(found)[0].mean() + cKDTree(found).query(true)[0].mean())


def chamfers(labels, seeds, tried=24, **about):
    """The best chamfer among the first `tried` different starts of each scene."""
    best = []
    for label in labels:
        for seed in seeds:
            scene = Scene(label, seed, **about)
            found = align_contacts(scene.human, scene.thing, STARTS, 1.0)
            first = different_first(found)[:tried]
            best.append(min(scene.chamfer(found.rotations[k], found.translations[k]) for k in first))
    return np.array(best)


LABELS = ("chair", "box", "bottle", "laptop")


def test_one_patch_with_noise_and_outliers():
    assert np.median(chamfers(LABELS, range(2))) < 2.5


def test_two_patches_are_found_by_the_cheapest_starts_alone():
    assert np.median(chamfers(LABELS, range(2), tried=2, patches=2)) < 2.5


def test_half_of_the_points_may_be_outliers():
    assert np.median(chamfers(("chair", "box"), range(2), outliers=0.5)) < 5.0


def test_a_shift_of_the_person_moves_the_object_no_farther():
    assert np.median(chamfers(("chair", "bottle"), range(2), shift=0.03)) < 5.0


def test_exact_contacts_give_the_exact_pose():
    """The same points on both sides, two patches that are not alike: nothing but the true pose fits."""
    scene = Scene("chair", 3, patches=2, outliers=0.0)
    human = ContactPoints(
        scene.place(scene.thing.points),
        -scene.thing.normals @ scene.rotation.T,
        scene.thing.weights,
        scene.thing.clusters,
    )
    rotations, translations, costs = contact_starts(human, scene.thing, STARTS, 1.0)
    best = int(costs.argmin())
    assert costs[best] < 1e-4
    np.testing.assert_allclose(rotations[best], scene.rotation, atol=1e-3)
    np.testing.assert_allclose(translations[best], scene.translation, atol=1e-3)
    assert contact_residual(human, scene.thing, rotations[best], translations[best], 1.0) < 1e-3


def test_results_are_rotations_in_the_order_of_the_starts_and_always_the_same():
    scene = Scene("box", 5, patches=2)
    found = align_contacts(scene.human, scene.thing, STARTS, 1.0)
    np.testing.assert_allclose(
        found.rotations @ found.rotations.transpose(0, 2, 1), np.eye(3)[None].repeat(64, 0), atol=1e-9
    )
    np.testing.assert_allclose(np.linalg.det(found.rotations), 1.0)
    assert ((found.costs > 0) & (found.costs <= BOUND)).all()
    again = align_contacts(scene.human, scene.thing, STARTS, 1.0)
    for name in ("rotations", "translations", "scales", "costs"):
        assert np.array_equal(getattr(found, name), getattr(again, name))
    few = align_contacts(scene.human, scene.thing, STARTS[10:20], 1.0)
    np.testing.assert_allclose(few.costs, found.costs[10:20], atol=2e-3)


def test_moving_the_person_moves_the_result():
    scene = Scene("chair", 6)
    offset = np.array([3.0, -1.0, 5.0])
    moved = ContactPoints(scene.human.points + offset, scene.human.normals, scene.human.weights, scene.human.clusters)
    before, after = (align_contacts(human, scene.thing, STARTS[:8], 1.0) for human in (scene.human, moved))
    np.testing.assert_allclose(after.translations - offset, before.translations, atol=1e-4)


def test_normals_choose_the_side():
    """A plate touched from below: without normals both sides fit alike, with them only one does."""
    random = np.random.default_rng(0)
    plate = np.concatenate([random.uniform(-0.05, 0.05, (30, 2)), np.zeros((30, 1))], axis=1)
    weights, one = np.full(30, 1 / 30), np.zeros(30, np.int64)
    down = np.tile([0.0, 0.0, -1.0], (30, 1))
    human, thing = ContactPoints(plate, down, weights, one), ContactPoints(plate, -down, weights, one)
    turned = np.diag([1.0, -1.0, -1.0])
    assert contact_starts(human, thing, np.eye(3)[None], 1.0)[2][0] < 1e-4
    away = ContactPoints(plate, -down, weights, one)
    rotations, _, costs = contact_starts(away, thing, np.stack([np.eye(3), turned]), 1.0)
    assert rotations[costs.argmin()][2, 2] == pytest.approx(-1.0, abs=0.05)


def test_scale_is_estimated_from_two_patches_and_left_to_the_prior_with_one():
    far, near = [], []
    for seed in range(3):
        scene = Scene("suitcase", seed, patches=2, scale=1.2, outliers=0.0)
        found = align_contacts(scene.human, scene.thing, STARTS, 1.0, scale_spread=0.2)
        far.append(found.scales[found.costs.argmin()])
        scene = Scene("suitcase", seed, scale=1.2, outliers=0.0)
        found = align_contacts(scene.human, scene.thing, STARTS, 1.0, scale_spread=0.2)
        near.append(found.scales[found.costs.argmin()])
    assert 1.08 < np.median(far) < 1.3
    assert 0.9 < np.median(near) < 1.15
    assert (align_contacts(scene.human, scene.thing, STARTS, 0.7).scales == 0.7).all()


def test_repeats_come_last():
    scene = Scene("chair", 1, patches=2)
    found = align_contacts(scene.human, scene.thing, STARTS, 1.0)
    order = different_first(found)
    assert sorted(order) == list(range(64))
    assert order[0] == found.costs.argmin()
    first = found.rotations[order[:3]]
    for one in range(3):
        for other in range(one):
            turn = Rotation.from_matrix(first[one].T @ first[other]).magnitude()
            shift = np.linalg.norm(found.translations[order[one]] - found.translations[order[other]])
            assert np.degrees(turn) > 15 or shift > 0.05


def test_one_point_on_each_side():
    one = ContactPoints(np.array([[0.0, 0, 2]]), np.array([[0.0, 0, -1]]), np.ones(1), np.zeros(1, np.int64))
    other = ContactPoints(np.array([[0.1, 0, 0]]), np.array([[0.0, 1, 0]]), np.ones(1), np.zeros(1, np.int64))
    rotations, translations, costs = contact_starts(one, other, STARTS[:4], 1.0)
    placed = (rotations @ other.points[0]) + translations
    np.testing.assert_allclose(placed, np.tile(one.points, (4, 1)), atol=1e-6)
    np.testing.assert_allclose(rotations @ other.normals[0], np.tile([0.0, 0, 1], (4, 1)), atol=1e-6)
    assert (costs < 1e-4).all()


def test_bad_input_is_named():
    scene = Scene("box", 0)
    with pytest.raises(InputError, match="rotations: have shape"):
        contact_starts(scene.human, scene.thing, np.eye(3), 1.0)
    with pytest.raises(InputError, match="scale: is 0"):
        contact_starts(scene.human, scene.thing, STARTS, 0)
    with pytest.raises(InputError, match="spread"):
        align_contacts(scene.human, scene.thing, STARTS, 1.0, scale_spread=-1.0)
