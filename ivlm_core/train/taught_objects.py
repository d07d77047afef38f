"""The branch of objects: taught at the end of a run, from what the finished model says of the scenes.

Everything else stays as it is by then: every picture is read once, and each category learns in seconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from ivlm_core.localize.object_branch import ObjectBranch, ObjectHead
from ivlm_core.train.conversation import Conversation
from ivlm_core.train.learner import Learner, move_batch
from ivlm_core.train.samples import Sample
from ivlm_core.types import ByteArray, FloatArray

# Answers in a step, and what cross-entropy counts beside 1 − SIM: enough to fix the level, which SIM leaves open.
BATCH = 64
ENTROPY = 0.1
LEARNING_RATE = 2e-3
WEIGHT_DECAY = 0.1


class Examples(NamedTuple):
    """Of one category: the contact embeddings (N, D) of answers about it, and contact (N, V) on its mesh, 0…255."""

    embeddings: FloatArray
    contact: ByteArray


@torch.no_grad()
def object_examples(
    learner: Learner,
    samples: Iterable[Sample],
    conversation: Conversation,
    random: np.random.Generator,
    batch: int,
    device: torch.device,
) -> dict[str, Examples]:
    """Ask about every object of some pictures, give the true answers, and keep the contact embeddings, by category."""
    found: dict[str, tuple[list[FloatArray], list[ByteArray]]] = {}
    remaining = iter(samples)
    while chosen := list(islice(remaining, batch)):
        asked = learner.batch(chosen, conversation, random, "object")
        embeddings = learner.embeddings(move_batch(asked, device)).float().cpu().numpy()
        for embedding, query in zip(embeddings, asked.packed.query.tolist(), strict=True):
            label, contact = asked.things[query]
            kept = found.setdefault(label, ([], []))
            kept[0].append(embedding)
            kept[1].append(np.round(255 * contact).astype(np.uint8))
    return {label: Examples(np.stack(rows), np.stack(contacts)) for label, (rows, contacts) in sorted(found.items())}


def teach_objects(
    branch: ObjectBranch,
    examples: Mapping[str, Examples],
    statistics: Mapping[str, tuple[FloatArray, FloatArray]],
    steps: int,
    seed: int,
) -> float:
    """Teach each head of the branch its category, in place.

    Parameters
    ----------
    statistics : label → mean contact and principal directions that the head begins with.
    steps : of each category.

    Returns
    -------
    mean SIM of what the branch then says of the examples and of what is true.
    """
    similarities = []
    branch.train()
    for number, (label, found) in enumerate(examples.items()):
        if not branch.knows(label, found.contact.shape[1]):
            continue
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1000 * seed + number)
            head = branch.head(label).float()
            head.start_from(*statistics[label])
            similarities.append(_teach(head, found, steps))
    branch.eval()
    return float(np.mean(np.concatenate(similarities))) if similarities else float("nan")


def _teach(head: ObjectHead, examples: Examples, steps: int) -> FloatArray:
    """Teach one category; SIM (N,) of its examples afterwards."""
    device = head.bias.device
    embeddings = torch.from_numpy(examples.embeddings).to(device)
    mean, deviation = embeddings.mean(dim=0), embeddings.std(dim=0, unbiased=False) + 1e-6
    standard = (embeddings - mean) / deviation
    parameters = [item.requires_grad_() for item in head.parameters()]
    optimizer = torch.optim.AdamW(parameters, LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, max(2, steps))
    for _ in range(steps):
        rows = torch.randint(len(standard), (min(BATCH, len(standard)),))
        truth = torch.from_numpy(examples.contact[rows.numpy()]).to(device).float() / 255
        logits = head(standard[rows.to(device)])
        apart = (1.0 - similarity(torch.sigmoid(logits), truth)).mean()
        optimizer.zero_grad()
        (apart + ENTROPY * binary_cross_entropy_with_logits(logits, truth)).backward()
        optimizer.step()
        schedule.step()
    head.requires_grad_(False)
    # From now on it takes embeddings as they come.
    inner = head.inner
    inner.weight.div_(deviation)
    inner.bias.sub_(inner.weight @ mean)
    head.eval()
    truth = torch.from_numpy(examples.contact).to(device)
    rows = torch.arange(len(truth)).split(4096)
    return np.concatenate(
        [similarity(torch.sigmoid(head(embeddings[part])), truth[part].float() / 255).cpu().numpy() for part in rows]
    )


def similarity(probability: Tensor, truth: Tensor) -> Tensor:
    """(N, V) → (N,) the affordance metric SIM: what the two share once each sums to one."""
    shares = [values / (values.sum(1, keepdim=True) + 1e-6) for values in (probability, truth)]
    return torch.minimum(*shares).sum(1)
