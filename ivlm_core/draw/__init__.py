"""Pictures and files that people look at: heat colours, the overlay, a result's folder."""

from ivlm_core.draw.files import write_result
from ivlm_core.draw.heat import NEUTRAL_GREY, heat_colors
from ivlm_core.draw.overlay import draw_overlay
from ivlm_core.objects import write_glb

__all__ = ["NEUTRAL_GREY", "draw_overlay", "heat_colors", "write_glb", "write_result"]
