"""The command line as a program that has its imports behind it: each command runs in a forked process of its own.

Lines of JSON in and out. `start` with `arguments`, `environment` (changes; null takes away), `output` (a file for both
streams' text), `namespace` (`m` for mounts of its own, or empty) and `before` (commands run there first) gives `pid`;
`wait` with `pid` gives `status`, negative for the signal that ended it.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import subprocess
import sys
import traceback
from typing import Any, NoReturn

CLONE_NEWNS = 0x20000
LAZY = ("ivlm_core.pipeline", "ivlm_core.draw.files", "trimesh", "open3d", "transformers.models.llama.modeling_llama")


def run(asked: dict[str, Any]) -> NoReturn:
    """The child: everything that a fresh process would find, then the command."""
    from ivlm_core.cli import main

    status = 70
    try:
        stream = os.open(asked["output"], os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
        for number in (1, 2):
            os.dup2(stream, number)
        if asked["namespace"]:
            libc = ctypes.CDLL(None, use_errno=True)
            if libc.unshare(CLONE_NEWNS) != 0:
                raise OSError(ctypes.get_errno(), "unshare")
            subprocess.run(["mount", "--make-rprivate", "/"], check=True)
        for command in asked["before"]:
            subprocess.run(command, check=True)
        for name, value in asked["environment"].items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        status = main(asked["arguments"])
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def main() -> None:
    """Answer until the input ends."""
    for name in LAZY:
        importlib.import_module(name)
    for line in sys.stdin:
        asked = json.loads(line)
        if "arguments" in asked:
            child = os.fork()
            if child == 0:
                run(asked)
            print(json.dumps({"pid": child}), flush=True)
        else:
            _, ended = os.waitpid(asked["pid"], 0)
            print(json.dumps({"status": os.waitstatus_to_exitcode(ended)}), flush=True)


if __name__ == "__main__":
    main()
