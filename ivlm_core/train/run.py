"""`train`: a whole run from a dataset on disk to a checkpoint directory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ivlm_core.config import load_profile
from ivlm_core.errors import ConfigError
from ivlm_core.train.export import export_model, shipped_profile
from ivlm_core.train.recipe import Recipe, apply_variants
from ivlm_core.train.samples import TrainingSet
from ivlm_core.train.start import Start
from ivlm_core.train.trainer import Trainer


def read_training_set(data: Path, profile: str | Path = "tiny") -> TrainingSet:
    """The split `train` of a generated dataset, in memory.

    Raises
    ------
    IvlmError : no dataset, or a damaged shard.
    """
    from ivlm_core.datasets.synthetic import SynthHoi

    scenes = SynthHoi(data, "train", depth=False)
    # The labels in the order of the alphabet, so that the auxiliary classes are the same for every order of the scenes.
    labels = sorted({label for index in range(len(scenes)) for label, _ in scenes.objects(index)})
    samples = TrainingSet(load_profile(profile).vision, labels)
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

    if export is not None and export.exists() and not (export / "manifest.json").is_file():
        raise ConfigError("--export", f"{export} exists and is no exported model", "choose a new directory")
    given = {name: value for name, value in (changes or {}).items() if value is not None}
    if "minutes" in given and "steps" not in given:
        given["steps"] = 0
    sizes, recipe = apply_variants(variants, load_profile(profile), replace(Recipe(), **given))
    checked = SynthHoi(data, "val", depth=False) if validation else None
    if samples is None:
        samples = read_training_set(data, profile)
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    records = [checked[index] for index in range(min(validation, len(checked)))] if checked is not None else []
    trainer = Trainer(sizes, recipe, samples, records, out, device, deepspeed, say, start)
    summary = trainer.run(resume, validate_minutes, save_minutes)
    if export is not None:
        summary["weights_bytes"] = export_model(export, shipped_profile(sizes), trainer.weights(), trainer.tokenizer)
    return summary
