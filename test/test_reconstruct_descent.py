"""Adam on batches of poses: finds what is to be found, keeps the best it saw, and survives what is not a number."""

from __future__ import annotations

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from ivlm_core.reconstruct.descent import PATIENCE, Descent, Journal, Rates
from ivlm_core.reconstruct.pose import DEPTH, encode

CENTRE = np.array([0.1, 0.0, -0.1])
CORNERS = torch.tensor([[x, y, z] for x in (-0.2, 0.2) for y in (-0.1, 0.1) for z in (-0.3, 0.3)], dtype=torch.float64)


def parameters(count: int, degrees: float = 0.0, metres: float = 0.0) -> torch.Tensor:
    rng = np.random.default_rng(1)
    axes = rng.normal(size=(count, 3))
    axes /= np.linalg.norm(axes, axis=1, keepdims=True)
    turns = Rotation.from_rotvec(np.radians(degrees) * axes).as_matrix()
    shifts = np.array([0.2, 0.1, 2.0]) + metres * rng.normal(size=(count, 3))
    return torch.from_numpy(encode(turns, shifts, np.ones(count), CENTRE))


def placed(rotation: torch.Tensor, translation: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    return scale[:, None, None] * (CORNERS @ rotation.transpose(1, 2)) + translation[:, None]


def to_truth(journal: Journal) -> tuple[Descent, object]:
    descent = Descent(CENTRE, None, journal)
    truth = placed(*descent.decode(parameters(1)))
    return descent, lambda *pose: ((placed(*pose) - truth) ** 2).sum(-1).mean(-1).sqrt()


def test_poses_come_back_from_40_degrees_and_20_centimetres():
    journal = Journal()
    descent, score = to_truth(journal)
    found = descent.run(parameters(6, 40.0, 0.2), score, 120, Rates().tensor())
    assert (found.energies < 0.02).all()
    assert journal.steps <= 120


def test_the_best_is_kept_even_if_steps_lead_away():
    descent, score = to_truth(Journal())
    begun = parameters(2)
    found = descent.run(begun, score, 10, Rates().tensor(30.0))
    torch.testing.assert_close(found.parameters, begun)
    torch.testing.assert_close(found.energies, score(*descent.decode(begun)))


def test_no_progress_ends_the_stage():
    journal = Journal()
    descent = Descent(CENTRE, None, journal)
    descent.run(parameters(2), lambda turn, shift, scale: shift[:, 0] * 0.0 + 1.0, 100, Rates().tensor())
    assert journal.steps == PATIENCE + 1


def test_poses_that_are_not_numbers_do_not_spoil_the_others():
    descent, score = to_truth(Journal())
    start = parameters(3, 20.0, 0.05)

    def broken(*pose: torch.Tensor) -> torch.Tensor:
        return score(*pose) * torch.tensor([1.0, torch.nan, 1.0], dtype=torch.float64)

    found = descent.run(start, broken, 60, Rates().tensor())
    assert torch.isinf(found.energies[1])
    assert (found.energies[[0, 2]] < 0.02).all()
    assert found.best(1).energies[0] < 0.02


def test_nothing_runs_away():
    # An energy that falls the nearer and the further: depths stay within what a picture can tell.
    descent = Descent(CENTRE, None, Journal())
    for sign in (1.0, -1.0):
        found = descent.run(
            parameters(1), lambda turn, shift, scale, s=sign: s * torch.log(shift[:, 2].abs()), 300, Rates().tensor(50)
        )
        assert torch.isfinite(found.parameters).all()
        assert -4.0 <= float(found.parameters[0, DEPTH]) <= 6.0


def test_the_leader_is_noted_on_request():
    journal = Journal(keep_trace=True)
    descent, score = to_truth(journal)
    descent.run(parameters(4, 30.0, 0.1), score, 30, Rates().tensor())
    assert len(journal.trace) == journal.steps
    energies = [
        float(score(torch.tensor(p.rotation)[None], torch.tensor(p.translation)[None], torch.tensor([p.scale])))
        for p in journal.trace
    ]
    assert energies == sorted(energies, reverse=True)


def test_best_of_a_batch_in_order():
    descent, score = to_truth(Journal())
    batch = descent.scored(torch.cat([parameters(1, 30.0), parameters(1), parameters(1, 10.0)]), score)
    best = batch.best(2)
    torch.testing.assert_close(best.parameters, torch.cat([parameters(1), parameters(1, 10.0)]))
