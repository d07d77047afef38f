"""MCAP record by record, with limits, for files that are cut short or damaged (https://mcap.dev/spec)."""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from zlib import crc32

from ivlm_core.errors import InputError
from ivlm_ros.replay.bag_files import RecordedTopic, merged
from ivlm_ros.replay.unpacking import unpack

MAGIC = b"\x89MCAP0\r\n"
HEADER, FOOTER, SCHEMA, CHANNEL, MESSAGE, CHUNK, DATA_END = 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x0F
# A chunk usually has some megabytes; one holds at least one whole message.
MAX_CHUNK_BYTES = 1024 * 2**20
MAX_RECORD_BYTES = 1024 * 2**20
MOST_TOPICS = 10_000


@dataclass(frozen=True)
class _Channel:
    topic: str
    type: str
    definition: str


class DamagedMcap:
    """What can be read of an MCAP file, by looking at every record.

    Attributes
    ----------
    damage : a sentence on each thing that is wrong; empty for a whole file.
    topics : with the number of their readable messages.

    Raises
    ------
    InputError : the file is none of ROS 2.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.damage: list[str] = []
        self._schemas: dict[int, tuple[str, str, str]] = {}
        self._channels: dict[int, _Channel] = {}
        counts: Counter[int] = Counter()
        lost = 0
        with path.open("rb") as file:
            self._check_start(file)
            for code, content in self._records(file, self.damage):
                if code == CHUNK:
                    good, bad = self._count_chunk(content, counts)
                    lost += not good or bad
                else:
                    lost += not self._note(code, content, counts)
        if lost:
            self.damage.append(f"{lost} records are damaged")
        self.topics: Sequence[RecordedTopic] = self._topics(counts)

    def messages(self, wanted: Collection[tuple[str, str]]) -> Iterator[tuple[tuple[str, str], int, bytes]]:
        """See `Storage`; in the order of writing."""
        chosen = {
            number: (channel.topic, channel.type)
            for number, channel in self._channels.items()
            if (channel.topic, channel.type) in wanted
        }
        with self.path.open("rb") as file:
            self._check_start(file)
            for code, content in self._records(file, []):
                for inner, data in self._inside(content)[0] if code == CHUNK else ((code, content),):
                    if inner == MESSAGE and len(data) >= 22:
                        number, _, time = struct.unpack_from("<HIQ", data)
                        if number in chosen and time < 2**63:
                            yield chosen[number], time, bytes(data[22:])

    def close(self) -> None:
        """See `Storage`; the file is open only while it is read."""

    def _check_start(self, file: BinaryIO) -> None:
        if file.read(len(MAGIC)) != MAGIC:
            raise InputError("bag", "does not begin like an MCAP file", "give a rosbag2 recording")

    def _records(self, file: BinaryIO, damage: list[str]) -> Iterator[tuple[int, memoryview]]:
        """Code and content of each whole record up to the end of the data."""
        size = self.path.stat().st_size
        first = True
        while True:
            place = file.tell()
            head = file.read(9)
            if len(head) < 9:
                damage.append(f"the file ends at byte {place} without its index: recording was cut short")
                return
            code, length = struct.unpack("<BQ", head)
            if length > size - file.tell():
                damage.append(f"the file ends in the middle of a record, at byte {place}: recording was cut short")
                if code == CHUNK:
                    yield code, memoryview(file.read(MAX_RECORD_BYTES))
                return
            if code in (FOOTER, DATA_END):
                if code == DATA_END and not self._has_end(file, size):
                    damage.append("the file's index is damaged or missing")
                return
            if first and code == HEADER:
                profile = file.read(min(length, 64))
                if profile[4 : 4 + int.from_bytes(profile[:4], "little")] != b"ros2":
                    raise InputError("bag", "is an MCAP file without ROS 2 messages", "give a rosbag2 recording")
            elif code in (SCHEMA, CHANNEL, MESSAGE, CHUNK):
                if length > MAX_RECORD_BYTES:
                    damage.append(f"the record at byte {place} claims {length} bytes")
                else:
                    yield code, memoryview(file.read(length))
            first = False
            file.seek(place + 9 + length)

    def _has_end(self, file: BinaryIO, size: int) -> bool:
        file.seek(max(0, size - len(MAGIC)))
        return file.read() == MAGIC

    def _inside(self, chunk: memoryview) -> tuple[list[tuple[int, memoryview]], bool]:
        """The records of a chunk, and whether all of it is whole."""
        try:
            _, _, size, checksum, length = struct.unpack_from("<QQQII", chunk)
            compression = bytes(chunk[32 : 32 + length]).decode()
            (packed,) = struct.unpack_from("<Q", chunk, 32 + length)
            content = chunk[40 + length : 40 + length + packed]
            cut = len(content) != packed
            if size > MAX_CHUNK_BYTES or (cut and compression):
                return [], False
            data = memoryview(unpack(bytes(content), compression, size) if compression else content)
        except (struct.error, UnicodeDecodeError, InputError):
            return [], False
        whole = len(data) == size and (not checksum or crc32(data) == checksum)
        records: list[tuple[int, memoryview]] = []
        place = 0
        while place + 9 <= len(data):
            code, length = struct.unpack_from("<BQ", data, place)
            if length > len(data) - place - 9:
                return records, False
            records.append((code, data[place + 9 : place + 9 + length]))
            place += 9 + length
        # Where the checksum is wrong, any of the bytes may be.
        return (records, whole) if whole or cut else ([], False)

    def _count_chunk(self, chunk: memoryview, counts: Counter[int]) -> tuple[bool, int]:
        records, whole = self._inside(chunk)
        return whole, sum(not self._note(code, content, counts) for code, content in records if code != CHUNK)

    def _note(self, code: int, content: memoryview, counts: Counter[int]) -> bool:
        """Remember schemas and channels, count messages; False for a record that cannot be read."""
        try:
            if code == SCHEMA:
                (number,) = struct.unpack_from("<H", content)
                name, place = _text(content, 2)
                encoding, place = _text(content, place)
                self._schemas[number] = name, encoding, _text(content, place)[0]
            elif code == CHANNEL:
                number, schema = struct.unpack_from("<HH", content)
                topic, _ = _text(content, 4)
                kind, encoding, definition = self._schemas.get(schema, ("", "", ""))
                known = encoding in ("ros2msg", "ros2idl", "omgidl")
                if len(self._channels) < MOST_TOPICS:
                    self._channels[number] = _Channel(topic, kind, definition if known else "")
            elif code == MESSAGE:
                number, _, time = struct.unpack_from("<HIQ", content)
                if number not in self._channels or len(content) < 22 or time >= 2**63:
                    return False
                counts[number] += 1
        except (struct.error, UnicodeDecodeError):
            return False
        return True

    def _topics(self, counts: Counter[int]) -> list[RecordedTopic]:
        return merged(
            RecordedTopic(channel.topic, channel.type, counts[number], channel.definition)
            for number, channel in self._channels.items()
        )


def _text(content: memoryview, place: int) -> tuple[str, int]:
    """A string with its length before it, and where it ends."""
    (length,) = struct.unpack_from("<I", content, place)
    if length > len(content) - place - 4:
        raise struct.error("a string is longer than its record")
    return bytes(content[place + 4 : place + 4 + length]).decode(), place + 4 + length
