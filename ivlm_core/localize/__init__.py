"""MV-Loc: contact embeddings steer SAM's mask decoders on the views of a body or an object (paper §3.3)."""

from ivlm_core.localize.decoder import ViewMaskDecoder
from ivlm_core.localize.encoder import FusedAttention, build_encoder
from ivlm_core.localize.featlift import NO_CAMERA, FeatLift, camera_code, raw_camera
from ivlm_core.localize.localizer import Localizer
from ivlm_core.localize.patches import covered_patches
from ivlm_core.localize.photo import fitted_size, resize_masks, sam_pixels
from ivlm_core.localize.splitter import AttentionSplitter
from ivlm_core.localize.vertex_branch import BODY_VERTICES, VertexBranch

__all__ = [
    "BODY_VERTICES",
    "NO_CAMERA",
    "AttentionSplitter",
    "FeatLift",
    "FusedAttention",
    "Localizer",
    "VertexBranch",
    "ViewMaskDecoder",
    "build_encoder",
    "camera_code",
    "covered_patches",
    "fitted_size",
    "raw_camera",
    "resize_masks",
    "sam_pixels",
]
