"""Views of a mesh: cameras, ray-cast rasteriser, shading and the cached view packs (paper §3.3)."""

from ivlm_core.render.cameras import HUMAN_VIEWS, OBJECT_VIEWS, ViewCamera, ViewSpec
from ivlm_core.render.rasterizer import Fragments, rasterize
from ivlm_core.render.shading import normal_colors, position_colors, shade, vertex_normals
from ivlm_core.render.view_pack import build_view_pack, load_or_build_view_pack

__all__ = [
    "HUMAN_VIEWS",
    "OBJECT_VIEWS",
    "Fragments",
    "ViewCamera",
    "ViewSpec",
    "build_view_pack",
    "load_or_build_view_pack",
    "normal_colors",
    "position_colors",
    "rasterize",
    "shade",
    "vertex_normals",
]
