"""Learning the model: the losses of the paper's recipe."""

from ivlm_core.train.losses import (
    LossWeights,
    affordance_3d_loss,
    contact_3d_loss,
    heat_map_mse,
    mask_dice_loss,
    mask_focal_loss,
    token_loss,
)
from ivlm_core.train.objective import LossGroup, LossTerms, combined_loss, mask_kind

__all__ = [
    "LossGroup",
    "LossTerms",
    "LossWeights",
    "affordance_3d_loss",
    "combined_loss",
    "contact_3d_loss",
    "heat_map_mse",
    "mask_dice_loss",
    "mask_focal_loss",
    "mask_kind",
    "token_loss",
]
