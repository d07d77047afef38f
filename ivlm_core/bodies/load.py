"""`load_body`: a body model by its name."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path

from ivlm_core.bodies.anny_rig import AnnyRig
from ivlm_core.bodies.model import BodyModel
from ivlm_core.bodies.smpl_family import SMPL_FAMILY, load_smpl_body
from ivlm_core.errors import ConfigError, shown

BODY_NAMES: tuple[str, ...] = ("anny", *SMPL_FAMILY)


def load_body(name: str = "anny", model_path: Path | None = None) -> BodyModel:
    """The body model called `name` in its canonical star pose, loaded once per process and file.

    Parameters
    ----------
    name : `anny` (shipped with the package), `smpl`, `smplh` or `smplx`.
    model_path : the licensed `.npz` file of the SMPL family; must be left out for `anny`.

    Raises
    ------
    ConfigError : an unknown name, or a path that is missing or not wanted.
    MeshError : a model file that cannot be read, or arrays in it that do not fit.
    """
    if name not in BODY_NAMES:
        raise ConfigError("body", f"{shown(name)} is unknown", f"allowed: {', '.join(BODY_NAMES)}")
    if name == "anny":
        if model_path is not None:
            raise ConfigError("body.model_path", "is given, but 'anny' ships with the package", "leave it out")
        return _anny()
    if model_path is None:
        raise ConfigError(
            "body.model_path",
            f"is missing: {name!r} is licensed and not shipped",
            "give the .npz file downloaded from its website, or use 'anny'",
        )
    # Unlike `Path.resolve`, this takes a link that leads to itself for a file that is not there.
    path = Path(os.path.realpath(Path(model_path).expanduser()))
    return _smpl(name, path, _stamp(path))


def _stamp(path: Path) -> tuple[int, int]:
    """Size and change time: a file that was replaced is read again."""
    try:
        status = path.stat()
    except OSError:
        return 0, 0
    return status.st_size, status.st_mtime_ns


@lru_cache(maxsize=1)
def _anny() -> BodyModel:
    rig = AnnyRig.load()
    return BodyModel.from_mesh("anny", rig.star_mesh, rig.part_labels)


@lru_cache(maxsize=4)
def _smpl(name: str, path: Path, stamp: tuple[int, int]) -> BodyModel:
    return load_smpl_body(name, path)
