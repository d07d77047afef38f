"""The installed node as a process of its own: start it, move it through its life cycle, stop it as Ctrl-C would."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from ivlm_core import ConfigError, IvlmError

NODE = "ivlm_contact"
EXECUTABLE = "contact_node"
# After how long an unanswered transition is looked into.
ASK_AGAIN_SECONDS = 20.0


class NodeError(IvlmError):
    """The node's process ended, or refused a transition, when it should not have."""


def executable_path() -> Path:
    """The installed executable, found through the sourced workspace.

    Raises
    ------
    ConfigError : no sourced workspace holds it.
    """
    for prefix in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep):
        path = Path(prefix) / "lib" / "ivlm_ros" / EXECUTABLE
        if prefix and path.is_file():
            return path
    raise ConfigError("AMENT_PREFIX_PATH", f"names no workspace that holds {EXECUTABLE}", "source env.sh")


class NodeProcess:
    """Context manager around the process; leaving it stops the process and keeps its exit code in `exit_code`.

    Parameters
    ----------
    log : file that takes everything the process prints.
    arguments : command-line arguments, for example `["--ros-args", "-p", "model:=tiny"]`.
    """

    def __init__(self, log: Path, arguments: Sequence[str] = ()) -> None:
        self.log = log
        self.exit_code: int | None = None
        self._command = [str(executable_path()), *arguments]
        self._process: subprocess.Popen[bytes] | None = None
        self._stream: IO[bytes] | None = None

    def __enter__(self) -> NodeProcess:
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self._stream = self.log.open("wb")
        # A session of its own: Ctrl-C in the terminal reaches us, and we stop the node in order. A shell's background
        # jobs ignore SIGINT, and so would what they start.
        self._process = subprocess.Popen(
            self._command,
            stdout=self._stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """The running process."""
        assert self._process is not None
        return self._process.pid

    def check_running(self) -> None:
        """Raise NodeError with the end of its log when the process has ended."""
        assert self._process is not None
        code = self._process.poll()
        if code is not None:
            raise NodeError("node", f"ended with exit code {code}:\n{self.last_lines()}", f"see {self.log}")

    def last_lines(self, count: int = 15) -> str:
        """The end of what the process printed."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-count:])

    def transition(self, ros_node: Any, name: str, timeout: float) -> None:
        """Ask for a life-cycle transition (`configure`, `activate`, `deactivate`, `cleanup`) and wait for it.

        Parameters
        ----------
        ros_node : an rclpy node of this process that nothing else spins.
        timeout : seconds to wait for the service and for its answer, each.

        Raises
        ------
        NodeError : the process ended, did not answer in time, or the transition failed.
        """
        import rclpy
        from lifecycle_msgs.msg import Transition
        from lifecycle_msgs.srv import ChangeState, GetState

        identifiers = {
            "configure": (Transition.TRANSITION_CONFIGURE, "inactive"),
            "activate": (Transition.TRANSITION_ACTIVATE, "active"),
            "deactivate": (Transition.TRANSITION_DEACTIVATE, "inactive"),
            "cleanup": (Transition.TRANSITION_CLEANUP, "unconfigured"),
        }
        if name not in identifiers:
            raise ConfigError("transition", f"{name!r} is unknown", f"allowed: {', '.join(identifiers)}")
        identifier, goal = identifiers[name]
        client = ros_node.create_client(ChangeState, f"{NODE}/change_state")
        asking = ros_node.create_client(GetState, f"{NODE}/get_state")
        try:
            deadline = time.monotonic() + timeout
            while not client.wait_for_service(timeout_sec=0.2):
                self.check_running()
                if time.monotonic() > deadline:
                    raise NodeError("node", f"has no {client.srv_name} after {timeout:.0f} s", f"see {self.log}")
            future = client.call_async(ChangeState.Request(transition=Transition(id=identifier)))
            deadline, ask_again = time.monotonic() + timeout, time.monotonic() + ASK_AGAIN_SECONDS
            while not future.done():
                rclpy.spin_until_future_complete(ros_node, future, timeout_sec=0.2)
                self.check_running()
                if time.monotonic() > deadline:
                    raise NodeError("node", f"did not {name} within {timeout:.0f} s", f"see {self.log}")
                if time.monotonic() > ask_again and not future.done():
                    # Right after discovery DDS may lose a response. A transition that is going on answers no other
                    # service, and one that was never asked for is asked for again.
                    state = asking.call_async(GetState.Request())
                    rclpy.spin_until_future_complete(ros_node, state, timeout_sec=2.0)
                    if state.done() and not future.done():
                        if state.result().current_state.label == goal:
                            return
                        future = client.call_async(ChangeState.Request(transition=Transition(id=identifier)))
                    ask_again = time.monotonic() + ASK_AGAIN_SECONDS
            if not future.result().success:
                raise NodeError("node", f"refused to {name}:\n{self.last_lines()}", f"see {self.log}")
        finally:
            ros_node.destroy_client(client)
            ros_node.destroy_client(asking)

    def stop(self, timeout: float = 15.0) -> int:
        """Stop the process with SIGINT, as Ctrl-C does, and return its exit code; after `timeout` seconds kill it."""
        if self._process is not None and self.exit_code is None:
            if self._process.poll() is None:
                self._process.send_signal(signal.SIGINT)
            try:
                self.exit_code = self._process.wait(timeout)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self.exit_code = self._process.wait()
            assert self._stream is not None
            self._stream.close()
        assert self.exit_code is not None
        return self.exit_code
