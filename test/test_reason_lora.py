"""Adapters change only what they are meant to change, and merging keeps the function."""

from __future__ import annotations

import torch

from ivlm_core.config import LoraConfig, load_profile
from ivlm_core.reason import ContactTokenizer, Reasoner, attach_lora, merge_lora


def test_merged_adapters_are_the_same_function():
    torch.manual_seed(0)
    reasoner = Reasoner(load_profile("tiny"), ContactTokenizer()).eval()
    ids = torch.arange(10)[None] + 300
    with torch.inference_mode():
        plain = reasoner.llava.model.language_model(input_ids=ids).last_hidden_state.clone()
    adapted = attach_lora(reasoner.llava, LoraConfig(rank=4, dropout=0.0)).eval()
    trainable = {name for name, parameter in adapted.named_parameters() if parameter.requires_grad}
    assert trainable
    assert all("language_model" in name and (".q_proj." in name or ".v_proj." in name) for name in trainable)
    with torch.no_grad():
        fresh = adapted.base_model.model.model.language_model(input_ids=ids).last_hidden_state
        torch.testing.assert_close(fresh, plain)
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.1)
        trained = adapted.base_model.model.model.language_model(input_ids=ids).last_hidden_state
        merged = merge_lora(adapted)
        assert not any("lora" in name for name, _ in merged.named_parameters())
        folded = merged.model.language_model(input_ids=ids).last_hidden_state
    assert not torch.allclose(trained, plain, atol=1e-3)
    torch.testing.assert_close(folded, trained, atol=1e-5, rtol=1e-4)
