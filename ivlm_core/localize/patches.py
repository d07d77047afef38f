"""Which patches of a view the decoder works on: those that show the mesh, and one ring around them."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_cdt
from torch import Tensor

from ivlm_core.types import ViewPack

RING = 1
# Logit of the patches that are left out: as sure as a mask can be that there is no contact.
EMPTY_LOGIT = -20.0


def covered_patches(pack: ViewPack, grid: int) -> Tensor:
    """The patches that show the mesh, or touch one that does.

    Every view gets as many as the view that needs most, the nearest ones first, so that all views make one batch.

    Parameters
    ----------
    grid : patches a side; it divides the pack's image size.

    Returns
    -------
    (J, n) int64, ascending numbers of patches, row by row of the image.
    """
    side = pack.image_size // grid
    views = len(pack.face_index)
    tiles = (pack.face_index >= 0).reshape(views, grid, side, grid, side)
    shows: NDArray[np.bool_] = np.asarray(tiles.any(axis=(2, 4)))
    # A view that shows nothing has no nearest patch; all are equally good.
    distance = np.stack([distance_transform_cdt(~view, "chessboard") if view.any() else 0 * view for view in shows])
    distance = distance.reshape(views, -1)
    needed = int((distance <= RING).sum(axis=1)[shows.any(axis=(1, 2))].max(initial=1))
    chosen = np.sort(np.argsort(distance, axis=1, kind="stable")[:, :needed], axis=1)
    return torch.from_numpy(chosen.astype(np.int64))


def gather_patches(grids: Tensor, patches: Tensor) -> Tensor:
    """(1 or J, D, h, w) values on the grid → (J, D, n, 1) those of each view's patches."""
    flat = grids.flatten(2).expand(len(patches), -1, -1)
    return flat.gather(2, patches[:, None].expand(-1, flat.shape[1], -1))[..., None]


def spread_patches(tiles: Tensor, patches: Tensor, grid: int) -> Tensor:
    """(K, J, n, 4, 4) tiles of patches → (K, J, 4·grid, 4·grid) masks, `EMPTY_LOGIT` where there was no patch."""
    queries, views = tiles.shape[:2]
    whole = tiles.new_full((queries, views, grid * grid, 4, 4), EMPTY_LOGIT)
    places = patches[None, :, :, None, None].expand(queries, -1, -1, 4, 4)
    return join_tiles(whole.scatter(2, places, tiles), grid)


def join_tiles(tiles: Tensor, grid: int) -> Tensor:
    """(K, J, grid², 4, 4) tiles of all patches → (K, J, 4·grid, 4·grid) masks."""
    queries, views = tiles.shape[:2]
    rows = tiles.reshape(queries, views, grid, grid, 4, 4).transpose(3, 4)
    return rows.reshape(queries, views, 4 * grid, 4 * grid)
