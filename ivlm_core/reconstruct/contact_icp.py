"""Contact ICP: where an object may be so that its contact points lie on the person's, from many rotations at once.

Paper §5 starts a fit from the contacts. A point and its normal are matched together, as the six numbers `(x, σ·n)`
on the person's side and `(s·R·x + t, −σ·R·n)` on the object's: surfaces that touch look at each other. Nearest
neighbours, residuals and the closed-form step all use this one distance, so every step lowers it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ivlm_core.errors import InputError
from ivlm_core.reconstruct.patches import ContactPoints

# σ, metres: two normals at a right angle count like points √2·σ apart, equal ones like 2·σ.
NORMAL_LENGTH = 0.03
# Metres at which a pair's pull has fallen to a quarter; the first rounds start wide.
BOUND, FIRST_BOUND, NARROWING = 0.06, 0.20, 0.75
# Share of the weight, on both sides together, that takes part in a step.
TRIMMED = 0.75
ROUNDS, FIRST_ROUNDS = 15, 5
# Metres: points this close together turn no object; where they say nothing, a start keeps its rotation.
RESTRAINT = 0.001
# Patches that are tried as partners: at most this many, with at least this share of the greatest patch's weight.
MOST_PATCHES, LEAST_PATCH = 3, 0.2
# Metres by which contact points are off as a whole; says how much a distance between them tells about the scale.
POINT_ERROR = 0.02

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ContactStarts:
    """What contact ICP made of each of B starting rotations: `x_camera = scale · rotation @ x + translation`.

    Attributes
    ----------
    rotations : (B, 3, 3) float64. translations : (B, 3) float64, metres. scales : (B,) float64.
    costs : (B,) float64, metres: root of the mean bounded square distance; at most `BOUND`, comparable between starts.
    """

    rotations: Floats
    translations: Floats
    scales: Floats
    costs: Floats


def contact_starts(
    human: ContactPoints, thing: ContactPoints, rotations: Any, scale: float
) -> tuple[Floats, Floats, Floats]:
    """`align_contacts` with a known scale.

    Returns
    -------
    rotations (B, 3, 3), translations (B, 3) in metres and costs (B,), in the order of the starting rotations.
    """
    found = align_contacts(human, thing, rotations, scale)
    return found.rotations, found.translations, found.costs


def align_contacts(
    human: ContactPoints, thing: ContactPoints, rotations: Any, scale: float, scale_spread: float = 0.0
) -> ContactStarts:
    """Trimmed, reweighted ICP in both directions, for all starting rotations in one batch.

    Where the contacts form several patches (two hands), each start tries which patch belongs to which and keeps what
    fits best after a few rounds. The same input gives the same output.

    Parameters
    ----------
    human : in the optical frame. thing : in the object's own frame.
    rotations : (B, 3, 3), object to optical frame.
    scale : of the object; what its library says, usually 1.
    scale_spread : standard deviation of the scale's logarithm; 0 keeps the scale. Above 0 the scale is estimated, drawn
        to `scale` the more, the smaller the touched area is.

    Raises
    ------
    InputError : rotations that are none, or a scale or spread that is no positive number.
    """
    starts = np.asarray(rotations, dtype=np.float64)
    if starts.ndim != 3 or starts.shape[1:] != (3, 3) or not len(starts) or not np.isfinite(starts).all():
        raise InputError("rotations", f"have shape {starts.shape}", "give (B, 3, 3) finite rotations, B ≥ 1")
    if not (np.isfinite(scale) and scale > 0 and np.isfinite(scale_spread) and scale_spread >= 0):
        raise InputError("scale", f"is {scale} with spread {scale_spread}", "give positive numbers")
    origin = human.weights @ human.points  # numbers near zero lose nothing in differences of squares
    guesses = _guesses(human, thing, starts, scale, origin)  # (G·B)
    few = _Icp(_thinned(human, origin), _thinned(thing), scale, scale_spread)
    state = few.run(guesses, FIRST_ROUNDS, 0)
    count = len(starts)
    best = few.costs(state).reshape(-1, count).argmin(axis=0) * count + np.arange(count)  # (B,)
    every = _Icp(_Side.of(human, origin), _Side.of(thing), scale, scale_spread)
    state = every.run(_Poses(*(part[best] for part in state.parts)), ROUNDS - FIRST_ROUNDS, FIRST_ROUNDS)
    return ContactStarts(state.rotations, state.translations + origin, state.scales, every.costs(state))


def contact_residual(
    human: ContactPoints, thing: ContactPoints, rotation: Any, translation: Any, scale: float
) -> float:
    """How far the two sides' contact points are apart: metres, weighted mean over both directions, bounded at 20 cm.

    Parameters
    ----------
    rotation : (3, 3). translation : (3,), metres.
    """
    from scipy.spatial.distance import cdist

    placed = scale * thing.points @ np.asarray(rotation, dtype=np.float64).T + np.asarray(translation, dtype=np.float64)
    apart = np.minimum(cdist(human.points, placed), FIRST_BOUND)
    return float(0.5 * (human.weights @ apart.min(axis=1) + thing.weights @ apart.min(axis=0)))


def different_first(starts: ContactStarts, degrees: float = 15.0, metres: float = 0.05) -> NDArray[np.int64]:
    """(B,) int64: the starts by rising cost, those last that repeat a cheaper one.

    Many rotations end in the same pose; whoever looks only at the first few should see different ones. Two starts are
    the same within `degrees` of rotation and `metres` of translation.
    """
    order = np.argsort(starts.costs, kind="stable")
    rotations, translations = starts.rotations[order], starts.translations[order]
    cosine = 0.5 * (np.einsum("axy,bxy->ab", rotations, rotations) - 1.0)
    near = np.linalg.norm(translations[:, None] - translations[None], axis=2) < metres
    same = near & (cosine > np.cos(np.radians(degrees)))
    repeats = np.zeros(len(order), bool)
    for number in range(1, len(order)):
        repeats[number] = bool((same[number, :number] & ~repeats[:number]).any())
    return np.concatenate([order[~repeats], order[repeats]])


@dataclass(frozen=True, eq=False)
class _Side:
    """Points (n, 3), normals (n, 3) and weights (n,) of one side."""

    points: Floats
    normals: Floats
    weights: Floats

    @classmethod
    def of(cls, contact: ContactPoints, origin: Floats | None = None) -> _Side:
        return cls(contact.points - (0.0 if origin is None else origin), contact.normals, contact.weights)


@dataclass(frozen=True, eq=False)
class _Poses:
    rotations: Floats
    translations: Floats
    scales: Floats

    @property
    def parts(self) -> tuple[Floats, Floats, Floats]:
        return self.rotations, self.translations, self.scales


class _Icp:
    """The rounds for one pair of sides."""

    def __init__(self, human: _Side, thing: _Side, scale: float, spread: float) -> None:
        self.human, self.thing, self.scale, self.spread = human, thing, scale, spread
        self.weights = np.concatenate([human.weights, thing.weights])  # (n + m,), sum 2

    def run(self, poses: _Poses, rounds: int, done: int) -> _Poses:
        """`rounds` rounds, of which `done` came before."""
        for number in range(done, done + rounds):
            bound = max(BOUND, FIRST_BOUND * NARROWING**number)
            human_of, thing_of, square = self._pairs(poses)
            poses = self._step(poses, human_of, thing_of, self._pull(square, bound))
        return poses

    def costs(self, poses: _Poses) -> Floats:
        """(B,) metres."""
        square = self._pairs(poses)[2]
        cost: Floats = np.sqrt((BOUND**2 * square / (BOUND**2 + square)) @ self.weights / 2)
        return cost

    def _pairs(self, poses: _Poses) -> tuple[NDArray[np.int64], NDArray[np.int64], Floats]:
        """Indices into the human and the thing's points and the square distance of each pair: (B, n + m) each."""
        count, human, thing = len(poses.scales), self.human, self.thing
        turned = np.swapaxes(poses.rotations, 1, 2)
        placed = poses.scales[:, None, None] * (thing.points @ turned) + poses.translations[:, None]  # (B, m, 3)
        facing = -NORMAL_LENGTH * (thing.normals @ turned)
        left = np.concatenate([human.points, NORMAL_LENGTH * human.normals], axis=1)  # (n, 6)
        right = np.concatenate([placed, facing], axis=2)  # (B, m, 6)
        # Half the square distances come from one product of eight numbers a point; float32 is enough to choose.
        human_part = np.concatenate([left, np.ones((len(left), 1)), 0.5 * (left**2).sum(axis=1)[:, None]], axis=1)
        size = 0.5 * (right**2).sum(axis=2, keepdims=True)
        thing_part = np.concatenate([-right, size, np.ones_like(size)], axis=2)
        half = thing_part.astype(np.float32) @ human_part.T.astype(np.float32)  # (B, m, n)
        to_human, to_thing = half.argmin(axis=2), half.argmin(axis=1)  # (B, m), (B, n)
        human_of = np.concatenate([np.broadcast_to(np.arange(len(left)), to_thing.shape), to_human], axis=1)
        thing_of = np.concatenate([to_thing, np.broadcast_to(np.arange(right.shape[1]), to_human.shape)], axis=1)
        gaps = left[human_of] - right[np.arange(count)[:, None], thing_of]
        return human_of, thing_of, (gaps**2).sum(axis=2)

    def _pull(self, square: Floats, bound: float) -> Floats:
        """(B, n + m) weights: Geman–McClure on what is left after trimming, nothing on the farthest pairs."""
        order = np.argsort(square, axis=1, kind="stable")
        summed = np.cumsum(self.weights[order], axis=1)
        kept = np.zeros(square.shape, bool)
        np.put_along_axis(kept, order, summed - self.weights[order] < TRIMMED * summed[:, -1:], axis=1)
        pull: Floats = np.where(kept, self.weights * (bound**2 / (bound**2 + square)) ** 2, 0.0)
        return pull

    def _step(self, poses: _Poses, human_of: NDArray, thing_of: NDArray, pull: Floats) -> _Poses:
        """The poses that are best for the pairs."""
        share = (pull / pull.sum(axis=1, keepdims=True))[:, :, None]
        target, source = self.human.points[human_of], self.thing.points[thing_of]  # (B, n + m, 3)
        middle, own_middle = (share * target).sum(axis=1), (share * source).sum(axis=1)
        target, source = target - middle[:, None], source - own_middle[:, None]
        across = np.swapaxes(share * target, 1, 2) @ source
        normals = np.swapaxes(share * self.human.normals[human_of], 1, 2) @ self.thing.normals[thing_of]
        evidence = poses.scales[:, None, None] * across - NORMAL_LENGTH**2 * normals
        rotations = _nearest_rotations(evidence + RESTRAINT**2 * poses.rotations)
        scales = poses.scales
        if self.spread > 0:
            scales = self._scales((share * target**2).sum(axis=(1, 2)), (share * source**2).sum(axis=(1, 2)))
        moved = scales[:, None] * (rotations @ own_middle[:, :, None])[:, :, 0]
        return _Poses(rotations, middle - moved, scales)

    def _scales(self, extent: Floats, own_extent: Floats) -> Floats:
        """(B,) scales from the mean square extents of both sides' pairs, and the prior.

        The ratio of the extents favours neither side; least squares would shrink the object, because nearest
        neighbours are nearer than true partners.
        """
        seen = 0.5 * np.log(np.maximum(extent, 1e-12) / np.maximum(own_extent, 1e-12))
        known = own_extent * self.scale**2 / POINT_ERROR**2
        shift = known * (seen - np.log(self.scale)) / (known + self.spread**-2)
        scales: Floats = self.scale * np.exp(np.clip(shift, -3 * self.spread, 3 * self.spread))
        return scales


def _thinned(contact: ContactPoints, origin: Floats | None = None) -> _Side:
    """Every other point, to choose between partners; the weights still have the sum 1."""
    side = _Side.of(contact, origin)
    weights = side.weights[::2]
    return _Side(side.points[::2], side.normals[::2], weights / weights.sum())


def _guesses(human: ContactPoints, thing: ContactPoints, starts: Floats, scale: float, origin: Floats) -> _Poses:
    """(G·B) poses: every start with each way of putting patches together, the guess counting slower than the start.

    The ways are: all on all; one patch on one, which outlying patches cannot disturb; and two patches on two, where
    the start is turned so that the line between them has the right direction.
    """
    ours, theirs = _middles(human) - origin, _middles(thing)
    ways = [(starts, human.weights @ human.points - origin, thing.weights @ thing.points)]
    if len(ours) > 1 or len(theirs) > 1:
        ways += [(starts, one, other) for one in ours[:2] for other in theirs[:2]]
    else:
        ways += [(starts, ours[0], theirs[0])]
    for first in range(len(ours)):
        for second in range(first):
            line = ours[first] - ours[second]
            for a in range(len(theirs)):
                for b in range(len(theirs)):
                    own_line = scale * (theirs[a] - theirs[b])
                    if a != b and _alike(float(np.linalg.norm(line)), float(np.linalg.norm(own_line))):
                        middle, own_middle = ours[[first, second]].mean(axis=0), theirs[[a, b]].mean(axis=0)
                        ways.append((_turned_onto(starts, own_line, line), middle, own_middle))
    rotations = np.concatenate([turned for turned, _, _ in ways])
    translations = np.concatenate([middle - scale * turned @ own_middle for turned, middle, own_middle in ways])
    return _Poses(rotations, translations, np.full(len(rotations), float(scale)))


def _middles(contact: ContactPoints) -> Floats:
    """(p, 3) weighted middles of the patches that count, heaviest first."""
    weights = contact.patch_weights
    count = min(MOST_PATCHES, int((weights >= LEAST_PATCH * weights[0]).sum()))
    sums = np.stack([np.bincount(contact.clusters, contact.weights * axis) for axis in contact.points.T], axis=1)
    middles: Floats = (sums / weights[:, None])[:count]
    return middles


def _alike(one: float, other: float) -> bool:
    """Whether two distances between patches may be the same one: predicted patches are centimetres off."""
    return abs(one - other) < 0.10 + 0.25 * max(one, other)


def _turned_onto(rotations: Floats, own: Floats, line: Floats) -> Floats:
    """(B, 3, 3) the rotations, each followed by the smallest turn that brings direction `own` onto `line`."""
    if not (np.linalg.norm(own) > 1e-9 and np.linalg.norm(line) > 1e-9):
        return rotations
    wanted = line / np.linalg.norm(line)
    has = rotations @ (own / np.linalg.norm(own))  # (B, 3)
    # Two reflections make the turn: on the plane between the directions, then on the one across the aim.
    half = has + wanted
    length = np.linalg.norm(half, axis=1, keepdims=True)
    aside = np.cross(wanted, np.eye(3)[np.argmin(np.abs(wanted))])
    half = np.where(length > 1e-9, half / np.maximum(length, 1e-12), aside / np.linalg.norm(aside))
    turn = _half_turn(half) @ _half_turn(has)
    turned: Floats = turn @ rotations
    return turned


def _half_turn(axes: Floats) -> Floats:
    """(B, 3, 3) half turns about unit axes (B, 3)."""
    return 2.0 * axes[:, :, None] * axes[:, None, :] - np.eye(3)


def _nearest_rotations(matrices: Floats) -> Floats:
    """(B, 3, 3) rotations with the greatest trace of `Rᵀ·M` (Kabsch)."""
    left, _, right = np.linalg.svd(matrices)
    handed = np.where(np.linalg.det(left @ right) < 0, -1.0, 1.0)
    left[:, :, 2] *= handed[:, None]
    rotations: Floats = left @ right
    return rotations
