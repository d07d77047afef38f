"""The meshes that recorded values belong to: found by label or by file, and taken only when their topology is the same.

Messages come from outside. A file that one names is opened only below the cache folder and the folders that the user
gave, links followed.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

from ivlm_core.bodies import load_body
from ivlm_core.errors import ConfigError, IvlmError, shown
from ivlm_core.objects import find_object, load_mesh
from ivlm_core.storage import default_cache_dir
from ivlm_core.types import Mesh, ObjectQuery

KEPT = 64

Found = tuple[Mesh | None, str]


class MeshFinder:
    """Looks meshes up, and remembers the last ones.

    Parameters
    ----------
    folders : where mesh files may be read, besides the cache folder.
    body_paths : body model → its file, for those that are not shipped.

    Raises
    ------
    ConfigError : a folder that does not exist.
    """

    def __init__(self, folders: Sequence[Path] = (), body_paths: Mapping[str, Path] | None = None) -> None:
        for folder in folders:
            if not folder.is_dir():
                raise ConfigError("--meshes", f"{shown(str(folder), 300)} is no folder", "give the meshes' folder")
        self._given = [folder.resolve() for folder in folders]
        self._roots = [default_cache_dir().resolve(), *self._given]
        self._body_paths = dict(body_paths or {})
        self._found: OrderedDict[tuple[object, ...], Found] = OrderedDict()

    def body(self, name: str, vertex_count: int, topology_hash: str) -> Found:
        """The canonical body called `name` and a note: without a mesh, why there is none."""
        key = ("body", name, vertex_count, topology_hash)
        return self._remembered(key, lambda: self._find_body(name, vertex_count, topology_hash))

    def thing(self, label: str, resource: str, source: str, vertex_count: int, topology_hash: str) -> Found:
        """An object's mesh, metres, y up, and a note.

        Parameters
        ----------
        label, resource, source, vertex_count, topology_hash : as in `ObjectAffordance`.
        """
        key = ("thing", label, resource, source, vertex_count, topology_hash)
        return self._remembered(key, lambda: self._find_thing(label, resource, source, vertex_count, topology_hash))

    def _remembered(self, key: tuple[object, ...], find: Callable[[], Found]) -> Found:
        if key not in self._found:
            self._found[key] = find()
            if len(self._found) > KEPT:
                self._found.popitem(last=False)
        self._found.move_to_end(key)
        return self._found[key]

    def _find_body(self, name: str, vertex_count: int, topology_hash: str) -> Found:
        try:
            mesh = load_body(name, self._body_paths.get(name)).mesh
        except IvlmError as error:
            hint = "" if name in self._body_paths else "; --body-path MODEL=FILE says where it is"
            return None, f"the body {shown(name)} cannot be shown: {error.problem}{hint}"
        if _fits(mesh, vertex_count, topology_hash):
            return mesh, ""
        told = f"{vertex_count} vertices, topology {shown(topology_hash)}"
        return None, f"the contact is on another body {shown(name)} than the one here ({told}): it cannot be shown"

    def _find_thing(self, label: str, resource: str, source: str, vertex_count: int, topology_hash: str) -> Found:
        note = "a plain box stands in for the object" if source == "fallback" else ""
        tried = []
        if resource:
            path, why = self._allowed(resource)
            if path is None:
                tried.append(why)
            else:
                try:
                    mesh = load_mesh(path)
                except IvlmError as error:
                    tried.append(f"its mesh file {error.problem}")
                else:
                    if _fits(mesh, vertex_count, topology_hash):
                        return mesh, note
                    tried.append("its mesh file has changed since (another topology)")
        try:
            match = find_object(ObjectQuery(label=label))
        except IvlmError as error:
            tried.append(f"the library was not asked: {error.problem}")
        else:
            if _fits(match.mesh, vertex_count, topology_hash):
                return match.mesh, note or (match.note if match.source == "library" else "")
            tried.append("the library's mesh of that name has another topology")
        return None, f"the object's mesh cannot be shown: {'; '.join(tried)}"

    def _allowed(self, resource: str) -> tuple[Path | None, str]:
        """The file that a URI means, if it may be read; else why not."""
        try:
            parts = urlsplit(resource)
            if parts.scheme != "file" or parts.netloc not in ("", "localhost"):
                return None, f"its mesh {shown(resource, 120)} is no file of this computer"
            named = Path(unquote(parts.path))
            # A file that moved with its recording lies by its name in one of the folders given.
            for path in (named, *(folder / named.name for folder in self._given)):
                real = path.resolve()
                if any(real.is_relative_to(root) for root in self._roots) and real.is_file():
                    return real, ""
        except (ValueError, OSError, RuntimeError):
            return None, f"its mesh {shown(resource, 120)} is no usable path"
        told = f"its mesh file {shown(named.name)} is not in the cache or another folder that may be read"
        return None, f"{told} (--meshes DIR adds one)"


def _fits(mesh: Mesh, vertex_count: int, topology_hash: str) -> bool:
    return len(mesh.vertices) == vertex_count and mesh.topology_hash == topology_hash
