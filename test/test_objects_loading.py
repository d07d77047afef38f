"""Mesh files: what is written comes back, and what is broken is refused by name."""

from __future__ import annotations

import builtins
import io
import json
import logging
import os
import struct
from pathlib import Path

import numpy as np
import pytest
import trimesh
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ivlm_core.errors import MeshError
from ivlm_core.objects import (
    glb_bytes,
    library_labels,
    library_mesh,
    load_glb_parts,
    load_mesh,
    loading,
    write_glb,
)
from ivlm_core.types import Mesh

TRIANGLE = "v 0 0 0\nv 1 0 0\nv 0 1 0\n"


def _export(mesh: Mesh, path: Path) -> Path:
    trimesh.Trimesh(mesh.vertices, mesh.faces, process=False).export(path)
    return path


def _glb(tree: dict, binary: bytes = b"") -> bytes:
    text = json.dumps(tree).encode()
    text += b" " * (-len(text) % 4)
    binary += b"\0" * (-len(binary) % 4)
    chunks = struct.pack("<II", len(text), 0x4E4F534A) + text
    if binary:
        chunks += struct.pack("<II", len(binary), 0x004E4942) + binary
    return struct.pack("<III", 0x46546C67, 2, 12 + len(chunks)) + chunks


def _triangle_glb(**changes: object) -> bytes:
    points = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0]], dtype="<f4")
    indices = np.array([0, 1, 2], dtype="<u4")
    tree: dict = {
        "asset": {"version": "2.0"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0}],
        "meshes": [{"primitives": [{"attributes": {"POSITION": 0}, "indices": 1}]}],
        "buffers": [{"byteLength": 48}],
        "bufferViews": [
            {"buffer": 0, "byteOffset": 0, "byteLength": 36},
            {"buffer": 0, "byteOffset": 36, "byteLength": 12},
        ],
        "accessors": [
            {"bufferView": 0, "componentType": 5126, "count": 3, "type": "VEC3"},
            {"bufferView": 1, "componentType": 5125, "count": 3, "type": "SCALAR"},
        ],
    }
    tree.update(changes)
    return _glb(tree, points.tobytes() + indices.tobytes())


@pytest.mark.parametrize("suffix", [".obj", ".ply", ".glb", ".off"])
@pytest.mark.parametrize("label", ["chair", "ball"])
def test_round_trip_keeps_vertices_and_order(tmp_path: Path, suffix: str, label: str) -> None:
    mesh = library_mesh(label)
    loaded = load_mesh(_export(mesh, tmp_path / f"it{suffix.upper()}"))
    np.testing.assert_allclose(loaded.vertices, mesh.vertices, atol=1e-6)
    np.testing.assert_array_equal(loaded.faces, mesh.faces)


def test_stl_round_trip_joins_the_corners_again(tmp_path: Path) -> None:
    mesh = library_mesh("ball")
    loaded = load_mesh(_export(mesh, tmp_path / "ball.stl"))
    assert len(loaded.vertices) == len(mesh.vertices)
    np.testing.assert_allclose(loaded.vertices[loaded.faces], mesh.vertices[mesh.faces], atol=1e-6)


@pytest.mark.parametrize("label", library_labels())
def test_library_meshes_survive_glb(tmp_path: Path, label: str) -> None:
    mesh = library_mesh(label)
    write_glb(tmp_path / "it.glb", mesh)
    assert load_mesh(tmp_path / "it.glb").content_hash == mesh.content_hash


def test_glb_keeps_colors(tmp_path: Path) -> None:
    mesh = library_mesh("box")
    colors = np.random.default_rng(0).integers(0, 256, (len(mesh.vertices), 3), dtype=np.uint8)
    write_glb(tmp_path / "it.glb", mesh, colors)
    stored = trimesh.load_mesh(tmp_path / "it.glb", process=False, skip_materials=True)
    np.testing.assert_array_equal(stored.visual.vertex_colors[:, :3], colors)


def test_glb_is_not_polished_metal(tmp_path: Path) -> None:
    write_glb(tmp_path / "it.glb", library_mesh("box"))
    data = (tmp_path / "it.glb").read_bytes()
    tree = json.loads(data[20 : 20 + struct.unpack("<I", data[12:16])[0]])
    assert tree["materials"][0]["pbrMetallicRoughness"]["metallicFactor"] == 0.0
    assert tree["meshes"][0]["primitives"][0]["material"] == 0


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data(), suffix=st.sampled_from([".obj", ".ply", ".glb", ".off"]))
def test_any_mesh_round_trips(tmp_path: Path, data: st.DataObject, suffix: str) -> None:
    vertices = data.draw(arrays(np.float32, (data.draw(st.integers(3, 12)), 3), elements=st.floats(-9, 9, width=32)))
    faces = data.draw(arrays(np.int32, (data.draw(st.integers(1, 9)), 3), elements=st.integers(0, len(vertices) - 1)))
    if np.ptp(vertices, axis=0).max() == 0:
        vertices[0] += 1
    mesh = Mesh(vertices, faces)
    loaded = load_mesh(_export(mesh, tmp_path / f"any{suffix}"))
    np.testing.assert_allclose(loaded.vertices, vertices, atol=1e-6)
    np.testing.assert_array_equal(loaded.faces, faces)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(noise=st.binary(max_size=200), suffix=st.sampled_from(loading.SUFFIXES), keep=st.integers(0, 400))
def test_noise_is_a_mesh_error_or_a_mesh(tmp_path: Path, noise: bytes, suffix: str, keep: int) -> None:
    """Whatever follows a good beginning, no other exception than MeshError comes out."""
    path = _export(library_mesh("chair"), tmp_path / f"good{suffix}")
    path.write_bytes(path.read_bytes()[:keep] + noise)
    try:
        assert isinstance(load_mesh(path), Mesh)
    except MeshError as error:
        assert "good" in str(error)


def test_scene_nodes_are_placed(tmp_path: Path) -> None:
    scene = trimesh.Scene()
    cube = trimesh.creation.box((1, 1, 1))
    shift = np.eye(4)
    shift[0, 3] = 5.0
    scene.add_geometry(cube, node_name="a")
    scene.add_geometry(cube, node_name="b", transform=shift)
    scene.export(tmp_path / "two.glb")
    loaded = load_mesh(tmp_path / "two.glb")
    assert len(loaded.faces) == 24
    np.testing.assert_allclose(np.ptp(loaded.vertices, axis=0), [6, 1, 1], atol=1e-6)


def test_parts_of_a_scene_keep_names_places_and_colors(tmp_path: Path) -> None:
    scene = trimesh.Scene()
    colors = np.random.default_rng(0).integers(0, 256, (len(library_mesh("cup").vertices), 3), dtype=np.uint8)
    placed = {"0 person": ("cup", colors, [1.0, 2.0, 3.0]), "1 chair": ("chair", None, [0.0, 0.0, -1.0])}
    for name, (label, painted, to) in placed.items():
        mesh = library_mesh(label)
        part = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False, vertex_colors=painted)
        scene.add_geometry(
            part, node_name=name, geom_name=name, transform=trimesh.transformations.translation_matrix(to)
        )
    path = tmp_path / "scene.glb"
    path.write_bytes(trimesh.exchange.gltf.export_glb(scene))
    parts = {name: (mesh, painted) for name, mesh, painted in load_glb_parts(path)}
    assert set(parts) == set(placed)
    for name, (label, painted, to) in placed.items():
        mesh, found = parts[name]
        np.testing.assert_allclose(mesh.vertices, library_mesh(label).vertices + np.float32(to), atol=1e-6)
        np.testing.assert_array_equal(mesh.faces, library_mesh(label).faces)
        assert (found is None) == (painted is None)
        if painted is not None:
            np.testing.assert_array_equal(found, painted)


@pytest.mark.parametrize("data", [b"", b"glTF" + bytes(40), glb_bytes(library_mesh("box"))[:-500]])
def test_broken_scene_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "scene.glb").write_bytes(data)
    with pytest.raises(MeshError, match=r"scene\.glb"):
        load_glb_parts(tmp_path / "scene.glb")


def test_obj_with_texture_indices_keeps_its_vertices(tmp_path: Path) -> None:
    """Seams and material groups must not split or reorder what the file numbers."""
    text = "v 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\nvt 0 0\nvt 1 0\nvt 1 1\nvt .5 .5\nvn 0 0 1\n"
    text += "usemtl red\nf 1/1/1 2/2/1 3/3/1\nusemtl blue\ng other\nf 1/4/1 3/2/1 4/3/1\n"
    (tmp_path / "seams.obj").write_text(text)
    loaded = load_mesh(tmp_path / "seams.obj")
    np.testing.assert_array_equal(loaded.vertices, [[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]])
    np.testing.assert_array_equal(loaded.faces, [[0, 1, 2], [0, 2, 3]])


def test_obj_quads_relative_indices_and_windows_lines(tmp_path: Path) -> None:
    (tmp_path / "quad.obj").write_bytes(b"v 0 0 0\r\nv 1 0 0\r\nv 1 1 0\r\nv 0 1 0\r\nf -4 -3 \\\r\n-2 -1\r\n")
    loaded = load_mesh(tmp_path / "quad.obj")
    assert len(loaded.vertices) == 4
    assert len(loaded.faces) == 2
    corners = loaded.vertices[loaded.faces]
    np.testing.assert_allclose(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])[:, 2], 1.0)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(MeshError, match=r"nowhere\.obj.*does not exist.*check the path"):
        load_mesh(tmp_path / "nowhere.obj")


def test_directory_instead_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "folder.obj").mkdir()
    with pytest.raises(MeshError, match=r"folder\.obj.*is a directory"):
        load_mesh(tmp_path / "folder.obj")


def test_named_pipe_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.obj")
    with pytest.raises(MeshError, match="not a regular file"):
        load_mesh(tmp_path / "pipe.obj")


def test_path_with_a_null_byte() -> None:
    with pytest.raises(MeshError, match="cannot be opened"):
        load_mesh(Path("a\0b.obj"))


@pytest.mark.parametrize("name", ["it.fbx", "it", "it.zip", "it.obj.txt"])
def test_unsupported_suffix(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(TRIANGLE + "f 1 2 3\n")
    with pytest.raises(MeshError, match=r"unsupported suffix.*\.obj, \.ply"):
        load_mesh(tmp_path / name)


@pytest.mark.parametrize("suffix", loading.SUFFIXES)
def test_empty_file(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"it{suffix}").touch()
    with pytest.raises(MeshError, match="is empty"):
        load_mesh(tmp_path / f"it{suffix}")


@pytest.mark.parametrize("text", [TRIANGLE, "# nothing\n", "f 1 2 3\n"])
def test_empty_mesh(tmp_path: Path, text: str) -> None:
    (tmp_path / "it.obj").write_text(text)
    with pytest.raises(MeshError, match=r"it\.obj"):
        load_mesh(tmp_path / "it.obj")


@pytest.mark.parametrize("number", ["nan", "inf", "-inf", "1e39", "1e300"])
def test_nan_vertices(tmp_path: Path, number: str) -> None:
    (tmp_path / "it.obj").write_text(TRIANGLE + f"v 0 0 {number}\nf 1 2 3\nf 1 2 4\n")
    with pytest.raises(MeshError, match=r"it\.obj.*vertices: hold NaN.*repair"):
        load_mesh(tmp_path / "it.obj")


@pytest.mark.parametrize("face", ["f 1 2 4", "f 1 2 99999999", "f 0 1 2", "f -4 -1 -2"])
def test_out_of_range_indices_in_obj(tmp_path: Path, face: str) -> None:
    (tmp_path / "it.obj").write_text(TRIANGLE + face + "\n")
    with pytest.raises(MeshError, match=r"it\.obj.*out of (bounds|range)"):
        load_mesh(tmp_path / "it.obj")


@pytest.mark.parametrize("index", [3, -1, 2_000_000_000])
def test_out_of_range_indices_in_ply(tmp_path: Path, index: int) -> None:
    header = "ply\nformat ascii 1.0\nelement vertex 3\nproperty float x\nproperty float y\nproperty float z\n"
    header += "element face 1\nproperty list uchar int vertex_indices\nend_header\n"
    (tmp_path / "it.ply").write_text(header + f"0 0 0\n1 0 0\n0 1 0\n3 0 1 {index}\n")
    with pytest.raises(MeshError, match=r"it\.ply.*outside 0…2"):
        load_mesh(tmp_path / "it.ply")


def test_out_of_range_indices_in_glb(tmp_path: Path) -> None:
    data = bytearray(_triangle_glb())
    data[-4:] = struct.pack("<I", 7)
    (tmp_path / "it.glb").write_bytes(data)
    with pytest.raises(MeshError, match=r"it\.glb.*7 is outside 0…2"):
        load_mesh(tmp_path / "it.glb")


def test_all_vertices_in_one_point(tmp_path: Path) -> None:
    (tmp_path / "it.obj").write_text("v 1 1 1\nv 1 1 1\nv 1 1 1\nf 1 2 3\n")
    with pytest.raises(MeshError, match="in one point"):
        load_mesh(tmp_path / "it.obj")


def test_huge_file_is_refused_before_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "it.obj"
    path.write_text(TRIANGLE + "f 1 2 3\n")
    load_mesh(path)
    monkeypatch.setattr(loading, "MAX_MESH_FILE_BYTES", path.stat().st_size - 1)
    monkeypatch.setattr(Path, "read_bytes", lambda self: pytest.fail("the file was read"))
    with pytest.raises(MeshError, match=r"at most .* are read"):
        load_mesh(path)


def test_too_many_faces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "MAX_MESH_FACES", 100)
    with pytest.raises(MeshError, match="simplify it"):
        load_mesh(_export(library_mesh("ball"), tmp_path / "it.ply"))


def test_instance_bomb_is_counted_before_it_is_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    many = 2000
    bomb = _triangle_glb(nodes=[{"mesh": 0} for _ in range(many)], scenes=[{"nodes": list(range(many))}])
    (tmp_path / "it.glb").write_bytes(bomb)
    assert len(load_mesh(tmp_path / "it.glb").faces) == many
    monkeypatch.setattr(loading, "MAX_MESH_FACES", many - 1)
    with pytest.raises(MeshError, match=f"{many} faces"):
        load_mesh(tmp_path / "it.glb")


@pytest.mark.parametrize("count", [10**13, -1])
def test_accessor_that_claims_terabytes(tmp_path: Path, count: int) -> None:
    accessors = [
        {"componentType": 5126, "count": count, "type": "VEC3"},
        {"bufferView": 1, "componentType": 5125, "count": 3, "type": "SCALAR"},
    ]
    (tmp_path / "it.glb").write_bytes(_triangle_glb(accessors=accessors))
    with pytest.raises(MeshError, match="claims an array"):
        load_mesh(tmp_path / "it.glb")


def test_node_cycle_in_glb(tmp_path: Path) -> None:
    nodes = [{"children": [1]}, {"mesh": 0, "children": [0]}]
    (tmp_path / "it.glb").write_bytes(_triangle_glb(nodes=nodes))
    try:
        assert len(load_mesh(tmp_path / "it.glb").faces) == 1
    except MeshError as error:
        assert "it.glb" in str(error)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of all files opened during the test."""
    names: list[str] = []
    original = io.open

    def watching(file: object, *rest: object, **named: object) -> object:
        names.append(str(file))
        return original(file, *rest, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "open", watching)
    monkeypatch.setattr(io, "open", watching)
    return names


def test_obj_material_library_is_never_opened(tmp_path: Path, opened: list[str]) -> None:
    (tmp_path / "secret.mtl").write_text("newmtl red\nmap_Kd /etc/passwd\n")
    (tmp_path / "it.obj").write_text("mtllib secret.mtl\nusemtl red\n" + TRIANGLE + "vt 0 0\nf 1/1 2/1 3/1\n")
    opened.clear()
    load_mesh(tmp_path / "it.obj")
    assert [Path(name).name for name in opened] == ["it.obj"]


def test_ply_texture_is_never_opened(tmp_path: Path, opened: list[str]) -> None:
    path = _export(library_mesh("cup"), tmp_path / "it.ply")
    (tmp_path / "secret.png").write_bytes(b"x")
    path.write_bytes(path.read_bytes().replace(b"element", b"comment TextureFile secret.png\nelement", 1))
    opened.clear()
    load_mesh(path)
    assert [Path(name).name for name in opened] == ["it.ply"]


@pytest.mark.parametrize("uri", ["secret.bin", "file:///etc/passwd", "http://localhost:1/x.bin", "../secret.bin"])
def test_glb_external_buffer_is_never_opened(tmp_path: Path, opened: list[str], uri: str) -> None:
    (tmp_path / "secret.bin").write_bytes(b"\0" * 48)
    (tmp_path / "it.glb").write_bytes(_triangle_glb(buffers=[{"byteLength": 48, "uri": uri}]))
    opened.clear()
    with pytest.raises(MeshError, match="keeps its geometry in another file"):
        load_mesh(tmp_path / "it.glb")
    assert [Path(name).name for name in opened] == ["it.glb"]


def test_glb_external_texture_is_never_opened(tmp_path: Path, opened: list[str]) -> None:
    (tmp_path / "secret.png").write_bytes(b"x")
    material = {"pbrMetallicRoughness": {"baseColorTexture": {"index": 0}}}
    data = _triangle_glb(images=[{"uri": "secret.png"}], textures=[{"source": 0}], materials=[material])
    (tmp_path / "it.glb").write_bytes(data)
    opened.clear()
    assert len(load_mesh(tmp_path / "it.glb").faces) == 1
    assert [Path(name).name for name in opened] == ["it.glb"]


def test_gltf_external_buffer_is_refused_by_suffix(tmp_path: Path) -> None:
    (tmp_path / "it.gltf").write_text('{"asset": {"version": "2.0"}, "buffers": [{"uri": "/etc/passwd"}]}')
    with pytest.raises(MeshError, match=r"\.gltf.*export it as \.glb"):
        load_mesh(tmp_path / "it.gltf")


@pytest.mark.parametrize("share", [0.001, 0.01, 0.3, 0.9, 0.999])
def test_truncated_glb(tmp_path: Path, share: float) -> None:
    path = tmp_path / "it.glb"
    write_glb(path, library_mesh("cup"))
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(MeshError, match=r"it\.glb"):
        load_mesh(path)


@pytest.mark.parametrize("suffix", [".ply", ".stl", ".off"])
def test_truncated_file(tmp_path: Path, suffix: str) -> None:
    path = _export(library_mesh("cup"), tmp_path / f"it{suffix}")
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(MeshError, match=rf"it\{suffix}.*export"):
        load_mesh(path)


def test_millimetres_are_noticed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    mesh = library_mesh("chair")
    path = _export(Mesh(mesh.vertices * 1000, mesh.faces), tmp_path / "mm.ply")
    with caplog.at_level(logging.WARNING, logger="ivlm"):
        loaded = load_mesh(path)
    assert len(loaded.vertices) == len(mesh.vertices)
    assert [record.message for record in caplog.records if "millimetres" in record.message]


def test_write_glb_leaves_nothing_behind_when_it_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_glb(tmp_path / "it.glb", library_mesh("box"))
    before = (tmp_path / "it.glb").read_bytes()

    def full(self: Path, data: bytes) -> int:
        with self.open("wb") as stream:
            stream.write(data[:100])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space"):
        write_glb(tmp_path / "it.glb", library_mesh("chair"))
    assert [path.name for path in tmp_path.iterdir()] == ["it.glb"]
    assert (tmp_path / "it.glb").read_bytes() == before
