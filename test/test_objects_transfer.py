"""Vertices of one instance on another: the same part, the same place."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ivlm_core.objects import Shape, corresponding_vertices, library_labels, library_shape, varied_shape

LABELS = st.sampled_from(library_labels())


def _varied(label: str, seed: int) -> Shape:
    return varied_shape(label, np.random.default_rng(seed))


def _in_box(shape: Shape, part: str) -> np.ndarray:
    points = shape.parts[part].vertices.astype(np.float64)
    return (points - points.min(axis=0)) / np.maximum(np.ptp(points, axis=0), 1e-9)


@pytest.mark.parametrize("label", library_labels())
def test_to_itself_is_the_identity(label: str) -> None:
    shape = library_shape(label)
    np.testing.assert_array_equal(corresponding_vertices(shape, shape), np.arange(len(shape.mesh.vertices)))


@settings(max_examples=60, deadline=None)
@given(label=LABELS, one=st.integers(0, 10**6), other=st.integers(0, 10**6))
def test_parts_correspond_to_parts(label: str, one: int, other: int) -> None:
    source, target = _varied(label, one), _varied(label, other)
    found = corresponding_vertices(source, target)
    assert found.shape == (len(target.mesh.vertices),)
    assert found.min() >= 0
    assert found.max() < len(source.mesh.vertices)
    names = list(source.parts)
    for index, name in enumerate(target.parts):
        if name in source.parts:
            there = source.part_of_vertex[found[target.part_of_vertex == index]]
            assert {names[part] for part in np.unique(there)} == {name}


@pytest.mark.parametrize("label", ["chair", "couch", "bed", "bottle", "handbag", "suitcase", "cell phone", "ball"])
def test_places_correspond_within_a_part(label: str) -> None:
    """Upright parts: where they are in the part's box agrees to a grid cell."""
    source, target = _varied(label, 3), library_shape(label)
    found = corresponding_vertices(source, target)
    first = 0
    starts = dict(
        zip(source.parts, np.cumsum([0, *(len(part.vertices) for part in source.parts.values())]), strict=False)
    )
    for name, part in target.parts.items():
        mine = found[first : first + len(part.vertices)]
        first += len(part.vertices)
        if name in source.parts:
            apart = np.abs(_in_box(source, name)[mine - starts[name]] - _in_box(target, name))
            assert np.median(apart.max(axis=1)) < 0.15, name


@pytest.mark.parametrize("label", ["skateboard", "laptop", "frisbee", "table", "cup"])
def test_thin_parts_keep_their_sides(label: str) -> None:
    """What is on top stays on top, and the inside stays inside, however thin and bent the part is."""
    target = library_shape(label)
    for seed in range(4):
        source = _varied(label, seed)
        found = corresponding_vertices(source, target)
        shared = np.array([name in source.parts for name in target.parts])[target.part_of_vertex]
        agree = np.einsum("ij,ij->i", _normals(source)[found], _normals(target))
        assert (agree[shared] > 0).mean() > 0.95


def test_front_cover_of_an_open_book_is_the_front_cover_of_a_closed_one() -> None:
    """The reader's left half, seen from outside, is what lies in front when the book is closed."""
    opened, closed = library_shape("book", opening_deg=150.0), library_shape("book")
    found = corresponding_vertices(opened, closed)
    front = closed.mesh.vertices[:, 2] > closed.mesh.vertices[:, 2].max() - 1e-4
    assert (opened.mesh.vertices[found[front], 0] < 0.005).all()
    edge = front & (closed.mesh.vertices[:, 0] > 0.06)
    assert (opened.mesh.vertices[found[edge], 0] < -0.1).all()


def test_part_that_is_missing_takes_the_nearest_of_the_whole() -> None:
    swivel, plain = library_shape("chair", star_base=1), library_shape("chair")
    found = corresponding_vertices(swivel, plain)
    feet = plain.mesh.vertices[:, 1] < plain.mesh.vertices[:, 1].min() + 0.02
    low = swivel.mesh.vertices[:, 1].min()
    assert (swivel.mesh.vertices[found[feet], 1] < low + 0.15).all()


def test_contact_is_carried_to_the_same_region() -> None:
    """A hand on the left half of a table's edge is on the left half of the library's table."""
    instance, library = library_shape("table", width=1.8, depth=0.9, height=0.78), library_shape("table")
    touched = (instance.mesh.vertices[:, 0] > 0.3) & (instance.mesh.vertices[:, 1] > 0.37)
    carried = touched[corresponding_vertices(instance, library)]
    assert carried.any()
    assert (library.mesh.vertices[carried, 0] > 0.1).all()
    assert (library.mesh.vertices[carried, 1] > 0.3).all()


def _normals(shape: Shape) -> np.ndarray:
    mesh = shape.mesh
    corners = mesh.vertices.astype(np.float64)[mesh.faces]
    cross = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    summed = np.zeros((len(mesh.vertices), 3))
    for corner in range(3):
        np.add.at(summed, mesh.faces[:, corner], cross)
    return summed / np.linalg.norm(summed, axis=1, keepdims=True)
