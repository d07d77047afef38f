"""`report.html`: everything of the report in one file that loads nothing, for any browser, without a network."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Any

from ivlm_core.storage import atomic_path
from ivlm_ros.replay import figures
from ivlm_ros.replay.findings import HARMLESS
from ivlm_ros.replay.outcome import Sample
from ivlm_ros.replay.report import Report
from ivlm_ros.replay.solids import Solids

MAX_BYTES = 11_500_000
# Nothing may be fetched, whatever stands in the page; plotly's 3D plots make functions out of text.
POLICY = "default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; style-src 'unsafe-inline'; img-src data: blob:"
DROPPED = {
    "no_detections": "no detections with the image's stamp",
    "bad_input": "the image cannot be used",
    "failed": "the model could not finish",
    "busy": "a newer image came while the node was at work",
    "max_rate": "the node's parameter max_rate",
    "disabled": "the node was switched off",
    "no_answer": "lost on the way, or not answered in time",
}


def write_page(path: Path, report: Report) -> None:
    """Write the page; pictures and views are thinned out until it is at most `MAX_BYTES` large."""
    samples = report.outcome.samples
    while True:
        page = make_page(report, samples)
        if len(page.encode()) <= MAX_BYTES or len(samples) <= 1:
            break
        samples = samples[::2]
    with atomic_path(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def make_page(report: Report, samples: Sequence[Sample]) -> str:
    """The page's text, which shows the given samples."""
    from plotly.offline import get_plotlyjs

    facts = report.facts
    start = facts["bag"]["start_ns"] or 0
    total = facts["latency"].get("total")
    plots = {
        "timeline": figures.timeline(report.tracks, start),
        "latency": figures.latency(report.outcome.stages.get("total", []), total["p50_ms"], total["p95_ms"])
        if total
        else None,
    }
    solids = _solids(report, samples, start)
    shown = {name: plot for name, plot in plots.items() if plot is not None}
    data = {"figures": shown, "meshes": solids.meshes, "views": solids.views}
    sections = [
        _head(facts),
        _told(facts),
        _timeline(facts, "timeline" in shown, len(report.tracks)),
        _scores(facts["ground_truth"]),
        _views(solids),
        _pictures(report, samples, start),
        _latency(facts, "latency" in shown),
        _details(facts),
    ]
    here = Path(__file__).parent
    return "\n".join(
        (
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>Replay of {escape(Path(facts['bag']['path']).name)}</title>",
            f"<style>{(here / 'report.css').read_text(encoding='utf-8')}</style></head><body><main>",
            *sections,
            "</main>",
            f'<script type="application/json" id="report-data">{_json(data)}</script>',
            f"<script>{get_plotlyjs()}</script>",
            f"<script>{(here / 'report.js').read_text(encoding='utf-8')}</script>",
            "</body></html>",
        )
    )


def _json(data: Any) -> str:
    """JSON that cannot end the element it stands in."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _solids(report: Report, samples: Sequence[Sample], start: int) -> Solids:
    solids = Solids(report.outcome)
    for sample in samples:
        answers = [answer for answer in report.answers if answer.key == sample.key]
        if answers:
            when = f"{(answers[0].time - start) / 1e9:.1f} s"
            if sample.scene:
                solids.add_scene(f"{when} · the scene in metres", sample.scene)
            for answer in answers:
                solids.add_answer(f"{when} · {answer.label}", answer)
    return solids


def _head(facts: dict[str, Any]) -> str:
    frames, total, scores = facts["frames"], facts["latency"].get("total"), facts["ground_truth"]
    cards = [
        (f"{frames['out']} of {frames['in']}", "images answered"),
        (str(sum(frames["dropped"].values())), "images dropped"),
    ]
    if total:
        cards += [(f"{total['p50_ms']:.0f} ms", "latency p50"), (f"{total['p95_ms']:.0f} ms", "latency p95")]
    if scores:
        thing = scores["object"] or {}
        for value, name, form in (
            (scores["semantic"]["f1"], "contact F1", "{:.2f}"),
            (scores["semantic"]["geodesic_cm"], "geodesic error", "{:.1f} cm"),
            (thing.get("sim"), "object SIM", "{:.2f}"),
            (thing.get("auc"), "object AUC", "{:.2f}"),
        ):
            if value is not None:
                cards.append((form.format(value), name))
    way = "through the running node" if facts["settings"]["online"] else "offline, through the core"
    model = facts["model"].get("name", "an unknown model")
    inner = "".join(f"<div><b>{escape(value)}</b><span>{escape(name)}</span></div>" for value, name in cards)
    seconds = f"{facts['bag']['duration_s']:.1f} s recorded"
    return (
        f"<h1>Replay of {escape(Path(facts['bag']['path']).name)}</h1>"
        f'<p class="caption">{escape(seconds)}, replayed {escape(way)} with {escape(str(model))}.</p>'
        f'<div class="cards">{inner}</div>'
    )


def _told(facts: dict[str, Any]) -> str:
    items = [
        f'<li class="warning">{count} {_images(count)} dropped: {escape(DROPPED.get(reason, reason))}</li>'
        for reason, count in facts["frames"]["dropped"].items()
    ]
    for kind, entry in facts["findings"].items():
        mark = "note" if kind in HARMLESS else "warning"
        items.append(
            f'<li class="{mark}">{entry["count"]} × {escape(entry["meaning"])}'
            f"<small>first: {escape(entry['first'])}</small></li>"
        )
    if not items:
        items = ['<li class="good">Every image was answered, and everything in the bag could be read.</li>']
    return f'<h2>Drops and warnings</h2><ul class="told">{"".join(items)}</ul>'


def _images(count: int) -> str:
    return "image" if count == 1 else "images"


def _timeline(facts: dict[str, Any], drawn: bool, count: int) -> str:
    if not drawn:
        return '<h2>Contact over time</h2><p class="caption">No object was answered.</p>'
    more = (
        f" The {figures.MOST_TRACKS} most frequent of {count} objects are shown." if count > figures.MOST_TRACKS else ""
    )
    return (
        "<h2>Contact over time</h2>"
        '<p class="caption">One block for each object. A row is a body part that touches it, from pale (0) to red (1, '
        "certain); the last row is the greatest value on the object itself, with the kind of use the model named. "
        f"Where a block is empty, the object was not seen.{more}</p>"
        '<div class="plot" id="timeline"></div>'
    )


def _scores(scores: dict[str, Any] | None) -> str:
    if scores is None:
        return (
            "<h2>Against the ground truth</h2>"
            '<p class="caption">The bag carries no ground truth, so nothing is known of how right the answers are.</p>'
        )
    rows = [("all", scores), *scores["recordings"].items()] if len(scores["recordings"]) > 1 else [("all", scores)]
    cameras = _table(
        ("camera", "objects", "answered", "F1", "precision", "recall", "geodesic", "SIM", "AUC"),
        (
            (
                name,
                figures_["known"],
                figures_["answered"],
                *_contact(figures_["semantic"]),
                *_thing(figures_["object"]),
            )
            for name, figures_ in rows
        ),
        emphasised=0,
    )
    things = (scores["object"] or {}).get("per_category", {})
    labels = _table(
        ("object", "scored", "F1", "precision", "recall", "geodesic", "SIM", "AUC"),
        (
            (label, block["samples"], *_contact(block), *_thing(things.get(label)))
            for label, block in scores["semantic"]["per_category"].items()
        ),
    )
    parts = _table(
        ("body part", "scored", "F1", "precision", "recall"),
        (
            (part, block["samples"], *(_number(block[name]) for name in ("f1", "precision", "recall")))
            for part, block in scores["semantic"]["per_part"].items()
        ),
    )
    untouched = scores["untouched"]
    note = ""
    if untouched["samples"]:
        marked = round(untouched["marked"] * untouched["samples"])
        note = (
            f" Of {untouched['samples']} answered objects that nobody touches, which have no F1, {marked} were wrongly "
            "marked as touched."
        )
    return (
        "<h2>Against the ground truth</h2>"
        f'<p class="caption">True contacts are read below {escape(scores["prefix"])}; answers are cut at '
        f"{scores['threshold']:g}. F1, precision and recall count vertices of the body. Geodesic is how far marked "
        "contact lies from true contact along the skin (0 cm is best). SIM and AUC compare the values on the object, "
        f"of which those below the threshold are not published (1 is best).{note}</p>"
        f"{cameras}<h3>By object</h3>{labels}<h3>By body part</h3>{parts}"
    )


def _contact(block: dict[str, Any]) -> tuple[str, ...]:
    geodesic = block["geodesic_cm"]
    far = "–" if geodesic is None else f"{geodesic:.1f} cm"
    return (*(_number(block[name]) for name in ("f1", "precision", "recall")), far)


def _thing(block: dict[str, Any] | None) -> tuple[str, ...]:
    return tuple(_number(block[name] if block else None) for name in ("sim", "auc"))


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _views(solids: Solids) -> str:
    if not solids.views:
        return ""
    return (
        "<h2>Body and object in 3D</h2>"
        '<p class="caption">Choose an image and an object, then turn the meshes with the mouse or a finger. Grey is '
        "untouched, red is contact; values below the threshold are not published and stay grey. Body and object have "
        "sizes of their own here; a scene in metres is there where objects were fitted.</p>"
        '<label>Shown: <select id="view"></select></label>'
        '<div class="solids">'
        '<div class="plot"><p>on the body</p><div id="solid-body"></div></div>'
        '<div class="plot"><p>on the object</p><div id="solid-thing"></div></div>'
        '<div class="plot"><p>the scene, as the camera stands</p><div id="solid-scene"></div></div>'
        "</div>"
    )


def _pictures(report: Report, samples: Sequence[Sample], start: int) -> str:
    times = {answer.key: answer.time for answer in report.answers}
    made = []
    for sample in samples:
        if sample.picture:
            when = f"{(times[sample.key] - start) / 1e9:.1f} s · " if sample.key in times else ""
            caption = f"{when}{sample.key[0]}"
            made.append(
                f'<figure><img loading="lazy" alt="overlay" src="data:image/jpeg;base64,'
                f'{base64.b64encode(sample.picture).decode()}"><figcaption>{escape(caption)}</figcaption></figure>'
            )
    if not made:
        return ""
    return (
        "<h2>Pictures</h2>"
        '<p class="caption">Images spread over the bag, each with its detections, and for every object the touched '
        f'body and the touched object from four sides.</p><div class="pictures">{"".join(made)}</div>'
    )


def _latency(facts: dict[str, Any], drawn: bool) -> str:
    if not drawn:
        return ""
    online = facts["settings"]["online"]
    what = (
        "From publishing an image to receiving its answer, with the transport both ways."
        if online
        else "From the recorded message to the written answer, on this machine; “total” holds all the others."
    )
    stages = {
        **facts["latency"],
        **{f"in the node: {name}": value for name, value in facts["node"].get("latency", {}).items()},
    }
    rows = (
        (name, *(f"{entry[key]:.1f} ms" if key in entry else "–" for key in ("p50_ms", "p95_ms", "max_ms")))
        for name, entry in stages.items()
    )
    return (
        f'<h2>Latency</h2><p class="caption">{escape(what)}</p><div class="plot" id="latency"></div>'
        f"{_table(('stage', 'p50', 'p95', 'longest'), rows)}"
    )


def _details(facts: dict[str, Any]) -> str:
    chosen = {entry["topic"]: name for name, entry in facts["inputs"].items()}
    topics = _table(
        ("topic", "type", "messages", "read as"),
        (
            (item["topic"], item["type"], item["messages"], chosen.get(item["topic"], ""))
            for item in facts["bag"]["topics"]
        ),
        text=(1, 3),
    )
    settings = _table(
        ("setting", "value"),
        ((name, json.dumps(value, ensure_ascii=False)) for name, value in facts["settings"].items()),
        text=(1,),
    )
    bag = facts["bag"]
    model = ", ".join(f"{name} {value}" for name, value in facts["model"].items())
    return (
        "<details><summary>The bag, the model and the settings</summary>"
        f"<p>{escape(bag['path'])}: {escape(bag['storage'])}, {bag['messages']} messages, distribution "
        f"{escape(bag['distribution'] or 'unknown')}. Model: {escape(model or 'unknown')}. "
        f"{escape(facts['software'])}.</p>"
        f"{topics}{settings}</details>"
    )


def _table(
    heads: Sequence[str], rows: Iterable[Sequence[Any]], emphasised: int | None = None, text: Sequence[int] = ()
) -> str:
    def cell(tag: str, column: int, value: Any) -> str:
        mark = ' class="text"' if column in text else ""
        return f"<{tag}{mark}>{escape(str(value))}</{tag}>"

    head = "".join(cell("th", column, name) for column, name in enumerate(heads))
    body = "".join(
        f"<tr{' class=all' if number == emphasised else ''}>"
        + "".join(cell("td", column, value) for column, value in enumerate(row))
        + "</tr>"
        for number, row in enumerate(rows)
    )
    return f'<div class="wide"><table><tr>{head}</tr>{body}</table></div>'
