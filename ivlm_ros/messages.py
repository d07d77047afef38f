"""`FrameResult` → our messages: sparse, flat arrays of the vertices at or above the threshold."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING

import numpy as np

from ivlm_ros.msg import HumanContact, HumanContactArray, ObjectAffordance, ObjectAffordanceArray

if TYPE_CHECKING:
    from std_msgs.msg import Header

    from ivlm_core.types import FloatArray, FrameResult


def human_contact_array(result: FrameResult, header: Header, threshold: float) -> HumanContactArray:
    """The human contacts of one frame; `header` is the input image's and is used as it is.

    Vertices with a probability of at least `threshold` in [0, 1] are listed, ascending.
    """
    message = HumanContactArray(header=header, model=result.model)
    for contact in result.human_contacts:
        indices, probabilities = sparse(contact.probability, threshold)
        parts = sorted(contact.body_parts.items(), key=lambda part: -part[1])
        message.contacts.append(
            HumanContact(
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
                body_part_scores=array("f", (float(score) for _, score in parts)),
                answer=contact.answer,
                confidence=float(contact.confidence),
            )
        )
    _add_unanswered(message, result, "human")
    return message


def object_affordance_array(result: FrameResult, header: Header, threshold: float) -> ObjectAffordanceArray:
    """The object affordances of one frame; `header` is the input image's and is used as it is.

    Vertices with a value of at least `threshold` in [0, 1] are listed, ascending. No pose is known: `pose_valid` is
    false, the pose is the identity and the scale 1.
    """
    message = ObjectAffordanceArray(header=header, model=result.model)
    for affordance in result.object_affordances:
        indices, values = sparse(affordance.probability, threshold)
        message.affordances.append(
            ObjectAffordance(
                header=header,
                object_id=affordance.object_id,
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
                pose_valid=False,
            )
        )
    _add_unanswered(message, result, "object")
    return message


def sparse(values: FloatArray, threshold: float) -> tuple[array[int], array[float]]:
    """Indices (uint32) and values (float32) of the entries of (V,) `values` at or above `threshold`."""
    # The comparison runs in the values' own precision, so that a value equal to the threshold is always listed.
    indices = np.flatnonzero(values >= np.float32(threshold))
    index_array, value_array = array("I"), array("f")
    index_array.frombytes(indices.astype(np.uint32).tobytes())
    value_array.frombytes(values[indices].astype(np.float32).tobytes())
    return index_array, value_array


def _add_unanswered(message: HumanContactArray | ObjectAffordanceArray, result: FrameResult, side: str) -> None:
    # `side` says which of the two maps is missing; any other word stands for both.
    other = "object" if side == "human" else "human"
    for missing in result.unanswered:
        if missing.side != other:
            message.unanswered_object_ids.append(missing.object_id)
            message.unanswered_object_labels.append(missing.object_label)
            message.unanswered_reasons.append(missing.reason)
