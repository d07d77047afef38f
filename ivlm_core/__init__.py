"""Where people touch things: 3D human contact and object affordance from one image (InteractVLM, CVPR 2025)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ivlm_core.errors import CheckpointError, ConfigError, InputError, IvlmError, MeshError
from ivlm_core.types import (
    BodyKeypoints,
    CameraIntrinsics,
    ContactSummary,
    Frame,
    FrameResult,
    HumanContact,
    ImageContact,
    Mesh,
    ObjectAffordance,
    ObjectQuery,
    PosedBody,
    Reconstruction,
    Unanswered,
    ViewPack,
)

if TYPE_CHECKING:
    from ivlm_core.pipeline import Pipeline

__version__ = "0.1.0"

__all__ = [
    "BodyKeypoints",
    "CameraIntrinsics",
    "CheckpointError",
    "ConfigError",
    "ContactSummary",
    "Frame",
    "FrameResult",
    "HumanContact",
    "ImageContact",
    "InputError",
    "IvlmError",
    "Mesh",
    "MeshError",
    "ObjectAffordance",
    "ObjectQuery",
    "Pipeline",
    "PosedBody",
    "Reconstruction",
    "Unanswered",
    "ViewPack",
]


def __getattr__(name: str) -> object:
    # torch and transformers take seconds to import; the types must not wait for them.
    if name == "Pipeline":
        from ivlm_core.pipeline import Pipeline

        return Pipeline
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
