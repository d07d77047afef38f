"""Brings an image and its detections together by their stamps, with a small bounded memory."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Generic, TypeVar

Image = TypeVar("Image")
Detections = TypeVar("Detections")


class StampPairing(Generic[Image, Detections]):
    """Holds what waits for its counterpart; either side may come first.

    Everything that arrived before a matched image or detection is given up: a later match for it would deliver results
    out of order. Order means order of arrival, so that a clock that jumps back does not block anything.

    Parameters
    ----------
    capacity : how many images, and how many detections, may wait.
    slop_ns : largest difference of the stamps, nanoseconds; the nearest one wins.
    given_up : called with `no_detections` or `no_image` for each image or detection that will never be matched.
    """

    def __init__(self, capacity: int, slop_ns: int, given_up: Callable[[str], None]) -> None:
        self._slop_ns = slop_ns
        self._capacity = capacity
        self._given_up = given_up
        self._lock = threading.Lock()
        self._images: deque[tuple[int, Image]] = deque()
        self._detections: deque[tuple[int, Detections]] = deque()

    def add_image(self, stamp_ns: int, image: Image) -> tuple[Image, Detections] | None:
        """The pair that this image completes, or None while it has to wait."""
        with self._lock:
            found = self._take(self._detections, stamp_ns, "no_image")
            if found is not None:
                # These images came earlier than the one whose detections are already here.
                self._drop_all(self._images, "no_detections")
                return image, found
            self._wait(self._images, stamp_ns, image, "no_detections")
        return None

    def add_detections(self, stamp_ns: int, detections: Detections) -> tuple[Image, Detections] | None:
        """The pair that these detections complete, or None while they have to wait."""
        with self._lock:
            found = self._take(self._images, stamp_ns, "no_detections")
            if found is not None:
                self._drop_all(self._detections, "no_image")
                return found, detections
            self._wait(self._detections, stamp_ns, detections, "no_image")
        return None

    def clear(self) -> None:
        """Forget everything that waits, without counting it as given up."""
        with self._lock:
            self._images.clear()
            self._detections.clear()

    def _take(self, waiting: deque[tuple[int, Any]], stamp_ns: int, reason: str) -> Any:
        best, best_difference = -1, self._slop_ns + 1
        for index in range(len(waiting) - 1, -1, -1):  # of equal stamps the newest arrival wins
            difference = abs(waiting[index][0] - stamp_ns)
            if difference < best_difference:
                best, best_difference = index, difference
        if best < 0:
            return None
        for _ in range(best):
            waiting.popleft()
            self._given_up(reason)
        return waiting.popleft()[1]

    def _wait(self, waiting: deque[tuple[int, Any]], stamp_ns: int, item: Any, reason: str) -> None:
        if len(waiting) >= self._capacity:
            waiting.popleft()
            self._given_up(reason)
        waiting.append((stamp_ns, item))

    def _drop_all(self, waiting: deque[tuple[int, Any]], reason: str) -> None:
        for _ in range(len(waiting)):
            waiting.popleft()
            self._given_up(reason)
