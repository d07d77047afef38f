"""Lifting 4 × 1024² masks onto the body, against the loop over views that scatters every pixel's votes.

`python benchmarks/bench_lift.py`; the budget is a ratio of 20 and a difference of at most 1e-5.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import report
import torch
from torch import Tensor

from ivlm_core import ViewPack
from ivlm_core.bodies import load_body
from ivlm_core.lift import lift_masks
from ivlm_core.render import HUMAN_VIEWS, load_or_build_view_pack
from ivlm_core.storage import ArrayCache

SIZE = 1024


def scatter_loop(logits: Tensor, ids: Tensor, weights: Tensor, count: int) -> Tensor:
    """The definition, written as a loop over views: votes of all covered pixels, a mean per view, a mean of views.

    Parameters
    ----------
    logits : (J, H, W).  ids, weights : (J, H, W, 3) vertex ids (−1 = empty) and barycentrics.
    """
    total, seeing = torch.zeros(count), torch.zeros(count)
    for view in range(len(logits)):
        probability = torch.sigmoid(logits[view].clamp(-20.0, 20.0))
        valid = (ids[view] >= 0).all(dim=-1)
        chosen, share = ids[view][valid], weights[view][valid]
        votes = share * probability[valid][:, None]
        numerator = torch.zeros(count).index_add_(0, chosen.flatten(), votes.flatten())
        denominator = torch.zeros(count).index_add_(0, chosen.flatten(), share.flatten())
        voted = denominator > 0
        total += torch.where(voted, numerator / denominator.clamp(min=1e-12), 0.0)
        seeing += voted
    return total / seeing.clamp(min=1)


def main() -> None:
    options = report.parser(__doc__ or "").parse_args()
    with tempfile.TemporaryDirectory() as folder:
        mesh = load_body("anny").mesh
        pack: ViewPack = load_or_build_view_pack(mesh, HUMAN_VIEWS, SIZE, "normals", ArrayCache(Path(folder)))
    count = len(mesh.vertices)
    ids = torch.from_numpy(pack.pixel_to_vertex.astype("int64"))
    weights = torch.from_numpy(pack.barycentric)
    rows = []
    for queries in (1, 8):
        logits = torch.randn(queries, 4, SIZE, SIZE, generator=torch.Generator().manual_seed(0)) * 4
        expected = torch.stack([scatter_loop(query, ids, weights, count) for query in logits])
        difference = float((lift_masks(logits, pack, "scatter") - expected).abs().max())
        loop = report.milliseconds(
            lambda logits=logits: [scatter_loop(query, ids, weights, count) for query in logits], repeats=5, warm=1
        )
        for method in ("scatter", "sample"):
            ours = report.milliseconds(lambda logits=logits, method=method: lift_masks(logits, pack, method))
            shown = f"{difference:.1e}" if method == "scatter" else "another definition"
            rows.append((queries, method, round(loop, 1), round(ours, 2), round(loop / ours, 1), shown))
    covered = int((pack.face_index >= 0).sum())
    # Read: a logit and an index per covered pixel, an index and a weight per vote, a probability per vote.
    least = covered * (4 + 8) + 3 * covered * (8 + 4 + 4)
    limit = least / report.copy_bandwidth() * 1e3
    first = next(row for row in rows if row[1] == "scatter")
    report.show(
        "lift 4 × 1024² masks to 13 718 vertices",
        ("queries", "method", "loop ms", "ours ms", "ratio", "max difference"),
        rows,
        options.json,
        covered_pixels=covered,
        memory_limit_ms=round(limit, 3),
        share_of_limit=round(limit / first[3], 3),
    )


if __name__ == "__main__":
    main()
