"""The stage on which a scene is set: a person in a pose, the things placed so far, and the limbs still free."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ivlm_core.bodies import PART_NAMES, AnnyRig
from ivlm_core.datasets.synthetic.appearance import body_colors, object_colors
from ivlm_core.datasets.synthetic.geometry import bounds
from ivlm_core.datasets.synthetic.pose import Matrix, Poser, Side, Unreachable, Vector
from ivlm_core.datasets.synthetic.scene import PlacedObject, Scene
from ivlm_core.objects import Shape, library_shape, varied_sizes
from ivlm_core.types import FloatArray

LIMBS = frozenset({"L", "R", "back", "lap"})
UP, LEFT, FORWARD = np.eye(3)[[1, 0, 2]]
SIDES: tuple[Side, Side] = ("L", "R")
# Sign of x on the side of each limb; the body's own left is +x.
OUTWARD: Mapping[Side, float] = MappingProxyType({"L": 1.0, "R": -1.0})
SIDE_NAMES: Mapping[Side, str] = MappingProxyType({"L": "left", "R": "right"})

__all__ = ["FORWARD", "LEFT", "OUTWARD", "SIDES", "SIDE_NAMES", "UP", "Stage", "TableTop", "Unreachable", "part"]


@dataclass(frozen=True)
class TableTop:
    """A level rectangle in front of the person, metres, body frame."""

    height: float
    near: float
    far: float
    right: float
    left: float


class Stage:
    """Collects a scene in the body's frame: origin at the pelvis, metres, y up, facing +z, +x the body's own left.

    Attributes
    ----------
    rng : the scene's only source of chance.
    rig, phenotype : the person's body. poser : its pose so far.
    floor : height of the floor in the body's frame, metres (negative); None for the lowest point of the body.
    free : what is still free of "L" and "R" (arms with hands), "back" and "lap".
    objects : the things placed so far.
    posture : "stand", "sit", "lie", "prone", "board" or "ride".
    table : the table in front of the person, if there is one. table_top : where its top is.
    idle : gives an arm that has nothing to do its place; the support sets it.
    """

    def __init__(self, rng: np.random.Generator, rig: AnnyRig, phenotype: tuple[float, ...] = ()) -> None:
        self.rng = rng
        self.rig = rig
        self.phenotype = phenotype
        self.poser = Poser(rig)
        self.floor: float | None = None
        self.free = set(LIMBS)
        self.objects: list[PlacedObject] = []
        self.posture = "stand"
        self.table_top: TableTop | None = None
        self.idle: Callable[[Side], None] = lambda side: None
        self._table = -1

    def take(self, *limbs: str) -> None:
        """Mark limbs as used.

        Raises
        ------
        Unreachable : one of them is used already.
        """
        for limb in limbs:
            if limb not in self.free:
                raise Unreachable(f"needs {limb}, which is not free")
            self.free.remove(limb)

    def vertices(self) -> FloatArray:
        """(V, 3) float32, metres, body frame: the body as posed so far."""
        return self.poser.vertices()

    def shape(self, label: str, sizes: Mapping[str, float] | None = None, **changed: float) -> Shape:
        """An instance of a thing: of varied sizes, or of these `sizes`; `changed` ones are as given."""
        if sizes is None:
            sizes = varied_sizes(label, self.rng)
        return library_shape(label, **{**sizes, **changed})

    def place(
        self,
        shape: Shape,
        rotation: Matrix,
        translation: Vector,
        mode: str = "",
        parts: Collection[str] = (),
        name: str = "",
    ) -> PlacedObject:
        """Put a thing into the body's frame; see `PlacedObject` for the arguments."""
        placed = PlacedObject(
            shape,
            rotation,
            np.asarray(translation, np.float64),
            **object_colors(name or shape.label, self.rng),
            mode=mode,
            parts=frozenset(parts),
            name=name,
        )
        self.objects.append(placed)
        return placed

    @property
    def table(self) -> PlacedObject | None:
        return self.objects[self._table] if self._table >= 0 else None

    def set_table(self, placed: PlacedObject, top: TableTop) -> None:
        """Say which of the placed things is the table in front of the person."""
        self._table = next(index for index, item in enumerate(self.objects) if item is placed)
        self.table_top = top

    def touch(self, placed: PlacedObject, mode: str, parts: Collection[str]) -> PlacedObject:
        """Say how a thing placed already is touched: `mode` replaces its mode, `parts` join its parts."""
        index = next(index for index, item in enumerate(self.objects) if item is placed)
        self.objects[index] = replace(placed, mode=mode, parts=placed.parts | frozenset(parts))
        return self.objects[index]

    def points(self, *names: str) -> FloatArray:
        """(n, 3) the posed vertices of some body parts, metres, body frame."""
        return self.poser.points(part(self.rig, *names))

    def clearance(self, points: NDArray[Any]) -> float:
        """Metres from points (n, 3) to the things placed so far, their parts taken as boxes; negative inside one."""
        nearest = np.inf
        for placed in self.objects:
            local = (np.asarray(points, np.float64) - placed.translation) @ placed.rotation
            low, high = _part_boxes(placed.shape)
            beyond = np.maximum(low - local[:, None], local[:, None] - high)  # (n, P, 3)
            outside = np.linalg.norm(np.maximum(beyond, 0.0), axis=2) + np.minimum(beyond.max(axis=2), 0.0)
            nearest = min(nearest, float(outside.min()))
        return nearest

    def scene(self, name: str) -> Scene:
        """The finished scene in the world, its floor at y = 0."""
        vertices = self.vertices()
        floor = float(vertices[:, 1].min()) if self.floor is None else self.floor
        lifted = np.array([0.0, -floor, 0.0])
        joints = self.poser.joints() + lifted
        objects = [replace(item, translation=item.translation + lifted) for item in self.objects]
        return Scene(
            name,
            (vertices + lifted).astype(np.float32),
            self.rig.faces,
            body_colors(self.rig, self.rng),
            objects,
            self.phenotype,
            self.poser.rotations(),
            lifted,
            joints.astype(np.float32),
        )


def hands_of(mode: str) -> tuple[Side, ...]:
    """The hands that a mode names: "left hand", "right hand" or "both hands" anywhere in it."""
    if "both hands" in mode:
        return SIDES
    return tuple(side for side in SIDES if f"{SIDE_NAMES[side]} hand" in mode)


def part(rig: AnnyRig, *names: str) -> NDArray[np.intp]:
    """Indices of the vertices of body parts, by their names in `PART_NAMES`."""
    return _part_vertices(rig.part_labels.tobytes(), names)


@lru_cache(maxsize=128)
def _part_vertices(labels: bytes, names: tuple[str, ...]) -> NDArray[np.intp]:
    wanted = [PART_NAMES.index(name) for name in names]
    found: NDArray[Any] = np.flatnonzero(np.isin(np.frombuffer(labels, np.uint8), wanted))
    found.flags.writeable = False
    return found


def points_of(stage: Stage) -> NDArray[np.float64]:
    """(n, 3) body and things placed so far, metres, body frame."""
    return np.concatenate([stage.vertices(), *(placed.vertices for placed in stage.objects)])


def _part_boxes(shape: Shape) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(P, 3) lowest and highest corners of a shape's parts, in its own frame."""
    low, high = zip(*(bounds(mesh.vertices) for mesh in shape.parts.values()), strict=True)
    return np.array(low, np.float64), np.array(high, np.float64)
