from __future__ import annotations

import numpy as np
import pytest

from ivlm_core.bodies import AnnyRig
from ivlm_core.datasets.synthetic.contact import touches
from ivlm_core.datasets.synthetic.programs.compose import compose
from ivlm_core.datasets.synthetic.programs.stage import part

RIG = AnnyRig.load()


@pytest.mark.parametrize("seed", [0, 1])
def test_surfers_lie_on_the_belly_with_both_hands_on_the_board(seed: int) -> None:
    scene = compose(np.random.default_rng(seed), "train", "surfboard", "lie prone")
    assert scene.rotations["root"][1, 2] < -0.95
    touch = touches(scene)[0].body
    for name in ("left hand", "right hand"):
        assert touch[part(RIG, name)].sum() > 30
    assert touch[part(RIG, "hips", "torso")].sum() > 15
    nose = scene.objects[0].rotation[:, 2]
    assert nose @ scene.rotations["root"][:, 1] > 0.95
    head = scene.body_vertices[part(RIG, "head"), 1].min()
    assert head > scene.body_vertices[touch, 1].mean() + 0.04
