"""A view pack as a small block of shaded grey views that per-vertex values are painted onto."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ivlm_core.draw.heat import heat_colors, heat_levels
from ivlm_core.draw.text import put_text
from ivlm_core.types import ByteArray, FloatArray, IntArray, ViewPack

BACKGROUND = 247
GAP = 3
SHOWN_VIEWS = 4

_SUBSAMPLES = 2
_MARGIN = 1.03
# Room above each view for its name.
_NAME_STRIP = 14
# Where the triangle and the smoothed surface differ by more than about 35°, the edge is meant to be sharp.
_SHARP_COSINE = 0.82
_CACHED_BLOCKS = 24

_blocks: OrderedDict[tuple[str, int], ViewBlock] = OrderedDict()
_lock = threading.Lock()


@dataclass(frozen=True)
class ViewBlock:
    """The first four views of a pack, two by two, each cropped to the mesh.

    Attributes
    ----------
    blank : (S, S, 3) uint8, the grey views.
    pixels : (M,) flat indices of the pixels that show the mesh.
    vertices, weights : (M, 3) the vertices each pixel sees and their weights.
    grey : (M, 1) float32 the surface's shade there, 0 to 255.
    cover : (M, 1) float32 the share of the pixel that the mesh covers.
    """

    blank: ByteArray
    pixels: NDArray[np.int64]
    vertices: IntArray
    weights: FloatArray
    grey: FloatArray
    cover: FloatArray

    def paint(self, probability: FloatArray) -> ByteArray:
        """(S, S, 3) uint8: the views with the values of (V,) `probability` in heat colours."""
        block = self.blank.copy()
        levels = heat_levels(probability)
        # Most of a surface is untouched: only pixels with a vertex above zero need colours.
        touched = np.flatnonzero((levels > 0)[self.vertices].any(axis=1))
        if touched.size:
            corners = np.asarray(probability, dtype=np.float32)[self.vertices[touched]]
            values = np.einsum("mc,mc->m", np.nan_to_num(corners), self.weights[touched])
            colors = heat_colors(values, self.grey[touched]).astype(np.float32)
            cover = self.cover[touched]
            flat = block.reshape(-1, 3)
            flat[self.pixels[touched]] = BACKGROUND + (colors - BACKGROUND) * cover + 0.5
        return block


def view_block(pack: ViewPack, tile: int) -> ViewBlock:
    """The block of `pack` with views of `tile` pixels a side, made once per pack and size."""
    key = (pack.content_hash, tile)
    with _lock:
        if key in _blocks:
            _blocks.move_to_end(key)
            return _blocks[key]
    block = _build(pack, tile)
    with _lock:
        _blocks[key] = block
        while len(_blocks) > _CACHED_BLOCKS:
            _blocks.popitem(last=False)
    return block


def block_size(tile: int) -> int:
    return 2 * tile + GAP


def _build(pack: ViewPack, tile: int) -> ViewBlock:
    size = block_size(tile)
    blank = np.full((size, size, 3), 255, dtype=np.uint8)
    corner_normals, face_normals = _normals(pack)
    pieces: list[tuple[NDArray, ...]] = []
    for view, name in enumerate(pack.view_names[:SHOWN_VIEWS]):
        top, left = (tile + GAP) * (view // 2), (tile + GAP) * (view % 2)
        blank[top : top + tile, left : left + tile] = BACKGROUND
        area = blank[top : top + tile, left : left + tile]
        put_text(area, _spoken(name), 5, 1, 10, (130, 136, 145))
        inner = tile - _NAME_STRIP
        rows, columns, vertices, weights, grey, cover = _sampled(pack, view, inner, corner_normals, face_normals)
        rows, columns = rows + _NAME_STRIP, columns + _NAME_STRIP // 2
        area[rows, columns] = (BACKGROUND + (grey - BACKGROUND) * cover + 0.5)[:, None]
        pieces.append(((rows + top) * size + columns + left, vertices, weights, grey, cover))
    pixels, vertices, weights, grey, cover = (np.concatenate(part) for part in zip(*pieces, strict=True))
    return ViewBlock(
        blank,
        pixels,
        vertices.astype(np.int32),
        weights.astype(np.float32),
        grey.astype(np.float32)[:, None],
        cover.astype(np.float32)[:, None],
    )


def _sampled(
    pack: ViewPack, view: int, tile: int, corner_normals: NDArray, face_normals: NDArray
) -> tuple[NDArray, NDArray, NDArray, NDArray, NDArray, NDArray]:
    """What each covered pixel of one cropped view shows: row, column, vertices, weights, grey, coverage."""
    seen = pack.face_index[view]
    covered = seen >= 0
    if not covered.any():
        nothing = np.zeros(0, dtype=np.int64)
        triples = np.zeros((0, 3))
        return nothing, nothing, triples.astype(np.int64), triples, np.zeros(0), np.zeros(0)
    extent = [np.flatnonzero(covered.any(axis=axis))[[0, -1]] for axis in (1, 0)]
    side = max(last - first + 1 for first, last in extent) * _MARGIN
    across = _SUBSAMPLES * tile
    steps = (np.arange(across) + 0.5) * side / across - side / 2
    row, column = (np.floor((first + last + 1) / 2 + steps).astype(int) for first, last in extent)
    height, width = seen.shape
    inside = ((row >= 0) & (row < height))[:, None] & ((column >= 0) & (column < width))[None, :]
    row, column = np.clip(row, 0, height - 1), np.clip(column, 0, width - 1)
    face = np.where(inside, seen[np.ix_(row, column)], -1)
    grey = np.zeros(face.shape)
    at = np.nonzero(face >= 0)
    weights = pack.barycentric[view][row[at[0]], column[at[1]]]
    grey[at] = _grey(face[at], weights, corner_normals, face_normals, _camera_direction(pack, view))

    # Gather the subsamples of each pixel: coverage and grey are means, the vertices those of the first that hits.
    face, grey = (_grouped(part, tile) for part in (face, grey))
    hits = face >= 0
    count = hits.sum(axis=-1)
    rows, columns = np.nonzero(count)
    first = hits.argmax(axis=-1)[rows, columns]
    source_row = row[rows * _SUBSAMPLES + first // _SUBSAMPLES]
    source_column = column[columns * _SUBSAMPLES + first % _SUBSAMPLES]
    return (
        rows,
        columns,
        pack.mesh.faces[face[rows, columns, first]],
        pack.barycentric[view][source_row, source_column],
        grey.sum(axis=-1)[rows, columns] / count[rows, columns],
        count[rows, columns] / _SUBSAMPLES**2,
    )


def _grouped(samples: NDArray, tile: int) -> NDArray:
    """(t·s, t·s) samples as (t, t, s²)."""
    return samples.reshape(tile, _SUBSAMPLES, tile, _SUBSAMPLES).swapaxes(1, 2).reshape(tile, tile, _SUBSAMPLES**2)


def _grey(face: NDArray, weights: NDArray, corner_normals: NDArray, face_normals: NDArray, camera: NDArray) -> NDArray:
    """Clay-like shading of samples: a light over the camera's left shoulder, both sides of a face lit alike."""
    flat = face_normals[face]
    smooth = np.einsum("sc,scx->sx", weights, corner_normals[face])
    smooth /= np.maximum(np.linalg.norm(smooth, axis=1, keepdims=True), 1e-12)
    normal = np.where(np.einsum("sx,sx->s", flat, smooth)[:, None] < _SHARP_COSINE, flat, smooth)
    normal *= np.where(normal @ camera < 0, -1.0, 1.0)[:, None]
    left = np.cross(camera, [0.0, 1.0, 0.0])
    length = np.linalg.norm(left)
    left = left / length if length > 1e-6 else np.array([-1.0, 0.0, 0.0])
    light = camera + 0.45 * left + np.array([0.0, 0.55, 0.0])
    light /= np.linalg.norm(light)
    key = np.maximum(normal @ light, 0.0)
    facing = np.maximum(normal @ camera, 0.0)
    return 92.0 + 100.0 * key + 40.0 * facing


def _normals(pack: ViewPack) -> tuple[NDArray, NDArray]:
    """(F, 3, 3) smooth normals at the faces' corners and (F, 3) the faces' own, unit length."""
    corners = pack.mesh.vertices.astype(np.float64)[pack.mesh.faces]
    cross = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    summed = np.stack(
        [
            np.bincount(pack.mesh.faces.ravel(), np.repeat(cross[:, axis], 3), minlength=len(pack.mesh.vertices))
            for axis in range(3)
        ],
        axis=1,
    )
    unit = summed / np.maximum(np.linalg.norm(summed, axis=1, keepdims=True), 1e-30)
    return unit[pack.mesh.faces], cross / np.maximum(np.linalg.norm(cross, axis=1, keepdims=True), 1e-30)


def _camera_direction(pack: ViewPack, view: int) -> NDArray[np.float64]:
    """From the scene to the camera, unit length: azimuth 0 stands at +z, 90° at +x."""
    elevation, azimuth = np.deg2rad(pack.camera_parameters[view, 1:3].astype(np.float64))
    return np.array([np.cos(elevation) * np.sin(azimuth), np.sin(elevation), np.cos(elevation) * np.cos(azimuth)])


def _spoken(name: str) -> str:
    """`topfront` as `top front`."""
    for word in ("top", "bottom", "front", "back"):
        if name.startswith(word) and len(name) > len(word):
            return f"{word} {name[len(word) :].lstrip('_ ')}"
    return name
