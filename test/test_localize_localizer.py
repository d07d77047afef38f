"""The localizer: each side has its own decoder, and view tokens go where the profile says."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from ivlm_core import InputError
from ivlm_core.checkpoints import place
from ivlm_core.config import LocalizeConfig, load_profile
from ivlm_core.localize import NO_CAMERA, Localizer

TINY = load_profile("tiny")
SMALL = dataclasses.replace(TINY, sam=dataclasses.replace(TINY.sam, image_size=64, window_size=2))
IMAGES = np.random.default_rng(0).integers(0, 255, (4, 64, 64, 3), dtype=np.uint8)


CAMERAS = np.array([[2, 45, 315, 0, 0], [2, 315, 315, 0, 0.3], [2, 45, 135, 0, 0], [2, 315, 135, 0, 0.3]], "f4")


@pytest.fixture(scope="module")
def localizer() -> Localizer:
    torch.manual_seed(0)
    return Localizer(SMALL).eval()


def test_masks_are_four_times_the_embedding(localizer):
    views = localizer.encode_views(IMAGES)
    with torch.inference_mode():
        masks = localizer(torch.randn(2, SMALL.sam.prompt_dim), CAMERAS, views, "human")
    assert views.shape == (4, SMALL.sam.prompt_dim, 4, 4)
    assert masks.shape == (2, 4, SMALL.sam.mask_size, SMALL.sam.mask_size)
    assert masks.dtype == torch.float32


def test_views_are_encoded_one_by_one_as_in_a_batch(localizer):
    together = localizer.encode_views(IMAGES)
    for view in range(4):
        alone = localizer.encode_views(IMAGES[view : view + 1])[0]
        torch.testing.assert_close(alone, together[view], atol=1e-4, rtol=1e-4)


def test_sides_have_their_own_decoders(localizer):
    views, embedding = localizer.encode_views(IMAGES), torch.randn(1, SMALL.sam.prompt_dim)
    with torch.inference_mode():
        human, thing = (localizer(embedding, CAMERAS, views, side) for side in ("human", "object"))
    assert not torch.allclose(human, thing)


def test_view_tokens_all_or_own(localizer):
    own = Localizer(dataclasses.replace(SMALL, localize=dataclasses.replace(SMALL.localize, view_tokens="own")))
    own.eval()
    own.load_state_dict(localizer.state_dict())
    views, embedding = localizer.encode_views(IMAGES), torch.randn(1, SMALL.sam.prompt_dim)
    moved = CAMERAS.copy()
    moved[3] = [5, 10, 20, 0.5, 0.5]
    with torch.inference_mode():
        for model, others_change in ((localizer, True), (own, False)):
            before, after = (model(embedding, cameras, views, "human")[0] for cameras in (CAMERAS, moved))
            assert not torch.allclose(before[3], after[3], atol=1e-6)
            assert (not torch.allclose(before[0], after[0], atol=1e-6)) is others_change


def test_renders_of_the_wrong_size(localizer):
    with pytest.raises(InputError, match="render them 64 pixels"):
        localizer.encode_views(np.zeros((4, 32, 32, 3), np.uint8))


def test_sides_share_what_there_is():
    shared = Localizer(dataclasses.replace(SMALL, localize=LocalizeConfig(decoders=("general",))))
    assert shared.decoder("human") is shared.decoder("object") is shared.decoder("general")
    mixed = Localizer(dataclasses.replace(SMALL, localize=LocalizeConfig(decoders=("general", "object"))))
    assert mixed.decoder("human") is mixed.decoder("general") is not mixed.decoder("object")


def test_positional_frequencies_keep_their_precision_unless_asked_to_round(localizer):
    exact = Localizer(SMALL)
    exact.load_state_dict(localizer.state_dict())
    expected = exact._positions().clone()
    place(exact, torch.device("cpu"), torch.bfloat16)
    torch.testing.assert_close(exact._positions(), expected.to(torch.bfloat16), atol=0, rtol=0)
    rounded = Localizer(dataclasses.replace(SMALL, released_quirks=("rounded_positions",)))
    rounded.load_state_dict(localizer.state_dict())
    place(rounded, torch.device("cpu"), torch.bfloat16)
    frequencies = localizer.prompt_encoder.pe_layer.positional_encoding_gaussian_matrix
    assert not torch.allclose(rounded._positions().float(), expected, atol=1e-2)
    found = rounded.prompt_encoder.pe_layer.positional_encoding_gaussian_matrix
    torch.testing.assert_close(found, frequencies.to(torch.bfloat16).float(), atol=0, rtol=0)


def test_masks_on_a_photo_need_no_views(localizer):
    embedding, fitted = localizer.encode_photo(IMAGES[0, :40])
    assert fitted == (40, 64)
    with torch.inference_mode():
        masks = localizer(torch.randn(2, SMALL.sam.prompt_dim), np.tile(NO_CAMERA, (4, 1)), embedding, "general")
    assert masks.shape == (2, 1, SMALL.sam.mask_size, SMALL.sam.mask_size)
