"""`ivlm view` in a real browser: what is chosen is what is shown, and nothing leaves this computer.

The browser is Chromium or Chrome from PATH, drawing in software. Where there is none the tests are skipped, unless
IVLM_REQUIRE_BROWSER=1 says that there must be one, as `make test` does on Debian.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image

from ivlm_core.bodies import load_body

REQUIRED = os.environ.get("IVLM_REQUIRE_BROWSER") == "1"
try:
    from playwright.sync_api import Page, sync_playwright
except ImportError:
    if REQUIRED:
        raise
    pytest.skip("playwright is not installed (requirements/lock.txt has it)", allow_module_level=True)

# The names that scripts/setup.sh looks for, too.
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = ("--no-sandbox", "--disable-dev-shm-usage", "--use-gl=angle", "--use-angle=swiftshader")
# Width of a panel, see `ivlm_core.view.page`.
PANEL = 330
SECOND = 10**9
MAGENTA = (255, 0, 255)
EVIL = "<img src='http://192.0.2.1/spy.png' onerror='document.title=1'>"


def browser_path() -> str:
    """A browser that starts; a snap's stand-in does not."""
    tried = []
    for name in BROWSERS:
        if path := shutil.which(name):
            done = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=60, check=False)
            if done.returncode == 0:
                return path
            tried.append(f"{path} does not run: {done.stderr.strip()[:200]}")
    told = "; ".join(tried) or f"none of {', '.join(BROWSERS)} is on PATH"
    if REQUIRED:
        pytest.fail(f"a browser is required here, and {told}")
    pytest.skip(f"no browser: {told}")


@pytest.fixture(scope="module")
def bag(answered_bag: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three images of a cup and a chair; who touches them changes, and in the last the chair is in the scene."""
    path = tmp_path_factory.mktemp("view") / "bag"
    everywhere = np.arange(len(load_body().mesh.vertices))
    magenta = np.full((48, 64, 3), MAGENTA, np.uint8)
    with answered_bag(path) as made:
        make = made.types.make
        pose = make("geometry_msgs/msg/Pose", position=make("geometry_msgs/msg/Point", x=0.3, y=0.2, z=2.4))
        for number, (cup, chair) in enumerate([(everywhere, ()), ((), everywhere), ((), ())]):
            stamp = (10 + number) * SECOND
            made.picture(stamp, magenta)
            made.camera(stamp, 60.0, 64, 48)
            made.detections(stamp, cup=(5.0, 5.0, 30.0, 40.0), chair=(30.0, 5.0, 60.0, 40.0))
            fitted = (
                {"pose_valid": True, "pose": pose, "scale": 1.0}
                if number == 2
                else {"pose_reason": "the body is not known"}
            )
            if number == 2:
                made.body(stamp, load_body().mesh.vertices * [1, -1, -1] + [0, 0, 2.5])
            made.answer(
                stamp,
                [made.contact("cup", cup, answer=f"{EVIL} number {number}"), made.contact("chair", chair)],
                [made.affordance("cup"), made.affordance("chair", **fitted)],
                model="a model",
            )
            made.answer(stamp, [made.contact("cup", everywhere)], [made.affordance("cup")], below="/ground_truth")
    return path


@pytest.fixture(scope="module")
def viewer(bag: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """What the running command printed; it must end well."""
    environment = {**os.environ, "IVLM_CACHE_DIR": str(tmp_path_factory.mktemp("cache"))}
    command = [sys.executable, "-m", "ivlm_core.cli", "view", str(bag), "--port", "0", "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, process.stderr.read() if process.stderr else ""
    yield json.loads(line)
    process.send_signal(signal.SIGINT)
    try:
        rest, errors = process.communicate(timeout=30)
    finally:
        process.kill()
    assert (process.returncode, rest, errors) == (0, "", "")


@pytest.fixture(scope="module")
def page(viewer: dict[str, Any]) -> Iterator[Page]:
    """The page in a browser; afterwards: no error on its console, and nothing asked of anybody else."""
    path = browser_path()
    requests: list[str] = []
    errors: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=[*FLAGS, "--enable-unsafe-swiftshader"])
        # Half the pixels: they are drawn in software.
        shown = browser.new_context(viewport={"width": 1060, "height": 560}, device_scale_factor=0.5).new_page()
        shown.on("request", lambda request: requests.append(request.url))
        shown.on("websocket", lambda socket: requests.append(socket.url))
        shown.on("pageerror", lambda error: errors.append(str(error)))
        shown.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        shown.goto(viewer["url"])
        shown.get_by_text("Frame everything").wait_for(timeout=60_000)
        yield shown
        browser.close()
    own = urlsplit(viewer["url"]).netloc
    outside = [url for url in requests if urlsplit(url.removeprefix("blob:")).netloc not in (own, "")]
    assert any(url.startswith("ws://") for url in requests)
    assert (outside, errors) == ([], [])


def canvas(page: Page) -> np.ndarray:
    """The pixels of the 3D view between the two panels, (H, W, 3)."""
    size = page.viewport_size
    assert size is not None
    # viser's own messages are at the top.
    between = {"x": PANEL + 10, "y": 160, "width": size["width"] - 2 * PANEL - 20, "height": size["height"] - 160}
    return np.asarray(Image.open(io.BytesIO(page.screenshot(clip=between))).convert("RGB")).astype(int)


def heat(page: Page) -> int:
    """How many pixels are as red as full contact."""
    red, green, blue = np.moveaxis(canvas(page), -1, 0)
    return int(((red > 150) & (green < 90) & (blue < 90)).sum())


def magenta(page: Page) -> int:
    """How many pixels show the camera's picture in the scene."""
    red, green, blue = np.moveaxis(canvas(page), -1, 0)
    return int(((red > 200) & (green < 60) & (blue > 200)).sum())


def soon(page: Page, value: Callable[[Page], int], holds: Callable[[int], bool]) -> int:
    """The value once it holds; the browser draws when it can."""
    seen = []
    for _ in range(120):
        seen.append(value(page))
        if holds(seen[-1]):
            return seen[-1]
        page.wait_for_timeout(250)
    pytest.fail(f"waited in vain; seen were {seen[:3]} … {seen[-3:]}")


def choose(page: Page, name: str) -> None:
    page.locator("input[aria-haspopup=listbox]:visible").click()
    page.get_by_role("option", name=name, exact=True).click()


def move_to(page: Page, number: int) -> None:
    """Drag the time slider by its keys."""
    slider = page.get_by_role("slider").first
    while (now := int(slider.get_attribute("aria-valuenow") or 0)) != number:
        slider.press("ArrowRight" if number > now else "ArrowLeft")


def test_command_says_what_it_serves(viewer: dict[str, Any]) -> None:
    assert urlsplit(viewer["url"]).hostname == "127.0.0.1"
    assert {key: viewer[key] for key in ("frames", "objects", "ground_truth")} == {
        "frames": 3,
        "objects": ["cup", "chair"],
        "ground_truth": True,
    }


def test_slider_and_picker_change_texts_and_canvas(page: Page) -> None:
    assert page.get_by_text("image 1 of 3").is_visible()
    touched = soon(page, heat, lambda count: count > 250)
    # What the model says is shown as it is said, and is no markup.
    assert page.get_by_text(f"{EVIL} number 0").is_visible()
    assert page.locator("img[src*='192.0.2.1']").count() == 0

    move_to(page, 1)
    page.get_by_text("image 2 of 3").wait_for()
    page.get_by_text(f"{EVIL} number 1").wait_for()
    soon(page, heat, lambda count: count < touched // 20)

    choose(page, "chair")
    page.get_by_text("No pose: the body is not known").wait_for()
    soon(page, heat, lambda count: count > touched // 2)
    assert page.get_by_text(EVIL).count() == 0


def test_scene_stands_in_the_camera_s_metres_and_can_be_hidden(page: Page) -> None:
    choose(page, "chair")
    move_to(page, 2)
    page.get_by_text("0.30 right, 0.20 down, 2.40 m ahead").wait_for()
    seen = soon(page, magenta, lambda count: count > 40)
    page.get_by_label("Fitted scene").uncheck()
    soon(page, magenta, lambda count: count < seen // 20)
    page.get_by_label("Fitted scene").check()
    soon(page, magenta, lambda count: count > seen // 2)


def test_ground_truth_stands_beside_the_answer(page: Page) -> None:
    choose(page, "cup")
    move_to(page, 1)
    soon(page, heat, lambda count: count == 0)
    page.get_by_label("Ground truth").check()
    soon(page, heat, lambda count: count > 125)
    page.get_by_label("Ground truth").uncheck()
    soon(page, heat, lambda count: count == 0)


def test_play_goes_through_all_images(page: Page) -> None:
    move_to(page, 0)
    page.get_by_role("button", name="Play").click()
    page.get_by_role("button", name="Pause").wait_for()
    page.get_by_text("image 3 of 3").wait_for(timeout=10_000)
    page.get_by_role("button", name="Play").wait_for(timeout=10_000)


def test_a_second_browser_sees_the_same(page: Page, viewer: dict[str, Any]) -> None:
    move_to(page, 1)
    page.get_by_text("image 2 of 3").wait_for()
    other = page.context.new_page()
    other.goto(viewer["url"])
    other.get_by_text("image 2 of 3").wait_for(timeout=30_000)
    other.close()
