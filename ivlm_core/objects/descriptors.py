"""The silhouette-and-shape descriptor: what an outline says about a shape, the same for a mesh's views and for a mask.

An outline is centred on its centroid and sized by its radius of gyration, and described by what turning and mirroring
it in the picture do not change:

* magnitudes of the Fourier coefficients along rings about the centroid (which radii and symmetries it has);
* the chance that two points at a given distance are both inside: the distribution of distances between its points;
* elongation, solidity, compactness and higher moments.

A linear map, learnt once from pairs of a partly hidden outline in a generated picture and the whole outline of the
same object, keeps what tells shapes apart and drops what hands and picture edges change
(`python -m ivlm_core.evaluate.fit_descriptor`). A mesh is described from 24 directions spread over half the sphere; the
other half gives their mirror images.
"""

from __future__ import annotations

import importlib
import importlib.util
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ivlm_core.errors import ConfigError, InputError, MeshError, shown
from ivlm_core.objects.embedding import Box, mask_box, unit_rows
from ivlm_core.storage import UNREADABLE
from ivlm_core.types import ByteArray, FloatArray, Mesh

NAME = "silhouette-1"
ASSET = Path(__file__).parent / "data" / "silhouette.npz"

VIEWS, CAST, SIDE = 24, 128, 64
RINGS, ANGLES, FREQUENCIES, DISTANCES = 16, 64, 13, 24
# In radii of gyration: a disc ends at 1.41, a rod at 1.73; a rod with a knob on one end at about 2.2.
REACH = 2.3
MARGIN = 1.04
FEATURES = RINGS * FREQUENCIES + DISTANCES + 10

_RADII = (np.arange(RINGS) + 0.5) / RINGS * REACH
_TURNS = 2 * np.pi * np.arange(ANGLES) / ANGLES
_POLAR = np.stack([_RADII[:, None] * np.cos(_TURNS), _RADII[:, None] * np.sin(_TURNS)]).astype(np.float32)
_GAPS = np.geomspace(0.1, 3.2, DISTANCES)


def view_directions(count: int = VIEWS) -> NDArray[np.float64]:
    """(count, 3) unit vectors from the object to the viewer, evenly spread over the upper half of the sphere."""
    number = np.arange(count) + 0.5
    height = number / count
    turn = np.pi * (1 + np.sqrt(5)) * number
    across = np.sqrt(1 - height**2)
    return np.stack([across * np.cos(turn), height, across * np.sin(turn)], axis=1)


def silhouettes(mesh: Mesh, directions: NDArray[np.float64]) -> FloatArray:
    """(V, 64, 64) float32 in [0, 1]: the share of each pixel that the mesh covers, seen from far away.

    Parameters
    ----------
    directions : (V, 3) unit vectors from the object to the viewer, in the mesh's frame.

    Raises
    ------
    MeshError : all vertices lie in one point.  ConfigError : Open3D is not installed.
    """
    if importlib.util.find_spec("open3d") is None:
        raise ConfigError("objects", "open3d is not installed, which draws silhouettes", "pip install open3d")
    o3c: Any = importlib.import_module("open3d.core")
    from open3d.t.geometry import RaycastingScene

    vertices = mesh.vertices.astype(np.float64)
    vertices -= (vertices.min(axis=0) + vertices.max(axis=0)) / 2
    radius = float(np.linalg.norm(vertices, axis=1).max())
    if radius == 0.0:
        raise MeshError(f"mesh {shown(mesh.name)}", "has all its vertices in one point", "repair the mesh")
    vertices /= radius
    scene = RaycastingScene()
    scene.add_triangles(o3c.Tensor(vertices.astype(np.float32)), o3c.Tensor(np.array(mesh.faces).astype(np.uint32)))
    steps = (np.arange(CAST) + 0.5) / CAST * 2 - 1
    rays = np.empty((len(directions), CAST, CAST, 6), dtype=np.float32)
    for view, direction in zip(rays, directions, strict=True):
        up = [0.0, 1.0, 0.0] if abs(direction[1]) < 0.95 else [0.0, 0.0, 1.0]
        right = np.cross(up, direction)
        right /= np.linalg.norm(right)
        axes = np.stack([right, np.cross(direction, right)])
        flat = vertices @ axes.T
        low, high = flat.min(axis=0), flat.max(axis=0)
        half = float((high - low).max()) / 2 * MARGIN + 1e-9
        places = (low + high) / 2 @ axes + 3 * direction
        view[..., :3] = places + half * (steps[None, :, None] * axes[0] - steps[:, None, None] * axes[1])
        view[..., 3:] = -direction
    hit = np.isfinite(scene.cast_rays(o3c.Tensor(rays))["t_hit"].numpy()).astype(np.float32)
    folded: FloatArray = hit.reshape(len(hit), SIDE, CAST // SIDE, SIDE, CAST // SIDE).mean(axis=(2, 4))
    return folded


def mask_silhouette(mask: NDArray[np.bool_]) -> FloatArray:
    """(64, 64) float32 in [0, 1]: an (H, W) mask cut out and brought to the size of `silhouettes`.

    Raises
    ------
    InputError : the mask is empty.
    """
    import cv2

    left, top, right, bottom = mask_box(mask)
    cut: NDArray[Any] = mask[top:bottom, left:right].astype(np.float32)
    zoom = SIDE / (MARGIN * max(cut.shape))
    height, width = (max(1, min(SIDE, round(side * zoom))) for side in cut.shape)
    cut = cv2.resize(cut, (width, height), interpolation=cv2.INTER_AREA if zoom < 1 else cv2.INTER_LINEAR)
    framed = np.zeros((SIDE, SIDE), dtype=np.float32)
    y, x = (SIDE - height) // 2, (SIDE - width) // 2
    framed[y : y + height, x : x + width] = cut
    return framed


def silhouette_features(outlines: FloatArray) -> FloatArray:
    """(V, F) float32: the features of (V, 64, 64) coverages, before the linear map; zeros for an empty outline."""
    return np.stack([_features(outline) for outline in outlines])


def _features(outline: FloatArray) -> FloatArray:
    area = float(outline.sum())
    if area < 1e-3:
        return np.zeros(FEATURES, dtype=np.float32)
    steps = np.arange(SIDE)
    columns, rows = outline.sum(axis=0, dtype=np.float64), outline.sum(axis=1, dtype=np.float64)
    x, y = float(columns @ steps) / area, float(rows @ steps) / area
    places = ((steps - x)[None, :] + 1j * (steps - y)[:, None]).ravel()
    weights = outline.ravel() / area
    # A lone pixel still has the spread of a square.
    spread = float(weights @ np.abs(places) ** 2) + 1 / 6
    radius = np.sqrt(spread)
    return np.concatenate(
        [
            _rings(outline, x, y, radius),
            _distances(outline, area, radius),
            _moments(weights, places / radius),
            _outer(outline, area, radius),
        ]
    ).astype(np.float32)


def _rings(outline: FloatArray, x: float, y: float, radius: float) -> NDArray[np.float64]:
    """(RINGS · FREQUENCIES,) roots of the magnitudes of the Fourier coefficients along rings about the centroid."""
    import cv2

    across, down = _POLAR * np.float32(radius) + np.array([x, y], dtype=np.float32)[:, None, None]
    rings = cv2.remap(outline, across, down, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=0)
    magnitudes = np.abs(np.fft.rfft(rings, axis=1))[:, :FREQUENCIES] / ANGLES
    return np.sqrt(magnitudes * np.sqrt(_RADII)[:, None]).ravel()


def _distances(outline: FloatArray, area: float, radius: float) -> NDArray[np.float64]:
    """(DISTANCES,) chance that the point at a distance, in any direction, from a point inside is inside, too."""
    spectrum = np.fft.rfft2(outline, (2 * SIDE, 2 * SIDE))
    together = np.fft.irfft2(np.abs(spectrum) ** 2, (2 * SIDE, 2 * SIDE))
    ring, count = _ring_of_pixels()
    profile = np.bincount(ring, together.ravel(), minlength=len(count)) / (count * area)
    return np.interp(_GAPS * radius, np.arange(len(count)), profile)


@lru_cache(maxsize=1)
def _ring_of_pixels() -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Of an autocorrelation of twice the side: every pixel's whole distance from the origin, and how many have it."""
    offset = np.minimum(np.arange(2 * SIDE), 2 * SIDE - np.arange(2 * SIDE))
    ring = np.rint(np.hypot(offset[:, None], offset)).astype(np.int64).ravel()
    return ring, np.bincount(ring)


def _moments(weights: NDArray, places: NDArray[np.complex128]) -> list[float]:
    """Elongation, and magnitudes of higher moments that turning does not change."""
    square = np.abs(places) ** 2
    along = float(abs(weights @ places**2))
    return [
        float(np.sqrt(max(1.0 - along, 0.0) / (1.0 + along))),
        float(abs(weights @ places**3)),
        float(abs(weights @ (places * square))),
        float(abs(weights @ (places**2 * square))),
        float(weights @ square**2),
        float(abs(weights @ places**4)),
    ]


def _outer(outline: FloatArray, area: float, radius: float) -> list[float]:
    """Solidity, share that is no hole, compactness, and area for its spread."""
    import cv2

    edges, _ = cv2.findContours((outline > 0.5).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    hull, filled, length = area, area, 4 * float(np.sqrt(area))
    if edges:
        # Contours run through pixel centres: half a pixel is missing all around.
        length = float(sum(cv2.arcLength(edge, True) for edge in edges))
        filled = float(sum(cv2.contourArea(edge) for edge in edges)) + length / 2
        hull = float(cv2.contourArea(cv2.convexHull(np.concatenate(edges)))) + length / 2
    return [
        min(area / hull, 1.5),
        min(area / filled, 1.5),
        float(np.sqrt(area) / max(length, 1.0)) * 3,
        area / radius**2 / (2 * np.pi),
    ]


class SilhouetteEmbedder:
    """The descriptor that ships: nothing to download, a millisecond or two per picture.

    Parameters
    ----------
    asset : the linear map, an `.npz` with `mean` (F,) and `projection` (F, D).

    Raises
    ------
    ConfigError : the file is missing or damaged (when first used).
    """

    name = NAME
    needs_mask = True

    def __init__(self, asset: Path = ASSET) -> None:
        self._asset = asset

    @property
    def dimensions(self) -> int:
        return int(self._map[1].shape[1])

    def of_mesh(self, mesh: Mesh) -> FloatArray:
        """(24, D) float32 unit rows. Raises MeshError: all vertices lie in one point, or no view sees anything."""
        outlines = silhouettes(mesh, view_directions())
        # From the side, an open surface may be nothing.
        seen = outlines[outlines.sum(axis=(1, 2)) >= 1.0]
        if len(seen) == 0:
            raise MeshError(f"mesh {shown(mesh.name)}", "covers nothing from any side", "give a surface with an area")
        filled = np.concatenate([seen, np.repeat(seen[:1], len(outlines) - len(seen), axis=0)])
        return self.embed(silhouette_features(filled))

    def of_picture(self, image: ByteArray | None, mask: NDArray[np.bool_] | None, box: Box | None = None) -> FloatArray:
        """(D,) float32, unit length. Only the mask counts.

        Raises
        ------
        InputError : there is no mask, or it is empty.
        """
        if mask is None:
            raise InputError("object.mask", "is missing", "a silhouette needs the object's pixels: give a mask")
        return self.embed(silhouette_features(mask_silhouette(mask)[None]))[0]

    def embed(self, features: FloatArray) -> FloatArray:
        """(R, D) float32 unit rows of (R, F) features."""
        mean, projection = self._map
        return unit_rows((features - mean) @ projection)

    @cached_property
    def _map(self) -> tuple[FloatArray, FloatArray]:
        try:
            with np.load(self._asset, allow_pickle=False) as stored:
                mean, projection = stored["mean"], stored["projection"]
        except (*UNREADABLE, KeyError) as error:
            raise ConfigError(str(self._asset), f"cannot be read: {error}", "reinstall the package") from error
        if mean.shape != (FEATURES,) or projection.ndim != 2 or len(projection) != FEATURES:
            raise ConfigError(str(self._asset), "is of another version", "reinstall the package")
        return mean.astype(np.float32), projection.astype(np.float32)
