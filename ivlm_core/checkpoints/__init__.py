"""Checkpoints on disk: our native format."""

from ivlm_core.checkpoints.native import load_weights, save_checkpoint, weights_hash

__all__ = ["load_weights", "save_checkpoint", "weights_hash"]
