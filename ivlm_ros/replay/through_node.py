"""The online replay: a bag goes over DDS into the node that is running, in lockstep or at a rate."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping

from ivlm_core.errors import ConfigError, InputError
from ivlm_ros.replay.answers import read_overlays
from ivlm_ros.replay.bag_files import Bag
from ivlm_ros.replay.findings import Findings
from ivlm_ros.replay.frames import FrameAssembler, FrameReader
from ivlm_ros.replay.offline import (
    Progress,
    expected_frames,
    ignored_topics,
    jpeg,
    storage_of,
    wanted_inputs,
    window,
)
from ivlm_ros.replay.online import DIAGNOSTICS, OUTPUTS, Replayer, ReplayReport
from ivlm_ros.replay.outcome import Outcome, Sample, sampled
from ivlm_ros.replay.recording import OutputBag
from ivlm_ros.replay.settings import ReplaySettings
from ivlm_ros.replay.topics import RAW, choose_topics

# How long the node may take to be found.
DISCOVERY_SECONDS = 20.0
SETTLING_SECONDS = 1.0
CAMERA_INFO = "sensor_msgs/msg/CameraInfo"
# What the node says of itself, under the names of the report.
MODEL_FACTS = {"model": "name", "weights_hash": "weights_hash", "device": "device"}


def replay_online(
    settings: ReplaySettings,
    findings: Findings,
    progress: Progress = lambda done, expected: None,
    opened: Callable[[], None] = lambda: None,
) -> Outcome:
    """Play a bag into the running node and write the new bag to `<out>/bag`.

    Parameters
    ----------
    opened : called when the bag is known to be one.

    Raises
    ------
    ConfigError : ROS is not installed here, or the messages of a topic are not.
    InputError : the bag cannot be read, or no node listens.
    """
    try:
        import rclpy

        from ivlm_ros.transport import use_large_image_profile
    except ImportError as error:
        raise ConfigError(
            "--online", f"needs ROS 2 ({error})", "source env.sh or a distribution, or replay without --online"
        ) from None
    outcome = Outcome()
    started = time.perf_counter()
    use_large_image_profile()
    rclpy.init(args=[])
    try:
        with Bag(settings.bag, findings) as bag:
            opened()
            _play(settings, findings, bag, outcome, progress)
    finally:
        rclpy.try_shutdown()
    outcome.seconds = time.perf_counter() - started
    return outcome


def _play(settings: ReplaySettings, findings: Findings, bag: Bag, outcome: Outcome, progress: Progress) -> None:
    selection = choose_topics(bag, findings, settings.topics, *wanted_inputs(settings), ignored_topics(settings))
    outcome.inputs = {name: {"topic": topic.name, "type": topic.type} for name, topic in selection.topics.items()}
    prefix = settings.answers_prefix
    answers = {f"{prefix}/{name}": kind for name, kind in OUTPUTS.items()}
    expected = expected_frames(selection, settings)
    types = {name: topic.type for name, topic in selection.topics.items()}
    topics = subscribed_topics(settings.node, settings.namespace, types, DISCOVERY_SECONDS)
    # A recording of the robot's own diagnostics stays what it is.
    left_out = [topic.name for topic in bag.topics if topic.name == DIAGNOSTICS.name]
    with OutputBag(settings.out / "bag", storage_of(settings, bag), bag, answers, findings) as output:
        with Replayer(output.recorder, settings.node, settings.namespace, topics, types, left_out) as replayer:
            replayer.wait_for_node(DISCOVERY_SECONDS)
            # The node's own side of the discovery cannot be seen, and takes a little longer.
            time.sleep(SETTLING_SECONDS)
            before = replayer.wait_for_status()
            assembler = FrameAssembler(selection, findings, settings.slop, "detections" in selection.topics)
            reader = FrameReader(bag, assembler, output.copy, settings.frames)
            report = replayer.play(
                reader.read(*window(bag, settings)),
                settings.rate,
                settings.timeout,
                lambda played: progress(played, expected),
            )
            after = replayer.wait_for_status()
        _note(report, before, after, reader.unmatched, findings, outcome)
    shown = sampled(len(report.answered))
    keys = {key for number, key in enumerate(report.answered) if number in shown}
    pictures = read_overlays(settings.out / "bag", prefix, keys)
    outcome.samples = [
        Sample(key, jpeg(pictures[key]) if key in pictures else b"") for key in report.answered if key in keys
    ]


def subscribed_topics(node: str, namespace: str, types: Mapping[str, str], timeout: float) -> dict[str, str]:
    """Input → topic that the running node reads it from, for those that were remapped.

    Raises
    ------
    InputError : no such node is found within `timeout` seconds.
    """
    import rclpy

    space = "/" + namespace.strip("/")
    looker = rclpy.create_node(f"ivlm_replay_look_{os.getpid()}", namespace=namespace)
    try:
        deadline = time.monotonic() + timeout
        while True:
            # Asked by topic: a node that was killed and started anew is listed twice for a while, with and without.
            read = {
                topic: {
                    end.topic_type
                    for end in looker.get_subscriptions_info_by_topic(topic)
                    if (end.node_name, end.node_namespace) == (node, space)
                }
                for topic, kinds in looker.get_topic_names_and_types()
                if set(kinds) & set(types.values())
            }
            read = {topic: kinds for topic, kinds in read.items() if kinds}
            remapped = _matched(read, {name: looker.resolve_topic_name(name) for name in types}, types)
            if "image" in remapped:
                return remapped
            if time.monotonic() > deadline:
                raise _not_found(node, space, types["image"], read, remapped)
            time.sleep(0.1)
    finally:
        looker.destroy_node()


def _matched(read: Mapping[str, set[str]], own: Mapping[str, str], types: Mapping[str, str]) -> dict[str, str]:
    """Input → the topic with its own name or, where nothing is read from that, the one topic of its type."""
    matched = {name: topic for name, topic in own.items() if types[name] in read.get(topic, set())}
    for name, kind in types.items():
        free = [topic for topic, kinds in read.items() if kind in kinds and topic not in matched.values()]
        if kind in (RAW, CAMERA_INFO):
            # Colour and depth, and their cameras, have the same types; those of depth are known by their names.
            free = [topic for topic in free if ("depth" in topic) == (name == "depth")]
        if name not in matched and len(free) == 1:
            matched[name] = free[0]
    return matched


def _not_found(
    node: str, space: str, image_type: str, read: Mapping[str, set[str]], matched: Mapping[str, str]
) -> InputError:
    domain = os.environ.get("ROS_DOMAIN_ID", "0")
    full = f"{space.rstrip('/')}/{node}"
    start = (
        "start it in another shell with the same ROS_DOMAIN_ID, which is "
        f"{domain} here: ros2 launch ivlm_ros contact.launch.py, or contact_node --ros-args -p autostart:=true; "
        "or replay without --online"
    )
    if not read:
        return InputError("node", f"no node {full} is active", start)
    return InputError(
        "node",
        f"{full} reads no images of the type {image_type}; it reads {', '.join(sorted(read))}",
        "activate it, or set its parameter 'image_transport' to raw or compressed",
    )


def _note(
    report: ReplayReport,
    before: Mapping[str, str],
    after: Mapping[str, str],
    unmatched: int,
    findings: Findings,
    outcome: Outcome,
) -> None:
    """Counts and latencies of what was played, and what the node says of itself."""
    outcome.frames_in = len(report.published) + unmatched
    outcome.frames_out = len(report.answered)
    if unmatched:
        outcome.dropped["no_detections"] = unmatched
    unanswered = len(report.published) - len(report.answered)
    counted = {key: int(after[key]) - int(before.get(key, "0")) for key in after if key.startswith("dropped/")}
    for key, count in counted.items():
        if count > 0:
            outcome.dropped[key.removeprefix("dropped/")] += count
    lost = unanswered - sum(count for count in counted.values() if count > 0)
    if lost > 0:
        outcome.dropped["no_answer"] = lost
    if unanswered:
        reasons = ", ".join(f"{count} {reason}" for reason, count in outcome.dropped.items())
        findings.add("unanswered_frame", f"by the node's own count: {reasons}", unanswered)
    for image in report.answered:
        outcome.took("total", report.received[image] - report.published[image])
    outcome.model = {name: after[key] for key, name in MODEL_FACTS.items() if key in after}
    outcome.node = {"latency": node_latency(after), "status": dict(after)}


def node_latency(status: Mapping[str, str]) -> dict[str, dict[str, float]]:
    """Stage → `p50_ms` and `p95_ms` of the node's latest frames, as it reports them."""
    latencies: dict[str, dict[str, float]] = {}
    for key, value in status.items():
        if key.startswith("latency_") and key.endswith("_ms"):
            stage, _, which = key.removeprefix("latency_").removesuffix("_ms").rpartition("_")
            latencies.setdefault(stage, {})[f"{which}_ms"] = float(value)
    return latencies
