"""The evaluation on SynthHOI: fresh scenes, the model in free generation, baselines and ceilings on the same scenes."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ivlm_core.bodies import BodyModel, load_body
from ivlm_core.errors import ConfigError, InputError, IvlmError
from ivlm_core.evaluate.answers import Answer, Answerer, ModelAnswers, PriorAnswers, hits, picture_of
from ivlm_core.evaluate.ceilings import MaskPath
from ivlm_core.evaluate.geodesic import body_surface
from ivlm_core.evaluate.metrics import contact_scores
from ivlm_core.evaluate.priors import SHIPPED_PRIORS, Priors, load_priors
from ivlm_core.evaluate.scoring import SceneScores, Scorer, summarize

if TYPE_CHECKING:
    from ivlm_core.datasets.synthetic import SceneRecord

MODEL = "model"
BASELINES = ("category_prior", "label_free", "deco_style", "no_language_model", "label_conditioned")
CEILINGS = ("prior_through_masks", "oracle_through_masks", "ground_truth_through_masks", "oracle")
MAX_SCENES = 1_000_000
# Scenes that a worker may be ahead of what has been collected.
AHEAD = 64
# Numerical libraries that would otherwise start a thread per core in every worker.
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Setup:
    """What is evaluated, and on what.

    Attributes
    ----------
    split : test, unseen, val or train. scenes : how many. seed : of fresh scenes.
    data : a stored data set to read instead of generating; its scenes are those of its own seed.
    model, device, dtype : as for `Pipeline.load`.
    baselines : the folder of the baselines' files.
    compare : whether baselines and ceilings are judged as well.
    reasoning : as for `Pipeline.load`. name_objects : False to call every object "object".
    """

    split: str = "test"
    scenes: int = 2000
    seed: int = 1
    data: Path | None = None
    model: str = "tiny"
    device: str = "auto"
    dtype: str = "auto"
    baselines: Path = SHIPPED_PRIORS.parent
    compare: bool = True
    reasoning: str = "parts"
    name_objects: bool = True

    @property
    def priors(self) -> Path:
        return self.baselines / SHIPPED_PRIORS.name


@dataclass(frozen=True, eq=False)
class SceneResult:
    """All that is kept of one scene.

    Attributes
    ----------
    scores : name of the answerer → its scores.
    ceilings : name → semantic F1 of each touched object, in the order of the samples. labels : of these objects.
    digest : SHA-256 of the model's answers.
    """

    scores: Mapping[str, SceneScores]
    ceilings: Mapping[str, Sequence[float]]
    labels: Sequence[str]
    digest: bytes = b""


@dataclass(eq=False)
class Judge:
    """Runs all answerers on a record and scores them.

    Attributes
    ----------
    answerers : name → what is judged; `model` is the one whose answers are hashed.
    priors, path : for the ceilings; None leaves them out.
    """

    answerers: Mapping[str, Answerer]
    body: BodyModel
    priors: Priors | None = None
    path: MaskPath | None = None
    scorer: Scorer = field(init=False)

    def __post_init__(self) -> None:
        self.scorer = Scorer(self.body, body_surface(self.body.name))
        self._lifted: dict[tuple[str, ...], np.ndarray] = {}

    def __call__(self, record: SceneRecord) -> SceneResult:
        """Answers first, from the picture alone; the ground truth is read when all are given."""
        picture = picture_of(record)
        answers = {name: answerer(picture) for name, answerer in self.answerers.items()}
        truth = self.scorer.truth(record)
        scores = {
            name: self.scorer.score(
                truth,
                hits(self.answerers[name], given),
                [answer.thing for answer in given],
                missing=sum(not answer.given for answer in given),
            )
            for name, given in answers.items()
        }
        touched = [item for item in record.objects if np.asarray(item.body_contact).any()]
        return SceneResult(
            scores, self._ceilings(touched), [item.label for item in touched], _digest(answers.get(MODEL, []))
        )

    def _ceilings(self, touched: Sequence[Any]) -> dict[str, list[float]]:
        if self.priors is None or self.path is None or not touched:
            return {}
        size = self.path.size
        true = np.stack([np.asarray(item.body_contact, dtype=bool) for item in touched])
        answers = {
            "prior_through_masks": [self._through("prior", item.label) for item in touched],
            "oracle_through_masks": [self._through("oracle", item.label, item.mode) for item in touched],
            "ground_truth_through_masks": list(self.path(true)),
            "oracle": [self.priors.mode(item.label, item.mode) for item in touched],
        }
        cuts = {
            "prior_through_masks": self.priors.threshold("prior", size),
            "oracle_through_masks": self.priors.threshold("oracle", size),
            "ground_truth_through_masks": self.priors.threshold("ground truth", size),
            "oracle": self.priors.threshold("oracle"),
        }
        return {
            name: contact_scores(np.stack(values), true, cuts[name]).f1.tolist() for name, values in answers.items()
        }

    def _through(self, *key: str) -> np.ndarray:
        """(V,) a mean contact that has been through the masks."""
        assert self.priors is not None
        assert self.path is not None
        if key not in self._lifted:
            mean = self.priors.category(key[1]) if key[0] == "prior" else self.priors.mode(key[1], key[2])
            self._lifted[key] = self.path(mean[None])[0]
        return self._lifted[key]


def evaluate(setup: Setup, workers: int | None = None, progress: Progress | None = None) -> dict[str, Any]:
    """Make or read the scenes, answer and score them, and sum up.

    Scene i goes to worker i modulo `workers`, so that the same setup and number of workers give the same answers.

    Parameters
    ----------
    workers : processes, one thread each; None for one per core, 0 for this process alone.
    progress : called with the number of scenes done and the number in all.

    Returns
    -------
    The report: `scenes`, `binary`, `semantic`, `object`, `wrong_hand_rate`, `baselines`, `ceilings`, and what was
    evaluated (see `report`).

    Raises
    ------
    ConfigError : a number out of its range, or the seed of a training set.  IvlmError : model or data are not usable.
    """
    check_setup(setup)
    started = time.perf_counter()
    # Loading the model here first fails early and fills the caches that the workers then share.
    judge, about = _judge(setup)
    count = os.cpu_count() or 1 if workers is None else workers
    if count == 0:
        results = _each(judge, _records(setup), setup.scenes, progress)
    else:
        del judge
        results = _in_workers(setup, min(count, setup.scenes), progress)
    return {**report(list(results), setup.split, about), **_described(setup), "seconds": time.perf_counter() - started}


def report(results: Sequence[SceneResult], split: str, about: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The figures of a split.

    Samples of the split `unseen` are the objects of held-out categories; others in its scenes count for `binary` alone.
    """
    from ivlm_core.datasets.synthetic.split import UNSEEN

    if not results:
        raise InputError("scenes", "are none", "evaluate at least one scene")
    only = UNSEEN if split == "unseen" else None
    names = list(results[0].scores)
    blocks = {name: summarize([result.scores[name] for result in results], only) for name in names}
    digest = hashlib.sha256(b"".join(result.digest for result in results)).hexdigest()
    return {
        "scenes": len(results),
        "split": split,
        **blocks.get(MODEL, {}),
        "baselines": {name: blocks.get(name) for name in BASELINES},
        "ceilings": _ceiling_means(results, only),
        "answers_sha256": digest,
        **(about or {}),
    }


def judge_records(judge: Judge, records: Iterable[SceneRecord], progress: Progress | None = None) -> list[SceneResult]:
    """Judge records one by one in this process."""
    kept = list(records)
    return list(_each(judge, iter(kept), len(kept), progress))


def check_setup(setup: Setup) -> None:
    """Refuse what cannot be evaluated.

    Raises
    ------
    ConfigError : the number of scenes is out of range, the split does not exist, or the seed is one of training.
    """
    from ivlm_core.datasets.synthetic.split import TRAINING_SEED, check_split

    check_split(setup.split)
    if not 1 <= setup.scenes <= MAX_SCENES:
        raise ConfigError("scenes", f"are {setup.scenes}", f"give 1…{MAX_SCENES}")
    if setup.data is not None:
        return
    seeds = {TRAINING_SEED}
    if setup.priors.is_file():
        seeds |= set(load_priors(setup.priors).source.get("seeds", ()))
    if setup.seed in seeds:
        raise ConfigError(
            "seed", f"{setup.seed} is a training seed", "give another: its scenes must never have been seen"
        )


def _judge(setup: Setup) -> tuple[Judge, dict[str, Any]]:
    """Everything that answers, and a description of the model."""
    from ivlm_core.pipeline import Pipeline

    pipeline = Pipeline.load(setup.model, setup.device, setup.dtype, setup.reasoning)
    body = load_body()
    answerers: dict[str, Answerer] = {MODEL: ModelAnswers(pipeline, setup.name_objects)}
    priors, path = None, None
    if setup.compare and setup.priors.is_file():
        from ivlm_core.evaluate.baselines import load_baselines

        priors, path = load_priors(setup.priors), MaskPath.of(pipeline.profile, body.mesh)
        answerers["category_prior"] = PriorAnswers(priors)
        answerers |= load_baselines(setup.baselines, priors)
    about = {
        "model": pipeline.profile.name,
        "weights": pipeline.digest(),
        "mask_size": pipeline.profile.sam.mask_size,
    }
    return Judge(answerers, body, priors, path), about


class SetupScenes:
    """The scenes of a setup by their number, stored or made when they are asked for.

    Parameters
    ----------
    depth : whether stored ones come with their depth images.

    Raises
    ------
    ConfigError : more scenes than are stored.  DatasetError : the data are not usable.
    """

    def __init__(self, setup: Setup, depth: bool = True) -> None:
        from ivlm_core.datasets import synthetic

        self._setup, self._stored = setup, None
        if setup.data is not None:
            self._stored = synthetic.SynthHoi(setup.data, setup.split, depth=depth)
            if setup.scenes > len(self._stored):
                raise ConfigError(
                    "scenes",
                    f"are {setup.scenes} of {len(self._stored)} stored ones",
                    "give fewer, or generate more",
                )

    def __len__(self) -> int:
        return self._setup.scenes

    def __getitem__(self, index: int) -> SceneRecord:
        from ivlm_core.datasets import synthetic

        if not 0 <= index < len(self):
            raise IndexError(index)
        if self._stored is not None:
            return self._stored[index]
        return synthetic.generate_scene(self._setup.seed, self._setup.split, index)

    def __iter__(self) -> Iterator[SceneRecord]:
        return (self[index] for index in range(len(self)))


def _records(setup: Setup, first: int = 0, step: int = 1) -> Iterator[SceneRecord]:
    """The scenes `first`, `first + step`, … of the setup."""
    scenes = SetupScenes(setup)
    return (scenes[index] for index in range(first, len(scenes), step))


def _each(judge: Judge, records: Iterator[SceneRecord], total: int, progress: Progress | None) -> Iterator[SceneResult]:
    for done, record in enumerate(records, start=1):
        yield judge(record)
        if progress is not None:
            progress(done, total)


def _in_workers(setup: Setup, workers: int, progress: Progress | None) -> Iterator[SceneResult]:
    """Results in the order of the scenes; each worker is a pool of one, so that its scenes are always the same."""
    context = multiprocessing.get_context("spawn")
    before = {name: os.environ.get(name) for name in THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, "1"))
    pools = [ProcessPoolExecutor(1, context, _start_worker, (setup, number, workers)) for number in range(workers)]
    try:
        waiting: list[Future[SceneResult]] = []
        submitted = 0
        for done in range(setup.scenes):
            while submitted < min(setup.scenes, done + AHEAD * workers):
                waiting.append(pools[submitted % workers].submit(_next_result))
                submitted += 1
            yield waiting.pop(0).result()
            if progress is not None:
                progress(done + 1, setup.scenes)
    except BrokenProcessPool as error:
        raise IvlmError("workers", "one of them died, probably for want of memory", "use fewer of them") from error
    finally:
        for pool in pools:
            pool.shutdown(wait=False, cancel_futures=True)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


_STREAM: dict[str, Iterator[SceneResult]] = {}


def _start_worker(setup: Setup, number: int, workers: int) -> None:
    import torch

    torch.set_num_threads(1)
    judge, _ = _judge(setup)
    _STREAM["results"] = _each(judge, _records(setup, number, workers), setup.scenes, None)


def _next_result() -> SceneResult:
    return next(_STREAM["results"])


def _ceiling_means(results: Sequence[SceneResult], only: Collection[str] | None) -> dict[str, float] | None:
    """Mean semantic F1 of every ceiling."""
    values: dict[str, list[float]] = {name: [] for name in CEILINGS}
    for result in results:
        for name, scores in result.ceilings.items():
            values[name] += [
                score for score, label in zip(scores, result.labels, strict=True) if only is None or label in only
            ]
    return {name: float(np.mean(scores)) for name, scores in values.items() if scores} or None


def _described(setup: Setup) -> dict[str, Any]:
    from ivlm_core.datasets.synthetic.contact import CONTACT_VERSION
    from ivlm_core.datasets.synthetic.split import GENERATOR_VERSION

    source = {"seed": setup.seed} if setup.data is None else {"data": str(setup.data)}
    return {**source, "generator_version": GENERATOR_VERSION, "contact_version": CONTACT_VERSION}


def _digest(answers: Sequence[Answer]) -> bytes:
    digest = hashlib.sha256()
    for answer in answers:
        digest.update(np.ascontiguousarray(answer.body, dtype="<f4").tobytes())
        if answer.thing is not None:
            digest.update(np.ascontiguousarray(answer.thing, dtype="<f4").tobytes())
    return digest.digest()
