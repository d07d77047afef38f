"""SQLite bags row by row, for files that are cut short or damaged."""

from __future__ import annotations

import contextlib
import secrets
import shutil
import sqlite3
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from ivlm_core.errors import InputError
from ivlm_ros.replay.bag_files import RecordedTopic, merged
from ivlm_ros.replay.unpacking import MAX_FILE_BYTES

# What stands in for the first of the missing pages, so that messages that end in them are known; the rest are zeros.
_FILLING = secrets.token_bytes(8)
FILLED_BYTES = 64 * 2**20


class DamagedSqlite:
    """What can be read of a `.db3` file: its tables, without its index.

    Parameters
    ----------
    folder : takes a copy of a file that is shorter than it says.

    Attributes
    ----------
    topics : their counts are 0, for counting would need the whole file.

    Raises
    ------
    InputError : not even the list of topics can be read.
    """

    def __init__(self, path: Path, folder: Path, tell: Callable[[str], None]) -> None:
        self.path, self._tell = _padded(path, folder), tell
        self._names: dict[int, tuple[str, str]] = {}
        self.topics: Sequence[RecordedTopic] = ()
        try:
            with contextlib.closing(self._connect()) as connection:
                rows = connection.execute("SELECT id, name, type FROM topics LIMIT 10000").fetchall()
                definitions = self._definitions(connection)
        except sqlite3.Error as error:
            raise InputError("bag", f"cannot be read: {error}", "record it anew") from error
        for number, name, kind in rows:
            if isinstance(number, int) and isinstance(name, str) and isinstance(kind, str):
                self._names[number] = name, kind
        self.topics = merged(RecordedTopic(*key, 0, definitions.get(key[1], "")) for key in self._names.values())

    def messages(self, wanted: Collection[tuple[str, str]]) -> Iterator[tuple[tuple[str, str], int, bytes]]:
        """See `Storage`; in the order of writing, up to the first page that is damaged."""
        with contextlib.closing(self._connect()) as connection:
            try:
                # Without ORDER BY timestamp, so that SQLite walks the table itself and leaves the index alone.
                for number, time, data in connection.execute(
                    "SELECT topic_id, timestamp, data FROM messages NOT INDEXED ORDER BY rowid"
                ):
                    key = self._names.get(number)
                    if isinstance(data, bytes) and _FILLING in data:
                        continue
                    if key in wanted and isinstance(time, int) and isinstance(data, bytes) and 0 <= time < 2**63:
                        assert key is not None
                        yield key, time, data
            except (sqlite3.Error, OverflowError) as error:
                self._tell(f"{self.path.name}: the rest of it cannot be read: {error}")

    def close(self) -> None:
        """See `Storage`; the file is open only while it is read."""

    def _connect(self) -> sqlite3.Connection:
        from urllib.parse import quote

        connection = sqlite3.connect(f"file:{quote(str(self.path.resolve()))}?mode=ro&immutable=1", uri=True)
        connection.text_factory = lambda data: data.decode("utf-8", "replace")
        return connection

    def _definitions(self, connection: sqlite3.Connection) -> dict[str, str]:
        try:
            rows: list[Any] = connection.execute(
                "SELECT topic_type, encoded_message_definition FROM message_definitions LIMIT 10000"
            ).fetchall()
        except sqlite3.Error:
            return {}  # bags before Iron have no such table
        return {kind: text for kind, text in rows if isinstance(kind, str) and isinstance(text, str)}


def _padded(path: Path, folder: Path) -> Path:
    """The file, or where it was cut short a copy with holes at its end: SQLite opens no file that lacks pages."""
    with path.open("rb") as file:
        head = file.read(100)
    page = int.from_bytes(head[16:18], "big")
    claimed = (65536 if page == 1 else page) * int.from_bytes(head[28:32], "big")
    if not head.startswith(b"SQLite format 3") or not path.stat().st_size < claimed <= MAX_FILE_BYTES:
        return path
    copy = folder / path.name
    shutil.copyfile(path, copy)
    with copy.open("r+b") as file:
        file.seek(0, 2)
        file.write(_FILLING * (min(claimed - path.stat().st_size, FILLED_BYTES) // len(_FILLING)))
        file.truncate(claimed)
    return copy
