"""How good the answers are: the paper's metrics on vertices and masks, and the tables made of them."""

from ivlm_core.evaluate.ceilings import MaskPath
from ivlm_core.evaluate.geodesic import Surface, body_surface, geodesic_matrix
from ivlm_core.evaluate.masks import MaskIoU, mask_iou
from ivlm_core.evaluate.metrics import (
    AffordanceScores,
    ContactScores,
    GeodesicError,
    affordance_scores,
    contact_scores,
    geodesic_error,
)
from ivlm_core.evaluate.replay import ReplayScores, score_replay
from ivlm_core.evaluate.tables import (
    GROUP_OF,
    SEMANTIC_GROUPS,
    ContactRow,
    RunningMean,
    SemanticTable,
    binary_scores,
    semantic_scores,
)

__all__ = [
    "GROUP_OF",
    "SEMANTIC_GROUPS",
    "AffordanceScores",
    "ContactRow",
    "ContactScores",
    "GeodesicError",
    "MaskIoU",
    "MaskPath",
    "ReplayScores",
    "RunningMean",
    "SemanticTable",
    "Surface",
    "affordance_scores",
    "binary_scores",
    "body_surface",
    "contact_scores",
    "geodesic_error",
    "geodesic_matrix",
    "mask_iou",
    "score_replay",
    "semantic_scores",
]
