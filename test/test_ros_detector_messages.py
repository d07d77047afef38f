"""Detectors' own messages over DDS: their packages are built here, with the fields that the real ones have."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rclpy")
pytest.importorskip("ivlm_ros.msg")

ROOT = Path(__file__).resolve().parents[1]

# Runs with the built packages sourced: a node around the fake model, and a detector that publishes into it.
PROGRAM = """
import json, sys
from types import SimpleNamespace
from conftest import FakePipeline, RosPeer, RunningNode, _image, wait_until
from sensor_msgs.msg import CameraInfo, Image
import vision_msgs.msg as vision
import yolo_msgs.msg as yolo

kind = sys.argv[1]
parameters = {"detections_type": kind, "class_names": ["coco"]}
if kind == "yolo_msgs":
    parameters |= {"bodies_type": "yolo_msgs", "reconstruct": True, "use_bodies": True}
running, peer = RunningNode(FakePipeline(), **parameters).start(), RosPeer()
try:
    array = vision.Detection2DArray if kind == "vision_msgs" else yolo.DetectionArray
    images = peer.publisher(Image, "image", reader=running)
    detections = peer.publisher(array, "detections", reader=running)
    image = _image(7)
    found = array(header=image.header)
    if kind == "vision_msgs":
        box = vision.BoundingBox2D(size_x=20.0, size_y=10.0)
        box.center.position.x, box.center.position.y = 30.0, 20.0
        for name, score in (("56", 0.75), ("0", 0.5)):
            hypothesis = vision.ObjectHypothesisWithPose()
            hypothesis.hypothesis.class_id, hypothesis.hypothesis.score = name, score
            found.detections.append(vision.Detection2D(header=image.header, id=name, bbox=box, results=[hypothesis]))
    else:
        bodies = peer.publisher(array, "bodies", reader=running)
        cup = yolo.Detection(class_id=41, class_name="cup", score=0.5, id="3")
        cup.bbox.center.position.x, cup.bbox.center.position.y = 30.0, 20.0
        cup.bbox.size.x, cup.bbox.size.y = 20.0, 10.0
        cup.mask.width, cup.mask.height = 64, 48
        cup.mask.data = [yolo.Point2D(x=x, y=y) for x, y in ((25.0, 15.0), (35.0, 15.0), (35.0, 25.0), (25.0, 25.0))]
        found.detections.append(cup)
        person = yolo.Detection(class_name="person", score=0.9, id="1")
        joint = yolo.KeyPoint2D(id=10, score=0.75)
        joint.point.x, joint.point.y = 12.0, 13.0
        person.keypoints.data = [joint]
        bodies.publish(array(header=image.header, detections=[person]))
    images.publish(image)
    detections.publish(found)
    wait_until(lambda: running.pipeline.calls, 30)
    frame, queries = running.pipeline.calls[0]
    print("RESULT" + json.dumps({
        "stamp": frame.stamp_ns,
        "queries": [
            [q.label, q.object_id, q.score, q.box_xyxy, q.person_id, None if q.mask is None else int(q.mask.sum())]
            for q in queries
        ],
        "joints": [
            [p.person_id, p.points[9].tolist(), float(p.scores[9]), int((p.scores > 0).sum())]
            for p in frame.keypoints
        ],
    }), flush=True)
finally:
    peer.close()
    running.close()
"""


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The two packages, built as any workspace is."""
    folder = tmp_path_factory.mktemp("detectors")
    built = subprocess.run(
        [
            "colcon",
            "--log-base",
            str(folder / "log"),
            "build",
            "--base-paths",
            *(str(ROOT / "test" / "interfaces" / name) for name in ("vision_msgs", "yolo_msgs")),
            "--build-base",
            str(folder / "build"),
            "--install-base",
            str(folder / "install"),
            "--cmake-args",
            f"-DPython3_EXECUTABLE={sys.executable}",
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=500,
        cwd=folder,
    )
    assert built.returncode == 0, built.stdout[-3000:] + built.stderr[-3000:]
    return folder / "install"


def exchanged(workspace: Path, kind: str) -> Any:
    script = f'. "{workspace}/setup.sh" && exec "$0" -c "$1" {kind}'
    environment = {
        **os.environ,
        "COLCON_CURRENT_PREFIX": str(workspace),
        "PYTHONPATH": os.environ.get("PYTHONPATH", "") + f":{ROOT}:{ROOT / 'test'}",
    }
    done = subprocess.run(
        ["bash", "-c", script, sys.executable, PROGRAM],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        cwd=ROOT,
        env=environment,
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT")]
    assert lines, done.stdout[-2000:] + done.stderr[-4000:]
    return json.loads(lines[0].removeprefix("RESULT"))


@pytest.mark.timeout(600)
def test_vision_msgs_reach_the_model(workspace: Path) -> None:
    got = exchanged(workspace, "vision_msgs")
    assert got["stamp"] == 7_000_000_005
    assert got["queries"] == [["chair", "56", 0.75, [20.0, 15.0, 40.0, 25.0], "0", None]]


@pytest.mark.timeout(600)
def test_yolo_msgs_reach_the_model_with_masks_and_joints(workspace: Path) -> None:
    got = exchanged(workspace, "yolo_msgs")
    assert got["queries"] == [["cup", "3", 0.5, [20.0, 15.0, 40.0, 25.0], "", 11 * 11]]
    assert got["joints"] == [["1", [12.0, 13.0], 0.75, 1]]
