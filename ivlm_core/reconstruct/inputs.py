"""What comes with a picture in files: the camera, people's keypoints or bodies, depth, the pixels of an object."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray
from PIL import Image

from ivlm_core.bodies import load_osx
from ivlm_core.errors import InputError, shown
from ivlm_core.images import load_image
from ivlm_core.storage import UNREADABLE, file_size
from ivlm_core.types import (
    COCO_KEYPOINTS,
    MAX_IMAGE_SIDE,
    BodyKeypoints,
    CameraIntrinsics,
    FloatArray,
    PosedBody,
)

MAX_TEXT_BYTES = 16 << 20
MAX_DEPTH_BYTES = 4 * MAX_IMAGE_SIDE**2 + 4096
# Metres that no depth camera sees in the middle: millimetres, taken for metres.
FARTHEST_MEDIAN = 200.0
DEPTH_FORMATS = ("PNG", "TIFF")


def camera_of_fov(degrees: float, width: int, height: int) -> CameraIntrinsics:
    """A camera that sees `degrees` across, with square pixels and its axis through the picture's middle.

    Raises
    ------
    InputError : an angle not between 1 and 170.
    """
    if not 1.0 <= degrees <= 170.0:
        raise InputError("fov", f"is {degrees}", "give the horizontal angle of view in degrees, 1 to 170")
    focal = width / (2.0 * math.tan(math.radians(degrees) / 2.0))
    return CameraIntrinsics(focal, focal, (width - 1) / 2.0, (height - 1) / 2.0, width, height)


def load_camera(path: Path, width: int, height: int) -> CameraIntrinsics:
    """Intrinsics for a picture of `width` × `height` pixels, from a file of camera_calibration or of `ros2 topic echo`.

    Parameters
    ----------
    path : YAML or JSON with `camera_matrix: {data: […]}` or `k: […]`, nine numbers by rows, and the size as
        `image_width`, `image_height` or `width`, `height`. Another size of the same shape is scaled.

    Raises
    ------
    InputError : no such file, other content, a size of another shape, or distortion, which has to be removed first.
    """
    given = _read_yaml(path)
    matrix = _numbers(path, _first(path, given, "k", "K", "camera_matrix"), 9)
    size = [_numbers(path, [_first(path, given, *names)], 1)[0] for names in _SIZE_NAMES]
    lens = given.get("d", given.get("D", given.get("distortion_coefficients", [])))
    lens = _numbers(path, lens, None)
    if any(abs(number) > 1e-6 for number in lens):
        raise InputError(f"camera {path}", "has distortion", "rectify the picture and give the rectified camera")
    if min(size) < 1 or abs(size[0] * height - size[1] * width) > 0.01 * size[1] * width:
        raise InputError(
            f"camera {path}", f"is for {size[0]:g}×{size[1]:g} px, the picture has {width}×{height}", "give its own"
        )
    # Pixels are counted at their centres, so the picture's corner lies at −0.5.
    across, down = width / size[0], height / size[1]
    camera = CameraIntrinsics(
        matrix[0] * across,
        matrix[4] * down,
        (matrix[2] + 0.5) * across - 0.5,
        (matrix[5] + 0.5) * down - 0.5,
        width,
        height,
    )
    if min(camera.fx, camera.fy) <= 0:
        raise InputError(f"camera {path}", f"has focal lengths {camera.fx:g}, {camera.fy:g}", "they must be above 0")
    return camera


def load_keypoints(path: Path) -> tuple[BodyKeypoints, ...]:
    """People's keypoints from JSON: COCO's results, or a plain list of numbers for one person.

    Parameters
    ----------
    path : `[{"keypoints": [x, y, score, …17 times], "person_id": "…"}, …]`, or such a list of 51 numbers, or a list of
        17 `[x, y, score]`. A score above 1 (COCO's visibility 2) counts as 1.

    Raises
    ------
    InputError : no such file, or other content.
    """
    given = _read_json(path)
    if isinstance(given, Mapping):
        given = given.get("annotations", [given])
    if isinstance(given, list) and given and not isinstance(given[0], Mapping):
        given = [{"keypoints": given}]
    if not isinstance(given, list) or not given:
        raise InputError(f"keypoints {path}", "hold nobody", 'give a list of {"keypoints": [x, y, score, …]}')
    people = []
    for number, person in enumerate(given):
        if not isinstance(person, Mapping) or "keypoints" not in person:
            raise InputError(f"keypoints {path}", f"entry {number} has no keypoints", "see `ivlm reconstruct --help`")
        rows = person["keypoints"] if isinstance(person["keypoints"], list) else []
        flat = [value for row in rows for value in (row if isinstance(row, list) else [row])]
        count = 3 * len(COCO_KEYPOINTS)
        if len(flat) != count:
            wanted = (
                f"give {count}: x, y in pixels and score of COCO's {len(COCO_KEYPOINTS)} keypoints, 0 0 0 for missing"
            )
            raise InputError(f"keypoints {path}", f"of person {number} are {len(flat)} numbers", wanted)
        values = np.array(_numbers(path, flat, count)).reshape(-1, 3)
        name = str(person.get("person_id", number if len(given) > 1 else ""))
        scores = np.clip(values[:, 2], 0.0, 1.0)
        people.append(BodyKeypoints(values[:, :2].astype(np.float32), scores.astype(np.float32), name))
    return tuple(people)


def load_bodies(path: Path, camera: CameraIntrinsics) -> tuple[PosedBody, ...]:
    """The people of an OSX-style `.npz` under the picture's camera (see `load_osx`), named 0, 1, … if several.

    Raises
    ------
    InputError : as `load_osx`.
    """
    bodies = [load_osx(path)]
    while True:
        try:
            bodies.append(load_osx(path, len(bodies)))
        except InputError as error:
            if error.field != "person":
                raise
            break
    names = [str(number) for number in range(len(bodies))] if len(bodies) > 1 else [""]
    return tuple(replace(body.under(camera), person_id=name) for body, name in zip(bodies, names, strict=True))


def load_depth(path: Path, width: int, height: int) -> FloatArray:
    """(H, W) float32 metres along the optical axis, NaN where unknown.

    Parameters
    ----------
    path : a 16-bit picture in millimetres with 0 where unknown, or an `.npy` of metres (float) or millimetres (uint16).

    Raises
    ------
    InputError : no such file, other content, or another size than the picture's.
    """
    wrong = InputError(f"depth {path}", "cannot be read", "give a 16-bit PNG in millimetres or an .npy in metres")
    try:
        if (size := file_size(path)) > MAX_DEPTH_BYTES:
            raise InputError(f"depth {path}", f"has {size} bytes", f"at most {MAX_DEPTH_BYTES} are read")
        if path.suffix == ".npy":
            values: NDArray[Any] = np.lib.format.open_memmap(path, mode="r")
        else:
            with Image.open(path, formats=DEPTH_FORMATS) as picture:
                if picture.mode not in ("I;16", "I;16B", "I", "F"):
                    raise InputError(f"depth {path}", "is no 16-bit picture", "give millimetres in 16 bits")
                values = np.asarray(picture)
    except (*UNREADABLE, SyntaxError, Image.DecompressionBombError) as error:
        raise wrong from error
    if values.shape != (height, width):
        raise InputError(f"depth {path}", f"has shape {values.shape}", f"it must match the picture, {(height, width)}")
    if values.dtype.kind not in "fiu":
        raise wrong
    metres = values.astype(np.float32) * np.float32(1.0 if values.dtype.kind == "f" else 0.001)
    known = metres[np.isfinite(metres) & (metres > 0)]
    if len(known) and float(np.median(known)) > FARTHEST_MEDIAN:
        raise InputError(f"depth {path}", f"has a median of {np.median(known):.0f} m", "give floats in metres")
    depth: FloatArray = np.where(np.isfinite(metres) & (metres > 0), metres, np.float32(np.nan)).astype(np.float32)
    return depth


def load_mask(path: Path, width: int, height: int) -> NDArray[np.bool_]:
    """(H, W) bool: pixels brighter than half.

    Raises
    ------
    InputError : no picture, or one of another size.
    """
    picture = load_image(path)
    if picture.shape[:2] != (height, width):
        raise InputError(f"mask {path}", f"is {picture.shape[1]}×{picture.shape[0]} px", f"give {width}×{height}")
    mask: NDArray[np.bool_] = picture.mean(axis=2) > 127.5
    return mask


_SIZE_NAMES = (("image_width", "width"), ("image_height", "height"))


def _text(path: Path) -> str:
    try:
        if (size := file_size(path)) > MAX_TEXT_BYTES:
            raise InputError(str(path), f"has {size} bytes", f"at most {MAX_TEXT_BYTES} are read")
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(str(path), f"cannot be read: {error}", "check the file") from error


def _read_json(path: Path) -> Any:
    try:
        return json.loads(_text(path))
    except (ValueError, RecursionError) as error:
        raise InputError(str(path), f"is not JSON: {error}", "check the file") from error


def _read_yaml(path: Path) -> Mapping[str, Any]:
    try:
        # `ros2 topic echo` ends each message with a line of dashes.
        given = next(iter(yaml.safe_load_all(_text(path))), None)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise InputError(f"camera {path}", f"is not YAML: {shown(str(error))}", "check the file") from error
    if not isinstance(given, Mapping):
        raise InputError(f"camera {path}", "has no fields", "give a file of camera_calibration or a CameraInfo")
    return given


def _first(path: Path, given: Mapping[str, Any], *names: str) -> Any:
    for name in names:
        if name in given:
            return given[name]
    raise InputError(f"camera {path}", f"has no {names[-1]}", "give a file of camera_calibration or a CameraInfo")


def _numbers(path: Path, given: Any, count: int | None) -> list[float]:
    """So many finite numbers, or as many as there are."""
    if isinstance(given, Mapping):
        given = given.get("data")
    if not isinstance(given, Sequence) or isinstance(given, str) or count not in (None, len(given)):
        raise InputError(str(path), f"has {shown(given)}", f"give {count or 'a list of'} numbers")
    try:
        numbers = [float(value) for value in given]
    except (TypeError, ValueError):
        raise InputError(str(path), f"has {shown(given)}", f"give {count or 'a list of'} numbers") from None
    if not all(math.isfinite(number) for number in numbers):
        raise InputError(str(path), "has numbers that are not finite", f"give {count or 'a list of'} numbers")
    return numbers
