"""A model's name leads to its checkpoint, or to what is missing and where to get it."""

from __future__ import annotations

import pytest

from ivlm_core import CheckpointError, ConfigError
from ivlm_core.config import profile_names
from ivlm_core.model_files import checkpoint_of, files_of, model_directory


def test_released_profile_without_weights_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setenv("IVLM_MODEL_DIR", str(tmp_path))
    with pytest.raises(CheckpointError, match=r"no weights in .*ivlm doctor --model interactvlm-7b"):
        checkpoint_of("interactvlm-7b")
    (tmp_path / "interactvlm-7b").mkdir()
    (tmp_path / "interactvlm-7b" / "profile.yaml").write_text("name: x")
    assert checkpoint_of("interactvlm-7b") == tmp_path / "interactvlm-7b"


def test_directory_and_nonsense(tmp_path):
    assert checkpoint_of(tmp_path) == tmp_path
    with pytest.raises(ConfigError, match="neither a shipped profile nor a directory"):
        checkpoint_of(tmp_path / "none")


def test_every_profile_knows_its_files():
    assert files_of("tiny") == ()
    for name in profile_names():
        for item, path, _ in files_of(name):
            assert item.licence
            assert item.source
            assert "{" not in str(path)


def test_model_directory_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.delenv("IVLM_MODEL_DIR", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert model_directory() == tmp_path / "ivlm_ros"
