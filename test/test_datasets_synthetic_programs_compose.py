from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from ivlm_core.datasets.synthetic.contact import check_scene
from ivlm_core.datasets.synthetic.programs import compose as module
from ivlm_core.datasets.synthetic.programs.compose import (
    CATEGORIES,
    GROUNDS,
    MIX,
    SEATS,
    SECONDS,
    Choice,
    compose,
    draw_scene,
)
from ivlm_core.datasets.synthetic.programs.registry import ACTIONS, SUPPORTS
from ivlm_core.datasets.synthetic.split import UNSEEN
from ivlm_core.errors import ConfigError, DatasetError, InputError
from ivlm_core.objects import canonical_label


def other_side(mode: str) -> str:
    return mode.replace("left", "<").replace("right", "left").replace("<", "right")


def test_left_and_right_weigh_the_same() -> None:
    for category, modes in MIX.items():
        for mode, weight in modes.items():
            assert modes[other_side(mode)] == weight, (category, mode)


def test_every_category_is_a_thing_that_can_be_staged() -> None:
    assert len(CATEGORIES) == 24
    assert set(CATEGORIES) >= UNSEEN
    for category, modes in MIX.items():
        assert canonical_label(category) is not None
        for mode in modes:
            assert module._support_of(category, mode) is not None or category in ACTIONS
            for ground in module._grounds(category, mode):
                assert ground in SUPPORTS
    for seconds in SECONDS.values():
        assert seconds.keys() <= ACTIONS.keys()
    assert {ground for grounds in GROUNDS.values() for ground in grounds} - SEATS.keys() <= SUPPORTS.keys()


def test_one_seed_makes_one_scene() -> None:
    first, again, other = (compose(np.random.default_rng(seed), "train", "bottle") for seed in (5, 5, 6))
    assert first.name == again.name
    np.testing.assert_array_equal(first.body_vertices, again.body_vertices)
    np.testing.assert_array_equal(first.body_colors, again.body_colors)
    for one, two in zip(first.objects, again.objects, strict=True):
        np.testing.assert_array_equal(one.vertices, two.vertices)
        assert (one.label, one.mode, one.parts, one.color) == (two.label, two.mode, two.parts, two.color)
    assert not np.array_equal(first.body_vertices, other.body_vertices)


@pytest.mark.parametrize("split", ["train", "unseen"])
def test_scenes_are_valid_and_belong_to_their_split(split: str) -> None:
    for seed in range(12):
        scene = compose(np.random.default_rng([1, seed]), split)
        labels = [placed.label for placed in scene.objects]
        main = scene.objects[0]
        assert check_scene(scene) == []
        assert main.parts
        assert main.mode in MIX[main.label]
        assert scene.name.startswith(f"{main.label}, {main.mode}")
        assert set(labels) <= set(CATEGORIES)
        assert main.label in UNSEEN if split == "unseen" else UNSEEN.isdisjoint(labels)
        assert len(scene.phenotype) == 5
        assert len(labels) == len(set(labels))


def test_category_mode_ground_and_second_are_kept() -> None:
    scene = compose(
        np.random.default_rng(0), "train", "bottle", "right hand", "stand at table", ("dining table", "left hand")
    )
    touched = {placed.label: placed.parts for placed in scene.objects if placed.parts}
    assert touched == {"bottle": {"right hand"}, "dining table": {"left hand", "left forearm"}}


def test_what_is_present_but_not_used_is_not_touched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "UNTOUCHED_SHARE", 1.0)
    monkeypatch.setattr(module, "SECOND_SHARE", 0.0)
    found = 0
    for seed in range(6):
        scene = compose(np.random.default_rng(seed), "train", "tennis racket", "right hand")
        for placed in scene.objects[1:]:
            found += 1
            assert placed.mode == ""
            assert not placed.parts
            assert placed.vertices[:, 1].min() == pytest.approx(0, abs=1e-4)
            away = np.linalg.norm(placed.vertices[:, [0, 2]].mean(axis=0))
            assert 0.4 < away < 2.2
    assert found >= 5


def test_mix_of_what_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Categories come as often as the table says; scenes of every split draw only their own."""
    rng = np.random.default_rng(0)
    drawn = Counter(module._subject(rng, "train", None, None)[0] for _ in range(4000))
    assert drawn.keys() == set(CATEGORIES) - UNSEEN
    assert max(drawn.values()) < 1.3 * 4000 / 20
    assert min(drawn.values()) > 0.5 * 4000 / 20
    unseen = Counter(module._subject(rng, "unseen", None, None)[0] for _ in range(400))
    assert unseen.keys() == UNSEEN
    hands = Counter(module._subject(rng, "train", "bottle", None)[1] for _ in range(3000))
    np.testing.assert_allclose([hands[hand] for hand in ("left hand", "right hand", "both hands")], 1000, atol=120)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("holidays",), ConfigError, "holidays"),
        (("train", "bench"), InputError, "bench' is not in split train"),
        (("unseen", "chair"), InputError, "chair' is not in split unseen"),
        (("train", "sofa"), InputError, "sofa"),
        (("train", "chair", "stand on it"), InputError, "stand on it"),
    ],
)
def test_unknown_choices_are_refused(arguments: tuple[str, ...], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        compose(np.random.default_rng(0), *arguments)


def test_endless_search_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "problems", lambda scene: iter(["is never right"]))
    monkeypatch.setattr(module, "MAX_DRAWS", 3)
    with pytest.raises(DatasetError, match="no scene in 3 draws; last: is never right"):
        compose(np.random.default_rng(0), "train", "sports ball", "left foot")


def test_draws_differ_and_persons_last_a_few_of_them() -> None:
    choice = Choice("skateboard", "both feet")
    scenes = [draw_scene(0, draw, "train", choice) for draw in (0, 1, 4)]
    assert scenes[0].phenotype == scenes[1].phenotype != scenes[2].phenotype
    assert not np.array_equal(scenes[0].body_vertices, scenes[1].body_vertices)
