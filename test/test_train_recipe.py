"""The recipe: schedule, limits, and the ablations as changes of it."""

from __future__ import annotations

import pytest

from ivlm_core.config import load_profile
from ivlm_core.errors import ConfigError
from ivlm_core.train.recipe import VARIANTS, Recipe, apply_variants


def test_the_rate_rises_then_falls_to_its_last_share() -> None:
    recipe = Recipe(steps=1000, warmup=100, learning_rate=1e-3, final_share=0.02)
    rates = [recipe.rate(step, recipe.progress(step, 0)) for step in range(1000)]
    assert max(rates) == max(rates[95:105])
    assert rates == [*sorted(rates[:100]), *sorted(rates[100:], reverse=True)]
    assert rates[-1] == pytest.approx(2e-5, rel=0.01)


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
