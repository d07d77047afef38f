"""The built-in shapes as a library: what ships is what the shapes are now."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ivlm_core.errors import ConfigError
from ivlm_core.objects import SilhouetteEmbedder, builtin_library, default_vertices, library_labels, library_mesh
from ivlm_core.objects.build_builtin import LEAST_SPREAD, size_spread
from ivlm_core.objects.builtin import ASSET, INSTANCES, instance_mesh, read_builtin
from ivlm_core.types import Mesh


def test_every_label_has_its_instances() -> None:
    library = builtin_library()
    assert set(library.labels) == set(library_labels())
    for label in library_labels():
        first, last = library.span(label)
        assert last - first == INSTANCES
    assert len(library) == len(library_labels()) * INSTANCES
    assert builtin_library() is library


def test_the_default_is_the_librarys_mesh() -> None:
    library = builtin_library()
    for label in ("chair", "tennis racket"):
        assert library.mesh(library.default(label)) is library_mesh(label)


def test_instances_differ_and_stay_the_same() -> None:
    library = builtin_library()
    first, last = library.span("chair")
    hashes = [library.mesh(number).content_hash for number in range(first, last)]
    assert len(set(hashes)) == INSTANCES
    assert hashes == [instance_mesh("chair", number).content_hash for number in range(INSTANCES)]


@pytest.mark.parametrize(("label", "instance"), [("bottle", 0), ("bottle", 3), ("box", 7)])
def test_the_shipped_descriptors_are_those_of_the_shapes(label: str, instance: int) -> None:
    """Whoever changes a shape or the descriptor must run `python -m ivlm_core.objects.build_builtin`."""
    library = builtin_library()
    number = library.span(label)[0] + instance
    shipped = library.embeddings[SilhouetteEmbedder.name].block(number)
    made = SilhouetteEmbedder().of_mesh(library.mesh(number))
    np.testing.assert_array_less(0.999, (shipped * made).sum(axis=1))


def test_the_shipped_sizes_are_those_of_the_shapes() -> None:
    library = builtin_library()
    for label in ("cup", "surfboard"):
        for number in range(*library.span(label)):
            scale = library.entries[number].scale
            assert scale is not None
            assert scale.longest_m == pytest.approx(np.ptp(library.mesh(number).vertices, axis=0).max(), rel=1e-4)
            assert LEAST_SPREAD * 0.99 <= scale.spread_m / scale.longest_m < 0.25


def test_what_ships_is_small() -> None:
    assert ASSET.stat().st_size < 600_000


def test_spread_is_of_things_of_the_same_proportions() -> None:
    """Small and large cubes differ in size alone; long and short rods of one thickness do by their proportions."""
    rng = np.random.default_rng(0)
    cubes = rng.uniform(0.8, 1.25, (400, 1)) * np.ones(3)
    assert size_spread(cubes) == pytest.approx(np.std(np.log(cubes[:, 0])), rel=0.2)
    rods = np.stack([rng.uniform(1, 3, 400), np.full(400, 0.1), np.full(400, 0.1)], axis=1)
    assert size_spread(rods) == LEAST_SPREAD


@pytest.mark.parametrize("arrays", [{}, {name: np.ones((2, 2)) for name in ("vectors", "longest_m", "spread_m")}])
def test_asset_of_another_version(tmp_path: Path, arrays: dict[str, np.ndarray]) -> None:
    np.savez(tmp_path / "it.npz", **arrays)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="reinstall"):
        read_builtin(tmp_path / "it.npz")


def test_vertices_of_an_instance_have_their_places_on_the_default_mesh() -> None:
    library = builtin_library()
    for label in ("chair", "tennis racket"):
        first, _ = library.span(label)
        default = library_mesh(label)
        for number in (first, first + 3):
            mesh = library.mesh(number)
            found = default_vertices(library.entries[number].id, mesh)
            assert found is not None
            assert found[0] == label
            assert found[1].shape == (len(mesh.vertices),)
            # The same place in boxes of the same size, up to what is shaped otherwise.
            low, size = default.vertices.min(axis=0), np.ptp(default.vertices, axis=0)
            there = (default.vertices[found[1]] - low) / size
            here = (mesh.vertices - mesh.vertices.min(axis=0)) / np.ptp(mesh.vertices, axis=0)
            assert np.median(np.linalg.norm(there - here, axis=1)) < 0.15
            if number == first:
                np.testing.assert_array_equal(found[1], np.arange(len(mesh.vertices)))


@pytest.mark.parametrize("entry", ["", "chair", "chair-", "chair-1", "chair-8", "chair-x", "chair-²", "sofa-0", "-0"])
def test_other_meshes_have_no_place_in_it(entry: str) -> None:
    assert default_vertices(entry, library_mesh("chair")) is None
    assert default_vertices("chair-0", Mesh(library_mesh("chair").vertices * 2, library_mesh("chair").faces)) is None
