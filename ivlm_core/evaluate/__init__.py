"""How good the answers are: the paper's metrics on vertices and masks, and the tables made of them."""

from ivlm_core.evaluate.masks import MaskIoU, mask_iou
from ivlm_core.evaluate.metrics import (
    AffordanceScores,
    ContactScores,
    GeodesicError,
    affordance_scores,
    contact_scores,
    geodesic_error,
)
from ivlm_core.evaluate.tables import (
    SEMANTIC_GROUPS,
    ContactRow,
    RunningMean,
    SemanticTable,
    binary_scores,
    semantic_scores,
)

__all__ = [
    "SEMANTIC_GROUPS",
    "AffordanceScores",
    "ContactRow",
    "ContactScores",
    "GeodesicError",
    "MaskIoU",
    "RunningMean",
    "SemanticTable",
    "affordance_scores",
    "binary_scores",
    "contact_scores",
    "geodesic_error",
    "mask_iou",
    "semantic_scores",
]
