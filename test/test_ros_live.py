"""What `ivlm doctor --node` hears of running nodes, and how it tells."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("rclpy")
pytest.importorskip("ivlm_ros.msg")

from sensor_msgs.msg import Image

from ivlm_core.cli import main
from ivlm_core.errors import InputError
from ivlm_ros.live import NodeReport, _report, listen, report_text


def test_a_running_node_is_heard_and_found_by_its_name(run_node: Any) -> None:
    run_node().start()
    run_node(namespace="left")
    (report,) = listen("ivlm_contact")
    assert (report.level, report.values["state"], report.values["model"]) == ("OK", "active", "fake")
    (left,) = listen("/left/ivlm_contact")
    assert left.values["state"] == "unconfigured"
    assert [found.node for found in listen()] == ["ivlm_contact", "left/ivlm_contact"]


def test_a_node_that_does_not_run_is_missed(run_node: Any) -> None:
    run_node()
    with pytest.raises(InputError, match=r"no right/ivlm_contact node.*heard of ivlm_contact.*ROS_DOMAIN_ID"):
        listen("right/ivlm_contact", patience=2.5)


def test_silence_says_what_to_do() -> None:
    with pytest.raises(InputError, match=r"nothing was heard on /diagnostics.*start it"):
        listen(patience=0.3)


def test_the_command_prints_the_same(run_node: Any, capsys: pytest.CaptureFixture[str]) -> None:
    run_node(silence_timeout=600.0).start()
    assert main(["doctor", "--node", "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)["nodes"]
    assert (found["node"], found["level"], found["values"]["weights_hash"]) == (
        "ivlm_contact",
        "OK",
        "0123456789abcdef",
    )
    assert main(["doctor", "--node"]) == 0
    assert "OK       ivlm_contact: active" in capsys.readouterr().out


def test_an_error_is_the_exit_status(
    run_node: Any, fake_pipeline: Any, peer: Any, ros_image: Any, wait_until: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    running = run_node(labels=["chair"]).start()
    fake_pipeline.error = RuntimeError("no luck")
    peer.publisher(Image, "image", reader=running).publish(ros_image(1))
    wait_until(lambda: running.counters.total("frames_failed"))
    assert main(["doctor", "--node", "ivlm_contact"]) == 1
    assert "ERROR    ivlm_contact: the last frame failed: RuntimeError: no luck" in capsys.readouterr().out


def test_latencies_are_one_line_a_stage() -> None:
    values = {
        "state": "active",
        "last_error": "",
        "dropped/busy": "3",
        "latency_a_b_p50_ms": "1.5",
        "latency_a_b_p95_ms": "2",
    }
    lines = report_text(NodeReport("n", "WARN", "why", values)).splitlines()
    assert lines[0] == "WARN     n: why"
    assert [line.split() for line in lines[1:]] == [
        ["state", "active"],
        ["dropped/busy", "3"],
        ["latency,", "ms", "p50", "p95"],
        ["a_b", "1.5", "2"],
    ]


def test_nothing_that_was_heard_steers_the_terminal() -> None:
    told = report_text(NodeReport("n\x1b[2J", "OK", "\x1b]0;evil\x07", {"\x1bkey": "\x1b[31m"}))
    assert "\x1b" not in told


@pytest.mark.parametrize(("level", "name"), [(b"\x00", "OK"), (b"\x02", "ERROR"), (3, "STALE"), (b"\x09", "STALE")])
def test_levels_have_names(level: Any, name: str) -> None:
    status = SimpleNamespace(name="/left/x: contact", level=level, message="m", values=[])
    assert _report(status) == NodeReport("left/x", name, "m", {})
