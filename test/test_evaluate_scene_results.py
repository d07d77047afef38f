"""The page's part about objects and bodies in the scene."""

from __future__ import annotations

from ivlm_core.evaluate.scene_results import SCENE_RUNS, scene_section

BLOCK = {
    "chamfer_cm": 4.44,
    "chamfer_median_cm": 1.26,
    "rotation_deg": 12.6,
    "translation_cm": 3.14,
    "scale_error": 0.0123,
    "penetration_cm": 0.876,
    "mask_iou": 0.91,
    "success_5cm": 0.842,
    "valid": 0.97,
    "seconds_per_object": 1.5,
    "objects": 38,
}
NONE = dict.fromkeys(BLOCK) | {"success_5cm": 0.0, "valid": 0.0, "objects": 38}
WAY = {
    "root_aligned_cm": 6.28,
    "procrustes_cm": 4.3,
    "absolute_cm": 18.4,
    "absolute_cm_median": 15.0,
    "fitted": 1.0,
    "cpu_seconds": 0.38,
}
SHARES = {"top1": 0.641, "top5": 0.744, "chance": {"top1": 0.04, "top5": 0.186}}
REPORTS = {
    "reconstruct": {
        **BLOCK,
        "scenes": 31,
        "split": "test",
        "resting": {**BLOCK, "objects": 7, "penetration_cm": 1.55},
        "variants": {"no_contact": {**BLOCK, "chamfer_cm": 17.9, "chamfer_of_main": 0.247}, "released_energy": NONE},
    },
    "bodies": {
        "scenes": 100,
        "split": "test",
        **dict.fromkeys(("keypoints", "keypoints_and_up", "keypoints_and_depth"), WAY),
        "tracked": {"fitted": 0.0},
    },
    "retrieval": {
        "objects": 78,
        "scenes": 60,
        "split": "test",
        "instances": 8,
        **dict.fromkeys(("category", "instance", "shape"), SHARES),
    },
}


def test_every_figure_stands_in_its_row():
    text = scene_section(REPORTS, "docs/results")
    assert "| **this package** | 4.4 | 1.3 | 13 | 3.1 | 0.012 | 0.88 | 0.91 | 0.84 | 0.97 | 1.50 |" in text
    assert "| no contact term (distance from apparent size) | 17.9 |" in text
    assert "objects sat or lain on (7) | 4.4 | 1.3 | 13 | 3.1 | 0.012 | 1.55 |" in text
    assert "0.25 times" in text
    assert "| keypoints | 6.3 | 4.3 | 18.4 | 15.0 | 1.00 | 0.38 |" in text
    assert "| the category, among all meshes | 0.64 | 0.74 | 0.04 | 0.19 |" in text


def test_what_could_not_be_measured_is_a_dash():
    text = scene_section(REPORTS, "docs/results")
    assert "| released energy with its constants | – | – | – | – | – | – | – | 0.00 | 0.00 | – |" in text
    assert "| from the last frame's fit | – | – | – | – | 0.00 | – |" in text


def test_what_was_not_measured_says_how():
    text = scene_section({}, "docs/results")
    for run in SCENE_RUNS:
        assert f"### {run.title}" in text
        assert f"--json docs/results/{run.name}.json" in text
    assert "--task reconstruct --scenes 100 --contacts predicted --masks ground-truth" in text
    assert "--task bodies --scenes 100 --json" in text
