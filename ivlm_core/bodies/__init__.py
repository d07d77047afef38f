"""The bodies that contact is predicted on: Anny (shipped) and the SMPL family (the user's files), in 15 parts."""

from __future__ import annotations

from ivlm_core.bodies.anny_rig import AnnyRig
from ivlm_core.bodies.load import load_body
from ivlm_core.bodies.model import BodyModel
from ivlm_core.bodies.parts import PART_NAMES
from ivlm_core.bodies.phenotypes import Phenotype, mirrored_vertices, varied_rig
from ivlm_core.bodies.topology import BodyMap, body_map, load_body_map

__all__ = [
    "PART_NAMES",
    "AnnyRig",
    "BodyMap",
    "BodyModel",
    "Phenotype",
    "body_map",
    "load_body",
    "load_body_map",
    "mirrored_vertices",
    "varied_rig",
]
