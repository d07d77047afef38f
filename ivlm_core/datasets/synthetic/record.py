"""One generated scene with its picture, as it is stored and read back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ivlm_core.datasets.synthetic.camera import SceneCamera
from ivlm_core.types import ByteArray, CameraIntrinsics, FloatArray

WIDTH, HEIGHT = 256, 192
# Values of `SceneRecord.segments`: the 15 body parts and the objects count on from these.
FIRST_PART, FIRST_OBJECT_SEGMENT = 2, 17

Box = tuple[float, float, float, float]


@dataclass(frozen=True, eq=False)
class ObjectRecord:
    """One object of a scene and where it is touched.

    Attributes
    ----------
    label : its category. mode : how it is used ("left hand"); empty where nobody touches it.
    sizes : what `library_shape(label, **sizes)` rebuilds its mesh from, metres.
    rotation : (3, 3) float32, object to world. translation : (3,) float32, metres, in the world.
    box : x_min, y_min, x_max, y_max in pixels, outer edges of what is seen of it; None where nothing is.
    body_contact : (V,) bool: the body's vertices that touch it.
    object_contact : (N_instance,) bool: the vertices of its own mesh that touch the body.
    library_contact : (N_library,) float32 in [0, 1]: the same, carried to the library's default mesh of the label.
    depth : metres that body and object are inside each other at most.
    """

    label: str
    mode: str
    sizes: Mapping[str, float]
    rotation: FloatArray
    translation: FloatArray
    box: Box | None
    body_contact: NDArray[np.bool_]
    object_contact: NDArray[np.bool_]
    library_contact: FloatArray
    depth: float

    @property
    def touched(self) -> bool:
        return bool(self.body_contact.any())


@dataclass(frozen=True, eq=False)
class SceneRecord:
    """A picture of one scene and everything known about it; metres, world y up, floor at y = 0, pixels at centres.

    Attributes
    ----------
    index, split : which scene of the dataset it is. name : what happens in it.
    image : (192, 256, 3) uint8 RGB.
    segments : (192, 256) uint8: 0 nothing, 1 ground, 2…16 = 2 + body part, 17 + k = object k.
    depth : (192, 256) float32, metres along the optical axis, 0 where nothing is near enough.
    intrinsics, camera_rotation (3, 3), camera_position (3,) : the camera, see `SceneCamera`.
    azimuth : degrees of the camera from the person's front; positive on the person's left.
    phenotype : (5,) float32: gender, age, muscle, weight, height, 0…1 each.
    rotations : (B, 3) float32 rotation vectors, radians, what `AnnyRig.pose` takes.
    translation : (3,) float32, metres: where the body's origin is.
    joints : (B, 3) float32, metres. joints_2d : (B, 2) float32, pixels; NaN behind the camera.
    person_box : x_min, y_min, x_max, y_max in pixels, outer edges of what is seen of the person.
    objects : what stands in the scene; the first is what the scene is about.
    """

    index: int
    split: str
    name: str
    image: ByteArray
    segments: ByteArray
    depth: FloatArray
    intrinsics: CameraIntrinsics
    camera_rotation: FloatArray
    camera_position: FloatArray
    azimuth: float
    phenotype: FloatArray
    rotations: FloatArray
    translation: FloatArray
    joints: FloatArray
    joints_2d: FloatArray
    person_box: Box
    objects: tuple[ObjectRecord, ...] = field(default=())

    def body_vertices(self) -> FloatArray:
        """(V, 3) float32, metres, in the world: the posed body, made again from its phenotype and pose."""
        from scipy.spatial.transform import Rotation

        from ivlm_core.bodies import Phenotype, varied_rig

        rig = varied_rig(Phenotype(*(float(value) for value in self.phenotype)))
        turned = np.flatnonzero(self.rotations.any(axis=1))
        matrices = Rotation.from_rotvec(self.rotations[turned]).as_matrix()
        pose = {rig.joint_names[bone]: matrix for bone, matrix in zip(turned, matrices, strict=True)}
        vertices: FloatArray = (rig.pose(pose) + self.translation).astype(np.float32)
        return vertices

    def body_pixels(self) -> FloatArray:
        """(V, 2) float32: where the body's vertices are in the picture, seen or not; NaN behind the camera."""
        camera = SceneCamera(
            self.intrinsics, self.camera_rotation.astype(np.float64), self.camera_position.astype(np.float64)
        )
        pixels, _ = camera.project(self.body_vertices())
        return pixels.astype(np.float32)

    @property
    def person_mask(self) -> NDArray[np.bool_]:
        """(192, 256) bool."""
        mask: NDArray[np.bool_] = (self.segments >= FIRST_PART) & (self.segments < FIRST_OBJECT_SEGMENT)
        return mask

    def object_mask(self, number: int) -> NDArray[np.bool_]:
        """(192, 256) bool: the pixels of `objects[number]`."""
        mask: NDArray[np.bool_] = self.segments == FIRST_OBJECT_SEGMENT + number
        return mask
