"""Objects over time: which poses can stay, which need a few steps, and which objects must be looked for anew.

For every object and frame, in this order:

    decision = tracker.decide(object_id, mesh.content_hash, stamp_ns, check)
    if decision.state != "kept":
        result = fit(start=decision.pose)                            # None: from many starts
        if decision.state == "refined" and (not result.valid or tracker.failed(object_id, stamp_ns, result.residuals)):
            decision, result = STARTED_OVER, fit(start=None)
        if result.valid:
            pose = tracker.accept(object_id, …, decision.state, result.pose, result.residuals)
        else:
            tracker.drop(object_id)

`check` looks at a pose in the new frame without fitting and returns residuals by the names that fits give them.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from ivlm_core.errors import InputError
from ivlm_core.reconstruct.pose import Pose
from ivlm_core.reconstruct.pose_filter import FilterSettings, PoseFilter

Residuals = Mapping[str, float]
Check = Callable[[Pose], Residuals]
State = Literal["cold", "refined", "kept"]


@dataclass(frozen=True)
class TrackSettings:
    """When a pose is kept, refined or given up.

    Attributes
    ----------
    time_out : seconds without the object after which it is forgotten. most : objects remembered.
    keep_iou, keep_cm : a pose is kept while mask IoU and contact are worse by at most this than after the fit.
    keep_seconds : the longest that a pose is kept without a fit: what hardly shows in the mask is caught up with then.
    least_iou, least_share : an IoU below both, the second times the one after the fit, is too far off to refine.
    lost_cm : so is a contact that is worse than after the fit by more.
    retry_seconds : an object is looked for anew because of bad residuals at most this often.
    longest_step : metres between two frames up to which a movement is continued as a guess.
    """

    time_out: float = 2.0
    most: int = 64
    keep_iou: float = 0.04
    keep_cm: float = 1.0
    keep_seconds: float = 1.0
    least_iou: float = 0.3
    least_share: float = 0.6
    lost_cm: float = 8.0
    retry_seconds: float = 3.0
    longest_step: float = 0.5
    filter: FilterSettings = field(default_factory=FilterSettings)


@dataclass(frozen=True, eq=False)
class Decision:
    """What to do for an object in this frame.

    Attributes
    ----------
    state : `kept` (publish `pose`), `refined` (a few steps from `pose`) or `cold` (many starts; `pose` is None).
    reason : why, for logs.
    """

    state: State
    pose: Pose | None
    reason: str


STARTED_OVER = Decision("cold", None, "the refined pose does not fit")


@dataclass(eq=False)
class _Track:
    mesh_hash: str
    smooth: PoseFilter
    residuals: Residuals
    seen_ns: int
    fitted_ns: int
    started_ns: int
    # The last two fitted poses' middles and times, for the guess that a movement goes on.
    before: tuple[np.ndarray, int]
    last: tuple[np.ndarray, int]


class PoseTracker:
    """The objects that were seen lately. Not for several threads at once."""

    def __init__(self, settings: TrackSettings | None = None) -> None:
        self.settings = settings or TrackSettings()
        self._tracks: OrderedDict[str, _Track] = OrderedDict()

    def __len__(self) -> int:
        return len(self._tracks)

    def __contains__(self, object_id: str) -> bool:
        return object_id in self._tracks

    def decide(
        self, object_id: str, mesh_hash: str, stamp_ns: int, check: Check, guesses: Iterable[Pose] = ()
    ) -> Decision:
        """Keep, refine or start over, by what the last pose looks like in the new frame.

        Parameters
        ----------
        object_id : the tracker's or detector's identifier; one object per identifier and frame.
        mesh_hash : `Mesh.content_hash`; another mesh under the same identifier is another object.
        check : residuals of a pose in this frame: `mask_iou`, and `contact_cm` where there is contact.
        guesses : further poses that a fit may start from, for example the last one moved with the person.
        """
        track = self._tracks.get(object_id)
        reason = "it was not seen before" if track is None else self._stranger(track, mesh_hash, stamp_ns)
        self.forget(stamp_ns)
        if track is None or reason:
            self.drop(object_id)
            return Decision("cold", None, reason)
        self._tracks.move_to_end(object_id)
        track.seen_ns = stamp_ns
        pose = track.smooth.pose
        seen = check(pose)
        fitted_ago = (stamp_ns - track.fitted_ns) / 1e9
        if fitted_ago <= self.settings.keep_seconds and self._as_good(seen, track.residuals):
            return Decision("kept", pose, "it still fits")
        best, overlap = pose, _overlap(seen)
        for guess in (*self._carried_on(track, stamp_ns), *guesses):
            looks = check(guess)
            if _overlap(looks) > overlap:
                best, overlap, seen = guess, _overlap(looks), looks
        if self._may_retry(track, stamp_ns) and (problem := self._lost(seen, track.residuals)):
            return Decision("cold", None, problem)
        return Decision("refined", best, "it has moved, or was not fitted for a while")

    def failed(self, object_id: str, stamp_ns: int, residuals: Residuals) -> bool:
        """Whether a refined pose is so much worse than the last fit that the object should be looked for anew."""
        track = self._tracks.get(object_id)
        return track is not None and self._may_retry(track, stamp_ns) and bool(self._lost(residuals, track.residuals))

    def accept(
        self,
        object_id: str,
        mesh_hash: str,
        stamp_ns: int,
        state: State,
        pose: Pose,
        residuals: Residuals,
        centre: Any = (0.0, 0.0, 0.0),
    ) -> Pose:
        """Remember a fitted pose; the pose to publish, smoothed unless the object was looked for anew.

        Parameters
        ----------
        state : of the decision that led to the fit. residuals : what the fit reached.
        centre : (3,) metres, the object's middle in its own frame.

        Raises
        ------
        InputError : a pose that is not finite or a scale that is not positive.
        """
        if not (np.isfinite(pose.rotation).all() and np.isfinite(pose.translation).all() and 0 < pose.scale < np.inf):
            raise InputError("pose", "is not finite or has no positive scale", "drop the object instead")
        middle = (pose.placed(np.asarray(centre, dtype=np.float64)[None])[0], stamp_ns)
        track = self._tracks.get(object_id)
        if state == "cold" or track is None or track.mesh_hash != mesh_hash:
            smooth = PoseFilter(pose, stamp_ns, centre, self.settings.filter)
            track = _Track(mesh_hash, smooth, dict(residuals), stamp_ns, stamp_ns, stamp_ns, middle, middle)
            self._tracks[object_id] = track
        else:
            track.smooth.update(pose, stamp_ns)
            track.residuals, track.seen_ns, track.fitted_ns = dict(residuals), stamp_ns, stamp_ns
            track.before, track.last = track.last, middle
        self._tracks.move_to_end(object_id)
        while len(self._tracks) > self.settings.most:
            self._tracks.popitem(last=False)
        return track.smooth.pose

    def drop(self, object_id: str) -> None:
        """Forget one object; its next frame starts over."""
        self._tracks.pop(object_id, None)

    def forget(self, stamp_ns: int) -> None:
        """Forget what was last seen longer ago than the time-out, and what was seen that long after `stamp_ns`."""
        limit = self.settings.time_out * 1e9
        for object_id in [name for name, track in self._tracks.items() if abs(stamp_ns - track.seen_ns) > limit]:
            self.drop(object_id)

    def clear(self) -> None:
        """Forget everything."""
        self._tracks.clear()

    def _stranger(self, track: _Track, mesh_hash: str, stamp_ns: int) -> str:
        """Why a track tells nothing about this frame, or nothing."""
        gap = (stamp_ns - track.seen_ns) / 1e9
        if track.mesh_hash != mesh_hash:
            return "its mesh is another one"
        if gap < 0:
            return f"time went back by {-gap:.3g} s"
        return f"it was not seen for {gap:.3g} s" if gap > self.settings.time_out else ""

    def _as_good(self, seen: Residuals, reached: Residuals) -> bool:
        """Whether residuals are nearly those of the fit; without a mask nothing can be said."""
        if not _overlap(seen) >= _overlap(reached) - self.settings.keep_iou or "mask_iou" not in seen:
            return False
        return "contact_cm" not in seen or _worse_contact(seen, reached) <= self.settings.keep_cm

    def _lost(self, seen: Residuals, reached: Residuals) -> str:
        """Why a pose is too far off to be refined, or nothing."""
        overlap, settings = _overlap(seen), self.settings
        if "mask_iou" in seen and not overlap >= min(settings.least_iou, settings.least_share * _overlap(reached)):
            return f"its mask overlaps by {overlap:.2f} only"
        if _worse_contact(seen, reached) > settings.lost_cm:
            return f"its contact is off by {seen['contact_cm']:.0f} cm"
        return ""

    def _may_retry(self, track: _Track, stamp_ns: int) -> bool:
        return stamp_ns - track.started_ns >= self.settings.retry_seconds * 1e9

    def _carried_on(self, track: _Track, stamp_ns: int) -> list[Pose]:
        """The last pose where it would be if it kept moving as between the last two fits."""
        (old, old_ns), (new, new_ns) = track.before, track.last
        if not old_ns < new_ns < stamp_ns:
            return []
        step = (new - old) * (stamp_ns - new_ns) / (new_ns - old_ns)
        if not 0.0 < float(np.linalg.norm(step)) <= self.settings.longest_step:
            return []
        pose = track.smooth.pose
        return [Pose(pose.rotation, pose.translation + step, pose.scale)]


def _overlap(residuals: Residuals) -> float:
    """The mask IoU; 0 where it is not known or not a number."""
    value = residuals.get("mask_iou", 0.0)
    return value if np.isfinite(value) else 0.0


def _worse_contact(seen: Residuals, reached: Residuals) -> float:
    """Centimetres by which a contact got worse; 0 where one of both is not known."""
    if "contact_cm" not in seen or "contact_cm" not in reached:
        return 0.0
    return seen["contact_cm"] - reached["contact_cm"]
