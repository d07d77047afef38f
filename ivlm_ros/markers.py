"""Contact and affordance as markers: coloured triangle meshes of a bounded size, in a frame of their own.

The meshes are canonical, so they never claim to be in the camera's frame. They stand in `body_frame` (x forward, y
left, z up): the body at the origin, the objects in a row at its right. In RViz choose that frame as fixed frame.

A full body would be 82 000 points and as many colours in every message. Each mesh is therefore simplified once, by
merging the vertices of each cell of a grid; a merged vertex shows the highest value of its members, so that no contact
is lost.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from geometry_msgs.msg import Point
from numpy.typing import NDArray
from std_msgs.msg import ColorRGBA, Header
from visualization_msgs.msg import Marker, MarkerArray

from ivlm_ros.marker_template import MarkerTemplate

if TYPE_CHECKING:
    from ivlm_core.types import FloatArray, FrameResult, IntArray, Mesh

BASE_COLOR = (200, 200, 200)
LIFETIME_SECONDS = 5
SHADES = 64
GAP = 0.3  # metres between neighbours
# Canonical axes are x left, y up, z forward; this quaternion (x, y, z, w) turns them to x forward, y left, z up.
UPRIGHT = (0.5, 0.5, 0.5, 0.5)
KEPT_MESHES = 32


def merge_vertices(mesh: Mesh, triangles: int) -> tuple[FloatArray, IntArray, IntArray]:
    """Simplify a mesh to at most `triangles` faces.

    Returns
    -------
    vertices : (C, 3) float32, metres: the mean of each cell's members.
    faces : (F', 3) int32, F' ≤ `triangles`, without degenerate or repeated ones.
    cell_of_vertex : (N,) int32 into `vertices`: where each of the mesh's vertices went.
    """
    count = len(mesh.vertices)
    if len(mesh.faces) <= triangles:
        return mesh.vertices, mesh.faces, np.arange(count, dtype=np.int32)
    low, high = 1, 512
    best: tuple[NDArray, NDArray] | None = None
    while low <= high:
        middle = (low + high) // 2
        cells, faces = _merge(mesh, middle)
        if len(faces) <= triangles:
            if len(faces) and (best is None or len(faces) > len(best[1])):
                best = cells, faces
            low = middle + 1
        else:
            high = middle - 1
    if best is None:  # details so far apart that every cell swallows its triangles whole
        return mesh.vertices, mesh.faces[:triangles], np.arange(count, dtype=np.int32)
    cells, faces = best
    members = np.bincount(cells)
    vertices = np.stack([np.bincount(cells, mesh.vertices[:, axis]) / members for axis in range(3)], axis=1)
    return vertices.astype(np.float32), faces.astype(np.int32), cells.astype(np.int32)


def _merge(mesh: Mesh, cells_along_side: int) -> tuple[NDArray, NDArray]:
    low = mesh.vertices.min(axis=0)
    extent = float((mesh.vertices.max(axis=0) - low).max()) or 1.0
    grid = np.floor((mesh.vertices - low) * (cells_along_side / extent)).astype(np.int64)
    keys = (grid[:, 0] * (cells_along_side + 1) + grid[:, 1]) * (cells_along_side + 1) + grid[:, 2]
    cells = np.unique(keys, return_inverse=True)[1].reshape(-1)
    faces = cells[mesh.faces]
    distinct = (faces[:, 0] != faces[:, 1]) & (faces[:, 1] != faces[:, 2]) & (faces[:, 0] != faces[:, 2])
    faces = faces[distinct]
    ordered = np.sort(faces, axis=1)
    count = int(cells.max()) + 1
    first = np.unique((ordered[:, 0] * count + ordered[:, 1]) * count + ordered[:, 2], return_index=True)[1]
    return cells, faces[np.sort(first)]


@dataclass(frozen=True)
class MarkerMesh:
    """A simplified mesh with everything that does not change from frame to frame.

    Attributes
    ----------
    points : three per triangle, metres, in the mesh's own axes (y up).
    corner_cell : (3 F',) the cell that each of `points` shows.
    order, starts : the mesh's vertices sorted by cell, and where each cell begins in that order.
    low, high : (3,) corners of the bounding box, metres.
    """

    points: list[Point]
    corner_cell: IntArray
    order: NDArray[np.int64]
    starts: NDArray[np.int64]
    low: FloatArray
    high: FloatArray

    @classmethod
    def build(cls, mesh: Mesh, triangles: int) -> MarkerMesh:
        vertices, faces, cell_of_vertex = merge_vertices(mesh, triangles)
        shared = [Point(x=float(x), y=float(y), z=float(z)) for x, y, z in vertices]
        corner_cell = faces.reshape(-1)
        order = np.argsort(cell_of_vertex, kind="stable")
        starts = np.searchsorted(cell_of_vertex[order], np.arange(len(vertices)))
        return cls(
            points=[shared[corner] for corner in corner_cell.tolist()],
            corner_cell=corner_cell,
            order=order,
            starts=starts,
            low=mesh.vertices.min(axis=0),
            high=mesh.vertices.max(axis=0),
        )

    def shades(self, values: FloatArray) -> IntArray:
        """(3 F',) palette indices of the points for (N,) values in [0, 1] on the mesh's own vertices."""
        highest = np.maximum.reduceat(values[self.order], self.starts)
        return np.rint(highest[self.corner_cell] * (SHADES - 1)).astype(np.int32)


@dataclass(frozen=True)
class Item:
    """One thing to draw: a mesh with a value per vertex, or, without a mesh, a text.

    Attributes
    ----------
    ns, index : the marker's name.
    place : x, y, z in the markers' frame, metres.
    """

    ns: str
    index: int
    place: tuple[float, float, float]
    mesh: MarkerMesh | None = None
    values: FloatArray | None = None
    text: str = ""


class ContactMarkers:
    """Makes the markers of each frame; simplified meshes are kept by content hash.

    Parameters
    ----------
    frame_id : the frame of all markers (see the module's text).
    triangles : how many triangles one mesh may have.
    """

    def __init__(self, frame_id: str, triangles: int) -> None:
        from ivlm_core.draw import heat_colors

        self.frame_id = frame_id
        self.triangles = triangles
        base = np.broadcast_to(np.array(BASE_COLOR, np.uint8), (SHADES, 3))
        colors = heat_colors(np.linspace(0.0, 1.0, SHADES, dtype=np.float32), base) / 255.0
        self._palette = np.concatenate([colors, np.ones((SHADES, 1))], axis=1).astype(np.float32)
        self._meshes: OrderedDict[str, MarkerMesh] = OrderedDict()
        self._shown: set[tuple[str, int]] = set()
        self._template: MarkerTemplate | None = None

    def clear(self) -> MarkerArray:
        """A message that removes everything this node has drawn."""
        self._shown = set()
        return MarkerArray(markers=[Marker(action=Marker.DELETEALL, header=Header(frame_id=self.frame_id))])

    def build(self, result: FrameResult, header: Header) -> MarkerArray | bytes:
        """The markers of one frame, stamped like `header`: bodies, objects, their labels, and DELETE for what is gone.

        A person touching several objects is drawn once, each vertex with its highest probability.

        Returns
        -------
        the message, or, where only stamp and colours differ from the last frame, the message serialised: filling in
        thousands of points one by one takes rclpy about 10 ms, replacing bytes a fraction of one.
        """
        items = self._scene(result)
        own_header = Header(stamp=header.stamp, frame_id=self.frame_id)
        shown = {(item.ns, item.index) for item in items}
        gone, self._shown = self._shown - shown, shown
        if gone:
            message = MarkerArray(markers=[self._marker(item, own_header) for item in items])
            message.markers += [
                Marker(header=own_header, ns=ns, id=index, action=Marker.DELETE) for ns, index in sorted(gone)
            ]
            return message
        if self._template is None or not self._template.fits(items):
            self._template = MarkerTemplate.build(items, self._marker, own_header)
        if self._template is None:
            return MarkerArray(markers=[self._marker(item, own_header) for item in items])
        return self._template.fill(items, own_header, self._palette)

    def _scene(self, result: FrameResult) -> list[Item]:
        people: dict[str, tuple[Mesh, FloatArray]] = {}
        for contact in result.human_contacts:
            mesh, seen = people.get(contact.person_id, (contact.mesh, contact.probability))
            people[contact.person_id] = mesh, np.maximum(seen, contact.probability)

        items: list[Item] = []
        floor, left_end, right_end = 0.0, 0.0, 0.0
        for index, (person_id, (mesh, values)) in enumerate(people.items()):
            body = self._mesh(mesh)
            if index == 0:
                floor, right_end = float(body.low[1]), float(body.low[0])
                shift = 0.0
            else:
                shift = left_end + GAP - float(body.low[0])
            left_end = shift + float(body.high[0])
            items.append(Item("body", index, (0.0, shift, 0.0), body, values))
            if person_id:
                place = (0.0, shift, float(body.high[1]) + 0.15)
                items.append(Item("body_label", index, place, text=f"person {person_id}"))

        for index, affordance in enumerate(result.object_affordances):
            shape = self._mesh(affordance.mesh)
            shift = right_end - GAP - float(shape.high[0])
            right_end = shift + float(shape.low[0])
            height = floor - float(shape.low[1])
            items.append(Item("object", index, (0.0, shift, height), shape, affordance.probability))
            above = (0.0, shift, height + float(shape.high[1]) + 0.1)
            items.append(Item("object_label", index, above, text=affordance.object_label))
        return items

    def _mesh(self, mesh: Mesh) -> MarkerMesh:
        kept = self._meshes.get(mesh.content_hash)
        if kept is None:
            kept = self._meshes[mesh.content_hash] = MarkerMesh.build(mesh, self.triangles)
            if len(self._meshes) > KEPT_MESHES:
                self._meshes.popitem(last=False)
        else:
            self._meshes.move_to_end(mesh.content_hash)
        return kept

    def _marker(self, item: Item, header: Header) -> Marker:
        marker = Marker(header=header, ns=item.ns, id=item.index, action=Marker.ADD)
        marker.pose.position.x, marker.pose.position.y, marker.pose.position.z = item.place
        marker.lifetime.sec = LIFETIME_SECONDS
        if item.mesh is None or item.values is None:
            marker.type, marker.text = Marker.TEXT_VIEW_FACING, item.text
            marker.scale.z = 0.08  # for text the scale is the letters' height in metres
            marker.color = ColorRGBA(r=1.0, g=1.0, b=1.0, a=1.0)
            return marker
        marker.type = Marker.TRIANGLE_LIST
        turn = marker.pose.orientation
        turn.x, turn.y, turn.z, turn.w = UPRIGHT
        marker.scale.x = marker.scale.y = marker.scale.z = 1.0
        palette = [ColorRGBA(r=r, g=g, b=b, a=a) for r, g, b, a in self._palette.tolist()]
        marker.color = palette[0]
        marker.points = item.mesh.points
        marker.colors = [palette[shade] for shade in item.mesh.shades(item.values).tolist()]
        return marker
