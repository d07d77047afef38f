"""`ivlm replay`: a recording goes through the core or the running node; a new bag and a report come out."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ivlm_core.cli import LOADING
from ivlm_core.config import MODES
from ivlm_core.datasets.bags import GROUND_TRUTH
from ivlm_core.errors import ConfigError
from ivlm_core.storage import atomic_path
from ivlm_ros.replay.findings import HARMLESS, Findings
from ivlm_ros.replay.settings import NODE, STORAGES, ReplaySettings

if TYPE_CHECKING:
    from ivlm_ros.replay.offline import Progress
    from ivlm_ros.replay.outcome import Outcome

INPUTS = ("image", "detections", "camera_info", "bodies", "depth")
# What an online replay cannot choose, because the node has it.
OF_THE_MODEL = ("model", "device", "dtype", "reasoning", "mode", "reconstruct", "threshold", "overlay")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `ivlm replay`."""
    parser.add_argument("bag", type=Path, metavar="BAG", help="folder of a rosbag2 recording (MCAP or sqlite3)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder for the results (default: BAG-replay)")
    parser.add_argument("--storage", choices=STORAGES, default="", help="of the new bag (default: that of BAG)")
    parser.add_argument("--no-html", action="store_true", help="write no report.html")

    part = parser.add_argument_group("what is played")
    part.add_argument("--start", type=float, default=0.0, metavar="S", help="begin so many seconds into the bag")
    part.add_argument("--duration", type=float, metavar="S", help="and use so many seconds of it")
    part.add_argument("--frames", type=int, metavar="N", help="stop after so many images")
    for name in INPUTS:
        option = f"--{name.replace('_', '-')}-topic"
        part.add_argument(option, metavar="TOPIC", help="default: found by its type")
    part.add_argument(
        "--label", action="append", default=[], metavar="LABEL", help="ask about this object in every image, in place "
        "of detections; may be repeated"
    )  # fmt: skip
    part.add_argument(
        "--class-name", action="append", default=[], metavar="NAME", help="name of class 0, 1, … where a detector only "
        "numbers them; 'coco' stands for COCO's"
    )  # fmt: skip
    part.add_argument("--sync-slop", type=float, default=0.0, metavar="S", help="largest difference of stamps, seconds")
    part.add_argument(
        "--ground-truth", default=GROUND_TRUTH, metavar="PREFIX", help="where true contacts lie (%(default)s)"
    )

    model = parser.add_argument_group("offline: the model (as of `ivlm contact`)")
    model.add_argument("--model", help="tiny, interactvlm-7b, interactvlm-13b, or a checkpoint directory (tiny)")
    model.add_argument("--device", help="auto, cpu or cuda (auto)")
    model.add_argument("--dtype", help="auto, float32 or bfloat16 (auto)")
    model.add_argument("--reasoning", choices=("parts", "direct"), help="(parts)")
    model.add_argument("--mode", choices=MODES, help="what is asked (joint)")
    model.add_argument("--reconstruct", action="store_true", default=None, help="fit objects into the scene")
    model.add_argument("--threshold", type=float, help="contact threshold (0.5)")
    model.add_argument("--max-objects", type=int, default=8, help="most objects of one image (%(default)s)")
    model.add_argument("--overlay", action="store_true", default=None, help="write the overlay into the new bag, too")

    online = parser.add_argument_group("online: through the node that is running")
    online.add_argument("--online", action="store_true", help="play over DDS into the node")
    online.add_argument("--rate", type=float, metavar="HZ", help="images per second (default: each waits its turn)")
    online.add_argument("--node", default=NODE, help="its name (%(default)s)")
    online.add_argument("--namespace", default="", help="its namespace")
    online.add_argument("--timeout", type=float, default=20.0, metavar="S", help="longest wait for an answer (20)")


def run(options: argparse.Namespace) -> int:
    """Replay, write the results; 0, or 1 when no image was answered."""
    settings = settings_from(options)
    findings = Findings()

    def say(text: str) -> None:
        if not options.json:
            print(text, file=sys.stderr, flush=True)

    with _bar(quiet=options.json) as progress:
        if settings.online:
            from ivlm_ros.replay.through_node import replay_online

            outcome = replay_online(settings, findings, progress, lambda: say(f"{settings.bag} → {settings.out}"))
        else:
            from ivlm_ros.replay.offline import load_pipeline, replay_offline

            def load(settings: ReplaySettings) -> Any:
                # Not before the bag is known to be one.
                say(f"{settings.bag} → {settings.out}\n{LOADING}")
                return load_pipeline(settings)

            outcome = replay_offline(settings, findings, load, progress)
    facts = write_report(settings, outcome, findings)
    if options.json:
        print(json.dumps(facts))
    else:
        print(told(settings, facts))
    return 0 if outcome.frames_out else 1


def write_report(settings: ReplaySettings, outcome: Outcome, findings: Findings) -> dict[str, Any]:
    """Write `report.json` and, where wanted, `report.html`; returns what is in the former."""
    from ivlm_ros.replay.report import make_report

    report = make_report(settings, outcome, findings)
    with atomic_path(settings.out / "report.json") as temporary:
        temporary.write_text(json.dumps(report.facts, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    page = settings.out / "report.html"
    if settings.html:
        from ivlm_ros.replay.page import write_page

        write_page(page, report)
    else:
        page.unlink(missing_ok=True)  # one of an earlier run would speak of other answers
    return report.facts


def settings_from(options: argparse.Namespace) -> ReplaySettings:
    """The checked settings.

    Raises
    ------
    ConfigError : an option is out of range, or has no effect here.
    """
    model = {name: value for name in OF_THE_MODEL if (value := getattr(options, name)) is not None}
    if options.online:
        given = [*model, *(["label"] if options.label else [])]
        if given:
            raise ConfigError(
                f"--{given[0]}",
                "has no effect on a node that is running",
                "leave it out and set the node's parameter of that name, or replay offline",
            )
    elif options.rate is not None:
        raise ConfigError("--rate", "is for --online", "offline, images follow as fast as the model answers")
    out = options.out or options.bag.resolve().with_name(f"{options.bag.resolve().name}-replay")
    return ReplaySettings(
        bag=options.bag,
        out=_checked_out(out, options.bag),
        online=options.online,
        rate=options.rate,
        timeout=options.timeout,
        node=options.node.strip("/"),
        namespace=options.namespace,
        topics={name: topic for name in INPUTS if (topic := getattr(options, f"{name}_topic"))},
        ground_truth=options.ground_truth,
        labels=tuple(options.label),
        class_names=tuple(options.class_name),
        max_objects=options.max_objects,
        slop=options.sync_slop,
        start=options.start,
        duration=options.duration,
        frames=options.frames,
        storage=options.storage,
        html=not options.no_html,
        **model,
    )


def _checked_out(out: Path, bag: Path) -> Path:
    """The folder for the results, which must not be the bag itself nor within it."""
    if bag.exists() and (out.resolve() == bag.resolve() or bag.resolve() in out.resolve().parents):
        raise ConfigError("--out", f"{out} is the bag, or lies within it", "give another folder")
    if (out / "bag").resolve() == bag.resolve():
        raise ConfigError("--out", f"its bag would replace {bag}", "give another folder")
    if out.exists() and not out.is_dir():
        raise ConfigError("--out", f"{out} is a file", "give a folder")
    return out


@contextlib.contextmanager
def _bar(quiet: bool) -> Iterator[Progress]:
    from tqdm import tqdm

    with contextlib.ExitStack() as stack:
        bars: list[Any] = []

        def progress(done: int, expected: int) -> None:
            # There is none before the first image: what refuses the bag stands alone on the terminal.
            if not bars:
                bars.append(stack.enter_context(tqdm(desc="replaying", unit=" images", file=sys.stderr, disable=quiet)))
            (bar,) = bars
            bar.total = max(expected, done) if expected else None
            bar.update(done - bar.n)

        yield progress


def told(settings: ReplaySettings, facts: dict[str, Any]) -> str:
    """What the terminal shows in the end."""
    frames, latency = facts["frames"], facts["latency"].get("total", {})
    dropped = ", ".join(f"{count} {reason}" for reason, count in frames["dropped"].items())
    lines = [f"images    {frames['in']} in, {frames['out']} answered" + (f", dropped: {dropped}" if dropped else "")]
    if latency:
        lines.append(f"latency   p50 {latency['p50_ms']:.0f} ms, p95 {latency['p95_ms']:.0f} ms per image")
    scores = facts["ground_truth"]
    if scores:
        contact, thing = scores["semantic"], scores["object"]
        told_scores = [
            f"{name} {value:.2f}{unit}"
            for name, value, unit in (
                ("F1", contact["f1"], ""),
                ("geodesic", contact["geodesic_cm"], " cm"),
                ("SIM", thing and thing["sim"], ""),
                ("AUC", thing and thing["auc"], ""),
            )
            if value is not None
        ]
        lines.append(
            f"scores    {', '.join(told_scores) or 'none'} ({scores['answered']} of {scores['known']} objects)"
        )
    for kind, entry in facts["findings"].items():
        mark = "note" if kind in HARMLESS else "warning"
        lines.append(f"{mark:9} {entry['count']} × {entry['meaning']}: {entry['first']}")
    page = ", report.html" if settings.html else ""
    lines.append(f"written to {settings.out}: bag/, report.json{page}")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """`ros2 run ivlm_ros replay`: the same as `ivlm replay`."""
    from ivlm_core.cli import main as ivlm

    return ivlm(["replay", *(sys.argv[1:] if arguments is None else arguments)])
