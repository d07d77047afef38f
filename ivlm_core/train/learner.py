"""The model with everything that only training needs: auxiliary heads, targets, and the loss of a batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from ivlm_core.bodies import PART_NAMES
from ivlm_core.localize import Localizer
from ivlm_core.reason import Reasoner
from ivlm_core.reason.prompts import SYSTEM
from ivlm_core.train.conversation import Conversation, Exchange
from ivlm_core.train.objective import LossGroup, combined_loss
from ivlm_core.train.packing import PackedBatch, pack, packed_states
from ivlm_core.train.recipe import Recipe, Stage
from ivlm_core.train.samples import CELL, FIRST_LABEL, IGNORED_CLASS, Sample, TrainingSet
from ivlm_core.train.views import TaughtViews

# Width of the keys and queries by which a state says where in the picture it looks.
POINTER_WIDTH = 48


@dataclass(frozen=True, eq=False)
class Batch:
    """B pictures with their questions and targets.

    Attributes
    ----------
    pixels : (B, 3, S, S). packed : the questions. classes : (B, c, c) int64. joints : (B, J).
    places : (Q, c · c) where in the picture the contact that is asked about lies, summing to one; zeros for none. For a
        recipe without contact, where the object is.
    labels : (Q,) int64 number of the object that is asked about, −1 where it has none.
    sides : Q sides of the exchanges. contacts : (Q, V) bool, of the exchange's object.
    things : Q of (label, contact on the library's mesh).
    """

    pixels: Tensor
    packed: PackedBatch
    classes: Tensor
    joints: Tensor
    places: Tensor
    labels: Tensor
    sides: tuple[str, ...]
    contacts: np.ndarray
    things: tuple[tuple[str, np.ndarray], ...]


class AuxiliaryHeads(nn.Module):
    """What every patch shows, cell by cell, where the joints are, and where a state or a name looks; in training only.

    Parameters
    ----------
    width : D of the patch features. cells : cells along a patch's side. classes, joints, labels : how many.
    """

    def __init__(self, width: int, cells: int, classes: int, joints: int, labels: int) -> None:
        super().__init__()
        self.cells = cells
        self.norm = nn.LayerNorm(width)
        self.classes = nn.Linear(width, cells * cells * classes)
        self.joints = nn.Linear(width, cells * cells * joints)
        self.keys = nn.Linear(width, cells * cells * POINTER_WIDTH)
        self.state_norm = nn.LayerNorm(width)
        self.query = nn.Linear(width, POINTER_WIDTH)
        self.names = nn.Embedding(labels, POINTER_WIDTH)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """(B, P, D) → (B, classes, c, c) and (B, joints, c·c) logits, c cells along the picture."""
        normed = self.norm(features)
        return self._cells(self.classes(normed)), self._cells(self.joints(normed)).flatten(2)

    def looks(self, features: Tensor, states: Tensor, rows: Tensor) -> Tensor:
        """(B, P, D) patches, (Q, D) states about the pictures `rows` (Q,) → (Q, c·c) logits of where they look."""
        return self._pointed(features, self.query(self.state_norm(states)), rows)

    def named(self, features: Tensor, labels: Tensor, rows: Tensor) -> Tensor:
        """(B, P, D) patches, (Q,) objects in the pictures `rows` → (Q, c·c) logits of where they are touched."""
        return self._pointed(features, self.names(labels), rows)

    def _pointed(self, features: Tensor, query: Tensor, rows: Tensor) -> Tensor:
        keys = self._cells(self.keys(self.norm(features))).flatten(2)  # (B, d, c·c)
        return torch.bmm(query[:, None] / POINTER_WIDTH**0.5, keys[rows])[:, 0]

    def _cells(self, values: Tensor) -> Tensor:
        """(B, h·w, n·n·C) → (B, C, h·n, w·n)."""
        batch, patches, _ = values.shape
        side, cells = round(patches**0.5), self.cells
        grid = values.reshape(batch, side, side, cells, cells, -1)
        return grid.permute(0, 5, 1, 3, 2, 4).reshape(batch, -1, side * cells, side * cells)


class Learner(nn.Module):
    """A model in training. Called with a `Batch` it gives the weighted losses, `total` among them.

    Parameters
    ----------
    model : reasoner and localizer, as `build_model` makes them.
    recipe : losses.
    data : says which classes and joints there are.
    body : the body's views; things : label → the views of its library mesh.
    """

    class_weights: Tensor

    def __init__(
        self,
        model: nn.ModuleDict,
        recipe: Recipe,
        data: TrainingSet,
        body: TaughtViews,
        things: Mapping[str, TaughtViews],
    ) -> None:
        super().__init__()
        self.model = model
        self.recipe = recipe
        self.body, self.things = body, dict(things)
        profile = self.reasoner.profile
        cells = profile.vision.patch_size // CELL
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(recipe.seed + 1)
            self.auxiliary = AuxiliaryHeads(
                profile.language.hidden_size, cells, data.class_count, data.joint_count, len(data.labels)
            )
        self._numbers = {label: number for number, label in enumerate(data.labels)}
        self.register_buffer("class_weights", torch.from_numpy(data.class_weights(data.class_count)), persistent=False)
        tokenizer = self.reasoner.tokenizer
        self._before = [tokenizer.bos, *tokenizer.encode(SYSTEM + " USER:"), tokenizer.image_start]

    @property
    def reasoner(self) -> Reasoner:
        return self.model["reason"]  # type: ignore[return-value]

    @property
    def localizer(self) -> Localizer:
        return self.model["localize"]  # type: ignore[return-value]

    def batch(
        self,
        samples: Sequence[Sample],
        conversation: Conversation,
        random: np.random.Generator,
        side: str | None = None,
    ) -> Batch:
        """Choose the questions about some pictures and put everything together; those of one side alone, if given."""
        profile = self.reasoner.profile
        exchanges: list[list[Exchange]] = []
        contacts, things, sides, places, labels = [], [], [], [], []
        cells = (profile.vision.image_size // CELL) ** 2
        for sample in samples:
            asked = [(number, "human") for number in range(len(sample.facts))]
            others = [(number, "object") for number in range(len(sample.facts))]
            random.shuffle(others)
            asked += others[: max(0, self.recipe.questions - len(asked))]
            if side is not None:
                asked = [(number, side) for number in range(len(sample.facts))]
            row = []
            for number, side in asked:
                fact = sample.facts[number]
                if not self.recipe.contact:
                    # Whether anything touches it is a label, too.
                    fact = replace(fact, parts=PART_NAMES[:1])
                row.append(conversation.exchange(fact, side, random, len(sample.facts) == 1))
                sides.append(side)
                contacts.append(sample.contacts[number])
                shown = sample.places[number] if self.recipe.contact else self._object_cells(sample, number)
                place = np.bincount(shown, minlength=cells)
                places.append((place / max(1, place.sum())).astype(np.float32))
                things.append((sample.facts[number].label, sample.things[number]))
                labels.append(self._numbers.get(sample.facts[number].label, -1))
            exchanges.append(row)
        patches = (profile.vision.image_size // profile.vision.patch_size) ** 2
        packed = pack(
            exchanges,
            len(self._before),
            patches,
            self.reasoner.tokenizer.image_end,
            profile.language.max_positions,
        )
        classes = torch.from_numpy(np.stack([sample.classes for sample in samples]).astype(np.int64))
        return Batch(
            pixels=torch.from_numpy(np.stack([sample.pixels for sample in samples])),
            packed=packed,
            classes=classes,
            joints=torch.from_numpy(np.stack([sample.joints for sample in samples])),
            places=torch.from_numpy(np.stack(places)),
            labels=torch.tensor(labels),
            sides=tuple(sides),
            contacts=np.stack(contacts),
            things=tuple(things),
        )

    def _object_cells(self, sample: Sample, number: int) -> np.ndarray:
        """The cells of a picture that show one of its objects."""
        known = self._numbers.get(sample.facts[number].label)
        return np.flatnonzero(sample.classes == FIRST_LABEL + known) if known is not None else np.zeros(0, np.int64)

    def forward(self, batch: Batch, stage: Stage = "masks") -> dict[str, Tensor]:
        """The losses of a batch.

        Parameters
        ----------
        stage : what takes part.

        Returns
        -------
        name → scalar, weighted; `total` is their sum.
        """
        reasoner, packed = self.reasoner, batch.packed
        llava = reasoner.llava
        pixels = batch.pixels.to(memory_format=torch.channels_last)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.recipe.frozen_sight):
            features = reasoner.image_features(pixels)  # (B, P, D)
        losses = self._auxiliary_losses(features, batch)
        if stage == "pictures":
            if self.recipe.pointer:
                losses["pointer"] = self.recipe.pointer * self._named_loss(features, batch)
            losses["total"] = torch.stack([loss.float() for loss in losses.values()]).sum()
            return losses
        states = self._states(features, packed)  # (B, W, D)
        if self.recipe.pointer:
            losses["pointer"] = self.recipe.pointer * self._pointer_loss(features, states, batch)
        if not self.recipe.contact:
            losses["total"] = torch.stack([loss.float() for loss in losses.values()]).sum()
            return losses
        answer = _answer_loss(llava.lm_head(states), packed)
        embeddings = self._embeddings(states, packed)
        sides = np.array([batch.sides[number] for number in packed.query.tolist()])
        # Sparse products and logarithms of small numbers want single precision whatever the rest is in.
        with torch.autocast(features.device.type, enabled=False):
            losses |= self._contact_losses(embeddings.float(), sides, batch, answer, stage == "masks")
        losses["total"] = torch.stack([loss.float() for loss in losses.values()]).sum()
        return losses

    def embeddings(self, batch: Batch) -> Tensor:
        """The contact embeddings (K, D) of a batch's answers, in the order of `packed.query`."""
        features = self.reasoner.image_features(batch.pixels.to(memory_format=torch.channels_last))
        return self._embeddings(self._states(features, batch.packed), batch.packed)

    def _states(self, features: Tensor, packed: PackedBatch) -> Tensor:
        """(B, P, D) patches → (B, W, D) states of the tokens that are wanted."""
        llava = self.reasoner.llava
        embed = llava.get_input_embeddings()
        words = torch.tensor([self._before], device=features.device)
        rest = torch.cat([features, embed(packed.ids).to(features.dtype)], dim=1)
        return packed_states(llava.model.language_model, embed(words), rest, packed)

    def _embeddings(self, states: Tensor, packed: PackedBatch) -> Tensor:
        """(B, W, D) states → (K, D) contact embeddings."""
        return self.reasoner.projection(states[packed.states[:, 0], packed.states[:, 1]])

    def _auxiliary_losses(self, features: Tensor, batch: Batch) -> dict[str, Tensor]:
        if self.recipe.frozen_sight:
            return {}
        classes, joints = self.auxiliary(features)
        found = cross_entropy(
            classes.float(),
            batch.classes,
            self.class_weights,
            ignore_index=IGNORED_CLASS,
        )
        placed = cross_entropy(joints.float().flatten(0, 1), batch.joints.flatten(), ignore_index=-1)
        return {"classes": self.recipe.classes * found, "joints": self.recipe.joints * placed}

    def _named_loss(self, features: Tensor, batch: Batch) -> Tensor:
        """How far the patches are from saying where each object is touched, without any words."""
        known = torch.nonzero(batch.labels >= 0)[:, 0]
        rows = batch.packed.openings[known, 0]
        looks = self.auxiliary.named(features, batch.labels[known], rows)
        return placed_loss(looks, batch.places[known])

    def _pointer_loss(self, features: Tensor, states: Tensor, batch: Batch) -> Tensor:
        """How far the states that answers begin from, and those that contact comes from, are from knowing the place."""
        packed = batch.packed
        chosen = torch.cat([packed.openings, packed.states])
        target = torch.cat([batch.places, batch.places[packed.query]])
        looks = self.auxiliary.looks(features, states[chosen[:, 0], chosen[:, 1]], chosen[:, 0])
        return placed_loss(looks, target)

    def _contact_losses(
        self, embeddings: Tensor, sides: np.ndarray, batch: Batch, answer: Tensor, masks: bool
    ) -> dict[str, Tensor]:
        recipe, localizer, query = self.recipe, self.localizer, batch.packed.query.numpy()
        human = np.flatnonzero(sides == "human")
        chosen = torch.from_numpy(human).to(embeddings.device)
        contact = batch.contacts[query[human]]  # (K, V)
        lifted, groups = None, []
        if masks and len(human):
            drawn = localizer(
                embeddings[chosen],
                self.body.pack.camera_parameters,
                _embedding(self.body, embeddings),
                "human",
                patches=self.body.patches,
            )
            lifted = self.body.lifter(drawn)
            groups.append(self._group(self.body, drawn, contact, lifted))
        # The decoder of objects begins early: it has twenty meshes to learn, and the embeddings name them soon.
        most = recipe.objects_per_step if masks else recipe.early_objects if recipe.masks else 0
        groups += self._object_groups(embeddings if masks else embeddings.detach(), sides, batch, most)
        terms = combined_loss(groups, recipe.loss, answer, samples_without_mask=0)
        losses = {
            name: getattr(terms, name) for name in ("focal", "dice", "heat_map", "human_3d", "affordance_3d", "token")
        }
        if localizer.vertex_branch is not None and len(human):
            # What MV-Loc gives is taken as it is: it is taught by the paper's losses alone.
            base = lifted.detach() if lifted is not None else None
            logits = localizer.vertex_branch.logits(embeddings[chosen], base).float()
            truth = torch.from_numpy(contact.astype(np.float32)).to(logits.device)
            entropy = binary_cross_entropy_with_logits(logits, truth)
            losses["branch_entropy"] = recipe.branch_entropy * entropy
            losses["branch_dice"] = recipe.branch_dice * _soft_dice(torch.sigmoid(logits), truth).mean()
        return losses

    def _group(self, views: TaughtViews, drawn: Tensor, contact: np.ndarray, lifted: Tensor) -> LossGroup:
        """The body's masks against what its views show of the contact."""
        recipe = self.recipe
        target = views.whole_targets(contact) if recipe.whole_masks else views.targets(contact)
        masks = drawn if recipe.whole_masks else views.seen(drawn)
        truth = torch.from_numpy(contact.astype(np.float32)).to(drawn.device)
        return LossGroup(
            "human_contact",
            masks,
            target.to(drawn.device),
            (lambda _: lifted) if recipe.mesh_loss else None,
            truth if recipe.mesh_loss else None,
        )

    def _object_groups(self, embeddings: Tensor, sides: np.ndarray, batch: Batch, most: int) -> list[LossGroup]:
        """The masks of at most `most` objects of the batch."""
        groups: list[LossGroup] = []
        for number in np.flatnonzero(sides == "object").tolist():
            label, contact = batch.things[int(batch.packed.query[number])]
            if len(groups) == most:
                break
            views = self.things.get(label)
            if views is None:
                continue
            drawn = self.localizer(
                embeddings[number : number + 1],
                views.pack.camera_parameters,
                _embedding(views, embeddings),
                "object",
                patches=views.patches,
            )
            lifted = views.lifter(drawn)
            truth = contact[None]
            target = views.whole_targets(truth) if self.recipe.whole_masks else views.targets(truth)
            masks = drawn if self.recipe.whole_masks else views.seen(drawn)
            groups.append(_heat_group(masks, target, lifted, truth, self.recipe.mesh_loss))
        return groups


def _heat_group(masks: Tensor, target: Tensor, lifted: Tensor, truth: np.ndarray, mesh_loss: bool) -> LossGroup:
    values = torch.from_numpy(truth.astype(np.float32)).to(masks.device)
    return LossGroup(
        "object_affordance",
        torch.sigmoid(masks),
        target.to(masks.device),
        (lambda _: lifted) if mesh_loss else None,
        values if mesh_loss else None,
    )


def placed_loss(looks: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy of (Q, c·c) logits against distributions; rows of zeros do not count."""
    each = -(target * torch.log_softmax(looks.float(), dim=1)).sum(1)
    return each.sum() / (target.sum(1) > 0).sum().clamp(min=1)


def _answer_loss(logits: Tensor, packed: PackedBatch) -> Tensor:
    """Cross-entropy of the answers' tokens, weighted."""
    each = cross_entropy(logits.float().flatten(0, 1), packed.targets.flatten(), reduction="none")
    weights = packed.weights.flatten()
    return (each * weights).sum() / weights.sum().clamp(min=1.0)


def _soft_dice(probability: Tensor, truth: Tensor) -> Tensor:
    """(K, V) → (K,) one minus the soft F1."""
    shared = (probability * truth).sum(1)
    return 1.0 - (2.0 * shared + 1.0) / (probability.sum(1) + truth.sum(1) + 1.0)


def _embedding(views: TaughtViews, like: Tensor) -> Tensor:
    if views.embedding is None:
        raise RuntimeError("the views have not been encoded")
    return views.embedding.to(like.device, like.dtype)


def move_batch(batch: Batch, device: torch.device) -> Batch:
    """The batch with its tensors on a device; the numbers of the exchanges stay, they are looked up on the host."""

    def moved(item: Any, names: Sequence[str]) -> Any:
        return replace(item, **{name: getattr(item, name).to(device) for name in names})

    packed = moved(batch.packed, ("ids", "positions", "mask", "wanted", "targets", "weights", "states", "openings"))
    return moved(replace(batch, packed=packed), ("pixels", "classes", "joints", "places", "labels"))
