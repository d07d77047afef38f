"""Mesh files: OBJ, PLY, STL, GLB and OFF in, GLB out. Files come from outside and are trusted with nothing."""

from __future__ import annotations

import io
import json
import logging
import re
import stat
from functools import lru_cache
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from ivlm_core.errors import MeshError, shown
from ivlm_core.storage import atomic_path
from ivlm_core.types import MAX_MESH_FACES, MAX_MESH_VERTICES, ByteArray, Mesh

log = logging.getLogger("ivlm")

SUFFIXES = (".obj", ".ply", ".stl", ".glb", ".off")
MAX_MESH_FILE_BYTES = 200 * 2**20
# Chairs and cars are below this; a chair in millimetres is far above.
LARGEST_PLAUSIBLE_SIDE_M = 20.0

_JSON_CHUNK = 0x4E4F534A


class _NoFiles(dict[str, bytes]):
    """A resolver that opens nothing: materials, textures and outside buffers are never read."""

    def __missing__(self, name: str) -> NoReturn:
        raise ValueError(f"it refers to another file, {shown(str(name))}, which is never opened")


def load_mesh(path: Path) -> Mesh:
    """Read one mesh file.

    Geometry only: materials, textures and other files that this one names are never opened. All nodes of a scene
    are joined in place. Vertices keep the file's order, so its indices stay valid; STL, which has none, gets its equal
    corners merged.

    Parameters
    ----------
    path : a .obj, .ply, .stl, .glb or .off file of at most `MAX_MESH_FILE_BYTES`, in metres, y up.

    Raises
    ------
    MeshError : missing, a directory, unsupported, too large, empty, flat to a point, corrupt, NaN, or with indices
        out of range. The message names the file and what to do.
    """
    path = Path(path)
    field = f"mesh file {shown(str(path), 300)}"
    data = _read(path, field)
    kind = path.suffix.lower()[1:]
    try:
        if kind == "glb":
            _check_glb(data)
        # Infinite and oversized numbers are found below; NumPy need not warn about them as well.
        with np.errstate(all="ignore"):
            vertices, faces = _parse(data, kind)
            finite = bool(np.isfinite(vertices.astype(np.float32)).all())
    except MeshError as error:
        raise MeshError(field, error.problem, error.remedy) from error
    except Exception as error:
        # The parsers meet damaged data with whatever exception comes first, from KeyError to MemoryError.
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise MeshError(field, f"cannot be read as {kind.upper()}: {reason}", "export the mesh again") from error
    if not finite:
        raise MeshError(f"{field}: vertices", "hold NaN, infinity or numbers above 3e38", "repair the mesh")
    mesh = _mesh(vertices, faces, path.stem[:80] or "mesh", field)
    side = float(np.ptp(mesh.vertices.astype(np.float64), axis=0).max())
    if side == 0.0:
        raise MeshError(field, "has all its vertices in one point", "repair the mesh")
    if side > LARGEST_PLAUSIBLE_SIDE_M:
        log.warning("%s is %.0f m long: it looks like millimetres, but meshes are read as metres", field, side)
    return mesh


def load_glb_parts(path: Path) -> list[tuple[str, Mesh, ByteArray | None]]:
    """The surfaces of a .glb file one by one, placed as its scene places them.

    Returns
    -------
    name of the node, mesh (metres, y up) and (N, 3) uint8 RGB of its vertices, or None where it has no colours.

    Raises
    ------
    MeshError : as in `load_mesh`.
    """
    path = Path(path)
    field = f"mesh file {shown(str(path), 300)}"
    data = _read(path, field)
    try:
        _check_glb(data)
        with np.errstate(all="ignore"):
            placed = _surfaces(data, "glb")
            _check_size(sum(len(part.vertices) for _, part, _ in placed), sum(len(part.faces) for _, part, _ in placed))
            parts = []
            for name, part, to in placed:
                mesh = Mesh(part.vertices @ to[:3, :3].T + to[:3, 3], part.faces.astype(np.int32), name[:80])
                colors = part.visual.vertex_colors if part.visual.kind == "vertex" else None
                parts.append((name, mesh, None if colors is None else np.asarray(colors)[:, :3].astype(np.uint8)))
    except MeshError as error:
        raise MeshError(field, error.problem, error.remedy) from error
    except Exception as error:
        # The parser meets damaged data with whatever exception comes first.
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise MeshError(field, f"cannot be read as GLB: {reason}", "write it again") from error
    return parts


def load_mesh_once(path: Path) -> Mesh:
    """As `load_mesh`; the same object again until the file's modification time or size changes."""
    try:
        status = path.stat()
    except (OSError, ValueError):
        return load_mesh(path)
    return _read_once(str(path.resolve()), status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=32)
def _read_once(path: str, mtime_ns: int, size: int) -> Mesh:
    return load_mesh(Path(path))


def write_glb(path: Path, mesh: Mesh, colors: ByteArray | None = None) -> None:
    """Write a mesh as binary glTF, whole or not at all; the vertex order is kept.

    Parameters
    ----------
    path : the file to write, `.glb`.
    mesh : metres, y up (glTF's own convention).
    colors : (N, 3) uint8 RGB per vertex, or None.
    """
    with atomic_path(path) as temporary:
        temporary.write_bytes(glb_bytes(mesh, colors))


def glb_bytes(mesh: Mesh, colors: ByteArray | None = None, normals: bool = False) -> bytes:
    """A mesh as binary glTF, see `write_glb`; with `normals`, viewers shade it smoothly."""
    import trimesh

    surface = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False, vertex_colors=colors)

    def matte(tree: dict[str, Any]) -> None:
        # Without a material glTF means polished metal, which viewers show nearly black.
        roughness = {"metallicFactor": 0.0, "roughnessFactor": 0.9}
        tree["materials"] = [{"pbrMetallicRoughness": roughness, "doubleSided": True}]
        for primitive in tree["meshes"][0]["primitives"]:
            primitive["material"] = 0

    scene = trimesh.Scene(surface)
    data: bytes = trimesh.exchange.gltf.export_glb(scene, include_normals=normals, tree_postprocessor=matte)
    return data


def _read(path: Path, field: str) -> bytes:
    try:
        status = path.stat()
    except FileNotFoundError as error:
        raise MeshError(field, "does not exist", "check the path") from error
    except (OSError, ValueError) as error:
        raise MeshError(field, f"cannot be opened: {error}", "check the path and its permissions") from error
    if stat.S_ISDIR(status.st_mode):
        raise MeshError(field, "is a directory", "give the mesh file inside it")
    if not stat.S_ISREG(status.st_mode):
        raise MeshError(field, "is not a regular file", "give a mesh file")
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        hint = "export it as .glb, which holds everything in one file" if suffix == ".gltf" else "convert it"
        raise MeshError(field, f"has the unsupported suffix {shown(suffix)}", f"{hint}; read: {', '.join(SUFFIXES)}")
    if status.st_size == 0:
        raise MeshError(field, "is empty", "export the mesh again")
    if status.st_size > MAX_MESH_FILE_BYTES:
        raise MeshError(
            field, f"has {status.st_size} bytes", f"at most {MAX_MESH_FILE_BYTES} are read: simplify the mesh"
        )
    try:
        return path.read_bytes()
    except OSError as error:
        raise MeshError(field, f"cannot be read: {error}", "check its permissions") from error


def _surfaces(data: bytes, kind: str, **options: Any) -> list[tuple[str, Any, NDArray[np.float64]]]:
    """Name, triangles and (4, 4) transform of every node of a file's scene that has a surface."""
    import trimesh

    scene = trimesh.load_scene(
        io.BytesIO(data), file_type=kind, resolver=_NoFiles(), process=False, skip_materials=True, **options
    )
    placed = []
    for node in scene.graph.nodes_geometry:
        transform, name = scene.graph[node]
        geometry = scene.geometry[name]
        if isinstance(geometry, trimesh.Trimesh) and len(geometry.faces):
            placed.append((str(node), geometry, np.asarray(transform)))
    return placed


def _parse(data: bytes, kind: str) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """All triangles of the file, in the scene's own frame: (N, 3) vertices and (F, 3) indices."""
    options: dict[str, Any] = {}
    if kind == "obj":
        data = _bare_obj(data)
        # Otherwise vertices that no face uses are dropped and the rest renumbered.
        options["maintain_order"] = True
    placed = [
        (np.asarray(geometry.vertices), np.asarray(geometry.faces), transform)
        for _, geometry, transform in _surfaces(data, kind, **options)
    ]
    if not placed:
        raise MeshError("mesh", "holds no triangles", "export the surface, not only points or lines")
    # A file may place one mesh thousands of times: count before copying.
    vertex_count, face_count = (sum(len(item[part]) for item in placed) for part in (0, 1))
    _check_size(vertex_count, face_count, _vertex_limit(kind))
    starts = np.cumsum([0] + [len(vertices) for vertices, _, _ in placed[:-1]])
    vertices = np.concatenate([points @ to[:3, :3].T + to[:3, 3] for points, _, to in placed])
    for points, faces, _ in placed:
        if faces.min() < 0 or faces.max() >= len(points):
            outside = int(faces.min() if faces.min() < 0 else faces.max())
            raise MeshError("mesh", f"face index {outside} is outside 0…{len(points) - 1}", "repair the mesh")
    faces = np.concatenate([part + start for (_, part, _), start in zip(placed, starts, strict=True)])
    if kind == "stl":
        vertices, faces = _merged(vertices, faces)
    return vertices, faces


def _check_size(vertex_count: int, face_count: int, most: int = MAX_MESH_VERTICES) -> None:
    if vertex_count > most or face_count > MAX_MESH_FACES:
        raise MeshError(
            "mesh",
            f"has {vertex_count} vertices and {face_count} faces",
            f"simplify it to at most {MAX_MESH_VERTICES} vertices and {MAX_MESH_FACES} faces",
        )


def _vertex_limit(kind: str) -> int:
    # STL repeats every vertex in about six triangles; the limit holds after merging.
    return 3 * MAX_MESH_FACES if kind == "stl" else MAX_MESH_VERTICES


def _bare_obj(data: bytes) -> bytes:
    """The OBJ's positions and faces alone.

    Texture and normal indices, materials and groups would make the parser split and reorder vertices, and the
    material library is another file.
    """
    data = data.replace(b"\r\n", b"\n").replace(b"\\\n", b" ")
    kept = [line for line in data.split(b"\n") if line.lstrip()[:2] in (b"v ", b"v\t", b"f ", b"f\t")]
    text = re.sub(rb"/[^\s]*", b"", b"\n".join(line.strip() for line in kept)).replace(b"\t", b" ")
    if re.search(rb"^f.* 0(?: |$)", text, flags=re.MULTILINE):
        raise MeshError("mesh", "face index 0 is out of range: OBJ counts from 1", "repair the mesh")
    return text


def _merged(vertices: NDArray[np.float64], faces: NDArray[np.int64]) -> tuple[NDArray, NDArray]:
    """Equal vertices made one, in the order of their first use; triangles that collapse are dropped."""
    _, first, inverse = np.unique(vertices, axis=0, return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    joined = rank[inverse.reshape(-1)][faces]
    whole = (joined != np.roll(joined, 1, axis=1)).all(axis=1)
    return vertices[first[order]], joined[whole]


def _check_glb(data: bytes) -> None:
    """Refuse what the parser would act on before it can be judged: outside buffers and absurd accessor sizes."""
    header = np.frombuffer(data[:20], dtype="<u4")
    if len(header) < 5 or data[:4] != b"glTF" or header[4] != _JSON_CHUNK:
        raise MeshError("mesh", "is not a binary glTF file", "export it as .glb, version 2")
    if header[2] != len(data):
        raise MeshError("mesh", f"has {len(data)} bytes where its header says {header[2]}", "copy the file again")
    tree = json.loads(data[20 : 20 + int(header[3])])
    for buffer in tree.get("buffers", []):
        if not str(buffer.get("uri", "data:")).startswith("data:"):
            raise MeshError(
                "mesh", f"keeps its geometry in another file, {shown(str(buffer['uri']))}", "embed it on export"
            )
    for accessor in tree.get("accessors", []):
        if not 0 <= int(accessor["count"]) <= 3 * MAX_MESH_FACES:
            raise MeshError("mesh", f"claims an array of {accessor['count']} items", "simplify or repair the mesh")


def _mesh(vertices: NDArray, faces: NDArray, name: str, field: str) -> Mesh:
    try:
        return Mesh(vertices.astype(np.float32), faces.astype(np.int32), name)
    except MeshError as error:
        raise MeshError(field, f"{error.field.rpartition('.')[2]} {error.problem}", error.remedy) from error
