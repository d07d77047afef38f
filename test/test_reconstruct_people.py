"""Who is in a frame, whose body an object belongs to, and which pixels a body covers."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import trimesh

from ivlm_core import CameraIntrinsics, Frame, InputError
from ivlm_core.reconstruct import people, silhouette_mask
from ivlm_core.reconstruct.people import People, PeopleTracker, person_pixels
from ivlm_core.types import BodyKeypoints, Mesh, PosedBody

CAMERA = CameraIntrinsics(120.0, 110.0, 64.0, 48.0, 128, 96)


def ball(person_id: str = "", centre: tuple[float, float, float] = (0.1, 0.0, 2.0), radius: float = 0.3) -> PosedBody:
    made = trimesh.creation.icosphere(subdivisions=3, radius=radius)
    return PosedBody((made.vertices + centre).astype(np.float32), made.faces, "anny", person_id)


def keypoints(person_id: str = "") -> BodyKeypoints:
    return BodyKeypoints(np.zeros((17, 2), np.float32), np.ones(17, np.float32), person_id)


def frame(**changes: object) -> Frame:
    given: dict = {"image": np.zeros((96, 128, 3), np.uint8), "intrinsics": CAMERA, **changes}
    return Frame(**given)


@pytest.fixture
def fits(monkeypatch):
    """Stands in for the fit to keypoints and remembers from what each one started; person `lost` cannot be fitted."""
    asked = []

    def fit(seen, camera, depth, previous):
        asked.append((seen.person_id, previous))
        if seen.person_id == "lost":
            raise InputError("keypoints", "explain no body", "look again")
        return SimpleNamespace(body=ball(seen.person_id), number=len(asked))

    monkeypatch.setattr(people, "fit_keypoints", fit)
    return asked


def test_the_only_body_is_everybodys():
    only = People({"anna": ball("anna")})
    assert only.of("")[0] is only.bodies["anna"]
    assert only.of("anna")[0] is only.bodies["anna"]
    nameless = People({"": ball()})
    assert nameless.of("anna")[0] is nameless.bodies[""]


def test_of_several_bodies_one_has_to_be_named():
    two = People({"anna": ball("anna"), "bert": ball("bert")})
    assert two.of("bert")[0] is two.bodies["bert"]
    body, why = two.of("")
    assert body is None
    assert why == "which of 2 people the object belongs to is not said (person_id)"
    assert two.of("carl")[0] is None
    # A body that is another person's is nobody else's.
    body, why = People({"anna": ball("anna")}).of("carl")
    assert body is None
    assert "'carl'" in why
    assert "'anna'" in why


def test_one_of_two_is_not_taken_for_the_only_one():
    for found in (
        People({"anna": ball("anna")}, {"bert": "too few keypoints"}),
        People({"anna": ball("anna")}, unusable=1),
    ):
        body, why = found.of("")
        assert body is None
        assert "which of 2 people" in why
        assert found.of("anna")[0] is found.bodies["anna"]


def test_why_there_is_no_body_is_told():
    assert People().of("") == (None, "no posed body is given")
    assert People({}, {"anna": "hidden"}).of("anna") == (None, "hidden")
    assert People({}, {"anna": "hidden"}).of("") == (None, "hidden")


def test_bodies_come_before_keypoints_and_fits_go_on_from_the_last(fits):
    tracker = PeopleTracker()
    first = tracker.find(frame(bodies=(ball("anna"),), keypoints=(keypoints("anna"), keypoints("bert"))))
    assert set(first.bodies) == {"anna", "bert"}
    assert fits == [("bert", None)]
    tracker.find(frame(keypoints=(keypoints("bert"),)))
    assert fits[1][1].number == 1
    # Who is not seen for long starts anew, and so does everybody after `forget`.
    tracker.find(frame(keypoints=(keypoints("carl"),)))
    tracker.find(replace(frame(keypoints=(keypoints("bert"),)), stamp_ns=10**9))
    assert fits[3][1].number == 2
    tracker.find(replace(frame(keypoints=(keypoints("bert"),)), stamp_ns=4 * 10**9))
    assert fits[4] == ("bert", None)
    tracker.forget()
    tracker.find(replace(frame(keypoints=(keypoints("bert"),)), stamp_ns=4 * 10**9))
    assert fits[5] == ("bert", None)


def test_keypoints_that_cannot_be_fitted_are_a_problem_and_no_exception(fits):
    found = PeopleTracker().find(frame(keypoints=(keypoints("lost"), keypoints("bert"))))
    assert set(found.bodies) == {"bert"}
    assert "explain no body" in found.problems["lost"]
    blind = PeopleTracker().find(frame(intrinsics=None, keypoints=(keypoints("bert"),)))
    assert blind.problems == {"bert": "the camera's intrinsics are not known"}


@pytest.mark.parametrize("centre", [(0.1, 0.0, 2.0), (1.0, 0.6, 2.0), (0.0, 0.0, 0.7)])
def test_pixels_are_those_of_the_silhouette(centre):
    body = ball(centre=centre)
    np.testing.assert_array_equal(person_pixels(body, CAMERA), silhouette_mask(Mesh(body.vertices, body.faces), CAMERA))


def test_what_is_behind_the_camera_covers_nothing():
    assert not person_pixels(ball(centre=(0.0, 0.0, -2.0)), CAMERA).any()
    assert not person_pixels(ball(centre=(9.0, 0.0, 2.0)), CAMERA).any()
    # The camera is inside: whatever it looks at is the body.
    assert person_pixels(ball(centre=(0.0, 0.0, 0.0), radius=1.0), CAMERA).mean() > 0.9


def test_large_silhouettes_are_drawn_coarsely_and_nearly_right():
    camera = CameraIntrinsics(1200.0, 1200.0, 640.0, 480.0, 1280, 960)
    body = ball(centre=(0.0, 0.0, 1.2))
    exact = silhouette_mask(Mesh(body.vertices, body.faces), camera)
    drawn = person_pixels(body, camera)
    assert drawn.shape == exact.shape
    assert (drawn & exact).sum() / (drawn | exact).sum() > 0.98
