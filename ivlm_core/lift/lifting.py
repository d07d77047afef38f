"""Sparse, batched, differentiable lifting of view masks onto the vertices of a mesh, in two forms.

`scatter` is the released model's: every pixel votes for the three vertices of the face it sees, weighted by its
barycentrics; each view averages its votes, and the views that voted are averaged. `sample` turns the question round:
every vertex reads the mask, bilinearly, at its own projection in each view that sees it, and averages the readings. It
is more exact at low mask resolution, where most vertices never receive a pixel.

Both are one product with a sparse matrix that depends on the view pack alone, built once per pack and mask size.
"""

from __future__ import annotations

import warnings
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor

from ivlm_core.errors import ConfigError, InputError
from ivlm_core.types import ViewPack

Method = Literal["sample", "scatter"]

# Beyond ±20 a sigmoid is 0 or 1 in single precision; the released human lifter clamps there and so do we.
LOGIT_LIMIT = 20.0


class Lifter:
    """The lifting of one set of views at one mask size; make it once, use it for every frame.

    Parameters
    ----------
    votes : (J·V, J·H·W) sparse, the weight of every pixel in every view's vertices, not normalised.
    shape : J, H, W of the masks.
    vertex_count : V.
    vote_threshold : only pixels whose probability exceeds it vote (0.3 in the released object lifter), so that a
        vertex is 0 or above it. None lets every pixel vote.
    device, dtype : of the sparse matrix.
    """

    def __init__(
        self,
        votes: sparse.csr_matrix,
        shape: tuple[int, int, int],
        vertex_count: int,
        vote_threshold: float | None = None,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.shape = shape
        self.vertex_count = vertex_count
        self.vote_threshold = vote_threshold
        if vote_threshold is None:
            votes = _view_mean(votes, shape[0], vertex_count)
        # Most pixels are background: only those with a weight are ever read.
        columns = np.unique(votes.indices)
        self._pixels = torch.from_numpy(columns.astype(np.int32)).to(device)
        self._votes = _SparseMap(votes[:, columns], dtype, device)

    @classmethod
    def from_pack(
        cls,
        pack: ViewPack,
        height: int,
        width: int,
        method: Method = "sample",
        vote_threshold: float | None = None,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> Lifter:
        """The lifter of a view pack; `scatter` needs masks of the pack's own size, `sample` takes any.

        Raises
        ------
        ConfigError : unknown method, or a threshold where it has no meaning.  InputError : wrong mask size.
        """
        if method not in ("sample", "scatter"):
            raise ConfigError("lift.method", f"is {method!r}", "choose 'sample' or 'scatter'")
        if vote_threshold is not None and method != "scatter":
            raise ConfigError("lift.vote_threshold", f"is {vote_threshold}", "it has a meaning for 'scatter' only")
        shape = (len(pack.view_names), height, width)
        count = len(pack.mesh.vertices)
        if method == "sample":
            return cls(_sample_votes(pack, height, width), shape, count, None, device, dtype)
        if (height, width) != pack.face_index.shape[1:]:
            raise InputError(
                "masks",
                f"are {height}×{width}",
                f"scatter lifting needs the view pack's {pack.image_size}×{pack.image_size}: upsample the logits",
            )
        votes = _scatter_votes(pack.pixel_to_vertex, pack.barycentric, count)
        return cls(votes, shape, count, vote_threshold, device, dtype)

    @classmethod
    def from_maps(
        cls,
        pixel_to_vertex: NDArray,
        barycentric: NDArray,
        vertex_count: int,
        vote_threshold: float | None = None,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> Lifter:
        """The scatter lifter of stored pixel maps.

        Parameters
        ----------
        pixel_to_vertex : (J, H, W, 3) integer vertex numbers; a pixel with any of them negative is empty.
        barycentric : (J, H, W, 3) float weights.
        """
        votes = _scatter_votes(pixel_to_vertex, barycentric, vertex_count)
        views, height, width = pixel_to_vertex.shape[:3]
        return cls(votes, (views, height, width), vertex_count, vote_threshold, device, dtype)

    def __call__(self, logits: Tensor) -> Tensor:
        """Lift mask logits.

        Parameters
        ----------
        logits : (K, J, H, W) float.

        Returns
        -------
        (K, V) float32 in [0, 1], differentiable in `logits`; vertices that no view sees are 0.

        Raises
        ------
        InputError : the masks are not of the shape the lifter was made for.
        """
        if logits.ndim != 4 or tuple(logits.shape[1:]) != self.shape:
            raise InputError(
                "masks", f"have shape {tuple(logits.shape)}", f"give (K, {', '.join(map(str, self.shape))})"
            )
        seen = logits.flatten(1).index_select(1, self._pixels).to(self._votes.dtype)
        probability = torch.sigmoid(seen.clamp(-LOGIT_LIMIT, LOGIT_LIMIT)).T  # (P, K)
        if self.vote_threshold is None:
            return self._votes(probability).T.clamp(0.0, 1.0).float()
        voting = (probability > self.vote_threshold).to(probability.dtype)
        shape = (self.shape[0], self.vertex_count, -1)
        weight = self._votes(voting).view(shape)  # (J, V, K)
        value = self._votes(probability * voting).view(shape)
        voted = weight > 0
        per_view = torch.where(voted, value / weight.where(voted, torch.ones_like(weight)), torch.zeros_like(value))
        return (per_view.sum(0) / voted.sum(0).clamp(min=1)).T.clamp(0.0, 1.0).float()


def lift_masks(
    logits: Tensor, pack: ViewPack, method: Method = "sample", vote_threshold: float | None = None
) -> Tensor:
    """Average the views' contact probabilities onto the vertices they see (paper §3.4, step 3).

    Parameters
    ----------
    logits : (K, J, H, W) float mask logits of K queries in the J views of `pack`.
    pack : the views, with V vertices.
    method : `sample` (each vertex reads its own projection) or `scatter` (each pixel votes; the released semantics,
        for which masks of another size than the pack's are upsampled bilinearly first).
    vote_threshold : see `Lifter`.

    Returns
    -------
    (K, V) float32 in [0, 1], differentiable in `logits`; vertices that no view sees are 0.
    """
    if method == "scatter" and logits.ndim == 4 and logits.shape[-2:] != pack.face_index.shape[1:]:
        logits = torch.nn.functional.interpolate(
            logits.float(), pack.face_index.shape[1:], mode="bilinear", align_corners=False
        )
    return lifter_for(pack, logits, method, vote_threshold)(logits)


def lifter_for(pack: ViewPack, logits: Tensor, method: Method, vote_threshold: float | None = None) -> Lifter:
    """The lifter that fits `logits`, made on first use and kept as long as the pack lives."""
    if logits.ndim != 4:
        raise InputError("masks", f"have shape {tuple(logits.shape)}", "give (K, J, H, W)")
    dtype = torch.float64 if logits.dtype == torch.float64 else torch.float32
    key = (*logits.shape[-2:], method, vote_threshold, str(logits.device), dtype)
    made = _cache_of(pack)
    if key not in made:
        # A matrix that was first made while inferring would be of no use to a later backward pass.
        with torch.inference_mode(False):
            made[key] = Lifter.from_pack(
                pack, logits.shape[-2], logits.shape[-1], method, vote_threshold, device=logits.device, dtype=dtype
            )
    return made[key]


def paint_masks(values: Tensor, pack: ViewPack, size: int | None = None) -> Tensor:
    """The inverse of lifting: what the J views show of per-vertex values.

    Parameters
    ----------
    values : (K, V) float in [0, 1].
    size : side of the masks; None for the pack's own. Smaller masks are area averages.

    Returns
    -------
    (K, J, H, W) float: the barycentric mean of the values at each pixel's face, 0 on the background.
    """
    ids = torch.from_numpy(np.maximum(pack.pixel_to_vertex, 0).astype(np.int64))
    weights = torch.from_numpy(np.maximum(pack.barycentric, 0.0))
    masks = (values[:, ids] * weights).sum(-1)
    if size is not None and size != pack.image_size:
        masks = torch.nn.functional.interpolate(masks, (size, size), mode="area")
    return masks


def _cache_of(pack: ViewPack) -> dict[tuple, Lifter]:
    # Frozen dataclasses with arrays cannot be hashed; the pack's own cached attribute dictionary outlives no pack.
    return pack.__dict__.setdefault("_lifters", {})


def _scatter_votes(pixel_to_vertex: NDArray, barycentric: NDArray, count: int) -> sparse.csr_matrix:
    """(J·V, J·H·W) barycentric weight of every pixel's vote, unnormalised."""
    views, height, width = pixel_to_vertex.shape[:3]
    ids = pixel_to_vertex.reshape(-1, 3).astype(np.int64)
    pixels = np.flatnonzero((ids >= 0).all(axis=1))
    rows = (pixels // (height * width))[:, None] * count + ids[pixels]
    weights = barycentric.reshape(-1, 3)[pixels].astype(np.float64)
    matrix = sparse.csr_matrix(
        (weights.ravel(), (rows.ravel(), np.repeat(pixels, 3))),
        shape=(views * count, views * height * width),
        dtype=np.float64,
    )
    matrix.eliminate_zeros()
    return matrix


def _sample_votes(pack: ViewPack, height: int, width: int) -> sparse.csr_matrix:
    """(J·V, J·H·W) bilinear weights of each seen vertex's four pixels, clamped at the image's border."""
    views, count = pack.vertex_visible.shape
    view, vertex = np.nonzero(pack.vertex_visible)
    x = pack.vertex_pixel[view, vertex, 0].astype(np.float64) * width - 0.5
    y = pack.vertex_pixel[view, vertex, 1].astype(np.float64) * height - 0.5
    left, top = np.floor(x).astype(np.int64), np.floor(y).astype(np.int64)
    right_share, bottom_share = x - left, y - top
    rows, columns, weights = [], [], []
    for step_y, share_y in ((0, 1.0 - bottom_share), (1, bottom_share)):
        for step_x, share_x in ((0, 1.0 - right_share), (1, right_share)):
            column = np.clip(left + step_x, 0, width - 1)
            row = np.clip(top + step_y, 0, height - 1)
            rows.append(view * count + vertex)
            columns.append((view * height + row) * width + column)
            weights.append(share_x * share_y)
    matrix = sparse.csr_matrix(
        (np.concatenate(weights), (np.concatenate(rows), np.concatenate(columns))),
        shape=(views * count, views * height * width),
        dtype=np.float64,
    )
    matrix.eliminate_zeros()
    return matrix


def _view_mean(votes: sparse.csr_matrix, views: int, count: int) -> sparse.csr_matrix:
    """(V, J·H·W): each view's votes averaged, then the mean over the views that voted."""
    total = np.asarray(votes.sum(axis=1)).ravel()
    voted = total > 0
    seeing = voted.reshape(views, count).sum(axis=0)
    scale = np.divide(1.0, total * np.tile(seeing, views), out=np.zeros_like(total), where=voted)
    stack = sparse.csr_matrix(
        (np.ones(views * count), (np.tile(np.arange(count), views), np.arange(views * count))),
        shape=(count, views * count),
    )
    return (stack @ sparse.diags(scale) @ votes).tocsr()


class _SparseMap:
    """A constant sparse matrix that dense columns are multiplied with, in both directions of differentiation."""

    def __init__(self, matrix: sparse.csr_matrix, dtype: torch.dtype, device: torch.device | str) -> None:
        self._scipy = matrix
        self._dtype = dtype
        self.matrix = _to_torch(matrix, dtype).to(device)

    @property
    def dtype(self) -> torch.dtype:
        return self._dtype

    @cached_property
    def transposed(self) -> Tensor:
        return _to_torch(self._scipy.T.tocsr(), self._dtype).to(self.matrix.device)

    def __call__(self, dense: Tensor) -> Tensor:
        """(rows, K) = matrix · (columns, K)."""
        return _SparseProduct.apply(self, dense)


class _SparseProduct(torch.autograd.Function):
    """torch has no backward for CSR products on every device; for a constant matrix it is the transposed product."""

    @staticmethod
    def forward(context: Any, sparse_map: _SparseMap, dense: Tensor) -> Tensor:
        context.sparse_map = sparse_map
        return _columnwise(sparse_map.matrix, dense)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[None, Tensor]:
        return None, _columnwise(context.sparse_map.transposed, gradients[0])


def _columnwise(matrix: Tensor, dense: Tensor) -> Tensor:
    """matrix · dense; on a CPU the matrix–vector product is about ten times faster per column than the other."""
    if dense.is_cuda:
        return matrix @ dense.contiguous()
    return torch.stack([matrix @ column.contiguous() for column in dense.unbind(1)], dim=1)


def _to_torch(matrix: sparse.csr_matrix, dtype: torch.dtype) -> Tensor:
    with warnings.catch_warnings():
        # torch calls its CSR layout "beta" at first use; the products used here are tested against dense ones.
        warnings.filterwarnings("ignore", message="Sparse (CSR|invariant)")
        return torch.sparse_csr_tensor(
            torch.from_numpy(matrix.indptr.astype(np.int32)),
            torch.from_numpy(matrix.indices.astype(np.int32)),
            torch.from_numpy(matrix.data).to(dtype),
            size=matrix.shape,
        )
