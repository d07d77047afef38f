"""Adam on batches of poses, and successive halving: many rough tries, few of them finished."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from ivlm_core.reconstruct.pose import CENTRE, DEPTH, PARAMETERS, ROTATION, SIZE, Pose, decode, pose_of

Score = Callable[[Tensor, Tensor, Tensor], Tensor]

BETAS = (0.8, 0.95)
# Within a stage rates fall to this share.
LAST_RATE = 0.2
# Steps without progress after which a stage ends, and what counts as progress.
PATIENCE, PROGRESS = 8, 2e-4

# What no picture can tell: nearer than 2 cm or further than 400 m, sideways beyond 87°, sizes to match.
_LOWEST = torch.tensor([-torch.inf] * 6 + [-20.0, -20.0, -12.0, -4.0], dtype=torch.float64)
_HIGHEST = torch.tensor([torch.inf] * 6 + [20.0, 20.0, 6.0, 6.0], dtype=torch.float64)


@dataclass(frozen=True)
class Rates:
    """Step sizes: of the six rotation numbers, the centre (at unit depth), log size, log depth."""

    rotation: float = 0.04
    centre: float = 0.01
    size: float = 0.02
    depth: float = 0.01

    def tensor(self, factor: float = 1.0) -> Tensor:
        """(10,) float64 step sizes times `factor`."""
        rates = torch.empty(PARAMETERS, dtype=torch.float64)
        rates[ROTATION], rates[CENTRE], rates[SIZE], rates[DEPTH] = self.rotation, self.centre, self.size, self.depth
        return rates * factor


@dataclass
class Journal:
    """What a search did: how many steps, and on request the leading pose after each."""

    keep_trace: bool = False
    steps: int = 0
    trace: list[Pose] = field(default_factory=list)

    def note(self, pose: Pose) -> None:
        """One step, after which this pose leads."""
        self.steps += 1
        if self.keep_trace:
            self.trace.append(pose)


@dataclass(frozen=True, eq=False)
class Batch:
    """B poses as parameters (B, 10), with their energies (B,) at the resolution they were last scored at."""

    parameters: Tensor
    energies: Tensor

    def best(self, count: int) -> Batch:
        """The `count` with the lowest energies, lowest first."""
        order = torch.argsort(self.energies, stable=True)[:count]
        return Batch(self.parameters[order], self.energies[order])


class Descent:
    """Adam over the ten numbers of every pose.

    Parameters
    ----------
    centre : (3,) float64, the middle of the object's box, object frame.
    scale : a scale that is known, or None where it is estimated.
    """

    def __init__(self, centre: np.ndarray, scale: float | None, journal: Journal) -> None:
        self._centre = torch.from_numpy(centre)
        self._scale = scale
        self._journal = journal

    def decode(self, parameters: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Rotations, translations and scales of (B, 10) parameters."""
        return decode(parameters, self._centre, self._scale)

    def scored(self, parameters: Tensor, score: Score) -> Batch:
        """Poses with their energies; what is not finite counts as infinitely bad."""
        with torch.no_grad():
            energies = score(*self.decode(parameters))
        return Batch(parameters, _finite(energies))

    def run(self, parameters: Tensor, score: Score, steps: int, rates: Tensor) -> Batch:
        """The best pose that each start (B, 10) came by within `steps` steps, its own included."""
        values = parameters.clone()
        first, second = torch.zeros_like(values), torch.zeros_like(values)
        best = Batch(values.clone(), torch.full((len(values),), torch.inf, dtype=torch.float64))
        bar, waited = torch.full_like(best.energies, torch.inf), 0
        for step in range(1, steps + 1):
            values = values.detach().requires_grad_()
            energies = score(*self.decode(values))
            gradient = torch.autograd.grad(energies.sum(), values)[0]
            gradient = torch.nan_to_num(gradient, 0.0, 0.0, 0.0)
            values = values.detach()
            best = _better(best, values, energies.detach())
            self._journal.note(pose_of(*self.decode(best.parameters), int(best.energies.argmin())))
            # Stop when none of the poses has got anywhere.
            if bool((best.energies < bar - PROGRESS).any()):
                bar, waited = torch.minimum(bar, best.energies), 0
            else:
                waited += 1
                if waited >= PATIENCE:
                    return best
            first = BETAS[0] * first + (1 - BETAS[0]) * gradient
            second = BETAS[1] * second + (1 - BETAS[1]) * gradient**2
            unbiased = first / (1 - BETAS[0] ** step), second / (1 - BETAS[1] ** step)
            fall = LAST_RATE ** ((step - 1) / max(steps - 1, 1))
            values = values - fall * rates * unbiased[0] / (unbiased[1].sqrt() + 1e-12)
            values = torch.maximum(torch.minimum(values, _HIGHEST), _LOWEST)
        last = self.scored(values, score)
        return _better(best, last.parameters, last.energies)


def _better(best: Batch, values: Tensor, energies: Tensor) -> Batch:
    energies = _finite(energies)
    lower = energies < best.energies
    return Batch(torch.where(lower[:, None], values, best.parameters), torch.where(lower, energies, best.energies))


def _finite(energies: Tensor) -> Tensor:
    return torch.where(torch.isfinite(energies), energies, torch.inf)
