"""`train_objects`: a trained model's branch of objects is learned anew, and nothing else of it changes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from ivlm_core.checkpoints import build_model, load_weights
from ivlm_core.cli import main
from ivlm_core.config import load_profile
from ivlm_core.errors import ConfigError
from ivlm_core.reason import ContactTokenizer
from ivlm_core.train import train_objects
from test.test_train_start import data, export  # noqa: F401 (a fixture)

CHANGES = {"object_steps": 4, "batch": 2}


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    profile = load_profile(folder)
    model = build_model(profile, ContactTokenizer(tokens=profile.tokens))
    load_weights(folder, model, dtype=torch.float32)
    return model.state_dict()


def test_the_rest_of_the_model_stays(data, tmp_path):  # noqa: F811
    source = export(tmp_path / "model")
    told = train_objects(str(source), tmp_path, tmp_path / "first", CHANGES, "cpu", print, data)
    assert 0 <= told["sim"] <= 1
    assert load_profile(tmp_path / "first").localize.object_branch_labels == ("sports ball",)
    before, after = tensors(source), tensors(tmp_path / "first")
    new = sorted(set(after) - set(before))
    assert new
    assert all(name.startswith("localize.object_branch.heads.0.") for name in new)
    for name, value in before.items():
        torch.testing.assert_close(after[name], value, rtol=0, atol=0, msg=name)
    # Once more, from what was written: the same again.
    train_objects(str(tmp_path / "first"), tmp_path, tmp_path / "second", CHANGES, "cpu", print, data)
    for name, value in tensors(tmp_path / "second").items():
        torch.testing.assert_close(value, after[name], rtol=0, atol=0, msg=name)


def test_what_it_refuses(data, tmp_path, capsys):  # noqa: F811
    with pytest.raises(ConfigError, match=r"--objects-of.*no trained model"):
        train_objects(str(tmp_path), tmp_path, tmp_path / "new", CHANGES, "cpu", print, data)
    (tmp_path / "other").mkdir()
    with pytest.raises(ConfigError, match=r"--export.*no exported model"):
        train_objects("tiny", tmp_path, tmp_path / "other", CHANGES, "cpu", print, data)
    for options, words in (
        (["--objects-of", "tiny"], "--objects-of: writes a model and no run"),
        (["--objects-of", "tiny", "--export", "a", "--out", "b"], "--objects-of: writes a model and no run"),
        ([], "--out: is missing"),
    ):
        assert main(["train", "--data", str(tmp_path), *options]) == 2
        assert words in capsys.readouterr().err
