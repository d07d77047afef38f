"""The pinhole camera of a generated scene: world (metres, y up) → optical frame (x right, y down, z forward)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ivlm_core.bodies import AnnyRig
from ivlm_core.datasets.synthetic.geometry import bounds
from ivlm_core.datasets.synthetic.pose import cross, unit
from ivlm_core.errors import InputError
from ivlm_core.types import CameraIntrinsics

if TYPE_CHECKING:
    from ivlm_core.datasets.synthetic.scene import Scene

DEFAULT_INTRINSICS = CameraIntrinsics(fx=600.0, fy=600.0, cx=319.5, cy=239.5, width=640, height=480)

# Where pictures are taken from: degrees about the person's front, and above the horizon (standing and sitting, lying).
MAX_AZIMUTH = 80.0
ELEVATIONS = (-5.0, 35.0)
LYING_ELEVATIONS = (12.0, 50.0)
# How much of the picture's height or width the person and what they touch fill, and the horizontal angle of view.
FILLS = (0.70, 0.95)
VIEW_DEGREES = (28.0, 68.0)
# Metres around the person within which a touched thing is kept in the picture; a whole bed would make people tiny.
REACHES = (0.05, 0.6)
LOWEST_CAMERA = 0.12
# The trunk is upright enough to have a front where the front's horizontal part is this long.
UPRIGHT = 0.6


@dataclass(frozen=True, eq=False)
class SceneCamera:
    """Where a camera stands and how it looks.

    Attributes
    ----------
    intrinsics : focal lengths and principal point in pixels, integer coordinates at pixel centres.
    rotation : (3, 3) float64; its rows are the optical frame's x, y and z axes in the world.
    position : (3,) float64, metres, the optical centre in the world.
    """

    intrinsics: CameraIntrinsics
    rotation: NDArray[np.float64]
    position: NDArray[np.float64]

    @classmethod
    def look_at(cls, position: Any, target: Any, intrinsics: CameraIntrinsics = DEFAULT_INTRINSICS) -> SceneCamera:
        """A level camera (its x axis is horizontal) at `position` (3,) that sees `target` (3,) in its middle, metres.

        Raises
        ------
        InputError : the two points are equal, or one is straight above the other.
        """
        position = np.asarray(position, dtype=np.float64)
        forward = np.asarray(target, dtype=np.float64) - position
        right = cross(forward, (0.0, 1.0, 0.0))
        if right @ right < 1e-12:
            raise InputError("camera.target", f"is straight above or below {position.tolist()}", "move one of them")
        forward, right = unit(forward), unit(right)
        return cls(intrinsics, np.array([right, cross(forward, right), forward]), position)

    @classmethod
    def orbit(
        cls,
        target: Any,
        distance: float,
        azimuth: float,
        elevation: float,
        intrinsics: CameraIntrinsics = DEFAULT_INTRINSICS,
    ) -> SceneCamera:
        """A camera `distance` metres from `target`; azimuth 0° is on the +z side, 90° on the +x side; degrees."""
        turn, rise = np.radians([azimuth, elevation])
        offset = np.array([np.cos(rise) * np.sin(turn), np.sin(rise), np.cos(rise) * np.cos(turn)])
        target = np.asarray(target, dtype=np.float64)
        return cls.look_at(target + distance * offset, target, intrinsics)

    def to_optical(self, points: NDArray[Any]) -> NDArray[np.float64]:
        """World points (N, 3) in the optical frame, metres."""
        seen: NDArray[np.float64] = (np.asarray(points, dtype=np.float64) - self.position) @ self.rotation.T
        return seen

    def project(self, points: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Pixels (N, 2) x right, y down, and depths (N,) in metres of world points (N, 3); behind the camera: NaN."""
        optical = self.to_optical(points)
        depth = optical[:, 2]
        with np.errstate(divide="ignore", invalid="ignore"):
            plane = np.where(depth[:, None] > 0, optical[:, :2] / depth[:, None], np.nan)
        camera = self.intrinsics
        return plane * [camera.fx, camera.fy] + [camera.cx, camera.cy], depth

    def rays(self, oversampling: int = 1) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """One ray per pixel centre, or `oversampling`² evenly spread ones per pixel.

        Returns
        -------
        The origin (3,) and the directions (H·s, W·s, 3), float32, in the world. Directions have unit length along the
        optical axis, so that the ray parameter of a hit is its depth in metres.
        """
        camera = self.intrinsics
        steps = (np.arange(oversampling) + 0.5) / oversampling - 0.5
        x = (np.arange(camera.width)[:, None] + steps).ravel()
        y = (np.arange(camera.height)[:, None] + steps).ravel()
        turned = self.rotation.astype(np.float32)
        across = ((x - camera.cx) / camera.fx).astype(np.float32)[:, None] * turned[0] + turned[2]  # (W·s, 3)
        down = ((y - camera.cy) / camera.fy).astype(np.float32)[:, None] * turned[1]  # (H·s, 3)
        return self.position.astype(np.float32), down[:, None] + across


@dataclass(frozen=True, eq=False)
class Viewpoint:
    """A camera chosen for a scene.

    Attributes
    ----------
    camera : the camera. azimuth : degrees about the vertical from the person's front; positive on the person's left.
    """

    camera: SceneCamera
    azimuth: float


def front(scene: Scene, rng: np.random.Generator) -> tuple[NDArray[np.float64], bool]:
    """The horizontal direction (3,) that a person is seen from at azimuth 0, and whether they lie.

    Upright people are seen from where their trunk faces; lying ones from the side: the one they face, or the open
    side of what they lie on, or else either.
    """
    if scene.joints is None:
        return np.array([0.0, 0.0, 1.0]), False
    names = AnnyRig.load().joint_names
    left, right, root, neck = (
        scene.joints[names.index(name)].astype(np.float64)
        for name in ("upperarm01.L", "upperarm01.R", "root", "neck01")
    )
    spine = neck - root
    facing = unit(cross(left - right, spine))
    lying = abs(spine[1]) < UPRIGHT * float(np.linalg.norm(spine)) and abs(facing[1]) > 0.3
    lying = lying or abs(spine[1]) < 0.4 * float(np.linalg.norm(spine))
    chosen = facing * [1.0, 0.0, 1.0]
    if lying:
        across = np.array([spine[2], 0.0, -spine[0]])
        across /= np.linalg.norm(across)
        hints = [placed.rotation @ [0.0, 0.0, 1.0] for placed in scene.objects if "torso" in placed.parts]
        hints = [chosen, *hints] if np.linalg.norm(chosen) > 0.7 else [*hints, chosen]
        sides = [float(np.sign(hint @ across)) for hint in hints if abs(hint @ across) > 0.5]
        either = 1.0 if rng.random() < 0.5 else -1.0
        chosen = across * (sides[0] if sides else either)
    length = np.linalg.norm(chosen)
    return (chosen / length if length > 1e-6 else np.array([0.0, 0.0, 1.0])), bool(lying)


def framed(scene: Scene, rng: np.random.Generator, width: int = 256, height: int = 192) -> Viewpoint:
    """A camera on the person's front half that shows the person and what they touch.

    Azimuth within ±80° of `front`, elevation −5…35° (higher for lying people), level, angle of view 28…68°; the
    person, and touched things as far as they are within a random reach, fill 70…95 % of the picture's width or
    height, somewhere inside the picture.
    """
    forward, lying = front(scene, rng)
    azimuth = rng.uniform(-MAX_AZIMUTH, MAX_AZIMUTH)
    elevation = rng.uniform(*(LYING_ELEVATIONS if lying else ELEVATIONS))
    fill, reach = rng.uniform(*FILLS), rng.uniform(*REACHES)
    focal = width / 2 / np.tan(np.radians(rng.uniform(*VIEW_DEGREES)) / 2)
    place = rng.uniform(-1, 1, 2)
    intrinsics = CameraIntrinsics(focal, focal, (width - 1) / 2, (height - 1) / 2, width, height)

    points = _in_picture(scene, reach)
    person = scene.body_vertices[::29].astype(np.float64)
    middle, target = (sum(bounds(some)) / 2 for some in (person, points))
    heading, rise = np.arctan2(forward[0], forward[2]) + np.radians(azimuth), np.radians(elevation)
    towards = np.array([np.cos(rise) * np.sin(heading), np.sin(rise), np.cos(rise) * np.cos(heading)])
    distance = 3.0
    size = np.array([width, height])
    for _ in range(7):
        position = middle + distance * towards
        position[1] = max(position[1], LOWEST_CAMERA)
        camera = SceneCamera.look_at(position, target, intrinsics)
        pixels, depth = camera.project(points)
        if depth.min() < 0.2:
            distance += 0.5
            continue
        low, high = bounds(pixels)
        # Where the middle of what is shown goes: anywhere that leaves all of it inside the picture.
        room = size * (1 - np.minimum((high - low) / size, 1.0)) / 2
        off = (low + high) / 2 - (size - 1) / 2 - place * room
        nearer = float(np.clip(distance * ((high - low) / size).max() / fill, 0.5, 30.0)) - distance
        # On the optical axis to be, as far away as what is shown will be once the camera has moved.
        axis = camera.rotation[2] + off / focal @ camera.rotation[:2]
        target = position + nearer * towards + (float(np.median(depth)) + nearer) * axis
        distance += nearer
    return Viewpoint(camera, azimuth)


def _in_picture(scene: Scene, reach: float) -> NDArray[np.float64]:
    """(P, 3) points of the person, and of touched objects up to `reach` metres outside the person's bounding box."""
    body = scene.body_vertices[::29].astype(np.float64)
    low, high = bounds(body)
    touched = [np.clip(placed.vertices[::5], low - reach, high + reach) for placed in scene.objects if placed.parts]
    return np.concatenate([body, *touched])
