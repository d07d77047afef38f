"""Poses over time without jitter, and without lag where an object starts or stops.

Exponential smoothing whose gain follows the surprise: how far the new pose is from the smoothed one, in units of what
fits are usually off by. Below that the pose is still and is smoothed; well above it the object has moved and the new
pose counts as it is. Nothing is extrapolated, so nothing overshoots where a movement ends. Centre, rotation and size
share one gain: on the way between two poses that look right, a pose still does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ivlm_core.reconstruct.pose import Pose

# How sharply the gain rises about the surprise.
_STEEPNESS = 8


@dataclass(frozen=True)
class FilterSettings:
    """How strongly poses are smoothed.

    Attributes
    ----------
    seconds : in which a still pose forgets 63 % of its past.
    metres, degrees, log_scale : usual error of a fit, per axis, about each axis, and of the scale's logarithm.
    surprise : this many times the usual error, the gain is halfway to 1.
    """

    seconds: float = 0.6
    metres: float = 0.008
    degrees: float = 3.0
    log_scale: float = 0.02
    surprise: float = 2.2


class PoseFilter:
    """The smoothed pose of one object.

    Parameters
    ----------
    pose : the first one. stamp_ns : its time.
    centre : (3,) metres, the object's middle in its own frame; it is what is smoothed, wherever the frame's origin is.
    """

    def __init__(
        self, pose: Pose, stamp_ns: int, centre: Any = (0.0, 0.0, 0.0), settings: FilterSettings | None = None
    ):
        self.settings = settings or FilterSettings()
        self.centre: NDArray[np.float64] = np.asarray(centre, dtype=np.float64)
        self.pose = pose
        self.stamp_ns = stamp_ns

    def update(self, pose: Pose, stamp_ns: int) -> Pose:
        """The smoothed pose with one more; a pose that comes without any time having passed is taken as it is."""
        from scipy.spatial.transform import Rotation

        passed = (stamp_ns - self.stamp_ns) / 1e9
        self.stamp_ns = stamp_ns
        if passed <= 0:
            self.pose = pose
            return pose
        settings = self.settings
        middle = self.pose.placed(self.centre[None])[0]
        shift = pose.placed(self.centre[None])[0] - middle
        turn = Rotation.from_matrix(self.pose.rotation.T @ pose.rotation).as_rotvec()
        growth = float(np.log(pose.scale / self.pose.scale))
        # Over the root of three: the usual length of an error in three axes, and rare enough for the scale's only one.
        surprise = 3**-0.5 * max(
            float(np.linalg.norm(shift)) / settings.metres,
            float(np.degrees(np.linalg.norm(turn))) / settings.degrees,
            abs(growth) / settings.log_scale,
        )
        gain = self._gain(surprise, passed)
        rotation = self.pose.rotation @ Rotation.from_rotvec(gain * turn).as_matrix()
        scale = float(self.pose.scale * np.exp(gain * growth))
        self.pose = Pose(rotation, middle + gain * shift - scale * rotation @ self.centre, scale)
        return self.pose

    def _gain(self, surprise: float, passed: float) -> float:
        """Share of the way to the new pose, in (0, 1)."""
        still = 1.0 - float(np.exp(-passed / self.settings.seconds))
        moved = 1.0 / (1.0 + (self.settings.surprise / max(surprise, 1e-9)) ** _STEEPNESS)
        return still + (1.0 - still) * moved
