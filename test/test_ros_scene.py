"""A generated scene through the node over DDS: its picture, detection, depth and people in, the object's pose out."""

from __future__ import annotations

import threading
from array import array
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy")
pytest.importorskip("ivlm_ros.msg")

from diagnostic_msgs.msg import DiagnosticArray
from ivlm_ros.msg import (
    DetectedObject,
    DetectedObjectArray,
    HumanBody,
    HumanBodyArray,
    HumanContactArray,
    ObjectAffordance,
    ObjectAffordanceArray,
)
from ivlm_ros.srv import EstimateContact
from scipy.spatial.transform import Rotation
from sensor_msgs.msg import CameraInfo, Image, PointCloud2
from std_msgs.msg import Header
from visualization_msgs.msg import Marker, MarkerArray

from ivlm_core.datasets.synthetic import SAMPLE, SceneCamera, SceneRecord, SynthHoi
from ivlm_core.evaluate.bodies import noisy_depth, noisy_keypoints, true_body
from ivlm_core.objects import library_shape
from ivlm_ros.contact_node import _load_pipeline
from ivlm_ros.parameters import NodeParameters

FRAME = "camera_optical"
INPUTS = {
    "camera_info": CameraInfo,
    "bodies": HumanBodyArray,
    "depth": Image,
    "detections": DetectedObjectArray,
    "image": Image,
}
PARAMETERS = {
    "reconstruct": True,
    "use_bodies": True,
    "use_depth": True,
    "tracking": False,
    "contact_points": True,
    "contact_threshold": 0.25,
}


class RealPipeline:
    """The pipeline that the node loads itself, with what the tests' own node writes down."""

    def __init__(self, cache: Path) -> None:
        self._pipeline = _load_pipeline(NodeParameters(cache_dir=str(cache), threads=1, **PARAMETERS))
        self.profile = self._pipeline.profile
        self.calls: list[Any] = []
        self.running = threading.Event()

    def forget(self) -> None:
        self._pipeline.forget()

    def run(self, frame: Any, queries: Any, follow: bool = True) -> Any:
        return self._pipeline.run(frame, queries, follow)


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> RealPipeline:
    return RealPipeline(tmp_path_factory.mktemp("cache"))


@dataclass
class Scene:
    """What is told about one generated scene, as messages of which any may be changed before they are sent."""

    record: SceneRecord
    messages: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, number: int) -> Scene:
        record = SynthHoi(SAMPLE, "test")[number]
        rng = np.random.default_rng(0)
        height, width = record.image.shape[:2]
        camera = record.intrinsics
        picture = Image(height=height, width=width, step=3 * width, encoding="rgb8")
        picture.data = array("B", record.image.tobytes())
        # As a depth camera gives it, with noise and holes.
        metres = noisy_depth(record, rng)
        depth = Image(height=height, width=width, step=4 * width, encoding="32FC1")
        depth.data = array("B", metres.tobytes())
        _, landmarks, _ = true_body(record)
        joints = noisy_keypoints(record, landmarks, rng)
        table = np.concatenate([joints.points, joints.scores[:, None]], axis=1)
        mask = Image(height=height, width=width, step=width, encoding="mono8")
        mask.data = array("B", (255 * record.object_mask(0)).astype(np.uint8).tobytes())
        x_min, y_min, x_max, y_max = record.objects[0].box
        thing = DetectedObject(id="7", label=record.objects[0].label, score=0.9, mask=mask)
        thing.x_min, thing.y_min, thing.x_max, thing.y_max = float(x_min), float(y_min), float(x_max), float(y_max)
        return cls(
            record,
            {
                "camera_info": CameraInfo(
                    width=width, height=height, k=[camera.fx, 0.0, camera.cx, 0.0, camera.fy, camera.cy, 0.0, 0.0, 1.0]
                ),
                "bodies": HumanBodyArray(bodies=[HumanBody(person_id="ada", keypoints=array("f", table.ravel()))]),
                "depth": depth,
                "detections": DetectedObjectArray(objects=[thing]),
                "image": picture,
            },
        )

    @property
    def thing(self) -> DetectedObject:
        return self.messages["detections"].objects[0]

    @property
    def person(self) -> HumanBody:
        return self.messages["bodies"].bodies[0]

    def pose_person(self, turn: float = 1.0) -> None:
        """The true body in place of keypoints; with `turn` −1 behind the camera."""
        _, _, vertices = true_body(self.record)
        placed = (vertices * [1.0, 1.0, turn]).astype(np.float32)
        person = HumanBody(person_id="ada", body_model="anny", score=1.0, vertices=array("f", placed.ravel()))
        self.messages["bodies"].bodies = [person]

    def stamped(self, seconds: int) -> dict[str, Any]:
        for message in self.messages.values():
            message.header = Header(frame_id=FRAME)
            message.header.stamp.sec = seconds
        return self.messages

    def middle(self) -> np.ndarray:
        """(3,) the middle of the object's vertices, metres, optical frame."""
        record, thing = self.record, self.record.objects[0]
        camera = SceneCamera(
            record.intrinsics, record.camera_rotation.astype(np.float64), record.camera_position.astype(np.float64)
        )
        vertices = library_shape(thing.label, **thing.sizes).mesh.vertices
        world = vertices.astype(np.float64) @ thing.rotation.T + thing.translation
        corners = camera.to_optical(world)
        return 0.5 * (corners.min(axis=0) + corners.max(axis=0))


class Stage:
    """A node with the real model, a camera beside it, and everything that it says."""

    def __init__(self, running: Any, peer: Any, wait_until: Callable[..., Any]) -> None:
        self.running, self.peer, self._wait_until = running, peer, wait_until
        self.humans = peer.hear(HumanContactArray, "ivlm_contact/human_contacts")
        self.objects = peer.hear(ObjectAffordanceArray, "ivlm_contact/object_affordances")
        self.markers = peer.hear(MarkerArray, "ivlm_contact/markers")
        self.points = peer.hear(PointCloud2, "ivlm_contact/contact_points")
        self.reports = peer.hear(DiagnosticArray, "/diagnostics")
        outputs = running.node._outputs
        for publisher in (outputs._human, outputs._object, outputs._markers, outputs._points):
            wait_until(publisher.get_subscription_count)
        self._publishers = {name: peer.publisher(kind, name, reader=running) for name, kind in INPUTS.items()}
        self._seconds = 0

    def show(self, scene: Scene) -> ObjectAffordanceArray:
        """The answer to one frame of a scene."""
        self._seconds += 1
        for name, message in scene.stamped(self._seconds).items():
            self._publishers[name].publish(message)
            if name == "camera_info":
                self._wait_until(self._has_camera)
        return self.heard(self.objects)

    def _has_camera(self) -> bool:
        info = self.running.node._inputs._camera_info.get("camera_info")
        return info is not None and info.header.stamp.sec == self._seconds

    def heard(self, messages: list[Any]) -> Any:
        """The last frame's message of one topic."""
        return self._wait_until(
            lambda: [message for message in messages if message.header.stamp.sec == self._seconds], 120
        )[0]


@pytest.fixture
def scene() -> Scene:
    return Scene.of(2)


@pytest.fixture
def stage(run_node: Any, peer: Any, wait_until: Any, pipeline: RealPipeline) -> Stage:
    return Stage(run_node(pipeline, **PARAMETERS).start(), peer, wait_until)


def middle_of(found: ObjectAffordance, vertices: np.ndarray) -> np.ndarray:
    turn, place = found.pose.orientation, found.pose.position
    turned = Rotation.from_quat([turn.x, turn.y, turn.z, turn.w]).apply(found.scale * vertices)
    corners = turned + np.array([place.x, place.y, place.z])
    return 0.5 * (corners.min(axis=0) + corners.max(axis=0))


def test_a_scene_comes_out_where_it_is(stage: Stage, scene: Scene, wait_until: Any) -> None:
    from ivlm_core.objects import load_mesh

    answer = stage.show(scene)
    (found,) = answer.affordances
    assert found.pose_valid, found.pose_reason
    assert answer.header.frame_id == found.header.frame_id == FRAME
    assert (found.object_id, found.person_id, found.pose_reason, found.pose_state) == ("7", "ada", "", "cold")
    mesh = load_mesh(Path(found.mesh_resource.removeprefix("file://")))
    assert mesh.topology_hash == found.topology_hash
    assert np.linalg.norm(middle_of(found, mesh.vertices) - scene.middle()) < 0.2
    assert 0.5 < found.scale < 2.0
    residuals = dict(zip(found.residual_names, found.residuals, strict=True))
    assert residuals["mask_iou"] > 0.5
    assert residuals["depth_cm"] < 20.0
    # The service answers the same question alike; its body goes on from the last frame's.
    sent = scene.messages
    request = EstimateContact.Request(
        image=sent["image"],
        objects=sent["detections"].objects,
        camera_info=sent["camera_info"],
        bodies=sent["bodies"].bodies,
        depth=sent["depth"],
    )
    response = stage.peer.call(EstimateContact, "ivlm_contact/estimate_contact", request)
    assert response.success, response.message
    (again,) = response.object_affordances.affordances
    assert (again.header, again.object_id, again.pose_valid) == (found.header, "7", True)
    assert np.linalg.norm(middle_of(again, mesh.vertices) - middle_of(found, mesh.vertices)) < 0.1
    # What the viewer and the planner get is the same scene.
    drawn = wait_until(lambda: [array for array in stage.markers if len(array.markers) > 1])[-1].markers
    assert {marker.header.frame_id for marker in drawn} == {FRAME}
    shown = {marker.ns: marker for marker in drawn}
    thing = shown["scene_object"]
    assert (thing.type, thing.mesh_resource) == (Marker.MESH_RESOURCE, found.mesh_resource)
    assert thing.pose == found.pose
    assert thing.scale.x == pytest.approx(found.scale)
    body = np.array([[point.x, point.y, point.z] for point in shown["scene_body"].points])
    _, _, person = true_body(scene.record)
    assert np.linalg.norm(body.mean(axis=0) - person.mean(axis=0)) < 0.3
    cloud = stage.heard(stage.points)
    assert cloud.header == answer.header
    (human,) = stage.heard(stage.humans).contacts
    assert cloud.width == len(human.vertex_indices) + len(found.vertex_indices) > 0


def nan(scene: Scene) -> None:
    scene.messages["camera_info"].k[2] = float("nan")


def zero(scene: Scene) -> None:
    scene.messages["camera_info"].k = [0.0] * 9


def other_camera(scene: Scene) -> None:
    scene.messages["camera_info"].width = 640


def empty_mask(scene: Scene) -> None:
    scene.thing.mask.data = array("B", bytes(256 * 192))


def holes(scene: Scene) -> None:
    scene.messages["depth"].data = array("B", np.full((192, 256), np.nan, np.float32).tobytes())
    scene.messages["bodies"].bodies = []


def no_keypoints_to_speak_of(scene: Scene) -> None:
    scene.person.keypoints = array("f", [0.0] * 51)
    holes_only = np.zeros((192, 256), np.float32)
    scene.messages["depth"].data = array("B", holes_only.tobytes())


def broken_keypoints(scene: Scene) -> None:
    scene.person.keypoints = array("f", [float("nan")] * 51)
    scene.messages["depth"].data = array("B", bytes(4 * 192 * 256))


BAD: dict[str, tuple[Callable[[Scene], None], str]] = {
    "intrinsics of NaN": (nan, "camera_info.k: is fx="),
    "intrinsics of zero": (zero, "camera_info.k: says that the camera is not calibrated"),
    "intrinsics of another camera": (other_camera, "camera_info.width: it is for (640, 192) px"),
    "mask is empty": (empty_mask, "object.mask: is empty"),
    "body behind the camera": (lambda scene: scene.pose_person(-1.0), "the body is behind the camera"),
    "nobody, and depth of nothing but holes": (holes, "how far away the object is cannot be known"),
    "no joint was found": (no_keypoints_to_speak_of, "keypoints"),
    "keypoints of NaN": (broken_keypoints, "body.keypoints"),
}


def test_bad_input_gives_a_reason_and_the_node_lives(stage: Stage, scene: Scene, wait_until: Any) -> None:
    """All cases go into one node, one after the other, each between what is good."""
    for name, (spoil, words) in BAD.items():
        spoiled = Scene.of(2)
        spoil(spoiled)
        (found,) = stage.show(spoiled).affordances
        assert not found.pose_valid, name
        assert words in found.pose_reason, name
        place, turn = found.pose.position, found.pose.orientation
        assert (place.x, place.y, place.z, turn.w, found.scale) == (0.0, 0.0, 0.0, 1.0, 1.0), name
        assert found.free_regions == [], name
        assert len(stage.heard(stage.humans).contacts) == 1, "contact does not need a scene"
    (found,) = stage.show(scene).affordances
    assert found.pose_valid, found.pose_reason
    counters = stage.running.counters
    wait_until(lambda: counters.get("poses", "cold") == 1)
    assert counters.total("frames_failed") == 0
    assert counters.total("no_pose") == len(BAD)


def test_posed_bodies_and_an_object_without_a_mask(stage: Stage, scene: Scene) -> None:
    scene.pose_person()
    scene.thing.mask = Image()
    (found,) = stage.show(scene).affordances
    assert found.person_id == "ada"
    assert found.pose_valid or "silhouette" in found.pose_reason
    if found.pose_valid:
        assert abs(found.pose.position.z - scene.middle()[2]) < 1.0
