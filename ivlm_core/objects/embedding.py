"""What every source of embeddings offers: vectors of meshes and of pictures whose cosine says how alike they are."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ivlm_core.errors import InputError
from ivlm_core.types import ByteArray, FloatArray, Mesh

Box = tuple[float, float, float, float]


class Embedder(Protocol):
    """A source of embeddings; vectors of sources with the same `name` may be compared, others may not.

    Attributes
    ----------
    name : the source, as an index calls it; whatever changes the vectors changes the name.
    dimensions : D.
    needs_mask : whether `of_picture` can do nothing with a box alone.
    """

    @property
    def name(self) -> str: ...

    @property
    def dimensions(self) -> int: ...

    @property
    def needs_mask(self) -> bool: ...

    def of_mesh(self, mesh: Mesh) -> FloatArray:
        """(views, D) float32 unit rows; a picture is as near to a mesh as to its best view."""
        ...

    def of_picture(self, image: ByteArray, mask: NDArray[np.bool_] | None, box: Box | None = None) -> FloatArray:
        """(D,) float32, unit length: what is in the mask, or in the box, of an (H, W, 3) uint8 RGB picture."""
        ...


def unit_rows(vectors: NDArray) -> FloatArray:
    """(R, D) float32: the rows scaled to unit length.

    Raises
    ------
    InputError : wrongly shaped, not finite, or a row of zeros.
    """
    array = np.asarray(vectors)
    if array.ndim != 2 or array.shape[1] == 0 or array.dtype.kind != "f":
        raise InputError("embeddings", f"are {array.dtype} of shape {array.shape}", "give (R, D) floats")
    length = np.sqrt(np.einsum("rd,rd->r", array, array, dtype=np.float64))
    wrong = ~np.isfinite(length) | (length < 1e-6)
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise InputError("embeddings", f"row {row} is zero, NaN or infinite", "compute the embeddings again")
    if np.abs(length - 1.0).max(initial=0.0) < 1e-6 and array.dtype == np.float32:
        return np.asarray(array, dtype=np.float32)
    return np.asarray(array / length[:, None], dtype=np.float32)


def mask_box(mask: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """x_min, y_min, x_max, y_max (outer edges, pixels) of the true pixels of an (H, W) mask.

    Raises
    ------
    InputError : the mask is not two-dimensional, or holds nothing.
    """
    if mask.ndim != 2:
        raise InputError("object.mask", f"has shape {mask.shape}", "give (H, W)")
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if len(rows) == 0:
        raise InputError("object.mask", "is empty", "leave it out where the object's pixels are not known")
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
