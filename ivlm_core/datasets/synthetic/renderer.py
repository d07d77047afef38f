"""Pictures of a scene by ray casting: colour with soft shadows, depth, and which pixel shows what."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ivlm_core.datasets.synthetic.camera import SceneCamera
from ivlm_core.datasets.synthetic.scene import GROUND, NOTHING, Scene
from ivlm_core.types import ByteArray, FloatArray, IntArray

# Sub-pixel rays per side; they also sample the lamp's disc, which makes shadows soft at no extra cost.
OVERSAMPLING = 2
LAMP_RADIUS = 0.035
SHADOW_OFFSET = 2e-3
CREASE_DEGREES = 40.0


@dataclass(frozen=True)
class Surroundings:
    """Light, floor and background of a picture; colours are linear-ish RGB in 0…1.

    Attributes
    ----------
    lamp : (x, y, z) direction towards the lamp, any length, in the world.
    ambient : share of the light that comes from everywhere, 0…1.
    floor : the two colours of the checkered floor. tile : side of a tile in metres.
    wall : colour far away, into which the floor fades.
    noise : standard deviation of the sensor's noise in grey levels (0…255).
    """

    lamp: tuple[float, float, float] = (0.45, 1.0, 0.6)
    ambient: float = 0.62
    floor: tuple[tuple[float, float, float], tuple[float, float, float]] = ((0.62, 0.58, 0.53), (0.52, 0.48, 0.44))
    tile: float = 0.5
    wall: tuple[float, float, float] = (0.74, 0.77, 0.80)
    noise: float = 2.0


@dataclass(frozen=True, eq=False)
class Render:
    """One picture and what is known about it.

    Attributes
    ----------
    image : (H, W, 3) uint8 RGB.
    depth : (H, W) float32, metres along the optical axis, at pixel centres; 0 where nothing is seen.
    ids : (H, W) int16, `NOTHING`, `GROUND`, `PERSON`, or `Scene.object_id`; at pixel centres.
    """

    image: ByteArray
    depth: FloatArray
    ids: NDArray[np.int16]

    def box(self, identifier: int) -> tuple[float, float, float, float] | None:
        """x_min, y_min, x_max, y_max: the outer edges in pixels of what carries `identifier`; None if unseen."""
        rows, columns = np.nonzero(self.ids == identifier)
        if len(rows) == 0:
            return None
        # Integer coordinates are pixel centres, so a pixel reaches half a unit to each side.
        return columns.min() - 0.5, rows.min() - 0.5, columns.max() + 0.5, rows.max() + 0.5


class SceneRenderer:
    """Renders one scene from many cameras; the ray tree is built once.

    Parameters
    ----------
    scene : what to show.
    surroundings : light, floor and background.
    """

    def __init__(self, scene: Scene, surroundings: Surroundings | None = None) -> None:
        import open3d as o3d

        self.scene = scene
        self.surroundings = surroundings or Surroundings()
        vertices, faces, colors, self._face_ids = scene.merged()
        self._corner_normals = corner_normals(vertices, faces)  # (G, 3, 3)
        self._corner_colors = (colors[faces] / np.float32(255)).astype(np.float32)  # (G, 3, 3)
        self._tensor = o3d.core.Tensor.from_numpy
        self._tree = o3d.t.geometry.RaycastingScene()
        self._tree.add_triangles(self._tensor(vertices), self._tensor(faces.astype(np.uint32)))

    def render(self, camera: SceneCamera, rng: np.random.Generator) -> Render:
        """The picture that `camera` takes; `rng` makes the shadows' grain and the sensor's noise."""
        origin, directions = camera.rays(OVERSAMPLING)
        color = self._shade(origin, directions.reshape(-1, 3), rng)
        camera_size = (camera.intrinsics.height, OVERSAMPLING, camera.intrinsics.width, OVERSAMPLING, 3)
        picture = color.reshape(camera_size).mean(axis=(1, 3)) * 255
        picture += rng.normal(0.0, self.surroundings.noise, picture.shape)
        depth, ids = self.identify(camera)
        return Render(np.clip(np.rint(picture), 0, 255).astype(np.uint8), depth, ids)

    def identify(self, camera: SceneCamera) -> tuple[FloatArray, NDArray[np.int16]]:
        """Depth and id images (see `Render`) without a picture."""
        origin, directions = camera.rays()
        shape = directions.shape[:2]
        depth, face, _ = self._cast(origin, directions.reshape(-1, 3))
        ids = np.where(face >= 0, self._face_ids[np.maximum(face, 0)], NOTHING).astype(np.int16)
        floor = _floor_distance(origin, directions.reshape(-1, 3))
        ground = floor < depth
        ids[ground] = GROUND
        depth = np.minimum(depth, floor)
        depth[~np.isfinite(depth)] = 0
        return depth.reshape(shape).astype(np.float32), ids.reshape(shape)

    def _cast(self, origin: Any, directions: NDArray[np.float32]) -> tuple[FloatArray, IntArray, FloatArray]:
        """Ray parameter (R,), face index (R,) or −1, and barycentrics (R, 2) of the first hits."""
        rays = np.empty((len(directions), 6), dtype=np.float32)
        rays[:, :3] = origin
        rays[:, 3:] = directions
        hits = self._tree.cast_rays(self._tensor(rays))
        distance = hits["t_hit"].numpy()
        face = np.where(np.isfinite(distance), hits["primitive_ids"].numpy().astype(np.int64), -1).astype(np.int32)
        return distance, face, hits["primitive_uvs"].numpy()

    def _shade(self, origin: NDArray[np.float32], directions: NDArray[np.float32], rng: np.random.Generator) -> Any:
        look = self.surroundings
        distance, face, uv = self._cast(origin, directions)
        floor = _floor_distance(origin, directions)
        on_floor = floor < distance
        color = np.broadcast_to(np.array(look.wall, dtype=np.float32), directions.shape).copy()
        # The wall darkens a little upwards, so that a picture has no flat areas.
        unit_height = directions[:, 1] / np.linalg.norm(directions, axis=1)
        color *= (1.0 - 0.25 * np.clip(unit_height, 0, 1))[:, None]

        solid = (face >= 0) & ~on_floor
        weights = np.stack([1 - uv.sum(axis=1), uv[:, 0], uv[:, 1]], axis=1)[solid]
        normals = np.einsum("nc,ncd->nd", weights, self._corner_normals[face[solid]])
        normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9)
        facing_away = (normals * directions[solid]).sum(axis=1) > 0
        normals[facing_away] *= -1
        surface = np.einsum("nc,ncd->nd", weights, self._corner_colors[face[solid]])
        points = origin + distance[solid, None] * directions[solid]
        color[solid] = surface * self._light(points, normals, rng)[:, None]

        ground = origin + floor[on_floor, None] * directions[on_floor]
        tile = (np.floor(ground[:, 0] / look.tile) + np.floor(ground[:, 2] / look.tile)) % 2
        checker = np.array(look.floor, dtype=np.float32)[tile.astype(int)]
        up = np.broadcast_to(np.array([0, 1, 0], dtype=np.float32), ground.shape)
        lit = checker * self._light(ground, up, rng)[:, None]
        fade = np.clip((np.linalg.norm(ground[:, [0, 2]], axis=1) - 3.0) / 6.0, 0, 1)[:, None]
        color[on_floor] = lit * (1 - fade) + color[on_floor] * fade
        return color

    def _light(self, points: NDArray[Any], normals: NDArray[Any], rng: np.random.Generator) -> NDArray[np.float32]:
        """(P,) brightness: light from everywhere, more from above, and the lamp where nothing is in its way."""
        look = self.surroundings
        towards = np.asarray(look.lamp) / np.linalg.norm(look.lamp)
        towards = towards + rng.normal(0.0, LAMP_RADIUS, points.shape)
        towards = (towards / np.linalg.norm(towards, axis=1, keepdims=True)).astype(np.float32)
        cosine = np.clip((normals * towards).sum(axis=1), 0, 1)
        rays = np.concatenate([points + SHADOW_OFFSET * normals, towards], axis=1).astype(np.float32)
        hidden = self._tree.test_occlusions(self._tensor(rays)).numpy()
        sky = 0.75 + 0.25 * normals[:, 1]
        brightness: NDArray[np.float32] = look.ambient * sky + (1.35 - look.ambient) * cosine * ~hidden
        return brightness


def corner_normals(vertices: FloatArray, faces: IntArray, crease: float = CREASE_DEGREES) -> FloatArray:
    """(F, 3, 3) unit normals at the corners of every face: smooth, but not across edges sharper than `crease` degrees.

    Vertices at the same place count as one, so seams of a mesh do not show.
    """
    corners = vertices[faces].astype(np.float64)
    area = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])  # twice the area, along the normal
    flat = area / np.maximum(np.linalg.norm(area, axis=1, keepdims=True), 1e-12)
    _, place = np.unique(np.round(vertices, 5), axis=0, return_inverse=True)
    at = place.reshape(-1)[faces].ravel()  # (3F,) the place of every corner
    order = np.argsort(at, kind="stable")
    count = np.bincount(at)
    start = np.concatenate([[0], np.cumsum(count)[:-1]])
    # Every corner is paired with every corner at the same place.
    partners = count[at]
    corner = np.repeat(np.arange(len(at)), partners)
    step = np.arange(len(corner)) - np.repeat(np.cumsum(partners) - partners, partners)
    other_face = order[start[at[corner]] + step] // 3
    same_side = (flat[corner // 3] * flat[other_face]).sum(axis=1) > np.cos(np.radians(crease))
    total = np.zeros((len(at), 3))
    for axis in range(3):
        total[:, axis] = np.bincount(corner[same_side], weights=area[other_face[same_side], axis], minlength=len(at))
    # A face without area has no side of its own; it must not bring NaN into the picture.
    length = np.linalg.norm(total, axis=1, keepdims=True)
    normals = np.where(length > 1e-15, total / np.maximum(length, 1e-15), [0.0, 1.0, 0.0])
    return normals.reshape(-1, 3, 3).astype(np.float32)


def _floor_distance(origin: NDArray[Any], directions: NDArray[np.float32]) -> NDArray[np.float32]:
    """(R,) ray parameter where rays meet the floor y = 0, infinite where they do not."""
    down = directions[:, 1] < -1e-6
    distance = np.full(len(directions), np.inf, dtype=np.float32)
    distance[down] = -origin[1] / directions[down, 1]
    distance[distance <= 0] = np.inf
    return distance
