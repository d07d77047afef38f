"""The pose filter: calm where nothing moves, at once there where something moved, never beyond."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from ivlm_core.reconstruct.pose import Pose
from ivlm_core.reconstruct.pose_filter import PoseFilter

RATE = 5
CENTRE = np.array([0.0, 0.4, 0.0])


def pose(middle, turn=(0.0, 0.0, 0.0), scale=1.0):
    """A pose by where the object's middle is, metres, and its rotation vector, degrees."""
    rotation = Rotation.from_rotvec(turn, degrees=True).as_matrix()
    return Pose(rotation, np.asarray(middle, float) - scale * rotation @ CENTRE, scale)


def middle(found):
    return found.placed(CENTRE[None])[0]


def filtered(poses, rate=RATE):
    made = PoseFilter(poses[0], 0, CENTRE)
    return [poses[0]] + [made.update(item, round(1e9 * (number + 1) / rate)) for number, item in enumerate(poses[1:])]


def test_jitter_of_a_still_object_is_about_halved():
    random = np.random.default_rng(0)
    noisy = [
        pose(
            np.array([0.1, 0.2, 2.0]) + random.normal(0, 0.008, 3),
            random.normal(0, 3, 3),
            np.exp(random.normal(0, 0.02)),
        )
        for _ in range(400)
    ]
    calm = filtered(noisy, rate=10)[20:]
    assert np.std([middle(item) for item in calm], axis=0).mean() < 0.55 * 0.008
    turns = [np.degrees(Rotation.from_matrix(item.rotation).magnitude()) for item in calm]
    assert np.mean(turns) < 0.6 * np.mean(
        [np.degrees(Rotation.from_matrix(item.rotation).magnitude()) for item in noisy]
    )
    assert np.std([np.log(item.scale) for item in calm]) < 0.6 * 0.02


@pytest.mark.parametrize("speed", [0.2, 0.5, 1.0])
def test_no_lag_while_moving_fast_and_none_two_frames_after_a_stop(speed):
    places = [0.0] * 5 + list(speed / RATE * np.arange(1, 11)) + [2.0 * speed] * 5
    found = [middle(item)[0] for item in filtered([pose([x, 0, 2]) for x in places])]
    lag = np.array(places) - found
    assert (lag > -1e-9).all()
    assert lag[6:15].max() < 0.02
    assert lag[16] < 0.01
    assert lag[19] < 0.005


def test_a_slow_drift_is_followed_within_twice_the_noise():
    places = 0.01 / RATE * np.arange(100)
    found = [middle(item)[1] for item in filtered([pose([0, y, 2]) for y in places])]
    assert np.abs(places - found).max() < 0.016


def test_turning_and_growing_count_as_moving():
    turned = PoseFilter(pose([0, 0, 2]), 0, CENTRE).update(pose([0, 0, 2], (0, 90, 0)), 10**9 // RATE)
    assert Rotation.from_matrix(turned.rotation).magnitude() > np.radians(88)
    np.testing.assert_allclose(middle(turned), [0, 0, 2], atol=1e-9)
    grown = PoseFilter(pose([0, 0, 2]), 0, CENTRE).update(pose([0, 0, 2], scale=1.5), 10**9 // RATE)
    assert grown.scale > 1.48


@given(
    st.tuples(*[st.floats(-1, 1)] * 3), st.tuples(*[st.floats(-100, 100)] * 3), st.floats(0.5, 2), st.floats(1e-3, 10)
)
def test_the_result_is_a_pose_between_both(place, turn, scale, seconds):
    new = pose(np.array([0, 0, 3]) + place, turn, scale)
    found = PoseFilter(pose([0, 0, 3]), 0, CENTRE).update(new, int(seconds * 1e9))
    np.testing.assert_allclose(found.rotation @ found.rotation.T, np.eye(3), atol=1e-9)
    way = middle(found) - [0, 0, 3]
    # Along the straight way, from its start to at most its end.
    share = way @ np.array(place) / max(1e-12, float(np.dot(place, place)))
    assert -1e-6 <= share * np.linalg.norm(place) <= np.linalg.norm(place) + 1e-6
    np.testing.assert_allclose(way, share * np.array(place), atol=1e-6)
    assert min(1, scale) - 1e-9 <= found.scale <= max(1, scale) + 1e-9
    left = Rotation.from_matrix(found.rotation.T @ new.rotation).magnitude()
    whole = Rotation.from_matrix(new.rotation).magnitude()
    assert left <= whole + 1e-6


def test_without_time_the_new_pose_counts_as_it_is():
    made = PoseFilter(pose([0, 0, 2]), 5)
    moved = pose([0, 0.001, 2])
    assert made.update(moved, 5) is moved


def test_a_long_gap_forgets_the_past():
    found = PoseFilter(pose([0, 0, 2]), 0, CENTRE).update(pose([0.008, 0, 2]), 10 * 10**9)
    assert middle(found)[0] == pytest.approx(0.008, abs=1e-5)
