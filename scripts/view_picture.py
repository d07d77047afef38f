"""Make the picture of `docs/viewing.md`: a generated recording goes through `ivlm replay`, and `ivlm view` shows it.

python scripts/view_picture.py docs/images/view.png

Needs a Chromium or Chrome on PATH.
"""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from playwright.sync_api import sync_playwright

from ivlm_core.datasets import BagRecorder, BagTopic, message_store
from ivlm_core.datasets.synthetic.bag import TOPICS, RecordedFrame, demo_scene, write_frame
from ivlm_core.datasets.synthetic.camera import DEFAULT_INTRINSICS, SceneCamera
from ivlm_core.datasets.synthetic.renderer import SceneRenderer
from ivlm_core.datasets.synthetic.split import scene_rng
from ivlm_core.datasets.synthetic.surroundings import Surroundings
from ivlm_core.storage import atomic_path
from ivlm_core.types import FloatArray

BODIES = BagTopic("/bodies", "ivlm_ros/msg/HumanBodyArray")
CAMERA = "head_camera"
FRAMES, SEED = 8, 5
OBJECT = "chair"
DISTANCE, ELEVATION, SWEEP = 2.3, 9.0, (-42.0, -14.0)
# What software rendering needs; the same on every machine.
FLAGS = ("--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader")


def record(bag: Path) -> None:
    """Somebody on a chair with a laptop, a camera that moves past them, and their bodies as an estimator gives them."""
    rng = scene_rng(SEED, "test", 1)
    scene = demo_scene("sitting_camera", rng)
    renderer = SceneRenderer(scene, Surroundings.draw(rng))
    with BagRecorder(bag) as recorder:
        for topic in (*TOPICS, BODIES):
            recorder.add_topic(topic)
        for number, azimuth in enumerate(np.linspace(*SWEEP, FRAMES)):
            camera = SceneCamera.orbit(scene.focus, DISTANCE, azimuth, ELEVATION)
            render = renderer.render(camera, rng)
            boxes = []
            for place, thing in enumerate(scene.objects):
                box = render.box(scene.object_id(place))
                if box is not None:
                    boxes.append((f"{thing.label}_{place}", thing.label, *box))
            stamp = 1_700_000_000 * 10**9 + number * 10**8
            write_frame(recorder, RecordedFrame(render.image, DEFAULT_INTRINSICS, CAMERA, stamp, boxes))
            recorder.write(BODIES.name, bodies(stamp, camera.to_optical(scene.body_vertices)), stamp)


def bodies(stamp: int, vertices: FloatArray) -> Any:
    """One posed person, (V, 3) metres in the camera's optical frame."""
    types = message_store().types
    time = types["builtin_interfaces/msg/Time"](sec=stamp // 10**9, nanosec=stamp % 10**9)
    nothing = np.zeros(0, np.float32)
    body = types["ivlm_ros/msg/HumanBody"](
        person_id="",
        body_model="anny",
        score=1.0,
        pose_parameters=nothing,
        shape_parameters=nothing,
        shape_parameter_names=[],
        translation=types["geometry_msgs/msg/Vector3"](x=0.0, y=0.0, z=0.0),
        vertices=np.asarray(vertices, np.float32).ravel(),
        topology_hash="",
        keypoints=nothing,
    )
    header = types["std_msgs/msg/Header"](stamp=time, frame_id=CAMERA)
    return types[BODIES.type](header=header, bodies=[body])


def photograph(bag: Path, picture: Path) -> None:
    """What a browser shows of a bag."""
    browser_path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser_path is None:
        sys.exit("no Chromium or Chrome on PATH")
    command = [sys.executable, "-m", "ivlm_core.cli", "view", str(bag), "--port", "0", "--json"]
    viewer = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert viewer.stdout is not None
        url = json.loads(viewer.stdout.readline())["url"]
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=browser_path, args=list(FLAGS))
            page = browser.new_page(viewport={"width": 1440, "height": 820})
            page.goto(url)
            page.get_by_text("Frame everything").wait_for()
            # Software rendering earns a warning; people have a graphics card.
            page.locator(".mantine-Notification-closeButton").click(timeout=30_000)
            page.locator("input[aria-haspopup=listbox]:visible").click()
            page.get_by_role("option", name=OBJECT).click()
            page.get_by_text("▶|").click()
            page.wait_for_timeout(8000)
            with atomic_path(picture) as temporary:
                page.screenshot(path=temporary)
            browser.close()
    finally:
        viewer.send_signal(signal.SIGINT)
        viewer.wait()


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        record(folder / "recording")
        command = [sys.executable, "-m", "ivlm_core.cli", "replay", str(folder / "recording")]
        subprocess.run([*command, "--reconstruct", "--no-html", "--out", str(folder / "replayed")], check=True)
        photograph(folder / "replayed", Path(sys.argv[1]))


if __name__ == "__main__":
    main()
