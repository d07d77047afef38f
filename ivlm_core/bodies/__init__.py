"""Bodies: the meshes that contact is predicted on, and people in front of the camera, posed or fitted to keypoints."""

from __future__ import annotations

from ivlm_core.bodies.anny_rig import AnnyRig
from ivlm_core.bodies.fit_bodies import FitBody, fit_body
from ivlm_core.bodies.keypoint_fit import BodyFit, fit_keypoints
from ivlm_core.bodies.load import load_body
from ivlm_core.bodies.model import BodyModel
from ivlm_core.bodies.osx import OsxBody, load_osx
from ivlm_core.bodies.parts import PART_NAMES
from ivlm_core.bodies.phenotypes import Phenotype, mirrored_vertices, varied_rig
from ivlm_core.bodies.posed import posed_body
from ivlm_core.bodies.topology import BodyMap, body_map, load_body_map

__all__ = [
    "PART_NAMES",
    "AnnyRig",
    "BodyFit",
    "BodyMap",
    "BodyModel",
    "FitBody",
    "OsxBody",
    "Phenotype",
    "body_map",
    "fit_body",
    "fit_keypoints",
    "load_body",
    "load_body_map",
    "load_osx",
    "mirrored_vertices",
    "posed_body",
    "varied_rig",
]
