"""The demo as a user runs it: the installed node in a process of its own, real DDS, files on disk."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from ivlm_core.bodies import load_body
from ivlm_core.datasets import open_bag
from ivlm_core.errors import IvlmError
from ivlm_core.objects import library_mesh, load_mesh

pytest.importorskip("rclpy")
pytest.importorskip("ivlm_ros.msg")

from ivlm_ros.demo import _write_heat

FRAMES = 2
RECORDINGS = ["standing_camera", "sitting_camera", "riding_camera", "photo_camera"]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """One run of the demo with few frames, slow enough for a busy machine to answer each."""
    out = tmp_path_factory.mktemp("demo") / "out"
    done = subprocess.run(
        [sys.executable, "-m", "ivlm_ros.demo", "--out", str(out), "--frames", str(FRAMES), "--rate", "1"],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).resolve().parent.parent,
        env={name: value for name, value in os.environ.items() if name != "ROS_DOMAIN_ID"},
    )
    log = out / "node.log"
    assert done.returncode == 0, done.stdout + done.stderr + (log.read_text() if log.exists() else "")
    return SimpleNamespace(out=out, printed=done.stdout, summary=json.loads((out / "summary.json").read_text()))


def test_every_recording_is_answered_and_the_node_stops_well(demo: SimpleNamespace) -> None:
    assert demo.summary["frames_in"] == 3 * FRAMES + 5
    assert demo.summary["frames_out"] + demo.summary["dropped"] == demo.summary["frames_in"]
    assert demo.summary["node_exit_code"] == 0
    recordings = demo.summary["recordings"]
    assert list(recordings) == RECORDINGS
    for name, part in recordings.items():
        assert part["frames_out"] >= 1, name
        assert 0 < part["latency_ms"]["p50"] <= part["latency_ms"]["p95"]


def test_recorded_answers_carry_the_stamps_of_the_images(demo: SimpleNamespace) -> None:
    stamps: dict[str, set] = {"input": set(), "outputs": set()}
    for bag, topic in (("input", "/camera/image_raw"), ("outputs", "/ivlm_contact/human_contacts")):
        with open_bag(demo.out / bag) as reader:
            for connection, _, raw in reader.messages():
                if connection.topic == topic:
                    header = reader.deserialize(raw, connection.msgtype).header
                    stamps[bag].add((header.frame_id, header.stamp.sec, header.stamp.nanosec))
    assert len(stamps["outputs"]) == demo.summary["frames_out"]
    assert stamps["outputs"] <= stamps["input"]


def test_meshes_are_the_body_and_the_objects(demo: SimpleNamespace) -> None:
    seen: dict[str, set[str]] = {}
    with open_bag(demo.out / "input") as reader:
        for connection, _, raw in reader.messages():
            if connection.topic == "/detections":
                message = reader.deserialize(raw, connection.msgtype)
                labels = seen.setdefault(message.header.frame_id, set())
                labels |= {item.label.replace(" ", "_") for item in message.objects}
    assert list(seen) == RECORDINGS
    names = {Path(path).name for path in demo.summary["meshes"]}
    assert names == {
        f"{recording}_{label}_{what}.glb"
        for recording, labels in seen.items()
        for label in labels
        for what in ("human", "object")
    }
    body = load_mesh(demo.out / "meshes/standing_camera_bottle_human.glb")
    assert body.topology_hash == load_body("anny").mesh.topology_hash
    chair = load_mesh(demo.out / "meshes/sitting_camera_chair_object.glb")
    np.testing.assert_allclose(chair.vertices, library_mesh("chair").vertices, atol=1e-6)


def test_pictures_show_every_recording(demo: SimpleNamespace) -> None:
    from PIL import Image

    shown = {Path(path).name.rsplit("_", 1)[0] for path in demo.summary["pictures"]}
    assert shown == set(RECORDINGS)
    for path in demo.summary["pictures"]:
        with Image.open(path) as picture:
            assert picture.width > 640
            assert np.asarray(picture).std() > 10


def test_it_ends_with_the_figures_of_the_replay(demo: SimpleNamespace) -> None:
    """The printed table holds the figures of the summary, which are those of the two recordings on disk."""
    from ivlm_ros.demo import score, scores_text

    scores = score(demo.out / "input", demo.out / "outputs")
    assert json.loads(json.dumps(scores.summary())) == demo.summary["ground_truth"]
    assert list(scores.recordings) == RECORDINGS[:3]
    assert scores.all["known"] >= scores.all["answered"] >= 3
    for figures in scores.recordings.values():
        assert 0 <= figures["semantic"]["f1"] <= 1
        assert figures["semantic"]["geodesic_cm"] >= 0
        assert 0 <= figures["object"]["sim"] <= 1
    assert demo.printed.rstrip().endswith(scores_text(scores))


def test_mesh_of_another_version_is_not_coloured(tmp_path: Path) -> None:
    message = SimpleNamespace(topology_hash="0" * 16, object_label="chair", vertex_count=1, vertex_indices=[0])
    with pytest.raises(IvlmError, match="another version"):
        _write_heat(tmp_path / "chair.glb", library_mesh("chair"), message, [1.0])
    assert not (tmp_path / "chair.glb").exists()
