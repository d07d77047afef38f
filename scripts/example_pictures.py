"""Make the pictures of `docs/reconstruct.md`: a generated scene and a photograph through the whole chain.

python scripts/example_pictures.py docs/images
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image
from skimage.data import camera

from ivlm_core import Frame, FrameResult, ObjectQuery, Pipeline
from ivlm_core.datasets.synthetic import SAMPLE, SynthHoi
from ivlm_core.draw import draw_scene, scene_of
from ivlm_core.evaluate.bodies import noisy_keypoints, true_body
from ivlm_core.reconstruct.inputs import camera_of_fov
from ivlm_core.scene_command import reconstruction_lines
from ivlm_core.storage import atomic_path
from ivlm_core.types import BodyKeypoints

# Somebody at a table with a laptop.
SCENE = 10
# Marked by hand in the photograph: x, y in pixels and how sure; what is not seen has a score of 0.
KEYPOINTS = {
    "nose": (247, 165, 0.9),
    "right eye": (235, 147, 0.8),
    "right ear": (189, 141, 0.9),
    "left shoulder": (195, 200, 0.4),
    "right shoulder": (107, 175, 0.8),
    "left elbow": (250, 305, 0.8),
    "right elbow": (75, 335, 0.8),
    "left wrist": (282, 245, 0.8),
    "right wrist": (192, 250, 0.8),
    "left hip": (95, 395, 0.4),
    "right hip": (40, 385, 0.5),
}
CAMCORDER = (252.0, 137.0, 326.0, 188.0)


def generated() -> tuple[Frame, list[ObjectQuery]]:
    """The scene with noisy keypoints of its person and the masks of what is touched."""
    record = SynthHoi(SAMPLE, "test")[SCENE]
    keypoints = noisy_keypoints(record, true_body(record)[1], np.random.default_rng(0))
    queries = [
        ObjectQuery(thing.label, str(number), mask=record.object_mask(number))
        for number, thing in enumerate(record.objects)
        if thing.touched
    ]
    return Frame(record.image, record.intrinsics, keypoints=(keypoints,)), queries


def photograph(label: str) -> tuple[Frame, list[ObjectQuery]]:
    """The man at the camcorder, asked about under a label."""
    from ivlm_core.types import COCO_KEYPOINTS

    rows = np.array([KEYPOINTS.get(name, (0, 0, 0)) for name in COCO_KEYPOINTS], dtype=np.float32)
    image = np.repeat(camera()[:, :, None], 3, axis=2)
    intrinsics = camera_of_fov(45.0, image.shape[1], image.shape[0])
    frame = Frame(image, intrinsics, keypoints=(BodyKeypoints(rows[:, :2], rows[:, 2]),))
    return frame, [ObjectQuery(label, "0", box_xyxy=CAMCORDER)]


def picture(frame: Frame, result: FrameResult) -> np.ndarray:
    known = {item.number: item.probability for item in result.object_affordances}
    return draw_scene(frame, result.reconstructions, scene_of(result.reconstructions, known))


def main() -> None:
    folder = Path(sys.argv[1])
    pipeline = Pipeline.load(reconstruct=True)
    for name, (frame, queries) in {
        "scene": generated(),
        "photograph": photograph("cell phone"),
        "": photograph("camera"),
    }.items():
        pipeline.forget()
        result = pipeline.run(replace(frame, frame_id=name), queries)
        print("\n".join([f"{name or 'photograph, as camera'}:", *reconstruction_lines(result)]))
        if name:
            with atomic_path(folder / f"{name}.png") as temporary:
                Image.fromarray(picture(frame, result)).save(temporary, optimize=True)


if __name__ == "__main__":
    main()
