"""Data for people and models: recordings in rosbag2 files, and generated scenes with known truth."""

from __future__ import annotations

from ivlm_core.datasets.bags import BagRecorder, BagTopic, message_store, open_bag

__all__ = ["BagRecorder", "BagTopic", "message_store", "open_bag"]
