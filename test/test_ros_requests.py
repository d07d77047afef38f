"""The action `~/analyze_image`: feedback, cancelling, its queue, and refusals in words; the service: with the node."""

from __future__ import annotations

import io
import threading
import time
from array import array
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy")
pytest.importorskip("ivlm_ros.msg")

from action_msgs.msg import GoalStatus
from ivlm_ros.action import AnalyzeImage
from ivlm_ros.msg import DetectedObject
from ivlm_ros.srv import EstimateContact
from PIL import Image as PilImage
from rclpy.action import ActionClient
from sensor_msgs.msg import CompressedImage

from ivlm_ros.requests import MOST_GOALS


class Asking:
    """Sends goals to a node, and keeps what comes back."""

    def __init__(self, running: Any, peer: Any, wait_until: Callable[..., Any]) -> None:
        self._client = ActionClient(peer.node, AnalyzeImage, "ivlm_contact/analyze_image")
        self._wait = wait_until
        assert self._client.wait_for_server(20.0)
        wait_until(lambda: running.node.count_subscribers("/ivlm_contact/analyze_image/_action/feedback"))
        # The server gives up a response when DDS has not brought it together with its reader: an empty goal is sent
        # until both ways are open.
        handle = self._insist(lambda: self._client.send_goal_async(AnalyzeImage.Goal()))
        self._insist(handle.get_result_async)
        wait_until(lambda: not running.node._requests.busy)
        running.counters.reset()

    def _insist(self, ask: Callable[[], Any]) -> Any:
        for _ in range(20):
            future = ask()
            deadline = time.monotonic() + 1.0
            while not future.done() and time.monotonic() < deadline:
                time.sleep(0.01)
            if future.done():
                return future.result()
        raise AssertionError("no response in 20 s")

    def send(self, goal: AnalyzeImage.Goal) -> tuple[Any, list[Any]]:
        """The goal's handle, and a list that fills with its feedback."""
        heard: list[Any] = []
        future = self._client.send_goal_async(goal, lambda message: heard.append(message.feedback))
        self._wait(future.done)
        return future.result(), heard

    def result(self, handle: Any) -> Any:
        """The goal's status and result."""
        future = handle.get_result_async()
        self._wait(future.done)
        return future.result()

    def cancel(self, handle: Any) -> None:
        future = handle.cancel_goal_async()
        self._wait(future.done)


@pytest.fixture
def asking(peer: Any, wait_until: Any) -> Callable[[Any], Asking]:
    return lambda running: Asking(running, peer, wait_until)


@pytest.fixture
def goal(ros_image: Any) -> Callable[..., AnalyzeImage.Goal]:
    def make(*labels: str, seconds: int = 4) -> AnalyzeImage.Goal:
        objects = [DetectedObject(id=str(place), label=label, score=0.5) for place, label in enumerate(labels)]
        return AnalyzeImage.Goal(image=ros_image(seconds), objects=objects)

    return make


def test_a_goal_is_answered_and_tells_its_stages(run_node: Any, asking: Any, goal: Any, wait_until: Any) -> None:
    ask = asking(run_node().start())
    handle, heard = ask.send(goal("chair", "cup"))
    answer = ask.result(handle)
    wait_until(lambda: len(heard) == 5)
    assert answer.status == GoalStatus.STATUS_SUCCEEDED
    assert answer.result.success
    assert [contact.object_label for contact in answer.result.human_contacts.contacts] == ["chair", "cup"]
    assert answer.result.object_affordances.header.stamp.sec == 4
    assert answer.result.human_contacts.header.frame_id == "camera_optical"
    stages = [(message.stage, round(message.progress, 2)) for message in heard]
    assert stages == [("queued", 0.0), ("reason", 0.0), ("render", 0.25), ("localize", 0.5), ("lift", 0.75)]


def test_the_stream_is_left_alone(run_node: Any, asking: Any, goal: Any, fake_pipeline: Any) -> None:
    ask = asking(run_node().start())
    handle, _ = ask.send(goal("chair"))
    ask.result(handle)
    assert fake_pipeline.followed[-1] is False


def test_a_goal_is_cancelled_between_two_stages(
    run_node: Any, asking: Any, goal: Any, fake_pipeline: Any, wait_until: Any
) -> None:
    running = run_node(reconstruct=True, use_bodies=True).start()
    fake_pipeline.fits = True
    fake_pipeline.gate.clear()
    ask = asking(running)
    handle, heard = ask.send(goal("chair"))
    wait_until(lambda: any(message.stage == "lift" for message in heard))
    ask.cancel(handle)
    fake_pipeline.gate.set()
    answer = ask.result(handle)
    assert answer.status == GoalStatus.STATUS_CANCELED
    assert (answer.result.success, answer.result.message) == (False, "cancelled")
    assert not any(message.stage == "reconstruct" for message in heard)
    assert running.counters.get("goals_cancelled", "") == 1
    fake_pipeline.fits = False
    handle, _ = ask.send(goal("chair"))
    assert ask.result(handle).status == GoalStatus.STATUS_SUCCEEDED, "the next goal is answered"


def test_goals_wait_for_each_other_and_can_be_cancelled_while_they_do(
    run_node: Any, asking: Any, goal: Any, fake_pipeline: Any, wait_until: Any
) -> None:
    running = run_node().start()
    fake_pipeline.gate.clear()
    ask = asking(running)
    first, _ = ask.send(goal("chair", seconds=1))
    wait_until(fake_pipeline.running.is_set)
    waiting, heard = ask.send(goal("cup", seconds=2))
    last, _ = ask.send(goal("book", seconds=3))
    wait_until(lambda: heard)
    assert heard[0].stage == "waiting"
    ask.cancel(waiting)
    fake_pipeline.gate.set()
    assert ask.result(first).result.human_contacts.header.stamp.sec == 1
    assert ask.result(waiting).status == GoalStatus.STATUS_CANCELED
    assert ask.result(last).result.human_contacts.header.stamp.sec == 3
    assert [queries[0].label for _, queries in fake_pipeline.calls] == ["chair", "book"]


def test_too_many_goals_are_rejected(
    run_node: Any, asking: Any, goal: Any, fake_pipeline: Any, wait_until: Any
) -> None:
    running = run_node().start()
    fake_pipeline.gate.clear()
    ask = asking(running)
    handles = [ask.send(goal("chair", seconds=place))[0] for place in range(MOST_GOALS + 2)]
    assert [handle.accepted for handle in handles] == [True] * MOST_GOALS + [False] * 2
    assert running.counters.get("goals_rejected", "") == 2
    fake_pipeline.gate.set()
    for handle in handles[:MOST_GOALS]:
        assert ask.result(handle).status == GoalStatus.STATUS_SUCCEEDED
    assert ask.send(goal("chair"))[0].accepted


@pytest.mark.parametrize("labels", [["chair", "cup"], []])
def test_a_compressed_image_with_labels_will_do(run_node: Any, asking: Any, labels: list[str]) -> None:
    running = run_node().start()
    file = io.BytesIO()
    PilImage.fromarray(np.zeros((48, 64, 3), np.uint8)).save(file, "PNG")
    picture = CompressedImage(format="png", data=array("B", file.getvalue()))
    picture.header.stamp.sec = 9
    ask = asking(running)
    handle, _ = ask.send(AnalyzeImage.Goal(compressed_image=picture, labels=labels))
    answer = ask.result(handle)
    if not labels:
        assert answer.status == GoalStatus.STATUS_ABORTED
        assert "objects: is empty" in answer.result.message
        return
    assert answer.status == GoalStatus.STATUS_SUCCEEDED
    assert [contact.object_label for contact in answer.result.human_contacts.contacts] == labels
    assert answer.result.human_contacts.header.stamp.sec == 9


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda goal: setattr(goal.image, "step", 1), "image.step"),
        (lambda goal: setattr(goal.objects[0], "label", "<HCON>"), "object.label"),
        (lambda goal: setattr(goal.objects[0], "label", "person"), "are people alone"),
        (lambda goal: goal.objects.clear(), "objects: is empty"),
    ],
)
def test_what_cannot_be_used_is_refused_in_words(
    run_node: Any, asking: Any, goal: Any, change: Callable[[Any], None], words: str
) -> None:
    running = run_node().start()
    wrong = goal("chair")
    change(wrong)
    ask = asking(running)
    handle, _ = ask.send(wrong)
    answer = ask.result(handle)
    assert answer.status == GoalStatus.STATUS_ABORTED
    assert words in answer.result.message
    assert running.counters.total("bad_input") == 1
    handle, _ = ask.send(goal("chair"))
    assert ask.result(handle).status == GoalStatus.STATUS_SUCCEEDED, "the node lives on"


def test_a_waiting_service_call_does_not_keep_a_goal_from_being_cancelled(
    run_node: Any, asking: Any, goal: Any, fake_pipeline: Any, peer: Any, wait_until: Any, ros_image: Any
) -> None:
    running = run_node(reconstruct=True, use_bodies=True).start()
    fake_pipeline.fits = True
    ask = asking(running)
    fake_pipeline.gate.clear()
    handle, heard = ask.send(goal("chair"))
    wait_until(lambda: any(message.stage == "lift" for message in heard))
    request = EstimateContact.Request(image=ros_image(3), objects=[DetectedObject(label="cup", score=0.5)])
    client = peer.node.create_client(EstimateContact, "ivlm_contact/estimate_contact")
    assert client.wait_for_service(20.0)
    called = client.call_async(request)
    wait_until(lambda: running.node._worker._requests)
    ask.cancel(handle)
    assert not called.done(), "the service still waits for the model"
    fake_pipeline.gate.set()
    assert ask.result(handle).status == GoalStatus.STATUS_CANCELED
    wait_until(called.done)
    assert called.result().success


def test_a_failing_model_aborts_the_goal(run_node: Any, asking: Any, goal: Any, fake_pipeline: Any) -> None:
    running = run_node().start()
    fake_pipeline.error = RuntimeError("no luck")
    ask = asking(running)
    handle, _ = ask.send(goal("chair"))
    answer = ask.result(handle)
    assert answer.status == GoalStatus.STATUS_ABORTED
    assert answer.result.message == "RuntimeError: no luck"
    assert running.counters.total("requests_failed") == 1
    assert running.counters.total("frames_failed") == 0, "the stream is not to blame"


def test_an_inactive_node_says_so(run_node: Any, asking: Any, goal: Any) -> None:
    ask = asking(run_node())
    handle, _ = ask.send(goal("chair"))
    answer = ask.result(handle)
    assert answer.status == GoalStatus.STATUS_ABORTED
    assert answer.result.message == "state: is unconfigured (activate the node first)"


def test_deactivate_ends_a_goal(run_node: Any, asking: Any, goal: Any, fake_pipeline: Any, wait_until: Any) -> None:
    running = run_node().start()
    fake_pipeline.gate.clear()
    ask = asking(running)
    first, _ = ask.send(goal("chair"))
    wait_until(fake_pipeline.running.is_set)
    second, _ = ask.send(goal("cup"))
    # The model is at work until the gate opens, and deactivation waits for it.
    ending = threading.Thread(target=running.node.trigger_deactivate)
    ending.start()
    assert ask.result(first).result.message == "the node was stopped before the answer was ready"
    answer = ask.result(second)
    assert answer.status == GoalStatus.STATUS_ABORTED
    assert answer.result.message == "state: is active (activate the node first)" or "inactive" in answer.result.message
    fake_pipeline.gate.set()
    ending.join(20)
    assert running.node.state == "inactive"
