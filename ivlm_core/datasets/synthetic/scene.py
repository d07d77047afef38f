"""What stands in a generated scene: one posed person and placed objects, in metres, y up, on the floor y = 0."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ivlm_core.datasets.synthetic.geometry import SceneGeometry
from ivlm_core.objects import Shape
from ivlm_core.types import ByteArray, FloatArray, IntArray, Mesh

# What a pixel of the id image shows; objects count on from FIRST_OBJECT in the order of the scene.
NOTHING, GROUND, PERSON, FIRST_OBJECT = 0, 1, 2, 3


@dataclass(frozen=True, eq=False)
class PlacedObject:
    """An object of the library in its place.

    Attributes
    ----------
    shape : its parts in the object's own frame, metres, y up.
    rotation : (3, 3) from the object's frame to the world; translation : (3,) metres, where its origin is.
    color : RGB, 0…255; part_colors : the parts that have a colour of their own.
    mode : how it is used ("left hand", "both feet"); empty where nobody touches it.
    parts : the body parts that are meant to touch it.
    name : what people call it where that is not the shape's own label ("dining table" for a table).
    """

    shape: Shape
    rotation: NDArray[np.float64] = field(default_factory=lambda: np.eye(3))
    translation: NDArray[np.float64] = field(default_factory=lambda: np.zeros(3))
    color: tuple[int, int, int] = (150, 150, 150)
    part_colors: Mapping[str, tuple[int, int, int]] = field(default_factory=dict)
    mode: str = ""
    parts: frozenset[str] = frozenset()
    name: str = ""

    @property
    def label(self) -> str:
        return self.name or self.shape.label

    @property
    def mesh(self) -> Mesh:
        return self.shape.mesh

    def to_world(self, points: NDArray[Any]) -> NDArray[np.float64]:
        """Points (N, 3) of the object's own frame in the world."""
        placed: NDArray[np.float64] = np.asarray(points, np.float64) @ self.rotation.T + self.translation
        return placed

    @property
    def vertices(self) -> NDArray[np.float64]:
        """(N, 3) float64, metres, in the world."""
        return self.to_world(self.mesh.vertices)

    @property
    def vertex_colors(self) -> ByteArray:
        """(N, 3) uint8 RGB."""
        palette = np.array([self.part_colors.get(name, self.color) for name in self.shape.parts], dtype=np.uint8)
        return palette[self.shape.part_of_vertex]


@dataclass(frozen=True, eq=False)
class Scene:
    """A posed person and the objects around them.

    Attributes
    ----------
    name : the interaction that made the scene ("sit with laptop").
    body_vertices : (V, 3) float32, metres, in the world; vertex order of the body model `anny`.
    body_faces : (F, 3) int32.
    body_colors : (V, 3) uint8 RGB: skin and clothes.
    objects : the placed objects, of which the first is touched.
    phenotype : the person's (gender, age, muscle, weight, height), 0…1 each, as Anny has them.
    rotations : bone name → (3, 3), the pose, as `AnnyRig.pose` wants it.
    translation : (3,) metres, where the body's origin (the pelvis) is in the world.
    joints : (B, 3) metres, the posed bone heads in the world; None where nobody asked for them.
    """

    name: str
    body_vertices: FloatArray
    body_faces: IntArray
    body_colors: ByteArray
    objects: Sequence[PlacedObject]
    phenotype: tuple[float, ...] = ()
    rotations: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    translation: NDArray[np.float64] = field(default_factory=lambda: np.zeros(3))
    joints: FloatArray | None = None

    @cached_property
    def geometry(self) -> SceneGeometry:
        """Ray trees and normals, built once and shared by contact and rendering."""
        return SceneGeometry(self.body_vertices, self.body_faces, self.objects)

    def object_id(self, index: int) -> int:
        """The value that marks the pixels of object `index` in id images."""
        return FIRST_OBJECT + index

    @property
    def focus(self) -> NDArray[np.float64]:
        """(3,) metres: the middle of the bounding box of person and objects, where cameras look."""
        points = np.concatenate([self.body_vertices, *(placed.vertices for placed in self.objects)])
        middle: NDArray[np.float64] = (points.min(axis=0) + points.max(axis=0)) / 2
        return middle

    def merged(self) -> tuple[FloatArray, IntArray, ByteArray, NDArray[np.int16]]:
        """All of it as one mesh: vertices (M, 3), faces (G, 3), colours (M, 3) and the id of every face (G,)."""
        vertices, faces, colors, ids = [self.body_vertices], [self.body_faces], [self.body_colors], [PERSON]
        first = len(self.body_vertices)
        for index, placed in enumerate(self.objects):
            vertices.append(placed.vertices.astype(np.float32))
            faces.append(placed.mesh.faces + np.int32(first))
            colors.append(placed.vertex_colors)
            ids.append(self.object_id(index))
            first += len(placed.mesh.vertices)
        face_ids = np.repeat(np.array(ids, dtype=np.int16), [len(part) for part in faces])
        return np.concatenate(vertices), np.concatenate(faces), np.concatenate(colors), face_ids
