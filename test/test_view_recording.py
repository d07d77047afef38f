"""Recordings as moments: what was recorded is what is shown, lazily; broken parts leave the rest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ivlm_core.bodies import load_body
from ivlm_core.errors import ConfigError, InputError
from ivlm_core.objects import library_mesh
from ivlm_core.view.meshes import MeshFinder
from ivlm_core.view.moments import Pair
from ivlm_core.view.recording import KEPT_MOMENTS, Recording

SECOND = 10**9
PIXELS = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8)


def pair(label: str, person: str = "", camera: str = "camera_optical") -> Pair:
    return Pair(camera, label, label, person)


@pytest.fixture
def show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Opens recordings, and closes them in the end."""
    monkeypatch.setenv("IVLM_CACHE_DIR", str(tmp_path / "cache"))
    opened: list[Recording] = []

    def open_one(bag: Path, **options: Any) -> Recording:
        opened.append(Recording(bag, MeshFinder(options.pop("meshes", ())), **options))
        return opened[-1]

    yield open_one
    for recording in opened:
        recording.close()


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_moment_is_what_was_recorded(answered_bag: Any, show: Any, tmp_path: Path, storage: str) -> None:
    turn = np.array([0.5, 0.5, 0.5, 0.5])
    with answered_bag(tmp_path / "bag", storage) as bag:
        make = bag.types.make
        place = make("geometry_msgs/msg/Point", x=0.1, y=-0.2, z=2.5)
        quaternion = make("geometry_msgs/msg/Quaternion", **dict(zip("xyzw", turn, strict=True)))
        region = make(
            "ivlm_ros/msg/FreeRegion",
            centroid=place,
            normal=make("geometry_msgs/msg/Vector3", x=0.0, y=-1.0, z=0.0),
            area_cm2=12.0,
            affordance=0.8,
            vertex_indices=np.array([1, 2], np.uint32),
        )
        chair = bag.affordance(
            "chair",
            [3, 5],
            affordance="sit",
            answer="The affordance type is sit.",
            pose=make("geometry_msgs/msg/Pose", position=place, orientation=quaternion),
            pose_valid=True,
            scale=1.5,
            pose_state="cold",
            residual_names=["mask_iou"],
            residuals=np.array([0.75], np.float32),
            contact_valid=True,
            contact_area_cm2=33.0,
            free_regions=[region],
        )
        cup = bag.affordance("cup", [1], pose_reason="nobody is known")
        parts = {"body_parts": ["hips", "torso"], "body_part_scores": np.array([0.25, 0.5], np.float32)}
        bag.picture(5 * SECOND, PIXELS)
        bag.camera(5 * SECOND, 20.0, 16, 12)
        bag.detections(5 * SECOND, chair=(1.0, 2.0, 8.0, 9.0))
        bag.body(5 * SECOND, load_body().mesh.vertices + np.float32([0, 0, 3]))
        bag.answer(5 * SECOND, [bag.contact("chair", [7, 8], **parts), bag.contact("cup")], [chair, cup], model="tiny")
    recording = show(tmp_path / "bag")
    assert (recording.stamps, recording.cameras) == ([5 * SECOND], ["camera_optical"])
    assert recording.pairs == [pair("chair"), pair("cup")]
    assert recording.thresholds == (0.5, 0.5)
    moment = recording.moment(0)
    np.testing.assert_array_equal(moment.picture, PIXELS)
    assert (moment.picture_note, moment.model, moment.notes) == ("", "tiny", ())
    assert [(box.label, box.xyxy) for box in moment.boxes] == [("chair", (1.0, 2.0, 8.0, 9.0))]
    assert moment.camera is not None
    assert (moment.camera.fx, moment.camera.width) == (20.0, 16)
    np.testing.assert_allclose(moment.people[0].mesh.vertices, load_body().mesh.vertices + np.float32([0, 0, 3]))
    answer = moment.answers[pair("chair")]
    assert answer.body is not None
    assert answer.thing is not None
    assert np.flatnonzero(answer.body.values).tolist() == [7, 8]
    assert np.flatnonzero(answer.thing.values).tolist() == [3, 5]
    assert answer.thing.mesh is library_mesh("chair")
    assert answer.body_parts == (("torso", 0.5), ("hips", 0.25))
    assert (answer.affordance, answer.thing_sentence) == ("sit", "The affordance type is sit.")
    assert answer.placement is not None
    np.testing.assert_allclose(answer.placement.translation, [0.1, -0.2, 2.5])
    # A third of a turn about (1, 1, 1) takes x to y, y to z and z to x.
    np.testing.assert_allclose(answer.placement.rotation, [[0, 0, 1], [1, 0, 0], [0, 1, 0]], atol=1e-12)
    assert (answer.placement.scale, dict(answer.residuals), answer.contact_area_cm2) == (1.5, {"mask_iou": 0.75}, 33.0)
    assert [region.vertices.tolist() for region in answer.regions] == [[1, 2]]
    other = moment.answers[pair("cup")]
    assert (other.placement, other.pose_reason) == (None, "nobody is known")


def test_moments_are_in_the_order_of_their_answers(answered_bag: Any, show: Any, tmp_path: Path) -> None:
    with answered_bag(tmp_path / "bag") as bag:
        for seconds in (1, 2, 3):
            bag.picture(seconds * SECOND, np.full((4, 4, 3), seconds, np.uint8))
            bag.answer(seconds * SECOND, [bag.contact(("cup", "chair", "cup")[seconds - 1])])
        # An image that nobody answered is none of them.
        bag.picture(4 * SECOND, PIXELS)
    recording = show(tmp_path / "bag")
    assert recording.stamps == [SECOND, 2 * SECOND, 3 * SECOND]
    assert dict(recording.occurrences) == {pair("cup"): [0, 2], pair("chair"): [1]}
    for number in (2, 0, 1):
        assert recording.moment(number).picture[0, 0, 0] == number + 1


def test_pictures_are_read_when_they_are_looked_at(
    answered_bag: Any, show: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = KEPT_MOMENTS + 4
    with answered_bag(tmp_path / "bag") as bag:
        for seconds in range(count):
            bag.picture(seconds * SECOND, PIXELS)
            bag.answer(seconds * SECOND, [bag.contact("cup")])
    from ivlm_core.view import recording as module

    read: list[int] = []
    real = module.rgb_from_image
    monkeypatch.setattr(
        module, "rgb_from_image", lambda message: read.append(message.header.stamp.sec) or real(message)
    )
    recording = show(tmp_path / "bag")
    assert read == []
    for number in (3, 3, 5, 3):
        recording.moment(number)
    assert read == [3, 5]
    for number in range(count):
        recording.moment(number)
    # No more are kept than the last ones.
    read.clear()
    recording.moment(count - 1)
    recording.moment(0)
    assert read == [0]


def test_inputs_may_lie_in_another_bag(answered_bag: Any, show: Any, tmp_path: Path) -> None:
    with answered_bag(tmp_path / "inputs") as bag:
        bag.picture(SECOND, PIXELS)
        bag.answer(SECOND, [bag.contact("cup", [4])], below="/ground_truth")
    with answered_bag(tmp_path / "outputs") as bag:
        bag.picture(SECOND, PIXELS[::-1], topic="/ivlm_contact/overlay")
        bag.answer(SECOND, [bag.contact("cup", [5])])
    both = show(tmp_path / "outputs", inputs=tmp_path / "inputs")
    np.testing.assert_array_equal(both.moment(0).picture, PIXELS)
    answer = both.moment(0).answers[pair("cup")]
    assert both.has_truth
    assert answer.body is not None
    assert answer.true_body is not None
    assert np.flatnonzero(answer.body.values).tolist() == [5]
    assert np.flatnonzero(answer.true_body.values).tolist() == [4]
    alone = show(tmp_path / "outputs")
    np.testing.assert_array_equal(alone.moment(0).picture, PIXELS[::-1])
    assert "/ivlm_contact/overlay" in alone.moment(0).picture_note
    assert not alone.has_truth


def test_depth_and_masks_are_no_picture(answered_bag: Any, show: Any, tmp_path: Path) -> None:
    with answered_bag(tmp_path / "bag") as bag:
        depth = {"encoding": "16UC1", "step": 32, "data": np.zeros(12 * 32, np.uint8)}
        grey = {"encoding": "mono8", "step": 16, "data": np.zeros(12 * 16, np.uint8)}
        bag.picture(SECOND, PIXELS, topic="/a/depth", **depth)
        bag.picture(SECOND, PIXELS, topic="/b/mask", **grey)
        bag.picture(SECOND, PIXELS, topic="/c/color")
        bag.answer(SECOND, [bag.contact("cup")])
    np.testing.assert_array_equal(show(tmp_path / "bag").moment(0).picture, PIXELS)
    chosen = show(tmp_path / "bag", image="/b/mask").moment(0).picture
    assert chosen.max() == 0
    with pytest.raises(ConfigError, match=r"--image: '/d' is no picture topic.*/a/depth, /b/mask, /c/color"):
        show(tmp_path / "bag", image="/d")


def test_two_people_at_one_object_and_two_cameras(answered_bag: Any, show: Any, tmp_path: Path) -> None:
    with answered_bag(tmp_path / "bag") as bag:
        people = [bag.contact("bench", [number], person_id=name) for number, name in enumerate("ab")]
        things = [bag.affordance("bench", [number], person_id=name) for number, name in enumerate("ab")]
        bag.answer(SECOND, people, things)
        bag.answer(2 * SECOND, people[:1], things[:1], frame="other")
    recording = show(tmp_path / "bag")
    assert recording.pairs == [pair("bench", "a"), pair("bench", "b"), pair("bench", "a", "other")]
    answers = recording.moment(0).answers
    for number, name in enumerate("ab"):
        answer = answers[pair("bench", name)]
        assert answer.body is not None
        assert answer.thing is not None
        assert np.flatnonzero(answer.body.values).tolist() == np.flatnonzero(answer.thing.values).tolist() == [number]


def test_what_was_not_answered_says_why(answered_bag: Any, show: Any, tmp_path: Path) -> None:
    told = {"unanswered_object_ids": ["cup"], "unanswered_object_labels": ["cup"], "unanswered_reasons": ["too dark"]}
    with answered_bag(tmp_path / "bag") as bag:
        bag.answer(SECOND, [], [bag.affordance("cup")], **told)
    answer = show(tmp_path / "bag").moment(0).answers[pair("cup")]
    assert answer.body is None
    assert answer.missing == ("no contact on the body: too dark", "no affordance of the object: too dark")


def test_answers_of_several_nodes(answered_bag: Any, show: Any, tmp_path: Path) -> None:
    with answered_bag(tmp_path / "bag") as bag:
        bag.answer(SECOND, [bag.contact("cup", [1])], below="/b/ivlm_contact")
        bag.answer(SECOND, [bag.contact("chair", [1])], below="/a/ivlm_contact")
    first = show(tmp_path / "bag")
    assert first.pairs == [pair("chair")]
    assert "/b/ivlm_contact" in first.notes[0]
    assert show(tmp_path / "bag", answers="/b/ivlm_contact").pairs == [pair("cup")]
    with pytest.raises(ConfigError, match=r"--answers.*no answers below '/c'.*/a/ivlm_contact, /b/ivlm_contact"):
        show(tmp_path / "bag", answers="/c")


def test_ground_truth_alone(answered_bag: Any, show: Any, tmp_path: Path) -> None:
    with answered_bag(tmp_path / "bag") as bag:
        bag.answer(SECOND, [bag.contact("cup", [1])], below="/ground_truth")
    with pytest.raises(InputError, match=r"no answers of this package's types.*--ground-truth"):
        show(tmp_path / "bag")
    recording = show(tmp_path / "bag", ground_truth=True)
    answer = recording.moment(0).answers[pair("cup")]
    assert answer.body is None
    assert answer.true_body is not None
    assert "ground truth" in recording.notes[0]


def test_bags_without_answers_are_refused(answered_bag: Any, show: Any, tmp_path: Path) -> None:
    with answered_bag(tmp_path / "pictures") as bag:
        bag.picture(SECOND, PIXELS)
    with pytest.raises(InputError, match="no answers of this package's types"):
        show(tmp_path / "pictures")
    with answered_bag(tmp_path / "silent") as bag:
        bag.declare("/ivlm_contact/human_contacts", "ivlm_ros/msg/HumanContactArray")
    with pytest.raises(InputError, match="no message in them"):
        show(tmp_path / "silent")
    with pytest.raises(InputError, match="does not exist"):
        show(tmp_path / "nowhere")


@pytest.mark.parametrize("keep", [0.3, 0.9])
def test_truncated_bag_is_one_clear_error(answered_bag: Any, show: Any, tmp_path: Path, keep: float) -> None:
    with answered_bag(tmp_path / "bag") as bag:
        for seconds in range(4):
            bag.picture(seconds * SECOND, np.random.default_rng(seconds).integers(0, 256, (200, 300, 3), np.uint8))
            bag.answer(seconds * SECOND, [bag.contact("cup")])
    file = tmp_path / "bag/bag.mcap"
    file.write_bytes(file.read_bytes()[: int(keep * file.stat().st_size)])
    with pytest.raises(InputError, match=r"^bag: "):
        show(tmp_path / "bag")


def test_broken_answer_names_its_topic(answered_bag: Any, show: Any, tmp_path: Path) -> None:
    with answered_bag(tmp_path / "bag") as bag:
        header = bytes([0, 1, 0, 0]) + (1).to_bytes(4, "little") + bytes(4) + (4).to_bytes(4, "little") + b"cam\0"
        bag.raw("/ivlm_contact/human_contacts", "ivlm_ros/msg/HumanContactArray", 1, header + b"\xff" * 9)
    with pytest.raises(InputError, match="/ivlm_contact/human_contacts: a message cannot be read"):
        show(tmp_path / "bag")


def test_broken_parts_leave_the_rest(answered_bag: Any, show: Any, tmp_path: Path) -> None:
    with answered_bag(tmp_path / "bag") as bag:
        bag.picture(SECOND, PIXELS, step=7)
        bag.body(SECOND, np.zeros((3, 3)))
        wild = bag.types.make("geometry_msgs/msg/Quaternion", x=0.0, y=0.0, z=0.0, w=0.0)
        bag.answer(
            SECOND,
            [bag.contact("cup", [1]), bag.contact("chair", [2], vertex_indices=np.array([10**6], np.uint32))],
            [
                bag.affordance(
                    "cup", [1], pose_valid=True, pose=bag.types.make("geometry_msgs/msg/Pose", orientation=wild)
                ),
                bag.affordance("chair", [2], topology_hash="0" * 16),
            ],
        )
    moment = show(tmp_path / "bag").moment(0)
    assert moment.picture is None
    assert moment.picture_note == "the picture cannot be read"
    told = "\n".join(moment.notes)
    assert "image.step" in told
    assert "cup: its pose is none" in told
    assert "person cannot be shown" in told
    assert "chair: lists vertex 1000000 of a mesh with" in told
    cup, chair = moment.answers[pair("cup")], moment.answers[pair("chair")]
    assert cup.body is not None
    assert cup.placement is None
    assert chair.body is None
    assert chair.thing is not None
    assert chair.thing.mesh is None
    assert "another topology" in chair.thing.note


def test_claimed_vertices_take_no_memory(answered_bag: Any, show: Any, tmp_path: Path) -> None:
    with answered_bag(tmp_path / "bag") as bag:
        bag.answer(SECOND, [bag.contact("cup", [1], vertex_count=2**32 - 1)])
    heat = show(tmp_path / "bag").moment(0).answers[pair("cup")].body
    assert heat is not None
    assert (heat.mesh, heat.values.size) == (None, 0)
    assert "another body" in heat.note
