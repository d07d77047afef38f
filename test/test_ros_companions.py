"""Messages that belong to an image: found by stamp, waited for in bounds, and never in the way of the images."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("rclpy")

from ivlm_ros import companions as module
from ivlm_ros.companions import Companions

SECOND = 10**9


class Desk:
    """Companions with everything they say written down."""

    def __init__(self, *names: str, capacity: int = 3, slop_ns: int = 0, alive: bool = True) -> None:
        self.delivered: list[tuple[Any, dict[str, Any]]] = []
        self.missed: list[str] = []
        self.alive = alive
        self.companions: Companions[Any] = Companions(
            names,
            capacity,
            slop_ns,
            lambda name: self.alive,
            lambda work, found: self.delivered.append((work, dict(found))),
            self.missed.append,
        )
        self.put, self.add, self.look = self.companions.put, self.companions.add, self.companions.look

    @property
    def order(self) -> list[Any]:
        return [work for work, _ in self.delivered]


def test_without_topics_work_goes_on_at_once() -> None:
    desk = Desk()
    desk.put(1, "a")
    assert desk.delivered == [("a", {})]
    assert desk.missed == []


@pytest.mark.parametrize("first", ["image", "bodies"])
def test_either_side_may_come_first(first: str) -> None:
    desk = Desk("bodies")
    steps = [lambda: desk.put(5, "image"), lambda: desk.add("bodies", 5, "people")]
    for step in steps if first == "image" else steps[::-1]:
        assert desk.delivered == []
        step()
    assert desk.delivered == [("image", {"bodies": "people"})]
    assert desk.missed == []


def test_all_topics_are_waited_for() -> None:
    desk = Desk("bodies", "depth")
    desk.put(5, "image")
    desk.add("depth", 5, "metres")
    assert desk.delivered == []
    desk.add("bodies", 5, "people")
    assert desk.delivered == [("image", {"bodies": "people", "depth": "metres"})]


def test_a_later_message_shows_that_none_will_come() -> None:
    desk = Desk("bodies")
    desk.put(5, "image")
    desk.add("bodies", 4, "before")
    assert desk.delivered == []
    desk.add("bodies", 6, "after")
    assert desk.delivered == [("image", {})]
    assert desk.missed == ["bodies"]


def test_one_missing_topic_takes_nothing_from_the_others() -> None:
    desk = Desk("bodies", "depth")
    desk.add("depth", 5, "metres")
    desk.put(5, "image")
    desk.add("bodies", 6, "after")
    assert desk.delivered == [("image", {"depth": "metres"})]
    assert desk.missed == ["bodies"]


def test_nobody_publishes_so_nothing_waits() -> None:
    desk = Desk("bodies", alive=False)
    desk.put(5, "image")
    assert desk.delivered == [("image", {})]
    assert desk.missed == ["bodies"]


def test_a_publisher_that_leaves_lets_go_of_what_waits() -> None:
    desk = Desk("bodies")
    desk.put(5, "image")
    desk.alive = False
    desk.look()
    assert desk.delivered == [("image", {})]


def test_stamps_that_never_match_hold_no_more_than_the_capacity() -> None:
    desk = Desk("bodies", capacity=3)
    for stamp in range(10, 30):
        desk.add("bodies", stamp - 10, "old")
        desk.put(stamp, stamp)
    assert desk.order == list(range(10, 27))
    assert desk.missed == ["bodies"] * 17


def test_a_silent_publisher_does_not_hold_the_last_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a stream that has ended nothing more arrives to push the last ones out."""
    now = 100.0
    monkeypatch.setattr(module.time, "monotonic", lambda: now)
    desk = Desk("bodies")
    desk.put(5, "image")
    now += module.PATIENCE / 2
    desk.look()
    assert desk.delivered == []
    now += module.PATIENCE
    desk.look()
    assert desk.delivered == [("image", {})]
    assert desk.missed == ["bodies"]


def test_slop_takes_the_nearest() -> None:
    desk = Desk("bodies", slop_ns=3)
    for stamp in (1, 4, 6, 9):
        desk.add("bodies", stamp, stamp)
    desk.put(5, "image")
    assert desk.delivered[0][1]["bodies"] in (4, 6)
    desk.put(12, "late")
    assert desk.delivered[1] == ("late", {"bodies": 9})
    desk.put(16, "nothing near")
    assert len(desk.delivered) == 2


def test_messages_that_change_places_are_both_found() -> None:
    desk = Desk("bodies")
    for stamp in (1, 3, 2):
        desk.add("bodies", stamp, stamp)
    for stamp in (1, 2, 3):
        desk.put(stamp, stamp)
    assert desk.delivered == [(stamp, {"bodies": stamp}) for stamp in (1, 2, 3)]


@pytest.mark.parametrize("first", ["image", "bodies"])
def test_a_recording_that_starts_again_is_not_held_up(first: str) -> None:
    desk = Desk("bodies")
    desk.add("bodies", 1000 * SECOND, "old people")
    desk.put(1001 * SECOND, "old image")
    steps = [lambda: desk.put(3 * SECOND, "image"), lambda: desk.add("bodies", 3 * SECOND, "people")]
    for step in steps if first == "image" else steps[::-1]:
        step()
    assert desk.delivered == [("old image", {}), ("image", {"bodies": "people"})]
    desk.put(4 * SECOND, "next")
    assert len(desk.delivered) == 2, "the companion of the new time is waited for again"


def test_clear_forgets_what_waits() -> None:
    desk = Desk("bodies")
    desk.put(9 * SECOND, "image")
    desk.add("bodies", 8 * SECOND, "people")
    desk.companions.clear()
    desk.alive = False
    desk.look()
    assert desk.delivered == []
    desk.alive = True
    desk.put(1 * SECOND, "restarted")
    desk.add("bodies", 1 * SECOND, "other people")
    assert desk.delivered == [("restarted", {"bodies": "other people"})]


EVENTS = st.lists(st.tuples(st.sampled_from(["image", "bodies", "depth"]), st.integers(0, 12)), max_size=60)


@given(events=EVENTS, capacity=st.integers(1, 4), slop=st.integers(0, 2), unit=st.sampled_from([1, SECOND]))
def test_whatever_arrives_each_image_goes_on_once_in_its_order(
    events: list[tuple[str, int]], capacity: int, slop: int, unit: int
) -> None:
    desk = Desk("bodies", "depth", capacity=capacity, slop_ns=slop * unit)
    images = []
    for number, (name, stamp) in enumerate(events):
        if name == "image":
            images.append((number, stamp * unit))
            desk.put(stamp * unit, (number, stamp * unit))
        else:
            desk.add(name, stamp * unit, stamp * unit)
        waiting = len(images) - len(desk.delivered)
        assert waiting <= capacity
        assert all(len(kept) <= 2 * capacity for kept in desk.companions._messages.values())
    desk.alive = False
    desk.look()
    assert desk.order == images
    for (_, stamp), found in desk.delivered:
        assert all(abs(message - stamp) <= slop * unit for message in found.values())
    absent = sum(2 - len(found) for _, found in desk.delivered)
    assert len(desk.missed) == absent


def test_threads_lose_nothing() -> None:
    desk = Desk("bodies", capacity=1000)
    count = 300
    threads = [
        threading.Thread(target=lambda: [desk.put(stamp, stamp) for stamp in range(count)]),
        threading.Thread(target=lambda: [desk.add("bodies", stamp, stamp) for stamp in range(count)]),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    desk.alive = False
    desk.look()
    assert desk.order == list(range(count))
    assert all(found == {"bodies": stamp} for stamp, found in desk.delivered)
