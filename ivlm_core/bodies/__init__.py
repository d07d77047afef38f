"""The bodies that contact is predicted on: Anny (shipped) and the SMPL family (the user's files), in 15 parts."""

from __future__ import annotations

from ivlm_core.bodies.anny_rig import AnnyRig
from ivlm_core.bodies.load import load_body
from ivlm_core.bodies.model import BodyModel
from ivlm_core.bodies.parts import PART_NAMES

__all__ = ["PART_NAMES", "AnnyRig", "BodyModel", "load_body"]
