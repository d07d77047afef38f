"""The people of a recording as posed meshes: from a body estimator's messages, or from the node's own markers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ivlm_core.bodies import posed_body
from ivlm_core.errors import IvlmError
from ivlm_core.types import Mesh
from ivlm_core.view.moments import Person

MAX_PEOPLE = 16
# Marker.TRIANGLE_LIST, and what the node calls the markers of people (see `ivlm_ros.scene_markers`).
TRIANGLE_LIST, BODY_MARKERS = 11, "scene_body"
MAX_MARKER_POINTS = 150_000


def people_from_bodies(message: Any, body_paths: Mapping[str, Path]) -> tuple[list[Person], list[str]]:
    """The posed bodies of a HumanBodyArray, and a note for each person who has none that can be shown."""
    people, notes = [], []
    for item in message.bodies[:MAX_PEOPLE]:
        name = f"person {item.person_id}".rstrip()[:80]
        if not len(item.vertices) and not len(item.pose_parameters):
            notes.append(f"{name}: only joints of the picture were recorded, and no posed body")
            continue
        try:
            body = posed_body(
                item.body_model,
                pose_parameters=item.pose_parameters,
                shape_parameters=item.shape_parameters,
                shape_parameter_names=list(item.shape_parameter_names),
                translation=(item.translation.x, item.translation.y, item.translation.z),
                vertices=item.vertices,
                topology_hash=item.topology_hash,
                person_id=item.person_id,
                score=min(max(float(np.nan_to_num(item.score)), 0.0), 1.0),
                body_path=body_paths.get(item.body_model),
            )
            people.append(Person(Mesh(body.vertices, body.faces, name), body.person_id))
        except IvlmError as error:
            notes.append(f"{name} cannot be shown: {error.problem}")
    return people, notes


def people_from_markers(message: Any) -> list[Person]:
    """The people among the node's markers of a fitted scene, simplified as they were published, with their contact."""
    people = []
    for marker in message.markers:
        if marker.ns != BODY_MARKERS or marker.type != TRIANGLE_LIST or marker.action != 0:
            continue
        count = len(marker.points)
        if not 3 <= count <= MAX_MARKER_POINTS or count % 3 or len(marker.colors) != count:
            continue
        corners = np.array([(point.x, point.y, point.z) for point in marker.points])
        colors = np.array([(color.r, color.g, color.b) for color in marker.colors])
        if not np.isfinite(corners).all() or not np.isfinite(colors).all():
            continue
        # Corners in one place are one vertex, so that the surface can be shaded smoothly.
        vertices, first, faces = np.unique(corners, axis=0, return_index=True, return_inverse=True)
        painted = (np.clip(colors[first], 0, 1) * 255 + 0.5).astype(np.uint8)
        mesh = Mesh(vertices.astype(np.float32), faces.reshape(-1, 3).astype(np.int32), "person")
        people.append(Person(mesh, "", painted))
    return people[:MAX_PEOPLE]
