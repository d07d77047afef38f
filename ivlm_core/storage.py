"""Where caches live and how files are written: whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import stat
import tempfile
import time
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from ivlm_core.errors import ConfigError, shown

log = logging.getLogger("ivlm")

# What NumPy raises for an `.npz` that is missing, cut short, damaged, oversized, or holds pickled objects.
UNREADABLE = (OSError, ValueError, EOFError, MemoryError, zipfile.BadZipFile, zlib.error, NotImplementedError)

# Nothing takes this long to write.
STALE_SECONDS = 3600.0


def _umask() -> int:
    # It can only be read by setting it, for the whole process: once, before there are threads that make files.
    umask = os.umask(0o077)
    os.umask(umask)
    return umask


_UMASK = _umask()


def default_cache_dir() -> Path:
    """`$IVLM_CACHE_DIR`, else `$XDG_CACHE_HOME/ivlm_ros`, else `~/.cache/ivlm_ros`.

    Raises
    ------
    ConfigError : none of them is given, and the user has no home, as users whom a container does not know.
    """
    if chosen := os.environ.get("IVLM_CACHE_DIR"):
        return Path(chosen)
    try:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    except RuntimeError:
        raise ConfigError("HOME", "is not set, and this user has none", "set IVLM_CACHE_DIR to a folder") from None
    return Path(base) / "ivlm_ros"


def file_size(path: Path) -> int:
    """Bytes of a regular file; ask before reading one from outside.

    Raises
    ------
    OSError : it cannot be looked at, or is a folder, a pipe or a device, which may never come to an end.
    """
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return status.st_size


def check_folder(field: str, path: Path) -> None:
    """Refuse what cannot become a folder for results, before any work is done for them.

    Raises
    ------
    ConfigError : the path, or what it lies in, is a file.
    """
    for part in (path, *path.parents):
        if part.is_dir():
            return
        if part.exists():
            raise ConfigError(field, f"{shown(str(part), 300)} is a file, not a folder", "name a folder")


@contextlib.contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """A temporary path beside `target` that replaces it when the block ends well and vanishes when it does not."""
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{target.stem}-", suffix=target.suffix, dir=target.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        # mkstemp makes private files; a result should have the permissions of any other file the user writes.
        temporary.chmod(0o666 & ~_UMASK)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


class ArrayCache:
    """Named arrays on disk under a key; a cache that cannot be read or written is a warning, never a failure.

    Files are `.npz` without pickle, written atomically, so that several processes can share one directory and a
    process killed while writing leaves nothing that loads.
    """

    def __init__(self, directory: Path | None = None) -> None:
        self.directory = directory if directory is not None else default_cache_dir()
        self.hits = 0
        self.misses = 0
        self._warned = False
        self._swept: set[str] = set()

    def path(self, kind: str, key: str) -> Path:
        return self.directory / kind / f"{key}.npz"

    def load(self, kind: str, key: str) -> dict[str, np.ndarray] | None:
        """The arrays stored under `key`, or None when there are none or the file is damaged."""
        path = self.path(kind, key)
        try:
            with np.load(path, allow_pickle=False) as stored:
                arrays = {name: stored[name] for name in stored.files}
        except FileNotFoundError:
            self.misses += 1
            return None
        except (*UNREADABLE, KeyError) as error:
            log.warning("cache file %s is unreadable and will be made again: %s", path, error)
            self.misses += 1
            return None
        self.hits += 1
        return arrays

    def store(self, kind: str, key: str, arrays: Mapping[str, np.ndarray]) -> None:
        """Write the arrays under `key`; where the disk refuses, say so once and go on without."""
        if any(array.dtype.hasobject for array in arrays.values()):
            raise TypeError("only plain arrays are cached, never pickled objects")
        try:
            self._sweep(kind)
            with atomic_path(self.path(kind, key)) as temporary, temporary.open("wb") as stream:
                np.savez(stream, **dict(arrays))  # type: ignore[arg-type]
        except OSError as error:
            if not self._warned:
                log.warning(
                    "cannot write the cache in %s (%s): work is repeated at every start; set IVLM_CACHE_DIR to a "
                    "writable folder",
                    self.directory,
                    error,
                )
                self._warned = True

    def _sweep(self, kind: str) -> None:
        """Delete what killed processes left half written: a node that dies again and again must not fill the disk."""
        if kind in self._swept:
            return
        self._swept.add(kind)
        oldest = time.time() - STALE_SECONDS
        for left in (self.directory / kind).glob(".*-*.npz"):
            # Another process may be writing it, or deleting it, now.
            with contextlib.suppress(OSError):
                if left.stat().st_mtime < oldest:
                    left.unlink()
