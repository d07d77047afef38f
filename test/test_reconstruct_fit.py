"""Whole fits on generated scenes, and what is refused with a reason instead of a wild pose."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from ivlm_core import ConfigError, Mesh
from ivlm_core.bodies import load_body
from ivlm_core.datasets.synthetic import SAMPLE, SceneCamera, SynthHoi
from ivlm_core.objects import library_shape
from ivlm_core.reconstruct.energy import Weights
from ivlm_core.reconstruct.fit import FitSettings, fit_object, pose_residuals, released_settings
from ivlm_core.reconstruct.fit_mesh import FitMesh
from ivlm_core.reconstruct.levels import Observation
from ivlm_core.reconstruct.patches import ContactPoints, contact_points
from ivlm_core.reconstruct.pose import Pose
from ivlm_core.types import CameraIntrinsics, PosedBody

QUICK = FitSettings(starts=8)


class Case:
    """One object of the sample that ships: its mesh, what is seen of it, and where it is."""

    def __init__(self, scene: int, number: int = 0) -> None:
        record = SynthHoi(SAMPLE, "test")[scene]
        thing = record.objects[number]
        camera = SceneCamera(
            record.intrinsics, record.camera_rotation.astype(np.float64), record.camera_position.astype(np.float64)
        )
        mesh = library_shape(thing.label, **thing.sizes).mesh
        body = PosedBody(camera.to_optical(record.body_vertices()), load_body("anny").mesh.faces, "anny")
        self.truth = Pose(
            camera.rotation @ thing.rotation.astype(np.float64), camera.to_optical(thing.translation[None])[0], 1.0
        )
        self.mesh = FitMesh(mesh)
        self.depth = np.where(record.depth > 0, record.depth, np.nan).astype(np.float32)
        self.seen = Observation(
            record.intrinsics,
            record.object_mask(number),
            ~record.person_mask,
            None,
            body,
            contact_points(body.vertices, body.faces, thing.body_contact.astype(np.float32)),
            contact_points(mesh.vertices, mesh.faces, thing.object_contact.astype(np.float32)),
        )
        self.points = mesh.vertices

    def chamfer(self, pose: Pose) -> float:
        """Metres."""
        ours, theirs = pose.placed(self.points), self.truth.placed(self.points)
        return 0.5 * float(cKDTree(ours).query(theirs)[0].mean() + cKDTree(theirs).query(ours)[0].mean())


@pytest.fixture(scope="module")
def skateboard() -> Case:
    return Case(2)


@pytest.fixture(scope="module")
def cold(skateboard: Case) -> Any:
    return fit_object(skateboard.mesh, skateboard.seen, replace(FitSettings(), keep_trace=True))


def test_cold_fit_finds_the_object(skateboard, cold):
    assert cold.valid, cold.reason
    assert skateboard.chamfer(cold.pose) < 0.02
    assert cold.residuals["mask_iou"] > 0.85
    assert cold.residuals["contact_cm"] < 3.0
    assert cold.residuals["penetration_cm"] < 2.0
    assert "depth_cm" not in cold.residuals
    assert len(cold.trace) == cold.steps > 30


def test_the_same_input_gives_the_same_pose(skateboard):
    found = [fit_object(skateboard.mesh, skateboard.seen, QUICK) for _ in range(2)]
    np.testing.assert_array_equal(found[0].pose.rotation, found[1].pose.rotation)
    np.testing.assert_array_equal(found[0].pose.translation, found[1].pose.translation)
    assert (found[0].energy, found[0].steps) == (found[1].energy, found[1].steps)


def test_warm_fit_comes_back_from_a_few_degrees_and_centimetres(skateboard):
    turn = Rotation.from_rotvec(np.radians([3.0, -4.0, 1.0])).as_matrix()
    moved = Pose(turn @ skateboard.truth.rotation, skateboard.truth.translation + np.array([0.02, -0.01, 0.02]), 1.0)
    found = fit_object(skateboard.mesh, skateboard.seen, start=moved)
    assert found.valid, found.reason
    assert found.steps <= 12
    assert skateboard.chamfer(found.pose) < 0.6 * skateboard.chamfer(moved)
    # From where it ended there is little left to gain.
    again = fit_object(skateboard.mesh, skateboard.seen, start=found.pose)
    assert again.energy <= found.energy + 1e-6


def test_depth_alone_tells_how_far_away(skateboard):
    seen = replace(skateboard.seen, human=None, thing=None, depth=skateboard.depth)
    found = fit_object(skateboard.mesh, seen, replace(QUICK, starts=24))
    assert found.valid, found.reason
    assert found.residuals["depth_cm"] < 2.0
    assert abs(found.pose.translation[2] - skateboard.truth.translation[2]) < 0.08
    assert "contact_cm" not in found.residuals


def test_contacts_that_are_not_to_be_used_are_not(skateboard):
    settings = replace(QUICK, weights=Weights(contact=0), assume_size=True)
    found = fit_object(skateboard.mesh, skateboard.seen, settings)
    # Swapped contacts would send the object elsewhere if they counted.
    wrong = replace(skateboard.seen, human=shifted(skateboard.seen.human, 0.5))
    again = fit_object(skateboard.mesh, wrong, settings)
    np.testing.assert_array_equal(found.pose.translation, again.pose.translation)


def test_a_known_scale_stays(skateboard):
    found = fit_object(skateboard.mesh, skateboard.seen, replace(QUICK, scale=1.1, scale_spread=0.0))
    assert found.pose.scale == pytest.approx(1.1)


def test_the_released_energy_runs_as_it_was(skateboard):
    found = fit_object(skateboard.mesh, skateboard.seen, released_settings(least_iou=0.0))
    assert found.steps == 250
    assert found.pose.scale == 1.0
    # 5 · ½ is the least that its mask term can reach.
    assert 2.5 < found.energy < 10.0


def test_residuals_of_a_pose_without_a_fit(skateboard, cold):
    found = pose_residuals(skateboard.mesh, skateboard.seen, cold.pose)
    assert found == {name: value for name, value in cold.residuals.items() if name != "penetration_cm"}
    with_depth = replace(skateboard.seen, depth=skateboard.depth)
    assert pose_residuals(skateboard.mesh, with_depth, skateboard.truth)["depth_cm"] < 0.5
    away = replace(cold.pose, translation=cold.pose.translation + np.array([0.1, 0, 0.1]))
    worse = pose_residuals(skateboard.mesh, skateboard.seen, away)
    assert worse["mask_iou"] < found["mask_iou"] - 0.1
    assert worse["contact_cm"] > found["contact_cm"] + 5.0
    behind = replace(cold.pose, translation=-cold.pose.translation)
    assert pose_residuals(skateboard.mesh, skateboard.seen, behind) == {}
    unseen = replace(skateboard.seen, mask=np.zeros_like(skateboard.seen.mask))
    assert pose_residuals(skateboard.mesh, unseen, cold.pose) == {}


def shifted(contact: ContactPoints, z: float) -> ContactPoints:
    return ContactPoints(contact.points + np.array([0, 0, z]), contact.normals, contact.weights, contact.clusters)


def camera(**changes: float) -> CameraIntrinsics:
    return replace(SynthHoi(SAMPLE, "test")[2].intrinsics, **changes)


NOT_USABLE: Mapping[str, Any] = {
    "focal length of zero": (lambda seen: replace(seen, intrinsics=camera(fx=0.0)), "intrinsics"),
    "all zero": (lambda seen: replace(seen, intrinsics=CameraIntrinsics(0, 0, 0, 0, 0, 0)), "intrinsics"),
    "negative": (lambda seen: replace(seen, intrinsics=camera(fy=-200.0)), "intrinsics"),
    "NaN": (lambda seen: replace(seen, intrinsics=camera(cx=float("nan"))), "intrinsics"),
    "of another picture": (lambda seen: replace(seen, intrinsics=camera(width=640, height=480)), "640×480"),
    "empty mask": (lambda seen: replace(seen, mask=np.zeros_like(seen.mask)), "empty, outside"),
    "hidden mask": (lambda seen: replace(seen, valid=~seen.mask), "wholly hidden"),
    "few pixels": (lambda seen: replace(seen, mask=only(seen.mask, 5)), "only 5 pixels"),
    "no contact on the body": (lambda seen: replace(seen, human=None), "no contact on the person"),
    "no contact on the object": (lambda seen: replace(seen, thing=None), "no contact on the object"),
    "depth of holes": (
        lambda seen: replace(seen, thing=None, depth=np.full(seen.mask.shape, np.nan, np.float32)),
        "no depth image",
    ),
    "body behind": (
        lambda seen: replace(seen, body=replace(seen.body, vertices=seen.body.vertices * np.float32(-1))),
        "body is behind",
    ),
    "contact behind": (lambda seen: replace(seen, human=shifted(seen.human, -20.0)), "contact is behind"),
}


def only(mask: np.ndarray, count: int) -> np.ndarray:
    kept = np.zeros_like(mask)
    kept.reshape(-1)[np.flatnonzero(mask)[:count]] = True
    return kept


@pytest.mark.parametrize("case", list(NOT_USABLE))
@pytest.mark.parametrize("warm", [False, True])
def test_what_cannot_be_fitted_says_why(skateboard, case, warm):
    change, words = NOT_USABLE[case]
    found = fit_object(skateboard.mesh, change(skateboard.seen), start=skateboard.truth if warm else None)
    assert not found.valid
    assert words in found.reason
    assert found.steps == 0
    assert np.isfinite(found.pose.translation).all()


@pytest.mark.parametrize(
    "start",
    [
        Pose(np.eye(3), np.array([0, 0, -2.0]), 1.0),
        Pose(np.eye(3), np.array([0, np.nan, 2.0]), 1.0),
        Pose(np.eye(3), np.array([0, 0, 2.0]), 0.0),
    ],
)
def test_last_poses_that_cannot_be(skateboard, start):
    found = fit_object(skateboard.mesh, skateboard.seen, start=start)
    assert not found.valid
    assert "last pose" in found.reason


def test_a_mask_that_the_object_cannot_make_is_not_believed(skateboard):
    # A cross over the whole picture is no skateboard.
    mask = np.zeros_like(skateboard.seen.mask)
    mask[90:96, :] = mask[:, 100:106] = True
    seen = replace(skateboard.seen, mask=mask, valid=np.ones_like(mask))
    found = fit_object(skateboard.mesh, seen, QUICK)
    assert not found.valid
    assert "does not agree with the mask" in found.reason or "expected size" in found.reason


def test_contacts_that_cannot_meet_make_no_pose_unless_its_distance_is_known(skateboard):
    human = skateboard.seen.human
    aside = replace(human, points=human.points + np.array([1.5, 0.0, 0.0]))
    seen = replace(skateboard.seen, human=aside)
    found = fit_object(skateboard.mesh, seen, QUICK)
    assert not found.valid
    assert "do not meet" in found.reason
    assert fit_object(skateboard.mesh, replace(seen, depth=skateboard.depth), QUICK).valid
    assert fit_object(skateboard.mesh, seen, replace(QUICK, assume_size=True)).valid


def test_a_last_pose_far_from_the_mask_is_not_kept_as_valid(skateboard):
    away = Pose(skateboard.truth.rotation, skateboard.truth.translation + np.array([1.0, 0, 0]), 1.0)
    found = fit_object(skateboard.mesh, skateboard.seen, start=away)
    assert not found.valid
    assert "does not agree" in found.reason


def test_object_partly_out_of_view(skateboard):
    # The picture ends in the middle of the skateboard.
    columns = np.flatnonzero(skateboard.seen.mask.any(axis=0))
    end = int(columns.mean())
    seen = Observation(
        camera(width=end),
        skateboard.seen.mask[:, :end],
        skateboard.seen.valid[:, :end],
        None,
        skateboard.seen.body,
        skateboard.seen.human,
        skateboard.seen.thing,
    )
    found = fit_object(skateboard.mesh, seen)
    assert found.valid, found.reason
    assert skateboard.chamfer(found.pose) < 0.05


def test_meshes_that_are_not_closed_are_fitted_and_it_is_said(skateboard):
    shape = library_shape("skateboard")
    holed = FitMesh(Mesh(shape.mesh.vertices, shape.mesh.faces[40:]))
    found = fit_object(holed, skateboard.seen, start=skateboard.truth)
    assert any("not watertight" in note for note in found.notes)
    assert "penetration_cm" in found.residuals


def test_unknown_energy():
    case = Case(2)
    with pytest.raises(ConfigError, match="choose 'full' or 'released'"):
        fit_object(case.mesh, case.seen, FitSettings(energy="other"))
