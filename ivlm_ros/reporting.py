"""How the node tells what happens: the log, `/diagnostics`, and the one place where errors are counted."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from diagnostic_msgs.msg import DiagnosticArray

from ivlm_core.errors import IvlmError, shown
from ivlm_ros.diagnostics import (
    Counters,
    ThrottledLog,
    device_megabytes,
    diagnostic_status,
    judge,
    resident_megabytes,
)

if TYPE_CHECKING:
    from rclpy.node import Node

    from ivlm_core.types import Reconstruction
    from ivlm_ros.parameters import NodeParameters


class Reporter:
    """Counts, logs and publishes for one node.

    Parameters
    ----------
    node : the node whose logger is used; `/diagnostics` is published in every state of its life cycle.
    """

    def __init__(self, node: Node) -> None:
        self.counters = Counters()
        self.log = ThrottledLog(self._emit)
        self._node = node
        self._publisher = node.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self._last_report = (time.monotonic(), 0, 0)

    def dropped(self, reason: str) -> None:
        """Count a frame that will not be answered."""
        self.counters.add("dropped", reason)

    def bad_input(self, error: IvlmError) -> None:
        """Count an input that cannot be used under the field that the error names, and say so."""
        self.counters.error("bad_input", error.field, str(error))
        self.log.say(f"bad/{error.field}", f"bad input: {error}")

    def failed(self, error: Exception, what: str = "frames") -> None:
        """Count a frame (or what is named) that the model, or the publishing, could not finish, and say so."""
        if isinstance(error, IvlmError):
            key, text = error.field, str(error)
        else:
            key, text = type(error).__name__, f"{type(error).__name__}: {error}"
        self.counters.error(f"{what}_failed", key, text)
        self.log.say(f"failed/{what}/{key}", f"a {what.removesuffix('s')} failed: {text}", "error")

    def no_contact(self, reason: str, sentence: str) -> None:
        """Count a frame that was answered without any contact, and say why."""
        self.counters.add("no_output", reason)
        self.log.say(reason, f"no contact: {sentence}", "info")

    def posed(self, fitted: Reconstruction) -> None:
        """Count an object that was looked for in the scene, and say why it has no pose."""
        if fitted.pose_valid:
            self.counters.add("poses", fitted.state)
            return
        self.counters.add("no_pose")
        self.log.say("no_pose", f"no pose for {shown(fitted.object_label)}: {fitted.reason}", "info")

    def publish(
        self, state: str, enabled: bool, starved: str, setup_error: str, pipeline: Any, values: NodeParameters
    ) -> None:
        """Publish the node's status.

        Parameters
        ----------
        state, enabled : of the life cycle, and of `~/enable`.
        starved : why nothing reaches the model, or empty.
        setup_error : why the last transition failed, or empty.
        pipeline : the loaded pipeline, or None.
        """
        if starved:
            self.counters.add("starved")
            self.log.say("starved", starved)
        device = str(getattr(pipeline, "device", values.device))
        level, text = judge(state, self.counters, starved, setup_error)
        rate_in, rate_out = self._rates()
        report = {
            "state": state,
            "enabled": enabled,
            "model": pipeline.profile.name if pipeline is not None else values.model,
            "weights_hash": getattr(pipeline, "weights_hash", ""),
            "device": device,
            "body_model": values.body_model,
            "images_received": 0,
            "detections_received": 0,
            "frames_processed": 0,
            "frames_failed": 0,
            "dropped": 0,
            "bad_input": 0,
            "no_output": 0,
            "rate_in_hz": f"{rate_in:.1f}",
            "rate_out_hz": f"{rate_out:.1f}",
            **self.counters.report(),
            "cache_hits": getattr(pipeline, "cache_hits", 0),
            "cache_misses": getattr(pipeline, "cache_misses", 0),
            "memory_mb": f"{resident_megabytes():.0f}",
            **device_megabytes(device),
            "last_error": self.counters.last_error,
        }
        message = DiagnosticArray()
        message.header.stamp = self._node.get_clock().now().to_msg()
        name = f"{self._node.get_fully_qualified_name().lstrip('/')}: contact"
        message.status = [diagnostic_status(name, device, level, text, report)]
        self._publisher.publish(message)

    def _rates(self) -> tuple[float, float]:
        """Images in and frames out per second since the last report."""
        now = time.monotonic()
        received, processed = self.counters.total("images_received"), self.counters.total("frames_processed")
        then, received_then, processed_then = self._last_report
        self._last_report = (now, received, processed)
        elapsed = max(now - then, 1e-3)
        # The counters start again at every configure.
        return max(received - received_then, 0) / elapsed, max(processed - processed_then, 0) / elapsed

    def _emit(self, level: str, text: str) -> None:
        # rclpy ties a severity to the line of the call, so that each needs a line of its own.
        if level == "info":
            self._node.get_logger().info(text)
        elif level == "warning":
            self._node.get_logger().warning(text)
        else:
            self._node.get_logger().error(text)
