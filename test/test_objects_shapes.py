"""The parametric shapes: closed parts, sensible sizes, even tessellation, the right way up."""

from __future__ import annotations

import inspect
from collections.abc import Callable

import numpy as np
import pytest
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st

from ivlm_core.objects import varied_shape
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
    "surfboard": ((0.45, 0.6), (0.1, 0.3), (1.7, 2.8)),
    "snowboard": ((0.25, 0.32), (0.15, 0.35), (1.35, 1.7)),
    "frisbee": ((0.2, 0.3), (0.02, 0.04), (0.2, 0.3)),
    "bicycle": ((0.5, 0.8), (0.95, 1.15), (1.6, 1.9)),
    "motorcycle": ((0.65, 0.95), (1.0, 1.35), (1.9, 2.3)),
}

ANCHORS = {
    "chair": "seat, back, back left, back right, back top",
    "bench": "seat, back",
    "couch": "seat, back, arm left, arm right",
    "bed": "seat",
    "table": "top, edge",
    "skateboard": "deck, rail left, rail right",
    "surfboard": "deck, rail left, rail right",
    "snowboard": "deck, rail left, rail right, front foot, back foot",
    "bicycle": "saddle, grip left, grip right, pedal left, pedal right",
    "motorcycle": "saddle, grip left, grip right, pedal left, pedal right",
    "bottle": "grip, grip second",
    "cup": "grip, handle",
    "umbrella": "grip, grip second, handle",
    "tennis racket": "grip, grip second",
    "baseball bat": "grip, grip second",
    "frisbee": "rim left, rim right",
    "ball": "centre",
    "book": "left, right, spine",
    "laptop": "keys, left, right",
    "keyboard": "keys",
    "cell phone": "back, screen",
    "backpack": "back panel, strap left, strap right, handle",
    "handbag": "handle",
    "suitcase": "pull handle, side handle, top",
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
        assert solid.body_count == 1 or name.endswith("spokes"), name


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


@pytest.mark.parametrize("seed", [None, 1, 2])
def test_parts_hang_together(shape: Shape, seed: int | None) -> None:
    """Every part comes within 2 mm of a part that hangs together with the first: nothing floats."""
    if seed is not None:
        shape = varied_shape(shape.label, np.random.default_rng(seed))
    distance = [_distance_function(part) for part in shape.parts.values()]
    boxes = [(part.vertices.min(axis=0) - 0.002, part.vertices.max(axis=0) + 0.002) for part in shape.parts.values()]
    touching = np.eye(len(distance), dtype=bool)
    for first, (near, (low, high)) in enumerate(zip(distance, boxes, strict=True)):
        for second, part in enumerate(shape.parts.values()):
            points = part.vertices[((part.vertices > low) & (part.vertices < high)).all(axis=1)]
            touching[first, second] |= bool(len(points)) and bool(near(points).min() < 0.002)
    joined = np.linalg.matrix_power((touching | touching.T).astype(np.float64), len(boxes))[0] > 0
    assert joined.all(), np.array(list(shape.parts))[~joined]


def _distance_function(part: Mesh) -> Callable[[np.ndarray], np.ndarray]:
    """Signed distance in metres, negative inside; several rays vote, since one may graze an edge."""
    import open3d as o3d

    scene = o3d.t.geometry.RaycastingScene()
    scene.add_triangles(o3d.core.Tensor(part.vertices), o3d.core.Tensor(part.faces.astype(np.uint32)))
    return lambda points: scene.compute_signed_distance(
        o3d.core.Tensor(np.ascontiguousarray(points)), nsamples=5
    ).numpy()


def test_every_size_parameter_has_a_default_and_an_effect(shape: Shape) -> None:
    build = SHAPES[shape.label]
    parameters = inspect.signature(build).parameters.values()
    assert parameters
    for parameter in parameters:
        assert parameter.kind is inspect.Parameter.KEYWORD_ONLY
        if isinstance(parameter.default, int):
            other: float = parameter.default - 1 if parameter.default else 1
        else:
            other = 1.1 * parameter.default or 0.2
        changed = build(**{parameter.name: other})
        assert changed.sizes[parameter.name] == other
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
        ("surfboard", "board", "middle fin"),
        ("snowboard", "front highback", "board"),
        ("bicycle", "saddle", "front tyre"),
        ("motorcycle", "tank", "engine"),
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
        ("surfboard", "board", "middle fin"),
        ("snowboard", "front plate", "back plate"),
        ("bicycle", "front tyre", "rear tyre"),
        ("motorcycle", "headlight", "rear light"),
    ],
)
def test_front_is_plus_z(label: str, front: str, behind: str) -> None:
    shape = SHAPES[label]()
    assert _centre_of_area(shape, front)[2] > _centre_of_area(shape, behind)[2]


def test_left_is_plus_x() -> None:
    for label, left in (("chair", "front left leg"), ("cup", "handle"), ("bicycle", "left grip")):
        assert _centre_of_area(SHAPES[label](), left)[0] > 0.01


def test_wearer_of_a_backpack_looks_towards_minus_z() -> None:
    pack = SHAPES["backpack"]()
    assert _centre_of_area(pack, "left strap")[0] < -0.01
    assert pack.anchors["strap left"].point[0] < -0.01
    assert pack.anchors["back panel"].direction[2] == -1


@pytest.mark.parametrize(("label", "names"), ANCHORS.items())
def test_promised_anchors_are_there(label: str, names: str) -> None:
    assert {name.strip() for name in names.split(",")} <= set(SHAPES[label]().anchors)


def test_arm_rests_have_anchors_where_there_are_arm_rests() -> None:
    for label in ("chair", "bench"):
        assert "arm left" not in SHAPES[label]().anchors
        anchors = SHAPES[label](arm_height=0.2).anchors
        assert anchors["arm left"].point[0] > 0.1 > -0.1 > anchors["arm right"].point[0]
    assert "handle" not in SHAPES["cup"](handle_reach=0.0).anchors


def test_anchors_lie_on_the_object(shape: Shape) -> None:
    """Surfaces are at their anchor and end there; what a hand closes around is no further than its radius."""
    near = [_distance_function(part) for part in shape.parts.values()]
    for name, anchor in shape.anchors.items():
        np.testing.assert_allclose(np.linalg.norm(anchor.direction), 1.0)
        points = np.stack([anchor.point, anchor.point + 0.03 * anchor.direction]).astype(np.float32)
        at, outside = np.min([distance(points) for distance in near], axis=0)
        if anchor.radius == 0:
            assert abs(at) < 0.02, (name, at)
            assert outside > 0.005, (name, outside)
        else:
            assert at <= anchor.radius + 0.012, (name, at)


def test_riders_reach_what_they_need() -> None:
    """Sizes in the sizes' own words: heights above the ground, the reach from saddle to grips."""
    for label, floor in (("bicycle", 0.1), ("motorcycle", 0.25)):
        shape = SHAPES[label](saddle_height=0.85, grip_height=1.05, reach=0.5, grip_width=0.6)
        ground = shape.mesh.vertices[:, 1].min()
        saddle, left, right = (shape.anchors[name].point for name in ("saddle", "grip left", "grip right"))
        assert saddle[1] - ground == pytest.approx(0.85, abs=0.01)
        assert left[1] - ground == pytest.approx(1.05, abs=0.01)
        assert left[2] - saddle[2] == pytest.approx(0.5, abs=0.01)
        assert left[0] - right[0] == pytest.approx(0.6, abs=0.01)
        for side, sign in (("left", 1), ("right", -1)):
            pedal = shape.anchors[f"pedal {side}"].point
            assert pedal[0] * sign > 0.08
            assert floor < pedal[1] - ground < 0.6


def test_pedals_turn() -> None:
    """At 90° the left pedal is straight below the right one, two cranks apart."""
    anchors = SHAPES["bicycle"](crank_deg=90.0, crank=0.17).anchors
    apart = anchors["pedal right"].point - anchors["pedal left"].point
    np.testing.assert_allclose(apart[1:], [0.34, 0.0], atol=1e-9)


@settings(max_examples=40, deadline=None)
@given(label=st.sampled_from(list(SHAPES)), seed=st.integers(0, 10**6))
def test_every_instance_has_an_inside_and_an_outside(label: str, seed: int) -> None:
    """Both sides of every triangle of every part are what the normal says: closed, outward, not self-intersecting."""
    for name, part in varied_shape(label, np.random.default_rng(seed)).parts.items():
        corners = part.vertices.astype(np.float64)[part.faces]
        normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        doubled = np.linalg.norm(normals, axis=1, keepdims=True)
        volume = np.einsum("fi,fi->", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])) / 6
        assert volume > 0, name
        # A tenth of the mean thickness, but no more than 0.3 mm.
        aside = min(3e-4, 0.2 * volume / (doubled.sum() / 2)) * normals / doubled
        middle = corners.mean(axis=1)
        distance = _distance_function(part)
        assert (distance((middle - aside).astype(np.float32)) < 0).all(), name
        assert (distance((middle + aside).astype(np.float32)) > 0).all(), name


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
