"""Objects into the scene, frame after frame: each with its person, its pixels and its contacts."""

from __future__ import annotations

import logging
from collections import Counter, OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ivlm_core.bodies import BodyModel, body_map
from ivlm_core.errors import InputError, IvlmError, shown
from ivlm_core.objects import ScalePrior
from ivlm_core.reconstruct.fit import FitResult, FitSettings, fit_object, pose_residuals
from ivlm_core.reconstruct.fit_mesh import FitMesh, fit_mesh
from ivlm_core.reconstruct.levels import Observation, mask_box
from ivlm_core.reconstruct.masks import find_mask
from ivlm_core.reconstruct.patches import ContactPoints, contact_points
from ivlm_core.reconstruct.people import People, PeopleTracker, person_pixels
from ivlm_core.reconstruct.pose import NOWHERE, Pose
from ivlm_core.reconstruct.sam import SamSegmenter
from ivlm_core.reconstruct.summary import contact_summary
from ivlm_core.reconstruct.tracking import STARTED_OVER, PoseTracker, State, TrackSettings
from ivlm_core.storage import ArrayCache
from ivlm_core.types import CameraIntrinsics, FloatArray, Frame, Mesh, ObjectQuery, PosedBody, Reconstruction

Mask = NDArray[np.bool_]
log = logging.getLogger("ivlm")

# Nobody knows sizes better than this share of them.
LEAST_SPREAD = 0.02
# An object in vain looked for is not looked for again while its box overlaps by more (see `retry_seconds`).
SAME_BOX = 0.7


@dataclass(frozen=True, eq=False)
class FitRequest:
    """One object that is to be put into the scene.

    Attributes
    ----------
    query : the detection: label, identifiers, mask or box. mesh : its mesh, metres, y up.
    human : (V,) contact on the vertices of `body`, or None. body : the body model that it is given on.
    thing : (N,) affordance on the mesh's vertices, or None.
    scale : how large the real object is, where that is known; else the mesh is taken to have its own size.
    hidden : (H, W) bool, pixels of other things, behind which the object may go on; those of the person and of the
        frame's other requests are known without it.
    """

    query: ObjectQuery
    mesh: Mesh
    human: FloatArray | None = None
    body: BodyModel | None = None
    thing: FloatArray | None = None
    scale: ScalePrior | None = None
    hidden: Mask | None = None


@dataclass(frozen=True, eq=False)
class _Look:
    """An object's pixels in a frame, and all people's; or why they are not known. `sure`: not cut out by colour."""

    mask: Mask | None = None
    people: Mask | None = None
    problem: str = ""
    sure: bool = True


@dataclass(frozen=True)
class SceneSettings:
    """How objects are put into the scene.

    Attributes
    ----------
    human_threshold, thing_threshold : from which probability on a place counts as contact.
    thing_share, thing_least : where no place of the object reaches its threshold but one reaches `thing_least`, those
        count that have this share of the greatest probability: where an object is touched is often spread over all the
        places that people touch it at.
    unsure_contact, unsure_iou : where the mask was cut out of a box by colour, which is often wrong: the least weight
        of the contact term, and the most agreement with the mask that is asked of a pose.
    fit : of every single fit; its scale is set per object. tracking : whether fits go on from the last frame's.
    """

    human_threshold: float = 0.5
    thing_threshold: float = 0.5
    thing_share: float = 0.5
    thing_least: float = 0.1
    unsure_contact: float = 1.0
    unsure_iou: float = 0.25
    fit: FitSettings = field(default_factory=FitSettings)
    tracking: bool = True
    track: TrackSettings = field(default_factory=TrackSettings)

    def thing_level(self, thing: FloatArray) -> float:
        """From which probability on places of this object count."""
        greatest = float(np.max(thing, initial=0.0))
        if greatest >= self.thing_threshold or not greatest >= self.thing_least:
            return self.thing_threshold
        return self.thing_share * greatest


class Reconstructor:
    """Puts the objects of frames into the scene and remembers where they were. Not for several threads at once.

    Parameters
    ----------
    cache : where correspondences between bodies are kept. segmenter : SAM, where its weights are there.
    bodies : body models that contact can be converted to, by name: the user's files of the SMPL family.
    """

    def __init__(
        self,
        settings: SceneSettings | None = None,
        cache: ArrayCache | None = None,
        segmenter: SamSegmenter | None = None,
        bodies: Mapping[str, BodyModel] | None = None,
    ) -> None:
        self.settings = settings or SceneSettings()
        self._cache = cache or ArrayCache()
        self._segmenter = segmenter
        self._bodies = dict(bodies or {})
        self._tracker = PoseTracker(self.settings.track)
        self._people = PeopleTracker()
        self._failed: OrderedDict[str, _Failure] = OrderedDict()

    def forget(self) -> None:
        """Start anew with the next frame."""
        self._tracker.clear()
        self._people.forget()
        self._failed.clear()

    def once(self) -> Reconstructor:
        """Another one for a single frame, which knows nothing of the frames before and leaves no trace in this one."""
        return Reconstructor(replace(self.settings, tracking=False), self._cache, self._segmenter, self._bodies)

    def run(self, frame: Frame, requests: Sequence[FitRequest]) -> tuple[Reconstruction, ...]:
        """Every object's pose, in the order of the requests; one that cannot be known is not valid and says why."""
        if not self.settings.tracking:
            self._people.forget()
        people = self._people.find(frame)
        looks = self._looks(frame, requests, people)
        found = []
        for name, request, look in zip(_names(requests, looks), requests, looks, strict=True):
            others = [other.mask for other in looks if other is not look and other.mask is not None]
            found.append(self._one(frame, request, name, people, look, others))
        return tuple(found)

    def _one(
        self, frame: Frame, request: FitRequest, name: str, people: People, look: _Look, others: Sequence[Mask]
    ) -> Reconstruction:
        body, missing = people.of(request.query.person_id)
        if look.mask is None:
            return self._refused(request, body, look.problem)
        try:
            seen = self._observation(frame, request, body, look.mask, (look.people, request.hidden, *others))
            mesh = fit_mesh(request.mesh)
            result, state, pose = self._pose(name, frame.stamp_ns, mesh, seen, self._fit_settings(request, look.sure))
        except IvlmError as error:
            return self._refused(request, body, str(error))
        except Exception as error:
            # Whatever goes wrong here must not take the contacts, and the other objects, with it.
            log.exception("the fit of %s failed", shown(request.query.label))
            return self._refused(request, body, f"the fit failed unexpectedly: {type(error).__name__}; see the log")
        if not result.valid and missing and seen.human is None:
            result = replace(result, reason=f"{missing}; {result.reason}")
        return self._told(request, body, result, state, pose)

    def _looks(self, frame: Frame, requests: Sequence[FitRequest], people: People) -> list[_Look]:
        """What each request's object covers."""
        silhouettes, hidden = self._silhouettes(frame, people)
        looks = []
        for request in requests:
            body, _ = people.of(request.query.person_id)
            person = silhouettes.get(body.person_id) if body is not None else None
            try:
                _camera(frame)
                found = find_mask(frame.image, request.query, person, self._segmenter)
                looks.append(_Look(found.mask, hidden, sure=found.source in ("query", "sam")))
            except IvlmError as error:
                looks.append(_Look(problem=str(error)))
            except Exception as error:
                log.exception("the mask of %s was not found", shown(request.query.label))
                looks.append(_Look(problem=f"its mask was not found: {type(error).__name__}; see the log"))
        return looks

    def _silhouettes(self, frame: Frame, people: People) -> tuple[dict[str, Mask], Mask | None]:
        """Which pixels each person covers, and all of them together; nothing without a camera."""
        camera, size = frame.intrinsics, frame.image.shape[:2]
        if camera is None or (camera.height, camera.width) != size:
            return {}, None
        if not np.isfinite((camera.fx, camera.fy, camera.cx, camera.cy)).all() or min(camera.fx, camera.fy) <= 0:
            return {}, None
        found = {}
        for name, body in people.bodies.items():
            try:
                found[name] = person_pixels(body, camera)
            except Exception:
                log.exception("the silhouette of person %s was not drawn", shown(name))
        return found, np.logical_or.reduce(list(found.values())) if found else None

    def _observation(
        self, frame: Frame, request: FitRequest, body: PosedBody | None, mask: Mask, others: Sequence[Mask | None]
    ) -> Observation:
        """What the frame shows of one object among other things."""
        hidden = np.zeros(mask.shape, dtype=bool)
        for other in others:
            if other is not None:
                if np.shape(other) != hidden.shape:
                    raise InputError("object.hidden", f"has shape {np.shape(other)}", f"it must be {hidden.shape}")
                hidden |= other
        # Where something else is in front, nobody knows whether the object goes on behind.
        valid = mask | ~hidden
        settings = self.settings
        human = None
        if body is not None and request.human is not None and request.body is not None:
            contact = self._on_body(request.human, request.body, body)
            human = contact_points(body.vertices, body.faces, contact, settings.human_threshold)
        thing: ContactPoints | None = None
        if request.thing is not None:
            mesh = request.mesh
            thing = contact_points(mesh.vertices, mesh.faces, request.thing, settings.thing_level(request.thing))
        return Observation(_camera(frame), mask, valid, frame.depth, body, human, thing)

    def _on_body(self, contact: FloatArray, given: BodyModel, body: PosedBody) -> FloatArray:
        """Contact on the vertices of the posed body."""
        if len(contact) == len(body.vertices) and given.name == body.body_model:
            return contact
        if body.body_model not in self._bodies:
            raise InputError(
                "body.body_model",
                f"is {body.body_model}, and contact is known on {given.name}",
                f"give the file of the body {body.body_model}, or bodies of the model {given.name}",
            )
        target = self._bodies[body.body_model]
        if len(target.mesh.vertices) != len(body.vertices):
            raise InputError(
                "body.vertices",
                f"are {len(body.vertices)}, {body.body_model} has {len(target.mesh.vertices)}",
                "give all of the body model's vertices",
            )
        converted: FloatArray = body_map(given, target, self._cache).convert(contact[None])[0]
        return converted

    def _fit_settings(self, request: FitRequest, sure: bool) -> FitSettings:
        fit = self.settings.fit
        if not sure and fit.weights.contact > 0:
            weights = replace(fit.weights, contact=max(fit.weights.contact, self.settings.unsure_contact))
            fit = replace(fit, weights=weights, least_iou=min(fit.least_iou, self.settings.unsure_iou))
        if request.scale is None:
            return fit
        scale, spread = request.scale.scale_of(request.mesh)
        return replace(fit, scale=scale, scale_spread=max(LEAST_SPREAD, spread / scale))

    def _pose(
        self, name: str, stamp_ns: int, mesh: FitMesh, seen: Observation, settings: FitSettings
    ) -> tuple[FitResult, State, Pose]:
        """Keep, refine or find the pose of one object."""
        if not self.settings.tracking:
            result = fit_object(mesh, seen, settings)
            return result, "cold", result.pose

        def check(pose: Pose) -> dict[str, float]:
            return pose_residuals(mesh, seen, pose, settings)

        if (failure := self._failed.get(name)) is not None and failure.again(mesh, seen, stamp_ns, self.settings.track):
            return FitResult(NOWHERE, float("inf"), {}, False, failure.reason, 0, notes=mesh.notes), "cold", NOWHERE
        decision = self._tracker.decide(name, mesh.content_hash, stamp_ns, check)
        if decision.state == "kept" and decision.pose is not None:
            residuals = check(decision.pose)
            kept = FitResult(decision.pose, float("nan"), residuals, True, "", 0, notes=mesh.notes)
            return kept, "kept", decision.pose
        result = fit_object(mesh, seen, settings, decision.pose)
        if decision.state == "refined" and (not result.valid or self._tracker.failed(name, stamp_ns, result.residuals)):
            decision = STARTED_OVER
            result = fit_object(mesh, seen, settings)
        self._failed.pop(name, None)
        if not result.valid:
            self._tracker.drop(name)
            self._failed[name] = _Failure(mesh.content_hash, _box(seen.mask), stamp_ns, result.reason)
            while len(self._failed) > self.settings.track.most:
                self._failed.popitem(last=False)
            return result, decision.state, result.pose
        pose = self._tracker.accept(
            name, mesh.content_hash, stamp_ns, decision.state, result.pose, result.residuals, mesh.centre
        )
        return result, decision.state, pose

    def _refused(self, request: FitRequest, body: PosedBody | None, reason: str) -> Reconstruction:
        """The answer to what cannot be fitted."""
        return self._told(request, body, FitResult(NOWHERE, float("inf"), {}, False, reason, 0), "cold", NOWHERE)

    def _told(
        self, request: FitRequest, body: PosedBody | None, result: FitResult, state: State, pose: Pose
    ) -> Reconstruction:
        summary, contact = None, self._contact_on(request, body)
        if body is not None and contact is not None:
            placed = pose if result.valid else None
            try:
                summary = contact_summary(
                    body, contact, request.mesh, request.thing, placed, threshold=self.settings.human_threshold
                )
            except IvlmError as error:
                result = replace(result, notes=(*result.notes, f"no summary of the contact: {error}"))
        told: dict[str, Any] = {
            "object_label": request.query.label,
            "mesh": request.mesh,
            "rotation": pose.rotation,
            "translation": pose.translation,
            "scale": pose.scale,
            "pose_valid": result.valid,
            "reason": result.reason,
            "residuals": dict(result.residuals),
            "state": state,
            "body": body,
            "body_contact": contact,
            "summary": summary,
            "object_id": request.query.object_id,
            "person_id": request.query.person_id or (body.person_id if body is not None else ""),
            "notes": result.notes,
            "trace": tuple((step.rotation, step.translation, step.scale) for step in result.trace),
        }
        return Reconstruction(**told)

    def _contact_on(self, request: FitRequest, body: PosedBody | None) -> FloatArray | None:
        """The contact on the posed body's vertices, or None where there is none or it cannot be converted."""
        if body is None or request.human is None or request.body is None:
            return None
        try:
            return self._on_body(request.human, request.body, body)
        except IvlmError:
            return None


@dataclass(frozen=True)
class _Failure:
    """A search for an object that ended without a pose."""

    mesh_hash: str
    box: tuple[int, int, int, int]
    stamp_ns: int
    reason: str

    def again(self, mesh: FitMesh, seen: Observation, stamp_ns: int, settings: TrackSettings) -> bool:
        """Whether searching now would only find the same: the same mesh, about the same pixels, and just tried."""
        ago = (stamp_ns - self.stamp_ns) / 1e9
        if mesh.content_hash != self.mesh_hash or not 0.0 <= ago < settings.retry_seconds or not seen.mask.any():
            return False
        return _box_overlap(_box(seen.mask), self.box) > SAME_BOX


def _names(requests: Sequence[FitRequest], looks: Sequence[_Look]) -> list[str]:
    """What each object is remembered by: its identifier, or its label and its place among those, from left to right.

    Detectors without identifiers list by score, which changes from frame to frame. An object that is asked about for
    several people is remembered for each of them.
    """
    names: list[str] = [""] * len(requests)
    taken: set[str] = set()
    asked = Counter(request.query.object_id for request in requests)
    nameless: dict[str, list[tuple[float, int]]] = {}
    for number, (request, look) in enumerate(zip(requests, looks, strict=True)):
        name = request.query.object_id
        if name and asked[name] > 1 and request.query.person_id:
            name = f"{name} of {request.query.person_id}"
        if name and name not in taken:
            taken.add(name)
            # No label and place spells like an identifier.
            names[number] = f"id {name}"
        else:
            columns = np.flatnonzero(look.mask.any(axis=0)) if look.mask is not None else np.zeros(1)
            nameless.setdefault(request.query.label, []).append((float(columns.mean()), number))
    for label, members in nameless.items():
        for place, (_, number) in enumerate(sorted(members)):
            names[number] = f"{place} {label}"
    return names


def _box(mask: Mask) -> tuple[int, int, int, int]:
    return mask_box(mask) if mask.any() else (0, 0, 0, 0)


def _box_overlap(one: tuple[int, int, int, int], other: tuple[int, int, int, int]) -> float:
    """IoU of two boxes."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    common = max(width, 0) * max(height, 0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return common / max(sum(areas) - common, 1)


def _camera(frame: Frame) -> CameraIntrinsics:
    """The intrinsics of a frame's own picture."""
    camera = frame.intrinsics
    if camera is None:
        raise InputError("camera_info", "is missing", "publish the camera's intrinsics")
    size = frame.image.shape[:2]
    if (camera.height, camera.width) != size:
        raise InputError(
            "camera_info",
            f"is for {camera.width}×{camera.height} px, the image has {size[1]}×{size[0]}",
            "publish the intrinsics of this image",
        )
    return camera
