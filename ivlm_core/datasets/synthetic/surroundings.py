"""Light, floor, background and camera faults of a generated picture."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ivlm_core.types import FloatArray, IntArray

Color = tuple[float, float, float]
Pattern = Literal["checker", "plain", "planks", "noise"]
PATTERNS: tuple[Pattern, ...] = ("checker", "plain", "planks", "noise")

# The side of the table of random numbers that irregular patterns are looked up in; a power of two.
_LATTICE = 64


@dataclass(frozen=True)
class Furniture:
    """A box in the background, placed as the camera sees it.

    Attributes
    ----------
    side, away : metres to the right of the scene's middle, and away from the scene's back.
    height : of its underside, metres. size : width, height and depth, metres.
    turn : degrees about the vertical. color : RGB 0…1.
    """

    side: float
    away: float
    height: float
    size: tuple[float, float, float]
    turn: float
    color: Color


@dataclass(frozen=True)
class Surroundings:
    """What a picture shows beside the scene, and how its camera sees; colours are linear-ish RGB in 0…1.

    Attributes
    ----------
    lamp : (x, y, z) direction towards the lamp, any length, in the world. lamp_color : its light's colour.
    ambient : share of the light that comes from everywhere, 0…1. ambient_color : that light's colour.
    floor : the two colours of the floor. pattern : what they make. tile : side of a tile, or ten planks' width, metres.
    floor_turn : degrees by which the pattern is turned.
    wall : the background's colour, into which an endless floor fades.
    wall_distance : metres from the back of the scene, as the camera looks, to a wall; infinite for none.
    wall_turn : degrees by which that wall is turned away from facing the camera.
    wall_noise : strength of irregular brightness on the background, 0…1; its grain in metres (or radians without wall).
    wall_grain : see `wall_noise`. wall_fall : by which share the background darkens upwards.
    skirting : height of a skirting board, metres.
    furniture : boxes in the background.
    exposure : factor on all brightness. contrast : exponent on brightness, 1 for none.
    blur : standard deviation of the lens's blur, pixels. vignette : loss of brightness in the corners, 0…1.
    noise : standard deviation of the sensor's noise in grey levels (0…255).
    quality : JPEG quality that the camera compresses with, 1…100; 0 for a camera that does not.
    seed : of the irregular patterns.
    """

    lamp: tuple[float, float, float] = (0.45, 1.0, 0.6)
    lamp_color: Color = (1.0, 1.0, 1.0)
    ambient: float = 0.62
    ambient_color: Color = (1.0, 1.0, 1.0)
    floor: tuple[Color, Color] = ((0.62, 0.58, 0.53), (0.52, 0.48, 0.44))
    pattern: Pattern = "checker"
    tile: float = 0.5
    floor_turn: float = 0.0
    wall: Color = (0.74, 0.77, 0.80)
    wall_distance: float = np.inf
    wall_turn: float = 0.0
    wall_noise: float = 0.0
    wall_grain: float = 0.4
    wall_fall: float = 0.25
    skirting: float = 0.0
    furniture: tuple[Furniture, ...] = field(default=())
    exposure: float = 1.0
    contrast: float = 1.0
    blur: float = 0.0
    vignette: float = 0.0
    noise: float = 2.0
    quality: int = 0
    seed: int = 0

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Surroundings:
        """Surroundings by chance: rooms with a wall and furniture, and open places; lamps, floors and cameras."""
        heading, height = rng.uniform(0, 2 * np.pi), np.radians(rng.uniform(28, 80))
        lamp = (np.cos(height) * np.sin(heading), np.sin(height), np.cos(height) * np.cos(heading))
        indoors = rng.random() < 0.7
        floor = _color(rng, 0.3, 0.85, 0.08)
        shade = rng.uniform(0.72, 0.97)
        distance = rng.uniform(0.1, 3.0) if indoors else np.inf
        pieces = _furniture(rng, distance) if rng.random() < 0.6 else ()
        return cls(
            lamp=(float(lamp[0]), float(lamp[1]), float(lamp[2])),
            lamp_color=_tint(rng, 0.10),
            ambient=rng.uniform(0.5, 0.82),
            ambient_color=_tint(rng, 0.06),
            floor=(floor, tuple(float(np.clip(c * shade + rng.uniform(-0.03, 0.03), 0, 1)) for c in floor)),  # type: ignore[arg-type]
            pattern=PATTERNS[rng.integers(len(PATTERNS))],
            tile=rng.uniform(0.25, 0.9),
            floor_turn=rng.uniform(0, 90),
            wall=_color(rng, 0.4, 0.95, 0.08),
            wall_distance=distance,
            wall_turn=rng.uniform(-35, 35),
            wall_noise=rng.uniform(0, 0.35) if rng.random() < 0.6 else 0.0,
            wall_grain=rng.uniform(0.1, 0.9),
            wall_fall=rng.uniform(-0.1, 0.35),
            skirting=rng.uniform(0.05, 0.14) if rng.random() < 0.5 else 0.0,
            furniture=pieces,
            exposure=rng.uniform(0.88, 1.25),
            contrast=rng.uniform(0.82, 1.12),
            blur=rng.uniform(0.0, 0.7),
            vignette=rng.uniform(0.0, 0.25),
            noise=rng.uniform(0.5, 5.0),
            quality=int(rng.integers(45, 96)) if rng.random() < 0.6 else 0,
            seed=int(rng.integers(2**31)),
        )

    def floor_colors(self, points: NDArray[Any]) -> FloatArray:
        """(P, 3) the floor's own colour at points (P, 3) on it."""
        turned = np.radians(self.floor_turn)
        x = points[:, 0] * np.float32(np.cos(turned)) + points[:, 2] * np.float32(np.sin(turned))
        z = points[:, 2] * np.float32(np.cos(turned)) - points[:, 0] * np.float32(np.sin(turned))
        first, second = np.array(self.floor, dtype=np.float32)
        if self.pattern == "plain":
            return np.broadcast_to(first, points.shape)
        if self.pattern == "checker":
            share = (np.floor(x / self.tile) + np.floor(z / self.tile)) % 2
        elif self.pattern == "planks":
            width = self.tile / 5
            row = np.floor(z / width).astype(np.int64)
            along = x / (9 * width) + self._table()[row % _LATTICE, 0]
            plank = np.floor(along).astype(np.int64)
            share = self._table()[row % _LATTICE, plank % _LATTICE]
            seam = (np.abs(z / width - row - 0.5) > 0.46) | (np.abs(along - plank - 0.5) > 0.494)
            share = np.where(seam, 1.6, share)
        else:
            share = 0.65 * self._noise(x / self.tile, z / self.tile) + 0.35 * self._noise(x * 9, z * 9)
        mixed: FloatArray = (first + (second - first) * share.astype(np.float32)[:, None]).astype(np.float32)
        return mixed

    def wall_colors(self, across: NDArray[Any], up: NDArray[Any], heights: NDArray[Any]) -> FloatArray:
        """(P, 3) the background's colour at places (across, up) on it; `heights` (P,) runs from 0 to 1 upwards."""
        brightness = 1.0 - self.wall_fall * np.clip(heights, 0, 1)
        if self.wall_noise:
            brightness = brightness + self.wall_noise * (
                self._noise(across / self.wall_grain, up / self.wall_grain) - 0.5
            )
        colors: FloatArray = (np.array(self.wall, np.float32) * brightness.astype(np.float32)[:, None]).astype(
            np.float32
        )
        return colors

    def _table(self) -> FloatArray:
        return np.random.default_rng(self.seed).random((_LATTICE, _LATTICE), dtype=np.float32)

    def _noise(self, x: NDArray[Any], y: NDArray[Any]) -> NDArray[Any]:
        """(P,) smooth noise in 0…1 with grains of size one."""
        table = self._table()
        column, row = np.floor(x).astype(np.int32), np.floor(y).astype(np.int32)
        u, v = (x - column).astype(np.float32), (y - row).astype(np.float32)
        left, below = column % _LATTICE, row % _LATTICE
        right, above = (column + 1) % _LATTICE, (row + 1) % _LATTICE
        lower = table[below, left] * (1 - u) + table[below, right] * u
        upper = table[above, left] * (1 - u) + table[above, right] * u
        smooth: NDArray[Any] = lower * (1 - v) + upper * v
        return smooth


def furniture_mesh(
    pieces: tuple[Furniture, ...], middle: NDArray[Any], ahead: NDArray[Any], right: NDArray[Any]
) -> tuple[FloatArray, IntArray, FloatArray]:
    """The boxes in the world: vertices (8 B, 3), faces (12 B, 3), and the colour of every face (12 B, 3).

    `ahead` and `right` (3,) are the horizontal directions away from the camera and to its right; `middle` is where
    boxes are placed from.
    """
    corner = np.array([(x, y, z) for x in (-0.5, 0.5) for y in (0.0, 1.0) for z in (-0.5, 0.5)])
    quads = ((0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3))
    faces = np.array([triangle for a, b, c, d in quads for triangle in ((a, b, c), (a, c, d))], dtype=np.int32)
    vertices = []
    for piece in pieces:
        turned = np.radians(piece.turn)
        own = corner * piece.size
        side = own[:, 0] * np.cos(turned) + own[:, 2] * np.sin(turned) + piece.side
        away = own[:, 2] * np.cos(turned) - own[:, 0] * np.sin(turned) + piece.away
        placed = middle * [1, 0, 1] + side[:, None] * right + away[:, None] * ahead
        placed[:, 1] = own[:, 1] + piece.height
        vertices.append(placed.astype(np.float32))
    starts = np.repeat(np.arange(len(pieces), dtype=np.int32) * 8, len(faces))[:, None]
    colors = np.repeat(np.array([piece.color for piece in pieces], np.float32), len(faces), axis=0)
    return np.concatenate(vertices), np.tile(faces, (len(pieces), 1)) + starts, colors


def _color(rng: np.random.Generator, low: float, high: float, spread: float) -> Color:
    grey = rng.uniform(low, high)
    red, green, blue = np.clip(grey + rng.uniform(-spread, spread, 3), 0.02, 1.0)
    return float(red), float(green), float(blue)


def _tint(rng: np.random.Generator, strength: float) -> Color:
    """From warm to cool."""
    warm = rng.uniform(-strength, strength)
    return 1.0 + warm, 1.0, 1.0 - warm


def _furniture(rng: np.random.Generator, wall: float) -> tuple[Furniture, ...]:
    """Cupboards, shelves, tables and crates, beside or behind the person."""
    pieces: list[Furniture] = []
    for _ in range(int(rng.integers(1, 5))):
        side = rng.uniform(0.6, 2.6) * (1 if rng.random() < 0.5 else -1)
        away = max(0.25, min(wall, 4.0) * rng.uniform(0.5, 0.9) - 0.2)
        turned = rng.uniform(-15, 15)
        color = _color(rng, 0.15, 0.8, 0.15)
        kind = rng.integers(4)
        if kind == 0:  # a cupboard
            pieces.append(Furniture(side, away, 0, (rng.uniform(0.5, 1.2), rng.uniform(0.8, 2.0), 0.4), turned, color))
        elif kind == 1:  # shelves
            width, height = rng.uniform(0.6, 1.2), rng.uniform(0.9, 1.9)
            boards = int(rng.integers(3, 6))
            pieces.append(Furniture(side, away + 0.14, 0, (width, height, 0.02), turned, color))
            dark = (color[0] * 0.7, color[1] * 0.7, color[2] * 0.7)
            for board in range(boards):
                at = height * board / (boards - 1) - (0.03 if board else 0)
                pieces.append(Furniture(side, away, at, (width, 0.03, 0.28), turned, dark))
        elif kind == 2:  # a table without legs in sight: a top on a block
            width, depth, height = rng.uniform(0.7, 1.4), rng.uniform(0.5, 0.8), rng.uniform(0.45, 0.75)
            pieces.append(Furniture(side, away, height, (width, 0.04, depth), turned, color))
            pieces.append(Furniture(side, away, 0, (0.12, height, 0.12), turned, color))
        else:  # a crate, or a picture on the wall
            if rng.random() < 0.5 and np.isfinite(wall):
                size = (rng.uniform(0.4, 1.0), rng.uniform(0.3, 0.8), 0.03)
                pieces.append(Furniture(rng.uniform(-1.5, 1.5), wall - 0.06, rng.uniform(1.1, 1.6), size, 0.0, color))
            else:
                edge = rng.uniform(0.25, 0.6)
                pieces.append(Furniture(side, away, 0, (edge, edge * rng.uniform(0.6, 1.3), edge), turned, color))
    return tuple(pieces)
