"""What a running node says of itself on `/diagnostics`, for `ivlm doctor --node`."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ivlm_core.errors import ConfigError, InputError, printable

LEVELS = ("OK", "WARN", "ERROR", "STALE")
# What the names of our statuses end with.
SUFFIX = ": contact"
# Reports come once a second.
PATIENCE = 5.0
# What the keys of counts begin with; they are printed together.
COUNTS = (
    "images_",
    "detections_",
    "bodies_",
    "depth_",
    "frames_",
    "dropped",
    "bad_input",
    "no_output",
    "no_pose",
    "poses",
    "requests_",
    "goals_",
    "without",
    "incompatible_qos",
    "time_jumps",
    "starved",
    "internal_error",
)


@dataclass(frozen=True)
class NodeReport:
    """The last report of one node.

    Attributes
    ----------
    node : its name with its namespace. level : `OK`, `WARN`, `ERROR` or `STALE`. message : the reason in a sentence.
    values : everything else that it tells, as text.
    """

    node: str
    level: str
    message: str
    values: dict[str, str]


def listen(name: str = "", patience: float = PATIENCE) -> list[NodeReport]:
    """The reports of the nodes that run now, in the order of their names.

    Parameters
    ----------
    name : of the node that is asked for, with its namespace (`left/ivlm_contact`); empty for all.
    patience : seconds to listen. With a name it ends as soon as that node has reported, else when every node that was
        heard has had the time to report twice.

    Raises
    ------
    ConfigError : ROS is not installed or not sourced.
    InputError : no such node has reported.
    """
    try:
        import rclpy
        from diagnostic_msgs.msg import DiagnosticArray
    except ImportError as error:
        raise ConfigError("--node", f"needs ROS 2, and rclpy cannot be imported ({error})", "source env.sh") from error
    wanted = name.strip("/")
    heard: dict[str, NodeReport] = {}

    def note(message: Any) -> None:
        for status in message.status:
            if status.name.endswith(SUFFIX):
                report = _report(status)
                heard[report.node] = report

    context = rclpy.Context()
    rclpy.init(context=context, args=[])
    try:
        node = rclpy.create_node(f"ivlm_doctor_{os.getpid()}", context=context)
        node.create_subscription(DiagnosticArray, "/diagnostics", note, 10)
        executor = rclpy.executors.SingleThreadedExecutor(context=context)
        executor.add_node(node)
        _spin(executor.spin_once, patience, lambda: wanted in heard if wanted else False, heard)
        executor.shutdown()
        node.destroy_node()
    finally:
        context.try_shutdown()
    found = [heard[key] for key in sorted(heard) if not wanted or key == wanted]
    if found:
        return found
    known = f"heard of {', '.join(sorted(heard))}" if heard else "nothing was heard on /diagnostics"
    domain = os.environ.get("ROS_DOMAIN_ID", "0")
    raise InputError(
        "--node",
        f"no {wanted or 'contact'} node has reported within {patience:.0f} s: {known}",
        f"start it, with the same ROS_DOMAIN_ID ({domain}) and ROS_AUTOMATIC_DISCOVERY_RANGE",
    )


def _spin(turn: Callable[..., Any], patience: float, done: Callable[[], bool], heard: dict[str, NodeReport]) -> None:
    start = time.monotonic()
    first: float | None = None
    while (now := time.monotonic()) - start < patience and not done():
        turn(timeout_sec=0.1)
        if heard and first is None:
            first = now
        if first is not None and now - first > 2.0:
            return


def _report(status: Any) -> NodeReport:
    # rclpy gives a byte as `bytes`.
    level = int.from_bytes(status.level, "little") if isinstance(status.level, bytes) else int(status.level)
    told = {item.key: item.value for item in status.values}
    return NodeReport(
        status.name.removesuffix(SUFFIX).strip("/"), LEVELS[min(level, len(LEVELS) - 1)], status.message, told
    )


def report_text(report: NodeReport) -> str:
    """A node's report for the terminal; latencies as one line per stage."""
    lines = [f"{report.level:8} {printable(report.node)}: {printable(report.message)}"]
    rest = {printable(key): printable(value) for key, value in report.values.items()}
    stages: dict[str, dict[str, str]] = {}
    for key in [key for key in rest if key.startswith("latency_") and key.endswith("_ms")]:
        stage, _, percentile = key.removeprefix("latency_").removesuffix("_ms").rpartition("_")
        stages.setdefault(stage, {})[percentile] = rest.pop(key)
    counted = {key: rest.pop(key) for key in list(rest) if key.startswith(COUNTS)}
    lines += [f"  {key:28} {value}" for key, value in rest.items() if value]
    lines += [f"  {key:28} {value}" for key, value in counted.items()]
    if stages:
        lines.append(f"  {'latency, ms':28} {'p50':>8} {'p95':>8}")
        lines += [
            f"    {stage:26} {found.get('p50', ''):>8} {found.get('p95', ''):>8}" for stage, found in stages.items()
        ]
    return "\n".join(lines)
