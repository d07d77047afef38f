"""Masks of the views become contact on vertices (paper §3.4)."""

from ivlm_core.lift.lifting import Lifter, lift_masks, paint_masks

__all__ = ["Lifter", "lift_masks", "paint_masks"]
