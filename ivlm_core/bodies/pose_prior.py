"""What is known about people before their keypoints are seen: poses, builds, and how deep joints lie under the skin.

The asset was learned from the training split of SynthHOI, that is from *generated* people using objects, seen by
generated cameras; `python -m ivlm_core.bodies.build_pose_prior` makes it again. A Gaussian is all it knows of poses.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ivlm_core.errors import MeshError
from ivlm_core.storage import UNREADABLE
from ivlm_core.types import FloatArray

ASSET = Path(__file__).parent / "data" / "pose_prior.npz"
REBUILD = "reinstall the package or rebuild it with: python -m ivlm_core.bodies.build_pose_prior"


@dataclass(frozen=True, eq=False)
class PosePrior:
    """A Gaussian over poses, one over builds, and where Anny's landmarks are.

    P = 3 · 19 numbers: rotation vectors, radians, of `skeleton.JOINTS` without the pelvis, relative to their parents.

    Attributes
    ----------
    pose_mean : (P,). pose_factor : (P, P); a pose is `pose_mean + pose_factor @ z`, with z normal and of unit variance.
    tilt_mean : (2,), tilt_of_pose : (2, P), tilt_factor : (2, 2): the x and z of the way up, as a unit vector in the
        pelvis's frame, are `tilt_mean + tilt_of_pose @ z + tilt_factor @ n` with n normal and of unit variance, unless
        somebody lies.
    build_mean : (5,) Anny's phenotype values. build_factor : (5, 5), in the same way.
    hangers : (1 + 5 + 25, 24 · 3) metres: `[1, d, d ⊗ d] @ hangers` are the vectors of `skeleton.HANGERS` for a
        phenotype that differs from `build_mean` by d.
    face_vertices : landmark of the face → Anny's vertices whose mean it is.
    depth_offset, depth_spread : (17,) metres: how far behind the seen surface a landmark lies along the optical axis,
        and the standard deviation of that.
    metadata : JSON facts of the build.
    """

    pose_mean: FloatArray
    pose_factor: FloatArray
    tilt_mean: FloatArray
    tilt_of_pose: FloatArray
    tilt_factor: FloatArray
    build_mean: FloatArray
    build_factor: FloatArray
    hangers: FloatArray
    face_vertices: Mapping[str, NDArray[np.int64]]
    depth_offset: FloatArray
    depth_spread: FloatArray
    metadata: Mapping[str, Any]

    @classmethod
    def load(cls) -> PosePrior:
        """The prior that ships with the package, read once per process.

        Raises
        ------
        MeshError : the asset is missing or damaged.
        """
        return _load(ASSET)


def read_prior(path: Path) -> PosePrior:
    """Read an asset written by `build_pose_prior`.

    Raises
    ------
    MeshError : the file is missing, damaged or lacks an array.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            stored = {name: archive[name] for name in archive.files}
        metadata = json.loads(str(stored["metadata"]))
        arrays = {name: stored[name].astype(np.float32) for name in _ARRAYS}
        faces = {
            name: stored[f"vertices {name}"].astype(np.int64)
            for name in ("nose", "left eye", "right eye", "left ear", "right ear")
        }
    except FileNotFoundError:
        raise MeshError("pose prior", f"{path} is missing", REBUILD) from None
    except (*UNREADABLE, KeyError, TypeError, IndexError) as error:
        raise MeshError("pose prior", f"{path} is damaged: {error}", REBUILD) from error
    for array in (*arrays.values(), *faces.values()):
        array.flags.writeable = False
    return PosePrior(**arrays, face_vertices=faces, metadata=metadata)


_ARRAYS = (
    "pose_mean",
    "pose_factor",
    "tilt_mean",
    "tilt_of_pose",
    "tilt_factor",
    "build_mean",
    "build_factor",
    "hangers",
    "depth_offset",
    "depth_spread",
)


@lru_cache(maxsize=1)
def _load(path: Path) -> PosePrior:
    return read_prior(path)


def build_features(difference: NDArray[Any]) -> NDArray[np.float64]:
    """(N, S) differences d from the mean build → (N, 1 + S + S²) `[1, d, d ⊗ d]`."""
    d = np.asarray(difference, dtype=np.float64)
    products = (d[:, :, None] * d[:, None, :]).reshape(len(d), -1)
    return np.concatenate([np.ones((len(d), 1)), d, products], axis=1)
