"""Caches are whole or absent, and never the reason for a failure."""

from __future__ import annotations

import os
import time

import numpy as np
import pytest

from ivlm_core.errors import ConfigError
from ivlm_core.storage import STALE_SECONDS, ArrayCache, atomic_path, check_folder, default_cache_dir


def test_round_trip_counts_hits_and_misses(tmp_path):
    cache = ArrayCache(tmp_path)
    assert cache.load("views", "a") is None
    cache.store("views", "a", {"x": np.arange(5), "y": np.eye(2)})
    loaded = cache.load("views", "a")
    assert loaded is not None
    np.testing.assert_array_equal(loaded["y"], np.eye(2))
    assert (cache.hits, cache.misses) == (1, 1)


def test_failure_while_writing_leaves_the_old_file(tmp_path):
    target = tmp_path / "file.bin"
    target.write_bytes(b"old")
    with pytest.raises(RuntimeError), atomic_path(target) as temporary:
        temporary.write_bytes(b"half of the ne")
        raise RuntimeError
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 cut short", b"not a zip at all" * 100])
def test_damaged_cache_file_is_a_miss(tmp_path, damage):
    cache = ArrayCache(tmp_path)
    cache.store("views", "a", {"x": np.arange(5)})
    cache.path("views", "a").write_bytes(damage)
    assert cache.load("views", "a") is None


def test_truncated_cache_file_is_a_miss(tmp_path):
    cache = ArrayCache(tmp_path)
    cache.store("views", "a", {"x": np.arange(5000)})
    path = cache.path("views", "a")
    path.write_bytes(path.read_bytes()[:1000])
    assert cache.load("views", "a") is None


@pytest.mark.parametrize("offset", range(60, 400, 20))
def test_damaged_compressed_cache_file_is_a_miss_or_whole(tmp_path, offset):
    cache = ArrayCache(tmp_path)
    path = cache.path("views", "a")
    path.parent.mkdir(parents=True)
    stored = np.random.default_rng(0).integers(0, 4, 5000)
    np.savez_compressed(path, x=stored)
    data = bytearray(path.read_bytes())
    data[offset : offset + 8] = b"\xff" * 8
    path.write_bytes(data)
    loaded = cache.load("views", "a")
    assert loaded is None or np.array_equal(loaded.get("x", []), stored)


def test_pickle_in_a_cache_file_is_never_loaded(tmp_path):
    cache = ArrayCache(tmp_path)
    path = cache.path("views", "a")
    path.parent.mkdir(parents=True)
    np.savez(path, x=np.array([print], dtype=object))
    assert cache.load("views", "a") is None


def test_objects_are_never_stored(tmp_path):
    with pytest.raises(TypeError, match="never pickled"):
        ArrayCache(tmp_path).store("views", "a", {"x": np.array([print], dtype=object)})
    assert list(tmp_path.iterdir()) == []


def test_unwritable_cache_warns_once_and_goes_on(tmp_path, caplog):
    blocked = tmp_path / "file"
    blocked.write_text("a file where the folder should be")
    cache = ArrayCache(blocked / "cache")
    for _ in range(3):
        cache.store("views", "a", {"x": np.arange(5)})
    assert [record.message for record in caplog.records if "cannot write the cache" in record.message].__len__() == 1


def test_what_killed_processes_left_is_swept_and_what_is_being_written_stays(tmp_path):
    folder = tmp_path / "views"
    folder.mkdir()
    for name, age in ((".a-x1.npz", 2 * STALE_SECONDS), (".b-x2.npz", 1.0), ("old.npz", 2 * STALE_SECONDS)):
        (folder / name).write_bytes(b"half")
        os.utime(folder / name, times=(time.time() - age,) * 2)
    ArrayCache(tmp_path).store("views", "c", {"x": np.zeros(3)})
    assert sorted(path.name for path in folder.iterdir()) == [".b-x2.npz", "c.npz", "old.npz"]


def test_cache_directory_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("IVLM_CACHE_DIR", str(tmp_path / "own"))
    assert default_cache_dir() == tmp_path / "own"
    monkeypatch.delenv("IVLM_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert default_cache_dir() == tmp_path / "xdg" / "ivlm_ros"


def test_results_go_into_folders_alone(tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    for usable in (tmp_path, tmp_path / "new", tmp_path / "new" / "below"):
        check_folder("--out", usable)
        assert not (tmp_path / "new").exists()
    for refused in (file, file / "below", file / "below" / "it"):
        with pytest.raises(ConfigError, match=r"^--out: '.*/file' is a file, not a folder"):
            check_folder("--out", refused)
