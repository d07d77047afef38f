"""What every benchmark shares: timing by medians, the machine's description, one table and one JSON object."""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch


def parser(description: str) -> argparse.ArgumentParser:
    """Options of every benchmark."""
    result = argparse.ArgumentParser(description=description)
    result.add_argument("--json", type=Path, help="also write the figures to this file")
    return result


def milliseconds(work: Callable[[], Any], repeats: int = 9, warm: int = 2) -> float:
    """Median wall time of `work` in ms, after `warm` calls that do not count."""
    for _ in range(warm):
        work()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times) * 1e3


def machine() -> dict[str, Any]:
    """The machine that the figures belong to."""
    model = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        model = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    except (OSError, StopIteration, ValueError):
        memory = float("nan")
    return {
        "cpu": model,
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(memory, 1),
        "load": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name(0) if torch.cuda.is_available() else "cpu",
    }


def copy_bandwidth() -> float:
    """Bytes per second that a plain copy of 256 MB reaches on this machine, the ceiling of memory-bound work."""
    source = np.ones(32 << 20)
    target = np.empty_like(source)
    return 2 * source.nbytes / (milliseconds(lambda: np.copyto(target, source), repeats=5) / 1e3)


def show(name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], target: Path | None, **more: Any) -> None:
    """Print the table and, as one line, the JSON object; write the object to `target` where it is given."""
    described = machine()
    widths = [max(len(str(cell)) for cell in column) for column in zip(columns, *rows, strict=True)]
    print(f"{name} on {described['cpu']}, {described['cores']} cores, load {described['load']}, {described['device']}")
    for row in (columns, *rows):
        print("  ".join(str(cell).ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    figures = {
        "benchmark": name,
        "machine": described,
        "rows": [dict(zip(columns, row, strict=True)) for row in rows],
        **more,
    }
    print(json.dumps(figures))
    if target:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(json.dumps(figures, indent=1), encoding="utf-8")
