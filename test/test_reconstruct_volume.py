"""Inside and depth, for meshes that are turned any way, overlap, fold into themselves or are not closed."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh

from ivlm_core.bodies import load_body
from ivlm_core.objects import library_mesh
from ivlm_core.reconstruct.volume import SurfacePoints, Volume, thinned, vertex_areas
from ivlm_core.types import PosedBody


def box(size: tuple[float, float, float], middle: tuple[float, float, float] = (0, 0, 0)) -> trimesh.Trimesh:
    made = trimesh.creation.box(size)
    made.apply_translation(middle)
    return made


def joined(*parts: trimesh.Trimesh) -> tuple[np.ndarray, np.ndarray]:
    starts = np.cumsum([0] + [len(part.vertices) for part in parts])
    vertices = np.concatenate([part.vertices for part in parts])
    return vertices, np.concatenate([part.faces + start for part, start in zip(parts, starts, strict=False)])


def points(count: int = 4000, reach: float = 1.2) -> np.ndarray:
    return np.random.default_rng(0).uniform(-reach, reach, size=(count, 3))


@pytest.mark.parametrize("turning", ["as made", "inside out", "mixed", "loose corners"])
def test_depth_in_a_box(turning):
    made = box((1.0, 1.6, 2.0))
    vertices, faces = np.array(made.vertices), np.array(made.faces)
    if turning == "inside out":
        faces = faces[:, ::-1]
    if turning == "mixed":
        faces[::3] = faces[::3, ::-1]
    if turning == "loose corners":
        vertices, faces = vertices[faces].reshape(-1, 3), np.arange(36).reshape(-1, 3)
    volume = Volume(vertices, faces)
    assert volume.closed
    asked = points()
    to_walls = (np.array([0.5, 0.8, 1.0]) - np.abs(asked)).min(axis=1)
    np.testing.assert_array_equal(volume.inside(asked, sure=True), to_walls > 0)
    np.testing.assert_allclose(volume.depths(asked), np.maximum(to_walls, 0), atol=1e-6)


def test_parts_in_each_other_are_one_body():
    # Two boxes that overlap by half: parity over all faces would call the middle outside.
    volume = Volume(*joined(box((1, 1, 1), (-0.25, 0, 0)), box((1, 1, 1), (0.25, 0, 0))))
    asked = points()
    inside = (np.abs(asked) < [0.75, 0.5, 0.5]).all(axis=1)
    np.testing.assert_array_equal(volume.inside(asked, sure=True), inside)
    assert volume.depths(np.array([[0.0, 0.0, 0.0]]))[0] == pytest.approx(0.5, abs=1e-6)


def test_walls_inside_another_part_are_no_way_out():
    # A rod deep in a cube: its own surface is 5 cm from its axis, the outside 40 cm.
    volume = Volume(*joined(box((1, 1, 1)), box((0.1, 0.1, 0.1))))
    assert volume.depths(np.array([[0.0, 0.0, 0.1]]))[0] == pytest.approx(0.4, abs=1e-6)
    assert volume.depths(np.array([[0.0, 0.0, 0.0]]))[0] == pytest.approx(0.5, abs=1e-6)


def test_a_surface_that_folds_into_itself_stays_inside():
    # A tube bent so that its ends pass through each other: one part, wound around twice where it overlaps.
    angles = np.linspace(0, 2 * np.pi * 1.05, 80)
    path = np.stack([np.cos(angles), np.sin(angles), 0.02 * angles], axis=1)
    ring = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    outwards = path * [1, 1, 0]
    vertices = np.concatenate([p + 0.2 * (np.cos(ring)[:, None] * o + np.sin(ring)[:, None] * [0, 0, 1])
                               for p, o in zip(path, outwards, strict=True)] + [path[:1], path[-1:]])  # fmt: skip
    faces = []
    for k in range(79):
        for j in range(24):
            a, b = 24 * k + j, 24 * k + (j + 1) % 24
            faces += [(a, b, a + 24), (b, b + 24, a + 24)]
    last = len(vertices) - 1
    faces += [((j + 1) % 24, j, last - 1) for j in range(24)]
    faces += [(24 * 79 + j, 24 * 79 + (j + 1) % 24, last) for j in range(24)]
    volume = Volume(vertices, np.array(faces))
    assert volume.closed
    assert volume.inside(path[2:-2], sure=True).all()
    assert not volume.inside(np.zeros((1, 3))).any()


def test_holes_are_said_and_survived():
    sphere = trimesh.creation.icosphere(subdivisions=3, radius=1.0)
    volume = Volume(sphere.vertices, sphere.faces[3:])
    assert not volume.closed
    asked = points(2000)
    distance = np.linalg.norm(asked, axis=1)
    inside = volume.inside(asked)
    assert not inside[distance > 1.0].any()
    assert inside[distance < 0.95].mean() > 0.95


def test_open_sheets_have_no_inside():
    cup = trimesh.creation.cylinder(radius=1.0, height=2.0, sections=40)
    open_cup = np.array([face for face in cup.faces if not (cup.vertices[face][:, 2] > 0.99).all()])
    asked = points()
    inside = Volume(cup.vertices, open_cup).inside(asked)
    # Along its wall no straight line leads out; a hundredth of its height is let pass.
    assert not inside[np.linalg.norm(asked[:, :2], axis=1) < 0.98].any()
    assert inside.mean() < 1e-3
    plate = box((2, 2, 0.5))
    sheet = plate.faces[(plate.vertices[plate.faces][:, :, 2] > 0).all(axis=1)]
    assert not Volume(plate.vertices, sheet).inside(points()).any()


def test_closed_parts_count_beside_open_ones():
    sheet = box((2, 2, 0.5), (5, 0, 0))
    vertices, faces = joined(box((1, 1, 1)), sheet)
    volume = Volume(vertices, faces[:-3])
    assert not volume.closed
    assert volume.depths(np.array([[0.0, 0, 0.3]]))[0] == pytest.approx(0.2, abs=1e-6)


def test_degenerate_faces_do_not_matter():
    made = box((1, 1, 1))
    volume = Volume(made.vertices, np.concatenate([made.faces, [[0, 0, 1], [3, 3, 3]]]))
    assert volume.closed
    assert volume.inside(np.zeros((1, 3))).all()


@pytest.mark.parametrize("label", ["chair", "bicycle", "cup"])
def test_library_meshes_are_closed(label):
    mesh = library_mesh(label)
    assert Volume(mesh.vertices, mesh.faces).closed


def test_surface_has_the_right_area_and_spacing():
    made = box((1.0, 1.6, 2.0))
    surface = Volume(made.vertices, made.faces).surface(0.1)
    assert surface.areas.sum() == pytest.approx(2 * (1.6 + 2.0 + 3.2), rel=1e-6)
    on_wall = np.isclose(np.abs(surface.points), [0.5, 0.8, 1.0], atol=1e-6).any(axis=1)
    assert on_wall.all()
    # No patch of the surface larger than two cells is without a point.
    walls = trimesh.sample.sample_surface(made, 500, seed=0)[0]
    gaps = np.linalg.norm(walls[:, None] - surface.points[None], axis=2).min(axis=1)
    assert gaps.max() < 0.2


def test_thinning_keeps_the_area():
    rng = np.random.default_rng(0)
    all_points = SurfacePoints(rng.uniform(0, 1, (1000, 3)), rng.uniform(0, 1, 1000))
    few = thinned(all_points, 0.25)
    assert len(few.points) == 64
    assert few.areas.sum() == pytest.approx(all_points.areas.sum())


def test_body_is_closed_and_solid():
    rest = load_body("anny").mesh
    body = PosedBody(rest.vertices, rest.faces, "anny")
    volume = Volume.of_body(body)
    assert volume.closed
    middle = 0.5 * (rest.vertices.min(axis=0) + rest.vertices.max(axis=0))
    chest = middle + np.array([0.0, 0.25, 0.0]) * np.ptp(rest.vertices[:, 1])
    assert volume.inside(chest[None], sure=True).all()
    assert 0.03 < volume.depths(chest[None])[0] < 0.2
    assert vertex_areas(rest.vertices, rest.faces).sum() == pytest.approx(
        trimesh.Trimesh(rest.vertices, rest.faces, process=False).area, rel=1e-4
    )
    # Another pose of the same body uses the same parts.
    moved = Volume.of_body(PosedBody(rest.vertices + np.float32(1.0), rest.faces, "anny"))
    assert moved.inside(chest[None] + 1.0).all()
