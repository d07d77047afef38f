"""How far a person and an object are inside each other, as a term of the fit and as a measure.

Points of the body are taken into the object's frame, those inside found by rays, and for these alone the closest place
of the surface. With that place y and the direction n = (y − X)/|y − X| held fixed, the depth is s · n·(y − X(θ)); for
the object's points in the body it is n·(y − x(θ)). The term is the sum of depth times the surface that each point
stands for: the volume, in litres, that has to be moved.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ivlm_core.reconstruct.fit_mesh import fit_mesh
from ivlm_core.reconstruct.pose import Floats, Pose
from ivlm_core.reconstruct.volume import SurfacePoints, Volume, thinned, vertex_areas
from ivlm_core.types import Mesh, PosedBody

LITRES = 1000.0  # in a cubic metre
# Cells of the surface: a share of the object's diagonal, within limits in metres; finer for what is only measured.
CELL_SHARE, MEASURED_SHARE = 1 / 40, 1 / 150
FINEST_CELL, COARSEST_CELL = 0.005, 0.03


class Overlap:
    """One posed body and one object.

    Parameters
    ----------
    thing : the object's volume, in its own frame. body : the person, optical frame.
    middle, radius : (3,) metres and metres, optical frame: what of the body the object can reach.
    """

    def __init__(self, thing: Volume, body: PosedBody, middle: Floats, radius: float) -> None:
        self._thing = thing
        self._body = Volume.of_body(body)
        diagonal = float(np.linalg.norm(thing.high - thing.low))
        spacing = float(np.clip(diagonal * CELL_SHARE, FINEST_CELL, COARSEST_CELL))
        skin = SurfacePoints(body.vertices.astype(np.float64), vertex_areas(body.vertices, body.faces))
        self._all_skin = skin.points
        self._all_thing = thing.surface(max(diagonal * MEASURED_SHARE, FINEST_CELL)).points
        self._skin = thinned(skin.within(middle, radius), spacing)
        self._surface = thing.surface(spacing)

    def litres(self, rotation: Tensor, translation: Tensor, scale: Tensor) -> Tensor:
        """(B,) litres that would have to be moved; differentiable with respect to the pose."""
        return torch.stack(
            [self._one(turn, shift, size) for turn, shift, size in zip(rotation, translation, scale, strict=True)]
        )

    def depth(self, pose: Pose) -> float:
        """Metres that the deepest point of either is inside the other."""
        skin = (self._all_skin - pose.translation) @ pose.rotation / pose.scale
        deepest = self._thing.depths(skin).max(initial=0.0) * pose.scale
        return float(max(deepest, self._body.depths(pose.placed(self._all_thing)).max(initial=0.0)))

    def _one(self, rotation: Tensor, translation: Tensor, scale: Tensor) -> Tensor:
        turn, shift, size = (part.detach().numpy() for part in (rotation, translation, scale))
        total = torch.zeros((), dtype=torch.float64)
        points = (self._skin.points - shift) @ turn / size
        if len(which := np.flatnonzero(self._thing.inside(points))):
            surface, outward = _way_out(self._thing, points[which])
            moved = (torch.from_numpy(self._skin.points[which]) - translation) @ rotation / scale
            depth = scale * (outward * (surface - moved)).sum(1)
            total = total + (depth * torch.from_numpy(self._skin.areas[which])).sum()
        points = size * self._surface.points @ turn.T + shift
        if len(which := np.flatnonzero(self._body.inside(points))):
            surface, outward = _way_out(self._body, points[which])
            moved = scale * (torch.from_numpy(self._surface.points[which]) @ rotation.T) + translation
            depth = (outward * (surface - moved)).sum(1)
            total = total + (depth * torch.from_numpy(self._surface.areas[which]) * scale**2).sum()
        return total * LITRES


def body_depth_inside(mesh: Mesh, body: PosedBody, rotation: NDArray, translation: NDArray, scale: float) -> float:
    """Metres that the deepest point of a body or an object is inside the other.

    Parameters
    ----------
    mesh : the object, own frame. body : optical frame.
    rotation, translation, scale : (3, 3), (3,), number: `x = scale · rotation @ X + translation`.
    """
    ready = fit_mesh(mesh)
    pose = Pose(np.asarray(rotation, dtype=np.float64), np.asarray(translation, dtype=np.float64), float(scale))
    middle = pose.placed(ready.centre[None])[0]
    return Overlap(ready.volume, body, middle, pose.scale * float(np.linalg.norm(ready.extent))).depth(pose)


def _way_out(volume: Volume, points: Floats) -> tuple[Tensor, Tensor]:
    """The closest places (n, 3) of the surface to points inside, and the unit directions to them."""
    surface = volume.closest(points)
    way = surface - points
    way /= np.maximum(np.linalg.norm(way, axis=1, keepdims=True), 1e-9)
    return torch.from_numpy(surface), torch.from_numpy(way)
