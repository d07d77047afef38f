"""The demo recording: generated scenes with their true contacts, and one real photograph, as a rosbag2 file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ivlm_core.bodies import load_body
from ivlm_core.datasets.bags import (
    CONTACT_TYPES,
    GROUND_TRUTH,
    HUMAN_CONTACTS,
    OBJECT_AFFORDANCES,
    BagRecorder,
    BagTopic,
    message_store,
)
from ivlm_core.datasets.synthetic.camera import DEFAULT_INTRINSICS, SceneCamera, front
from ivlm_core.datasets.synthetic.contact import touches
from ivlm_core.datasets.synthetic.generate import composed, on_library
from ivlm_core.datasets.synthetic.renderer import SceneRenderer
from ivlm_core.datasets.synthetic.scene import Scene
from ivlm_core.datasets.synthetic.split import scene_rng
from ivlm_core.datasets.synthetic.surroundings import Surroundings
from ivlm_core.errors import ConfigError
from ivlm_core.objects import library_shape
from ivlm_core.types import ByteArray, CameraIntrinsics, FloatArray, Mesh

IMAGE = BagTopic("/camera/image_raw", "sensor_msgs/msg/Image")
CAMERA_INFO = BagTopic("/camera/camera_info", "sensor_msgs/msg/CameraInfo")
DETECTIONS = BagTopic("/detections", "ivlm_ros/msg/DetectedObjectArray")
TRUE_HUMAN_CONTACTS, TRUE_OBJECT_AFFORDANCES = (
    BagTopic(f"{GROUND_TRUTH}/{name}", CONTACT_TYPES[name]) for name in (HUMAN_CONTACTS, OBJECT_AFFORDANCES)
)
TOPICS = (IMAGE, CAMERA_INFO, DETECTIONS, TRUE_HUMAN_CONTACTS, TRUE_OBJECT_AFFORDANCES)

RATE = 10.0
# A fixed date, so that the same seed gives the same bag.
FIRST_STAMP_NS = 1_700_000_000 * 10**9
PAUSE_NS = 10**9
PHOTO_FRAMES = 5
MAX_FRAMES = 10_000

# The frames that the cameras publish in: one per generated scene, and the photograph's.
SCENE_FRAMES = ("standing_camera", "sitting_camera", "riding_camera")
PHOTO_FRAME = "photo_camera"
BODY = "anny"
# Degrees that a camera goes to each side of the middle of its way, and how much of the picture people and things fill.
HALF_WAY = 40.0
FILL = 0.92


# What both arrays say besides: nothing was left unanswered, and no model was asked.
_ALL_KNOWN: Mapping[str, Any] = MappingProxyType(
    {
        "unanswered_object_ids": [],
        "unanswered_object_labels": [],
        "unanswered_reasons": [],
        "model": "ground truth",
    }
)


@dataclass(frozen=True, eq=False)
class TrueContact:
    """Where one object is touched.

    Attributes
    ----------
    body : (V,) bool on the vertices of the body model `BODY`.
    thing : (N,) float32 in [0, 1] on the vertices of `mesh`, the library's of the object's label.
    """

    body: NDArray[np.bool_]
    thing: FloatArray
    mesh: Mesh


@dataclass(frozen=True, eq=False)
class RecordedFrame:
    """One image of a recording with what a detector would say about it.

    Attributes
    ----------
    image : (H, W, 3) uint8 RGB.
    boxes : (identifier, label, x_min, y_min, x_max, y_max) per object, pixels.
    truth : the contact of each of these objects; None where it is not known.
    """

    image: ByteArray
    intrinsics: CameraIntrinsics
    frame_id: str
    stamp_ns: int
    boxes: Sequence[tuple[str, str, float, float, float, float]]
    truth: Sequence[TrueContact] | None = None


def write_demo_bag(
    path: Path,
    frames: int = 20,
    seed: int = 0,
    photo: bool = True,
    storage: str = "mcap",
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Write the demo recording: three generated scenes with a circling camera, then a real photograph.

    The recordings follow each other with a second's pause and differ in their camera's frame (`SCENE_FRAMES`,
    `PHOTO_FRAME`). The scenes are of the test split, so that nothing was trained on them, and their true contacts lie
    beside the images (`TRUE_HUMAN_CONTACTS`, `TRUE_OBJECT_AFFORDANCES`). The same arguments give the same messages.

    Parameters
    ----------
    path : the bag's folder; an older bag there is replaced.
    frames : images per generated scene, at 10 Hz.
    seed : chooses people, clothes, poses, objects and cameras.
    photo : add five frames of a photograph.
    storage : `mcap` or `sqlite3`.
    progress : called after each image with the number written and the number in all.

    Returns
    -------
    `frames`: the number of images; `recordings`: frame of the camera → its number of images; `topics`: name → type.

    Raises
    ------
    ConfigError : `frames` out of range, an unknown storage, or `path` is something else than a bag.
    """
    if not 1 <= frames <= MAX_FRAMES:
        raise ConfigError("frames", f"is {frames}", f"give 1 to {MAX_FRAMES}")
    total = frames * len(SCENE_FRAMES) + (PHOTO_FRAMES if photo else 0)
    recordings: dict[str, int] = {}
    with BagRecorder(path, storage) as recorder:
        for topic in TOPICS:
            recorder.add_topic(topic)
        for done, frame in enumerate(demo_frames(frames, seed, photo), start=1):
            write_frame(recorder, frame)
            recordings[frame.frame_id] = recordings.get(frame.frame_id, 0) + 1
            if progress is not None:
                progress(done, total)
    return {"frames": total, "recordings": recordings, "topics": {topic.name: topic.type for topic in TOPICS}}


def demo_frames(frames: int, seed: int, photo: bool) -> Iterator[RecordedFrame]:
    """The images of the demo recording in their order, each rendered when it is asked for."""
    stamp = FIRST_STAMP_NS
    step = round(1e9 / RATE)
    for number, frame_id in enumerate(SCENE_FRAMES):
        rng = scene_rng(seed, "test", number)
        for frame in generated_frames(frame_id, demo_scene(frame_id, rng), frames, rng, stamp):
            yield frame
            stamp = frame.stamp_ns + step
        stamp += PAUSE_NS
    if photo:
        for _ in range(PHOTO_FRAMES):
            yield photo_frame(stamp)
            stamp += step


def demo_scene(frame_id: str, rng: np.random.Generator) -> Scene:
    """What the camera of a frame of `SCENE_FRAMES` sees; which hand does what, people and things are drawn."""
    one, other = rng.permutation(["left", "right"])
    choices: dict[str, dict[str, Any]] = {
        "standing_camera": {
            "category": "bottle",
            "mode": f"{one} hand",
            "ground": "stand",
            "second": ("handbag", f"{other} hand"),
        },
        "sitting_camera": {"category": "laptop", "mode": "lap, both hands", "ground": "chair"},
        "riding_camera": {"category": "bicycle", "mode": "ride, both hands"},
    }
    return composed(rng, "test", **choices[frame_id])


def generated_frames(
    frame_id: str, scene: Scene, frames: int, rng: np.random.Generator, first_stamp: int
) -> Iterator[RecordedFrame]:
    """A camera that circles through 80° about the person's front and keeps all of the scene in the picture."""
    renderer = SceneRenderer(scene, Surroundings.draw(rng))
    truth = _truth(scene)
    forward, _ = front(scene, rng)
    middle = np.degrees(np.arctan2(forward[0], forward[2])) + rng.uniform(-20, 20)
    elevation = rng.uniform(6, 16)
    way = middle + np.linspace(-HALF_WAY, HALF_WAY, frames)
    distance = _distance(scene, way, elevation)
    for index, azimuth in enumerate(way):
        render = renderer.render(SceneCamera.orbit(scene.focus, distance, azimuth, elevation), rng)
        boxes, known = [], []
        for number, placed in enumerate(scene.objects):
            box = render.box(scene.object_id(number))
            if box is not None:
                boxes.append((f"{placed.label}_{number}", placed.label, *box))
                known.append(truth[number])
        stamp = first_stamp + index * round(1e9 / RATE)
        yield RecordedFrame(render.image, DEFAULT_INTRINSICS, frame_id, stamp, boxes, known)


def _truth(scene: Scene) -> list[TrueContact]:
    """The contact of every object of the scene."""
    return [
        TrueContact(touch.body, on_library(placed, touch.object), library_shape(placed.label).mesh)
        for placed, touch in zip(scene.objects, touches(scene), strict=True)
    ]


def _distance(scene: Scene, azimuths: NDArray[np.float64], elevation: float) -> float:
    """Metres from the scene's middle from which all of it is in the picture all along the way."""
    points = np.concatenate([scene.body_vertices[::29], *(placed.vertices[::5] for placed in scene.objects)])
    half = np.array([DEFAULT_INTRINSICS.width, DEFAULT_INTRINSICS.height]) / 2
    focal = np.array([DEFAULT_INTRINSICS.fx, DEFAULT_INTRINSICS.fy])
    needed = 0.0
    for azimuth in azimuths:
        # A point at (x, y) beside the optical axis and z beyond the middle is in it from d ≥ |x|·f / half − z.
        optical = SceneCamera.orbit(scene.focus, 1.0, azimuth, elevation).to_optical(points) - [0, 0, 1]
        beside = (np.abs(optical[:, :2]) * focal / (FILL * half)).max(axis=1)
        needed = max(needed, float((beside - optical[:, 2]).max()))
    return needed


def photo_frame(stamp_ns: int) -> RecordedFrame:
    """NASA's public-domain portrait of Eileen Collins, which scikit-image ships, cut to 640×480.

    Its camera is unknown; the focal length is a portrait lens's, guessed.
    """
    from PIL import Image
    from skimage.data import astronaut

    whole = Image.fromarray(astronaut()).resize((640, 640), Image.Resampling.LANCZOS)
    image = np.asarray(whole.crop((0, 0, 640, 480)))
    intrinsics = CameraIntrinsics(fx=1100.0, fy=1100.0, cx=319.5, cy=239.5, width=640, height=480)
    return RecordedFrame(image, intrinsics, PHOTO_FRAME, stamp_ns, [("suit", "space suit", 34.0, 180.0, 470.0, 479.5)])


def write_frame(recorder: BagRecorder, frame: RecordedFrame) -> None:
    """Write a frame's image, camera, detections and known contacts, all with the image's stamp and frame."""
    header = _header(frame)
    recorder.write(CAMERA_INFO.name, _camera_info(header, frame.intrinsics), frame.stamp_ns)
    recorder.write(IMAGE.name, _image(header, frame.image), frame.stamp_ns)
    recorder.write(DETECTIONS.name, _detections(header, frame), frame.stamp_ns)
    if frame.truth is not None:
        recorder.write(TRUE_HUMAN_CONTACTS.name, _human_contacts(header, frame, frame.truth), frame.stamp_ns)
        recorder.write(TRUE_OBJECT_AFFORDANCES.name, _object_affordances(header, frame, frame.truth), frame.stamp_ns)


def _header(frame: RecordedFrame) -> Any:
    types = message_store().types
    stamp = types["builtin_interfaces/msg/Time"](sec=frame.stamp_ns // 10**9, nanosec=frame.stamp_ns % 10**9)
    return types["std_msgs/msg/Header"](stamp=stamp, frame_id=frame.frame_id)


def _image(header: Any, image: ByteArray, encoding: str = "rgb8") -> Any:
    height, width = image.shape[:2]
    return message_store().types[IMAGE.type](
        header=header,
        height=height,
        width=width,
        encoding=encoding,
        is_bigendian=0,
        step=image.size // max(height, 1),
        data=np.ascontiguousarray(image).reshape(-1),
    )


def _camera_info(header: Any, camera: CameraIntrinsics) -> Any:
    types = message_store().types
    k = [camera.fx, 0.0, camera.cx, 0.0, camera.fy, camera.cy, 0.0, 0.0, 1.0]
    p = [camera.fx, 0.0, camera.cx, 0.0, 0.0, camera.fy, camera.cy, 0.0, 0.0, 0.0, 1.0, 0.0]
    region = types["sensor_msgs/msg/RegionOfInterest"](x_offset=0, y_offset=0, height=0, width=0, do_rectify=False)
    return types[CAMERA_INFO.type](
        header=header,
        height=camera.height,
        width=camera.width,
        distortion_model="plumb_bob",
        d=np.zeros(5),
        k=np.array(k),
        r=np.eye(3).ravel(),
        p=np.array(p),
        binning_x=0,
        binning_y=0,
        roi=region,
    )


def _detections(header: Any, frame: RecordedFrame) -> Any:
    types = message_store().types
    nothing = _image(header, np.zeros((0, 0), dtype=np.uint8), encoding="")
    objects = [
        types["ivlm_ros/msg/DetectedObject"](
            id=identifier,
            label=label,
            score=1.0,
            person_id="",
            x_min=x_min,
            y_min=y_min,
            x_max=x_max,
            y_max=y_max,
            mask=nothing,
        )
        for identifier, label, x_min, y_min, x_max, y_max in frame.boxes
    ]
    return types[DETECTIONS.type](header=header, objects=objects)


def _human_contacts(header: Any, frame: RecordedFrame, truth: Sequence[TrueContact]) -> Any:
    types = message_store().types
    body = load_body(BODY)
    contacts = []
    for (identifier, label, *_), known in zip(frame.boxes, truth, strict=True):
        parts = sorted(body.part_scores(known.body.astype(np.float32)).items(), key=lambda part: -part[1])
        indices = np.flatnonzero(known.body)
        contacts.append(
            types["ivlm_ros/msg/HumanContact"](
                header=header,
                object_id=identifier,
                object_label=label,
                person_id="",
                body_model=BODY,
                vertex_count=len(known.body),
                topology_hash=body.mesh.topology_hash,
                vertex_indices=indices.astype(np.uint32),
                probabilities=np.ones(len(indices), np.float32),
                threshold=0.5,
                body_parts=[name for name, _ in parts],
                body_part_scores=np.array([score for _, score in parts], np.float32),
                answer="",
                confidence=1.0,
            )
        )
    return types[TRUE_HUMAN_CONTACTS.type](header=header, contacts=contacts, **_ALL_KNOWN)


def _object_affordances(header: Any, frame: RecordedFrame, truth: Sequence[TrueContact]) -> Any:
    types = message_store().types
    nowhere = types["geometry_msgs/msg/Point"](x=0.0, y=0.0, z=0.0)
    pose = types["geometry_msgs/msg/Pose"](
        position=nowhere,
        orientation=types["geometry_msgs/msg/Quaternion"](x=0.0, y=0.0, z=0.0, w=1.0),
    )
    affordances = []
    for (identifier, label, *_), known in zip(frame.boxes, truth, strict=True):
        indices = np.flatnonzero(known.thing)
        affordances.append(
            types["ivlm_ros/msg/ObjectAffordance"](
                header=header,
                object_id=identifier,
                object_label=label,
                person_id="",
                affordance="",
                mesh_resource="",
                mesh_source="library",
                vertex_count=len(known.thing),
                topology_hash=known.mesh.topology_hash,
                vertex_indices=indices.astype(np.uint32),
                values=known.thing[indices],
                threshold=0.5,
                answer="",
                confidence=1.0,
                pose=pose,
                scale=1.0,
                # The library's mesh has other sizes than the thing in the scene.
                pose_valid=False,
                pose_reason="",
                pose_notes=[],
                pose_state="",
                residual_names=[],
                residuals=np.zeros(0, np.float32),
                contact_valid=False,
                contact_centroid=nowhere,
                contact_area_cm2=0.0,
                contact_normal=types["geometry_msgs/msg/Vector3"](x=0.0, y=0.0, z=0.0),
                free_regions=[],
            )
        )
    return types[TRUE_OBJECT_AFFORDANCES.type](header=header, affordances=affordances, **_ALL_KNOWN)
