"""The demo recording: generated scenes and one real photograph as a rosbag2 file of images, cameras and detections."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ivlm_core.datasets.bags import BagRecorder, BagTopic, message_store
from ivlm_core.datasets.synthetic.camera import DEFAULT_INTRINSICS, SceneCamera
from ivlm_core.datasets.synthetic.demo_programs import PROGRAMS
from ivlm_core.datasets.synthetic.renderer import SceneRenderer
from ivlm_core.errors import ConfigError
from ivlm_core.types import ByteArray, CameraIntrinsics

IMAGE = BagTopic("/camera/image_raw", "sensor_msgs/msg/Image")
CAMERA_INFO = BagTopic("/camera/camera_info", "sensor_msgs/msg/CameraInfo")
DETECTIONS = BagTopic("/detections", "ivlm_ros/msg/DetectedObjectArray")

RATE = 10.0
# A fixed date, so that the same seed gives the same bag.
FIRST_STAMP_NS = 1_700_000_000 * 10**9
PAUSE_NS = 10**9
PHOTO_FRAMES = 5
MAX_FRAMES = 10_000

# Program → the frame that its camera publishes in.
CAMERA_FRAMES = {"hold bottle at table": "standing_camera", "sit with laptop": "sitting_camera"}
PHOTO_FRAME = "photo_camera"


@dataclass(frozen=True, eq=False)
class RecordedFrame:
    """One image of a recording with what a detector would say about it.

    Attributes
    ----------
    image : (H, W, 3) uint8 RGB.
    boxes : (identifier, label, x_min, y_min, x_max, y_max) per object, pixels.
    """

    image: ByteArray
    intrinsics: CameraIntrinsics
    frame_id: str
    stamp_ns: int
    boxes: Sequence[tuple[str, str, float, float, float, float]]


def write_demo_bag(
    path: Path,
    frames: int = 20,
    seed: int = 0,
    photo: bool = True,
    storage: str = "mcap",
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Write the demo recording: two generated scenes with a circling camera, then a real photograph.

    The recordings follow each other with a second's pause and differ in their camera's frame (`standing_camera`,
    `sitting_camera`, `photo_camera`). The same arguments give the same messages.

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
    total = frames * len(PROGRAMS) + (PHOTO_FRAMES if photo else 0)
    recordings: dict[str, int] = {}
    topics = (IMAGE, CAMERA_INFO, DETECTIONS)
    with BagRecorder(path, storage) as recorder:
        for topic in topics:
            recorder.add_topic(topic)
        for done, frame in enumerate(demo_frames(frames, seed, photo), start=1):
            write_frame(recorder, frame)
            recordings[frame.frame_id] = recordings.get(frame.frame_id, 0) + 1
            if progress is not None:
                progress(done, total)
    return {"frames": total, "recordings": recordings, "topics": {topic.name: topic.type for topic in topics}}


def demo_frames(frames: int, seed: int, photo: bool) -> Iterator[RecordedFrame]:
    """The images of the demo recording in their order, each rendered when it is asked for."""
    stamp = FIRST_STAMP_NS
    step = round(1e9 / RATE)
    for number, name in enumerate(PROGRAMS):
        for frame in generated_frames(name, frames, np.random.default_rng([seed, number]), stamp):
            yield frame
            stamp = frame.stamp_ns + step
        stamp += PAUSE_NS
    if photo:
        for _ in range(PHOTO_FRAMES):
            yield photo_frame(stamp)
            stamp += step


def generated_frames(name: str, frames: int, rng: np.random.Generator, first_stamp: int) -> Iterator[RecordedFrame]:
    """A camera circling through 80° around the scene that the program `name` makes."""
    scene = PROGRAMS[name](rng)
    renderer = SceneRenderer(scene)
    middle, elevation, distance = rng.uniform(-20, 20), rng.uniform(6, 16), rng.uniform(2.2, 2.6)
    target = scene.focus
    for index, azimuth in enumerate(middle + np.linspace(-40, 40, frames)):
        render = renderer.render(SceneCamera.orbit(target, distance, azimuth, elevation), rng)
        boxes = []
        for number, placed in enumerate(scene.objects):
            box = render.box(scene.object_id(number))
            if box is not None:
                boxes.append((f"{placed.label}_{number}", placed.label, *box))
        stamp = first_stamp + index * round(1e9 / RATE)
        yield RecordedFrame(render.image, DEFAULT_INTRINSICS, CAMERA_FRAMES[name], stamp, boxes)


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
    """Write a frame's image, camera and detections, all with the image's stamp and frame."""
    header = _header(frame)
    recorder.write(CAMERA_INFO.name, _camera_info(header, frame.intrinsics), frame.stamp_ns)
    recorder.write(IMAGE.name, _image(header, frame.image), frame.stamp_ns)
    recorder.write(DETECTIONS.name, _detections(header, frame), frame.stamp_ns)


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
