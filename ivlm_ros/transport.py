"""Fast DDS settings that let whole images through.

A writer's shared-memory segment holds 512 KiB by default. A best-effort image above that (640×480 RGB is 900 KiB) is
cut into fragments that do not fit at once, and nearly all images are lost. The profile in `config/` gives a segment of
12 MiB: enough for a 1080p image, and small enough for the 64 MB of /dev/shm in a container. It must be set in the
process that publishes the images, before that process starts to use ROS.
"""

from __future__ import annotations

import os
from pathlib import Path

PROFILE_NAME = "fastdds_large_images.xml"
# Fast DDS 3 (Kilted and later) reads the first and warns about the second; Fast DDS 2 (Humble, Jazzy) knows the second.
PROFILE_VARIABLES = ("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE")


def profile_path() -> Path | None:
    """The shipped profile: from the installed share folder, else from the source tree; None where neither has it."""
    candidates = [share / "ivlm_ros" / "config" / PROFILE_NAME for share in _share_folders()]
    here = Path(__file__).resolve()
    # <prefix>/lib/python3.x/site-packages/ivlm_ros/transport.py when installed, <checkout>/ivlm_ros/transport.py else.
    candidates += [parent / "share" / "ivlm_ros" / "config" / PROFILE_NAME for parent in here.parents[2:6]]
    candidates.append(here.parents[1] / "config" / PROFILE_NAME)
    return next((path for path in candidates if path.is_file()), None)


def profile_environment() -> dict[str, str]:
    """The environment variables that point to the shipped profile; empty where the user has chosen one."""
    path = profile_path()
    if path is None or any(os.environ.get(name) for name in PROFILE_VARIABLES):
        return {}
    # Fast DDS 3 comes as the package `fastdds`, Fast DDS 2 as `fastrtps`.
    third = any((share / "fastdds").is_dir() for share in _share_folders())
    return {name: str(path) for name in PROFILE_VARIABLES[: 1 if third else 2]}


def use_large_image_profile() -> Path | None:
    """Point this process, and those it starts, to the shipped profile; call it before `rclpy.init`.

    A profile that the user has chosen stays: with either variable set nothing is changed.

    Returns
    -------
    The profile's path where it was set, else None.
    """
    chosen = profile_environment()
    os.environ.update(chosen)
    return Path(chosen[PROFILE_VARIABLES[0]]) if chosen else None


def _share_folders() -> list[Path]:
    prefixes = os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep)
    return [Path(prefix) / "share" for prefix in prefixes if prefix]
