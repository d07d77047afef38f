"""int8 weights: bounded error, a quarter of the bytes of float32, and nothing outside the language model touched."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from ivlm_core.config import load_profile
from ivlm_core.reason import ContactTokenizer, Reasoner
from ivlm_core.reason.quantize import Int8Linear, quantize_language_model


@given(seed=st.integers(0, 1000), magnitude=st.floats(1e-6, 1e6))
def test_error_is_at_most_half_a_level(seed, magnitude):
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(6, 9, generator=generator) * magnitude
    layer = Int8Linear(weight)
    recovered = layer.weight.double() * layer.scale.double()[:, None]
    level = weight.double().abs().amax(dim=1, keepdim=True) / 127
    assert ((recovered - weight.double()).abs() <= 0.5001 * level + 1e-30).all()
    x = torch.randn(4, 9, generator=generator)
    torch.testing.assert_close(layer(x), x @ recovered.float().T, rtol=1e-4, atol=1e-4 * magnitude)


def test_rows_of_zeros_stay_zero():
    layer = Int8Linear(torch.zeros(3, 4))
    assert (layer(torch.ones(1, 4)) == 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_language_model_shrinks_and_answers_alike(dtype):
    torch.manual_seed(0)
    reasoner = Reasoner(load_profile("tiny"), ContactTokenizer()).eval().to(dtype)
    model = reasoner.llava.model.language_model
    ids = torch.arange(300, 330)[None]
    outside = {name: tensor.clone() for name, tensor in reasoner.state_dict().items() if ".layers." not in name}
    with torch.inference_mode():
        plain = model(input_ids=ids).last_hidden_state.float()
        bytes_before = sum(parameter.nbytes for parameter in model.layers.parameters())
        assert quantize_language_model(reasoner.llava) == 7 * 4
        small = model(input_ids=ids).last_hidden_state.float()
    held = [*model.layers.parameters(), *model.layers.buffers()]
    assert sum(tensor.nbytes for tensor in held) < (0.3 if dtype == torch.float32 else 0.6) * bytes_before
    assert torch.nn.functional.cosine_similarity(small, plain, dim=-1).min() > 0.995
    assert not any(isinstance(module, Int8Linear) for module in reasoner.llava.model.vision_tower.modules())
    assert isinstance(reasoner.llava.lm_head, nn.Linear)
    for name, tensor in reasoner.state_dict().items():
        if name in outside:
            assert torch.equal(tensor, outside[name]), name
