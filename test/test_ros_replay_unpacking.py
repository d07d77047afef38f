"""Compressed data from outside: unpacked whole, or refused, and never beyond its limit."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import lz4.frame
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ivlm_core.errors import InputError
from ivlm_ros.replay import unpacking as module
from ivlm_ros.replay.unpacking import unpack, unpack_file

zstd = pytest.importorskip("backports.zstd")


def packed(data: bytes, compression: str) -> bytes:
    return bytes({"": bytes, "zstd": zstd.compress, "lz4": lz4.frame.compress}[compression](data))


@given(data=st.binary(max_size=2000), compression=st.sampled_from(["", "zstd", "lz4"]))
def test_round_trip(data: bytes, compression: str) -> None:
    assert unpack(packed(data, compression), compression, 2000) == data


@pytest.mark.parametrize("compression", ["zstd", "lz4"])
def test_several_frames_follow_each_other(compression: str) -> None:
    assert unpack(packed(b"one", compression) + packed(b"two", compression), compression, 10) == b"onetwo"


@pytest.mark.parametrize("compression", ["zstd", "lz4"])
def test_bomb_is_refused_before_it_is_unpacked(compression: str) -> None:
    bomb = packed(bytes(200 * 2**20), compression)
    assert len(bomb) < 2**20
    tracemalloc.start()
    with pytest.raises(InputError, match="unpacks to more than"):
        unpack(bomb, compression, 2**20)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16 * 2**20


@given(data=st.binary(min_size=1, max_size=200), compression=st.sampled_from(["zstd", "lz4"]))
def test_noise_and_cut_data_are_one_kind_of_error(data: bytes, compression: str) -> None:
    for damaged in (data, packed(data, compression)[:-1]):
        try:
            unpack(damaged, compression, 1000)
        except InputError as error:
            assert error.field == "compressed data"


def test_unknown_compression_is_named() -> None:
    with pytest.raises(InputError, match="'brotli'"):
        unpack(b"x", "brotli", 10)


def test_file_is_unpacked_as_far_as_it_goes(tmp_path: Path) -> None:
    data = bytes(range(256)) * 40_000
    path = tmp_path / "bag.mcap.zstd"
    path.write_bytes(packed(data[: len(data) // 2], "zstd") + packed(data[len(data) // 2 :], "zstd"))
    (tmp_path / "out").mkdir()
    made = unpack_file(path, tmp_path / "out")
    assert made.name == "bag.mcap"
    assert made.read_bytes() == data
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    assert data.startswith(unpack_file(path, tmp_path / "out").read_bytes()[: len(data) // 2])
    path.write_bytes(b"none of it")
    with pytest.raises(InputError, match="cannot be unpacked"):
        unpack_file(path, tmp_path / "out")


def test_file_bomb_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_FILE_BYTES", 3 * 2**20)
    path = tmp_path / "bag.mcap.zstd"
    path.write_bytes(packed(bytes(50 * 2**20), "zstd"))
    (tmp_path / "out").mkdir()
    with pytest.raises(InputError, match="unpacks to more than"):
        unpack_file(path, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []
