"""Generated scenes: posed people who use objects, with everything about the picture known."""

from __future__ import annotations

from ivlm_core.datasets.synthetic.bag import write_demo_bag
from ivlm_core.datasets.synthetic.camera import SceneCamera, Viewpoint, framed
from ivlm_core.datasets.synthetic.contact import CONTACT_VERSION, Touch, check_scene, touches
from ivlm_core.datasets.synthetic.generate import fresh, generate, generate_scene
from ivlm_core.datasets.synthetic.record import ObjectRecord, SceneRecord
from ivlm_core.datasets.synthetic.renderer import Render, SceneRenderer
from ivlm_core.datasets.synthetic.scene import GROUND, NOTHING, PERSON, PlacedObject, Scene
from ivlm_core.datasets.synthetic.sheet import contact_sheet
from ivlm_core.datasets.synthetic.split import GENERATOR_VERSION, SPLITS, TRAINING_SEED, UNSEEN
from ivlm_core.datasets.synthetic.store import SAMPLE, Manifest, SynthHoi, read_manifest
from ivlm_core.datasets.synthetic.surroundings import Surroundings

__all__ = [
    "CONTACT_VERSION",
    "GENERATOR_VERSION",
    "GROUND",
    "NOTHING",
    "PERSON",
    "SAMPLE",
    "SPLITS",
    "TRAINING_SEED",
    "UNSEEN",
    "Manifest",
    "ObjectRecord",
    "PlacedObject",
    "Render",
    "Scene",
    "SceneCamera",
    "SceneRecord",
    "SceneRenderer",
    "Surroundings",
    "SynthHoi",
    "Touch",
    "Viewpoint",
    "check_scene",
    "contact_sheet",
    "framed",
    "fresh",
    "generate",
    "generate_scene",
    "read_manifest",
    "touches",
    "write_demo_bag",
]
