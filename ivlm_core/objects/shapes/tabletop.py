"""Things that stand on a table and are taken in the hand. Sizes in metres; fronts, covers and screens face +z."""

from __future__ import annotations

import numpy as np

from ivlm_core.objects.shapes.primitives import (
    Shape,
    Solid,
    arc,
    assemble,
    box,
    grid_step,
    in_plane,
    revolve,
    tube,
)


def plain_box(*, width: float = 0.3, height: float = 0.3, depth: float = 0.3) -> Shape:
    """A closed cardboard box; also the stand-in for labels the library does not know."""
    return assemble("box", {"box": box((width, height, depth), grid_step(width, height, depth))})


def bottle(
    *,
    height: float = 0.25,
    radius: float = 0.034,
    neck_radius: float = 0.013,
    shoulder: float = 0.62,
    cap_height: float = 0.02,
) -> Shape:
    """A drinking bottle with a screw cap; `shoulder` is the share of the height at which it narrows."""
    step = grid_step(height)
    neck_bottom = height * (shoulder + 0.2)
    start = height * shoulder
    # Half a cosine leads from the body to the neck without a crease.
    blend = np.linspace(0, 1, 9)[1:-1]
    radii = neck_radius + (radius - neck_radius) * (1 + np.cos(np.pi * blend)) / 2
    neck = list(zip(radii, start + (neck_bottom - start) * blend, strict=True))
    top = height - cap_height / 2
    edge = 0.15 * radius
    profile = [(0, 0), (radius - edge, 0), (radius, edge), (radius, start), *neck]
    profile += [(neck_radius, neck_bottom), (neck_radius, top), (0, top)]
    wide = neck_radius * 1.25
    cap = [(0, height - cap_height), (wide, height - cap_height), (wide, height), (0, height)]
    return assemble("bottle", {"body": revolve(profile, step, 24), "cap": revolve(cap, step, 20)})


def cup(
    *,
    height: float = 0.095,
    radius: float = 0.041,
    wall: float = 0.004,
    handle_reach: float = 0.03,
    handle_thickness: float = 0.009,
) -> Shape:
    """A mug with its handle at +x; the wall is a solid of revolution, open at the top."""
    step = grid_step(height) * 1.25
    inside = radius - wall
    profile = [
        (0, 0),
        (radius - wall, 0),
        (radius, wall),
        (radius, height),
        (inside, height),
        (inside, wall),
        (0, wall),
    ]
    bow = arc((radius - wall / 2, height * 0.52), (handle_reach + wall / 2, height * 0.31), -90, 90)
    handle = tube(in_plane(bow, "xy"), (0, 0, 1), handle_thickness * 1.3, handle_thickness, step)
    return assemble("cup", {"body": revolve(profile, step, 32), "handle": handle})


def book(*, width: float = 0.15, height: float = 0.22, thickness: float = 0.03, cover: float = 0.0025) -> Shape:
    """A closed hardback standing upright, front cover to +z, spine at −x."""
    step = grid_step(width, height, thickness)
    margin = 0.004
    pages = (width - margin - cover, height - 2 * margin, thickness - cover)
    sheet = box((width, height, cover), step)
    return assemble(
        "book",
        {
            "pages": box(pages, step).moved(((cover - margin) / 2, 0, 0)),
            "front cover": sheet.moved((0, 0, (thickness - cover) / 2)),
            "back cover": sheet.moved((0, 0, -(thickness - cover) / 2)),
            "spine": box((cover, height, thickness), step).moved((-(width - cover) / 2, 0, 0)),
        },
    )


def laptop(
    *,
    width: float = 0.33,
    depth: float = 0.23,
    base_thickness: float = 0.016,
    lid_thickness: float = 0.008,
    opening_deg: float = 110.0,
) -> Shape:
    """An open laptop: base with keyboard and touchpad, lid hinged at −z, screen to +z."""
    step = grid_step(width, depth)
    lid = box((width, depth, lid_thickness), step).moved((0, depth / 2, 0))
    screen = box((width * 0.92, depth * 0.84, lid_thickness * 0.3), step).moved((0, depth * 0.52, lid_thickness * 0.45))
    hinge = (0, base_thickness * 0.8, -depth / 2 + lid_thickness / 2)
    tilt = -(opening_deg - 90.0)
    keys = box((width * 0.86, 0.003, depth * 0.42), step).moved((0, base_thickness, -depth * 0.17))
    touchpad = box((width * 0.32, 0.0016, depth * 0.28), step).moved((0, base_thickness, depth * 0.27))
    return assemble(
        "laptop",
        {
            "base": box((width, base_thickness, depth), step).moved((0, base_thickness / 2, 0)),
            "keys": keys,
            "touchpad": touchpad,
            "lid": lid.turned("x", tilt).moved(hinge),
            "screen": screen.turned("x", tilt).moved(hinge),
        },
    )


def keyboard(*, width: float = 0.44, depth: float = 0.14, thickness: float = 0.018, rows: int = 5) -> Shape:
    """A computer keyboard lying flat, front edge at +z: a base and bars of keys, the front row with a space bar."""
    step = grid_step(width, depth)
    pitch = depth * 0.88 / rows
    parts: dict[str, Solid] = {"base": box((width, thickness, depth), step).moved((0, thickness / 2, 0))}
    for row in range(rows):
        z = -depth * 0.44 + pitch * (row + 0.5)
        spans = [(-0.47, 0.20), (0.23, 0.47)]
        if row == rows - 1:
            spans = [(-0.47, -0.28), (-0.26, 0.03), (0.05, 0.20), (0.23, 0.47)]
        for index, (left, right) in enumerate(spans):
            keys = box(((right - left) * width, 0.007, pitch * 0.8), step)
            parts[f"row {row + 1} keys {index + 1}"] = keys.moved(((left + right) / 2 * width, thickness, z))
    return assemble("keyboard", parts)


def cell_phone(*, width: float = 0.073, height: float = 0.15, thickness: float = 0.008) -> Shape:
    """A smartphone standing upright, screen to +z, camera on the back."""
    step = grid_step(width, height)
    screen = box((width * 0.93, height * 0.95, thickness * 0.2), step).moved((0, 0, thickness * 0.45))
    camera = box((width * 0.42, width * 0.42, thickness * 0.3), step)
    return assemble(
        "cell phone",
        {
            "body": box((width, height, thickness), step, rounding=thickness * 0.45),
            "screen": screen,
            "camera": camera.moved((-width * 0.22, height * 0.5 - width * 0.3, -thickness * 0.55)),
        },
    )
