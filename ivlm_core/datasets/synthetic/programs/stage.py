"""The stage on which a scene is set: a person in a pose, the things placed so far, and the limbs still free."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from ivlm_core.bodies import AnnyRig
from ivlm_core.datasets.synthetic.appearance import body_colors, object_colors
from ivlm_core.datasets.synthetic.pose import Matrix, Poser, Vector
from ivlm_core.datasets.synthetic.scene import PlacedObject, Scene
from ivlm_core.errors import InputError
from ivlm_core.objects import Shape
from ivlm_core.types import FloatArray

LIMBS = frozenset({"L", "R", "back", "lap"})


class Unreachable(InputError):
    """A program cannot be carried out by this person in this pose; another draw may do."""

    def __init__(self, problem: str) -> None:
        super().__init__("program", problem, "draw again")


class Stage:
    """Collects a scene in the body's frame: origin at the pelvis, metres, y up, facing +z, +x the body's own left.

    Attributes
    ----------
    rng : the scene's only source of chance.
    rig, phenotype : the person's body. poser : its pose so far.
    floor : height of the floor in the body's frame, metres (negative); None for the lowest point of the body.
    free : what is still free of "L" and "R" (arms with hands), "back" and "lap".
    objects : the things placed so far.
    """

    def __init__(self, rng: np.random.Generator, rig: AnnyRig, phenotype: tuple[float, ...] = ()) -> None:
        self.rng = rng
        self.rig = rig
        self.phenotype = phenotype
        self.poser = Poser(rig)
        self.floor: float | None = None
        self.free = set(LIMBS)
        self.objects: list[PlacedObject] = []

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

    def scene(self, name: str) -> Scene:
        """The finished scene in the world, its floor at y = 0."""
        vertices = self.vertices()
        floor = float(vertices[:, 1].min()) if self.floor is None else self.floor
        lifted = np.array([0.0, -floor, 0.0])
        joints = np.stack([self.poser.position(bone) for bone in self.rig.joint_names]) + lifted
        objects = [
            PlacedObject(
                item.shape,
                item.rotation,
                item.translation + lifted,
                item.color,
                item.part_colors,
                item.mode,
                item.parts,
                item.name,
            )
            for item in self.objects
        ]
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
