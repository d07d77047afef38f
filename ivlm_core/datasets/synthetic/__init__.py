"""Generated scenes: posed people who use objects, with everything about the picture known."""

from __future__ import annotations

from ivlm_core.datasets.synthetic.bag import write_demo_bag
from ivlm_core.datasets.synthetic.camera import SceneCamera
from ivlm_core.datasets.synthetic.demo_programs import PROGRAMS
from ivlm_core.datasets.synthetic.renderer import Render, SceneRenderer, Surroundings
from ivlm_core.datasets.synthetic.scene import GROUND, NOTHING, PERSON, PlacedObject, Scene

__all__ = [
    "GROUND",
    "NOTHING",
    "PERSON",
    "PROGRAMS",
    "PlacedObject",
    "Render",
    "Scene",
    "SceneCamera",
    "SceneRenderer",
    "Surroundings",
    "write_demo_bag",
]
