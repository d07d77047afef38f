"""What a replay leaves behind for its report, beside the bag it writes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ivlm_core.datasets.bags import FrameKey
from ivlm_core.types import FloatArray, IntArray, Mesh

MOST_PICTURES = 12
# Where in the bag pictures are taken when nobody knows how long it is: at every so many frames.
UNKNOWN_STEP = 20


@dataclass(frozen=True, eq=False)
class ScenePart:
    """A body or an object where it was found.

    Attributes
    ----------
    name : for people. vertices : (V, 3) float32 metres in the camera's optical frame. faces : (F, 3) int32.
    values : (V,) float32 in [0, 1].
    """

    name: str
    vertices: FloatArray
    faces: IntArray
    values: FloatArray


@dataclass(frozen=True, eq=False)
class Sample:
    """One frame that the report shows.

    Attributes
    ----------
    picture : the overlay as JPEG, or empty. scene : what was fitted into the scene, in metres; empty without.
    """

    key: FrameKey
    picture: bytes = b""
    scene: tuple[ScenePart, ...] = ()


@dataclass
class Outcome:
    """Counts, latencies and samples of one replay.

    Attributes
    ----------
    frames_in : images that came. frames_out : images that were answered. dropped : reason → images.
    stages : stage → seconds of every frame. model : facts on the model that answered. seconds : of the whole replay.
    inputs : input → name and type of its topic. meshes : topology hash → mesh that answers were given on.
    node : what the running node said of itself on /diagnostics, in an online replay.
    """

    frames_in: int = 0
    frames_out: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    stages: dict[str, list[float]] = field(default_factory=dict)
    model: dict[str, Any] = field(default_factory=dict)
    inputs: dict[str, dict[str, str]] = field(default_factory=dict)
    samples: list[Sample] = field(default_factory=list)
    meshes: dict[str, Mesh] = field(default_factory=dict)
    node: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0

    def took(self, stage: str, seconds: float) -> None:
        """Note how long a stage took for one frame."""
        self.stages.setdefault(stage, []).append(seconds)

    def latency(self) -> dict[str, dict[str, Any]]:
        """Stage → `p50_ms`, `p95_ms`, `max_ms` and `samples`."""
        return {stage: percentiles(times) for stage, times in self.stages.items() if times}


def percentiles(seconds: Sequence[float]) -> dict[str, Any]:
    """Median, 95th percentile and maximum in milliseconds."""
    p50, p95 = np.percentile(seconds, [50, 95])
    return {
        "p50_ms": round(1e3 * float(p50), 3),
        "p95_ms": round(1e3 * float(p95), 3),
        "max_ms": round(1e3 * max(seconds), 3),
        "samples": len(seconds),
    }


def sampled(expected: int) -> set[int]:
    """The numbers of the frames that the report shows, spread over the replay; `expected` is 0 where nobody knows."""
    if expected <= 0:
        return {UNKNOWN_STEP * number for number in range(MOST_PICTURES)}
    return set(np.unique(np.linspace(0, expected - 1, MOST_PICTURES).round().astype(int)).tolist())
