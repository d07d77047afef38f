"""A correction beside MV-Loc: contact on the vertices of the shipped body, straight from the contact embedding."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from ivlm_core.types import FloatArray

# Vertices of Anny, the body whose contacts the branch knows.
BODY_VERTICES = 13_718
# Lifted probabilities are kept this far from 0 and 1 before they become logits.
MARGIN = 1e-3


class VertexBranch(nn.Module):
    """contact logit = gain · logit(lifted) + bias + basis · f(embedding), vertex by vertex.

    Masks are four times coarser than the views they are drawn on, and a vertex that no view shows gets nothing from
    them. The branch adds what is lost there, as a few patterns of contact over the whole body.

    Parameters
    ----------
    dim : D, width of the contact embedding.
    rank : R, number of patterns.
    vertices : V.
    """

    def __init__(self, dim: int, rank: int, vertices: int = BODY_VERTICES) -> None:
        super().__init__()
        self.inner = nn.Linear(dim, 2 * dim)
        self.amounts = nn.Linear(2 * dim, rank)
        self.basis = nn.Parameter(torch.randn(vertices, rank) / rank**0.5)
        self.bias = nn.Parameter(torch.zeros(vertices))
        self.gain = nn.Parameter(torch.ones(vertices))
        # Without training the branch changes nothing.
        nn.init.zeros_(self.amounts.weight)
        nn.init.zeros_(self.amounts.bias)

    @torch.no_grad()
    def start_from(self, mean: FloatArray, patterns: FloatArray, scale: float = 8.0) -> None:
        """Begin at the mean contact, with the directions in which contacts differ most as patterns.

        Parameters
        ----------
        mean : (V,) mean contact.
        patterns : (R, V) principal directions, each times the standard deviation along it.
        scale : from differences of probability to differences of logit.
        """
        share = torch.from_numpy(np.clip(mean, MARGIN, 1 - MARGIN)).to(self.bias)
        self.bias.copy_(torch.logit(share))
        self.gain.zero_()
        self.basis.zero_()
        self.basis[:, : len(patterns)] = scale * torch.from_numpy(patterns.T.copy()).to(self.basis)

    def logits(self, embeddings: Tensor, lifted: Tensor | None = None) -> Tensor:
        """(K, D) contact embeddings and (K, V) lifted contact, or None without masks → (K, V) logits."""
        amounts = self.amounts(nn.functional.gelu(self.inner(embeddings)))  # (K, R)
        logits = amounts @ self.basis.T + self.bias
        return logits if lifted is None else logits + self.gain * torch.logit(lifted.clamp(MARGIN, 1 - MARGIN))

    def forward(self, embeddings: Tensor, lifted: Tensor) -> Tensor:
        """(K, D) and (K, V) lifted contact → (K, V) float32 contact in [0, 1]."""
        return torch.sigmoid(self.logits(embeddings, lifted.to(embeddings.dtype)).float())
