"""Where ROS keeps its log files: a read-only or missing home must not keep the node from starting."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def use_writable_log_folder() -> Path | None:
    """Point this process to a temporary folder where ROS's own log folder cannot be written; before `rclpy.init`.

    ROS refuses to start without it. A folder that the user has chosen (ROS_LOG_DIR, ROS_HOME) stays as it is.

    Returns
    -------
    The temporary folder, or None where nothing was changed.
    """
    if os.environ.get("ROS_LOG_DIR") or os.environ.get("ROS_HOME"):
        return None
    home = os.environ.get("HOME")
    if home and _is_writable(Path(home) / ".ros" / "log"):
        return None
    try:
        folder = Path(tempfile.mkdtemp(prefix="ros-log-"))
    except OSError:
        return None
    os.environ["ROS_LOG_DIR"] = str(folder)
    return folder


def no_log_folder(error: Exception) -> str:
    """What to tell about a failed start when a log folder was the cause; empty when it was not."""
    if "log directory" not in str(error):
        return ""
    return f"ROS cannot write its logs ({error}): set ROS_LOG_DIR to a writable folder"


def _is_writable(folder: Path) -> bool:
    # Not `os.access`: for root it says yes to a folder that is mounted read-only.
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False
