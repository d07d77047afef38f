"""Make the sample of SynthHOI that ships with the package: `python -m ivlm_core.datasets.synthetic.build_sample`."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from tqdm import tqdm

from ivlm_core.datasets.synthetic import SAMPLE, generate

SPLIT, SCENES, SEED = "test", 16, 0


def main() -> None:
    """Write the sample anew; the old one stays until the new one is finished."""
    with tempfile.TemporaryDirectory() as temporary, tqdm(total=SCENES, unit=" scenes") as bar:

        def progress(done: int, total: int) -> None:
            bar.update(done - bar.n)

        manifest = generate(temporary, SPLIT, SCENES, SEED, progress=progress)
        shutil.rmtree(SAMPLE / SPLIT, ignore_errors=True)
        shutil.copytree(Path(temporary) / SPLIT, SAMPLE / SPLIT)
    print(f"{SAMPLE / SPLIT}: {manifest.finished} scenes, {sum(shard.bytes for shard in manifest.shards) / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
