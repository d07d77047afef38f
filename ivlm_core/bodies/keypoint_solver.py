"""Finding the pose, place and build that explain keypoints: an energy over many starts at once, and Adam in torch.

With x_l(θ) the 17 landmarks in the optical frame, p_l where they were seen, s_l their scores and Geman and McClure's
bounded square ρ(r) = c² r² / (r² + c²), the energy of one start is

    E(θ) = ½ Σ_l s_l ρ(|π(x_l) − p_l| / σ)  +  ½ Σ_l s_l ρ((z_l − d_l − o_l) / σ_l)
           +  ½ ρ(tilt(θ))  +  ½ |c|²  +  ½ |z|²  +  ½ |b|²  +  limits

the second sum only with a depth image (d_l the surface seen at the keypoint, o_l how far behind it the landmark lies).
`tilt` is how far the pelvis leans from where people of this pose have it, in standard deviations; bounded, because some
lie. θ holds the pelvis's turn from the start, its place as (x/z, y/z, log z), and, whitened, the tilt of the camera c,
the pose z and the build b.
Apart from the limits of knees and elbows this is the negative logarithm of a posterior.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ivlm_core.bodies.fit_bodies import FitBody
from ivlm_core.bodies.pose_prior import PosePrior
from ivlm_core.bodies.skeleton import HANGERS, JOINTS, LANDMARKS, paths
from ivlm_core.types import FloatArray

# θ: turn of the pelvis, place, and whitened the camera's tilt, the pose and the build, which follows.
_TURN, _PLACE, _CAMERA, _POSE = slice(0, 3), slice(3, 6), slice(6, 8), slice(8, 8 + 3 * (len(JOINTS) - 1))
_WHITE = slice(_CAMERA.start, None)
_RATES = ((_TURN, 0.06), (_PLACE, 0.02), (_CAMERA, 0.1), (_POSE, 0.12))
_BUILD_RATE = 0.1
_BETAS = (0.85, 0.98)
# Metres: where the pelvis may be, and how near a landmark is taken to be at least when it is projected.
NEAREST, FURTHEST = 0.3, 50.0
_NEAREST_LANDMARK = 0.1
# Radians past straight that knees and elbows may bend, the most they bend, and how firm these limits are.
_SLACK, _MOST_BENT, _FIRMNESS = 0.05, 2.6, 0.1
# Joints whose orientation something hangs on, in the order of the levels that `_orientations` puts together.
_TURNED = (0, 1, 2, 3, 4, 5, 6, 9, 10, 11, 12, 13, 14, 15, 16, 17)
# The levels: which of the level before are the parents, and which joints follow. One parent may have several children.
_LEVELS = (
    (slice(0, 1), 1, 4),
    (slice(0, 3), 4, 7),
    (slice(2, 3), 9, 10),
    (slice(0, 1), 10, 13),
    (slice(0, 3), 13, 16),
    (slice(1, 3), 16, 18),
)
_SKEW = np.zeros((3, 9), np.float32)
for _axis, (_plus, _minus) in enumerate(((7, 5), (2, 6), (3, 1))):
    _SKEW[_axis, _plus], _SKEW[_axis, _minus] = 1, -1


@dataclass(frozen=True)
class FitSettings:
    """How a fit is made.

    Attributes
    ----------
    cold, kept : Adam's steps in the stages of a fit without a last frame, and how many starts go on after each.
    warm : steps from the last frame's fit.
    noise : metres at the person by which keypoints are off (one standard deviation); never less than a pixel.
    bound : multiples of the noise beyond which a keypoint is taken for wrong (c above).
    depth_noise : metres, added to the spread of each landmark's depth under the skin. depth_bound : its c.
    tilt_bound : the c of the pelvis's tilt; who is further from upright lies.
    looks_down, looks_down_spread, roll_spread : degrees by which a camera looks down whose tilt is not known, and the
        standard deviations of that and of its roll. known_spread : the same of both where it is known.
    """

    cold: tuple[int, ...] = (30, 50, 70)
    kept: tuple[int, ...] = (4, 1)
    warm: int = 25
    noise: float = 0.02
    bound: float = 5.0
    depth_noise: float = 0.03
    depth_bound: float = 4.0
    tilt_bound: float = 3.0
    looks_down: float = 10.0
    looks_down_spread: float = 15.0
    roll_spread: float = 5.0
    known_spread: float = 2.0


@dataclass(frozen=True, eq=False)
class Seen:
    """What there is to explain.

    Attributes
    ----------
    points : (17, 2) where the landmarks are on the plane z = 1. weights : (17,) 0 where they were not seen.
    surface : (17,) metres along the optical axis of what is seen there; NaN where unknown.
    pixel : size of a pixel on the plane z = 1.
    up : (3,) unit, against gravity, in the optical frame; None where unknown.
    """

    points: NDArray[np.float64]
    weights: NDArray[np.float64]
    surface: NDArray[np.float64]
    pixel: float
    up: NDArray[np.float64] | None = None


@dataclass(frozen=True, eq=False)
class Solution:
    """The best θ.

    Attributes
    ----------
    rotation : (3, 3) the pelvis's, from the model's frame into the optical frame. translation : (3,) metres.
    pose : (19, 3) rotation vectors of the joints but the pelvis. build : (S,).
    whitened : (2 + P + S,) the camera's tilt, pose and build as θ has them.
    landmarks, joints : (17, 3), (20, 3) metres, optical frame.
    energy : E. noise : σ on the plane z = 1.
    """

    rotation: NDArray[np.float64]
    translation: NDArray[np.float64]
    pose: NDArray[np.float64]
    build: NDArray[np.float64]
    whitened: FloatArray
    landmarks: FloatArray
    joints: FloatArray
    energy: float
    noise: float


class Solver:
    """Fits one body to keypoints; holds the body's and the prior's tensors."""

    def __init__(self, body: FitBody, prior: PosePrior, settings: FitSettings) -> None:
        self.settings = settings
        self._body = body
        self._mean, self._factor = _tensor(prior.pose_mean), _tensor(prior.pose_factor)
        self._tilt_mean, self._tilt_of_pose = _tensor(prior.tilt_mean), _tensor(prior.tilt_of_pose)
        self._tilt_sharpness = _tensor(np.linalg.inv(prior.tilt_factor.astype(np.float64)))
        self._offset = prior.depth_offset.astype(np.float64)
        self._depth_noise = np.hypot(prior.depth_spread, settings.depth_noise)
        shapes = len(body.build_mean)
        self._build_factor = _tensor(body.build_factor)
        # Limits of d, the build's difference from the mean.
        self._low, self._high = _tensor(body.lowest - body.build_mean), _tensor(body.highest - body.build_mean)
        hangers = _tensor(body.hangers)
        self._hangers, self._linear, self._squares = hangers[0], hangers[1 : 1 + shapes], hangers[1 + shapes :]
        self._curved = bool(self._squares.any())
        self._paths = _tensor(paths())
        self._parents = torch.tensor([_TURNED.index(joint) for joint in HANGERS])
        self._skew, self._identity = _tensor(_SKEW), torch.eye(3)
        self._hinges = _hinges()
        rates = torch.full((_POSE.stop + shapes,), _BUILD_RATE)
        for part, rate in _RATES:
            rates[part] = rate
        self._rates = rates

    def cold(self, seen: Seen, rotations: NDArray[np.float64]) -> Solution:
        """The best of many starts: the mean pose, turned by `rotations` (H, 3, 3), where its size fits the picture."""
        starts = _tensor(rotations)
        theta = torch.zeros(len(starts), len(self._rates))
        theta[:, _PLACE] = self._places(seen, starts)
        problem = self._problem(seen, float(theta[:, 5].median().exp()))
        last = len(self.settings.cold) - 1
        for stage, steps in enumerate(self.settings.cold):
            rate, final = 1.0 / (1 + 0.5 * stage), 0.5 if stage < last else 0.1
            theta = self._descend(problem, theta, starts, steps, rate, final)
            if stage < last:
                with torch.no_grad():
                    best = self._energy(problem, theta, starts).argsort()[: self.settings.kept[stage]]
                theta, starts = theta[best], starts[best]
        return self._solution(problem, theta, starts)

    def warm(self, seen: Seen, last: Solution) -> Solution:
        """From the last frame's solution, moved to where the keypoints went."""
        starts = _tensor(last.rotation[None])
        theta = torch.zeros(1, len(self._rates))
        theta[0, _WHITE] = torch.from_numpy(last.whitened)
        plane = last.landmarks[:, :2] / np.maximum(last.landmarks[:, 2:], _NEAREST_LANDMARK)
        moved = np.median((seen.points - plane)[seen.weights > 0], axis=0)
        x, y, z = last.translation
        theta[0, _PLACE] = _tensor(np.array([x / z + moved[0], y / z + moved[1], np.log(z)]))
        problem = self._problem(seen, float(z))
        theta = self._descend(problem, theta, starts, self.settings.warm, 0.5, 0.2)
        return self._solution(problem, theta, starts)

    def _problem(self, seen: Seen, distance: float) -> _Problem:
        deep = np.isfinite(seen.surface) & (seen.weights > 0)
        level, tilt, spread = self._camera(seen)
        return _Problem(
            points=_tensor(seen.points),
            weights=_tensor(seen.weights),
            noise=max(self.settings.noise / distance, seen.pixel),
            deep=_tensor(np.where(deep, seen.weights, 0)),
            depth=_tensor(np.where(deep, seen.surface + self._offset, 0)),
            depth_noise=_tensor(self._depth_noise),
            has_depth=bool(deep.any()),
            level=_tensor(level),
            camera_tilt=_tensor(np.radians(tilt)),
            camera_spread=_tensor(np.radians(spread)),
        )

    def _camera(self, seen: Seen) -> tuple[NDArray[np.float64], tuple[float, float], tuple[float, float]]:
        """From a level camera's frame into the optical one; then mean and spread, degrees, of its tilt and roll."""
        settings = self.settings
        if seen.up is None:
            return np.eye(3), (settings.looks_down, 0.0), (settings.looks_down_spread, settings.roll_spread)
        across = np.cross(seen.up, [0.0, 0.0, 1.0])
        if np.linalg.norm(across) < 1e-3:
            across = np.array([-1.0, 0.0, 0.0])
        across /= -np.linalg.norm(across)
        level = np.column_stack([across, -seen.up, np.cross(across, -seen.up)])
        return level, (0.0, 0.0), (settings.known_spread, settings.known_spread)

    def _places(self, seen: Seen, starts: Tensor) -> Tensor:
        """(H, 3) where the pelvis must be for the mean pose to be seen where, and as large as, the keypoints are."""
        still = torch.zeros(len(starts), len(self._rates))
        with torch.no_grad():
            model = self._landmarks(still, starts)[0].numpy().astype(np.float64)  # (H, 17, 3)
        weights = seen.weights / seen.weights.sum()
        middle, centre = weights @ model, weights @ seen.points  # (H, 3), (2,)
        size = np.sqrt(((model - middle[:, None])[..., :2] ** 2).sum(axis=2) @ weights)
        span = np.sqrt(((seen.points - centre) ** 2).sum(axis=1) @ weights)
        distance = size / span - middle[:, 2]
        behind = seen.surface + self._offset
        known = np.isfinite(behind) & (seen.weights > 0)
        if known.sum() >= 3:
            distance = np.median((behind - model[..., 2])[:, known], axis=1)
        distance = np.clip(distance, NEAREST, FURTHEST)
        place = centre * (distance + middle[:, 2])[:, None] - middle[:, :2]
        return _tensor(np.column_stack([place / distance[:, None], np.log(distance)]))

    def _descend(
        self, problem: _Problem, theta: Tensor, starts: Tensor, steps: int, rate: float, final: float
    ) -> Tensor:
        """Adam; the rates fall from `rate` times their own to `final` times that. Gives the best θ on the way."""
        theta = theta.clone().requires_grad_(True)
        best, lowest = theta.detach().clone(), torch.full((len(theta),), float("inf"))
        mean, square = torch.zeros_like(theta), torch.zeros_like(theta)
        keep, keep_square = _BETAS
        for step in range(steps):
            energy = self._energy(problem, theta, starts)
            (slope,) = torch.autograd.grad(energy.sum(), theta)
            with torch.no_grad():
                best = torch.where((energy < lowest)[:, None], theta, best)
                lowest = torch.minimum(energy, lowest)
                mean.mul_(keep).add_(slope, alpha=1 - keep)
                square.mul_(keep_square).addcmul_(slope, slope, value=1 - keep_square)
                size = (square / (1 - keep_square ** (step + 1))).sqrt_().add_(1e-8)
                pace = rate * final ** (step / steps) / (1 - keep ** (step + 1))
                theta.sub_(self._rates * mean / size, alpha=pace)
                theta[:, 5].clamp_(float(np.log(NEAREST)), float(np.log(FURTHEST)))
        with torch.no_grad():
            better = self._energy(problem, theta, starts) < lowest
            return torch.where(better[:, None], theta, best)

    def _energy(self, problem: _Problem, theta: Tensor, starts: Tensor) -> Tensor:
        """(H,)."""
        pose = self._pose(theta)
        distance = theta[:, 5].exp()[:, None]
        place = torch.cat([theta[:, 3:5] * distance, distance], dim=1)
        landmarks, pelvis = self._landmarks(theta, starts, pose)
        points = landmarks + place[:, None]  # (H, 17, 3)
        plane = points[..., :2] / points[..., 2:].clamp(min=_NEAREST_LANDMARK)
        off = ((plane - problem.points) / problem.noise).square().sum(dim=2)
        energy = _bounded(off, self.settings.bound) @ problem.weights + theta[:, _WHITE].square().sum(dim=1)
        energy = energy + _bounded(self._tilt(problem, theta, pelvis), self.settings.tilt_bound)
        if problem.has_depth:
            deep = ((points[..., 2] - problem.depth) / problem.depth_noise).square()
            energy = energy + _bounded(deep, self.settings.depth_bound) @ problem.deep
        bent = pose @ self._hinges  # (H, 4)
        past = torch.relu(-_SLACK - bent) + torch.relu(bent - _MOST_BENT)
        limits = past.square().sum(dim=1) / _FIRMNESS**2
        energies: Tensor = 0.5 * (energy + limits)
        return energies

    def _tilt(self, problem: _Problem, theta: Tensor, pelvis: Tensor) -> Tensor:
        """(H,) how far the pelvis leans from where the pose has it, squared and in standard deviations."""
        down, roll = (problem.camera_tilt + theta[:, _CAMERA] * problem.camera_spread).unbind(dim=1)
        level = torch.stack([roll.sin(), -roll.cos() * down.cos(), -roll.cos() * down.sin()], dim=1)
        upwards = ((level @ problem.level.T)[:, None] @ pelvis)[:, 0]
        off = upwards[:, ::2] - self._tilt_mean - theta[:, _POSE] @ self._tilt_of_pose.T
        # The sines x and z alone would take somebody upside down for upright.
        upside_down: Tensor = (torch.relu(-upwards[:, 1]) * self._tilt_sharpness[0, 0]).square()
        return (off @ self._tilt_sharpness.T).square().sum(dim=1) + upside_down

    def _pose(self, theta: Tensor) -> Tensor:
        """(H, 57) rotation vectors."""
        return self._mean + theta[:, _POSE] @ self._factor.T

    def _difference(self, theta: Tensor) -> Tensor:
        """(H, S) how the build differs from the mean."""
        return torch.clamp(theta[:, _POSE.stop :] @ self._build_factor.T, self._low, self._high)

    def _hanging(self, theta: Tensor) -> Tensor:
        """(H, 24, 3) the vectors of `HANGERS` in the T-pose, metres."""
        d = self._difference(theta)
        vectors = self._hangers + d @ self._linear
        if self._curved:
            vectors = vectors + (d[:, :, None] * d[:, None, :]).flatten(1) @ self._squares
        return vectors.unflatten(1, (len(HANGERS), 3))

    def _landmarks(
        self, theta: Tensor, starts: Tensor, pose: Tensor | None = None, joints: bool = False
    ) -> tuple[Tensor, Tensor]:
        """(H, 17, 3) metres from the pelvis, in the optical frame, and (H, 3, 3) how the pelvis is turned.

        The (H, 20, 3) joints instead of the landmarks where asked for.
        """
        pose = self._pose(theta) if pose is None else pose
        turns = self._rotations(torch.cat([theta[:, _TURN], pose], dim=1).unflatten(1, (len(JOINTS), 3)))
        pelvis = turns[:, 0] @ starts
        level = pelvis[:, None]
        levels = [level]
        for parents, first, end in _LEVELS:
            level = level[:, parents] @ turns[:, first:end]
            levels.append(level)
        turned = torch.cat(levels, dim=1)[:, self._parents]  # (H, 24, 3, 3)
        hanging = (turned @ self._hanging(theta)[..., None])[..., 0]
        which = slice(len(LANDMARKS), None) if joints else slice(0, len(LANDMARKS))
        return self._paths[which] @ hanging, pelvis

    def _rotations(self, vectors: Tensor) -> Tensor:
        """(…, 3) rotation vectors → (…, 3, 3), by Rodrigues' formula."""
        square = vectors.square().sum(dim=-1, keepdim=True)[..., None] + 1e-12
        angle = square.sqrt()
        skew = (vectors @ self._skew).unflatten(-1, (3, 3))
        return self._identity + (angle.sin() / angle) * skew + ((1 - angle.cos()) / square) * (skew @ skew)

    @torch.no_grad()
    def _solution(self, problem: _Problem, theta: Tensor, starts: Tensor) -> Solution:
        energies = self._energy(problem, theta, starts)
        best = int(torch.nan_to_num(energies, nan=float("inf")).argmin())
        theta, starts = theta[best : best + 1], starts[best : best + 1]
        distance = float(theta[0, 5].exp())
        translation = np.array([float(theta[0, 3]) * distance, float(theta[0, 4]) * distance, distance])
        landmarks, pelvis = self._landmarks(theta, starts)
        left, _, right = np.linalg.svd(pelvis[0].numpy().astype(np.float64))
        difference = self._difference(theta)[0].numpy()
        return Solution(
            rotation=left @ right,
            translation=translation,
            pose=self._pose(theta)[0].unflatten(0, (-1, 3)).numpy().astype(np.float64),
            build=(self._body.build_mean + difference).astype(np.float64),
            whitened=theta[0, _WHITE].numpy().copy(),
            landmarks=(landmarks[0].numpy() + translation).astype(np.float32),
            joints=(self._landmarks(theta, starts, joints=True)[0][0].numpy() + translation).astype(np.float32),
            energy=float(energies[best]),
            noise=problem.noise,
        )


@dataclass(frozen=True, eq=False)
class _Problem:
    """`Seen` as tensors.

    `deep` are the weights of the landmarks with depth, `depth` where these should be. `level` leads from the frame of a
    camera without tilt into the optical one; `camera_tilt`, `camera_spread` are how far it looks down, and its roll.
    """

    points: Tensor
    weights: Tensor
    noise: float
    deep: Tensor
    depth: Tensor
    depth_noise: Tensor
    has_depth: bool
    level: Tensor
    camera_tilt: Tensor
    camera_spread: Tensor


def _bounded(square: Tensor, bound: float) -> Tensor:
    return bound**2 * square / (square + bound**2)


def _hinges() -> Tensor:
    """(57, 4): how much a pose bends knees and elbows, from the rotation vectors; straight is 0."""
    hinges = np.zeros((3 * (len(JOINTS) - 1), 4), np.float32)
    # Knees bend about the body's own left; elbows bring the hand forward, about down on the left and up on the right.
    bends = (("left knee", 0, 1), ("right knee", 0, 1), ("left elbow", 1, -1), ("right elbow", 1, 1))
    for number, (joint, axis, sign) in enumerate(bends):
        hinges[3 * (JOINTS.index(joint) - 1) + axis, number] = sign
    return _tensor(hinges)


def _tensor(array: NDArray) -> Tensor:
    return torch.tensor(np.asarray(array, dtype=np.float32))
