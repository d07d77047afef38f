"""`ivlm view`: what it opens, what it refuses in one line, and how it ends. The page itself: `test_view_page.py`."""

from __future__ import annotations

import argparse
import http.client
import json
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest

from ivlm_core.cli import main
from ivlm_core.draw import write_result
from ivlm_core.errors import ConfigError
from ivlm_core.types import FrameResult, Unanswered
from ivlm_core.view.command import add_arguments, open_source

SECOND = 10**9


def options(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return parser.parse_args(arguments)


@pytest.fixture
def bag(answered_bag: Any, tmp_path: Path) -> Path:
    with answered_bag(tmp_path / "bag") as made:
        made.answer(SECOND, [made.contact("cup", [1])])
    return tmp_path / "bag"


@pytest.fixture
def result(tmp_path: Path) -> Path:
    missing = Unanswered("cup", "it is hidden", "human", "0")
    write_result(tmp_path / "result", FrameResult((), (), (missing,)), np.zeros((4, 4, 3), np.uint8))
    return tmp_path / "result"


def test_bag_replay_and_result_are_told_apart(bag: Path, result: Path, tmp_path: Path) -> None:
    replayed = tmp_path / "replayed"
    replayed.mkdir()
    (replayed / "report.json").write_text("{}")
    bag.rename(replayed / "bag")
    for path, title in ((replayed / "bag", "bag"), (replayed, "replayed"), (result, "result")):
        source = open_source(options(str(path)))
        assert source.title == title
        assert [pair.label for pair in source.pairs] == ["cup"]
        source.close()


def test_serves_until_interrupted(bag: Path) -> None:
    command = [sys.executable, "-m", "ivlm_core.cli", "view", str(bag), "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        lines = [process.stdout.readline(), process.stdout.readline()]
        assert lines[0] == "bag: 1 image; objects: cup\n"
        address = urlsplit(lines[1].split()[1])
        assert address.hostname == "127.0.0.1"
        connection = http.client.HTTPConnection("127.0.0.1", address.port or 0, timeout=10)
        connection.request("GET", "/")
        assert connection.getresponse().status == 200
        process.send_signal(signal.SIGTERM)
        assert process.communicate(timeout=30) == ("", "")
    finally:
        process.kill()
    assert process.returncode == 0
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", address.port or 0), timeout=2)


def cut(bag: Path, share: float) -> None:
    """Leave the first part of a bag's file, as a disk that is full or a recorder that is killed."""
    (file,) = (path for path in bag.iterdir() if path.suffix in (".mcap", ".db3"))
    data = file.read_bytes()
    file.write_bytes(data[: int(share * len(data))])


@pytest.mark.parametrize("metadata", [True, False])
@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_bag_that_was_cut_short_is_shown_as_far_as_it_goes(
    answered_bag: Any, tmp_path: Path, storage: str, metadata: bool
) -> None:
    pytest.importorskip("ivlm_ros.replay.recording")
    pixels = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    with answered_bag(tmp_path / "bag", storage) as made:
        for number in range(40):
            made.picture(number * SECOND, pixels)
            made.answer(number * SECOND, [made.contact("cup", [number])])
    cut(tmp_path / "bag", 0.6)
    if not metadata:
        (tmp_path / "bag" / "metadata.yaml").unlink()
    before = sorted(tmp_path.rglob("*"))
    source = open_source(options(str(tmp_path / "bag")))
    try:
        assert 10 < len(source.stamps) < 40
        assert list(source.stamps) == [number * SECOND for number in range(len(source.stamps))]
        assert any(note.startswith("'bag' is damaged: ") for note in source.notes)
        last = source.moment(len(source.stamps) - 2)
        np.testing.assert_array_equal(last.picture, pixels)
        assert [pair.label for pair in source.pairs] == ["cup"]
    finally:
        source.close()
    assert sorted(tmp_path.rglob("*")) == before, "the damaged bag is left as it is"


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_damage_that_shows_while_reading_costs_what_is_behind_it(
    answered_bag: Any, tmp_path: Path, storage: str
) -> None:
    pytest.importorskip("ivlm_ros.replay.recording")
    noise = np.random.default_rng(0)
    with answered_bag(tmp_path / "bag", storage) as made:
        for number in range(40):
            made.picture(number * SECOND, noise.integers(0, 256, (60, 80, 3), dtype=np.uint8))
            made.answer(number * SECOND, [made.contact("cup", [number])])
    (file,) = (path for path in (tmp_path / "bag").iterdir() if path.suffix in (".mcap", ".db3"))
    data = bytearray(file.read_bytes())
    middle = len(data) // 2 // 4096 * 4096
    data[middle : middle + 8192] = noise.bytes(8192)
    file.write_bytes(data)
    source = open_source(options(str(tmp_path / "bag")))
    assert 5 < len(source.stamps) < 40
    assert any(note.startswith("'bag' is damaged: ") for note in source.notes)
    source.close()


def test_inputs_that_were_cut_short_leave_the_answers(bag: Path, answered_bag: Any, tmp_path: Path) -> None:
    pytest.importorskip("ivlm_ros.replay.recording")
    pixels = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    with answered_bag(tmp_path / "inputs") as made:
        for number in range(40):
            made.picture(number * SECOND, pixels)
    cut(tmp_path / "inputs", 0.5)
    source = open_source(options(str(bag), "--inputs", str(tmp_path / "inputs")))
    assert any(note.startswith("'inputs' is damaged: ") for note in source.notes)
    np.testing.assert_array_equal(source.moment(0).picture, pixels)
    source.close()


def test_nothing_is_mended_of_a_whole_bag(bag: Path, tmp_path: Path) -> None:
    recording = pytest.importorskip("ivlm_ros.replay.recording")
    assert recording.write_readable(bag, tmp_path / "new") == []
    assert not (tmp_path / "new").exists()


def test_damaged_bag_without_the_reader_of_such_is_one_error(
    bag: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "ivlm_ros.replay.recording", None)
    cut(bag, 0.6)
    error = refused(capsys, str(bag))
    assert error["field"] == "bag"
    assert "cannot be read" in error["problem"]


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, str]:
    """The error of a command, which is one line."""
    assert main(["view", *arguments, "--json"]) == 2
    output = capsys.readouterr()
    assert output.err.count("\n") == 1
    error: dict[str, str] = json.loads(output.out)["error"]
    return error


def test_busy_port_names_the_option(bag: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        error = refused(capsys, str(bag), "--port", str(port))
    assert (error["field"], error["problem"]) == ("--port", f"{port} is in use")


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        (["BAG", "--port", "-1"], "--port"),
        (["BAG", "--meshes", "nowhere"], "--meshes"),
        (["BAG", "--body-path", "smplx"], "--body-path"),
        (["BAG", "--answers", "/other"], "--answers"),
        (["BAG", "--image", "/other"], "--image"),
        (["BAG", "--inputs", "nowhere"], "bag"),
        (["nowhere"], "bag"),
        (["."], "SOURCE"),
        (["RESULT", "--inputs", "BAG"], "--inputs"),
        (["RESULT", "--image", "/x"], "--image"),
    ],
)
def test_what_cannot_be_is_one_error(
    bag: Path, result: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], field: str
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    names = {"BAG": str(bag), "RESULT": str(result), ".": str(empty), "nowhere": str(tmp_path / "nowhere")}
    assert refused(capsys, *(names.get(argument, argument) for argument in arguments))["field"] == field


def test_body_paths_are_pairs(bag: Path, tmp_path: Path) -> None:
    source = open_source(options(str(bag), "--body-path", f"smplx={tmp_path / 'a=b.npz'}"))
    source.close()
    with pytest.raises(ConfigError, match="MODEL=FILE"):
        open_source(options(str(bag), "--body-path", "=x"))


def test_help_needs_no_viewer() -> None:
    """Listing the commands stays fast: nothing heavy is imported for it."""
    code = """
import sys
from ivlm_core.cli import main
try:
    main(["--help"])
except SystemExit:
    print(sorted({"viser", "torch", "rosbags", "trimesh", "cv2"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
