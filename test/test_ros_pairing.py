"""Pairing by stamp: either order, bounded, never stuck."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from ivlm_ros.pairing import StampPairing

SECOND = 1_000_000_000


def pairing(capacity: int = 3, slop_ns: int = 0) -> tuple[StampPairing[str, str], Counter[str]]:
    lost: Counter[str] = Counter()
    return StampPairing(capacity, slop_ns, lambda reason: lost.update([reason])), lost


def test_either_side_may_come_first() -> None:
    pairs, lost = pairing()
    assert pairs.add_image(5, "i5") is None
    assert pairs.add_detections(5, "d5") == ("i5", "d5")
    assert pairs.add_detections(6, "d6") is None
    assert pairs.add_image(6, "i6") == ("i6", "d6")
    assert not lost


def test_full_queue_drops_the_oldest() -> None:
    pairs, lost = pairing(capacity=2)
    for stamp in (1, 2, 3):
        pairs.add_image(stamp, f"i{stamp}")
    assert lost == {"no_detections": 1}
    assert pairs.add_detections(1, "d1") is None
    assert pairs.add_detections(2, "d2") == ("i2", "d2")


def test_older_ones_are_given_up_with_a_match() -> None:
    pairs, lost = pairing(capacity=5)
    for stamp in (1, 2, 3):
        pairs.add_image(stamp, f"i{stamp}")
    assert pairs.add_detections(3, "d3") == ("i3", "d3")
    assert lost == {"no_detections": 2}
    assert pairs.add_detections(2, "d2") is None


def test_slop_takes_the_nearest() -> None:
    pairs, _ = pairing(slop_ns=10)
    for stamp in (100, 108, 130):
        pairs.add_image(stamp, f"i{stamp}")
    assert pairs.add_detections(106, "d") == ("i108", "d")
    assert pairs.add_detections(119, "d") is None


def test_clock_that_jumps_back_does_not_block() -> None:
    pairs, _ = pairing()
    pairs.add_image(100 * SECOND, "late")
    assert pairs.add_image(SECOND, "early") is None
    assert pairs.add_detections(SECOND, "d") == ("early", "d")


def test_stamp_zero_pairs_the_newest() -> None:
    pairs, lost = pairing()
    pairs.add_image(0, "first")
    pairs.add_image(0, "second")
    assert pairs.add_detections(0, "d") == ("second", "d")
    assert lost == {"no_detections": 1}


def test_clear_forgets() -> None:
    pairs, lost = pairing()
    pairs.add_image(1, "i1")
    pairs.clear()
    assert pairs.add_detections(1, "d1") is None
    assert not lost


@given(
    events=st.lists(st.tuples(st.booleans(), st.integers(0, 6)), max_size=60),
    capacity=st.integers(1, 4),
    slop=st.integers(0, 2),
)
def test_nothing_is_invented_repeated_or_forgotten(events: list[tuple[bool, int]], capacity: int, slop: int) -> None:
    """Every arrival ends in exactly one place: in one pair, given up, or still waiting within the capacity."""
    lost: Counter[str] = Counter()
    pairs: StampPairing[tuple[int, int], tuple[int, int]] = StampPairing(
        capacity, slop, lambda reason: lost.update([reason])
    )
    made = []
    for number, (is_image, stamp) in enumerate(events):
        pair = (pairs.add_image if is_image else pairs.add_detections)(stamp, (number, stamp))
        if pair is not None:
            made.append(pair)
    for image, detections in made:
        assert abs(image[1] - detections[1]) <= slop
    for side, reason, arrived in (
        (0, "no_detections", sum(is_image for is_image, _ in events)),
        (1, "no_image", sum(not is_image for is_image, _ in events)),
    ):
        numbers = [pair[side][0] for pair in made]
        assert numbers == sorted(set(numbers))  # in the order of arrival, none twice
        assert 0 <= arrived - len(numbers) - lost[reason] <= capacity
