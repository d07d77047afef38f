"""The recipe: schedule, limits, and the ablations as changes of it."""

from __future__ import annotations

import pytest

from ivlm_core.config import load_profile
from ivlm_core.errors import ConfigError
from ivlm_core.train.recipe import STAGE_RATES, VARIANTS, Recipe, apply_variants


def test_the_rate_rises_then_falls_to_its_last_share() -> None:
    recipe = Recipe(steps=1000, warmup=100, learning_rate=1e-3, final_share=0.02, answers_from=0, masks_from=0)
    rates = [recipe.rate(step, recipe.progress(step, 0)) for step in range(1000)]
    assert max(rates) == max(rates[95:105])
    assert rates == [*sorted(rates[:100]), *sorted(rates[100:], reverse=True)]
    assert rates[-1] == pytest.approx(2e-5, rel=0.01)


def test_pictures_then_answers_then_masks_and_a_slow_start_for_each() -> None:
    recipe = Recipe(steps=1000, warmup=1, answers_from=0.4, masks_from=0.7, learning_rate=0.1, final_share=0.02)
    stages = [recipe.stage(step / 1000) for step in range(1000)]
    assert stages == ["pictures"] * 400 + ["answers"] * 300 + ["masks"] * 300
    rates = [recipe.rate(step, step / 1000) / recipe.learning_rate for step in range(1000)]
    for first, last in ((400, 700), (700, 1000)):
        highest, lowest = STAGE_RATES[recipe.stage(first / 1000)]
        assert rates[first] < 0.05 * rates[first - 1]
        assert rates[first : first + 10] == sorted(rates[first : first + 10])
        assert rates[first + 10] == pytest.approx(highest, rel=0.02)
        assert rates[first + 10 : last] == sorted(rates[first + 10 : last], reverse=True)
        assert rates[last - 1] == pytest.approx(lowest, rel=0.02)
    assert Recipe(steps=10, masks=False).stage(0.99) == "answers"
    assert Recipe(steps=10, answers_from=0).stage(0) == "answers"


def test_the_last_stage_ends_with_the_last_rate_whichever_it_is() -> None:
    for recipe in (
        Recipe(steps=1000, masks=False),
        Recipe(steps=1000, masks_from=1.0),
        Recipe(steps=1000, answers_from=0, masks_from=0),
        Recipe(steps=1000),
    ):
        assert recipe.rate(999, 0.999) == pytest.approx(0.02 * recipe.learning_rate, rel=0.01)


def test_runs_of_one_part_have_the_same_rates_with_masks_and_without() -> None:
    with_masks = Recipe(steps=100, warmup=10, answers_from=0, masks_from=0)
    without = Recipe(steps=100, warmup=10, answers_from=0, masks_from=0, masks=False)
    assert with_masks.stage(0) == "masks"
    assert without.stage(0) == "answers"
    for step in range(100):
        assert with_masks.rate(step, step / 100) == without.rate(step, step / 100)


def test_the_limit_that_comes_first_ends_the_run() -> None:
    recipe = Recipe(steps=100, minutes=1)
    assert recipe.progress(50, 0) == 0.5
    assert recipe.progress(50, 45) == 0.75
    assert Recipe(steps=0, minutes=2).progress(10**6, 60) == 0.5


@pytest.mark.parametrize("name", sorted(VARIANTS))
def test_every_variant_gives_a_valid_run(name: str) -> None:
    profile, recipe = apply_variants((name,), load_profile("tiny"), Recipe())
    assert profile.localize.vertex_branch or recipe.masks


def test_variants_change_what_they_say() -> None:
    tiny = load_profile("tiny")
    profile, recipe = apply_variants(("no_vertex_branch", "concat_camera", "whole_mask"), tiny, Recipe())
    assert profile.localize.vertex_branch == 0
    assert profile.localize.featlift == "simple"
    assert recipe.whole_masks
    assert not recipe.mesh_loss
    assert apply_variants(("base",), tiny, Recipe()) == (tiny, Recipe())


def test_bad_settings_are_named() -> None:
    with pytest.raises(ConfigError, match="no_such"):
        apply_variants(("no_such",), load_profile("tiny"), Recipe())
    with pytest.raises(ConfigError, match="neither masks"):
        apply_variants(("no_vertex_branch", "no_mvloc"), load_profile("tiny"), Recipe())
    with pytest.raises(ConfigError, match="data_fraction"):
        Recipe(data_fraction=0)
    with pytest.raises(ConfigError, match="minutes"):
        Recipe(steps=0)
    with pytest.raises(ConfigError, match="start_rate"):
        Recipe(start_rate=0)
    with pytest.raises(ConfigError, match="answers_from"):
        Recipe(frozen_sight=True)
