"""Things that stand on a table and are taken in the hand. Sizes in metres; fronts, covers and screens face +z.

Who reads or types looks towards −z, so their left is at −x.
"""

from __future__ import annotations

import numpy as np

from ivlm_core.objects.shapes.primitives import (
    Points,
    Shape,
    Solid,
    anchor_at,
    arc,
    assemble,
    box,
    grid_step,
    in_plane,
    parametric,
    revolve,
    tube,
)

UP, FORWARD, BACKWARD, AWAY_LEFT, AWAY_RIGHT = (0, 1, 0), (0, 0, 1), (0, 0, -1), (-1, 0, 0), (1, 0, 0)


@parametric
def plain_box(*, width: float = 0.3, height: float = 0.3, depth: float = 0.3) -> Shape:
    """A closed cardboard box; also the stand-in for labels the library does not know."""
    anchors = {"top": anchor_at((0, height / 2, 0), UP)}
    return assemble("box", {"box": box((width, height, depth), grid_step(width, height, depth))}, anchors)


@parametric
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
    neck_bottom = height * (shoulder + (1 - shoulder) * 0.5)
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
    return assemble(
        "bottle",
        {"body": revolve(profile, step, 24), "cap": revolve(cap, step, 20)},
        {
            "grip": anchor_at((0, 0.55 * start, 0), UP, radius),
            "grip second": anchor_at((0, 0.3 * start, 0), UP, radius),
            "cap": anchor_at((0, height, 0), UP, wide),
        },
    )


@parametric
def cup(
    *,
    height: float = 0.095,
    radius: float = 0.041,
    wall: float = 0.004,
    handle_reach: float = 0.03,
    handle_thickness: float = 0.009,
    foot: float = 1.0,
) -> Shape:
    """A mug, open at the top, its handle at +x; no handle where `handle_reach` is 0.

    `foot` is the radius at the bottom as a share of `radius`, the one at the rim.
    """
    step = grid_step(height) * 1.25
    low = foot * radius
    slope = (radius - low) / height
    outside = [(0, 0), (low - 0.6 * wall, 0), (low + slope * 0.6 * wall, 0.6 * wall), (radius, height)]
    inside = [(radius - wall, height), (low - wall + slope * 1.2 * wall, 1.2 * wall), (0, 1.2 * wall)]
    grip = 0.5 * height
    anchors = {
        "grip": anchor_at((0, grip, 0), UP, low + slope * grip),
        "rim": anchor_at((0, height, 0), UP, radius),
    }
    parts = {"body": revolve([*outside, *inside], step, 32)}
    if handle_reach:
        middle, half = height * 0.52, height * 0.31
        centre = low + slope * middle - wall / 2
        bow = arc((centre, middle), (handle_reach + wall / 2, half), -90, 90)

        def sheared(points: Points) -> Points:
            # Both ends of the handle meet a wall that leans outwards.
            moved = points.copy()
            moved[:, 0] += slope * (points[:, 1] - middle)
            return moved

        handle = tube(in_plane(bow, "xy"), FORWARD, handle_thickness * 1.3, handle_thickness, step)
        parts["handle"] = handle.bent(sheared)
        outermost = (centre + handle_reach + wall / 2, middle, 0)
        anchors["handle"] = anchor_at(outermost, UP, handle_thickness / 2)
    return assemble("cup", parts, anchors)


@parametric
def book(
    *,
    width: float = 0.15,
    height: float = 0.22,
    thickness: float = 0.03,
    cover: float = 0.0025,
    opening_deg: float = 0.0,
) -> Shape:
    """A hardback standing upright: closed with its front cover to +z and the spine at −x, or open towards +z.

    `opening_deg` is the angle between the covers of an open book (180 is flat); 0 is closed. `width`, `height` and
    `thickness` are those of the closed book.
    """
    step = 1.25 * grid_step(width, height, thickness)
    margin, block = 0.004, thickness / 2 - cover
    page_width = width - margin - cover
    # Both halves lie beside the plane z = 0 between them, from the hinge at x = 0 to the edge of the covers.
    sheet = box((width, height, cover), step).moved((width / 2, 0, 0))
    pages = box((page_width, height - 2 * margin, block + 0.0005), step).moved((cover + page_width / 2, 0, 0))
    spine = box((cover, height, thickness), step)
    if not opening_deg:
        parts = {
            "front pages": pages.moved((0, 0, block / 2)),
            "back pages": pages.moved((0, 0, -block / 2)),
            "front cover": sheet.moved((0, 0, (thickness - cover) / 2)),
            "back cover": sheet.moved((0, 0, -(thickness - cover) / 2)),
            "spine": spine.moved((cover / 2, 0, 0)),
        }
        anchors = {
            "left": anchor_at((0, 0, 0), AWAY_LEFT, thickness / 2),
            "right": anchor_at((width, 0, 0), AWAY_RIGHT, thickness / 2),
            "spine": anchor_at((0, 0, 0), UP, thickness / 2),
            "front": anchor_at((width / 2, 0, thickness / 2), FORWARD),
            "back": anchor_at((width / 2, 0, -thickness / 2), BACKWARD),
        }
        return assemble("book", parts, anchors)

    def arched(points: Points) -> Points:
        # Open pages arch a little and go down to the cover at the fold and at their edge.
        moved = points.copy()
        across = np.clip(points[:, 0] / (cover + page_width), 0, 1)
        high = 0.25 + 0.75 * np.sin(np.pi * (0.62 * across + 0.12)) ** 0.8
        moved[:, 2] = points[:, 2] * high
        return moved

    # Each half is laid with its cover's outside on z = 0 and turned about the spine: the back cover becomes the right
    # half, the front cover, which lies above its pages, the left one.
    raised = 90 - opening_deg / 2
    lying = pages.moved((0, 0, cover + block / 2)).bent(arched)
    hanging = pages.moved((0, 0, -cover - block / 2)).bent(arched)
    half = cover + 0.3 * block
    parts = {
        "front pages": hanging.turned("y", 180 + raised),
        "back pages": lying.turned("y", -raised),
        "front cover": sheet.moved((0, 0, -cover / 2)).turned("y", 180 + raised),
        "back cover": sheet.moved((0, 0, cover / 2)).turned("y", -raised),
        "spine": box((1.6 * cover, height, 0.006), step).turned("y", -90).moved((0, 0, 0.1 * cover)),
    }
    anchors = {
        "left": anchor_at((-width, 0, half), AWAY_LEFT, half).turned("y", raised),
        "right": anchor_at((width, 0, half), AWAY_RIGHT, half).turned("y", -raised),
        "spine": anchor_at((0, 0, 0), UP, cover),
        "front": anchor_at((0, 0, half), FORWARD),
        "back": anchor_at((0, 0, 0), BACKWARD),
    }
    return assemble("book", parts, anchors)


@parametric
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
    lid_top = anchor_at((0, depth, 0), AWAY_RIGHT, lid_thickness / 2).turned("x", tilt).moved(hinge)
    return assemble(
        "laptop",
        {
            "base": box((width, base_thickness, depth), step).moved((0, base_thickness / 2, 0)),
            "keys": keys,
            "touchpad": touchpad,
            "lid": lid.turned("x", tilt).moved(hinge),
            "screen": screen.turned("x", tilt).moved(hinge),
        },
        {
            "keys": anchor_at((0, base_thickness + 0.0015, -depth * 0.17), UP),
            "touchpad": anchor_at((0, base_thickness + 0.0008, depth * 0.27), UP),
            "left": anchor_at((-width / 2, base_thickness / 2, 0), AWAY_LEFT, base_thickness / 2),
            "right": anchor_at((width / 2, base_thickness / 2, 0), AWAY_RIGHT, base_thickness / 2),
            "lid": lid_top,
            "bottom": anchor_at((0, 0, 0), (0, -1, 0)),
        },
    )


@parametric
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
    top = thickness + 0.0035
    return assemble(
        "keyboard",
        parts,
        {
            "keys": anchor_at((0, top, 0), UP),
            "keys left": anchor_at((-0.25 * width, top, 0), UP),
            "keys right": anchor_at((0.2 * width, top, 0), UP),
            "left": anchor_at((-width / 2, thickness / 2, 0), AWAY_LEFT, thickness / 2),
            "right": anchor_at((width / 2, thickness / 2, 0), AWAY_RIGHT, thickness / 2),
        },
    )


@parametric
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
        {
            "back": anchor_at((0, 0, -thickness / 2), BACKWARD),
            "screen": anchor_at((0, 0, thickness * 0.55), FORWARD),
            "left": anchor_at((-width / 2, 0, 0), AWAY_LEFT, thickness / 2),
            "right": anchor_at((width / 2, 0, 0), AWAY_RIGHT, thickness / 2),
        },
    )
