"""rosbag2 files (MCAP or sqlite3) without ROS: this package's message types, writing, and reading."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ivlm_core.errors import ConfigError, InputError
from ivlm_core.storage import file_size
from ivlm_core.types import FloatArray

if TYPE_CHECKING:
    from rosbags.highlevel import AnyReader
    from rosbags.typesys.store import Typestore

PACKAGE = "ivlm_ros"
METADATA = "metadata.yaml"
MAX_METADATA_BYTES = 16 << 20

# Where contact lies in a bag: below the node's name for its answers, and below this for what is known to be true.
GROUND_TRUTH = "/ground_truth"
HUMAN_CONTACTS, OBJECT_AFFORDANCES = "human_contacts", "object_affordances"
CONTACT_TYPES = {
    HUMAN_CONTACTS: f"{PACKAGE}/msg/HumanContactArray",
    OBJECT_AFFORDANCES: f"{PACKAGE}/msg/ObjectAffordanceArray",
}

FrameKey = tuple[str, int]  # the camera's frame and the stamp in nanoseconds


@dataclass(frozen=True)
class BagTopic:
    """A topic of a bag: its name and its type as ROS writes it (`sensor_msgs/msg/Image`)."""

    name: str
    type: str


@dataclass(frozen=True, eq=False)
class VertexValues:
    """Values on the vertices of a mesh, as messages carry them.

    Attributes
    ----------
    vertex_count, topology_hash : of the mesh.
    indices : (K,) the vertices that are listed. values : (K,) float32 in [0, 1]; all other vertices have 0.
    """

    vertex_count: int
    topology_hash: str
    indices: NDArray[np.uint32]
    values: FloatArray

    def dense(self) -> FloatArray:
        """(V,) float32."""
        values = np.zeros(self.vertex_count, dtype=np.float32)
        values[self.indices] = self.values
        return values


@dataclass(frozen=True, eq=False)
class RecordedContact:
    """Contact with one object in one image.

    Attributes
    ----------
    label : of the object. body_model : whose vertices `body` is on; empty without it.
    body : contact on the body; None where the bag has none.
    thing : affordance on the object's mesh; None where the bag has none.
    """

    label: str
    body_model: str = ""
    body: VertexValues | None = None
    thing: VertexValues | None = None


def interface_folder() -> Path:
    """The folder with this package's `.msg` files: of the checkout, or of the installed ROS package.

    Raises
    ------
    ConfigError : the Python package was installed alone, without the ROS package.
    """
    for parent in Path(__file__).resolve().parents:
        for folder in (parent / "msg", parent / "share" / PACKAGE / "msg"):
            if (folder / "DetectedObject.msg").is_file():
                return folder
    raise ConfigError("msg", f"no .msg files of {PACKAGE} were found", "run from a checkout or a built workspace")


@lru_cache(maxsize=1)
def message_store() -> Typestore:
    """All common ROS 2 message types and those of `ivlm_ros`, for `rosbags`; made once per process.

    Raises
    ------
    ConfigError : as in `interface_folder`.
    """
    from rosbags.typesys import Stores, get_types_from_msg, get_typestore

    store = get_typestore(Stores.ROS2_KILTED)
    types: dict[str, Any] = {}
    for path in sorted(interface_folder().glob("*.msg")):
        types |= get_types_from_msg(path.read_text(encoding="utf-8"), f"{PACKAGE}/msg/{path.stem}")
    store.register(types)
    return store


class BagRecorder:
    """Writes a bag; it appears under its name when the recorder is closed well, and not at all otherwise.

    Parameters
    ----------
    path : the bag's folder; one that exists is replaced, but only when it is a bag.
    storage : `mcap` or `sqlite3`.

    Raises
    ------
    ConfigError : an unknown storage, or `path` exists and is not a bag.
    """

    def __init__(self, path: Path, storage: str = "mcap") -> None:
        from rosbags.rosbag2 import StoragePlugin, Writer

        plugins = {"mcap": StoragePlugin.MCAP, "sqlite3": StoragePlugin.SQLITE3}
        if storage not in plugins:
            raise ConfigError("storage", f"is {storage!r}", f"allowed: {', '.join(plugins)}")
        if path.exists() and not (path / "metadata.yaml").is_file():
            raise ConfigError("bag", f"{path} exists and is not a bag", "give another name")
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self.count = 0
        self._store = message_store()
        self._parent = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
        self._writer = Writer(self._parent / path.name, version=9, storage_plugin=plugins[storage])
        self._connections: dict[str, Any] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> BagRecorder:
        self._writer.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._writer.close()
            if kind is None:
                if self.path.exists():
                    shutil.rmtree(self.path)
                (self._parent / self.path.name).rename(self.path)
        finally:
            shutil.rmtree(self._parent, ignore_errors=True)

    def add_topic(self, topic: BagTopic) -> None:
        """Declare a topic; `write` and `write_serialized` need it, and a topic without messages is kept, too."""
        if topic.name not in self._connections:
            self._connections[topic.name] = self._writer.add_connection(topic.name, topic.type, typestore=self._store)

    def add_foreign_topic(
        self, topic: BagTopic, store: Typestore, definition: str = "", qos: Sequence[Any] = ()
    ) -> Any:
        """Declare a topic of another bag, and give what `write_to` writes its messages with.

        Parameters
        ----------
        store : the definitions of its type, which need not be among ours. definition : their text, where it is known.
        qos : of its publishers, as `rosbags` gives it.
        """
        text = {"msgdef": definition, "rihs01": store.hash_rihs01(topic.type)} if definition else {}
        return self._writer.add_connection(
            topic.name, topic.type, typestore=store, offered_qos_profiles=list(qos), **text
        )

    def write_to(self, connection: Any, data: bytes, stamp_ns: int) -> None:
        """Append one serialised message of a topic that `add_foreign_topic` has declared."""
        # Inputs may be copied by one thread while answers arrive in another.
        with self._lock:
            self._writer.write(connection, stamp_ns, data)
            self.count += 1

    def write(self, topic: str, message: Any, stamp_ns: int) -> None:
        """Append one `rosbags` message, with the time it was received at in nanoseconds."""
        connection = self._connections[topic]
        self.write_serialized(topic, self._store.serialize_cdr(message, connection.msgtype), stamp_ns)

    def write_serialized(self, topic: str, data: bytes | memoryview, stamp_ns: int) -> None:
        """Append one message that is serialised already (CDR, as it travels over DDS)."""
        self.write_to(self._connections[topic], bytes(data), stamp_ns)


@contextlib.contextmanager
def open_bag(path: Path) -> Iterator[AnyReader]:
    """A `rosbags` reader that knows this package's message types.

    Raises
    ------
    InputError : there is no bag, or it is damaged, which may show only when its messages are read.
    """
    from rosbags.highlevel import AnyReader, AnyReaderError
    from rosbags.rosbag2 import ReaderError

    if not path.exists():
        raise InputError("bag", f"{path} does not exist", "give the folder of a rosbag2 recording")
    try:
        if path.is_dir() and file_size(path / METADATA) > MAX_METADATA_BYTES:
            raise ValueError(f"{METADATA} has more than {MAX_METADATA_BYTES} bytes")
        if not path.is_dir():
            file_size(path)
        reader = AnyReader([path], default_typestore=message_store())
        reader.open()
    except (AnyReaderError, ReaderError, OSError, ValueError, KeyError, RecursionError) as error:
        raise InputError("bag", f"{path} cannot be read: {error}", "give the folder of a rosbag2 recording") from error
    try:
        yield reader
    except (AnyReaderError, ReaderError) as error:
        raise InputError("bag", f"{path} is damaged: {error}", "record it anew") from error
    finally:
        reader.close()


def read_contacts(bag: Path, prefix: str) -> dict[FrameKey, dict[str, RecordedContact]]:
    """The contacts that a bag holds: the node's answers, or the ground truth of a generated recording.

    Parameters
    ----------
    prefix : what their topics lie below: the node's name with its namespace (`/ivlm_contact`), or `GROUND_TRUTH`.

    Returns
    -------
    (frame of the camera, stamp in ns) of each image → identifier of the object (`OBJECT of PERSON` where it was asked
    about for several people) → its contact; of several messages for one image the last counts. Empty where there are
    the topics without messages.

    Raises
    ------
    InputError : the bag cannot be read, has neither topic, or holds messages that contradict themselves.
    """
    wanted = {f"{prefix}/{name}": kind for name, kind in CONTACT_TYPES.items()}
    frames: dict[FrameKey, dict[str, RecordedContact]] = {}
    with open_bag(bag) as reader:
        found = [item for item in reader.connections if wanted.get(item.topic) == item.msgtype]
        if not found:
            raise InputError("bag", f"{bag} has no contacts below {prefix}", f"record {' or '.join(wanted)}")
        for connection, _, raw in reader.messages(connections=found):
            try:
                message: Any = reader.deserialize(raw, connection.msgtype)
                _add_contacts(frames, message, connection.topic)
            except AttributeError as error:
                told = f"{bag} was written with other messages: {error}"
                raise InputError("bag", told, "record it anew with this version of the package") from error
    return frames


def _add_contacts(frames: dict[FrameKey, dict[str, RecordedContact]], message: Any, topic: str) -> None:
    """Put one message's contacts beside those that its image has already."""
    stamp = message.header.stamp
    contacts = frames.setdefault((message.header.frame_id, stamp.sec * 10**9 + stamp.nanosec), {})
    human = hasattr(message, "contacts")
    items = message.contacts if human else message.affordances
    times = Counter(item.object_id for item in items)
    for item in items:
        # An object that several people were asked about comes once for each of them.
        name = item.object_id if times[item.object_id] == 1 else f"{item.object_id} of {item.person_id}"
        contact = contacts.get(name, RecordedContact(item.object_label))
        if human:
            body = vertex_values(item, item.probabilities, topic)
            contact = replace(contact, body_model=item.body_model, body=body)
        else:
            contact = replace(contact, thing=vertex_values(item, item.values, topic))
        contacts[name] = contact


def vertex_values(item: Any, values: FloatArray, topic: str) -> VertexValues:
    """The sparse map of one HumanContact (its `probabilities`) or ObjectAffordance (its `values`) of a topic.

    Raises
    ------
    InputError : lists of different lengths, vertices that the mesh does not have, or values outside [0, 1].
    """
    indices, count = item.vertex_indices, int(item.vertex_count)
    if len(indices) != len(values):
        raise InputError(topic, f"lists {len(indices)} vertices with {len(values)} values", "record the bag anew")
    if len(indices) and int(indices.max()) >= count:
        raise InputError(topic, f"lists vertex {indices.max()} of a mesh with {count}", "record the bag anew")
    if not bool(((values >= 0) & (values <= 1)).all()):
        raise InputError(topic, "holds NaN or values outside [0, 1]", "record the bag anew")
    return VertexValues(count, item.topology_hash, indices, values)
