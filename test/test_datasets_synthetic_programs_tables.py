from __future__ import annotations

from functools import lru_cache

import numpy as np
import pytest

from ivlm_core.bodies import AnnyRig
from ivlm_core.datasets.synthetic import Scene
from ivlm_core.datasets.synthetic.contact import touches
from ivlm_core.datasets.synthetic.programs.compose import compose
from ivlm_core.datasets.synthetic.programs.stage import Stage, Unreachable, part
from ivlm_core.datasets.synthetic.programs.tables import lean_on_table, sit_at_table, stand_at_table

RIG = AnnyRig.load()
MODES = ("left hand", "right hand", "both hands")


@lru_cache(maxsize=6)
def made(ground: str, mode: str) -> Scene:
    return compose(np.random.default_rng(4), "train", "dining table", mode, ground)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("ground", ["sit at table", "stand at table"])
def test_hands_lie_flat_on_the_top(ground: str, mode: str) -> None:
    scene = made(ground, mode)
    table = scene.objects[0]
    assert table.label == "dining table"
    top = table.vertices[:, 1].max()
    touch = touches(scene)[0]
    for hand in ("left hand", "right hand"):
        vertices = part(RIG, hand)
        if hand in mode or mode == "both hands":
            assert touch.body[vertices].sum() > 100
            assert abs(np.percentile(scene.body_vertices[vertices, 1], 5) - top) < 0.015
        else:
            assert not touch.body[vertices].any()


def test_sitters_at_a_table_have_their_knees_under_it() -> None:
    scene = made("sit at table", "both hands")
    table = scene.objects[0]
    top = table.to_world(table.shape.anchors["top"].point[None])[0, 1] - table.shape.sizes["top_thickness"]
    thighs = scene.body_vertices[part(RIG, "left thigh", "right thigh")]
    edge = table.vertices[:, 2].min()
    under = thighs[thighs[:, 2] > edge]
    assert len(under) > 20
    assert under[:, 1].max() < top
    assert scene.body_vertices[part(RIG, "torso", "hips"), 2].max() < edge


@pytest.mark.parametrize("ground", [sit_at_table, stand_at_table])
def test_table_top_is_where_the_table_is(ground: object) -> None:
    stage = Stage(np.random.default_rng(1), RIG)
    ground(stage)  # type: ignore[operator]
    assert stage.table is not None
    assert stage.table_top is not None
    assert not stage.table.parts
    points = stage.table.vertices
    top = stage.table_top
    np.testing.assert_allclose(points.max(axis=0), [top.left, top.height, top.far], atol=1e-5)
    np.testing.assert_allclose(points.min(axis=0), [top.right, stage.floor, top.near], atol=1e-5)


def test_hands_need_a_table() -> None:
    with pytest.raises(Unreachable, match="has no table"):
        lean_on_table(Stage(np.random.default_rng(0), RIG), "dining table", "left hand")
