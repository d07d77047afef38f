"""What `ivlm objects` does: list the built-in shapes, fill a library of meshes, search one."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ivlm_core.errors import ConfigError, InputError
from ivlm_core.images import load_image
from ivlm_core.objects.builtin import builtin_library
from ivlm_core.objects.descriptors import SilhouetteEmbedder
from ivlm_core.objects.embedding import Embedder
from ivlm_core.objects.entries import ObjectLibrary, ScalePrior
from ivlm_core.objects.index import FolderLibrary, open_library
from ivlm_core.objects.indexing import NewMesh, Report, add_meshes, meshes_in, reindex
from ivlm_core.objects.library import library_labels, library_mesh
from ivlm_core.objects.retrieval import label_matches
from ivlm_core.objects.search import Hit, search

DEFAULT_SPREAD = 0.1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The actions of `ivlm objects` and their options."""
    parser.set_defaults(action="list")
    actions = parser.add_subparsers(metavar="ACTION")

    add = _action(actions, "add", "add mesh files to a library, which is made where there is none")
    add.add_argument("library", type=Path, metavar="LIBRARY", help="the library's folder")
    add.add_argument("meshes", type=Path, nargs="+", metavar="MESH", help="mesh files, or folders of them")
    add.add_argument("--label", default="", help="their category (default: the name of the folder each one lies in)")
    add.add_argument("--id", default="", help="the name of a single mesh in the library (default: the file's)")
    add.add_argument("--licence", default="", help="the terms of the meshes, kept with them")
    add.add_argument("--longest-m", type=float, metavar="M", help="real longest side in metres (default: the mesh's)")
    add.add_argument("--spread-m", type=float, metavar="M", help="its standard deviation (default: a tenth)")
    add.add_argument(
        "--openshape", type=Path, metavar="FILE", help="precomputed embeddings; a mesh's file name is its id"
    )
    add.add_argument("--openshape-labels", type=Path, metavar="JSON", help="categories of their ids")
    add.add_argument("--replace", action="store_true", help="replace meshes of the same name")
    add.add_argument("--clip", type=Path, metavar="DIR", help="also embed with this CLIP model")

    index = _action(actions, "index", "bring a library's index up to date with its meshes")
    index.add_argument("library", type=Path, metavar="LIBRARY", help="the library's folder")
    index.add_argument("--clip", type=Path, metavar="DIR", help="also embed with this CLIP model")

    find = _action(actions, "search", "the meshes that look most like an object in a picture")
    find.add_argument("image", type=Path, metavar="IMAGE", help="a picture (JPEG, PNG, …)")
    find.add_argument("--library", type=Path, metavar="DIR", help="a library's folder (default: the built-in shapes)")
    find.add_argument("--label", default="", help="what the object is called (default: search all categories)")
    find.add_argument("--mask", type=Path, metavar="PNG", help="the object's pixels: brighter than half")
    find.add_argument("--box", type=float, nargs=4, metavar=("X0", "Y0", "X1", "Y1"), help="in pixels, for CLIP")
    find.add_argument("--source", choices=("silhouette", "clip", "openshape"), help="default: silhouette, or clip")
    find.add_argument("--clip", type=Path, metavar="DIR", help="the CLIP model, for the sources clip and openshape")
    find.add_argument("--top", type=int, default=5, help="how many (default: %(default)s)")


def run(options: argparse.Namespace) -> int:
    """Do what the options of `ivlm objects` ask for: 0 done, 1 done but for what the output names."""
    actions: dict[str, Callable[[argparse.Namespace], int]] = {
        "list": _list,
        "add": _add,
        "index": _index,
        "search": _search,
    }
    return actions[options.action](options)


def _action(actions: Any, name: str, summary: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = actions.add_parser(name, help=summary, description=summary)
    # Without a default of its own, `ivlm objects --json add …` keeps what stands before the action.
    parser.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="print one JSON object")
    parser.set_defaults(action=name)
    return parser


def _list(options: argparse.Namespace) -> int:
    rows = []
    for label in library_labels():
        mesh = library_mesh(label)
        size = (mesh.vertices.max(axis=0) - mesh.vertices.min(axis=0)).tolist()
        rows.append({"label": label, "vertices": len(mesh.vertices), "faces": len(mesh.faces), "size_m": size})
    lines = [f"{'label':16} {'vertices':>8} {'faces':>8}  size in metres (x, y, z)"]
    for row in rows:
        size = " × ".join(f"{side:.2f}" for side in row["size_m"])
        lines.append(f"{row['label']:16} {row['vertices']:8} {row['faces']:8}  {size}")
    _print(options, {"objects": rows}, "\n".join(lines))
    return 0


def _add(options: argparse.Namespace) -> int:
    paths = meshes_in(options.meshes)
    if options.id and len(paths) > 1:
        raise ConfigError("--id", f"names one mesh, but {len(paths)} are given", "leave it out: files name themselves")
    scale = _scale(options.longest_m, options.spread_m)
    known: dict[str, tuple[str, NDArray[np.float32]]] = {}
    if options.openshape is not None:
        from ivlm_core.objects.openshape import read_openshape

        read = read_openshape(options.openshape, options.openshape_labels)
        wanted = {path.stem for path in paths}
        known = {
            name: (label, read.embeddings[row : row + 1])
            for row, (name, label) in enumerate(zip(read.ids, read.labels, strict=True))
            if name in wanted
        }
    elif options.openshape_labels is not None:
        raise ConfigError("--openshape-labels", "belong to --openshape", "give both")
    new = []
    for path in paths:
        label, block = known.get(path.stem, ("", None))
        new.append(
            NewMesh(
                path,
                options.label or label or path.resolve().parent.name.replace("_", " "),
                options.id,
                options.licence,
                scale,
                # Objaverse's meshes have any unit.
                metric=options.openshape is None,
                embeddings={} if block is None else {"openshape": block},
                embeddings_file=options.openshape,
            )
        )
    with _bar("adding", len(new), options.json) as progress:
        library, report = add_meshes(options.library, new, _embedders(options), progress, options.replace)
    return _told(options, library, report)


def _index(options: argparse.Namespace) -> int:
    with _bar("indexing", 0, options.json) as progress:
        library, report = reindex(options.library, _embedders(options), progress)
    return _told(options, library, report)


def _search(options: argparse.Namespace) -> int:
    if not 1 <= options.top <= 1000:
        raise ConfigError("--top", f"is {options.top}", "give 1…1000")
    own: ObjectLibrary | None = None if options.library is None else open_library(options.library)
    library = builtin_library() if own is None else own
    embedder = _source(options)
    image = load_image(options.image)
    mask = None if options.mask is None else _mask(options.mask, image.shape[:2])
    box = None if options.box is None else tuple(options.box)
    where, matched = library, None
    if options.label:
        where, matched = next(label_matches(options.label, own, embedder), (library, None))
    if where is builtin_library() and embedder.name not in where.embeddings:
        told = f"cannot be {embedder.name}: the built-in library has silhouettes only"
        raise ConfigError("--source", told, "search by silhouette, or give a --library with this label")
    hits: tuple[Hit, ...] = ()
    if matched is not None or not options.label:
        vector = embedder.of_picture(image, mask, box)
        hits = search(where, embedder.name, vector, matched.label if matched else None, options.top)
    found = "any" if not options.label else matched.how if matched else "box"
    rows = [
        {
            "id": hit.entry.id,
            "label": hit.entry.label,
            "score": round(hit.score, 4),
            "longest_m": hit.entry.scale.longest_m if hit.entry.scale else None,
            "mesh": hit.entry.mesh,
            "licence": hit.entry.licence,
        }
        for hit in hits
    ]
    summary = {"library": where.name, "source": embedder.name, "found": found, "hits": rows}
    if matched is not None:
        summary["label"] = matched.label
    lines = [f"{row['score']:.3f}  {row['label']:16} {row['id']}" for row in rows]
    if matched is None and options.label:
        lines = [f"{_asked(own)} nothing like {options.label!r}: a box of the detection's size stands in for it"]
    elif matched is not None and matched.how != "exact":
        lines.insert(0, f"{options.label!r} → {matched.label} ({matched.how})")
    if where is not library:
        lines.insert(0, f"{library.name} has no {options.label!r}: these are of {where.name}")
    _print(options, summary, "\n".join(lines))
    return 0 if hits else 1


def _asked(own: ObjectLibrary | None) -> str:
    names = [library.name for library in (own, builtin_library()) if library is not None]
    return f"{' and '.join(names)} {'have' if len(names) > 1 else 'has'}"


def _embedders(options: argparse.Namespace) -> list[Embedder]:
    embedders: list[Embedder] = [SilhouetteEmbedder()]
    if options.clip is not None:
        from ivlm_core.objects.clip_views import ClipEmbedder

        embedders.append(ClipEmbedder(options.clip))
    return embedders


def _source(options: argparse.Namespace) -> Embedder:
    source = options.source or ("silhouette" if options.clip is None else "clip")
    if source == "silhouette":
        return SilhouetteEmbedder()
    if options.clip is None:
        raise ConfigError("--clip", f"is missing, which the source {source} needs", "give a CLIP model's directory")
    from ivlm_core.objects.clip_views import ClipEmbedder
    from ivlm_core.objects.openshape import OpenShapeEmbedder

    clip = ClipEmbedder(options.clip)
    return clip if source == "clip" else OpenShapeEmbedder(clip)


def _scale(longest_m: float | None, spread_m: float | None) -> ScalePrior | None:
    if longest_m is None:
        if spread_m is not None:
            raise ConfigError("--spread-m", "is given without --longest-m", "give both, or neither")
        return None
    return ScalePrior(longest_m, DEFAULT_SPREAD * longest_m if spread_m is None else spread_m)


def _mask(path: Path, size: tuple[int, ...]) -> NDArray[np.bool_]:
    mask: NDArray[np.bool_] = load_image(path).mean(axis=2) > 127
    if mask.shape != size:
        raise InputError("--mask", f"has {mask.shape} pixels", f"it must match the picture, {size}")
    return mask


def _told(options: argparse.Namespace, library: FolderLibrary, report: Report) -> int:
    summary = {
        "library": str(library.folder),
        "entries": len(library),
        "labels": list(library.labels),
        "sources": list(library.embeddings),
        "added": report.added,
        "changed": report.changed,
        "dropped": report.dropped,
        "refused": [{"file": file, "problem": problem} for file, problem in report.refused],
    }
    # A file's name may hold bytes that are no text.
    lines = [
        f"refused {file}: {problem}".encode(errors="backslashreplace").decode() for file, problem in report.refused
    ]
    noun = "category" if len(library.labels) == 1 else "categories"
    lines.append(
        f"{library.folder}: {len(library)} meshes of {len(library.labels)} {noun}; "
        f"{report.added} added, {report.changed} changed, {report.dropped} dropped, {len(report.refused)} refused"
    )
    _print(options, summary, "\n".join(lines))
    return 1 if report.refused else 0


def _print(options: argparse.Namespace, summary: dict[str, Any], text: str) -> None:
    print(json.dumps(summary) if options.json else text)


@contextlib.contextmanager
def _bar(what: str, total: int, hidden: bool) -> Iterator[Callable[[int, int], None]]:
    from tqdm import tqdm

    with tqdm(desc=what, unit=" meshes", total=total, file=sys.stderr, disable=hidden) as bar:

        def progress(done: int, of: int) -> None:
            bar.total = of
            bar.update(done - bar.n)

        yield progress
