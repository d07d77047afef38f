"""A person in front of the camera, from what a body estimator publishes: parameters of a body model, or vertices."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ivlm_core.bodies.anny_rig import AnnyRig
from ivlm_core.bodies.load import BODY_NAMES
from ivlm_core.bodies.phenotypes import GRID, Phenotype, varied_rig
from ivlm_core.bodies.smpl_family import _LAYOUTS
from ivlm_core.bodies.smpl_posing import load_smpl_skin
from ivlm_core.errors import InputError, shown
from ivlm_core.types import MAX_MESH_VERTICES, FloatArray, IntArray, Mesh, PosedBody

MAX_ID_CHARACTERS = 256
# A rotation vector longer than two full turns is taken for one in degrees.
MAX_ROTATION = 4 * np.pi


def posed_body(
    body_model: str,
    *,
    pose_parameters: Any = (),
    shape_parameters: Any = (),
    shape_parameter_names: Sequence[str] = (),
    translation: Any = (0.0, 0.0, 0.0),
    vertices: Any = (),
    faces: Any = None,
    topology_hash: str = "",
    person_id: str = "",
    score: float = 1.0,
    source: str = "estimator",
    body_path: Path | None = None,
) -> PosedBody:
    """The posed body that a `HumanBody` message describes, in the optical frame (+x right, +y down, +z forward).

    Vertices win: where they are given, pose, shape and translation are not looked at.

    Body models stand in their own frame: y up, facing +z, +x to the body's own left. The root's rotation leads from
    there into the optical frame, so that somebody upright who faces the camera has a half turn about x, (π, 0, 0).
    Anny's own z-up axes (+z up, facing −y) differ: with `A = ANNY_TO_CANONICAL` of `build_anny`, a rotation vector r
    in them is `A @ r` here, and a root rotation R that leads out of them is `R @ A.T`.

    Parameters
    ----------
    body_model : `anny`, `smpl`, `smplh` or `smplx`.
    pose_parameters : J rotation vectors, radians, flat or (J, 3), in the body model's own joint order, root first:
        `AnnyRig.joint_names` (104; about the zero pose's axes inside the parent's frame, as `AnnyRig.pose` has them),
        SMPL 24, SMPL+H 52, SMPL-X 55 (hands at zero are flat, not the mean hand).
    shape_parameters : betas for the SMPL family; for Anny values of `shape_parameter_names`.
    shape_parameter_names : for Anny any of gender, age, muscle, weight, height; the others stay neutral. Else empty.
    translation : (3,) metres, added after posing. The root of Anny stands there; SMPL's root joint stands there plus
        its own place in the model, as in `smplx`.
    vertices : V vertices, flat or (V, 3), metres, in the optical frame, translation included.
    faces : (F, 3) of `vertices`, where the body model's own are not known here: the SMPL family without its file.
    topology_hash : `Mesh.topology_hash` of the sender's body; empty when it does not say.
    person_id, score, source : as in `PosedBody`.
    body_path : the `.npz` file of the SMPL family.

    Raises
    ------
    InputError : a field that has the wrong length, holds NaN, names something unknown, or does not fit the others.
    MeshError : the model's file cannot be used.
    """
    if body_model not in BODY_NAMES:
        raise InputError("body.body_model", f"{shown(body_model)} is unknown", f"allowed: {', '.join(BODY_NAMES)}")
    if len(person_id) > MAX_ID_CHARACTERS:
        raise InputError("body.person_id", f"has {len(person_id)} characters", f"at most {MAX_ID_CHARACTERS}")
    if not 0.0 <= score <= 1.0:
        raise InputError("body.score", f"is {score!r}", "give a number in [0, 1]")
    given = _numbers(vertices, "body.vertices", 3 * MAX_MESH_VERTICES)
    pose = _numbers(pose_parameters, "body.pose_parameters", 3 * 1024)
    if len(given):
        points = _given_vertices(given)
        triangles = _faces(body_model, faces, body_path)
        _check_topology(body_model, points, triangles, topology_hash)
    elif len(pose):
        shape = _numbers(shape_parameters, "body.shape_parameters", 1024)
        place = _numbers(translation, "body.translation", 3)
        if len(place) != 3:
            raise InputError("body.translation", f"has {len(place)} numbers", "give x, y and z in metres")
        names = tuple(shape_parameter_names)
        if body_model == "anny":
            local, triangles = _posed_anny(pose, shape, names), AnnyRig.load().faces
        else:
            local, triangles = _posed_smpl(body_model, pose, shape, names, body_path)
        points = (local + place).astype(np.float32)
        _check_topology(body_model, points, triangles, topology_hash)
    else:
        raise InputError(
            "body.pose_parameters", "and body.vertices are both empty", "give the pose, or the posed vertices"
        )
    return PosedBody(points, triangles, body_model, person_id, float(score), source)


def _numbers(values: Any, field: str, most: int) -> NDArray[np.float64]:
    """Flat finite float64 numbers."""
    try:
        array = np.asarray(values)
    except ValueError:
        raise InputError(field, "is ragged", "give one flat list of numbers") from None
    if array.size == 0:
        return np.zeros(0)
    if array.dtype.kind not in "fiu":
        raise InputError(field, f"has dtype {array.dtype}", "give numbers")
    if array.size > most:
        raise InputError(field, f"has {array.size} numbers", f"at most {most} are allowed")
    flat = array.astype(np.float64).ravel()
    if not np.isfinite(flat).all():
        raise InputError(field, f"holds NaN or infinity (number {int(np.argmin(np.isfinite(flat)))})", "leave it out")
    return flat


def _given_vertices(numbers: NDArray[np.float64]) -> FloatArray:
    if len(numbers) % 3:
        raise InputError("body.vertices", f"has {len(numbers)} numbers", "give x, y, z of every vertex")
    if np.abs(numbers).max() > np.finfo(np.float32).max:
        raise InputError("body.vertices", "holds numbers beyond float32", "give metres")
    return numbers.reshape(-1, 3).astype(np.float32)


def _faces(body_model: str, faces: Any, body_path: Path | None) -> IntArray:
    """The faces of the body model: its own where they are known here, else the given ones, if they can be its own."""
    if body_model == "anny":
        own: IntArray | None = AnnyRig.load().faces
    else:
        own = load_smpl_skin(body_model, body_path).mesh.faces if body_path is not None else None
    if faces is None:
        if own is None:
            raise InputError(
                "body.vertices",
                f"belong to {body_model!r}, whose faces are not known here",
                "give the model's .npz file, or the faces",
            )
        return own
    given = np.asarray(faces)
    count = len(own) if own is not None else _LAYOUTS[body_model].faces
    if given.shape != (count, 3) or given.dtype.kind not in "iu":
        raise InputError(
            "body.faces", f"has dtype {given.dtype} and shape {given.shape}", f"{body_model!r} has ({count}, 3)"
        )
    if own is not None and not np.array_equal(given, own):
        raise InputError("body.faces", f"are not those of {body_model!r}", "leave them out")
    limit = np.iinfo(np.int32).max
    return np.clip(given.astype(np.int64), -1, limit).astype(np.int32)


def _check_topology(body_model: str, points: FloatArray, faces: IntArray, topology_hash: str) -> None:
    expected = len(AnnyRig.load().vertices) if body_model == "anny" else _LAYOUTS[body_model].vertices
    if len(points) != expected:
        raise InputError(
            "body.vertices", f"has {len(points)} vertices", f"{body_model!r} has {expected}; is it another body model?"
        )
    if topology_hash:
        own = _topology_hash(faces.tobytes(), expected)
        if topology_hash != own:
            raise InputError(
                "body.topology_hash",
                f"{shown(topology_hash)} is unknown",
                f"{body_model!r} has {own} here; is it another version of the model?",
            )


@lru_cache(maxsize=8)
def _topology_hash(faces: bytes, vertices: int) -> str:
    triangles = np.frombuffer(faces, dtype=np.int32).reshape(-1, 3)
    if triangles.min() < 0 or triangles.max() >= vertices:
        raise InputError("body.faces", f"hold indices outside 0…{vertices - 1}", "give the faces of `vertices`")
    return Mesh(np.zeros((vertices, 3), np.float32), triangles).topology_hash


def _rotations(pose: NDArray[np.float64], joints: int, body_model: str) -> NDArray[np.float64]:
    """(J, 3) rotation vectors."""
    if len(pose) != 3 * joints:
        raise InputError(
            "body.pose_parameters",
            f"has {len(pose)} numbers",
            f"{body_model!r} has {joints} joints: give {3 * joints}, zeros for joints that are not estimated",
        )
    rotations = pose.reshape(joints, 3)
    length = np.linalg.norm(rotations, axis=1)
    if length.max() > MAX_ROTATION:
        raise InputError(
            "body.pose_parameters",
            f"turns joint {int(length.argmax())} by {length.max():.0f} rad",
            "give rotation vectors in radians",
        )
    return rotations


def _posed_anny(pose: NDArray[np.float64], shape: NDArray[np.float64], names: tuple[str, ...]) -> FloatArray:
    """(V, 3) in the frame of the root's rotation, root at the origin."""
    from scipy.spatial.transform import Rotation

    rig = rig_of_person(_phenotype(shape, names))
    rotations = _rotations(pose, len(rig.joint_names), "anny")
    turned = np.flatnonzero(rotations.any(axis=1))
    matrices = Rotation.from_rotvec(rotations[turned]).as_matrix()
    return rig.pose({rig.joint_names[bone]: matrix for bone, matrix in zip(turned, matrices, strict=True)})


def _phenotype(values: NDArray[np.float64], names: tuple[str, ...]) -> Phenotype:
    if len(values) != len(names):
        raise InputError(
            "body.shape_parameters",
            f"has {len(values)} numbers for {len(names)} names",
            "give one value for each of body.shape_parameter_names",
        )
    for name in names:
        if name not in GRID:
            raise InputError(
                "body.shape_parameter_names", f"{shown(name)} is unknown", f"'anny' has here: {', '.join(GRID)}"
            )
    if len(set(names)) != len(names):
        raise InputError("body.shape_parameter_names", "names one twice", "give each name once")
    for name, value in zip(names, values.tolist(), strict=True):
        low, high = GRID[name][0], GRID[name][-1]
        if not low <= value <= high:
            below = " (the bodies here are adults: 0.5 is a teenager)" if name == "age" and 0 <= value < low else ""
            raise InputError("body.shape_parameters", f"{name} is {value:g}", f"give {low:g} to {high:g}{below}")
    return Phenotype(**dict(zip(names, values.tolist(), strict=True)))


@lru_cache(maxsize=8)
def rig_of_person(phenotype: Phenotype) -> AnnyRig:
    """`varied_rig`, made once for each of the last few people."""
    return varied_rig(phenotype)


def _posed_smpl(
    body_model: str,
    pose: NDArray[np.float64],
    betas: NDArray[np.float64],
    names: tuple[str, ...],
    body_path: Path | None,
) -> tuple[FloatArray, IntArray]:
    if names:
        raise InputError(
            "body.shape_parameter_names", f"is given, but {body_model!r} counts its betas", "leave it empty"
        )
    rotations = _rotations(pose, len(_LAYOUTS[body_model].joints), body_model)
    if body_path is None:
        raise InputError(
            "body.pose_parameters",
            f"need the model's file: {body_model!r} is licensed and not shipped",
            "give its .npz file, or publish posed vertices",
        )
    skin = load_smpl_skin(body_model, body_path)
    return skin.pose(rotations, betas), skin.mesh.faces
