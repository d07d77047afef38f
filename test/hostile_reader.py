"""Reads files that tests hand it, each in a process of its own that cannot take more than it is allowed.

A line of JSON in (`reader`, `path`), a line of JSON out: `error` (the IvlmError's text), `fault` (any other end of it),
`seconds`, and `megabytes`, the most memory it took beyond what the program itself takes.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from ivlm_core.bodies import load_body, load_body_map
from ivlm_core.bodies.osx import load_osx
from ivlm_core.checkpoints.adapters import load_adapter
from ivlm_core.checkpoints.native import checkpoint_hash
from ivlm_core.checkpoints.shards import ShardedTensors
from ivlm_core.config import load_profile
from ivlm_core.datasets.bags import read_contacts
from ivlm_core.datasets.synthetic.store import SynthHoi, read_manifest
from ivlm_core.errors import IvlmError
from ivlm_core.images import load_image
from ivlm_core.objects import load_mesh, open_library
from ivlm_core.objects.openshape import read_openshape
from ivlm_core.reason import ContactTokenizer
from ivlm_core.reconstruct.inputs import load_camera, load_depth, load_keypoints
from ivlm_core.reconstruct.sam import SamSegmenter
from ivlm_core.view.meshes import MeshFinder
from ivlm_core.view.recording import Recording
from ivlm_core.view.result_folder import ResultFolder
from ivlm_ros.replay.bag_files import Bag, Definitions
from ivlm_ros.replay.findings import Findings

# Ordinary files take a thousandth of this.
SECONDS, MEGABYTES = 20, 2000
# What the readers import when they are called; imported once here, the forked children have them.
LAZY = (
    *("trimesh", "trimesh.exchange.gltf", "trimesh.exchange.load", "segment_anything", "safetensors.numpy", "smplx"),
    *("rosbags.highlevel", "rosbags.rosbag2", "rosbags.typesys", "PIL.Image", "cv2", "yaml", "scipy.sparse"),
    "ivlm_ros.replay.storages",
)


def read_bag(path: Path) -> None:
    """Every message of a bag, decoded where that can be done."""
    definitions = Definitions()
    with Bag(path, Findings()) as bag:
        for record in bag.messages():
            definitions.decoder(record.topic)(record.data)


def read_dataset(folder: Path) -> None:
    """The first scenes of a split, whose folder is called `test`."""
    scenes = SynthHoi(folder.parent, "test")
    for index in range(min(len(scenes), 5)):
        scenes[index]


# What a user may be given → how the package reads it.
READERS: dict[str, Callable[[Path], object]] = {
    "profile": load_profile,
    "profile of a checkpoint": lambda path: load_profile(path.parent),
    "tokenizer": ContactTokenizer,
    "weights": lambda path: ShardedTensors(path.parent),
    "weights of torch": lambda path: ShardedTensors(path.parent),
    "shard index": lambda path: ShardedTensors(path.parent),
    "checkpoint manifest": lambda path: checkpoint_hash(path.parent),
    "adapter": lambda path: load_adapter(path.parent),
    "weights of SAM": SamSegmenter,
    "body": lambda path: load_body("smplx", path),
    "body map": lambda path: load_body_map(path, load_body(), load_body()),
    "posed people": load_osx,
    "mesh": load_mesh,
    "mesh of lines": load_mesh,
    "mesh of points": load_mesh,
    "mesh of triangles": load_mesh,
    "mesh of numbers": load_mesh,
    "object library": lambda path: open_library(path.parent),
    "embeddings": read_openshape,
    "embeddings in safetensors": read_openshape,
    "embeddings of torch": read_openshape,
    "picture": load_image,
    "photograph": load_image,
    "depth": lambda path: load_depth(path, 64, 48),
    "depth picture": lambda path: load_depth(path, 64, 48),
    "camera": lambda path: load_camera(path, 64, 48),
    "keypoints": load_keypoints,
    "dataset": lambda path: read_manifest(path.parent),
    "scenes of a dataset": lambda path: read_dataset(path.parent),
    "result": lambda path: ResultFolder(path.parent, MeshFinder()),
    "bag": read_bag,
    "bag of SQLite": read_bag,
    "folder of a bag": lambda path: read_bag(path.parent),
    "bag to evaluate": lambda path: read_contacts(path.parent, "/ivlm_contact"),
    "bag to look at": lambda path: Recording(path.parent, MeshFinder()),
}


def answer(reader: str, path: Path) -> dict[str, object]:
    """Read one file in a child, and tell how it ended."""
    read_end, write_end = os.pipe()
    start = time.monotonic()
    child = os.fork()
    if child == 0:
        os.close(read_end)
        # Should a limit be missing, the test fails rather than the machine. The alarm's own action ends the process,
        # also where it waits within a system call.
        limit = _virtual() + 3 * MEGABYTES * 2**20
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        signal.alarm(SECONDS)
        told = {}
        try:
            READERS[reader](path)
        except IvlmError as error:
            told["error"] = str(error)[:20_000]
        except BaseException as error:
            told["fault"] = f"{type(error).__name__}: {str(error)[:300]}"
        os.write(write_end, json.dumps(told).encode())
        os._exit(0)
    os.close(write_end)
    with os.fdopen(read_end, "rb") as stream:
        text = stream.read()
    _, status, used = os.wait4(child, 0)
    found: dict[str, object] = json.loads(text) if text else {}
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        found["fault"] = f"not done after {SECONDS} s" if number == signal.SIGALRM else f"ended by signal {number}"
    found["seconds"] = time.monotonic() - start
    found["megabytes"] = max(0.0, used.ru_maxrss / 1024 - _resident() / 2**20)
    return found


def _virtual() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def main() -> None:
    """Answer until the input ends."""
    for name in LAZY:
        importlib.import_module(name)
    for line in sys.stdin:
        asked = json.loads(line)
        print(json.dumps(answer(asked["reader"], Path(asked["path"]))), flush=True)


if __name__ == "__main__":
    main()
