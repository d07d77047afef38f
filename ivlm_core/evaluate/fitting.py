"""Training of the baselines: the pictures, variations, auxiliary targets and losses that the model itself has."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ivlm_core.bodies import load_body
from ivlm_core.config import Profile
from ivlm_core.evaluate.baselines import (
    FREE_THRESHOLD,
    SIDES,
    EmbeddingModel,
    Kind,
    PictureEncoder,
    VertexModel,
    make_baseline,
)
from ivlm_core.evaluate.priors import Priors, Touched, best_threshold, f1_by_threshold, gather
from ivlm_core.objects import library_mesh, normalize_for_views
from ivlm_core.render import HUMAN_VIEWS, OBJECT_VIEWS, load_or_build_view_pack
from ivlm_core.storage import ArrayCache
from ivlm_core.train import LossGroup, Recipe, combined_loss
from ivlm_core.train.learner import AuxiliaryHeads, placed_loss
from ivlm_core.train.samples import CELL, IGNORED_CLASS, Sample, TrainingSet
from ivlm_core.train.start import read_start
from ivlm_core.train.state import (
    RunState,
    checkpoints,
    load_state,
    optimizer_tensors,
    restore_optimizer,
    save_state,
)
from ivlm_core.train.taught_encoder import teach_encoder
from ivlm_core.train.views import TaughtViews

if TYPE_CHECKING:
    from ivlm_core.datasets.synthetic import SceneRecord

# Share of the labels that are hidden, so that there is an answer for categories never seen.
HIDDEN_LABELS = 0.1
THRESHOLD_PICTURES = 1000
# Where the image encoder is in what is trained.
TOWER = "encoder.tower."
# Seconds between checkpoints.
SAVED_SECONDS = 180.0

Progress = Callable[[int, int, float], None]


@dataclass(frozen=True)
class Budget:
    """How long a baseline trains; by default as many pictures as `tiny` has seen.

    Attributes
    ----------
    taught : pictures that the encoder sees alone, before and the same for all baselines. pictures : seen after that.
    batch : pictures in a step. learning_rate : the highest. warm_up : share of the steps until it is reached.
    weight_decay, average, seed : as in `Recipe`.
    start : digest of the trained image encoder that the baselines begin with (`trained_sight`), empty for one that is
        taught first. start_rate : share of the rate with which it learns on; what is new has all of it.
    """

    taught: int = 45_600
    pictures: int = 74_400
    batch: int = 12
    learning_rate: float = 8e-4
    warm_up: float = 0.02
    weight_decay: float = 0.03
    average: float = 0.999
    seed: int = 0
    start: str = ""
    start_rate: float = 0.25

    @classmethod
    def of(cls, pictures: int) -> Budget:
        """So many pictures in all, divided as by default."""
        taught = round(pictures * cls.taught / (cls.taught + cls.pictures))
        return cls(taught=taught, pictures=pictures - taught)

    @property
    def mean(self) -> float:
        """`average`, or less where that would remember too much of a short training's beginning."""
        return max(0.0, min(self.average, 1.0 - 20.0 * self.batch / self.pictures))


@dataclass(frozen=True, eq=False)
class TrainingData:
    """Scenes in memory: pictures for the encoder, contacts for priors."""

    pictures: TrainingSet
    touched: Touched


def gather_training(
    records: Iterable[SceneRecord], profile: Profile, labels: Sequence[str] | None = None
) -> TrainingData:
    """Take pictures and contacts out of records.

    Parameters
    ----------
    labels : categories that the auxiliary heads tell apart; None for all that training scenes may show.
    """
    if labels is None:
        from ivlm_core.datasets.synthetic.programs.compose import CATEGORIES
        from ivlm_core.datasets.synthetic.split import UNSEEN

        labels = [name for name in CATEGORIES if name not in UNSEEN]
    pictures = TrainingSet(profile.vision, labels)

    def passing() -> Iterable[SceneRecord]:
        for record in records:
            pictures.extend([record])
            yield record

    touched = gather(passing())
    return TrainingData(pictures, touched)


class _Sight(nn.Module):
    """An image encoder with the auxiliary heads of the model's own training."""

    def __init__(self, encoder: PictureEncoder, profile: Profile, data: TrainingSet, recipe: Recipe) -> None:
        super().__init__()
        self.encoder, self.recipe = encoder, recipe
        cells = profile.vision.patch_size // CELL
        width = profile.vision.hidden_size
        self.auxiliary = AuxiliaryHeads(width, cells, data.class_count, data.joint_count, len(data.labels))
        self.class_weights: Tensor
        self.register_buffer("class_weights", torch.from_numpy(data.class_weights(data.class_count)), persistent=False)
        self._numbers = {label: number for number, label in enumerate(data.labels)}
        self._cells = (profile.vision.image_size // CELL) ** 2

    def forward(self, samples: Sequence[Sample]) -> tuple[Tensor, Tensor]:
        """The patches (B, P, D) of some pictures, and the loss of what they say about them."""
        patches = self.encoder(torch.from_numpy(np.stack([sample.pixels for sample in samples])))
        classes, joints = self.auxiliary(patches)
        wanted = torch.from_numpy(np.stack([sample.classes for sample in samples]).astype(np.int64))
        places = torch.from_numpy(np.stack([sample.joints for sample in samples]))
        loss = self.recipe.classes * cross_entropy(classes, wanted, self.class_weights, ignore_index=IGNORED_CLASS)
        # A mean over no joint at all would be no number.
        if bool((places >= 0).any()):
            found = cross_entropy(joints.flatten(0, 1), places.flatten(), ignore_index=-1)
            loss = loss + self.recipe.joints * found
        return patches, loss + self.recipe.pointer * self._pointer_loss(patches, samples)

    def _pointer_loss(self, patches: Tensor, samples: Sequence[Sample]) -> Tensor:
        asked = [
            (row, self._numbers[fact.label], np.bincount(cells, minlength=self._cells) / max(1, len(cells)))
            for row, sample in enumerate(samples)
            for fact, cells in zip(sample.facts, sample.places, strict=True)
            if fact.label in self._numbers
        ]
        if not asked:
            return patches.new_zeros(())
        rows, labels, targets = zip(*asked, strict=True)
        looks = self.auxiliary.named(patches, torch.tensor(labels), torch.tensor(rows))
        return placed_loss(looks, torch.from_numpy(np.stack(targets).astype(np.float32)))


def teach_sight(
    data: TrainingData,
    profile: Profile,
    budget: Budget | None = None,
    progress: Progress | None = None,
    store: Path | None = None,
) -> dict[str, Tensor]:
    """Teach an image encoder what pictures show, as the first part of the model's own training does.

    Parameters
    ----------
    store : folder of checkpoints, from which an interrupted call goes on; None for none.

    Returns
    -------
    its weights and those of the auxiliary heads, for `fit_baseline`.
    """
    budget = budget or Budget()
    recipe = Recipe(seed=budget.seed)
    torch.manual_seed(budget.seed)
    sight = _Sight(PictureEncoder(profile.vision), profile, data.pictures, recipe).train()
    rng = np.random.default_rng([budget.seed, 5])

    def loss(samples: Sequence[Sample], done: float) -> Tensor:
        return sight(samples)[1]

    kept = None if store is None else _Kept(store / "sight", _settings_of("sight", data, profile, budget))
    _learn(sight, loss, data.pictures, budget, budget.taught, rng, progress, 0.5, kept=kept)
    return {name: value.detach().clone() for name, value in sight.state_dict().items()}


def trained_sight(source: str, profile: Profile) -> tuple[dict[str, Tensor], str]:
    """The image encoder of a trained model, for `fit_baseline`, and 16 hex digits of what the model is.

    Parameters
    ----------
    source : the name of a shipped model, or the directory of an exported one. profile : its sizes.

    Raises
    ------
    ConfigError : no such model, a damaged one, or one of other sizes.
    """
    start = read_start(source, profile)
    tower = "reason.llava.model.vision_tower."
    taken = {name.removeprefix(tower): value for name, value in start.tensors.items() if name.startswith(tower)}
    return {f"{TOWER}{name}": value for name, value in taken.items()}, start.digest


def fit_baseline(
    kind: Kind,
    data: TrainingData,
    priors: Priors,
    profile: Profile,
    budget: Budget | None = None,
    progress: Progress | None = None,
    sight: Mapping[str, Tensor] | None = None,
    store: Path | None = None,
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Train a baseline.

    Parameters
    ----------
    progress : called with pictures seen, pictures in all and the running loss.
    sight : what `teach_sight` or `trained_sight` gave, with which its encoder begins; None for random numbers. What it
        lacks, auxiliary heads and the attention over the patches, begins with random numbers.
    store : folder of checkpoints, from which an interrupted call goes on; None for none.

    Returns
    -------
    Weights, the running mean of those of the last steps; and what they took: `pictures`, `seconds`, `loss`, the
    `threshold` that is best on training pictures, and `categories`.
    """
    budget = budget or Budget()
    recipe = Recipe(seed=budget.seed)
    torch.manual_seed(budget.seed)
    model = make_baseline(kind, profile, priors)
    trainee = _Sight(model.encoder, profile, data.pictures, recipe)
    if sight is not None:
        trainee.load_state_dict({**trainee.state_dict(), **sight})
    everything = nn.ModuleList([model, trainee]).train()
    started = time.perf_counter()
    if isinstance(model, EmbeddingModel):
        views: _Views | None = _Views(model, profile, data.pictures, recipe)
    else:
        views = None
        _start_basis(model, data.pictures, budget.seed)
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(budget.mean))
    rng = np.random.default_rng([budget.seed, 7])
    # Masks join as late as in the model's own training, of which the encoder's share is over.
    masks_from = max(0.0, (recipe.masks_from - recipe.answers_from) / (1.0 - recipe.answers_from))

    def loss(samples: Sequence[Sample], done: float) -> Tensor:
        patches, seen = trainee(samples)
        return seen + _loss(model, views, patches, samples, priors, recipe, rng, masks=done >= masks_from)

    kept = (
        None if store is None else _Kept(store / kind, _settings_of(f"{kind}, {sight is None}", data, profile, budget))
    )
    running = _learn(
        everything, loss, data.pictures, budget, budget.pictures, rng, progress, average=(average, model), kept=kept
    )
    best: Any = average.module.eval()
    about = {
        **asdict(budget),
        "taught": budget.taught if sight is not None and not budget.start else 0,
        "seconds": round(kept.seconds if kept is not None else time.perf_counter() - started),
        "loss": running,
        "threshold": _choose_threshold(best, views, data.pictures, priors),
        "categories": list(priors.categories),
        "scenes": len(data.pictures),
    }
    if kind == "deco_style":
        about[FREE_THRESHOLD] = _choose_threshold(best, views, data.pictures, priors, label_free=True)
    return {name: value.detach().clone() for name, value in best.state_dict().items()}, about


def _learn(
    module: nn.Module,
    loss_of: Callable[[Sequence[Sample], float], Tensor],
    data: TrainingSet,
    budget: Budget,
    pictures: int,
    rng: np.random.Generator,
    progress: Progress | None,
    last: float = 0.02,
    average: tuple[AveragedModel, nn.Module] | None = None,
    kept: _Kept | None = None,
) -> float:
    """Descend for a number of pictures; the running loss at the end.

    Parameters
    ----------
    loss_of : the loss of some pictures at a share of the run. last : the rate's last share.
    average : a running mean and what it is the mean of. kept : where checkpoints are.
    """
    recipe = Recipe()
    learning = {name: item for name, item in module.named_parameters() if item.requires_grad}
    parameters = list(learning.values())
    begun = {name for name in learning if budget.start and TOWER in name}
    groups = [
        {
            "params": [item for name, item in learning.items() if (item.ndim >= 2, name in begun) == (matrix, old)],
            "weight_decay": budget.weight_decay if matrix else 0.0,
            "share": budget.start_rate if old else 1.0,
        }
        for matrix in (True, False)
        for old in (False, True)
    ]
    optimizer = torch.optim.AdamW([group for group in groups if group["params"]], betas=(0.9, 0.98))
    steps = max(1, pictures // budget.batch)
    order = np.concatenate([rng.permutation(len(data)) for _ in range(pictures // len(data) + 1)])
    running, begin = 0.0, 0
    mean = average[0] if average is not None else None
    if kept is not None:
        begin, running = kept.restore(module, optimizer, mean, rng)
        # Whoever watches sees where it goes on, or that it is done.
        if progress is not None and begin:
            progress(begin * budget.batch, steps * budget.batch, running)
    for step in range(begin, steps):
        done = step / steps
        cosine = last + (1 - last) * 0.5 * (1 + math.cos(math.pi * done))
        for group in optimizer.param_groups:
            warm = min(1.0, (step + 1) / max(1.0, budget.warm_up * steps))
            group["lr"] = group["share"] * budget.learning_rate * cosine * warm
        chosen = order[step * budget.batch : (step + 1) * budget.batch]
        loss = loss_of([data.varied(int(index), rng, recipe.variation) for index in chosen], done)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, recipe.clip)
        optimizer.step()
        if average is not None:
            average[0].update_parameters(average[1])
        running = float(loss.detach()) if step == 0 else 0.98 * running + 0.02 * float(loss.detach())
        if progress is not None:
            progress((step + 1) * budget.batch, steps * budget.batch, running)
        if kept is not None:
            kept.save(step + 1, step + 1 == steps, module, optimizer, mean, rng, running)
    return running


class _Kept:
    """Checkpoints of one training, written every few minutes and at its end.

    Parameters
    ----------
    folder : theirs. settings : what decides the result; checkpoints of other settings are not gone on from.
    """

    def __init__(self, folder: Path, settings: str) -> None:
        self._folder, self._settings = folder, settings
        self._started = self._written = time.monotonic()
        self._before = 0.0

    @property
    def seconds(self) -> float:
        """What the training has taken, before interruptions and now."""
        return self._before + time.monotonic() - self._started

    def restore(
        self,
        module: nn.Module,
        optimizer: torch.optim.Optimizer,
        mean: AveragedModel | None,
        rng: np.random.Generator,
    ) -> tuple[int, float]:
        """Put the last checkpoint back: steps done, and the running loss; 0 and 0 where there is none."""
        found = checkpoints(self._folder)
        if not found:
            return 0, 0.0
        state = load_state(found[-1])
        if state.notes["settings"] != self._settings:
            return 0, 0.0
        module.load_state_dict(dict(state.weights))
        restore_optimizer(optimizer, dict(module.named_parameters()), state.optimizer)
        if mean is not None:
            mean.load_state_dict(dict(state.average))
        torch.set_rng_state(state.random)
        rng.bit_generator.state = state.notes["rng"]
        self._before = state.seconds
        return state.step, float(state.notes["running"])

    def save(
        self,
        step: int,
        last: bool,
        module: nn.Module,
        optimizer: torch.optim.Optimizer,
        mean: AveragedModel | None,
        rng: np.random.Generator,
        running: float,
    ) -> None:
        """Write a checkpoint, if it is time to."""
        if not last and time.monotonic() - self._written < SAVED_SECONDS:
            return
        notes = {"settings": self._settings, "running": running, "rng": rng.bit_generator.state}
        names = {id(parameter): name for name, parameter in module.named_parameters()}
        means = mean.state_dict() if mean is not None else {}
        tensors = optimizer_tensors(optimizer, names)
        # The folder is of this training alone: what other settings left there would hide it.
        for old in checkpoints(self._folder):
            if load_state(old).notes["settings"] != self._settings:
                shutil.rmtree(old, ignore_errors=True)
        save_state(
            self._folder,
            RunState(step, self.seconds, module.state_dict(), means, tensors, torch.get_rng_state(), notes),
            keep=1,
        )
        self._written = time.monotonic()


def _settings_of(what: str, data: TrainingData, profile: Profile, budget: Budget) -> str:
    """16 hex digits of everything that decides a training's result."""
    pictures, seen = data.pictures, hashlib.sha256()
    # Some of the scenes speak for all: other labels of contact, or other pictures, change them, too.
    for index in np.unique(np.linspace(0, len(pictures) - 1, min(64, len(pictures))).astype(int)):
        sample = pictures.plain(int(index))
        seen.update(np.ascontiguousarray(sample.pixels).tobytes())
        for values in (sample.contacts, *sample.things):
            seen.update(np.ascontiguousarray(values).tobytes())
    told = [what, len(pictures), seen.hexdigest(), asdict(profile), asdict(budget), asdict(Recipe())]
    return hashlib.sha256(json.dumps(told, sort_keys=True, default=str).encode()).hexdigest()[:16]


class _Views:
    """The fixed views of body and objects, encoded once by a localizer that was taught them."""

    def __init__(self, model: EmbeddingModel, profile: Profile, data: TrainingSet, recipe: Recipe) -> None:
        localizer, cache, size = model.localizer, ArrayCache(), profile.sam.image_size
        near = {name: replace(spec, distance=profile.views.object_distance) for name, spec in OBJECT_VIEWS.items()}
        body = load_body()
        self.body = TaughtViews(load_or_build_view_pack(body.mesh, HUMAN_VIEWS, size, "normals", cache), profile)
        self.things = {
            label: TaughtViews(
                load_or_build_view_pack(normalize_for_views(library_mesh(label)), near, size, "positions", cache),
                profile,
            )
            for label in data.labels
        }
        if localizer.vertex_branch is not None:
            rank = localizer.vertex_branch.basis.shape[1]
            localizer.vertex_branch.start_from(*data.contact_statistics(rank, seed=recipe.seed))
        teach_encoder(
            localizer, self.body, body.part_labels, list(self.things.values()), recipe.encoder_steps, recipe.seed
        )
        localizer.image_encoder.requires_grad_(False)
        localizer.prompt_encoder.requires_grad_(False)
        for views in (self.body, *self.things.values()):
            views.embedding = localizer.encode_views(views.pack.images).clone()


def _loss(
    model: VertexModel | EmbeddingModel,
    views: _Views | None,
    patches: Tensor,
    samples: Sequence[Sample],
    priors: Priors,
    recipe: Recipe,
    rng: np.random.Generator,
    masks: bool,
) -> Tensor:
    """The loss of a batch's contacts."""
    if isinstance(model, EmbeddingModel):
        assert views is not None
        return _embedding_loss(model, views, patches, samples, priors, recipe, rng, masks)
    if model.kind == "deco_style":
        truth, present = _all_categories(samples, priors)
        logits = model.every(patches)
        entropy = binary_cross_entropy_with_logits(logits, truth, reduction="none").mean(-1)
        contact = recipe.branch_dice * _dice(logits[present], truth[present])
        return contact + recipe.branch_entropy * (entropy[present].mean() + entropy[~present].mean())
    owner, labels, truth = _questions(samples, priors, rng)
    return _vertex_loss(model(patches, owner, labels), truth, recipe)


def _embedding_loss(
    model: EmbeddingModel,
    views: _Views,
    patches: Tensor,
    samples: Sequence[Sample],
    priors: Priors,
    recipe: Recipe,
    rng: np.random.Generator,
    masks: bool,
) -> Tensor:
    """What the model's own training asks of MV-Loc and of the vertex branch."""
    localizer = model.localizer
    owner, labels, truth = _questions(samples, priors, rng)
    embeddings = model(patches, owner, labels, torch.full_like(labels, SIDES.index("human")))
    groups, lifted = [], None
    if masks:
        drawn = _draw(localizer, views.body, embeddings, "human")
        lifted = views.body.lifter(drawn)
        made = lifted
        target = views.body.targets(truth.numpy())
        groups.append(LossGroup("human_contact", views.body.seen(drawn), target, lambda _: made, truth))
        groups += _object_groups(model, views, patches, samples, priors, recipe, rng)
    loss = patches.new_zeros(())
    if groups:
        loss = loss + combined_loss(groups, recipe.loss).total
    if localizer.vertex_branch is not None:
        base = lifted.detach() if lifted is not None else None
        loss = loss + _vertex_loss(localizer.vertex_branch.logits(embeddings, base), truth, recipe)
    return loss


def _object_groups(
    model: EmbeddingModel,
    views: _Views,
    patches: Tensor,
    samples: Sequence[Sample],
    priors: Priors,
    recipe: Recipe,
    rng: np.random.Generator,
) -> list[LossGroup]:
    """The masks of a few objects of the batch."""
    numbers = _numbers(priors)
    places = [(number, item) for number, sample in enumerate(samples) for item in range(len(sample.facts))]
    groups = []
    for place in rng.permutation(len(places))[: recipe.objects_per_step]:
        number, item = places[place]
        label, values = samples[number].facts[item].label, samples[number].things[item][None]
        if label not in views.things:
            continue
        asked = torch.tensor([numbers.get(label, len(numbers))])
        embedding = model(patches, torch.tensor([number]), asked, torch.tensor([SIDES.index("object")]))
        thing = views.things[label]
        drawn = _draw(model.localizer, thing, embedding, "object")
        lifted = thing.lifter(drawn)
        groups.append(_object_group(thing, drawn, lifted, values))
    return groups


def _object_group(thing: TaughtViews, drawn: Tensor, lifted: Tensor, values: NDArray) -> LossGroup:
    truth = torch.from_numpy(values.astype(np.float32))
    return LossGroup(
        "object_affordance", torch.sigmoid(thing.seen(drawn)), thing.targets(values), lambda _: lifted, truth
    )


def _draw(localizer: Any, views: TaughtViews, embeddings: Tensor, side: str) -> Tensor:
    """(K, J, h, w) mask logits."""
    masks: Tensor = localizer(embeddings, views.pack.camera_parameters, views.embedding, side, patches=views.patches)
    return masks


def _questions(
    samples: Sequence[Sample], priors: Priors, rng: np.random.Generator | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Picture (K,), category (K,), contact (K, V) of every object; with a source of chance, some categories hidden."""
    numbers = _numbers(priors)
    owner = torch.tensor([number for number, sample in enumerate(samples) for _ in sample.facts])
    labels = torch.tensor([numbers.get(fact.label, len(numbers)) for sample in samples for fact in sample.facts])
    if rng is not None:
        labels[torch.from_numpy(rng.random(len(labels)) < HIDDEN_LABELS)] = len(numbers)
    truth = torch.from_numpy(np.concatenate([sample.contacts for sample in samples]).astype(np.float32))
    return owner, labels, truth


def _all_categories(samples: Sequence[Sample], priors: Priors) -> tuple[Tensor, Tensor]:
    """(B, C, V) contact of every category in each picture, and (B, C) which are touched there."""
    numbers = _numbers(priors)
    truth = torch.zeros(len(samples), len(numbers), priors.vertex_count)
    for number, sample in enumerate(samples):
        for fact, contact in zip(sample.facts, sample.contacts, strict=True):
            if fact.label in numbers:
                row = truth[number, numbers[fact.label]]
                torch.maximum(row, torch.from_numpy(contact.astype(np.float32)), out=row)
    return truth, truth.any(dim=-1)


def _vertex_loss(logits: Tensor, truth: Tensor, recipe: Recipe) -> Tensor:
    entropy = binary_cross_entropy_with_logits(logits, truth)
    return recipe.branch_entropy * entropy + recipe.branch_dice * _dice(logits, truth)


def _dice(logits: Tensor, truth: Tensor) -> Tensor:
    probability = torch.sigmoid(logits)
    shared = (probability * truth).sum(-1)
    return (1.0 - (2.0 * shared + 1.0) / (probability.sum(-1) + truth.sum(-1) + 1.0)).mean()


def _start_basis(model: VertexModel, data: TrainingSet, seed: int) -> None:
    """Begin with the patterns in which training contacts differ most."""
    basis = model.head.basis
    _, patterns = data.contact_statistics(len(basis), seed=seed)
    with torch.no_grad():
        basis[: len(patterns)] = 8.0 * torch.from_numpy(patterns)


@torch.no_grad()
def _choose_threshold(
    model: VertexModel | EmbeddingModel,
    views: _Views | None,
    data: TrainingSet,
    priors: Priors,
    label_free: bool = False,
) -> float:
    """The threshold that is best on training pictures as they are; `label_free`: where no label is told."""
    scores = []
    for index in np.unique(np.linspace(0, len(data) - 1, min(THRESHOLD_PICTURES, len(data))).astype(int)):
        sample = data.plain(int(index))
        owner, labels, truth = _questions([sample], priors, None)
        if label_free:
            labels = torch.full_like(labels, len(priors.categories))
        patches = model.encoder(torch.from_numpy(sample.pixels)[None])
        if isinstance(model, EmbeddingModel):
            assert views is not None
            embeddings = model(patches, owner, labels, torch.zeros_like(labels))
            contact = views.body.lifter(_draw(model.localizer, views.body, embeddings, "human"))
            if model.localizer.vertex_branch is not None:
                contact = model.localizer.vertex_branch(embeddings, contact)
        else:
            contact = torch.sigmoid(model(patches, owner, labels))
        touched = truth.any(dim=1)
        if touched.any():
            scores.append(f1_by_threshold(contact[touched].numpy(), truth[touched].bool().numpy()))
    return best_threshold(np.concatenate(scores))


def _numbers(priors: Priors) -> dict[str, int]:
    return {name: number for number, name in enumerate(priors.categories)}
