"""The converted reference model computes what the authors' model computed, and one changed weight is found."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from ivlm_core import InputError
from ivlm_core.checkpoints import check_reference, convert_released


@pytest.fixture(scope="module")
def converted(reference_checkpoint, tmp_path_factory):
    target = tmp_path_factory.mktemp("converted") / "native"
    convert_released(reference_checkpoint, target)
    return target


def test_every_stage_matches_the_authors_model(converted, reference_checkpoint):
    report = check_reference(converted, reference_checkpoint / "reference.npz")
    assert report["passed"], report["failed"]
    stages = report["stages"]
    for case in ("human", "object"):
        for stage in ("last_hidden", "seg_hidden", "seg_embedding", "featlift_out", "image_embeddings"):
            assert stages[f"{case}/{stage}"] <= 1e-4
        assert stages[f"{case}/low_res_masks"] <= 2e-3
        assert stages[f"{case}/pred_masks"] <= 2e-3
        assert stages[f"{case}/contact_3d"] <= 1e-3
    assert stages["human/written_ids"] == 0, "our decoder writes the reference's own answer"
    assert stages["image/clip_pixel_values"] == 0
    assert stages["post/pred_masks"] <= 1e-4


@pytest.mark.parametrize(
    ("weight", "stage"),
    [
        ("reason.llava.model.language_model.layers.1.mlp.up_proj.weight", "human/last_hidden"),
        ("reason.projection.2.bias", "human/seg_embedding"),
        ("localize.featlift.view_transforms.2.bias", "object/featlift_out"),
        ("localize.image_encoder.neck.2.weight", "human/image_embeddings"),
        ("localize.decoders.general.output_upscaling.3.bias", "human/low_res_masks"),
        ("localize.prompt_encoder.no_mask_embed.weight", "object/low_res_masks"),
        ("reason.llava.model.vision_tower.encoder.layers.0.mlp.fc1.bias", "image/image_features"),
    ],
)
def test_one_changed_weight_fails_its_stage(converted, reference_checkpoint, tmp_path, weight, stage):
    shutil.copytree(converted, tmp_path / "changed")
    for path in (tmp_path / "changed").glob("model-*.safetensors"):
        state = load_file(path)
        if weight in state:
            state[weight].view(-1)[0] += 0.5
            save_file(state, path)
    report = check_reference(tmp_path / "changed", reference_checkpoint / "reference.npz")
    assert not report["passed"]
    assert stage in report["failed"]


def test_weight_that_no_stage_reads_cannot_change_unnoticed(converted, reference_checkpoint, tmp_path):
    shutil.copytree(converted, tmp_path / "changed")
    weight = "localize.prompt_encoder.mask_downscaling.0.bias"
    for path in (tmp_path / "changed").glob("model-*.safetensors"):
        state = load_file(path)
        if weight in state:
            state[weight][0] += 0.5
            save_file(state, path)
    report = check_reference(tmp_path / "changed", reference_checkpoint / "reference.npz")
    assert not report["passed"]
    assert [name for name in report["failed"] if name.startswith("manifest/model-")]


def test_reference_that_cannot_be_read(converted, tmp_path):
    path = tmp_path / "reference.npz"
    with pytest.raises(InputError, match="no reference file"):
        check_reference(converted, path)
    path.write_bytes(b"PK\x03\x04 cut")
    with pytest.raises(InputError):
        check_reference(converted, path)
    np.savez(path, other=np.zeros(3))
    with pytest.raises(InputError, match="holds no case"):
        check_reference(converted, path)
    np.savez(path, human_full_ids=np.array([1, -200, 3]))
    with pytest.raises(InputError, match="has no human_seg_position_in_ids"):
        check_reference(converted, path)


@pytest.mark.parametrize(
    ("ids", "position", "named"),
    [
        ([1, 5, 3], 2, r"human_full_ids: holds the image placeholder -200 0 times"),
        ([1, -200, -200, 3], 3, r"holds the image placeholder -200 2 times"),
        ([1, -200, 3], 3, r"human_seg_position_in_ids: is 3"),
        ([1, -200, 3], 0, r"human_seg_position_in_ids: is 0"),
    ],
)
def test_reference_without_one_image_before_its_token(converted, tmp_path, ids, position, named):
    path = tmp_path / "reference.npz"
    np.savez(path, human_full_ids=np.array(ids), human_seg_position_in_ids=np.array(position))
    with pytest.raises(InputError, match=named):
        check_reference(converted, path)
