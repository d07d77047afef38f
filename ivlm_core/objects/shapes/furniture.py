"""Furniture: what people sit at, sit on and lie on. Sizes in metres; backs at −z, so that a sitter faces +z."""

from __future__ import annotations

import numpy as np

from ivlm_core.objects.shapes.primitives import (
    Points,
    Shape,
    Solid,
    anchor_at,
    assemble,
    box,
    cylinder,
    ellipsoid,
    elliptic,
    grid_step,
    parametric,
    revolve,
    rod,
)

UP, LEFT, FORWARD = (0, 1, 0), (1, 0, 0), (0, 0, 1)


def _legs(width: float, height: float, depth: float, thickness: float, step: float) -> dict[str, Solid]:
    """Four upright legs from the floor (y = 0) to `height`, their outer faces `width` and `depth` apart."""
    x, z = (width - thickness) / 2, (depth - thickness) / 2
    leg = box((thickness, height, thickness), step)
    corners = {"front left": (x, z), "front right": (-x, z), "back left": (x, -z), "back right": (-x, -z)}
    return {f"{name} leg": leg.moved((at_x, height / 2, at_z)) for name, (at_x, at_z) in corners.items()}


def _star_base(height: float, reach: float, step: float) -> dict[str, Solid]:
    """A central post on five spokes with castors, from the floor to `height`."""
    caster, hub = 0.03, 0.085
    parts = {"post": cylinder(0.03, height - hub + 0.03, step, 12).moved((0, (height + hub - 0.03) / 2, 0))}
    for index in range(5):
        turn = 90.0 + 72.0 * index
        spoke = rod([(0, hub, 0), (reach, 2 * caster - 0.005, 0)], 0.021, step, 8, end_radius=0.015)
        wheel = cylinder(caster, 0.04, step / 2, 12).turned("x", 90).moved((reach, caster, 0))
        parts[f"spoke {index + 1}"] = spoke.turned("y", turn)
        parts[f"castor {index + 1}"] = wheel.turned("y", turn)
    return parts


@parametric
def chair(
    *,
    width: float = 0.45,
    depth: float = 0.48,
    height: float = 0.92,
    seat_height: float = 0.46,
    seat_thickness: float = 0.04,
    leg_thickness: float = 0.04,
    back_thickness: float = 0.03,
    recline_deg: float = 6.0,
    arm_height: float = 0.0,
    star_base: int = 0,
    back_style: int = 0,
) -> Shape:
    """A chair: seat, legs and a slightly reclined back.

    `arm_height` is that of the arm rests above the seat, 0 for none; `star_base` 1 puts the seat on a post with five
    castors; the back is two panels (`back_style` 0), one high panel (1) or upright bars under a panel (2).
    """
    step = grid_step(width, depth, height)
    rise = height - seat_height
    side = (width - leg_thickness) / 2
    panel_thickness = 0.7 * back_thickness
    panel_width = width - leg_thickness
    post = box((leg_thickness, rise + seat_thickness, back_thickness), step).moved((0, (rise - seat_thickness) / 2, 0))
    back = {"left back post": post.moved((side, 0, 0)), "right back post": post.moved((-side, 0, 0))}
    low = {0: 0.68, 1: 0.18, 2: 0.78}[back_style]
    back["back panel"] = box((panel_width, (0.98 - low) * rise, panel_thickness), step).moved(
        (0, (0.98 + low) / 2 * rise, 0)
    )
    if back_style != 1:
        share = (0.16, 0.42) if back_style == 0 else (0.08, 0.16)
        back["back rail"] = box((panel_width, share[0] * rise, panel_thickness), step).moved((0, share[1] * rise, 0))
    if back_style == 2:
        for index, x in enumerate(np.linspace(-0.3, 0.3, 4)):
            bar = cylinder(0.4 * panel_thickness, 0.66 * rise, step, 8).moved((x * width, 0.49 * rise, 0))
            back[f"back bar {index + 1}"] = bar
    front = panel_thickness / 2
    middle = {0: 0.83, 1: 0.58, 2: 0.88}[back_style] * rise
    on_back = {
        "back": anchor_at((0, middle, front), FORWARD),
        "back top": anchor_at((0, 0.98 * rise, 0), LEFT, back_thickness / 2),
        "back left": anchor_at((0.3 * width, 0.98 * rise, 0), LEFT, back_thickness / 2),
        "back right": anchor_at((-0.3 * width, 0.98 * rise, 0), LEFT, back_thickness / 2),
    }
    hinge = (0, seat_height, -(depth - back_thickness) / 2)
    parts = {"seat": box((width, seat_thickness, depth), step).moved((0, seat_height - seat_thickness / 2, 0))}
    under = seat_height - seat_thickness / 2
    if star_base:
        parts |= _star_base(under, 0.62 * width, step)
    else:
        parts |= _legs(width, under, depth, leg_thickness, step)
    parts |= {name: part.turned("x", -recline_deg).moved(hinge) for name, part in back.items()}
    anchors = {"seat": anchor_at((0, seat_height, 0), UP)}
    anchors |= {name: anchor.turned("x", -recline_deg).moved(hinge) for name, anchor in on_back.items()}
    if arm_height:
        arm_width, thickness = 0.045, 0.03
        # The rest runs from the back post to a little behind the seat's front edge.
        start, end = -depth / 2 - np.tan(np.deg2rad(recline_deg)) * arm_height, depth / 2 - 0.06
        top = seat_height + arm_height
        rest = box((arm_width, thickness, end - start), step, rounding=0.012)
        upright = box((0.03, arm_height + seat_thickness / 2, 0.035), step)
        for name, x in (("left", width / 2 + 0.008), ("right", -width / 2 - 0.008)):
            parts[f"{name} arm rest"] = rest.moved((x, top - thickness / 2, (start + end) / 2))
            parts[f"{name} arm post"] = upright.moved(
                (x, top - thickness / 2 - (arm_height + seat_thickness / 2) / 2, end - 0.06)
            )
            anchors[f"arm {name}"] = anchor_at((x, top, (start + end) / 2 + 0.04), FORWARD, arm_width / 2)
    return assemble("chair", parts, anchors)


@parametric
def table(
    *,
    width: float = 1.2,
    depth: float = 0.75,
    height: float = 0.74,
    top_thickness: float = 0.035,
    leg_thickness: float = 0.06,
    overhang: float = 0.03,
    round_top: int = 0,
    pedestal: int = 0,
) -> Shape:
    """A dining table: a top, rectangular or (`round_top` 1) elliptic, on four legs or (`pedestal` 1) one column."""
    step = grid_step(width, depth, height)
    # Hands lie on the top: it is cut finer than the rest.
    fine = 0.6 * step
    under = height - top_thickness / 2
    inner_width, inner_depth = width - 2 * overhang, depth - 2 * overhang
    if round_top:
        square = box((2, top_thickness, 2), 2 * fine / max(width, depth))
        top = square.bent(lambda points: elliptic(points, "xz", (width / 2, depth / 2)))
        # The legs stand inside the ellipse.
        inner_width, inner_depth = 0.68 * width, 0.68 * depth
    else:
        top = box((width, top_thickness, depth), fine)
    parts = {"top": top.moved((0, height - top_thickness / 2, 0))}
    if pedestal:
        foot = 0.3 * min(width, depth)
        parts["column"] = cylinder(0.9 * leg_thickness, under - 0.02, step, 16).moved((0, (under + 0.02) / 2, 0))
        profile = [(0, 0), (foot, 0), (foot, 0.02), (1.6 * leg_thickness, 0.05), (0, 0.05)]
        parts["foot"] = revolve(profile, step, 24)
    else:
        parts |= _legs(inner_width, under, inner_depth, leg_thickness, step)
    anchors = {"top": anchor_at((0, height, 0), UP), "edge": anchor_at((0, height, depth / 2), FORWARD)}
    return assemble("table", parts, anchors)


@parametric
def bench(
    *,
    width: float = 1.5,
    depth: float = 0.5,
    height: float = 0.82,
    seat_height: float = 0.44,
    slat_thickness: float = 0.03,
    leg_thickness: float = 0.06,
    recline_deg: float = 10.0,
    seat_slats: int = 4,
    back_slats: int = 3,
    arm_height: float = 0.0,
) -> Shape:
    """A park bench: seat slats, back slats, two side frames; `arm_height` above the seat gives it arm rests."""
    step = grid_step(width, depth, height)
    slat_depth = depth / (seat_slats + 0.3 * (seat_slats - 1))
    rise = height - seat_height
    slat_height = rise / (1.6 * back_slats)
    seat_slat = box((width, slat_thickness, slat_depth), 0.6 * step)
    back_slat = box((width, slat_height, slat_thickness), 0.7 * step)
    parts = {
        f"seat slat {index + 1}": seat_slat.moved(
            (0, seat_height - slat_thickness / 2, depth / 2 - slat_depth / 2 - 1.3 * slat_depth * index)
        )
        for index in range(seat_slats)
    }
    hinge = (0, seat_height, -depth / 2 + slat_thickness)
    for index in range(back_slats):
        middle = rise - slat_height / 2 - 1.5 * slat_height * index
        parts[f"back slat {index + 1}"] = back_slat.moved((0, middle, 0)).turned("x", -recline_deg).moved(hinge)
    lowest = rise - slat_height - 1.5 * slat_height * (back_slats - 1)
    face = anchor_at((0, (rise + lowest) / 2, slat_thickness / 2), FORWARD).turned("x", -recline_deg).moved(hinge)
    top = {
        f"back {name}": anchor_at((x * width, rise, 0), LEFT, slat_thickness / 2).turned("x", -recline_deg).moved(hinge)
        for name, x in (("top", 0.0), ("left", 0.25), ("right", -0.25))
    }
    anchors = {"seat": anchor_at((0, seat_height, 0), UP), "back": face, **top}
    frame_height = seat_height - slat_thickness
    leg = box((leg_thickness, frame_height, leg_thickness), step)
    beam = box((leg_thickness, leg_thickness, depth), step)
    post = box((leg_thickness, rise + slat_thickness, slat_thickness), step)
    for name, x in (("left", 0.4 * width), ("right", -0.4 * width)):
        parts[f"{name} front leg"] = leg.moved((x, frame_height / 2, depth / 2 - leg_thickness))
        parts[f"{name} back leg"] = leg.moved((x, frame_height / 2, -depth / 2 + leg_thickness))
        parts[f"{name} beam"] = beam.moved((x, frame_height - leg_thickness / 2 + 0.002, 0))
        behind = post.moved((x, (rise - slat_thickness) / 2, -0.8 * slat_thickness))
        parts[f"{name} back post"] = behind.turned("x", -recline_deg).moved(hinge)
    if arm_height:
        thickness = 0.035
        start, end = -depth / 2 - np.tan(np.deg2rad(recline_deg)) * arm_height, depth / 2 - 0.02
        rest = box((leg_thickness, thickness, end - start), step, rounding=0.012)
        upright = box((0.6 * leg_thickness, arm_height, 0.6 * leg_thickness), step)
        for name, x in (("left", width / 2 - leg_thickness), ("right", leg_thickness - width / 2)):
            parts[f"{name} arm rest"] = rest.moved((x, seat_height + arm_height - thickness / 2, (start + end) / 2))
            parts[f"{name} arm post"] = upright.moved(
                (x, seat_height + (arm_height - thickness) / 2 - 0.005, end - leg_thickness)
            )
            on_arm = (x, seat_height + arm_height, (start + end) / 2 + 0.06)
            anchors[f"arm {name}"] = anchor_at(on_arm, FORWARD, leg_thickness / 2)
    return assemble("bench", parts, anchors)


@parametric
def couch(
    *,
    width: float = 1.9,
    depth: float = 0.9,
    height: float = 0.85,
    seat_height: float = 0.44,
    arm_width: float = 0.2,
    arm_height: float = 0.62,
    back_depth: float = 0.22,
    seats: int = 2,
) -> Shape:
    """A sofa: base, back, two arms, a cushion for each seat; `arm_height` is above the floor."""
    step = grid_step(width, depth, height)
    inner = width - 2 * arm_width
    cushion_height = 0.16
    base_height = seat_height - cushion_height + 0.02
    cushion = box((inner / seats - 0.005, cushion_height, depth - back_depth + 0.03), 0.65 * step, rounding=0.04)
    cushion_z = (back_depth - 0.03) / 2 + 0.02
    arm = box((arm_width, arm_height - 0.05, depth), 0.8 * step, rounding=0.05)
    back = box((width - arm_width, height - 0.08, back_depth), step, rounding=0.06)
    back_z, arm_x = -(depth - back_depth) / 2, (width - arm_width) / 2
    names = {
        1: ("cushion",),
        2: ("left cushion", "right cushion"),
        3: ("left cushion", "middle cushion", "right cushion"),
    }
    cushions = {
        name: cushion.moved((inner * ((seats - 1) / 2 - index) / seats, seat_height - cushion_height / 2, cushion_z))
        for index, name in enumerate(names[seats])
    }
    front = back_z + back_depth / 2
    return assemble(
        "couch",
        {
            "base": box((width - 0.06, base_height - 0.05, depth - 0.04), step).moved((0, (base_height + 0.05) / 2, 0)),
            "back": back.moved((0, 0.08 + (height - 0.08) / 2, back_z)),
            "left arm": arm.moved((arm_x, 0.05 + (arm_height - 0.05) / 2, 0)),
            "right arm": arm.moved((-arm_x, 0.05 + (arm_height - 0.05) / 2, 0)),
            **cushions,
            **_legs(width - 0.1, 0.1, depth - 0.08, 0.06, step),
        },
        {
            "seat": anchor_at((0, seat_height, (front + depth / 2) / 2), UP),
            "back": anchor_at((0, (seat_height + height) / 2, front), FORWARD),
            "back top": anchor_at((0, height, back_z), LEFT, back_depth / 2),
            "back left": anchor_at((0.25 * width, height, back_z), LEFT, back_depth / 2),
            "back right": anchor_at((-0.25 * width, height, back_z), LEFT, back_depth / 2),
            "arm left": anchor_at((arm_x, arm_height, 0.15 * depth), FORWARD, arm_width / 2),
            "arm right": anchor_at((-arm_x, arm_height, 0.15 * depth), FORWARD, arm_width / 2),
        },
    )


@parametric
def bed(
    *,
    width: float = 1.45,
    length: float = 2.05,
    mattress_height: float = 0.5,
    mattress_thickness: float = 0.2,
    headboard_height: float = 1.0,
    footboard_height: float = 0.0,
    pillows: int = 2,
) -> Shape:
    """A bed, head end at −z: frame, legs, mattress, headboard, one or two pillows, a footboard unless its height is 0.

    All heights are above the floor; `mattress_height` is that of the mattress's top.
    """
    step = grid_step(width, length, headboard_height)
    board = 0.05
    frame_top = mattress_height - mattress_thickness + 0.04
    mattress = box((width - 0.05, mattress_thickness, length - board - 0.03), 0.75 * step, rounding=0.05)
    pillow_width = 0.23 * width if pillows == 2 else min(0.36, 0.4 * width)
    pillow_z = -length / 2 + board + 0.27
    pillow = ellipsoid((pillow_width, 0.07, 0.2)).bent(_cushioned).moved((0, mattress_height + 0.03, pillow_z))
    frame = box((width, 0.16, length - board), 1.2 * step)
    headboard = box((width, headboard_height, board), step)
    parts = {
        "frame": frame.moved((0, frame_top - 0.08, board / 2)),
        "mattress": mattress.moved((0, mattress_height - mattress_thickness / 2, board / 2)),
        "headboard": headboard.moved((0, headboard_height / 2, -(length - board) / 2)),
    }
    anchors = {
        "seat": anchor_at((0, mattress_height, board / 2), UP),
        "edge left": anchor_at((width / 2 - 0.04, mattress_height - 0.015, board / 2), (1, 1, 0)),
        "edge right": anchor_at((0.04 - width / 2, mattress_height - 0.015, board / 2), (-1, 1, 0)),
        "edge foot": anchor_at((0, mattress_height - 0.015, length / 2 - 0.03), (0, 1, 1)),
    }
    for name, x in (("left ", 0.24 * width), ("right ", -0.24 * width)) if pillows == 2 else (("", 0.0),):
        parts[f"{name}pillow"] = pillow.moved((x, 0, 0))
        anchors[f"pillow {name}".strip()] = anchor_at((x, mattress_height + 0.1, pillow_z), UP)
    if footboard_height:
        footboard = box((width, footboard_height, board), step)
        parts["footboard"] = footboard.moved((0, footboard_height / 2, (length + board) / 2 - 0.005))
    parts |= _legs(width, frame_top - 0.08, length, 0.08, step)
    return assemble("bed", parts, anchors)


def _cushioned(points: Points) -> Points:
    """An ellipsoid drawn out towards its four corners, as a filled pillow is."""
    half = np.abs(points).max(axis=0)
    x, z = points[:, 0] / half[0], points[:, 2] / half[2]
    swell = 1 + 0.45 * np.abs(x * z)
    return points * np.stack([swell, np.ones_like(x), swell], axis=1)
