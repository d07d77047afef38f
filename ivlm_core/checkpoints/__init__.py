"""Checkpoints on disk: our native format, and the conversion of the authors' released ones."""

from ivlm_core.checkpoints.check import check_reference
from ivlm_core.checkpoints.convert import convert_released
from ivlm_core.checkpoints.model import build_model, place
from ivlm_core.checkpoints.native import checkpoint_hash, load_weights, save_checkpoint, weights_hash

__all__ = [
    "build_model",
    "check_reference",
    "checkpoint_hash",
    "convert_released",
    "load_weights",
    "place",
    "save_checkpoint",
    "weights_hash",
]
