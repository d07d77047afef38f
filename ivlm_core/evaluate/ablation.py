"""The runs behind the tables of ablations and data shares: train, evaluate, keep the report, one after the other."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from ivlm_core.config import Profile, load_profile, profile_names
from ivlm_core.datasets.synthetic import generate
from ivlm_core.datasets.synthetic.store import Manifest, read_manifest
from ivlm_core.errors import ConfigError, IvlmError
from ivlm_core.evaluate.results import ABLATIONS, PERCENTS
from ivlm_core.evaluate.synthhoi import Progress, Setup, check_setup, evaluate
from ivlm_core.storage import atomic_path
from ivlm_core.train.recipe import VARIANTS, Recipe, apply_variants
from ivlm_core.train.start import Start, read_start

TABLES = ("ablation", "data")
# What runs that begin with a trained reasoner change about the recipe. All of it learns from the first step on; the
# image encoder stays, as the paper's does; a smaller batch gives the new parts more steps for the same time. What the
# library's objects are taught at the end of a run would say the same of every row.
BEGUN = {
    "answers_from": 0.0,
    "masks_from": 0.0,
    "warmup": 100,
    "batch": 6,
    "encoder_steps": 0,
    "frozen_sight": True,
    "object_passes": 0,
}
SHORT: dict[str, dict[str, Any]] = {
    # What the reasoner knows already changes slowly, and few object masks are drawn: the rows are about the body's.
    "ablation": {**BEGUN, "start_rate": 0.25, "objects_per_step": 2},
    # The share of the data is about what is asked, which the vertex branch alone learns in far fewer pictures.
    "data": {**BEGUN, "questions": 1, "masks": False},
}

Bar = Callable[[str, str, int], AbstractContextManager[Progress]]


@dataclass(frozen=True)
class Plan:
    """Which runs a table needs, and the budget that each of them gets.

    Attributes
    ----------
    table : `ablation` or `data`.
    data : the dataset that is trained on.
    results : folder of the reports, `<results>/<table>/<row>.<seed>.json`.
    runs : folder of the runs themselves; what is left of a finished one is its log.
    steps, minutes : length of each training; one of them is 0.
    start_from : a trained model that every run begins with, its localizer thrown away (`read_start`); empty for runs
        from random numbers by the recipe. With `data` it must have learned nothing about contact.
    seeds : of the trainings. rows : the rows to fill, none for all of the table.
    scenes, seed : number and seed of the test scenes, generated once into `runs`.
    test_data : a stored dataset whose first `scenes` test scenes are used instead.
    profile, device, workers : as for `train` and `evaluate`.
    """

    table: str
    data: Path
    results: Path
    runs: Path
    steps: int = 0
    minutes: float = 0.0
    start_from: str = ""
    seeds: tuple[int, ...] = (0, 1, 2)
    rows: tuple[str, ...] = ()
    scenes: int = 2000
    seed: int = 1
    test_data: Path | None = None
    profile: str = "tiny"
    device: str = "auto"
    workers: int | None = None

    def __post_init__(self) -> None:
        if self.table not in TABLES:
            raise ConfigError("--run", f"is {self.table!r}", f"choose {' or '.join(TABLES)}")
        if bool(self.steps) == bool(self.minutes):
            raise ConfigError("--steps-each", "or --minutes-each is needed, and one alone", "give each run's length")
        replace(Recipe(), steps=self.steps, minutes=self.minutes)  # a length out of its range fails here
        if self.table == "data" and self.start_from in profile_names():
            raise ConfigError(
                "--start-from",
                f"{self.start_from} has learned contact from all scenes",
                "give a model that was trained with --variant no_contact",
            )
        if not self.seeds or len(set(self.seeds)) < len(self.seeds) or min(self.seeds) < 0:
            raise ConfigError("--seeds", f"are {list(self.seeds)}", "give different numbers from 0 on, such as 0,1,2")
        if self.workers is not None and self.workers < 0:
            raise ConfigError("--workers", f"is {self.workers}", "give 0 or more")
        for row in self.rows:
            if not _is_row(self.table, row):
                known = [*ABLATIONS] if self.table == "ablation" else [str(percent) for percent in PERCENTS]
                raise ConfigError("--row", f"{row!r} is none of this table", f"choose {', '.join(known)}")


@dataclass(frozen=True)
class Run:
    """One training and its evaluation.

    Attributes
    ----------
    row : what it is called in its table. seed : of the training.
    variants : of the recipe. fraction : share of the training scenes. changes : fields of the recipe that differ.
    report : the file of its figures. folder : of the training.
    settings : 16 hex digits of everything that decides the figures; two runs that share them are one.
    """

    row: str
    seed: int
    variants: tuple[str, ...]
    fraction: float
    changes: dict[str, Any]
    profile: Profile
    recipe: Recipe
    report: Path
    folder: Path
    settings: str

    @property
    def model(self) -> Path:
        return self.folder / "model"


class Train(Protocol):
    def __call__(self, run: Run) -> dict[str, Any]:
        """Train, going on where a former call stopped, write `run.model`, and give the summary."""
        ...


class Evaluate(Protocol):
    def __call__(self, run: Run, setup: Setup) -> dict[str, Any]:
        """The report of `run.model`."""
        ...


@dataclass(frozen=True)
class Outcome:
    """The names, `ROW.SEED`, of the runs that were made, that existed, and that failed with their reasons."""

    made: tuple[str, ...]
    existing: tuple[str, ...]
    failed: dict[str, str]


def fill_table(
    plan: Plan,
    train: Train | None = None,
    evaluate_run: Evaluate | None = None,
    say: Callable[[str], None] = print,
    bar: Bar | None = None,
) -> Outcome:
    """Make every report of a table that does not exist yet; started again, it goes on where it was.

    A run that fails is told and left out, so that the others get their turn.

    Parameters
    ----------
    train, evaluate_run : what trains and evaluates; None for the real ones.
    bar : given a name, a unit and a total, opens a progress bar for test scenes and evaluations.

    Raises
    ------
    ConfigError : a test seed that was trained on, or a report of other settings lies where one of these belongs.
    IvlmError : no dataset, or a damaged one.
    """
    trained = read_manifest(plan.data / "train")
    if plan.test_data is None:
        check_setup(Setup("test", plan.scenes, plan.seed))
        if plan.seed == trained.seed:
            raise ConfigError("--seed", f"{plan.seed} is that of the training scenes", "give another")
        tested = Manifest("test", plan.seed, plan.scenes)
    else:
        tested = read_manifest(plan.test_data / "test")
        if plan.scenes > tested.finished:
            raise ConfigError(
                "--scenes", f"are {plan.scenes} of {tested.finished} stored ones", "give fewer, or generate more"
            )
    start = read_start(plan.start_from, load_profile(plan.profile)) if plan.start_from else None
    runs = planned(plan, trained, tested, start)
    existing = [run for run in runs if _exists(run)]
    missing = [run for run in runs if run not in existing]
    if existing:
        say(f"{len(existing)} of {len(runs)} reports exist")
    if not missing:
        return Outcome((), tuple(_name(run) for run in existing), {})
    bar = bar or _no_bar
    scenes = plan.test_data or _test_scenes(plan, bar)
    train = train or _Trainer(plan, say, start)
    evaluate_run = evaluate_run or _Evaluator(plan, bar)
    made, failed = [], {}
    for number, run in enumerate(missing, start=1):
        say(f"[{number}/{len(missing)}] {_name(run)}")
        try:
            report = _same_run(run, plan.results) or _report(run, train, evaluate_run, plan, scenes)
        except IvlmError as error:
            failed[_name(run)] = str(error)
            say(f"{_name(run)} failed: {error}")
            continue
        with atomic_path(run.report) as temporary:
            temporary.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        for heavy in (run.model, run.folder / "checkpoints"):
            shutil.rmtree(heavy, ignore_errors=True)
        made.append(_name(run))
        say(f"{_name(run)}: semantic F1 {report['semantic']['f1']:.3f}, binary F1 {report['binary']['f1']:.3f}")
    return Outcome(tuple(made), tuple(_name(run) for run in existing), failed)


def planned(plan: Plan, trained: Manifest, tested: Manifest, start: Start | None = None) -> list[Run]:
    """The runs of a table: with the first seed all rows, then with the next."""
    table = [*ABLATIONS] if plan.table == "ablation" else [str(percent) for percent in PERCENTS]
    return [_run(plan, row, seed, trained, tested, start) for seed in plan.seeds for row in plan.rows or table]


def _run(plan: Plan, row: str, seed: int, trained: Manifest, tested: Manifest, start: Start | None) -> Run:
    variants = tuple(row.split("+")) if plan.table == "ablation" else ()
    fraction = 1.0 if plan.table == "ablation" else float(row) / 100
    changes: dict[str, Any] = {"steps": plan.steps, "minutes": plan.minutes, "seed": seed, "data_fraction": fraction}
    if start is not None:
        changes |= SHORT[plan.table]
    digest = start.digest if start is not None else ""
    plain = replace(Recipe(), **changes, start=digest)
    profile, recipe = apply_variants(variants, load_profile(plan.profile), plain)
    scenes = [trained.seed, trained.scenes, tested.seed, plan.scenes, trained.generator_version]
    told = json.dumps([asdict(profile), asdict(recipe), scenes, trained.contact_version], sort_keys=True, default=str)
    settings = hashlib.sha256(told.encode()).hexdigest()[:16]
    return Run(
        row,
        seed,
        variants,
        fraction,
        changes,
        profile,
        recipe,
        plan.results / plan.table / f"{row}.{seed}.json",
        plan.runs / f"{plan.table}-{row}.{seed}-{settings[:8]}",
        settings,
    )


def _report(run: Run, train: Train, evaluate_run: Evaluate, plan: Plan, scenes: Path) -> dict[str, Any]:
    summary = train(run)
    setup = Setup(
        "test",
        plan.scenes,
        data=scenes,
        model=str(run.model),
        device=plan.device,
        compare=False,
        reasoning="parts" if run.recipe.style.name_parts else "direct",
        name_objects=run.recipe.style.name_object,
    )
    report = evaluate_run(run, setup)
    if not run.recipe.masks:
        # Nothing has taught this model where objects are touched.
        report["object"] = None
    steps = int(summary.get("steps", 0))
    length = {"steps": steps, "pictures": steps * run.recipe.batch, "seconds": summary.get("seconds")}
    about = {"row": run.row, "seed": run.seed, "data_fraction": run.fraction, "trained": length}
    about["start"] = {"from": Path(plan.start_from).name, "weights": run.recipe.start} if plan.start_from else None
    return {**report, "run": {**about, "settings": run.settings}}


def _exists(run: Run) -> bool:
    """Whether a run's report is there, and is its own."""
    settings = _settings_of(run.report)
    if settings is None:
        # One that a person put there, or none.
        return run.report.is_file()
    if settings != run.settings:
        raise ConfigError(
            "--results",
            f"holds {run.report}, a run of other length, data or model",
            "repeat its options, give another folder, or take the file away",
        )
    return True


def _same_run(run: Run, results: Path) -> dict[str, Any] | None:
    """The report of the same settings under another name: `base` and all of the scenes, for one, are one run."""
    for path in sorted(results.glob(f"*/*.{run.seed}.json")):
        if _settings_of(path) == run.settings:
            report: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            return {**report, "run": {**report["run"], "row": run.row, "same_as": f"{path.parent.name}/{path.stem}"}}
    return None


def _settings_of(path: Path) -> str | None:
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))["run"]["settings"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _test_scenes(plan: Plan, bar: Bar) -> Path:
    root = plan.runs / f"scenes-{plan.seed}-{plan.scenes}"
    workers = os.cpu_count() or 1 if plan.workers is None else max(1, plan.workers)
    with bar("test scenes", " scenes", plan.scenes) as progress:
        generate(root, "test", plan.scenes, plan.seed, workers, progress)
    return root


class _Trainer:
    """`ivlm train` with the scenes read once for all runs."""

    def __init__(self, plan: Plan, say: Callable[[str], None], start: Start | None) -> None:
        from ivlm_core.train.run import read_training_set

        self.plan, self.say, self.start = plan, say, start
        self.samples = read_training_set(plan.data, load_profile(plan.profile).vision)

    def __call__(self, run: Run) -> dict[str, Any]:
        from ivlm_core.train.run import train

        return train(
            self.plan.data,
            run.folder,
            self.plan.profile,
            run.changes,
            run.variants,
            self.plan.device,
            resume=True,
            export=run.model,
            validation=0,
            say=self.say,
            samples=self.samples,
            start=self.start,
        )


class _Evaluator:
    """`ivlm evaluate` without baselines, which are the same for every run."""

    def __init__(self, plan: Plan, bar: Bar) -> None:
        self.plan, self.bar = plan, bar

    def __call__(self, run: Run, setup: Setup) -> dict[str, Any]:
        with self.bar(_name(run), " scenes", setup.scenes) as progress:
            return evaluate(setup, self.plan.workers, progress)


@contextmanager
def _no_bar(name: str, unit: str, total: int) -> Iterator[Progress]:
    yield lambda done, of: None


def _is_row(table: str, row: str) -> bool:
    if table == "ablation":
        return all(name in VARIANTS for name in row.split("+"))
    try:
        return 0 < float(row) <= 100
    except ValueError:
        return False


def _name(run: Run) -> str:
    return f"{run.row}.{run.seed}"


def seeds_in(text: str) -> tuple[int, ...]:
    """`0,1,2` → (0, 1, 2).

    Raises
    ------
    ConfigError : not whole numbers with commas between them.
    """
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise ConfigError("--seeds", f"is {text!r}", "give numbers such as 0,1,2") from None


def table_text(plan: Plan, outcome: Outcome) -> str:
    """What was done, and what comes next, for people."""
    lines: Sequence[str] = [
        f"{len(outcome.made)} runs made, {len(outcome.existing)} existed, {len(outcome.failed)} failed",
        *(f"  {name}: {reason}" for name, reason in outcome.failed.items()),
        f"tables and plots: ivlm evaluate --table {plan.table} --results {plan.results}",
    ]
    return "\n".join(lines)
