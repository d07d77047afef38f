"""What a replay is told to do."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ivlm_core.config import MODES
from ivlm_core.datasets.bags import GROUND_TRUTH
from ivlm_core.errors import ConfigError, shown
from ivlm_core.types import check_label

NODE = "ivlm_contact"
STORAGES = ("mcap", "sqlite3")
LONGEST = 10 * 365 * 86400.0


@dataclass(frozen=True)
class ReplaySettings:
    """See `ivlm replay --help`.

    Attributes
    ----------
    topics : input → topic, where named. start, duration : of the bag that is used, seconds; None for all of it.
    frames : most frames that are played; None for all.
    rate : frames per second of an online replay; None for lockstep.
    labels : objects asked about in place of detections.
    slop : largest difference of the stamps of an image and what belongs to it, seconds.
    """

    bag: Path
    out: Path
    online: bool = False
    rate: float | None = None
    timeout: float = 20.0
    node: str = NODE
    namespace: str = ""
    topics: Mapping[str, str] = field(default_factory=dict)
    ground_truth: str = GROUND_TRUTH
    model: str = "tiny"
    device: str = "auto"
    dtype: str = "auto"
    reasoning: str = "parts"
    mode: str = "joint"
    reconstruct: bool = False
    threshold: float = 0.5
    labels: tuple[str, ...] = ()
    class_names: tuple[str, ...] = ()
    max_objects: int = 8
    slop: float = 0.0
    start: float = 0.0
    duration: float | None = None
    frames: int | None = None
    storage: str = ""
    html: bool = True
    overlay: bool = False

    def __post_init__(self) -> None:
        limits = {
            "rate": (self.rate, 0.001, 1000.0),
            "timeout": (self.timeout, 0.1, 3600.0),
            "threshold": (self.threshold, 0.0, 1.0),
            "max-objects": (self.max_objects, 1, 32),
            "sync-slop": (self.slop, 0.0, 1.0),
            "start": (self.start, 0.0, LONGEST),
            "duration": (self.duration, 0.001, LONGEST),
            "frames": (self.frames, 1, 10**9),
        }
        for name, (value, low, high) in limits.items():
            if value is not None and not (math.isfinite(value) and low <= value <= high):
                raise ConfigError(f"--{name}", f"is {value}", f"give a number from {low:g} to {high:g}")
        if self.storage not in ("", *STORAGES):
            raise ConfigError("--storage", f"is {shown(self.storage)}", f"choose {' or '.join(STORAGES)}")
        if self.mode not in MODES:
            raise ConfigError("--mode", f"is {shown(self.mode)}", f"choose {', '.join(MODES)}")
        for label in self.labels:
            check_label(label, "--label")
        if not self.ground_truth.startswith("/"):
            raise ConfigError("--ground-truth", f"is {shown(self.ground_truth)}", "give the topics' prefix, with its /")

    @property
    def answers_prefix(self) -> str:
        """What the topics of the answers lie below."""
        space = self.namespace.strip("/")
        return f"/{space}/{self.node}" if space else f"/{self.node}"

    @property
    def asked_always(self) -> tuple[str, ...]:
        """What is asked of every image, whatever was detected."""
        return ("scene",) if self.mode == "scene" else self.labels
