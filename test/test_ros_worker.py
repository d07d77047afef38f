"""The worker thread: newest frame only, requests first, a rate that holds, and an end that comes."""

from __future__ import annotations

import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from typing import Any

import pytest

from ivlm_ros.worker import Worker, wait_for


class Slow:
    """A `process` that holds each frame until it is released."""

    def __init__(self) -> None:
        self.seen: list[int] = []
        self.taken = threading.Semaphore(0)
        self.release = threading.Semaphore(0)

    def __call__(self, frame: int) -> None:
        self.seen.append(frame)
        self.taken.release()
        assert self.release.acquire(timeout=10)


def test_newest_frame_only_and_every_drop_is_counted() -> None:
    slow, dropped = Slow(), Counter[str]()
    worker: Worker[int] = Worker(slow, lambda reason: dropped.update([reason]), lambda: 0.0)
    worker.put(0)
    assert slow.taken.acquire(timeout=10)
    for frame in range(1, 50):
        worker.put(frame)
    slow.release.release()
    assert slow.taken.acquire(timeout=10)
    slow.release.release()
    assert worker.stop(10)
    assert slow.seen == [0, 49]
    assert dropped == {"busy": 48}


def test_put_never_waits_for_the_work() -> None:
    slow = Slow()
    worker: Worker[int] = Worker(slow, lambda reason: None, lambda: 0.0)
    worker.put(0)
    assert slow.taken.acquire(timeout=10)
    start = time.monotonic()
    for frame in range(1000):
        worker.put(frame)
    assert time.monotonic() - start < 1.0
    slow.release.release(2)
    worker.stop(10)


def test_requests_come_before_frames() -> None:
    slow, order = Slow(), []
    worker: Worker[int] = Worker(slow, lambda reason: None, lambda: 0.0)
    worker.put(0)
    assert slow.taken.acquire(timeout=10)
    worker.put(1)
    answer = worker.call(lambda: order.append(list(slow.seen)) or "done")
    slow.release.release(2)
    assert answer.result(timeout=10) == "done"
    assert order == [[0]]
    assert slow.taken.acquire(timeout=10)
    assert worker.stop(10)
    assert slow.seen == [0, 1]


def test_request_passes_its_exception_on() -> None:
    worker: Worker[int] = Worker(lambda frame: None, lambda reason: None, lambda: 0.0)
    with pytest.raises(ZeroDivisionError):
        worker.call(lambda: 1 // 0).result(timeout=10)
    assert worker.call(lambda: 7).result(timeout=10) == 7
    worker.stop(10)


def test_rate_limit_takes_the_newest_frame_of_each_period(wait_until: Callable[..., Any]) -> None:
    seen: list[tuple[float, int]] = []
    dropped = Counter[str]()
    worker: Worker[int] = Worker(
        lambda frame: seen.append((time.monotonic(), frame)), lambda reason: dropped.update([reason]), lambda: 20.0
    )
    start = time.monotonic()
    frame = 0
    while time.monotonic() - start < 0.5:
        worker.put(frame)
        frame += 1
        time.sleep(0.002)
    wait_until(lambda: seen[-1][1] == frame - 1)
    worker.stop(10)
    gaps = [after[0] - before[0] for before, after in itertools.pairwise(seen)]
    assert min(gaps) > 0.045
    assert 5 <= len(seen) <= 12
    assert dropped["max_rate"] + dropped["busy"] == frame - len(seen)
    assert dropped["max_rate"] > dropped["busy"]


def test_stop_in_mid_work_gives_up_in_time() -> None:
    slow = Slow()
    worker: Worker[int] = Worker(slow, lambda reason: None, lambda: 0.0)
    worker.put(0)
    assert slow.taken.acquire(timeout=10)
    worker.put(1)
    waiting = worker.call(lambda: "never")
    start = time.monotonic()
    assert worker.stop(0.2) is False
    assert time.monotonic() - start < 1.0
    assert waiting.cancelled()
    assert worker.call(lambda: "too late").cancelled()
    slow.release.release()
    assert worker.stop(10)
    assert slow.seen == [0]


def test_wait_for_ends_when_the_node_does() -> None:
    never: Future[Any] = Future()
    until = time.monotonic() + 0.2
    with pytest.raises(CancelledError):
        wait_for(never, lambda: time.monotonic() < until)
    assert never.cancelled()


def test_wait_for_passes_on_a_timeout_of_the_work_itself() -> None:
    failed: Future[Any] = Future()
    failed.set_exception(TimeoutError("of the work"))
    with pytest.raises(TimeoutError, match="of the work"):
        wait_for(failed, lambda: True)
