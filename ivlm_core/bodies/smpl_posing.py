"""Posing SMPL, SMPL+H and SMPL-X from the user's own files; how these are read and why is said in `smpl_family`."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ivlm_core.bodies.smpl_family import _LAYOUTS, _misfit, _parents, _read_arrays, _tensor
from ivlm_core.errors import InputError
from ivlm_core.storage import UNREADABLE
from ivlm_core.types import FloatArray, Mesh

# More shape directions than any released file has.
MAX_SHAPES = 512
# In SMPL-X files with so many directions the first 300 change the shape and the others the face; else 10 and 10.
_WIDE, _WIDE_SHAPES, _NARROW_SHAPES = 400, 300, 10


@dataclass(frozen=True, eq=False)
class SmplSkin:
    """A body of the SMPL family that can be posed.

    Attributes
    ----------
    name : `smpl`, `smplh` or `smplx`. joint_names : the J joints in the model's own order. path : its file.
    arrays : the file's arrays by the names in it; `shape_directions` (V, 3, S) with S = 0 where the file has none.
    parents : (J,) int64, −1 for the root.
    """

    name: str
    path: Path
    joint_names: tuple[str, ...]
    arrays: dict[str, NDArray[Any]]
    shape_directions: NDArray[Any]
    parents: NDArray[np.int64]

    @cached_property
    def mesh(self) -> Mesh:
        """The template: zero pose, zero betas."""
        return Mesh(self.arrays["v_template"], self.arrays["f"].astype(np.int64), self.name)

    def pose(self, rotations: NDArray[Any], betas: NDArray[Any]) -> FloatArray:
        """Vertices of the body in a pose.

        Parameters
        ----------
        rotations : (J, 3) rotation vectors, radians, relative to the parent; the root turns about its own joint. Hands
            at zero are flat.
        betas : (n,) shape coefficients, n ≤ S.

        Returns
        -------
        (V, 3) float32, metres, in the frame that the root's rotation leads into.

        Raises
        ------
        InputError : more betas than the file has directions.
        """
        import torch
        from smplx.lbs import lbs

        betas = self._checked(betas)
        shapes = self.shape_directions[:, :, : len(betas)] if len(betas) else np.zeros((len(self.mesh.vertices), 3, 1))
        with torch.no_grad():
            vertices, _ = lbs(
                _tensor(betas[None] if len(betas) else np.zeros((1, 1))),
                _tensor(np.asarray(rotations).reshape(1, -1)),
                self._tensors["v_template"],
                _tensor(shapes),
                self._tensors["posedirs"],
                self._tensors["J_regressor"],
                torch.from_numpy(self.parents),
                self._tensors["weights"],
            )
        posed: FloatArray = vertices[0].numpy()
        return posed

    def rest_vertices(self, betas: NDArray[Any]) -> NDArray[np.float64]:
        """(V, 3) metres: the zero pose of a person with these betas; errors as in `pose`."""
        values = self._checked(betas)
        shaped: NDArray[np.float64] = self.arrays["v_template"] + self.shape_directions[:, :, : len(values)] @ values
        return shaped

    def rest_joints(self, betas: NDArray[Any]) -> NDArray[np.float64]:
        """(J, 3) metres: the joints of `rest_vertices`."""
        joints: NDArray[np.float64] = self.arrays["J_regressor"] @ self.rest_vertices(betas)
        return joints

    def _checked(self, betas: NDArray[Any]) -> NDArray[np.float64]:
        values = np.asarray(betas, dtype=np.float64).ravel()
        available = self.shape_directions.shape[2]
        if len(values) > available:
            raise InputError(
                "body.shape_parameters",
                f"has {len(values)} coefficients, {self.path} has {available} shape directions",
                "leave out the last ones" if available else "convert the model's file again, with its 'shapedirs'",
            )
        return values

    @cached_property
    def _tensors(self) -> dict[str, Any]:
        tensors = {key: _tensor(self.arrays[key]) for key in ("v_template", "J_regressor", "weights")}
        tensors["posedirs"] = _tensor(self.arrays["posedirs"].reshape(3 * len(self.arrays["v_template"]), -1).T)
        return tensors


def load_smpl_skin(name: str, path: Path) -> SmplSkin:
    """The skin of `name` from its `.npz` file, read once and again when the file changes.

    Raises
    ------
    MeshError : as `load_body` raises them.
    """
    path = Path(path).expanduser().resolve()
    try:
        status = path.stat()
        stamp = (status.st_size, status.st_mtime_ns)
    except OSError:
        stamp = (0, 0)
    return _load(name, path, stamp)


@lru_cache(maxsize=2)
def _load(name: str, path: Path, stamp: tuple[int, int]) -> SmplSkin:
    layout = _LAYOUTS[name]
    arrays = _read_arrays(name, path, layout)
    parents = _parents(path, arrays["kintree_table"])
    return SmplSkin(name, path, layout.joints, arrays, _shape_directions(name, path, layout.vertices), parents)


def _shape_directions(name: str, path: Path, vertices: int) -> NDArray[Any]:
    try:
        with zipfile.ZipFile(path) as members:
            sizes = {entry.filename: entry.file_size for entry in members.infolist()}
        if "shapedirs.npy" not in sizes:
            return np.zeros((vertices, 3, 0))
        if sizes["shapedirs.npy"] > 8 * 3 * vertices * MAX_SHAPES + 4096:
            raise _misfit(path, "shapedirs", "is larger than it can be", name)
        with np.load(path, allow_pickle=False) as archive:
            directions: NDArray[Any] = archive["shapedirs"]
    except UNREADABLE as error:
        raise _misfit(path, "shapedirs", f"cannot be read without pickle or is damaged: {error}", name) from error
    if directions.ndim != 3 or directions.shape[:2] != (vertices, 3) or directions.dtype.kind != "f":
        raise _misfit(path, "shapedirs", f"has dtype {directions.dtype} and shape {directions.shape}", name)
    if not np.isfinite(directions).all():
        raise _misfit(path, "shapedirs", "holds NaN or infinity", name)
    if name == "smplx":
        directions = directions[:, :, : _WIDE_SHAPES if directions.shape[2] >= _WIDE else _NARROW_SHAPES]
    return directions
