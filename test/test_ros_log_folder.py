"""ROS gets a log folder that can be written, and keeps the one that the user has chosen."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from ivlm_ros.log_folder import no_log_folder, use_writable_log_folder


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("ROS_LOG_DIR", "ROS_HOME"):
        # Set first, so that it is restored to nothing whatever the function puts there.
        monkeypatch.setenv(name, "")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))


def test_a_writable_home_is_left_alone(tmp_path: Path) -> None:
    assert use_writable_log_folder() is None
    assert not os.environ["ROS_LOG_DIR"]
    assert list((tmp_path / ".ros" / "log").iterdir()) == []


@pytest.mark.parametrize("home", ["", "/proc", "/dev/null"])
def test_without_a_writable_home_logs_go_to_a_temporary_folder(monkeypatch: pytest.MonkeyPatch, home: str) -> None:
    monkeypatch.setenv("HOME", home)
    folder = use_writable_log_folder()
    assert folder is not None
    assert os.environ["ROS_LOG_DIR"] == str(folder)
    assert folder.stat().st_mode & 0o777 == 0o700
    shutil.rmtree(folder)


@pytest.mark.parametrize("name", ["ROS_LOG_DIR", "ROS_HOME"])
def test_the_users_choice_stays(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("HOME", "/proc")
    monkeypatch.setenv(name, "/proc/mine")
    assert use_writable_log_folder() is None
    assert os.environ[name] == "/proc/mine"


def test_only_a_missing_log_folder_is_explained() -> None:
    told = no_log_folder(RuntimeError("failed to initialize logging: Failed to create log directory '/x': 30"))
    assert "'/x'" in told
    assert "set ROS_LOG_DIR" in told
    assert no_log_folder(RuntimeError("something else")) == ""


def test_nowhere_to_write_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/proc")
    monkeypatch.setattr("tempfile.tempdir", "/proc")
    assert use_writable_log_folder() is None
    assert not os.environ["ROS_LOG_DIR"]
