"""The reporter: what it counts is what `/diagnostics` and the log say."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("rclpy")

import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus

from ivlm_core.errors import InputError
from ivlm_core.types import FrameResult
from ivlm_ros.parameters import NodeParameters
from ivlm_ros.reporting import Reporter


@pytest.fixture
def reporter() -> Iterator[Reporter]:
    context = rclpy.Context()
    rclpy.init(context=context)
    node = rclpy.create_node("reporting_test", context=context, namespace="left")
    made = Reporter(node)
    made.sent: list[DiagnosticArray] = []  # type: ignore[attr-defined, misc]
    made._publisher = SimpleNamespace(publish=made.sent.append)  # type: ignore[attr-defined, assignment]
    yield made
    node.destroy_node()
    context.try_shutdown()


def report(reporter: Any, **changes: Any) -> tuple[DiagnosticStatus, dict[str, str]]:
    options: dict[str, Any] = {"state": "active", "enabled": True, "starved": "", "setup_error": "", "pipeline": None}
    reporter.publish(**{**options, **changes}, values=NodeParameters())
    status = reporter.sent[-1].status[0]
    return status, {pair.key: pair.value for pair in status.values}


def test_poses_are_counted_and_missing_ones_explained(reporter: Reporter, fitted_result: FrameResult) -> None:
    said: list[str] = []
    reporter.log._emit = lambda level, text: said.append(text)
    found = fitted_result.reconstructions[0]
    for fitted in (found, found, replace(found, state="kept"), replace(found, pose_valid=False, reason="too far")):
        reporter.posed(fitted)
    _, values = report(reporter)
    assert (values["poses/cold"], values["poses/kept"], values["no_pose"]) == ("2", "1", "1")
    assert said == ["no pose for 'chair': too far"]


def test_each_event_appears_with_its_reason(reporter: Reporter) -> None:
    reporter.dropped("busy")
    reporter.bad_input(InputError("image.step", "is 3", "send more"))
    reporter.failed(RuntimeError("broken"))
    reporter.failed(InputError("device", "is out of memory"))
    reporter.no_contact("below_threshold", "no vertex reaches 0.5")
    status, values = report(reporter)
    assert values["dropped/busy"] == "1"
    assert values["bad_input/image.step"] == "1"
    assert (values["frames_failed/RuntimeError"], values["frames_failed/device"]) == ("1", "1")
    assert values["no_output/below_threshold"] == "1"
    assert values["last_error"] == "device: is out of memory"
    assert status.name == "left/reporting_test: contact"


def test_every_level_can_be_logged_from_one_place(reporter: Reporter, capfd: pytest.CaptureFixture[str]) -> None:
    """rclpy refuses a second severity from the line of an earlier call."""
    for level in ("info", "warning", "error", "info", "error"):
        reporter._emit(level, f"a line at {level}")
    text = "".join(capfd.readouterr())
    assert text.count("a line at") == 5


def test_keys_are_there_before_anything_happened(reporter: Reporter) -> None:
    _, values = report(reporter)
    for key in ("images_received", "frames_processed", "frames_failed", "dropped", "bad_input", "no_output"):
        assert values[key] == "0"
    assert (values["model"], values["last_error"]) == ("tiny", "")


def test_rates_are_per_second(reporter: Reporter, monkeypatch: pytest.MonkeyPatch) -> None:
    import ivlm_ros.reporting as module

    now = [reporter._last_report[0]]
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: now[0]))
    reporter.counters.add("images_received", count=60)
    reporter.counters.add("frames_processed", count=10)
    now[0] += 2.0
    values = report(reporter)[1]
    assert (values["rate_in_hz"], values["rate_out_hz"]) == ("30.0", "5.0")
    reporter.counters.reset()
    now[0] += 2.0
    assert report(reporter)[1]["rate_in_hz"] == "0.0"


def test_starved_input_is_a_warning_with_the_sentence(reporter: Reporter) -> None:
    status, values = report(reporter, starved="nothing publishes /image")
    assert (status.level, status.message) == (DiagnosticStatus.WARN, "nothing publishes /image")
    assert values["starved"] == "1"
