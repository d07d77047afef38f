"""Every parameter of the node in one table: default, meaning, range, and when it may change."""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult
from rclpy.parameter import Parameter

from ivlm_core.config import MODES
from ivlm_core.errors import ConfigError, IvlmError, shown
from ivlm_core.types import check_label
from ivlm_ros.detections import BODY_TYPES, DETECTION_TYPES

if TYPE_CHECKING:
    from rclpy.node import Node


class Changes(Enum):
    """When a parameter may change."""

    ANY_TIME = "at any time; the next frame uses it"
    UNCONFIGURED = "while the node is unconfigured; read on configure"
    NEVER = "at start only"


@dataclass(frozen=True)
class NodeParameters:
    """The checked values of all parameters; `TABLE` says what each one means."""

    model: str = "tiny"
    device: str = "auto"
    dtype: str = "auto"
    reasoning: str = "parts"
    mode: str = "joint"
    quantize: str = "none"
    graphs: str = "auto"
    threads: int = 0
    body_model: str = "anny"
    body_model_path: str = ""
    output_body_model: str = ""
    output_body_model_path: str = ""
    body_map_path: str = ""
    cache_dir: str = ""
    image_transport: str = "raw"
    image_reliability: str = "best_effort"
    detections_reliability: str = "best_effort"
    detections_type: str = "ivlm_ros"
    class_names: tuple[str, ...] = field(default=())
    person_labels: tuple[str, ...] = field(default=("person",))
    bodies_type: str = "ivlm_ros"
    rectify: str = "auto"
    reconstruct: bool = False
    use_bodies: bool = False
    use_depth: bool = False
    tracking: bool = True
    objects_path: str = ""
    sam_path: str = ""
    sync_queue: int = 10
    sync_slop: float = 0.0
    labels: tuple[str, ...] = field(default=())
    contact_threshold: float = 0.5
    max_rate: float = 0.0
    max_objects: int = 8
    silence_timeout: float = 5.0
    markers: str = "auto"
    contact_points: bool = False
    marker_triangles: int = 2000
    body_frame: str = "ivlm_body"
    autostart: bool = False

    @property
    def asked_always(self) -> tuple[str, ...]:
        """What is asked of every image whether or not a detector runs: the surroundings, in the mode `scene`."""
        return ("scene",) if self.mode == "scene" else ()

    @property
    def companions(self) -> tuple[str, ...]:
        """The topics that an image waits for beside its detections; they serve nothing but the scene."""
        chosen = (("bodies", self.use_bodies), ("depth", self.use_depth))
        return tuple(name for name, used in chosen if used and self.reconstruct)

    @property
    def body_paths(self) -> dict[str, Path]:
        """Body model → its file, of the models whose files are given."""
        given = ((self.output_body_model, self.output_body_model_path), (self.body_model, self.body_model_path))
        return {name: Path(path) for name, path in given if name and path}

    @property
    def without_effect(self) -> tuple[str, ...]:
        """Parameters that were set and only serve a node that fits objects into the scene, which this one does not."""
        if self.reconstruct:
            return ()
        chosen = {
            "use_bodies": self.use_bodies,
            "use_depth": self.use_depth,
            "sam_path": bool(self.sam_path),
            "contact_points": self.contact_points,
            "markers (scene)": self.markers in ("scene", "both"),
        }
        return tuple(name for name, used in chosen.items() if used)

    @property
    def shown(self) -> tuple[str, ...]:
        """Which markers are made: `canonical` (in `body_frame`), `scene` (in the camera's frame)."""
        if self.markers == "auto":
            return ("scene",) if self.reconstruct else ("canonical",)
        return {"both": ("canonical", "scene"), "off": ()}.get(self.markers, (self.markers,))


Check = Callable[[str, Any], None]


@dataclass(frozen=True)
class Entry:
    """One row of the table.

    Attributes
    ----------
    description : meaning, unit and allowed values, for `ros2 param describe` and the documentation.
    changes : when it may change.
    bounds : lowest and highest value of a number, both included.
    choices : the allowed texts.
    check : a further test, which raises ConfigError.
    """

    description: str
    changes: Changes
    bounds: tuple[float, float] | None = None
    choices: tuple[str, ...] = ()
    check: Check | None = None


def _device(name: str, value: Any) -> None:
    kind, _, index = value.partition(":")
    if value not in ("auto", "cpu", "cuda") and not (kind == "cuda" and index.isdecimal()):
        raise ConfigError(name, f"is {shown(value)}", "choose auto, cpu, cuda or cuda:N")


def _not_empty(name: str, value: Any) -> None:
    if not value.strip():
        raise ConfigError(name, "is empty", "give a name")


def _body_or_nothing(name: str, value: Any) -> None:
    bodies = ("anny", "smpl", "smplh", "smplx")
    if value and value not in bodies:
        raise ConfigError(name, f"is {shown(value)}", f"choose {' or '.join(bodies)}, or leave it empty")


def _labels(name: str, value: Any) -> None:
    for label in value:
        check_label(label, name)


TABLE: dict[str, Entry] = {
    "model": Entry(
        "Model: tiny, interactvlm-7b, interactvlm-13b, or a checkpoint directory.",
        Changes.UNCONFIGURED,
        check=_not_empty,
    ),
    "device": Entry(
        "Where the model runs: auto (CUDA when there is one), cpu, cuda or cuda:N.", Changes.UNCONFIGURED, check=_device
    ),
    "dtype": Entry(
        "Precision of the model: auto (bfloat16 on CUDA, float32 on a CPU), float32 or bfloat16.",
        Changes.UNCONFIGURED,
        choices=("auto", "float32", "bfloat16"),
    ),
    "reasoning": Entry(
        "What the model is asked: parts (it names body parts and affordance first) or direct (region only; faster).",
        Changes.UNCONFIGURED,
        choices=("parts", "direct"),
    ),
    "mode": Entry(
        "What is estimated: joint (human contact and affordance per object), human, binary (contact with any object), "
        "scene (contact with the surroundings; needs no detections), affordance, object_contact, or image (contact on "
        "the picture itself, on ~/image_contact).",
        Changes.UNCONFIGURED,
        choices=MODES,
    ),
    "quantize": Entry(
        "Weights of the language model: none (as dtype says) or int8 (half the memory, slightly other answers).",
        Changes.UNCONFIGURED,
        choices=("none", "int8"),
    ),
    "graphs": Entry(
        "Replay captured CUDA graphs: auto (where there is a CUDA device and they can be captured) or off.",
        Changes.UNCONFIGURED,
        choices=("auto", "off"),
    ),
    "threads": Entry(
        "Threads of the model on a CPU; 0: one fewer than there are cores, so that messages are handled meanwhile.",
        Changes.UNCONFIGURED,
        bounds=(0, 256),
    ),
    "body_model": Entry(
        "Body model that human contact is predicted on: anny (shipped), smpl, smplh or smplx.",
        Changes.UNCONFIGURED,
        choices=("anny", "smpl", "smplh", "smplx"),
    ),
    "body_model_path": Entry("File of a body model that is not shipped; empty for anny.", Changes.UNCONFIGURED),
    "output_body_model": Entry(
        "Body model that human contact is converted to and published on: anny, smpl, smplh or smplx; empty: the body "
        "model that it is predicted on.",
        Changes.UNCONFIGURED,
        check=_body_or_nothing,
    ),
    "output_body_model_path": Entry(
        "File of output_body_model where it is not shipped; empty for anny.", Changes.UNCONFIGURED
    ),
    "body_map_path": Entry(
        "File (.npz) with the matrix from body_model to output_body_model; empty: computed from the two bodies.",
        Changes.UNCONFIGURED,
    ),
    "cache_dir": Entry(
        "Folder for renders and view embeddings; empty: $IVLM_CACHE_DIR or ~/.cache/ivlm_ros.", Changes.NEVER
    ),
    "image_transport": Entry(
        "Type of the image topic: raw (sensor_msgs/Image) or compressed (sensor_msgs/CompressedImage, JPEG or PNG).",
        Changes.UNCONFIGURED,
        choices=("raw", "compressed"),
    ),
    "image_reliability": Entry(
        "Reliability that the image subscription asks for: best_effort (matches every camera) or reliable (matches "
        "reliable publishers only; lost packets are sent again).",
        Changes.UNCONFIGURED,
        choices=("best_effort", "reliable"),
    ),
    "detections_reliability": Entry(
        "Reliability that the detections subscription asks for: best_effort (matches every detector) or reliable.",
        Changes.UNCONFIGURED,
        choices=("best_effort", "reliable"),
    ),
    "detections_type": Entry(
        "Type of the detections topic: ivlm_ros (ivlm_ros/DetectedObjectArray), vision_msgs (Detection2DArray) or "
        "yolo_msgs (DetectionArray); the last two need their packages.",
        Changes.UNCONFIGURED,
        choices=tuple(DETECTION_TYPES),
    ),
    "class_names": Entry(
        "Names of the classes 0, 1, … for a detector that only numbers them; 'coco' alone stands for COCO's 80; empty: "
        "labels are taken as they are.",
        Changes.ANY_TIME,
        check=_labels,
    ),
    "person_labels": Entry(
        "Labels of the detections that are people: the other detections are asked about for each person near them.",
        Changes.ANY_TIME,
        check=_labels,
    ),
    "bodies_type": Entry(
        "Type of the bodies topic: ivlm_ros (ivlm_ros/HumanBodyArray) or yolo_msgs (DetectionArray with keypoints).",
        Changes.UNCONFIGURED,
        choices=tuple(BODY_TYPES),
    ),
    "rectify": Entry(
        "Take the lens's distortion, as camera_info tells it, out of the images: on, off (they are rectified), or auto "
        "(with reconstruct, unless the topic's name holds the word rect).",
        Changes.UNCONFIGURED,
        choices=("auto", "on", "off"),
    ),
    "reconstruct": Entry(
        "Fit the objects into the scene, metres in the camera's frame; needs camera_info, and posed bodies, keypoints "
        "or depth to know how far away they are. Modes joint, human, affordance and object_contact.",
        Changes.UNCONFIGURED,
    ),
    "use_bodies": Entry(
        "Read people from the topic 'bodies' (ivlm_ros/HumanBodyArray), stamped like the image; with reconstruct.",
        Changes.UNCONFIGURED,
    ),
    "use_depth": Entry(
        "Read depth images from the topic 'depth' (16UC1 or 32FC1), registered to the image, or with their own camera "
        "on 'depth_camera_info'; with reconstruct.",
        Changes.UNCONFIGURED,
    ),
    "tracking": Entry(
        "Let the fit of an object go on from its last pose; false: every frame starts from nothing.",
        Changes.UNCONFIGURED,
    ),
    "objects_path": Entry(
        "Folder of an object library (made by 'ivlm objects add'), looked into before the built-in one; empty: none.",
        Changes.UNCONFIGURED,
    ),
    "sam_path": Entry(
        "File with the weights of the Segment Anything model, which then cuts out objects that come without a mask; "
        "empty: they are cut out by their colours. With reconstruct.",
        Changes.UNCONFIGURED,
    ),
    "sync_queue": Entry(
        "How many images (and detections, bodies, depth images) wait for their counterpart; the oldest is dropped, or "
        "goes on without, when one more arrives.",
        Changes.UNCONFIGURED,
        bounds=(1, 100),
    ),
    "sync_slop": Entry(
        "Largest difference between the stamps of an image and its detections, bodies and depth, seconds; 0: equal "
        "stamps only.",
        Changes.UNCONFIGURED,
        bounds=(0.0, 1.0),
    ),
    "labels": Entry(
        "Objects asked about in every image while nobody publishes detections; empty texts are left out. The topic "
        "'labels' (std_msgs/String, separated by commas) overrules them.",
        Changes.ANY_TIME,
        check=_labels,
    ),
    "contact_threshold": Entry(
        "Vertices with at least this contact probability or affordance are published, 0 to 1.",
        Changes.ANY_TIME,
        bounds=(0.0, 1.0),
    ),
    "max_rate": Entry("Most frames per second to process, hertz; 0: no limit.", Changes.ANY_TIME, bounds=(0.0, 1000.0)),
    "max_objects": Entry(
        "Most objects asked about in one frame; those with the highest scores are kept.",
        Changes.ANY_TIME,
        bounds=(1, 32),
    ),
    "silence_timeout": Entry(
        "After how many seconds without input the node says what is missing.", Changes.ANY_TIME, bounds=(0.5, 3600.0)
    ),
    "markers": Entry(
        "What ~/markers shows: canonical (bodies and objects side by side in body_frame), scene (posed bodies and "
        "fitted objects in the camera's frame), both, off, or auto (scene with reconstruct, else canonical).",
        Changes.UNCONFIGURED,
        choices=("auto", "canonical", "scene", "both", "off"),
    ),
    "contact_points": Entry(
        "Publish ~/contact_points (sensor_msgs/PointCloud2): the contact of the fitted scene as points with normals.",
        Changes.UNCONFIGURED,
    ),
    "marker_triangles": Entry(
        "Most triangles of one marker; larger meshes are simplified.", Changes.UNCONFIGURED, bounds=(100, 50_000)
    ),
    "body_frame": Entry(
        "Frame of the canonical markers (x forward, y left, z up); not connected to the camera's frame.",
        Changes.UNCONFIGURED,
        check=_not_empty,
    ),
    "autostart": Entry(
        "Configure and activate as soon as the node runs; for starts without the launch file, which does both itself.",
        Changes.NEVER,
    ),
}

_DEFAULTS = NodeParameters()


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def check_value(name: str, value: Any) -> Any:
    """The value as `NodeParameters` holds it.

    Raises
    ------
    ConfigError : unknown name, wrong type, out of range, or not among the choices; says what is allowed.
    """
    if name not in TABLE:
        raise ConfigError(name, "is not a parameter of this node", f"known are: {', '.join(TABLE)}")
    entry, default = TABLE[name], getattr(_DEFAULTS, name)
    if isinstance(default, tuple):
        # An empty list has no type in a parameter file, so that [''] stands for it.
        value = tuple(text for text in value if text != "") if _is_list(value) else value
    if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if type(value) is not type(default):
        wanted = {bool: "true or false", int: "a whole number", float: "a number with a decimal point", str: "text"}
        raise ConfigError(name, f"is {shown(value)}", f"give {wanted.get(type(default), 'a list of texts')}")
    if entry.choices and value not in entry.choices:
        raise ConfigError(name, f"is {shown(value)}", f"choose {' or '.join(entry.choices)}")
    if entry.bounds is not None and not (math.isfinite(value) and entry.bounds[0] <= value <= entry.bounds[1]):
        raise ConfigError(name, f"is {value}", f"give a value from {entry.bounds[0]} to {entry.bounds[1]}")
    if entry.check is not None:
        entry.check(name, value)
    return value


class ParameterStore:
    """Declares the parameters on a node and holds their checked values.

    Parameters
    ----------
    node : the node to declare them on.
    configured : tells whether the node is past `configure`, when only the ANY_TIME parameters may change.

    Raises
    ------
    ConfigError : a value given at start is wrong.
    """

    def __init__(self, node: Node, configured: Callable[[], bool]) -> None:
        self._configured = configured
        changes: dict[str, Any] = {}
        for name, entry in TABLE.items():
            default = getattr(_DEFAULTS, name)
            try:
                declared = node.declare_parameter(
                    name, _declared(default), _descriptor(name, entry), ignore_override=False
                )
                changes[name] = check_value(name, declared.value)
            except IvlmError:
                raise
            # rclpy reports a wrong type or range of a start value with exceptions that differ between distributions.
            except Exception as error:
                raise ConfigError(name, str(error), entry.description) from error
        self.values = dataclasses.replace(_DEFAULTS, **changes)
        self._warn_of_unknown(node)
        node.add_on_set_parameters_callback(self._on_set)

    @staticmethod
    def _warn_of_unknown(node: Node) -> None:
        """Values given at start for what is no parameter: ROS itself drops them without a word."""
        # rclpy has no public name for them.
        given = getattr(node, "_parameter_overrides", {})
        for name in given:
            # QoS overrides are declared when their publisher or subscription is made.
            if node.has_parameter(name) or name.startswith("qos_overrides."):
                continue
            near = [repr(known) for known in difflib.get_close_matches(name, TABLE, 2, 0.8)]
            told = f"did you mean {' or '.join(near)}?" if near else "the README lists all"
            node.get_logger().warning(f"{shown(name)} is no parameter of this node and is ignored: {told}")

    def _on_set(self, parameters: list[Parameter]) -> SetParametersResult:
        changes: dict[str, Any] = {}
        try:
            for parameter in parameters:
                if parameter.name not in TABLE:  # use_sim_time, QoS overrides and the like are rclpy's own
                    continue
                entry = TABLE[parameter.name]
                if entry.changes is Changes.NEVER:
                    raise ConfigError(parameter.name, "is read-only", "set it when the node starts")
                changes[parameter.name] = check_value(parameter.name, parameter.value)
                if entry.changes is Changes.UNCONFIGURED and self._configured():
                    raise ConfigError(
                        parameter.name, "is read on configure", "clean the node up, set it, and configure again"
                    )
        except IvlmError as error:
            return SetParametersResult(successful=False, reason=str(error))
        self.values = dataclasses.replace(self.values, **changes)
        return SetParametersResult(successful=True)


def _declared(default: Any) -> Any:
    """A default as rclpy takes it, which cannot tell the type of an empty list."""
    return (list(default) or [""]) if isinstance(default, tuple) else default


def _descriptor(name: str, entry: Entry) -> ParameterDescriptor:
    descriptor = ParameterDescriptor(
        name=name,
        description=f"{entry.description} Changes: {entry.changes.value}.",
        additional_constraints=f"one of: {', '.join(entry.choices)}" if entry.choices else "",
        read_only=entry.changes is Changes.NEVER,
        # The type is checked by `check_value`, whose refusal names the parameter and what to give.
        dynamic_typing=True,
    )
    if entry.bounds is not None:
        low, high = entry.bounds
        if isinstance(getattr(_DEFAULTS, name), int):
            descriptor.integer_range = [IntegerRange(from_value=int(low), to_value=int(high), step=0)]
        else:
            descriptor.floating_point_range = [FloatingPointRange(from_value=low, to_value=high, step=0.0)]
    return descriptor


def parameter_table() -> str:
    """All parameters as a table in Markdown: name, default, meaning, when it may change."""
    short = {Changes.ANY_TIME: "any time", Changes.UNCONFIGURED: "unconfigured", Changes.NEVER: "start"}
    rows = ["| parameter | default | meaning | changes |", "|---|---|---|---|"]
    for name, entry in TABLE.items():
        default = getattr(_DEFAULTS, name)
        told = str(default).lower() if isinstance(default, bool) else json.dumps(default, ensure_ascii=False)
        rows.append(f"| `{name}` | `{told}` | {entry.description} | {short[entry.changes]} |")
    return "\n".join(rows)


if __name__ == "__main__":
    print(parameter_table())
