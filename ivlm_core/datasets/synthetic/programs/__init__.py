"""Interaction programs: what people do with things, put together into scenes by `compose`.

Supports carry the person (`standing`, `seated`, `tables`, `lying`, `boards`, `riding`), actions are what hands and
backs do with things (`held`, `carried`, `reading`, `worn`, `surfaces`); both work on a `Stage`.
"""
