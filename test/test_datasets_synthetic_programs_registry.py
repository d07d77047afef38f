from __future__ import annotations

import numpy as np
import pytest

from ivlm_core.bodies import AnnyRig
from ivlm_core.datasets.synthetic.programs.registry import ACTIONS, SUPPORTS
from ivlm_core.datasets.synthetic.programs.stage import LIMBS, SIDES, Stage, Unreachable

FIRST_MODE = {"suitcase": "sit", "skateboard": "both feet", "surfboard": "both feet", "snowboard": "both feet"}


@pytest.mark.parametrize("name", SUPPORTS)
def test_supports_say_where_the_floor_is_and_what_is_free(name: str) -> None:
    """Each works for some draw, places what carries the person, and leaves arms that know what to do."""
    category, _, first = name.partition(": ")
    modes = {"behind": "behind, left hand on the backrest", "lie": "lie on the back"}
    modes |= {"beside": "beside, right hand on the grip", "left": "left foot", "right": "right foot"}
    mode = modes.get(first, FIRST_MODE.get(category, "ride, both hands" if "cycle" in category else "sit"))
    for seed in range(10):
        stage = Stage(np.random.default_rng(seed), AnnyRig.load())
        try:
            SUPPORTS[name](stage, category, mode)
            for side in SIDES:
                if side in stage.free:
                    stage.idle(side)
        except Unreachable:
            continue
        break
    else:
        pytest.fail("none of ten draws works")
    assert stage.floor is not None
    assert stage.free <= LIMBS
    assert bool(stage.objects) == (name != "stand")
    assert stage.vertices()[:, 1].min() > stage.floor - 0.02
    for placed in stage.objects:
        assert placed.vertices[:, 1].min() == pytest.approx(stage.floor, abs=2e-3)


def test_actions_take_limbs_that_are_free() -> None:
    for category, action in ACTIONS.items():
        stage = Stage(np.random.default_rng(0), AnnyRig.load())
        stage.free.clear()
        with pytest.raises(Unreachable):
            action(stage, category, "left hand")
