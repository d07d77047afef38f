"""Bringing hands to things: which way the elbow goes, how far wrist and forearm turn, and where the eyes look."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ivlm_core.datasets.synthetic.pose import Matrix, Poser, Side, Vector, cross, unit
from ivlm_core.datasets.synthetic.programs.grips import Hold, close
from ivlm_core.datasets.synthetic.programs.hands import ALONG, MIRROR, Distance, hand_of, turns_about
from ivlm_core.datasets.synthetic.programs.limbs import level, turn_head
from ivlm_core.datasets.synthetic.programs.stage import (
    FORWARD,
    OUTWARD,
    SIDE_NAMES,
    SIDES,
    UP,
    Stage,
    Unreachable,
    part,
)

T = TypeVar("T")
Way = tuple[Hold, Vector, Matrix]

# Degrees that people can turn a forearm either way from thumb-up, and bend a wrist: to palm and back, to either side.
MAX_TWIST, MAX_FLEXION, MAX_EXTENSION, MAX_RADIAL, MAX_ULNAR = 95.0, 75.0, 68.0, 26.0, 38.0
# Share of the arm's length beyond which an elbow is locked, and below which it is folded too far.
MAX_STRETCH, MIN_STRETCH = 0.985, 0.28
ELBOWS = 24
# The strain that is too much; a wrist bent as far as it goes, or an elbow held high, is about 2.
EFFORT = 5.0
# Half the thickness of an arm beside the trunk, metres.
UPPER_ARM, FOREARM = 0.045, 0.04
SLICE, SECTORS = 0.03, 24


@dataclass(frozen=True, eq=False)
class Trunk:
    """How far the posed trunk reaches at every height and in every direction, metres.

    Attributes
    ----------
    low : height of the lowest slice. centres : (S, 2) x and z of the slices. radii : (S, SECTORS).
    """

    low: float
    centres: NDArray[np.float64]
    radii: NDArray[np.float64]

    @classmethod
    def of(cls, points: NDArray[Any]) -> Trunk:
        """From the vertices (n, 3) of the trunk."""
        low = float(points[:, 1].min())
        slices = ((points[:, 1] - low) / SLICE).astype(int)
        count = int(slices.max()) + 1
        number = np.maximum(np.bincount(slices, minlength=count), 1)
        flat = points[:, [0, 2]].astype(np.float64)
        centres = np.stack([np.bincount(slices, flat[:, axis], count) / number for axis in (0, 1)], axis=1)
        off = flat - centres[slices]
        radii = np.zeros((count, SECTORS))
        np.maximum.at(radii, (slices, _sector(off)), np.hypot(*off.T))
        # Vertices are 2 cm apart, so that a sector may be empty; its neighbours speak for it.
        around = np.maximum(np.roll(radii, 1, axis=1), np.roll(radii, -1, axis=1))
        above = np.maximum(np.roll(radii, 1, axis=0), np.roll(radii, -1, axis=0))
        return cls(low, centres, np.where(radii > 0, radii, 0.95 * np.maximum(around, above)))

    def depth(self, points: NDArray[Any]) -> NDArray[np.float64]:
        """(...,) metres that points (..., 3) are inside it; negative outside, −1 above and below it."""
        index = np.floor((points[..., 1] - self.low) / SLICE).astype(int)
        inside = (index >= 0) & (index < len(self.radii))
        index = np.where(inside, index, 0)
        off = points[..., [0, 2]] - self.centres[index]
        depth = self.radii[index, _sector(off)] - np.hypot(off[..., 0], off[..., 1])
        result: NDArray[np.float64] = np.where(inside, depth, -1.0)
        return result


def trunk_of(stage: Stage, head: bool = True) -> Trunk:
    """The trunk as posed so far, with the head on it or without."""
    points = [stage.points("torso", "hips")]
    if head:
        # Heads have ten times as many vertices as a silhouette needs.
        points.append(stage.poser.points(part(stage.rig, "head")[::8]))
    return Trunk.of(np.concatenate(points))


def chest_forward(stage: Stage) -> Vector:
    """Where the chest faces, level.

    Raises
    ------
    Unreachable : the person lies.
    """
    forward = stage.poser.orientation("spine01") @ FORWARD
    if abs(forward[1]) > 0.75:
        raise Unreachable("needs an upright trunk")
    return level(forward)


def from_shoulder(stage: Stage, side: Side, out: float, up: float, ahead: float) -> Vector:
    """A point given from the shoulder in arm's lengths: outwards, up and ahead of the chest."""
    poser = stage.poser
    arm = poser.length(f"upperarm01.{side}", f"lowerarm01.{side}", f"wrist.{side}")
    forward = chest_forward(stage)
    outward = cross(UP, forward) * OUTWARD[side]
    point: Vector = poser.position(f"upperarm01.{side}") + arm * (out * outward + up * UP + ahead * forward)
    return point


def chest_axes(stage: Stage) -> tuple[Vector, Vector, Vector]:
    """Left, up and forward as a person feels them: level where they are upright, the chest's own where they lie."""
    chest = stage.poser.orientation("spine01")
    if abs(chest[1, 2]) > 0.75:
        return chest[:, 0], chest[:, 1], chest[:, 2]
    forward = level(chest @ FORWARD)
    return cross(UP, forward), UP, forward


def before_chest(stage: Stage, left: float, up: float, ahead: float) -> tuple[Vector, Vector, Vector]:
    """A point given from between the shoulders in arm's lengths; and the directions left and ahead."""
    poser = stage.poser
    arm = poser.length("upperarm01.L", "lowerarm01.L", "wrist.L")
    axes = chest_axes(stage)
    middle = 0.5 * (poser.position("upperarm01.L") + poser.position("upperarm01.R"))
    return middle + arm * (left * axes[0] + up * axes[1] + ahead * axes[2]), axes[0], axes[2]


def bring(
    stage: Stage,
    side: Side,
    places: Sequence[tuple[Vector, Matrix]],
    trunk: Trunk,
    effort: float = EFFORT,
    avoid: Distance | None = None,
) -> int:
    """Bring a hand to one of several places, the one that strains arm and wrist least.

    Parameters
    ----------
    places : wrist (3,) in the body's frame and the hand's axes (3, 3), columns along, palm, little finger.
    trunk : what elbow and forearm keep clear of. avoid : another thing they keep clear of, body frame.
    effort : the strain that is too much.

    Returns
    -------
    int : index of the place that was taken.

    Raises
    ------
    Unreachable : none of them can be reached without breaking a wrist.
    """
    wrists = np.stack([place[0] for place in places])
    axes = np.stack([place[1] for place in places])
    strain, poles = _strains(stage.poser, side, wrists, axes, trunk, avoid)
    best = int(strain.argmin())
    if strain[best] > effort:
        raise Unreachable(f"the {SIDE_NAMES[side]} hand cannot get there")
    stage.poser.reach(side, wrists[best], poles[best])
    stage.poser.hand(side, axes[best, :, 0], axes[best, :, 1])
    return best


def _strains(
    poser: Poser,
    side: Side,
    wrists: NDArray[np.float64],
    axes: NDArray[np.float64],
    trunk: Trunk,
    avoid: Distance | None,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(K,) the least strain of each place over all ways the elbow can go, and (K, 3) where the elbow goes then."""
    # Everything is done for a left arm; a right one is mirrored before and after.
    mirror = np.eye(3) if side == "L" else MIRROR
    hand = hand_of(poser.rig)
    zero = dict(zip(poser.rig.joint_names, poser.rig.joints.astype(np.float64), strict=True))
    upper_bone = zero["lowerarm01.L"] - zero["upperarm01.L"]
    fore_bone = zero["wrist.L"] - zero["lowerarm01.L"]
    first, second = np.linalg.norm(upper_bone), np.linalg.norm(fore_bone)
    shoulder = mirror @ poser.position(f"upperarm01.{side}")
    chest = mirror @ poser.orientation("spine01") @ mirror
    wrists, axes = wrists @ mirror, mirror @ axes

    line = wrists - shoulder
    distance = np.linalg.norm(line, axis=1)
    stretch = distance / (first + second)
    possible = (stretch < MAX_STRETCH) & (stretch > MIN_STRETCH)
    direction = line / distance[:, None]
    along = np.clip((first**2 - second**2 + distance**2) / (2 * distance), -first, first)
    # The elbow's circle starts below the arm.
    down = -UP - direction * (direction @ -UP)[:, None]
    down = np.where(np.linalg.norm(down, axis=1)[:, None] > 1e-3, down, FORWARD)
    down /= np.linalg.norm(down, axis=1, keepdims=True)
    other = np.cross(direction, down)
    angle = np.linspace(0, 2 * np.pi, ELBOWS, endpoint=False)[:, None]
    poles = np.cos(angle) * down[:, None] + np.sin(angle) * other[:, None]  # (K, E, 3)
    out = np.sqrt(np.maximum(first**2 - along**2, 0.0))
    elbow = shoulder + along[:, None, None] * direction[:, None] + out[:, None, None] * poles
    fore = wrists[:, None] - elbow
    hinge = np.cross(poles, direction[:, None])
    forearm = _frames(fore, hinge) @ _frames(fore_bone, cross(upper_bone, fore_bone)).T  # (K, E, 3, 3)

    turned = forearm.transpose(0, 1, 3, 2) @ (axes @ hand.frame.T)[:, None]
    twist = _twist(turned, unit(fore_bone))
    bent = _turned_back(twist, unit(fore_bone), turned) @ (hand.frame @ ALONG) @ hand.frame
    flexion = np.degrees(np.arctan2(bent[..., 1], bent[..., 0]))
    ulnar = np.degrees(np.arcsin(np.clip(bent[..., 2], -1, 1)))
    strain = (twist / 75) ** 2 + (flexion / 55) ** 2 + ((ulnar - 4) / 24) ** 2
    over = np.maximum.reduce(
        [
            np.abs(twist) - MAX_TWIST,
            flexion - MAX_FLEXION,
            -flexion - MAX_EXTENSION,
            ulnar - MAX_ULNAR,
            -ulnar - MAX_RADIAL,
        ]
    )
    strain += 8 * np.maximum(over, 0.0) / 10

    liked = chest @ unit(np.array([0.5, -1.0, -0.45]))
    strain += 1.4 * (1 - poles @ liked)
    arm = first + second
    relative = (elbow - shoulder) @ chest / arm
    strain += 6 * np.maximum(relative[..., 1] - 0.1, 0.0) + 12 * np.maximum(-0.08 - relative[..., 0], 0.0)
    strain += 12 * np.maximum(-0.36 - relative[..., 2], 0.0)
    places = [(shoulder + (elbow - shoulder) * 0.65, UPPER_ARM), (elbow, UPPER_ARM)]
    places += [(elbow + fore * share, FOREARM) for share in (0.35, 0.7, 1.0)]
    for point, thickness in places:
        strain += 80 * np.maximum(trunk.depth(point @ mirror) + thickness - 0.01, 0.0)
        if avoid is not None:
            strain += 150 * np.maximum(thickness - 0.012 - avoid(point @ mirror), 0.0)
    strain = np.where(possible[:, None], strain, np.inf)
    best = strain.argmin(axis=1)
    chosen = np.arange(len(best))
    return strain[chosen, best], poles[chosen, best] @ mirror


def look_at(stage: Stage, point: Vector, share: float = 0.8) -> None:
    """Turn the head towards a point, as far as a neck allows; not where something is held against the head.

    `share` : of the way there; the eyes do the rest.
    """
    if any("head" in placed.parts for placed in stage.objects):
        return
    poser = stage.poser
    towards = poser.orientation("neck01").T @ unit(np.asarray(point) - poser.position("head") - 0.06 * UP)
    aside = np.degrees(np.arctan2(towards[0], towards[2]))
    nod = np.degrees(np.arctan2(-towards[1], np.hypot(towards[0], towards[2])))
    turn_head(stage, float(np.clip(share * nod, -20, 38)), float(np.clip(share * aside, -50, 50)))


def grasp(
    stage: Stage,
    options: Mapping[Side, Sequence[Way]],
    trunk: Trunk,
    effort: float = EFFORT,
    avoid: Distance | None = None,
) -> None:
    """Bring hands to a thing and close them: of several ways for each the one that strains the arm least.

    Parameters
    ----------
    options : side → ways: a hold, where its point goes (3,) in the body's frame, and the hand's axes (3, 3).
    trunk, effort, avoid : as in `bring`.

    Raises
    ------
    Unreachable : no way is possible for one of the hands.
    """
    taken = []
    # Closing a hand takes longer than bringing it, so all of them must get there first.
    for side, ways in options.items():
        places = [(point - axes @ hold.point, axes) for hold, point, axes in ways]
        taken.append((side, ways[bring(stage, side, places, trunk, effort, avoid)][0]))
    for side, hold in taken:
        close(hand_of(stage.rig), hold).apply(stage.poser, side)


def around(axis: Any, count: int = 12, start: float = 0.0) -> list[Vector]:
    """Unit directions square to an axis, evenly spread."""
    axis = unit(axis)
    first = unit(cross(axis, np.eye(3)[np.argmin(np.abs(axis))]))
    angles = start + 360.0 / count * np.arange(count)
    return list(turns_about(axis, angles) @ first)


def sides_of(mode: str) -> tuple[Side, ...]:
    """The sides that a mode names: "left …", "right …" or "both …"."""
    return tuple(side for side in SIDES if SIDE_NAMES[side] in mode or "both" in mode)


def several(action: Callable[[], T], tries: int = 6) -> T:
    """The first of several tries that works, each with its own draw.

    Raises
    ------
    Unreachable : none does.
    """
    for _ in range(tries - 1):
        with suppress(Unreachable):
            return action()
    return action()


def keep_clear(trunk: Trunk, points: NDArray[Any], gap: float = 0.03) -> None:
    """Refuse points (n, 3) that are nearer to the trunk than `gap` metres.

    Raises
    ------
    Unreachable : one is.
    """
    if float(trunk.depth(points).max()) > -gap:
        raise Unreachable("what is held would run into the body")


def _sector(off: NDArray[Any]) -> NDArray[np.int_]:
    angle = np.arctan2(off[..., 1], off[..., 0])
    sector: NDArray[np.int_] = np.floor((angle + np.pi) / (2 * np.pi) * SECTORS).astype(int) % SECTORS
    return sector


def _frames(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    """(..., 3, 3) right-handed axes as columns from directions (..., 3): the first, the second square to it."""
    one = first / np.linalg.norm(first, axis=-1, keepdims=True)
    two = second - one * (one * second).sum(axis=-1, keepdims=True)
    two = two / np.maximum(np.linalg.norm(two, axis=-1, keepdims=True), 1e-12)
    return np.stack([one, two, np.cross(one, two)], axis=-1)


def _twist(rotation: NDArray[np.float64], axis: Vector) -> NDArray[np.float64]:
    """(...,) degrees by which rotations (..., 3, 3) turn about `axis`, −180…180."""
    vector = np.stack(
        [
            rotation[..., 2, 1] - rotation[..., 1, 2],
            rotation[..., 0, 2] - rotation[..., 2, 0],
            rotation[..., 1, 0] - rotation[..., 0, 1],
        ],
        axis=-1,
    )
    trace = rotation[..., 0, 0] + rotation[..., 1, 1] + rotation[..., 2, 2]
    twist: NDArray[np.float64] = np.degrees(2 * np.arctan2(vector @ axis, 1 + trace))
    return twist


def _turned_back(twist: NDArray[np.float64], axis: Vector, rotation: NDArray[np.float64]) -> NDArray[np.float64]:
    return turns_about(axis, -twist) @ rotation
