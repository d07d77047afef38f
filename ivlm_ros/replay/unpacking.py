"""Decompressing what comes from outside, never beyond a limit: a few kilobytes can stand for terabytes."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

from ivlm_core.errors import InputError

# Disk that one compressed file may take.
MAX_FILE_BYTES = 256 * 2**30
STEP = 2**20


def unpack(data: bytes, compression: str, limit: int) -> bytes:
    """The decompressed bytes; `compression` is `zstd`, `lz4`, or empty for none.

    Raises
    ------
    InputError : damaged data, an unknown compression, or more than `limit` bytes.
    """
    if compression == "":
        return data
    try:
        pieces, size, rest = [], 0, data
        while rest:
            decompressor = _decompressor(compression)
            piece = decompressor.decompress(rest, limit - size + 1)
            pieces.append(piece)
            size += len(piece)
            if size > limit:
                raise InputError("compressed data", f"unpacks to more than {limit} bytes")
            if not decompressor.eof:
                raise InputError("compressed data", "is cut short")
            # Several frames may follow each other.
            rest = decompressor.unused_data or b""
    except InputError:
        raise
    # zstd and lz4 have exceptions of their own, for which there is no common class.
    except Exception as error:
        raise InputError("compressed data", f"cannot be unpacked: {error}") from error
    return b"".join(pieces)


def unpack_file(path: Path, folder: Path) -> Path:
    """Unpack `name.mcap.zstd` to `name.mcap` in a folder, as far as it goes.

    Raises
    ------
    InputError : nothing of it can be unpacked, or it is too large.
    """
    target = folder / path.stem
    written = 0
    try:
        with path.open("rb") as source, target.open("wb") as sink:
            decompressor = _decompressor("zstd")
            while piece := source.read(STEP):
                while piece or not decompressor.needs_input:
                    made = decompressor.decompress(piece, STEP)
                    piece = b""
                    sink.write(made)
                    written += len(made)
                    if written > MAX_FILE_BYTES:
                        raise InputError("bag", f"{path.name} unpacks to more than {MAX_FILE_BYTES} bytes")
                    if decompressor.eof:
                        piece, decompressor = decompressor.unused_data, _decompressor("zstd")
                        if not piece:
                            break
    except InputError:
        target.unlink(missing_ok=True)
        raise
    except Exception as error:
        if not written:
            raise InputError("bag", f"cannot be unpacked: {error}") from error
    return target


def _decompressor(compression: str) -> Any:
    if compression == "zstd":
        # Part of Python from 3.14 on.
        zstd = importlib.import_module("compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd")
        return zstd.ZstdDecompressor()
    if compression == "lz4":
        from lz4.frame import LZ4FrameDecompressor

        return LZ4FrameDecompressor()
    raise InputError("compressed data", f"is compressed with {compression!r}", "zstd and lz4 are known")
