"""FeatLift's forms are the released ones, checked against the released model's own outputs."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ivlm_core import ConfigError
from ivlm_core.localize import FeatLift, camera_code, raw_camera

CAMERAS = torch.tensor([[2.0, 45, 315, 0, 0], [2.0, 315, 315, 0, 0.3], [2.0, 45, 135, 0, 0], [2.0, 315, 135, 0, 0.3]])


def test_cameras_are_normalised_as_released(reference):
    raw, expected = (torch.from_numpy(reference[name]) for name in ("human_cam_raw", "human_cam_params"))
    torch.testing.assert_close(camera_code(raw), expected, atol=1e-6, rtol=0)
    torch.testing.assert_close(raw_camera(expected), raw, atol=1e-4, rtol=0)


@pytest.mark.parametrize(("kind", "names"), [("simple", {"linear": "linear1"}), ("view_index", {})])
def test_matches_the_released_camera_encoder(reference_components, kind, names):
    weights = reference_components
    lift = FeatLift(kind, 256, 4)
    state = {}
    for name in lift.state_dict():
        released = name
        for ours, theirs in names.items():
            released = released.replace(ours, theirs)
        state[name] = torch.from_numpy(weights[f"{kind}/cam_pose_encoder.{released}"])
    lift.load_state_dict(state)
    cameras = raw_camera(torch.from_numpy(weights["cam_params"]))
    # The stored case gives every view an embedding of its own: view v of query v.
    lifted = lift(torch.from_numpy(weights["embedding"]), cameras).detach()
    np.testing.assert_allclose(lifted[range(4), range(4)], weights[f"{kind}/featlift_out"], atol=1e-5)


@pytest.mark.parametrize("kind", ["simple", "view_index", "vi_v1"])
def test_views_differ_and_queries_do_not_mix(kind):
    torch.manual_seed(0)
    lift = FeatLift(kind, 32, 4)
    embeddings = torch.randn(3, 32)
    lifted = lift(embeddings, CAMERAS)
    assert lifted.shape == (3, 4, 32)
    assert not torch.allclose(lifted[:, 0], lifted[:, 1])
    torch.testing.assert_close(lift(embeddings[1:2], CAMERAS)[0], lifted[1])


def test_none_repeats_the_embedding():
    embeddings = torch.randn(2, 8)
    torch.testing.assert_close(FeatLift("none", 8, 4)(embeddings, CAMERAS)[:, 3], embeddings)


def test_unknown_kind():
    with pytest.raises(ConfigError, match="choose simple, view_index, vi_v1 or none"):
        FeatLift("magic", 8, 4)


def test_more_views_than_the_model_was_made_for():
    with pytest.raises(ConfigError, match="made for 4"):
        FeatLift("vi_v1", 8, 4)(torch.zeros(1, 8), torch.zeros(5, 5))
