"""The one thread that runs the model: it takes the newest frame only, and requests before frames."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from concurrent.futures import TimeoutError as FutureTimeout
from typing import Any, Generic, TypeVar

FrameT = TypeVar("FrameT")
WORKER_THREAD = "ivlm_worker"


class Worker(Generic[FrameT]):
    """Runs `process` on frames, one at a time; a frame that is not taken in time is replaced, never queued.

    Parameters
    ----------
    process : called with each taken frame, in the worker's thread; it must not raise.
    dropped : called with `busy` or `max_rate` for a frame that a newer one replaced.
    max_rate : asked before each frame; most frames per second, 0 for no limit.
    """

    def __init__(
        self, process: Callable[[FrameT], None], dropped: Callable[[str], None], max_rate: Callable[[], float]
    ) -> None:
        self._process = process
        self._dropped = dropped
        self._max_rate = max_rate
        self._condition = threading.Condition()
        self._frame: FrameT | None = None
        self._requests: deque[tuple[Future[Any], Callable[[], Any]]] = deque()
        self._started_last = float("-inf")
        self._busy = False
        self._stopping = False
        # A daemon: a model that is in mid-inference must not keep a stopped process alive.
        self._thread = threading.Thread(target=self._run, name=WORKER_THREAD, daemon=True)
        self._thread.start()

    @property
    def busy(self) -> bool:
        """True while a frame or a request is being worked on."""
        return self._busy

    def put(self, frame: FrameT) -> None:
        """Make `frame` the next one; the frame that was waiting is dropped."""
        with self._condition:
            replaced = self._frame is not None
            reason = "max_rate" if not self._busy and self._max_rate() > 0 else "busy"
            self._frame = frame
            self._condition.notify()
        if replaced:
            self._dropped(reason)

    def call(self, function: Callable[[], Any]) -> Future[Any]:
        """Run `function` in the worker's thread before the next frame; a stop of the worker cancels the future."""
        future: Future[Any] = Future()
        with self._condition:
            if self._stopping:
                future.cancel()
            else:
                self._requests.append((future, function))
                self._condition.notify()
        return future

    def stop(self, timeout: float) -> bool:
        """Forget what waits, finish what runs. True when the thread ended within `timeout` seconds."""
        with self._condition:
            self._stopping = True
            self._frame = None
            waiting = list(self._requests)
            self._requests.clear()
            self._condition.notify()
        for future, _ in waiting:
            future.cancel()
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while True:
            with self._condition:
                self._busy = False
                work = self._next()
                if work is None:
                    return
                self._busy = True
            work()

    def _next(self) -> Callable[[], None] | None:
        """What to do next, waiting for it; None to end. The condition is held."""
        while not self._stopping:
            if self._requests:
                future, function = self._requests.popleft()
                return lambda: _answer(future, function)
            pause: float | None = None
            if self._frame is not None:
                rate = self._max_rate()
                now = time.monotonic()
                pause = self._started_last + 1.0 / rate - now if rate > 0 else 0.0
                if pause <= 0:
                    frame, self._frame = self._frame, None
                    self._started_last = now
                    return lambda: self._process(frame)
            self._condition.wait(pause)
        return None


def _answer(future: Future[Any], function: Callable[[], Any]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        future.set_result(function())
    except Exception as error:  # belongs to whoever asked
        future.set_exception(error)


def wait_for(future: Future[Any], alive: Callable[[], bool]) -> Any:
    """The future's result, or CancelledError as soon as `alive()` is false.

    A plain `result()` would hold the calling thread, and with it the process, until the model is done.
    """
    while alive():
        try:
            return future.result(timeout=0.1)
        # From Python 3.11 on this is the built-in TimeoutError, which the work itself may have raised.
        except FutureTimeout:
            if future.done():
                return future.result()
    future.cancel()
    raise CancelledError
