"""What a moment puts on the stage: the switches decide, the chosen pair is coloured, and nothing jumps about."""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from ivlm_core.bodies import load_body
from ivlm_core.objects import library_mesh
from ivlm_core.types import CameraIntrinsics, Mesh
from ivlm_core.view import stage as module
from ivlm_core.view.moments import Heat, Moment, Pair, PairAnswer, Person, Placement, Region
from ivlm_core.view.stage import Stage, Switches

BODY, CHAIR, CUP = load_body().mesh, library_mesh("chair"), library_mesh("cup")
FIRST, SECOND = Pair("cam", "chair", "0", "p"), Pair("cam", "cup", "1", "")


class Drawn:
    """Stands in for `Nodes` and remembers the last picture."""

    def __init__(self, server: Any) -> None:
        self.things: dict[str, Any] = {}

    def redrawn(self) -> Any:
        self.things = {}
        return nullcontext()

    def surface(self, name: str, glb: bytes, rotation: Any, position: Any, scale: float) -> None:
        self.things[name] = glb, np.array(position), scale

    def label(self, name: str, text: str, position: Any) -> None:
        self.things[name] = text

    def arrow(self, name: str, start: Any, end: Any, color: Any) -> None:
        self.things[name] = end - start

    def camera(self, name: str, fov: float, aspect: float, image: Any, rotation: Any, position: Any) -> None:
        self.things[name] = fov, aspect, image, np.array(position)

    def close(self) -> None: ...


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Stage:
    monkeypatch.setattr(module, "Nodes", Drawn)
    accepts = type("Accepts", (), {"__getattr__": lambda self, name: lambda *_, **__: None})()
    return Stage(SimpleNamespace(scene=accepts))  # type: ignore[arg-type]


def heat(mesh: Mesh, value: float = 1.0) -> Heat:
    return Heat(mesh, np.full(len(mesh.vertices), value, np.float32), 0.5)


def moment(fitted: bool = True, **fields: Any) -> Moment:
    region = Region(np.array([0, 0, 2.0]), np.array([0, -1.0, 0]), 10.0, 0.9, np.array([0, 1], np.int32))
    place = Placement(np.eye(3), np.array([0.2, 0.3, 2.0]), 1.1) if fitted else None
    answers = {
        FIRST: PairAnswer(
            heat(BODY),
            heat(CHAIR),
            heat(BODY, 0.0),
            heat(CHAIR, 0.0),
            placement=place,
            placed_mesh=CHAIR if fitted else None,
            regions=(region,) if fitted else (),
        ),
        SECOND: PairAnswer(heat(BODY, 0.0), Heat(None, np.zeros(0, np.float32), 0.5, "no mesh")),
    }
    posed = Mesh(BODY.vertices * [1, -1, -1] + np.float32([0, 0, 2.5]), BODY.faces)
    known: dict[str, Any] = {
        "picture": np.zeros((4, 6, 3), np.uint8),
        "camera": CameraIntrinsics(10.0, 10.0, 2.5, 1.5, 6, 4),
        "people": (Person(posed, "p"),) if fitted else (),
    }
    return Moment(0, "cam", picture_note="", answers=answers, **{**known, **fields})


def names(stage: Stage) -> set[str]:
    return {name for name in stage._nodes.things if not name.startswith("/title")}


def test_everything_of_the_chosen_pair_is_drawn(stage: Stage) -> None:
    stage.draw(moment(), FIRST, 0.5, Switches())
    assert names(stage) == {
        "/body front",
        "/body back",
        "/object front",
        "/object back",
        "/scene/person 0",
        "/scene/object 0",
        "/scene/free 0",
        "/scene/camera",
    }
    things = stage._nodes.things
    # Both sides are the same surface, and the person's contact is that of the body.
    assert things["/body front"][0] == things["/body back"][0]
    assert things["/scene/object 0"][2] == 1.1
    np.testing.assert_allclose(np.linalg.norm(things["/scene/free 0"]), module.ARROW_METRES)
    fov, aspect, image, _ = things["/scene/camera"]
    assert (fov, aspect) == (pytest.approx(2 * np.arctan(0.2)), pytest.approx(1.5))
    assert image is not None
    assert "× its size" in things["/title/object front"]


@pytest.mark.parametrize(
    ("switch", "gone"),
    [
        ("body", {"/body front", "/body back"}),
        ("thing", {"/object front", "/object back"}),
        ("scene", {"/scene/person 0", "/scene/object 0", "/scene/free 0", "/scene/camera"}),
        ("free", {"/scene/free 0"}),
    ],
)
def test_switches_take_their_part_away(stage: Stage, switch: str, gone: set[str]) -> None:
    stage.draw(moment(), FIRST, 0.5, Switches())
    everything = names(stage)
    stage.draw(moment(), FIRST, 0.5, Switches(**{switch: False}))
    assert everything - names(stage) == gone


def test_truth_stands_below_the_answer(stage: Stage) -> None:
    stage.draw(moment(), FIRST, 0.5, Switches(truth=True))
    assert {"/true body front", "/true object back"} <= names(stage)
    things = stage._nodes.things
    assert things["/true body front"][1][1] < things["/body front"][1][1]
    assert things["/true body front"][0] != things["/body front"][0]
    assert things["/title/true object front"].startswith("true affordance")


def test_only_the_chosen_pair_s_person_and_object_are_coloured(stage: Stage) -> None:
    stage.draw(moment(), FIRST, 0.5, Switches())
    first = dict(stage._nodes.things)
    stage.draw(moment(), SECOND, 0.5, Switches())
    second = stage._nodes.things
    for name in ("/scene/person 0", "/scene/object 0"):
        assert first[name][0] != second[name][0]
    # What has no mesh is left out, and so is another person's contact.
    assert "/object front" not in second
    stage.draw(moment(people=(Person(moment().people[0].mesh, "q"),)), FIRST, 0.5, Switches())
    assert stage._nodes.things["/scene/person 0"][0] == second["/scene/person 0"][0]


def test_people_without_the_body_s_vertices_keep_their_own_colours(stage: Stage) -> None:
    triangle = Mesh(np.array([[0, 0, 2], [1, 0, 2], [0, 1, 2]], np.float32), np.array([[0, 1, 2]]))
    painted = Person(triangle, "", np.array([[255, 0, 0]] * 3, np.uint8))
    stage.draw(moment(people=(painted,)), FIRST, 0.5, Switches())
    red = stage._nodes.things["/scene/person 0"][0]
    stage.draw(moment(people=(Person(triangle, ""),)), FIRST, 0.5, Switches())
    assert stage._nodes.things["/scene/person 0"][0] != red


def test_nothing_moves_when_the_scene_comes_and_goes(stage: Stage) -> None:
    stage.draw(moment(fitted=False), FIRST, 0.5, Switches())
    assert not stage.has_scene("cam")
    assert "/scene/camera" not in names(stage)
    stage.draw(moment(), FIRST, 0.5, Switches())
    assert stage.has_scene("cam")
    places = {name: stage._nodes.things[name][1] for name in ("/body front", "/object back")}
    extent = stage.extent
    stage.draw(moment(fitted=False), FIRST, 0.5, Switches())
    for name, place in places.items():
        np.testing.assert_array_equal(stage._nodes.things[name][1], place)
    np.testing.assert_array_equal(stage.extent, extent)


def test_drawn_pictures_are_not_the_camera_s(stage: Stage) -> None:
    drawn = moment()
    object.__setattr__(drawn, "picture_note", "This is an overlay.")
    stage.draw(drawn, FIRST, 0.5, Switches())
    assert stage._nodes.things["/scene/camera"][2] is None


def test_nothing_is_drawn_of_nothing(stage: Stage) -> None:
    stage.draw(Moment(0, "", None, "", {}), None, 0.5, Switches())
    assert stage._nodes.things == {}
