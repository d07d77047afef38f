"""Objects of whole frames: found, followed, and refused with a reason instead of a wild pose or an exception."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import cKDTree

from ivlm_core import CameraIntrinsics, Frame, Mesh, ObjectQuery
from ivlm_core.bodies import load_body
from ivlm_core.datasets.synthetic import SAMPLE, SceneCamera, SynthHoi
from ivlm_core.objects import ScalePrior, library_shape
from ivlm_core.reconstruct import FitRequest, FitSettings, Reconstructor, SceneSettings
from ivlm_core.types import BodyKeypoints, PosedBody, Reconstruction

SECOND = 10**9
QUICK = SceneSettings(fit=FitSettings(starts=8))


@dataclass(frozen=True, eq=False)
class Scene:
    """A frame, what is asked about it, and where the object's vertices are, optical frame."""

    frame: Frame
    request: FitRequest
    truth: np.ndarray

    def run(self, reconstructor: Reconstructor | None = None, **changes: Any) -> Reconstruction:
        """The answer; `changes` are to the frame, or to the request or its query where they have such a field."""
        frame, request, query = self.frame, self.request, self.request.query
        for name, value in changes.items():
            if name in ("object_id", "label", "mask", "box_xyxy", "person_id"):
                query = replace(query, **{name: value})
            elif hasattr(request, name):
                request = replace(request, **{name: value})
            else:
                frame = replace(frame, **{name: value})
        (found,) = (reconstructor or Reconstructor(QUICK)).run(frame, [replace(request, query=query)])
        return found

    def off(self, found: Reconstruction) -> float:
        """Metres: Chamfer distance of the vertices from where they are."""
        ours = found.placed()
        there, back = cKDTree(self.truth).query(ours)[0], cKDTree(ours).query(self.truth)[0]
        return 0.5 * float(there.mean() + back.mean())


@pytest.fixture(scope="module")
def scene() -> Scene:
    """A skateboard under a foot, from the sample that ships."""
    record = SynthHoi(SAMPLE, "test")[2]
    thing = record.objects[0]
    camera = SceneCamera(
        record.intrinsics, record.camera_rotation.astype(np.float64), record.camera_position.astype(np.float64)
    )
    mesh = library_shape(thing.label, **thing.sizes).mesh
    body = load_body("anny")
    posed = PosedBody(camera.to_optical(record.body_vertices()).astype(np.float32), body.mesh.faces, "anny", "anna")
    depth = np.where(record.depth > 0, record.depth, np.nan).astype(np.float32)
    truth = (mesh.vertices @ thing.rotation.T + thing.translation).astype(np.float64)
    return Scene(
        Frame(record.image, record.intrinsics, depth, stamp_ns=10 * SECOND, bodies=(posed,)),
        FitRequest(
            ObjectQuery(thing.label, "board", box_xyxy=thing.box, mask=record.object_mask(0)),
            mesh,
            human=thing.body_contact.astype(np.float32),
            body=body,
            thing=thing.object_contact.astype(np.float32),
        ),
        camera.to_optical(truth),
    )


def test_an_object_is_found_where_it_is(scene):
    found = scene.run(depth=None)
    assert found.pose_valid, found.reason
    assert scene.off(found) < 0.03
    assert (found.object_id, found.person_id, found.state, found.reason) == ("board", "anna", "cold", "")
    assert found.body is scene.frame.bodies[0]
    assert found.residuals["mask_iou"] > 0.8
    assert found.residuals["penetration_cm"] < 2.0
    assert found.summary is not None
    assert found.summary.area_cm2 > 10.0
    # The person's skin touches the object there.
    assert cKDTree(scene.truth).query(found.summary.centroid)[0] < 0.10


def test_objects_are_followed_from_frame_to_frame(scene):
    reconstructor = Reconstructor(QUICK)
    first = scene.run(reconstructor)
    again = scene.run(reconstructor, stamp_ns=round(10.1 * SECOND))
    assert [first.state, again.state] == ["cold", "kept"]
    np.testing.assert_array_equal(again.translation, first.translation)
    later = scene.run(reconstructor, stamp_ns=round(11.5 * SECOND))
    assert later.state == "refined"
    assert later.pose_valid
    assert np.linalg.norm(later.translation - first.translation) < 0.05
    # A frame without the object's pixels says so, and forgets nothing.
    unseen = scene.run(reconstructor, stamp_ns=round(11.6 * SECOND), mask=np.zeros_like(scene.request.query.mask))
    assert not unseen.pose_valid
    assert scene.run(reconstructor, stamp_ns=round(11.7 * SECOND)).state == "kept"
    reconstructor.forget()
    assert scene.run(reconstructor, stamp_ns=round(11.8 * SECOND)).state == "cold"


def test_without_tracking_people_are_fitted_anew_too(scene, monkeypatch):
    from ivlm_core.reconstruct import people as module

    before = []
    fitted = SimpleNamespace(body=scene.frame.bodies[0])

    def watched(seen, intrinsics, depth, previous):
        before.append(previous)
        return fitted

    monkeypatch.setattr(module, "fit_keypoints", watched)
    keypoints = (BodyKeypoints(np.zeros((17, 2), np.float32), np.ones(17, np.float32), "anna"),)
    for tracking in (False, True):
        before.clear()
        reconstructor = Reconstructor(replace(QUICK, tracking=tracking))
        for _ in range(2):
            scene.run(reconstructor, bodies=(), keypoints=keypoints)
        assert before == [None, fitted if tracking else None]


def test_without_tracking_every_frame_is_fitted_anew(scene):
    reconstructor = Reconstructor(replace(QUICK, tracking=False))
    first, second = (scene.run(reconstructor) for _ in range(2))
    assert second.state == "cold"
    np.testing.assert_array_equal(second.rotation, first.rotation)


def test_objects_keep_their_order_and_their_own_tracks(scene):
    reconstructor = Reconstructor(QUICK)
    hidden = replace(scene.request.query, mask=np.zeros_like(scene.request.query.mask))
    requests = [scene.request, replace(scene.request, query=hidden), replace(scene.request, thing=None)]
    first, second, third = reconstructor.run(replace(scene.frame, depth=None), requests)
    assert first.pose_valid
    assert "is empty" in second.reason
    assert "no contact on the object" in third.reason
    assert third.summary is not None
    assert third.summary.free_regions == ()


def test_a_known_size_stands_for_the_meshs_own(scene):
    double = Mesh(scene.request.mesh.vertices * np.float32(2.0), scene.request.mesh.faces)
    longest = float(np.ptp(scene.request.mesh.vertices, axis=0).max())
    found = scene.run(mesh=double, scale=ScalePrior(longest, 0.05 * longest))
    assert found.pose_valid, found.reason
    assert found.scale == pytest.approx(0.5, rel=0.15)
    assert scene.off(found) < 0.05


def nan_at(camera: CameraIntrinsics, name: str) -> CameraIntrinsics:
    return replace(camera, **{name: float("nan")})


def behind(body: PosedBody) -> PosedBody:
    return replace(body, vertices=body.vertices * np.float32([1, 1, -1]))


NOTHING = np.zeros((192, 256), bool)
BAD: Mapping[str, tuple[Callable[[Scene], dict[str, Any]], str]] = {
    "mask is empty": (lambda scene: {"mask": NOTHING}, "object.mask: is empty"),
    "mask of another picture": (lambda scene: {"mask": np.ones((480, 640), bool)}, "object.mask: has shape"),
    "box out of the image": (
        lambda scene: {"mask": None, "box_xyxy": (300.0, 20.0, 400.0, 90.0)},
        "object.box: (300.0, 20.0, 400.0, 90.0) covers no",
    ),
    "neither mask nor box": (lambda scene: {"mask": None, "box_xyxy": None}, "object.box: is missing"),
    "no contact on the person": (lambda scene: {"human": None}, "no contact on the person"),
    "no contact on the object": (lambda scene: {"thing": None}, "no contact on the object"),
    "contact on the person below the threshold": (
        lambda scene: {"human": 0.4 * scene.request.human},
        "no contact on the person",
    ),
    "contact on the object below the threshold": (
        lambda scene: {"thing": np.zeros_like(scene.request.thing)},
        "no contact on the object",
    ),
    "contact for another mesh": (lambda scene: {"thing": np.ones(7, np.float32)}, "7"),
    "contact on a body that is not known": (
        lambda scene: {"bodies": (replace(scene.frame.bodies[0], body_model="smplx"),)},
        "give the file of the body smplx",
    ),
    "body behind the camera": (lambda scene: {"bodies": (behind(scene.frame.bodies[0]),)}, "body is behind"),
    "no body": (lambda scene: {"bodies": ()}, "no posed body is given"),
    "somebody else's body": (lambda scene: {"person_id": "bert"}, "of person 'bert'"),
    "which of two bodies": (
        lambda scene: {"bodies": (scene.frame.bodies[0], replace(scene.frame.bodies[0], person_id="bert"))},
        "which of 2 people",
    ),
    "no intrinsics": (lambda scene: {"intrinsics": None}, "camera_info: is missing"),
    "intrinsics of zero": (
        lambda scene: {"intrinsics": CameraIntrinsics(0.0, 0.0, 0.0, 0.0, 256, 192)},
        "intrinsics are not usable",
    ),
    "focal length of zero": (
        lambda scene: {"intrinsics": replace(scene.frame.intrinsics, fy=0.0)},
        "intrinsics are not usable",
    ),
    "intrinsics of NaN": (
        lambda scene: {"intrinsics": nan_at(scene.frame.intrinsics, "cx")},
        "intrinsics are not usable",
    ),
    "intrinsics of another picture": (
        lambda scene: {"intrinsics": replace(scene.frame.intrinsics, width=640, height=480)},
        "for 640×480 px",
    ),
    "depth of nothing but holes": (
        lambda scene: {"thing": None, "depth": np.full((192, 256), np.nan, np.float32)},
        "no depth image",
    ),
}


@pytest.mark.parametrize("case", list(BAD))
def test_what_cannot_be_known_says_why(scene, case):
    change, words = BAD[case]
    found = scene.run(**{"depth": None, **change(scene)})
    assert not found.pose_valid
    assert words in found.reason
    np.testing.assert_array_equal(found.rotation, np.eye(3))
    np.testing.assert_array_equal(found.translation, np.zeros(3))
    assert found.scale == 1.0


def test_depth_with_holes_stands_in_for_contact(scene):
    holes = scene.frame.depth.copy()
    random = np.random.default_rng(0).random(holes.shape)
    holes[random < 0.3], holes[random > 0.9], holes[(random > 0.5) & (random < 0.55)] = np.nan, 0.0, np.inf
    found = scene.run(Reconstructor(SceneSettings(fit=FitSettings(starts=24))), depth=holes, thing=None)
    assert found.pose_valid, found.reason
    assert found.residuals["depth_cm"] < 2.0
    assert scene.off(found) < 0.06


def test_a_mesh_that_is_no_manifold_is_fitted_and_it_is_said(scene):
    mesh = scene.request.mesh
    # Every eighth face is missing, others are there twice or the other way round, and one edge has four faces.
    faces = mesh.faces[np.arange(len(mesh.faces)) % 8 != 0]
    fins = np.stack([faces[:5, 0], faces[:5, 1], faces[5:10, 2]], axis=1)
    broken = Mesh(mesh.vertices, np.concatenate([faces, faces[:20], faces[30:40, ::-1], fins]))
    found = scene.run(mesh=broken)
    assert found.pose_valid, found.reason
    assert scene.off(found) < 0.05
    assert any("not watertight" in note for note in found.notes)


def test_a_mesh_of_500_000_faces_is_simplified_and_it_is_said(scene):
    mesh = scene.request.mesh
    vertices, faces, contact = mesh.vertices, mesh.faces, {"contact": scene.request.thing[:, None]}
    while 4 * len(faces) <= 500_000:
        vertices, faces, contact = trimesh.remesh.subdivide(vertices, faces, vertex_attributes=contact)
    some = np.arange(-(-(500_000 - len(faces)) // 3))
    vertices, faces, contact = trimesh.remesh.subdivide(vertices, faces, some, vertex_attributes=contact)
    assert 500_000 <= len(faces) <= 500_002
    found = scene.run(mesh=Mesh(vertices, faces), thing=contact["contact"][:, 0].astype(np.float32))
    assert found.pose_valid, found.reason
    assert scene.off(replace(found, mesh=mesh)) < 0.05
    assert any(note.startswith(f"simplified from {len(faces)} to ") for note in found.notes)


def test_an_object_partly_out_of_view_is_found(scene):
    # The picture ends in the middle of the skateboard.
    mask = scene.request.query.mask
    end = int(np.flatnonzero(mask.any(axis=0)).mean())
    camera = replace(scene.frame.intrinsics, width=end)
    frame = replace(scene.frame, image=np.ascontiguousarray(scene.frame.image[:, :end]), intrinsics=camera, depth=None)
    query = replace(scene.request.query, mask=mask[:, :end], box_xyxy=None)
    (found,) = Reconstructor(SceneSettings()).run(frame, [replace(scene.request, query=query)])
    assert found.pose_valid, found.reason
    assert scene.off(found) < 0.05


def test_other_things_may_hide_the_object(scene):
    # A wall stands in front of the skateboard's right half; it is known, or another request's object.
    mask = scene.request.query.mask
    wall = np.zeros_like(mask)
    wall[:, int(np.flatnonzero(mask.any(axis=0)).mean()) :] = True
    left = {"mask": mask & ~wall, "depth": None}
    reconstructor = Reconstructor(SceneSettings(tracking=False))
    blind = scene.run(reconstructor, **left)
    known = scene.run(reconstructor, hidden=wall, **left)
    assert known.pose_valid, known.reason
    assert scene.off(known) < 0.05
    assert not blind.pose_valid or known.residuals["mask_iou"] > blind.residuals["mask_iou"] + 0.1
    query = replace(scene.request.query, mask=mask & ~wall)
    other = replace(scene.request, query=replace(query, object_id="wall", mask=wall), thing=None, human=None)
    first, _ = reconstructor.run(replace(scene.frame, depth=None), [replace(scene.request, query=query), other])
    np.testing.assert_array_equal(first.translation, known.translation)
    wrong = scene.run(reconstructor, hidden=wall[:10], **left)
    assert "object.hidden" in wrong.reason


def test_contact_that_is_spread_over_an_object_still_counts(scene):
    settings = SceneSettings()
    thing = scene.request.thing
    assert settings.thing_level(thing) == 0.5
    assert settings.thing_level(0.3 * thing) == pytest.approx(0.15)
    assert settings.thing_level(0.05 * thing) == 0.5
    found, faint = scene.run(depth=None), scene.run(depth=None, thing=np.float32(0.3) * thing)
    assert faint.pose_valid
    np.testing.assert_allclose(faint.translation, found.translation, atol=1e-3)


def test_an_object_that_breaks_the_fit_does_not_take_the_others_with_it(scene, monkeypatch, caplog):
    from ivlm_core.reconstruct import scene as module

    def broken(mesh, seen, settings, *start):
        if mesh.content_hash == other.content_hash:
            raise ZeroDivisionError("nobody thought of this")
        return fit_object(mesh, seen, settings, *start)

    fit_object = module.fit_object
    other = library_shape("sports ball").mesh
    monkeypatch.setattr(module, "fit_object", broken)
    requests = [replace(scene.request, mesh=other, thing=None), scene.request]
    bad, good = Reconstructor(QUICK).run(scene.frame, requests)
    assert not bad.pose_valid
    assert "ZeroDivisionError" in bad.reason
    assert good.pose_valid
    assert "nobody thought of this" in caplog.text


def test_contact_weighs_more_and_the_mask_less_where_it_was_cut_out_by_colour(scene, monkeypatch):
    from ivlm_core.reconstruct import scene as module

    used = []

    def watched(mesh, seen, settings, *start):
        used.append((settings.weights.contact, settings.least_iou))
        return fit_object(mesh, seen, settings, *start)

    fit_object = module.fit_object
    monkeypatch.setattr(module, "fit_object", watched)
    own = QUICK.fit.weights.contact, QUICK.fit.least_iou
    for mask in (scene.request.query.mask, None):
        scene.run(mask=mask)
    without = replace(QUICK, fit=replace(QUICK.fit, weights=replace(QUICK.fit.weights, contact=0.0)))
    scene.run(Reconstructor(without), mask=None)
    assert used == [own, (1.0, 0.25), (0.0, own[1])]
    assert own[0] < 1.0
    assert own[1] > 0.25


def test_a_mask_that_is_not_the_objects_gives_no_pose(scene):
    mask = NOTHING.copy()
    mask[90:96, :] = mask[:, 100:106] = True
    found = scene.run(mask=mask)
    assert not found.pose_valid
    assert "does not agree with the mask" in found.reason or "expected size" in found.reason


@settings(max_examples=12)
@given(
    numbers=st.tuples(*[st.sampled_from([0.0, 1e-30, -300.0, 300.0, 1e30, float("nan"), float("inf")])] * 4),
    box=st.tuples(*[st.floats(-1e4, 1e4)] * 4),
)
def test_whatever_comes_in_something_finite_comes_out(scene, numbers, box):
    left, top = min(box[0], box[2]), min(box[1], box[3])
    changes = {"box_xyxy": (left, top, left + abs(box[0] - box[2]) + 1, top + abs(box[1] - box[3]) + 1)}
    camera = CameraIntrinsics(*numbers, 256, 192)
    reconstructor = Reconstructor(SceneSettings(fit=FitSettings(starts=1)))
    found = scene.run(reconstructor, intrinsics=camera, mask=None, depth=None, **changes)
    assert np.isfinite(found.rotation).all()
    assert np.isfinite(found.translation).all()
    assert found.pose_valid or found.reason


def counted(monkeypatch) -> list[bool]:
    """What gets fitted from now on: whether from a last pose."""
    from ivlm_core.reconstruct import scene as module

    fits = []

    def watched(mesh, seen, settings, *start):
        fits.append(bool(start) and start[0] is not None)
        return fit_object(mesh, seen, settings, *start)

    fit_object = module.fit_object
    monkeypatch.setattr(module, "fit_object", watched)
    return fits


def test_what_cannot_be_fitted_is_not_tried_in_every_frame(scene, monkeypatch):
    fits = counted(monkeypatch)
    reconstructor = Reconstructor(QUICK)
    mask = NOTHING.copy()
    mask[90:96, :] = mask[:, 100:106] = True
    reasons = [
        scene.run(reconstructor, mask=mask, stamp_ns=round((10 + 0.1 * step) * SECOND)).reason for step in range(4)
    ]
    assert len(set(reasons)) == 1
    assert len(fits) == 1
    # Seen differently it is tried at once, and otherwise after a while.
    assert scene.run(reconstructor, stamp_ns=round(10.5 * SECOND)).pose_valid
    scene.run(reconstructor, mask=mask, stamp_ns=11 * SECOND)
    count = len(fits)
    scene.run(reconstructor, mask=mask, stamp_ns=15 * SECOND)
    assert len(fits) > count


def test_objects_without_names_are_known_by_their_place_and_not_by_the_detectors_order(scene, monkeypatch):
    reconstructor = Reconstructor(QUICK)
    aside = np.roll(scene.request.query.mask, 40, axis=1)
    query = replace(scene.request.query, object_id="")
    here, there = (replace(scene.request, query=replace(query, mask=mask)) for mask in (query.mask, aside))
    # Known by depth, wherever it is put.
    frame = replace(scene.frame, bodies=())
    first = reconstructor.run(frame, [here, there])
    fits = counted(monkeypatch)
    again = reconstructor.run(replace(frame, stamp_ns=round(10.1 * SECOND)), [there, here])
    assert fits == []
    assert [found.state for found in again if found.pose_valid] == ["kept"] * sum(item.pose_valid for item in first)
    np.testing.assert_array_equal(again[1].translation, first[0].translation)


def test_a_frame_by_itself_leaves_the_stream_as_it_was(scene):
    reconstructor = Reconstructor(QUICK)
    first = scene.run(reconstructor)
    alone = scene.run(reconstructor.once(), stamp_ns=0)
    assert alone.state == "cold"
    again = scene.run(reconstructor, stamp_ns=round(10.1 * SECOND))
    assert again.state == "kept"
    np.testing.assert_array_equal(again.translation, first.translation)


def test_notes_about_a_mesh_stay_while_its_pose_is_kept(scene):
    reconstructor = Reconstructor(QUICK)
    mesh = scene.request.mesh
    opened = Mesh(mesh.vertices, mesh.faces[:-40], mesh.name)
    found = [scene.run(reconstructor, mesh=opened, stamp_ns=round(at * SECOND)) for at in (10.0, 10.1)]
    assert [item.state for item in found] == ["cold", "kept"]
    assert found[0].notes
    assert found[1].notes == found[0].notes


def test_contact_that_cannot_be_summed_up_is_no_reason_to_fail(scene):
    human = scene.request.human.copy()
    human[5] = np.nan
    found = scene.run(human=human)
    assert not found.pose_valid
    assert found.summary is None
    assert any("no summary" in note for note in found.notes)
