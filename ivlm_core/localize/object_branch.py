"""The vertex branch of objects: contact on the library's own meshes, straight from the contact embedding."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from ivlm_core.localize.vertex_branch import MARGIN
from ivlm_core.types import FloatArray

# Share of a head's hidden numbers that are left out while it learns.
DROPOUT = 0.3


class ObjectHead(nn.Module):
    """contact logit = bias + basis · f(embedding) on the vertices of one mesh.

    Parameters
    ----------
    dim : D, width of the contact embedding. rank : R, number of patterns. vertices : V.
    """

    def __init__(self, dim: int, rank: int, vertices: int) -> None:
        super().__init__()
        self.inner = nn.Linear(dim, 2 * dim)
        self.dropout = nn.Dropout(DROPOUT)
        self.amounts = nn.Linear(2 * dim, rank)
        self.basis = nn.Parameter(torch.randn(vertices, rank) / rank**0.5)
        self.bias = nn.Parameter(torch.zeros(vertices))

    @torch.no_grad()
    def start_from(self, mean: FloatArray, patterns: FloatArray, scale: float = 8.0) -> None:
        """Begin near a mean contact, with the directions in which contacts differ most as patterns.

        Parameters
        ----------
        mean : (V,). patterns : (≤ R, V) principal directions, each times the standard deviation along it.
        scale : from differences of probability to differences of logit.
        """
        self.bias.copy_(torch.logit(torch.from_numpy(np.clip(mean, MARGIN, 1 - MARGIN)).to(self.bias)))
        self.basis.zero_()
        self.basis[:, : len(patterns)] = scale * torch.from_numpy(patterns.T.copy()).to(self.basis)

    def forward(self, embeddings: Tensor, vertices: Tensor | None = None) -> Tensor:
        """(K, D) → (K, V) logits, of `vertices` (W,) of the mesh alone where they are given, (K, W)."""
        amounts = self.amounts(self.dropout(nn.functional.gelu(self.inner(embeddings))))  # (K, R)
        basis, bias = (self.basis, self.bias) if vertices is None else (self.basis[vertices], self.bias[vertices])
        return amounts @ basis.T + bias


class ObjectBranch(nn.Module):
    """What `VertexBranch` is to the body, for every category's mesh in the built-in library; without the masks.

    Parameters
    ----------
    dim : D, width of the contact embedding. rank : R, number of patterns of a category.
    meshes : label → V, vertices of the library's mesh.
    """

    def __init__(self, dim: int, rank: int, meshes: Mapping[str, int]) -> None:
        super().__init__()
        self.rank = rank
        self.meshes = dict(meshes)
        # By number: a label may hold what no name of a module may.
        self._numbers = {label: str(number) for number, label in enumerate(self.meshes)}
        self.heads = nn.ModuleDict(
            {self._numbers[label]: ObjectHead(dim, rank, count) for label, count in self.meshes.items()}
        )

    def knows(self, label: str, count: int) -> bool:
        """Whether it has learned the mesh of a category, of so many vertices."""
        return count > 0 and self.meshes.get(label) == count

    def head(self, label: str) -> ObjectHead:
        head = self.heads[self._numbers[label]]
        assert isinstance(head, ObjectHead)
        return head

    def forward(self, label: str, embeddings: Tensor, vertices: Tensor | None = None) -> Tensor:
        """Contact (K, V) float32 in [0, 1] of one category.

        Parameters
        ----------
        embeddings : (K, D) contact embeddings about it.
        vertices : (V,) of the category's mesh, that the vertices of another mesh of it correspond to; None for the
            mesh itself.
        """
        return torch.sigmoid(self.head(label)(embeddings, vertices).float())
