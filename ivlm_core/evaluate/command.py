"""What `ivlm evaluate` does: judge a model, fit the baselines, make the runs behind tables, or write tables."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from ivlm_core.bodies import load_body
from ivlm_core.config import load_profile
from ivlm_core.errors import ConfigError
from ivlm_core.evaluate.ceilings import MaskPath
from ivlm_core.evaluate.priors import MASK_SIZES, SHIPPED_PRIORS, Touched, fit_priors, gather
from ivlm_core.evaluate.synthhoi import BASELINES, Setup, evaluate
from ivlm_core.storage import atomic_path


def run(options: argparse.Namespace) -> int:
    """Do what the options of `ivlm evaluate` ask for."""
    if options.fit_baselines is not None:
        return _fit(options)
    if options.run is not None:
        return _runs(options)
    if options.table == "scene-mix":
        return _scene_mix(options)
    if options.table is not None:
        return _tables(options)
    if options.workers is not None and options.workers < 0:
        raise ConfigError("--workers", f"is {options.workers}", "give 0 or more")
    if options.task != "contact":
        return _task(options)
    return _evaluate(options)


def _evaluate(options: argparse.Namespace) -> int:
    setup = Setup(
        options.split,
        options.scenes,
        options.seed,
        options.data,
        options.model,
        options.device,
        options.dtype,
        options.baselines or SHIPPED_PRIORS.parent,
    )
    with _bar("evaluating", " scenes", options.scenes) as progress:
        report = evaluate(setup, options.workers, progress)
    _deliver(options, report, evaluation_text(report))
    return 0


def _task(options: argparse.Namespace) -> int:
    """The tasks beside contact: objects and bodies in the scene, and the search for meshes."""
    setup = Setup(
        options.split, options.scenes, options.seed, options.data, options.model, options.device, options.dtype
    )
    with _bar("evaluating", " scenes", options.scenes) as progress:
        if options.task == "reconstruct":
            from ivlm_core.evaluate.reconstruction import evaluate_reconstruction, reconstruction_text

            report = evaluate_reconstruction(
                setup, options.contacts, options.masks, workers=options.workers, progress=progress
            )
            text = reconstruction_text(report)
        elif options.task == "bodies":
            from ivlm_core.evaluate.bodies import bodies_text, evaluate_bodies

            report = evaluate_bodies(setup, progress)
            text = bodies_text(report)
        else:
            from ivlm_core.evaluate.retrieval import evaluate_retrieval, retrieval_text

            report = evaluate_retrieval(setup, progress)
            text = retrieval_text(report)
    _deliver(options, report, text)
    return 0


def evaluation_text(report: dict[str, Any]) -> str:
    """The main figures of a report as a table for people."""
    lines = [
        f"{report['scenes']} scenes of {report['split']}, {report['semantic']['samples']} touched objects",
        f"{'':22} {'semantic':>9} {'by area':>8} {'binary':>8} {'geodesic':>9} {'wrong hand':>10} "
        f"{'SIM':>6} {'AUC':>6}",
    ]
    rows = {report.get("model", "model"): report, **report["baselines"]}
    for name, block in rows.items():
        if block is None:
            lines.append(f"{name:22} not fitted")
            continue
        thing = block["object"] or {}
        values = (
            block["semantic"]["f1"],
            block["semantic"]["f1_area"],
            block["binary"]["f1"],
            block["semantic"]["geodesic_cm"],
            block["wrong_hand_rate"],
            thing.get("sim"),
            thing.get("auc"),
        )
        lines.append(
            f"{name:22} "
            + " ".join(_cell(value, width) for value, width in zip(values, (9, 8, 8, 9, 10, 6, 6), strict=True))
        )
    for name, value in (report["ceilings"] or {}).items():
        lines.append(f"{name.replace('_', ' '):32} {value:.3f}")
    return "\n".join(lines)


def _fit(options: argparse.Namespace) -> int:
    from ivlm_core.datasets.synthetic import SynthHoi
    from ivlm_core.evaluate.baselines import KINDS, save_baseline
    from ivlm_core.evaluate.fitting import Budget, fit_baseline, gather_training, teach_sight, trained_sight

    folder = options.baselines or SHIPPED_PRIORS.parent
    wanted = options.only or list(BASELINES)
    data = SynthHoi(options.fit_baselines, "train", depth=False)
    profile = load_profile(options.model)
    budget, sight = Budget.of(options.samples) if options.samples else Budget(), None
    if options.start_from:
        sight, start = trained_sight(options.start_from, profile)
        budget = replace(budget, taught=0, pictures=options.samples or budget.pictures, start=start)
    source = {
        "seeds": [data.manifest.seed],
        "generator_version": data.manifest.generator_version,
        "contact_version": data.manifest.contact_version,
    }
    told: dict[str, Any] = {}
    with _bar("reading", " scenes", len(data)) as progress:
        gathered = gather_training(_counted(data, len(data), progress), profile)
    priors = fit_priors(gathered.touched, mask_paths(), source)
    if "category_prior" in wanted:
        priors.save(folder / SHIPPED_PRIORS.name)
        told["category_prior"] = {**priors.source, "thresholds": dict(priors.thresholds)}
    # What was interrupted is gone on with.
    store = options.runs / "baselines"
    if budget.taught and any(kind in wanted for kind in KINDS):
        with _bar("image encoder", " pictures", budget.taught) as progress:
            sight = teach_sight(gathered, profile, budget, _losses(progress), store)
    for kind in KINDS:
        if kind in wanted:
            with _bar(kind, " pictures", budget.pictures) as progress:
                weights, about = fit_baseline(kind, gathered, priors, profile, budget, _losses(progress), sight, store)
            save_baseline(folder / f"{kind}.npz", profile, weights, about)
            told[kind] = about
    _deliver(options, told, "\n".join(f"{name}: {about}" for name, about in told.items()))
    return 0


def _scene_mix(options: argparse.Namespace) -> int:
    from ivlm_core.evaluate.scene_mix import scene_mix, scene_mix_markdown

    if options.data is None or options.test_data is None:
        raise ConfigError("--data", "or --test-data is missing", "give the training and the test scenes")
    train, test = (
        _gathered(root, split) for root, split in ((options.data, "train"), (options.test_data, options.split))
    )
    body = load_body()
    size = load_profile(options.model).sam.mask_size
    paths = mask_paths()
    path = paths.get(size) or MaskPath.of(load_profile(options.model), body.mesh)
    priors = fit_priors(train, {**paths, size: path})
    mix = scene_mix(priors, test, body, path)
    mix["train_scenes"] = train.scene_count
    _deliver(options, mix, scene_mix_markdown(mix))
    return 0


def _runs(options: argparse.Namespace) -> int:
    from ivlm_core.evaluate.ablation import Plan, fill_table, seeds_in, table_text

    if options.data is None:
        raise ConfigError("--data", "is missing", "give the training scenes (`ivlm synth generate`)")
    plan = Plan(
        table=options.run,
        data=options.data,
        results=options.results or Path("docs") / "results",
        runs=options.runs,
        steps=options.steps_each,
        minutes=options.minutes_each,
        start_from=options.start_from,
        seeds=seeds_in(options.seeds),
        rows=tuple(options.row),
        scenes=options.scenes,
        seed=options.seed,
        test_data=options.test_data,
        profile=options.model,
        device=options.device,
        workers=options.workers,
    )
    outcome = fill_table(plan, say=lambda line: print(line, file=sys.stderr, flush=True), bar=_bar)
    told = {"made": list(outcome.made), "existing": list(outcome.existing), "failed": outcome.failed}
    _deliver(options, told, table_text(plan, outcome))
    return 1 if outcome.failed else 0


def _tables(options: argparse.Namespace) -> int:
    from ivlm_core.evaluate.results import SPLITS, write_results
    from ivlm_core.evaluate.scene_results import FITTED_SCENES, SCENE_RUNS

    folder = options.results or Path("docs") / "results"
    if options.table in ("all", "main"):
        for split in SPLITS:
            _measure(options, folder / f"{split}.json", task="contact", split=split)
    if options.table in ("all", "scene"):
        for run in SCENE_RUNS:
            given = {"task": run.task, "contacts": run.contacts, "masks": run.masks, "split": "test"}
            _measure(options, folder / f"{run.name}.json", **given, scenes=min(options.scenes, FITTED_SCENES))
    written = write_results(folder, options.table)
    _deliver(options, {"written": [str(path) for path in written]}, "\n".join(f"wrote {path}" for path in written))
    return 0


def _measure(options: argparse.Namespace, path: Path, **changes: Any) -> None:
    """Evaluate for the tables, unless that was done already, with these weights where a model has a part in it."""
    with contextlib.suppress(OSError, ValueError):
        report = json.loads(path.read_text(encoding="utf-8"))
        if "weights" not in report or report["weights"] == _weights_of(options):
            return
    print(f"measuring {path.stem}", file=sys.stderr)
    measured = argparse.Namespace(**{**vars(options), **changes, "json": str(path)})
    if measured.task == "contact":
        _evaluate(measured)
    else:
        _task(measured)


def _weights_of(options: argparse.Namespace) -> str:
    """16 hex digits of the model's weights, as reports hold them."""
    from ivlm_core.pipeline import Pipeline

    return Pipeline.load(options.model, options.device, options.dtype).digest()


def mask_paths() -> dict[int, MaskPath]:
    """Side of the masks → the way through them, on the shipped body and the views of `tiny`."""
    path = MaskPath.of(load_profile("tiny"), load_body().mesh)
    return {size: MaskPath(path.pack, size, path.method) for size in MASK_SIZES}


def _gathered(root: Path, split: str) -> Touched:
    from ivlm_core.datasets.synthetic import SynthHoi

    data = SynthHoi(root, split, depth=False, partial=True)
    with _bar(f"reading {split}", " scenes", len(data)) as progress:
        return gather(_counted(data, len(data), progress))


def _counted(records: Any, total: int, progress: Callable[[int, int], None]) -> Iterator[Any]:
    for done, record in enumerate(records, start=1):
        yield record
        progress(done, total)


def _losses(progress: Callable[[int, int], None]) -> Callable[[int, int, float], None]:
    return lambda done, total, loss: progress(done, total)


@contextlib.contextmanager
def _bar(what: str, unit: str, total: int) -> Iterator[Callable[[int, int], None]]:
    from tqdm import tqdm

    with tqdm(desc=what, unit=unit, total=total, file=sys.stderr) as bar:

        def progress(done: int, of: int) -> None:
            bar.total = of
            bar.update(done - bar.n)

        yield progress


def _deliver(options: argparse.Namespace, report: dict[str, Any], text: str) -> None:
    """Print for people, or JSON to where `--json` says."""
    if options.json is True:
        print(json.dumps(report))
        return
    if options.json:
        with atomic_path(Path(options.json)) as temporary:
            temporary.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(text)


def _cell(value: float | None, width: int) -> str:
    return f"{'–' if value is None else f'{value:.3f}':>{width}}"
