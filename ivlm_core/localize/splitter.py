"""The attention splitter of joint checkpoints: one embedding becomes a human and an object one."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

BRANCHES = ("human", "object")


class AttentionSplitter(nn.Module):
    """Self-attention over the J view tokens with a query of its own for each side, no residual, one head.

    Parameters
    ----------
    dim : D, width of the view tokens; the attention works at D / 2.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        inner = dim // 2
        self.input_proj = nn.Linear(dim, inner)
        self.query_human = nn.Linear(inner, inner)
        self.query_object = nn.Linear(inner, inner)
        self.key = nn.Linear(inner, inner)
        self.value = nn.Linear(inner, inner)
        self.output_proj = nn.Linear(inner, dim)
        for parameter in self.parameters():
            nn.init.xavier_uniform_(parameter, gain=0.1) if parameter.ndim > 1 else nn.init.zeros_(parameter)

    def forward(self, tokens: Tensor, branches: Sequence[str]) -> Tensor:
        """Split each query's view tokens by the contact token it came from.

        Parameters
        ----------
        tokens : (K, J, D) from FeatLift.
        branches : K of `human`, `object`, or `general`, whose tokens pass unchanged.

        Returns
        -------
        (K, J, D).
        """
        projected = self.input_proj(tokens)
        key, value = self.key(projected), self.value(projected)
        result = tokens
        for branch, query in zip(BRANCHES, (self.query_human, self.query_object), strict=True):
            chosen = torch.tensor([name == branch for name in branches], device=tokens.device)
            scores = query(projected) @ key.transpose(1, 2) / math.sqrt(key.shape[-1])
            split = self.output_proj(scores.softmax(dim=-1) @ value)
            result = torch.where(chosen[:, None, None], split, result)
        return result
