"""SAM's encoder from scratch: taught to say what the fixed views show, then frozen.

The views of the body and of the library's objects never change, so the encoder needs no scene: it learns, pixel by
pixel, which body part is seen and where on the mesh it lies. That is what a mask decoder has to know of a view.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, smooth_l1_loss

from ivlm_core.bodies import PART_NAMES
from ivlm_core.localize import Localizer
from ivlm_core.localize.photo import sam_pixels
from ivlm_core.train.views import TaughtViews

TILE = 4


def teach_encoder(
    localizer: Localizer,
    body: TaughtViews,
    part_labels: np.ndarray,
    things: Sequence[TaughtViews],
    steps: int,
    seed: int,
    learning_rate: float = 1e-3,
) -> float:
    """Train the encoder on the views, in place.

    Parameters
    ----------
    body : the body's views; part_labels : (V,) its parts. things : views of objects, one of them in every other step.

    Returns
    -------
    the last loss.
    """
    if steps == 0:
        return float("nan")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        width = localizer.prompt_encoder.no_mask_embed.weight.shape[1]
        head = nn.Linear(width, TILE * TILE * (len(PART_NAMES) + 3)).to(localizer.device)
    random = np.random.default_rng(seed)
    parameters = [*localizer.image_encoder.parameters(), *head.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=learning_rate, betas=(0.9, 0.98), weight_decay=0.01)
    loss = torch.zeros(())
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * min(1.0, (step + 1) / 10, 1.05 - step / steps)
        if things and step % 2:
            loss = _loss(localizer, head, things[int(random.integers(len(things)))], None)
        else:
            loss = _loss(localizer, head, body, part_labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
    return float(loss.detach())


def _loss(localizer: Localizer, head: nn.Module, views: TaughtViews, labels: np.ndarray | None) -> Tensor:
    """How far the encoder is from saying part and place of what it sees."""
    pack = views.pack
    embedded = localizer.image_encoder(sam_pixels(pack.images).to(localizer.device))  # (J, D, h, w)
    count, _, height, width = embedded.shape
    told = head(embedded.permute(0, 2, 3, 1)).reshape(count, height, width, TILE, TILE, -1)
    told = told.permute(0, 1, 3, 2, 4, 5).reshape(count * height * width * TILE * TILE, -1)
    pixels, real = views.valid
    told = told[pixels.flatten()[torch.from_numpy(real.flatten())].to(told.device)]
    vertices = pack.mesh.vertices
    place = (vertices - vertices.mean(axis=0)) / max(1e-9, float(np.abs(vertices - vertices.mean(axis=0)).max()))
    painting = views.painting[pixels.flatten().numpy()[real.flatten()]]
    target = torch.from_numpy(np.asarray(painting @ place, dtype=np.float32)).to(told.device)
    loss = 10.0 * smooth_l1_loss(told[:, -3:].float(), target, beta=0.1)
    if labels is not None:
        shown = np.asarray(painting @ np.eye(len(PART_NAMES), dtype=np.float32)[labels]).argmax(axis=1)
        loss = loss + 0.3 * cross_entropy(told[:, :-3].float(), torch.from_numpy(shown).to(told.device))
    return loss
