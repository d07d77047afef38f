"""What the localizer is taught on one mesh: its views, which pixels show it, and what they show of a contact."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from ivlm_core.config import Profile
from ivlm_core.lift import Lifter
from ivlm_core.localize import covered_patches
from ivlm_core.train.losses import IGNORED
from ivlm_core.types import ViewPack


@dataclass(eq=False)
class TaughtViews:
    """One mesh as training needs it.

    Attributes
    ----------
    pack : its views.
    profile : sizes of masks and patches, and how masks are lifted.
    embedding : (J, D, h, w) of the frozen encoder, set once.
    """

    pack: ViewPack
    profile: Profile
    embedding: Tensor | None = None

    @cached_property
    def patches(self) -> Tensor | None:
        if self.profile.localize.patches != "covered":
            return None
        return covered_patches(self.pack, self.profile.sam.image_size // self.profile.sam.patch_size)

    @cached_property
    def lifter(self) -> Lifter:
        size = self.profile.sam.mask_size
        return Lifter.from_pack(self.pack, size, size, "sample")

    @cached_property
    def painting(self) -> sparse.csr_matrix:
        """(J·h·w, V): the mean of what a mask pixel shows of the vertices; empty rows show no mesh."""
        pack, size = self.pack, self.profile.sam.mask_size
        views, side = len(pack.view_names), pack.image_size
        step = side // size
        view, row, column = np.nonzero(pack.face_index >= 0)
        pixel = (view * size + row // step) * size + column // step
        ids, weights = pack.pixel_to_vertex[view, row, column], pack.barycentric[view, row, column]
        matrix = sparse.csr_matrix(
            (weights.ravel().astype(np.float64), (np.repeat(pixel, 3), ids.ravel())),
            shape=(views * size * size, len(pack.mesh.vertices)),
        )
        total = np.asarray(matrix.sum(axis=1)).ravel()
        scale = np.divide(1.0, total, out=np.zeros_like(total), where=total > 0)
        return (sparse.diags(scale) @ matrix).tocsr().astype(np.float32)

    @cached_property
    def valid(self) -> tuple[Tensor, np.ndarray]:
        """(J, P) flat pixels that show the mesh, each view's padded with its first, and (J, P) which are real."""
        views = len(self.pack.view_names)
        shows = (np.diff(self.painting.indptr) > 0).reshape(views, -1)
        most = max(1, int(shows.sum(axis=1).max()))
        pixels = np.zeros((views, most), dtype=np.int64)
        real = np.zeros((views, most), dtype=bool)
        for number, view in enumerate(shows):
            found = np.flatnonzero(view)
            pixels[number, : len(found)] = number * view.size + found
            pixels[number, len(found) :] = number * view.size + (found[0] if len(found) else 0)
            real[number, : len(found)] = True
        return torch.from_numpy(pixels), real

    @cached_property
    def _painting_of_valid(self) -> sparse.csr_matrix:
        return self.painting[self.valid[0].flatten().numpy()]

    def targets(self, contact: np.ndarray) -> Tensor:
        """(K, V) contact in [0, 1] → (K, J, 1, P) what the valid pixels show of it, −1 in the padding."""
        painted = np.asarray(self._painting_of_valid @ contact.T.astype(np.float32)).T  # (K, J·P)
        values = painted.reshape(len(contact), *self.valid[1].shape).clip(0.0, 1.0)
        values[:, ~self.valid[1]] = IGNORED
        return torch.from_numpy(values.astype(np.float32))[:, :, None]

    def seen(self, masks: Tensor) -> Tensor:
        """(K, J, h, w) masks → (K, J, 1, P) their valid pixels."""
        pixels = self.valid[0].to(masks.device)
        return masks.flatten(1)[:, pixels.flatten()].unflatten(1, tuple(pixels.shape))[:, :, None]

    def whole_targets(self, contact: np.ndarray) -> Tensor:
        """(K, V) contact → (K, J, h, w) with 0 wherever the mesh is not seen."""
        painted = np.asarray(self.painting @ contact.T.astype(np.float32)).T.clip(0.0, 1.0)
        size = self.profile.sam.mask_size
        return torch.from_numpy(painted.astype(np.float32)).reshape(len(contact), -1, size, size)
