"""The package's one heat map: the surface's own colour where nothing is, through orange, to red at full contact."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ivlm_core.types import ByteArray

# Neutral surface colour for meshes that are shown without shading.
NEUTRAL_GREY = 200

_LEVELS = 256
_STOPS = np.array([0.0, 0.5, 1.0])
_ORANGE = (250.0, 150.0, 60.0)
_RED = (205.0, 10.0, 25.0)


def _table() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Per level, the share of the base colour that stays (256,) and the warm colour added to it (256, 3)."""
    level = np.linspace(0.0, 1.0, _LEVELS)
    kept = np.interp(level, _STOPS, [1.0, 0.0, 0.0])
    warm = [np.interp(level, _STOPS, [0.0, _ORANGE[channel], _RED[channel]]) for channel in range(3)]
    return kept.astype(np.float32), np.stack(warm, axis=1).astype(np.float32)


_KEPT, _WARM = _table()


def heat_colors(values: ArrayLike, base: ArrayLike) -> ByteArray:
    """Colours for contact or affordance values.

    A darker base darkens the warm colours too, so that the shading of a surface stays visible under the heat.

    Parameters
    ----------
    values : (…) in [0, 1]; values outside are clipped and NaN counts as 0.
    base : (…, 3) uint8 RGB, or (…, 1) greys, broadcast against the values: the colour where the value is 0.

    Returns
    -------
    (…, 3) uint8 RGB: exactly `base` at 0, orange at 0.5, red at 1; redness never falls as the value rises.
    """
    level = heat_levels(values)
    surface = np.asarray(base, dtype=np.float32)
    luminance = surface if surface.shape[-1:] == (1,) else surface.mean(axis=-1, keepdims=True)
    light = np.clip(luminance / NEUTRAL_GREY, 0.35, 1.2)
    mixed = surface * _KEPT[level][..., None] + light * _WARM[level]
    return np.clip(mixed + 0.5, 0, 255).astype(np.uint8)


def heat_levels(values: ArrayLike) -> NDArray[np.uint8]:
    """Values in [0, 1] as one of 256 levels; NaN counts as 0."""
    clipped = np.clip(np.nan_to_num(np.asarray(values, dtype=np.float32), nan=0.0), 0.0, 1.0)
    return (clipped * (_LEVELS - 1) + 0.5).astype(np.uint8)
