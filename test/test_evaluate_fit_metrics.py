"""The figures of a fit, on placements whose errors are known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from ivlm_core.evaluate.fit_metrics import FitScores, Placed, chamfer_cm, fit_errors, summarize_fits
from ivlm_core.evaluate.symmetry import Symmetry
from ivlm_core.objects import library_mesh

CHAIR = library_mesh("chair")
PLAIN = Symmetry(np.eye(3)[None], np.zeros((0, 3)))
THERE = Placed(CHAIR, np.eye(3), np.array([0.0, 0.2, 2.0]), 1.0)


def test_the_right_pose_has_no_error_but_that_of_sampling() -> None:
    assert fit_errors(THERE, THERE, PLAIN) == {
        "chamfer_cm": 0.0,
        "rotation_deg": pytest.approx(0.0, abs=1e-5),
        "translation_cm": 0.0,
        "scale_error": 0.0,
    }


def test_each_error_is_seen_in_its_own_unit() -> None:
    turned = Placed(CHAIR, Rotation.from_rotvec([0, np.deg2rad(25), 0]).as_matrix(), THERE.translation, 1.1)
    moved = Placed(CHAIR, np.eye(3), THERE.translation + np.array([0, 0, 0.3]), 1.0)
    assert fit_errors(turned, THERE, PLAIN)["rotation_deg"] == pytest.approx(25.0)
    assert fit_errors(turned, THERE, PLAIN)["scale_error"] == pytest.approx(0.1)
    assert fit_errors(moved, THERE, PLAIN)["translation_cm"] == pytest.approx(30.0)


def test_translation_is_that_of_the_middle_whatever_the_meshs_origin() -> None:
    shifted = type(CHAIR)(CHAIR.vertices + np.float32(0.5), CHAIR.faces, "shifted")
    same = Placed(shifted, np.eye(3), THERE.translation - 0.5, 1.0)
    assert fit_errors(same, THERE, PLAIN)["translation_cm"] == pytest.approx(0.0, abs=1e-4)


def test_chamfer_of_two_points_is_their_distance() -> None:
    assert chamfer_cm([[0, 0, 0]], [[0.03, 0.04, 0]]) == pytest.approx(5.0)
    assert chamfer_cm([[0, 0, 0], [1, 0, 0]], [[0, 0, 0]]) == pytest.approx(25.0)


def test_a_fit_without_a_pose_is_no_success_and_spoils_no_mean() -> None:
    good = FitScores(2.0, 10.0, 3.0, 0.1, math.nan, 0.9, True, 1.0)
    bad = FitScores(math.nan, math.nan, math.nan, math.nan, math.nan, math.nan, False, 3.0)
    told = summarize_fits([good, bad, FitScores(8.0, 20.0, 5.0, 0.3, 1.0, 0.7, True, 2.0)])
    assert told["success_5cm"] == pytest.approx(1 / 3)
    assert told["chamfer_cm"] == told["chamfer_median_cm"] == 5.0
    assert told["penetration_cm"] == 1.0
    assert told["valid"] == pytest.approx(2 / 3)
    assert told["seconds_per_object"] == 2.0
    assert summarize_fits([bad])["chamfer_cm"] is None
    assert summarize_fits([])["success_5cm"] is None
