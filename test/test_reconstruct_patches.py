"""Contact points: only what is touched, evenly spread, weighted by probability × area, in patches."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import cKDTree

from ivlm_core import InputError
from ivlm_core.objects import library_mesh
from ivlm_core.reconstruct.patches import ContactPoints, contact_points, patch_numbers


def near(mesh, *places, radius=0.05):
    """(N,) 1 within `radius` of one of the places, else 0."""
    apart = np.linalg.norm(mesh.vertices[:, None] - np.array(places)[None], axis=2).min(axis=1)
    return (apart < radius).astype(float)


@pytest.fixture(scope="module")
def box():
    return library_mesh("box")


def test_points_lie_on_the_touched_surface_and_look_outward(box):
    probability = near(box, [0.15, 0, 0], radius=0.08)
    found = contact_points(box.vertices, box.faces, probability)
    assert found is not None
    assert len(found.points) == 60
    np.testing.assert_allclose(found.points[:, 0], 0.15, atol=0.01)
    np.testing.assert_allclose(found.normals.mean(axis=0), [1, 0, 0], atol=0.05)
    assert (np.linalg.norm(found.points - [0.15, 0, 0], axis=1) < 0.1).all()
    assert found.weights.sum() == pytest.approx(1.0)
    assert (found.clusters == 0).all()
    # Evenly: nothing touched is far from a point.
    distance, _ = cKDTree(found.points).query(box.vertices[probability > 0])
    assert distance.max() < 0.03


def test_two_hands_are_two_patches_heaviest_first(box):
    probability = near(box, [-0.15, 0, 0], radius=0.06) + near(box, [0.15, 0.05, 0], radius=0.08)
    found = contact_points(box.vertices, box.faces, probability)
    assert found is not None
    assert found.patch_weights.shape == (2,)
    assert found.patch_weights[0] > found.patch_weights[1] > 0.2
    assert (found.points[found.clusters == 0, 0] > 0).all()
    assert (found.points[found.clusters == 1, 0] < 0).all()


def test_thumb_and_fingers_are_one_patch():
    bottle = library_mesh("bottle")
    sides = near(bottle, [0.035, 0, 0], [-0.035, 0, 0], radius=0.02)
    found = contact_points(bottle.vertices, bottle.faces, sides)
    assert found is not None
    assert found.points[:, 0].min() < -0.02 < 0.02 < found.points[:, 0].max()
    assert (found.clusters == 0).all()


def test_weight_is_probability_times_area():
    """A sheet whose right half is finely cut: the halves weigh the same; with half the probability, half as much."""
    left, right = grid(0.0, 0.2, 4), grid(0.3, 0.5, 16)
    vertices = np.concatenate([left[0], right[0]])
    faces = np.concatenate([left[1], right[1] + len(left[0])])
    on_right = vertices[:, 0] > 0.25
    for share, value in ((0.5, 1.0), (1 / 3, 0.5)):
        found = contact_points(vertices, faces, np.where(on_right, value, 1.0), 0.3)
        assert found is not None
        assert found.weights[found.points[:, 0] > 0.25].sum() == pytest.approx(share, abs=1e-6)


def grid(start, end, count):
    """A square sheet of 2·count² triangles."""
    x, y = np.meshgrid(np.linspace(start, end, count + 1), np.linspace(0, 0.2, count + 1), indexing="ij")
    vertices = np.stack([x, y, np.zeros_like(x)], axis=2).reshape(-1, 3)
    corner = (np.arange(count)[:, None] * (count + 1) + np.arange(count)).ravel()
    one = np.stack([corner, corner + count + 1, corner + count + 2], axis=1)
    two = np.stack([corner, corner + count + 2, corner + 1], axis=1)
    return vertices, np.concatenate([one, two])


def test_a_box_of_twelve_faces_has_contact_points_on_its_faces():
    vertices = 0.1 * np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], float)
    from scipy.spatial import ConvexHull

    hull = ConvexHull(vertices)
    faces = hull.simplices.copy()
    turned = np.cross(*(vertices[faces[:, k]] - vertices[faces[:, 0]] for k in (1, 2)))
    wrong = (turned * hull.equations[:, :3]).sum(axis=1) < 0
    faces[wrong] = faces[wrong][:, ::-1]
    found = contact_points(vertices, faces, (vertices[:, 0] > 0).astype(float), threshold=0.9)
    assert found is not None
    assert len(found.points) == 60
    np.testing.assert_allclose(np.abs(found.normals).max(axis=1), 1.0, atol=1e-9)
    flat = found.normals[:, 0] > 0.9
    assert found.weights[flat].sum() > 0.6


def test_nothing_reaches_the_threshold(box):
    assert contact_points(box.vertices, box.faces, np.full(len(box.vertices), 0.49)) is None


def test_a_small_patch_has_few_points(box):
    one = np.zeros(len(box.vertices))
    one[7] = 1.0
    found = contact_points(box.vertices, box.faces, one)
    assert found is not None
    assert 1 <= len(found.points) < 60
    assert np.linalg.norm(found.points - box.vertices[7], axis=1).max() < 0.03


@settings(max_examples=15)
@given(st.integers(0, 2**32 - 1), st.integers(1, 80), st.floats(0.05, 1.0))
def test_any_probabilities_give_sound_and_repeatable_points(seed, most, threshold):
    bottle = library_mesh("bottle")
    probability = np.random.default_rng(seed).random(len(bottle.vertices)) ** 4
    found = contact_points(bottle.vertices, bottle.faces, probability, threshold, most)
    again = contact_points(bottle.vertices, bottle.faces, probability, threshold, most)
    assert (found is None) == (probability.max() < threshold)
    if found is not None and again is not None:
        assert 1 <= len(found.points) <= most
        assert (np.diff(found.patch_weights) <= 1e-12).all()
        for name in ("points", "normals", "weights", "clusters"):
            assert np.array_equal(getattr(found, name), getattr(again, name))


def test_patches_are_a_gap_apart():
    line = np.array([[0.0, 0, 0], [0.05, 0, 0], [0.1, 0, 0], [0.2, 0, 0]])
    assert patch_numbers(line, np.array([0.1, 0.1, 0.1, 0.7])).tolist() == [1, 1, 1, 0]


def test_bad_input_is_named(box):
    with pytest.raises(InputError, match="asked for 0 points"):
        contact_points(box.vertices, box.faces, np.ones(len(box.vertices)), most=0)
    point = np.zeros((1, 3))
    with pytest.raises(InputError, match="positive with sum 1"):
        ContactPoints(point, point, np.array([0.5]), np.array([0]))
    with pytest.raises(InputError, match="shapes"):
        ContactPoints(point, point, np.ones(2), np.array([0]))
