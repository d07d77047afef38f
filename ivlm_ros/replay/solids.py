"""What the report's 3D view shows: bodies and objects with their heat, packed small."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ivlm_core.datasets.bags import VertexValues
from ivlm_core.errors import IvlmError
from ivlm_core.types import Mesh, ObjectQuery
from ivlm_ros.replay.answers import Answer
from ivlm_ros.replay.outcome import Outcome, ScenePart

# Larger meshes would make the page slow; they are left out with a word.
MOST_VERTICES = 60_000
MOST_VIEWS = 48


class Solids:
    """Packs meshes once and their values per view.

    Attributes
    ----------
    meshes : name → packed mesh. views : what can be chosen: `name`, and either `body` and `thing`, in frames of their
    own, or `scene`, parts in metres as the camera sees them; each a list of mesh and values.
    """

    def __init__(self, outcome: Outcome) -> None:
        self._known = dict(outcome.meshes)
        self.meshes: dict[str, dict[str, Any]] = {}
        self.views: list[dict[str, Any]] = []

    def add_answer(self, name: str, answer: Answer) -> None:
        """A view of one object's answer, where its meshes are known here."""
        view: dict[str, Any] = {"name": name, "body": [], "thing": []}
        if answer.body is not None:
            view["body"] = self._part(self._mesh(answer.body, answer.body_model, ""), answer.body)
        if answer.thing is not None:
            view["thing"] = self._part(self._mesh(answer.thing, "", answer.label), answer.thing)
        if (view["body"] or view["thing"]) and len(self.views) < MOST_VIEWS:
            self.views.append(view)

    def add_scene(self, name: str, parts: Sequence[ScenePart]) -> None:
        """A view of what was fitted into one image's scene."""
        shown = []
        for part in parts:
            if len(part.vertices) <= MOST_VERTICES:
                key = f"scene {len(self.meshes)}"
                self.meshes[key] = pack(part.vertices, part.faces)
                shown.append({"mesh": key, "values": _packed(part.values), "name": part.name})
        if shown:
            self.views.append({"name": name, "scene": shown})

    def _part(self, mesh: Mesh | None, values: VertexValues) -> list[dict[str, Any]]:
        if mesh is None or len(mesh.vertices) != values.vertex_count or len(mesh.vertices) > MOST_VERTICES:
            return []
        key = mesh.content_hash
        if key not in self.meshes:
            self.meshes[key] = pack(mesh.vertices, mesh.faces)
        return [{"mesh": key, "values": _packed(values.dense()), "name": ""}]

    def _mesh(self, values: VertexValues, body_model: str, label: str) -> Mesh | None:
        """The mesh of this topology: one that answers were given on here, the shipped body, or the library's object."""
        if values.topology_hash in self._known:
            return self._known[values.topology_hash]
        from ivlm_core.bodies import load_body
        from ivlm_core.objects import find_object

        try:
            mesh = load_body(body_model).mesh if body_model else find_object(ObjectQuery(label)).mesh
        except IvlmError:
            return None
        if mesh.topology_hash != values.topology_hash:
            return None
        self._known[values.topology_hash] = mesh
        return mesh


def pack(vertices: NDArray, faces: NDArray) -> dict[str, Any]:
    """Vertices as 16-bit fractions of their box (better than 0.1 mm for a person), faces as indices; both base64."""
    low = vertices.min(axis=0).astype(np.float64)
    extent = np.maximum(vertices.max(axis=0).astype(np.float64) - low, 1e-9)
    places = np.round((vertices - low) / extent * 65535).astype("<u2")
    wide = len(vertices) > 65535
    return {
        "low": [round(float(value), 6) for value in low],
        "step": [float(value) / 65535 for value in extent],
        "vertices": base64.b64encode(places.tobytes()).decode(),
        "faces": base64.b64encode(faces.astype("<u4" if wide else "<u2").tobytes()).decode(),
        "wide": wide,
    }


def _packed(values: NDArray) -> str:
    """(V,) in [0, 1] as 0…255, base64."""
    return base64.b64encode(np.round(np.clip(values, 0, 1) * 255).astype(np.uint8).tobytes()).decode()
