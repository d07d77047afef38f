"""Results as messages: sparse arrays that give the dense values back, before and after a trip over DDS."""

from __future__ import annotations

import dataclasses
from array import array
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

pytest.importorskip("rclpy")
pytest.importorskip("ivlm_ros.msg")

from ivlm_ros.msg import HumanContactArray, ObjectAffordanceArray
from std_msgs.msg import Header

from ivlm_core.types import FrameResult
from ivlm_ros.messages import human_contact_array, object_affordance_array, sparse

ROOT = Path(__file__).resolve().parents[1]


def header() -> Header:
    made = Header(frame_id="camera_optical")
    made.stamp.sec, made.stamp.nanosec = 1_700_000_000, 123_456_789
    return made


@given(
    values=hnp.arrays(np.float32, st.integers(0, 300), elements=st.floats(0, 1, width=32)),
    threshold=st.floats(0, 1),
)
def test_sparse_round_trip(values: np.ndarray, threshold: float) -> None:
    indices, kept = sparse(values, threshold)
    assert (indices.typecode, kept.typecode) == ("I", "f")
    dense = np.zeros_like(values)
    dense[np.array(indices, int)] = kept
    np.testing.assert_array_equal(dense, np.where(values >= np.float32(threshold), values, 0))
    assert list(indices) == sorted(indices)


def test_value_equal_to_the_threshold_is_listed() -> None:
    assert list(sparse(np.array([0.1, 0.7], np.float32), 0.1)[0]) == [0, 1]


def test_human_contacts_of_a_result(fake_result: FrameResult) -> None:
    message = human_contact_array(fake_result, header(), 0.5)
    assert message.header == header()
    assert message.model == "fake"
    chair, cup = message.contacts
    assert chair.header == header()
    assert (chair.object_id, chair.object_label, chair.person_id) == ("7", "chair", "")
    assert (cup.object_id, cup.object_label, cup.person_id) == ("8", "cup", "ada")
    assert (chair.body_model, chair.vertex_count) == ("anny", 40)
    assert chair.topology_hash == fake_result.human_contacts[0].mesh.topology_hash
    assert list(chair.vertex_indices) == [2, 5]
    assert list(chair.probabilities) == [1.0, 1.0]
    assert chair.threshold == 0.5
    assert (chair.body_parts, list(chair.body_part_scores)) == (["left hand", "head"], [0.75, 0.25])
    assert (chair.answer, chair.confidence) == ("The left hand.", 0.5)


def test_object_affordances_of_a_result(fake_result: FrameResult) -> None:
    message = object_affordance_array(fake_result, header(), 0.5)
    chair = message.affordances[0]
    assert (chair.header, chair.object_id, chair.object_label) == (header(), "7", "chair")
    assert (chair.affordance, chair.mesh_source, chair.vertex_count) == ("grasp", "library", 12)
    assert list(chair.vertex_indices) == [6, 7, 8, 9, 10, 11]
    np.testing.assert_array_equal(np.array(chair.values, np.float32), np.linspace(0, 1, 12, dtype=np.float32)[6:])
    assert (chair.scale, chair.pose_valid, chair.pose.orientation.w) == (1.0, False, 1.0)


def test_unanswered_objects_are_listed_with_reasons_on_their_side(fake_result: FrameResult) -> None:
    from ivlm_core.types import Unanswered

    result = dataclasses.replace(
        fake_result,
        human_contacts=(),
        unanswered=(Unanswered("chair", "no token", "human", "7"), Unanswered("cup", "no mesh", "object", "8")),
    )
    human, objects = human_contact_array(result, header(), 0.5), object_affordance_array(result, header(), 0.5)
    assert human.contacts == []
    assert (human.unanswered_object_ids, human.unanswered_object_labels) == (["7"], ["chair"])
    assert human.unanswered_reasons == ["no token"]
    assert (objects.unanswered_object_ids, objects.unanswered_reasons) == (["8"], ["no mesh"])


def test_nothing_found_gives_empty_arrays_with_the_header() -> None:
    result = FrameResult((), ())
    assert human_contact_array(result, header(), 0.5).header == header()
    assert object_affordance_array(result, header(), 0.5).affordances == []


def test_messages_over_dds(peer: Any, fake_result: FrameResult, wait_until: Any) -> None:
    sent = (human_contact_array(fake_result, header(), 0.0), object_affordance_array(fake_result, header(), 0.0))
    heard = [peer.hear(HumanContactArray, "humans"), peer.hear(ObjectAffordanceArray, "objects")]
    for message, topic in zip(sent, ("humans", "objects"), strict=True):
        peer.publisher(type(message), topic).publish(message)
    wait_until(lambda: all(heard))
    assert (heard[0][0], heard[1][0]) == sent
    arrived = heard[0][0].contacts[0]
    assert isinstance(arrived.vertex_indices, array)
    np.testing.assert_array_equal(arrived.probabilities, fake_result.human_contacts[0].probability)


def test_every_field_of_every_message_is_commented() -> None:
    """Each field has a comment of its own, or shares one with the lines directly above it."""
    for path in sorted([*ROOT.glob("msg/*.msg"), *ROOT.glob("srv/*.srv")]):
        commented = False
        for line in path.read_text().splitlines():
            if not line.strip() or line.strip() == "---":
                commented = False
            elif line.startswith("#"):
                commented = True
            else:
                assert commented, f"{path.name}: {line}"


def test_built_messages_are_those_of_the_source() -> None:
    """A stale build would test yesterday's messages: the type hashes in the installed package say whether it is."""
    import json
    import os

    from rosbags.typesys import Stores, get_types_from_msg, get_typestore

    store = get_typestore(Stores.ROS2_KILTED)
    types: dict[str, Any] = {}
    for path in sorted(ROOT.glob("msg/*.msg")):
        types.update(get_types_from_msg(path.read_text(), f"ivlm_ros/msg/{path.stem}"))
    store.register(types)
    prefixes = os.environ["AMENT_PREFIX_PATH"].split(os.pathsep)
    shares = [Path(prefix) / "share/ivlm_ros/msg" for prefix in prefixes]
    share = next(path for path in shares if path.is_dir())
    checked = 0
    for name in types:
        installed = share / f"{name.split('/')[-1]}.json"
        if installed.exists():  # Humble writes none
            entries = json.loads(installed.read_text())["type_hashes"]
            hashes = {entry["type_name"]: entry["hash_string"] for entry in entries}
            assert store.hash_rihs01(name) == hashes[name], name
            checked += 1
    assert checked == len(types) or "humble" in os.environ.get("ROS_DISTRO", "")


def test_where_an_object_is_and_what_its_contact_looks_like(fitted_result: FrameResult) -> None:
    cup = object_affordance_array(fitted_result, header(), 0.5).affordances[1]
    assert (cup.pose_valid, cup.pose_reason, cup.pose_state, cup.scale) == (True, "", "cold", 2.0)
    assert (cup.object_id, cup.person_id, cup.pose_notes) == ("8", "ada", ["simplified"])
    place, turn = cup.pose.position, cup.pose.orientation
    assert (place.x, place.y, place.z) == (0.5, 0.0, 3.0)
    # Half a turn about x.
    assert (abs(turn.x), turn.y, turn.z, turn.w) == pytest.approx((1, 0, 0, 0), abs=1e-9)
    # What could not be measured is left out.
    assert dict(zip(cup.residual_names, cup.residuals, strict=True)) == {"mask_iou": 0.75, "contact_cm": 1.5}
    assert cup.contact_valid
    assert (cup.contact_centroid.x, cup.contact_centroid.z) == pytest.approx((0.1, 3.0))
    assert (cup.contact_area_cm2, cup.contact_normal.z) == (12.5, -1.0)
    (region,) = cup.free_regions
    assert (region.area_cm2, region.affordance, region.normal.y) == (30.0, 0.75, 1.0)
    assert region.centroid.x == pytest.approx(0.6)
    assert list(region.vertex_indices) == [1, 3]


def test_pose_of_a_message_gives_the_vertices_back(fitted_result: FrameResult) -> None:
    from scipy.spatial.transform import Rotation

    turned = Rotation.from_rotvec([0.3, -1.1, 0.4]).as_matrix()
    fitted = dataclasses.replace(fitted_result.reconstructions[1], rotation=turned)
    result = dataclasses.replace(fitted_result, reconstructions=(fitted_result.reconstructions[0], fitted))
    entry = object_affordance_array(result, header(), 0.5).affordances[1]
    turn, place = entry.pose.orientation, entry.pose.position
    rebuilt = Rotation.from_quat([turn.x, turn.y, turn.z, turn.w]).apply(entry.scale * fitted.mesh.vertices)
    np.testing.assert_allclose(rebuilt + np.array([place.x, place.y, place.z]), fitted.placed(), atol=1e-6)


def test_a_pose_that_is_not_valid_is_no_number_to_rely_on(fitted_result: FrameResult) -> None:
    fitted = dataclasses.replace(
        fitted_result.reconstructions[0], pose_valid=False, reason="the mask is empty", translation=np.full(3, 1e9)
    )
    result = dataclasses.replace(fitted_result, reconstructions=(fitted, fitted_result.reconstructions[1]))
    chair, cup = object_affordance_array(result, header(), 0.5).affordances
    assert (chair.pose_valid, chair.pose_reason, chair.pose_state) == (False, "the mask is empty", "")
    assert (chair.pose.position.x, chair.pose.orientation.w, chair.scale) == (0.0, 1.0, 1.0)
    assert chair.contact_valid, "the person's contact is known without the object's pose"
    assert cup.pose_valid


def test_objects_of_one_label_without_identifiers_keep_their_own_poses(fitted_result: FrameResult) -> None:
    """The first of two chairs was not answered on its own side; the second must not get its pose."""
    twins = tuple(
        dataclasses.replace(fitted, object_label="chair", object_id="") for fitted in fitted_result.reconstructions
    )
    answer = dataclasses.replace(fitted_result.object_affordances[1], object_label="chair", object_id="")
    result = dataclasses.replace(fitted_result, reconstructions=twins, object_affordances=(answer,))
    first, second = object_affordance_array(result, header(), 0.5).affordances
    assert (first.pose.position.x, list(first.vertex_indices)) == (0.0, [])
    assert (second.pose.position.x, len(second.vertex_indices)) == (0.5, 6)


def test_an_object_that_was_fitted_and_not_asked_about_is_not_lost(fitted_result: FrameResult) -> None:
    """In the mode `human` there is no affordance, and the poses are wanted all the same."""
    fitted = tuple(
        dataclasses.replace(one, mesh_resource="file:///a.glb", mesh_source="library")
        for one in fitted_result.reconstructions
    )
    result = dataclasses.replace(fitted_result, object_affordances=(), reconstructions=fitted)
    chair, cup = object_affordance_array(result, header(), 0.5).affordances
    assert (chair.object_id, chair.object_label, cup.object_id, cup.object_label) == ("7", "chair", "8", "cup")
    assert chair.pose_valid
    assert (chair.header, chair.mesh_resource, chair.mesh_source) == (header(), "file:///a.glb", "library")
    assert (chair.vertex_count, chair.topology_hash) == (12, fitted[0].mesh.topology_hash)
    assert (len(chair.vertex_indices), len(chair.values), chair.threshold) == (0, 0, 0.5)


def test_scene_over_dds(peer: Any, fitted_result: FrameResult, wait_until: Any) -> None:
    sent = object_affordance_array(fitted_result, header(), 0.5)
    heard = peer.hear(ObjectAffordanceArray, "objects")
    peer.publisher(ObjectAffordanceArray, "objects").publish(sent)
    wait_until(lambda: heard)
    assert heard[0] == sent
