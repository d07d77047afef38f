"""Silhouettes and what is said about them: the same for pictures and meshes, whatever the size, place and turn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ivlm_core.errors import ConfigError, InputError, MeshError
from ivlm_core.objects import SilhouetteEmbedder, library_mesh
from ivlm_core.objects.descriptors import (
    FEATURES,
    SIDE,
    mask_silhouette,
    silhouette_features,
    silhouettes,
    view_directions,
)
from ivlm_core.types import Mesh

FRONT = np.array([[0.0, 0.0, 1.0]])
BLANK = np.zeros((8, 8, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def embedder() -> SilhouetteEmbedder:
    return SilhouetteEmbedder()


def _cup(size: int, turn: float = 0.0, mirrored: bool = False, centre: tuple[float, float] = (0.5, 0.5)) -> np.ndarray:
    """(size, size) bool: a body with a handle, no symmetry of its own, drawn from its formula."""
    y, x = (np.mgrid[:size, :size] + 0.5) / size
    x, y = (x - centre[0]) * 2.6, (y - centre[1]) * 2.6
    x, y = np.cos(turn) * x + np.sin(turn) * y, np.cos(turn) * y - np.sin(turn) * x
    if mirrored:
        x = -x
    body = (np.abs(x) < 0.4 - 0.1 * y) & (np.abs(y) < 0.6)
    ring = np.hypot(x - 0.55, y + 0.15)
    return body | ((ring < 0.3) & (ring > 0.18))


def _stripe(size: int = 96) -> np.ndarray:
    y, x = np.mgrid[:size, :size]
    return (np.abs(x - size / 2) < size / 40) & (np.abs(y - size / 2) < size * 0.4)


def _cosine(embedder: SilhouetteEmbedder, first: np.ndarray, second: np.ndarray) -> float:
    return float(embedder.of_picture(BLANK, first) @ embedder.of_picture(BLANK, second))


def test_views_are_spread_over_half_the_sphere() -> None:
    directions = view_directions()
    np.testing.assert_allclose(np.linalg.norm(directions, axis=1), 1.0)
    assert (directions[:, 1] > 0).all()
    # A direction and its opposite give the same outline, mirrored.
    cosines = np.abs(directions @ directions.T) - 2 * np.eye(len(directions))
    assert np.degrees(np.arccos(cosines.max())) > 15
    everywhere = np.random.default_rng(0).normal(size=(2000, 3))
    everywhere /= np.linalg.norm(everywhere, axis=1, keepdims=True)
    assert np.degrees(np.arccos(np.abs(everywhere @ directions.T).max(axis=1))).max() < 30


def test_silhouette_of_a_box_is_exact() -> None:
    mesh = library_mesh("box")
    width, height, depth = np.ptp(mesh.vertices, axis=0)
    across = np.array([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    seen = silhouettes(mesh, across)
    for outline, sides in zip(seen, ((width, height), (depth, height), (width, depth)), strict=True):
        expected = min(sides) / max(sides) * (SIDE / 1.04) ** 2
        assert outline.sum() == pytest.approx(expected, rel=0.04)


def test_silhouette_stands_upright_and_is_not_mirrored() -> None:
    # A triangle whose corner is up and to the right, seen from the front.
    mesh = Mesh(np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0]], np.float32), np.array([[0, 1, 2]]))
    outline = silhouettes(mesh, FRONT)[0]
    halves = outline[: SIDE // 2].sum(), outline[:, SIDE // 2 :].sum()
    assert halves[0] < outline.sum() / 3
    assert halves[1] > outline.sum() * 2 / 3


@pytest.mark.parametrize("label", ["couch", "cup", "backpack"])
def test_mesh_and_picture_are_described_alike(label: str, embedder: SilhouetteEmbedder) -> None:
    """Solid things: of thin legs a picture of 64 pixels loses too much."""
    direction = np.array([[0.4, 0.5, 0.768]]) / np.linalg.norm([0.4, 0.5, 0.768])
    outline = silhouettes(library_mesh(label), direction)
    picture = np.zeros((480, 640), dtype=bool)
    picture[100 : 100 + 4 * SIDE, 200 : 200 + 4 * SIDE] = np.kron(outline[0] > 0.5, np.ones((4, 4), dtype=bool))
    exact = embedder.embed(silhouette_features(outline))[0]
    assert exact @ embedder.of_picture(BLANK, picture) > 0.97


def test_features_forget_size_and_place(embedder: SilhouetteEmbedder) -> None:
    large = np.zeros((900, 900), dtype=bool)
    large[90:890, 50:850] = _cup(800)
    assert _cosine(embedder, large, _cup(100)) > 0.98
    assert _cosine(embedder, large, _stripe()) < 0.7


@settings(max_examples=20)
@given(turn=st.floats(0, 2 * np.pi), mirrored=st.booleans())
def test_features_forget_turns_and_mirrors(turn: float, mirrored: bool) -> None:
    first, second = (
        silhouette_features(mask_silhouette(mask)[None])[0] for mask in (_cup(200), _cup(200, turn, mirrored))
    )
    other = silhouette_features(mask_silhouette(_stripe())[None])[0]
    assert np.linalg.norm(first - second) < 0.2 * np.linalg.norm(first - other)


def test_a_mesh_is_found_by_its_own_views(embedder: SilhouetteEmbedder) -> None:
    labels = ("bicycle", "chair", "bottle", "umbrella")
    meshes = {label: embedder.of_mesh(library_mesh(label)) for label in labels}
    direction = np.array([[0.6, 0.3, 0.742]]) / np.linalg.norm([0.6, 0.3, 0.742])
    for label in labels:
        query = embedder.of_picture(BLANK, silhouettes(library_mesh(label), direction)[0] > 0.5)
        scores = {other: float((views @ query).max()) for other, views in meshes.items()}
        assert max(scores, key=lambda other: scores[other]) == label


def test_embedding_of_a_mesh_forgets_its_units(embedder: SilhouetteEmbedder) -> None:
    mesh = library_mesh("skateboard")
    millimetres = Mesh(mesh.vertices * 1000 + 500, mesh.faces)
    own, other = embedder.of_mesh(mesh), embedder.of_mesh(millimetres)
    assert own.shape == (24, embedder.dimensions)
    np.testing.assert_allclose(np.linalg.norm(own, axis=1), 1.0, atol=1e-5)
    assert ((own * other).sum(axis=1) > 0.99).all()


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 1), (2, 2)])
def test_tiny_masks_are_described(shape: tuple[int, int], embedder: SilhouetteEmbedder) -> None:
    mask = np.zeros((60, 60), dtype=bool)
    mask[5 : 5 + shape[0], 5 : 5 + shape[1]] = True
    assert np.isfinite(embedder.of_picture(BLANK, mask)).all()


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(1, 40))
def test_any_mask_has_finite_features(seed: int, height: int, width: int) -> None:
    mask = np.random.default_rng(seed).random((height, width)) < 0.3
    mask[0, 0] = True
    features = silhouette_features(mask_silhouette(mask)[None])
    assert features.shape == (1, FEATURES)
    assert np.isfinite(features).all()


def test_without_a_mask_nothing_can_be_said(embedder: SilhouetteEmbedder) -> None:
    with pytest.raises(InputError, match=r"object\.mask: is missing"):
        embedder.of_picture(BLANK, None, (0, 0, 4, 4))
    with pytest.raises(InputError, match=r"object\.mask: is empty"):
        embedder.of_picture(BLANK, np.zeros((8, 8), dtype=bool))


def test_a_flat_mesh_is_described_from_where_it_is_seen(embedder: SilhouetteEmbedder) -> None:
    flat = Mesh(np.array([[0, 0, 0], [1, 0, 0], [1, 0, 1], [0, 0, 1]], np.float32), np.array([[0, 1, 2], [0, 2, 3]]))
    assert np.isfinite(embedder.of_mesh(flat)).all()


def test_mesh_in_one_point(embedder: SilhouetteEmbedder) -> None:
    with pytest.raises(MeshError, match="in one point"):
        embedder.of_mesh(Mesh(np.ones((3, 3), np.float32), np.array([[0, 1, 2]])))


def test_mesh_without_area(embedder: SilhouetteEmbedder) -> None:
    line = Mesh(np.array([[0, 0, 0], [1, 0, 0], [2, 0, 0]], np.float32), np.array([[0, 1, 2]]))
    with pytest.raises(MeshError, match="covers nothing"):
        embedder.of_mesh(line)


@pytest.mark.parametrize("arrays", [{}, {"mean": np.zeros(3), "projection": np.zeros((3, 2))}])
def test_map_of_another_version(tmp_path: Path, arrays: dict[str, np.ndarray]) -> None:
    np.savez(tmp_path / "map.npz", **arrays)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="reinstall"):
        SilhouetteEmbedder(tmp_path / "map.npz").of_picture(BLANK, _cup(50))
