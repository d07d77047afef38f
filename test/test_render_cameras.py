"""View cameras are PyTorch3D's, to the last digit that single precision has."""

from __future__ import annotations

import numpy as np
import pytest

from ivlm_core import ConfigError
from ivlm_core.render import HUMAN_VIEWS, OBJECT_VIEWS, ViewCamera, ViewSpec

VIEWS = [("human", name) for name in HUMAN_VIEWS] + [("object", name) for name in OBJECT_VIEWS]


def spec_of(kind: str, name: str) -> ViewSpec:
    return (HUMAN_VIEWS if kind == "human" else OBJECT_VIEWS)[name]


@pytest.mark.parametrize(("kind", "name"), VIEWS)
def test_rotation_and_translation_match_pytorch3d(reference_views, kind, name):
    key = f"composite/{kind}/{name}"
    camera = ViewCamera.from_spec(spec_of(kind, name))
    np.testing.assert_allclose(spec_of(kind, name).parameters, reference_views[f"{key}/view_params"], atol=1e-6)
    np.testing.assert_allclose(camera.R, reference_views[f"{key}/R"], atol=1e-6)
    np.testing.assert_allclose(camera.T, reference_views[f"{key}/T"], atol=1e-6)


@pytest.mark.parametrize(("kind", "name"), VIEWS)
def test_projection_matches_pytorch3d(reference_views, kind, name):
    key = f"composite/{kind}/{name}"
    screen = reference_views[f"{key}/screen_xyz"]
    size = reference_views[f"{key}/pix_to_face"].squeeze().shape[0]
    position, depth = ViewCamera.from_spec(spec_of(kind, name)).project(
        reference_views["composite/vertices"][: len(screen)]
    )
    np.testing.assert_allclose(position * size, screen[:, :2], atol=1e-3)
    assert (depth > 0).all()


@pytest.mark.parametrize(("kind", "name"), VIEWS)
def test_pixel_rays_and_projection_are_inverse(kind, name):
    camera = ViewCamera.from_spec(spec_of(kind, name))
    rays = camera.pixel_rays(8).reshape(-1, 6).astype(np.float64)
    depth = np.linspace(0.5, 3.0, len(rays))
    position, found = camera.project(rays[:, :3] + depth[:, None] * rays[:, 3:])
    rows, columns = np.divmod(np.arange(64), 8)
    np.testing.assert_allclose(position * 8, np.stack([columns + 0.5, rows + 0.5], axis=1), atol=1e-4)
    np.testing.assert_allclose(found, depth, atol=1e-5)


def test_camera_looks_straight_down():
    camera = ViewCamera.from_spec(ViewSpec(2.0, 90.0, 0.0))
    np.testing.assert_allclose(camera.R @ camera.R.T, np.eye(3), atol=1e-9)
    np.testing.assert_allclose(camera.center, [0, 2, 0], atol=1e-9)


@pytest.mark.parametrize("parameters", [(0.0, 0, 0), (-1.0, 0, 0), (np.nan, 0, 0), (2.0, np.inf, 0)])
def test_impossible_view(parameters):
    with pytest.raises(ConfigError, match="view"):
        ViewSpec(*parameters)
