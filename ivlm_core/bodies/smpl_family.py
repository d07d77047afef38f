"""SMPL, SMPL+H and SMPL-X from the user's own licensed files, posed by `smplx`.

The classes of `smplx` read their files with pickle switched on, and `smplx.SMPLX` takes nothing but a path. So the
few arrays that a body needs are read and checked here, without pickle, and posed by the skinning function that those
classes share, `smplx.lbs.lbs`.

Files that are pickles (`.pkl`, all of SMPL 1.x) must be turned into `.npz` once, on a machine and from a source that
you trust, since opening a pickle runs whatever code is in it:

    model = pickle.load(open("SMPL_NEUTRAL.pkl", "rb"), encoding="latin1")
    keys = ("v_template", "f", "weights", "J_regressor", "posedirs", "kintree_table")
    dense = lambda a: a.toarray() if hasattr(a, "toarray") else a
    np.savez("SMPL_NEUTRAL.npz", **{key: np.array(dense(model[key])) for key in keys})
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ivlm_core.bodies.model import BodyModel
from ivlm_core.bodies.parts import dominant_parts, smpl_part
from ivlm_core.errors import MeshError
from ivlm_core.storage import UNREADABLE
from ivlm_core.types import Mesh

HIP_SPREAD_DEGREES = 30.0

_BODY_JOINTS = (
    "pelvis left_hip right_hip spine1 left_knee right_knee spine2 left_ankle right_ankle spine3 left_foot right_foot "
    "neck left_collar right_collar head left_shoulder right_shoulder left_elbow right_elbow left_wrist right_wrist"
)
_FINGER_JOINTS = tuple(
    f"{side}_{finger}{joint}"
    for side in ("left", "right")
    for finger in ("index", "middle", "pinky", "ring", "thumb")
    for joint in (1, 2, 3)
)
_LEFT_HIP, _RIGHT_HIP = 1, 2


@dataclass(frozen=True)
class _Layout:
    """The sizes that make a file this model: joints in order, vertices and faces."""

    joints: tuple[str, ...]
    vertices: int
    faces: int

    def shapes(self) -> dict[str, tuple[int, ...]]:
        joints = len(self.joints)
        return {
            "v_template": (self.vertices, 3),
            "f": (self.faces, 3),
            "weights": (self.vertices, joints),
            "J_regressor": (joints, self.vertices),
            "posedirs": (self.vertices, 3, 9 * (joints - 1)),
            "kintree_table": (2, joints),
        }


_BODY = tuple(_BODY_JOINTS.split())
_LAYOUTS = {
    "smpl": _Layout((*_BODY, "left_hand", "right_hand"), 6890, 13776),
    "smplh": _Layout((*_BODY, *_FINGER_JOINTS), 6890, 13776),
    "smplx": _Layout((*_BODY, "jaw", "left_eye", "right_eye", *_FINGER_JOINTS), 10475, 20908),
}
SMPL_FAMILY: tuple[str, ...] = tuple(_LAYOUTS)


def load_smpl_body(name: str, path: Path) -> BodyModel:
    """A body of the SMPL family in the paper's star pose: T-pose, zero betas, hips turned ±30° about z, flat hands.

    Parameters
    ----------
    name : `smpl`, `smplh` or `smplx`.
    path : its `.npz` file; only the arrays that are needed are read, and never with pickle.

    Raises
    ------
    MeshError : no such file, a pickle, a damaged file, or an array in it that is missing or does not fit.
    """
    import torch
    from smplx.lbs import lbs

    layout = _LAYOUTS[name]
    arrays = _read_arrays(name, path, layout)
    parents = _parents(path, arrays["kintree_table"])
    pose = torch.zeros(1, len(layout.joints), 3)
    pose[0, _LEFT_HIP, 2] = np.radians(HIP_SPREAD_DEGREES)
    pose[0, _RIGHT_HIP, 2] = -np.radians(HIP_SPREAD_DEGREES)
    posedirs = arrays["posedirs"].reshape(3 * layout.vertices, -1).T
    with torch.no_grad():
        vertices, _ = lbs(
            torch.zeros(1, 1),
            pose.reshape(1, -1),
            _tensor(arrays["v_template"]),
            torch.zeros(layout.vertices, 3, 1),
            _tensor(posedirs),
            _tensor(arrays["J_regressor"]),
            torch.from_numpy(parents),
            _tensor(arrays["weights"]),
        )
    mesh = Mesh(vertices[0].numpy(), arrays["f"].astype(np.int64), name)
    labels = dominant_parts(arrays["weights"], [smpl_part(joint) for joint in layout.joints])
    return BodyModel.from_mesh(name, mesh, labels)


def _read_arrays(name: str, path: Path, layout: _Layout) -> dict[str, NDArray[Any]]:
    if not path.is_file():
        raise MeshError("body.model_path", f"{path} is not a file", f"give the .npz file of {name!r}")
    if path.suffix.lower() != ".npz" or not zipfile.is_zipfile(path):
        is_pickle = path.suffix.lower() in (".pkl", ".pickle")
        raise MeshError(
            "body.model_path",
            f"{path} is a pickle, which is never loaded because it can run code"
            if is_pickle
            else f"{path} is not a complete .npz file",
            "convert it to .npz once where you trust it (see ivlm_core/bodies/smpl_family.py)"
            if is_pickle
            else f"download the .npz file of {name!r} again",
        )
    arrays = {}
    try:
        with zipfile.ZipFile(path) as members:
            sizes = {entry.filename: entry.file_size for entry in members.infolist()}
        with np.load(path, allow_pickle=False) as archive:
            for key, shape in layout.shapes().items():
                # Small archives can unpack to anything: nothing larger than this model can be is decompressed.
                if sizes.get(f"{key}.npy", 0) > 8 * int(np.prod(shape)) + 4096:
                    raise _misfit(path, key, "is larger than it can be", name)
                arrays[key] = _checked(archive, path, key, shape, name)
    except UNREADABLE as error:
        raise MeshError("body.model_path", f"{path} is damaged: {error}", "download it again") from error
    if arrays["f"].min() < 0 or arrays["f"].max() >= layout.vertices:
        raise _misfit(path, "f", f"holds indices outside 0…{layout.vertices - 1}", name)
    if arrays["weights"].min() < -1e-3 or np.abs(arrays["weights"].sum(axis=1) - 1).max() > 1e-2:
        raise _misfit(path, "weights", "holds rows that do not sum to one", name)
    return arrays


def _checked(archive: Any, path: Path, key: str, shape: tuple[int, ...], name: str) -> NDArray[Any]:
    """One array of the file. `archive` is numpy's lazy reader, so no other member of the file is opened."""
    if key not in archive.files:
        raise _misfit(path, key, "is missing", name)
    try:
        array: NDArray[Any] = archive[key]
    except UNREADABLE as error:
        raise _misfit(path, key, f"cannot be read without pickle or is damaged: {error}", name) from error
    if array.shape != shape:
        raise _misfit(path, key, f"has shape {array.shape}, expected {shape}", name)
    if array.dtype.kind not in ("iu" if key in ("f", "kintree_table") else "fiu"):
        raise _misfit(path, key, f"has dtype {array.dtype}", name)
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise _misfit(path, key, "holds NaN or infinity", name)
    return array


def _misfit(path: Path, key: str, problem: str, name: str) -> MeshError:
    return MeshError(f"body.model_path[{key!r}]", f"{problem} in {path}", f"is this the .npz file of {name!r}?")


def _parents(path: Path, kintree: NDArray[Any]) -> NDArray[np.int64]:
    """(B,) int64, −1 for the root. The files write the root's parent as −1 or, unsigned, as 2³² − 1."""
    parents: NDArray[np.int64] = kintree[0].astype(np.int64)
    parents[0] = -1
    below = parents[1:]
    if (below < 0).any() or (below >= np.arange(1, len(parents))).any():
        raise MeshError("body.model_path['kintree_table']", f"names a parent after its child in {path}", "repair it")
    return parents


def _tensor(array: NDArray[Any]) -> Any:
    import torch

    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))
