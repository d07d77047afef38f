"""View packs cold and cached, and the rasteriser against a z-buffer loop in NumPy.

`python benchmarks/bench_render.py`; the budget is 2 s for the cold pack of one object, 4 × 1024².
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import report

from ivlm_core import Mesh
from ivlm_core.bodies import load_body
from ivlm_core.objects import library_mesh, normalize_for_views
from ivlm_core.render import HUMAN_VIEWS, OBJECT_VIEWS, ViewCamera, build_view_pack, load_or_build_view_pack, rasterize
from ivlm_core.storage import ArrayCache

SIZE = 1024


def z_buffer(mesh: Mesh, camera: ViewCamera, size: int) -> np.ndarray:
    """(H, W) face index by the textbook: every face's bounding box, inside test and depth test, one face at a time."""
    position, depth = camera.project(mesh.vertices)
    pixel = position * size - 0.5
    nearest, index = np.full((size, size), np.inf), np.full((size, size), -1, dtype=np.int32)
    for number, face in enumerate(mesh.faces):
        corner, inverse = pixel[face], 1.0 / depth[face]
        low = np.maximum(np.ceil(corner.min(axis=0)), 0).astype(int)
        high = np.minimum(np.floor(corner.max(axis=0)), size - 1).astype(int)
        if (high < low).any():
            continue
        x, y = np.meshgrid(np.arange(low[0], high[0] + 1), np.arange(low[1], high[1] + 1))
        (ax, ay), (bx, by), (cx, cy) = corner
        area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
        if area == 0:
            continue
        v = ((x - ax) * (cy - ay) - (y - ay) * (cx - ax)) / area
        w = ((bx - ax) * (y - ay) - (by - ay) * (x - ax)) / area
        z = 1.0 / ((1 - v - w) * inverse[0] + v * inverse[1] + w * inverse[2])
        window = (slice(low[1], high[1] + 1), slice(low[0], high[0] + 1))
        wins = (v >= 0) & (w >= 0) & (v + w <= 1) & (z < nearest[window])
        nearest[window] = np.where(wins, z, nearest[window])
        index[window] = np.where(wins, number, index[window])
    return index


def main() -> None:
    options = report.parser(__doc__ or "").parse_args()
    body = load_body("anny").mesh
    chair = normalize_for_views(library_mesh("chair"))
    rows = []
    for name, mesh, views, coloring in (
        ("body", body, HUMAN_VIEWS, "normals"),
        ("chair", chair, OBJECT_VIEWS, "positions"),
    ):
        camera = ViewCamera.from_spec(next(iter(views.values())))
        rays = rasterize(mesh.vertices, mesh.faces, camera, SIZE).face_index
        loop = z_buffer(mesh, camera, SIZE)
        agreement = float((rays == loop).mean())
        ours = report.milliseconds(lambda m=mesh, c=camera: rasterize(m.vertices, m.faces, c, SIZE), repeats=5)
        slow = report.milliseconds(lambda m=mesh, c=camera: z_buffer(m, c, SIZE), repeats=3, warm=0)
        with tempfile.TemporaryDirectory() as folder:
            cache = ArrayCache(Path(folder))
            cold = report.milliseconds(
                lambda m=mesh, v=views, c=coloring: build_view_pack(m, v, SIZE, c), repeats=3, warm=1
            )
            warm = report.milliseconds(
                lambda m=mesh, v=views, c=coloring, k=cache: load_or_build_view_pack(m, v, SIZE, c, k), repeats=3
            )
        rows.append(
            (
                name,
                len(mesh.faces),
                round(slow),
                round(ours),
                round(slow / ours, 1),
                f"{agreement:.5f}",
                round(cold),
                round(warm),
            )
        )
    report.show(
        "render 1024²",
        ("mesh", "faces", "loop ms/view", "ours ms/view", "ratio", "same face", "pack cold ms", "pack cached ms"),
        rows,
        options.json,
    )


if __name__ == "__main__":
    main()
