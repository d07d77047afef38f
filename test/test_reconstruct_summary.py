"""The planner's summary: areas, middles and directions that are known, and regions that nobody holds."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh
from scipy.spatial.transform import Rotation

from ivlm_core import InputError, Mesh
from ivlm_core.objects import library_mesh
from ivlm_core.reconstruct.pose import Pose
from ivlm_core.reconstruct.summary import contact_summary, free_regions
from ivlm_core.types import PosedBody

RADIUS = 0.1
MIDDLE = np.array([0.2, -0.1, 2.0])
# One side of the cube, square metres: values are interpolated, so half of the first faces around the corner counts.
SIDE = 0.3 * 0.3 + 4 * 0.3 * (0.3 / 29 / 2)


def ball(middle, radius=RADIUS, detail=4):
    """A body that is a ball."""
    made = trimesh.creation.icosphere(detail, radius)
    return PosedBody(np.asarray(made.vertices) + middle, np.asarray(made.faces), "anny")


def cap(body, middle, height):
    """1 on the top `height` metres of a ball, along x."""
    return (body.vertices[:, 0] > middle[0] + RADIUS - height).astype(float)


@pytest.fixture(scope="module")
def box():
    """A cube of 0.3 m."""
    return library_mesh("box")


def on_side(mesh, axis, sign):
    """1 on one side of the cube."""
    return (sign * mesh.vertices[:, axis] > 0.149).astype(float)


def standing(x=0.0):
    """The cube upright before the camera, its middle `x` to the right."""
    return Pose(np.diag([1.0, -1.0, -1.0]), np.array([x, 0.0, 2.0]), 1.0)


def test_area_middle_and_normal_of_a_cap():
    body = ball(MIDDLE)
    height = 0.05
    found = contact_summary(body, cap(body, MIDDLE, height))
    assert found is not None
    assert found.area_cm2 == pytest.approx(2 * np.pi * RADIUS * height * 1e4, rel=0.06)
    np.testing.assert_allclose(found.normal, [1, 0, 0], atol=0.02)
    np.testing.assert_allclose(found.centroid, MIDDLE + np.array([RADIUS - height / 2, 0, 0]), atol=0.003)
    assert found.free_regions == ()


def test_normals_that_cancel_out_give_no_direction():
    body = ball(MIDDLE)
    found = contact_summary(body, np.ones(len(body.vertices)))
    assert found is not None
    assert (found.normal == 0).all()
    assert found.area_cm2 == pytest.approx(4 * np.pi * RADIUS**2 * 1e4, rel=0.01)


def test_no_contact_has_no_summary():
    body = ball(MIDDLE)
    assert contact_summary(body, np.full(len(body.vertices), 0.4)) is None


def test_the_side_that_is_held_is_not_free_the_other_is(box):
    """A ball touches the cube on its right side; both sides are good to grasp."""
    body = ball([0.15 + RADIUS, 0.0, 2.0])
    affordance = on_side(box, 0, 1) + on_side(box, 0, -1)
    probability = cap(body, [0.15 + RADIUS, 0, 2], 2 * RADIUS)
    found = contact_summary(body, probability, box, affordance, standing(), clearance=0.15)
    assert found is not None
    (left,) = found.free_regions
    assert left.area_cm2 == pytest.approx(1e4 * SIDE, rel=0.01)
    np.testing.assert_allclose(left.normal, [-1, 0, 0], atol=0.02)
    np.testing.assert_allclose(left.centroid, [-0.15, 0, 2], atol=0.01)
    assert left.affordance == pytest.approx(1.0, abs=0.05)
    assert (box.vertices[left.vertices, 0] < -0.149).all()
    assert left.vertices.dtype == np.int32


def test_a_touch_cuts_a_disc_out_of_the_side(box):
    body = ball([0.15 + RADIUS, 0.0, 2.0])
    (region,) = free_regions(body, box, on_side(box, 0, 1), standing(), clearance=0.03)
    held = np.pi * ((RADIUS + 0.03) ** 2 - RADIUS**2)
    assert region.area_cm2 == pytest.approx(1e4 * (SIDE - held), rel=0.02)
    np.testing.assert_allclose(region.normal, [1, 0, 0], atol=0.03)
    apart = np.linalg.norm(standing().placed(box.vertices[region.vertices]) - [0.15, 0, 2], axis=1)
    assert apart.min() > 0.07


def test_scale_and_rotation_of_the_object_count(box):
    body = ball([0.0, 0.0, 5.0])
    turn = Rotation.from_euler("y", 90, degrees=True).as_matrix()
    (region,) = free_regions(body, box, on_side(box, 0, 1), Pose(turn, np.array([0, 0, 2.0]), 2.0))
    assert region.area_cm2 == pytest.approx(4e4 * SIDE, rel=0.01)
    np.testing.assert_allclose(region.normal, turn[:, 0], atol=0.02)
    np.testing.assert_allclose(region.centroid, np.array([0, 0, 2.0]) + 0.3 * turn[:, 0], atol=0.01)


def test_what_is_inside_the_body_is_not_free(box):
    body = ball([0.0, 0.0, 2.0], radius=0.35)
    assert free_regions(body, box, np.ones(len(box.vertices)), standing()) == ()


def test_largest_first_and_small_ones_left_out(box):
    side = on_side(box, 1, 1)
    small = side * (np.abs(box.vertices[:, [0, 2]] - 0.12).max(axis=1) < 0.016)
    large = side * (box.vertices[:, 0] < -0.05)
    body = ball([5.0, 0.0, 2.0])
    found = free_regions(body, box, small + large, standing())
    assert len(found) == 2
    assert found[0].area_cm2 > 200 > 20 > found[1].area_cm2
    assert len(free_regions(body, box, small + large, standing(), least_cm2=30.0)) == 1


def test_open_seams_do_not_cut_a_region_and_coarse_faces_can_be_held():
    """Two triangles of a plate that share no vertex, with a ball on the middle of one of them."""
    plate = Mesh(
        np.array([[0, 0, 2], [1, 0, 2], [1, 1, 2], [0, 0, 2], [1, 1, 2], [0, 1, 2]], np.float32),
        np.array([[0, 1, 2], [3, 4, 5]]),
        "plate",
    )
    still = Pose(np.eye(3), np.zeros(3), 1.0)
    body = ball([0.7, 0.3, 2.0 + RADIUS])
    (region,) = free_regions(body, plate, np.ones(6), still, clearance=0.03)
    held = np.pi * ((RADIUS + 0.03) ** 2 - RADIUS**2)
    assert region.area_cm2 == pytest.approx(1e4 * (1 - held), rel=0.01)
    assert region.vertices.tolist() == [0, 1, 2, 3, 4, 5]


def test_the_same_input_gives_the_same_summary(box):
    body = ball([0.15 + RADIUS, 0.0, 2.0])
    probability = cap(body, [0.15 + RADIUS, 0, 2], 0.1)
    one, two = (contact_summary(body, probability, box, np.ones(len(box.vertices)), standing()) for _ in range(2))
    assert one is not None
    assert two is not None
    assert [region.area_cm2 for region in one.free_regions] == [region.area_cm2 for region in two.free_regions]
    assert np.array_equal(one.free_regions[0].vertices, two.free_regions[0].vertices)


def test_bad_input_is_named(box):
    body = ball(MIDDLE)
    with pytest.raises(InputError, match="surface: has shape"):
        contact_summary(body, np.ones(3))
    with pytest.raises(InputError, match="surface: has shape"):
        free_regions(body, box, np.ones(3), standing())
    with pytest.raises(InputError, match="sigmoid"):
        contact_summary(body, np.full(len(body.vertices), 2.0))
    with pytest.raises(InputError, match="clearance: is -1"):
        contact_summary(body, np.ones(len(body.vertices)), clearance=-1.0)
