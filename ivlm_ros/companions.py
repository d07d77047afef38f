"""Brings to an image what other nodes have found in it, by stamp, without waiting for what will not come."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, TypeVar

Work = TypeVar("Work")
Found = Mapping[str, Any]


class Companions(Generic[Work]):
    """Holds work until every named topic has brought the message of its stamp, or has shown that it will not.

    A message will not come once its topic has brought a later one, once nobody publishes the topic, or once more work
    waits than there is room for. Work is delivered in the order of its arrival, each once, with what was found.

    Parameters
    ----------
    names : the topics. capacity : how much work, and how many messages of a topic, may wait.
    slop_ns : largest difference of the stamps, nanoseconds; the nearest message wins.
    alive : tells whether anybody publishes a topic.
    deliver : takes the work and what was found for it, topic → message. missing : is told each topic that was not.
    """

    def __init__(
        self,
        names: Sequence[str],
        capacity: int,
        slop_ns: int,
        alive: Callable[[str], bool],
        deliver: Callable[[Work, Found], None],
        missing: Callable[[str], None],
    ) -> None:
        self._capacity, self._slop_ns = capacity, slop_ns
        self._alive, self._deliver, self._missing = alive, deliver, missing
        self._waiting: deque[tuple[int, Work]] = deque()
        self._messages: dict[str, deque[tuple[int, Any]]] = {name: deque(maxlen=2 * capacity) for name in names}
        self._lock = threading.Lock()

    def put(self, stamp_ns: int, work: Work) -> None:
        """Work that waits for its companions; without any it goes on at once."""
        with self._lock:
            self._waiting.append((stamp_ns, work))
            self._go_on()

    def add(self, name: str, stamp_ns: int, message: Any) -> None:
        """A message of one topic."""
        with self._lock:
            messages = self._messages[name]
            if messages and stamp_ns < messages[-1][0]:
                # The clock has jumped back, or the sender mixes its messages: older ones are in nobody's way.
                self._messages[name] = messages = deque(
                    (entry for entry in messages if entry[0] <= stamp_ns), maxlen=messages.maxlen
                )
            messages.append((stamp_ns, message))
            self._go_on()

    def look(self) -> None:
        """Let go of work that waits for a topic that nobody publishes any more."""
        with self._lock:
            self._go_on()

    def clear(self) -> None:
        """Forget everything that waits."""
        with self._lock:
            self._waiting.clear()
            for messages in self._messages.values():
                messages.clear()

    def _go_on(self) -> None:
        while self._waiting:
            stamp, work = self._waiting[0]
            found = {name: self._nearest(name, stamp) for name in self._messages}
            absent = [name for name, message in found.items() if message is None]
            full = len(self._waiting) > self._capacity
            if not full and not all(self._is_over(name, stamp) for name in absent):
                return
            self._waiting.popleft()
            for name in absent:
                self._missing(name)
            self._deliver(work, {name: message for name, message in found.items() if message is not None})

    def _nearest(self, name: str, stamp_ns: int) -> Any:
        near = [(abs(stamp - stamp_ns), message) for stamp, message in self._messages[name]]
        if not near:
            return None
        difference, message = min(near, key=lambda entry: entry[0])
        return message if difference <= self._slop_ns else None

    def _is_over(self, name: str, stamp_ns: int) -> bool:
        messages = self._messages[name]
        if messages and messages[-1][0] > stamp_ns + self._slop_ns:
            return True
        return not self._alive(name)
