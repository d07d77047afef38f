"""The Fast DDS profile: found in both places, never over a user's own, and large images come through with it."""

from __future__ import annotations

import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest

from ivlm_ros import transport

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def clean(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in transport.PROFILE_VARIABLES:
        # Set first, so that monkeypatch restores what the function under test sets.
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    return monkeypatch


def test_source_tree_is_used_without_an_installation(clean: pytest.MonkeyPatch) -> None:
    clean.delenv("AMENT_PREFIX_PATH", raising=False)
    clean.setattr(transport, "__file__", str(ROOT / "ivlm_ros" / "transport.py"))
    assert transport.profile_path() == ROOT / "config" / transport.PROFILE_NAME


@pytest.mark.parametrize(("package", "count"), [("fastdds", 1), ("fastrtps", 2)])
def test_installed_profile_is_set_for_the_fast_dds_that_is_there(
    clean: pytest.MonkeyPatch, tmp_path: Path, package: str, count: int
) -> None:
    (tmp_path / "share" / package).mkdir(parents=True)
    installed = tmp_path / "share" / "ivlm_ros" / "config" / transport.PROFILE_NAME
    installed.parent.mkdir(parents=True)
    installed.write_text("<dds/>")
    clean.setenv("AMENT_PREFIX_PATH", f"/nowhere{os.pathsep}{tmp_path}")
    assert transport.use_large_image_profile() == installed
    found = [os.environ.get(name) for name in transport.PROFILE_VARIABLES]
    # Fast DDS 3 warns about the old name, Fast DDS 2 does not know the new one.
    assert found == [str(installed), str(installed) if count == 2 else None]


@pytest.mark.parametrize("name", transport.PROFILE_VARIABLES)
def test_a_users_profile_stays(clean: pytest.MonkeyPatch, name: str) -> None:
    clean.setenv(name, "/home/user/mine.xml")
    assert transport.use_large_image_profile() is None
    assert os.environ[name] == "/home/user/mine.xml"
    assert sum(other in os.environ for other in transport.PROFILE_VARIABLES) == 1


def test_segment_holds_two_full_hd_images() -> None:
    tree = ElementTree.parse(ROOT / "config" / transport.PROFILE_NAME)
    sizes = [int(element.text or 0) for element in tree.iter() if element.tag.endswith("segment_size")]
    assert len(sizes) == 1
    assert sizes[0] >= 2 * 1920 * 1080 * 3


PUBLISHER = """
import sys, time, array
from ivlm_ros.transport import use_large_image_profile
if sys.argv[1] == "with": assert use_large_image_profile()
import rclpy
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import Image
rclpy.init()
node = rclpy.create_node("camera")
publisher = node.create_publisher(Image, "big", qos_profile_sensor_data)
while not publisher.get_subscription_count(): time.sleep(0.01)
time.sleep(0.2)
data = array.array("B", bytes(1920 * 1080 * 3))
for number in range(300):
    message = Image(height=1080, width=1920, encoding="rgb8", step=5760, data=data)
    message.header.stamp.sec = number
    publisher.publish(message)
    time.sleep(0.1)
"""


def test_large_best_effort_images_arrive_from_a_process_with_the_profile(
    clean: pytest.MonkeyPatch, peer: Any, wait_until: Any
) -> None:
    pytest.importorskip("rclpy")
    from rclpy.qos import qos_profile_sensor_data
    from sensor_msgs.msg import Image

    heard = peer.hear(Image, "big", qos_profile_sensor_data)
    process = subprocess.Popen([sys.executable, "-c", PUBLISHER, "with"], cwd=ROOT)
    try:
        assert wait_until(lambda: len(heard) >= 12 or process.poll() is not None, 60)
    finally:
        process.kill()
        process.wait(10)
    # Without the profile nearly nothing arrives; a busy reader alone may miss some.
    assert len(heard) >= 12
    assert len(heard) >= 0.4 * (1 + heard[-1].header.stamp.sec)
    assert all(len(message.data) == 1920 * 1080 * 3 for message in heard)
