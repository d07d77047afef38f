"""Lifting: parity with the released lifter, exact round trips, linearity, gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st

from ivlm_core import ConfigError, InputError, Mesh, ViewPack
from ivlm_core.lift import Lifter, lift_masks, paint_masks
from ivlm_core.render import HUMAN_VIEWS, build_view_pack

SIZE = 96


def logit(probability: torch.Tensor) -> torch.Tensor:
    return torch.logit(probability.clamp(1e-6, 1 - 1e-6))


@pytest.fixture(scope="module")
def pack() -> ViewPack:
    shape = trimesh.creation.icosphere(subdivisions=3, radius=0.8)
    return build_view_pack(Mesh(shape.vertices, shape.faces), HUMAN_VIEWS, SIZE, "normals")


def slow_scatter(logits: np.ndarray, pack: ViewPack) -> np.ndarray:
    """The released definition, view by view and vote by vote."""
    count = len(pack.mesh.vertices)
    total, seeing = np.zeros(count), np.zeros(count)
    for view in range(len(pack.view_names)):
        numerator, denominator = np.zeros(count), np.zeros(count)
        covered = pack.face_index[view] >= 0
        ids, weights = pack.pixel_to_vertex[view][covered], pack.barycentric[view][covered]
        probability = 1.0 / (1.0 + np.exp(-np.clip(logits[view][covered], -20, 20)))
        for corner in range(3):
            np.add.at(numerator, ids[:, corner], weights[:, corner] * probability)
            np.add.at(denominator, ids[:, corner], weights[:, corner])
        voted = denominator > 0
        total[voted] += numerator[voted] / denominator[voted]
        seeing += voted
    return total / np.maximum(seeing, 1)


def test_matches_the_released_human_lifter(reference):
    logits = torch.from_numpy(reference["lift_logits"].astype(np.float32))[None]
    lifter = Lifter.from_maps(reference["human_pixel_to_vertex"], reference["human_bary"], 6890)
    np.testing.assert_allclose(lifter(logits)[0], reference["lift_human_contact"], atol=1e-5)


def test_matches_the_released_object_lifter(reference):
    logits = torch.from_numpy(reference["lift_logits"].astype(np.float32))[None]
    count = int(reference["object_num_vertices"])
    lifter = Lifter.from_maps(reference["object_pixel_to_vertex"], reference["object_bary"], count, vote_threshold=0.3)
    lifted = lifter(logits)[0].numpy()
    np.testing.assert_allclose(lifted, reference["lift_object_contact"], atol=1e-5)
    assert ((lifted == 0) | (lifted > 0.3)).all()


def test_scatter_is_the_slow_definition(pack):
    logits = torch.randn(2, 4, SIZE, SIZE, generator=torch.Generator().manual_seed(1)) * 4
    lifted = lift_masks(logits, pack, "scatter")
    for query in range(2):
        np.testing.assert_allclose(lifted[query], slow_scatter(logits[query].numpy(), pack), atol=1e-5)


@pytest.mark.parametrize("method", ["sample", "scatter"])
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), radius=st.floats(0.3, 1.2))
def test_mask_painted_from_known_vertices_comes_back_to_them(pack, method, seed, radius):
    vertices = pack.mesh.vertices
    center = vertices[np.random.default_rng(seed).integers(len(vertices))]
    values = torch.from_numpy((np.linalg.norm(vertices - center, axis=1) < radius).astype(np.float32))[None]
    masks = paint_masks(values, pack, 64 if method == "sample" else None)
    lifted = lift_masks(logit(masks), pack, method)[0]
    if method == "scatter":
        reached = np.unique(pack.pixel_to_vertex[pack.face_index >= 0])
    else:
        reached = np.flatnonzero(pack.vertex_visible.any(axis=0))
    agreed = ((lifted >= 0.5) == (values[0] >= 0.5))[reached]
    # Only vertices at the patch's rim or the outline may change sides.
    assert agreed.float().mean() > 0.93


@pytest.mark.parametrize("method", ["sample", "scatter"])
def test_constant_masks_give_the_constant_where_seen_and_zero_elsewhere(pack, method):
    lifted = lift_masks(torch.full((1, 4, SIZE, SIZE), 1.5), pack, method)[0]
    assert set(np.round(lifted.unique().tolist(), 5)) <= {0.0, round(float(torch.sigmoid(torch.tensor(1.5))), 5)}
    seen = (
        pack.vertex_visible.any(axis=0)
        if method == "sample"
        else np.isin(np.arange(len(lifted)), pack.pixel_to_vertex[(pack.barycentric > 0).all(axis=-1)])
    )
    assert (lifted[torch.from_numpy(seen)] > 0).all()
    if method == "sample":
        assert (lifted[torch.from_numpy(~seen)] == 0).all()


@pytest.mark.parametrize("method", ["sample", "scatter"])
def test_queries_do_not_mix(pack, method):
    logits = torch.randn(3, 4, SIZE, SIZE, generator=torch.Generator().manual_seed(2))
    together = lift_masks(logits, pack, method)
    for query in range(3):
        torch.testing.assert_close(lift_masks(logits[query : query + 1], pack, method)[0], together[query])


@pytest.mark.parametrize(("method", "threshold"), [("sample", None), ("scatter", None), ("scatter", 0.3)])
def test_gradient_matches_finite_differences(pack, method, threshold):
    small = build_view_pack(pack.mesh, HUMAN_VIEWS, 12, "normals")
    lifter = Lifter.from_pack(small, 12, 12, method, threshold, dtype=torch.float64)
    logits = torch.randn(1, 4, 12, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    direction = torch.randn(logits.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    weights = torch.randn(len(pack.mesh.vertices), generator=torch.Generator().manual_seed(5)).double()
    logits.requires_grad_(True)
    (lifter(logits)[0].double() @ weights).backward()
    step = 1e-3
    with torch.no_grad():
        difference = (lifter(logits + step * direction) - lifter(logits - step * direction))[0].double() @ weights
    assert float((logits.grad * direction).sum()) == pytest.approx(float(difference / (2 * step)), rel=2e-2, abs=1e-3)


@settings(max_examples=25, deadline=None)
@given(scale=st.floats(0, 1e6), seed=st.integers(0, 1000))
def test_extreme_logits_stay_probabilities(pack, scale, seed):
    logits = torch.randn(1, 4, SIZE, SIZE, generator=torch.Generator().manual_seed(seed)) * scale
    for method in ("sample", "scatter"):
        lifted = lift_masks(logits, pack, method)
        assert torch.isfinite(lifted).all()
        assert lifted.min() >= 0
        assert lifted.max() <= 1


def test_scatter_upsamples_small_masks(pack):
    logits = torch.randn(1, 4, 24, 24, generator=torch.Generator().manual_seed(6))
    upsampled = torch.nn.functional.interpolate(logits, (SIZE, SIZE), mode="bilinear", align_corners=False)
    torch.testing.assert_close(lift_masks(logits, pack, "scatter"), lift_masks(upsampled, pack, "scatter"))


def test_wrong_shapes_and_methods_are_named(pack):
    with pytest.raises(InputError, match="masks: have shape"):
        lift_masks(torch.zeros(4, SIZE, SIZE), pack)
    with pytest.raises(InputError, match="masks: have shape"):
        lift_masks(torch.zeros(1, 3, SIZE, SIZE), pack)
    with pytest.raises(ConfigError, match="choose 'sample' or 'scatter'"):
        lift_masks(torch.zeros(1, 4, SIZE, SIZE), pack, "nearest")
    with pytest.raises(ConfigError, match="vote_threshold"):
        lift_masks(torch.zeros(1, 4, SIZE, SIZE), pack, "sample", vote_threshold=0.3)
    with pytest.raises(InputError, match="upsample"):
        Lifter.from_pack(pack, 8, 8, "scatter")


def test_lifting_learns_after_it_was_used_for_inference(pack):
    fresh = build_view_pack(pack.mesh, HUMAN_VIEWS, 24, "normals")
    with torch.inference_mode():
        lift_masks(torch.zeros(1, 4, 24, 24), fresh)
    logits = torch.zeros(1, 4, 24, 24, requires_grad=True)
    lift_masks(logits, fresh).sum().backward()
    assert logits.grad is not None
    assert logits.grad.abs().sum() > 0
