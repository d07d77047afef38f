"""The subscriptions of the active node: they check, pair and hand over, and never wait for the model."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import String

from ivlm_core.errors import InputError, IvlmError
from ivlm_core.types import check_label
from ivlm_ros.companions import CLOCK_JUMP_NS, Companions
from ivlm_ros.conversions import check_image, is_raw, stamp_ns
from ivlm_ros.detections import BODY_TYPES, DETECTION_TYPES, detected_objects, message_class
from ivlm_ros.pairing import StampPairing
from ivlm_ros.transforms import Transforms
from ivlm_ros.transport import PROFILE_VARIABLES, profile_path

try:
    from rclpy.event_handler import SubscriptionEventCallbacks
except ImportError:  # Humble
    from rclpy.qos_event import SubscriptionEventCallbacks

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from rclpy.node import Node

    from ivlm_ros.parameters import NodeParameters, ParameterStore
    from ivlm_ros.reporting import Reporter

# Characters of a message on the topic 'labels'; there is no sense in asking about more.
MOST_LABEL_TEXT = 4096


@dataclass(frozen=True)
class Job:
    """One image with the objects to ask about, as it travels from the subscriptions to the worker.

    Attributes
    ----------
    objects : the detections (see `detected_objects`); ignored where `labels` is not empty.
    labels : what to ask about in place of detections.
    camera_info : the camera's latest CameraInfo, or None.
    received : `time.monotonic()` when the image arrived.
    raw : whether the image is still to be rectified.
    bodies, depth : the people and the depth of the image, where they are read and came in time.
    depth_info : the depth camera's latest CameraInfo, or None. depth_raw : whether the depth is still to be rectified.
    between : tells where one frame is in another.
    """

    image: Image | CompressedImage
    objects: tuple[Any, ...]
    labels: tuple[str, ...]
    camera_info: CameraInfo | None
    received: float
    raw: bool = False
    bodies: Any = None
    depth: Image | None = None
    depth_info: CameraInfo | None = None
    depth_raw: bool = False
    between: Callable[[str, str], NDArray[np.float64]] | None = None


def qos(reliability: str, depth: int) -> QoSProfile:
    """Keep-last QoS with the named reliability (`best_effort` or `reliable`)."""
    policy = ReliabilityPolicy.RELIABLE if reliability == "reliable" else ReliabilityPolicy.BEST_EFFORT
    return QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=depth, reliability=policy)


class Inputs:
    """Subscribes on construction, unsubscribes on `close`.

    Parameters
    ----------
    node : the node that owns the subscriptions.
    groups : callback groups of the image, and of everything else, so that neither waits for the other.
    parameters : read on every message, so that changes take effect.
    deliver : takes the finished jobs.
    enabled : while false, images are dropped.
    """

    def __init__(
        self,
        node: Node,
        groups: tuple[MutuallyExclusiveCallbackGroup, MutuallyExclusiveCallbackGroup],
        parameters: ParameterStore,
        reporter: Reporter,
        deliver: Callable[[Job], None],
        enabled: Callable[[], bool],
    ) -> None:
        values = parameters.values
        self._node, self._parameters, self._reporter = node, parameters, reporter
        self._counters, self._log = reporter.counters, reporter.log
        self._deliver, self._enabled = deliver, enabled
        self._pairing: StampPairing[tuple[Any, float], Any] = StampPairing(
            values.sync_queue, round(values.sync_slop * 1e9), self._given_up
        )
        self._companions: Companions[Job] = Companions(
            values.companions,
            values.sync_queue,
            round(values.sync_slop * 1e9),
            self._is_published,
            lambda job, found: deliver(replace(job, **found)),
            self._missing,
        )
        self._camera_info: dict[str, CameraInfo] = {}
        # What the topic 'labels' said last; None until then.
        self._labels: tuple[str, ...] | None = None
        self._transforms = Transforms(node) if values.use_depth and values.reconstruct else None
        self._newest_stamp: dict[str, int | None] = {"image": None, "detections": None, "bodies": None, "depth": None}
        started = time.monotonic()
        self._seen = {"image": started, "detections": started, "job": started}
        self.image_topic = node.resolve_topic_name("image")
        self.detections_topic = node.resolve_topic_name("detections")
        self._raw = is_raw(values.rectify, self.image_topic, values.reconstruct)
        self._depth_raw = is_raw(values.rectify, node.resolve_topic_name("depth"), values.reconstruct)
        self._image_type = Image if values.image_transport == "raw" else CompressedImage
        self._detector = node.count_publishers(self.detections_topic) > 0
        self._subscriptions = [
            self._subscribe(self._image_type, "image", self._on_image, qos(values.image_reliability, 1), groups[0]),
            self._subscribe(
                message_class(values.detections_type, DETECTION_TYPES),
                "detections",
                self._on_detections,
                qos(values.detections_reliability, values.sync_queue),
                groups[1],
            ),
            self._subscribe(
                CameraInfo,
                "camera_info",
                functools.partial(self._on_camera_info, "camera_info"),
                qos("best_effort", 1),
                groups[1],
            ),
            self._subscribe(String, "labels", self._on_labels, qos("best_effort", 1), groups[1]),
        ]
        companion_types = {"bodies": message_class(values.bodies_type, BODY_TYPES), "depth": Image}
        self._subscriptions += [
            self._subscribe(
                companion_types[name],
                name,
                functools.partial(self._on_companion, name),
                qos("best_effort", values.sync_queue if name == "bodies" else 2),
                groups[1],
            )
            for name in values.companions
        ]
        if "depth" in values.companions:
            self._subscriptions.append(
                self._subscribe(
                    CameraInfo,
                    "depth_camera_info",
                    functools.partial(self._on_camera_info, "depth_camera_info"),
                    qos("best_effort", 1),
                    groups[1],
                )
            )

    def close(self) -> None:
        """Unsubscribe and forget what waits."""
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        self._subscriptions = []
        self._pairing.clear()
        self._companions.clear()
        if self._transforms is not None:
            self._transforms.close()

    @property
    def between(self) -> Callable[[str, str], NDArray[np.float64]] | None:
        """Tells where one frame is in another, where depth is read."""
        return self._transforms.between if self._transforms is not None else None

    def starved(self) -> str:
        """One sentence on why nothing reaches the model, or an empty text while it does. Call it once a second."""
        self._detector = self._node.count_publishers(self.detections_topic) > 0
        self._companions.look()
        now, limit = time.monotonic(), self._parameters.values.silence_timeout
        if not self._enabled():
            return ""
        if now - self._seen["image"] > limit:
            return self._no_images(now - self._seen["image"])
        values = self._parameters.values
        if now - self._seen["job"] <= limit or values.asked_always or (self._asked(values) and not self._detector):
            return ""
        if not self._detector:
            return (
                f"images arrive, but nothing publishes {self.detections_topic}: start a detector, remap "
                "'detections', set the parameter 'labels', or publish a text on the topic 'labels'"
            )
        if now - self._seen["detections"] > limit:
            return f"images arrive, but the publisher of {self.detections_topic} has been silent for {limit:.0f} s"
        apart = abs((self._newest_stamp["image"] or 0) - (self._newest_stamp["detections"] or 0)) / 1e9
        return (
            f"images and detections arrive, but no stamps match (the newest are {apart:.3f} s apart): let the detector "
            "copy the image's stamp, or set 'sync_slop' or 'sync_queue'"
        )

    def _no_images(self, silent: float) -> str:
        publishers = self._node.get_publishers_info_by_topic(self.image_topic)
        if not publishers:
            return f"nothing publishes {self.image_topic}: remap 'image' to the camera's topic"
        wanted = f"sensor_msgs/msg/{self._image_type.__name__}"
        types = {publisher.topic_type for publisher in publishers}
        if wanted not in types:
            return (
                f"{self.image_topic} carries {', '.join(sorted(types))}, but this node reads {wanted}: set "
                "'image_transport' to raw or compressed, or remap 'image'"
            )
        if self._newest_stamp["image"] is not None:
            return f"the publisher of {self.image_topic} has been silent for {silent:.0f} s"
        return (
            f"{self.image_topic} has a publisher, but no image has arrived for {silent:.0f} s: large best-effort "
            f"images get lost in Fast DDS's default settings, so start the publisher with {PROFILE_VARIABLES[0]} and "
            f"{PROFILE_VARIABLES[1]} set to {profile_path() or 'config/fastdds_large_images.xml'}, or make both sides "
            "reliable ('image_reliability')"
        )

    def _subscribe(
        self,
        message_type: type,
        name: str,
        callback: Callable[[Any], None],
        profile: QoSProfile,
        group: MutuallyExclusiveCallbackGroup,
    ) -> Any:
        def guarded(message: Any) -> None:
            # An exception that leaves a callback ends the executor, and with it the node.
            try:
                callback(message)
            except IvlmError as error:
                self._reporter.bad_input(error)
                if name in ("image", "detections"):
                    self._reporter.dropped("bad_input")
            except Exception as error:
                text = f"{name}: {type(error).__name__}: {error}"
                self._counters.error("internal_error", name, text)
                self._log.say(f"internal/{name}", text, "error")

        topic = self._node.resolve_topic_name(name)
        asked = "reliable" if profile.reliability == ReliabilityPolicy.RELIABLE else "best_effort"

        def incompatible(_event: Any) -> None:
            remedy = (
                f"set '{name}_reliability' to best_effort, or let the publisher be reliable"
                if asked == "reliable"
                else "compare both sides with 'ros2 topic info --verbose'"
            )
            self._counters.add("incompatible_qos", topic)
            self._log.say(
                f"qos/{topic}", f"a publisher of {topic} does not offer the {asked} QoS this node asks for: {remedy}"
            )

        events = SubscriptionEventCallbacks(incompatible_qos=incompatible)
        try:
            return self._node.create_subscription(
                message_type, topic, guarded, profile, callback_group=group, event_callbacks=events
            )
        # Not every middleware reports this event; Humble then refuses the subscription.
        except Exception as error:
            if type(error).__name__ != "UnsupportedEventTypeError":
                raise
            return self._node.create_subscription(message_type, topic, guarded, profile, callback_group=group)

    def _on_image(self, message: Image | CompressedImage) -> None:
        received = time.monotonic()
        self._seen["image"] = received
        self._counters.add("images_received")
        if not self._enabled():
            self._counters.add("dropped", "disabled")
            return
        if isinstance(message, Image):
            check_image(message)
        stamp = self._note_stamp("image", message)
        values = self._parameters.values
        labels = values.asked_always or (() if self._detector else self._asked(values))
        if labels:
            self._hand_over(message, received, (), labels)
            return
        pair = self._pairing.add_image(stamp, (message, received))
        if pair is not None:
            self._hand_over(message, received, self._objects(pair[1]), ())

    def _on_detections(self, message: Any) -> None:
        self._seen["detections"] = time.monotonic()
        self._counters.add("detections_received")
        self._detector = True
        if not self._enabled():
            return
        pair = self._pairing.add_detections(self._note_stamp("detections", message), message)
        if pair is not None:
            (image, received), detections = pair
            self._hand_over(image, received, self._objects(detections), ())

    def _on_companion(self, name: str, message: Any) -> None:
        if self._enabled():
            self._counters.add(f"{name}_received")
            self._companions.add(name, self._note_stamp(name, message), message)

    def _on_camera_info(self, name: str, message: CameraInfo) -> None:
        self._camera_info[name] = message

    def _on_labels(self, message: String) -> None:
        """What to ask about from now on; an empty text gives the word back to the parameter."""
        if len(message.data) > MOST_LABEL_TEXT:
            raise InputError("labels", f"has {len(message.data)} characters", f"at most {MOST_LABEL_TEXT} are allowed")
        texts = message.data.replace("\n", ",").split(",")
        labels = tuple(check_label(label, "labels") for label in texts if label.strip())
        self._labels = labels or None

    def _asked(self, values: NodeParameters) -> tuple[str, ...]:
        return values.labels if self._labels is None else self._labels

    def _objects(self, detections: Any) -> tuple[Any, ...]:
        return tuple(detected_objects(detections, self._parameters.values.class_names))

    def _hand_over(
        self,
        image: Image | CompressedImage,
        received: float,
        objects: tuple[Any, ...],
        labels: tuple[str, ...],
    ) -> None:
        self._seen["job"] = time.monotonic()
        info = self._camera_info
        job = Job(image, objects, labels, info.get("camera_info"), received, self._raw)
        if self._transforms is not None:
            depth_info = info.get("depth_camera_info")
            job = replace(job, depth_info=depth_info, depth_raw=self._depth_raw, between=self.between)
        self._companions.put(stamp_ns(image.header), job)

    def _note_stamp(self, name: str, message: Any) -> int:
        stamp, newest = stamp_ns(message.header), self._newest_stamp[name]
        if newest is not None and stamp < newest - CLOCK_JUMP_NS:
            self._counters.add("time_jumps", name)
            self._log.say(f"jump/{name}", f"the stamps of '{name}' jumped back: starting over from there", "info")
        self._newest_stamp[name] = stamp
        return stamp

    def _is_published(self, name: str) -> bool:
        return self._node.count_publishers(self._node.resolve_topic_name(name)) > 0

    def _missing(self, name: str) -> None:
        self._counters.add("without", name)
        if self._is_published(name):
            why = (
                "none with its stamp came in time: let its publisher copy the image's stamp, or set 'sync_slop' or "
                "'sync_queue'"
            )
        else:
            topic = self._node.resolve_topic_name(name)
            why = f"nothing publishes {topic}: start its publisher, remap '{name}', or set 'use_{name}' to false"
        self._log.say(f"without/{name}", f"an image went on without '{name}': {why}")

    def _given_up(self, reason: str) -> None:
        self._counters.add("dropped", reason)
        if reason == "no_detections":
            self._log.say(
                "no_detections", "an image was dropped because no detections with its stamp came in time", "info"
            )
        else:
            self._log.say("no_image", "detections were dropped because no image with their stamp came", "info")
