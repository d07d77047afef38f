"""Where things stand: nothing overlaps, everything is in view, and the scene keeps its metres."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ivlm_core.bodies import load_body
from ivlm_core.objects import library_mesh
from ivlm_core.types import Mesh
from ivlm_core.view.layout import (
    THING_SIDE,
    in_rows,
    quaternion,
    scene_reach,
    stand_body,
    stand_scene,
    stand_thing,
    view_of,
)
from ivlm_core.view.moments import Moment, Pair, PairAnswer, Person, Placement

BODY = load_body().mesh


def placed(stand, vertices: np.ndarray) -> np.ndarray:
    return stand.scale * vertices @ stand.rotation.T + stand.position


def test_rows_and_columns_do_not_overlap() -> None:
    cup, chair = library_mesh("cup"), library_mesh("chair")
    rows = [
        [[stand_body(BODY)], [stand_body(BODY, back=True)]],
        [[stand_thing(cup), stand_thing(chair)], [stand_body(BODY)]],
    ]
    stands = in_rows(rows)
    assert len(stands) == 5
    for number, one in enumerate(stands):
        for other in stands[number + 1 :]:
            apart = (one.high[:2] < other.low[:2]) | (other.high[:2] < one.low[:2])
            assert apart.any()
    front, back, first, second, last = stands
    assert front.position[0] < back.position[0]
    assert first.position[1] > second.position[1]
    assert min(front.low[1], back.low[1]) > max(stand.high[1] for stand in (first, second, last))
    assert min(stand.low[1] for stand in stands) == pytest.approx(0.0)


def test_nothing_to_show_has_no_place() -> None:
    assert in_rows([]) == in_rows([[], [[]]]) == []


@pytest.mark.parametrize("label", ["cell phone", "bed", "frisbee"])
@pytest.mark.parametrize("back", [False, True])
def test_objects_of_any_size_fill_the_same_room(label: str, back: bool) -> None:
    mesh = library_mesh(label)
    stand = in_rows([[[stand_thing(mesh, back)]]])[0]
    points = placed(stand, mesh.vertices)
    assert np.ptp(mesh.vertices, axis=0).max() * stand.scale == pytest.approx(THING_SIDE)
    np.testing.assert_allclose(stand.high - stand.low, THING_SIDE)
    np.testing.assert_allclose((points.min(axis=0) + points.max(axis=0)) / 2, (stand.low + stand.high) / 2, atol=1e-6)


def test_body_is_seen_from_both_sides() -> None:
    """The nose is nearer to the page's camera than the heels in the one, and farther in the other."""
    nose = BODY.vertices[BODY.vertices[:, 1] > 0.7].mean(axis=0) + np.float32([0, 0, 0.2])
    middle = BODY.vertices.mean(axis=0)
    for back, sign in ((False, 1), (True, -1)):
        stand = stand_body(BODY, back)
        toward = placed(stand, nose[None])[0, 2] - placed(stand, middle[None])[0, 2]
        assert np.sign(toward) == sign
        assert stand.scale == 1.0


def scene_moment(shift: float = 0.0) -> Moment:
    turn = np.array([[0.0, 0, 1], [1, 0, 0], [0, 1, 0]])
    chair = library_mesh("chair")
    answer = PairAnswer(placement=Placement(turn, np.array([shift, 0.5, 3.0]), 2.0), placed_mesh=chair)
    person = Person(Mesh(BODY.vertices * [1, -1, -1] + np.float32([0, 0, 2.5]), BODY.faces))
    return Moment(0, "", None, "", {Pair("", "chair", "", ""): answer}, people=(person,))


def test_scene_stands_upright_in_its_own_metres() -> None:
    moment = scene_moment()
    reach = scene_reach(moment)
    assert reach is not None
    stand = in_rows([[[stand_scene(reach)]]])[0]
    person = placed(stand, moment.people[0].mesh.vertices)
    # Down in the optical frame is down on the page, and lengths are kept.
    assert np.ptp(person[:, 1]) == pytest.approx(np.ptp(BODY.vertices[:, 1]), rel=1e-6)
    head = moment.people[0].mesh.vertices[:, 1].argmin()
    assert person[head, 1] == person[:, 1].max()
    assert np.linalg.det(stand.rotation) == pytest.approx(1.0)
    camera = placed(stand, np.zeros((1, 3)))[0]
    assert np.linalg.norm(person - camera, axis=1).min() == pytest.approx(
        np.linalg.norm(moment.people[0].mesh.vertices, axis=1).min(), rel=1e-6
    )
    assert (person >= stand.low - 1e-6).all()
    assert (person <= stand.high + 1e-6).all()


def test_joined_reach_holds_both() -> None:
    one, other = scene_reach(scene_moment()), scene_reach(scene_moment(shift=1.0))
    assert one is not None
    assert other is not None
    both = one.joined(other)
    assert (both.low <= np.minimum(one.low, other.low)).all()
    assert (both.high >= np.maximum(one.high, other.high)).all()


def test_moment_without_a_scene_has_no_reach() -> None:
    assert scene_reach(Moment(0, "", None, "", {})) is None


@given(
    seed=st.integers(0, 2**32 - 1),
    fov=st.floats(0.3, 2.0),
    aspect=st.floats(0.3, 3.0),
    size=st.floats(0.1, 10.0),
)
def test_everything_is_in_view_and_fills_it(seed: int, fov: float, aspect: float, size: float) -> None:
    points = size * np.random.default_rng(seed).uniform(-1, 1, (20, 3)) + [3, 1, -2]
    position, middle = view_of(points, fov, aspect)
    back = (position - middle) / np.linalg.norm(position - middle)
    right = np.cross([0, 1, 0], back)
    right /= np.linalg.norm(right)
    depth = -(points - position) @ back
    assert (depth > 0).all()
    x = (points - position) @ right / depth / np.tan(fov / 2) / aspect
    y = (points - position) @ np.cross(back, right) / depth / np.tan(fov / 2)
    largest = max(np.abs(x).max(), np.abs(y).max())
    assert 0.7 < largest < 1.02


def test_quaternion_begins_with_w() -> None:
    np.testing.assert_allclose(quaternion(np.eye(3)), [1, 0, 0, 0])
    np.testing.assert_allclose(np.abs(quaternion(np.diag([1.0, -1.0, -1.0]))), [0, 1, 0, 0], atol=1e-12)
