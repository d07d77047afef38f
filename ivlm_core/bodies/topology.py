"""Contact predicted on one body, on another one: SMPL, SMPL+H, SMPL-X and Anny in every direction.

The places of one body's vertices on another come from the two star poses (`body_map`, made once and cached) or, from
SMPL to SMPL-X, from the matrix that InteractVLM's authors release (`load_body_map`). Their file is a pickle, which is
never loaded because it can run code. Turn it into `.npz` once, where you trust it:

    matrix = joblib.load("smpl_to_smplx.pkl")["matrix"]
    scipy.sparse.save_npz("smpl_to_smplx.npz", scipy.sparse.csr_matrix(matrix))
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ivlm_core.bodies.correspondence import correspond
from ivlm_core.bodies.model import BodyModel
from ivlm_core.bodies.parts import PART_NAMES
from ivlm_core.errors import InputError, MeshError, shown
from ivlm_core.storage import UNREADABLE, ArrayCache
from ivlm_core.types import FloatArray, IntArray

if TYPE_CHECKING:
    from scipy.sparse import csr_array

# Changes whenever `correspond` finds other places, so that old caches are not used.
MAP_VERSION = 1

# Barycentric weights are whole multiples of this, so that every row sums to exactly one in float32.
WEIGHT_STEP = 2.0**-16

# What rounding may leave outside [0, 1] in a probability.
SLACK = 1e-4

# A map is sparse: the released matrix is barycentric, and a file with more than this per vertex is something else.
MAX_ENTRIES_PER_VERTEX = 256

_CSR_KEYS = ("data", "indices", "indptr", "shape", "format")


@dataclass(frozen=True, eq=False)
class BodyMap:
    """Takes values per vertex of one body to the vertices of another.

    Attributes
    ----------
    source, target : names of the bodies.
    source_topology, target_topology : their `Mesh.topology_hash`.
    matrix : (V_target, V_source) float32, sparse. Each row weighs the source vertices around one target vertex; the
        rows of a computed map sum to exactly one, those of a file are what the file says.
    """

    source: str
    target: str
    source_topology: str
    target_topology: str
    matrix: csr_array

    def convert(self, probability: NDArray[Any]) -> FloatArray:
        """The same contact on the target body.

        The released code writes `matrix · contact` as it is; here the result is clamped, so that a matrix whose rows
        do not sum to one still gives probabilities.

        Parameters
        ----------
        probability : (V_source,) or (K, V_source) in [0, 1].

        Returns
        -------
        (V_target,) or (K, V_target) float32 in [0, 1]. A bitwise copy (in float32) between equal topologies.

        Raises
        ------
        InputError : another length than the source body, or values that are not probabilities (NaN too).
        """
        values = np.asarray(probability)
        vertices = self.matrix.shape[1]
        if values.ndim not in (1, 2) or values.shape[-1] != vertices:
            raise InputError(
                "probability",
                f"has shape {values.shape}",
                f"give (V,) or (K, V) with the V = {vertices} vertices of body model {self.source!r}",
            )
        if values.dtype.kind not in "fiub":
            raise InputError("probability", f"has dtype {values.dtype}", "give numbers in [0, 1]")
        # Written so that NaN, which compares false with everything, is refused.
        if values.size and not (values.min() >= -SLACK and values.max() <= 1 + SLACK):
            raise InputError("probability", "holds NaN or values outside [0, 1]", "give probabilities, not logits")
        mapped = self.matrix @ values.T.astype(np.float32)  # (V_target,) or (V_target, K)
        converted: FloatArray = np.clip(np.ascontiguousarray(mapped.T), 0, 1)
        return converted


def body_map(source: BodyModel, target: BodyModel, cache: ArrayCache) -> BodyMap:
    """The map between two bodies, computed from their star poses; takes about a second, and none from the cache.

    Bodies with equal topology hashes (SMPL and SMPL+H share their mesh) get the identity.

    Raises
    ------
    MeshError : part labels that do not fit the mesh.
    """
    if source.mesh.topology_hash == target.mesh.topology_hash:
        from scipy.sparse import eye_array

        return _named(source, target, eye_array(len(source.mesh.vertices), dtype=np.float32, format="csr"))
    key = f"{MAP_VERSION}-{_labelled_hash(source)}-{_labelled_hash(target)}"
    places = _stored_places(cache.load("body_maps", key), source, target)
    if places is None:
        places = correspond(source, target)
        cache.store("body_maps", key, {"vertices": places[0], "weights": places[1]})
    return _named(source, target, _barycentric_matrix(*places, len(source.mesh.vertices)))


def load_body_map(path: Path, source: BodyModel, target: BodyModel) -> BodyMap:
    """A map from a file, such as the authors' SMPL to SMPL-X matrix.

    Parameters
    ----------
    path : `.npz` with a dense `matrix` (V_target, V_source), or as `scipy.sparse.save_npz` writes CSR.

    Raises
    ------
    MeshError : no such file, a pickle (see above), a damaged file, or a matrix that does not fit the two bodies.
    """
    from scipy.sparse import csr_array

    path = Path(path)
    shape = (len(target.mesh.vertices), len(source.mesh.vertices))
    _check_kind(path)
    try:
        with zipfile.ZipFile(path) as members:
            sizes = {entry.filename: entry.file_size for entry in members.infolist()}
        with np.load(path, allow_pickle=False) as archive:
            if "matrix" in archive.files:
                dense = _member(archive, sizes, "matrix", path, "f", shape[0] * shape[1])
                _check_shape(path, dense.shape, shape, source, target)
                _check_entries(path, int(np.count_nonzero(dense)), shape)
                matrix = csr_array(dense)
            else:
                matrix = _read_csr(archive, sizes, path, shape, source, target)
    except UNREADABLE as error:
        raise MeshError("body_map.path", f"{path} is damaged: {error}", "make it again") from error
    with np.errstate(over="ignore"):
        matrix = matrix.astype(np.float32)
    if not np.isfinite(matrix.data).all():
        raise _misfit(path, "matrix", "holds NaN or infinity")
    return _named(source, target, matrix)


def _named(source: BodyModel, target: BodyModel, matrix: csr_array) -> BodyMap:
    return BodyMap(source.name, target.name, source.mesh.topology_hash, target.mesh.topology_hash, matrix)


def _labelled_hash(body: BodyModel) -> str:
    """Mesh and part labels, both of which the places depend on."""
    labels = body.part_labels
    if labels.shape != (len(body.mesh.vertices),) or labels.max() >= len(PART_NAMES):
        raise MeshError(
            f"body {shown(body.name)}.part_labels",
            f"has shape {labels.shape} and reaches {int(labels.max(initial=0))}",
            f"give each of the {len(body.mesh.vertices)} vertices an index into PART_NAMES",
        )
    return f"{body.mesh.content_hash}{hashlib.sha256(labels.astype(np.uint8).tobytes()).hexdigest()[:8]}"


def _stored_places(
    stored: Mapping[str, NDArray[Any]] | None, source: BodyModel, target: BodyModel
) -> tuple[IntArray, FloatArray] | None:
    """The cached places, or None where they cannot be those of these two bodies."""
    if stored is None or not {"vertices", "weights"} <= stored.keys():
        return None
    vertices, weights = stored["vertices"], stored["weights"]
    shape = (len(target.mesh.vertices), 3)
    if vertices.shape != shape or weights.shape != shape or vertices.dtype != np.int32 or weights.dtype != np.float32:
        return None
    inside = vertices.min() >= 0 and vertices.max() < len(source.mesh.vertices)
    return (vertices, weights) if inside and weights.min() >= 0 and abs(weights.sum(1) - 1).max() < 1e-3 else None


def _barycentric_matrix(vertices: IntArray, weights: FloatArray, columns: int) -> csr_array:
    from scipy.sparse import csr_array

    steps = np.rint(weights / WEIGHT_STEP).astype(np.int64)
    # The largest weight takes what rounding left over, which makes each row exact and keeps it positive.
    steps[np.arange(len(steps)), steps.argmax(axis=1)] += round(1 / WEIGHT_STEP) - steps.sum(axis=1)
    exact = (steps * WEIGHT_STEP).astype(np.float32)
    starts = np.arange(0, exact.size + 1, 3, dtype=np.int32)
    return csr_array((exact.ravel(), vertices.ravel(), starts), shape=(len(vertices), columns))


def _check_kind(path: Path) -> None:
    if not path.is_file():
        raise MeshError("body_map.path", f"{path} is not a file", "give the .npz file of the map, or leave it out")
    if path.suffix.lower() in (".pkl", ".pickle", ".joblib"):
        raise MeshError(
            "body_map.path",
            f"{path} is a pickle, which is never loaded because it can run code",
            "convert it once where you trust it: scipy.sparse.save_npz('smpl_to_smplx.npz', "
            "scipy.sparse.csr_matrix(joblib.load('smpl_to_smplx.pkl')['matrix']))",
        )
    if not zipfile.is_zipfile(path):
        raise MeshError("body_map.path", f"{path} is not a complete .npz file", "copy or convert it again")


def _read_csr(
    archive: Any, sizes: Mapping[str, int], path: Path, shape: tuple[int, int], source: BodyModel, target: BodyModel
) -> csr_array:
    from scipy.sparse import csr_array

    missing = [key for key in _CSR_KEYS if key not in archive.files]
    if missing:
        raise _misfit(path, "matrix", f"is missing, and so is {', '.join(missing)} of a sparse one")
    form = _member(archive, sizes, "format", path, "SU", 16)
    if form.shape != () or form.astype("U").item() != "csr":
        raise _misfit(path, "format", f"is {shown(form.tolist())}, not 'csr'", "save matrix.tocsr()")
    stated = _member(archive, sizes, "shape", path, "iu", 2)
    _check_shape(path, tuple(stated.ravel().tolist()), shape, source, target)
    limit = MAX_ENTRIES_PER_VERTEX * shape[0]
    starts = _member(archive, sizes, "indptr", path, "iu", shape[0] + 1)
    columns = _member(archive, sizes, "indices", path, "iu", limit)
    values = _member(archive, sizes, "data", path, "f", limit)
    ordered = starts.shape == (shape[0] + 1,) and starts[0] == 0 and (starts[1:] >= starts[:-1]).all()
    if not ordered or columns.shape != (int(starts[-1]),) or values.shape != columns.shape:
        raise _misfit(path, "indptr", "does not agree with indices and data")
    _check_entries(path, len(values), shape)
    if columns.min() < 0 or columns.max() >= shape[1]:
        raise _misfit(path, "indices", f"holds columns outside 0…{shape[1] - 1}")
    matrix = csr_array((values, columns.astype(np.int32), starts.astype(np.int32)), shape=shape)
    matrix.sum_duplicates()
    return matrix


def _member(archive: Any, sizes: Mapping[str, int], key: str, path: Path, kinds: str, most: int) -> NDArray[Any]:
    """One array of the file, unpacked only when it can be no larger than `most` numbers."""
    if sizes.get(f"{key}.npy", 0) > 8 * most + 4096:
        raise _misfit(path, key, "is larger than it can be")
    try:
        array: NDArray[Any] = archive[key]
    except UNREADABLE as error:
        raise _misfit(path, key, f"cannot be read without pickle or is damaged: {error}") from error
    if array.dtype.kind not in kinds:
        raise _misfit(path, key, f"has dtype {array.dtype}")
    return array


def _check_shape(
    path: Path, found: tuple[int, ...], shape: tuple[int, int], source: BodyModel, target: BodyModel
) -> None:
    if found != shape:
        turned = ": it maps the other way round" if found == shape[::-1] else ""
        raise _misfit(
            path,
            "matrix",
            f"has shape {found}, expected {shape}{turned}",
            f"rows are the vertices of {target.name!r}, columns those of {source.name!r}",
        )


def _check_entries(path: Path, entries: int, shape: tuple[int, int]) -> None:
    if entries == 0:
        raise _misfit(path, "matrix", "holds nothing but zeros")
    if entries > MAX_ENTRIES_PER_VERTEX * shape[0]:
        raise _misfit(path, "matrix", f"has {entries} entries, over {MAX_ENTRIES_PER_VERTEX} per vertex")


def _misfit(path: Path, key: str, problem: str, remedy: str = "is this the file of these two bodies?") -> MeshError:
    return MeshError(f"body_map.path[{key!r}]", f"{problem} in {path}", remedy)
