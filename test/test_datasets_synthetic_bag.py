from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ivlm_core.datasets import open_bag
from ivlm_core.datasets.synthetic.bag import (
    CAMERA_INFO,
    DETECTIONS,
    FIRST_STAMP_NS,
    IMAGE,
    PHOTO_FRAMES,
    demo_frames,
    write_demo_bag,
)
from ivlm_core.errors import ConfigError


@pytest.fixture(scope="module")
def bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bag") / "demo"
    summary = write_demo_bag(path, frames=2, seed=5)
    assert summary["frames"] == 4 + PHOTO_FRAMES
    assert summary["recordings"] == {"standing_camera": 2, "sitting_camera": 2, "photo_camera": PHOTO_FRAMES}
    return path


def test_what_is_read_back_is_what_was_rendered(bag: Path) -> None:
    """Images are identical, and the three messages of a frame share its stamp and frame; also: one seed, one bag."""
    expected = list(demo_frames(2, 5, True))
    found: dict[str, list] = {IMAGE.name: [], CAMERA_INFO.name: [], DETECTIONS.name: []}
    with open_bag(bag) as reader:
        for connection, stamp, raw in reader.messages():
            found[connection.topic].append((stamp, reader.deserialize(raw, connection.msgtype)))
    for topic, messages in found.items():
        assert [stamp for stamp, _ in messages] == [frame.stamp_ns for frame in expected], topic
        for (stamp, message), frame in zip(messages, expected, strict=True):
            assert message.header.stamp.sec * 10**9 + message.header.stamp.nanosec == stamp
            assert message.header.frame_id == frame.frame_id
    for (_, image), frame in zip(found[IMAGE.name], expected, strict=True):
        assert (image.encoding, image.step, image.height) == ("rgb8", 640 * 3, 480)
        np.testing.assert_array_equal(image.data.reshape(480, 640, 3), frame.image)
    for (_, detections), frame in zip(found[DETECTIONS.name], expected, strict=True):
        boxes = [(o.id, o.label, o.x_min, o.y_min, o.x_max, o.y_max) for o in detections.objects]
        assert boxes == [tuple(box) for box in frame.boxes]
    info = found[CAMERA_INFO.name][0][1]
    np.testing.assert_array_equal(info.k.reshape(3, 3), [[600, 0, 319.5], [0, 600, 239.5], [0, 0, 1]])


def test_stamps_are_ten_hertz_and_recordings_apart() -> None:
    frames = list(demo_frames(2, 0, True))
    steps = np.diff([frame.stamp_ns for frame in frames]) / 1e9
    np.testing.assert_allclose(steps, [0.1, 1.1, 0.1, 1.1, 0.1, 0.1, 0.1, 0.1])
    assert frames[0].stamp_ns == FIRST_STAMP_NS


def test_labels_are_what_the_scenes_show() -> None:
    frames = {frame.frame_id: [label for _, label, *_ in frame.boxes] for frame in demo_frames(1, 0, True)}
    assert frames == {
        "standing_camera": ["bottle", "table"],
        "sitting_camera": ["laptop", "chair"],
        "photo_camera": ["space suit"],
    }


@pytest.mark.parametrize("frames", [0, -1, 10_001])
def test_number_of_frames_out_of_range_is_refused(tmp_path: Path, frames: int) -> None:
    with pytest.raises(ConfigError, match="frames"):
        write_demo_bag(tmp_path / "bag", frames=frames)
