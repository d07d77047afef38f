"""Pictures and files that people look at: heat colours, the overlay, a result's folder, the joint scene."""

from ivlm_core.draw.files import write_result
from ivlm_core.draw.fitted import draw_on_picture, draw_scene, fit_pictures, scene_of, write_fit_video
from ivlm_core.draw.heat import NEUTRAL_GREY, heat_colors
from ivlm_core.draw.joint_scene import JointScene, ScenePart, draw_scene_views, joint_scene, write_scene_glb
from ivlm_core.draw.overlay import draw_overlay, labelled_box
from ivlm_core.objects import write_glb

__all__ = [
    "NEUTRAL_GREY",
    "JointScene",
    "ScenePart",
    "draw_on_picture",
    "draw_overlay",
    "draw_scene",
    "draw_scene_views",
    "fit_pictures",
    "heat_colors",
    "joint_scene",
    "labelled_box",
    "scene_of",
    "write_fit_video",
    "write_glb",
    "write_result",
    "write_scene_glb",
]
