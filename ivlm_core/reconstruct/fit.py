"""Render-and-compare: from a mask, contacts and perhaps depth to an object's pose (paper §5, Eq. 7–9, and beyond).

Cold: many starts are scored coarsely, a few dozen go a few steps, and only the best of those go on to finer levels.
Warm: a few steps from the last pose. Bad input gives a result that is not valid and says why, never an exception.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from ivlm_core.errors import ConfigError
from ivlm_core.reconstruct.contact_icp import contact_residual
from ivlm_core.reconstruct.descent import Batch, Descent, Journal, Rates
from ivlm_core.reconstruct.energy import ContactPairs, Energy, Weights, overlap_ratio
from ivlm_core.reconstruct.fit_mesh import FitMesh
from ivlm_core.reconstruct.levels import Observation, Target, target
from ivlm_core.reconstruct.penetration import Overlap
from ivlm_core.reconstruct.pose import NOWHERE, Pose, encode, pose_of
from ivlm_core.reconstruct.released import released_fit
from ivlm_core.reconstruct.silhouette import coverage
from ivlm_core.reconstruct.starts import NEAREST, cold_starts

ENERGIES = ("full", "released")
# Long side of the mask's box in pixels, coarse to fine.
COARSE, MIDDLE, FINE = 24, 48, 96
WARM_STEPS = 12
WARM_RATES = Rates(rotation=0.02, centre=0.006, size=0.006, depth=0.006)
# Fewer pixels of the object, or of known depth on it, say nothing.
LEAST_PIXELS = 12
# Beyond this many times the expected scale, either way, and beyond this many metres, a fit has failed.
WILDEST_SCALE, FURTHEST = 3.0, 100.0


@dataclass(frozen=True)
class FitSettings:
    """How a fit is done.

    Attributes
    ----------
    weights : of the terms; 0 leaves one out. Without the contact term, contacts are not used for starts either.
    scale : expected scale of the mesh. scale_spread : standard deviation of its logarithm; 0 takes the scale as known.
    assume_size : where neither contact nor a depth image tells how far away the object is, take it from how large the
        object looks, as if it had the expected scale; else such an object gets no pose.
    starts : rotations tried without a last pose.
    least_iou : a pose whose silhouette agrees less with the mask is not valid.
    most_apart_cm : nor is one whose contacts are further apart, where they alone tell how far away the object is.
    energy : `full`, or `released` for the released version's fit (see `released`; always cold, both contacts needed).
    backend : see `coverage`. keep_trace : keep the leading pose after every step.
    """

    weights: Weights = field(default_factory=Weights)
    scale: float = 1.0
    scale_spread: float = 0.1
    assume_size: bool = False
    starts: int = 64
    least_iou: float = 0.4
    most_apart_cm: float = 18.0
    energy: str = "full"
    backend: str = "rays"
    keep_trace: bool = False


@dataclass
class FitResult:
    """What a fit found.

    Attributes
    ----------
    pose : where the object is; means nothing unless `valid`. energy : the lowest reached; infinite without a fit.
    residuals : `mask_iou`, `contact_cm`, `penetration_cm`, `depth_cm`: those that could be measured.
    valid, reason : whether the pose can be trusted, and if not why. steps : of the optimiser.
    trace : the leading pose after every step, on request. notes : what was simplified or left out, for people.
    """

    pose: Pose
    energy: float
    residuals: Mapping[str, float]
    valid: bool
    reason: str
    steps: int
    trace: list[Pose] = field(default_factory=list)
    notes: tuple[str, ...] = ()


def fit_object(
    mesh: FitMesh, seen: Observation, settings: FitSettings | None = None, start: Pose | None = None
) -> FitResult:
    """Fit one object into one frame. The same input gives the same result.

    Parameters
    ----------
    mesh : see `fit_mesh`. seen : the frame. start : its pose in the last frame, for a few steps from there; or None.

    Raises
    ------
    ConfigError : an energy or a silhouette backend that does not exist.
    """
    settings = settings or FitSettings()
    if settings.energy not in ENERGIES:
        raise ConfigError("energy", f"is {settings.energy!r}", f"choose {' or '.join(map(repr, ENERGIES))}")
    reason = refusal(seen, settings)
    if not reason and start is not None and not _usable(start, mesh):
        reason = "the last pose cannot be gone on from: it is not finite or behind the camera"
    if reason:
        return FitResult(NOWHERE, float("inf"), {}, False, reason, 0, notes=mesh.notes)
    return _Fit(mesh, seen, settings).run(start)


def released_settings(**changes: Any) -> FitSettings:
    """Settings of the released version's fit: its energy, one start, the scale that is expected; or changes of them."""
    return replace(FitSettings(energy="released", scale_spread=0.0), **changes)


def pose_residuals(
    mesh: FitMesh, seen: Observation, pose: Pose, settings: FitSettings | None = None
) -> dict[str, float]:
    """What a pose looks like in a frame, without fitting: `mask_iou`, `contact_cm` and `depth_cm`, where known.

    Nothing where no pose can be judged: see `refusal`; or a pose that is not finite or not in front of the camera.
    """
    settings = settings or FitSettings()
    if refusal(seen, replace(settings, assume_size=True, energy="full")) or not _usable(pose, mesh):
        return {}
    return _residuals(mesh, seen, pose, target(seen, FINE, _expected_side(mesh, seen, settings.scale)))


def refusal(seen: Observation, settings: FitSettings) -> str:
    """Why no pose can be found, or nothing."""
    camera = seen.intrinsics
    numbers = (camera.fx, camera.fy, camera.cx, camera.cy)
    if not np.isfinite(numbers).all() or min(camera.fx, camera.fy) <= 0:
        return f"the camera's intrinsics are not usable: fx, fy, cx, cy = {', '.join(f'{n:g}' for n in numbers)}"
    rows, columns = seen.mask.shape
    if (camera.height, camera.width) != (rows, columns):
        return f"the camera's intrinsics are for {camera.width}×{camera.height} px, the mask has {columns}×{rows}"
    pixels = int(seen.mask.sum())
    if pixels == 0:
        return "the object's mask is empty, outside the picture, or wholly hidden"
    if pixels < LEAST_PIXELS:
        return f"only {pixels} pixels of the object are seen"
    if seen.body is not None and not (seen.body.vertices[:, 2] > 0).any():
        return "the body is behind the camera"
    if settings.weights.contact > 0 and seen.human is not None and not (seen.human.points[:, 2] > NEAREST).all():
        return "the body's contact is behind the camera"
    with_contact = settings.weights.contact > 0 and seen.both_contacts
    if settings.energy == "released" and not with_contact:
        return "the released energy needs contact on both sides"
    with_depth = settings.weights.depth > 0 and len(seen.known_depths()) >= LEAST_PIXELS
    if not (with_contact or with_depth or settings.assume_size):
        missing = "person" if seen.human is None else "object"
        why = "contact is not used" if settings.weights.contact <= 0 else f"there is no contact on the {missing}"
        return f"how far away the object is cannot be known: {why}, and no depth image"
    return ""


class _Fit:
    """One fit: terms and targets shared by its stages."""

    def __init__(self, mesh: FitMesh, seen: Observation, settings: FitSettings) -> None:
        self.mesh, self.seen, self.settings = mesh, seen, settings
        self.journal = Journal(settings.keep_trace)
        known = settings.scale if settings.scale_spread == 0 else None
        self.descent = Descent(mesh.centre, known, self.journal)
        self.contact = None
        if settings.weights.contact > 0 and seen.human is not None and seen.thing is not None:
            self.contact = ContactPairs(seen.human, seen.thing)
        self.expected = _expected_side(mesh, seen, settings.scale)
        self.targets: dict[int, Target] = {}

    def run(self, start: Pose | None) -> FitResult:
        if self.settings.energy == "released":
            pose, energy = released_fit(self.mesh, self.seen, self.target(FINE), self.settings.scale, self.journal)
            return self.judged(pose, energy, None)
        found, overlap = self.cold() if start is None else self.warm(start)
        found = found.best(1)
        return self.judged(pose_of(*self.descent.decode(found.parameters), 0), float(found.energies[0]), overlap)

    def cold(self) -> tuple[Batch, Overlap | None]:
        """Successive halving over all starts."""
        settings, rates = self.settings, Rates()
        rotation, translation = cold_starts(
            self.mesh, self.seen, settings.scale, settings.starts, self.contact is not None
        )
        scale = np.full(len(rotation), settings.scale)
        coarse = self.score(COARSE)
        parameters = torch.from_numpy(encode(rotation, translation, scale, self.mesh.centre))
        found = self.descent.scored(parameters, coarse).best(24)
        found = self.descent.run(found.parameters, coarse, 12, rates.tensor()).best(8)
        found = self.descent.run(found.parameters, coarse, 30, rates.tensor()).best(3)
        overlap = self.overlap(found)
        found = self.descent.run(found.parameters, self.score(MIDDLE, overlap), 30, rates.tensor(0.7)).best(1)
        return self.descent.run(found.parameters, self.score(FINE, overlap), 30, rates.tensor(0.35)), overlap

    def warm(self, start: Pose) -> tuple[Batch, Overlap | None]:
        """A few steps; the start itself stays where no step was better."""
        parts = (start.rotation[None], start.translation[None], np.array([start.scale]))
        begun = Batch(torch.from_numpy(encode(*parts, self.mesh.centre)), torch.zeros(1))
        overlap = self.overlap(begun)
        return self.descent.run(begun.parameters, self.score(MIDDLE, overlap), WARM_STEPS, WARM_RATES.tensor()), overlap

    def score(self, long_side: int, overlap: Overlap | None = None) -> Energy:
        settings = self.settings
        drawn = self.mesh.fine if long_side == FINE else self.mesh.proxy
        return Energy(
            drawn,
            self.target(long_side),
            settings.weights,
            self.contact,
            overlap,
            settings.scale,
            settings.scale_spread,
            settings.backend,
        )

    def target(self, long_side: int) -> Target:
        if long_side not in self.targets:
            self.targets[long_side] = target(self.seen, long_side, self.expected)
        return self.targets[long_side]

    def overlap(self, found: Batch) -> Overlap | None:
        """The penetration of the body that these poses can reach."""
        if self.seen.body is None or self.settings.weights.penetration <= 0:
            return None
        rotation, translation, scale = (part.numpy() for part in self.descent.decode(found.parameters))
        middles = scale[:, None] * (rotation @ self.mesh.centre) + translation
        middle = middles.mean(axis=0)
        radius = 0.5 * float(np.linalg.norm(self.mesh.extent)) * float(scale.max()) * 1.2 + 0.1
        radius += float(np.linalg.norm(middles - middle, axis=1).max())
        return Overlap(self.mesh.volume, self.seen.body, middle, radius)

    def judged(self, pose: Pose, energy: float, overlap: Overlap | None) -> FitResult:
        """A pose with its residuals, and whether to trust it."""
        result = FitResult(pose, energy, {}, False, "", self.journal.steps, self.journal.trace, self.mesh.notes)
        if not np.isfinite(energy) or not _usable(pose, self.mesh):
            return replace(result, pose=NOWHERE, reason="the fit did not end in a pose in front of the camera")
        residuals = _residuals(self.mesh, self.seen, pose, self.target(FINE))
        if overlap is not None:
            residuals["penetration_cm"] = 100.0 * overlap.depth(pose)
        result = replace(result, residuals=residuals, notes=self.mesh.notes)
        ratio = pose.scale / self.settings.scale
        if not 1 / WILDEST_SCALE <= ratio <= WILDEST_SCALE:
            return replace(result, reason=f"the object would have to be {ratio:.2g} times its expected size")
        if residuals["mask_iou"] < self.settings.least_iou:
            agreement = f"{residuals['mask_iou']:.2f}, at least {self.settings.least_iou:.2f} is needed"
            return replace(result, reason=f"the fitted silhouette does not agree with the mask (IoU {agreement})")
        apart = residuals.get("contact_cm", 0.0)
        if apart > self.settings.most_apart_cm and "depth_cm" not in residuals and not self.settings.assume_size:
            return replace(result, reason=f"the contacts do not meet: person and object stay {apart:.0f} cm apart")
        return replace(result, valid=True)


def _residuals(mesh: FitMesh, seen: Observation, pose: Pose, finest: Target) -> dict[str, float]:
    """Everything about a pose that costs little to know."""
    turn, shift = torch.from_numpy(pose.rotation[None]), torch.from_numpy(pose.translation[None])
    size = torch.tensor([pose.scale], dtype=torch.float64)
    covered = coverage(mesh.fine, turn, shift, size, finest.camera, depth=finest.depth is not None)
    found = {"mask_iou": float(overlap_ratio(covered, finest)[0])}
    if seen.human is not None and seen.thing is not None:
        apart = contact_residual(seen.human, seen.thing, pose.rotation, pose.translation, pose.scale)
        found["contact_cm"] = 100.0 * apart
    if finest.depth is not None and covered.hit_pixels is not None and covered.hit_points is not None:
        measured = finest.depth[covered.pixel[covered.hit_pixels]].numpy()
        apart_z = np.abs(pose.placed(covered.hit_points.numpy())[:, 2] - measured)
        known = np.isfinite(apart_z)
        if known.any():
            found["depth_cm"] = 100.0 * float(np.median(apart_z[known]))
    return found


def _expected_side(mesh: FitMesh, seen: Observation, scale: float) -> float:
    """Pixels that the diagonal of the object's box takes where it is touched, or where the depth image says; or 0."""
    depth = float(seen.human.weights @ seen.human.points[:, 2]) if seen.human is not None else 0.0
    if depth <= NEAREST and len(known := seen.known_depths()):
        depth = float(np.median(known))
    if depth <= NEAREST:
        return 0.0
    return scale * float(np.linalg.norm(mesh.extent)) * max(seen.intrinsics.fx, seen.intrinsics.fy) / depth


def _usable(pose: Pose, mesh: FitMesh) -> bool:
    """Whether a pose is finite and its middle in front of the camera, not beyond everything."""
    numbers = np.concatenate([pose.rotation.reshape(-1), pose.translation, [pose.scale]])
    if not np.isfinite(numbers).all() or pose.scale <= 0:
        return False
    return bool(NEAREST / 2 <= pose.placed(mesh.centre[None])[0, 2] <= FURTHEST)
