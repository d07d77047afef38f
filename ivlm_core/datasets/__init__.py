"""Data for people and models: recordings in rosbag2 files, and generated scenes with known truth."""

from __future__ import annotations

from ivlm_core.datasets.bags import (
    GROUND_TRUTH,
    BagRecorder,
    BagTopic,
    RecordedContact,
    VertexValues,
    message_store,
    open_bag,
    read_contacts,
)

__all__ = [
    "GROUND_TRUTH",
    "BagRecorder",
    "BagTopic",
    "RecordedContact",
    "VertexValues",
    "message_store",
    "open_bag",
    "read_contacts",
]
