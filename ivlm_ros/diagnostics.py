"""What the node counts, and how it tells: counters, one throttled log line per reason, and the diagnostic status."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticStatus, KeyValue

# Field names can hold a mesh's name, which comes from outside: beyond this many the rest share one counter.
MAX_KEYS = 64
LATENCY_WINDOW = 300
RECENT_SECONDS = 10.0


class Counters:
    """Thread-safe counts and latencies since the node was configured last."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.reset()

    def reset(self) -> None:
        """Start again from zero."""
        with self._lock:
            self._counts: dict[str, Counter[str]] = {}
            self._latencies: dict[str, deque[float]] = {}
            self._seen_last: dict[str, float] = {}
            self.last_error = ""

    def add(self, kind: str, key: str = "", count: int = 1) -> None:
        """Count an event: `kind` groups (`dropped`, `bad_input`, …), `key` is the reason or field within it."""
        with self._lock:
            keys = self._counts.setdefault(kind, Counter())
            if key not in keys and len(keys) >= MAX_KEYS:
                key = "other"
            keys[key] += count
            self._seen_last[kind] = time.monotonic()

    def error(self, kind: str, key: str, text: str) -> None:
        """Count an event and remember its text as the last error."""
        self.add(kind, key)
        self.last_error = text

    def latency(self, stage: str, seconds: float) -> None:
        """Record how long `stage` took."""
        with self._lock:
            self._latencies.setdefault(stage, deque(maxlen=LATENCY_WINDOW)).append(seconds)

    def total(self, kind: str) -> int:
        """Sum over all keys of `kind`."""
        with self._lock:
            return sum(self._counts.get(kind, Counter()).values())

    def get(self, kind: str, key: str) -> int:
        """The count of one key."""
        with self._lock:
            return self._counts.get(kind, Counter())[key]

    def age(self, kind: str) -> float:
        """Seconds since `kind` was counted last; infinity when it never was."""
        with self._lock:
            return time.monotonic() - self._seen_last.get(kind, float("-inf"))

    def report(self) -> dict[str, str]:
        """All counts as `kind` or `kind/key`, and latencies as `latency_<stage>_p50_ms` and `…_p95_ms`."""
        with self._lock:
            counts = {kind: Counter(keys) for kind, keys in self._counts.items()}
            latencies = {stage: np.array(times) for stage, times in self._latencies.items()}
        lines: dict[str, str] = {}
        for kind, keys in counts.items():
            if set(keys) != {""}:
                lines.update({f"{kind}/{key}": str(count) for key, count in sorted(keys.items())})
            lines[kind] = str(sum(keys.values()))
        for stage, times in latencies.items():
            for percentile in (50, 95):
                lines[f"latency_{stage}_p{percentile}_ms"] = f"{1e3 * np.percentile(times, percentile):.1f}"
        return lines


class ThrottledLog:
    """One line per key and period; what is kept back is counted in the next line.

    Parameters
    ----------
    emit : writes a line at a level name (`info`, `warning`, `error`).
    period : seconds between two lines of one key.
    """

    def __init__(self, emit: Callable[[str, str], None], period: float = 10.0) -> None:
        self._emit = emit
        self._period = period
        self._lock = threading.Lock()
        self._last: dict[str, tuple[float, int]] = {}

    def say(self, key: str, text: str, level: str = "warning") -> None:
        """Write `text` unless a line of `key` was written within the period."""
        now = time.monotonic()
        with self._lock:
            if key not in self._last and len(self._last) >= 4 * MAX_KEYS:
                key = "other"
            written, kept_back = self._last.get(key, (float("-inf"), 0))
            if now - written < self._period:
                self._last[key] = written, kept_back + 1
                return
            self._last[key] = now, 0
        self._emit(level, f"{text} [{kept_back} more like this before]" if kept_back else text)


# What the states mean to somebody who waits for answers.
IDLE = {
    "unconfigured": "unconfigured: it does nothing until it is configured and activated",
    "inactive": "inactive: it does nothing until it is activated",
}


def judge(state: str, counters: Counters, starved: str, setup_error: str) -> tuple[bytes, str]:
    """The diagnostic level and its sentence.

    ERROR: the last configure failed, or the last frame did. WARN: nothing arrives, or a failure or bad input within
    the last 10 s. OK otherwise.
    """
    if setup_error and state == "unconfigured":
        return DiagnosticStatus.ERROR, f"configure failed: {setup_error}"
    if state != "active":
        return DiagnosticStatus.OK, IDLE.get(state, state)
    failed = counters.age("frames_failed")
    if failed < counters.age("frames_processed"):
        return DiagnosticStatus.ERROR, f"the last frame failed: {counters.last_error}"
    if starved:
        return DiagnosticStatus.WARN, starved
    if min(failed, counters.age("requests_failed"), counters.age("bad_input")) < RECENT_SECONDS:
        return DiagnosticStatus.WARN, counters.last_error
    return DiagnosticStatus.OK, "active"


def diagnostic_status(
    name: str, hardware_id: str, level: bytes, text: str, values: Mapping[str, Any]
) -> DiagnosticStatus:
    """A DiagnosticStatus with `values` as text, in their order."""
    return DiagnosticStatus(
        level=level,
        name=name,
        message=text,
        hardware_id=hardware_id,
        values=[KeyValue(key=key, value=str(value)) for key, value in values.items()],
    )


def resident_megabytes() -> float:
    """This process's resident memory, MB; 0 where /proc does not exist."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, IndexError, ValueError):
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def device_megabytes(device: str) -> dict[str, str]:
    """What this process holds of a CUDA device's memory, held at most, and what is free there, MB; else empty."""
    torch = sys.modules.get("torch")
    # Another thread may be at importing it: then it has no `cuda` yet.
    cuda: Any = getattr(torch, "cuda", None)
    if not device.startswith("cuda") or not getattr(cuda, "is_initialized", bool)():
        return {}
    free, _ = cuda.mem_get_info(device)
    return {
        "gpu_memory_mb": f"{cuda.memory_reserved(device) / 1e6:.0f}",
        "gpu_memory_most_mb": f"{cuda.max_memory_reserved(device) / 1e6:.0f}",
        "gpu_memory_free_mb": f"{free / 1e6:.0f}",
    }
