"""Masks of the views become contact on vertices (paper §3.4)."""

from ivlm_core.lift.lifting import Lifter, lift_masks, paint_masks
from ivlm_core.lift.points import lift_points

__all__ = ["Lifter", "lift_masks", "lift_points", "paint_masks"]
