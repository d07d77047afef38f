"""Two ways to make ROS messages, field by field the same: the classes of rclpy, and those of `rosbags` without ROS."""

from __future__ import annotations

import importlib
from array import array
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ivlm_core.errors import ConfigError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from rosbags.typesys.store import Typestore

# Fields that the definitions give another default than zero; `rosbags` keeps no defaults.
DEFAULTS: dict[tuple[str, str], Any] = {("geometry_msgs/msg/Quaternion", "w"): 1.0}


class MessageTypes(Protocol):
    """Makes messages. Fields that are not given have the defaults of the message's definition."""

    def make(self, kind: str, **fields: Any) -> Any:
        """A message of a type as ROS writes it (`sensor_msgs/msg/Image`)."""
        ...

    def array(self, code: str, values: NDArray) -> Any:
        """Values for a field of numbers; `code` is `B` for uint8[], `I` for uint32[] or `f` for float32[]."""
        ...


class RosMessages:
    """Messages of rclpy. Their numbers travel in `array.array`: of anything else rclpy checks every element."""

    def make(self, kind: str, **fields: Any) -> Any:
        """See `MessageTypes`."""
        return message_class(kind)(**fields)

    def array(self, code: str, values: NDArray) -> Any:
        """See `MessageTypes`."""
        made = array(code)
        made.frombytes(np.ascontiguousarray(values, dtype=code).tobytes())
        return made


class PlainMessages:
    """Messages of `rosbags`; no ROS is needed. Their numbers are numpy arrays.

    Parameters
    ----------
    store : the definitions; those of `ivlm_core.datasets.bags.message_store` when left out.
    """

    def __init__(self, store: Typestore | None = None) -> None:
        from ivlm_core.datasets.bags import message_store

        self._store = store if store is not None else message_store()

    def make(self, kind: str, **fields: Any) -> Any:
        """See `MessageTypes`."""
        definition = dict(self._store.fielddefs[kind][1])
        unknown = [name for name in fields if name not in definition]
        if unknown:
            raise ConfigError("message", f"{kind} has no field {unknown[0]!r}", f"it has {', '.join(definition)}")
        missing = {name: self._default(kind, name, what) for name, what in definition.items() if name not in fields}
        return self._store.types[kind](**fields, **missing)

    def array(self, code: str, values: NDArray) -> Any:
        """See `MessageTypes`."""
        return np.ascontiguousarray(values, dtype=code)

    def _default(self, kind: str, name: str, what: Any) -> Any:
        from rosbags.interfaces import Nodetype

        if (kind, name) in DEFAULTS:
            return DEFAULTS[kind, name]
        form, detail = what
        if form == Nodetype.NAME:
            return self.make(detail)
        if form == Nodetype.BASE:
            return _zero(detail[0])
        (inner, inner_detail), length = detail
        count = length if form == Nodetype.ARRAY else 0
        if inner == Nodetype.BASE and inner_detail[0] != "string":
            return np.zeros(count, dtype={"octet": "uint8", "char": "uint8"}.get(inner_detail[0], inner_detail[0]))
        return [self._default("", "", (inner, inner_detail)) for _ in range(count)]


def _zero(base: str) -> Any:
    if base == "string":
        return ""
    if base == "bool":
        return False
    return 0.0 if base.startswith("float") else 0


@lru_cache(maxsize=256)
def message_class(kind: str) -> Any:
    """The rclpy class of a type as ROS writes it (`sensor_msgs/msg/Image`).

    Raises
    ------
    ConfigError : its package is not installed or the workspace not sourced.
    """
    package, _, name = kind.split("/")
    try:
        return getattr(importlib.import_module(f"{package}.msg"), name)
    except (ImportError, AttributeError) as error:
        raise ConfigError("message type", f"{kind} is not available: {error}", "source the workspace") from None


ROS = RosMessages()
