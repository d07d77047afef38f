"""Long runs of the installed node: 60 images a second, life cycles, packets that get lost. `make soak` runs them.

IVLM_SOAK_SECONDS and IVLM_SOAK_CYCLES make them shorter for a try. Figures go to `out/soak/`.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import platform
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy")
pytest.importorskip("ivlm_ros.msg")

from diagnostic_msgs.msg import DiagnosticArray
from ivlm_ros.msg import DetectedObjectArray, HumanContactArray
from sensor_msgs.msg import Image

from ivlm_ros.conversions import image_from_rgb
from ivlm_ros.node_process import executable_path

pytestmark = pytest.mark.soak

SECONDS = float(os.environ.get("IVLM_SOAK_SECONDS", "600"))
CYCLES = int(os.environ.get("IVLM_SOAK_CYCLES", "50"))
FRAMES = int(os.environ.get("IVLM_SOAK_FRAMES", "30"))
HERTZ = 60.0
MOST_GROWTH = 0.05
NAME = "/ivlm_contact"
OUT = Path(__file__).resolve().parents[1] / "out" / "soak"


def record(name: str, **figures: Any) -> None:
    """Keep the figures of a run, with the machine they are of."""
    OUT.mkdir(parents=True, exist_ok=True)
    cores = len(os.sched_getaffinity(0))
    told = {
        **figures,
        "machine": platform.machine(),
        "cores": cores,
        "load": [round(load, 1) for load in os.getloadavg()],
    }
    (OUT / f"{name}.json").write_text(json.dumps(told, indent=1) + "\n")
    print(f"\n{name}: {json.dumps(told)}")


class Node:
    """The installed node as a process, and what it tells."""

    def __init__(self, peer: Any, log: Path, *parameters: str) -> None:
        self.peer, self._log = peer, log
        self._stream = log.open("wb")
        arguments = [word for parameter in parameters for word in ("-p", parameter)]
        self.process = subprocess.Popen(
            [str(executable_path()), "--ros-args", *arguments],
            stdout=self._stream,
            stderr=subprocess.STDOUT,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        self.humans = peer.hear(HumanContactArray, f"{NAME}/human_contacts", 10)
        self._reports = peer.hear(DiagnosticArray, "/diagnostics", 1)

    def activate(self) -> None:
        assert self.peer.change_state(NAME, "configure")
        assert self.peer.change_state(NAME, "activate")

    def report(self) -> dict[str, str]:
        """The values of the newest report; older ones are let go."""
        while not self._reports:
            time.sleep(0.05)
        values = {pair.key: pair.value for pair in self._reports[-1].status[0].values}
        del self._reports[:-1]
        return values

    def resident(self) -> float:
        """MB."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6

    def open_things(self) -> tuple[int, int]:
        """Numbers of file descriptors and of threads."""
        return tuple(len(list(Path(f"/proc/{self.process.pid}/{kind}").iterdir())) for kind in ("fd", "task"))  # type: ignore[return-value]

    def stop(self) -> str:
        """End it as Ctrl-C does; all that it printed."""
        self.process.send_signal(signal.SIGINT)
        assert self.process.wait(10) == 0
        return self._log.read_text()

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self._stream.close()


@pytest.fixture
def make_node(peer: Any, tmp_path: Path) -> Iterator[Callable[..., Node]]:
    """Starts nodes, with parameters such as `max_rate:=5.0`."""
    made: list[Node] = []

    def make(*parameters: str) -> Node:
        made.append(Node(peer, tmp_path / f"log{len(made)}", *parameters))
        return made[-1]

    yield make
    for node in made:
        node.close()


def test_sixty_hertz_in_for_ten_minutes_at_a_bounded_memory(
    make_node: Callable[..., Node], peer: Any, ros_detections: Any
) -> None:
    """More images than the model can answer: the newest is, every other is counted, and nothing piles up."""
    node = make_node()
    node.activate()
    images, found = peer.publisher(Image, "image", 1), peer.publisher(DetectedObjectArray, "detections", 1)
    noise = np.random.default_rng(0).integers(0, 255, (480, 640, 3)).astype(np.uint8)
    sent, answered, memory = 0, 0, []
    began = second = time.monotonic()
    while (now := time.monotonic()) - began < SECONDS:
        detections = ros_detections(sent // 60 + 1, "chair")
        detections.header.stamp.nanosec = sent % 60 * 16_000_000
        images.publish(image_from_rgb(noise, detections.header))
        found.publish(detections)
        sent += 1
        if now >= second:
            second += 1.0
            memory.append(node.resident())
            answered += len(node.humans)
            del node.humans[:]
        time.sleep(max(0.0, began + sent / HERTZ - time.monotonic()))
    elapsed = time.monotonic() - began
    time.sleep(2.0)
    answered += len(node.humans)
    values = node.report()
    received, processed = int(values["images_received"]), int(values["frames_processed"])
    dropped = int(values["dropped"]) - int(values.get("dropped/no_image", "0"))
    # The first minute, or a tenth of a shorter run, is the warm-up.
    warm = memory[min(60, len(memory) // 10) :]
    window = max(1, min(60, len(warm) // 4))
    first, last = float(np.median(warm[:window])), float(np.median(warm[-window:]))
    record(
        "sixty_hertz",
        seconds=round(elapsed),
        sent=sent,
        sent_hz=round(sent / elapsed, 1),
        received=received,
        processed=processed,
        answers_heard=answered,
        dropped={key: values[key] for key in values if key.startswith("dropped/")},
        failed=int(values["frames_failed"]),
        memory_mb={"start": round(memory[0]), "first": round(first), "last": round(last), "most": round(max(memory))},
        growth_percent=round(100 * (last / first - 1), 2),
        latency_total_ms=[values["latency_total_p50_ms"], values["latency_total_p95_ms"]],
    )
    assert sent / elapsed > 0.9 * HERTZ, "this machine cannot publish at that rate"
    assert values["frames_failed"] == values["bad_input"] == "0"
    assert 0 <= received - processed - dropped <= 12, "images are unaccounted for"
    assert processed > 0.5 * elapsed
    assert max(warm) < first * (1 + MOST_GROWTH)
    log = node.stop()
    assert "Traceback" not in log
    assert len(log.splitlines()) < 20 + 2 * elapsed / 10


def test_fifty_life_cycles_with_the_real_model_without_growth(
    make_node: Callable[..., Node], peer: Any, ros_image: Any, ros_detections: Any
) -> None:
    """Configure, activate, answer, deactivate, clean up: memory, descriptors and threads stay."""
    node = make_node("image_reliability:=reliable")
    images, found = None, None
    memory, things = [], []
    began = time.monotonic()
    for cycle in range(1, CYCLES + 1):
        node.activate()
        images = images or peer.publisher(Image, "image")
        found = found or peer.publisher(DetectedObjectArray, "detections")
        deadline = time.monotonic() + 30
        while not any(answer.header.stamp.sec == cycle for answer in node.humans):
            assert time.monotonic() < deadline, f"no answer in cycle {cycle}"
            images.publish(ros_image(cycle, (480, 360)))
            found.publish(ros_detections(cycle, "chair"))
            time.sleep(0.3)
        del node.humans[:]
        assert peer.change_state(NAME, "deactivate")
        assert peer.change_state(NAME, "cleanup")
        memory.append(node.resident())
        things.append(node.open_things())
    settled = min(5, CYCLES // 3)
    growth = memory[-1] / memory[settled] - 1
    record(
        "life_cycles",
        cycles=CYCLES,
        seconds=round(time.monotonic() - began),
        memory_mb={
            "first": round(memory[0]),
            f"after_{settled + 1}": round(memory[settled]),
            "last": round(memory[-1]),
        },
        growth_percent=round(100 * growth, 2),
        descriptors_threads=[things[settled], things[-1]],
    )
    assert growth < MOST_GROWTH
    assert all(last <= first + 2 for first, last in zip(things[settled], things[-1], strict=True))
    assert "Traceback" not in node.stop()


CLONE_NEWNET = 0x40000000
LOSS = 0.3
# The first that this system has.
LOSSES = (
    ("tc", "qdisc", "add", "dev", "lo", "root", "netem", "loss", "30%"),
    *(
        (tables, *"-A INPUT -i lo -p udp -m statistic --mode random --probability 0.3 -j DROP".split())
        for tables in ("iptables", "iptables-nft", "iptables-legacy")
    ),
)


class LossyNetwork:
    """A loopback of this thread's own, and of what it starts, on which packets get lost."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        if self._libc.unshare(CLONE_NEWNET) != 0:
            os.close(self._home)
            pytest.skip("a network of its own needs root (CAP_SYS_ADMIN)")
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        self.made_by = ""

    def lose(self) -> None:
        """From now on three packets of ten are lost."""
        for command in LOSSES:
            with contextlib.suppress(FileNotFoundError):
                if subprocess.run(command, capture_output=True, check=False).returncode == 0:
                    self.made_by = " ".join(command)
                    return
        pytest.skip("neither tc netem (kernel module sch_netem) nor iptables with xt_statistic is here")

    def mend(self) -> None:
        """From now on none is."""
        undo = self.made_by.replace(" add ", " del ").replace(" -A ", " -D ")
        subprocess.run(undo.split(), check=True)

    def measured(self, packets: int = 5000) -> float:
        """The share that gets lost."""
        with (
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver,
        ):
            receiver.bind(("127.0.0.1", 0))
            receiver.settimeout(0.2)
            arrived = 0
            for _ in range(packets // 50):
                for _ in range(50):
                    sender.sendto(b"x", receiver.getsockname())
                with contextlib.suppress(TimeoutError):
                    while receiver.recv(8):
                        arrived += 1
        return 1 - arrived / packets

    def leave(self) -> None:
        self._libc.setns(self._home, CLONE_NEWNET)
        os.close(self._home)


# Shared memory loses nothing, and with the range LOCALHOST ROS would add it again.
UDP_ALONE = """<?xml version="1.0" encoding="UTF-8"?>
<dds xmlns="http://www.eprosima.com/XMLSchemas/fastRTPS_Profiles"><profiles>
  <transport_descriptors>
    <transport_descriptor><transport_id>udp</transport_id><type>UDPv4</type></transport_descriptor>
  </transport_descriptors>
  <participant profile_name="udp_alone" is_default_profile="true"><rtps>
    <userTransports><transport_id>udp</transport_id></userTransports>
    <useBuiltinTransports>false</useBuiltinTransports>
  </rtps></participant>
</profiles></dds>
"""


@pytest.fixture
def lossy_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[LossyNetwork]:
    """To be asked for before `peer`, whose threads then live in it, as does the node."""
    (tmp_path / "udp_alone.xml").write_text(UDP_ALONE)
    monkeypatch.setenv("FASTDDS_DEFAULT_PROFILES_FILE", str(tmp_path / "udp_alone.xml"))
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "SUBNET")
    network = LossyNetwork()
    yield network
    network.leave()


@pytest.mark.parametrize("reliability", ["reliable", "best_effort"])
@pytest.mark.parametrize("size", [(64, 48), (640, 480)])
def test_thirty_percent_packet_loss(
    lossy_network: LossyNetwork,
    make_node: Callable[..., Node],
    peer: Any,
    ros_image: Any,
    ros_detections: Any,
    reliability: str,
    size: tuple[int, int],
) -> None:
    """Reliable: every image is answered. Best effort: some small ones are. Whole answers only; and, large best-effort
    images apart, all of them once the loss is over.
    """
    from ivlm_ros.inputs import qos

    node = make_node(f"image_reliability:={reliability}", f"detections_reliability:={reliability}")
    node.activate()
    images = peer.publisher(Image, "image", qos(reliability, 10))
    found = peer.publisher(DetectedObjectArray, "detections", qos(reliability, 10))

    def show(first: int, count: int, patience: float) -> tuple[int, list[float]]:
        """Frames one after the other; how many are answered, and after how long."""
        delays = []
        for stamp in range(first, first + count):
            sent = time.monotonic()
            image = ros_image(stamp, size)
            images.publish(image)
            found.publish(ros_detections(stamp, "chair"))
            while time.monotonic() - sent < patience:
                heard = [answer for answer in node.humans if answer.header.stamp.sec == stamp]
                if heard:
                    assert heard[0].header == image.header
                    assert len(heard[0].contacts) + len(heard[0].unanswered_reasons) == 1
                    delays.append(time.monotonic() - sent)
                    break
                time.sleep(0.005)
        return len(delays), delays

    show(1, 3, 3.0)
    lossy_network.lose()
    loss = lossy_network.measured()
    assert abs(loss - LOSS) < 0.05
    # A best-effort answer comes at once or never. A reliable one is asked for again every 3 s, for which three packets
    # in a row must get through: it can take a minute.
    answered, delays = show(1000, FRAMES, 120.0 if reliability == "reliable" else 0.7)
    lossy_network.mend()
    healed, _ = show(5000, 20, 10.0)
    values = node.report()
    record(
        f"packet_loss_{reliability}_{size[0]}x{size[1]}",
        loss_measured=round(loss, 3),
        by=lossy_network.made_by,
        sent=FRAMES,
        answered=answered,
        seconds_p50_p95=[round(float(number), 2) for number in np.percentile(delays, [50, 95])] if delays else [],
        answered_afterwards=f"{healed} of 20",
        node={key: values[key] for key in values if key.startswith(("dropped", "images_received", "frames_"))},
    )
    assert values["frames_failed"] == values["bad_input"] == "0"
    if (reliability, size) == ("best_effort", (640, 480)):
        # Fifteen packets, none of which is sent again, and more bytes than the system's receive buffer holds: at a busy
        # machine few such images arrive even without loss.
        assert healed > 0
    else:
        assert healed == 20
    if reliability == "reliable":
        assert answered == FRAMES
    elif size == (64, 48):
        assert 0 < answered < FRAMES
    assert "Traceback" not in node.stop()
