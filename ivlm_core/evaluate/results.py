"""The results page: tables and plots made of the JSON files that evaluations left in one folder.

    test.json, unseen.json          `ivlm evaluate --split … --json`
    scene_mix.json                  `ivlm evaluate --table scene-mix --json`
    reconstruct.json, bodies.json, … objects and people in the scene (see `scene_results`)
    ablation/<variant>.<seed>.json  the same evaluation of one training run of a variant (`ivlm evaluate --run`)
    data/<percent>.<seed>.json      … of a run on that share of the training scenes

What has not been measured is said to be missing; no figure is ever filled in.
"""

from __future__ import annotations

import json
import math
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ivlm_core.errors import ConfigError, InputError
from ivlm_core.evaluate.plots import Bar, Line, bar_chart, line_chart
from ivlm_core.evaluate.scene_mix import scene_mix_markdown
from ivlm_core.evaluate.scene_results import SCENE_RUNS, scene_section
from ivlm_core.storage import atomic_path

Report = Mapping[str, Any]

TABLES = ("main", "scene", "ablation", "data")
SPLITS = {"test": "Test", "unseen": "Unseen categories"}
ROWS = {
    "model": "**InteractVLM, `tiny`**",
    "category_prior": "category prior",
    "label_free": "per-vertex head without the label",
    "deco_style": "Semantic-DECO-style",
    "no_language_model": "no language model",
    "label_conditioned": "label-conditioned vertex head",
}
CEILINGS = {
    "prior_through_masks": "category prior, through the masks",
    "oracle_through_masks": "oracle of the sub-mode, through the masks",
    "ground_truth_through_masks": "ground truth, through the masks",
    "oracle": "oracle of the sub-mode, directly",
}
# The rows of the paper's Table S.4 by the names of training variants, in its order.
ABLATIONS = {
    "base": "MV-Loc and vertex branch, as shipped",
    "no_vertex_branch": "MV-Loc alone (no vertex branch)",
    "no_vertex_branch+no_camera": "no camera parameters",
    "no_vertex_branch+concat_camera": "camera parameters concatenated",
    "no_vertex_branch+featlift": "FeatLift",
    "no_mvloc": "no MV-Loc (two-layer MLP)",
    "no_vertex_branch+whole_mask": "loss on the whole mask",
    "no_vertex_branch+valid_mask": "loss on the valid mask",
    "no_vertex_branch+valid_mask_3d": "loss on the valid mask, with the 3D loss",
    "no_vertex_branch+no_parts_text": "no contact parts in the text",
    "no_vertex_branch+no_object_name": "no object name in the prompt",
    "no_vertex_branch+own_view_token": "each view with its own token only",
}
PERCENTS = (1, 5, 10, 25, 50, 100)


class Spread(NamedTuple):
    """Mean and standard deviation over the seeds of a run; no deviation of one."""

    mean: float
    deviation: float | None
    seeds: int

    def __str__(self) -> str:
        return f"{self.mean:.3f}" if self.deviation is None else f"{self.mean:.3f} ± {self.deviation:.3f}"


def write_results(folder: Path, table: str = "all") -> list[Path]:
    """Write `<folder>.md` from what lies in `folder`, and the plots into it.

    Parameters
    ----------
    table : `all`, or the one of `TABLES` to write; the other sections of the page stay as they are.

    Returns
    -------
    The files written.

    Raises
    ------
    ConfigError : no such table.  InputError : a result file that is damaged.
    """
    if table != "all" and table not in TABLES:
        raise ConfigError("--table", f"is {table!r}", f"choose all, {', '.join(TABLES)}")
    sections: dict[str, str] = {}
    plots: dict[str, str] = {}
    for name, make in (("main", _main), ("scene", _scene), ("ablation", _ablation), ("data", _data)):
        if table in ("all", name):
            sections[name] = make(folder, plots)
    page = folder.with_suffix(".md")
    text = page.read_text(encoding="utf-8") if page.is_file() else PAGE
    for name, section in sections.items():
        text = _replaced(text, name, section)
    written = []
    for name, drawing in plots.items():
        written.append(folder / name)
        with atomic_path(folder / name) as temporary:
            temporary.write_text(drawing, encoding="utf-8")
    with atomic_path(page) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return [page, *written]


def _main(folder: Path, plots: dict[str, str]) -> str:
    parts = []
    for split, title in SPLITS.items():
        report = _read(folder / f"{split}.json")
        parts.append(f"### {title}\n")
        if report is None:
            parts.append(_missing(f"ivlm evaluate --split {split} --json {folder / split}.json"))
            continue
        parts.append(_main_table(report))
        parts.append(_ceiling_table(report))
        bars = [
            Bar(name, report["semantic"]["per_category"][name]["f1"], _category(report, "category_prior", name))
            for name in sorted(report["semantic"]["per_category"])
        ]
        plots[f"{split}_categories.svg"] = bar_chart(f"Semantic F1 per category, {split}", bars, ("model", "prior"))
        parts.append(f"![F1 per category]({folder.name}/{split}_categories.svg)\n")
        parts.append(_breakdown("group", report["semantic"]["per_group"]))
        parts.append(_breakdown("body part", report["semantic"]["per_part"]))
    mix = _read(folder / "scene_mix.json")
    parts.append("### The mix of scenes\n")
    command = f"ivlm evaluate --table scene-mix --data DATA --test-data DATA --json {folder / 'scene_mix.json'}"
    parts.append(scene_mix_markdown(dict(mix)) + "\n" if mix is not None else _missing(command))
    return "\n".join(parts)


def _scene(folder: Path, plots: dict[str, str]) -> str:
    return scene_section({run.name: _read(folder / f"{run.name}.json") for run in SCENE_RUNS}, str(folder))


def _main_table(report: Report) -> str:
    contact = ("F1", "P", "R", "geodesic cm", "F1 by area", "binary F1", "binary geodesic", "wrong hand")
    header = ("", *contact, "SIM", "AUC", "aIOU", "MAE")
    lines = [_line(header), f"|---|{'---:|' * (len(header) - 1)}"]
    for name, title in ROWS.items():
        block = report if name == "model" else report["baselines"].get(name)
        if block is None:
            lines.append(_line((title, "not fitted", *[""] * (len(header) - 2))))
            continue
        semantic, binary, thing = block["semantic"], block["binary"], block["object"] or {}
        error = semantic.get("f1_error")
        cells = [
            f"{semantic['f1']:.3f}" + ("" if error is None else f" ± {error:.3f}"),
            *(_number(semantic[key]) for key in ("precision", "recall", "geodesic_cm", "f1_area")),
            *(_number(binary[key]) for key in ("f1", "geodesic_cm")),
            _number(block["wrong_hand_rate"]),
            *(_number(thing.get(key)) for key in ("sim", "auc", "aiou", "mae")),
        ]
        lines.append(_line((title, *cells)))
    about = f"{report['scenes']} scenes, {report['semantic']['samples']} touched objects"
    about += f", {report['untouched']['samples']} untouched ones"
    if "seed" in report:
        about += f", seed {report['seed']}"
    return "\n".join([*lines, "", f"{about}; ± is the standard error of the mean.", ""])


def _ceiling_table(report: Report) -> str:
    ceilings = report.get("ceilings")
    if not ceilings:
        return ""
    lines = ["| what masks allow | semantic F1 |", "|---|---:|"]
    lines += [f"| {title} | {_number(ceilings.get(name))} |" for name, title in CEILINGS.items()]
    low, high = ceilings.get("prior_through_masks"), ceilings.get("oracle_through_masks")
    told = ""
    if low is not None and high is not None and high > low:
        share = (report["semantic"]["f1"] - low) / (high - low)
        told = (
            f"The model is {share:.0%} of the way from the prior through the masks to the oracle through the masks.\n"
        )
    return "\n".join([*lines, "", told])


def _breakdown(what: str, rows: Mapping[str, Report]) -> str:
    lines = [f"| {what} | samples | F1 | P | R |", "|---|---:|---:|---:|---:|"]
    for name, row in rows.items():
        cells = (_number(row[key]) for key in ("f1", "precision", "recall"))
        lines.append(_line((name, str(row["samples"]), *cells)))
    return "\n".join([*lines, ""])


def _ablation(folder: Path, plots: dict[str, str]) -> str:
    runs = _runs(folder / "ablation", lambda key: key)
    if not runs:
        return _missing("ivlm evaluate --run ablation --data DATA --start-from tiny --steps-each N")
    lines = [
        "| variant | semantic F1 | binary F1 | geodesic cm | object SIM | seeds |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    bars = []
    for name in [*ABLATIONS, *sorted(set(runs) - set(ABLATIONS))]:
        title = ABLATIONS.get(name, name)
        if name not in runs:
            lines.append(_line((title, "not run", "", "", "", "")))
            continue
        reports = runs[name]
        f1 = _spread([report["semantic"]["f1"] for report in reports])
        others = [
            _spread([report[block][key] for report in reports if report[block] and report[block][key] is not None])
            for block, key in (("binary", "f1"), ("semantic", "geodesic_cm"), ("object", "sim"))
        ]
        lines.append(_line((title, str(f1), *("–" if one is None else str(one) for one in others), str(len(reports)))))
        if f1 is not None:
            bars.append(Bar(title, f1.mean, None, f1.deviation))
    plots["ablation.svg"] = bar_chart("Semantic F1 of the variants", bars, ("mean over seeds",))
    return "\n".join([*lines, "", _budget(runs), f"![Ablations]({folder.name}/ablation.svg)", ""])


def _data(folder: Path, plots: dict[str, str]) -> str:
    runs = _runs(folder / "data", lambda key: key if re.fullmatch(r"\d+(\.\d+)?", key) else None)
    if not runs:
        return _missing("ivlm evaluate --run data --data DATA --start-from MODEL --steps-each N")
    lines = ["| share of the training scenes | semantic F1 | binary F1 | seeds |", "|---:|---:|---:|---:|"]
    points, deviations = [], []
    for key in sorted(runs, key=float):
        f1 = _spread([report["semantic"]["f1"] for report in runs[key]])
        binary = _spread([report["binary"]["f1"] for report in runs[key]])
        lines.append(_line((f"{key} %", str(f1), str(binary), str(len(runs[key])))))
        if f1 is not None:
            points.append((float(key), f1.mean))
            deviations.append(f1.deviation or 0.0)
    missing = [f"{percent} %" for percent in PERCENTS if str(percent) not in runs]
    plots["data.svg"] = line_chart(
        "Semantic F1 against the share of training scenes", [Line("model", points, deviations)], "%", logarithmic=True
    )
    told = f"Not run: {', '.join(missing)}.\n" if missing else ""
    return "\n".join([*lines, "", _budget(runs), told, f"![Data]({folder.name}/data.svg)", ""])


def _budget(runs: Mapping[str, Sequence[Report]]) -> str:
    """What every run of a table was given, as the reports say; nothing where they do not say it or do not agree."""
    told = set()
    for report in (report for reports in runs.values() for report in reports):
        run = report.get("run") or {}
        length, start = run.get("trained") or {}, run.get("start") or {}
        if not length.get("pictures"):
            return ""
        begun = f", begun with `{start['from']}`" if start else ""
        told.add(f"{length['steps']} steps, {length['pictures']} pictures{begun}; {report['scenes']} test scenes")
    return f"Each run: {told.pop()}.\n" if len(told) == 1 else ""


def _runs(folder: Path, accept: Any) -> dict[str, list[Report]]:
    """The reports of each key, in the order of their seeds; files are `<key>.<seed>.json`."""
    found: dict[str, list[tuple[int, Report]]] = defaultdict(list)
    for path in sorted(folder.glob("*.json")):
        key, _, seed = path.stem.rpartition(".")
        if not seed.isdigit() or accept(key) is None:
            raise InputError("results", f"{path} is not named KEY.SEED.json", "rename it, or take it away")
        report = _read(path)
        if report is not None:
            found[key].append((int(seed), report))
    return {key: [report for _, report in sorted(reports, key=lambda item: item[0])] for key, reports in found.items()}


def _read(path: Path) -> Report | None:
    """A result file, None where there is none."""
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise InputError("results", f"{path} cannot be read: {error}", "measure it again") from error
    if not isinstance(report, dict):
        raise InputError("results", f"{path} holds no report", "measure it again")
    return report


def _spread(values: Sequence[float]) -> Spread | None:
    if not values:
        return None
    mean = math.fsum(values) / len(values)
    if len(values) == 1:
        return Spread(mean, None, 1)
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))
    return Spread(mean, deviation, len(values))


def _category(report: Report, baseline: str, name: str) -> float | None:
    block = report["baselines"].get(baseline)
    return None if block is None else block["semantic"]["per_category"].get(name, {}).get("f1")


def _replaced(text: str, name: str, section: str) -> str:
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    before, found, rest = text.partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise InputError("results", f"the page has no section {name!r}", f"put {begin} and {end} where it belongs")
    return f"{before}{begin}\n\n{section.strip()}\n\n{end}{after}"


def _missing(command: str) -> str:
    return f"Not measured yet: `{command}`.\n"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


PAGE = """# Results on SynthHOI

Everything on this page is measured on generated scenes (`docs/synthhoi.md`); `ivlm evaluate --table all` writes it from
the files in `docs/results/`, which `ivlm evaluate --json FILE` leaves there.

## What is measured

* **Scenes** are fresh: made from a seed that no training has used (refused otherwise), at most 80° from the person's
  front. `unseen` shows categories that are held out of training.
* **Predictions** come from free generation: the model is given the picture, and label and box of each object, as a
  detector would report them. Nothing of the ground truth is in what it gets, and replacing the ground truth by noise
  leaves every prediction the same to the last bit.
* A **sample** is one touched object of one scene. Per sample, a vertex is predicted at 0.5 (baselines: at the threshold
  that is best on training data): precision P = TP / predicted, recall R = TP / true, F1 their harmonic mean; then the
  mean over samples. *By area* weighs each vertex with its share of the surface, since a hand has more vertices than the
  trunk.
* **Geodesic** error, in cm along the body's surface: how far predicted vertices are from the nearest true one, on
  average; the reverse is in the files as `geodesic_reverse_cm`. An empty prediction counts as the whole body.
* **Binary** scores are of the union over all objects of a scene. Objects that nobody touches count there: marking
  contact with them is wrong. F1 has no meaning where nothing is true, so they are no samples of the semantic and object
  scores; `untouched` in the files says how often contact was marked on them.
* **Per body part**: scores on the vertices of the part, over the samples in which it is touched or marked.
* **Wrong hand**: of one-handed grips (at least 80 % of the contact on one hand and none on the other), the share in
  which only the other hand is marked (a hand is marked when a tenth of its area is).
* **Objects**: SIM, AUC, aIOU, MAE of the contact on the library's mesh of the label.
* **Ceilings**: the category prior, the *oracle* (mean label of the true way of use: which hand, which foot) and the
  ground truth itself, painted into the model's view masks at their resolution and lifted back.
* **Baselines**, trained on the same scenes (`docs/training.md`): the *category prior* (mean contact of the category; of
  everything for an unseen one); *Semantic-DECO-style* (image encoder and a per-vertex head for all categories at once,
  the label picks one; for an unseen category the likeliest of all); *per-vertex head without the label* (the same
  head's likeliest category at every vertex, for all objects alike); *no language model* (picture and label to the
  contact embedding of MV-Loc); and a *label-conditioned vertex head*. All but the prior begin with the finished image
  encoder of `tiny` and go on training it: what they show is how much the rest of the method adds to what its encoder
  has learned, not how far they would get from the same random numbers.

## Main results

<!-- main: begin -->
<!-- main: end -->

## Objects and people in the scene

The person's true body is given, and the mesh of the very instance; distances are of the whole surfaces. Rotation
counts modulo the object's symmetry; penetration is the mean depth of what is inside the other; a success has a Chamfer
distance below 5 cm, and an object without a pose is none. Means are over the objects with a pose. Without contact, the
distance of an object follows from how large it looks. One picture each, 256 × 192 pixels.

<!-- scene: begin -->
<!-- scene: end -->

## Ablations (paper, Table S.4)

Mean ± standard deviation over seeds, as it came out. Each row is a short run at the same budget. A short run from
random numbers would say nothing: it ends where the category prior is, whatever its row changes. So every run begins
with the same trained model, whose MV-Loc and vertex branch are thrown away and learned again, from other random numbers
with each seed, while the language model goes on learning slowly and the image encoder stays (`docs/training.md`).

That is what the rows compare: how well contact is localized by a model that knows already how to answer. Neither the
language model nor the image encoder was trained with a row's change, and the two rows about words begin with a model
that has learned with names and parts and goes on without them, which says less than a model that never had them would.
Differences of the order of the deviations mean nothing.

<!-- ablation: begin -->
<!-- ablation: end -->

## Share of the training data (paper, Fig. 5)

Runs of one length on a part of the training scenes. All begin with one model that stands for the paper's pre-trained
one: it has seen the pictures of *all* scenes and learned which body part or object is where, and to find an object by
its name, but no label of contact, of the body or of an object (`--variant no_contact`). Its image encoder stays;
contact is learned from the share alone, with the vertex branch and without masks, so that the figures are not those of
the ablations or of `tiny`.

<!-- data: begin -->
<!-- data: end -->
"""
