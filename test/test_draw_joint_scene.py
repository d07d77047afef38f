"""The joint scene: what the GLB holds, and that the views show it where it is, at one scale, with hidden contact."""

from __future__ import annotations

import json
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from ivlm_core.draw import draw_scene_views, heat_colors, joint_scene, write_scene_glb
from ivlm_core.draw.joint_scene import OBJECT_COLORS, PERSON_COLOR
from ivlm_core.errors import InputError
from ivlm_core.types import ByteArray, Mesh, PosedBody, Reconstruction

GAP, STRIP = 10, 24


def box(low: tuple[float, ...], high: tuple[float, ...]) -> Mesh:
    solid = trimesh.creation.box(bounds=[low, high])
    return Mesh(np.asarray(solid.vertices), np.asarray(solid.faces), "box")


def person(low: tuple[float, ...] = (-0.9, -0.8, 3.0), high: tuple[float, ...] = (-0.5, 0.8, 3.3)) -> PosedBody:
    mesh = box(low, high)
    return PosedBody(mesh.vertices, mesh.faces, "anny", "p1")


def thing(label: str = "crate", **changed: object) -> Reconstruction:
    """A unit cube, scaled to 0.4 m, turned a quarter about z; its middle at (0.7, 0.2, 2.0)."""
    turned = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    fitted = Reconstruction(
        label, box((-0.5,) * 3, (0.5,) * 3), turned, np.array([0.7, 0.2, 2.0]), 0.4, True, object_id="7"
    )
    return replace(fitted, **changed)  # type: ignore[arg-type]


def panels(picture: ByteArray) -> list[ByteArray]:
    """The three panels, without their names: they lie between white columns."""
    body = picture[GAP + STRIP :]
    paper = (body[:100] == 255).all(axis=(0, 2))
    edges = np.flatnonzero(np.diff(paper.astype(int)))
    bottom = int(np.flatnonzero((body[:, GAP + 1] == 255).all(axis=1))[0])
    return [body[:bottom, left + 1 : right + 1] for left, right in zip(edges[::2], edges[1::2], strict=True)]


def middle(panel: ByteArray, color: tuple[int, int, int]) -> tuple[float, float, float, float]:
    """x, y of the middle and width, height of what has the hue of `color`, pixels."""
    pixels = panel.astype(np.float64)
    spread = np.ptp(pixels, axis=2)
    unit = pixels - pixels.mean(axis=2, keepdims=True)
    wanted = np.array(color, np.float64) - np.mean(color)
    if np.ptp(wanted):
        alike = (unit @ wanted) / np.maximum(np.linalg.norm(unit, axis=2), 1e-9) / np.linalg.norm(wanted) > 0.97
        found = (spread > 15) & alike
    else:
        found = (spread < 6) & (pixels.mean(axis=2) < 225)
    rows, columns = np.nonzero(found)
    low, high = np.percentile(columns, [0.5, 99.5]), np.percentile(rows, [0.5, 99.5])
    return float(low.mean()), float(high.mean()), float(np.ptp(low)), float(np.ptp(high))


def test_glb_holds_every_part_in_gltfs_axes_with_contact_and_materials(tmp_path: Path) -> None:
    contact = np.linspace(0, 1, 8, dtype=np.float32)
    scene = joint_scene([(person(), contact)], [(thing(), 1 - contact), (thing("crate"), None)])
    path = tmp_path / "scene.glb"
    write_scene_glb(path, scene)
    loaded = trimesh.load(path)
    assert list(loaded.geometry) == ["0 person p1", "1 crate 7", "2 crate 7"]
    for part, mesh in zip(scene.parts, loaded.geometry.values(), strict=True):
        np.testing.assert_allclose(mesh.vertices, part.mesh.vertices * [1, -1, -1], atol=1e-6)
        np.testing.assert_array_equal(mesh.faces, part.mesh.faces)
        # Half a turn keeps outside outside.
        assert mesh.volume > 0
        expected = heat_colors(part.contact, np.array(part.color, np.uint8))
        np.testing.assert_array_equal(mesh.visual.vertex_attributes["color"][:, :3], expected)
    data = path.read_bytes()
    tree = json.loads(data[20 : 20 + struct.unpack("<I", data[12:16])[0]])
    assert [material["name"] for material in tree["materials"]] == list(loaded.geometry)
    assert all(material["pbrMetallicRoughness"]["metallicFactor"] == 0 for material in tree["materials"])
    used = [primitive["material"] for mesh in tree["meshes"] for primitive in mesh["primitives"]]
    assert used == [0, 1, 2]


def test_views_show_parts_where_they_are_at_one_scale() -> None:
    scene = joint_scene([(person(), None)], [(thing(), None)])
    front, left, above = panels(draw_scene_views(scene, 480))
    # The scene is 1.6 m high, from −0.9 to 0.9 m across and 1.5 m deep; 6 % are left free on either side. So wide a one
    # has lower panels.
    scale = front.shape[0] / (1.6 * 1.12)
    assert front.shape[0] < 480
    assert front.shape[1] == pytest.approx(1.8 * 1.12 * scale, abs=2)
    assert front.shape[1] + left.shape[1] + above.shape[1] == pytest.approx(2.6 * 480, abs=4)
    assert left.shape[1] == pytest.approx(1.5 * 1.12 * scale, abs=2)
    assert above.shape[1] == front.shape[1]
    seen = {name: [middle(panel, color) for panel in (front, left, above)] for name, color in
            (("person", PERSON_COLOR), ("crate", OBJECT_COLORS[0]))}  # fmt: skip
    wanted = {"person": (-0.7, 0.0, 3.15, (0.4, 1.6, 0.3)), "crate": (0.7, 0.2, 2.0, (0.4, 0.4, 0.4))}
    for name, (x, y, z, (wide, high, deep)) in wanted.items():
        # Middles of the panels are those of the scene: (0, 0, 2.55). Depth grows to the left, and upwards.
        places = ((x, y, wide, high), (2.55 - z, y, deep, high), (x, 2.55 - z, wide, deep))
        for panel, found, (right, down, across, along) in zip((front, left, above), seen[name], places, strict=True):
            centre = np.array([panel.shape[1], panel.shape[0]]) / 2
            assert found[:2] == pytest.approx(centre + scale * np.array([right, down]), abs=4), name
            assert found[2:] == pytest.approx((across * scale, along * scale), abs=6), name


def test_hidden_contact_shows_through() -> None:
    # The crate stands between the camera and the person, who touches it with the side that is hidden.
    body = person((-0.2, -0.8, 3.0), (0.2, 0.8, 3.3))
    touched = (body.vertices[:, 2] < 3.1).astype(np.float32)
    crate = thing(translation=np.array([0.0, 0.0, 2.7]), scale=0.6)
    bare, shown = (
        panels(draw_scene_views(joint_scene([(body, contact)], [(crate, None)]), 300))[0].astype(int)
        for contact in (None, touched)
    )
    row, column = np.array(bare.shape[:2]) // 2
    redder = (shown - bare)[row - 5 : row + 5, column - 5 : column + 5].mean(axis=(0, 1))
    assert redder[0] > 10
    assert (redder[1:] < -30).all()
    # It is still the crate that is seen there, and beside the person nothing changes.
    assert (shown[row, column] != shown[10 + shown.shape[0] // 10, column]).any()
    np.testing.assert_array_equal(shown[:, : int(shown.shape[1] * 0.05)], bare[:, : int(bare.shape[1] * 0.05)])
    half = panels(draw_scene_views(joint_scene([(body, 0.4 * touched)], [(crate, None)]), 300))[0]
    np.testing.assert_array_equal(half[row, column], bare[row, column])


def test_objects_without_a_pose_are_named_and_not_drawn(tmp_path: Path) -> None:
    lost = thing("kite", pose_valid=False, reason="its mask is empty", translation=np.full(3, np.nan))
    scene = joint_scene([(person(), None)], [(lost, None)])
    assert [part.name for part in scene.parts] == ["person p1"]
    assert scene.missing == ("kite 7: its mask is empty",)
    without = joint_scene([(person(), None)], [])
    pictures = [draw_scene_views(item, 200) for item in (scene, without)]
    assert pictures[0].shape[0] == pictures[1].shape[0] + 20
    np.testing.assert_array_equal(pictures[0][: 200 + STRIP], pictures[1][: 200 + STRIP])
    with pytest.raises(InputError, match="its mask is empty"):
        joint_scene([], [(lost, None)])


def test_contact_of_another_mesh_is_refused() -> None:
    with pytest.raises(InputError, match="'person p1' has 8 vertices"):
        joint_scene([(person(), np.zeros(9, np.float32))], [])
    with pytest.raises(InputError, match="'crate 7' has 8 vertices"):
        joint_scene([], [(thing(), np.zeros((8, 1), np.float32))])


@pytest.mark.parametrize("turn", [(25.0, 0.0), (-40.0, 10.0), (0.0, -90.0), (90.0, 0.0)])
def test_with_the_way_up_the_views_are_level(turn: tuple[float, float]) -> None:
    # A camera that looks down and is rolled sees the level scene like this.
    tilt = Rotation.from_euler("xz", turn, degrees=True).as_matrix()
    level = joint_scene([(person(), None)], [(thing(), None)])
    body = person()
    tilted_body = replace(body, vertices=body.vertices @ tilt.T.astype(np.float32))
    crate = thing(rotation=tilt @ thing().rotation, translation=tilt @ thing().translation)
    tilted = joint_scene([(tilted_body, None)], [(crate, None)])
    wanted = draw_scene_views(level, 200).astype(int)
    found = draw_scene_views(tilted, 200, up=tilt @ [0, -3.0, 0]).astype(int)
    assert found.shape == wanted.shape
    # Which way is forward for a camera that looks straight down is a matter of taste.
    if turn[0] != 90:
        assert (np.abs(found - wanted).max(axis=2) > 40).mean() < 0.01


@pytest.mark.parametrize("up", [(0.0, 0.0, 0.0), (np.nan, 0.0, 1.0), (0.0, 1.0), "up"])
def test_ways_up_that_are_none(up: Any) -> None:
    with pytest.raises(InputError) as caught:
        draw_scene_views(joint_scene([(person(), None)], []), 120, up)
    assert caught.value.field == "up"


def test_heights_and_places_that_cannot_be(tmp_path: Path) -> None:
    scene = joint_scene([(person(), None)], [])
    for height in (0, 119, 2001):
        with pytest.raises(InputError, match="120…2000"):
            draw_scene_views(scene, height)
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        write_scene_glb(file / "scene.glb", scene)


@settings(max_examples=15, deadline=None)
@given(
    st.tuples(*[st.floats(-30, 30)] * 3),
    st.floats(1e-3, 20),
    st.lists(st.floats(width=32), min_size=8, max_size=8),
    st.text(max_size=40),
)
def test_any_scene_gives_a_picture_of_bounded_size(
    place: tuple[float, float, float], scale: float, contact: list[float], name: str
) -> None:
    crate = thing(translation=np.array(place), scale=scale, object_id=name)
    scene = joint_scene([(person(), None)], [(crate, np.array(contact, np.float32))])
    picture = draw_scene_views(scene, 120)
    assert picture.dtype == np.uint8
    assert picture.shape[2] == 3
    assert picture.shape[0] < 120 + 120
    assert picture.shape[1] < 3 * 120 + 1000
