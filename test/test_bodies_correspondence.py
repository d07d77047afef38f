"""Where the vertices of one body lie on another: known truth on remeshed, reshaped and re-posed Annys."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from ivlm_core.bodies import PART_NAMES, AnnyRig, BodyModel, load_body
from ivlm_core.bodies.correspondence import PARENT, correspond
from ivlm_core.bodies.parts import anny_part
from ivlm_core.bodies.star_pose import star_pose_rotations
from ivlm_core.types import Mesh

# How much longer and thicker than Anny's own the bones of the other body are, by the part they move.
PROPORTIONS = {"head": 1.15, "torso": 1.0, "hips": 1.1, "hand": 1.2, "foot": 1.0}
PROPORTIONS |= {"upper arm": 0.95, "forearm": 1.2, "thigh": 0.9, "lower leg": 1.25}


@dataclass
class Remeshed:
    """Another body with half as many vertices, and where each of them really lies on Anny."""

    body: BodyModel
    places: np.ndarray  # (V, 3) metres on Anny's star pose
    vertices: np.ndarray  # (V,) the vertex of Anny that is nearest there

    @cached_property
    def correspondence(self) -> tuple[np.ndarray, np.ndarray]:
        """Where they are said to lie."""
        return correspond(load_body(), self.body)

    @cached_property
    def found(self) -> np.ndarray:
        return placed(load_body(), *self.correspondence)


def reshaped() -> np.ndarray:
    """(V, 3) Anny in the star pose with spread fingers, other bone lengths and a belly."""
    rig = AnnyRig.load()
    at = dict(zip(rig.joint_names, rig.joints.astype(float), strict=True))
    rotations = star_pose_rotations(rig.joint_names, rig.parents.tolist(), rig.joints)
    for side in "LR":
        across = at[f"finger2-1.{side}"] - at[f"finger5-1.{side}"]
        up = np.cross(at[f"finger3-2.{side}"] - at[f"wrist.{side}"], across)
        for finger, degrees in {2: 12, 3: 4, 4: -4, 5: -12}.items():
            turn = Rotation.from_rotvec(np.radians(degrees) * up / np.linalg.norm(up))
            rotations[f"finger{finger}-1.{side}"] = turn.as_matrix()
    moved = rig.bone_transforms(rotations)
    heads = np.einsum("bij,bj->bi", moved[:, :, :3], rig.joints) + moved[:, :, 3]
    parts = [PART_NAMES[anny_part(name)].removeprefix("left ").removeprefix("right ") for name in rig.joint_names]
    scales = np.array([PROPORTIONS[part] for part in parts])
    new_heads = heads.copy()
    for bone, parent in enumerate(rig.parents[1:], start=1):
        new_heads[bone] = new_heads[parent] + scales[parent] * (heads[bone] - heads[parent])
    weights = rig.weights.astype(float)
    shape = (weights @ scales)[:, None] * rig.pose(rotations) + weights @ (new_heads - scales[:, None] * heads)
    belly = np.linalg.norm(shape - [0.0, 0.15, 0.15], axis=1)
    shape[:, 2] += 0.04 * np.exp(-((belly / 0.1) ** 2))
    return shape


def remeshed(shape: np.ndarray, faces: int = 13776) -> Remeshed:
    import open3d as o3d

    anny = load_body()
    triangles = anny.mesh.faces.copy()
    full = o3d.geometry.TriangleMesh(o3d.utility.Vector3dVector(shape), o3d.utility.Vector3iVector(triangles))
    coarse = full.simplify_quadric_decimation(faces)
    points = np.asarray(coarse.vertices).astype(np.float32)
    scene = o3d.t.geometry.RaycastingScene()
    scene.add_triangles(o3d.core.Tensor(shape.astype(np.float32)), o3d.core.Tensor(triangles.astype(np.uint32)))
    found = scene.compute_closest_points(o3d.core.Tensor(points))
    corners, second = triangles[found["primitive_ids"].numpy()], found["primitive_uvs"].numpy()
    weights = np.concatenate([1 - second.sum(axis=1, keepdims=True), second], axis=1)
    nearest = corners[np.arange(len(corners)), weights.argmax(axis=1)]
    mesh = Mesh(points, np.asarray(coarse.triangles).astype(np.int32), "remeshed")
    body = BodyModel.from_mesh("smpl", mesh, anny.part_labels[nearest])
    return Remeshed(body, np.einsum("nc,ncd->nd", weights, anny.mesh.vertices[corners]), nearest)


@pytest.fixture(scope="module")
def same_shape() -> Remeshed:
    return remeshed(load_body().mesh.vertices.astype(float))


@pytest.fixture(scope="module")
def other_shape() -> Remeshed:
    return remeshed(reshaped())


def placed(source: BodyModel, vertices: np.ndarray, weights: np.ndarray) -> np.ndarray:
    assert vertices.dtype == np.int32
    assert weights.min() >= 0
    np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-6)
    return np.einsum("nc,ncd->nd", weights, source.mesh.vertices[vertices])


def centimetres(found: np.ndarray, truth: np.ndarray) -> np.ndarray:
    return 100 * np.linalg.norm(found - truth, axis=1)


def test_the_same_shape_in_other_triangles(same_shape: Remeshed) -> None:
    error = centimetres(same_shape.found, same_shape.places)
    assert error.mean() < 0.15
    assert error.max() < 1.0


def test_other_proportions_and_spread_fingers(other_shape: Remeshed) -> None:
    """The shapes themselves lie up to 8 cm apart."""
    assert centimetres(other_shape.body.mesh.vertices, other_shape.places).max() > 7
    error = centimetres(other_shape.found, other_shape.places)
    assert error.mean() < 0.3
    assert np.percentile(error, 95) < 1.0
    assert error.max() < 2.5


def test_every_finger_maps_to_itself(other_shape: Remeshed) -> None:
    rig = AnnyRig.load()
    of_bone = np.array([int(name[6]) if name.startswith("finger") else 0 for name in rig.joint_names])
    sides = np.array([name[-1] for name in rig.joint_names])
    bone = rig.weights.argmax(axis=1)
    vertices, weights = other_shape.correspondence
    found = bone[vertices[np.arange(len(vertices)), weights.argmax(axis=1)]]
    truth = bone[other_shape.vertices]
    on_finger = of_bone[truth] > 0
    agree = (of_bone[found] == of_bone[truth]) & (sides[found] == sides[truth])
    assert agree[on_finger].mean() > 0.98
    both = on_finger & (of_bone[found] > 0)
    assert agree[both].all()


def test_left_stays_left_and_every_part_itself(other_shape: Remeshed) -> None:
    source, target = load_body(), other_shape.body
    vertices, weights = other_shape.correspondence
    for part, name in enumerate(PART_NAMES):
        painted = (weights * (source.part_labels[vertices] == part)).sum(axis=1)
        mapped, truth, area = painted >= 0.5, target.part_labels == part, target.vertex_area
        assert area[mapped & truth].sum() > 0.98 * area[mapped | truth].sum(), name
        if name.startswith("left"):
            assert painted[target.mesh.vertices[:, 0] < 0].max() == 0, name


def test_front_stays_front(other_shape: Remeshed) -> None:
    target = other_shape.body
    trunk = np.isin(target.part_labels, [PART_NAMES.index("torso"), PART_NAMES.index("hips")])
    found = other_shape.found[trunk, 2]
    for side in (1, -1):
        clearly = side * (other_shape.places[trunk, 2] - 0.03) > 0.05
        assert clearly.sum() > 50
        assert (side * (found[clearly] - 0.03) > 0.03).all()


def test_size_and_place_of_a_body_do_not_matter(same_shape: Remeshed) -> None:
    body = same_shape.body
    moved = Mesh(0.5 * body.mesh.vertices + np.array([1.0, 2.0, -3.0], np.float32), body.mesh.faces)
    other = BodyModel.from_mesh("smpl", moved, body.part_labels)
    difference = centimetres(placed(load_body(), *correspond(load_body(), other)), same_shape.found)
    assert np.percentile(difference, 99) < 0.01
    assert difference.max() < 0.5


def test_order_of_vertices_and_faces_does_not_matter(same_shape: Remeshed) -> None:
    source, random = same_shape.body, np.random.default_rng(0)
    order = random.permutation(len(source.part_labels))
    renumbered = np.argsort(order)[source.mesh.faces][random.permutation(len(source.mesh.faces))]
    shuffled = BodyModel.from_mesh("smpl", Mesh(source.mesh.vertices[order], renumbered), source.part_labels[order])
    assert centimetres(placed(shuffled, *correspond(shuffled, source)), source.mesh.vertices).max() < 0.5


def test_parts_hang_together_as_on_a_body() -> None:
    hung = {PART_NAMES[part]: PART_NAMES[parent] for part, parent in enumerate(PARENT) if parent >= 0}
    assert hung.keys() == set(PART_NAMES) - {"hips"}
    assert hung["left hand"] == "left forearm"
    assert hung["right foot"] == "right lower leg"
    assert all(not part.startswith("left") or not hung[part].startswith("right") for part in hung)


def test_a_missing_part_is_looked_for_next_to_it(same_shape: Remeshed) -> None:
    """Without hands in the source, the target's hands lie on the ends of the forearms, of the same side."""
    body = same_shape.body
    hands = [PART_NAMES.index("left hand"), PART_NAMES.index("right hand")]
    kept = ~np.isin(body.part_labels[body.mesh.faces], hands).any(axis=1)
    handless = BodyModel.from_mesh("smpl", Mesh(body.mesh.vertices, body.mesh.faces[kept]), body.part_labels)
    found = placed(handless, *correspond(handless, body))
    for hand, side in zip(hands, (1, -1), strict=True):
        wrist = side * found[body.part_labels == hand, 0]
        assert wrist.min() > 0.5


def test_degenerate_meshes() -> None:
    """Triangles without area, vertices without faces, parts without vertices, geometry that is no body at all."""
    random = np.random.default_rng(1)
    points = random.normal(0, 0.3, (300, 3)).astype(np.float32)
    points[50:60] = points[50]
    faces = random.integers(0, 250, (400, 3))
    faces[:20, 1] = faces[:20, 0]
    faces[20:30] = [50, 51, 52]
    labels = random.integers(0, 7, 300).astype(np.uint8)
    ruin = BodyModel.from_mesh("smpl", Mesh(points, faces), labels)
    point = Mesh(np.zeros((3, 3), np.float32), np.array([[0, 1, 2]]))
    spot = BodyModel.from_mesh("smpl", point, np.array([14, 14, 14], np.uint8))
    for source in (ruin, spot):
        for target in (ruin, spot):
            assert np.isfinite(placed(source, *correspond(source, target))).all()
