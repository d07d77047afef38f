"""A checkpoint directory is whole, fits its profile, and says what does not."""

from __future__ import annotations

import json
import os
import pickle
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from ivlm_core import CheckpointError
from ivlm_core.checkpoints import checkpoint_hash, load_weights, save_checkpoint, weights_hash
from ivlm_core.config import load_profile
from ivlm_core.reason.tokenizer import SHIPPED_TOKENIZER


def model() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))


@pytest.fixture
def directory(tmp_path):
    torch.manual_seed(1)
    save_checkpoint(tmp_path / "checkpoint", model(), load_profile("tiny"), SHIPPED_TOKENIZER)
    return tmp_path / "checkpoint"


def test_round_trip(directory):
    torch.manual_seed(1)
    saved, loaded = model(), model()
    assert weights_hash(saved) != weights_hash(loaded)
    load_weights(directory, loaded)
    assert weights_hash(saved) == weights_hash(loaded)
    assert load_profile(directory) == load_profile("tiny")


def test_manifest_tells_shapes_types_and_hashes(directory):
    manifest = json.loads((directory / "manifest.json").read_text())
    described = manifest["tensors"]["0.weight"]
    assert (described["shape"], described["dtype"], len(described["sha256"])) == ([4, 3], "float32", 64)
    assert set(manifest["files"]) == {"model.safetensors", "profile.yaml", "tokenizer.json"}


def test_existing_directory_is_kept(directory):
    with pytest.raises(CheckpointError, match="exists already"):
        save_checkpoint(directory, model(), load_profile("tiny"), SHIPPED_TOKENIZER)


def test_interrupted_save_leaves_nothing(tmp_path):
    with pytest.raises(OSError):
        save_checkpoint(tmp_path / "checkpoint", model(), load_profile("tiny"), tmp_path / "no-tokenizer.json")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("keep", [0, 7, 60, -1])
def test_truncated_weights(directory, keep):
    path = directory / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match="is damaged"):
        load_weights(directory, model())


def test_pickle_in_the_place_of_weights_is_not_run(directory, tmp_path):
    class Bomb:
        def __reduce__(self):
            return (tmp_path.joinpath("exploded").touch, ())

    (directory / "model.safetensors").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(CheckpointError, match="is damaged"):
        load_weights(directory, model())
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda state: state.pop("0.bias"), "missing 0.bias"),
        (lambda state: state.update(extra=torch.zeros(1)), "unexpected extra"),
        (lambda state: state.update({"0.weight": torch.zeros(4, 2)}), r"0.weight has shape \(4, 2\), not \(4, 3\)"),
    ],
)
def test_tensor_that_does_not_fit_is_named(directory, change, named):
    state = load_file(directory / "model.safetensors")
    change(state)
    save_file(state, directory / "model.safetensors")
    with pytest.raises(CheckpointError, match=named):
        load_weights(directory, model())


def test_no_weights_file(tmp_path):
    with pytest.raises(CheckpointError, match="holds no weights"):
        load_weights(tmp_path, model())


def test_checkpoint_hash_reads_no_tensor(directory, monkeypatch):
    before = checkpoint_hash(directory, "float32", "none")
    monkeypatch.setattr("safetensors.safe_open", None)
    monkeypatch.setattr("ivlm_core.checkpoints.native._file_hash", None)
    assert checkpoint_hash(directory, "float32", "none") == before
    assert len(before) == 16
    others = [("bfloat16", "none"), ("float32", "int8"), ()]
    assert before not in [checkpoint_hash(directory, *other) for other in others]


def test_checkpoint_hash_changes_with_any_weight(directory, tmp_path):
    hashes = {checkpoint_hash(directory)}
    for name in ("0.weight", "0.bias", "1.running_mean"):
        # Saved anew, with its own manifest.
        changed = model()
        load_weights(directory, changed)
        with torch.no_grad():
            changed.state_dict()[name].view(-1)[0] += 1e-3
        save_checkpoint(tmp_path / name, changed, load_profile("tiny"), SHIPPED_TOKENIZER)
        hashes.add(checkpoint_hash(tmp_path / name))
        # Changed behind the manifest's back, at the same size.
        shutil.copytree(directory, tmp_path / f"{name}-behind")
        path = tmp_path / f"{name}-behind" / "model.safetensors"
        assert checkpoint_hash(path.parent) == checkpoint_hash(directory), "a faithful copy keeps its hash"
        save_file(changed.state_dict(), path)
        hashes.add(checkpoint_hash(path.parent))
    assert len(hashes) == 7


def test_checkpoint_hash_notices_an_exchanged_file_that_looks_old(directory):
    before = checkpoint_hash(directory)
    os.utime(directory / "model.safetensors", (1, 1))
    assert checkpoint_hash(directory) != before


def test_checkpoint_hash_needs_a_manifest(directory):
    (directory / "manifest.json").write_text("{}")
    with pytest.raises(CheckpointError, match="describes no tensors"):
        checkpoint_hash(directory)
    (directory / "manifest.json").unlink()
    assert checkpoint_hash(directory) is None
