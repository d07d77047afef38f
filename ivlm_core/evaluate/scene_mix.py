"""What a mix of scenes is worth before any model is trained: prior, oracle, and both through masks, per category."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ivlm_core.bodies import BodyModel
from ivlm_core.evaluate.ceilings import MaskPath
from ivlm_core.evaluate.metrics import contact_scores
from ivlm_core.evaluate.priors import Priors, Touched

COLUMNS = {
    "prior": "prior",
    "oracle": "oracle",
    "prior_through_masks": "prior, masks",
    "oracle_through_masks": "oracle, masks",
    "ground_truth_through_masks": "truth, masks",
    "prior_area": "prior, by area",
}


def scene_mix(priors: Priors, test: Touched, body: BodyModel, path: MaskPath) -> dict[str, Any]:
    """Semantic F1 of answers that see no picture, on test scenes.

    Parameters
    ----------
    priors : of the training scenes, with thresholds. path : through the masks of the profile to be trained.

    Returns
    -------
    `overall` and each of `per_category`: mean F1 of every column of `COLUMNS`, `samples`, `vertices` and `area_cm2` of
    the mean contact, and `modes`, samples of each; also `untouched`, `scenes`, `thresholds`, `mask_size`.
    """
    groups: dict[tuple[str, str], list[int]] = defaultdict(list)
    for number, key in enumerate(zip(test.labels, test.modes, strict=True)):
        groups[key].append(number)
    answers = {
        "prior": {key: priors.category(key[0]) for key in groups},
        "oracle": {key: priors.mode(*key) for key in groups},
    }
    thresholds = {
        "prior": priors.threshold("prior"),
        "oracle": priors.threshold("oracle"),
        "prior_through_masks": priors.threshold("prior", path.size),
        "oracle_through_masks": priors.threshold("oracle", path.size),
        "ground_truth_through_masks": priors.threshold("ground truth", path.size),
    }
    for name in ("prior", "oracle"):
        lifted = path(np.stack(list(answers[name].values())))
        answers[f"{name}_through_masks"] = dict(zip(groups, lifted, strict=True))
    scores: dict[str, NDArray] = {name: np.zeros(len(test)) for name in COLUMNS}
    sizes, areas = np.zeros(len(test)), np.zeros(len(test))
    for key, rows in groups.items():
        for first in range(0, len(rows), 256):
            part = rows[first : first + 256]
            truth = test.contact(part)
            sizes[part], areas[part] = truth.sum(axis=1), truth @ body.vertex_area
            for name, answer in answers.items():
                pred = np.broadcast_to(answer[key], truth.shape)
                scores[name][part] = contact_scores(pred, truth, thresholds[name]).f1
                if name == "prior":
                    by_area = contact_scores(pred, truth, thresholds[name], body.vertex_area)
                    scores["prior_area"][part] = by_area.f1
            lifted = path(truth)
            name = "ground_truth_through_masks"
            scores[name][part] = contact_scores(lifted, truth, thresholds[name]).f1

    def row(rows: NDArray[np.int64]) -> dict[str, Any]:
        return {
            **{name: float(values[rows].mean()) for name, values in scores.items()},
            "samples": len(rows),
            "vertices": float(sizes[rows].mean()),
            "area_cm2": float(areas[rows].mean() * 1e4),
            "modes": dict(sorted(Counter(test.modes[index] for index in rows).items())),
        }

    labels = np.array(test.labels)
    return {
        "overall": row(np.arange(len(test))),
        "per_category": {str(label): row(np.flatnonzero(labels == label)) for label in np.unique(labels)},
        "per_mode": {
            f"{label}: {mode or 'touched'}": {
                **{name: float(values[rows].mean()) for name, values in scores.items()},
                "samples": len(rows),
            }
            for (label, mode), rows in sorted(groups.items())
        },
        "scenes": test.scene_count,
        "untouched": test.untouched,
        "thresholds": thresholds,
        "mask_size": path.size,
    }


def scene_mix_markdown(mix: dict[str, Any]) -> str:
    """The table of a scene mix."""
    lines = [
        f"| category | samples | vertices | {' | '.join(COLUMNS.values())} |",
        f"|---|{'---:|' * (len(COLUMNS) + 2)}",
    ]
    for name, row in {**mix["per_category"], "**all**": mix["overall"]}.items():
        values = " | ".join(f"{row[column]:.3f}" for column in COLUMNS)
        lines.append(f"| {name} | {row['samples']} | {row['vertices']:.0f} | {values} |")
    cuts = ", ".join(f"{name.replace('_', ' ')} {value:.2f}" for name, value in mix["thresholds"].items())
    return "\n".join(
        [
            *lines,
            "",
            f"Semantic F1 on {mix['scenes']} scenes; {mix['untouched']} untouched objects are left out. Masks of "
            f"{mix['mask_size']} pixels a side. Thresholds, chosen on the training scenes: {cuts}.",
        ]
    )
