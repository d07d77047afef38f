"""The report names what is missing and what to do, and changes nothing."""

from __future__ import annotations

import importlib.metadata

from ivlm_core import doctor


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
