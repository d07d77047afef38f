"""What all tests share: a ROS domain of their own, skips that may not pass silently, and stand-ins for the model."""

from __future__ import annotations

import copy
import gc
import os
import random
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import settings

from ivlm_core.types import (
    ContactSummary,
    Frame,
    FrameResult,
    FreeRegion,
    HumanContact,
    ImageContact,
    Mesh,
    ObjectAffordance,
    PosedBody,
    Reconstruction,
    Unanswered,
    ViewPack,
)

# Before anything imports rclpy: this test run and its child processes see each other and nobody else. Ids above 101
# would reach into the range of ports that the system gives away.
os.environ["ROS_DOMAIN_ID"] = str(random.SystemRandom().randrange(102))
os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"

# The machine's speed is no property of the code.
settings.register_profile("ivlm", deadline=None, print_blob=True)
settings.load_profile("ivlm")

ROS_MODULES = ("'rclpy'", "'ivlm_ros.msg'", "'ivlm_ros.srv'")

# Whoever has one of these talks over DDS, whose discovery promises no order and whose best-effort topics may lose what
# they carry. Such a test is tried a second time; the summary names it (RERUN), and one that fails twice has failed.
DDS_FIXTURES = frozenset({"peer", "module_peer", "run_node", "ros", "demo"})


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if DDS_FIXTURES & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.flaky(reruns=1, reruns_delay=1))


@pytest.hookimpl(hookwrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Iterator[None]:
    """With IVLM_REQUIRE_ROS=1 a test module that skips because ROS is missing is a failure."""
    outcome: Any = yield
    _refuse_ros_skip(outcome.get_result())


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """The same for single tests."""
    outcome: Any = yield
    _refuse_ros_skip(outcome.get_result())


def _refuse_ros_skip(report: Any) -> None:
    reason = str(report.longrepr)
    if report.skipped and os.environ.get("IVLM_REQUIRE_ROS") == "1" and any(name in reason for name in ROS_MODULES):
        report.outcome = "failed"
        report.longrepr = f"ROS is required here, but: {reason}\nRun 'make setup' and source env.sh."


def wait_until(condition: Callable[[], Any], seconds: float = 10.0) -> Any:
    """The first true value of `condition()`; fails the test when there is none in time."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            pytest.fail(f"waited {seconds} s in vain")
        time.sleep(0.01)
    return value


@pytest.fixture(name="wait_until", scope="session")
def _wait_until() -> Callable[..., Any]:
    return wait_until


def _mesh(vertices: int, name: str) -> Mesh:
    """A strip of triangles with the given number of vertices, 1 m high."""
    along = np.arange(vertices) / vertices
    points = np.stack([0.1 * (np.arange(vertices) % 2), along, np.zeros(vertices)], axis=1)
    faces = np.arange(vertices - 2)[:, None] + np.arange(3)
    return Mesh(points, faces, name)


def _views(mesh: Mesh) -> ViewPack:
    size, count = 8, len(mesh.vertices)
    return ViewPack(
        mesh=mesh,
        view_names=("front",),
        camera_parameters=np.zeros((1, 5), np.float32),
        images=np.full((1, size, size, 3), 255, np.uint8),
        face_index=np.full((1, size, size), -1, np.int32),
        barycentric=np.full((1, size, size, 3), -1, np.float32),
        depth=np.full((1, size, size), -1, np.float32),
        vertex_pixel=np.zeros((1, count, 2), np.float32),
        vertex_visible=np.zeros((1, count), bool),
    )


class FakePipeline:
    """Answers at once with known values; `seconds`, `error`, `silent` make it slow, failing or without an answer.

    With `fits` it also fits every object into the scene.

    Human contact is 1 on the vertices 2 and 5 and 0.25 elsewhere, affordance rises from 0 to 1 over the vertices.
    """

    def __init__(self) -> None:
        self.profile = SimpleNamespace(name="fake")
        self.weights_hash = "0123456789abcdef"
        self.device = "cpu"
        self.body = SimpleNamespace(name="anny", mesh=_mesh(40, "body"))
        self.object_mesh = _mesh(12, "object")
        self.seconds = 0.0
        self.error: Exception | None = None
        self.silent = False
        # Whether objects are fitted into the scene: a person 3 m away, one object beside the other.
        self.fits = False
        # (H, W) contact on the picture itself, where a test wants it.
        self.on_picture: np.ndarray | None = None
        self.calls: list[Any] = []
        self.followed: list[bool] = []
        self.running = threading.Event()
        # Cleared, it holds every run until it is set again.
        self.gate = threading.Event()
        self.gate.set()

    def run(
        self, frame: Frame, queries: Any, follow: bool = True, begins: Callable[[str], None] | None = None
    ) -> FrameResult:
        self.calls.append((frame, list(queries)))
        self.followed.append(follow)
        self.running.set()
        time.sleep(self.seconds)
        for stage in ("reason", "render", "localize", "lift") if begins is not None else ():
            begins(stage)
        assert self.gate.wait(60), "nobody opened the gate"
        if begins is not None and self.fits:
            begins("reconstruct")
        if self.error is not None:
            # A copy: a traceback kept by a test's parameter would keep this frame's node, and its services, for good.
            raise copy.copy(self.error)
        probability = np.full(40, 0.25, np.float32)
        probability[[2, 5]] = 1.0
        answered = [] if self.silent else list(queries)
        body_views, object_views = _views(self.body.mesh), _views(self.object_mesh)
        return FrameResult(
            human_contacts=tuple(
                HumanContact(
                    object_label=query.label,
                    probability=probability,
                    body_model="anny",
                    mesh=self.body.mesh,
                    views=body_views,
                    body_parts={"head": 0.25, "left hand": 0.75},
                    answer="The left hand.",
                    confidence=0.5,
                    object_id=query.object_id,
                    person_id=query.person_id,
                )
                for query in answered
            ),
            object_affordances=tuple(
                ObjectAffordance(
                    object_label=query.label,
                    probability=np.linspace(0, 1, 12, dtype=np.float32),
                    mesh=self.object_mesh,
                    views=object_views,
                    affordance="grasp",
                    answer="To grasp.",
                    confidence=0.25,
                    object_id=query.object_id,
                    number=number,
                    person_id=query.person_id,
                )
                for number, query in enumerate(answered)
            ),
            image_contacts=tuple(
                ImageContact(query.label, self.on_picture, "Here.", 0.5, query.object_id)
                for query in (answered if self.on_picture is not None else ())
            ),
            reconstructions=tuple(
                self._fitted(number, query) for number, query in enumerate(queries if self.fits else ())
            ),
            unanswered=tuple(
                Unanswered(query.label, "no contact token", side, query.object_id)
                for query in (queries if self.silent else ())
                for side in ("human", "object")
            ),
            seconds={"reason": 0.002, "total": 0.003},
            model="fake",
            stamp_ns=frame.stamp_ns,
            frame_id=frame.frame_id,
        )

    def forget(self) -> None:
        self.calls.append("forget")

    def _fitted(self, number: int, query: Any) -> Reconstruction:
        contact = np.full(40, 0.25, np.float32)
        contact[[2, 5]] = 1.0
        place = np.array([0.5 * number, 0.0, 3.0])
        return Reconstruction(
            object_label=query.label,
            mesh=self.object_mesh,
            rotation=np.diag([1.0, -1.0, -1.0]),
            translation=place,
            scale=2.0,
            pose_valid=True,
            residuals={"mask_iou": 0.75, "contact_cm": 1.5, "depth_cm": float("nan")},
            state="cold",
            body=PosedBody(
                self.body.mesh.vertices * np.float32([1, -1, -1]) + np.float32([0, 0, 3]),
                self.body.mesh.faces,
                "anny",
                query.person_id,
            ),
            body_contact=contact,
            summary=ContactSummary(
                np.array([0.1, 0.2, 3.0], np.float32),
                12.5,
                np.array([0.0, 0.0, -1.0], np.float32),
                (
                    FreeRegion(
                        (place + 0.1).astype(np.float32),
                        np.array([0.0, 1.0, 0.0], np.float32),
                        30.0,
                        0.75,
                        np.array([3, 1], np.int32),
                    ),
                ),
            ),
            object_id=query.object_id,
            person_id=query.person_id,
            notes=("simplified",),
        )


@pytest.fixture(scope="session")
def seeded_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of `tiny` with the weights of its seed: it answers every question, in every mode, at random."""
    from ivlm_core.checkpoints import build_model, save_checkpoint
    from ivlm_core.config import load_profile
    from ivlm_core.reason import ContactTokenizer
    from ivlm_core.reason.tokenizer import SHIPPED_TOKENIZER

    profile = load_profile("tiny")
    target = tmp_path_factory.mktemp("seeded") / "model"
    model = build_model(profile, ContactTokenizer(tokens=profile.tokens), empty=False)
    save_checkpoint(target, model, profile, SHIPPED_TOKENIZER)
    return target


@pytest.fixture
def fake_pipeline() -> FakePipeline:
    """See `FakePipeline`."""
    return FakePipeline()


@pytest.fixture
def fake_result(fake_pipeline: FakePipeline) -> FrameResult:
    """The answer of the fake for a chair and a cup."""
    from ivlm_core.types import ObjectQuery

    queries = [ObjectQuery("chair", "7"), ObjectQuery("cup", "8", person_id="ada")]
    result = fake_pipeline.run(Frame(np.zeros((4, 4, 3), np.uint8)), queries)
    fake_pipeline.calls.clear()
    return result


@pytest.fixture
def fitted_result(fake_pipeline: FakePipeline) -> FrameResult:
    """The same with both objects fitted into the scene."""
    from ivlm_core.types import ObjectQuery

    fake_pipeline.fits = True
    queries = [ObjectQuery("chair", "7"), ObjectQuery("cup", "8", person_id="ada")]
    result = fake_pipeline.run(Frame(np.zeros((4, 4, 3), np.uint8)), queries)
    fake_pipeline.calls.clear()
    return result


class RosPeer:
    """A node of the test's own, spun in a thread: publishes, records what it hears, calls services."""

    def __init__(self, namespace: str = "") -> None:
        import rclpy
        from rclpy.executors import SingleThreadedExecutor

        self.context = rclpy.Context()
        rclpy.init(context=self.context)
        self.node = rclpy.create_node("test_peer", context=self.context, namespace=namespace)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        self._stopped = False
        self._publishers_found: dict[str, int] = {}
        self._thread = threading.Thread(target=self._spin, daemon=True)
        self._thread.start()

    def _spin(self) -> None:
        while not self._stopped:
            self.executor.spin_once(timeout_sec=0.05)

    def hear(self, message_type: type, topic: str, qos: Any = 50) -> list[Any]:
        """A list that fills with the messages of a topic."""
        heard: list[Any] = []
        self.node.create_subscription(message_type, topic, heard.append, qos)
        return heard

    def publisher(self, message_type: type, topic: str, qos: Any = 50, reader: RunningNode | None = None) -> Any:
        """A publisher that has found a subscription, and that the subscription of `reader` has found.

        Both are needed: a best-effort subscription drops what comes from a publisher it does not know yet.
        """
        publisher = self.node.create_publisher(message_type, topic, qos)
        wait_until(publisher.get_subscription_count)
        if reader is not None:
            own = [entry for entry in reader.node.subscriptions if entry.topic_name == publisher.topic_name]
            before = self._publishers_found.get(publisher.topic_name, 0)
            wait_until(lambda: own[0].get_publisher_count() > before)
            self._publishers_found[publisher.topic_name] = before + 1
        return publisher

    def call(self, service_type: type, name: str, request: Any, seconds: float = 60.0) -> Any:
        """The response of a service."""
        client = self.node.create_client(service_type, name)
        try:
            assert client.wait_for_service(seconds), f"no service {name}"
            future = client.call_async(request)
            wait_until(future.done, seconds)
            return future.result()
        finally:
            self.node.destroy_client(client)

    def state(self, node: str, seconds: float = 60.0) -> str:
        """The label of a life-cycle node's state; asked again where DDS loses the request or its response."""
        from lifecycle_msgs.srv import GetState

        asking = self.node.create_client(GetState, f"{node}/get_state")
        deadline = time.monotonic() + seconds
        try:
            assert asking.wait_for_service(seconds), f"no service {node}/get_state"
            while (answer := self._answer(asking.call_async(GetState.Request()), 5.0)) is None:
                assert time.monotonic() < deadline, f"{node} did not tell its state within {seconds} s"
            return str(answer.current_state.label)
        finally:
            self.node.destroy_client(asking)

    def change_state(self, node: str, label: str, seconds: float = 120.0) -> bool:
        """Ask a life-cycle node for a transition by its name; True when it succeeded.

        Right after discovery DDS may lose a request or its response: where none comes, the node is asked for its state.
        """
        from lifecycle_msgs.srv import ChangeState, GetState

        request = ChangeState.Request()
        request.transition.label = label
        # Older distributions look at the id alone.
        request.transition.id = {"configure": 1, "cleanup": 2, "activate": 3, "deactivate": 4}[label]
        goal = {"configure": "inactive", "cleanup": "unconfigured", "activate": "active", "deactivate": "inactive"}[
            label
        ]
        changing = self.node.create_client(ChangeState, f"{node}/change_state")
        asking = self.node.create_client(GetState, f"{node}/get_state")
        try:
            assert changing.wait_for_service(seconds), f"no service {node}/change_state"
            asked_first = self._answer(asking.call_async(GetState.Request()), 20.0)
            start = asked_first.current_state.label if asked_first else ""
            deadline = time.monotonic() + seconds
            future = changing.call_async(request)
            while (response := self._answer(future, 20.0)) is None:
                assert time.monotonic() < deadline, f"{node} did not {label} within {seconds} s"
                state = self._answer(asking.call_async(GetState.Request()), 5.0)
                if state is not None and state.current_state.label == goal:
                    return True
                if state is not None and state.current_state.label == start:
                    future = changing.call_async(request)
            return bool(response.success)
        finally:
            self.node.destroy_client(changing)
            self.node.destroy_client(asking)

    def _answer(self, future: Any, seconds: float) -> Any:
        """The future's result, or None when there is none in time."""
        deadline = time.monotonic() + seconds
        while not future.done() and time.monotonic() < deadline:
            time.sleep(0.01)
        return future.result() if future.done() else None

    def close(self) -> None:
        """Stop spinning and leave the network."""
        self._stopped = True
        self._thread.join()
        self.executor.shutdown()
        self.node.destroy_node()
        self.context.try_shutdown()


class RunningNode:
    """A `ContactNode` in this process, around a given pipeline, spun like the real executable spins it."""

    def __init__(self, pipeline: FakePipeline, namespace: str = "", **parameters: Any) -> None:
        import rclpy
        from rclpy.executors import MultiThreadedExecutor
        from rclpy.parameter import Parameter

        from ivlm_ros.contact_node import ContactNode

        self.pipeline = pipeline
        self.context = rclpy.Context()
        rclpy.init(context=self.context)
        self.node = ContactNode(
            load_pipeline=lambda values: pipeline,
            context=self.context,
            namespace=namespace,
            parameter_overrides=[Parameter(name, value=value) for name, value in parameters.items()],
        )
        self.executor = MultiThreadedExecutor(num_threads=4, context=self.context)
        self.executor.add_node(self.node)
        self._thread = threading.Thread(target=self.executor.spin, daemon=True)
        self._thread.start()
        self.counters = self.node.reporter.counters

    def start(self) -> RunningNode:
        """Configure and activate; the warm-up does not count as a call."""
        self.node.trigger_configure()
        self.node.trigger_activate()
        assert self.node.state == "active", self.node.setup_error
        self.pipeline.calls.clear()
        self.pipeline.running.clear()
        return self

    def close(self) -> None:
        """Stop as the end of the process does."""
        assert self.node.stop()
        self.executor.shutdown(timeout_sec=2.0)
        self.node.destroy_node()
        self.context.try_shutdown()
        self._thread.join()


@pytest.fixture
def run_node(fake_pipeline: FakePipeline) -> Iterator[Callable[..., RunningNode]]:
    """Makes `RunningNode`s around the fake pipeline, or another one; parameters are keywords."""
    made: list[RunningNode] = []

    def make(pipeline: Any = None, **parameters: Any) -> RunningNode:
        made.append(RunningNode(pipeline or fake_pipeline, **parameters))
        return made[-1]

    yield make
    for node in made:
        node.close()


def _image(seconds: int, size: tuple[int, int] = (64, 48), **fields: Any) -> Any:
    from array import array

    from sensor_msgs.msg import Image

    width, height = size
    message = Image(width=width, height=height, step=3 * width, encoding="rgb8")
    message.data = array("B", bytes(3 * width * height))
    message.header.frame_id = "camera_optical"
    message.header.stamp.sec, message.header.stamp.nanosec = seconds, 5
    for name, value in fields.items():
        setattr(message, name, value)
    return message


def _detections(seconds: int, *labels: str) -> Any:
    from ivlm_ros.msg import DetectedObject, DetectedObjectArray

    message = DetectedObjectArray()
    message.header.frame_id = "camera_optical"
    message.header.stamp.sec, message.header.stamp.nanosec = seconds, 5
    message.objects = [DetectedObject(id=str(index), label=label, score=0.5) for index, label in enumerate(labels)]
    return message


@pytest.fixture(scope="session")
def ros_image() -> Callable[..., Any]:
    """Makes a black rgb8 Image stamped with the given seconds, of `size` (W, H); any field may be given by keyword."""
    return _image


@pytest.fixture(scope="session")
def ros_detections() -> Callable[..., Any]:
    """Makes a DetectedObjectArray stamped with the given seconds, one object per label."""
    return _detections


@pytest.fixture
def peer() -> Iterator[RosPeer]:
    """A `RosPeer` in the root namespace."""
    made = RosPeer()
    yield made
    made.close()


@pytest.fixture(scope="module", autouse=True)
def nodes_leave_with_their_module() -> Iterator[None]:
    """Nodes that only the garbage collector ends would otherwise answer for nodes of the same name."""
    yield
    if "rclpy" in sys.modules:
        gc.collect()


@pytest.fixture(scope="module")
def module_peer() -> Iterator[RosPeer]:
    """A `RosPeer` that all tests of a module share."""
    made = RosPeer()
    yield made
    made.close()


# Reference data that some tests compare with; it lies beside the checkout and is not part of the package.
REFERENCE = Path(__file__).resolve().parent.parent.parent / "shared" / "reference"


def _reference_path(name: str) -> Path:
    path = REFERENCE / name
    if not path.exists():
        if os.environ.get("CI"):
            pytest.fail(f"{path.name} must be there where the whole test-suite runs")
        pytest.skip(f"the reference data {name} is not beside this checkout; it is not distributed with the package")
    return path


def _load_reference(name: str) -> Mapping[str, np.ndarray]:
    with np.load(_reference_path(name), allow_pickle=False) as stored:
        return dict(stored)


@pytest.fixture(scope="session")
def reference_views() -> Mapping[str, np.ndarray]:
    """PyTorch3D's own cameras and fragments of one test mesh."""
    return _load_reference("pytorch3d_views.npz")


@pytest.fixture(scope="session")
def reference() -> Mapping[str, np.ndarray]:
    """Intermediate tensors of the released model at toy size."""
    return _load_reference("tiny_a/reference.npz")


@pytest.fixture(scope="session")
def reference_components() -> Mapping[str, np.ndarray]:
    """Weights, inputs and outputs of the released model's other camera encoders."""
    return _load_reference("tiny_a/extra_components.npz")


@pytest.fixture(scope="session")
def reference_checkpoint() -> Path:
    """A released checkpoint at toy size, with its reference arrays."""
    return _reference_path("tiny_a")


class AnsweredBag:
    """Writes a bag as the node and its inputs leave it behind, without ROS; a context manager, as `BagRecorder` is.

    Every method takes the stamp in nanoseconds, which is also the time of recording; fields are given by keyword.
    """

    CAMERA = "camera_optical"

    def __init__(self, path: Path, storage: str = "mcap") -> None:
        from ivlm_core.datasets import BagRecorder
        from ivlm_ros.message_types import PlainMessages

        self.types = PlainMessages()
        self._recorder = BagRecorder(path, storage)

    def __enter__(self) -> AnsweredBag:
        self._recorder.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._recorder.__exit__(*error)

    def put(self, topic: str, kind: str, stamp: int, frame: str = CAMERA, **fields: Any) -> None:
        """Any message with a header."""
        from ivlm_core.datasets import BagTopic

        self._recorder.add_topic(BagTopic(topic, kind))
        self._recorder.write(topic, self.types.make(kind, header=self.header(stamp, frame), **fields), stamp)

    def declare(self, topic: str, kind: str) -> None:
        """A topic without messages."""
        from ivlm_core.datasets import BagTopic

        self._recorder.add_topic(BagTopic(topic, kind))

    def raw(self, topic: str, kind: str, stamp: int, data: bytes) -> None:
        """A message that is serialised already, or none at all."""
        self.declare(topic, kind)
        self._recorder.write_serialized(topic, data, stamp)

    def header(self, stamp: int, frame: str = CAMERA) -> Any:
        time = self.types.make("builtin_interfaces/msg/Time", sec=stamp // 10**9, nanosec=stamp % 10**9)
        return self.types.make("std_msgs/msg/Header", stamp=time, frame_id=frame)

    def picture(self, stamp: int, pixels: np.ndarray, topic: str = "/camera/image_raw", **fields: Any) -> None:
        """(H, W, 3) uint8 RGB."""
        height, width = pixels.shape[:2]
        given = {"encoding": "rgb8", "step": 3 * width, "data": pixels.reshape(-1), **fields}
        self.put(topic, "sensor_msgs/msg/Image", stamp, height=height, width=width, **given)

    def camera(self, stamp: int, focal: float, width: int, height: int) -> None:
        k = np.array([focal, 0, (width - 1) / 2, 0, focal, (height - 1) / 2, 0, 0, 1.0])
        self.put("/camera/camera_info", "sensor_msgs/msg/CameraInfo", stamp, k=k, width=width, height=height)

    def detections(self, stamp: int, **boxes: tuple[float, float, float, float]) -> None:
        """Label → box; the label is the identifier, too."""
        objects = [
            self.types.make(
                "ivlm_ros/msg/DetectedObject",
                id=label,
                label=label,
                score=1.0,
                **dict(zip(BOX_SIDES, box, strict=True)),
            )
            for label, box in boxes.items()
        ]
        self.put("/detections", "ivlm_ros/msg/DetectedObjectArray", stamp, objects=objects)

    def body(self, stamp: int, vertices: np.ndarray, person_id: str = "") -> None:
        """(V, 3) vertices of Anny, metres, in the optical frame."""
        person = self.types.make(
            "ivlm_ros/msg/HumanBody",
            body_model="anny",
            score=1.0,
            person_id=person_id,
            vertices=np.asarray(vertices, np.float32).ravel(),
        )
        self.put("/bodies", "ivlm_ros/msg/HumanBodyArray", stamp, bodies=[person])

    def contact(self, label: str, touched: Any = (), **fields: Any) -> Any:
        """A HumanContact on Anny with probability 0.9 on the vertices `touched`."""
        from ivlm_core.bodies import load_body

        mesh = load_body().mesh
        return self._item(mesh, "HumanContact", label, touched, body_model="anny", values="probabilities", **fields)

    def affordance(self, label: str, touched: Any = (), mesh: Mesh | None = None, **fields: Any) -> Any:
        """An ObjectAffordance on the library's mesh of the label, or another."""
        from ivlm_core.objects import library_mesh

        mesh = mesh if mesh is not None else library_mesh(label)
        return self._item(mesh, "ObjectAffordance", label, touched, mesh_source="library", values="values", **fields)

    def _item(self, mesh: Mesh, kind: str, label: str, touched: Any, values: str, **fields: Any) -> Any:
        indices = np.asarray(touched, dtype=np.uint32)
        known = {
            "object_label": label,
            "object_id": label,
            "vertex_count": len(mesh.vertices),
            "topology_hash": mesh.topology_hash,
            "vertex_indices": indices,
            values: np.full(len(indices), 0.9, np.float32),
            "threshold": 0.5,
            "confidence": 0.75,
        }
        return self.types.make(f"ivlm_ros/msg/{kind}", **{**known, **fields})

    def answer(
        self, stamp: int, contacts: Any, affordances: Any = None, below: str = "/ivlm_contact", **fields: Any
    ) -> None:
        """The two arrays of one image; None leaves one out."""
        frame = fields.pop("frame", self.CAMERA)
        if contacts is not None:
            kind = "ivlm_ros/msg/HumanContactArray"
            self.put(f"{below}/human_contacts", kind, stamp, frame, contacts=list(contacts), **fields)
        if affordances is not None:
            kind = "ivlm_ros/msg/ObjectAffordanceArray"
            self.put(f"{below}/object_affordances", kind, stamp, frame, affordances=list(affordances), **fields)


BOX_SIDES = ("x_min", "y_min", "x_max", "y_max")


@pytest.fixture(scope="session")
def answered_bag() -> type[AnsweredBag]:
    """Writes bags with images and answers."""
    return AnsweredBag
