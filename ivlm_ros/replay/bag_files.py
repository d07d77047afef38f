"""Bags of any ROS 2 distribution, whole or damaged, and the definitions of the messages in them."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, Protocol

from ivlm_core.datasets.bags import PACKAGE, interface_folder, message_store
from ivlm_core.errors import InputError, shown
from ivlm_core.storage import file_size
from ivlm_ros.message_types import PlainMessages
from ivlm_ros.replay.findings import Findings
from ivlm_ros.replay.unpacking import unpack, unpack_file

if TYPE_CHECKING:
    from types import TracebackType

    from rosbags.interfaces import Connection, Qos
    from rosbags.typesys.store import Typestore

MAX_METADATA_BYTES = 16 * 2**20
# A message beyond this is taken for damage: an uncompressed 16-megapixel image has 48 MB.
MAX_MESSAGE_BYTES = 512 * 2**20
LAST_STAMP = 2**63 - 1


@dataclass(frozen=True)
class RecordedTopic:
    """A topic of a bag.

    Attributes
    ----------
    name, type : as ROS writes them. count : messages, as far as the bag says.
    definition : text of the message definition (`.msg` or IDL with its dependencies); empty where the bag has none.
    qos : of the publishers, as `rosbags` gives it.
    """

    name: str
    type: str
    count: int
    definition: str = ""
    qos: tuple[Qos, ...] = ()

    @property
    def key(self) -> tuple[str, str]:
        """Name and type; several publishers of one topic are one."""
        return self.name, self.type


@dataclass(frozen=True)
class Record:
    """One message of a bag: `time` is when it was received, nanoseconds; `data` is CDR."""

    topic: RecordedTopic
    time: int
    data: bytes


class Storage(Protocol):
    """One file of a bag."""

    @property
    def topics(self) -> Sequence[RecordedTopic]:
        """With their definitions, as far as they can be read."""
        ...

    def messages(self, wanted: Collection[tuple[str, str]]) -> Iterator[tuple[tuple[str, str], int, bytes]]:
        """Key of the topic, time and data of the messages of the wanted topics, in the order of the file."""
        ...

    def close(self) -> None:
        """Close the file."""
        ...


class Bag:
    """Reads a bag; use it as a context manager.

    Parameters
    ----------
    path : the folder of a recording, or one of its `.mcap` or `.db3` files.
    findings : is told what of it cannot be read.

    Attributes
    ----------
    topics : in the order of their names. distribution : the ROS distribution it was recorded with, empty where the bag
    does not say. storage : `mcap` or `sqlite3`. start, end : of the receive times, nanoseconds; known after
    `messages` has come to its end.

    Raises
    ------
    InputError : there is no bag, or nothing of it can be read.
    """

    def __init__(self, path: Path, findings: Findings) -> None:
        self.path, self.findings = path, findings
        self.distribution = ""
        self.storage = ""
        self.topics: tuple[RecordedTopic, ...] = ()
        self._compressed_messages = False
        self._storages: list[Storage] = []
        self._stack = ExitStack()
        self._told: set[str] = set()

    def __enter__(self) -> Bag:
        try:
            self._open()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _open(self) -> None:
        from ivlm_ros.replay.storages import open_storage

        files = self._files()
        refused = []
        folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="ivlm-replay-")))
        for file in files:
            try:
                path = unpack_file(file, folder) if file.suffix == ".zstd" else file
                storage = open_storage(path, folder, self._tell)
            except InputError as error:
                refused.append(f"{file.name}: {error.problem}")
                self._tell(refused[-1])
                continue
            self._stack.callback(storage.close)
            self._storages.append(storage)
        if not self._storages:
            raise InputError(
                "bag", f"{self.path} cannot be read: {refused[0]}", "give the folder of a rosbag2 recording"
            )
        topics = merged(topic for storage in self._storages for topic in storage.topics)
        self.topics = tuple(sorted(topics, key=lambda topic: topic.key))
        if not self.topics:
            raise InputError("bag", f"{self.path} holds no topics ({files[0].name})", "give another recording")

    def _files(self) -> list[Path]:
        """The bag's files in their order, from its metadata or, where that is missing or damaged, from the folder."""
        if not self.path.exists():
            raise InputError("bag", f"{self.path} does not exist", "give the folder of a rosbag2 recording")
        if self.path.is_file():
            if self.path.suffix == ".bag":
                raise InputError("bag", f"{self.path} is a recording of ROS 1", "convert it with rosbags-convert")
            if not _is_storage(self.path):
                raise InputError("bag", f"{self.path} is no .mcap or .db3 file", "give a rosbag2 recording")
            self.storage = "mcap" if ".mcap" in self.path.suffixes else "sqlite3"
            return [self.path]
        if not self.path.is_dir():
            raise InputError("bag", f"{self.path} is no file and no folder", "give the folder of a rosbag2 recording")
        found = sorted((path for path in self.path.iterdir() if path.is_file() and _is_storage(path)), key=_natural)
        listed: list[Path] = []
        try:
            listed = self._from_metadata(self.path / "metadata.yaml")
        except InputError as error:
            if found:
                self._tell(f"metadata.yaml: {error.problem}; the folder's files are read in the order of their names")
        files = listed or found
        if not files:
            raise InputError(
                "bag", f"{self.path} holds no .mcap or .db3 file", "give the folder of a rosbag2 recording"
            )
        self.storage = "mcap" if ".mcap" in files[0].suffixes else "sqlite3"
        return files

    def _from_metadata(self, path: Path) -> list[Path]:
        import yaml

        try:
            if (size := file_size(path)) > MAX_METADATA_BYTES:
                raise InputError("metadata.yaml", f"has {size} bytes", "record the bag anew")
            facts = yaml.safe_load(path.read_text(encoding="utf-8"))["rosbag2_bagfile_information"]
            names = [PurePath(_text(name)).name for name in facts["relative_file_paths"]]
            mode = _text(facts.get("compression_mode")).lower()
            self.distribution = _text(facts.get("ros_distro"))[:64]
        except InputError:
            raise
        except FileNotFoundError:
            raise InputError("metadata.yaml", "is missing", "record the bag anew") from None
        # A damaged text raises whatever its parser meets.
        except Exception as error:
            raise InputError("metadata.yaml", f"cannot be read ({type(error).__name__})", "record anew") from error
        self._compressed_messages = mode == "message"
        files = [path.parent / name for name in names]
        for file in files:
            if not file.is_file():
                self._tell(f"{file.name}: is missing")
        return [file for file in files if file.is_file() and _is_storage(file)]

    def messages(
        self, keys: Collection[tuple[str, str]] | None = None, start: int = 0, stop: int = LAST_STAMP
    ) -> Iterator[Record]:
        """The messages of the topics with the given keys (None for all), received within [start, stop) nanoseconds.

        Files follow each other; within one the order is that of receiving. What cannot be read is told once.
        """
        topics = {topic.key: topic for topic in self.topics}
        wanted = set(topics) if keys is None else set(keys)
        for storage in self._storages:
            reading = storage.messages(wanted)
            while True:
                try:
                    key, time, data = next(reading)
                except StopIteration:
                    break
                # What a damaged file makes its reader raise is not its own kind of error alone.
                except Exception as error:
                    self._tell(f"the rest of a file cannot be read: {error}")
                    break
                if not start <= time < stop:
                    continue
                try:
                    if self._compressed_messages:
                        data = unpack(data, "zstd", MAX_MESSAGE_BYTES)
                    if not 4 <= len(data) <= MAX_MESSAGE_BYTES:
                        raise InputError("message", f"has {len(data)} bytes")
                except InputError as error:
                    self._tell(f"a message of {shown(key[0])} {error.problem}", "broken_record")
                    continue
                yield Record(topics[key], time, data)

    def first(self, topic: RecordedTopic) -> bytes | None:
        """The topic's first message, or None."""
        return next((record.data for record in self.messages([topic.key])), None)

    def _tell(self, text: str, kind: str = "damaged_file") -> None:
        # The bag is read several times; what is wrong with it is the same each time.
        if kind == "broken_record" or text not in self._told:
            self._told.add(text)
            self.findings.add(kind, text)


def _text(value: Any) -> str:
    """A text of the metadata; whatever else stands there is not written out, since lists of one list have no end."""
    if value is not None and not isinstance(value, str):
        raise TypeError("it is no text")
    return value or ""


def _is_storage(path: Path) -> bool:
    kinds = [suffix for suffix in path.suffixes[-2:] if suffix != ".zstd"]
    return kinds[-1:] in ([".mcap"], [".db3"])


def _natural(path: Path) -> list[Any]:
    """Sorts recording_10 behind recording_9."""
    return [int(piece) if piece.isdecimal() else piece for piece in re.split(r"(\d+)", path.name)]


@lru_cache(maxsize=1)
def store_without_definitions() -> Typestore:
    """The types of bags that carry no definitions, which Iron was the first to write: those of Humble, and ours."""
    from rosbags.typesys import Stores, get_types_from_msg, get_typestore

    store = get_typestore(Stores.ROS2_HUMBLE)
    types: dict[str, Any] = {}
    for path in sorted(interface_folder().glob("*.msg")):
        types |= get_types_from_msg(path.read_text(encoding="utf-8"), f"{PACKAGE}/msg/{path.stem}")
    store.register(types)
    return store


class Definitions:
    """The message types of a bag, each as it was recorded."""

    def __init__(self) -> None:
        self._stores: dict[tuple[str, str], Typestore] = {}

    def store(self, topic: RecordedTopic) -> Typestore:
        """The definitions of a topic's type and all that it is made of.

        Raises
        ------
        InputError : the bag has no definition of an unknown type, or one that cannot be read.
        """
        key = topic.type, topic.definition
        if key not in self._stores:
            self._stores[key] = self._read(topic)
        return self._stores[key]

    def decoder(self, topic: RecordedTopic) -> Callable[[bytes], Any]:
        """Makes messages of a topic's data; raises InputError (`message`) for data that does not fit the definition.

        Our own types come as they are defined now: what a bag of another version lacks has its default.
        """
        store = self.store(topic)
        try:
            store.get_msgdef(topic.type)
        except Exception as error:
            raise _unreadable(topic, error) from error
        newer = message_store() if topic.type.startswith(f"{PACKAGE}/") else store

        def decode(data: bytes) -> Any:
            try:
                message = store.deserialize_cdr(data, topic.type)
                return message if newer is store else upgraded(message, topic.type, newer)
            # Damaged data makes the generated code raise many kinds (SerdeError, struct.error, IndexError, …).
            except Exception as error:
                raise InputError(
                    "message", f"of {shown(topic.name)} cannot be decoded: {error}", "record the bag anew"
                ) from error

        return decode

    def _read(self, topic: RecordedTopic) -> Typestore:
        from rosbags.typesys import Stores, get_types_from_idl, get_types_from_msg, get_typestore

        if not topic.definition:
            store = store_without_definitions()
            if topic.type not in store.fielddefs:
                raise InputError(
                    "bag",
                    f"{shown(topic.name)} has the type {shown(topic.type)}, which the bag does not define",
                    "record it with Iron or later, whose bags carry definitions",
                )
            return store
        rule = "=" * 80 + "\n"
        types: dict[str, Any] = {}
        try:
            if topic.definition.startswith(f"{rule}IDL: "):
                for part in topic.definition.split(rule)[1:]:
                    types.update(get_types_from_idl(part.split("\n", 1)[1]))
            else:
                types.update(get_types_from_msg(topic.definition, topic.type))
            store = get_typestore(Stores.EMPTY)
            store.register(types)
            store.hash_rihs01(topic.type)
        # The parsers raise many kinds for a text that is no definition.
        except Exception as error:
            raise _unreadable(topic, error) from error
        return store


def upgraded(message: Any, kind: str, store: Typestore) -> Any:
    """A message with the fields that `store` gives its type: those it has, and defaults for the others."""
    from rosbags.interfaces import Nodetype

    types = PlainMessages(store)

    def converted(value: Any, what: Any) -> Any:
        form, detail = what
        if form == Nodetype.NAME:
            return upgraded(value, detail, store)
        if form in (Nodetype.ARRAY, Nodetype.SEQUENCE) and detail[0][0] == Nodetype.NAME:
            return [upgraded(item, detail[0][1], store) for item in value]
        return value

    fields = {name: what for name, what in store.fielddefs[kind][1] if hasattr(message, name)}
    return types.make(kind, **{name: converted(getattr(message, name), what) for name, what in fields.items()})


def _unreadable(topic: RecordedTopic, error: Exception) -> InputError:
    told = str(error).splitlines()[0] if str(error) else type(error).__name__
    return InputError(
        "bag", f"the definition of {shown(topic.type)} ({shown(topic.name)}) cannot be read: {shown(told)}"
    )


def connection_topic(connection: Connection) -> RecordedTopic:
    """A topic as `rosbags` tells of it."""
    ext: Any = connection.ext
    return RecordedTopic(
        connection.topic,
        connection.msgtype,
        connection.msgcount,
        connection.msgdef.data,
        tuple(getattr(ext, "offered_qos_profiles", ())),
    )


def merged(topics: Iterable[RecordedTopic]) -> list[RecordedTopic]:
    """One topic for each name and type; its publishers, or the files it is in, may have been several."""
    known: dict[tuple[str, str], RecordedTopic] = {}
    for topic in topics:
        before = known.get(topic.key, topic)
        count = topic.count + (before.count if topic.key in known else 0)
        known[topic.key] = replace(before, count=count, definition=before.definition or topic.definition)
    return list(known.values())
