"""Tracking: what stays, what is refined, what is looked for anew, and what is forgotten."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ivlm_core import InputError
from ivlm_core.reconstruct.pose import Pose
from ivlm_core.reconstruct.tracking import PoseTracker, TrackSettings

SECOND = 10**9
GOOD = {"mask_iou": 0.9, "contact_cm": 1.5}


def pose(x=0.0, z=2.0):
    return Pose(np.eye(3), np.array([x, 0.0, z]), 1.0)


def looks(iou=0.9, contact=1.5):
    """A check that finds every pose equally good."""
    return lambda _: {"mask_iou": iou, "contact_cm": contact}


def overlap_at(x, width=0.2):
    """A check by how far a pose is from where the object now is, along x."""

    def check(guess):
        shared = max(0.0, width - abs(guess.translation[0] - x))
        return {"mask_iou": shared / (2 * width - shared), "contact_cm": 1.5}

    return check


@pytest.fixture
def tracker():
    """One object, a cup with the mesh `a`, fitted at the time 10 s."""
    made = PoseTracker()
    assert made.decide("cup", "a", 10 * SECOND, looks()).state == "cold"
    made.accept("cup", "a", 10 * SECOND, "cold", pose(), GOOD)
    return made


def at(seconds):
    return round((10 + seconds) * SECOND)


def test_an_object_is_looked_for_at_first_and_then_kept(tracker):
    decision = tracker.decide("cup", "a", at(0.2), looks())
    assert decision.state == "kept"
    assert np.array_equal(decision.pose.translation, pose().translation)


@pytest.mark.parametrize("seen", [{"iou": 0.85}, {"contact": 2.6}])
def test_what_fits_worse_is_refined_from_the_last_pose(tracker, seen):
    decision = tracker.decide("cup", "a", at(0.2), looks(**seen))
    assert decision.state == "refined"
    assert np.array_equal(decision.pose.translation, pose().translation)


def test_a_pose_is_not_kept_for_ever(tracker):
    states = [tracker.decide("cup", "a", at(0.2 * step), looks()).state for step in range(1, 7)]
    assert states == ["kept"] * 5 + ["refined"]


def test_without_a_mask_nothing_is_kept(tracker):
    assert tracker.decide("cup", "a", at(0.2), lambda _: {"contact_cm": 1.0}).state == "refined"


@pytest.mark.parametrize("seen", [{"iou": 0.1}, {"contact": 12.0}, {"iou": float("nan")}])
def test_what_is_far_off_is_looked_for_anew_but_not_all_the_time(tracker, seen):
    for step in range(1, 15):
        assert tracker.decide("cup", "a", at(0.2 * step), looks(**seen)).state == "refined"
    decision = tracker.decide("cup", "a", at(3.0), looks(**seen))
    assert decision.state == "cold"
    assert decision.pose is None
    assert decision.reason


def test_a_fit_that_never_was_good_is_not_started_over_for_that():
    made = PoseTracker()
    poor = {"mask_iou": 0.3, "contact_cm": 9.0}
    made.accept("cup", "a", at(0), "cold", pose(), poor)
    for step in range(1, 40):
        decision = made.decide("cup", "a", at(0.2 * step), looks(0.28, 10.0))
        assert decision.state in ("kept", "refined")


def test_a_refined_pose_that_lost_the_object_is_a_failure(tracker):
    assert not tracker.failed("cup", at(4), GOOD)
    assert tracker.failed("cup", at(4), {"mask_iou": 0.1})
    assert tracker.failed("cup", at(4), {"mask_iou": 0.9, "contact_cm": 20.0})
    assert not tracker.failed("cup", at(1), {"mask_iou": 0.1})
    assert not tracker.failed("unknown", at(4), {"mask_iou": 0.1})


def test_a_movement_is_carried_on_where_that_fits_better(tracker):
    tracker.decide("cup", "a", at(0.2), overlap_at(0.1))
    tracker.accept("cup", "a", at(0.2), "refined", pose(0.1), GOOD)
    going_on = tracker.decide("cup", "a", at(0.4), overlap_at(0.2))
    assert going_on.pose.translation[0] == pytest.approx(0.2, abs=0.01)


def test_a_stop_is_not_run_over(tracker):
    tracker.decide("cup", "a", at(0.2), overlap_at(0.1))
    tracker.accept("cup", "a", at(0.2), "refined", pose(0.1), GOOD)
    stopped = tracker.decide("cup", "a", at(0.4), overlap_at(0.1))
    assert stopped.pose.translation[0] == pytest.approx(0.1, abs=0.01)


def test_the_callers_guesses_are_tried(tracker):
    decision = tracker.decide("cup", "a", at(0.2), overlap_at(0.5), guesses=[pose(-0.3), pose(0.45)])
    assert decision.state == "refined"
    assert decision.pose.translation[0] == 0.45


def test_published_poses_are_smoothed_except_after_a_new_search(tracker):
    smooth = tracker.accept("cup", "a", at(0.2), "refined", pose(0.004), GOOD)
    assert 0.0 < smooth.translation[0] < 0.003
    assert tracker.decide("cup", "a", at(0.4), looks()).pose is smooth
    anew = tracker.accept("cup", "a", at(0.6), "cold", pose(0.008), GOOD)
    assert anew.translation[0] == 0.008


def test_an_identifier_with_another_mesh_is_another_object(tracker):
    decision = tracker.decide("cup", "b", at(0.2), looks())
    assert decision.state == "cold"
    assert "mesh" in decision.reason
    assert "cup" not in tracker
    placed = tracker.accept("cup", "b", at(0.2), "cold", pose(0.7), GOOD)
    assert placed.translation[0] == 0.7


def test_time_that_goes_back_and_long_gaps_start_over(tracker):
    assert "back" in tracker.decide("cup", "a", at(-1), looks()).reason
    tracker.accept("cup", "a", at(0), "cold", pose(), GOOD)
    assert "not seen for 2.1 s" in tracker.decide("cup", "a", at(2.1), looks()).reason
    assert len(tracker) == 0


def test_frames_without_time_are_refined_or_kept(tracker):
    made = PoseTracker()
    made.accept("cup", "a", 0, "cold", pose(), GOOD)
    assert made.decide("cup", "a", 0, looks()).state == "kept"
    assert made.decide("cup", "a", 0, looks(0.7)).state == "refined"
    assert made.accept("cup", "a", 0, "refined", pose(0.1), GOOD).translation[0] == 0.1


def test_an_object_that_is_seen_is_not_forgotten_one_that_is_not_is(tracker):
    tracker.accept("hat", "h", at(0), "cold", pose(), GOOD)
    for step in range(1, 30):
        if tracker.decide("cup", "a", at(0.2 * step), looks()).state == "refined":
            tracker.accept("cup", "a", at(0.2 * step), "refined", pose(), GOOD)
    assert "cup" in tracker
    assert "hat" not in tracker
    tracker.drop("cup")
    tracker.drop("cup")
    assert len(tracker) == 0


def test_memory_is_bounded_and_the_longest_unseen_go_first():
    made = PoseTracker(TrackSettings(most=3))
    for number in range(5):
        made.accept(str(number), "a", at(0.01 * number), "cold", pose(), GOOD)
        if number >= 2:
            made.decide("2", "a", at(0.01 * number), looks())
    assert len(made) == 3
    assert [name in made for name in "01234"] == [False, False, True, True, True]
    made.clear()
    assert len(made) == 0


@settings(max_examples=40)
@given(
    st.lists(
        st.tuples(
            st.sampled_from("abc"),
            st.sampled_from("xy"),
            st.integers(-3 * SECOND, 3 * SECOND),
            st.floats(0, 1) | st.just(float("nan")),
            st.booleans(),
        ),
        max_size=30,
    )
)
def test_any_order_of_events_leaves_a_sound_state(events):
    made, now = PoseTracker(TrackSettings(most=2)), 0
    for name, mesh, step, iou, valid in events:
        now += step
        decision = made.decide(name, mesh, now, looks(iou))
        assert (decision.pose is None) == (decision.state == "cold")
        if decision.state == "kept":
            continue
        if valid:
            published = made.accept(
                name, mesh, now, decision.state, pose(iou if iou == iou else 0.0), {"mask_iou": iou}
            )
            assert np.isfinite(published.translation).all()
        else:
            made.drop(name)
        assert len(made) <= 2
    made.forget(now + 100 * SECOND)
    assert len(made) == 0


def test_a_pose_that_is_none_is_refused(tracker):
    with pytest.raises(InputError, match="pose: is not finite"):
        tracker.accept("cup", "a", at(0.2), "refined", Pose(np.eye(3), np.full(3, np.nan), 1.0), GOOD)
    with pytest.raises(InputError, match="no positive scale"):
        tracker.accept("cup", "a", at(0.2), "refined", Pose(np.eye(3), np.zeros(3), 0.0), GOOD)
