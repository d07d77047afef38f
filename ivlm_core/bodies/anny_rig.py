"""The shipped Anny body: its asset file, and linear blend skinning in numpy."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ivlm_core.errors import InputError, MeshError, shown
from ivlm_core.storage import UNREADABLE
from ivlm_core.types import FloatArray, IntArray, Mesh

ASSET = Path(__file__).parent / "data" / "anny_neutral.npz"
REBUILD = "reinstall the package or rebuild it with: python -m ivlm_core.bodies.build_anny"

# Skinning weights are stored as 16-bit fractions: a step moves no vertex by more than about 0.02 mm.
WEIGHT_SCALE = 65535


@dataclass(frozen=True, eq=False)
class AnnyRig:
    """Anny, neutral adult, as a skinned mesh in the canonical frame (metres, y up, facing +z, +x its own left).

    Anny skins from *rest* vertices, which differ from its zero pose (all rotations identity) by up to 17 cm, because
    each bone first turns to a reference orientation. `bind` holds that turn, so poses come out as Anny's own.

    Attributes
    ----------
    joint_names : B bone names, parents before children; `.L` is the body's own left.
    parents : (B,) int32, −1 for the root.
    joints : (B, 3) float32, metres: bone heads in the zero pose.
    faces : (F, 3) int32, counter-clockwise seen from outside.
    star_vertices : (V, 3) float32, metres: Anny's own output in the canonical star pose.
    part_labels : (V,) uint8 index into `PART_NAMES`.
    weights : (V, B) float32 skinning weights, rows summing to one.
    rest_vertices : (V, 3) float32, metres.
    bind : (B, 3, 4) float32: each bone's transform from rest to the zero pose.
    metadata : Anny's version, the phenotype, and the licences.
    """

    joint_names: tuple[str, ...]
    parents: IntArray
    joints: FloatArray
    faces: IntArray
    star_vertices: FloatArray
    part_labels: NDArray[np.uint8]
    weights: FloatArray
    rest_vertices: FloatArray
    bind: FloatArray
    metadata: Mapping[str, Any]

    @classmethod
    def load(cls) -> AnnyRig:
        """The rig that ships with the package, read once per process.

        Raises
        ------
        MeshError : the asset is missing or damaged.
        """
        return _load_rig(ASSET)

    @cached_property
    def vertices(self) -> FloatArray:
        """(V, 3) float32, metres: the zero pose, an A-pose with bent elbows."""
        vertices = self.pose({})
        vertices.flags.writeable = False
        return vertices

    @cached_property
    def star_mesh(self) -> Mesh:
        """The body in its canonical star pose."""
        return Mesh(self.star_vertices, self.faces, "anny")

    def bone_transforms(self, rotations: Mapping[str, NDArray[Any]]) -> NDArray[np.float64]:
        """(B, 3, 4): each bone's rigid transform from the zero pose to the pose; arguments and errors as in `pose`."""
        local = self._checked(rotations)
        transforms = np.empty((len(self.joint_names), 3, 4))
        for bone, parent in enumerate(self.parents):
            head = self.joints[bone].astype(np.float64)
            if parent < 0:
                rotation, position = local[bone], head
            else:
                above = transforms[parent]
                rotation, position = above[:, :3] @ local[bone], above[:, :3] @ head + above[:, 3]
            transforms[bone, :, :3] = rotation
            transforms[bone, :, 3] = position - rotation @ head
        return transforms

    def pose(self, rotations: Mapping[str, NDArray[Any]]) -> FloatArray:
        """Vertices of the body in a pose.

        Parameters
        ----------
        rotations : bone name → (3, 3) rotation about the canonical axes as seen in the zero pose, inside the parent's
            frame: with G the turn of a bone from its zero-pose orientation, `G_child = G_parent · rotation`. Bones
            that are not named keep identity. The root turns about its own head, the origin.

        Returns
        -------
        (V, 3) float32, metres.

        Raises
        ------
        InputError : an unknown bone, or a matrix that is not a rotation.
        """
        moved = self.bone_transforms(rotations)
        skinning = np.concatenate(
            [moved[:, :, :3] @ self.bind[:, :, :3], moved[:, :, :3] @ self.bind[:, :, 3:] + moved[:, :, 3:]], axis=2
        )
        blended = (self.weights @ skinning.reshape(-1, 12).astype(np.float32)).reshape(-1, 3, 4)  # (V, 3, 4)
        vertices: FloatArray = np.einsum("vij,vj->vi", blended[:, :, :3], self.rest_vertices) + blended[:, :, 3]
        return vertices

    def _checked(self, rotations: Mapping[str, NDArray[Any]]) -> NDArray[np.float64]:
        local = np.tile(np.eye(3), (len(self.joint_names), 1, 1))
        for name, value in rotations.items():
            if name not in self._index:
                near = difflib.get_close_matches(str(name), self.joint_names, n=3) or self.joint_names[:3]
                raise InputError("rotations", f"bone {shown(name)} does not exist", f"nearest: {', '.join(near)}")
            matrix = np.asarray(value, dtype=np.float64)
            if (
                matrix.shape != (3, 3)
                or not np.allclose(matrix @ matrix.T, np.eye(3), atol=1e-4)
                or np.linalg.det(matrix) < 0
            ):
                raise InputError(f"rotations[{shown(name)}]", "is not a rotation matrix", "give an orthonormal (3, 3)")
            local[self._index[name]] = matrix
        return local

    @cached_property
    def _index(self) -> dict[str, int]:
        return {name: bone for bone, name in enumerate(self.joint_names)}


def pack_weights(weights: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """Dense (V, B) skinning weights as the sparse 16-bit arrays of the asset (inverse: `unpack_weights`)."""
    scaled = np.rint(weights * WEIGHT_SCALE).astype(np.uint16)
    vertex, bone = np.nonzero(scaled)
    return {
        "weight_counts": np.bincount(vertex, minlength=len(weights)).astype(np.uint8),
        "weight_bones": bone.astype(np.uint8),
        "weight_values": scaled[vertex, bone],
    }


def unpack_weights(stored: Mapping[str, NDArray[Any]], bones: int) -> FloatArray:
    """(V, bones) float32 skinning weights with rows summing to one."""
    counts = stored["weight_counts"]
    weights = np.zeros((len(counts), bones))
    weights[np.repeat(np.arange(len(counts)), counts), stored["weight_bones"]] = stored["weight_values"]
    normalised: FloatArray = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
    return normalised


def read_rig(path: Path) -> AnnyRig:
    """Read an asset written by `build_anny`.

    Raises
    ------
    MeshError : the file is missing, damaged or lacks an array.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            stored = {name: archive[name] for name in archive.files}
        names = tuple(str(name) for name in stored["joint_names"])
        arrays = {
            "parents": stored["parents"].astype(np.int32),
            "joints": stored["joints"],
            "faces": stored["faces"].astype(np.int32),
            "star_vertices": stored["star_vertices"],
            "part_labels": stored["part_labels"],
            "weights": unpack_weights(stored, len(names)),
            "rest_vertices": stored["rest_vertices"],
            "bind": stored["bind"],
        }
        metadata = json.loads(str(stored["metadata"]))
    except FileNotFoundError:
        raise MeshError("body asset", f"{path} is missing", REBUILD) from None
    except (*UNREADABLE, KeyError, IndexError) as error:
        raise MeshError("body asset", f"{path} is damaged: {error}", REBUILD) from error
    for array in arrays.values():
        array.flags.writeable = False
    return AnnyRig(joint_names=names, metadata=metadata, **arrays)


@lru_cache(maxsize=1)
def _load_rig(path: Path) -> AnnyRig:
    return read_rig(path)
