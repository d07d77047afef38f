"""The publishers of the node; pictures and markers are only made while somebody looks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image, PointCloud2
from visualization_msgs.msg import MarkerArray

from ivlm_ros.conversions import image_from_contacts, image_from_rgb
from ivlm_ros.markers import ContactMarkers
from ivlm_ros.messages import human_contact_array, object_affordance_array
from ivlm_ros.msg import HumanContactArray, ObjectAffordanceArray
from ivlm_ros.point_cloud import contact_cloud
from ivlm_ros.scene_markers import SceneMarkers

try:
    from rclpy.event_handler import PublisherEventCallbacks
except ImportError:  # Humble
    from rclpy.qos_event import PublisherEventCallbacks

if TYPE_CHECKING:
    from rclpy.lifecycle import LifecycleNode
    from std_msgs.msg import Header

    from ivlm_core.types import FrameResult
    from ivlm_ros.answering import Question
    from ivlm_ros.reporting import Reporter


class Outputs:
    """Creates the publishers on construction, destroys them on `close`.

    Parameters
    ----------
    node : the life-cycle node; its publishers send only while it is active.
    reporter : is told of subscribers whose QoS does not fit.
    body_frame, marker_triangles : see `ContactMarkers`. shown : which markers are made: `canonical`, `scene`.
    contact_points : whether the contact of the scene is published as a cloud of points.
    """

    def __init__(
        self,
        node: LifecycleNode,
        reporter: Reporter,
        body_frame: str,
        marker_triangles: int,
        shown: tuple[str, ...] = ("canonical",),
        contact_points: bool = False,
    ) -> None:
        self._node, self._reporter = node, reporter
        reliable = QoSProfile(depth=5, reliability=ReliabilityPolicy.RELIABLE)
        newest = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE)
        # Late viewers get the last markers that were made, if anybody was looking then: one message of each kind.
        latched = QoSProfile(
            depth=max(1, len(shown)),
            reliability=ReliabilityPolicy.RELIABLE,
            durability=DurabilityPolicy.TRANSIENT_LOCAL,
        )
        self._human = self._publisher(HumanContactArray, "~/human_contacts", reliable)
        self._object = self._publisher(ObjectAffordanceArray, "~/object_affordances", reliable)
        self._overlay = self._publisher(Image, "~/overlay", newest)
        self._image_contact = self._publisher(Image, "~/image_contact", newest)
        self._markers = self._publisher(MarkerArray, "~/markers", latched)
        self._points = self._publisher(PointCloud2, "~/contact_points", reliable) if contact_points else None
        self._contact_markers = ContactMarkers(body_frame, marker_triangles) if "canonical" in shown else None
        self._scene_markers = SceneMarkers(marker_triangles) if "scene" in shown else None

    def _publisher(self, kind: type, name: str, profile: QoSProfile) -> Any:
        topic = self._node.resolve_topic_name(name)
        offered = "latched" if profile.durability == DurabilityPolicy.TRANSIENT_LOCAL else "volatile"

        def incompatible(_event: Any) -> None:
            self._reporter.counters.add("incompatible_qos", topic)
            self._reporter.log.say(
                f"qos/{topic}",
                f"a subscriber of {topic} asks for more than its publisher offers, which is reliable and {offered}: "
                "let it ask for durability 'volatile' and no deadline",
            )

        events = PublisherEventCallbacks(incompatible_qos=incompatible)
        try:
            return self._node.create_lifecycle_publisher(kind, topic, profile, event_callbacks=events)
        # Not every middleware reports this event; Humble then refuses the publisher.
        except Exception as error:
            if type(error).__name__ != "UnsupportedEventTypeError":
                raise
            return self._node.create_lifecycle_publisher(kind, topic, profile)

    def publish(self, question: Question, result: FrameResult, header: Header, threshold: float) -> None:
        """Publish everything of one frame under the input image's header."""
        self._human.publish(human_contact_array(result, header, threshold))
        self._object.publish(object_affordance_array(result, header, threshold))
        if result.image_contacts:
            self._image_contact.publish(image_from_contacts(result.image_contacts, header, question.rectifier))
        if self._points is not None and self._points.get_subscription_count():
            self._points.publish(contact_cloud(result, header, threshold))
        if self._markers.get_subscription_count():
            if self._contact_markers is not None:
                self._markers.publish(self._contact_markers.build(result, header))
            if self._scene_markers is not None:
                self._markers.publish(self._scene_markers.build(result, header, threshold))
        if self._overlay.get_subscription_count():
            from ivlm_core.draw import draw_overlay

            picture = draw_overlay(question.frame, result, threshold, question.queries)
            self._overlay.publish(image_from_rgb(picture, header))

    def clear_markers(self) -> None:
        """Remove everything that viewers still show."""
        for markers in (self._contact_markers, self._scene_markers):
            if markers is not None:
                self._markers.publish(markers.clear())

    def close(self) -> None:
        """Destroy the publishers."""
        publishers: list[Any] = [self._human, self._object, self._overlay, self._image_contact, self._markers]
        for publisher in [*publishers, *([self._points] if self._points is not None else [])]:
            self._node.destroy_lifecycle_publisher(publisher)
