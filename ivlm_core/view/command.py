"""What `ivlm view` does: a recording or a result on a web page."""

from __future__ import annotations

import argparse
import importlib
import json
import signal
import threading
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from ivlm_core.errors import ConfigError, InputError, printable, shown

if TYPE_CHECKING:
    from ivlm_core.view.moments import Source


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `ivlm view`."""
    parser.add_argument(
        "source", type=Path, help="a bag with answers, or a folder of ivlm replay, contact or reconstruct"
    )
    parser.add_argument("--inputs", type=Path, metavar="BAG", help="the bag that was answered, if its images are there")
    parser.add_argument("--port", type=int, default=8080, help="of the page; 0 for any (default: %(default)s)")
    parser.add_argument(
        "--host", default="127.0.0.1", help="where to listen; 0.0.0.0 lets other computers in (%(default)s)"
    )
    parser.add_argument("--ground-truth", action="store_true", help="show what is known to be true from the beginning")
    parser.add_argument("--answers", metavar="NAME", help="what the answers' topics lie below (/ivlm_contact)")
    parser.add_argument("--image", metavar="TOPIC", help="topic of the picture (default: a camera's)")
    parser.add_argument(
        "--meshes",
        type=Path,
        action="append",
        default=[],
        metavar="DIR",
        help="where mesh files may be read; repeatable",
    )
    parser.add_argument(
        "--body-path",
        action="append",
        default=[],
        metavar="MODEL=FILE",
        help="the .npz file of a body that is not shipped (smplx=SMPLX_NEUTRAL.npz); may be repeated",
    )


def run(options: argparse.Namespace) -> int:
    """Serve the page until Ctrl-C."""
    source = open_source(options)
    try:
        return _serve(options, source)
    finally:
        source.close()


def open_source(options: argparse.Namespace) -> Source:
    """The source that the options name.

    Raises
    ------
    InputError : there is none, or it is damaged.  ConfigError : an option that does not fit it.
    """
    from ivlm_core.view.meshes import MeshFinder
    from ivlm_core.view.recording import Recording
    from ivlm_core.view.result_folder import ResultFolder

    body_paths = _body_paths(options.body_path)
    finder = MeshFinder(options.meshes, body_paths)
    path: Path = options.source
    title = path.resolve().name
    # What `ivlm replay --out` writes holds its bag.
    if not (path / "metadata.yaml").is_file() and (path / "bag" / "metadata.yaml").is_file():
        path = path / "bag"
    if (path / "result.json").is_file() and not (path / "metadata.yaml").is_file():
        for name in ("inputs", "answers", "image"):
            if getattr(options, name) is not None:
                raise ConfigError(f"--{name}", "is for bags", f"leave it out: {shown(str(path), 300)} is a result")
        return ResultFolder(path, finder)
    # A recorder that was killed leaves no metadata.
    recorded = any(file.suffix in (".mcap", ".db3") for file in path.glob("*"))
    if path.is_dir() and not (path / "metadata.yaml").is_file() and not recorded:
        raise InputError(
            "SOURCE",
            f"{shown(str(path), 300)} is neither a bag nor a result: it has no metadata.yaml and no result.json",
            "give the folder of a rosbag2 recording, or of ivlm contact --out",
        )
    return Recording(
        path,
        finder,
        options.inputs,
        body_paths=body_paths,
        answers=options.answers,
        image=options.image,
        ground_truth=options.ground_truth,
        title=title,
        mend=_mend,
    )


def _mend(bag: Path, out: Path) -> Sequence[str]:
    """See `Recording`. The reader of damaged bags is that of `ivlm replay`, which lies beside the core."""
    try:
        replay = importlib.import_module("ivlm_ros.replay.recording")
    except ImportError:
        return ()
    lines: list[str] = replay.write_readable(bag, out)
    return lines


def _serve(options: argparse.Namespace, source: Source) -> int:
    from ivlm_core.view.moments import pair_titles
    from ivlm_core.view.page import Page
    from ivlm_core.view.server import quiet, start_server

    server = start_server(options.host, options.port, f"ivlm · {source.title}")
    page = Page(server, source, options.ground_truth)
    stopped = threading.Event()

    def stop(number: int, frame: FrameType | None) -> None:
        stopped.set()

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        name = "localhost" if options.host in ("0.0.0.0", "::", "") else options.host
        url = f"http://[{name}]:{server.get_port()}" if ":" in name else f"http://{name}:{server.get_port()}"
        summary: dict[str, Any] = {
            "url": url,
            "frames": len(source.stamps),
            "objects": list(pair_titles(source.pairs)),
            "ground_truth": source.has_truth,
            "notes": list(source.notes),
        }
        if options.json:
            print(json.dumps(summary), flush=True)
        else:
            images = "1 image" if len(source.stamps) == 1 else f"{len(source.stamps)} images"
            told = f"{source.title}: {images}; objects: {', '.join(map(printable, summary['objects'])) or 'none'}"
            print("\n".join([*source.notes, told, f"open {url} (Ctrl-C ends)"]), flush=True)
        stopped.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        page.close()
        with quiet():
            server.stop()
    return 0


def _body_paths(given: list[str]) -> dict[str, Path]:
    paths = {}
    for text in given:
        name, equals, path = text.partition("=")
        if not equals or not name or not path:
            raise ConfigError("--body-path", f"is {shown(text)}", "give MODEL=FILE, as in smplx=SMPLX_NEUTRAL.npz")
        paths[name] = Path(path)
    return paths
