"""Bodies from OSX-style files: vertices in front of a virtual camera, and the box that this camera looked through.

OSX looks at a crop of the picture with a camera of its own, whose focal length is 5000 px on a crop of 192 × 256. The
body therefore stands some ten times too far away and is seen without perspective. In the picture that camera is
`fx = 5000 / 192 · w`, `fy = 5000 / 256 · h` with its principal point in the middle of the box. The box counts pixels
from the picture's corner; here pixels have integer coordinates at their centres, which is half a pixel less.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ivlm_core.bodies.posed import posed_body
from ivlm_core.bodies.smpl_family import _LAYOUTS
from ivlm_core.errors import InputError
from ivlm_core.storage import UNREADABLE
from ivlm_core.types import CameraIntrinsics, PosedBody

VIRTUAL_FOCAL = 5000.0
CROP_WIDTH, CROP_HEIGHT = 192, 256
MAX_PEOPLE = 256
# Nearer than this no vertex may come to the real camera, metres.
NEAREST = 0.05

_MODELS = {_LAYOUTS[name].vertices: name for name in ("smpl", "smplx")}


@dataclass(frozen=True, eq=False)
class OsxBody:
    """One person of an OSX-style file.

    Attributes
    ----------
    body : vertices in the optical frame of the virtual camera, metres. Only together with `camera` do they mean a place
        in the picture; under the camera that took the picture they are `under(intrinsics)`.
    box : x, y, width, height in pixels, from the picture's corner.
    """

    body: PosedBody
    box: tuple[float, float, float, float]

    def camera(self, width: int, height: int) -> CameraIntrinsics:
        """The virtual camera, for a picture of `width` × `height` pixels."""
        x, y, across, down = self.box
        return CameraIntrinsics(
            fx=VIRTUAL_FOCAL / CROP_WIDTH * across,
            fy=VIRTUAL_FOCAL / CROP_HEIGHT * down,
            cx=x + across / 2 - 0.5,
            cy=y + down / 2 - 0.5,
            width=width,
            height=height,
        )

    def under(self, intrinsics: CameraIntrinsics) -> PosedBody:
        """The body in front of the real camera: every vertex on the pixel that OSX put it on, at the right distance.

        The virtual camera's axis becomes the ray through the middle of the box. Along it the body keeps its relief in
        metres; its distance is the one at which the body's width and height, seen at the same pixels, are most nearly
        what they were (least squares). Parts that are nearer than the middle come out a little smaller than OSX made
        them, and further ones larger, because OSX knows no perspective: about relief / distance.

        Raises
        ------
        InputError : intrinsics that are no camera, or under which the body would reach behind it.
        """
        focal = (intrinsics.fx, intrinsics.fy)
        if not np.isfinite([*focal, intrinsics.cx, intrinsics.cy]).all() or min(focal) <= 0:
            raise InputError(
                "intrinsics", f"are {focal}, {intrinsics.cx}, {intrinsics.cy}", "give focal lengths above 0"
            )
        points = self.body.vertices.astype(np.float64)
        virtual = self.camera(intrinsics.width, intrinsics.height)
        pixels = points[:, :2] / points[:, 2:] * [virtual.fx, virtual.fy] + [virtual.cx, virtual.cy]
        real_centre, real_focal = np.array([intrinsics.cx, intrinsics.cy]), np.array(focal)
        rays = np.column_stack([(pixels - real_centre) / real_focal, np.ones(len(pixels))])
        axis = np.append((np.array([virtual.cx, virtual.cy]) - real_centre) / real_focal, 1.0)
        axis /= np.linalg.norm(axis)
        right = np.array([axis[2], 0.0, -axis[0]]) / np.hypot(axis[0], axis[2])
        down = np.cross(axis, right)
        along = rays @ axis
        if along.min() <= 0:
            raise InputError("intrinsics", "see the body from all sides at once", "are they those of this picture?")
        rays /= along[:, None]
        across = rays @ np.column_stack([right, down])
        relief = points[:, 2] - points[:, 2].mean()
        # Width and height are `across · (distance + relief)`, and were x and y.
        missing = points[:, :2] - across * relief[:, None]
        distance = float((across * missing).sum() / (across**2).sum())
        placed = rays * (distance + relief)[:, None]
        if not placed[:, 2].min() > NEAREST:
            raise InputError(
                "intrinsics",
                f"put the body {distance:.2f} m away, where it would reach behind the camera",
                "are they those of this picture?",
            )
        return replace(self.body, vertices=placed.astype(np.float32))


def load_osx(path: Path, person: int = 0, person_id: str = "") -> OsxBody:
    """A person from an OSX-style `.npz`: `smpl_vertices` (P, V, 3), `smpl_faces` (F, 3) and `bbox_2` (P, 4).

    Vertices are SMPL-X's (10,475) or SMPL's (6,890), metres, in the optical frame of the virtual camera. The file is
    not trusted: it is read without pickle, and nothing larger than such a file can be is unpacked.

    Parameters
    ----------
    person : which of the P people. person_id : handed on to the body.

    Raises
    ------
    InputError : no such file, damage, an array that is missing or does not fit, a body behind the camera.
    """
    path = Path(path)
    largest = max(_LAYOUTS[name].vertices for name in _MODELS.values())
    limits = {"smpl_vertices": MAX_PEOPLE * largest * 3, "smpl_faces": 100_000, "bbox_2": MAX_PEOPLE * 4}
    arrays = _read(path, limits)
    vertices = arrays["smpl_vertices"]
    vertices = vertices[None] if vertices.ndim == 2 else vertices
    boxes = np.atleast_2d(arrays["bbox_2"])
    if vertices.ndim != 3 or vertices.shape[1] not in _MODELS or vertices.shape[2] != 3:
        told = " or ".join(f"(P, {count}, 3) of {name!r}" for count, name in _MODELS.items())
        raise _wrong(path, "smpl_vertices", f"has shape {arrays['smpl_vertices'].shape}", f"give {told}")
    if boxes.shape != (len(vertices), 4):
        raise _wrong(path, "bbox_2", f"has shape {arrays['bbox_2'].shape}", f"give ({len(vertices)}, 4) x, y, w, h")
    if not 0 <= person < len(vertices):
        raise InputError("person", f"is {person}, {path} has {len(vertices)} people", "count from 0")
    x, y, across, down = (float(number) for number in boxes[person])
    if not np.isfinite([x, y, across, down]).all() or min(across, down) <= 0 or max(across, down) > 1e5:
        raise _wrong(path, "bbox_2", f"is {(x, y, across, down)}", "give x, y, width > 0, height > 0 in pixels")
    body = posed_body(
        _MODELS[vertices.shape[1]],
        vertices=vertices[person],
        faces=arrays["smpl_faces"],
        person_id=person_id,
        source="file",
    )
    if not body.in_front:
        raise _wrong(path, "smpl_vertices", "lie behind the camera", "give them in OSX's camera frame, z forward")
    return OsxBody(body, (x, y, across, down))


def _read(path: Path, limits: dict[str, int]) -> dict[str, NDArray[Any]]:
    if not path.is_file():
        raise InputError("body.path", f"{path} is not a file", "give the .npz file of the posed body")
    if not zipfile.is_zipfile(path):
        raise InputError("body.path", f"{path} is not a complete .npz file", "write it with numpy.savez")
    arrays = {}
    try:
        with zipfile.ZipFile(path) as members:
            sizes = {entry.filename: entry.file_size for entry in members.infolist()}
        with np.load(path, allow_pickle=False) as archive:
            for key, most in limits.items():
                if key not in archive.files:
                    raise _wrong(path, key, "is missing", f"the file has: {', '.join(archive.files[:8])}")
                if sizes.get(f"{key}.npy", 0) > 8 * most + 4096:
                    raise _wrong(path, key, "is larger than it can be", "is this the file of a posed body?")
                array = archive[key]
                if array.dtype.kind not in ("iu" if key == "smpl_faces" else "fiu"):
                    raise _wrong(path, key, f"has dtype {array.dtype}", "give numbers")
                arrays[key] = array
    except UNREADABLE as error:
        raise InputError(
            "body.path", f"{path} is damaged or holds pickled objects: {error}", "write it again"
        ) from error
    return arrays


def _wrong(path: Path, key: str, problem: str, remedy: str) -> InputError:
    return InputError(f"body.path[{key!r}]", f"{problem} in {path}", remedy)
