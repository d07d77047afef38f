"""What is taught at the end of a run: contact of the library's objects, from contact embeddings alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ivlm_core.evaluate.metrics import affordance_scores
from ivlm_core.localize.object_branch import ObjectBranch
from ivlm_core.train.taught_objects import Examples, similarity, teach_objects

COUNT, DIM, VERTICES = 300, 24, 40


def examples(seed: int) -> Examples:
    """Objects that are touched at one end or at the other, as a number far from zero says."""
    random = np.random.default_rng(seed)
    embeddings = random.normal(50.0, 3.0, size=(COUNT, DIM)).astype(np.float32)
    contact = np.zeros((COUNT, VERTICES), np.uint8)
    left = embeddings[:, 0] > 50.0
    contact[left, :8] = 255
    contact[~left, -8:] = 255
    return Examples(embeddings, contact)


def statistics(found: Examples) -> tuple[np.ndarray, np.ndarray]:
    share = found.contact / np.float32(255)
    _, deviations, directions = np.linalg.svd(share - share.mean(axis=0), full_matrices=False)
    return share.mean(axis=0), (directions[:2] * deviations[:2, None] / COUNT**0.5).astype(np.float32)


def taught(seed: int, found: Examples, steps: int = 400) -> tuple[ObjectBranch, float]:
    torch.manual_seed(5)
    branch = ObjectBranch(DIM, 2, {"chair": VERTICES, "cup": 12, "bed": VERTICES + 1})
    told = {"bed": found, "chair": found}  # the bed is another mesh than the branch was made for
    return branch, teach_objects(branch, told, {"chair": statistics(found)}, steps, seed)


def test_it_learns_which_end_from_embeddings_as_they_come() -> None:
    found = examples(0)
    branch, reached = taught(0, found)
    others = examples(1)
    said = branch("chair", torch.from_numpy(others.embeddings)).numpy()
    scores = affordance_scores(said.astype(float), others.contact / 255)
    mean = np.broadcast_to(statistics(found)[0], said.shape)
    assert scores.sim.mean() > 0.85
    assert reached > 0.85
    assert affordance_scores(mean.astype(float), others.contact / 255).sim.mean() < 0.6
    assert not any(item.requires_grad for item in branch.head("chair").parameters())
    assert not branch.training


def test_the_same_seed_gives_the_same_and_other_categories_stay() -> None:
    found = examples(0)
    first, again, other = (taught(seed, found, steps=5)[0] for seed in (0, 0, 1))
    for name, value in first.state_dict().items():
        torch.testing.assert_close(value, again.state_dict()[name], rtol=0, atol=0)
    assert not torch.equal(first.head("chair").inner.weight, other.head("chair").inner.weight)
    torch.manual_seed(5)
    untaught = ObjectBranch(DIM, 2, {"chair": VERTICES, "cup": 12, "bed": VERTICES + 1})
    for label in ("cup", "bed"):
        for name, value in untaught.head(label).state_dict().items():
            torch.testing.assert_close(value, first.head(label).state_dict()[name], rtol=0, atol=0)


def test_nothing_to_learn_from_leaves_the_branch() -> None:
    branch = ObjectBranch(DIM, 2, {"chair": VERTICES})
    before = {name: value.clone() for name, value in branch.state_dict().items()}
    assert np.isnan(teach_objects(branch, {}, {}, 10, 0))
    for name, value in branch.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)


@pytest.mark.parametrize("count", [1, 3])
def test_a_category_of_few_answers_can_be_learned(count: int) -> None:
    found = Examples(*(values[:count] for values in examples(0)))
    branch, reached = taught(0, found, steps=50)
    assert np.isfinite(reached)
    assert torch.isfinite(branch("chair", torch.from_numpy(found.embeddings))).all()


def test_similarity_is_the_metric() -> None:
    random = np.random.default_rng(0)
    said, truth = random.random((5, 30)), random.random((5, 30)) * (random.random((5, 30)) < 0.3)
    ours = similarity(torch.from_numpy(said), torch.from_numpy(truth)).numpy()
    np.testing.assert_allclose(ours, affordance_scores(said, truth).sim, atol=1e-5)
