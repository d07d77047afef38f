"""The command line: `ivlm COMMAND …`. Every command has `--json` for scripts; errors are one line and exit status 2."""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ivlm_core import __version__
from ivlm_core.config import MODES
from ivlm_core.errors import ConfigError, IvlmError
from ivlm_core.types import Frame, Mesh, ObjectQuery

Command = Callable[[argparse.Namespace], int]


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
    parser = argparse.ArgumentParser(prog="ivlm", description="Where people touch things, from one image.")
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

    _command(commands, "objects", objects_command, "the labels of the built-in object library")

    synth = _command(commands, "synth", synth_command, "generate a rosbag2 recording of posed people with objects")
    synth.add_argument("--bag", type=Path, required=True, help="bag folder to write")
    synth.add_argument("--frames", type=int, default=20, help="frames of each scene (default: %(default)s)")
    synth.add_argument("--seed", type=int, default=0, help="same seed, same recording (default: %(default)s)")
    synth.add_argument("--no-photo", action="store_true", help="leave out the photograph")

    doctor = _command(commands, "doctor", doctor_command, "what is installed, what is missing, what to do")
    doctor.add_argument("--model", default="tiny", help="the profile whose files are looked for (default: %(default)s)")
    return parser


def _command(commands: Any, name: str, run: Command, summary: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(name, help=summary, description=summary)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(command=run)
    return parser


def contact_command(options: argparse.Namespace) -> int:
    """`ivlm contact`: one picture, its objects, a folder of results."""
    from ivlm_core.draw import draw_overlay, write_result
    from ivlm_core.images import load_image
    from ivlm_core.objects import load_mesh
    from ivlm_core.pipeline import Pipeline

    if not 0.0 <= options.threshold <= 1.0:
        raise ConfigError("--threshold", f"is {options.threshold}", "give a number from 0 to 1")
    if not options.objects and options.mode != "scene":
        raise ConfigError("--object", "is missing", "name an object, or use --mode scene")
    queries = []
    for number, text in enumerate(options.objects):
        label, equals, path = text.partition("=")
        if equals and not path:
            raise ConfigError("--object", f"{text!r} names no mesh file", "give LABEL=MESH, or LABEL alone")
        mesh: Mesh | None = load_mesh(Path(path)) if path else None
        queries.append(ObjectQuery(label, object_id=str(number), mesh=mesh))
    frame = Frame(load_image(options.image))
    pipeline = Pipeline.load(
        options.model, options.device, options.dtype, options.reasoning, options.mode, quantize=options.quantize
    )
    result = pipeline.run(frame, queries)
    overlay = draw_overlay(frame, result, options.threshold, queries)
    summary = write_result(options.out, result, overlay, options.threshold)
    if options.json:
        print(json.dumps(summary))
        return 0
    if result.untrained:
        print("The weights are untrained: what follows shows the system at work and says nothing about the picture.")
    for contact in result.human_contacts:
        parts = [f"{name} {score:.2f}" for name, score in contact.body_parts.items() if score >= options.threshold]
        print(f"{contact.object_label}: {contact.answer}\n  body: {', '.join(parts) or 'no part above the threshold'}")
    for affordance in result.object_affordances:
        touched = int((affordance.probability >= options.threshold).sum())
        print(
            f"{affordance.object_label}: {affordance.answer}\n  object: {touched} vertices ({affordance.mesh_source})"
        )
    for picture in result.image_contacts:
        share = float((picture.probability >= options.threshold).mean())
        print(f"{picture.object_label}: {picture.answer}\n  picture: {share:.1%} of its pixels")
    for missing in result.unanswered:
        print(f"{missing.object_label}: no {missing.side} contact, {missing.reason}")
    print(f"written to {options.out}")
    return 0


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
    """`ivlm objects`: what the library holds."""
    from ivlm_core.objects import library_labels, library_mesh

    rows = []
    for label in library_labels():
        mesh = library_mesh(label)
        size = (mesh.vertices.max(axis=0) - mesh.vertices.min(axis=0)).tolist()
        rows.append({"label": label, "vertices": len(mesh.vertices), "faces": len(mesh.faces), "size_m": size})
    if options.json:
        print(json.dumps({"objects": rows}))
    else:
        print(f"{'label':16} {'vertices':>8} {'faces':>8}  size in metres (x, y, z)")
        for row in rows:
            size = " × ".join(f"{side:.2f}" for side in row["size_m"])
            print(f"{row['label']:16} {row['vertices']:8} {row['faces']:8}  {size}")
    return 0


def synth_command(options: argparse.Namespace) -> int:
    """`ivlm synth --bag`: a recording to try the node with."""
    from ivlm_core.datasets.synthetic import write_demo_bag

    if not 1 <= options.frames <= 10_000:
        raise ConfigError("--frames", f"is {options.frames}", "give 1…10000")
    summary = write_demo_bag(options.bag, frames=options.frames, seed=options.seed, photo=not options.no_photo)
    print(json.dumps(summary) if options.json else f"{options.bag}: {summary}")
    return 0


def doctor_command(options: argparse.Namespace) -> int:
    """`ivlm doctor`: exit status 1 when something needed is missing."""
    from ivlm_core.doctor import examine

    checks = examine(options.model)
    usable = all(check.ok for check in checks if check.needed)
    if options.json:
        print(json.dumps({"usable": usable, "checks": [dataclasses.asdict(check) for check in checks]}))
    else:
        for check in checks:
            mark = "ok" if check.ok else ("MISSING" if check.needed else "absent")
            print(f"{mark:8} {check.name:30} {check.detail}")
    return 0 if usable else 1


if __name__ == "__main__":
    sys.exit(main())
