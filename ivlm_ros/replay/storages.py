"""The files of a bag: read by `rosbags` where they are whole, and record by record where they are damaged."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from ivlm_core.errors import InputError
from ivlm_ros.replay.bag_files import RecordedTopic, Storage, connection_topic, merged
from ivlm_ros.replay.mcap_records import DamagedMcap
from ivlm_ros.replay.sqlite_rows import DamagedSqlite

Message = tuple[tuple[str, str], int, bytes]


def open_storage(path: Path, folder: Path, tell: Callable[[str], None]) -> Storage:
    """A file of a bag, ready to be read; `tell` hears what of it is damaged, `folder` takes what is mended.

    Raises
    ------
    InputError : nothing of it can be read.
    """
    if path.suffix == ".mcap":
        # Every record is looked at before: `rosbags` reads no file without its end, and unpacks without a limit.
        salvaged = DamagedMcap(path)
        if not salvaged.damage:
            try:
                return _whole(path)
            except InputError as error:
                salvaged.damage.append(error.problem)
        for text in salvaged.damage:
            tell(f"{path.name}: {text}")
        return salvaged
    try:
        return _whole(path)
    except InputError as error:
        rescued = DamagedSqlite(path, folder, tell)
        tell(f"{path.name}: {error.problem}")
        return rescued


def _whole(path: Path) -> Storage:
    from rosbags.rosbag2 import Reader

    reader = None
    try:
        reader = Reader(path)
        reader.open()
        return _Whole(reader)
    # A damaged file makes `rosbags` raise whatever its parsing meets (struct.error, KeyError, UnicodeDecodeError, …).
    except Exception as error:
        if reader is not None and reader.is_open:
            reader.close()
        raise InputError("bag", f"cannot be read: {error}", "record it anew") from error


class _Whole:
    """A file that `rosbags` reads."""

    def __init__(self, reader: Any) -> None:
        self._reader = reader
        self._keys = {connection.id: (connection.topic, connection.msgtype) for connection in reader.connections}
        self.topics: Sequence[RecordedTopic] = merged(connection_topic(item) for item in reader.connections)

    def messages(self, wanted: Collection[tuple[str, str]]) -> Iterator[Message]:
        """See `Storage`."""
        chosen = [item for item in self._reader.connections if self._keys[item.id] in wanted]
        if not chosen:  # to `rosbags`, none means all
            return
        for connection, time, data in self._reader.messages(connections=chosen):
            # A column of SQLite may hold anything.
            if not isinstance(data, bytes) or not isinstance(time, int) or not 0 <= time < 2**63:
                yield self._keys[connection.id], 0, b""
            else:
                yield self._keys[connection.id], time, data

    def close(self) -> None:
        """See `Storage`."""
        self._reader.close()
