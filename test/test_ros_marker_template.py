"""The serialised markers: what is read from them is exactly the message that would have been built."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("rclpy")
pytest.importorskip("ivlm_ros.msg")

from rclpy.serialization import deserialize_message
from std_msgs.msg import Header
from visualization_msgs.msg import Marker, MarkerArray

from ivlm_core.types import FrameResult
from ivlm_ros import marker_template
from ivlm_ros.marker_template import MarkerTemplate
from ivlm_ros.markers import ContactMarkers, Item, MarkerMesh


def header(sec: int, nanosec: int) -> Header:
    made = Header(frame_id="ivlm_body")
    made.stamp.sec, made.stamp.nanosec = sec, nanosec
    return made


@pytest.fixture(scope="module")
def markers() -> ContactMarkers:
    return ContactMarkers("ivlm_body", 2000)


@given(
    seed=st.integers(0, 2**32 - 1),
    sec=st.integers(-(2**31), 2**31 - 1),
    nanosec=st.integers(0, 2**32 - 1),
    text=st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=20),
)
def test_filled_template_is_the_message_itself(
    markers: ContactMarkers, seed: int, sec: int, nanosec: int, text: str
) -> None:
    from ivlm_core.types import Mesh

    random = np.random.default_rng(seed)

    def scene(values_of: Any) -> list[Item]:
        return [
            Item("body", 0, (0.0, 0.5, 0.0), meshes[0], values_of(9)),
            Item("label", 0, (1.0, 0.5, 0.0), text=text),
            Item("object", 1, (0.0, -0.5, 0.0), meshes[1], values_of(5)),
            Item("object", 2, (0.0, -1.5, 0.0), meshes[1], values_of(5)),
        ]

    meshes = [
        MarkerMesh.build(Mesh(random.random((count, 3)), random.integers(0, count, (faces, 3))), 2000)
        for count, faces in ((9, 7), (5, 1))
    ]
    old = scene(lambda count: np.zeros(count, np.float32))
    template = MarkerTemplate.build(old, markers._marker, header(1, 2))
    assert template is not None
    new = scene(lambda count: random.random(count).astype(np.float32))
    assert template.fits(new)
    stamped = header(sec, nanosec)
    found = deserialize_message(template.fill(new, stamped, markers._palette), MarkerArray)
    assert found == MarkerArray(markers=[markers._marker(item, stamped) for item in new])


def test_anything_but_values_needs_a_new_template(markers: ContactMarkers, fake_result: FrameResult) -> None:
    items = markers._scene(fake_result)
    template = MarkerTemplate.build(items, markers._marker, header(1, 2))
    assert template is not None
    first = items[0]
    for change in ({"ns": "x"}, {"index": 9}, {"place": (0.0, 0.0, 9.0)}, {"text": "x"}, {"mesh": items[-2].mesh}):
        assert not template.fits([dataclasses.replace(first, **change), *items[1:]])
    assert not template.fits(items[1:])
    assert template.fits(items)


def test_template_is_used_from_frame_to_frame(fake_result: FrameResult) -> None:
    markers = ContactMarkers("ivlm_body", 2000)
    first, second = (markers.build(fake_result, header(sec, 0)) for sec in (1, 2))
    assert isinstance(first, bytes)
    assert isinstance(second, bytes)
    found = deserialize_message(second, MarkerArray)
    assert {marker.header.stamp.sec for marker in found.markers} == {2}
    fewer = dataclasses.replace(fake_result, object_affordances=())
    assert isinstance(markers.build(fewer, header(3, 0)), MarkerArray)  # it deletes
    assert isinstance(markers.build(fewer, header(4, 0)), bytes)


def test_unknown_serialisation_falls_back_to_messages(
    fake_result: FrameResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(marker_template, "serialize_message", lambda message: b"\0" * 4096)
    found = ContactMarkers("ivlm_body", 2000).build(fake_result, header(1, 0))
    assert isinstance(found, MarkerArray)
    assert [marker.action for marker in found.markers] == [Marker.ADD] * len(found.markers)
