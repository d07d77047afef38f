"""Patches by overlapping convolutions, in the place of CLIP's one linear layer: small models learn faster with them."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import relu

GROUPS = 8


class ConvolutionStem(nn.Module):
    """Four halvings of the picture, with a residual block at a quarter and at an eighth of its side.

    Parameters
    ----------
    width : D, of the patch features.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        first, second, third = (max(GROUPS, width // share // GROUPS * GROUPS) for share in (8, 4, 2))
        self.coarse2 = _Halving(3, first)
        self.coarse4 = _Halving(first, second)
        self.block4 = _Residual(second)
        self.coarse8 = _Halving(second, third)
        self.block8 = _Residual(third)
        self.patch = nn.Conv2d(third, width, 3, stride=2, padding=1)

    @property
    def weight(self) -> Tensor:
        """What CLIP reads the precision of its patches from."""
        return self.patch.weight

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, 3, S, S) normalised pixels → (B, D, S / 16, S / 16)."""
        fine = self.block4(self.coarse4(self.coarse2(pixels)))
        return self.patch(self.block8(self.coarse8(fine)))


class _Halving(nn.Module):
    """Half the side."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False)
        self.norm = nn.GroupNorm(GROUPS, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return relu(self.norm(self.convolution(x)))


class _Residual(nn.Module):
    """Two convolutions beside the identity; the second starts at zero, so that the block starts as the identity."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm = nn.GroupNorm(GROUPS, width)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        nn.init.zeros_(self.second.weight)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(relu(self.norm(self.first(x))))
