"""The evaluation of joint reconstruction on SynthHOI: fits beside variants of themselves, on the same scenes."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, get_args

import numpy as np

from ivlm_core.errors import ConfigError, InputError, IvlmError
from ivlm_core.evaluate.fit_judge import VARIANTS, FitJudge, Judged, Source, Variant, model_contacts
from ivlm_core.evaluate.fit_metrics import summarize_fits
from ivlm_core.evaluate.synthhoi import THREAD_VARIABLES, Setup, SetupScenes, check_setup

MAIN: Variant = "main"

Progress = Callable[[int, int], None]
Judgement = Mapping[str, Sequence[Judged]]


def evaluate_reconstruction(
    setup: Setup,
    contacts: Source = "predicted",
    masks: Source | None = None,
    variants: Sequence[Variant] = VARIANTS,
    workers: int | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Fit the touched objects of generated scenes, in every variant, and sum up how far they are off.

    Parameters
    ----------
    setup : the scenes and the model; its baselines are not used.
    contacts : `predicted` by the model, or the scenes' own. masks : cut out of the objects' boxes where they are
        `predicted`, or the scenes' own; like the contacts unless it is said.
    variants : of `VARIANTS`; `main` is always among them.
    workers : processes, one thread each; None for one per core, 0 for this process alone. The figures but the times do
        not depend on it.
    progress : called with the number of scenes done and the number in all.

    Returns
    -------
    See `report_of`; besides `split`, `contacts`, `masks`, `seed` or `data`, and with predicted contacts `model` and
    `weights`.

    Raises
    ------
    ConfigError : a number, variant or source that does not exist, or the seed of a training set.
    IvlmError : model or data are not usable.
    """
    check_setup(setup)
    masks = masks or contacts
    for name, value in (("contacts", contacts), ("masks", masks)):
        if value not in get_args(Source):
            raise ConfigError(name, f"is {value!r}", f"choose {' or '.join(map(repr, get_args(Source)))}")
    if unknown := [name for name in variants if name not in VARIANTS]:
        raise ConfigError("variants", f"has {unknown[0]!r}", f"choose among {', '.join(VARIANTS)}")
    chosen = tuple(name for name in VARIANTS if name == MAIN or name in variants)
    started = time.perf_counter()
    # Loading everything here first fails early and fills the caches that the workers then share.
    judge, about = _judge(setup, contacts, masks, chosen)
    scenes = SetupScenes(setup, depth=False)
    count = os.cpu_count() or 1 if workers is None else workers
    results = []
    made = (
        _in_workers(setup, contacts, masks, chosen, min(count, setup.scenes))
        if count
        else (judge(record) for record in scenes)
    )
    for result in made:
        results.append(result)
        if progress is not None:
            progress(len(results), setup.scenes)
    source = {"seed": setup.seed} if setup.data is None else {"data": str(setup.data)}
    told = {"split": setup.split, "contacts": contacts, "masks": masks, **source, **about}
    return {**report_of(results), **told, "seconds": time.perf_counter() - started}


def report_of(results: Sequence[Judgement]) -> dict[str, Any]:
    """The figures of `main` at the top, the others' under `variants`.

    Returns
    -------
    `scenes`; of every variant what `summarize_fits` says, with `cpu_seconds_per_object` (median processor time),
    `resting` (the same figures of the objects that the person sits or lies on) and `reasons` (why there is no pose,
    with how often). Each variant under `variants` also has `chamfer_of_main`: the mean Chamfer distance of `main` over
    that of the variant, on the objects that both have a pose of.

    Raises
    ------
    InputError : no scenes.
    """
    if not results:
        raise InputError("scenes", "are none", "evaluate at least one scene")
    together = {name: [item for result in results for item in result[name]] for name in results[0]}
    blocks = {name: _block(items) for name, items in together.items()}
    for name, items in together.items():
        if name != MAIN:
            blocks[name]["chamfer_of_main"] = _ratio(together[MAIN], items)
    others = {name: block for name, block in blocks.items() if name != MAIN}
    return {"scenes": len(results), **blocks[MAIN], "variants": others}


def reconstruction_text(report: Mapping[str, Any]) -> str:
    """The main figures of a report as a table for people."""
    columns = (
        ("chamfer_cm", "Chamfer cm", "{:.2f}"),
        ("rotation_deg", "rotation °", "{:.1f}"),
        ("translation_cm", "transl. cm", "{:.2f}"),
        ("scale_error", "scale", "{:.3f}"),
        ("penetration_cm", "inside cm", "{:.2f}"),
        ("mask_iou", "mask IoU", "{:.2f}"),
        ("success_5cm", "< 5 cm", "{:.2f}"),
        ("seconds_per_object", "seconds", "{:.2f}"),
    )
    lines = [
        f"{report['objects']} objects in {report['scenes']} scenes of {report['split']}, "
        f"contacts {report['contacts']}, masks {report['masks']}",
        f"{'':16} " + " ".join(f"{title:>10}" for _, title, _ in columns),
    ]
    for name, block in {MAIN: report, **report["variants"]}.items():
        cells = ("–" if block[key] is None else form.format(block[key]) for key, _, form in columns)
        lines.append(f"{name.replace('_', ' '):16} " + " ".join(f"{cell:>10}" for cell in cells))
    return "\n".join(lines)


def _block(items: Sequence[Judged]) -> dict[str, Any]:
    reasons: dict[str, int] = {}
    for item in items:
        if not item.scores.valid:
            reasons[item.reason] = reasons.get(item.reason, 0) + 1
    return {
        **summarize_fits([item.scores for item in items]),
        "cpu_seconds_per_object": float(np.median([item.cpu_seconds for item in items])) if items else None,
        "resting": summarize_fits([item.scores for item in items if item.resting]),
        "reasons": dict(sorted(reasons.items(), key=lambda reason: -reason[1])),
    }


def _ratio(main: Sequence[Judged], others: Sequence[Judged]) -> float | None:
    both = [
        (one.scores.chamfer_cm, other.scores.chamfer_cm)
        for one, other in zip(main, others, strict=True)
        if one.scores.valid and other.scores.valid
    ]
    if not both:
        return None
    ours, theirs = np.mean(both, axis=0)
    return float(ours / theirs) if theirs > 0 else None


def _judge(
    setup: Setup, contacts: Source, masks: Source, variants: Sequence[Variant]
) -> tuple[FitJudge, dict[str, Any]]:
    """What fits and measures, and a description of the model where there is one."""
    if contacts == "ground-truth":
        return FitJudge(contacts, masks, None, variants), {}
    from ivlm_core.pipeline import Pipeline

    pipeline = Pipeline.load(setup.model, setup.device, setup.dtype, setup.reasoning)
    about = {"model": pipeline.profile.name, "weights": pipeline.digest()}
    return FitJudge(contacts, masks, model_contacts(pipeline), variants), about


def _in_workers(
    setup: Setup, contacts: Source, masks: Source, variants: Sequence[Variant], workers: int
) -> Iterator[Judgement]:
    """Results in the order of the scenes; which worker judges which does not matter."""
    context = multiprocessing.get_context("spawn")
    before = {name: os.environ.get(name) for name in THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, "1"))
    pool = ProcessPoolExecutor(workers, context, _start_worker, (setup, contacts, masks, variants))
    try:
        yield from pool.map(_judged, range(setup.scenes))
    except BrokenProcessPool as error:
        raise IvlmError("workers", "one of them died, probably for want of memory", "use fewer of them") from error
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


_WORKER: dict[str, Any] = {}


def _start_worker(setup: Setup, contacts: Source, masks: Source, variants: Sequence[Variant]) -> None:
    import torch

    torch.set_num_threads(1)
    judge, _ = _judge(setup, contacts, masks, variants)
    _WORKER.update(scenes=SetupScenes(setup, depth=False), judge=judge)


def _judged(index: int) -> dict[str, list[Judged]]:
    judged: dict[str, list[Judged]] = _WORKER["judge"](_WORKER["scenes"][index])
    return judged
