"""Security that was asked for and is not there is said; the shipped policy names what the node really uses."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

pytest.importorskip("rclpy")
pytest.importorskip("ivlm_ros.msg")

from rclpy.action import get_action_server_names_and_types_by_node

from ivlm_ros.security import ENCLAVE_FILES, explained, what_is_missing

ROOT = Path(__file__).resolve().parents[1]
POLICY = ROOT / "config" / "sros2" / "ivlm_contact.policy.xml"


def keystore(folder: Path, *, lacking: str = "") -> Path:
    enclave = folder / "enclaves" / "ivlm" / "ivlm_contact"
    enclave.mkdir(parents=True)
    for name in ENCLAVE_FILES:
        if name != lacking:
            (enclave / name).write_text("x")
    return folder


ARGUMENTS = ["contact_node", "--ros-args", "--enclave", "/ivlm/ivlm_contact"]


def test_nothing_is_said_where_nothing_is_asked_for() -> None:
    assert what_is_missing(ARGUMENTS, {}) == ""
    assert what_is_missing(ARGUMENTS, {"ROS_SECURITY_ENABLE": "false"}) == ""


def test_a_whole_enclave_is_enough(tmp_path: Path) -> None:
    asked = {"ROS_SECURITY_ENABLE": "true", "ROS_SECURITY_KEYSTORE": str(keystore(tmp_path))}
    assert what_is_missing(ARGUMENTS, asked) == ""
    assert what_is_missing([], asked | {"ROS_SECURITY_ENCLAVE_OVERRIDE": "/ivlm/ivlm_contact"}) == ""
    assert "lacks identity_ca.cert.pem" in what_is_missing([], asked)


@pytest.mark.parametrize("lacking", ENCLAVE_FILES)
def test_a_missing_file_is_named(tmp_path: Path, lacking: str) -> None:
    asked = {"ROS_SECURITY_ENABLE": "true", "ROS_SECURITY_KEYSTORE": str(keystore(tmp_path, lacking=lacking))}
    assert f"lacks {lacking}:" in what_is_missing(ARGUMENTS, asked)


def test_a_missing_keystore_is_named() -> None:
    assert "ROS_SECURITY_KEYSTORE is empty" in what_is_missing([], {"ROS_SECURITY_ENABLE": "true"})


def test_other_failures_are_not_explained_by_security() -> None:
    error = RuntimeError("This Fast DDS version doesn't have the security libraries")
    assert explained(error, {}) == ""
    assert "built without it" in explained(error, {"ROS_SECURITY_ENABLE": "true"})
    assert explained(RuntimeError("no memory"), {"ROS_SECURITY_ENABLE": "true"}) == ""


def started(**security: str) -> subprocess.CompletedProcess[str]:
    """The installed node, started with security asked for, and stopped again where it goes on."""
    return subprocess.run(
        ["timeout", "--preserve-status", "--signal=INT", "5", sys.executable, "-m", "ivlm_ros.contact_node"],
        env={**os.environ, "ROS_SECURITY_ENABLE": "true", **security},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_a_node_that_goes_on_unprotected_warns() -> None:
    done = started(ROS_SECURITY_STRATEGY="Permissive", ROS_SECURITY_KEYSTORE="")
    assert done.returncode == 0, done.stderr
    assert "ROS_SECURITY_KEYSTORE is empty" in done.stderr


def test_a_node_that_must_be_protected_and_cannot_be_does_not_start(tmp_path: Path) -> None:
    missing = started(ROS_SECURITY_STRATEGY="Enforce", ROS_SECURITY_KEYSTORE=str(tmp_path))
    assert missing.returncode == 2
    assert "security is asked for" in missing.stderr
    assert "Traceback" not in missing.stderr


def test_the_policy_allows_what_the_node_uses_and_nothing_more(run_node: Any, wait_until: Any) -> None:
    running = run_node(
        reconstruct=True, use_bodies=True, use_depth=True, contact_points=True, use_sim_time=True
    ).start()
    node = running.node

    def full(name: str) -> str:
        return name.replace("~", "/ivlm_contact") if name[0] in "~/" else f"/{name}"

    root = ElementTree.parse(POLICY).getroot()
    allowed: dict[str, set[str]] = {}
    for group, item, kind in (
        ("topics[@subscribe='ALLOW']", "topic", "subscribe"),
        ("topics[@publish='ALLOW']", "topic", "publish"),
        ("services[@reply='ALLOW']", "service", "reply"),
        ("actions[@execute='ALLOW']", "action", "execute"),
    ):
        allowed[kind] = {full(found.text.strip()) for found in root.findall(f".//{group}/{item}")}

    def names(found: Any) -> set[str]:
        return {name for name, _ in found if "/_action/" not in name}

    me = ("ivlm_contact", "/")
    wait_until(lambda: "/ivlm_contact/human_contacts" in names(node.get_publisher_names_and_types_by_node(*me)))
    # The transforms' topics are read by tf2_ros, which is not everywhere, parameter events by older distributions.
    used = names(node.get_subscriber_names_and_types_by_node(*me)) | {"/tf", "/tf_static", "/parameter_events"}
    assert used == allowed["subscribe"]
    assert names(node.get_publisher_names_and_types_by_node(*me)) == allowed["publish"]
    assert names(node.get_service_names_and_types_by_node(*me)) == allowed["reply"]
    actions = {name for name, _ in get_action_server_names_and_types_by_node(node, *me)}
    assert actions == allowed["execute"]
