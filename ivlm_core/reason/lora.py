"""Low-rank adapters on the language model's attention, through peft."""

from __future__ import annotations

from typing import Any

from ivlm_core.config import LoraConfig


def attach_lora(llava: Any, config: LoraConfig) -> Any:
    """Wrap a LLaVA model so that only its adapters train (paper: r = 8 on q and v).

    Parameters
    ----------
    llava : `LlavaForConditionalGeneration`.
    config : rank, alpha, dropout and the names of the adapted projections of the language model.

    Returns
    -------
    the peft model; the vision tower and the projector carry no adapters.
    """
    from peft import LoraConfig as PeftConfig
    from peft import get_peft_model

    targets = "|".join(config.targets)
    return get_peft_model(
        llava,
        PeftConfig(
            r=config.rank,
            lora_alpha=config.alpha,
            lora_dropout=config.dropout,
            target_modules=rf".*language_model.*\.({targets})",
            bias="none",
        ),
    )


def merge_lora(adapted: Any) -> Any:
    """The plain LLaVA model with its adapters added into the weights, at no cost per token."""
    return adapted.merge_and_unload()
