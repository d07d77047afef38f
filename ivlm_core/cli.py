"""The command line: `ivlm COMMAND …`. Every command has `--json` for scripts; errors are one line and exit status 2."""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import json
import logging
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ivlm_core import __version__
from ivlm_core.arguments import OneLineParser
from ivlm_core.config import MODES
from ivlm_core.errors import ConfigError, IvlmError, shown
from ivlm_core.types import Frame, FrameResult, ObjectAffordance

Command = Callable[[argparse.Namespace], int]

# The one command that lives beside the core, which itself knows nothing of ROS and may be installed alone.
REPLAY = "ivlm_ros.replay.command"
# On a small machine minutes may pass before the first answer.
LOADING = "loading the model"
# What `ivlm evaluate` can write and fit; named here because the rooms behind them are slow to import.
TASKS = ("contact", "reconstruct", "bodies", "retrieve")
SOURCES = ("predicted", "ground-truth")
TABLES = ("all", "main", "scene", "ablation", "data", "scene-mix")
BASELINES = ("category_prior", "deco_style", "no_language_model", "label_conditioned")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status: 0 done, 1 done with a negative finding, 2 refused."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="ivlm: %(message)s")
    # Nothing is ever fetched at run time; the libraries need not try.
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    command: Command = options.command
    try:
        return command(options)
    except IvlmError as error:
        if options.json:
            print(json.dumps({"error": {"field": error.field, "problem": error.problem, "remedy": error.remedy}}))
        print(f"ivlm: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("ivlm: interrupted", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser(prog="ivlm", description="Where people touch things, from one image.")
    parser.add_argument("--version", action="version", version=f"ivlm {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    contact = _command(commands, "contact", contact_command, "contact on body and object for one picture")
    contact.add_argument("image", type=Path, help="a picture (JPEG, PNG, …)")
    contact.add_argument(
        "--object",
        dest="objects",
        action="append",
        default=[],
        metavar="LABEL[=MESH]",
        help="an object in the picture, optionally with its mesh file (OBJ, PLY, STL, GLB); may be repeated",
    )
    contact.add_argument(
        "--box",
        dest="boxes",
        action="append",
        default=[],
        type=float,
        nargs=4,
        metavar=("X0", "Y0", "X1", "Y1"),
        help="where the object is, in pixels, to mark it in overlay.png; the model is asked about the label, in "
        "the whole picture; as often as --object, in its order",
    )
    contact.add_argument(
        "--model",
        default="tiny",
        help="tiny, interactvlm-7b, interactvlm-13b, or a checkpoint directory (default: %(default)s)",
    )
    contact.add_argument(
        "--out", type=Path, required=True, help="folder for result.json, contacts.npz, pictures, meshes"
    )
    contact.add_argument("--reasoning", choices=("parts", "direct"), default="parts", help="default: %(default)s")
    contact.add_argument(
        "--quantize",
        choices=("none", "int8"),
        default="none",
        help="weights of the language model (default: %(default)s)",
    )
    contact.add_argument("--mode", choices=MODES, default="joint", help="what is asked (default: %(default)s)")
    contact.add_argument("--threshold", type=float, default=0.5, help="contact threshold (default: %(default)s)")
    contact.add_argument("--device", default="auto", help="auto, cpu or cuda (default: %(default)s)")
    contact.add_argument("--dtype", default="auto", help="auto, float32 or bfloat16 (default: %(default)s)")
    contact.add_argument(
        "--graphs",
        choices=("auto", "off"),
        default="auto",
        help="replay captured CUDA graphs where there is a CUDA device (default: %(default)s)",
    )
    contact.add_argument(
        "--body",
        default="anny",
        metavar="BODY",
        help="predict human contact on anny, smpl, smplh or smplx (default: %(default)s; released models know smplh)",
    )
    contact.add_argument("--body-path", type=Path, metavar="FILE", help="the .npz file of that body")
    contact.add_argument(
        "--output-body",
        default="",
        metavar="BODY",
        help="convert human contact to anny, smpl, smplh or smplx (default: the body it is predicted on)",
    )
    contact.add_argument("--output-body-path", type=Path, metavar="FILE", help="the .npz file of that body")
    contact.add_argument(
        "--body-map", type=Path, metavar="FILE", help="an .npz matrix to convert with (default: computed and cached)"
    )

    convert = _command(commands, "convert", convert_command, "convert a released InteractVLM checkpoint")
    convert.add_argument("source", type=Path, metavar="SRC", help="the released directory")
    convert.add_argument("target", type=Path, metavar="DST", help="the directory to make")
    convert.add_argument("--clip", type=Path, help="the CLIP vision tower's directory, where SRC does not hold it")
    convert.add_argument("--merge-lora", action="store_true", help="add LoRA adapters into the weights")
    convert.add_argument(
        "--check",
        type=Path,
        metavar="REFERENCE.npz",
        help="replay reference cases through the converted model; exit status 1 above tolerance. A DST that exists "
        "already is then checked as it is",
    )

    _add_reconstruct(commands)

    _add_objects(commands)

    _add_synth(commands)

    _add_replay(commands)

    train = _command(commands, "train", train_command, "train a model on generated scenes")
    train.add_argument("--data", type=Path, required=True, help="folder of a generated dataset (`ivlm synth generate`)")
    train.add_argument("--out", type=Path, help="folder of the run: checkpoints, logs, pictures")
    train.add_argument("--profile", default="tiny", help="a shipped profile or a YAML file (default: %(default)s)")
    train.add_argument("--steps", type=int, default=0, help="length of the run in steps (default: the recipe's)")
    train.add_argument("--minutes", type=float, default=0.0, help="length of the run in minutes, instead")
    train.add_argument("--batch", type=int, default=0, help="pictures in a step (default: the recipe's)")
    train.add_argument("--learning-rate", type=float, default=0.0, help="highest rate (default: the recipe's)")
    train.add_argument("--data-fraction", type=float, default=1.0, help="share of the scenes to use (default: 1)")
    train.add_argument(
        "--variant", action="append", default=[], metavar="NAME", help="an ablation; may be repeated (docs/training.md)"
    )
    train.add_argument("--seed", type=int, default=0, help="same seed, same run (default: %(default)s)")
    train.add_argument("--resume", action="store_true", help="go on from the last checkpoint in --out")
    train.add_argument("--export", type=Path, metavar="DIR", help="write the trained model as a checkpoint directory")
    train.add_argument(
        "--objects-of",
        metavar="MODEL",
        help="teach a trained model the library's objects anew, and nothing else; with --export, without --out",
    )
    train.add_argument("--validation", type=int, default=150, help="scenes to validate on (default: %(default)s)")
    train.add_argument("--validate-minutes", type=float, default=8.0, help="how often (default: %(default)s)")
    train.add_argument("--save-minutes", type=float, default=5.0, help="how often (default: %(default)s)")
    train.add_argument("--device", default="auto", help="auto, cpu or cuda (default: %(default)s)")
    train.add_argument("--deepspeed", type=Path, metavar="FILE", help="for several GPUs: config/deepspeed.json")

    evaluate = _command(commands, "evaluate", evaluate_command, "how good a model is on SynthHOI, beside its baselines")
    evaluate.add_argument("--task", choices=TASKS, default="contact", help="what is measured (default: %(default)s)")
    evaluate.add_argument(
        "--contacts", choices=SOURCES, default="predicted", help="for reconstruct: what is fitted to (%(default)s)"
    )
    evaluate.add_argument(
        "--masks", choices=SOURCES, help="for reconstruct: the objects' pixels, predicted from boxes (like --contacts)"
    )
    evaluate.add_argument("--split", default="test", help="test, unseen, val or train (default: %(default)s)")
    evaluate.add_argument("--scenes", type=int, default=2000, help="how many (default: %(default)s)")
    evaluate.add_argument("--seed", type=int, default=1, help="of fresh scenes, never one of training (default: 1)")
    evaluate.add_argument("--data", type=Path, help="a stored data set, read instead of making fresh scenes")
    evaluate.add_argument("--model", default="tiny", help="tiny or a checkpoint directory; with --run: a profile")
    evaluate.add_argument("--device", default="auto", help="auto, cpu or cuda (default: %(default)s)")
    evaluate.add_argument("--dtype", default="auto", help="auto, float32 or bfloat16 (default: %(default)s)")
    evaluate.add_argument("--workers", type=int, help="processes (default: one per core; 0: none but this one)")
    evaluate.add_argument(
        "--json", nargs="?", const=True, metavar="FILE", help="write the figures to a file; without one, print them"
    )
    evaluate.add_argument("--table", choices=TABLES, help="write tables and plots instead")
    evaluate.add_argument("--test-data", type=Path, metavar="DIR", help="stored test scenes (for scene-mix and --run)")
    evaluate.add_argument("--results", type=Path, help="folder of the results behind the tables (docs/results)")
    evaluate.add_argument(
        "--run",
        choices=("ablation", "data"),
        help="train and evaluate what this table is made of, on --data; started again, it goes on",
    )
    evaluate.add_argument("--steps-each", type=int, default=0, help="length of every training of --run, in steps")
    evaluate.add_argument("--minutes-each", type=float, default=0.0, help="the same in minutes")
    evaluate.add_argument("--start-from", default="", metavar="MODEL", help="what every training begins with")
    evaluate.add_argument("--seeds", default="0,1,2", help="of the trainings of --run (default: %(default)s)")
    evaluate.add_argument("--row", action="append", default=[], help="run only this one of --run; may be repeated")
    evaluate.add_argument("--runs", type=Path, default=Path("runs"), help="folder of the trainings of --run (runs)")
    evaluate.add_argument("--fit-baselines", type=Path, metavar="DATA", help="compute priors and train the baselines")
    evaluate.add_argument("--only", choices=BASELINES, action="append", help="fit only this one; may be repeated")
    evaluate.add_argument("--samples", type=int, help="pictures that each baseline sees in training")
    evaluate.add_argument("--baselines", type=Path, help="folder of the baselines' files (default: the shipped ones)")

    _add_view(commands)

    doctor = _command(commands, "doctor", doctor_command, "what is installed, what is missing, what to do")
    doctor.add_argument("--model", default="tiny", help="the profile whose files are looked for (default: %(default)s)")
    doctor.add_argument(
        "--node",
        nargs="?",
        const="",
        metavar="NAME",
        help="what the running node of that name, or every one, says of itself on /diagnostics",
    )
    return parser


def _add_reconstruct(commands: Any) -> None:
    from ivlm_core.scene_command import add_arguments

    add_arguments(_command(commands, "reconstruct", reconstruct_command, "people and objects of one picture in metres"))


def _add_view(commands: Any) -> None:
    from ivlm_core.view.command import add_arguments

    add_arguments(_command(commands, "view", view_command, "look at a recording or a result on a local web page"))


def _add_objects(commands: Any) -> None:
    from ivlm_core.objects.command import add_arguments

    add_arguments(_command(commands, "objects", objects_command, "list the built-in shapes; fill and search libraries"))


def _add_replay(commands: Any) -> None:
    replay = _command(commands, "replay", replay_command, "replay a rosbag2 recording; a new bag and a report come out")
    try:
        importlib.import_module(REPLAY).add_arguments(replay)
    except ImportError:
        replay.add_argument("arguments", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)


def _add_synth(commands: Any) -> None:
    synth = _command(commands, "synth", synth_command, "generate scenes of posed people with objects (SynthHOI)")
    synth.add_argument("--bag", type=Path, help="write the demo's rosbag2 recording into this folder")
    synth.add_argument("--frames", type=int, default=20, help="frames of each scene of the bag (default: %(default)s)")
    synth.add_argument("--seed", type=int, default=0, help="same seed, same recording (default: %(default)s)")
    synth.add_argument("--no-photo", action="store_true", help="leave the photograph out of the bag")
    actions = synth.add_subparsers(metavar="ACTION")

    generate = _command(actions, "generate", synth_generate_command, "write a split; goes on where it stopped")
    generate.add_argument("root", type=Path, metavar="DIR", help="the dataset's folder")
    generate.add_argument("--split", default="train", help="train, val, test or unseen (default: %(default)s)")
    generate.add_argument("--count", type=int, default=20_000, help="scenes in the split (default: %(default)s)")
    generate.add_argument(
        "--seed", type=int, default=20_250_613, help="same seed, same scenes (default: that of training, %(default)s)"
    )
    generate.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes (default: %(default)s)")

    sheet = _command(actions, "contact-sheet", synth_sheet_command, "a grid of pictures with the touched body beside")
    sheet.add_argument("root", type=Path, metavar="DIR", help="the dataset's folder")
    sheet.add_argument("picture", type=Path, metavar="OUT.png", help="the picture to write")
    sheet.add_argument("--split", default="train", help="train, val, test or unseen (default: %(default)s)")
    sheet.add_argument("--first", type=int, default=0, help="the first scene shown (default: %(default)s)")
    sheet.add_argument("--scenes", type=int, default=24, help="how many scenes are shown (default: %(default)s)")
    sheet.add_argument("--columns", type=int, default=3, help="scenes side by side (default: %(default)s)")


def _command(commands: Any, name: str, run: Command, summary: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=summary, description=summary, conflict_handler="resolve"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(command=run)
    return parser


def contact_command(options: argparse.Namespace) -> int:
    """`ivlm contact`: one picture, its objects, a folder of results."""
    from ivlm_core.draw import draw_overlay, write_result
    from ivlm_core.images import load_image
    from ivlm_core.pipeline import Pipeline
    from ivlm_core.scene_command import object_queries
    from ivlm_core.storage import check_folder

    if not 0.0 <= options.threshold <= 1.0:
        raise ConfigError("--threshold", f"is {options.threshold}", "give a number from 0 to 1")
    if not options.objects and options.mode != "scene":
        raise ConfigError("--object", "is missing", "name an object, or use --mode scene")
    queries = object_queries(options.objects, options.boxes)
    check_folder("--out", options.out)
    frame = Frame(load_image(options.image))
    if not options.json:
        print(LOADING, file=sys.stderr, flush=True)
    pipeline = Pipeline.load(
        options.model,
        options.device,
        options.dtype,
        options.reasoning,
        options.mode,
        quantize=options.quantize,
        graphs=options.graphs,
        body=options.body,
        body_path=options.body_path,
        output_body=options.output_body,
        output_body_path=options.output_body_path,
        body_map_path=options.body_map,
    )
    result = pipeline.run(frame, queries)
    overlay = draw_overlay(frame, result, options.threshold, queries)
    summary = write_result(options.out, result, overlay, options.threshold)
    if options.json:
        print(json.dumps(summary))
        return 0
    print("\n".join([*contact_lines(result, options.threshold), f"written to {options.out}"]))
    return 0


def contact_lines(result: FrameResult, threshold: float) -> list[str]:
    """What was found, for people."""
    from ivlm_core.draw.answers import spoken

    def said(label: str, answer: str) -> str:
        return f"{label}: {spoken(answer)}".removesuffix(" ")

    lines = []
    for contact in result.human_contacts:
        parts = [f"{name} {score:.2f}" for name, score in contact.body_parts.items() if score >= threshold]
        lines += [
            said(contact.object_label, contact.answer),
            f"  body: {', '.join(parts) or 'no part above the threshold'}",
        ]
    for thing in result.object_affordances:
        touched = int((thing.probability >= threshold).sum())
        lines += [said(thing.object_label, thing.answer), f"  object: {touched} vertices of {_mesh_words(thing)}"]
    for picture in result.image_contacts:
        share = float((picture.probability >= threshold).mean())
        lines += [said(picture.object_label, picture.answer), f"  picture: {share:.1%} of its pixels"]
    return lines + [f"{item.object_label}: no {item.side} contact, {item.reason}" for item in result.unanswered]


def _mesh_words(thing: ObjectAffordance) -> str:
    if thing.mesh_source != "fallback":
        return {"file": "its own mesh", "library": "the library's mesh"}.get(thing.mesh_source, thing.mesh_source)
    return (
        f"a plain box: the library has no mesh of {shown(thing.object_label)} "
        f"('ivlm objects' lists those it has, --object LABEL=MESH gives another)"
    )


def convert_command(options: argparse.Namespace) -> int:
    """`ivlm convert`: a native checkpoint directory, and how far it is from a reference."""
    from tqdm import tqdm

    from ivlm_core.checkpoints import check_reference, convert_released

    summary: dict[str, Any] = {}
    if not (options.check and options.target.is_dir()):
        with tqdm(desc="converting", unit=" shards", file=sys.stderr, disable=options.json) as bar:

            def progress(done: int, total: int, name: str) -> None:
                bar.total, bar.n = total, done
                bar.set_postfix_str(name)

            summary = convert_released(options.source, options.target, options.clip, options.merge_lora, progress)
    report: dict[str, Any] = {"passed": True}
    if options.check:
        report = check_reference(options.target, options.check)
    if options.json:
        print(json.dumps({**report, "conversion": summary}))
        return 0 if report["passed"] else 1
    if summary:
        print(f"{options.target}: {summary['tensors']} tensors, {summary['bytes'] / 2**20:.0f} MB", end="")
        print("" if summary["tokenizer"] else "; no tokenizer files in the source: the model can only be given ids")
    for stage, difference in report.get("stages", {}).items():
        print(f"{'FAILED' if stage in report['failed'] else 'ok':8} {stage:32} {difference:.2e}")
    for name in report.get("failed", []):
        if name.startswith("manifest/"):
            print(f"FAILED   {name} is not what was converted")
    if options.check:
        print("passed" if report["passed"] else "FAILED: the converted model differs from the reference")
    return 0 if report["passed"] else 1


def objects_command(options: argparse.Namespace) -> int:
    """`ivlm objects`: the built-in shapes, and libraries of meshes."""
    from ivlm_core.objects.command import run

    return run(options)


def replay_command(options: argparse.Namespace) -> int:
    """`ivlm replay`: a recording through the core or the running node."""
    try:
        replay = importlib.import_module(REPLAY)
    except ImportError as error:
        raise ConfigError("ivlm replay", f"needs the package ivlm_ros ({error})", "install it whole") from None
    status: int = replay.run(options)
    return status


def synth_command(options: argparse.Namespace) -> int:
    """`ivlm synth --bag`: a recording to try the node with."""
    from ivlm_core.datasets.synthetic import write_demo_bag

    if options.bag is None:
        raise ConfigError("ivlm synth", "was not told what to do", "give generate, contact-sheet, or --bag DIR")
    if not 1 <= options.frames <= 10_000:
        raise ConfigError("--frames", f"is {options.frames}", "give 1…10000")
    summary = write_demo_bag(options.bag, frames=options.frames, seed=options.seed, photo=not options.no_photo)
    print(json.dumps(summary) if options.json else f"{options.bag}: {summary}")
    return 0


def synth_generate_command(options: argparse.Namespace) -> int:
    """`ivlm synth generate`: a split of SynthHOI."""
    import time

    from tqdm import tqdm

    from ivlm_core.datasets.synthetic import generate

    started = time.perf_counter()
    existing: list[int] = []
    with tqdm(desc=options.split, unit=" scenes", file=sys.stderr, disable=options.json, smoothing=0.02) as bar:

        def progress(done: int, total: int) -> None:
            if not existing:
                existing.append(done)
                bar.reset(total)
                bar.initial = done
            bar.update(done - bar.n)

        manifest = generate(options.root, options.split, options.count, options.seed, options.workers, progress)
    seconds = time.perf_counter() - started
    made = manifest.scenes - existing[0]
    folder = options.root / options.split
    size = sum(shard.bytes for shard in manifest.shards)
    summary = {
        "folder": str(folder),
        "scenes": manifest.scenes,
        "made": made,
        "seconds": round(seconds, 1),
        "scenes_per_second": round(made / seconds, 2),
        "bytes": size,
        "categories": manifest.categories,
    }
    if options.json:
        print(json.dumps(summary))
        return 0
    print(f"{folder}: {manifest.scenes} scenes, {size / 1e6:.0f} MB; {made} made in {seconds:.0f} s")
    for label, modes in manifest.categories.items():
        told = ", ".join(f"{mode or 'not touched'} {number}" for mode, number in modes.items())
        print(f"  {label:16} {sum(modes.values()):6}  {told}")
    return 0


def synth_sheet_command(options: argparse.Namespace) -> int:
    """`ivlm synth contact-sheet`: scenes to look at."""
    from PIL import Image

    from ivlm_core.datasets.synthetic import SynthHoi, contact_sheet
    from ivlm_core.storage import atomic_path

    data = SynthHoi(options.root, options.split, depth=False, partial=True)
    if not 0 <= options.first < len(data):
        raise ConfigError("--first", f"is {options.first}", f"the split has scenes 0…{len(data) - 1}")
    if options.scenes < 1 or options.columns < 1:
        raise ConfigError("--scenes", f"is {options.scenes}, --columns {options.columns}", "give at least 1 of each")
    last = min(options.first + options.scenes, len(data))
    sheet = contact_sheet([data[index] for index in range(options.first, last)], options.columns)
    with atomic_path(options.picture) as temporary:
        Image.fromarray(sheet).save(temporary)
    summary = {"picture": str(options.picture), "scenes": last - options.first}
    print(json.dumps(summary) if options.json else f"{options.picture}: scenes {options.first}…{last - 1}")
    return 0


def train_command(options: argparse.Namespace) -> int:
    """`ivlm train`: a run in a folder, and the model it gives."""
    from ivlm_core.train import train, train_objects

    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    if options.objects_of is not None:
        if options.export is None or options.out is not None:
            raise ConfigError("--objects-of", "writes a model and no run", "give --export, and no --out")
        summary = train_objects(
            options.objects_of,
            options.data,
            options.export,
            {"seed": options.seed, "batch": options.batch or None},
            options.device,
            say,
        )
        print(json.dumps(summary) if options.json else f"{options.export}: {summary}")
        return 0
    if options.out is None:
        raise ConfigError("--out", "is missing", "give the folder of the run")
    summary = train(
        data=options.data,
        out=options.out,
        profile=options.profile,
        changes={
            "steps": options.steps or None,
            "minutes": options.minutes or None,
            "batch": options.batch or None,
            "learning_rate": options.learning_rate or None,
            "data_fraction": options.data_fraction,
            "seed": options.seed,
        },
        variants=tuple(options.variant),
        device=options.device,
        resume=options.resume,
        export=options.export,
        validation=options.validation,
        validate_minutes=options.validate_minutes,
        save_minutes=options.save_minutes,
        deepspeed=options.deepspeed,
        say=say,
    )
    print(json.dumps(summary) if options.json else f"{options.out}: {summary}")
    return 0


def reconstruct_command(options: argparse.Namespace) -> int:
    """`ivlm reconstruct`: one picture, its people and objects, the scene in metres."""
    from ivlm_core.scene_command import run

    return run(options)


def evaluate_command(options: argparse.Namespace) -> int:
    """`ivlm evaluate`: scores on generated scenes, the baselines that go with them, and the tables of both."""
    from ivlm_core.evaluate.command import run

    return run(options)


def view_command(options: argparse.Namespace) -> int:
    """`ivlm view`: pictures, contacts and the fitted scene in the browser."""
    from ivlm_core.view.command import run

    return run(options)


def doctor_command(options: argparse.Namespace) -> int:
    """`ivlm doctor`: exit status 1 when something needed is missing, or when a running node reports an error."""
    from ivlm_core.doctor import examine

    if options.node is not None:
        return _doctor_of_nodes(options)
    checks = examine(options.model)
    usable = all(check.ok for check in checks if check.needed)
    if options.json:
        print(json.dumps({"usable": usable, "checks": [dataclasses.asdict(check) for check in checks]}))
    else:
        for check in checks:
            mark = "ok" if check.ok else ("MISSING" if check.needed else "absent")
            print(f"{mark:8} {check.name:30} {check.detail}")
    return 0 if usable else 1


def _doctor_of_nodes(options: argparse.Namespace) -> int:
    # The ROS shell, which lies beside the core and is not part of it.
    try:
        live = importlib.import_module("ivlm_ros.live")
    except ImportError as error:
        raise ConfigError("--node", f"needs the package ivlm_ros beside the core ({error})", "install it") from error
    reports = live.listen(options.node)
    if options.json:
        print(json.dumps({"nodes": [dataclasses.asdict(report) for report in reports]}))
    else:
        print("\n".join(live.report_text(report) for report in reports))
    return 1 if any(report.level == "ERROR" for report in reports) else 0


if __name__ == "__main__":
    sys.exit(main())
