"""The installed executable with the real `tiny` model, as a process of its own over DDS."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy")
pytest.importorskip("ivlm_ros.msg")

from diagnostic_msgs.msg import DiagnosticArray
from ivlm_ros.msg import DetectedObject, DetectedObjectArray, HumanContactArray, ObjectAffordanceArray
from ivlm_ros.srv import EstimateContact
from PIL import Image as PilImage
from rcl_interfaces.msg import Parameter as ParameterMessage
from rcl_interfaces.msg import ParameterType, ParameterValue
from rcl_interfaces.srv import SetParameters
from sensor_msgs.msg import Image
from std_srvs.srv import SetBool
from visualization_msgs.msg import Marker, MarkerArray

from ivlm_ros.conversions import rgb_from_image

# 480×360 fits into the default shared-memory segment of the test's own publisher.
SIZE = (480, 360)


def executable() -> Path:
    prefixes = os.environ["AMENT_PREFIX_PATH"].split(os.pathsep)
    candidates = [Path(prefix) / "lib" / "ivlm_ros" / "contact_node" for prefix in prefixes]
    found = next((path for path in candidates if path.is_file()), None)
    if found is None:
        pytest.fail("contact_node is not installed: run 'make setup' and source env.sh")
    return found


class Process:
    """One contact_node process and what a camera and a viewer exchange with it."""

    def __init__(self, peer: Any, namespace: str, ros_image: Any, ros_detections: Any, *arguments: str) -> None:
        self.peer = peer
        self.name = f"/{namespace}/ivlm_contact" if namespace else "/ivlm_contact"
        self._namespace = f"/{namespace}" if namespace else ""
        self._make_image, self._make_detections = ros_image, ros_detections
        options = ["--ros-args", *arguments] + (["-r", f"__ns:=/{namespace}"] if namespace else [])
        self.process = subprocess.Popen(
            [str(executable()), *options], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self.humans = peer.hear(HumanContactArray, f"{self.name}/human_contacts")
        self.objects = peer.hear(ObjectAffordanceArray, f"{self.name}/object_affordances")
        self._reports = peer.hear(DiagnosticArray, "/diagnostics")

    def activate(self) -> None:
        assert self.peer.change_state(self.name, "configure")
        assert self.peer.change_state(self.name, "activate")
        self.images = self.peer.publisher(Image, f"{self._namespace}/image")
        self.detections = self.peer.publisher(DetectedObjectArray, f"{self._namespace}/detections")

    def state(self) -> str:
        return str(self.peer.state(self.name))

    def set_parameter(self, name: str, kind: int, **value: Any) -> Any:
        request = SetParameters.Request()
        request.parameters = [ParameterMessage(name=name, value=ParameterValue(type=kind, **value))]
        return self.peer.call(SetParameters, f"{self.name}/set_parameters", request).results[0]

    def diagnostics(self) -> dict[str, str]:
        """The values of the next report."""
        seen = len(self._reports)

        def own() -> Any:
            heard = [status for message in self._reports[seen:] for status in message.status]
            return [status for status in heard if status.name.startswith(self.name.lstrip("/"))]

        return {pair.key: pair.value for pair in wait_for(own)[0].values}

    def send(self, seconds: int, *labels: str, **fields: Any) -> Image:
        image = self._make_image(seconds, SIZE, **fields)
        self.images.publish(image)
        self.detections.publish(self._make_detections(seconds, *labels))
        return image

    def answer(self, seconds: int, *labels: str) -> tuple[Image, HumanContactArray]:
        """Send one frame until it is answered: a best-effort message may be lost, and the first ones usually are."""
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            image = self.send(seconds, *labels)
            again = time.monotonic() + 3
            while time.monotonic() < again:
                for message in self.humans:
                    if message.header.stamp.sec == seconds:
                        return image, message
                time.sleep(0.005)
        pytest.fail(f"frame {seconds} was never answered")

    def stop(self, number: int, seconds: float = 10.0) -> int:
        self.process.send_signal(number)
        return self.process.wait(seconds)

    def output(self) -> str:
        """All that a stopped process has printed."""
        return self.process.communicate(timeout=10)[0]

    def close(self) -> None:
        """End the process; what it printed is shown beside a test that failed."""
        if self.process.poll() is None:
            self.process.kill()
        if self.process.stdout is not None and not self.process.stdout.closed:
            print(self.output())


@pytest.fixture(scope="module")
def active(module_peer: Any, ros_image: Any, ros_detections: Any) -> Iterator[Process]:
    """A configured and active node in the namespace `left`, shared by the tests that leave it as they found it."""
    made = Process(module_peer, "left", ros_image, ros_detections, "-p", "contact_threshold:=0.25")
    try:
        made.activate()
        made.answer(1, "chair")
        yield made
    finally:
        made.close()


def wait_for(condition: Any, seconds: float = 15.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)
    return value


def test_a_second_node_lives_its_whole_life_beside_the_first(
    active: Process, module_peer: Any, ros_image: Any, ros_detections: Any
) -> None:
    """Fail to configure, then configure, activate, 20 frames, deactivate, cleanup, SIGINT.

    The neighbour hears nothing of it.
    """
    node = Process(module_peer, "right", ros_image, ros_detections, "-p", "model:=/no/such/weights")
    try:
        assert not module_peer.change_state(node.name, "configure")
        assert node.state() == "unconfigured"
        assert "/no/such/weights" in node.diagnostics()["last_error"]
        assert node.set_parameter("model", ParameterType.PARAMETER_STRING, string_value="tiny").successful
        node.activate()
        assert node.state() == "active"
        neighbour = len(active.humans)
        for seconds in range(1, 21):
            image, human = node.answer(seconds, "chair")
            assert human.header == image.header
        stamps = [message.header.stamp.sec for message in node.humans]
        assert sorted(set(stamps)) == list(range(1, 21))
        # The two topics are not ordered: the last answer may be half here.
        wait_for(lambda: len(node.objects) == len(node.humans))
        assert [message.header for message in node.objects] == [message.header for message in node.humans]
        assert len(active.humans) == neighbour
        values = node.diagnostics()
        assert int(values["frames_processed"]) == len(node.humans)
        assert values["frames_failed"] == "0"
        assert module_peer.change_state(node.name, "deactivate")
        before = len(node.humans)
        node.images.publish(ros_image(30, SIZE))
        node.detections.publish(ros_detections(30, "chair"))
        assert module_peer.change_state(node.name, "cleanup")
        assert node.state() == "unconfigured"
        assert len(node.humans) == before
        assert node.stop(signal.SIGINT) == 0
        assert "Traceback" not in node.output()
    finally:
        node.close()


def test_answer_is_complete_and_consistent(active: Process) -> None:
    image, human = active.answer(40, "chair", "cup")
    assert human.header == image.header
    assert human.model == "tiny"
    assert len(human.contacts) + len(human.unanswered_reasons) == 2
    for contact in human.contacts:
        assert contact.header == image.header
        assert contact.body_model == "anny"
        indices, values = np.array(contact.vertex_indices, np.int64), np.array(contact.probabilities)
        assert len(indices) == len(values)
        assert (np.diff(indices) > 0).all()
        assert contact.vertex_count > indices.max(initial=0)
        assert ((values >= 0.25) & (values <= 1)).all()
        assert len(contact.body_parts) == len(contact.body_part_scores) == 15
        assert len(contact.topology_hash) == 16
        assert 0 <= contact.confidence <= 1
    objects = wait_for(lambda: [message for message in active.objects if message.header == image.header])[-1]
    labels = [affordance.object_label for affordance in objects.affordances]
    assert labels + objects.unanswered_object_labels == ["chair", "cup"]


BAD_FRAMES: dict[str, tuple[dict[str, Any], str]] = {
    "zero_size": ({"width": 0, "height": 0, "step": 0, "data": array("B")}, "image.width"),
    "wrong_step": ({"step": 7}, "image.step"),
    "short_data": ({"data": array("B", bytes(9))}, "image.data"),
    "long_data": ({"data": array("B", bytes(3 * 480 * 360 + 1))}, "image.data"),
    "unknown_encoding": ({"encoding": "purple8"}, "image.encoding"),
}


@pytest.mark.parametrize("name", BAD_FRAMES)
def test_bad_frame_is_counted_and_the_next_one_answered(active: Process, name: str) -> None:
    changes, field = BAD_FRAMES[name]
    key = f"bad_input/{field}"
    before = int(active.diagnostics().get(key, "0"))
    for attempt in range(5):
        active.send(50 + attempt, "chair", **changes)
        time.sleep(0.05)
    assert int(active.diagnostics()[key]) > before
    seconds = 60 + list(BAD_FRAMES).index(name)
    active.answer(seconds, "chair")
    assert active.process.poll() is None


@pytest.mark.parametrize("label", ["", "x" * 1_000_000, "a <image> b", "<HCON>", "tab\there"])
def test_bad_label_is_refused_and_its_neighbour_answered(active: Process, label: str) -> None:
    request = EstimateContact.Request(image=active._make_image(70, SIZE))
    request.objects = [DetectedObject(label=label), DetectedObject(id="9", label="chair")]
    response = active.peer.call(EstimateContact, f"{active.name}/estimate_contact", request)
    assert not response.success
    assert "object.label" in response.message
    assert len(response.message) < 1000
    human = response.human_contacts
    assert [contact.object_id for contact in human.contacts] + human.unanswered_object_ids == ["9"]


def test_service_answers_one_image(active: Process) -> None:
    request = EstimateContact.Request(image=active._make_image(71, SIZE))
    request.objects = [DetectedObject(id="9", label="chair", x_min=10.0, y_min=10.0, x_max=90.0, y_max=90.0)]
    response = active.peer.call(EstimateContact, f"{active.name}/estimate_contact", request)
    assert response.success, response.message
    assert response.human_contacts.header == request.image.header
    assert "human contacts" in response.message


def test_disabled_node_is_silent_until_it_is_enabled(active: Process) -> None:
    active.peer.call(SetBool, f"{active.name}/enable", SetBool.Request(data=False))
    before = int(active.diagnostics().get("dropped/disabled", "0"))
    for _ in range(3):
        active.send(80, "chair")
        time.sleep(0.05)
    assert int(active.diagnostics()["dropped/disabled"]) > before
    assert 80 not in [message.header.stamp.sec for message in active.humans]
    active.peer.call(SetBool, f"{active.name}/enable", SetBool.Request(data=True))
    active.answer(81, "chair")


def test_parameters_are_changed_or_refused_with_the_reason(active: Process) -> None:
    assert active.set_parameter("max_rate", ParameterType.PARAMETER_DOUBLE, double_value=30.0).successful
    assert active.set_parameter("max_rate", ParameterType.PARAMETER_DOUBLE, double_value=0.0).successful
    for name, kind, value, words in (
        ("max_rate", ParameterType.PARAMETER_DOUBLE, {"double_value": -1.0}, "max_rate"),
        ("model", ParameterType.PARAMETER_STRING, {"string_value": "/weights"}, "read on configure"),
        ("detections_type", ParameterType.PARAMETER_STRING, {"string_value": "vision_msgs"}, ""),
    ):
        result = active.set_parameter(name, kind, **value)
        assert not result.successful
        assert words in result.reason
        assert result.reason


def test_overlay_and_markers_are_there_for_who_looks(active: Process) -> None:
    overlays = active.peer.hear(Image, f"{active.name}/overlay", 1)
    markers = active.peer.hear(MarkerArray, f"{active.name}/markers", 1)
    time.sleep(0.5)
    image, human = active.answer(90, "chair")
    overlay = wait_for(lambda: [message for message in overlays if message.header == image.header])[0]
    picture = rgb_from_image(overlay)
    assert picture.std() > 5
    drawn = wait_for(lambda: [array for array in markers if array.markers[0].header.stamp.sec == 90])[0].markers
    meshes = {marker.ns: marker for marker in drawn if marker.type == Marker.TRIANGLE_LIST}
    assert set(meshes) == ({"body"} if human.contacts else set()) | {"object"}
    for marker in meshes.values():
        assert marker.header.frame_id == "ivlm_body"
        assert 0 < len(marker.points) == len(marker.colors) <= 3 * 2000


def test_sigterm_in_mid_inference_exits_0_within_two_seconds(active: Process) -> None:
    """Runs last: it ends the shared process."""
    for seconds in range(200, 260):
        active.send(seconds, "chair", "cup", "table", "bottle")
        time.sleep(0.01)
    start = time.monotonic()
    assert active.stop(signal.SIGTERM) == 0
    assert time.monotonic() - start < 2.0
    assert "Traceback" not in active.output()


def test_sigint_while_the_model_loads_exits_0_within_two_seconds(
    module_peer: Any, ros_image: Any, ros_detections: Any
) -> None:
    from lifecycle_msgs.srv import ChangeState

    node = Process(module_peer, "early", ros_image, ros_detections)
    try:
        client = module_peer.node.create_client(ChangeState, f"{node.name}/change_state")
        assert client.wait_for_service(20)
        request = ChangeState.Request()
        request.transition.id, request.transition.label = 1, "configure"
        client.call_async(request)
        time.sleep(0.7)
        start = time.monotonic()
        assert node.stop(signal.SIGINT) == 0
        assert time.monotonic() - start < 2.0
        assert "Traceback" not in node.output()
    finally:
        node.close()


def test_no_shared_memory_outlives_the_process(module_peer: Any, ros_image: Any, ros_detections: Any) -> None:
    from lifecycle_msgs.srv import ChangeState

    others = _segments(os.getpid())
    node = Process(module_peer, "tidy", ros_image, ros_detections)
    try:
        assert module_peer.node.create_client(ChangeState, f"{node.name}/change_state").wait_for_service(20)
        own = _segments(node.process.pid) - others
        assert node.stop(signal.SIGINT) == 0
        assert own
        assert {path for path in own if path.exists()} == set()
    finally:
        node.close()


def _segments(pid: int) -> set[Path]:
    """The DDS data segments that a process has mapped."""
    lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
    paths = {Path(line.split()[-1]) for line in lines if "/dev/shm/fastdds_" in line}
    return {path for path in paths if "port" not in path.name}


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("max_rate:=-1.0", "max_rate"),
        ("contact_threshold:=half", "contact_threshold"),
        ("detections_type:=yolo", "choose ivlm_ros or vision_msgs or yolo_msgs"),
        ("nonsense", "'-p nonsense' cannot be read: give parameters as -p name:=value"),
    ],
)
def test_wrong_start_parameter_is_one_line_and_exit_code_2(argument: str, words: str) -> None:
    done = subprocess.run(
        [str(executable()), "--ros-args", "-p", argument], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_unknown_arguments_are_one_line_and_exit_code_2() -> None:
    done = subprocess.run(
        [str(executable()), "--ros-args", "--modle"], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2
    assert "--modle" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_autostart_and_the_documented_programs(
    module_peer: Any, ros_image: Any, ros_detections: Any, tmp_path: Path
) -> None:
    """What docs/node.md shows is run as it stands there, against a node that nobody configured."""
    page = (Path(__file__).resolve().parents[1] / "docs" / "node.md").read_text()
    asks, publishes = re.findall(r"^```python\n(# needs a node: .*?)^```", page, re.MULTILINE | re.DOTALL)
    PilImage.fromarray(np.full((240, 320, 3), 127, np.uint8)).save(tmp_path / "photo.jpg")
    node = Process(module_peer, "", ros_image, ros_detections, "-p", "autostart:=true", "-p", "max_objcets:=3")
    try:
        deadline = time.monotonic() + 60
        while node.state() != "active":
            assert time.monotonic() < deadline
            time.sleep(0.2)
        for program, words in ((asks, ("reason", "lift")), (publishes, ("['7']", "chair"))):
            done = subprocess.run(
                [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
            )
            assert done.returncode == 0, done.stderr
            assert any(word in done.stdout for word in words), done.stdout
        assert node.stop(signal.SIGINT) == 0
        said = node.output()
        assert "'max_objcets' is no parameter of this node and is ignored: did you mean 'max_objects'?" in said
        assert "Traceback" not in said
    finally:
        node.close()
