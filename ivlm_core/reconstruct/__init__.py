"""Objects into the scene: contact starts, a differentiable silhouette, render-and-compare, tracking (paper §5)."""

from ivlm_core.reconstruct.energy import Weights
from ivlm_core.reconstruct.fit import FitResult, FitSettings, fit_object, pose_residuals, released_settings
from ivlm_core.reconstruct.fit_mesh import FitMesh, fit_mesh
from ivlm_core.reconstruct.levels import Observation
from ivlm_core.reconstruct.patches import ContactPoints, contact_points
from ivlm_core.reconstruct.penetration import body_depth_inside
from ivlm_core.reconstruct.pose import Pose
from ivlm_core.reconstruct.sam import SamSegmenter
from ivlm_core.reconstruct.scene import FitRequest, Reconstructor, SceneSettings
from ivlm_core.reconstruct.silhouette import OutlineMesh, coverage, silhouette_mask
from ivlm_core.reconstruct.tracking import TrackSettings

__all__ = [
    "ContactPoints",
    "FitMesh",
    "FitRequest",
    "FitResult",
    "FitSettings",
    "Observation",
    "OutlineMesh",
    "Pose",
    "Reconstructor",
    "SamSegmenter",
    "SceneSettings",
    "TrackSettings",
    "Weights",
    "body_depth_inside",
    "contact_points",
    "coverage",
    "fit_mesh",
    "fit_object",
    "pose_residuals",
    "released_settings",
    "silhouette_mask",
]
