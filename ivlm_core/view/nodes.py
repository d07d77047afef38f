"""What stands in the browser's 3D view, by name: sent when it is new or changed, removed when it is no longer shown."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ivlm_core.types import ByteArray
from ivlm_core.view.layout import Vector, quaternion

if TYPE_CHECKING:
    import viser

# The browser needs a moment to unpack a new surface. The old one goes only then, so that nothing flickers.
OVERLAP_SECONDS = 0.3


@dataclass(eq=False)
class _Node:
    handle: Any
    content: object
    place: bytes


class Nodes:
    """The named things of one server's scene; for one thread at a time."""

    def __init__(self, server: viser.ViserServer) -> None:
        self._scene = server.scene
        self._shown: dict[str, _Node] = {}
        self._used: set[str] = set()
        self._count = 0
        self._retired: list[tuple[float, Any]] = []
        self._changed = threading.Condition()
        self._closed = False
        self._reaper = threading.Thread(target=self._reap, name="view-nodes", daemon=True)
        self._reaper.start()

    def close(self) -> None:
        """Stop removing what was replaced."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._reaper.join()

    @contextlib.contextmanager
    def redrawn(self) -> Iterator[None]:
        """What is not named while it lasts goes away."""
        self._used = set()
        yield
        for name in self._shown.keys() - self._used:
            self._retire(self._shown.pop(name).handle, 0.0)

    def surface(self, name: str, glb: bytes, rotation: Vector, position: Vector, scale: float) -> None:
        """A binary glTF at `x_page = scale · rotation @ x + position`."""

        def add(unique: str) -> Any:
            return self._scene.add_glb(
                unique, glb, scale=scale, wxyz=quaternion(rotation), position=position, cast_shadow=False
            )

        self._put(name, (glb, scale), rotation, position, add)

    def label(self, name: str, text: str, position: Vector) -> None:
        """A text whose lower middle is at a position."""

        def add(unique: str) -> Any:
            return self._scene.add_label(unique, text, position=position, anchor="bottom-center", font_screen_scale=0.9)

        self._put(name, text, np.eye(3), position, add)

    def arrow(self, name: str, start: Vector, end: Vector, color: tuple[int, int, int]) -> None:
        """An arrow between two points."""
        points = np.array([[start, end]], dtype=np.float32)

        def add(unique: str) -> Any:
            return self._scene.add_arrows(
                unique, points, color, shaft_radius=0.008, head_radius=0.022, head_length=0.05
            )

        self._put(name, points.tobytes(), np.eye(3), np.zeros(3), add)

    def camera(
        self, name: str, fov: float, aspect: float, image: ByteArray | None, rotation: Vector, position: Vector
    ) -> None:
        """A camera with its picture; `fov` is vertical, radians, `rotation` leads from optical axes to the page's."""

        def add(unique: str) -> Any:
            return self._scene.add_camera_frustum(
                unique,
                fov,
                aspect,
                scale=0.34,
                thickness=0.008,
                color=(70, 76, 86),
                image=image,
                format="jpeg",
                jpeg_quality=80,
                wxyz=quaternion(rotation),
                position=position,
                cast_shadow=False,
                receive_shadow=False,
            )

        self._put(name, (fov, aspect, None if image is None else image.tobytes()), rotation, position, add)

    def _put(self, name: str, content: object, rotation: Vector, position: Vector, add: Any) -> None:
        self._used.add(name)
        place = np.concatenate([rotation.ravel(), position]).tobytes()
        old = self._shown.get(name)
        if old is not None and old.content == content:
            if old.place != place:
                old.handle.wxyz, old.handle.position = quaternion(rotation), position
                old.place = place
            return
        if old is not None:
            self._retire(old.handle, OVERLAP_SECONDS)
        self._count += 1
        self._shown[name] = _Node(add(f"{name}/{self._count}"), content, place)

    def _retire(self, handle: Any, after: float) -> None:
        with self._changed:
            self._retired.append((time.monotonic() + after, handle))
            self._changed.notify()

    def _reap(self) -> None:
        with self._changed:
            while not self._closed:
                now = time.monotonic()
                due = [handle for at, handle in self._retired if at <= now]
                self._retired = [item for item in self._retired if item[0] > now]
                for handle in due:
                    handle.remove()
                self._changed.wait(min((at for at, _ in self._retired), default=now + 3600.0) - now)
