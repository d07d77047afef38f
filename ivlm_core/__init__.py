"""Where people touch things: 3D human contact and object affordance from one image (InteractVLM, CVPR 2025)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ivlm_core.errors import CheckpointError, ConfigError, InputError, IvlmError, MeshError
from ivlm_core.types import (
    CameraIntrinsics,
    Frame,
    FrameResult,
    HumanContact,
    ImageContact,
    Mesh,
    ObjectAffordance,
    ObjectQuery,
    Unanswered,
    ViewPack,
)

if TYPE_CHECKING:
    from ivlm_core.pipeline import Pipeline

__version__ = "0.1.0"

__all__ = [
    "CameraIntrinsics",
    "CheckpointError",
    "ConfigError",
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
    "Unanswered",
    "ViewPack",
]


def __getattr__(name: str) -> object:
    # torch and transformers take seconds to import; the types must not wait for them.
    if name == "Pipeline":
        from ivlm_core.pipeline import Pipeline

        return Pipeline
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
