from __future__ import annotations

import signal
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from ivlm_core.errors import ConfigError
from ivlm_ros.node_process import NodeError, NodeProcess, executable_path


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A workspace whose `contact_node` is a shell script that the test writes."""
    path = tmp_path / "lib/ivlm_ros/contact_node"
    path.parent.mkdir(parents=True)
    monkeypatch.setenv("AMENT_PREFIX_PATH", f"/nonexistent:{tmp_path}")

    def write(script: str) -> None:
        path.write_text(f"#!/bin/bash\n{script}\n")
        path.chmod(0o755)

    return SimpleNamespace(path=path, write=write, log=tmp_path / "logs/node.log")


def wait_for_text(log: Path, text: str) -> None:
    deadline = time.monotonic() + 10
    while text not in (log.read_text() if log.exists() else ""):
        assert time.monotonic() < deadline, f"{text!r} never came"
        time.sleep(0.02)


def test_stop_is_what_ctrl_c_does(installed: SimpleNamespace) -> None:
    installed.write("trap 'echo interrupted; exit 0' INT\necho \"args: $*\"\nwhile :; do sleep 0.05; done")
    with NodeProcess(installed.log, ["--ros-args", "-p", "model:=tiny"]) as process:
        wait_for_text(installed.log, "args: --ros-args -p model:=tiny")
        process.check_running()
    assert process.exit_code == 0
    assert process.last_lines(1) == "interrupted"
    assert process.stop() == 0


def test_a_background_job_stops_its_node_as_well(installed: SimpleNamespace) -> None:
    installed.write("trap 'exit 0' INT\necho up\nwhile :; do sleep 0.05; done")
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with NodeProcess(installed.log) as process:
            wait_for_text(installed.log, "up")
            assert process.stop() == 0
    finally:
        signal.signal(signal.SIGINT, before)


def test_process_that_ignores_the_signal_is_killed(installed: SimpleNamespace) -> None:
    installed.write("trap '' INT\necho up\nwhile :; do sleep 0.05; done")
    with NodeProcess(installed.log) as process:
        wait_for_text(installed.log, "up")
        assert process.stop(timeout=0.3) == -9


def test_node_that_dies_is_reported_with_its_last_words(installed: SimpleNamespace) -> None:
    installed.write("echo 'no weights here'\nexit 3")
    with NodeProcess(installed.log) as process:
        wait_for_text(installed.log, "no weights")
        deadline = time.monotonic() + 10
        with pytest.raises(NodeError, match=r"exit code 3:\nno weights here"):
            while time.monotonic() < deadline:
                process.check_running()
                time.sleep(0.02)
    assert process.exit_code == 3


def test_unknown_transition_is_refused_before_anything_is_called(installed: SimpleNamespace) -> None:
    pytest.importorskip("rclpy")
    installed.write("exec sleep 60")
    with NodeProcess(installed.log) as process, pytest.raises(ConfigError, match="configure, activate"):
        process.transition(None, "explode", 1.0)


def test_workspace_without_the_node_is_refused(installed: SimpleNamespace) -> None:
    installed.write("exit 0")
    assert executable_path() == installed.path
    installed.path.unlink()
    with pytest.raises(ConfigError, match="contact_node"):
        executable_path()
