"""SAM from a checkpoint: the sizes are read off the tensors, the values are `segment_anything`'s own."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from segment_anything import SamPredictor
from segment_anything.modeling import ImageEncoderViT, MaskDecoder, PromptEncoder, Sam, TwoWayTransformer

from ivlm_core import CheckpointError
from ivlm_core.reconstruct import sam
from ivlm_core.reconstruct.sam import SamSegmenter

SIDE, WIDTH = 128, 32
BOX = (10.0, 8.0, 60.0, 40.0)


def small_sam():
    """SAM with random weights at toy size, put together as its authors do."""
    torch.manual_seed(1)
    model = Sam(
        image_encoder=ImageEncoderViT(
            img_size=SIDE,
            patch_size=16,
            embed_dim=WIDTH,
            depth=3,
            num_heads=4,
            out_chans=WIDTH,
            norm_layer=lambda width: torch.nn.LayerNorm(width, eps=1e-6),
            use_rel_pos=True,
            window_size=3,
            global_attn_indexes=(1,),
        ),
        prompt_encoder=PromptEncoder(WIDTH, (8, 8), (SIDE, SIDE), 16),
        mask_decoder=MaskDecoder(
            transformer_dim=WIDTH,
            transformer=TwoWayTransformer(depth=2, embedding_dim=WIDTH, num_heads=8, mlp_dim=48),
            iou_head_hidden_dim=24,
        ),
    )
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model.eval()


@pytest.fixture(scope="module")
def model():
    return small_sam()


@pytest.fixture(scope="module")
def checkpoint(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("sam") / "sam.pth"
    torch.save(model.state_dict(), path)
    return path


def test_masks_are_the_predictors_own(model, checkpoint, monkeypatch):
    image = np.random.default_rng(0).integers(0, 256, (60, 80, 3)).astype(np.uint8)
    predictor = SamPredictor(model)
    predictor.set_image(image)
    logits, _, _ = predictor.predict(box=np.array(BOX), multimask_output=False, return_logits=True)
    # Random weights do not know what 0 means; where half of the picture is above it, a mask shows a difference.
    monkeypatch.setattr(Sam, "mask_threshold", float(np.median(logits)))
    found = SamSegmenter(checkpoint).segment(image, BOX)
    assert found.shape == (60, 80)
    assert found.dtype == bool
    assert 0.4 < found.mean() < 0.6
    sure = np.abs(logits[0] - np.median(logits)) > 1e-3 * np.ptp(logits)
    assert sure.mean() > 0.9
    assert np.array_equal(found[sure], logits[0][sure] > np.median(logits))


def test_a_picture_is_encoded_once_and_a_changed_one_again(checkpoint, monkeypatch):
    segmenter = SamSegmenter(checkpoint)
    encoded = []
    encode = segmenter._predictor.set_image
    monkeypatch.setattr(segmenter._predictor, "set_image", lambda image: (encoded.append(1), encode(image)))
    image = np.zeros((40, 40, 3), np.uint8)
    segmenter.segment(image, (1.0, 1.0, 20.0, 20.0))
    segmenter.segment(image.copy(), (5.0, 5.0, 30.0, 30.0))
    assert len(encoded) == 1
    image[3, 3] = 9
    segmenter.segment(image, (1.0, 1.0, 20.0, 20.0))
    assert len(encoded) == 2


def test_other_files_are_refused_with_their_name(model, tmp_path, monkeypatch):
    with pytest.raises(CheckpointError, match=r"none.pth: cannot be read"):
        SamSegmenter(tmp_path / "none.pth")
    hostile = tmp_path / "hostile.pth"
    with hostile.open("wb") as file:
        pickle.dump({"image_encoder.pos_embed": Hostile()}, file, protocol=2)
    with pytest.raises(CheckpointError, match=r"hostile.pth: "):
        SamSegmenter(hostile)
    assert not Hostile.ran
    other = tmp_path / "other.pth"
    torch.save({"weight": torch.zeros(3)}, other)
    with pytest.raises(CheckpointError, match="is not of a SAM model"):
        SamSegmenter(other)
    state = model.state_dict()
    del state["mask_decoder.iou_token.weight"]
    torch.save(state, other)
    with pytest.raises(CheckpointError, match="does not fit"):
        SamSegmenter(other)
    monkeypatch.setattr(sam, "MAX_BYTES", 10)
    with pytest.raises(CheckpointError, match="has at most 10"):
        SamSegmenter(other)


class Hostile:
    """Notes when somebody unpickles it."""

    ran = False

    def __reduce__(self):
        return note, ()


def note():
    Hostile.ran = True
