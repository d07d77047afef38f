"""The training loop: the same run whether or not it was interrupted."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from ivlm_core.bodies import load_body
from ivlm_core.checkpoints import build_model
from ivlm_core.config import Profile
from ivlm_core.errors import ConfigError, IvlmError
from ivlm_core.objects import library_mesh, normalize_for_views
from ivlm_core.reason import ContactTokenizer, attach_lora
from ivlm_core.render import HUMAN_VIEWS, OBJECT_VIEWS, load_or_build_view_pack
from ivlm_core.storage import ArrayCache
from ivlm_core.train.conversation import Conversation
from ivlm_core.train.learner import Batch, Learner, move_batch
from ivlm_core.train.monitor import Monitor, plain_weights
from ivlm_core.train.recipe import Recipe, Stage, recipe_as_dict
from ivlm_core.train.samples import Sample, TrainingSet
from ivlm_core.train.start import Start, is_sight
from ivlm_core.train.state import (
    RunState,
    checkpoints,
    load_state,
    optimizer_tensors,
    restore_optimizer,
    save_state,
)
from ivlm_core.train.taught_encoder import teach_encoder
from ivlm_core.train.taught_objects import object_examples, teach_objects
from ivlm_core.train.views import TaughtViews

log = logging.getLogger("ivlm.train")

# Batches in a row without a finite loss after which a run is given up.
MOST_BAD_STEPS = 25


class Trainer:
    """One training run in one folder.

    Parameters
    ----------
    profile, recipe : what is trained, and how.
    data : the scenes in memory. validation : records that free generation is measured on.
    out : the folder of the run: checkpoints, logs, pictures.
    device : where it runs. deepspeed : a DeepSpeed configuration, for several GPUs.
    say : takes the log lines.
    start : what the run begins with instead of random numbers; the recipe is given its digest.
    """

    def __init__(
        self,
        profile: Profile,
        recipe: Recipe,
        data: TrainingSet,
        validation: Sequence[Any],
        out: Path,
        device: str = "cpu",
        deepspeed: Path | None = None,
        say: Callable[[str], None] = print,
        start: Start | None = None,
    ) -> None:
        from accelerate import Accelerator
        from accelerate.utils import DeepSpeedPlugin, DistributedDataParallelKwargs

        if len(data) == 0:
            raise ConfigError(
                "--data", "holds no scene of the split train", "generate scenes first: `ivlm synth generate`"
            )
        if profile.lora.rank:
            # The image encoder stays as it is: pictures alone would teach it nothing.
            recipe = replace(recipe, answers_from=0.0)
        recipe = replace(recipe, start=start.digest if start is not None else "")
        self._start = start
        self._count = max(1, round(recipe.data_fraction * len(data)))
        self._chosen = np.random.default_rng([recipe.seed, 2]).permutation(len(data))[: self._count]
        if self._count < len(data):
            # What is left out is never seen, by the starting values and class weights neither.
            data, self._chosen = data.subset(self._chosen), np.arange(self._count)
        profile = with_meshes(profile, data.labels if recipe.contact and recipe.object_passes else ())
        self.profile, self.recipe, self.data, self.out, self._say = profile, recipe, data, out, say
        precision = "bf16" if device.startswith("cuda") else "no"
        plugin = DeepSpeedPlugin(hf_ds_config=str(deepspeed)) if deepspeed else None
        # Told to use the CPU, accelerate would leave DeepSpeed out.
        self._accelerator = Accelerator(
            cpu=device == "cpu" and plugin is None,
            mixed_precision=precision,
            deepspeed_plugin=plugin,
            # Until answers and masks join, what they need gets no gradient.
            kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
        )
        self._sharded = deepspeed is not None
        self.tokenizer = ContactTokenizer(tokens=profile.tokens)
        self.monitor = Monitor(
            replace(profile, generation=replace(profile.generation, guided=False)),
            self.tokenizer,
            validation,
            out,
            "parts" if recipe.style.name_parts else "direct",
            recipe.style.name_object,
        )
        # Runs of different seeds begin with different random numbers.
        self.model = build_model(replace(profile, seed=profile.seed + recipe.seed), self.tokenizer, empty=False)
        cache = ArrayCache()
        self._body = TaughtViews(
            load_or_build_view_pack(load_body().mesh, HUMAN_VIEWS, profile.sam.image_size, "normals", cache), profile
        )
        near = {name: replace(spec, distance=profile.views.object_distance) for name, spec in OBJECT_VIEWS.items()}
        self._things = {
            label: TaughtViews(
                load_or_build_view_pack(
                    normalize_for_views(library_mesh(label)), near, profile.sam.image_size, "positions", cache
                ),
                profile,
            )
            for label in data.labels
        }
        self.learner = Learner(self.model, recipe, data, self._body, self._things)
        self._conversation = Conversation(self.tokenizer, recipe.style)
        self.step, self.seconds = 0, 0.0
        self._stage: Stage = "pictures"
        self._bad_steps = 0
        self._named: dict[str, nn.Parameter] = {}
        self._average: dict[str, Tensor] = {}
        self._writer: Any = None

    def run(
        self,
        resume: bool = False,
        validate_minutes: float = 8.0,
        save_minutes: float = 5.0,
        log_seconds: float = 30.0,
    ) -> dict[str, Any]:
        """Train to the end, from the last checkpoint with `resume`.

        Returns
        -------
        the last validation's scores, with `steps`, `seconds` and `pictures_per_second`.

        Raises
        ------
        ConfigError : the folder holds another run. CheckpointError : a damaged checkpoint.
        IvlmError : the loss stays NaN or infinite.
        """
        self._prepare(resume)
        recipe = self.recipe
        parameters = [parameter for parameter in self.learner.parameters() if parameter.requires_grad]
        validated = saved = self.seconds
        told, told_step, sums = time.monotonic(), self.step, dict[str, float]()
        scores: dict[str, float] = {}
        self.learner.train()
        while (progress := recipe.progress(self.step, self.seconds)) < 1.0:
            start = time.monotonic()
            rate = recipe.rate(self.step, progress)
            self._stage = recipe.stage(progress)
            batch = move_batch(self._batch(self.step), self._accelerator.device)
            for name, loss in self._learn(batch, rate, parameters).items():
                sums[name] = sums.get(name, 0.0) + float(loss.detach())
            self.step += 1
            self.seconds += time.monotonic() - start
            if time.monotonic() - told >= log_seconds:
                count = self.step - told_step
                self._log(
                    {name: value / count for name, value in sums.items()},
                    rate,
                    count * recipe.batch / (time.monotonic() - told),
                )
                told, told_step, sums = time.monotonic(), self.step, {}
            if self.seconds - validated >= 60 * validate_minutes and self._stage != "pictures":
                scores = self._validate()
                validated = self.seconds
            if self.seconds - saved >= 60 * save_minutes:
                self._save()
                saved = self.seconds
        self._save()
        with torch.no_grad():
            for name, value in self._average.items():
                self._named["model." + name].copy_(value)
        self.teach_objects()
        scores = self._validate()
        if self._writer is not None:
            self._writer.close()
        speed = self.step * recipe.batch / max(1e-9, self.seconds)
        return {**scores, "steps": self.step, "seconds": self.seconds, "pictures_per_second": speed}

    def _learn(self, batch: Batch, rate: float, parameters: list[nn.Parameter]) -> dict[str, Tensor]:
        """One step of the optimizer; its losses."""
        for group in self._optimizer.param_groups:
            group["lr"] = rate * group["share"]
        losses: dict[str, Tensor] = self._prepared(batch, self._stage)
        self._bad_steps += 1
        if bool(torch.isfinite(losses["total"].detach())):
            self._accelerator.backward(losses["total"])
            norm = self._accelerator.clip_grad_norm_(parameters, self.recipe.clip)
            if norm is None or bool(torch.isfinite(torch.as_tensor(norm))):
                self._optimizer.step()
                self._average_weights()
                self._bad_steps = 0
        self._optimizer.zero_grad()
        if self._bad_steps > MOST_BAD_STEPS:
            raise IvlmError(
                "loss",
                f"is not finite since step {self.step + 1 - MOST_BAD_STEPS}",
                "resume with a lower learning rate",
            )
        return losses

    def teach_objects(self) -> float:
        """Let the branch of objects learn from what the model, as it is now, says of the scenes; SIM on these."""
        recipe, branch = self.recipe, self.learner.localizer.object_branch
        if branch is None:
            return float("nan")
        started = time.monotonic()
        conversation = Conversation(self.tokenizer, replace(recipe.style, part_dropout=0.0, rename=0.0))
        random = np.random.default_rng([recipe.seed, 4])
        self.learner.eval()
        with self._accelerator.autocast():
            examples = object_examples(
                self.learner, self._object_samples(random), conversation, random, recipe.batch, self._accelerator.device
            )
        statistics = self.data.library_statistics(branch.rank, seed=recipe.seed)
        similarity = teach_objects(branch, examples, statistics, recipe.object_steps, recipe.seed)
        self._say(
            f"objects taught from {sum(len(found.embeddings) for found in examples.values())} answers in "
            f"{(time.monotonic() - started) / 60:.1f} min, SIM on them {similarity:.3f}"
        )
        self.seconds += time.monotonic() - started
        return similarity

    def _object_samples(self, random: np.random.Generator) -> Iterator[Sample]:
        """Each picture as it is, then, in the passes that follow, varied copies."""
        count, how = self.recipe.object_passes * self._count, self.recipe.variation
        for number in tqdm(range(count), desc="objects", unit=" pictures", disable=None):
            index = int(self._chosen[number % self._count])
            yield (self.data.plain(index) if number < self._count else self.data.varied(index, random, how))

    def weights(self) -> dict[str, Tensor]:
        """The model's tensors as they are validated and exported: running means, adapters merged into the weights."""
        lora = self.profile.lora
        return plain_weights(self.model, self._average, lora.alpha / max(1, lora.rank))

    def _prepare(self, resume: bool) -> None:
        """Everything before the first step: encoder, starting values, optimizer, and what a checkpoint holds."""
        recipe = self.recipe
        folder = self.out / "checkpoints"
        state = None
        found = checkpoints(folder)
        if found and not resume:
            raise ConfigError("--out", f"{self.out} holds a run already", "give --resume, or another folder")
        if found:
            state = load_state(found[-1])
            if state.notes["recipe"] != json.loads(json.dumps(recipe_as_dict(recipe))):
                raise ConfigError("--resume", "with other settings than the run has", "repeat its own options")
            self.learner.load_state_dict(dict(state.weights))
            self.step, self.seconds = state.step, state.seconds
            self._say(f"resumed at step {self.step}, {self.seconds / 60:.1f} minutes")
        localizer = self.learner.localizer
        if state is None:
            torch.manual_seed(recipe.seed)
            if self._start is not None:
                self.model.load_state_dict(dict(self._start.tensors), strict=False)
            branch = localizer.vertex_branch
            if branch is not None:
                branch.start_from(*self.data.contact_statistics(branch.basis.shape[1], seed=recipe.seed))
            if recipe.masks and recipe.encoder_steps and self._start is None:
                started = time.monotonic()
                loss = teach_encoder(
                    localizer,
                    self._body,
                    load_body().part_labels,
                    list(self._things.values()),
                    recipe.encoder_steps,
                    recipe.seed,
                )
                self.seconds += time.monotonic() - started
                self._say(f"encoder taught the views in {time.monotonic() - started:.0f} s, loss {loss:.3f}")
        localizer.image_encoder.requires_grad_(False)
        localizer.prompt_encoder.requires_grad_(False)
        if localizer.object_branch is not None:
            # It learns at the end, by itself.
            localizer.object_branch.requires_grad_(False)
        if recipe.masks:
            for views in [self._body, *self._things.values()]:
                views.embedding = localizer.encode_views(views.pack.images).clone()
        self._freeze_large()
        if recipe.frozen_sight:
            for name, parameter in self.model.named_parameters():
                parameter.requires_grad_(parameter.requires_grad and not is_sight(name))
        device = self._accelerator.device
        self.learner.to(device)
        named = {name: item for name, item in self.learner.named_parameters() if item.requires_grad}
        groups: dict[tuple[float, float], list[nn.Parameter]] = {}
        begun = {f"model.{name}" for name in self._start.tensors} if self._start is not None else set()
        for name, item in named.items():
            decay = recipe.weight_decay if item.ndim >= 2 and not _free_of_decay(name) else 0.0
            groups.setdefault((decay, recipe.start_rate if name in begun else 1.0), []).append(item)
        optimizer = torch.optim.AdamW(
            [{"params": items, "weight_decay": decay, "share": share} for (decay, share), items in groups.items()],
            lr=recipe.learning_rate,
            betas=(0.9, 0.98),
            fused=not self._sharded,
        )
        self._average = {
            name.removeprefix("model."): item.detach().clone()
            for name, item in named.items()
            if name.startswith("model.")
        }
        if state is not None:
            restore_optimizer(optimizer, named, state.optimizer)
            self._average = {name: value.to(device) for name, value in state.average.items()}
            torch.set_rng_state(state.random)
        self._named = named
        if self._sharded:
            self._accelerator.state.deepspeed_plugin.deepspeed_config["train_micro_batch_size_per_gpu"] = max(
                1, recipe.batch // self._accelerator.num_processes
            )
        self._prepared, self._optimizer = self._accelerator.prepare(self.learner, optimizer)
        self._open_log()
        if state is None:
            trained = sum(item.numel() for item in named.values())
            self._say(
                f"{self._count} scenes, {trained / 1e6:.1f} M parameters in training, "
                f"{torch.get_num_threads()} threads, device {device}"
            )
            if self.monitor.records:
                self._say(f"category prior on validation: F1 {self.monitor.prior_f1(self.data.category_prior()):.3f}")

    def _freeze_large(self) -> None:
        """With adapters, only they and the new parts learn: image encoder and language model stay."""
        if not self.profile.lora.rank:
            return
        reasoner = self.learner.reasoner
        reasoner.llava = attach_lora(reasoner.llava, self.profile.lora).base_model.model
        for name, parameter in reasoner.llava.named_parameters():
            parameter.requires_grad_("lora_" in name or "embed_tokens" in name or "lm_head" in name)

    def _batch(self, step: int) -> Any:
        """The batch of a step: a function of the seed and the step alone, so that a resumed run sees the same."""
        recipe, rank = self.recipe, self._accelerator.process_index
        first = step * recipe.batch
        indices = []
        for place in range(first, first + recipe.batch):
            epoch, within = divmod(place, self._count)
            indices.append(int(self._order(epoch)[within]))
        indices = indices[rank :: self._accelerator.num_processes]
        random = np.random.default_rng([recipe.seed, step, rank, 1])
        samples = [self.data.varied(index, random, recipe.variation) for index in indices]
        return self.learner.batch(samples, self._conversation, random)

    def _order(self, epoch: int) -> np.ndarray:
        if getattr(self, "_ordered", (-1, None))[0] != epoch:
            order = np.random.default_rng([self.recipe.seed, epoch, 3]).permutation(self._count)
            self._ordered = (epoch, self._chosen[order])
        return self._ordered[1]

    @torch.no_grad()
    def _average_weights(self) -> None:
        decay = min(self.recipe.average, (1 + self.step) / (10 + self.step))
        live = [self._named["model." + name].detach() for name in self._average]
        torch._foreach_lerp_(list(self._average.values()), live, 1 - decay)

    def _save(self) -> None:
        if not self._accelerator.is_main_process:
            return
        names = {id(item): name for name, item in self._named.items()}
        # A sharded optimizer is not saved: a resumed run starts its moments anew.
        inner = {} if self._sharded else optimizer_tensors(self._optimizer.optimizer, names)
        state = RunState(
            self.step,
            self.seconds,
            self.learner.state_dict(),
            self._average,
            inner,
            torch.get_rng_state(),
            {"recipe": recipe_as_dict(self.recipe), "profile": self.profile.name},
        )
        try:
            save_state(self.out / "checkpoints", state)
        except OSError as error:
            log.warning("no checkpoint could be written (%s): training goes on, the last one stays", error)

    def _validate(self) -> dict[str, float]:
        if not (self.monitor.records and self._accelerator.is_main_process):
            return {}
        started = time.monotonic()
        picture = self.out / "pictures" / f"step-{self.step:07d}.png"
        scores = self.monitor.validate(self.weights(), picture, self._stage == "masks")
        described = " ".join(f"{name} {value:.3f}" for name, value in scores.items())
        self._say(f"step {self.step} validation ({time.monotonic() - started:.0f} s): {described}")
        self._record({f"validation/{name}": value for name, value in scores.items()})
        if self._writer is not None and picture.is_file():
            import cv2

            image = cv2.imread(str(picture))
            if image is not None:
                self._writer.add_image("validation", image[:, :, ::-1].copy(), self.step, dataformats="HWC")
        return scores

    def _log(self, losses: dict[str, float], rate: float, speed: float) -> None:
        described = " ".join(f"{name} {value:.3f}" for name, value in losses.items() if value)
        self._say(
            f"step {self.step} {self.seconds / 60:.1f} min {100 * self.recipe.progress(self.step, self.seconds):.0f} % "
            f"{speed:.1f} pictures/s rate {rate:.1e} {described}"
        )
        self._record({f"loss/{name}": value for name, value in losses.items()} | {"rate": rate, "speed": speed})

    def _record(self, values: dict[str, float]) -> None:
        if not self._accelerator.is_main_process:
            return
        line = json.dumps({"step": self.step, "seconds": round(self.seconds, 1), **values})
        with (self.out / "log.jsonl").open("a", encoding="utf-8") as stream:
            stream.write(line + "\n")
        if self._writer is not None:
            for name, value in values.items():
                self._writer.add_scalar(name, value, self.step)

    def _open_log(self) -> None:
        self.out.mkdir(parents=True, exist_ok=True)
        if not self._accelerator.is_main_process:
            return
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            log.warning("tensorboard is not installed: the run is logged in log.jsonl alone")
            return
        self._writer = SummaryWriter(str(self.out / "tensorboard"))


def _free_of_decay(name: str) -> bool:
    return any(part in name for part in ("embed", "basis", "token", "norm"))


def with_meshes(profile: Profile, labels: Sequence[str]) -> Profile:
    """The profile whose branch of objects, if it has one, knows the library's meshes of some labels."""
    if not (profile.localize.object_branch and labels):
        return replace(profile, localize=replace(profile.localize, object_branch=0))
    counts = tuple(len(library_mesh(label).vertices) for label in labels)
    localize = replace(profile.localize, object_branch_labels=tuple(labels), object_branch_vertices=counts)
    return replace(profile, localize=localize)
