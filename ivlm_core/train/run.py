"""`train`: a whole run from a dataset on disk to a checkpoint directory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ivlm_core.config import VisionConfig, load_profile
from ivlm_core.errors import ConfigError
from ivlm_core.train.export import export_model, shipped_profile
from ivlm_core.train.recipe import Recipe, apply_variants
from ivlm_core.train.samples import TrainingSet
from ivlm_core.train.start import Start, read_trained
from ivlm_core.train.trainer import Trainer


def read_training_set(data: Path, vision: VisionConfig) -> TrainingSet:
    """The split `train` of a generated dataset, in memory, as an image encoder takes it.

    Raises
    ------
    IvlmError : no dataset, or a damaged shard.
    """
    from ivlm_core.datasets.synthetic import SynthHoi

    scenes = SynthHoi(data, "train", depth=False)
    # The labels in the order of the alphabet, so that the auxiliary classes are the same for every order of the scenes.
    labels = sorted({label for index in range(len(scenes)) for label, _ in scenes.objects(index)})
    samples = TrainingSet(vision, labels)
    samples.extend(tqdm(scenes, desc="reading scenes", unit=" scenes", total=len(scenes)))
    return samples


def train(
    data: Path,
    out: Path,
    profile: str | Path = "tiny",
    changes: Mapping[str, Any] | None = None,
    variants: tuple[str, ...] = (),
    device: str = "auto",
    resume: bool = False,
    export: Path | None = None,
    validation: int = 150,
    validate_minutes: float = 8.0,
    save_minutes: float = 5.0,
    deepspeed: Path | None = None,
    say: Callable[[str], None] = print,
    samples: TrainingSet | None = None,
    start: Start | None = None,
) -> dict[str, Any]:
    """Train on the split `train` of a generated dataset, validated on its split `val`.

    Parameters
    ----------
    data : the dataset's folder. out : the run's folder.
    changes : fields of `Recipe` that differ; None keeps the default. With `minutes` alone the run ends by time.
    variants : names of `VARIANTS`.
    export : where the trained model is written, for `Pipeline.load`; one that was exported there is replaced.
    validation : scenes to validate on, 0 for none.
    samples : what `read_training_set` made of `data` and `profile`; None to read it.
    start : what `read_start` took of a trained model, to begin with.

    Returns
    -------
    the last validation's scores with `steps`, `seconds`, `pictures_per_second`, and `weights_bytes` with `export`.

    Raises
    ------
    IvlmError : no dataset, a damaged shard or checkpoint, another run in the folder, values out of range.
    """
    import torch

    from ivlm_core.datasets.synthetic import SynthHoi

    _check_export(export)
    given = {name: value for name, value in (changes or {}).items() if value is not None}
    if "minutes" in given and "steps" not in given:
        given["steps"] = 0
    sizes, recipe = apply_variants(variants, load_profile(profile), replace(Recipe(), **given))
    checked = SynthHoi(data, "val", depth=False) if validation else None
    if samples is None:
        samples = read_training_set(data, sizes.vision)
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    records = [checked[index] for index in range(min(validation, len(checked)))] if checked is not None else []
    trainer = Trainer(sizes, recipe, samples, records, out, device, deepspeed, say, start)
    summary = trainer.run(resume, validate_minutes, save_minutes)
    if export is not None:
        profile_of_run = shipped_profile(trainer.profile)
        summary["weights_bytes"] = export_model(export, profile_of_run, trainer.weights(), trainer.tokenizer)
    return summary


def train_objects(
    model: str,
    data: Path,
    export: Path,
    changes: Mapping[str, Any] | None = None,
    device: str = "auto",
    say: Callable[[str], None] = print,
    samples: TrainingSet | None = None,
) -> dict[str, Any]:
    """Teach a trained model the meshes of the built-in library anew, as the last part of a run does, and nothing else.

    Parameters
    ----------
    model : the name of a shipped model, or the directory of an exported one; it stays as it is.
    data, export, changes, device, samples : see `train`.

    Returns
    -------
    `sim` of what the model says of the scenes that taught it, `seconds` and `weights_bytes`.

    Raises
    ------
    IvlmError : no dataset or trained model, damaged ones, values out of range.
    """
    import torch

    _check_export(export)
    trained, weights = read_trained(model, "--objects-of")
    given = {name: value for name, value in (changes or {}).items() if value is not None}
    recipe = replace(Recipe(), **given)
    rank = trained.localize.object_branch or load_profile("tiny").localize.object_branch
    if samples is None:
        samples = read_training_set(data, trained.vision)
    profile = replace(trained, localize=replace(trained.localize, object_branch=rank))
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    trainer = Trainer(profile, recipe, samples, [], export, device, say=say)
    kept = {name: value for name, value in weights.items() if ".object_branch." not in name}
    trainer.model.load_state_dict(kept, strict=False)
    trainer.learner.to(device)
    similarity = trainer.teach_objects()
    size = export_model(export, shipped_profile(trainer.profile), trainer.weights(), trainer.tokenizer)
    return {"sim": similarity, "seconds": trainer.seconds, "weights_bytes": size}


def _check_export(export: Path | None) -> None:
    if export is not None and export.exists() and not (export / "manifest.json").is_file():
        raise ConfigError("--export", f"{export} exists and is no exported model", "choose a new directory")
