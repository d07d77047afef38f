"""What befalls whole processes: killed in mid-write, a full disk, no home, a shared cache, no network, Ctrl-C."""

from __future__ import annotations

import contextlib
import json
import os
import random
import resource
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ivlm_core.errors import ConfigError
from ivlm_core.storage import ArrayCache

ROOT = Path(__file__).resolve().parents[1]
KILLS = 120


def environment(**changes: str | None) -> dict[str, str]:
    """This process's environment with the sources first, and changes; None takes a variable away."""
    paths = [str(ROOT), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    made: dict[str, str | None] = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
    return {name: value for name, value in {**made, **changes}.items() if value is not None}


def in_a_namespace(what: str, *command: str) -> list[str]:
    """The command with mounts (`m`) or a network (`n`) of its own; skips where this system allows none."""
    for option in (f"-{what}", f"-r{what}"):
        if subprocess.run(["unshare", option, "true"], capture_output=True, check=False).returncode == 0:
            return ["unshare", option, *command]
    pytest.skip("unshare: neither root nor unprivileged namespaces here")


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("photo") / "photo.png"
    Image.fromarray(np.random.default_rng(5).integers(0, 255, (48, 64, 3)).astype(np.uint8)).save(path)
    return path


def contact(photo: Path, model: Path, out: Path) -> list[str]:
    return ["contact", str(photo), "--object", "chair", "--model", str(model), "--out", str(out)]


class Commands:
    """The program beside this file, which runs commands without their five seconds of imports."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(ROOT / "test" / "warm_command.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment(),
        )

    def _ask(self, **asked: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        told: dict[str, Any] = json.loads(self._process.stdout.readline())
        return told

    def start(
        self, arguments: Sequence[str], output: Path, before: Sequence[Sequence[str]] = (), **environment: str | None
    ) -> int:
        """Begin a command, in mounts of its own where something is to be mounted `before`; its process id."""
        return int(
            self._ask(
                arguments=list(arguments),
                output=str(output),
                namespace="m" if before else "",
                before=[list(command) for command in before],
                environment=environment,
            )["pid"]
        )

    def wait(self, pid: int) -> int:
        """The exit status, negative for a signal."""
        return int(self._ask(pid=pid)["status"])

    def run(
        self, arguments: Sequence[str], output: Path, before: Sequence[Sequence[str]] = (), **environment: str | None
    ) -> tuple[int, str]:
        """The exit status, and all that the command printed."""
        status = self.wait(self.start(arguments, output, before, **environment))
        return status, output.read_text(encoding="utf-8")

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


@pytest.fixture(scope="module")
def commands() -> Iterator[Commands]:
    """Runs the command line."""
    made = Commands()
    yield made
    made.close()


@pytest.fixture(scope="module")
def may_mount() -> None:
    """Skips where this user may not mount anything, not even in a namespace of its own."""
    if subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting needs root here")


def values(out: Path) -> dict[str, np.ndarray]:
    """The contact that a command has written."""
    with np.load(out / "contacts.npz", allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}


def same(one: Path, other: Path) -> bool:
    found, wanted = values(one), values(other)
    return found.keys() == wanted.keys() and all(np.array_equal(found[name], wanted[name]) for name in wanted)


@pytest.fixture(scope="module")
def undisturbed(commands: Commands, photo: Path, seeded_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The result of the command where nothing is wrong."""
    folder = tmp_path_factory.mktemp("undisturbed")
    arguments = contact(photo, seeded_model, folder / "out")
    status, told = commands.run(arguments, folder / "log", IVLM_CACHE_DIR=str(folder / "cache"))
    assert status == 0, told
    return folder / "out"


WRITER = """
import os, sys
import numpy as np
from pathlib import Path
from ivlm_core.storage import ArrayCache

# Imported once; every child writes until it is killed, and says when it has written everything for the first time.
for line in sys.stdin:
    child = os.fork()
    if child == 0:
        cache = ArrayCache(Path(sys.argv[1]))
        first = writing = int(line)
        while True:
            for key in range(4):
                cache.store("views", f"key{key}", {"key": np.full(3, key), "image": np.full((64, 64, 64), writing)})
            if writing == first:
                os.write(int(sys.argv[2]), b"!")
            writing += 1
    print(child, flush=True)
    os.waitpid(child, 0)
"""


def test_kill_9_during_cache_writes_leaves_only_whole_files(tmp_path: Path) -> None:
    """Whenever the writer dies: each file under its name is whole and one writer's own, and nothing else is loaded."""
    folder = tmp_path / "cache" / "views"
    read_end, write_end = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(folder.parent), str(write_end)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment(),
        pass_fds=(write_end,),
    )
    os.close(write_end)
    assert process.stdin is not None
    assert process.stdout is not None
    chance = random.Random(0)
    torn = 0
    try:
        for number in range(KILLS):
            process.stdin.write(f"{number * 100_000}\n")
            process.stdin.flush()
            child = int(process.stdout.readline())
            assert os.read(read_end, 1) == b"!"
            time.sleep(chance.uniform(0, 0.02))
            os.kill(child, signal.SIGKILL)
            cache = ArrayCache(folder.parent)
            for key in range(4):
                arrays = cache.load("views", f"key{key}")
                assert arrays is not None, f"kill {number}: key{key} is not whole"
                assert (arrays["key"] == key).all()
                assert len(np.unique(arrays["image"])) == 1, f"kill {number}: key{key} is of two writers"
            left = list(folder.glob(".*"))
            torn += len(left)
            assert len(left) <= 1
            for path in left:
                path.unlink()
    finally:
        process.kill()
        process.wait()
        os.close(read_end)
    assert torn > KILLS / 10, "hardly any kill fell into a write: this test has shown nothing"


@pytest.mark.parametrize("files", [1, 2, 4, 6])
def test_kill_9_while_a_cold_cache_is_filled_and_the_next_start_works(
    commands: Commands, photo: Path, seeded_model: Path, undisturbed: Path, tmp_path: Path, files: int
) -> None:
    """The whole command is killed once so many files or folders are there; the next one finds its way in that cache."""
    cache = tmp_path / "cache"
    arguments = contact(photo, seeded_model, tmp_path / "out")
    pid = commands.start(arguments, tmp_path / "log", IVLM_CACHE_DIR=str(cache))
    deadline = time.monotonic() + 60
    while len(list(cache.rglob("*"))) < files:
        assert time.monotonic() < deadline
        time.sleep(0.0005)
    os.kill(pid, signal.SIGKILL)
    assert commands.wait(pid) == -signal.SIGKILL
    status, told = commands.run(arguments, tmp_path / "log", IVLM_CACHE_DIR=str(cache))
    assert status == 0, told
    assert same(tmp_path / "out", undisturbed)


@pytest.mark.parametrize("size", ["8k", "200k", "1m"])
def test_full_disk_in_the_cache_directory(
    commands: Commands, may_mount: None, photo: Path, seeded_model: Path, undisturbed: Path, tmp_path: Path, size: str
) -> None:
    """Full at once, or after some files: one warning that says what to do, and the same result."""
    cache = tmp_path / "cache"
    cache.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(cache)]
    arguments = contact(photo, seeded_model, tmp_path / "out")
    status, told = commands.run(arguments, tmp_path / "log", [mount], IVLM_CACHE_DIR=str(cache))
    assert status == 0, told
    warnings = [line for line in told.splitlines() if line.startswith("ivlm:")]
    assert 1 <= len(warnings) <= 2
    assert all("No space left on device" in line and "set IVLM_CACHE_DIR" in line for line in warnings)
    assert same(tmp_path / "out", undisturbed)


def test_full_disk_leaves_no_half_written_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The limit of this process's files stands for the disk: the write fails somewhere in the middle."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    cache = ArrayCache(tmp_path)
    try:
        for limit in range(0, 30_000, 1500):
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
            cache.store("views", str(limit), {"x": np.zeros(5000, np.float32)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    whole = sorted(int(path.stem) for path in (tmp_path / "views").iterdir() if not path.name.startswith("."))
    assert whole == [limit for limit in range(0, 30_000, 1500) if limit > 20_200]
    assert not list((tmp_path / "views").glob(".*"))
    assert len([record for record in caplog.records if "set IVLM_CACHE_DIR" in record.message]) == 1


def test_full_disk_under_the_result_is_one_error(
    commands: Commands, may_mount: None, photo: Path, seeded_model: Path, undisturbed: Path, tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=20k", "tmpfs", str(tmp_path / "out")]
    arguments = contact(photo, seeded_model, tmp_path / "out" / "result")
    status, told = commands.run(arguments, tmp_path / "log", [mount], IVLM_CACHE_DIR=str(undisturbed.parent / "cache"))
    assert status == 2, told
    assert "No space left on device" in told
    assert "Traceback" not in told


@pytest.mark.parametrize("kind", ["a file", "below a file", "a device", "a link to itself"])
def test_cache_directory_that_is_none(
    commands: Commands, photo: Path, seeded_model: Path, undisturbed: Path, tmp_path: Path, kind: str
) -> None:
    place = tmp_path / "cache"
    if kind == "a link to itself":
        place.symlink_to(place)
    elif kind != "a device":
        place.write_text("no folder")
    chosen = {"below a file": place / "below", "a device": Path("/dev/null")}.get(kind, place)
    arguments = contact(photo, seeded_model, tmp_path / "out")
    status, told = commands.run(arguments, tmp_path / "log", IVLM_CACHE_DIR=str(chosen))
    assert status == 0, told
    assert "set IVLM_CACHE_DIR" in told
    assert "Traceback" not in told
    assert same(tmp_path / "out", undisturbed)


HOMELESS: dict[str, str | None] = dict.fromkeys(("HOME", "XDG_CACHE_HOME", "IVLM_CACHE_DIR", "XDG_DATA_HOME"))


def test_read_only_home(
    commands: Commands, may_mount: None, photo: Path, seeded_model: Path, undisturbed: Path, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(home)]
    arguments = contact(photo, seeded_model, tmp_path / "out")
    status, told = commands.run(arguments, tmp_path / "log", [mount], **{**HOMELESS, "HOME": str(home)})
    assert status == 0, told
    assert "Read-only file system" in told
    assert "set IVLM_CACHE_DIR" in told
    assert same(tmp_path / "out", undisturbed)


def test_no_home_at_all_is_one_error_that_names_the_remedy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A user whom the system does not know, as in containers; with a folder for the cache nothing asks for a home."""
    for name in HOMELESS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", {}.__getitem__)
    with pytest.raises(ConfigError, match="IVLM_CACHE_DIR"):
        ArrayCache()
    monkeypatch.setenv("IVLM_CACHE_DIR", str(tmp_path))
    assert ArrayCache().directory == tmp_path


def test_processes_that_share_a_cold_cache_do_not_disturb_each_other(
    commands: Commands, photo: Path, seeded_model: Path, undisturbed: Path, tmp_path: Path
) -> None:
    """Three start at once and make the same files: each gets the result it gets alone, and the files are whole."""
    cache = tmp_path / "cache"
    started = [
        commands.start(
            contact(photo, seeded_model, tmp_path / f"out{number}"),
            tmp_path / f"log{number}",
            IVLM_CACHE_DIR=str(cache),
        )
        for number in range(3)
    ]
    for number, pid in enumerate(started):
        assert commands.wait(pid) == 0, (tmp_path / f"log{number}").read_text()
        assert "ivlm:" not in (tmp_path / f"log{number}").read_text()
        assert same(tmp_path / f"out{number}", undisturbed)
    files = [path for path in cache.rglob("*") if path.is_file()]
    assert len(files) >= 4
    assert not [path for path in files if path.name.startswith(".")]
    for path in files:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as stored:
                assert all(stored[name].size for name in stored.files)


# Raises in the middle of whatever asks for a connection or for a name.
NO_NETWORK = """
    import json, sys
    asked = []
    def watch(event, arguments):
        if event in ("socket.connect", "socket.sendto", "socket.getaddrinfo", "socket.gethostbyname", "urllib.Request"):
            asked.append([event, repr(arguments[1:])[:200]])
            raise OSError(f"{event} is forbidden here")
    sys.addaudithook(watch)
"""


def test_no_network_is_asked_for_by_the_command(
    photo: Path, seeded_model: Path, undisturbed: Path, tmp_path: Path
) -> None:
    """No connection and no name look-up, not even one that fails and is swallowed."""
    script = textwrap.dedent(NO_NETWORK) + textwrap.dedent(
        """
        from ivlm_core.cli import main
        status = main(sys.argv[1:])
        print(json.dumps({"status": status, "asked": asked}))
        """
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *contact(photo, seeded_model, tmp_path / "out")],
        env=environment(IVLM_CACHE_DIR=str(tmp_path / "cache"), HF_HUB_OFFLINE=None, TRANSFORMERS_OFFLINE=None),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == {"status": 0, "asked": []}
    assert same(tmp_path / "out", undisturbed)


def test_no_network_is_needed_by_the_command(
    photo: Path, seeded_model: Path, undisturbed: Path, tmp_path: Path
) -> None:
    """In a network of its own with nothing in it, not even a loopback: no library goes around Python's sockets."""
    done = subprocess.run(
        in_a_namespace("n", sys.executable, "-m", "ivlm_core.cli", *contact(photo, seeded_model, tmp_path / "out")),
        env=environment(IVLM_CACHE_DIR=str(tmp_path / "cache"), HF_HUB_OFFLINE=None, TRANSFORMERS_OFFLINE=None),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert same(tmp_path / "out", undisturbed)


# What follows needs ROS.


@contextlib.contextmanager
def node(
    tmp_path: Path, prefix: Sequence[str] = (), env: Mapping[str, str] | None = None, *arguments: str
) -> Iterator[subprocess.Popen[bytes]]:
    """The installed node, its output in `tmp_path/log`; killed at the end if it still runs."""
    pytest.importorskip("rclpy")
    pytest.importorskip("ivlm_ros.msg")
    from ivlm_ros.node_process import executable_path

    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [*prefix, str(executable_path()), "--ros-args", *arguments],
            stdout=log,
            stderr=subprocess.STDOUT,
            env=dict(env) if env is not None else None,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        try:
            yield process
        finally:
            process.kill()
            process.wait()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_in_mid_inference_exits_0_within_two_seconds(
    peer: Any, tmp_path: Path, ros_image: Any, ros_detections: Any, wait_until: Any, number: signal.Signals
) -> None:
    """Images of 32 objects keep the model busy for seconds; the signal comes while it works."""
    from diagnostic_msgs.msg import DiagnosticArray
    from ivlm_ros.msg import DetectedObjectArray
    from sensor_msgs.msg import Image as ImageMessage

    with node(tmp_path, (), None, "-p", "max_objects:=32", "-p", "image_reliability:=reliable") as process:
        assert peer.change_state("/ivlm_contact", "configure")
        assert peer.change_state("/ivlm_contact", "activate")
        reports = peer.hear(DiagnosticArray, "/diagnostics")
        images, found = peer.publisher(ImageMessage, "image"), peer.publisher(DetectedObjectArray, "detections")

        def taken() -> bool:
            told = {pair.key: pair.value for report in reports[-1:] for pair in report.status[0].values}
            images.publish(ros_image(len(reports) + 1))
            found.publish(ros_detections(len(reports) + 1, *["chair", "cup", "table", "bottle"] * 8))
            time.sleep(0.05)
            return int(told.get("images_received", "0")) > 2

        wait_until(taken, 30.0)
        start = time.monotonic()
        process.send_signal(number)
        assert process.wait(10) == 0, (tmp_path / "log").read_text()
        assert time.monotonic() - start < 2.0
    assert "Traceback" not in (tmp_path / "log").read_text()


def test_read_only_home_and_full_cache_of_the_node(peer: Any, tmp_path: Path) -> None:
    """ROS itself wants to write its logs there, and refuses to start where it cannot."""
    (tmp_path / "home").mkdir()
    script = f'mount -t tmpfs -o ro tmpfs {tmp_path}/home && exec "$@"'
    env = environment(
        HOME=str(tmp_path / "home"), XDG_CACHE_HOME=None, IVLM_CACHE_DIR=None, ROS_LOG_DIR=None, ROS_HOME=None
    )
    with node(tmp_path, in_a_namespace("m", "bash", "-c", script, "bash"), env) as process:
        assert peer.change_state("/ivlm_contact", "configure")
        assert peer.change_state("/ivlm_contact", "activate")
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0
    told = (tmp_path / "log").read_text()
    assert "Traceback" not in told
    assert "ROS_LOG_DIR" in told
    assert "IVLM_CACHE_DIR" in told


def test_no_network_is_asked_for_by_the_node(peer: Any, tmp_path: Path) -> None:
    """Loading and warming up; what DDS does for itself goes around Python and stays on this machine."""
    hook, log, watching = tmp_path / "hook", tmp_path / "asked", tmp_path / "watching"
    hook.mkdir()
    told = textwrap.dedent(NO_NETWORK).replace(
        "asked.append([event", f"print(event, file=open({str(log)!r}, 'a')); ([event"
    )
    # Python imports a module of this name before anything else.
    (hook / "sitecustomize.py").write_text(f"{told}\nopen({str(watching)!r}, 'w').close()\n")
    env = environment(IVLM_CACHE_DIR=str(tmp_path / "cache"), HF_HUB_OFFLINE=None, TRANSFORMERS_OFFLINE=None)
    env["PYTHONPATH"] = os.pathsep.join([str(hook), env["PYTHONPATH"]])
    probe = "import socket; socket.getaddrinfo('localhost', 80)"
    assert subprocess.run([sys.executable, "-c", probe], env=env, capture_output=True, check=False).returncode != 0
    assert log.read_text() == "socket.getaddrinfo\n"
    log.unlink()
    watching.unlink()
    with node(tmp_path, (), env):
        assert peer.change_state("/ivlm_contact", "configure")
        assert peer.change_state("/ivlm_contact", "activate")
    assert watching.exists()
    assert not log.exists(), log.read_text()
