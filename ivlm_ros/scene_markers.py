"""The fitted scene as markers in the camera's own frame: people as they are posed, objects where they were found.

Only objects with a valid pose are drawn. A person is a TRIANGLE_LIST coloured by contact, of a bounded number of
triangles; an object is its mesh file (MESH_RESOURCE), or a TRIANGLE_LIST where it has none; its faces in contact lie
over it; a line leads from the middle of the person's contact to the middle of the object's.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

import numpy as np
from geometry_msgs.msg import Point
from std_msgs.msg import ColorRGBA, Header
from visualization_msgs.msg import Marker, MarkerArray

from ivlm_core.types import Mesh
from ivlm_ros.markers import BASE_COLOR, KEPT_MESHES, LIFETIME_SECONDS, SHADES, merge_vertices
from ivlm_ros.messages import affordances_of, point, pose_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ivlm_core.types import FloatArray, FrameResult, IntArray, PosedBody, Reconstruction

OBJECT_COLOR = ColorRGBA(r=0.55, g=0.65, b=0.80, a=1.0)
LINK_COLOR = ColorRGBA(r=1.0, g=0.85, b=0.1, a=1.0)
WHITE = ColorRGBA(r=1.0, g=1.0, b=1.0, a=1.0)
LINK_WIDTH = 0.01
# How far over the object its faces in contact are drawn, metres: two surfaces in one place flicker.
LIFT = 0.002


class SceneMarkers:
    """Makes the scene's markers of each frame; how meshes are simplified is remembered by their topology.

    Parameters
    ----------
    triangles : how many triangles one marker may have.
    """

    def __init__(self, triangles: int) -> None:
        from ivlm_core.draw import heat_colors

        base = np.broadcast_to(np.array(BASE_COLOR, np.uint8), (SHADES, 3))
        colors = heat_colors(np.linspace(0.0, 1.0, SHADES, dtype=np.float32), base) / 255.0
        self._palette = [ColorRGBA(r=r, g=g, b=b, a=1.0) for r, g, b in colors.astype(float).tolist()]
        self._triangles = triangles
        self._simplified: OrderedDict[tuple[str, str], tuple[IntArray, IntArray]] = OrderedDict()
        self._shown: dict[tuple[str, int], str] = {}

    def clear(self) -> MarkerArray:
        """A message that removes everything this node has drawn."""
        frame_id = next(iter(self._shown.values()), "")
        self._shown = {}
        return MarkerArray(markers=[Marker(action=Marker.DELETEALL, header=Header(frame_id=frame_id))])

    def build(self, result: FrameResult, header: Header, threshold: float) -> MarkerArray:
        """The scene of one frame under the image's header, and DELETE for what is gone."""
        markers = [*self._people(result, header), *self._objects(result, header, threshold)]
        shown = {(marker.ns, marker.id): header.frame_id for marker in markers}
        gone = sorted(set(self._shown) - set(shown))
        markers += [
            Marker(
                header=Header(stamp=header.stamp, frame_id=self._shown[name]),
                ns=name[0],
                id=name[1],
                action=Marker.DELETE,
            )
            for name in gone
        ]
        self._shown = shown
        return MarkerArray(markers=markers)

    def _people(self, result: FrameResult, header: Header) -> list[Marker]:
        upright = {contact.mesh.topology_hash: contact.mesh for contact in result.human_contacts}
        people: dict[str, tuple[PosedBody, FloatArray]] = {}
        for fitted in result.reconstructions:
            if fitted.body is None:
                continue
            contact = fitted.body_contact
            if contact is None:
                contact = np.zeros(len(fitted.body.vertices), np.float32)
            body, seen = people.get(fitted.body.person_id, (fitted.body, contact))
            people[fitted.body.person_id] = body, np.maximum(seen, contact)
        markers = []
        for index, (person_id, (body, contact)) in enumerate(people.items()):
            posed = Mesh(body.vertices, body.faces, "body")
            # Simplified as it stands with its arms apart: in a pose, a hand would be merged with the leg it lies on.
            cells = self._simplify("body", posed.topology_hash, upright.get(posed.topology_hash, posed))
            markers.append(self._surface(header, "scene_body", index, body.vertices, cells, contact))
            if person_id:
                above = body.vertices[int(body.vertices[:, 1].argmin())] - np.array([0.0, 0.1, 0.0], np.float32)
                markers.append(_text(header, "scene_body_label", index, above, f"person {person_id}"))
        return markers

    def _objects(self, result: FrameResult, header: Header, threshold: float) -> list[Marker]:
        markers = []
        affordances = affordances_of(result)
        for index, fitted in enumerate(result.reconstructions):
            if not fitted.pose_valid:
                continue
            placed = fitted.placed()
            markers.append(self._object(header, index, fitted))
            if index in affordances:
                values = affordances[index].probability
                markers += self._touched(header, index, fitted, placed, values, threshold)
            above = placed[int(placed[:, 1].argmin())] - np.array([0.0, 0.05, 0.0], np.float32)
            markers.append(_text(header, "scene_object_label", index, above, fitted.object_label))
        return markers

    def _object(self, header: Header, index: int, fitted: Reconstruction) -> Marker:
        if fitted.mesh_resource:
            marker = _marker(header, "scene_object", index, Marker.MESH_RESOURCE)
            marker.mesh_resource = fitted.mesh_resource
        else:
            cells = self._simplify("object", fitted.mesh.content_hash, fitted.mesh)
            marker = self._surface(header, "scene_object", index, fitted.mesh.vertices, cells, None)
        marker.color = OBJECT_COLOR
        return _placed(marker, fitted)

    def _touched(
        self,
        header: Header,
        index: int,
        fitted: Reconstruction,
        placed: FloatArray,
        values: FloatArray,
        threshold: float,
    ) -> list[Marker]:
        """The object's faces in contact, and the line from the person's contact to them."""
        mesh = fitted.mesh
        strength = values[mesh.faces].mean(axis=1)
        chosen = np.flatnonzero(strength >= np.float32(threshold))
        if not len(chosen):
            return []
        # The strongest ones, where there are more than fit.
        strongest = np.argsort(-strength[chosen], kind="stable")[: self._triangles]
        corners = mesh.faces[np.sort(chosen[strongest])].reshape(-1)
        marker = _marker(header, "scene_affordance", index, Marker.TRIANGLE_LIST)
        raised = mesh.vertices[corners] + _corner_normals(mesh, corners) * np.float32(LIFT / fitted.scale)
        marker.points = [point(place) for place in raised]
        marker.colors = [self._palette[shade] for shade in _shades(values[corners])]
        marker.color = WHITE
        markers = [_placed(marker, fitted)]
        if fitted.summary is not None:
            middle = placed[corners].mean(axis=0)
            link = _marker(header, "scene_link", index, Marker.LINE_LIST)
            link.scale.x = LINK_WIDTH
            link.points = [point(fitted.summary.centroid), point(middle)]
            link.color = LINK_COLOR
            markers.append(link)
        return markers

    def _surface(
        self,
        header: Header,
        ns: str,
        index: int,
        vertices: FloatArray,
        simplified: tuple[IntArray, IntArray],
        values: FloatArray | None,
    ) -> Marker:
        """A TRIANGLE_LIST of a simplified mesh (see `_simplify`), coloured by (V,) values where they are given."""
        cells, kept = simplified
        count = int(cells.max()) + 1
        members = np.maximum(np.bincount(cells, minlength=count), 1)
        merged = np.stack([np.bincount(cells, vertices[:, axis], count) / members for axis in range(3)], axis=1)
        shared = [Point(x=x, y=y, z=z) for x, y, z in merged.tolist()]
        corners = kept.reshape(-1).tolist()
        marker = _marker(header, ns, index, Marker.TRIANGLE_LIST)
        marker.points = [shared[corner] for corner in corners]
        if values is not None:
            highest = np.zeros(count, np.float32)
            np.maximum.at(highest, cells, values)
            shades = _shades(highest)
            marker.colors = [self._palette[shades[corner]] for corner in corners]
            marker.color = WHITE
        return marker

    def _simplify(self, kind: str, name: str, mesh: Mesh) -> tuple[IntArray, IntArray]:
        """The cell of each vertex, and the faces between cells; `name` is what the mesh is remembered by."""
        key = kind, name
        if key not in self._simplified:
            _, kept, cells = merge_vertices(mesh, self._triangles)
            self._simplified[key] = cells, kept
            if len(self._simplified) > KEPT_MESHES:
                self._simplified.popitem(last=False)
        self._simplified.move_to_end(key)
        return self._simplified[key]


def _marker(header: Header, ns: str, index: int, kind: int) -> Marker:
    marker = Marker(header=header, ns=ns, id=index, action=Marker.ADD, type=kind)
    marker.pose.orientation.w = 1.0
    marker.scale.x = marker.scale.y = marker.scale.z = 1.0
    marker.lifetime.sec = LIFETIME_SECONDS
    return marker


def _placed(marker: Marker, fitted: Reconstruction) -> Marker:
    marker.pose = pose_of(fitted)
    marker.scale.x = marker.scale.y = marker.scale.z = float(fitted.scale)
    return marker


def _text(header: Header, ns: str, index: int, place: FloatArray, text: str) -> Marker:
    marker = _marker(header, ns, index, Marker.TEXT_VIEW_FACING)
    marker.pose.position = point(place)
    marker.scale.z = 0.08
    marker.color = WHITE
    marker.text = text
    return marker


def _shades(values: FloatArray) -> list[int]:
    shades: list[int] = np.rint(np.clip(values, 0.0, 1.0) * (SHADES - 1)).astype(np.int64).tolist()
    return shades


def _corner_normals(mesh: Mesh, corners: NDArray) -> FloatArray:
    """(3 F', 3) normals of the faces whose corners these are, one for each corner."""
    triangles = mesh.vertices[corners].reshape(-1, 3, 3).astype(np.float64)
    across = np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0])
    length = np.linalg.norm(across, axis=1, keepdims=True)
    normals = np.divide(across, length, out=np.zeros_like(across), where=length > 0)
    return np.repeat(normals, 3, axis=0).astype(np.float32)
