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

if TYPE_CHECKING:
    from rclpy.lifecycle import LifecycleNode
    from std_msgs.msg import Header

    from ivlm_core.types import FrameResult
    from ivlm_ros.answering import Question


class Outputs:
    """Creates the publishers on construction, destroys them on `close`.

    Parameters
    ----------
    node : the life-cycle node; its publishers send only while it is active.
    body_frame, marker_triangles : see `ContactMarkers`. shown : which markers are made: `canonical`, `scene`.
    contact_points : whether the contact of the scene is published as a cloud of points.
    """

    def __init__(
        self,
        node: LifecycleNode,
        body_frame: str,
        marker_triangles: int,
        shown: tuple[str, ...] = ("canonical",),
        contact_points: bool = False,
    ) -> None:
        self._node = node
        reliable = QoSProfile(depth=5, reliability=ReliabilityPolicy.RELIABLE)
        # Late viewers get the last markers that were made, if anybody was looking then: one message of each kind.
        latched = QoSProfile(
            depth=max(1, len(shown)),
            reliability=ReliabilityPolicy.RELIABLE,
            durability=DurabilityPolicy.TRANSIENT_LOCAL,
        )
        self._human = node.create_lifecycle_publisher(HumanContactArray, "~/human_contacts", reliable)
        self._object = node.create_lifecycle_publisher(ObjectAffordanceArray, "~/object_affordances", reliable)
        self._overlay = node.create_lifecycle_publisher(
            Image, "~/overlay", QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE)
        )
        self._image_contact = node.create_lifecycle_publisher(
            Image, "~/image_contact", QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE)
        )
        self._markers = node.create_lifecycle_publisher(MarkerArray, "~/markers", latched)
        self._points = None
        if contact_points:
            self._points = node.create_lifecycle_publisher(
                PointCloud2, "~/contact_points", QoSProfile(depth=5, reliability=ReliabilityPolicy.RELIABLE)
            )
        self._contact_markers = ContactMarkers(body_frame, marker_triangles) if "canonical" in shown else None
        self._scene_markers = SceneMarkers(marker_triangles) if "scene" in shown else None

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
