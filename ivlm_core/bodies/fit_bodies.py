"""The bodies that keypoints can be fitted with, behind one interface: Anny, and the SMPL family where its file is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ivlm_core.bodies.anny_rig import AnnyRig
from ivlm_core.bodies.phenotypes import GRID, Phenotype
from ivlm_core.bodies.pose_prior import PosePrior
from ivlm_core.bodies.posed import rig_of_person
from ivlm_core.bodies.skeleton import FACE, HANGERS, SMPL_JOINTS, to_anny
from ivlm_core.bodies.smpl_posing import SmplSkin, load_smpl_skin
from ivlm_core.errors import InputError, shown
from ivlm_core.types import FloatArray, IntArray

# Shape coefficients of the SMPL family that keypoints could tell anything about.
SMPL_SHAPES = 10


@dataclass(frozen=True, eq=False)
class FitBody(ABC):
    """What a fit needs to know about a body model; S numbers describe a person's build.

    Attributes
    ----------
    name : of the body model.
    hangers : (1 + S + S², 24 · 3) float32, metres: `[1, d, d ⊗ d] @ hangers` are the T-pose vectors of
        `skeleton.HANGERS` of a person whose build differs by d from `build_mean`.
    build_mean, lowest, highest : (S,) float32, mean and limits of the build. build_factor : (S, S); a person's build is
        `build_mean + build_factor @ b` with b normal and of unit variance.
    """

    name: str
    hangers: FloatArray
    build_mean: FloatArray
    build_factor: FloatArray
    lowest: FloatArray
    highest: FloatArray

    @property
    @abstractmethod
    def faces(self) -> IntArray:
        """(F, 3)."""

    @abstractmethod
    def vertices(self, local: NDArray[np.float64], build: NDArray[np.float64]) -> FloatArray:
        """(V, 3) metres, the pelvis at the origin; `local` (J, 3, 3) rotations of `skeleton.JOINTS`."""


@dataclass(frozen=True, eq=False)
class AnnyFitBody(FitBody):
    """Anny; the build is its phenotype (gender, age, muscle, weight, height)."""

    @property
    def faces(self) -> IntArray:
        return AnnyRig.load().faces

    def vertices(self, local: NDArray[np.float64], build: NDArray[np.float64]) -> FloatArray:
        rig = rig_of_person(self.phenotype(build))
        return rig.pose(to_anny(rig, local))

    def phenotype(self, build: NDArray[Any]) -> Phenotype:
        """The build in Anny's words, to three digits, so that bodies of one person are made once."""
        limited = np.clip(np.asarray(build, dtype=np.float64), self.lowest, self.highest).round(3)
        return Phenotype(*limited.tolist())


@dataclass(frozen=True, eq=False)
class SmplFitBody(FitBody):
    """SMPL, SMPL+H or SMPL-X; the build is its first betas. Fingers, toes and jaw stay at zero."""

    skin: SmplSkin

    @property
    def faces(self) -> IntArray:
        return self.skin.mesh.faces

    def vertices(self, local: NDArray[np.float64], build: NDArray[np.float64]) -> FloatArray:
        from scipy.spatial.transform import Rotation

        rotations = np.zeros((len(self.skin.joint_names), 3))
        rotations[list(SMPL_JOINTS)] = Rotation.from_matrix(local).as_rotvec()
        pelvis = self.skin.rest_joints(build)[0]
        posed: FloatArray = (self.skin.pose(rotations, build) - pelvis).astype(np.float32)
        return posed


def fit_body(name: str = "anny", body_path: Path | None = None) -> FitBody:
    """The body to fit, made once per process and file.

    Parameters
    ----------
    name : `anny`, `smpl`, `smplh` or `smplx`. body_path : the `.npz` file of the SMPL family.

    Raises
    ------
    InputError : another name, or no file. MeshError : a file that cannot be used.
    """
    if name == "anny":
        return _anny()
    if name not in ("smpl", "smplh", "smplx"):
        raise InputError("body_model", f"{shown(name)} is unknown", "allowed: anny, smpl, smplh, smplx")
    if body_path is None:
        raise InputError("body.model_path", f"is missing: {name!r} is licensed", "give its .npz file, or use 'anny'")
    return _smpl(load_smpl_skin(name, body_path))


@lru_cache(maxsize=1)
def _anny() -> AnnyFitBody:
    prior = PosePrior.load()
    lowest, highest = (np.array([knots[end] for knots in GRID.values()], np.float32) for end in (0, -1))
    return AnnyFitBody("anny", prior.hangers, prior.build_mean, prior.build_factor, lowest, highest)


@lru_cache(maxsize=2)
def _smpl(skin: SmplSkin) -> SmplFitBody:
    shapes = min(SMPL_SHAPES, skin.shape_directions.shape[2])
    zero = np.zeros(shapes)
    base = _hangers(skin, zero)
    hangers = np.zeros((1 + shapes + shapes**2, 3 * len(HANGERS)), np.float32)
    hangers[0] = base
    for shape, unit in enumerate(np.eye(shapes)):
        hangers[1 + shape] = _hangers(skin, unit) - base
    limit = np.full(shapes, 5.0, np.float32)
    return SmplFitBody(
        skin.name, hangers, zero.astype(np.float32), np.eye(shapes, dtype=np.float32), -limit, limit, skin
    )


def _hangers(skin: SmplSkin, betas: NDArray[np.float64]) -> NDArray[np.float64]:
    """(24 · 3,) the T-pose vectors of a person with these betas; linear in them."""
    from smplx.vertex_ids import vertex_ids

    numbers = vertex_ids["smplx" if skin.name == "smplx" else "smplh"]
    names = {"nose": "nose", "left eye": "leye", "right eye": "reye", "left ear": "lear", "right ear": "rear"}
    joints = skin.rest_joints(betas)[list(SMPL_JOINTS)]
    face = skin.rest_vertices(betas)[[numbers[names[landmark]] for landmark in FACE]]
    ends = np.concatenate([joints[1:], face])
    return np.asarray(ends - joints[list(HANGERS)]).ravel()
