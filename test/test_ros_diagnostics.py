"""Counters, the throttled log, and the rules of the diagnostic level."""

from __future__ import annotations

import mmap
import sys
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("rclpy")

from diagnostic_msgs.msg import DiagnosticStatus

from ivlm_ros import diagnostics
from ivlm_ros.diagnostics import (
    MAX_KEYS,
    Counters,
    ThrottledLog,
    device_megabytes,
    diagnostic_status,
    judge,
    resident_megabytes,
)


def test_counts_from_many_threads_add_up() -> None:
    counters = Counters()

    def count() -> None:
        for index in range(2000):
            counters.add("dropped", "busy" if index % 2 else "max_rate")

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    report = counters.report()
    assert (report["dropped"], report["dropped/busy"], report["dropped/max_rate"]) == ("8000", "4000", "4000")


def test_keys_from_outside_are_bounded() -> None:
    counters = Counters()
    for index in range(1000):
        counters.add("bad_input", f"mesh '{index}'")
    report = counters.report()
    assert report["bad_input"] == "1000"
    assert len([key for key in report if key.startswith("bad_input/")]) == MAX_KEYS + 1
    assert report["bad_input/other"] == str(1000 - MAX_KEYS)


def test_latency_percentiles() -> None:
    counters = Counters()
    for milliseconds in range(1, 101):
        counters.latency("total", milliseconds / 1000)
    report = counters.report()
    expected = np.percentile(np.arange(1, 101), [50, 95])
    assert float(report["latency_total_p50_ms"]) == pytest.approx(expected[0], abs=0.06)
    assert float(report["latency_total_p95_ms"]) == pytest.approx(expected[1], abs=0.06)


def test_log_is_throttled_per_key_and_counts_what_it_keeps_back(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(diagnostics.time, "monotonic", lambda: now[0])
    lines: list[tuple[str, str]] = []
    log = ThrottledLog(lambda level, text: lines.append((level, text)), period=10.0)
    for _ in range(5):
        log.say("a", "image is bad")
    log.say("b", "mask is bad", "error")
    now[0] += 10.0
    log.say("a", "image is bad")
    assert lines == [
        ("warning", "image is bad"),
        ("error", "mask is bad"),
        ("warning", "image is bad [4 more like this before]"),
    ]


def test_levels() -> None:
    ok, warn, error = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR
    counters = Counters()
    assert judge("unconfigured", counters, "", "")[0] == ok
    assert judge("unconfigured", counters, "", "model: is gone") == (error, "configure failed: model: is gone")
    assert judge("inactive", counters, "", "")[0] == ok
    assert judge("active", counters, "", "")[0] == ok
    assert judge("active", counters, "nothing publishes /image", "") == (warn, "nothing publishes /image")
    counters.add("frames_processed")
    counters.error("bad_input", "image.step", "image.step: is 3")
    assert judge("active", counters, "", "") == (warn, "image.step: is 3")
    time.sleep(0.001)
    counters.error("frames_failed", "device", "device: is out of memory")
    assert judge("active", counters, "", "")[0] == error
    time.sleep(0.001)
    counters.add("frames_processed")
    assert judge("active", counters, "", "")[0] == warn
    counters.reset()
    assert judge("active", counters, "", "")[0] == ok


def test_status_message_keeps_the_order_and_text() -> None:
    status = diagnostic_status("n: contact", "cpu", DiagnosticStatus.WARN, "text", {"b": 1, "a": True})
    assert (status.name, status.hardware_id, status.level, status.message) == ("n: contact", "cpu", b"\x01", "text")
    assert [(pair.key, pair.value) for pair in status.values] == [("b", "1"), ("a", "True")]


def test_resident_memory_follows_an_allocation() -> None:
    before = resident_megabytes()
    # Pages of its own: an ordinary allocation may reuse memory that is resident already.
    with mmap.mmap(-1, 40_000_000) as block:
        block.write(bytes(len(block)))
        assert resident_megabytes() - before > 30


@pytest.mark.parametrize("module", [SimpleNamespace(), SimpleNamespace(cuda=SimpleNamespace())])
def test_torch_that_another_thread_is_at_importing_has_no_figures(
    monkeypatch: pytest.MonkeyPatch, module: SimpleNamespace
) -> None:
    monkeypatch.setitem(sys.modules, "torch", module)
    assert device_megabytes("cuda") == {}
