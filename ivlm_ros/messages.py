"""`FrameResult` → our messages: sparse, flat arrays of the vertices at or above the threshold."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ivlm_ros.message_types import ROS, MessageTypes

if TYPE_CHECKING:
    from geometry_msgs.msg import Point, Pose, Vector3
    from numpy.typing import NDArray
    from std_msgs.msg import Header

    from ivlm_core.types import ContactSummary, FloatArray, FrameResult, Reconstruction
    from ivlm_core.types import ObjectAffordance as Affordance
    from ivlm_ros.msg import HumanContactArray, ObjectAffordance, ObjectAffordanceArray


def human_contact_array(
    result: FrameResult, header: Header, threshold: float, types: MessageTypes = ROS
) -> HumanContactArray:
    """The human contacts of one frame; `header` is the input image's and is used as it is.

    Vertices with a probability of at least `threshold` in [0, 1] are listed, ascending. `types` makes the messages.
    """
    message = types.make("ivlm_ros/msg/HumanContactArray", header=header, model=result.model)
    for contact in result.human_contacts:
        indices, probabilities = sparse(contact.probability, threshold, types)
        parts = sorted(contact.body_parts.items(), key=lambda part: -part[1])
        message.contacts.append(
            types.make(
                "ivlm_ros/msg/HumanContact",
                header=header,
                object_id=contact.object_id,
                object_label=contact.object_label,
                person_id=contact.person_id,
                body_model=contact.body_model,
                vertex_count=len(contact.probability),
                topology_hash=contact.mesh.topology_hash,
                vertex_indices=indices,
                probabilities=probabilities,
                threshold=float(threshold),
                body_parts=[name for name, _ in parts],
                body_part_scores=types.array("f", np.array([score for _, score in parts])),
                answer=contact.answer,
                confidence=float(contact.confidence),
            )
        )
    _add_unanswered(message, result, "human")
    return message


def object_affordance_array(
    result: FrameResult, header: Header, threshold: float, types: MessageTypes = ROS
) -> ObjectAffordanceArray:
    """The object affordances of one frame; `header` is the input image's and is used as it is.

    Vertices with a value of at least `threshold` in [0, 1] are listed, ascending. Where the object was not fitted into
    the scene, `pose_valid` is false, the pose is the identity and the scale 1. An object that was fitted has an entry
    even where its own side was not asked for or not answered; it then lists no vertices. `types` makes
    the messages.
    """
    message = types.make("ivlm_ros/msg/ObjectAffordanceArray", header=header, model=result.model)
    answered = affordances_of(result)
    entries = [(number, _affordance(affordance, header, threshold, types)) for number, affordance in answered.items()]
    entries += [
        (number, _fitted_alone(fitted, header, threshold, types))
        for number, fitted in enumerate(result.reconstructions)
        if number not in answered
    ]
    for number, entry in sorted(entries, key=lambda numbered: numbered[0]):
        if number < len(result.reconstructions):
            _add_scene(entry, result.reconstructions[number], types)
        message.affordances.append(entry)
    _add_unanswered(message, result, "object")
    return message


def affordances_of(result: FrameResult) -> dict[int, Affordance]:
    """Number of the query, which is the place of its reconstruction, → its affordance, for those that have one."""
    return {affordance.number: affordance for affordance in result.object_affordances}


def _affordance(affordance: Affordance, header: Header, threshold: float, types: MessageTypes) -> ObjectAffordance:
    indices, values = sparse(affordance.probability, threshold, types)
    return types.make(
        "ivlm_ros/msg/ObjectAffordance",
        header=header,
        object_id=affordance.object_id,
        person_id=affordance.person_id,
        object_label=affordance.object_label,
        affordance=affordance.affordance,
        mesh_resource=affordance.mesh_resource,
        mesh_source=affordance.mesh_source,
        vertex_count=len(affordance.probability),
        topology_hash=affordance.mesh.topology_hash,
        vertex_indices=indices,
        values=values,
        threshold=float(threshold),
        answer=affordance.answer,
        confidence=float(affordance.confidence),
        scale=1.0,
    )


def _fitted_alone(fitted: Reconstruction, header: Header, threshold: float, types: MessageTypes) -> ObjectAffordance:
    return types.make(
        "ivlm_ros/msg/ObjectAffordance",
        header=header,
        object_id=fitted.object_id,
        object_label=fitted.object_label,
        mesh_resource=fitted.mesh_resource,
        mesh_source=fitted.mesh_source,
        vertex_count=len(fitted.mesh.vertices),
        topology_hash=fitted.mesh.topology_hash,
        threshold=float(threshold),
        scale=1.0,
    )


def pose_of(fitted: Reconstruction, types: MessageTypes = ROS) -> Pose:
    """Where the mesh is in the optical frame, its scale left out."""
    from scipy.spatial.transform import Rotation

    x, y, z, w = (float(value) for value in Rotation.from_matrix(fitted.rotation).as_quat())
    orientation = types.make("geometry_msgs/msg/Quaternion", x=x, y=y, z=z, w=w)
    return types.make("geometry_msgs/msg/Pose", position=point(fitted.translation, types), orientation=orientation)


def point(values: NDArray, types: MessageTypes = ROS) -> Point:
    """(3,) metres."""
    x, y, z = (float(value) for value in values)
    return types.make("geometry_msgs/msg/Point", x=x, y=y, z=z)


def _vector(values: NDArray, types: MessageTypes) -> Vector3:
    x, y, z = (float(value) for value in values)
    return types.make("geometry_msgs/msg/Vector3", x=x, y=y, z=z)


def _add_scene(entry: ObjectAffordance, fitted: Reconstruction, types: MessageTypes) -> None:
    entry.pose_valid = fitted.pose_valid
    entry.pose_reason = "" if fitted.pose_valid else fitted.reason
    entry.pose_notes = list(fitted.notes)
    entry.person_id = fitted.person_id
    if fitted.pose_valid:
        entry.pose, entry.scale, entry.pose_state = pose_of(fitted, types), float(fitted.scale), fitted.state
    known = {name: float(value) for name, value in fitted.residuals.items() if np.isfinite(value)}
    entry.residual_names, entry.residuals = list(known), types.array("f", np.array(list(known.values())))
    if fitted.summary is not None:
        _add_summary(entry, fitted.summary, types)


def _add_summary(entry: ObjectAffordance, summary: ContactSummary, types: MessageTypes) -> None:
    entry.contact_valid = True
    entry.contact_centroid = point(summary.centroid, types)
    entry.contact_area_cm2 = float(summary.area_cm2)
    entry.contact_normal = _vector(summary.normal, types)
    for region in summary.free_regions:
        entry.free_regions.append(
            types.make(
                "ivlm_ros/msg/FreeRegion",
                centroid=point(region.centroid, types),
                normal=_vector(region.normal, types),
                area_cm2=float(region.area_cm2),
                affordance=float(region.affordance),
                vertex_indices=types.array("I", np.sort(region.vertices)),
            )
        )


def sparse(values: FloatArray, threshold: float, types: MessageTypes = ROS) -> tuple[Any, Any]:
    """Indices (uint32) and values (float32) of the entries of (V,) `values` at or above `threshold`."""
    # The comparison runs in the values' own precision, so that a value equal to the threshold is always listed.
    indices = np.flatnonzero(values >= np.float32(threshold))
    return types.array("I", indices), types.array("f", values[indices])


def _add_unanswered(message: HumanContactArray | ObjectAffordanceArray, result: FrameResult, side: str) -> None:
    # `side` says which of the two maps is missing; any other word stands for both.
    other = "object" if side == "human" else "human"
    for missing in result.unanswered:
        if missing.side != other:
            message.unanswered_object_ids.append(missing.object_id)
            message.unanswered_object_labels.append(missing.object_label)
            message.unanswered_reasons.append(missing.reason)
