"""Replaying recordings, offline through the core or online through the running node, and judging what comes out."""

from __future__ import annotations

from ivlm_ros.message_types import message_class
from ivlm_ros.replay.frames import ReplayFrame, header_key, read_frames
from ivlm_ros.replay.online import Replayer, ReplayReport

__all__ = ["ReplayFrame", "ReplayReport", "Replayer", "header_key", "message_class", "read_frames"]
