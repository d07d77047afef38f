"""The installed node under a stream of 640×480 images: frames per second, latency, the shell's own share, memory.

`. ./env.sh && python benchmarks/bench_node.py`; the budgets are 10 frames/s with one object, 5 ms of CPU for the shell
(conversion and publishing) and 1.5 GB of memory. The baseline is the same pipeline called in this process, without ROS.
"""

from __future__ import annotations

import array
import os
import random
import statistics
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import psutil
import report
import torch
from skimage.data import astronaut

from ivlm_ros.node_process import NODE, NodeProcess
from ivlm_ros.transport import use_large_image_profile

SECONDS = 12.0
STREAM_HZ = 30.0
LABEL = "chair"


def pictures(kind: str, count: int = 30) -> list[np.ndarray]:
    """640×480 pictures: a `video` (a photograph, the camera swaying, sensor noise) or `unrelated` ones (noise).

    The model verifies its last answer before it writes a new one, so that a video costs fewer passes than unrelated
    pictures, whose answers change from one to the next.
    """
    rng = np.random.default_rng(0)
    if kind == "unrelated":
        return [rng.integers(0, 255, (480, 640, 3), dtype=np.uint8) for _ in range(count)]
    photo = cv2.resize(astronaut(), (720, 720), interpolation=cv2.INTER_AREA)
    frames = []
    for index in range(count):
        x, y = (round(30 + 30 * np.sin(2 * np.pi * index / count + phase)) for phase in (0.0, 1.0))
        crop = photo[y : y + 480, x : x + 640].astype(np.int16)
        frames.append(np.clip(crop + rng.normal(0, 4, crop.shape), 0, 255).astype(np.uint8))
    return frames


class Stream:
    """Publishes images with one detection each, and takes the node's answers and diagnostics."""

    def __init__(self, node: Any) -> None:
        from diagnostic_msgs.msg import DiagnosticArray
        from ivlm_ros.msg import DetectedObjectArray, HumanContactArray
        from rclpy.qos import QoSProfile, ReliabilityPolicy
        from sensor_msgs.msg import Image

        reliable = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE)
        self.node = node
        self.latencies: list[float] = []
        self.diagnostics: dict[str, str] = {}
        self._sent: dict[int, float] = {}
        self._images = node.create_publisher(Image, "image", reliable)
        self._detections = node.create_publisher(DetectedObjectArray, "detections", reliable)
        node.create_subscription(HumanContactArray, f"{NODE}/human_contacts", self._answered, reliable)
        node.create_subscription(DiagnosticArray, "/diagnostics", self._diagnosed, 10)

    def send(self, number: int, pixels: np.ndarray) -> None:
        """One image and its detection, both stamped with `number`."""
        from ivlm_ros.msg import DetectedObject, DetectedObjectArray
        from sensor_msgs.msg import Image

        image = Image(height=480, width=640, encoding="rgb8", step=1920, data=array.array("B", pixels.tobytes()))
        image.header.frame_id = "camera"
        image.header.stamp.sec = number
        found = DetectedObjectArray(header=image.header, objects=[DetectedObject(id="1", label=LABEL, score=1.0)])
        self._sent[number] = time.perf_counter()
        self._detections.publish(found)
        self._images.publish(image)

    def _answered(self, message: Any) -> None:
        self.latencies.append(time.perf_counter() - self._sent[message.header.stamp.sec])

    def _diagnosed(self, message: Any) -> None:
        for status in message.status:
            self.diagnostics |= {value.key: value.value for value in status.values}


def through_node(reasoning: str, kind: str) -> dict[str, float]:
    """Stream into a freshly started node and return its figures."""
    import rclpy
    from rclpy.executors import SingleThreadedExecutor

    with tempfile.TemporaryDirectory() as folder:
        arguments = ["--ros-args", "-p", f"reasoning:={reasoning}", "-p", "image_reliability:=reliable"]
        with NodeProcess(Path(folder) / "node.log", arguments) as process:
            helper = rclpy.create_node("bench_node_control")
            process.transition(helper, "configure", 120.0)
            process.transition(helper, "activate", 20.0)
            helper.destroy_node()
            stream = Stream(rclpy.create_node("bench_node"))
            executor = SingleThreadedExecutor()
            executor.add_node(stream.node)
            spinning = threading.Thread(target=executor.spin, daemon=True)
            spinning.start()
            time.sleep(2.0)
            number = 0
            shown = pictures(kind)

            def play(seconds: float) -> None:
                nonlocal number
                end = time.perf_counter() + seconds
                while time.perf_counter() < end:
                    due = time.perf_counter() + 1.0 / STREAM_HZ
                    number += 1
                    stream.send(number, shown[number % len(shown)])
                    time.sleep(max(0.0, due - time.perf_counter()))

            play(3.0)
            stream.latencies.clear()
            play(SECONDS)
            latencies = sorted(stream.latencies)
            memory = psutil.Process(process.pid).memory_info().rss / 2**20
            time.sleep(1.5)
            diagnostics = dict(stream.diagnostics)
            executor.shutdown()
            spinning.join(5.0)
            stream.node.destroy_node()
    if not latencies:
        raise SystemExit("the node answered nothing; see its log by running it by hand")
    return {
        "fps": len(latencies) / SECONDS,
        "p50": statistics.median(latencies) * 1e3,
        "p95": latencies[int(0.95 * (len(latencies) - 1))] * 1e3,
        "shell_cpu": float(diagnostics["latency_shell_cpu_p50_ms"]),
        "model": float(diagnostics["latency_model_p50_ms"]),
        "memory": memory,
    }


def bare(reasoning: str, kind: str) -> float:
    """Median ms of one frame through the pipeline alone, with as many threads as the node gives it."""
    from ivlm_core import Frame, ObjectQuery, Pipeline

    pipeline = Pipeline.load("tiny", reasoning=reasoning)
    frames = [Frame(image) for image in pictures(kind)]
    queries = [ObjectQuery(LABEL)]
    count = iter(range(10**9))
    return report.milliseconds(lambda: pipeline.run(frames[next(count) % 30], queries), repeats=60, warm=5)


def main() -> None:
    options = report.parser(__doc__ or "").parse_args()
    os.environ["ROS_DOMAIN_ID"] = str(random.SystemRandom().randint(1, 101))
    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    use_large_image_profile()
    import rclpy

    rows = []
    torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) - 1))
    for reasoning, kind in (("parts", "video"), ("parts", "unrelated"), ("direct", "video")):
        alone = bare(reasoning, kind)
        rclpy.init(args=[])
        try:
            node = through_node(reasoning, kind)
        finally:
            rclpy.try_shutdown()
        rows.append(
            (
                reasoning,
                kind,
                round(1e3 / alone, 1),
                round(node["fps"], 1),
                round(node["fps"] * alone / 1e3, 2),
                round(node["p50"]),
                round(node["p95"]),
                round(node["model"], 1),
                round(node["shell_cpu"], 2),
                round(node["memory"]),
            )
        )
    report.show(
        "node, tiny, 640×480, one object",
        (
            "reasoning",
            "pictures",
            "pipeline alone /s",
            "node /s",
            "ratio",
            "latency p50 ms",
            "p95 ms",
            "model ms",
            "shell CPU ms",
            "memory MB",
        ),
        rows,
        options.json,
        stream_hz=STREAM_HZ,
        seconds=SECONDS,
    )


if __name__ == "__main__":
    main()
