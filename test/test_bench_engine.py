"""The engine's benchmark runs where only the model's own libraries are, given cached view packs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from ivlm_core.bodies import load_body
from ivlm_core.config import load_profile
from ivlm_core.render import HUMAN_VIEWS, load_or_build_view_pack
from ivlm_core.storage import ArrayCache

ROOT = Path(__file__).resolve().parents[1]

WITHOUT = """
import sys
from importlib.abc import MetaPathFinder

ABSENT = {"open3d", "smplx", "anny", "rclpy", "sensor_msgs", "trimesh", "ivlm_ros"}

class Absent(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ABSENT:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
from pathlib import Path
import torch
import bench_engine
from ivlm_core.config import load_profile
from ivlm_core.storage import ArrayCache

torch.manual_seed(0)
bench = bench_engine.Bench(load_profile("tiny"), torch.device("cpu"), torch.float32, ArrayCache(Path(sys.argv[1])))
with torch.inference_mode():
    bench.prepare(2)
    ours, baseline = bench.ours(2), bench.baseline(2)
    times = [bench.token_ms(mode, 2, 16) for mode in ("growing", "eager", "graph")]
assert ours.shape == (2, 13718)
assert float((ours - baseline).abs().max()) < 1e-4
assert times[0] > 0 and times[1] > 0 and times[2] is None, times
assert not ABSENT & {name.partition(".")[0] for name in sys.modules}
"""


def test_cached_view_packs_are_enough(tmp_path):
    size = load_profile("tiny").sam.image_size
    load_or_build_view_pack(load_body("anny").mesh, HUMAN_VIEWS, size, "normals", ArrayCache(tmp_path))
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'benchmarks'}"},
    )
    assert done.returncode == 0, done.stderr
