"""What any answer loses on its way through masks: contact painted into the views of a body and lifted back."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from scipy.ndimage import distance_transform_edt

from ivlm_core.config import Profile
from ivlm_core.errors import InputError
from ivlm_core.lift import lift_masks
from ivlm_core.lift.lifting import Method
from ivlm_core.render import HUMAN_VIEWS, load_or_build_view_pack
from ivlm_core.storage import ArrayCache
from ivlm_core.types import FloatArray, Mesh, ViewPack

# Where a logit is cut; its sigmoid is 2e-9 from 0 and 1.
LOGIT_LIMIT = 20.0
# Background pixels this near to the body, in pixels, continue it: vertices at the outline read them too.
MARGIN = 3.0


class MaskPath:
    """The best masks that a profile's decoder could give for contact that is known, and what lifting makes of them.

    A pixel of a mask is the mean of the contact on the part of the body that it shows; pixels beside the outline repeat
    the nearest one inside, since masks are learned on the body alone and are free beside it.

    Parameters
    ----------
    pack : views of the body, V vertices. size : side of the masks in pixels. method : of lifting.
    """

    def __init__(self, pack: ViewPack, size: int, method: Method = "sample") -> None:
        self.pack = pack
        self.size = size
        self.method: Method = method

    @classmethod
    def of(cls, profile: Profile, body: Mesh, cache: ArrayCache | None = None) -> MaskPath:
        """The path of a profile: its views, mask size and lifting."""
        store = cache if cache is not None else ArrayCache()
        pack = load_or_build_view_pack(body, HUMAN_VIEWS, profile.sam.image_size, "normals", store)
        return cls(pack, profile.sam.mask_size, profile.lift.method)

    def paint(self, values: NDArray) -> FloatArray:
        """(K, V) contact in [0, 1] → (K, J, size, size) masks."""
        if values.ndim != 2 or values.shape[1] != len(self.pack.mesh.vertices):
            raise InputError(
                "contact", f"has shape {values.shape}", f"give (K, {len(self.pack.mesh.vertices)}), this body's"
            )
        painted = (self._paint @ values.T.astype(np.float64)).T
        return painted.astype(np.float32).reshape(len(values), len(self.pack.view_names), self.size, self.size)

    def __call__(self, values: NDArray) -> FloatArray:
        """(K, V) contact in [0, 1] → (K, V) what comes back; 0 on vertices that no view sees."""
        masks = torch.from_numpy(self.paint(values)).double()
        logits = torch.logit(masks, eps=1 / (1 + float(np.exp(LOGIT_LIMIT)))).float()
        return lift_masks(logits, self.pack, self.method).numpy()

    @cached_property
    def _paint(self) -> sparse.csr_matrix:
        """(J · size², V) the share of each vertex in each pixel; rows sum to 1, or to 0 far from the body."""
        views, side = self.pack.face_index.shape[0], self.pack.image_size
        view, y, x = np.nonzero(self.pack.face_index >= 0)
        coarse = (view * self.size + y * self.size // side) * self.size + x * self.size // side
        shares = sparse.csr_matrix(
            (
                np.maximum(self.pack.barycentric[view, y, x], 0.0).astype(np.float64).ravel(),
                (np.repeat(coarse, 3), self.pack.pixel_to_vertex[view, y, x].ravel()),
            ),
            shape=(views * self.size**2, len(self.pack.mesh.vertices)),
        )
        total = np.asarray(shares.sum(axis=1)).ravel()
        mean = sparse.diags(np.divide(1.0, total, out=np.zeros_like(total), where=total > 0)) @ shares
        source = np.arange(len(total)).reshape(views, self.size, self.size)
        for number, shown in enumerate((total > 0).reshape(views, self.size, self.size)):
            if shown.any():
                distance, nearest = distance_transform_edt(~shown, return_indices=True)
                inside = source[number][tuple(nearest)]
                source[number] = np.where(distance <= MARGIN, inside, source[number])
        return mean.tocsr()[source.ravel()]
