"""Books and phones: before the eyes and facing them, or at the ear."""

from __future__ import annotations

import numpy as np
import pytest

from ivlm_core.bodies import AnnyRig
from ivlm_core.datasets.synthetic.pose import Poser, Side, turn, unit
from ivlm_core.datasets.synthetic.programs.reading import phone, read
from ivlm_core.datasets.synthetic.programs.stage import Stage, Unreachable
from ivlm_core.datasets.synthetic.programs.standing import stand


def stage_of(seed: int) -> Stage:
    stage = Stage(np.random.default_rng(seed), AnnyRig.load())
    stand(stage)
    return stage


def performed(action: object, label: str, mode: str, first: int = 0) -> Stage:
    for seed in range(first, first + 8):
        stage = stage_of(seed)
        try:
            action(stage, label, mode)  # type: ignore[operator]
        except Unreachable:
            continue
        return stage
    raise AssertionError(f"{label}, {mode} never works")


@pytest.mark.parametrize(("action", "label"), [(read, "book"), (phone, "cell phone")])
def test_what_is_read_faces_the_eyes(action: object, label: str) -> None:
    stage = performed(action, label, "both hands")
    placed = stage.objects[0]
    head = stage.poser.position("head")
    assert unit(head - placed.translation) @ placed.rotation[:, 2] > 0.8
    face = stage.poser.orientation("head") @ [0, 0, 1]
    assert unit(placed.translation - head) @ face > 0.6


@pytest.mark.parametrize(("mode", "side"), [("left ear", "L"), ("right ear", "R")])
def test_phone_at_an_ear_touches_it(mode: str, side: Side) -> None:
    stage = performed(phone, "cell phone", mode)
    placed = stage.objects[0]
    skin = (stage.points("head") - placed.translation) @ placed.rotation
    half = np.ptp(placed.mesh.vertices, axis=0) / 2
    over = (np.abs(skin[:, :2]) < half[:2]).all(axis=1)
    # The screen presses into the ear, and nothing of the head comes out behind the phone.
    assert 0 < half[2] - skin[over, 2].min() < 0.008
    assert (placed.translation[0] > 0) == (side == "L")


def test_looking_away_never_moves_a_phone_off_the_ear() -> None:
    stage = performed(phone, "cell phone", "left ear")
    before = stage.poser.orientation("head")
    read(stage, "book", "right hand")
    np.testing.assert_array_equal(stage.poser.orientation("head"), before)


def test_books_are_read_lying_on_the_back() -> None:
    stage = Stage(np.random.default_rng(2), AnnyRig.load())
    stage.posture = "lie"
    stage.poser.orient("root", turn((1, 0, 0), -90))
    read(stage, "book", "both hands")
    placed = stage.objects[0]
    assert placed.translation[1] > stage.points("torso")[:, 1].mean() + 0.1
    assert placed.rotation[1, 2] < -0.5


def test_fingers_are_behind_the_book_and_thumbs_before_it() -> None:
    stage = performed(read, "book", "both hands", 3)
    placed = stage.objects[0]
    poser: Poser = stage.poser
    for side in ("L", "R"):
        thumb, middle = (
            (poser.position(f"finger{number}-3.{side}") - placed.translation) @ placed.rotation for number in (1, 3)
        )
        assert thumb[2] > middle[2]
