"""Plays a bag into the running node over DDS, records what comes back, and measures it.

Latency is the time from publishing an image to receiving its contact message, both in this process, so that it holds
the transport both ways and the node's own waiting.
"""

from __future__ import annotations

import functools
import logging
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ivlm_core import ConfigError, InputError
from ivlm_core.datasets import BagRecorder, BagTopic
from ivlm_core.datasets.bags import CONTACT_TYPES, HUMAN_CONTACTS, FrameKey
from ivlm_ros.message_types import message_class
from ivlm_ros.replay.frames import ReplayFrame, header_key

log = logging.getLogger("ivlm")

# Input → its type where nothing else is said.
INPUTS = {
    "image": "sensor_msgs/msg/Image",
    "camera_info": "sensor_msgs/msg/CameraInfo",
    "detections": "ivlm_ros/msg/DetectedObjectArray",
}
# The node's inputs that may be played beside them.
FURTHER_INPUTS = ("bodies", "depth")
# The node's own outputs, relative to its name, and their types.
OUTPUTS = {
    **CONTACT_TYPES,
    "markers": "visualization_msgs/msg/MarkerArray",
    "overlay": "sensor_msgs/msg/Image",
}
DIAGNOSTICS = BagTopic("/diagnostics", "diagnostic_msgs/msg/DiagnosticArray")

# Types that do not begin with the header of the image that they belong to.
UNSTAMPED = ("visualization_msgs/msg/MarkerArray", DIAGNOSTICS.type)
# What the node counts its inputs under, on /diagnostics.
RECEIVED = {"image": "images_received", "detections": "detections_received"}
# After how long an unanswered frame is sent again: in the warm-up always, later if the node did not get it.
RESEND_SECONDS = 3.0


@dataclass
class ReplayReport:
    """What went in and what came out.

    Attributes
    ----------
    published : (frame, stamp) of every image played → time of publishing; seconds of a monotonic clock.
    received : (frame, stamp) of every contact message → time of its arrival.
    messages : output name → messages recorded.
    """

    published: dict[FrameKey, float] = field(default_factory=dict)
    received: dict[FrameKey, float] = field(default_factory=dict)
    messages: Counter[str] = field(default_factory=Counter)

    @property
    def answered(self) -> list[FrameKey]:
        """The images that got a contact message, in the order of playing."""
        return [key for key in self.published if key in self.received]

    def summary(self) -> dict[str, Any]:
        """`frames_in`, `frames_out`, `dropped`, and `latency_ms` with `p50` and `p95` (None where nothing came)."""
        answered = self.answered
        latency = [1000 * (self.received[key] - self.published[key]) for key in answered]
        p50, p95 = (float(value) for value in np.percentile(latency, [50, 95])) if latency else (None, None)
        return {
            "frames_in": len(self.published),
            "frames_out": len(answered),
            "dropped": len(self.published) - len(answered),
            "latency_ms": {"p50": p50, "p95": p95},
            "messages": dict(self.messages),
        }

    def of_recording(self, frame_id: str) -> ReplayReport:
        """The part that belongs to one camera frame (message counts are not divided)."""
        return ReplayReport(
            {key: at for key, at in self.published.items() if key[0] == frame_id},
            {key: at for key, at in self.received.items() if key[0] == frame_id},
        )

    def table(self) -> str:
        """A short table for the terminal, one line per recording and one for all."""
        recordings = list(dict.fromkeys(frame_id for frame_id, _ in self.published))
        width = max([len(name) for name in recordings] + [len("recording")])
        lines = [f"{'recording':{width}}  frames in  out  dropped  latency p50      p95"]
        rows = [(name, self.of_recording(name)) for name in recordings]
        for name, part in [*rows, ("all", self)] if len(rows) > 1 else rows:
            facts = part.summary()
            p50, p95 = (f"{value:.0f} ms" if value is not None else "–" for value in facts["latency_ms"].values())
            lines.append(
                f"{name:{width}}  {facts['frames_in']:9}  {facts['frames_out']:3}  {facts['dropped']:7}"
                f"  {p50:>11}  {p95:>7}"
            )
        return "\n".join(lines)


class Replayer:
    """A ROS node that feeds another one from a bag and records its answers.

    Use it as a context manager, after `rclpy.init`; before that, `ivlm_ros.transport.use_large_image_profile()` must
    have been called, or most images are lost on their way.

    Parameters
    ----------
    recorder : an open recorder for everything the node publishes, or None.
    node : name of the node that is fed; its outputs are below that name.
    namespace : where node and input topics are, empty for the root.
    topics : input name (`image`, `camera_info`, `detections`, …) → topic, where remapped.
    types : input name → type of what is played; `INPUTS` when left out.
    left_out : topics of the node that are not recorded.
    """

    def __init__(
        self,
        recorder: BagRecorder | None,
        node: str = "ivlm_contact",
        namespace: str = "",
        topics: Mapping[str, str] | None = None,
        types: Mapping[str, str] | None = None,
        left_out: Collection[str] = (),
    ) -> None:
        import rclpy

        for name in (*(topics or {}), *(types or {})):
            if name not in (*INPUTS, *FURTHER_INPUTS):
                raise ConfigError("topics", f"{name!r} is no input", f"allowed: {', '.join(INPUTS)}")
        self.report = ReplayReport()
        self._recorder, self._left_out = recorder, frozenset(left_out)
        self._lock = threading.Condition()
        self._last_arrival = time.monotonic()
        self._measuring = True
        # Time of recording minus time of playing, nanoseconds, of the newest image and of each: outputs are recorded
        # beside the inputs that they answer, however fast these are played.
        self._offset: int | None = None
        self._offsets: dict[FrameKey, int] = {}
        self._node = rclpy.create_node(f"ivlm_replay_{os.getpid()}", namespace=namespace)
        self._context = self._node.context
        self._publishers = self._make_publishers(dict(topics or {}), dict(types or INPUTS))
        self._outputs = [BagTopic(self._resolve(f"{node}/{name}"), kind) for name, kind in OUTPUTS.items()]
        self._contacts = self._resolve(f"{node}/{HUMAN_CONTACTS}")
        self._diagnostics_name = f"{self._resolve(node).lstrip('/')}: contact"
        # What the node said of itself last, by key, and how often it has.
        self.status: dict[str, str] = {}
        self.reports = 0
        self._subscribe([*self._outputs, DIAGNOSTICS])
        self._executor: Any = None
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Replayer:
        from rclpy.executors import SingleThreadedExecutor

        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        self._thread = threading.Thread(target=self._spin, name="replay", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        executor, self._executor = self._executor, None
        executor.shutdown()
        assert self._thread is not None
        self._thread.join(timeout=10)
        self._node.destroy_node()

    def wait_for_node(self, timeout: float = 20.0) -> None:
        """Wait until the node listens to images and detections and announces its contacts.

        Raises
        ------
        InputError : it did not within `timeout` seconds.
        """
        deadline = time.monotonic() + timeout
        while True:
            missing = [
                self._publishers[name].topic_name
                for name in ("image", "detections")
                if name in self._publishers and self._publishers[name].get_subscription_count() == 0
            ]
            if not missing and self._node.count_publishers(self._contacts) == 0:
                missing = [self._contacts]
            if not missing:
                return
            if time.monotonic() > deadline:
                raise InputError(
                    "node",
                    f"nothing is connected to {', '.join(missing)} after {timeout:.0f} s",
                    "start and activate it with the same ROS_DOMAIN_ID "
                    f"({os.environ.get('ROS_DOMAIN_ID', '0')}): ros2 launch ivlm_ros contact.launch.py",
                )
            time.sleep(0.05)

    def warm_up(self, frames: Sequence[ReplayFrame], timeout: float = 60.0) -> float:
        """Play frames in lockstep without recording or measuring them; returns the seconds it took.

        What the node computes once and keeps (the views of an object it has never met) is thereby out of the figures.
        A frame without an answer is sent again: best-effort messages right after discovery may be lost.
        """
        start = time.monotonic()
        self._measuring = False
        for frame in frames:
            deadline = time.monotonic() + timeout
            while time.monotonic() < deadline:
                self.publish(frame)
                if self._wait_for(frame.key, min(RESEND_SECONDS, timeout)):
                    break
        self._settle(timeout)
        with self._lock:
            self.report = ReplayReport()
            self._measuring = True
        return time.monotonic() - start

    def play(
        self,
        frames: Iterable[ReplayFrame],
        rate: float | None = None,
        timeout: float = 20.0,
        progress: Callable[[int], None] = lambda played: None,
    ) -> ReplayReport:
        """Publish all frames and wait for the answers.

        Parameters
        ----------
        rate : frames per second; None plays in lockstep: the next frame follows when this one is answered. What the
            node then says it never got is sent again.
        timeout : seconds to wait for an answer, in lockstep and after the last frame.
        progress : called after each frame with the number played.
        """
        if rate is not None and not 0 < rate <= 1000:
            raise ConfigError("rate", f"is {rate}", "give 0 < rate ≤ 1000 frames per second, or none for lockstep")
        before = self.wait_for_status() if rate is None else {}
        start = time.monotonic()
        for number, frame in enumerate(frames):
            if rate is not None:
                time.sleep(max(0.0, start + number / rate - time.monotonic()))
                self.publish(frame)
            else:
                self._play_in_lockstep(frame, timeout, before, number + 1)
            progress(number + 1)
        self._settle(timeout)
        return self.report

    def _play_in_lockstep(self, frame: ReplayFrame, timeout: float, before: Mapping[str, str], sent: int) -> None:
        """Publish a frame and wait for its answer; best-effort messages that were lost go out again.

        Whether they were is known from the node's own counts, so that it never gets a frame twice: its answers would
        then depend on luck.
        """
        deadline = time.monotonic() + timeout
        self.publish(frame)
        while not self._wait_for(frame.key, min(RESEND_SECONDS, max(0.0, deadline - time.monotonic()))):
            if time.monotonic() > deadline:
                return
            now = self.wait_for_status()
            lost = [
                name
                for name, count in RECEIVED.items()
                if count in now and 0 <= int(now[count]) - int(before.get(count, "0")) < sent
            ]
            if lost:
                self.publish(frame, lost)
                sent_again = ", ".join(lost)
                log.info("the node did not get %s of %s: sent again", sent_again, frame.key)

    def publish(self, frame: ReplayFrame, names: Collection[str] | None = None) -> None:
        """Publish one frame's messages; its image last, so that everything the node needs is on its way before it.

        Parameters
        ----------
        names : the inputs to publish; all when left out.
        """
        for name, data in sorted(frame.messages, key=lambda item: item[0] == "image"):
            if names is not None and name not in names:
                continue
            if name == "image":
                with self._lock:
                    if self._measuring:
                        self._offset = (frame.received or frame.key[1]) - time.monotonic_ns()
                        self._offsets[frame.key] = self._offset
                    self.report.published[frame.key] = time.monotonic()
            if name in self._publishers:
                self._publishers[name].publish(data)

    def _resolve(self, name: str) -> str:
        resolved: str = self._node.resolve_topic_name(name)
        return resolved

    def _make_publishers(self, topics: dict[str, str], types: dict[str, str]) -> dict[str, Any]:
        from rclpy.qos import QoSProfile, ReliabilityPolicy

        # Reliable matches nodes that ask for either; a depth of a second's frames covers a slow receiver.
        qos = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE)
        return {
            name: self._node.create_publisher(message_class(kind), topics.get(name, name), qos)
            for name, kind in types.items()
        }

    def _subscribe(self, outputs: Sequence[BagTopic]) -> None:
        from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy

        reliable = QoSProfile(depth=50, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.VOLATILE)
        for topic in outputs:
            if self._recorder is not None and topic.name not in self._left_out:
                self._recorder.add_topic(topic)
            callback = functools.partial(self._arrived, topic)
            self._node.create_subscription(message_class(topic.type), topic.name, callback, reliable, raw=True)

    def _spin(self) -> None:
        from rclpy.executors import ExternalShutdownException

        try:
            self._executor.spin()
        except ExternalShutdownException:
            pass
        except Exception:
            # A context or executor that is closed under a waiting spin raises from whichever call it was in.
            if self._context.ok() and self._executor is not None:
                raise

    def _arrived(self, topic: BagTopic, raw: bytes) -> None:
        now = time.monotonic()
        key = None if topic.type in UNSTAMPED else header_key(raw)
        status = self._status_in(raw) if topic is DIAGNOSTICS else None
        with self._lock:
            if status is not None:
                self.status, self.reports = status, self.reports + 1
            self._last_arrival = now
            self.report.messages[topic.name] += 1
            offset = self._offset if key is None else self._offsets.get(key, self._offset)
            recorded = self._measuring and offset is not None and topic.name not in self._left_out
            if recorded and self._recorder is not None:
                assert offset is not None
                self._recorder.write_serialized(topic.name, raw, time.monotonic_ns() + offset)
            if topic.name == self._contacts and key in self.report.published:
                assert key is not None
                self.report.received.setdefault(key, now)
            self._lock.notify_all()

    def wait_for_status(self, timeout: float = 3.0) -> dict[str, str]:
        """What the node says of itself from now on, by key; what it said last where it stays silent."""
        with self._lock:
            before = self.reports
            self._lock.wait_for(lambda: self.reports > before, timeout)
            return dict(self.status)

    def _status_in(self, raw: bytes) -> dict[str, str] | None:
        """What the node says of itself, of all that is said on /diagnostics."""
        from rclpy.serialization import deserialize_message

        for status in deserialize_message(raw, message_class(DIAGNOSTICS.type)).status:
            if status.name == self._diagnostics_name:
                return {item.key: item.value for item in status.values}
        return None

    def _wait_for(self, key: FrameKey, timeout: float) -> bool:
        with self._lock:
            return self._lock.wait_for(lambda: key in self.report.received, timeout)

    def _settle(self, timeout: float, quiet: float = 1.0) -> None:
        """Wait until the last frame is answered and the other outputs have stopped coming."""
        last = next(reversed(self.report.published), None)
        if last is not None:
            self._wait_for(last, timeout)
        deadline = time.monotonic() + 3 * quiet
        while time.monotonic() < min(deadline, self._last_arrival + quiet):
            time.sleep(0.05)
