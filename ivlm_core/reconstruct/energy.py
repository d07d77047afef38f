"""What a fit lowers: terms of the mask, its centroid, the contacts, the depth image, overlap and scale, per pose.

Every term is a plain number near or below 1, so that the weights compare. Poses are scored in batches; the terms of one
pose do not depend on the others.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ivlm_core.reconstruct.levels import Target
from ivlm_core.reconstruct.patches import ContactPoints
from ivlm_core.reconstruct.penetration import Overlap
from ivlm_core.reconstruct.silhouette import Coverage, OutlineMesh, coverage

# Metres at which a contact point's, or a depth pixel's, pull has fallen off: wrong ones must not pull for ever.
CONTACT_BOUND, DEPTH_BOUND = 0.06, 0.05
# Metres that two normals at a right angle count for where contact points look for their partners.
NORMAL_LENGTH = 0.03


@dataclass(frozen=True)
class Weights:
    """How much each term counts; 0 leaves it out. Penetration is in litres, scale in squared standard deviations."""

    mask: float = 1.0
    centroid: float = 0.3
    contact: float = 0.3
    depth: float = 0.5
    penetration: float = 0.3
    scale: float = 0.1


class ContactPairs:
    """The contact term between points on the person and points on the object.

    Parameters
    ----------
    human : in the optical frame. thing : in the object's own frame.
    """

    def __init__(self, human: ContactPoints, thing: ContactPoints) -> None:
        self._human, self._human_normals, self._human_weights = _tensors(human)
        self._thing, self._thing_normals, self._thing_weights = _tensors(thing)

    def __call__(self, rotation: Tensor, translation: Tensor, scale: Tensor) -> Tensor:
        """(B,) in [0, 1]: weighted means, over both directions, of d² / (d² + b²) to each point's partner.

        A partner is near and looks the other way: it has the least d + 3 cm · (1 + n·m).
        """
        placed = scale[:, None, None] * (self._thing @ rotation.transpose(1, 2)) + translation[:, None]
        with torch.no_grad():
            facing = 1.0 + (self._thing_normals @ rotation.transpose(1, 2)) @ self._human_normals.T
            cost = torch.cdist(placed, self._human.expand(len(placed), -1, -1)) + NORMAL_LENGTH * facing  # (B, o, h)
            of_thing, of_human = cost.argmin(dim=2), cost.argmin(dim=1)
        from_thing = ((placed - self._human[of_thing]) ** 2).sum(-1)
        partner = torch.gather(placed, 1, of_human[..., None].expand(-1, -1, 3))
        from_human = ((self._human - partner) ** 2).sum(-1)
        return 0.5 * (
            bounded(from_thing, CONTACT_BOUND) @ self._thing_weights
            + bounded(from_human, CONTACT_BOUND) @ self._human_weights
        )


class Energy:
    """The weighted sum of all terms at one resolution.

    Parameters
    ----------
    mesh : what is drawn. target : what should be seen. weights : see `Weights`.
    contact, overlap : their terms, or None.
    scale, spread : expected scale, and the standard deviation of its logarithm.
    backend : see `coverage`.
    """

    def __init__(
        self,
        mesh: OutlineMesh,
        target: Target,
        weights: Weights,
        contact: ContactPairs | None = None,
        overlap: Overlap | None = None,
        scale: float = 1.0,
        spread: float = 0.1,
        backend: str = "rays",
    ) -> None:
        self.target = target
        self._mesh, self._weights, self._contact, self._overlap = mesh, weights, contact, overlap
        self._scale, self._spread, self._backend = scale, spread, backend
        self._centre = torch.from_numpy(0.5 * (mesh.edges.vertices.min(axis=0) + mesh.edges.vertices.max(axis=0)))

    def terms(self, rotation: Tensor, translation: Tensor, scale: Tensor) -> dict[str, Tensor]:
        """Name → (B,) terms, before they are weighted, of poses whose rotations, translations, scales are given."""
        wanted, target = self._weights, self.target
        with_depth = wanted.depth > 0 and target.depth is not None
        covered = coverage(self._mesh, rotation, translation, scale, target.camera, with_depth, self._backend)
        found = {}
        if wanted.mask > 0:
            found["mask"] = 1.0 - overlap_ratio(covered, target)
        if wanted.centroid > 0:
            middle = self._centre @ rotation.transpose(1, 2) * scale[:, None] + translation
            found["centroid"] = centroid_distance(covered, target, middle)
        if with_depth:
            found["depth"] = depth_difference(covered, target, rotation, translation, scale)
        if wanted.contact > 0 and self._contact is not None:
            found["contact"] = self._contact(rotation, translation, scale)
        if wanted.penetration > 0 and self._overlap is not None:
            found["penetration"] = self._overlap.litres(rotation, translation, scale)
        if wanted.scale > 0 and self._spread > 0:
            found["scale"] = (torch.log(scale / self._scale) / self._spread) ** 2
        return found

    def __call__(self, rotation: Tensor, translation: Tensor, scale: Tensor) -> Tensor:
        """(B,) float64 energies."""
        total = torch.zeros(len(scale), dtype=torch.float64)
        for name, term in self.terms(rotation, translation, scale).items():
            total = total + getattr(self._weights, name) * term
        return total


def overlap_ratio(covered: Coverage, target: Target) -> Tensor:
    """(B,) IoU of coverage and mask over the pixels that count: I / (A + S − I) with soft sums."""
    common = covered.sum(covered.values * target.mask[covered.pixel])
    area = covered.sum(covered.values * target.valid[covered.pixel])
    return common / (area + target.area - common).clamp_min(1e-6)


def centroid_distance(covered: Coverage, target: Target, middle: Tensor) -> Tensor:
    """(B,) distance of the centroids of coverage and mask, in sides of the mask's box.

    Where nothing is covered the object's middle (B, 3), in the camera frame, stands for the coverage: a silhouette
    outside the picture has no gradient.
    """
    camera = target.camera
    weight = covered.values * target.valid[covered.pixel]
    area = covered.sum(weight)
    x = covered.sum(weight * (covered.pixel % camera.width))
    y = covered.sum(weight * (covered.pixel // camera.width))
    depth = middle[:, 2].clamp_min(1e-3)
    projected = torch.stack(
        [middle[:, 0] / depth * camera.fx + camera.cx, middle[:, 1] / depth * camera.fy + camera.cy], dim=1
    )
    seen = (area > 0.5)[:, None]
    place = torch.where(seen, torch.stack([x, y], dim=1) / area.clamp_min(0.5)[:, None], projected)
    return (((place - target.middle) / target.side) ** 2).sum(1).add(1e-12).sqrt()


def depth_difference(covered: Coverage, target: Target, rotation: Tensor, translation: Tensor, scale: Tensor) -> Tensor:
    """(B,) in [0, 1]: mean over the mask's pixels of known depth of r² / (r² + b²); 1 for those that are not covered.

    r is the difference to the depth of the surface's point that the pixel's ray hits, held fixed on the object.
    """
    assert target.depth is not None
    assert covered.hit_pixels is not None
    assert covered.hit_points is not None
    known = int(torch.isfinite(target.depth).sum())
    measured = target.depth[covered.pixel[covered.hit_pixels]]
    which = torch.isfinite(measured)
    pose = covered.pose[covered.hit_pixels][which]
    points = covered.hit_points[which]
    depth = scale[pose] * (rotation[pose, 2] * points).sum(1) + translation[pose, 2]
    gain = 1.0 - bounded((depth - measured[which]) ** 2, DEPTH_BOUND)
    return 1.0 - covered.sum_of(pose, gain) / max(known, 1)


def bounded(squared: Tensor, bound: float) -> Tensor:
    """d² / (d² + b²): d² near 0, never above 1 (Geman–McClure)."""
    return squared / (squared + bound**2)


def _tensors(contact: ContactPoints) -> tuple[Tensor, Tensor, Tensor]:
    return torch.from_numpy(contact.points), torch.from_numpy(contact.normals), torch.from_numpy(contact.weights)
