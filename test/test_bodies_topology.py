"""Contact on one body as contact on another: exactness, part by part, round trips, and files that are refused."""

from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from scipy import sparse

from ivlm_core.bodies import PART_NAMES, BodyMap, BodyModel, body_map, load_body, load_body_map, topology
from ivlm_core.errors import InputError, MeshError
from ivlm_core.storage import ArrayCache
from ivlm_core.types import Mesh


class Bomb:
    """Unpickling this creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str, str]]:
        return open, (str(self.path), "w")


def body_of(vertices: int, seed: int = 0, name: str = "smpl") -> BodyModel:
    """A body of that many vertices; a strip of triangles between random points, with all parts in use."""
    random = np.random.default_rng(seed)
    faces = np.arange(vertices - 2)[:, None] + np.arange(3)
    mesh = Mesh(random.normal(0, 0.4, (vertices, 3)).astype(np.float32), faces)
    return BodyModel.from_mesh(name, mesh, (np.arange(vertices) % len(PART_NAMES)).astype(np.uint8))


@pytest.fixture(scope="module")
def coarse() -> BodyModel:
    """Anny with half its triangles: another topology of the same shape."""
    import open3d as o3d
    from scipy.spatial import cKDTree

    anny = load_body()
    full = o3d.geometry.TriangleMesh(
        o3d.utility.Vector3dVector(anny.mesh.vertices.astype(float)), o3d.utility.Vector3iVector(anny.mesh.faces.copy())
    )
    half = full.simplify_quadric_decimation(len(anny.mesh.faces) // 2)
    points = np.asarray(half.vertices).astype(np.float32)
    labels = anny.part_labels[cKDTree(anny.mesh.vertices).query(points)[1]]
    return BodyModel.from_mesh("smplh", Mesh(points, np.asarray(half.triangles).astype(np.int32)), labels)


@pytest.fixture(scope="module")
def there(coarse: BodyModel, tmp_path_factory: pytest.TempPathFactory) -> BodyMap:
    return body_map(load_body(), coarse, ArrayCache(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="module")
def back(coarse: BodyModel, tmp_path_factory: pytest.TempPathFactory) -> BodyMap:
    return body_map(coarse, load_body(), ArrayCache(tmp_path_factory.mktemp("cache")))


def test_between_equal_topologies_every_bit_stays(tmp_path: Path) -> None:
    """SMPL and SMPL+H have one mesh; their shapes and parts may differ, their vertices are the same."""
    smpl, smplh = body_of(6890), body_of(6890, seed=1, name="smplh")
    identity = body_map(smpl, smplh, ArrayCache(tmp_path))
    values = np.random.default_rng(0).random((3, 6890)).astype(np.float32)
    assert identity.convert(values).tobytes() == values.tobytes()
    assert identity.convert(values[0]).tobytes() == values[0].tobytes()
    assert identity.convert(values[0]) is not values[0]
    assert (identity.source, identity.target) == ("smpl", "smplh")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("level", [0.0, 1.0, 0.5, 0.3])
def test_constant_contact_stays_constant(there: BodyMap, back: BodyMap, level: float) -> None:
    """Exactly: a threshold at the same value must not split it."""
    for mapping in (there, back):
        count = mapping.matrix.shape[1]
        converted = mapping.convert(np.full(count, level))
        assert converted.dtype == np.float32
        tolerance = 0 if level != 0.3 else 1e-7
        np.testing.assert_allclose(converted, np.float32(level), rtol=0, atol=tolerance)


def test_a_painted_part_is_the_same_part(coarse: BodyModel, there: BodyMap, back: BodyMap) -> None:
    for mapping, source, target in ((there, load_body(), coarse), (back, coarse, load_body())):
        for part, name in enumerate(PART_NAMES):
            mapped = mapping.convert(source.part_labels == part) >= 0.5
            truth, area = target.part_labels == part, target.vertex_area
            assert area[mapped & truth].sum() > 0.95 * area[mapped | truth].sum(), name
            scores = target.part_scores(mapped.astype(np.float32))
            assert scores[name] == 1.0
            assert {other for other, score in scores.items() if score > 0} == {name}


def test_round_trip_of_smooth_contact(there: BodyMap, back: BodyMap) -> None:
    """Patches of 8 cm radius."""
    points = load_body().mesh.vertices
    centres = points[np.random.default_rng(0).integers(0, len(points), 40)]
    fields = np.exp(-((np.linalg.norm(points - centres[:, None], axis=2) / 0.08) ** 2)).astype(np.float32)
    error = np.abs(back.convert(there.convert(fields)) - fields)
    assert error.mean() < 0.002
    assert np.percentile(error, 99.9) < 0.05


def test_a_batch_is_its_rows(there: BodyMap) -> None:
    values = np.random.default_rng(0).random((5, there.matrix.shape[1]))
    together = there.convert(values)
    assert together.shape == (5, there.matrix.shape[0])
    assert together.flags.c_contiguous
    for row, alone in zip(together, values, strict=True):
        np.testing.assert_allclose(row, there.convert(alone), atol=1e-7)
    assert there.convert(values[:0]).shape == (0, there.matrix.shape[0])


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> BodyMap:
    return body_map(body_of(40), body_of(60, seed=1, name="smplx"), ArrayCache(tmp_path_factory.mktemp("cache")))


probabilities = npst.arrays(np.float32, (2, 40), elements=st.floats(0, 1, width=32))


@given(probabilities, st.floats(0, 1))
def test_conversion_is_linear_and_gives_probabilities(small: BodyMap, values: np.ndarray, share: float) -> None:
    converted = small.convert(values)
    assert converted.min() >= 0
    assert converted.max() <= 1
    assert converted.max() <= values.max() + 1e-6
    mixed = small.convert(share * values[0] + (1 - share) * values[1])
    np.testing.assert_allclose(mixed, share * converted[0] + (1 - share) * converted[1], atol=1e-6)


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        (np.zeros(39), r"shape \(39,\).*V = 40 vertices of body model 'smpl'"),
        (np.zeros((2, 3, 40)), r"shape \(2, 3, 40\)"),
        (np.float32(0.5), r"shape \(\)"),
        (np.full(40, np.nan), "NaN"),
        (np.full(40, np.inf), "outside"),
        (np.full(40, 3.0), "not logits"),
        (np.full(40, -0.5), "not logits"),
        (np.full(40, "a"), "dtype <U1"),
        (np.full(40, None), "dtype object"),
    ],
)
def test_values_that_are_no_probabilities(small: BodyMap, values: np.ndarray, problem: str) -> None:
    with pytest.raises(InputError, match=problem) as caught:
        small.convert(values)
    assert caught.value.field == "probability"


def test_rounding_outside_the_range_is_clamped(small: BodyMap) -> None:
    assert small.convert(np.full(40, 1.00001)).max() == 1
    assert small.convert(np.full(40, -0.00001)).min() == 0


def test_a_map_is_computed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = body_of(40), body_of(60, seed=1)
    first = body_map(source, target, ArrayCache(tmp_path))
    monkeypatch.setattr(topology, "correspond", lambda *_: pytest.fail("computed again"))
    cache = ArrayCache(tmp_path)
    again = body_map(source, target, cache)
    assert (cache.hits, cache.misses) == (1, 0)
    np.testing.assert_array_equal(first.matrix.toarray(), again.matrix.toarray())


def test_cached_maps_are_kept_apart(tmp_path: Path) -> None:
    """By direction, by shape and by part labels, all of which a map depends on."""
    source, target = body_of(40), body_of(60, seed=1)
    relabelled = BodyModel.from_mesh("smpl", source.mesh, source.part_labels[::-1])
    cache = ArrayCache(tmp_path)
    for pair in ((source, target), (target, source), (body_of(40, seed=2), target), (relabelled, target)):
        body_map(*pair, cache)
    assert len(list((tmp_path / "body_maps").iterdir())) == cache.misses == 4


@pytest.mark.parametrize(
    "change",
    [
        lambda a: {},
        lambda a: {"vertices": a["vertices"]},
        lambda a: a | {"vertices": a["vertices"] + 40},
        lambda a: a | {"vertices": a["vertices"] - 40},
        lambda a: a | {"vertices": a["vertices"][:5]},
        lambda a: a | {"vertices": a["vertices"].astype(float)},
        lambda a: a | {"weights": a["weights"] * np.float32(np.nan)},
        lambda a: a | {"weights": a["weights"] * np.float32(2)},
        lambda a: a | {"weights": -a["weights"]},
    ],
)
def test_a_cache_file_of_something_else_is_made_again(tmp_path: Path, change: Any) -> None:
    source, target = body_of(40), body_of(60, seed=1)
    cache = ArrayCache(tmp_path)
    expected = body_map(source, target, cache).matrix.toarray()
    (path,) = (tmp_path / "body_maps").iterdir()
    with np.load(path) as stored:
        arrays = dict(stored)
    cache.store("body_maps", path.stem, change(arrays))
    np.testing.assert_array_equal(body_map(source, target, cache).matrix.toarray(), expected)
    np.testing.assert_array_equal(cache.load("body_maps", path.stem)["vertices"], arrays["vertices"])


@pytest.mark.parametrize("labels", [np.full(40, 15, np.uint8), np.zeros(39, np.uint8)])
def test_part_labels_that_do_not_fit(tmp_path: Path, labels: np.ndarray) -> None:
    mesh = body_of(40).mesh
    broken = BodyModel("smpl", mesh, labels, np.ones(40, np.float32))
    with pytest.raises(MeshError, match=r"'smpl'\.part_labels"):
        body_map(broken, body_of(60), ArrayCache(tmp_path))


def test_smpl_sizes_convert_to_anny_and_back(tmp_path: Path) -> None:
    """Geometry that is no body at all still gives maps whose rows are barycentric."""
    for source, target in ((body_of(6890), load_body()), (load_body(), body_of(10475, name="smplx"))):
        mapping = body_map(source, target, ArrayCache(tmp_path))
        assert mapping.matrix.shape == (len(target.mesh.vertices), len(source.mesh.vertices))
        assert (mapping.matrix.sum(axis=1) == 1).all()
        assert mapping.matrix.data.min() >= 0


@pytest.mark.parametrize("form", ["dense", "dense float64", "sparse"])
def test_a_matrix_file_is_applied_as_released(reference: Mapping[str, np.ndarray], tmp_path: Path, form: str) -> None:
    matrix, path = reference["smplx_matrix"], tmp_path / "map.npz"
    if form == "sparse":
        sparse.save_npz(path, sparse.csr_matrix(matrix))
    else:
        np.savez_compressed(path, matrix=matrix.astype(np.float64) if "64" in form else matrix)
    mapping = load_body_map(path, body_of(40), body_of(60, name="smplx"))
    assert (mapping.source, mapping.target) == ("smpl", "smplx")
    converted = mapping.convert(reference["smplx_in"])
    assert converted.shape == (1, 60)
    np.testing.assert_allclose(converted[0], reference["smplx_out"], atol=1e-6)
    np.testing.assert_allclose(mapping.convert(reference["smplx_in"][0]), reference["smplx_out"], atol=1e-6)


def test_a_matrix_at_its_real_size(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    corners = random.integers(0, 6890, (10475, 3))
    rows = np.repeat(np.arange(10475), 3)
    matrix = sparse.csr_matrix((np.full(3 * 10475, 1 / 3), (rows, corners.ravel())), shape=(10475, 6890))
    sparse.save_npz(tmp_path / "map.npz", matrix)
    mapping = load_body_map(tmp_path / "map.npz", body_of(6890), body_of(10475, name="smplx"))
    contact = random.random(6890)
    np.testing.assert_allclose(mapping.convert(contact), contact[corners].mean(axis=1), atol=1e-6)


def test_rows_above_one_are_clamped(tmp_path: Path) -> None:
    np.savez(tmp_path / "map.npz", matrix=np.concatenate([np.eye(5), np.full((1, 5), 0.5), np.full((1, 5), -0.5)]))
    mapping = load_body_map(tmp_path / "map.npz", body_of(5), body_of(7))
    np.testing.assert_array_equal(mapping.convert(np.full(5, 0.75)), [0.75] * 5 + [1.0, 0.0])


def test_pickle_is_never_loaded(tmp_path: Path) -> None:
    fuse = tmp_path / "exploded"
    for name, problem in (("smpl_to_smplx.pkl", r"is a pickle.*save_npz"), ("map.npz", "not a complete")):
        (tmp_path / name).write_bytes(pickle.dumps({"matrix": Bomb(fuse)}))
        with pytest.raises(MeshError, match=problem) as caught:
            load_body_map(tmp_path / name, body_of(40), body_of(60))
        assert str(tmp_path / name) in str(caught.value)
    bomb = np.empty(1, dtype=object)
    bomb[0] = Bomb(fuse)
    np.savez(tmp_path / "map.npz", matrix=bomb)
    with pytest.raises(MeshError, match=r"'matrix'.*without pickle"):
        load_body_map(tmp_path / "map.npz", body_of(40), body_of(60))
    assert not fuse.exists()


def changed(array: np.ndarray, index: Any, value: float) -> np.ndarray:
    array = array.copy()
    array[index] = value
    return array


@pytest.mark.parametrize(
    ("arrays", "problem"),
    [
        ({"matrix": np.ones((60, 41))}, r"larger than|shape \(60, 41\), expected \(60, 40\)"),
        ({"matrix": np.ones((40, 60))}, r"expected \(60, 40\): it maps the other way round"),
        ({"matrix": np.ones(60 * 40)}, r"shape \(2400,\)"),
        ({"matrix": np.zeros((60, 40))}, "nothing but zeros"),
        ({"matrix": changed(np.ones((60, 40)), (3, 2), np.nan)}, "NaN or infinity"),
        ({"matrix": np.full((60, 40), 1e300)}, "NaN or infinity"),
        ({"matrix": np.ones((60, 40), int)}, "dtype int64"),
        ({"matrix": np.full((60, 40), "1")}, "dtype <U1"),
        ({"weights": np.ones((60, 40))}, r"is missing, and so is data, indices, indptr, shape, format"),
    ],
)
def test_a_dense_matrix_that_does_not_fit(tmp_path: Path, arrays: dict[str, np.ndarray], problem: str) -> None:
    path = tmp_path / "map.npz"
    np.savez(path, **arrays)
    with pytest.raises(MeshError, match=problem) as caught:
        load_body_map(path, body_of(40), body_of(60, name="smplx"))
    assert str(path) in str(caught.value)
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("key", "change", "problem"),
    [
        ("format", lambda a: np.array(b"csc"), "'csc', not 'csr'"),
        ("format", lambda a: np.array([b"csr", b"csr"]), "not 'csr'"),
        ("shape", lambda a: np.array([40, 60]), "other way round"),
        ("shape", lambda a: a.astype(float), "dtype float64"),
        ("indptr", lambda a: a[:-1], "does not agree"),
        ("indptr", lambda a: a[::-1].copy(), "does not agree"),
        ("indptr", lambda a: changed(a, -1, 10**6), "does not agree"),
        ("indptr", lambda a: changed(a, 5, -3), "does not agree"),
        ("indices", lambda a: changed(a, 0, 40), "outside 0…39"),
        ("indices", lambda a: changed(a, 0, -1), "outside 0…39"),
        ("indices", lambda a: a[:-1], "does not agree"),
        ("data", lambda a: a[:-1], "does not agree"),
        ("data", lambda a: changed(a, 0, np.inf), "NaN or infinity"),
        ("data", lambda a: np.zeros(10**6), "larger than it can be"),
        ("data", lambda a: a.astype(complex), "dtype complex128"),
        ("indices", None, "is missing, and so is indices"),
    ],
)
def test_a_sparse_matrix_that_does_not_fit(tmp_path: Path, key: str, change: Any, problem: str) -> None:
    matrix = sparse.random(60, 40, density=0.1, format="csr", random_state=0)
    path = tmp_path / "map.npz"
    sparse.save_npz(path, matrix)
    load_body_map(path, body_of(40), body_of(60))
    with np.load(path) as stored:
        arrays = dict(stored)
    if change is None:
        del arrays[key]
    else:
        arrays[key] = change(arrays[key])
    np.savez(path, **arrays)
    with pytest.raises(MeshError, match=problem):
        load_body_map(path, body_of(40), body_of(60))


def test_a_matrix_that_is_not_sparse(tmp_path: Path) -> None:
    path = tmp_path / "map.npz"
    np.savez_compressed(path, matrix=np.ones((30, 400), np.float32))
    with pytest.raises(MeshError, match=r"12000 entries, over 256 per vertex"):
        load_body_map(path, body_of(400), body_of(30))


@pytest.mark.parametrize("share", [0.0, 0.3, 0.6, 0.999])
def test_truncated_file(tmp_path: Path, share: float) -> None:
    path = tmp_path / "map.npz"
    np.savez(path, matrix=np.random.default_rng(0).random((60, 40)))
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(MeshError, match=r"map\.npz is not a complete"):
        load_body_map(path, body_of(40), body_of(60))


def test_damaged_member(tmp_path: Path) -> None:
    path = tmp_path / "map.npz"
    np.savez(path, matrix=np.random.default_rng(0).random((60, 40)))
    content = bytearray(path.read_bytes())
    content[5000:5100] = bytes(100)
    path.write_bytes(content)
    with pytest.raises(MeshError, match=r"'matrix'.*damaged.*map\.npz"):
        load_body_map(path, body_of(40), body_of(60))


def test_a_header_that_claims_an_absurd_size(tmp_path: Path) -> None:
    path, header = tmp_path / "map.npz", io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": (1 << 40, 1 << 10)})
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("matrix.npy", header.getvalue())
    with pytest.raises(MeshError, match="'matrix'"):
        load_body_map(path, body_of(40), body_of(60))


@pytest.mark.parametrize("kind", ["missing", "folder"])
def test_a_path_that_is_no_file(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "map.npz"
    if kind == "folder":
        path.mkdir()
    with pytest.raises(MeshError, match=r"map\.npz is not a file"):
        load_body_map(path, body_of(40), body_of(60))
