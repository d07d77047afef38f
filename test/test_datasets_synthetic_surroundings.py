from __future__ import annotations

import numpy as np
import pytest

from ivlm_core.datasets.synthetic.surroundings import PATTERNS, Furniture, Surroundings, furniture_mesh

POINTS = np.random.default_rng(0).uniform(-5, 5, (4000, 3)).astype(np.float32) * [1, 0, 1]


def test_same_seed_same_surroundings() -> None:
    first, again = Surroundings.draw(np.random.default_rng(1)), Surroundings.draw(np.random.default_rng(1))
    assert first == again
    assert first != Surroundings.draw(np.random.default_rng(2))


def test_draws_are_in_range_and_varied() -> None:
    drawn = [Surroundings.draw(np.random.default_rng(seed)) for seed in range(200)]
    assert {look.pattern for look in drawn} == set(PATTERNS)
    assert 0.5 < np.mean([np.isfinite(look.wall_distance) for look in drawn]) < 0.9
    for look in drawn:
        assert look.lamp[1] > 0.4  # never from the side: shadows stay near
        assert all(0 <= value <= 1 for color in (*look.floor, look.wall) for value in color)
        assert all(piece.away > 0 for piece in look.furniture)
        assert look.quality == 0 or 45 <= look.quality <= 95


@pytest.mark.parametrize("pattern", PATTERNS)
def test_floor_shows_its_two_colours(pattern: str) -> None:
    look = Surroundings(pattern=pattern, floor=((0.2, 0.2, 0.2), (0.8, 0.8, 0.8)), seed=3)  # type: ignore[arg-type]
    colors = look.floor_colors(POINTS)
    assert colors.shape == POINTS.shape
    assert np.isfinite(colors).all()
    if pattern == "plain":
        assert (colors == np.float32(0.2)).all()
    else:
        assert colors.std() > 0.05
        np.testing.assert_array_equal(colors, look.floor_colors(POINTS))


def test_noise_is_smooth() -> None:
    look = Surroundings(wall_noise=1.0, wall_grain=0.5, seed=4)
    along = np.linspace(-3, 3, 3000)
    colors = look.wall_colors(along, along * 0.3, np.zeros(3000))
    assert np.abs(np.diff(colors[:, 0])).max() < 0.02
    assert colors.std() > 0.05


def test_furniture_is_behind_and_beside_as_seen() -> None:
    piece = Furniture(side=1.0, away=2.0, height=0.5, size=(0.4, 0.6, 0.2), turn=0.0, color=(1, 0, 0))
    ahead, right = np.array([0.0, 0, -1]), np.array([1.0, 0, 0])
    vertices, faces, colors = furniture_mesh((piece, piece), np.array([0.0, 7, 0]), ahead, right)
    np.testing.assert_allclose(vertices[:8].min(axis=0), [0.8, 0.5, -2.1], atol=1e-6)
    np.testing.assert_allclose(vertices[:8].max(axis=0), [1.2, 1.1, -1.9], atol=1e-6)
    assert faces.max() == 15
    assert colors.shape == (24, 3)
