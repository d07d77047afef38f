"""Whether this process gets the protection that was asked for; the PyPI wheels of ROS 2 are built without it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

# What an enclave must hold for a node to be protected (SROS2).
ENCLAVE_FILES = (
    "identity_ca.cert.pem",
    "cert.pem",
    "key.pem",
    "permissions_ca.cert.pem",
    "governance.p7s",
    "permissions.p7s",
)
REMEDY = "docs/security.md says how; or unset ROS_SECURITY_ENABLE and confine DDS with ROS_AUTOMATIC_DISCOVERY_RANGE"


def is_asked_for(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether the environment asks for DDS security."""
    return environment.get("ROS_SECURITY_ENABLE", "") == "true"


def enclave_of(arguments: Sequence[str]) -> str:
    """The enclave that the process's arguments name (`--ros-args --enclave /name`); `/` where they name none."""
    for name in ("--enclave", "-e"):
        if name in arguments[:-1]:
            return arguments[arguments.index(name) + 1]
    return "/"


def what_is_missing(arguments: Sequence[str], environment: Mapping[str, str] = os.environ) -> str:
    """Why a node that started with security asked for is not protected all the same; empty where it is, or need not be.

    With the strategy `Permissive`, which is the default, ROS starts a node without an enclave, and says nothing.
    """
    if not is_asked_for(environment) or environment.get("ROS_SECURITY_STRATEGY", "") == "Enforce":
        return ""
    name = environment.get("ROS_SECURITY_ENCLAVE_OVERRIDE") or enclave_of(arguments)
    store = environment.get("ROS_SECURITY_KEYSTORE", "")
    if not store:
        return f"security is asked for (ROS_SECURITY_ENABLE), but ROS_SECURITY_KEYSTORE is empty: {REMEDY}"
    folder = Path(store) / "enclaves" / name.strip("/")
    missing = [file for file in ENCLAVE_FILES if not (folder / file).is_file()]
    if missing:
        told = f"but the enclave {folder} lacks {', '.join(missing)}"
        return f"security is asked for (ROS_SECURITY_ENABLE), {told}: {REMEDY}"
    return ""


def explained(error: Exception, environment: Mapping[str, str] = os.environ) -> str:
    """What to tell about a failed start when security was the cause; empty when it was not."""
    text = str(error)
    if not is_asked_for(environment):
        return ""
    if "security libraries" in text:
        return (
            "security is asked for (ROS_SECURITY_ENABLE), and this Fast DDS is built without it, as the PyPI wheels of "
            f"ROS 2 are: use a distribution's. {REMEDY}"
        )
    if "SECURITY ERROR" in text or "security" in text.lower():
        return f"security is asked for (ROS_SECURITY_ENABLE), and could not be set up: {text}. {REMEDY}"
    return ""
