"""Scenes in memory: what inference sees, mirrored and moved together with everything that is true of them."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from ivlm_core.bodies import PART_NAMES, AnnyRig
from ivlm_core.config import load_profile
from ivlm_core.errors import InputError
from ivlm_core.objects import library_mesh
from ivlm_core.reason import clip_pixels
from ivlm_core.train.samples import (
    FIRST_LABEL,
    FIRST_PART,
    IGNORED_CLASS,
    MIDDLE_JOINTS,
    PAIRED_JOINTS,
    TrainingSet,
    Variation,
)

VISION = load_profile("tiny").vision
LEFT, RIGHT = PART_NAMES.index("left hand"), PART_NAMES.index("right hand")
STILL = Variation(mirror=0, scale=0, shift=0, light=0, color=0, noise=0, gray=0)


def scene(side: str = "left", x: int = 160, label: str = "bottle") -> Any:
    """A picture with one blob: a hand of the person, at `x`."""
    rig = AnnyRig.load()
    part = PART_NAMES.index(f"{side} hand")
    image = np.full((192, 256, 3), 90, np.uint8)
    segments = np.ones((192, 256), np.uint8)
    image[80:112, x - 16 : x + 16] = (200, 80, 20)
    segments[80:112, x - 16 : x + 16] = FIRST_PART + part
    segments[120:140, x - 16 : x + 16] = FIRST_LABEL
    contact = rig.part_labels == part
    joints = np.full((len(rig.joint_names), 2), 20.0, np.float32)
    joints[rig.joint_names.index(f"wrist.{side[0].upper()}")] = (x, 96)
    library = np.linspace(0, 1, len(library_mesh(label).vertices)).astype(np.float32)
    thing = SimpleNamespace(label=label, mode=f"{side} hand", body_contact=contact, library_contact=library)
    pixels = np.full((len(contact), 2), (x, 96), np.float32)
    return SimpleNamespace(
        image=image, segments=segments, joints_2d=joints, objects=(thing,), body_pixels=lambda: pixels
    )


@pytest.fixture(scope="module")
def data() -> TrainingSet:
    made = TrainingSet(VISION, ["bottle"])
    made.extend([scene("left", 160), scene("right", 96)])
    return made


def test_a_plain_sample_is_what_inference_sees(data: TrainingSet) -> None:
    pixels = torch.from_numpy(data.plain(0).pixels)
    expected = clip_pixels(scene("left", 160).image, VISION)[0]
    assert float((pixels - expected).abs().max()) < 0.02


def test_a_mirrored_sample_exchanges_left_and_right_everywhere(data: TrainingSet) -> None:
    mirrored = data.varied(0, np.random.default_rng(0), Variation(1, 0, 0, 0, 0, 0, 0))
    other = data.plain(1)
    assert mirrored.mirrored
    # The second scene was drawn as the mirror image of the first, but for half a pixel.
    assert mirrored.facts[0].parts == other.facts[0].parts == ("right hand",)
    assert (mirrored.contacts == other.contacts).mean() > 0.999
    assert (mirrored.classes == other.classes).mean() > 0.99
    assert float(np.abs(mirrored.pixels - other.pixels).mean()) < 0.02
    wrist = len(MIDDLE_JOINTS) + 2 * PAIRED_JOINTS.index("wrist") + 1
    assert abs(mirrored.joints[wrist] - other.joints[wrist]) <= 1


def test_cells_follow_a_moved_picture(data: TrainingSet) -> None:
    for seed in range(10):
        sample = data.varied(0, np.random.default_rng(seed), Variation(0, 0.2, 0.1, 0, 0, 0, 0))
        red = sample.pixels[0].reshape(40, 4, 40, 4).mean(axis=(1, 3)) > 0.3
        hand = sample.classes == FIRST_PART + LEFT
        assert hand.any()
        assert (red & hand).sum() / (red | hand).sum() >= 0.5


def test_places_of_contact_follow_the_wrist(data: TrainingSet) -> None:
    names = [*MIDDLE_JOINTS, *(f"{name}.{side}" for name in PAIRED_JOINTS for side in "LR")]
    wrist = names.index("wrist.L")
    for sample in (data.plain(0), data.varied(0, np.random.default_rng(3), Variation(mirror=0))):
        assert set(sample.places[0].tolist()) == {int(sample.joints[wrist])}
    mirrored = data.varied(0, np.random.default_rng(3), replace(STILL, mirror=1))
    assert set(mirrored.places[0].tolist()) == {int(mirrored.joints[names.index("wrist.R")])}
    away = scene("left", 160)
    away.body_pixels = lambda: np.full((len(away.objects[0].body_contact), 2), np.nan, np.float32)
    made = TrainingSet(VISION, ["bottle"])
    made.extend([away])
    assert made.plain(0).places[0].size == 0


def test_padding_and_unknown_labels_are_ignored() -> None:
    data = TrainingSet(VISION, ["chair"])
    data.extend([scene(label="bottle")])
    classes = data.plain(0).classes
    assert (classes[:4] == IGNORED_CLASS).all()
    assert FIRST_LABEL not in classes
    assert data.class_count == FIRST_LABEL + 1


def test_contacts_survive_packing(data: TrainingSet) -> None:
    labels = AnnyRig.load().part_labels
    np.testing.assert_array_equal(data.contacts(1)[0], labels == RIGHT)
    np.testing.assert_allclose(data.plain(0).things[0], scene().objects[0].library_contact, atol=1 / 255)


def test_statistics_span_the_contacts(data: TrainingSet) -> None:
    mean, patterns = data.contact_statistics(rank=4)
    centred = data.contacts(0)[0] - mean
    unit = patterns[:1] / np.linalg.norm(patterns[:1])
    np.testing.assert_allclose(unit.T @ (unit @ centred), centred, atol=0.02)
    assert data.category_prior()["bottle"].max() == 0.5


def test_the_same_seed_gives_the_same_copy(data: TrainingSet) -> None:
    first, second = (data.varied(0, np.random.default_rng(3), Variation()) for _ in range(2))
    np.testing.assert_array_equal(first.pixels, second.pixels)


def test_contact_of_another_body_is_refused() -> None:
    record = scene()
    record.objects[0].body_contact = np.zeros(6890, bool)
    with pytest.raises(InputError, match="body_contact"):
        TrainingSet(VISION, []).extend([record])
