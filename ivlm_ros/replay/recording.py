"""The bag that a replay writes: the input's topics as they were, and our answers beside them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from ivlm_core.datasets.bags import PACKAGE, BagRecorder, BagTopic, message_store
from ivlm_core.errors import InputError
from ivlm_ros.replay.bag_files import Bag, Definitions, Record
from ivlm_ros.replay.findings import Findings


def write_readable(bag: Path, out: Path) -> list[str]:
    """Write what can be read of a damaged bag into a new one, for whom only whole ones will do.

    Returns
    -------
    What is wrong with the bag, in sentences; empty for a whole one, of which nothing is written.

    Raises
    ------
    InputError : there is no bag, or nothing of it can be read.
    """
    findings = Findings()
    with Bag(bag, findings) as opened:
        if not findings.count("damaged_file") and not _breaks_off(opened):
            return []
        with OutputBag(out, opened.storage, opened, {}, findings) as output:
            for record in opened.messages():
                output.copy(record)
    return findings.lines()


def _breaks_off(bag: Bag) -> bool:
    """Whether damage shows when the messages are read: SQLite opens what is damaged, of MCAP every record was seen."""
    for _ in bag.messages() if bag.storage == "sqlite3" else ():
        pass
    return bag.findings.count("damaged_file") > 0


class OutputBag:
    """Writes the new bag; it appears when the block ends well, and not at all otherwise.

    Parameters
    ----------
    path, storage : as in `BagRecorder`.
    bag : the bag that is replayed; its topics are copied, except those of `answers`, and those whose definition cannot
        be read or contradicts ours. answers : topic → type of what is written beside them.
    """

    def __init__(self, path: Path, storage: str, bag: Bag, answers: Mapping[str, str], findings: Findings) -> None:
        self.recorder = BagRecorder(path, storage)
        self._bag, self._findings = bag, findings
        self._answers = dict(answers)
        self._connections: dict[tuple[str, str], Any] = {}
        # Topics of our types from another version: they are written as the types are defined now.
        self._rewritten: dict[tuple[str, str], Callable[[bytes], Any]] = {}

    def __enter__(self) -> OutputBag:
        self.recorder.__enter__()
        try:
            known: dict[str, Any] = {}
            for name, kind in self._answers.items():
                self.recorder.add_topic(BagTopic(name, kind))
                _add_definitions(known, message_store(), kind)
            self._declare_inputs(known)
        except BaseException as error:
            self.recorder.__exit__(type(error), error, error.__traceback__)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.recorder.__exit__(kind, error, trace)

    def copy(self, record: Record) -> None:
        """Append a message of the input as it is, at the time it was received at."""
        key = record.topic.key
        connection = self._connections.get(key)
        if connection is None:
            return
        data = record.data
        if key in self._rewritten:
            try:
                data = bytes(message_store().serialize_cdr(self._rewritten[key](data), record.topic.type))
            except InputError as error:
                self._findings.add("broken_record", error.problem)
                return
        self.recorder.write_to(connection, data, record.time)

    def _declare_inputs(self, known: dict[str, Any]) -> None:
        definitions = Definitions()
        for topic in self._bag.topics:
            if topic.name in self._answers:
                self._findings.add("replaced_topic", f"{topic.name} was in the bag already")
                continue
            try:
                store = definitions.store(topic)
                _add_definitions(known, store, topic.type)
                self._connections[topic.key] = self.recorder.add_foreign_topic(
                    BagTopic(topic.name, topic.type), store, topic.definition, topic.qos
                )
            except _Contradiction as error:
                if not topic.type.startswith(f"{PACKAGE}/"):
                    self._findings.add("other_definition", f"{topic.name} was left out: {error}")
                    continue
                self._findings.add("other_definition", f"{topic.name} was rewritten: {error}")
                self._rewritten[topic.key] = definitions.decoder(topic)
                self._connections[topic.key] = self.recorder.add_foreign_topic(
                    BagTopic(topic.name, topic.type), message_store(), "", topic.qos
                )
            except InputError as error:
                self._findings.add("unknown_schema", error.problem)
            # A definition may be one that can be read and not be written again.
            except Exception as error:
                self._findings.add("unknown_schema", f"{topic.name} ({topic.type}): {error}")


class _Contradiction(Exception):
    """Two definitions of one type, of which a bag can hold only one."""


def _add_definitions(known: dict[str, Any], store: Any, kind: str) -> None:
    """Note the definitions of a type and of all that it is made of.

    Raises
    ------
    _Contradiction : one of them is known otherwise; nothing is noted then.
    """
    new: dict[str, Any] = {}
    waiting = [kind]
    while waiting:
        name = waiting.pop()
        if name in new or name not in store.fielddefs:
            continue
        fields = [(field.lower(), what) for field, what in store.fielddefs[name][1]]
        if known.get(name, fields) != fields:
            raise _Contradiction(f"it was recorded with another version of {name}")
        new[name] = fields
        waiting += [part for _, what in fields for part in _parts(what)]
    known.update(new)


def _parts(what: Any) -> list[str]:
    """The names of the types in a field's description."""
    from rosbags.interfaces import Nodetype

    form, detail = what
    if form == Nodetype.NAME:
        return [detail]
    return _parts(detail[0]) if form in (Nodetype.ARRAY, Nodetype.SEQUENCE) else []
