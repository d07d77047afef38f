"""Vertex areas and part scores."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ivlm_core.bodies import PART_NAMES, BodyModel, load_body
from ivlm_core.errors import InputError
from ivlm_core.types import Mesh


def small_body(labels: list[int], areas: list[int]) -> BodyModel:
    count = max(len(labels), 3)
    mesh = Mesh(np.arange(3 * count, dtype=np.float32).reshape(-1, 3), np.array([[0, 1, 2]]))
    return BodyModel("anny", mesh, np.array(labels, np.uint8), np.array(areas, np.float32))


vertex = st.tuples(st.integers(0, 14), st.integers(0, 1000), st.integers(0, 20).map(lambda step: step / 20))


@given(st.lists(vertex, min_size=1, max_size=60))
def test_a_part_scores_the_highest_probability_that_a_tenth_of_its_area_reaches(
    vertices: list[tuple[int, int, float]],
) -> None:
    labels, areas, probability = (list(column) for column in zip(*vertices, strict=True))
    scores = small_body(labels, areas).part_scores(np.array(probability))
    assert tuple(scores) == PART_NAMES
    for index, name in enumerate(PART_NAMES):
        part = [(area, p) for label, area, p in vertices if label == index and area > 0]
        total = sum(area for area, _ in part)
        reached = [p for _, p in part if 10 * sum(area for area, other in part if other >= p) >= total]
        assert scores[name] == max(reached, default=0.0)


def test_exactly_a_tenth_of_equal_vertices_is_enough_and_less_is_not() -> None:
    body = small_body([7] * 10, [1] * 10)
    assert body.part_scores(np.array([0.9] + [0.0] * 9))["left hand"] == pytest.approx(0.9)
    body = small_body([7] * 11, [1] * 11)
    assert body.part_scores(np.array([0.9] + [0.0] * 10))["left hand"] == 0.0


def test_area_counts_and_not_the_number_of_vertices() -> None:
    body = small_body([0] * 5, [96, 1, 1, 1, 1])
    assert body.part_scores(np.array([0.2, 1.0, 1.0, 1.0, 1.0]))["head"] == pytest.approx(0.2)


def test_touching_one_hand_names_that_hand_alone() -> None:
    body = load_body()
    probability = (body.part_labels == PART_NAMES.index("left hand")).astype(np.float32)
    assert {name for name, score in body.part_scores(probability).items() if score > 0} == {"left hand"}


def test_probability_of_another_body_is_refused() -> None:
    with pytest.raises(InputError, match=r"probability: has shape \(6890,\).*13718"):
        load_body().part_scores(np.zeros(6890))


def test_vertex_areas_add_up_to_the_surface() -> None:
    corner = Mesh(np.array([[0, 0, 0], [2, 0, 0], [0, 2, 0], [9, 9, 9]]), np.array([[0, 1, 2]]))
    body = BodyModel.from_mesh("anny", corner, np.zeros(4, np.uint8))
    np.testing.assert_allclose(body.vertex_area, [2 / 3, 2 / 3, 2 / 3, 0], rtol=1e-6)


def test_a_loaded_body_cannot_be_changed() -> None:
    body = load_body()
    for array in (body.mesh.vertices, body.mesh.faces, body.part_labels, body.vertex_area):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0
