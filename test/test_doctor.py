"""The report names what is missing and what to do, and changes nothing."""

from __future__ import annotations

import importlib.metadata

import pytest

from ivlm_core import ConfigError, doctor
from ivlm_core.cli import main


def test_this_installation_is_usable():
    checks = {check.name: check for check in doctor.examine()}
    assert [check for check in checks.values() if check.needed and not check.ok] == []
    assert checks["torch"].detail == importlib.metadata.version("torch")


def test_missing_package_is_named_with_its_remedy(monkeypatch):
    real = importlib.metadata.version

    def version(name: str) -> str:
        if name == "open3d":
            raise importlib.metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    check = next(check for check in doctor.examine() if check.name == "open3d")
    assert not check.ok
    assert check.needed
    assert "pip install" in check.detail


def test_unwritable_cache_is_reported(monkeypatch, tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    monkeypatch.setenv("IVLM_CACHE_DIR", str(blocked / "cache"))
    check = next(check for check in doctor.examine() if check.name == "cache")
    assert not check.ok
    assert "IVLM_CACHE_DIR" in check.detail


def test_files_of_a_released_model_are_named_with_licence_and_source(monkeypatch, tmp_path):
    monkeypatch.setenv("IVLM_MODEL_DIR", str(tmp_path))
    checks = {check.name: check for check in doctor.examine("interactvlm-13b")}
    weights = checks["InteractVLM weights, converted"]
    assert weights.needed
    assert not weights.ok
    assert str(tmp_path / "interactvlm-13b") in weights.detail
    for name in ("InteractVLM weights, converted", "CLIP ViT-L/14", "SAM ViT-H", "SMPL+H body", "SMPL-X body"):
        assert "licence: " in checks[name].detail
        assert "https://" in checks[name].detail or "hub" in checks[name].detail
    (tmp_path / "interactvlm-13b").mkdir()
    (tmp_path / "interactvlm-13b" / "profile.yaml").write_text("")
    checks = {check.name: check for check in doctor.examine("interactvlm-13b")}
    assert checks["InteractVLM weights, converted"].ok


def test_unknown_profile():
    with pytest.raises(ConfigError, match="interactvlm-13b"):
        doctor.examine("interactvlm-99b")


def test_absent_package_says_once_that_it_is_absent(monkeypatch, capsys):
    monkeypatch.setattr(doctor, "_importable", lambda module: False)
    main(["doctor"])
    (line,) = (line for line in capsys.readouterr().out.splitlines() if "pytorch3d" in line)
    assert line.startswith("absent   pytorch3d ")
    assert line.count("absent") == 1
