"""Where a mesh's outline crosses the rows and columns of a raster, whatever way its faces are turned.

Contour edges are those whose two faces lie on the same side of the plane through the edge and the camera: a test on
edges, not on face normals, so that triangle soups, flipped faces and parts that run through each other need nothing
special. Edges with one face, or with more than two, always take part. Which of all these crossings are on the outline
is not decided here but by the mask: see `silhouette`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ivlm_core.types import CameraIntrinsics

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]

# Metres in front of the camera at which edges are cut.
NEAR = 1e-3


@dataclass(frozen=True, eq=False)
class Crossings:
    """Places where edges cross the line between two neighbouring pixel centres.

    Attributes
    ----------
    pose : (n,) which pose. pixel : (n, 2) int64 column and row of the pair's left or upper pixel.
    offset : (n,) in [0, 1]: how far from that pixel's centre to the next one's the edge crosses.
    normal : (n, 2) unit normal of the edge in the raster, of either sign. point : (n, 3) metres, object frame.
    """

    pose: Indices
    pixel: Indices
    offset: Floats
    normal: Floats
    point: Floats

    def chosen(self, which: NDArray) -> Crossings:
        """Those of an index or mask."""
        return Crossings(self.pose[which], self.pixel[which], self.offset[which], self.normal[which], self.point[which])


class EdgeTable:
    """Edges of a mesh and what decides whether they are on its contour; built once per mesh.

    Parameters
    ----------
    vertices : (N, 3) metres, object frame. faces : (F, 3). Vertices at the same place count as one.
    """

    def __init__(self, vertices: NDArray, faces: NDArray) -> None:
        places, inverse = np.unique(np.asarray(vertices, dtype=np.float64), axis=0, return_inverse=True)
        faces = np.unique(np.sort(inverse.reshape(-1)[faces], axis=1), axis=0)
        faces = faces[(faces[:, 0] != faces[:, 1]) & (faces[:, 1] != faces[:, 2])]
        edges = np.concatenate([faces[:, [0, 1]], faces[:, [0, 2]], faces[:, [1, 2]]])
        opposite = np.concatenate([faces[:, 2], faces[:, 1], faces[:, 0]])
        order = np.lexsort((edges[:, 1], edges[:, 0]))
        edges, opposite = edges[order], opposite[order]
        first = np.ones(len(edges), dtype=bool)
        first[1:] = (edges[1:] != edges[:-1]).any(axis=1)
        start = np.flatnonzero(first)
        count = np.diff(np.append(start, len(edges)))
        shared = start[count == 2]
        self.vertices = places
        self.edges = np.concatenate([edges[shared], edges[start[count != 2]]])
        self._shared = len(shared)
        a, b = places[edges[shared, 0]], places[edges[shared, 1]]
        # Scaled by each edge's own length, so that the products of small triangles do not vanish.
        self._normals = [_unit(np.cross(b - a, places[opposite[shared + side]] - a)) for side in (0, 1)]
        self._offsets = [(normal * a).sum(axis=1) for normal in self._normals]

    def contour(self, eyes: Floats) -> tuple[Indices, Indices]:
        """(n,) pose and (n,) edge of everything that may be on the outline, for eyes (B, 3) in the object frame."""
        sides = [offset[None] - eyes @ normal.T for normal, offset in zip(self._normals, self._offsets, strict=True)]
        poses, edges = np.nonzero(sides[0] * sides[1] >= 0)
        always = np.arange(self._shared, len(self.edges))
        count = len(eyes)
        poses = np.concatenate([poses, np.repeat(np.arange(count), len(always))])
        return poses, np.concatenate([edges, np.tile(always, count)])


def crossings(
    table: EdgeTable, eyes: Floats, placed: Floats, camera: CameraIntrinsics, boxes: Indices
) -> tuple[Crossings, Crossings]:
    """All crossings of pixel rows, and all of pixel columns, of the edges that may be on the outline.

    Parameters
    ----------
    eyes : (B, 3) the camera's centre in the object frame of each pose.
    placed : (B, V, 3) the table's vertices in the camera frame, metres. camera : of the raster.
    boxes : (B, 4) x0, y0, x1, y1: only pairs of pixels with x0 ≤ x < x1, y0 ≤ y < y1.
    """
    pose, edge = table.contour(eyes)
    # A pose of which nothing can be seen may be so far out that its pixels overflow.
    empty = np.any(boxes[:, 2:] <= boxes[:, :2], axis=1)
    if empty.any():
        kept = ~empty[pose]
        pose, edge = pose[kept], edge[kept]
    ends = table.edges[edge]
    start, stop = placed[pose, ends[:, 0]], placed[pose, ends[:, 1]]
    low, high = np.zeros(len(pose)), np.ones(len(pose))
    behind_start, behind_stop = start[:, 2] < NEAR, stop[:, 2] < NEAR
    if (behind_start | behind_stop).any():
        kept = ~(behind_start & behind_stop)
        pose, ends, start, stop = pose[kept], ends[kept], start[kept], stop[kept]
        low, high, behind_start, behind_stop = low[kept], high[kept], behind_start[kept], behind_stop[kept]
        rise = stop[:, 2] - start[:, 2]
        cut = (NEAR - start[:, 2]) / np.where(rise == 0, 1.0, rise)
        low, high = np.where(behind_start, cut, low), np.where(behind_stop, cut, high)
        along = stop - start
        start, stop = start + low[:, None] * along, start + high[:, None] * along
    focal, middle = np.array([camera.fx, camera.fy]), np.array([camera.cx, camera.cy])
    depths = start[:, 2], stop[:, 2]
    begin = start[:, :2] / depths[0][:, None] * focal + middle
    end = stop[:, :2] / depths[1][:, None] * focal + middle
    direction = end - begin
    length = np.hypot(direction[:, 0], direction[:, 1])
    normal = np.stack([direction[:, 1], -direction[:, 0]], axis=1) / np.maximum(length, 1e-12)[:, None]
    first, second = table.vertices[ends[:, 0]], table.vertices[ends[:, 1]]

    found = []
    for across in (0, 1):  # 0: lines are rows, the edge is found along x; 1: columns, along y
        line = 1 - across
        lowest, highest = boxes[pose, line], boxes[pose, line + 2] - 1
        from_line = np.clip(np.ceil(np.minimum(begin[:, line], end[:, line])), lowest, highest + 1).astype(np.int64)
        to_line = np.clip(np.floor(np.maximum(begin[:, line], end[:, line])), lowest - 1, highest).astype(np.int64)
        count = np.maximum(to_line - from_line + 1, 0)
        which = np.repeat(np.arange(len(count)), count)
        lines = np.arange(len(which)) - np.repeat(np.cumsum(count) - count, count) + from_line[which]
        rise = direction[which, line]
        share = np.clip((lines - begin[which, line]) / np.where(rise == 0, 1.0, rise), 0.0, 1.0)
        place = begin[which, across] + share * direction[which, across]
        # Compared as floats: near the camera places are further away than integers reach.
        inside = (place >= boxes[pose[which], across]) & (place < boxes[pose[which], across + 2] - 1)
        which, lines, share, place = which[inside], lines[inside], share[inside], place[inside]
        cell = np.floor(place).astype(np.int64)
        inverse = (1 - share) / depths[0][which] + share / depths[1][which]
        deep = share / depths[1][which] / inverse  # the share along the cut edge in space
        deep = low[which] + deep * (high[which] - low[which])
        found.append(
            Crossings(
                pose[which],
                np.stack([cell, lines] if across == 0 else [lines, cell], axis=1),
                place - cell,
                normal[which],
                first[which] + deep[:, None] * (second[which] - first[which]),
            )
        )
    return found[0], found[1]


def _unit(vectors: Floats) -> Floats:
    result: Floats = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-300)
    return result
