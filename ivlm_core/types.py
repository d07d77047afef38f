"""The frozen values that travel between the rooms, with their shapes, units and frames.

Array shape letters: `K` queries, `J` views, `H W` pixels, `V` body vertices, `N` object vertices, `F` faces.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ivlm_core.errors import InputError, MeshError, shown

FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int32]
ByteArray = NDArray[np.uint8]

MAX_LABEL_CHARACTERS = 64
MAX_IMAGE_SIDE = 8192
MAX_MESH_VERTICES = 500_000
MAX_MESH_FACES = 1_000_000


def check_label(value: object, field_name: str = "object.label") -> str:
    """A label that is safe inside a prompt: 1 to 64 printable characters, no markup, surrounding space removed.

    Raises
    ------
    InputError : not a string, empty, too long, or holding control characters or the `<`, `>`, `[`, `]` that
        special tokens (`<image>`, `<HCON>`, `[SEG]`) are written with.
    """
    if not isinstance(value, str):
        raise InputError(field_name, f"must be text, not {type(value).__name__}", "give a word such as 'chair'")
    if len(value) > 4 * MAX_LABEL_CHARACTERS or len(value.strip()) > MAX_LABEL_CHARACTERS:
        raise InputError(
            field_name, f"has {len(value)} characters", f"at most {MAX_LABEL_CHARACTERS} are allowed: name the object"
        )
    label = value.strip()
    if not label:
        raise InputError(field_name, "is empty", "name the object, for example 'chair'")
    for character in label:
        # Of all spaces only the plain one is printable: the others look like it, and are not what the model has read.
        if not character.isprintable():
            raise InputError(
                field_name, f"holds the unprintable character U+{ord(character):04X}", "use printable characters only"
            )
        if character in "<>[]":
            raise InputError(
                field_name,
                f"{shown(label)} holds {character!r}, which is kept for special tokens",
                "use plain words",
            )
    return label


@dataclass(frozen=True)
class Mesh:
    """A triangle mesh in metres.

    Attributes
    ----------
    vertices : (N, 3) float32, metres, in the frame the owner states.
    faces : (F, 3) int32 indices into `vertices`.
    name : what the mesh is, for people.

    Raises
    ------
    MeshError : empty, wrongly shaped, not finite, indices out of range, or above the size limits.
    """

    vertices: FloatArray
    faces: IntArray
    name: str = "mesh"

    def __post_init__(self) -> None:
        vertices = np.asarray(self.vertices)
        faces = np.asarray(self.faces)
        where = f"mesh {shown(self.name)}"
        if vertices.ndim != 2 or vertices.shape[1] != 3 or len(vertices) == 0:
            raise MeshError(f"{where}.vertices", f"has shape {vertices.shape}", "give (N, 3) with N ≥ 3")
        if faces.ndim != 2 or faces.shape[1] != 3 or len(faces) == 0:
            raise MeshError(f"{where}.faces", f"has shape {faces.shape}", "give (F, 3) triangles with F ≥ 1")
        if len(vertices) > MAX_MESH_VERTICES or len(faces) > MAX_MESH_FACES:
            raise MeshError(
                where,
                f"has {len(vertices)} vertices and {len(faces)} faces",
                f"simplify it to at most {MAX_MESH_VERTICES} vertices and {MAX_MESH_FACES} faces",
            )
        if not np.issubdtype(faces.dtype, np.integer):
            raise MeshError(f"{where}.faces", f"has dtype {faces.dtype}", "give integer vertex indices")
        with np.errstate(over="ignore"):
            vertices = vertices.astype(np.float32) if vertices.dtype != np.float32 else vertices
        if not np.isfinite(vertices).all():
            bad = int(np.flatnonzero(~np.isfinite(vertices).all(axis=1))[0])
            raise MeshError(f"{where}.vertices", f"holds NaN or infinity (vertex {bad})", "repair the mesh")
        if faces.min() < 0 or faces.max() >= len(vertices):
            raise MeshError(
                f"{where}.faces",
                f"index {int(faces.min() if faces.min() < 0 else faces.max())} is outside 0…{len(vertices) - 1}",
                "repair the mesh",
            )
        object.__setattr__(self, "vertices", _frozen(vertices, np.float32))
        object.__setattr__(self, "faces", _frozen(faces, np.int32))

    @cached_property
    def topology_hash(self) -> str:
        """16 hex digits over the vertex count and the faces: equal hashes mean vertex indices are interchangeable."""
        digest = hashlib.sha256(f"{len(self.vertices)}:".encode())
        digest.update(self.faces.astype("<i4").tobytes())
        return digest.hexdigest()[:16]

    @cached_property
    def content_hash(self) -> str:
        """16 hex digits over faces and vertex positions: the key of everything cached for this mesh."""
        digest = hashlib.sha256(self.topology_hash.encode())
        digest.update(self.vertices.astype("<f4").tobytes())
        return digest.hexdigest()[:16]


@dataclass(frozen=True)
class CameraIntrinsics:
    """A pinhole camera: focal lengths and principal point in pixels (integer coordinates at pixel centres)."""

    fx: float
    fy: float
    cx: float
    cy: float
    width: int
    height: int


# The COCO order, in which pose detectors publish a person's keypoints; sides are the person's own.
COCO_KEYPOINTS = (
    "nose",
    "left eye",
    "right eye",
    "left ear",
    "right ear",
    "left shoulder",
    "right shoulder",
    "left elbow",
    "right elbow",
    "left wrist",
    "right wrist",
    "left hip",
    "right hip",
    "left knee",
    "right knee",
    "left ankle",
    "right ankle",
)


@dataclass(frozen=True)
class BodyKeypoints:
    """Where a person's joints are in the picture, as pose detectors say it.

    Attributes
    ----------
    points : (17, 2) float32 x, y in pixels (integer coordinates at pixel centres), in the order of `COCO_KEYPOINTS`.
    scores : (17,) float32 in [0, 1]; 0 for a keypoint that was not found, whose point means nothing.
    person_id : the detector's or tracker's identifier.

    Raises
    ------
    InputError : other shapes, scores outside [0, 1], or a point with a score that is not finite.
    """

    points: FloatArray
    scores: FloatArray
    person_id: str = ""

    def __post_init__(self) -> None:
        points = np.asarray(self.points, dtype=np.float32)
        scores = np.asarray(self.scores, dtype=np.float32)
        count = len(COCO_KEYPOINTS)
        if points.shape != (count, 2) or scores.shape != (count,):
            raise InputError(
                "keypoints",
                f"have shape {points.shape}, their scores {scores.shape}",
                f"give ({count}, 2) pixels and ({count},) scores in COCO's order",
            )
        if not ((scores >= 0) & (scores <= 1)).all():
            raise InputError("keypoints.scores", "are not all in [0, 1]", "give 0 where a keypoint was not found")
        if not np.isfinite(points[scores > 0]).all():
            raise InputError("keypoints.points", "hold NaN or infinity", "give a score of 0 where nothing was found")
        object.__setattr__(self, "points", _frozen(points, np.float32))
        object.__setattr__(self, "scores", _frozen(scores, np.float32))


@dataclass(frozen=True)
class PosedBody:
    """A person's body in front of the camera.

    Attributes
    ----------
    vertices : (V, 3) float32, metres, in the image's optical frame (+x right, +y down, +z forward).
    faces : (F, 3) int32, counter-clockwise seen from outside.
    body_model : `anny`, `smpl`, `smplh` or `smplx`; the same vertex order as that model's contact.
    person_id : the estimator's or tracker's identifier; empty where there is only one person.
    score : confidence in [0, 1].
    source : `estimator`, `file` or `keypoints`.

    Raises
    ------
    InputError : vertices that are not finite or not (V, 3), or faces that do not fit.
    """

    vertices: FloatArray
    faces: IntArray
    body_model: str
    person_id: str = ""
    score: float = 1.0
    source: str = "estimator"

    def __post_init__(self) -> None:
        try:
            mesh = Mesh(self.vertices, self.faces, self.body_model)
        except MeshError as error:
            raise InputError(
                f"body.{error.field.rpartition('.')[2]}", error.problem, "give a posed body in metres"
            ) from None
        object.__setattr__(self, "vertices", mesh.vertices)
        object.__setattr__(self, "faces", mesh.faces)

    @property
    def in_front(self) -> bool:
        """Whether all of the body is in front of the camera."""
        return bool((self.vertices[:, 2] > 0).all())


@dataclass(frozen=True)
class Frame:
    """One camera image and what came with it.

    Attributes
    ----------
    image : (H, W, 3) uint8, RGB.
    intrinsics : the camera, or None when unknown.
    depth : (H, W) float32 metres along the optical axis, NaN where unknown; or None.
    stamp_ns : capture time, nanoseconds of the sender's clock.
    frame_id : name of the optical frame (+x right, +y down, +z forward, metres).
    bodies : posed people, where an estimator gives them. keypoints : people's joints in the picture, for those who
        have no posed body. unusable_people : how many more there are, of whom nothing could be used.
    """

    image: ByteArray
    intrinsics: CameraIntrinsics | None = None
    depth: FloatArray | None = None
    stamp_ns: int = 0
    frame_id: str = ""
    bodies: tuple[PosedBody, ...] = ()
    keypoints: tuple[BodyKeypoints, ...] = ()
    unusable_people: int = 0

    def __post_init__(self) -> None:
        image = np.asarray(self.image)
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise InputError(
                "frame.image", f"has dtype {image.dtype} and shape {image.shape}", "give (H, W, 3) uint8 RGB"
            )
        if min(image.shape[:2]) < 1 or max(image.shape[:2]) > MAX_IMAGE_SIDE:
            raise InputError("frame.image", f"is {image.shape[1]}×{image.shape[0]} px", f"1 to {MAX_IMAGE_SIDE} a side")
        for name, values, kind in (
            ("intrinsics", (self.intrinsics,) if self.intrinsics is not None else (), CameraIntrinsics),
            ("bodies", self.bodies, PosedBody),
            ("keypoints", self.keypoints, BodyKeypoints),
        ):
            if any(not isinstance(value, kind) for value in values):
                told = ", ".join(sorted({type(value).__name__ for value in values}))
                raise InputError(f"frame.{name}", f"is made of {told}", f"give {kind.__name__}")
        if self.depth is not None and self.depth.shape != image.shape[:2]:
            raise InputError(
                "frame.depth", f"has shape {self.depth.shape}", f"it must match the image, {image.shape[:2]}"
            )
        object.__setattr__(self, "image", image)


@dataclass(frozen=True)
class ObjectQuery:
    """One detected object that contact is asked for.

    Attributes
    ----------
    label : the object's name, 1 to 64 printable characters (see `check_label`).
    object_id : the detector's or tracker's identifier; echoed in every output.
    score : the detector's confidence in [0, 1].
    box_xyxy : x_min, y_min, x_max, y_max in pixels of the image, or None.
    mask : (H, W) bool, the object's pixels, or None.
    mesh : the object's mesh in metres, a path to one, or None to look the label up in the object library.
    person_id : the person the contact is asked for; empty where there is only one.
    person_box_xyxy : that person's box in pixels of the image, or None. Where the queries of one image tell several
        people apart by their boxes, each person is looked at alone.
    """

    label: str
    object_id: str = ""
    score: float = 1.0
    box_xyxy: tuple[float, float, float, float] | None = None
    mask: NDArray[np.bool_] | None = None
    mesh: Mesh | Path | None = None
    person_id: str = ""
    person_box_xyxy: tuple[float, float, float, float] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "label", check_label(self.label))
        for name, value in (("id", self.object_id), ("person_id", self.person_id)):
            if len(value) > 256:
                raise InputError(f"object.{name}", f"has {len(value)} characters", "at most 256 are allowed")
        if not 0.0 <= self.score <= 1.0:
            raise InputError("object.score", f"is {self.score!r}", "give a number in [0, 1]")
        for name, given in (("box", self.box_xyxy), ("person_box", self.person_box_xyxy)):
            if given is None:
                continue
            box = tuple(float(side) for side in given)
            if len(box) != 4 or not np.isfinite(box).all() or box[0] >= box[2] or box[1] >= box[3]:
                raise InputError(f"object.{name}", f"is {box}", "give x_min < x_max and y_min < y_max in pixels")
            object.__setattr__(self, f"{name}_xyxy", box)


@dataclass(frozen=True)
class ViewPack:
    """The fixed renders of one mesh and where every pixel and vertex lies (paper §3.3).

    Attributes
    ----------
    mesh : the mesh as it was rendered, in the canonical frame (y up, body facing +z).
    view_names : J names, in the order of every J axis.
    camera_parameters : (J, 5) float32: distance, elevation°, azimuth°, x shift, y shift (FeatLift's input).
    images : (J, H, W, 3) uint8 RGB renders on white.
    face_index : (J, H, W) int32, −1 where empty.
    barycentric : (J, H, W, 3) float32, −1 where empty.
    depth : (J, H, W) float32 along the viewing axis, −1 where empty.
    vertex_pixel : (J, V, 2) float32: each vertex's x, y in units of the image side, 0…1, x right and y down.
    vertex_visible : (J, V) bool: inside the image and not occluded.
    """

    mesh: Mesh
    view_names: tuple[str, ...]
    camera_parameters: FloatArray
    images: ByteArray
    face_index: IntArray
    barycentric: FloatArray
    depth: FloatArray
    vertex_pixel: FloatArray
    vertex_visible: NDArray[np.bool_]

    @property
    def image_size(self) -> int:
        return int(self.images.shape[1])

    @cached_property
    def pixel_to_vertex(self) -> IntArray:
        """(J, H, W, 3) int32: the three vertices seen by each pixel, −1 where empty."""
        ids = self.mesh.faces[np.maximum(self.face_index, 0)]
        ids[self.face_index < 0] = -1
        return ids

    @cached_property
    def content_hash(self) -> str:
        """16 hex digits over the mesh, the cameras and the rendered images."""
        digest = hashlib.sha256(self.mesh.content_hash.encode())
        digest.update(self.camera_parameters.astype("<f4").tobytes())
        digest.update(str(self.images.shape).encode())
        digest.update(self.images.tobytes())
        return digest.hexdigest()[:16]


@dataclass(frozen=True)
class HumanContact:
    """Where on the person's body one object is touched (semantic human contact).

    Attributes
    ----------
    probability : (V,) float32 in [0, 1] on the vertices of `body_model`; 0 where no view sees the vertex.
    body_model : `anny`, `smpl`, `smplh` or `smplx`.
    mesh : the canonical body that the vertices belong to (metres, y up, facing +z).
    views : the body's view pack, for pictures.
    body_parts : part name → score: the highest probability that at least a tenth of the part's area reaches.
    answer : the model's sentence.
    confidence : geometric mean of the probabilities the model gave to the tokens of its answer, in [0, 1].
    """

    object_label: str
    probability: FloatArray
    body_model: str
    mesh: Mesh
    views: ViewPack
    body_parts: Mapping[str, float]
    answer: str
    confidence: float
    object_id: str = ""
    person_id: str = ""


@dataclass(frozen=True)
class ObjectAffordance:
    """Where on the object it is touched or can be used.

    Attributes
    ----------
    probability : (N,) float32 in [0, 1] on the vertices of `mesh`.
    mesh : the object in its own frame, metres, y up.
    views : the view pack of the normalised mesh, for pictures (same vertex order).
    affordance : the affordance type the model named ("grasp", "sit", …), empty when it named none.
    mesh_resource : URI of the mesh's file, empty when it has none.
    mesh_source : `file`, `library`, or `fallback` (the label is unknown and a plain box stands in).
    answer, confidence : as in `HumanContact`.
    number : the query's place in its frame, which is also that of its `Reconstruction`.
    person_id : the person the contact was asked for.
    """

    object_label: str
    probability: FloatArray
    mesh: Mesh
    views: ViewPack
    affordance: str
    answer: str
    confidence: float
    mesh_resource: str = ""
    mesh_source: str = "library"
    object_id: str = ""
    number: int = 0
    person_id: str = ""


@dataclass(frozen=True)
class ImageContact:
    """Where on the picture itself the body touches one object (2D human contact).

    Attributes
    ----------
    probability : (H, W) float32 in [0, 1] on the pixels of the frame's image.
    answer, confidence : as in `HumanContact`.
    """

    object_label: str
    probability: FloatArray
    answer: str
    confidence: float
    object_id: str = ""


@dataclass(frozen=True)
class ContactSummary:
    """What a planner wants to know about one object's contact, in the image's optical frame.

    Attributes
    ----------
    centroid : (3,) float32 metres: the area-weighted middle of the person's contact with the object.
    area_cm2 : area of the person's skin in contact.
    normal : (3,) float32, unit: area-weighted mean of the skin's outward normals there; zero where they cancel out.
    free_regions : where the object can be grasped and the person does not touch it, largest first.
    """

    centroid: FloatArray
    area_cm2: float
    normal: FloatArray
    free_regions: tuple[FreeRegion, ...] = ()


@dataclass(frozen=True)
class FreeRegion:
    """A connected part of the object's surface with high affordance that the person does not hold.

    Attributes
    ----------
    centroid, normal : (3,) float32 each, metres and unit, in the image's optical frame. area_cm2 : its size.
    affordance : mean affordance on it, in [0, 1]. vertices : (n,) int32 of the object's mesh.
    """

    centroid: FloatArray
    normal: FloatArray
    area_cm2: float
    affordance: float
    vertices: IntArray


@dataclass(frozen=True)
class Reconstruction:
    """One object fitted into the scene (paper §5): `x_camera = scale · rotation @ x + translation`.

    Attributes
    ----------
    mesh : the object in its own frame, metres, y up.
    rotation : (3, 3) float64. translation : (3,) float64, metres, optical frame. scale : greater than 0.
    pose_valid : False where no pose can be trusted; the pose then means nothing, and `reason` says why.
    residuals : name → value of what was reached: `mask_iou`, `contact_cm`, `penetration_cm`, `depth_cm`, those that
        could be measured.
    state : `cold` (many starts), `refined` (from the last pose) or `kept` (the last pose still fits).
    body : the person, or None. body_contact : (V,) float32, the person's contact with the object on `body`'s vertices,
        or None. summary : for planners; None without contact.
    notes : what was simplified or is only roughly known, for people.
    mesh_resource, mesh_source : as in `ObjectAffordance`.
    trace : rotation, translation and scale of the leading pose after every step of the fit, where they were asked for.
    """

    object_label: str
    mesh: Mesh
    rotation: NDArray[np.float64]
    translation: NDArray[np.float64]
    scale: float
    pose_valid: bool
    reason: str = ""
    residuals: Mapping[str, float] = field(default_factory=dict)
    state: str = "cold"
    body: PosedBody | None = None
    body_contact: FloatArray | None = None
    summary: ContactSummary | None = None
    object_id: str = ""
    person_id: str = ""
    notes: tuple[str, ...] = ()
    mesh_resource: str = ""
    mesh_source: str = "library"
    trace: tuple[tuple[NDArray[np.float64], NDArray[np.float64], float], ...] = ()

    def placed(self) -> FloatArray:
        """(N, 3) float32, metres: the mesh's vertices in the image's optical frame."""
        points: FloatArray = (
            self.scale * self.mesh.vertices.astype(np.float64) @ self.rotation.T + self.translation
        ).astype(np.float32)
        return points


@dataclass(frozen=True)
class Unanswered:
    """A query the model gave no contact for, and why; never zeros that look like a result."""

    object_label: str
    reason: str
    side: str
    object_id: str = ""


@dataclass(frozen=True)
class FrameResult:
    """All that was found in one frame. Queries keep their order; `unanswered` says what is missing and why.

    Attributes
    ----------
    seconds : stage name → wall time.
    model : name of the profile or checkpoint.
    image_contacts : contact on the picture itself, in the mode `image`.
    reconstructions : objects fitted into the scene, one for every query, where that was asked for.
    """

    human_contacts: tuple[HumanContact, ...]
    object_affordances: tuple[ObjectAffordance, ...]
    unanswered: tuple[Unanswered, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)
    model: str = ""
    stamp_ns: int = 0
    frame_id: str = ""
    image_contacts: tuple[ImageContact, ...] = ()
    reconstructions: tuple[Reconstruction, ...] = ()


def _frozen(array: NDArray, dtype: type) -> NDArray:
    """A read-only, C-contiguous array in `dtype`, sharing nothing that the caller could still write to."""
    result: NDArray = np.ascontiguousarray(array, dtype=dtype)
    if result is array and result.flags.writeable:
        result = result.copy()
    result.flags.writeable = False
    return result
