"""Learning the model: the losses of the paper's recipe, and the loop that uses them."""

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
from ivlm_core.train.recipe import VARIANTS, Recipe, apply_variants
from ivlm_core.train.run import train, train_objects
from ivlm_core.train.trainer import Trainer

__all__ = [
    "VARIANTS",
    "LossGroup",
    "LossTerms",
    "LossWeights",
    "Recipe",
    "Trainer",
    "affordance_3d_loss",
    "apply_variants",
    "combined_loss",
    "contact_3d_loss",
    "heat_map_mse",
    "mask_dice_loss",
    "mask_focal_loss",
    "mask_kind",
    "token_loss",
    "train",
    "train_objects",
]
