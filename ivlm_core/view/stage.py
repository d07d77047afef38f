"""What a moment looks like in 3D: the canonical meshes in a row, and the fitted scene beside them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ivlm_core.draw import NEUTRAL_GREY
from ivlm_core.draw.joint_scene import OBJECT_COLORS
from ivlm_core.types import Mesh
from ivlm_core.view.layout import (
    Reach,
    Stand,
    Vector,
    in_rows,
    scene_reach,
    stand_body,
    stand_scene,
    stand_thing,
)
from ivlm_core.view.moments import Heat, Moment, Pair, PairAnswer, Person
from ivlm_core.view.nodes import Nodes
from ivlm_core.view.surfaces import FREE, Color, heat_surface, painted_surface

if TYPE_CHECKING:
    import viser

GREY: Color = (NEUTRAL_GREY,) * 3
THING: Color = (206, 210, 218)
ARROW_METRES = 0.2
LABEL_GAP = 0.05


@dataclass(frozen=True)
class Switches:
    """Which parts are shown; `free`: the free regions of objects, `truth`: what is known to be true."""

    body: bool = True
    thing: bool = True
    scene: bool = True
    free: bool = True
    truth: bool = False


@dataclass(frozen=True, eq=False)
class _Exhibit:
    """What stands in one place: a mesh, or without one the scene."""

    name: str
    title: str
    stand: Stand
    glb: bytes = b""


class Stage:
    """Draws moments into a server's scene."""

    def __init__(self, server: viser.ViserServer) -> None:
        server.scene.set_up_direction("+y")
        # An environment map would look a little better; without a graphics card it takes seconds for each picture.
        server.scene.configure_environment_map(None)
        server.scene.configure_default_lights(False)
        server.scene.add_light_ambient("/light/all", intensity=0.5)
        server.scene.add_light_directional("/light/key", intensity=2.6, position=(2.0, 4.0, 5.0), cast_shadow=False)
        server.scene.add_light_directional("/light/fill", intensity=0.9, position=(-5.0, 1.0, 2.0), cast_shadow=False)
        server.scene.add_grid(
            "/ground",
            24.0,
            24.0,
            plane="xz",
            cell_color=(236, 238, 242),
            cell_thickness=0.6,
            section_color=(224, 227, 233),
            section_thickness=0.8,
            fade_distance=16.0,
        )
        self._nodes = Nodes(server)
        self._reaches: dict[str, Reach] = {}
        # (P, 3) points around everything that is shown.
        self.extent: Vector = np.array([[-1.0, 0.0, 0.0], [1.0, 1.8, 0.0]])

    def close(self) -> None:
        """Stop what runs in the background."""
        self._nodes.close()

    def draw(self, moment: Moment, pair: Pair | None, threshold: float, switches: Switches) -> None:
        """Show a moment, with the answer of one pair."""
        answer = moment.answers.get(pair, PairAnswer()) if pair is not None else PairAnswer()
        scene = self._scene_stand(moment) if switches.scene else None
        rows = _rows(answer, threshold, switches, scene)
        stands = in_rows([[[exhibit.stand for exhibit in column] for column in row] for row in rows])
        exhibits = [exhibit for row in rows for column in row for exhibit in column]
        with self._nodes.redrawn():
            for exhibit, stand in zip(exhibits, stands, strict=True):
                if exhibit.title:
                    self._nodes.label(f"/title/{exhibit.name}", exhibit.title, _above(stand))
                if exhibit.glb:
                    name = f"/{exhibit.name}"
                    self._nodes.surface(name, exhibit.glb, stand.rotation, stand.position, stand.scale)
                else:
                    self._draw_scene(moment, pair, answer, stand, threshold, switches)
        if stands:
            # The titles stand above the meshes.
            titles = np.array([_above(stand) for stand in stands]) + LABEL_GAP * np.array([0.0, 1.0, 0.0])
            self.extent = np.concatenate([*(stand.extent for stand in stands), titles])

    def _scene_stand(self, moment: Moment) -> Stand | None:
        """Room for everything that was in a camera's scenes so far; nothing moves while they come and go."""
        reach, known = scene_reach(moment), self._reaches.get(moment.camera_frame)
        if reach is not None:
            known = reach if known is None else reach.joined(known)
            self._reaches[moment.camera_frame] = known
        return None if known is None else stand_scene(known)

    def has_scene(self, camera_frame: str) -> bool:
        """Whether anything of a camera was ever placed."""
        return camera_frame in self._reaches

    def _draw_scene(
        self, moment: Moment, pair: Pair | None, answer: PairAnswer, stand: Stand, threshold: float, switches: Switches
    ) -> None:
        """People, placed objects and the camera, in the camera's metres."""
        for number, person in enumerate(moment.people):
            glb = _person_surface(person, pair, answer, threshold)
            self._nodes.surface(f"/scene/person {number}", glb, stand.rotation, stand.position, 1.0)
        for number, (other, told) in enumerate(moment.answers.items()):
            place, mesh = told.placement, told.placed_mesh
            if place is None or mesh is None:
                continue
            values = np.zeros(len(mesh.vertices), np.float32)
            free = None
            if other == pair:
                free = _free_vertices(told, mesh) if switches.free else None
                if told.thing is not None and told.thing.mesh is mesh:
                    values = told.thing.values
            glb = heat_surface(mesh, values, threshold, OBJECT_COLORS[number % len(OBJECT_COLORS)], free)
            position = stand.rotation @ place.translation + stand.position
            self._nodes.surface(f"/scene/object {number}", glb, stand.rotation @ place.rotation, position, place.scale)
        for number, region in enumerate(answer.regions if switches.free else ()):
            start = stand.rotation @ region.centroid + stand.position
            end = start + ARROW_METRES * (stand.rotation @ region.normal)
            self._nodes.arrow(f"/scene/free {number}", start, end, FREE)
        camera = moment.camera
        if camera is not None:
            fov = 2 * float(np.arctan(camera.height / (2 * camera.fy)))
            aspect = camera.width / camera.fx * camera.fy / camera.height
            image = None if moment.picture_note else moment.picture
            self._nodes.camera("/scene/camera", fov, aspect, image, stand.rotation, stand.position)


def _rows(answer: PairAnswer, threshold: float, switches: Switches, scene: Stand | None) -> list[list[list[_Exhibit]]]:
    """Rows of columns.

    Bodies stand above objects and the scene. With the ground truth, its meshes stand below those of the answer.
    """
    whole = [_Exhibit("scene", "the scene, in metres", scene)] if scene is not None else []
    bodies, things = _exhibits("", answer.body, answer.thing, answer, threshold, switches)
    if switches.truth:
        true = _exhibits("true ", answer.true_body, answer.true_thing, answer, threshold, switches)
        rows = [[*([body] for body in group), objects] for group, objects in ((bodies, things), true)]
        return [*rows, [whole]]
    below = [things, whole] if whole else [[thing] for thing in things]
    return [[[body] for body in bodies], below]


def _exhibits(
    kind: str, body: Heat | None, thing: Heat | None, answer: PairAnswer, threshold: float, switches: Switches
) -> tuple[list[_Exhibit], list[_Exhibit]]:
    """The body and the object, each from the front and from the back."""
    bodies: list[_Exhibit] = []
    things: list[_Exhibit] = []
    if switches.body and body is not None and body.mesh is not None:
        glb = heat_surface(body.mesh, body.values, threshold, GREY, smooth=True)
        for view in ("front", "back"):
            stand = stand_body(body.mesh, view == "back")
            bodies.append(_Exhibit(f"{kind}body {view}", f"{kind}contact, {view}", stand, glb))
    if switches.thing and thing is not None and thing.mesh is not None:
        mesh = thing.mesh
        marked = _free_vertices(answer, mesh) if switches.free and not kind and answer.placed_mesh is mesh else None
        glb = heat_surface(mesh, thing.values, threshold, THING, marked)
        for view in ("front", "back"):
            stand = stand_thing(mesh, view == "back")
            title = f"{kind}affordance, {_times(stand.scale)}" if view == "front" else ""
            things.append(_Exhibit(f"{kind}object {view}", title, stand, glb))
    return bodies, things


def _times(scale: float) -> str:
    return f"{scale:.1f}".removesuffix(".0") + " × its size"


def _person_surface(person: Person, pair: Pair | None, answer: PairAnswer, threshold: float) -> bytes:
    """A posed person with the contact of the chosen pair, where their vertices are those it is told on."""
    heat, mesh = answer.body, person.mesh
    theirs = pair is not None and ("" in (pair.person_id, person.person_id) or pair.person_id == person.person_id)
    if theirs and heat is not None and heat.mesh is not None and heat.mesh.topology_hash == mesh.topology_hash:
        return heat_surface(mesh, heat.values, threshold, GREY, smooth=True)
    if person.colors is not None:
        return painted_surface(mesh, person.colors, smooth=True)
    return heat_surface(mesh, np.zeros(len(mesh.vertices), np.float32), threshold, GREY, smooth=True)


def _free_vertices(answer: PairAnswer, mesh: Mesh) -> NDArray[np.bool_]:
    """(N,) the vertices of all free regions."""
    marked = np.zeros(len(mesh.vertices), dtype=bool)
    for region in answer.regions:
        marked[region.vertices] = True
    return marked


def _above(stand: Stand) -> Vector:
    middle = (stand.low + stand.high) / 2
    return np.array([middle[0], stand.high[1] + LABEL_GAP, middle[2]])
