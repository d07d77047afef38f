"""The joint scene for people to look at: bodies and fitted objects with their contact, as GLB and from three sides."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ivlm_core.draw.heat import NEUTRAL_GREY, heat_colors
from ivlm_core.draw.text import Color, one_line, put_text, text_width
from ivlm_core.errors import InputError, shown
from ivlm_core.render import vertex_normals
from ivlm_core.storage import atomic_path
from ivlm_core.types import ByteArray, FloatArray, IntArray, Mesh, PosedBody, Reconstruction

# From the optical frame (+y down, +z forward) to glTF's (+y up, the camera looking along −z): half a turn about x.
OPTICAL_TO_GLTF = np.diag([1.0, -1.0, -1.0])
# Objects after one another; light enough for orange and red to stand out, and none of them warm.
OBJECT_COLORS: tuple[Color, ...] = ((150, 178, 222), (142, 200, 184), (188, 166, 222), (176, 186, 138))
PERSON_COLOR: Color = (NEUTRAL_GREY,) * 3

# Name, and which way right and down in the panel are in the optical frame.
_VIEWS = (
    ("from the camera", (1.0, 0.0, 0.0), (0.0, 1.0, 0.0)),
    ("from the left, camera on the right", (0.0, 0.0, -1.0), (0.0, 1.0, 0.0)),
    ("from above, camera at the bottom", (1.0, 0.0, 0.0), (0.0, 0.0, -1.0)),
)
_HEIGHTS = (120, 2000)
_WIDEST = 2.6
_MARGIN = 0.06
_SUBSAMPLES = 2
_GRID_METRES = 0.5
# Contact that a surface hides shows through it with this strength, from this probability on.
_SHOWN_THROUGH, _CONTACT = 0.45, 0.5
# Where the triangle and the smoothed surface differ by more than about 35°, the edge is meant to be sharp.
_SHARP_COSINE = 0.82
_PAPER, _PANEL, _LINE = 255, 247, 234
_INK: Color = (24, 28, 34)
_MUTED: Color = (96, 104, 115)
_GAP, _STRIP, _ROW = 10, 24, 20


@dataclass(frozen=True, eq=False)
class ScenePart:
    """One surface of the scene.

    Attributes
    ----------
    name : `person` or the object's label, with its identifier where it has one. color : RGB where nothing is touched.
    mesh : metres, in the image's optical frame. contact : (N,) float32 in [0, 1] on its vertices.
    """

    name: str
    color: Color
    mesh: Mesh
    contact: FloatArray


@dataclass(frozen=True, eq=False)
class JointScene:
    """What stands in the scene; `missing` says of which objects there is no pose, and why."""

    parts: tuple[ScenePart, ...]
    missing: tuple[str, ...] = ()


def joint_scene(
    people: Sequence[tuple[PosedBody, FloatArray | None]],
    objects: Sequence[tuple[Reconstruction, FloatArray | None]],
) -> JointScene:
    """Put bodies and fitted objects together.

    Parameters
    ----------
    people : posed bodies, each with its contact (V,) in [0, 1], the highest of all objects; or None where unknown.
    objects : fitted objects, each with the contact (N,) on the vertices of its `mesh`, or None. Those without a valid
        pose are not drawn but named in `missing`.

    Raises
    ------
    InputError : contact that does not belong to its mesh, or nothing that can be drawn.
    """
    parts, missing = [], []
    for body, contact in people:
        name = f"person {body.person_id}".rstrip()
        mesh = Mesh(body.vertices, body.faces, name)
        parts.append(ScenePart(name, PERSON_COLOR, mesh, _contact(contact, mesh)))
    for number, (fitted, contact) in enumerate(objects):
        name = f"{fitted.object_label} {fitted.object_id}".rstrip()
        if not fitted.pose_valid:
            missing.append(f"{name}: {fitted.reason or 'no pose'}")
            continue
        mesh = Mesh(fitted.placed(), fitted.mesh.faces, name)
        parts.append(ScenePart(name, OBJECT_COLORS[number % len(OBJECT_COLORS)], mesh, _contact(contact, mesh)))
    if not parts:
        raise InputError("scene", "has no body and no object with a pose", "; ".join(missing) or "give one of them")
    return JointScene(tuple(parts), tuple(missing))


def write_scene_glb(path: Path, scene: JointScene) -> None:
    """Write a scene as one binary glTF, whole or not at all: one named node, mesh and material for each part.

    Metres, y up, seen from the camera along −z; its origin is the camera's. Contact is in the vertices' colours, and
    the vertices' order is kept.

    Raises
    ------
    InputError : the file cannot be written.
    """
    import trimesh

    glb = trimesh.Scene()
    for number, part in enumerate(scene.parts):
        colors = heat_colors(part.contact, np.array(part.color, dtype=np.uint8))
        turned = part.mesh.vertices.astype(np.float64) @ OPTICAL_TO_GLTF.T
        surface = trimesh.Trimesh(turned, part.mesh.faces, process=False, vertex_colors=colors)
        # Two objects may have one name.
        name = f"{number} {part.name}"
        glb.add_geometry(surface, node_name=name, geom_name=name)

    def matte(tree: dict[str, Any]) -> None:
        # Without a material glTF means polished metal, which viewers show nearly black.
        roughness = {"metallicFactor": 0.0, "roughnessFactor": 0.9}
        tree["materials"] = [
            {"name": mesh["name"], "pbrMetallicRoughness": roughness, "doubleSided": True} for mesh in tree["meshes"]
        ]
        for number, mesh in enumerate(tree["meshes"]):
            for primitive in mesh["primitives"]:
                primitive["material"] = number

    data = trimesh.exchange.gltf.export_glb(glb, include_normals=False, tree_postprocessor=matte)
    try:
        with atomic_path(path) as temporary:
            temporary.write_bytes(data)
    except OSError as error:
        raise InputError("out", f"{shown(str(path), 300)} cannot be written: {error}", "choose another place") from None


def draw_scene_views(
    scene: JointScene, height: int = 460, up: ArrayLike | None = None, extent: JointScene | None = None
) -> ByteArray:
    """A scene from the camera's side, from the left and from above, without perspective, all at one scale.

    Lines are half a metre apart. Contact is orange to red; where another surface hides it, it shows through.

    Parameters
    ----------
    height : of the panels in pixels, 120…2000; less where the scene is wide.
    up : (3,) against gravity, in the optical frame, any length: the views are then level. None for the camera's own
        axes, in which floors lean if it looks down.
    extent : what decides which part of space is shown, for pictures that belong together; None for the scene itself.

    Returns
    -------
    (H, W, 3) uint8 RGB.

    Raises
    ------
    InputError : another height, or a way up that is none.
    """
    if not _HEIGHTS[0] <= height <= _HEIGHTS[1]:
        raise InputError("height", f"is {height}", f"give {_HEIGHTS[0]}…{_HEIGHTS[1]} pixels")
    turn = np.eye(3) if up is None else _levelled(up)
    drawn = _Surfaces(scene, turn)
    low, high = drawn.bounds if extent is None else _Surfaces(extent, turn).bounds
    size = np.maximum(high - low, 1e-3) * (1 + 2 * _MARGIN)
    scale = min(height / max(size[1], size[2]), _WIDEST * height / (2 * size[0] + size[2]))
    tall = max(1, round(scale * max(size[1], size[2])))
    panels = []
    for name, right, down in _VIEWS:
        across = max(round(scale * float(np.abs(right) @ size)), text_width(name, 13) + 16)
        panels.append(_panel(drawn, (low, high), np.array(right), np.array(down), (tall, across), scale, name))
    width = sum(panel.shape[1] for panel in panels) + _GAP * (len(panels) + 1)
    captions = [*_captions(scene, width - 2 * _GAP)]
    canvas = np.full((tall + _STRIP + 2 * _GAP + _ROW * len(captions), width, 3), _PAPER, dtype=np.uint8)
    left = _GAP
    for panel in panels:
        canvas[_GAP : _GAP + panel.shape[0], left : left + panel.shape[1]] = panel
        left += panel.shape[1] + _GAP
    for row, caption in enumerate(captions):
        left, top = _GAP, tall + _STRIP + _GAP + 6 + _ROW * row
        for color, text in caption:
            if color is not None:
                canvas[top + 2 : top + 14, left : left + 12] = color
                left += 17
            left += put_text(canvas, text, left, top - 1, 13, _INK if color is not None else _MUTED) + 16
    return canvas


class _Surfaces:
    """All parts as one mesh, turned, ready to be cast rays at, and the triangles in contact once more."""

    def __init__(self, scene: JointScene, turn: NDArray[np.float64]) -> None:
        # Open3D's stubs do not know that a Tensor is made from an array alone.
        o3c: Any = importlib.import_module("open3d.core")
        self._tensor = o3c.Tensor
        counts = [len(part.mesh.vertices) for part in scene.parts]
        first = np.cumsum([0, *counts[:-1]])
        placed = np.concatenate([part.mesh.vertices for part in scene.parts])
        self.vertices = (placed.astype(np.float64) @ turn.T).astype(np.float32)
        self.faces: IntArray = np.concatenate(
            [part.mesh.faces + start for part, start in zip(scene.parts, first, strict=True)]
        ).astype(np.int32)
        self.colors = np.concatenate(
            [np.tile(np.array(part.color, dtype=np.float32), (len(part.contact), 1)) for part in scene.parts]
        )
        self.contact = np.concatenate([np.nan_to_num(part.contact) for part in scene.parts])
        self.normals = np.concatenate([vertex_normals(part.mesh) for part in scene.parts]).astype(np.float64) @ turn.T
        self.bounds = self.vertices.min(axis=0).astype(np.float64), self.vertices.max(axis=0).astype(np.float64)
        touched = (self.contact[self.faces] >= _CONTACT).all(axis=1)
        self.touched_faces = self.faces[touched]
        self._all, self._touched = self._rays_at(self.faces), self._rays_at(self.touched_faces)

    def _rays_at(self, faces: IntArray) -> Any:
        from open3d.t.geometry import RaycastingScene

        if not len(faces):
            return None
        scene = RaycastingScene()
        scene.add_triangles(self._tensor(np.array(self.vertices)), self._tensor(faces.astype(np.uint32)))
        return scene

    def seen(self, rays: NDArray[np.float32], view: NDArray[np.float64]) -> tuple[FloatArray, NDArray[np.bool_]]:
        """(M, 3) colours where (M, 6) rays end, and (M,) whether they hit anything; `view` is where they go."""
        hit, colors, near = self._hits(self._all, self.faces, rays, view)
        if self._touched is not None:
            behind, warm, far = self._hits(self._touched, self.touched_faces, rays, view)
            hidden = behind & (far > near + 1e-4)
            colors[hidden] += _SHOWN_THROUGH * (warm[hidden] - colors[hidden])
        return colors, hit

    def _hits(
        self, scene: Any, faces: IntArray, rays: NDArray[np.float32], view: NDArray[np.float64]
    ) -> tuple[NDArray[np.bool_], FloatArray, FloatArray]:
        """Which rays hit, the colours there, and how far it is."""
        answer = scene.cast_rays(self._tensor(rays))
        distance = answer["t_hit"].numpy()
        hit = np.isfinite(distance)
        corners = faces[answer["primitive_ids"].numpy()[hit]]
        uv = answer["primitive_uvs"].numpy()[hit].astype(np.float64)
        weights = np.column_stack([1 - uv.sum(axis=1), uv])[:, :, None]
        flat = np.cross(
            *(self.vertices[corners[:, i]].astype(np.float64) - self.vertices[corners[:, 0]] for i in (1, 2))
        )
        flat /= np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-30)
        smooth = (self.normals[corners] * weights).sum(axis=1)
        smooth /= np.maximum(np.linalg.norm(smooth, axis=1, keepdims=True), 1e-12)
        sharp = np.einsum("px,px->p", flat, smooth) < _SHARP_COSINE
        light = _light(np.where(sharp[:, None], flat, smooth), view)
        colors = np.zeros((len(rays), 3), np.float32)
        surface = (self.colors[corners] * weights).sum(axis=1) * light[:, None]
        touch = (self.contact[corners] * weights[:, :, 0]).sum(axis=1)
        colors[hit] = heat_colors(touch, np.clip(surface, 0, 255).astype(np.uint8))
        return hit, colors, distance


def _levelled(up: ArrayLike) -> NDArray[np.float64]:
    """(3, 3) from the optical frame into that of a camera that stands level and looks the same way."""
    try:
        upwards = np.asarray(up, dtype=np.float64)
    except (TypeError, ValueError):
        upwards = np.zeros(0)
    if upwards.shape != (3,) or not np.isfinite(upwards).all() or not np.linalg.norm(upwards) > 1e-6:
        raise InputError("up", f"is {shown(up)}", "give x, y and z of the way against gravity in the optical frame")
    down = -upwards / np.linalg.norm(upwards)
    right = np.cross(down, [0.0, 0.0, 1.0])
    if np.linalg.norm(right) < 1e-3:
        right = np.cross(down, [0.0, -np.sign(down[2]), 0.0])
    right /= np.linalg.norm(right)
    return np.stack([right, down, np.cross(right, down)])


def _light(normals: NDArray[np.float64], view: NDArray[np.float64]) -> NDArray[np.float64]:
    """(P,) brightness of surfaces, both sides alike, under a light above and to the left of whoever looks."""
    facing = normals * np.where(normals @ view > 0, -1.0, 1.0)[:, None]
    up = np.array([0.0, -1.0, 0.0])
    left = np.cross(up, view) if abs(view @ up) < 0.9 else np.array([-1.0, 0.0, 0.0])
    light = -view + 0.5 * left + 0.6 * up * (abs(view @ up) < 0.9)
    brightness: NDArray[np.float64] = (
        0.5 + 0.45 * np.maximum(facing @ (light / np.linalg.norm(light)), 0) + 0.12 * np.maximum(-facing @ view, 0)
    )
    return brightness


def _panel(
    drawn: _Surfaces,
    bounds: tuple[NDArray[np.float64], NDArray[np.float64]],
    right: NDArray[np.float64],
    down: NDArray[np.float64],
    shape: tuple[int, int],
    scale: float,
    name: str,
) -> ByteArray:
    """(rows + strip, columns, 3): one view with its name above; `shape` rows and columns, `scale` pixels per metre."""
    rows, columns = shape
    low, high = bounds
    middle = (low + high) / 2
    forward = np.cross(right, down)
    # Rays start in front of everything, in the part that is shown or not.
    reach = float(np.linalg.norm(np.subtract(*drawn.bounds)) + np.linalg.norm(middle - np.mean(drawn.bounds, axis=0)))
    x, y = (
        (np.arange(count * _SUBSAMPLES) + 0.5) / (_SUBSAMPLES * scale) - count / (2 * scale)
        for count in (columns, rows)
    )
    start = middle - forward * (reach + 1.0)
    origins = start + x[None, :, None] * right + y[:, None, None] * down  # (rows', columns', 3)
    rays = np.concatenate([origins, np.broadcast_to(forward, origins.shape)], axis=-1).astype(np.float32)
    colors, hit = drawn.seen(rays.reshape(-1, 6), forward)
    ground = _ground(x, y, float(middle @ right), float(middle @ down), scale)
    fine = np.where(hit[:, None], colors, ground.reshape(-1, 3))
    picture = fine.reshape(rows, _SUBSAMPLES, columns, _SUBSAMPLES, 3).mean(axis=(1, 3))
    panel = np.full((rows + _STRIP, columns, 3), _PANEL, dtype=np.uint8)
    panel[_STRIP:] = picture.round().astype(np.uint8)
    put_text(panel, name, 8, 3, 13, _MUTED)
    return panel


def _ground(x: NDArray, y: NDArray, right: float, down: float, scale: float) -> FloatArray:
    """(rows', columns', 3) the empty panel with its lines, at the same places in the scene in all views."""
    on_line = [
        np.abs((place + offset + _GRID_METRES / 2) % _GRID_METRES - _GRID_METRES / 2) < 0.5 / scale
        for place, offset in ((x, right), (y, down))
    ]
    lines = on_line[1][:, None] | on_line[0][None, :]
    return np.repeat(np.where(lines, _LINE, _PANEL)[:, :, None], 3, axis=2).astype(np.float32)


def _captions(scene: JointScene, width: int) -> list[list[tuple[Color | None, str]]]:
    """Lines under the panels, each of coloured squares and words."""
    items: list[tuple[Color | None, str]] = [(part.color, one_line(part.name, 13, 180)) for part in scene.parts]
    red: Color = tuple(heat_colors(1.0, PERSON_COLOR).tolist())
    items += [(red, "contact"), (None, f"lines are {_GRID_METRES} m apart")]
    lines: list[list[tuple[Color | None, str]]] = [[]]
    used = 0
    for item in items:
        needed = text_width(item[1], 13) + (33 if item[0] is not None else 16)
        if used and used + needed > width:
            lines.append([])
            used = 0
        lines[-1].append(item)
        used += needed
    return lines + [[(None, one_line(f"no pose: {text}", 13, width))] for text in scene.missing]


def _contact(contact: FloatArray | None, mesh: Mesh) -> FloatArray:
    if contact is None:
        return np.zeros(len(mesh.vertices), np.float32)
    values = np.asarray(contact)
    if values.shape != (len(mesh.vertices),):
        raise InputError(
            "contact",
            f"has shape {values.shape}",
            f"{shown(mesh.name)} has {len(mesh.vertices)} vertices: one value each",
        )
    return values.astype(np.float32)
