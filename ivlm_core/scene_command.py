"""What `ivlm reconstruct` does: one picture, its people and objects, the scene in metres."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ivlm_core.cli import LOADING
from ivlm_core.errors import ConfigError
from ivlm_core.storage import check_folder
from ivlm_core.types import CameraIntrinsics, Frame, FrameResult, ObjectQuery

# A camera whose angle of view nobody knows is taken to see this much across, degrees: between a phone's and a webcam's.
ASSUMED_FOV = 60.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `ivlm reconstruct`."""
    parser.add_argument("image", type=Path, help="a picture (JPEG, PNG, …), rectified")
    parser.add_argument(
        "--object",
        dest="objects",
        action="append",
        default=[],
        metavar="LABEL[=MESH]",
        help="an object in the picture, optionally with its mesh file; may be repeated",
    )
    parser.add_argument(
        "--box",
        dest="boxes",
        action="append",
        default=[],
        type=float,
        nargs=4,
        metavar=("X0", "Y0", "X1", "Y1"),
        help="where the object is, in pixels; as often as --object, in its order, unless all have a --mask",
    )
    parser.add_argument(
        "--mask",
        dest="masks",
        action="append",
        default=[],
        type=Path,
        metavar="PNG",
        help="the object's pixels, brighter than half; as often as --object, in its order",
    )
    parser.add_argument("--person", action="append", default=[], help="whose contact each --object's is, in its order")
    camera = parser.add_mutually_exclusive_group()
    camera.add_argument("--camera", type=Path, metavar="YAML", help="intrinsics: camera_calibration's file, CameraInfo")
    camera.add_argument("--fov", type=float, help=f"horizontal angle of view, degrees ({ASSUMED_FOV:g}, if unknown)")
    people = parser.add_mutually_exclusive_group()
    people.add_argument("--keypoints", type=Path, metavar="JSON", help="people's COCO keypoints, x, y, score 17 times")
    people.add_argument("--body", type=Path, metavar="NPZ", help="posed bodies as OSX writes them (SMPL-X vertices)")
    parser.add_argument("--depth", type=Path, metavar="FILE", help="depth: 16-bit PNG in millimetres, .npy in metres")
    parser.add_argument("--library", type=Path, metavar="DIR", help="an object library, before the built-in shapes")
    parser.add_argument("--sam", type=Path, metavar="FILE", help="SAM's weights, to cut objects out of their boxes")
    parser.add_argument("--model", default="tiny", help="tiny or a checkpoint directory (default: %(default)s)")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda (default: %(default)s)")
    parser.add_argument("--dtype", default="auto", help="auto, float32 or bfloat16 (default: %(default)s)")
    parser.add_argument("--reasoning", choices=("parts", "direct"), default="parts", help="default: %(default)s")
    parser.add_argument("--threshold", type=float, default=0.5, help="contact threshold (default: %(default)s)")
    parser.add_argument("--output-body", default="", metavar="BODY", help="the model of --body's bodies: smpl or smplx")
    parser.add_argument("--output-body-path", type=Path, metavar="FILE", help="the .npz file of that body model")
    parser.add_argument("--out", type=Path, required=True, help="folder for result.json, scene.glb, pictures, meshes")
    parser.add_argument("--video", type=Path, metavar="MP4", help="also show how the first object was fitted")


def run(options: argparse.Namespace) -> int:
    """Do what the options ask for; 1 when no object has a pose."""
    from ivlm_core.draw import draw_overlay, write_fit_video, write_result
    from ivlm_core.images import load_image
    from ivlm_core.pipeline import Pipeline
    from ivlm_core.reconstruct import FitSettings, SceneSettings
    from ivlm_core.reconstruct.inputs import load_bodies, load_depth, load_keypoints

    if not 0.0 <= options.threshold <= 1.0:
        raise ConfigError("--threshold", f"is {options.threshold}", "give a number from 0 to 1")
    image = load_image(options.image)
    height, width = image.shape[:2]
    camera, told = _camera(options, width, height)
    queries = _queries(options, width, height)
    check_folder("--out", options.out)
    frame = Frame(image, camera, load_depth(options.depth, width, height) if options.depth else None)
    if options.keypoints:
        frame = replace(frame, keypoints=load_keypoints(options.keypoints))
    elif options.body:
        frame = replace(frame, bodies=load_bodies(options.body, camera))
    elif options.depth is None:
        told.append("no body is given (--keypoints or --body): objects cannot be put anywhere without it or --depth")
    settings = SceneSettings(
        human_threshold=options.threshold, fit=FitSettings(keep_trace=options.video is not None), tracking=False
    )
    if not options.json:
        print(LOADING, file=sys.stderr, flush=True)
    pipeline = Pipeline.load(
        options.model,
        options.device,
        options.dtype,
        options.reasoning,
        output_body=options.output_body,
        output_body_path=options.output_body_path,
        library=options.library,
        reconstruct=settings,
        sam=options.sam,
    )
    result = pipeline.run(frame, queries)
    overlay = draw_overlay(frame, result, options.threshold, queries)
    summary = write_result(options.out, result, overlay, options.threshold, frame, told)
    if options.video is not None:
        summary["video_pictures"] = _video(options.video, frame, result, write_fit_video)
    if options.json:
        print(json.dumps(summary))
    else:
        print("\n".join([*told, *reconstruction_lines(result), f"wrote {options.out}"]))
    return 0 if any(item.pose_valid for item in result.reconstructions) else 1


def reconstruction_lines(result: FrameResult) -> list[str]:
    """What was put where, for people."""
    lines = []
    for item in result.reconstructions:
        same = item.mesh.name == item.object_label
        name = item.object_label if same else f"{item.object_label} ({item.mesh.name})"
        if not item.pose_valid:
            lines += [f"{name}: no pose: {item.reason}", *(f"  {note}" for note in item.notes)]
            continue
        place = ", ".join(f"{value:.2f}" for value in item.translation)
        lines.append(f"{name}: at {place} m (right, down, forward), {item.scale:.2f} times the mesh's size")
        if item.residuals:
            lines.append("  " + ", ".join(f"{key} {value:.2f}" for key, value in item.residuals.items()))
        if item.summary is not None:
            free = len(item.summary.free_regions)
            regions = "1 free region" if free == 1 else f"{free} free regions"
            lines.append(f"  touched on {item.summary.area_cm2:.0f} cm² of skin; {regions} to grasp")
        lines += [f"  {note}" for note in item.notes]
    lines += [f"{item.object_label}: {item.reason}" for item in result.unanswered]
    return lines


def _video(path: Path, frame: Frame, result: FrameResult, write: Any) -> int:
    fitted = next((item for item in result.reconstructions if item.trace), None)
    if fitted is None:
        raise ConfigError("--video", "has nothing to show: no object was fitted", "see the reasons in result.json")
    pictures: int = write(path, frame, fitted)
    return pictures


def _camera(options: argparse.Namespace, width: int, height: int) -> tuple[CameraIntrinsics, list[str]]:
    """The camera, and what has to be said about it."""
    from ivlm_core.reconstruct.inputs import camera_of_fov, load_camera

    if options.camera is not None:
        return load_camera(options.camera, width, height), []
    if options.fov is not None:
        return camera_of_fov(options.fov, width, height), []
    told = f"the camera is not known: {ASSUMED_FOV:g}° across are assumed (--camera or --fov), distances are rough"
    return camera_of_fov(ASSUMED_FOV, width, height), [told]


def _queries(options: argparse.Namespace, width: int, height: int) -> list[ObjectQuery]:
    from ivlm_core.reconstruct.inputs import load_mask

    if not options.objects:
        raise ConfigError("--object", "is missing", "name an object")
    if not options.boxes and not options.masks:
        raise ConfigError("--box", "is missing, and so is --mask", "say where each object is in the picture")
    queries = object_queries(options.objects, options.boxes)
    for name, given in (("--mask", options.masks), ("--person", options.person)):
        _check_count(name, given, len(queries))
    if options.masks:
        masks = [load_mask(path, width, height) for path in options.masks]
        queries = [replace(query, mask=mask) for query, mask in zip(queries, masks, strict=True)]
    if options.person:
        queries = [replace(query, person_id=name) for query, name in zip(queries, options.person, strict=True)]
    return queries


def object_queries(objects: Sequence[str], boxes: Sequence[Sequence[float]] = ()) -> list[ObjectQuery]:
    """What is asked by `--object LABEL[=MESH]` and, for each of them or for none, `--box X0 Y0 X1 Y1`.

    Raises
    ------
    ConfigError : an option without its value, or boxes that are fewer or more.  MeshError : a mesh that is unusable.
    """
    from ivlm_core.objects import load_mesh

    _check_count("--box", boxes, len(objects))
    queries = []
    for number, text in enumerate(objects):
        label, equals, path = text.partition("=")
        if equals and not path:
            raise ConfigError("--object", f"{text!r} names no mesh file", "give LABEL=MESH, or LABEL alone")
        x0, y0, x1, y1 = boxes[number] if boxes else (0.0,) * 4
        queries.append(
            ObjectQuery(
                label,
                object_id=str(number),
                box_xyxy=(x0, y0, x1, y1) if boxes else None,
                mesh=load_mesh(Path(path)) if path else None,
            )
        )
    return queries


def _check_count(name: str, given: Sequence[object], count: int) -> None:
    if given and len(given) != count:
        raise ConfigError(name, f"is given {len(given)} times for {count} objects", "give one per --object")
