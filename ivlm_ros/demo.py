"""`make demo`: a recording goes through the installed node over DDS; pictures, meshes and figures come out.

The recording carries the true contacts of its generated scenes, against which the node's answers are scored.

python -m ivlm_ros.demo --out out/demo
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import random
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ivlm_core import IvlmError, ObjectQuery
from ivlm_core.datasets import GROUND_TRUTH, BagRecorder, open_bag, read_contacts
from ivlm_core.storage import atomic_path
from ivlm_core.types import Mesh
from ivlm_ros.node_process import NODE, NodeProcess
from ivlm_ros.replay import Replayer, ReplayReport, read_frames
from ivlm_ros.transport import use_large_image_profile

if TYPE_CHECKING:
    from ivlm_core.evaluate import ReplayScores

BASE_COLOR = (200, 200, 200)
CONFIGURE_TIMEOUT = 120.0
# People of this seed are well lit, and one of them has a backpack beside them that nobody touches.
SEED = 3


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo; 0 when every recording was answered and the node stopped well, 1 otherwise."""
    parser = argparse.ArgumentParser(prog="ivlm_ros.demo", description="Replay a recording through the installed node.")
    parser.add_argument("--out", type=Path, default=Path("out/demo"), help="folder for all results (%(default)s)")
    parser.add_argument("--frames", type=int, default=10, help="frames of each generated scene (%(default)s)")
    parser.add_argument("--seed", type=int, default=SEED, help="seed of the generated scenes (%(default)s)")
    parser.add_argument("--rate", type=float, default=2.0, help="frames per second played (%(default)s)")
    parser.add_argument("--model", default="tiny", help="model of the node (%(default)s)")
    options = parser.parse_args(arguments)
    try:
        return run_demo(options.out, options.frames, options.seed, options.rate, options.model)
    except IvlmError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1


def run_demo(out: Path, frames: int = 10, seed: int = SEED, rate: float = 2.0, model: str = "tiny") -> int:
    """Make the recording, play it through the node, write results to `out`; returns the exit code of `main`."""
    started = time.monotonic()
    bag, outputs = out / "input", out / "outputs"
    for stale in ("pictures", "meshes"):
        shutil.rmtree(out / stale, ignore_errors=True)
    report, exit_code = play_through_node(
        bag, outputs, out / "node.log", rate, model, functools.partial(make_recording, bag, frames, seed)
    )
    print("3. Pictures and meshes from the recorded messages", flush=True)
    pictures = write_pictures(outputs, out / "pictures")
    meshes = write_meshes(outputs, out / "meshes")
    print("4. The answers against the recording's ground truth", flush=True)
    scores = score(bag, outputs)
    summary = report.summary() | {
        "recordings": {name: report.of_recording(name).summary() for name in _recordings(report)},
        "ground_truth": scores.summary(),
        "node_exit_code": exit_code,
        "pictures": [str(path) for path in pictures],
        "meshes": [str(path) for path in meshes],
    }
    with atomic_path(out / "summary.json") as temporary:
        temporary.write_text(json.dumps(summary, indent=2) + "\n")

    print(f"\n{report.table()}\n")
    print(f"recorded outputs  {outputs} ({sum(report.messages.values())} messages)")
    print(f"pictures          {out / 'pictures'} ({len(pictures)} PNG)")
    print(f"meshes            {out / 'meshes'} ({len(meshes)} GLB, open them in any 3D viewer)")
    print(f"figures           {out / 'summary.json'}")
    print(f"node's log        {out / 'node.log'}; it stopped with exit code {exit_code}")
    print(f"done in {time.monotonic() - started:.0f} s")
    print(f"\n{scores_text(scores)}")
    silent = [name for name in _recordings(report) if not report.of_recording(name).answered]
    if silent:
        print(f"demo: nothing came back for {', '.join(silent)}; see {out / 'node.log'}", file=sys.stderr)
    return 1 if silent or exit_code != 0 or not pictures or not meshes else 0


def make_recording(bag: Path, frames: int, seed: int) -> None:
    """Write the recording, with a line of progress on the terminal."""
    from ivlm_core.datasets.synthetic import write_demo_bag

    print(f"1. A recording with generated scenes and one photograph → {bag}", flush=True)
    write_demo_bag(bag, frames=frames, seed=seed, progress=_show_progress)
    print(flush=True)


def play_through_node(
    bag: Path, outputs: Path, log: Path, rate: float, model: str, prepare: Callable[[], None]
) -> tuple[ReplayReport, int]:
    """Start the node in a DDS domain of its own, activate it, replay `bag`, stop it: the report and its exit code.

    `prepare` runs while the node loads its model, and makes the bag.
    """
    # Domains up to 101 keep clear of the system's short-lived ports.
    os.environ["ROS_DOMAIN_ID"] = str(random.SystemRandom().randint(1, 101))
    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    use_large_image_profile()
    import rclpy

    with NodeProcess(log, ["--ros-args", "-p", f"model:={model}"]) as process:
        rclpy.init(args=[])
        try:
            with ThreadPoolExecutor(1) as pool:
                activation = pool.submit(_activate, process)
                prepare()
                activation.result()
            frames = read_frames(bag)
            print("2. The installed node, a process of its own, gets the recording over DDS", flush=True)
            with BagRecorder(outputs) as recorder, Replayer(recorder, NODE) as replayer:
                replayer.wait_for_node()
                first = list({frame.key[0]: frame for frame in reversed(frames)}.values())[::-1]
                took = replayer.warm_up(first)
                print(f"   first sight of each recording's objects took {took:.1f} s (cached from now on)", flush=True)
                print(f"   {len(frames)} frames at {rate:g} Hz …", flush=True)
                report = replayer.play(frames, rate)
        finally:
            rclpy.try_shutdown()
    assert process.exit_code is not None
    return report, process.exit_code


def _activate(process: NodeProcess) -> None:
    import rclpy

    helper = rclpy.create_node("ivlm_demo")
    process.transition(helper, "configure", CONFIGURE_TIMEOUT)
    process.transition(helper, "activate", 20.0)
    helper.destroy_node()


def score(bag: Path, outputs: Path) -> ReplayScores:
    """The node's recorded answers, cut at 0.5, against the ground truth of the recording that was played."""
    from ivlm_core.bodies import load_body
    from ivlm_core.evaluate import body_surface, score_replay
    from ivlm_core.evaluate.scoring import Scorer

    body = load_body("anny")
    scorer = Scorer(body, body_surface(body.name))
    return score_replay(read_contacts(bag, GROUND_TRUTH), read_contacts(outputs, f"/{NODE}"), scorer)


def scores_text(scores: ReplayScores) -> str:
    """What the demo ends with."""
    lines = (
        scores.table(),
        "Contact on the body per object, cut at 0.5; geodesic: from marked to true contact along the body's surface;",
        "object SIM: of the values of 0.5 and more, which are published. The scenes are generated, none of them is one",
        "of the training; the photograph has no ground truth.",
    )
    return "\n".join(lines)


def write_pictures(outputs: Path, folder: Path, per_recording: int = 3) -> list[Path]:
    """The first, middle and last overlay of every recording as PNG files."""
    from PIL import Image

    overlays: dict[str, list[Any]] = {}
    for message in _messages(outputs, "overlay"):
        overlays.setdefault(message.header.frame_id, []).append(message)
    written = []
    for frame_id, messages in overlays.items():
        chosen = np.unique(np.linspace(0, len(messages) - 1, per_recording).round().astype(int))
        for number, index in enumerate(chosen, start=1):
            message = messages[index]
            picture = message.data.reshape(message.height, message.step // 3, 3)[:, : message.width]
            path = folder / f"{frame_id}_{number}.png"
            with atomic_path(path) as temporary:
                Image.fromarray(picture).save(temporary)
            written.append(path)
    return written


def write_meshes(outputs: Path, folder: Path) -> list[Path]:
    """Body and object meshes with heat, as GLB, from the middle answer of every recording."""
    from ivlm_core.bodies import load_body
    from ivlm_core.objects import find_object

    written = []
    for message in _middle_of_recordings(outputs, "human_contacts"):
        for contact in message.contacts:
            mesh = load_body(contact.body_model).mesh
            name = f"{message.header.frame_id}_{_file_name(contact.object_label)}_human.glb"
            written.append(_write_heat(folder / name, mesh, contact, contact.probabilities))
    for message in _middle_of_recordings(outputs, "object_affordances"):
        for affordance in message.affordances:
            mesh = find_object(ObjectQuery(label=affordance.object_label)).mesh
            name = f"{message.header.frame_id}_{_file_name(affordance.object_label)}_object.glb"
            written.append(_write_heat(folder / name, mesh, affordance, affordance.values))
    return written


def _write_heat(path: Path, mesh: Mesh, message: Any, values: Any) -> Path:
    """One mesh coloured by the sparse values of a contact or affordance message."""
    from ivlm_core.draw import heat_colors, write_glb

    if message.topology_hash != mesh.topology_hash:
        raise IvlmError(
            "topology_hash",
            f"of {message.object_label!r} is {message.topology_hash}, and of the mesh here {mesh.topology_hash}",
            "the node runs another version of the package: build again",
        )
    dense = np.zeros(message.vertex_count, dtype=np.float32)
    dense[np.asarray(message.vertex_indices)] = np.asarray(values)
    write_glb(path, mesh, heat_colors(dense, np.array(BASE_COLOR, dtype=np.uint8)))
    return path


def _messages(bag: Path, output: str) -> list[Any]:
    """All messages of one of the node's outputs, decoded."""
    topic = f"/{NODE}/{output}"
    with open_bag(bag) as reader:
        connections = [connection for connection in reader.connections if connection.topic == topic]
        return [reader.deserialize(raw, kind.msgtype) for kind, _, raw in reader.messages(connections=connections)]


def _middle_of_recordings(bag: Path, output: str) -> list[Any]:
    recordings: dict[str, list[Any]] = {}
    for message in _messages(bag, output):
        recordings.setdefault(message.header.frame_id, []).append(message)
    return [messages[len(messages) // 2] for messages in recordings.values()]


def _recordings(report: ReplayReport) -> list[str]:
    return list(dict.fromkeys(frame_id for frame_id, _ in report.published))


def _file_name(label: str) -> str:
    return "".join(letter if letter.isalnum() else "_" for letter in label)


def _show_progress(done: int, total: int) -> None:
    if sys.stdout.isatty():
        print(f"\r   {done}/{total} images", end="", flush=True)
    elif done == total:
        print(f"   {total} images", end="", flush=True)


if __name__ == "__main__":
    sys.exit(main())
