"""The parametric shapes: closed parts, sensible sizes, even tessellation, the right way up."""

from __future__ import annotations

import inspect
from collections.abc import Callable

import numpy as np
import pytest
import trimesh

from ivlm_core.objects.shapes import SHAPES, Shape
from ivlm_core.objects.shapes.primitives import box, cylinder, ellipsoid, tube
from ivlm_core.types import Mesh

# Width (x), height (y), depth (z) in metres that a real one can have.
PLAUSIBLE = {
    "chair": ((0.38, 0.6), (0.75, 1.1), (0.4, 0.65)),
    "table": ((0.8, 2.2), (0.68, 0.8), (0.6, 1.1)),
    "bottle": ((0.05, 0.1), (0.18, 0.35), (0.05, 0.1)),
    "cup": ((0.08, 0.15), (0.07, 0.13), (0.06, 0.11)),
    "box": ((0.3, 0.3), (0.3, 0.3), (0.3, 0.3)),
    "ball": ((0.2, 0.25), (0.2, 0.25), (0.2, 0.25)),
    "book": ((0.1, 0.25), (0.15, 0.32), (0.01, 0.06)),
    "laptop": ((0.28, 0.4), (0.15, 0.3), (0.2, 0.4)),
    "backpack": ((0.25, 0.4), (0.38, 0.6), (0.18, 0.4)),
    "skateboard": ((0.17, 0.25), (0.08, 0.16), (0.7, 0.9)),
    "bench": ((1.2, 2.0), (0.7, 1.0), (0.4, 0.75)),
    "couch": ((1.4, 2.4), (0.7, 1.0), (0.75, 1.1)),
    "bed": ((0.9, 2.0), (0.6, 1.3), (1.9, 2.3)),
    "cell phone": ((0.06, 0.09), (0.12, 0.18), (0.006, 0.015)),
    "keyboard": ((0.35, 0.5), (0.015, 0.05), (0.1, 0.2)),
    "umbrella": ((0.8, 1.3), (0.7, 1.1), (0.8, 1.3)),
    "suitcase": ((0.35, 0.55), (0.6, 1.15), (0.18, 0.35)),
    "handbag": ((0.2, 0.45), (0.25, 0.5), (0.08, 0.2)),
    "baseball bat": ((0.055, 0.075), (0.7, 1.1), (0.055, 0.075)),
    "tennis racket": ((0.22, 0.32), (0.62, 0.75), (0.02, 0.05)),
}


@pytest.fixture(scope="module", params=list(SHAPES))
def shape(request: pytest.FixtureRequest) -> Shape:
    return SHAPES[request.param]()


def _centre_of_area(shape: Shape, part: str) -> np.ndarray:
    mesh = shape.parts[part]
    return trimesh.Trimesh(mesh.vertices, mesh.faces, process=False).centroid


def test_every_part_is_closed_and_faces_outwards(shape: Shape) -> None:
    for name, part in shape.parts.items():
        solid = trimesh.Trimesh(part.vertices, part.faces, process=False)
        assert solid.is_watertight, name
        assert solid.is_winding_consistent, name
        assert solid.volume > 0, name
        assert solid.body_count == 1, name


def test_bounding_box_is_centred_at_the_origin(shape: Shape) -> None:
    vertices = shape.mesh.vertices
    np.testing.assert_allclose(vertices.min(axis=0), -vertices.max(axis=0), atol=1e-6)


def test_size_is_that_of_a_real_one(shape: Shape) -> None:
    size = np.ptp(shape.mesh.vertices, axis=0)
    for extent, (low, high) in zip(size, PLAUSIBLE[shape.label], strict=True):
        assert low - 1e-6 <= extent <= high + 1e-6, (shape.label, size)


def test_tessellation_is_even_enough_for_contact(shape: Shape) -> None:
    corners = shape.mesh.vertices[shape.mesh.faces]
    edges = np.linalg.norm(corners - np.roll(corners, 1, axis=1), axis=2)
    assert edges.max() <= 0.062 * np.ptp(shape.mesh.vertices, axis=0).max()
    assert 400 <= len(shape.mesh.vertices) <= 6000


def test_no_triangle_is_degenerate(shape: Shape) -> None:
    corners = shape.mesh.vertices.astype(np.float64)[shape.mesh.faces]
    doubled = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    assert doubled.min() > 1e-10


def test_every_vertex_is_used(shape: Shape) -> None:
    assert np.array_equal(np.unique(shape.mesh.faces), np.arange(len(shape.mesh.vertices)))


def test_mesh_is_its_parts_in_order(shape: Shape) -> None:
    for index, part in enumerate(shape.parts.values()):
        mine = shape.part_of_vertex == index
        np.testing.assert_array_equal(shape.mesh.vertices[mine], part.vertices)
        faces = shape.mesh.faces[mine[shape.mesh.faces[:, 0]]]
        np.testing.assert_array_equal(faces - np.flatnonzero(mine)[0], part.faces)


def test_parts_hang_together(shape: Shape) -> None:
    """Every part comes within 2 mm of a part that hangs together with the first: nothing floats."""
    distance = [_distance_function(part) for part in shape.parts.values()]
    vertices = [part.vertices for part in shape.parts.values()]
    touching = np.array([[near(points).min() < 0.002 for points in vertices] for near in distance])
    joined = np.linalg.matrix_power((touching | touching.T).astype(np.float64), len(vertices))[0] > 0
    assert joined.all(), np.array(list(shape.parts))[~joined]


def _distance_function(part: Mesh) -> Callable[[np.ndarray], np.ndarray]:
    """Signed distance in metres, negative inside."""
    import open3d as o3d

    scene = o3d.t.geometry.RaycastingScene()
    scene.add_triangles(o3d.core.Tensor(part.vertices), o3d.core.Tensor(part.faces.astype(np.uint32)))
    return lambda points: scene.compute_signed_distance(o3d.core.Tensor(np.ascontiguousarray(points))).numpy()


def test_every_size_parameter_has_a_default_and_an_effect(shape: Shape) -> None:
    build = SHAPES[shape.label]
    parameters = inspect.signature(build).parameters.values()
    assert parameters
    for parameter in parameters:
        assert parameter.kind is inspect.Parameter.KEYWORD_ONLY
        changed = build(
            **{parameter.name: type(parameter.default)(parameter.default * 1.1 + (parameter.name == "rows"))}
        )
        assert changed.mesh.content_hash != shape.mesh.content_hash, parameter.name


def test_shapes_are_the_same_at_every_call(shape: Shape) -> None:
    assert SHAPES[shape.label]().mesh.content_hash == shape.mesh.content_hash


@pytest.mark.parametrize(
    ("label", "upper", "lower"),
    [
        ("chair", "back panel", "seat"),
        ("table", "top", "front left leg"),
        ("bottle", "cap", "body"),
        ("laptop", "screen", "keys"),
        ("skateboard", "deck", "front left wheel"),
        ("bench", "back slat 1", "seat slat 1"),
        ("couch", "left cushion", "base"),
        ("bed", "left pillow", "frame"),
        ("umbrella", "canopy", "handle"),
        ("suitcase", "grip", "case"),
        ("handbag", "handle", "bag"),
        ("tennis racket", "strings", "grip"),
        ("keyboard", "row 1 keys 1", "base"),
    ],
)
def test_up_is_plus_y(label: str, upper: str, lower: str) -> None:
    shape = SHAPES[label]()
    assert _centre_of_area(shape, upper)[1] > _centre_of_area(shape, lower)[1]


@pytest.mark.parametrize(
    ("label", "front", "behind"),
    [
        ("chair", "seat", "back panel"),
        ("laptop", "touchpad", "screen"),
        ("backpack", "pocket", "left strap"),
        ("bench", "seat slat 1", "back slat 1"),
        ("couch", "left cushion", "back"),
        ("bed", "mattress", "headboard"),
        ("cell phone", "screen", "camera"),
        ("book", "front cover", "back cover"),
    ],
)
def test_front_is_plus_z(label: str, front: str, behind: str) -> None:
    shape = SHAPES[label]()
    assert _centre_of_area(shape, front)[2] > _centre_of_area(shape, behind)[2]


def test_left_is_plus_x() -> None:
    for label, left in (("chair", "front left leg"), ("backpack", "left strap"), ("cup", "handle")):
        assert _centre_of_area(SHAPES[label](), left)[0] > 0.01


def test_cup_is_hollow() -> None:
    body = SHAPES["cup"]().parts["body"]
    solid = trimesh.Trimesh(body.vertices, body.faces, process=False)
    full = np.pi * 0.041**2 * 0.095
    assert 0.1 * full < solid.volume < 0.35 * full


def test_primitive_volumes() -> None:
    def volume(solid: object) -> float:
        return trimesh.Trimesh(solid.vertices, solid.faces, process=False).volume  # type: ignore[attr-defined]

    assert volume(box((0.2, 0.3, 0.4), 0.05)) == pytest.approx(0.024)
    assert volume(box((0.2, 0.3, 0.4), 0.02, rounding=0.02)) == pytest.approx(0.024, rel=0.05)
    assert volume(cylinder(0.1, 0.5, 0.01)) == pytest.approx(np.pi * 0.005, rel=0.01)
    assert volume(ellipsoid((0.1, 0.2, 0.3), 4)) == pytest.approx(4 / 3 * np.pi * 0.006, rel=0.01)
    straight = tube([(0, 0, 0), (0, 1, 0)], (0, 0, 1), 0.1, 0.2, 0.05, sections=40)
    assert volume(straight) == pytest.approx(np.pi * 0.05 * 0.1, rel=0.01)
