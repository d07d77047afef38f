"""Interaction programs: what people do with things, put together into scenes."""
