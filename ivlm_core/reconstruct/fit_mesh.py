"""A mesh made ready for fitting: what is drawn at each resolution, and its inside; once per mesh."""

from __future__ import annotations

from collections import OrderedDict
from functools import cached_property
from typing import Any

import numpy as np

from ivlm_core.reconstruct.silhouette import OutlineMesh
from ivlm_core.reconstruct.surface import surface_samples
from ivlm_core.reconstruct.volume import Volume
from ivlm_core.types import Mesh

# Faces of what many poses are tried with, and of what the last steps and the residuals use.
PROXY_FACES, FINE_FACES = 1500, 20_000
# Quadric decimation of more faces takes seconds: vertices are clustered first.
MOST_DECIMATED = 60_000
# A simplified mesh may lose this share of the longest side of its box, for example with its thin parts.
LARGEST_SHRINKAGE = 0.02
# And so much of its surface may end up further than a share of that side from the simplified one, by so many samples.
LARGEST_LOSS, LOST, MOST_COMPARED = 0.01, 0.04, 10_000
# Meshes that stay ready; each holds three ray trees, and Open3D crashes at about a thousand of them in a process.
KEPT = 16


class FitMesh:
    """One object's mesh, ready for fitting.

    Parameters
    ----------
    mesh : metres, object frame, y up; anything that `Mesh` accepts.

    Raises
    ------
    ConfigError : Open3D is not installed.

    Attributes
    ----------
    content_hash : the mesh's own. centre : (3,) float64 middle of its box; extent : (3,) float64 sides of the box.
    fine, proxy : what is drawn in the last steps, and before. notes : what was changed or is missing, for people.
    """

    def __init__(self, mesh: Mesh) -> None:
        self.content_hash = mesh.content_hash
        low, high = (pick(mesh.vertices.astype(np.float64), axis=0) for pick in (np.min, np.max))
        self.centre, self.extent = 0.5 * (low + high), high - low
        notes = []
        fine = mesh
        if len(mesh.faces) > FINE_FACES:
            fine = simplified(mesh, FINE_FACES)
            notes.append(f"simplified from {len(mesh.faces)} to {len(fine.faces)} faces")
        proxy = simplified(fine, PROXY_FACES) if len(fine.faces) > PROXY_FACES else fine
        self.fine = OutlineMesh(fine.vertices, fine.faces)
        self.proxy = self.fine if proxy is fine else OutlineMesh(proxy.vertices, proxy.faces)
        self._notes = tuple(notes)

    @cached_property
    def volume(self) -> Volume:
        """The inside, for penetration."""
        return Volume(self.fine.vertices, self.fine.faces)

    @property
    def notes(self) -> tuple[str, ...]:
        """What was changed or is missing, for people; that it is not closed is known once `volume` was asked for."""
        if "volume" in self.__dict__ and not self.volume.closed:
            return (*self._notes, "not watertight: its inside, and so penetration, is only roughly known")
        return self._notes


_kept: OrderedDict[str, FitMesh] = OrderedDict()


def fit_mesh(mesh: Mesh) -> FitMesh:
    """`FitMesh(mesh)`, or the one made before for the same content."""
    found = _kept.pop(mesh.content_hash, None) or FitMesh(mesh)
    _kept[mesh.content_hash] = found
    while len(_kept) > KEPT:
        _kept.popitem(last=False)
    return found


def simplified(mesh: Mesh, faces: int) -> Mesh:
    """A mesh of about `faces` faces, or as near as its shape allows; the mesh itself where nothing smaller keeps it.

    By quadric decimation. Soups, which have no shared edges to collapse, get their vertices clustered.
    """
    import open3d as o3d

    # Faces that only touch in position are joined, or nothing could be collapsed between them.
    places, inverse = np.unique(mesh.vertices, axis=0, return_inverse=True)
    joined: Any = o3d.geometry.TriangleMesh(
        o3d.utility.Vector3dVector(places.astype(np.float64)),
        o3d.utility.Vector3iVector(inverse.reshape(-1)[mesh.faces].astype(np.int32)),
    )
    joined.remove_degenerate_triangles()
    side = float(np.ptp(places.astype(np.float64), axis=0).max())
    best = mesh
    cell = side / 400
    while len(joined.triangles) > MOST_DECIMATED and cell < side / 20:
        joined, cell = joined.simplify_vertex_clustering(cell), cell * 1.4
    for wanted in (faces, 2 * faces, 4 * faces):
        if wanted >= len(mesh.faces):
            break
        found = joined.simplify_quadric_decimation(wanted)
        cell = side / 200
        while len(found.triangles) > 2 * wanted and cell < side / 10:
            found, cell = joined.simplify_vertex_clustering(cell), cell * 1.2
        if len(found.triangles) == 0 or len(found.triangles) >= len(mesh.faces):
            continue
        result = Mesh(
            np.asarray(found.vertices, dtype=np.float32), np.asarray(found.triangles, dtype=np.int32), mesh.name
        )
        if _same_box(mesh, result):
            if _covers(result, mesh):
                return result
            # More faces may keep more of it; if none do, the fewest are still the shape.
            best = result if best is mesh else best
    return best


def _covers(simple: Mesh, mesh: Mesh) -> bool:
    """Whether nearly all of a mesh's surface is near the simple one: rods and spokes may have been collapsed."""
    import open3d as o3d

    faces = mesh.faces[:: -(-len(mesh.faces) // MOST_COMPARED)]
    side = float(np.ptp(mesh.vertices.astype(np.float64), axis=0).max())
    samples = surface_samples(mesh.vertices, faces, np.ones(len(mesh.vertices)), 0.0, side / 40, MOST_COMPARED)
    o3c: Any = o3d.core
    scene = o3d.t.geometry.RaycastingScene()
    scene.add_triangles(o3c.Tensor(np.array(simple.vertices)), o3c.Tensor(simple.faces.astype(np.uint32)))
    distance = scene.compute_distance(o3c.Tensor(samples.points.astype(np.float32)), nthreads=1).numpy()
    lost = samples.areas[distance > LOST * side].sum()
    return bool(lost <= LARGEST_LOSS * samples.areas.sum())


def _same_box(first: Mesh, second: Mesh) -> bool:
    """Whether the boxes of both meshes' faces differ by little."""
    boxes = [
        np.concatenate([used.min(axis=0), used.max(axis=0)])
        for used in (mesh.vertices[np.unique(mesh.faces)].astype(np.float64) for mesh in (first, second))
    ]
    side = float((boxes[0][3:] - boxes[0][:3]).max())
    return bool(np.abs(boxes[0] - boxes[1]).max() <= LARGEST_SHRINKAGE * side)
