"""Pictures of a scene by ray casting: colour with soft shadows, depth, and which pixel shows what."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ivlm_core.bodies import AnnyRig
from ivlm_core.datasets.synthetic.camera import SceneCamera
from ivlm_core.datasets.synthetic.geometry import Solid, face_areas, lengths, within
from ivlm_core.datasets.synthetic.record import FIRST_OBJECT_SEGMENT, FIRST_PART
from ivlm_core.datasets.synthetic.scene import FIRST_OBJECT, GROUND, NOTHING, PERSON, Scene
from ivlm_core.datasets.synthetic.surroundings import Surroundings, furniture_mesh
from ivlm_core.types import ByteArray, CameraIntrinsics, FloatArray, IntArray

# Rays per side of a pixel where the picture is uneven; they also sample the lamp's disc, which makes shadows soft.
OVERSAMPLING = 2
LAMP_RADIUS = 0.035
# Difference in brightness (0…1) between neighbouring pixels from which both get several rays.
ROUGHNESS = 0.1
SHADOW_OFFSET = 2e-3
CREASE_DEGREES = 40.0
# Light from everywhere and from the lamp together, on a surface that faces the lamp.
FULL_LIGHT = 1.35
# An endless floor fades into the background between these distances from the world's origin, metres.
FADE = (3.0, 9.0)


@dataclass(frozen=True, eq=False)
class Render:
    """One picture and what is known about it.

    Attributes
    ----------
    image : (H, W, 3) uint8 RGB.
    depth : (H, W) float32, metres along the optical axis, at pixel centres; 0 where nothing is seen.
    ids : (H, W) int16, `NOTHING` (also walls and furniture in the background), `GROUND`, `PERSON`, or
        `Scene.object_id`; at pixel centres.
    parts : (H, W) uint8, index into `PART_NAMES` of the body part at the person's pixels; 0 elsewhere.
    """

    image: ByteArray
    depth: FloatArray
    ids: NDArray[np.int16]
    parts: ByteArray

    def box(self, identifier: int) -> tuple[float, float, float, float] | None:
        """x_min, y_min, x_max, y_max: the outer edges in pixels of what carries `identifier`; None if unseen."""
        rows, columns = np.nonzero(self.ids == identifier)
        if len(rows) == 0:
            return None
        # Integer coordinates are pixel centres, so a pixel reaches half a unit to each side.
        return columns.min() - 0.5, rows.min() - 0.5, columns.max() + 0.5, rows.max() + 0.5

    @property
    def segments(self) -> ByteArray:
        """(H, W) uint8: 0 nothing, 1 ground, 2…16 = 2 + body part, 17 + k = object k."""
        shown = np.where(self.ids >= FIRST_OBJECT, self.ids - FIRST_OBJECT + FIRST_OBJECT_SEGMENT, self.ids)
        return np.where(self.ids == PERSON, FIRST_PART + self.parts, shown).astype(np.uint8)


@dataclass(eq=False)
class _Layer:
    """A solid that can be seen.

    Attributes
    ----------
    solid : its mesh and ray tree. colors : (N, 3) float32 per vertex, 0…1.
    normals : per vertex (N, 3), or per corner of every face (F, 3, 3).
    """

    solid: Solid
    colors: FloatArray
    normals: FloatArray

    def window(self, camera: SceneCamera) -> tuple[slice, slice]:
        """Rows and columns of the picture that may show it."""
        height, width = camera.intrinsics.height, camera.intrinsics.width
        pixels, depth = camera.project(_corners(self.solid.low, self.solid.high))
        if depth.min() < 1e-3:
            return slice(0, height), slice(0, width)
        low = np.clip(np.floor(pixels.min(axis=0)) - 1, 0, (width, height)).astype(int)
        high = np.clip(np.ceil(pixels.max(axis=0)) + 2, 0, (width, height)).astype(int)
        return slice(low[1], high[1]), slice(low[0], high[0])

    def surface(self, faces: IntArray, uv: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Unit normals (P, 3) and colours (P, 3) at places given by face (P,) and barycentric (u, v) (P, 2)."""
        corners = self.solid.faces[faces]
        weights = np.stack([1 - uv[:, 0] - uv[:, 1], uv[:, 0], uv[:, 1]], axis=1)
        normals = self.normals[faces] if self.normals.ndim == 3 else self.normals[corners]
        mixed: FloatArray = np.einsum("pc,pcd->pd", weights, self.colors[corners])
        return _unit(np.einsum("pc,pcd->pd", weights, normals)), mixed

    def shadow(self, lamp: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Low and high corner (x, z) of the rectangle on the floor that its shadow is in; `lamp` (3,) is above."""
        low, high = self.solid.low, self.solid.high
        corners = _corners(low, high)
        slope = lamp[[0, 2]] / lamp[1]
        ends = [corners[:, [0, 2]] - corners[:, 1:2] * slope * factor for factor in (0.0, 0.85, 1.2)]
        reached = np.concatenate(ends)
        return reached.min(axis=0) - 0.05, reached.max(axis=0) + 0.05


@dataclass(eq=False)
class _Hits:
    """What rays meet first: ray parameter (R,), number of the layer (R,) or −1, its face (R,) and (u, v) (R, 2)."""

    distance: FloatArray
    layer: NDArray[np.int8]
    face: IntArray
    uv: FloatArray


class SceneRenderer:
    """Renders one scene from many cameras; ray trees are built once.

    Parameters
    ----------
    scene : what to show.
    surroundings : light, floor, background and camera faults.
    """

    def __init__(self, scene: Scene, surroundings: Surroundings | None = None) -> None:
        self.scene = scene
        self.surroundings = surroundings or Surroundings()
        geometry = scene.geometry
        body = _Layer(geometry.body, _fractions(scene.body_colors), geometry.body_normals)
        self._layers = [body]
        things = geometry.things
        if things is not None:
            colors = np.concatenate([placed.vertex_colors for placed in scene.objects])
            corners = [
                corner_normals(item.vertices, placed.mesh.faces)
                for item, placed in zip(geometry.objects, scene.objects, strict=True)
            ]
            self._layers.append(_Layer(things, _fractions(colors), np.concatenate(corners)))
        ids = [scene.object_id(number) for number in range(len(scene.objects))]
        counts = [len(placed.mesh.faces) for placed in scene.objects]
        self._thing_ids = np.repeat(np.array(ids, dtype=np.int16), counts)
        labels = AnnyRig.load().part_labels
        known = len(labels) == len(scene.body_vertices)
        self._part_labels = labels if known else np.zeros(len(scene.body_vertices), np.uint8)

    def render(self, camera: SceneCamera, rng: np.random.Generator) -> Render:
        """The picture that `camera` takes; `rng` makes the shadows' grain and the sensor's noise."""
        backdrop = _Backdrop(self.surroundings, camera, *self._bounds)
        height, width = camera.intrinsics.height, camera.intrinsics.width
        origin, grid = camera.rays()
        directions = grid.reshape(-1, 3)
        hits = self._cast(camera, origin, directions, np.arange(height * width))
        color, depth, ground = self._shade(origin, directions, hits, backdrop, rng)
        ids = self._ids(hits)
        ids[ground] = GROUND

        # One ray is enough where a pixel looks like its neighbours; all others get several.
        rough = np.flatnonzero(_uneven(color.reshape(height, width, 3), ids.reshape(height, width)))
        steps = (np.arange(OVERSAMPLING) + 0.5) / OVERSAMPLING - 0.5
        across, down = (axis.ravel()[:, None] for axis in np.meshgrid(steps, steps))
        offsets = across * camera.rotation[0] / camera.intrinsics.fx + down * camera.rotation[1] / camera.intrinsics.fy
        finer = (directions[rough, None] + offsets.astype(np.float32)).reshape(-1, 3)
        found = self._cast(camera, origin, finer, np.repeat(rough, len(offsets)))
        finer_color, _, _ = self._shade(origin, finer, found, backdrop, rng)
        color[rough] = finer_color.reshape(len(rough), len(offsets), 3).mean(axis=1)
        image = self._exposed(color.reshape(height, width, 3), rng)
        parts = self._parts(hits, ids)
        shape = height, width
        return Render(image, depth.reshape(shape), ids.reshape(shape), parts.reshape(shape))

    def count_pixels(self, camera: SceneCamera, step: int = 5) -> dict[int, int]:
        """About how many pixels show the person and each object (id → number), from every `step`-th row and column."""
        full = camera.intrinsics
        coarse = CameraIntrinsics(
            full.fx / step,
            full.fy / step,
            (full.cx + 0.5) / step - 0.5,
            (full.cy + 0.5) / step - 0.5,
            full.width // step,
            full.height // step,
        )
        small = SceneCamera(coarse, camera.rotation, camera.position)
        origin, directions = small.rays()
        hits = self._cast(small, origin, directions.reshape(-1, 3), np.arange(coarse.width * coarse.height))
        found, count = np.unique(self._ids(hits), return_counts=True)
        return {int(identifier): int(number) * step**2 for identifier, number in zip(found, count, strict=True)}

    def _cast(
        self, camera: SceneCamera, origin: NDArray[np.float32], directions: FloatArray, pixels: NDArray[Any]
    ) -> _Hits:
        """What rays (R, 3) through pixels (R,), counted along the rows, meet first; the floor hides what is below."""
        count = len(directions)
        hits = _Hits(
            _floor_distance(origin, directions),
            np.full(count, -1, dtype=np.int8),
            np.full(count, -1, dtype=np.int32),
            np.zeros((count, 2), dtype=np.float32),
        )
        for number, layer in enumerate(self._layers):
            window = np.zeros((camera.intrinsics.height, camera.intrinsics.width), dtype=np.bool_)
            window[layer.window(camera)] = True
            asked = np.flatnonzero(window.ravel()[pixels])
            if len(asked) == 0:
                continue
            distance, face, uv = layer.solid.cast(_rays(origin, directions[asked]))
            closer = distance < hits.distance[asked]
            asked = asked[closer]
            hits.distance[asked], hits.face[asked], hits.uv[asked] = distance[closer], face[closer], uv[closer]
            hits.layer[asked] = number
        return hits

    def _ids(self, hits: _Hits) -> NDArray[np.int16]:
        ids = np.full(hits.layer.shape, NOTHING, dtype=np.int16)
        ids[hits.layer == 0] = PERSON
        things = hits.layer == 1
        ids[things] = self._thing_ids[hits.face[things]]
        return ids

    def _parts(self, hits: _Hits, ids: NDArray[np.int16]) -> ByteArray:
        parts = np.zeros(len(ids), dtype=np.uint8)
        person = np.flatnonzero(ids == PERSON)
        uv = hits.uv[person]
        nearest = np.stack([1 - uv[:, 0] - uv[:, 1], uv[:, 0], uv[:, 1]], axis=1).argmax(axis=1)
        parts[person] = self._part_labels[self.scene.body_faces[hits.face[person], nearest]]
        return parts

    def _shade(
        self,
        origin: NDArray[np.float32],
        directions: FloatArray,
        hits: _Hits,
        backdrop: _Backdrop,
        rng: np.random.Generator,
    ) -> tuple[FloatArray, FloatArray, NDArray[np.bool_]]:
        """Colours (R, 3) along rays before the camera's faults, 0…1; depths (R,), 0 for none; where floor is (R,)."""
        look = self.surroundings
        color = np.empty(directions.shape, dtype=np.float32)
        depth = hits.distance.copy()
        for number, layer in enumerate(self._layers):
            rows = np.flatnonzero(hits.layer == number)
            normals, surface = layer.surface(hits.face[rows], hits.uv[rows])
            seen = directions[rows]
            normals[np.einsum("pi,pi->p", normals, seen) > 0] *= -1
            points = origin + hits.distance[rows, None] * seen
            color[rows] = surface * self._light(points, normals, rng)

        rest = np.flatnonzero(hits.layer < 0)
        floor = hits.distance[rest]
        behind, face = backdrop.meet(origin, directions[rest])
        on_floor = np.isfinite(floor) & (floor <= behind)
        depth[rest] = np.minimum(floor, behind)
        depth[~np.isfinite(depth)] = 0
        rows = rest[on_floor]
        ground = origin + hits.distance[rows, None] * directions[rows]
        up = np.broadcast_to(np.array([0, 1, 0], dtype=np.float32), ground.shape)
        shaded = self._in_shadow(ground) | backdrop.near_furniture(ground)
        color[rows] = look.floor_colors(ground) * self._light(ground, up, rng, shaded, backdrop)
        fade = np.zeros(len(rest), dtype=np.float32)
        if backdrop.endless:
            fade[on_floor] = np.clip((np.hypot(ground[:, 0], ground[:, 2]) - FADE[0]) / (FADE[1] - FADE[0]), 0, 1)
        fade[~on_floor] = 1
        hazy, distant = np.flatnonzero((fade > 0) & (fade < 1)), np.flatnonzero(fade == 1)
        color[rest[distant]] = backdrop.colors(origin, directions[rest[distant]], behind[distant], face[distant])
        if len(hazy):
            share, rows_behind = fade[hazy, None], rest[hazy]
            beyond = backdrop.colors(origin, directions[rows_behind], behind[hazy], face[hazy])
            color[rows_behind] = (1 - share) * color[rows_behind] + share * beyond
        is_floor = np.zeros(len(directions), dtype=np.bool_)
        is_floor[rows] = True
        return color, depth, is_floor

    def _exposed(self, color: FloatArray, rng: np.random.Generator) -> ByteArray:
        """(H, W, 3) uint8: what the camera makes of the colours (H, W, 3)."""
        import cv2

        look = self.surroundings
        height, width = color.shape[:2]
        picture = color * np.float32(look.exposure)
        if look.contrast != 1:
            picture = np.maximum(picture, 0) ** np.float32(look.contrast)
        if look.vignette:
            x, y = np.linspace(-1, 1, width, dtype=np.float32), np.linspace(-1, 1, height, dtype=np.float32)
            picture *= (1 - np.float32(look.vignette) * (x[None] ** 2 + y[:, None] ** 2) / 2)[..., None]
        if look.blur > 0.05:
            picture = np.asarray(cv2.GaussianBlur(picture, (0, 0), look.blur), np.float32)
        picture *= 255
        picture += np.float32(look.noise) * rng.standard_normal(picture.shape, dtype=np.float32)
        image = np.clip(np.rint(picture), 0, 255).astype(np.uint8)
        if look.quality:
            encoded = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, look.quality])[1]
            image = np.ascontiguousarray(np.asarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR))[..., ::-1])
        return image

    @cached_property
    def _bounds(self) -> tuple[NDArray[Any], NDArray[Any]]:
        """Lowest and highest corner of person and objects, metres."""
        low = np.min([layer.solid.low for layer in self._layers], axis=0)
        return low, np.max([layer.solid.high for layer in self._layers], axis=0)

    @cached_property
    def _lamp(self) -> FloatArray:
        lamp: FloatArray = (np.asarray(self.surroundings.lamp) / np.linalg.norm(self.surroundings.lamp)).astype(
            np.float32
        )
        return lamp

    def _in_shadow(self, ground: FloatArray) -> NDArray[np.bool_]:
        """(P,) which floor points may be in a shadow of the scene."""
        near = np.zeros(len(ground), dtype=np.bool_)
        flat = ground[:, [0, 2]]
        for layer in self._layers:
            low, high = layer.shadow(self._lamp)
            near |= within(flat, low, high)
        return near

    def _light(
        self,
        points: FloatArray,
        normals: FloatArray,
        rng: np.random.Generator,
        tested: NDArray[np.bool_] | None = None,
        backdrop: _Backdrop | None = None,
    ) -> FloatArray:
        """(P, 3) brightness: light from everywhere, more from above, and the lamp where nothing is in its way.

        Only points `tested` (P,) can be in a shadow.
        """
        look = self.surroundings
        cosine = np.maximum(normals @ self._lamp, 0)
        asked = np.flatnonzero(cosine > 0) if tested is None else np.flatnonzero(tested & (cosine > 0))
        towards = self._lamp + np.float32(LAMP_RADIUS) * rng.standard_normal((len(asked), 3), dtype=np.float32)
        rays = np.concatenate([points[asked] + np.float32(SHADOW_OFFSET) * normals[asked], towards], axis=1)
        hidden = np.zeros(len(asked), dtype=np.bool_)
        for layer in self._layers:
            hidden |= layer.solid.occludes(rays)
        if backdrop is not None and backdrop.solid is not None:
            hidden |= backdrop.solid.occludes(rays)
        cosine[asked[hidden]] = 0
        sky = np.float32(look.ambient) * (0.75 + 0.25 * normals[:, 1:2]) * np.array(look.ambient_color, np.float32)
        direct = np.float32(FULL_LIGHT - look.ambient) * cosine[:, None] * np.array(look.lamp_color, np.float32)
        brightness: FloatArray = sky + direct
        return brightness


class _Backdrop:
    """What is behind the scene as one camera sees it: a wall or an endless background, and furniture.

    Parameters
    ----------
    low, high : (3,) metres, the corners of the box that the scene is in; all of the backdrop is behind it.
    """

    def __init__(self, look: Surroundings, camera: SceneCamera, low: NDArray[Any], high: NDArray[Any]) -> None:
        self._look = look
        corners = _corners(low, high)
        ahead = camera.rotation[2] * [1.0, 0.0, 1.0]
        ahead = ahead / np.linalg.norm(ahead)
        right = np.array([-ahead[2], 0.0, ahead[0]])
        turned = np.radians(look.wall_turn)
        self._normal = np.cos(turned) * ahead + np.sin(turned) * right
        self._along = np.array([-self._normal[2], 0.0, self._normal[0]])
        self._offset = float((corners @ self._normal).max()) + look.wall_distance
        self.endless = not np.isfinite(look.wall_distance)
        self.solid: Solid | None = None
        if look.furniture:
            middle = (low + high) / 2
            middle = middle + ahead * float(((corners - middle) @ ahead).max())
            vertices, faces, self._face_colors = furniture_mesh(look.furniture, middle, ahead, right)
            self.solid = Solid(vertices, faces)
            sides = vertices[faces]
            self._face_normals = _unit(np.cross(sides[:, 1] - sides[:, 0], sides[:, 2] - sides[:, 0]))

    def meet(self, origin: NDArray[np.float32], directions: FloatArray) -> tuple[FloatArray, IntArray]:
        """Ray parameter (R,) where rays meet wall or furniture, infinite for none; the furniture's face (R,) or −1."""
        distance = np.full(len(directions), np.inf, dtype=np.float32)
        face = np.full(len(directions), -1, dtype=np.int32)
        if not self.endless:
            speed = directions @ self._normal.astype(np.float32)
            with np.errstate(divide="ignore"):
                met = np.float32(self._offset - self._normal @ origin) / speed
            distance = np.where((speed > 1e-6) & (met > 0), met, np.inf).astype(np.float32)
        if self.solid is not None:
            found, at, _ = self.solid.cast(_rays(origin, directions))
            nearer = found < distance
            distance[nearer] = found[nearer]
            face[nearer] = at[nearer]
        return distance, face

    def colors(
        self, origin: NDArray[np.float32], directions: FloatArray, distance: FloatArray, face: IntArray
    ) -> FloatArray:
        """Colours (R, 3) of wall or furniture where rays meet them (see `meet`)."""
        look = self._look
        if self.endless:
            height = directions[:, 1] / lengths(directions)
            # Where the background is endless its grain is an angle.
            colors = look.wall_colors(np.arctan2(directions[:, 0], directions[:, 2]) * 3, height * 3, height)
        else:
            points = origin + np.where(np.isfinite(distance), distance, 0)[:, None] * directions
            colors = look.wall_colors(points @ self._along.astype(np.float32), points[:, 1], points[:, 1] / 2.5)
            colors[points[:, 1] < look.skirting] *= 0.6
            towards_lamp = max(0.25, float(-self._normal @ look.lamp / np.linalg.norm(look.lamp)))
            colors *= np.float32(look.ambient * 0.75 + (FULL_LIGHT - look.ambient) * towards_lamp)
        rows = np.flatnonzero(face >= 0)
        if len(rows):
            normals = self._face_normals[face[rows]]
            towards = (np.asarray(look.lamp) / np.linalg.norm(look.lamp)).astype(np.float32)
            light = look.ambient * (0.75 + 0.25 * normals[:, 1])
            light += (FULL_LIGHT - look.ambient) * np.maximum(normals @ towards, 0)
            colors[rows] = self._face_colors[face[rows]] * light[:, None]
        return colors

    def near_furniture(self, ground: FloatArray) -> NDArray[np.bool_]:
        """(P,) which floor points furniture may throw its shadow on."""
        if self.solid is None:
            return np.zeros(len(ground), dtype=np.bool_)
        low, high = self.solid.low[[0, 2]] - 1.5, self.solid.high[[0, 2]] + 1.5
        return within(ground[:, [0, 2]], low, high)


def corner_normals(vertices: FloatArray, faces: IntArray, crease: float = CREASE_DEGREES) -> FloatArray:
    """(F, 3, 3) unit normals at the corners of every face: smooth, but not across edges sharper than `crease` degrees.

    Vertices at the same place count as one, so seams of a mesh do not show.
    """
    area = face_areas(vertices.astype(np.float64), faces)
    flat = area / np.maximum(lengths(area), 1e-12)[:, None]
    # Places as one whole number each: steps of 10 µm, 21 bits a coordinate.
    steps = np.rint(vertices.astype(np.float64) * 1e5).astype(np.int64)
    _, place = np.unique(steps @ np.array([1, 2**21, 2**42]), return_inverse=True)
    at = place.reshape(-1)[faces].ravel()  # (3F,) the place of every corner
    smooth = _summed(area, at)
    # Where all faces are within half the crease of their mean, none is further than the crease from another.
    away = np.einsum("fcd,fd->fc", smooth[at].reshape(-1, 3, 3), flat).ravel() < np.cos(np.radians(crease / 2))
    sharp = np.bincount(at, weights=away)[at] > 0
    normals = smooth[at]
    normals[sharp] = _creased(np.flatnonzero(sharp), at, area, flat, crease)
    return normals.reshape(-1, 3, 3).astype(np.float32)


def _summed(area: NDArray[Any], at: NDArray[Any]) -> NDArray[np.float64]:
    """(P, 3) unit sums of the faces' normals (F, 3) at every place, of which corners (3F,) say where they are."""
    sums = [np.bincount(at, weights=np.repeat(area[:, axis], 3)) for axis in range(3)]
    return _upright(np.stack(sums, axis=1).astype(np.float64))


def _creased(
    corners: NDArray[np.intp], at: NDArray[Any], area: NDArray[Any], flat: NDArray[Any], crease: float
) -> NDArray[np.float64]:
    """(C, 3) unit normals of corners (C,): sums over the faces at the same place on the same side of a crease."""
    _, place, count = np.unique(at[corners], return_inverse=True, return_counts=True)
    order = np.argsort(place, kind="stable")
    start = np.cumsum(count) - count
    # Every corner against every corner at the same place.
    partners = count[place]
    own = np.repeat(np.arange(len(corners)), partners)
    step = np.arange(len(own)) - np.repeat(np.cumsum(partners) - partners, partners)
    other = order[start[place[own]] + step]
    area, flat = area[corners // 3], flat[corners // 3]
    same_side = np.einsum("pi,pi->p", flat[own], flat[other]) > np.cos(np.radians(crease))
    own, other = own[same_side], other[same_side]
    total = np.zeros((len(corners), 3))
    for axis in range(3):
        total[:, axis] = np.bincount(own, weights=area[other, axis], minlength=len(corners))
    return _upright(total)


def _upright(total: NDArray[np.float64]) -> NDArray[np.float64]:
    """(P, 3) at length one; upwards where faces have no area and so no side: no NaN may reach a picture."""
    length = lengths(total)[:, None]
    unit: NDArray[np.float64] = np.where(length > 1e-15, total / np.maximum(length, 1e-15), [0.0, 1.0, 0.0])
    return unit


def _uneven(color: FloatArray, ids: NDArray[np.int16]) -> NDArray[np.bool_]:
    """(H, W) which pixels differ from a neighbour in what they show, or visibly in colour (H, W, 3)."""
    grey = color @ np.array([0.3, 0.5, 0.2], dtype=np.float32)
    rough = np.zeros(ids.shape, dtype=np.bool_)
    for first, second in ((np.s_[1:], np.s_[:-1]), (np.s_[:, 1:], np.s_[:, :-1])):
        edge = (ids[first] != ids[second]) | (np.abs(grey[first] - grey[second]) > ROUGHNESS)
        rough[first] |= edge
        rough[second] |= edge
    return rough


def _corners(low: NDArray[Any], high: NDArray[Any]) -> NDArray[np.float64]:
    """(8, 3) corners of a box."""
    return np.array([(x, y, z) for x in (low[0], high[0]) for y in (low[1], high[1]) for z in (low[2], high[2])], float)


def _rays(origin: NDArray[np.float32], directions: FloatArray) -> FloatArray:
    """(R, 6) rays from one point."""
    rays = np.empty((len(directions), 6), dtype=np.float32)
    rays[:, :3], rays[:, 3:] = origin, directions
    return rays


def _floor_distance(origin: NDArray[Any], directions: NDArray[np.float32]) -> NDArray[np.float32]:
    """(R,) ray parameter where rays meet the floor y = 0, infinite where they do not."""
    down = directions[:, 1] < -1e-6
    distance = np.full(len(directions), np.inf, dtype=np.float32)
    distance[down] = -origin[1] / directions[down, 1]
    distance[distance <= 0] = np.inf
    return distance


def _unit(vectors: NDArray[Any]) -> FloatArray:
    """(P, 3) float32 at length one; vectors without length stay as they are."""
    length = np.sqrt(np.einsum("pi,pi->p", vectors, vectors))
    scaled: FloatArray = (vectors / np.maximum(length, 1e-12)[:, None]).astype(np.float32)
    return scaled


def _fractions(colors: ByteArray) -> FloatArray:
    fractions: FloatArray = (colors / np.float32(255)).astype(np.float32)
    return fractions
