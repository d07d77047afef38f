"""Brings to an image what other nodes have found in it, by stamp, without waiting for what will not come."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

Work = TypeVar("Work")
Found = Mapping[str, Any]

# A stamp so far before the last one of its topic is a clock that was set back, not a message that came late.
CLOCK_JUMP_NS = 1_000_000_000
# Longest wait for a companion, seconds; `look` ends it.
PATIENCE = 2.0


@dataclass(frozen=True)
class _Waiting(Generic[Work]):
    stamp_ns: int
    since: float
    work: Work


class Companions(Generic[Work]):
    """Holds work until every named topic has brought the message of its stamp, or has shown that it will not.

    A message will not come once its topic has brought a later one, once nobody publishes the topic, once more work
    waits than there is room for, or once the work has waited for `patience`. Work is delivered in the order of its
    arrival, each once, with what was found.

    Parameters
    ----------
    names : the topics. capacity : how much work may wait, and half of how many messages of a topic.
    slop_ns : largest difference of the stamps, nanoseconds; the nearest message that is there wins.
    alive : tells whether anybody publishes a topic.
    deliver : takes the work and what was found for it, topic → message. missing : is told each topic that was not.
    patience : longest wait, seconds; infinity for a recording, whose answers must not depend on the machine's speed.
    """

    def __init__(
        self,
        names: Sequence[str],
        capacity: int,
        slop_ns: int,
        alive: Callable[[str], bool],
        deliver: Callable[[Work, Found], None],
        missing: Callable[[str], None],
        patience: float = PATIENCE,
    ) -> None:
        self._capacity, self._slop_ns, self._patience = capacity, slop_ns, patience
        self._alive, self._deliver, self._missing = alive, deliver, missing
        self._waiting: deque[_Waiting[Work]] = deque()
        self._messages: dict[str, deque[tuple[int, Any]]] = {name: deque(maxlen=2 * capacity) for name in names}
        self._newest_work: int | None = None
        self._lock = threading.Lock()

    def put(self, stamp_ns: int, work: Work) -> None:
        """Work that waits for its companions; without any it goes on at once."""
        with self._lock:
            newest, self._newest_work = self._newest_work, stamp_ns
            if newest is not None and stamp_ns < newest - CLOCK_JUMP_NS:
                self._start_over(stamp_ns)
            self._waiting.append(_Waiting(stamp_ns, time.monotonic(), work))
            self._go_on()

    def add(self, name: str, stamp_ns: int, message: Any) -> None:
        """A message of one topic."""
        with self._lock:
            messages = self._messages[name]
            if messages and stamp_ns < max(stamp for stamp, _ in messages) - CLOCK_JUMP_NS:
                self._start_over(stamp_ns)
            messages.append((stamp_ns, message))
            self._go_on()

    def look(self) -> None:
        """Let go of work that has waited too long, or for a topic that nobody publishes any more."""
        with self._lock:
            self._go_on()

    def clear(self) -> None:
        """Forget everything that waits."""
        with self._lock:
            self._newest_work = None
            self._waiting.clear()
            for messages in self._messages.values():
                messages.clear()

    def _start_over(self, stamp_ns: int) -> None:
        """The clock was set back to `stamp_ns`: what is from before that will not be matched any more."""
        limit = stamp_ns + CLOCK_JUMP_NS
        while self._waiting and self._waiting[0].stamp_ns > limit:
            self._let_go(self._found(self._waiting[0].stamp_ns))
        for messages in self._messages.values():
            kept = [entry for entry in messages if entry[0] <= limit]
            messages.clear()
            messages.extend(kept)

    def _go_on(self) -> None:
        while self._waiting:
            first = self._waiting[0]
            found = self._found(first.stamp_ns)
            due = len(self._waiting) > self._capacity or time.monotonic() - first.since > self._patience
            if not due and not all(self._is_over(name, first.stamp_ns) for name in self._messages if name not in found):
                return
            self._let_go(found)

    def _let_go(self, found: Found) -> None:
        first = self._waiting.popleft()
        for name in self._messages:
            if name not in found:
                self._missing(name)
        self._deliver(first.work, found)

    def _found(self, stamp_ns: int) -> Found:
        """The nearest message of each topic that has one within the slop."""
        found = {}
        for name, messages in self._messages.items():
            apart, message = min(
                ((abs(stamp - stamp_ns), message) for stamp, message in messages),
                key=lambda entry: entry[0],
                default=(self._slop_ns + 1, None),
            )
            if apart <= self._slop_ns:
                found[name] = message
        return found

    def _is_over(self, name: str, stamp_ns: int) -> bool:
        """Whether a topic will bring nothing for this stamp any more."""
        if any(stamp > stamp_ns + self._slop_ns for stamp, _ in self._messages[name]):
            return True
        return not self._alive(name)
