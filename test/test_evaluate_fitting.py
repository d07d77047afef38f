"""Baselines from training to file and back: they learn what a picture shows, and a file answers as what was trained."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from ivlm_core import InputError, Pipeline
from ivlm_core.bodies import load_body
from ivlm_core.config import load_profile
from ivlm_core.datasets.synthetic.record import ObjectRecord, SceneRecord
from ivlm_core.evaluate import fitting
from ivlm_core.evaluate.answers import picture_of
from ivlm_core.evaluate.baselines import (
    FREE_THRESHOLD,
    KINDS,
    LABEL_FREE,
    PictureEncoder,
    VertexAnswers,
    VertexModel,
    load_baseline,
    load_baselines,
    make_baseline,
    prior_bias,
    read_baseline,
    save_baseline,
)
from ivlm_core.evaluate.fitting import Budget, fit_baseline, gather_training, teach_sight, trained_sight
from ivlm_core.evaluate.priors import fit_priors
from ivlm_core.objects import library_mesh
from ivlm_core.types import CameraIntrinsics

BODY = load_body()
LABELS = ("bottle", "chair")
TINY = load_profile("tiny")
PROFILE = replace(
    TINY,
    vision=replace(TINY.vision, image_size=64, hidden_size=48, layers=1, heads=2, intermediate_size=64),
    sam=replace(
        TINY.sam,
        image_size=64,
        embed_dim=24,
        depth=1,
        heads=2,
        global_blocks=(0,),
        prompt_dim=32,
        decoder_depth=1,
        decoder_heads=2,
        decoder_mlp=32,
        iou_hidden=16,
    ),
    localize=replace(TINY.localize, vertex_branch=4),
)
# Where a bright patch is, the hand that touches.
PATCH = {"left hand": slice(150, 230), "right hand": slice(26, 106)}
CONTACT = {
    "left hand": BODY.part_labels == 7,
    "right hand": BODY.part_labels == 8,
}


def record(index: int) -> SceneRecord:
    """A picture with a bright patch on the side of the hand that holds something."""
    random = np.random.default_rng(index)
    hand, label = ("left hand", "right hand")[index % 2], LABELS[index // 2 % 2]
    image = random.integers(0, 40, (192, 256, 3)).astype(np.uint8)
    image[60:130, PATCH[hand]] = 230
    library = (np.arange(len(library_mesh(label).vertices)) < 50).astype(np.float32)
    held = ObjectRecord(label, hand, {}, np.eye(3), np.zeros(3), None, CONTACT[hand], library > 0, library, 0.0)
    blank = np.zeros
    return SceneRecord(
        index,
        "train",
        "made up",
        image,
        blank((192, 256), np.uint8),
        blank((192, 256), np.float32),
        CameraIntrinsics(300.0, 300.0, 127.5, 95.5, 256, 192),
        np.eye(3),
        blank(3),
        0.0,
        np.full(5, 0.67, np.float32),
        blank((104, 3)),
        blank(3),
        blank((104, 3)),
        np.full((104, 2), 100.0),
        (0.0, 0.0, 256.0, 192.0),
        (held,),
    )


@pytest.fixture(scope="module")
def gathered():
    data = gather_training((record(index) for index in range(24)), PROFILE, LABELS)
    return data, fit_priors(data.touched)


def share_on(contact: np.ndarray, hand: str) -> float:
    return float(contact[CONTACT[hand]].mean())


def test_vertex_baseline_learns_which_hand(gathered):
    data, priors = gathered
    budget, told = Budget(pictures=1600, batch=4, learning_rate=3e-3, average=0.9), []
    weights, about = fit_baseline(
        "label_conditioned", data, priors, PROFILE, budget, lambda done, total, loss: told.append((done, total, loss))
    )
    assert told[-1][:2] == (1600, 1600)
    assert told[-1][2] < 0.5 * told[0][2]
    model = make_baseline("label_conditioned", PROFILE, priors)
    model.load_state_dict(weights)
    answerer = VertexAnswers(model, PROFILE.vision, priors.categories, about["threshold"])
    for index in range(100, 104):
        scene = record(index)
        (answer,) = answerer(picture_of(scene))
        hand = scene.objects[0].mode
        other = ({"left hand", "right hand"} - {hand}).pop()
        assert share_on(answer.body, hand) > share_on(answer.body, other) + 0.2


@pytest.mark.parametrize("kind", ["deco_style", "label_conditioned"])
def test_file_answers_as_what_was_trained(gathered, tmp_path, kind):
    data, priors = gathered
    weights, about = fit_baseline(kind, data, priors, PROFILE, Budget(pictures=36))
    save_baseline(tmp_path / f"{kind}.npz", PROFILE, weights, about)
    loaded = load_baselines(tmp_path, priors)
    assert set(loaded) == ({kind, LABEL_FREE} if kind == "deco_style" else {kind})
    stored = loaded[kind]
    assert stored.threshold == about["threshold"]
    model = make_baseline(kind, PROFILE, priors)
    model.load_state_dict(weights)
    trained = VertexAnswers(model, PROFILE.vision, priors.categories, stored.threshold)
    (one,), (two,) = stored(picture_of(record(5))), trained(picture_of(record(5)))
    np.testing.assert_allclose(one.body, two.body, atol=0.05)
    assert one.thing is None


def test_without_labels_every_object_gets_the_likeliest_of_all(gathered, tmp_path):
    data, priors = gathered
    weights, about = fit_baseline("deco_style", data, priors, PROFILE, Budget(pictures=36))
    save_baseline(tmp_path / "deco_style.npz", PROFILE, weights, about)
    loaded = load_baselines(tmp_path, priors)
    picture = picture_of(record(5))
    asked = [replace(picture.objects[0], label=label) for label in LABELS]
    each = loaded["deco_style"](replace(picture, objects=asked))
    alike = loaded[LABEL_FREE](replace(picture, objects=asked))
    for answer in alike:
        np.testing.assert_array_equal(answer.body, np.maximum(*(item.body for item in each)))
    assert loaded[LABEL_FREE].threshold == about[FREE_THRESHOLD]


def test_no_language_model_gives_both_sides(gathered, tmp_path):
    data, priors = gathered
    weights, about = fit_baseline("no_language_model", data, priors, PROFILE, Budget(pictures=48))
    assert np.isfinite(about["loss"])
    path = tmp_path / "no_language_model.npz"
    save_baseline(path, PROFILE, weights, about)
    answerer = load_baseline(path, "no_language_model", priors)
    scene = record(3)
    (answer,) = answerer(picture_of(scene))
    assert answer.given
    assert answer.body.shape == BODY.part_labels.shape
    assert answer.thing.shape == scene.objects[0].library_contact.shape
    assert (answer.body >= 0).all()
    assert (answer.body <= 1).all()


@pytest.mark.parametrize("kind", ["deco_style", "label_conditioned"])
def test_untrained_vertex_baseline_is_the_prior(gathered, kind):
    _, priors = gathered
    model = make_baseline(kind, PROFILE, priors).eval()
    assert isinstance(model, VertexModel)
    with torch.inference_mode():
        patches = model.encoder(torch.rand(1, 3, 64, 64))
        logits = model(patches, torch.zeros(3, dtype=torch.long), torch.tensor([0, 1, 2]))
    bias = prior_bias(priors)
    np.testing.assert_allclose(logits[:2], bias[:2], atol=1e-5)
    expected = bias[:2].amax(0) if kind == "deco_style" else bias[2]
    np.testing.assert_allclose(logits[2], expected, atol=1e-5)


def test_file_keeps_weights_to_a_half_per_cent_of_their_row(gathered, tmp_path):
    _, priors = gathered
    model = make_baseline("label_conditioned", PROFILE, priors)
    save_baseline(tmp_path / "a.npz", PROFILE, model.state_dict(), {"threshold": 0.5, "categories": list(LABELS)})
    header, weights = read_baseline(tmp_path / "a.npz")
    assert header["threshold"] == 0.5
    assert set(weights) == set(model.state_dict())
    for name, value in model.state_dict().items():
        assert weights[name].shape == value.shape
        if value.is_floating_point() and value.ndim > 1:
            most = value.flatten(1).abs().amax(1).clamp(min=1e-9)
            assert ((weights[name] - value).flatten(1).abs().amax(1) <= most / 250).all()


def test_damaged_files_are_named(gathered, tmp_path):
    _, priors = gathered
    path = tmp_path / "deco_style.npz"
    path.write_bytes(b"PK\x03\x04 cut short")
    with pytest.raises(InputError, match=r"deco_style\.npz cannot be read"):
        load_baselines(tmp_path, priors)
    model = make_baseline("deco_style", PROFILE, priors)
    save_baseline(path, PROFILE, model.state_dict(), {"categories": list(LABELS)})
    with pytest.raises(InputError, match="its header lacks threshold"):
        load_baselines(tmp_path, priors)
    save_baseline(path, PROFILE, model.state_dict(), {"threshold": 0.5, "categories": ["cup"]})
    with pytest.raises(InputError, match="other categories"):
        load_baselines(tmp_path, priors)
    save_baseline(path, PROFILE, {}, {"threshold": 0.5, "categories": list(LABELS)})
    with pytest.raises(InputError, match="does not fit its own profile"):
        load_baselines(tmp_path, priors)


def test_a_budget_is_divided_as_the_default_one() -> None:
    budget, whole = Budget.of(12_000), Budget()
    assert budget.taught + budget.pictures == 12_000
    assert budget.taught / 12_000 == pytest.approx(whole.taught / (whole.taught + whole.pictures), abs=1e-3)


def test_a_short_training_forgets_its_beginning_as_a_long_one_does() -> None:
    for pictures in (60, 600, 12_000, 74_400, 10_000_000):
        budget = Budget(pictures=pictures)
        assert 0.0 <= budget.mean <= budget.average
        # What is left of the first weights after all steps.
        assert budget.mean ** (pictures / budget.batch) < 1e-6
    assert Budget(pictures=10_000_000).mean == Budget().average


def test_an_encoder_that_was_taught_pictures_is_where_baselines_begin(gathered):
    data, priors = gathered
    budget, told = Budget(taught=160, pictures=4, batch=4, learning_rate=3e-3), []
    sight = teach_sight(data, PROFILE, budget, lambda done, total, loss: told.append((done, total, loss)))
    assert told[-1][:2] == (160, 160)
    assert told[-1][2] < 0.8 * told[0][2]
    slow = replace(budget, learning_rate=1e-12)
    for kind in KINDS:
        weights, about = fit_baseline(kind, data, priors, PROFILE, slow, sight=sight)
        assert about["taught"] == 160
        for name, value in weights.items():
            if name.startswith("encoder."):
                torch.testing.assert_close(value, sight[name], rtol=0, atol=1e-6, msg=name)
    assert fit_baseline("deco_style", data, priors, PROFILE, slow)[1]["taught"] == 0


def test_the_encoder_of_a_trained_model_is_its_own():
    sight, digest = trained_sight("tiny", TINY)
    encoder = PictureEncoder(TINY.vision).eval()
    own = {f"encoder.{name}": value for name, value in encoder.state_dict().items()}
    # The attention over the patches is the baseline's, everything else the model's.
    assert {name.split(".")[1] for name in set(own) - set(sight)} == {"attention", "norm"}
    encoder.load_state_dict({name.removeprefix("encoder."): value for name, value in (own | sight).items()})
    tower = Pipeline.load("tiny", device="cpu", dtype="float32")._model["reason"].llava.model.vision_tower
    pixels = torch.rand(1, 3, 160, 160)
    with torch.inference_mode():
        torch.testing.assert_close(encoder(pixels), tower(pixels).last_hidden_state[:, 1:], rtol=0, atol=1e-4)
    assert len(digest) == 16


def test_a_trained_encoder_learns_on_slowly(gathered):
    data, priors = gathered
    sight = {
        f"{fitting.TOWER}{name}": value for name, value in PictureEncoder(PROFILE.vision).tower.state_dict().items()
    }
    budget = Budget(taught=0, pictures=64, batch=4, learning_rate=1e-3, average=0.0, start="0" * 16)
    moved = {}
    for rate in (1e-9, 1.0):
        slow = replace(budget, start_rate=rate)
        weights, about = fit_baseline("deco_style", data, priors, PROFILE, slow, sight=sight)
        assert about["taught"] == 0
        moved[rate] = max(float((weights[name] - value).abs().max()) for name, value in sight.items())
        # What is new learns all the same.
        assert float(weights["head.mix.weight"].abs().max()) > 1e-4
    assert moved[1e-9] < 1e-6 < 1e-4 < moved[1.0]


@pytest.mark.parametrize("kind", ["deco_style", "no_language_model"])
def test_an_interrupted_training_goes_on_to_the_same_weights(gathered, tmp_path, monkeypatch, kind):
    data, priors = gathered
    budget = Budget(taught=16, pictures=32, batch=4, learning_rate=1e-3)
    whole, about = fit_baseline(kind, data, priors, PROFILE, budget)
    monkeypatch.setattr(fitting, "SAVED_SECONDS", 0.0)

    def stop(done, total, loss):
        if done == 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit_baseline(kind, data, priors, PROFILE, budget, stop, store=tmp_path)
    told = []
    again, resumed = fit_baseline(
        kind, data, priors, PROFILE, budget, lambda done, total, loss: told.append(done), store=tmp_path
    )
    assert told == [16, 20, 24, 28, 32]
    for name, value in whole.items():
        torch.testing.assert_close(again[name], value, rtol=0, atol=0, msg=name)
    assert (resumed["loss"], resumed["threshold"]) == (about["loss"], about["threshold"])
    # What is done is not done again, and other settings begin anew.
    told.clear()
    fit_baseline(kind, data, priors, PROFILE, budget, lambda done, total, loss: told.append(done), store=tmp_path)
    assert told == [32]
    told.clear()
    other = replace(budget, learning_rate=2e-3)
    fit_baseline(kind, data, priors, PROFILE, other, lambda done, total, loss: told.append(done), store=tmp_path)
    assert told[0] == 4


def test_what_an_encoder_was_taught_is_kept(gathered, tmp_path):
    data, _ = gathered
    budget = Budget(taught=16, pictures=4, batch=4)
    first, told = teach_sight(data, PROFILE, budget, store=tmp_path), []
    again = teach_sight(data, PROFILE, budget, lambda done, total, loss: told.append(done), tmp_path)
    assert told == [16]
    for name, value in first.items():
        torch.testing.assert_close(again[name], value, rtol=0, atol=0, msg=name)
