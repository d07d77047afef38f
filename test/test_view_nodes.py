"""Things in the browser's view: sent once, replaced without a gap, removed when they are no longer shown."""

from __future__ import annotations

import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from ivlm_core.view.nodes import OVERLAP_SECONDS, Nodes

EYE, HERE = np.eye(3), np.zeros(3)


class Scene:
    """Stands in for viser's scene and remembers what is in it."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.added: list[tuple[str, Any]] = []

    def __getattr__(self, method: str) -> Any:
        def add(name: str, *arguments: Any, **options: Any) -> Any:
            self.names.append(name)
            self.added.append((method, arguments))
            return SimpleNamespace(remove=lambda: self.names.remove(name), **options)

        return add


@pytest.fixture
def scene() -> Scene:
    return Scene()


@pytest.fixture
def nodes(scene: Scene) -> Iterator[Nodes]:
    made = Nodes(SimpleNamespace(scene=scene))  # type: ignore[arg-type]
    yield made
    made.close()


def kinds(scene: Scene) -> list[str]:
    return sorted(name.rpartition("/")[0] for name in scene.names)


def test_equal_content_is_sent_once(nodes: Nodes, scene: Scene) -> None:
    for _ in range(3):
        with nodes.redrawn():
            nodes.surface("/body", b"glb", EYE, HERE, 1.0)
            nodes.label("/title", "a word", HERE)
            nodes.arrow("/free", HERE, HERE + 1, (0, 1, 2))
            nodes.camera("/camera", 1.0, 1.5, np.zeros((2, 2, 3), np.uint8), EYE, HERE)
    assert [kind for kind, _ in scene.added] == ["add_glb", "add_label", "add_arrows", "add_camera_frustum"]


def test_new_place_moves_what_is_there(nodes: Nodes, scene: Scene) -> None:
    with nodes.redrawn():
        nodes.surface("/body", b"glb", EYE, HERE, 1.0)
    with nodes.redrawn():
        nodes.surface("/body", b"glb", np.diag([1.0, -1.0, -1.0]), HERE + 2, 1.0)
    assert len(scene.added) == 1
    handle = nodes._shown["/body"].handle
    np.testing.assert_allclose(handle.position, [2, 2, 2])
    np.testing.assert_allclose(np.abs(handle.wxyz), [0, 1, 0, 0], atol=1e-12)


def test_new_content_overlaps_the_old(nodes: Nodes, scene: Scene, wait_until: Any) -> None:
    with nodes.redrawn():
        nodes.surface("/body", b"one", EYE, HERE, 1.0)
    began = time.monotonic()
    with nodes.redrawn():
        nodes.surface("/body", b"two", EYE, HERE, 1.0)
    assert kinds(scene) == ["/body", "/body"]
    wait_until(lambda: len(scene.names) == 1)
    assert time.monotonic() - began >= OVERLAP_SECONDS
    assert scene.added[-1] == ("add_glb", (b"two",))


def test_what_is_not_named_goes_away(nodes: Nodes, scene: Scene, wait_until: Any) -> None:
    with nodes.redrawn():
        nodes.surface("/body", b"one", EYE, HERE, 1.0)
        nodes.label("/title", "a word", HERE)
    with nodes.redrawn():
        nodes.label("/title", "a word", HERE)
    wait_until(lambda: kinds(scene) == ["/title"])


def test_closing_ends_its_thread(scene: Scene) -> None:
    made = Nodes(SimpleNamespace(scene=scene))  # type: ignore[arg-type]
    made.close()
    assert not made._reaper.is_alive()
