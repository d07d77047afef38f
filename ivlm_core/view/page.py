"""The page's controls: which image, which object, what is shown of them."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from ivlm_core.draw import labelled_box
from ivlm_core.types import ByteArray
from ivlm_core.view.layout import view_of
from ivlm_core.view.moments import Moment, Pair, Source, pair_titles
from ivlm_core.view.panel import answer_html, legend_html, time_html
from ivlm_core.view.stage import Stage, Switches

if TYPE_CHECKING:
    import viser

CHOSEN, OTHER = (206, 60, 24), (96, 104, 115)
PICTURE_SIDE = 640
PANEL_WIDTH = 330
# Playing: a recording's pauses are cut short, and no more pictures are shown than anybody could follow.
LONGEST_PAUSE, SHORTEST_PAUSE = 1.0, 1 / 15
# How long a browser takes to lay out its panels.
SETTLE_SECONDS = 3.0
NOTHING = "nothing was asked about"


@dataclass(frozen=True, eq=False)
class _View:
    """What a browser's view was framed for, its width by height, where its camera was put, and when."""

    aspect: float
    position: NDArray[np.float64]
    at: float


class Page:
    """Fills a viser server with a source, and answers its controls.

    All browsers that look at it see the same choice; each has a view of its own.

    Parameters
    ----------
    server : running, empty. truth : whether the ground truth is shown to begin with.
    """

    def __init__(self, server: viser.ViserServer, source: Source, truth: bool = False) -> None:
        self._server = server
        self._source = source
        self._lock = threading.RLock()
        self._titles = pair_titles(source.pairs)
        # The last choice among what each camera sees.
        self._chosen: dict[str, Pair] = {}
        self._number = 0
        self._playing = threading.Event()
        self._closed = threading.Event()
        self._framed: object = None
        self._views: dict[int, _View] = {}
        self._stage = Stage(server)
        server.gui.configure_theme(show_logo=False, show_share_button=False)
        self._build_picture_panel()
        self._build_choice_panel(truth and source.has_truth)
        self._show(0)
        server.on_client_connect(self._meet)
        server.on_client_disconnect(self._part)
        self._player = threading.Thread(target=self._play, name="view-play", daemon=True)
        self._player.start()

    def close(self) -> None:
        """Stop what runs in the background."""
        self._closed.set()
        self._playing.set()
        self._player.join()
        self._stage.close()

    def _build_picture_panel(self) -> None:
        """Left: the picture and the time."""
        import viser

        gui, count = self._server.gui, len(self._source.stamps)
        panel = gui.add_panel()
        with panel.add_tab("Picture", viser.Icon.PHOTO):
            self._picture = gui.add_image(np.full((3, 4, 3), 240, np.uint8), format="jpeg", jpeg_quality=88)
            self._time = gui.add_html("")
            if count > 1:
                self._slider = gui.add_slider("Image", 0, count - 1, 1, 0)
                steps = gui.add_button_group("Step", ("|◀", "◀", "▶", "▶|"))
                self._button = gui.add_button("Play", icon=viser.Icon.PLAYER_PLAY)
                self._slider.on_update(lambda _: self._follow_slider())
                steps.on_click(lambda event: self._step(event.target.value))
                self._button.on_click(lambda _: self._toggle_play())
            self._legend = gui.add_html(legend_html())
        panel.dock_left()
        panel.set_width(PANEL_WIDTH)

    def _build_choice_panel(self, truth: bool) -> None:
        """Right: the object, what was found about it, and what is shown."""
        import viser

        gui, source = self._server.gui, self._source
        names = tuple(self._titles) or (NOTHING,)
        lowest, first = (min(value, 0.99) for value in source.thresholds)
        self._picker = gui.add_dropdown("Object", names, initial_value=names[0])
        self._text = gui.add_html("")
        self._threshold = gui.add_slider("Contact from", lowest, 1.0, 0.01, first)
        with gui.add_folder("Show"):
            self._body = gui.add_checkbox("Body", True)
            self._thing = gui.add_checkbox("Object", True)
            self._scene = gui.add_checkbox("Fitted scene", True)
            self._free = gui.add_checkbox("Free regions", True)
            self._truth = gui.add_checkbox("Ground truth", truth, visible=source.has_truth)
        everything = gui.add_button("Frame everything", icon=viser.Icon.FOCUS_CENTERED)
        self._picker.on_update(lambda _: self._choose())
        for control in (self._threshold, self._body, self._thing, self._scene, self._free, self._truth):
            control.on_update(lambda _: self._redraw())
        everything.on_click(lambda event: self._frame(event.client) if event.client is not None else None)
        gui.main_panel.dock_right()
        gui.main_panel.set_width(PANEL_WIDTH)

    def _follow_slider(self) -> None:
        with self._lock:
            # Many movements may have queued up here; where the slider is now is what counts.
            if self._slider.value != self._number:
                self._show(self._slider.value)

    def _step(self, button: str) -> None:
        with self._lock:
            last = len(self._source.stamps) - 1
            self._go_to({"|◀": 0, "◀": self._number - 1, "▶": self._number + 1, "▶|": last}[button])

    def _go_to(self, number: int) -> None:
        with self._lock:
            number = min(max(number, 0), len(self._source.stamps) - 1)
            if number != self._number:
                self._show(number)
                self._slider.value = number  # type: ignore[misc]

    def _choose(self) -> None:
        with self._lock:
            pair = self._titles.get(self._picker.value)
            if pair is None or pair == self._pair():
                return
            self._chosen[pair.camera] = pair
            places = self._source.occurrences[pair]
            if self._number in places:
                self._redraw()
            else:
                self._go_to(min(places, key=lambda place: abs(place - self._number)))

    def _toggle_play(self) -> None:
        import viser

        with self._lock:
            if self._playing.is_set():
                self._stop_playing()
                return
            self._button.label, self._button.icon = "Pause", viser.Icon.PLAYER_PAUSE
            if self._number == len(self._source.stamps) - 1:
                self._go_to(0)
            self._playing.set()

    def _stop_playing(self) -> None:
        import viser

        with self._lock:
            self._playing.clear()
            self._button.label, self._button.icon = "Play", viser.Icon.PLAYER_PLAY

    def _play(self) -> None:
        """While the button says so, go on at the pace of the recording."""
        stamps = self._source.stamps
        while not self._closed.is_set():
            self._playing.wait()
            started, number = time.monotonic(), self._number
            if number + 1 >= len(stamps):
                if not self._closed.is_set():
                    self._stop_playing()
                continue
            pause = min(max((stamps[number + 1] - stamps[number]) / 1e9, SHORTEST_PAUSE), LONGEST_PAUSE)
            if self._closed.wait(max(0.0, pause - (time.monotonic() - started))):
                return
            with self._lock:
                # Somebody may have stopped it or gone elsewhere meanwhile.
                if self._playing.is_set() and self._number == number:
                    self._go_to(number + 1)

    def _pair(self) -> Pair | None:
        """What was chosen among what the shown image's camera sees, or the first of it."""
        camera = self._source.cameras[self._number]
        if camera not in self._chosen:
            here = [pair for pair in self._source.pairs if pair.camera == camera]
            present = [pair for pair in here if self._number in self._source.occurrences[pair]]
            if not here:
                return None
            self._chosen[camera] = (present or here)[0]
        return self._chosen[camera]

    def _show(self, number: int) -> None:
        with self._lock:
            self._number = number
            pair = self._pair()
            title = next((title for title, other in self._titles.items() if other == pair), None)
            if title is not None:
                self._picker.value = title  # type: ignore[misc]
            self._redraw()

    def _redraw(self) -> None:
        with self._lock:
            moment, pair, threshold = self._source.moment(self._number), self._pair(), float(self._threshold.value)
            stamps = self._source.stamps
            switches = Switches(
                self._body.value, self._thing.value, self._scene.value, self._free.value, self._truth.value
            )
            answer = moment.answers.get(pair) if pair is not None else None
            with self._server.atomic():
                self._picture.image = _picture(moment, pair)
                self._time.content = time_html(moment, self._number, len(stamps), stamps[0], self._source.notes)
                self._text.content = answer_html(pair, answer, moment, threshold)
                self._stage.draw(moment, pair, threshold, switches)
            camera = self._source.cameras[self._number]
            framed = (camera, switches, self._stage.has_scene(camera))
            if framed != self._framed:
                self._framed = framed
                for client in self._server.get_clients().values():
                    self._frame(client)

    def _meet(self, client: viser.ClientHandle) -> None:
        """Frame everything for a new browser, and anew when its window changes, until somebody looks around there."""
        self._frame(client)

        @client.camera.on_update
        def _(camera: viser.CameraHandle) -> None:
            with self._lock:
                framed = self._views.get(client.client_id)
                if framed is None or np.isclose(framed.aspect, camera.aspect, rtol=0.01):
                    return
                # The browser's answer to the last framing may still be under way.
                settling = time.monotonic() - framed.at < SETTLE_SECONDS
                if settling or np.allclose(framed.position, camera.position, atol=1e-3):
                    self._frame(client)
                else:
                    self._views.pop(client.client_id)

    def _part(self, client: viser.ClientHandle) -> None:
        with self._lock:
            self._views.pop(client.client_id, None)

    def _frame(self, client: viser.ClientHandle) -> None:
        """Put a browser's camera where it sees everything."""
        with self._lock:
            camera = client.camera
            aspect = float(camera.aspect)
            position, middle = view_of(self._stage.extent, float(camera.fov), aspect)
            self._views[client.client_id] = _View(aspect, position, time.monotonic())
            with client.atomic():
                camera.up_direction = np.array([0.0, 1.0, 0.0])
                camera.position = position
                camera.look_at = middle


def _picture(moment: Moment, pair: Pair | None) -> ByteArray:
    """The picture as it stands in the panel, with the boxes of the detector, the chosen object's in another colour."""
    if moment.picture is None:
        return np.full((90, 160, 3), 238, dtype=np.uint8)
    height, width = moment.picture.shape[:2]
    scale = min(1.0, PICTURE_SIDE / max(height, width)) if moment.boxes else min(1.0, 2 * PICTURE_SIDE / width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    shown = np.ascontiguousarray(cv2.resize(moment.picture, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
    ours = {} if pair is None else {(pair.label, pair.object_id, pair.person_id), (pair.label, pair.object_id, "")}
    for box in sorted(moment.boxes, key=lambda box: (box.label, box.object_id, box.person_id) in ours):
        chosen = (box.label, box.object_id, box.person_id) in ours
        labelled_box(shown, box.xyxy, box.label, CHOSEN if chosen else OTHER, scale)
    return shown
