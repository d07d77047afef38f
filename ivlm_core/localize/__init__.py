"""MV-Loc: contact embeddings steer SAM's mask decoders on the views of a body or an object (paper §3.3)."""

from ivlm_core.localize.decoder import ViewMaskDecoder
from ivlm_core.localize.featlift import CAMERA_SCALE, FeatLift
from ivlm_core.localize.localizer import Localizer

__all__ = ["CAMERA_SCALE", "FeatLift", "Localizer", "ViewMaskDecoder"]
