"""Weight-only int8 for the language model: half the memory of bf16, activations and everything else unchanged."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear


class Int8Linear(nn.Module):
    """A linear layer with int8 weights and one scale per output, without bias.

    Parameters
    ----------
    weight : (out, in) floating; rounded to 255 levels, symmetric about zero, row by row.
    """

    weight: Tensor
    scale: Tensor

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        # In double precision no row is so small that its scale vanishes.
        scale = weight.detach().double().abs().amax(dim=1).clamp(min=1e-30) / 127.0
        rounded = torch.round(weight.detach().double() / scale[:, None]).to(torch.int8)
        self.register_buffer("weight", rounded)
        self.register_buffer("scale", scale.float())

    def forward(self, x: Tensor) -> Tensor:
        """(…, in) → (…, out) in the dtype of `x`."""
        return linear(x, self.weight.to(x.dtype)) * self.scale.to(x.dtype)


def quantize_language_model(llava: Any) -> int:
    """Replace the linear layers of the language model's blocks, in place.

    The embedding, the head that chooses tokens, the projector and the vision tower keep their precision.

    Returns
    -------
    how many layers were replaced.
    """
    replaced = 0
    for block in llava.model.language_model.layers:
        for module in list(block.modules()):
            for name, child in module.named_children():
                if isinstance(child, nn.Linear) and child.bias is None:
                    setattr(module, name, Int8Linear(child.weight))
                    replaced += 1
    return replaced
