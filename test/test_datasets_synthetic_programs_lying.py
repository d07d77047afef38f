from __future__ import annotations

from functools import lru_cache

import numpy as np
import pytest

from ivlm_core.bodies import AnnyRig
from ivlm_core.datasets.synthetic import Scene
from ivlm_core.datasets.synthetic.contact import touches
from ivlm_core.datasets.synthetic.programs.compose import compose
from ivlm_core.datasets.synthetic.programs.stage import part

RIG = AnnyRig.load()
BEDS = ("bed", "couch", "bench")
SIDES = ("lie on the left side", "lie on the right side")


@lru_cache(maxsize=6)
def made(category: str, mode: str, seed: int = 0) -> Scene:
    split = "unseen" if category == "bench" else "train"
    return compose(np.random.default_rng(seed), split, category, mode)


def frame(scene: Scene) -> np.ndarray:
    """Columns: the body's own left, up and forward in the world."""
    return scene.rotations["root"]


@pytest.mark.parametrize("category", BEDS)
def test_who_lies_on_the_back_faces_up(category: str) -> None:
    scene = made(category, "lie on the back")
    assert frame(scene)[1, 2] > 0.98
    touch = touches(scene)[0].body
    back = scene.body_vertices[touch]
    assert touch[part(RIG, "torso", "hips")].sum() > 60
    assert np.ptp(back @ frame(scene)[:, 1]) > 0.6


@pytest.mark.parametrize("mode", SIDES)
@pytest.mark.parametrize("category", BEDS)
def test_who_lies_on_a_side_has_it_down_and_faces_the_front(category: str, mode: str) -> None:
    scene = made(category, mode)
    down = -1.0 if "left" in mode else 1.0
    assert frame(scene)[1, 0] * down > 0.95
    assert frame(scene)[2, 2] > 0.8
    touch = touches(scene)[0].body
    below, above = ("left", "right") if "left" in mode else ("right", "left")
    assert touch[part(RIG, f"{below} thigh")].sum() > touch[part(RIG, f"{above} thigh")].sum()


@pytest.mark.parametrize("mode", ["lie on the back", *SIDES])
@pytest.mark.parametrize("category", BEDS)
def test_what_carries_them_stands_on_the_floor_under_all_of_them(category: str, mode: str) -> None:
    scene = made(category, mode)
    placed = scene.objects[0]
    assert placed.vertices[:, 1].min() == pytest.approx(0, abs=1e-3)
    assert touches(scene)[0].depth < 0.04
    local = (
        scene.body_vertices[part(RIG, "torso", "hips", "left foot", "right foot")] - placed.translation
    ) @ placed.rotation
    size = placed.mesh.vertices.max(axis=0)
    lengthwise = 2 if category == "bed" else 0
    assert (np.abs(local[:, lengthwise]) < size[lengthwise]).all()


def test_heads_lie_on_pillows() -> None:
    for mode in ("lie on the back", *SIDES):
        scene = made("bed", mode)
        head = part(RIG, "head")
        touch = touches(scene)[0]
        assert touch.body[head].sum() >= 8
        placed = scene.objects[0]
        pillows = [name for name in placed.shape.parts if "pillow" in name]
        index = [list(placed.shape.parts).index(name) for name in pillows]
        assert touch.object[np.isin(placed.shape.part_of_vertex, index)].any()
