"""Fitted objects on the picture that they were fitted to, and the way a fit took as a video."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from ivlm_core.draw.joint_scene import OBJECT_COLORS, PERSON_COLOR, JointScene, draw_scene_views, joint_scene
from ivlm_core.draw.text import Color, one_line, put_text
from ivlm_core.errors import InputError
from ivlm_core.reconstruct import silhouette_mask
from ivlm_core.storage import atomic_path
from ivlm_core.types import ByteArray, CameraIntrinsics, FloatArray, Frame, Mesh, PosedBody, Reconstruction

VIDEO_SUFFIXES = (".mp4", ".avi")
FRAMES_PER_SECOND = 12
# The longest fit is shown in so many pictures, and its end is held for two seconds.
MOST_PICTURES, HELD = 72, 24
_TINT, _OUTLINE = 0.35, 2
_PAPER: Color = (255, 255, 255)
_INK: Color = (24, 28, 34)


def scene_of(
    reconstructions: Sequence[Reconstruction], affordances: Mapping[int, FloatArray] | None = None
) -> JointScene:
    """The people and objects of a frame's reconstructions, each person once with the highest of its contacts.

    Parameters
    ----------
    affordances : place of a reconstruction → the contact on its object's own vertices, where that is known.

    Raises
    ------
    InputError : nothing that can be drawn.
    """
    people: dict[int, tuple[PosedBody, FloatArray | None]] = {}
    for item in reconstructions:
        if item.body is None:
            continue
        body, contact = people.get(id(item.body), (item.body, None))
        if item.body_contact is not None:
            contact = item.body_contact if contact is None else np.maximum(contact, item.body_contact)
        people[id(item.body)] = body, contact
    known = affordances or {}
    return joint_scene(list(people.values()), [(item, known.get(n)) for n, item in enumerate(reconstructions)])


def draw_on_picture(frame: Frame, reconstructions: Sequence[Reconstruction], height: int = 460) -> ByteArray:
    """The picture with bodies tinted and objects outlined where they were put, scaled to a height in pixels.

    Raises
    ------
    InputError : the frame has no intrinsics.
    """
    if frame.intrinsics is None:
        raise InputError("camera", "is not known", "give the camera's intrinsics")
    scale = height / frame.image.shape[0]
    size = (max(1, round(frame.image.shape[1] * scale)), height)
    shrinks = scale < 1
    way = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    picture = np.asarray(cv2.resize(frame.image, size, interpolation=way), dtype=np.uint8)
    camera = _scaled(frame.intrinsics, size)
    drawn: set[int] = set()
    for item in reconstructions:
        if item.body is not None and id(item.body) not in drawn and item.body.in_front:
            drawn.add(id(item.body))
            _outlined(picture, Mesh(item.body.vertices, item.body.faces, "person"), camera, PERSON_COLOR, 0.0)
    for number, item in enumerate(reconstructions):
        placed = item.placed()
        if item.pose_valid and (placed[:, 2] > 0).all():
            color = OBJECT_COLORS[number % len(OBJECT_COLORS)]
            _outlined(picture, Mesh(placed, item.mesh.faces, item.object_label), camera, color, _TINT)
    return picture


def fit_pictures(frame: Frame, reconstruction: Reconstruction, height: int = 360) -> Iterator[ByteArray]:
    """How one object was fitted, picture by picture, all of one size: on the image, and from three sides.

    Raises
    ------
    InputError : the reconstruction has no trace (see `FitSettings.keep_trace`), or the frame no intrinsics.
    """
    steps = reconstruction.trace
    if not steps:
        raise InputError(
            "trace", f"of {reconstruction.object_label} is empty", "fit with keep_trace, an object that can be fitted"
        )
    last = replace(reconstruction, pose_valid=True)
    shown = np.unique(np.linspace(0, len(steps) - 1, min(MOST_PICTURES, len(steps))).round().astype(int))
    whole = scene_of([last])
    for number in shown:
        rotation, translation, scale = steps[number]
        item = replace(last, rotation=rotation, translation=translation, scale=scale)
        views = draw_scene_views(scene_of([item]), height, extent=whole)
        photo = draw_on_picture(frame, [item], height)
        title = f"{item.object_label}, step {number + 1} of {len(steps)}"
        if number == shown[-1] and not reconstruction.pose_valid:
            title += f": no pose: {reconstruction.reason}"
        yield _beside(photo, views, one_line(title, 13, photo.shape[1] + views.shape[1] - 20))


def write_fit_video(path: Path, frame: Frame, reconstruction: Reconstruction) -> int:
    """Write the way of a fit as a video, whole or not at all.

    Parameters
    ----------
    path : `.mp4` or `.avi`.

    Returns
    -------
    the number of pictures.

    Raises
    ------
    InputError : another suffix, no trace, or a video that cannot be written here.
    """
    if path.suffix not in VIDEO_SUFFIXES:
        raise InputError("video", f"{path.name!r} is no known kind", f"end it with {' or '.join(VIDEO_SUFFIXES)}")
    code = "mp4v" if path.suffix == ".mp4" else "MJPG"
    count = 0
    with atomic_path(path) as temporary:
        writer: cv2.VideoWriter | None = None
        try:
            for picture in _held(fit_pictures(frame, reconstruction)):
                # Codecs want even sides.
                even = picture[: picture.shape[0] // 2 * 2, : picture.shape[1] // 2 * 2]
                if writer is None:
                    size = (even.shape[1], even.shape[0])
                    fourcc = cv2.VideoWriter.fourcc(*code)
                    writer = cv2.VideoWriter(str(temporary), fourcc, FRAMES_PER_SECOND, size)
                    if not writer.isOpened():
                        raise InputError("video", f"{path.suffix} cannot be written here", "try .avi")
                writer.write(cv2.cvtColor(even, cv2.COLOR_RGB2BGR))
                count += 1
        finally:
            if writer is not None:
                writer.release()
    return count


def _held(pictures: Iterator[ByteArray]) -> Iterator[ByteArray]:
    picture = None
    for picture in pictures:
        yield picture
    for _ in range(HELD if picture is not None else 0):
        assert picture is not None
        yield picture


def _scaled(camera: CameraIntrinsics, size: tuple[int, int]) -> CameraIntrinsics:
    """The same camera for the picture in another size; pixels are counted at their centres."""
    across, down = size[0] / camera.width, size[1] / camera.height
    return CameraIntrinsics(
        camera.fx * across,
        camera.fy * down,
        (camera.cx + 0.5) * across - 0.5,
        (camera.cy + 0.5) * down - 0.5,
        *size,
    )


def _outlined(picture: ByteArray, mesh: Mesh, camera: CameraIntrinsics, color: Color, tint: float) -> None:
    covered = silhouette_mask(mesh, camera)
    if tint:
        mixed = (1 - tint) * picture[covered] + tint * np.array(color)
        picture[covered] = mixed.round().astype(np.uint8)
    outlines, _ = cv2.findContours(covered.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(picture, outlines, -1, _INK, _OUTLINE + 2)
    cv2.drawContours(picture, outlines, -1, color, _OUTLINE)


def _beside(photo: ByteArray, views: ByteArray, title: str) -> ByteArray:
    rows = max(photo.shape[0] + 24, views.shape[0])
    canvas = np.full((rows, photo.shape[1] + 10 + views.shape[1], 3), _PAPER, dtype=np.uint8)
    put_text(canvas, title, 10, 5, 13, _INK)
    canvas[24 : 24 + photo.shape[0], 10 : 10 + photo.shape[1]] = photo
    canvas[: views.shape[0], 10 + photo.shape[1] :] = views
    return canvas


def draw_scene(frame: Frame, reconstructions: Sequence[Reconstruction], scene: JointScene) -> ByteArray:
    """The picture with what was fitted, beside the scene from three sides."""
    views = draw_scene_views(scene)
    return _beside(draw_on_picture(frame, reconstructions), views, "fitted, on the picture")
