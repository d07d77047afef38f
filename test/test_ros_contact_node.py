"""The node in this process around a fake model: what it answers, drops, counts and survives."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from array import array
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy")
pytest.importorskip("ivlm_ros.msg")

import rclpy
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from ivlm_ros.msg import DetectedObject, DetectedObjectArray, HumanContactArray, ObjectAffordanceArray
from ivlm_ros.srv import EstimateContact
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import String
from std_srvs.srv import SetBool

from ivlm_core.errors import InputError, IvlmError
from ivlm_ros import contact_node

SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE


class Camera:
    """Publishes images with their detections, and hears the answers."""

    def __init__(self, running: Any, peer: Any, image: Any, detections: Any, wait_until: Any) -> None:
        self._make_image, self._make_detections = image, detections
        self.humans = peer.hear(HumanContactArray, "ivlm_contact/human_contacts")
        self.objects = peer.hear(ObjectAffordanceArray, "ivlm_contact/object_affordances")
        self._images = peer.publisher(Image, "image", reader=running)
        self._detections = peer.publisher(DetectedObjectArray, "detections", reader=running)
        # An answer that is published before its reader is found would be lost.
        outputs = running.node._outputs
        if outputs is not None:
            wait_until(outputs._human.get_subscription_count)
            wait_until(outputs._object.get_subscription_count)

    def show(self, seconds: int, *labels: str, **fields: Any) -> Image:
        image = self.show_image(seconds, **fields)
        self._detections.publish(self._make_detections(seconds, *labels))
        return image

    def show_image(self, seconds: int, **fields: Any) -> Image:
        image = self._make_image(seconds, **fields)
        self._images.publish(image)
        return image

    def answered(self) -> list[int]:
        return [message.header.stamp.sec for message in self.humans]


@pytest.fixture
def camera(peer: Any, ros_image: Any, ros_detections: Any, wait_until: Any) -> Any:
    return lambda running: Camera(running, peer, ros_image, ros_detections, wait_until)


def test_life_cycle_loads_subscribes_and_frees(run_node: Any, fake_pipeline: Any) -> None:
    running = run_node()
    node = running.node
    assert node.count_subscribers("/image") == 0
    assert node.trigger_configure() == SUCCESS
    assert len(fake_pipeline.calls) == 1  # the warm-up
    assert node.count_subscribers("/image") == 0
    assert node.trigger_activate() == SUCCESS
    assert [node.count_subscribers(topic) for topic in ("/image", "/detections", "/camera_info")] == [1, 1, 1]
    assert node.trigger_deactivate() == SUCCESS
    assert node.count_subscribers("/image") == 0
    assert node.count_publishers("/ivlm_contact/human_contacts") == 1
    assert node.trigger_cleanup() == SUCCESS
    assert node.count_publishers("/ivlm_contact/human_contacts") == 0
    assert node.state == "unconfigured"


def test_configure_warms_up_what_the_frames_will_need(run_node: Any, fake_pipeline: Any) -> None:
    running = run_node(reconstruct=True)
    assert running.node.trigger_configure() == SUCCESS
    (frame, (query,)), then = fake_pipeline.calls
    assert frame.intrinsics is not None
    assert frame.depth is not None
    assert len(frame.keypoints) == 1
    assert query.box_xyxy is not None
    assert then == "forget", "no real frame goes on from the warm-up"


def test_parameters_without_effect_are_named(run_node: Any, capfd: pytest.CaptureFixture[str]) -> None:
    running = run_node(use_bodies=True, contact_points=True)
    assert running.node.trigger_configure() == SUCCESS
    assert "without 'reconstruct' there is no use for use_bodies, contact_points" in capfd.readouterr().err


def test_fifty_cycles_leave_nothing_behind(run_node: Any, fake_pipeline: Any) -> None:
    running = run_node()
    node = running.node

    def cycle() -> None:
        for step in (node.trigger_configure, node.trigger_activate, node.trigger_deactivate, node.trigger_cleanup):
            assert step() == SUCCESS

    def census() -> tuple[int, ...]:
        gc.collect()
        managed = len(node._managed_entities)
        threads = sum(thread.name == "ivlm_worker" for thread in threading.enumerate())
        return managed, threads, *(len(list(kind)) for kind in (node.publishers, node.subscriptions, node.waitables))

    cycle()
    before = census()
    for _ in range(50):
        cycle()
    assert census() == before


def test_cleanup_lets_go_of_the_model(run_node: Any, fake_pipeline: Any) -> None:
    class Model:
        def __init__(self) -> None:
            self.profile, self.run = fake_pipeline.profile, fake_pipeline.run

    models: list[weakref.ref[Model]] = []

    def load(values: Any) -> Model:
        model = Model()
        models.append(weakref.ref(model))
        return model

    running = run_node()
    running.node._load_pipeline = load
    for step in ("configure", "activate", "deactivate", "cleanup"):
        assert getattr(running.node, f"trigger_{step}")() == SUCCESS
    gc.collect()
    assert models[0]() is None


def test_failed_configure_says_why_and_can_be_repeated(run_node: Any, fake_pipeline: Any) -> None:
    running = run_node()
    fake_pipeline.error = IvlmError("model", "'/weights' is no directory", "give a checkpoint directory")
    assert running.node.trigger_configure() == FAILURE
    assert running.node.state == "unconfigured"
    assert running.node.setup_error.startswith("model: '/weights' is no directory")
    assert running.node.count_publishers("/ivlm_contact/human_contacts") == 0
    fake_pipeline.error = None
    assert running.node.trigger_configure() == SUCCESS
    assert running.node.setup_error == ""


def test_autostart_configures_and_activates(run_node: Any, fake_pipeline: Any, wait_until: Any) -> None:
    running = run_node(autostart=True)
    wait_until(lambda: running.node.state == "active")
    fake_pipeline.error = IvlmError("model", "'/weights' is no directory", "give a checkpoint directory")
    failing = run_node(autostart=True, namespace="/other")
    wait_until(lambda: failing.node.setup_error)
    assert failing.node.state == "unconfigured"


def test_output_header_equals_input_header(run_node: Any, camera: Any, wait_until: Any) -> None:
    running = run_node().start()
    shown = camera(running)
    image = shown.show(41, "chair", "cup")
    wait_until(lambda: shown.humans and shown.objects)
    human, objects = shown.humans[0], shown.objects[0]
    assert human.header == objects.header == image.header
    assert all(contact.header == image.header for contact in human.contacts)
    assert all(affordance.header == image.header for affordance in objects.affordances)
    assert [contact.object_label for contact in human.contacts] == ["chair", "cup"]


def test_camera_info_reaches_the_model(run_node: Any, camera: Any, peer: Any, wait_until: Any) -> None:
    running = run_node().start()
    shown = camera(running)
    info = CameraInfo(width=64, height=48, k=[50.0, 0.0, 32.0, 0.0, 50.0, 24.0, 0.0, 0.0, 1.0])
    peer.publisher(CameraInfo, "camera_info", reader=running).publish(info)
    wait_until(lambda: running.node._inputs._camera_info)
    shown.show(1, "chair")
    wait_until(lambda: running.pipeline.calls)
    assert running.pipeline.calls[0][0].intrinsics.fx == 50.0


def test_slow_model_answers_the_newest_frame_and_counts_the_rest(run_node: Any, camera: Any, wait_until: Any) -> None:
    running = run_node().start()
    shown = camera(running)
    running.pipeline.gate.clear()
    shown.show(1, "chair")
    assert running.pipeline.running.wait(5)
    for seconds in range(2, 21):
        shown.show(seconds, "chair")
        wait_until(lambda wanted=seconds: running.counters.total("detections_received") == wanted)
    # Every image is paired and handed over before the model takes the next one.
    wait_until(lambda: running.counters.get("dropped", "busy") == 18)
    running.pipeline.gate.set()
    wait_until(lambda: len(shown.humans) == 2)
    assert shown.answered() == [1, 20]
    assert running.counters.get("dropped", "busy") == 18
    assert running.counters.total("dropped") == 18


def test_max_rate_holds_and_changes_at_run_time(run_node: Any, camera: Any, wait_until: Any) -> None:
    running = run_node(max_rate=2.0).start()
    shown = camera(running)
    for seconds in range(1, 6):
        shown.show(seconds, "chair")
        wait_until(lambda wanted=seconds: running.counters.total("detections_received") == wanted)
    wait_until(lambda: len(shown.humans) == 2)
    assert shown.answered() == [1, 5]
    assert running.counters.get("dropped", "max_rate") == 3
    assert running.node.set_parameters([Parameter("max_rate", value=0.0)])[0].successful
    for seconds in (6, 7):
        shown.show(seconds, "chair")
        wait_until(lambda wanted=seconds: wanted in shown.answered())


def test_image_waits_for_its_own_detections(run_node: Any, camera: Any, wait_until: Any, ros_detections: Any) -> None:
    running = run_node().start()
    shown = camera(running)
    for seconds in (1, 2, 3):
        shown.show_image(seconds)
        wait_until(lambda wanted=seconds: running.counters.total("images_received") == wanted)
    shown._detections.publish(ros_detections(2, "chair"))
    wait_until(lambda: shown.humans)
    assert shown.answered() == [2]
    assert running.counters.get("dropped", "no_detections") == 1


def test_labels_answer_while_nobody_publishes_detections(
    run_node: Any, peer: Any, ros_image: Any, wait_until: Any
) -> None:
    running = run_node(labels=["chair", "cup"]).start()
    images = peer.publisher(Image, "image", reader=running)
    humans = peer.hear(HumanContactArray, "ivlm_contact/human_contacts")
    wait_until(lambda: running.node.count_subscribers("/ivlm_contact/human_contacts"))
    images.publish(ros_image(1))
    wait_until(lambda: humans)
    assert [contact.object_label for contact in humans[0].contacts] == ["chair", "cup"]
    detections = peer.publisher(DetectedObjectArray, "detections")
    wait_until(lambda: running.node._inputs._detector)
    images.publish(ros_image(2))
    wait_until(lambda: running.counters.total("images_received") == 2)
    time.sleep(0.1)
    assert len(humans) == 1
    assert detections.get_subscription_count() == 1


def test_a_topic_overrules_the_labels(
    run_node: Any, camera: Any, peer: Any, wait_until: Any, fake_pipeline: Any
) -> None:
    running = run_node(labels=["chair"]).start()
    images = peer.publisher(Image, "image", reader=running)
    told = peer.publisher(String, "labels", reader=running)
    shown = iter(range(1, 20))

    def asked(text: str, expected: tuple[str, ...] | None) -> list[str]:
        told.publish(String(data=text))
        wait_until(lambda: running.node._inputs._labels == expected)
        before = len(fake_pipeline.calls)
        images.publish(camera(running)._make_image(next(shown)))
        wait_until(lambda: len(fake_pipeline.calls) > before)
        return [query.label for query in fake_pipeline.calls[-1][1]]

    assert asked("cup, space suit\nbook,", ("cup", "space suit", "book")) == ["cup", "space suit", "book"]
    assert asked("", None) == ["chair"]
    asked("cup", ("cup",))
    for wrong in ("<HCON>", "x" * 1_000_000):
        bad = running.counters.total("bad_input")
        told.publish(String(data=wrong))
        wait_until(lambda before=bad: running.counters.total("bad_input") == before + 1)
        assert running.node._inputs._labels == ("cup",)
    assert running.counters.get("bad_input", "labels") == 2
    assert running.counters.total("dropped") == 0


def test_several_people_are_asked_about_one_by_one(
    run_node: Any, camera: Any, wait_until: Any, fake_pipeline: Any
) -> None:
    running = run_node().start()
    shown = camera(running)
    message = shown._make_detections(1, "person", "person", "cup")
    for detection, box in zip(message.objects, [(0, 0, 20, 48), (40, 0, 63, 48), (15, 10, 45, 30)], strict=True):
        detection.x_min, detection.y_min, detection.x_max, detection.y_max = map(float, box)
    shown.show_image(1)
    shown._detections.publish(message)
    wait_until(lambda: shown.humans and shown.objects)
    assert [(item.object_id, item.person_id) for item in shown.humans[0].contacts] == [("2", "0"), ("2", "1")]
    assert [item.person_id for item in shown.objects[0].affordances] == ["0", "1"]
    boxes = [query.person_box_xyxy for query in fake_pipeline.calls[0][1]]
    assert boxes == [(0.0, 0.0, 20.0, 47.5), (40.0, 0.0, 63.0, 47.5)]


def test_raw_images_are_rectified_and_contact_on_them_is_put_back(
    run_node: Any, camera: Any, peer: Any, wait_until: Any, fake_pipeline: Any
) -> None:
    from sensor_msgs.msg import Image as ImageMessage

    running = run_node(rectify="on").start()
    shown = camera(running)
    heard = peer.hear(ImageMessage, "ivlm_contact/image_contact")
    wait_until(running.node._outputs._image_contact.get_subscription_count)
    k = [50.0, 0.0, 31.5, 0.0, 50.0, 23.5, 0.0, 0.0, 1.0]
    info = CameraInfo(width=64, height=48, k=k, d=[-0.4, 0.1, 0.0, 0.0, 0.0], distortion_model="plumb_bob")
    peer.publisher(CameraInfo, "camera_info", reader=running).publish(info)
    wait_until(lambda: running.node._inputs._camera_info)
    fake_pipeline.on_picture = np.zeros((48, 64), np.float32)
    fake_pipeline.on_picture[:5, :5] = 1.0
    pixels = np.zeros((48, 64, 3), np.uint8)
    pixels[:, :, 0] = np.arange(64, dtype=np.uint8) * 4
    message = shown.show(1, "chair", data=array("B", pixels.tobytes()))
    wait_until(lambda: heard)
    seen = fake_pipeline.calls[0][0].image
    # The lens drew everything towards the middle: a rectified corner shows what lay further in.
    assert seen[0, 0, 0] > pixels[0, 0, 0] + 8
    assert seen[23, 31, 0] == pytest.approx(pixels[23, 31, 0], abs=4)
    back = np.frombuffer(bytes(heard[0].data), np.uint8).reshape(48, 64)
    row, column = np.unravel_index(back.argmax(), back.shape)
    assert back.max() > 200
    assert row >= 1
    assert column >= 1
    assert heard[0].header == message.header


def test_scene_needs_no_detections(run_node: Any, camera: Any, wait_until: Any, fake_pipeline: Any) -> None:
    running = run_node(mode="scene").start()
    shown = camera(running)
    shown.show_image(3)
    wait_until(lambda: shown.answered() == [3])
    assert [query.label for query in fake_pipeline.calls[-1][1]] == ["scene"]


def test_nothing_found_publishes_empty_arrays(run_node: Any, camera: Any, wait_until: Any) -> None:
    running = run_node().start()
    shown = camera(running)
    image = shown.show(1)
    wait_until(lambda: shown.humans and shown.objects)
    assert (shown.humans[0].header, shown.humans[0].contacts) == (image.header, [])
    assert shown.objects[0].affordances == []
    running.pipeline.silent = True
    shown.show(2, "chair")
    wait_until(lambda: len(shown.humans) == 2)
    assert shown.humans[1].unanswered_object_labels == ["chair"]
    shown.show(3, "")
    wait_until(lambda: len(shown.humans) == 3)
    for reason in ("no_objects", "unanswered", "all_refused"):
        assert running.counters.get("no_output", reason) == 1


BAD_FRAMES: dict[str, tuple[dict[str, Any], str]] = {
    "zero_size": ({"width": 0, "height": 0, "data": array("B")}, "image.width"),
    "wrong_step": ({"step": 7}, "image.step"),
    "short_data": ({"data": array("B", bytes(9))}, "image.data"),
    "long_data": ({"data": array("B", bytes(64 * 48 * 3 + 1))}, "image.data"),
    "unknown_encoding": ({"encoding": "purple8"}, "image.encoding"),
}


def test_bad_image_is_counted_and_the_next_good_one_is_answered(run_node: Any, camera: Any, wait_until: Any) -> None:
    running = run_node().start()
    shown = camera(running)
    for seconds, (changes, field) in enumerate(BAD_FRAMES.values(), start=1):
        before = running.counters.get("bad_input", field)
        shown.show(seconds, "chair", **changes)
        wait_until(lambda f=field, b=before: running.counters.get("bad_input", f) == b + 1)
    shown.show(99, "chair")
    wait_until(lambda: shown.humans)
    assert shown.answered() == [99]
    assert running.counters.total("bad_input") == len(BAD_FRAMES)


def test_bad_object_is_counted_and_its_neighbours_are_answered(run_node: Any, camera: Any, wait_until: Any) -> None:
    running = run_node().start()
    shown = camera(running)
    shown.show(1, "chair", "", "x" * 1_000_000, "<HCON>", "cup")
    wait_until(lambda: shown.humans)
    assert [contact.object_label for contact in shown.humans[0].contacts] == ["chair", "cup"]
    assert running.counters.get("bad_input", "object.label") == 3


@pytest.mark.parametrize(
    ("error", "key"),
    [
        (InputError("object.mesh", "is empty"), "object.mesh"),
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), "RuntimeError"),
        (MemoryError(), "MemoryError"),
        (AssertionError(), "AssertionError"),
    ],
)
def test_failing_frame_is_counted_and_the_next_one_answered(
    run_node: Any, camera: Any, wait_until: Any, error: Exception, key: str
) -> None:
    running = run_node().start()
    shown = camera(running)
    running.pipeline.error = error
    shown.show(1, "chair")
    wait_until(lambda: running.counters.get("frames_failed", key) == 1)
    running.pipeline.error = None
    shown.show(2, "chair")
    wait_until(lambda: shown.humans)
    assert shown.answered() == [2]


def test_enable_stops_and_resumes_the_stream(run_node: Any, camera: Any, peer: Any, wait_until: Any) -> None:
    running = run_node().start()
    shown = camera(running)
    assert peer.call(SetBool, "ivlm_contact/enable", SetBool.Request(data=False)).success
    shown.show(1, "chair")
    wait_until(lambda: running.counters.get("dropped", "disabled") == 1)
    assert peer.call(SetBool, "ivlm_contact/enable", SetBool.Request(data=True)).success
    shown.show(2, "chair")
    wait_until(lambda: shown.humans)
    assert shown.answered() == [2]


def estimate(peer: Any, image: Image, *labels: str) -> EstimateContact.Response:
    request = EstimateContact.Request(image=image, objects=[DetectedObject(label=label) for label in labels])
    return peer.call(EstimateContact, "ivlm_contact/estimate_contact", request)


def test_service_answers_while_the_stream_goes_on(run_node: Any, camera: Any, peer: Any, wait_until: Any) -> None:
    running = run_node().start()
    shown = camera(running)
    running.pipeline.seconds = 0.3
    shown.show(1, "chair")
    assert running.pipeline.running.wait(5)
    shown.show(2, "chair")
    image = shown._make_image(50)
    response = estimate(peer, image, "cup")
    assert response.success, response.message
    assert response.human_contacts.header == image.header
    assert [contact.object_label for contact in response.human_contacts.contacts] == ["cup"]
    assert [affordance.object_label for affordance in response.object_affordances.affordances] == ["cup"]
    wait_until(lambda: len(shown.humans) == 2)
    # The request went before the frame that was already waiting, and one ran at a time.
    assert [queries[0].label for _, queries in running.pipeline.calls] == ["chair", "cup", "chair"]
    # What is followed from frame to frame is the stream alone.
    assert running.pipeline.followed[-3:] == [True, False, True]
    assert shown.answered() == [1, 2]


def test_service_refuses_in_words(run_node: Any, peer: Any, ros_image: Any) -> None:
    running = run_node()
    assert "activate the node" in estimate(peer, ros_image(1), "chair").message
    running.start()
    for response, words in (
        (estimate(peer, ros_image(1)), "objects: is empty"),
        (estimate(peer, ros_image(1, step=3), "chair"), "image.step"),
        (estimate(peer, ros_image(1), "<HCON>"), "object.label"),
    ):
        assert not response.success
        assert words in response.message
    mixed = estimate(peer, ros_image(1), "chair", "")
    assert not mixed.success
    assert "object.label" in mixed.message
    assert [contact.object_label for contact in mixed.human_contacts.contacts] == ["chair"]
    running.pipeline.error = RuntimeError("broken model")
    assert estimate(peer, ros_image(1), "chair").message == "RuntimeError: broken model"
    running.pipeline.error = None
    assert estimate(peer, ros_image(1), "chair").success


def test_deactivate_ends_a_waiting_request(run_node: Any, peer: Any, ros_image: Any, wait_until: Any) -> None:
    running = run_node().start()
    running.pipeline.seconds = 0.5
    responses: list[Any] = []
    caller = threading.Thread(target=lambda: responses.append(estimate(peer, ros_image(1), "chair")))
    caller.start()
    assert running.pipeline.running.wait(5)
    assert running.node.trigger_deactivate() == SUCCESS
    caller.join(10)
    assert not responses[0].success
    assert "stopped" in responses[0].message


def diagnostics(heard: list[DiagnosticArray]) -> tuple[DiagnosticStatus, dict[str, str]]:
    status = heard[-1].status[0]
    return status, {pair.key: pair.value for pair in status.values}


def test_diagnostics_tell_what_happened(run_node: Any, camera: Any, peer: Any, wait_until: Any) -> None:
    heard = peer.hear(DiagnosticArray, "/diagnostics")
    running = run_node()
    wait_until(lambda: heard)
    status, values = diagnostics(heard)
    assert (status.level, values["state"]) == (DiagnosticStatus.OK, "unconfigured")
    running.start()
    shown = camera(running)
    shown.show(1, "chair")
    wait_until(lambda: shown.humans)
    shown.show(2, "chair", step=7)
    wait_until(lambda: running.counters.get("bad_input", "image.step"))
    heard.clear()
    wait_until(lambda: heard)
    status, values = diagnostics(heard)
    assert status.name == "ivlm_contact: contact"
    assert status.level == DiagnosticStatus.WARN
    expected = {
        "state": "active",
        "model": "fake",
        "weights_hash": "0123456789abcdef",
        "device": "cpu",
        "images_received": "2",
        "frames_processed": "1",
        "frames_failed": "0",
        "bad_input": "1",
        "bad_input/image.step": "1",
        "dropped/bad_input": "1",
    }
    assert {key: values[key] for key in expected} == expected
    assert values["last_error"].startswith("image.step: is 7")
    for key in ("latency_total_p50_ms", "latency_total_p95_ms", "latency_reason_p50_ms", "latency_shell_cpu_p95_ms"):
        assert float(values[key]) >= 0
    running.pipeline.error = RuntimeError("broken model")
    shown.show(3, "chair")
    wait_until(lambda: running.counters.total("frames_failed"))
    heard.clear()
    wait_until(lambda: heard)
    assert diagnostics(heard)[0].level == DiagnosticStatus.ERROR


def test_two_nodes_in_namespaces_do_not_mix(
    run_node: Any, peer: Any, ros_image: Any, ros_detections: Any, wait_until: Any
) -> None:
    nodes = [run_node(namespace=name).start() for name in ("left", "right")]
    heard = {name: peer.hear(HumanContactArray, f"/{name}/ivlm_contact/human_contacts") for name in ("left", "right")}
    for node, name in zip(nodes, heard, strict=True):
        wait_until(lambda n=node, t=name: n.node.count_subscribers(f"/{t}/ivlm_contact/human_contacts"))
    for seconds, name in ((1, "left"), (2, "right"), (3, "left")):
        node = nodes[list(heard).index(name)]
        images = peer.publisher(Image, f"/{name}/image", reader=node)
        detections = peer.publisher(DetectedObjectArray, f"/{name}/detections", reader=node)
        expected = len(heard[name]) + 1
        images.publish(ros_image(seconds))
        detections.publish(ros_detections(seconds, "chair"))
        wait_until(lambda n=name, e=expected: len(heard[n]) == e)
    assert [message.header.stamp.sec for message in heard["left"]] == [1, 3]
    assert [message.header.stamp.sec for message in heard["right"]] == [2]


def test_simulated_time_stamps_the_reports_and_not_the_answers(
    run_node: Any, camera: Any, peer: Any, wait_until: Any
) -> None:
    running = run_node(use_sim_time=True, labels=["chair"]).start()
    shown = camera(running)
    reports = peer.hear(DiagnosticArray, "/diagnostics")
    clock = peer.publisher(Clock, "/clock", QoSProfile(depth=1), reader=running)
    # The clock stands: images are answered, and reports go on, by a clock of their own.
    clock.publish(Clock(clock=Time(sec=777)))
    wait_until(lambda: any(report.header.stamp.sec == 777 for report in reports))
    shown.show(5, "cup")
    wait_until(lambda: shown.humans)
    assert shown.answered() == [5]
    count = len(reports)
    wait_until(lambda: len(reports) >= count + 2)
    # And it may jump back, as when a recording starts again.
    clock.publish(Clock(clock=Time(sec=3)))
    wait_until(lambda: reports[-1].header.stamp.sec == 3)
    shown.show(2, "cup")
    wait_until(lambda: shown.answered() == [5, 2])


def test_closed_context_inside_the_executor_is_a_clean_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGTERM may close the context between two calls of the executor, which then raises a plain RCLError."""

    def spin(self: Any) -> None:
        rclpy.shutdown()
        raise RuntimeError("the given context is not valid")

    monkeypatch.setattr(contact_node.MultiThreadedExecutor, "spin", spin)
    monkeypatch.setattr(contact_node.signal, "signal", lambda *_: None)
    assert contact_node.main([]) == 0


def test_real_fault_in_the_executor_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def spin(self: Any) -> None:
        raise RuntimeError("a real fault")

    monkeypatch.setattr(contact_node.MultiThreadedExecutor, "spin", spin)
    monkeypatch.setattr(contact_node.signal, "signal", lambda *_: None)
    with pytest.raises(RuntimeError, match="a real fault"):
        contact_node.main([])
    assert not rclpy.ok()


def test_worker_outlives_anything_the_publishing_raises(run_node: Any, camera: Any, wait_until: Any) -> None:
    running = run_node().start()
    shown = camera(running)
    real = running.node._outputs.publish

    def broken(*_: Any) -> None:
        raise np.exceptions.AxisError("broken publisher")

    running.node._outputs.publish = broken
    shown.show(1, "chair")
    wait_until(lambda: running.counters.total("frames_failed") == 1)
    running.node._outputs.publish = real
    shown.show(2, "chair")
    wait_until(lambda: shown.humans)
    assert shown.answered() == [2]
