"""Furniture: what people sit at, sit on and lie on. Sizes in metres; backs at −z, so that a sitter faces +z."""

from __future__ import annotations

from ivlm_core.objects.shapes.primitives import Shape, Solid, assemble, box, ellipsoid, grid_step


def _legs(width: float, height: float, depth: float, thickness: float, step: float) -> dict[str, Solid]:
    """Four upright legs from the floor (y = 0) to `height`, their outer faces `width` and `depth` apart."""
    x, z = (width - thickness) / 2, (depth - thickness) / 2
    leg = box((thickness, height, thickness), step)
    corners = {"front left": (x, z), "front right": (-x, z), "back left": (x, -z), "back right": (-x, -z)}
    return {f"{name} leg": leg.moved((at_x, height / 2, at_z)) for name, (at_x, at_z) in corners.items()}


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
) -> Shape:
    """A kitchen chair: seat, four legs and a slightly reclined back of two posts and two panels."""
    step = grid_step(width, depth, height)
    rise = height - seat_height
    post = box((leg_thickness, rise + seat_thickness, back_thickness), step)
    panel = box((width - leg_thickness, 0.30 * rise, 0.7 * back_thickness), step)
    rail = box((width - leg_thickness, 0.16 * rise, 0.7 * back_thickness), step)
    side = (width - leg_thickness) / 2
    back = {
        "left back post": post.moved((side, (rise - seat_thickness) / 2, 0)),
        "right back post": post.moved((-side, (rise - seat_thickness) / 2, 0)),
        "back panel": panel.moved((0, 0.83 * rise, 0)),
        "back rail": rail.moved((0, 0.42 * rise, 0)),
    }
    hinge = (0, seat_height, -(depth - back_thickness) / 2)
    return assemble(
        "chair",
        {
            "seat": box((width, seat_thickness, depth), step).moved((0, seat_height - seat_thickness / 2, 0)),
            **_legs(width, seat_height - seat_thickness / 2, depth, leg_thickness, step),
            **{name: part.turned("x", -recline_deg).moved(hinge) for name, part in back.items()},
        },
    )


def table(
    *,
    width: float = 1.2,
    depth: float = 0.75,
    height: float = 0.74,
    top_thickness: float = 0.035,
    leg_thickness: float = 0.06,
    overhang: float = 0.03,
) -> Shape:
    """A dining table: a top on four legs."""
    step = grid_step(width, depth, height)
    return assemble(
        "table",
        {
            "top": box((width, top_thickness, depth), step).moved((0, height - top_thickness / 2, 0)),
            **_legs(width - 2 * overhang, height - top_thickness / 2, depth - 2 * overhang, leg_thickness, step),
        },
    )


def bench(
    *,
    width: float = 1.5,
    depth: float = 0.5,
    height: float = 0.82,
    seat_height: float = 0.44,
    slat_thickness: float = 0.03,
    leg_thickness: float = 0.06,
    recline_deg: float = 10.0,
) -> Shape:
    """A park bench: four seat slats, three back slats, two side frames."""
    step = grid_step(width, depth, height)
    seat_slats, back_slats = 4, 3
    slat_depth = depth / (seat_slats + 0.3 * (seat_slats - 1))
    rise = height - seat_height
    slat_height = rise / (back_slats + 0.6 * back_slats)
    seat_slat = box((width, slat_thickness, slat_depth), step)
    back_slat = box((width, slat_height, slat_thickness), step)
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
    return assemble("bench", parts)


def couch(
    *,
    width: float = 1.9,
    depth: float = 0.9,
    height: float = 0.85,
    seat_height: float = 0.44,
    arm_width: float = 0.2,
    arm_height: float = 0.62,
    back_depth: float = 0.22,
) -> Shape:
    """A two-seat sofa: base, back, two arms, two seat cushions."""
    step = grid_step(width, depth, height)
    inner = width - 2 * arm_width
    cushion_height = 0.16
    base_height = seat_height - cushion_height + 0.02
    cushion = box((inner / 2 - 0.005, cushion_height, depth - back_depth + 0.03), step, rounding=0.04)
    cushion_z = (back_depth - 0.03) / 2 + 0.02
    arm = box((arm_width, arm_height - 0.05, depth), step, rounding=0.05)
    back = box((width - arm_width, height - 0.08, back_depth), step, rounding=0.06)
    return assemble(
        "couch",
        {
            "base": box((width - 0.06, base_height - 0.05, depth - 0.04), step).moved((0, (base_height + 0.05) / 2, 0)),
            "back": back.moved((0, 0.08 + (height - 0.08) / 2, -(depth - back_depth) / 2)),
            "left arm": arm.moved(((width - arm_width) / 2, 0.05 + (arm_height - 0.05) / 2, 0)),
            "right arm": arm.moved((-(width - arm_width) / 2, 0.05 + (arm_height - 0.05) / 2, 0)),
            "left cushion": cushion.moved((inner / 4, seat_height - cushion_height / 2, cushion_z)),
            "right cushion": cushion.moved((-inner / 4, seat_height - cushion_height / 2, cushion_z)),
            **_legs(width - 0.1, 0.1, depth - 0.08, 0.06, step),
        },
    )


def bed(
    *,
    width: float = 1.45,
    length: float = 2.05,
    mattress_height: float = 0.5,
    mattress_thickness: float = 0.2,
    headboard_height: float = 1.0,
) -> Shape:
    """A double bed, head end at −z: frame, legs, mattress, headboard, two pillows."""
    step = grid_step(width, length, headboard_height)
    board = 0.05
    frame_top = mattress_height - mattress_thickness + 0.04
    mattress = box((width - 0.05, mattress_thickness, length - board - 0.03), step, rounding=0.05)
    pillow = ellipsoid((0.23 * width, 0.07, 0.2)).moved((0, mattress_height + 0.04, -length / 2 + board + 0.27))
    frame = box((width, 0.16, length - board), step)
    headboard = box((width, headboard_height, board), step)
    return assemble(
        "bed",
        {
            "frame": frame.moved((0, frame_top - 0.08, board / 2)),
            "mattress": mattress.moved((0, mattress_height - mattress_thickness / 2, board / 2)),
            "headboard": headboard.moved((0, headboard_height / 2, -(length - board) / 2)),
            "left pillow": pillow.moved((0.24 * width, 0, 0)),
            "right pillow": pillow.moved((-0.24 * width, 0, 0)),
            **_legs(width, frame_top - 0.08, length, 0.08, step),
        },
    )
